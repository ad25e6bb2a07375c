"""Daemon threads that run sync tools: a hung tool must not keep the process alive, and a hop must be cheap.

`concurrent.futures` joins its threads at exit, which a tool that never returns would block for ever.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Job = tuple[contextvars.Context, Callable[[], Any], Callable[[Any], None]]


class Threads:
    """Worker threads, made when needed and kept for the next job. A thread that hangs is left behind.

    Args:
        name: of each thread.
        limit: how many there are at most; jobs beyond it wait.
    """

    def __init__(self, name: str, limit: int | None = None) -> None:
        self._name, self._limit = name, limit
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A fork has none of its parent's threads."""
        self._idle: list[SimpleQueue[_Job]] = []
        self._backlog: SimpleQueue[_Job] = SimpleQueue()
        self._made = 0
        self._guard = threading.Lock()

    def run(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `job` in a thread and give what it returns to `done`, there. `job` must not raise."""
        work = (contextvars.copy_context(), job, done)
        if self._limit is not None:
            with self._guard:
                if not self._idle and self._made >= self._limit:
                    self._backlog.put(work)  # whoever is done first takes it
                    return
                inbox = self._any_idle()
        else:
            inbox = self._any_idle()
        inbox.put(work)

    def _any_idle(self) -> SimpleQueue[_Job]:
        try:
            return self._idle.pop()
        except IndexError:
            inbox: SimpleQueue[_Job] = SimpleQueue()
            self._made += 1
            threading.Thread(target=self._work, args=(inbox,), name=self._name, daemon=True).start()
            return inbox

    def _work(self, inbox: SimpleQueue[_Job]) -> None:
        while True:
            context, job, done = inbox.get()
            value = context.run(job)
            if self._limit is None:
                self._idle.append(inbox)  # before `done`: whoever waits for it may want a thread at once
            else:
                with self._guard:
                    if self._backlog.empty():
                        self._idle.append(inbox)
                    else:
                        inbox.put(self._backlog.get())
            done(value)
            del context, job, done, value


THREADS = Threads("fsm-tool")

WRITERS = Threads("fsm-writer", limit=32)
"""They wait for a store; how many there are bounds how many commits one sync can take along."""
