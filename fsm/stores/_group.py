"""Commits that wait for each other go to the disk together: one transaction, one sync, however many threads wait.

A thread puts what it has to commit into the queue and takes the lock. Whoever gets it commits all that is queued by
then; the others find theirs done. So a sync that takes long makes commits larger and not slower.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define


@define(eq=False)
class Job:
    """What one thread wants committed, and what came of it."""

    what: Any
    is_done: bool = False
    error: BaseException | None = None


class Group:
    """The queue before a lock. `commit` writes all jobs it is given and says of each whether it is done."""

    def __init__(self, lock: threading.RLock, commit: Callable[[Sequence[Job]], None]) -> None:
        self._lock: Any = lock
        self._commit = commit
        self._queue: deque[Job] = deque()

    def add(self, what: Any) -> None:
        """Commit this, with whatever else waits; returns when it is durable.

        Raises:
            BaseException: why it was refused, or the interruption that came meanwhile. It is settled by then: no other
                thread commits it later.
        """
        job = Job(what)
        self._queue.append(job)
        try:
            with self._lock:
                if not job.is_done:
                    self._lead(job)
        except BaseException:
            with self._lock, suppress(ValueError):
                self._queue.remove(job)
            raise
        if job.error is not None:
            raise job.error

    def _lead(self, mine: Job) -> None:
        jobs = []
        while self._queue:
            jobs.append(self._queue.popleft())
        if mine not in jobs:  # whoever had taken it was interrupted
            jobs.append(mine)
        try:
            self._commit(jobs)
        finally:
            self._queue.extendleft(job for job in reversed(jobs) if not job.is_done)
