"""Daemon threads that run sync tools: a hung tool must not keep the process alive, and a hop must be cheap.

`concurrent.futures` joins its threads at exit, which a tool that never returns would block for ever.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Job = tuple[contextvars.Context, Callable[[], Any], Callable[[Any], None]]


class Threads:
    """Worker threads, made when needed and kept for the next job. A thread that hangs is left behind."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Job]] = []

    def run(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `job` in a thread and give what it returns to `done`, there. `job` must not raise."""
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name="fsm-tool", daemon=True).start()
        inbox.put((contextvars.copy_context(), job, done))

    def _work(self, inbox: SimpleQueue[_Job]) -> None:
        while True:
            context, job, done = inbox.get()
            value = context.run(job)
            self._idle.append(inbox)  # before `done`: whoever waits for it may want a thread at once
            done(value)
            del context, job, done, value


THREADS = Threads()
