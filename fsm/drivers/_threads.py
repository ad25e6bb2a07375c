"""Daemon threads that run sync tools: a hung tool must not keep the process alive, and a hop must be cheap.

`concurrent.futures` joins its threads at exit, which a tool that never returns would block for ever.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

IDLE = 60.0
_Job = tuple[contextvars.Context, Callable[[], Any], Callable[[Any], None]]


class Threads:
    """Worker threads, made when needed and kept for the next job. A thread that hangs is left behind.

    So there are as many as jobs were run at once in the last minute.

    Args:
        name: of each thread.
        limit: how many there are at most; jobs beyond it wait.
        idle: seconds after which a thread ends that was given no job.
    """

    def __init__(self, name: str, limit: int | None = None, *, idle: float = IDLE) -> None:
        self._name, self._limit, self._idle_for = name, limit, idle
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
        if self._limit is None:  # no lock: `pop` needs none, and Ctrl-C at the end of a `with` would keep it held
            inbox = self._any_idle()
        else:
            with self._guard:
                if not self._idle and self._made >= self._limit:
                    self._backlog.put(work)  # whoever is done first takes it
                    return
                inbox = self._any_idle()
        inbox.put(work)

    def _any_idle(self) -> SimpleQueue[_Job]:
        try:
            return self._idle.pop()
        except IndexError:
            inbox: SimpleQueue[_Job] = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name=self._name, daemon=True).start()
            self._made += 1  # once it is there: the system may refuse
            return inbox

    def _next(self, inbox: SimpleQueue[_Job]) -> _Job | None:
        """What to do next; None where there was nothing for so long that nobody will give it anything any more."""
        while True:
            try:
                return inbox.get(timeout=self._idle_for)
            except Empty:
                with self._guard, suppress(ValueError):  # not idle: it was taken just now, and its job is on the way
                    self._idle.remove(inbox)
                    self._made -= 1
                    return None

    def _work(self, inbox: SimpleQueue[_Job]) -> None:
        while (work := self._next(inbox)) is not None:
            context, job, done = work
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
            del work, context, job, done, value


THREADS = Threads("fsm-tool")

WRITERS = Threads("fsm-writer", limit=32)
"""They wait for a store; how many there are bounds how many commits one sync can take along."""
