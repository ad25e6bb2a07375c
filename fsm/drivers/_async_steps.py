"""The steps of an async drive, as a drain sees them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ._draining import Drained, Steps


class AsyncSteps(Steps):
    """The same of an async drive: it is cut off by cancelling its task, and takes that back."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = -1  # no signal interrupts it
        self._loop = asyncio.get_running_loop() if self._drain is not None else None
        self._task: asyncio.Task[Any] | None = None
        self._was_cut = False

    def __enter__(self) -> Self:
        super().__enter__()
        if self._drain is not None:
            self._task = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_busy, task, self._task = False, self._task, None
        was_cut, self._was_cut = self._was_cut, False
        if was_cut and task is not None and not task.uncancel() and isinstance(error, asyncio.CancelledError):
            raise Drained from error

    def wake(self, *, hard: bool) -> None:
        """Called by the watching thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._cut, hard)

    def _cut(self, hard: bool) -> None:  # noqa: FBT001 - `call_soon` passes by position
        if self._task is not None and not self._was_cut and self.is_cut(hard=hard):
            self._was_cut = True
            self._task.cancel()
