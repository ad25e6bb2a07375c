"""Stopping a process: each run finishes the step it is in, then parks; what takes too long is cut off and parks too.

A signal handler may do next to nothing, so it only tells a watching thread. That thread wakes the drives that sleep or
ask, lets the grace time pass, and then cuts off the rest. A drive looks before each step whether it is to stop.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from fsm._errors import UsageError

GRACE = 20.0
"""Seconds; Kubernetes kills 30 seconds after SIGTERM, Docker 10."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Drained(KeyboardInterrupt):
    """Parks the drive that it is raised in, as Ctrl-C does; it never leaves it."""


class Drain:
    """What `draining` gives. `requested` says that runs are being parked, `signal` which signal asked for it."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.requested = False
        self.signal: int | None = None
        self._told: SimpleQueue[Literal["drain", "end"]] = (
            SimpleQueue()
        )  # its `put` may be called from a signal handler
        self._steps: dict[Steps, None] = {}
        self._previous: dict[int, Any] = {}
        self._is_over = self._pokes = False  # the grace time is over; a signal is ours, to wake the main thread

    def stop(self) -> None:
        """Begin to drain, from any thread: what a server calls that has the signals for itself."""
        self.requested = True
        self._told.put("drain")

    # ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._pokes:
            self._pokes = False
            here = threading.get_ident()
            if any(steps.is_cut(hard=self._is_over) for steps in tuple(self._steps) if steps.thread == here):
                raise Drained
        elif not self.requested:
            self.signal = number
            self.stop()
        else:
            self._received_again(number, frame)

    def _received_again(self, number: int, frame: FrameType | None) -> None:
        """Do what the signal did before: nobody waits longer than they want to."""
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        elif previous != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    # ── the watching thread ─────────────────────────────────────────────────────────────────────────────────────────

    def _watch(self) -> None:
        if self._told.get() == "end":
            return
        self._cut()
        until = time.monotonic() + self.grace
        while (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                if self._told.get(timeout=left) == "end":
                    return
        self._is_over = True
        while True:  # a drive may have been between two steps just now
            self._cut()
            with suppress(Empty):
                if self._told.get(timeout=0.1) == "end":
                    return

    def _cut(self) -> None:
        main = threading.main_thread().ident
        for steps in tuple(self._steps):
            steps.wake(hard=self._is_over)
            if steps.thread == main and self._previous and steps.is_cut(hard=self._is_over):
                self._pokes = True
                number = next(iter(self._previous))
                if hasattr(signal, "pthread_kill"):
                    signal.pthread_kill(main, number)  # a real one, so that a call that blocks returns
                else:
                    signal.raise_signal(number)


_CURRENT: list[Drain] = []


@contextmanager
def draining(*, grace: float = GRACE, signals: Sequence[int] = SIGNALS) -> Iterator[Drain]:
    """Inside this, a signal to stop parks every run of the process at its next step, and `run` and `arun` return.

    A reply that is on its way is recorded, tools that began end within their time limits, nothing new is begun; who
    sleeps or asks a person stops at once. What runs longer than `grace` is cut off and parked: tools that began and did
    not end are of unknown outcome. A run that is begun while the process drains is recorded and parked. All of them are
    `interrupted`, and `resume` goes on with them. A second signal does what it did before, so that a second Ctrl-C
    stops at once.

        with fsm.draining() as drain:
            while not drain.requested:
                fsm.run(Support, next_question(), journal="runs.db")

    Enter it before the runs begin. A sync run in another thread than the main one cannot be cut off: if it outlives the
    grace time, end the process; its journal goes on as after a crash.

    Args:
        grace: seconds.
        signals: those that drain; their handlers are put back afterwards. With none, call `stop()` of what this gives,
            as a server does in its own shutdown.

    Raises:
        UsageError: entered twice; or with signals in another thread than the main one: enter it there, or pass
            `signals=()`.
    """
    if _CURRENT:
        msg = "draining() is entered already: once a process is enough"
        raise UsageError(msg)
    if signals and threading.current_thread() is not threading.main_thread():
        msg = "signals arrive in the main thread: enter draining() there, or pass signals=() and call stop()"
        raise UsageError(msg)
    drain = Drain(grace)
    watching = threading.Thread(target=drain._watch, name="fsm-drain", daemon=True)  # noqa: SLF001 - one of a pair
    watching.start()
    _CURRENT.append(drain)
    try:
        for number in signals:
            drain._previous[number] = signal.signal(number, drain._received)  # noqa: SLF001
        yield drain
    finally:
        for number, previous in drain._previous.items():  # noqa: SLF001
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
        _CURRENT.remove(drain)
        drain._told.put("end")  # noqa: SLF001
        watching.join()


class Steps:
    """The steps of one drive, as a drain sees them: `with steps` is one of them, `with steps.waiting()` a pause."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._is_busy = self._is_waiting = self._stops = False
        self._woken: SimpleQueue[None] = SimpleQueue()
        self._drain = _CURRENT[-1] if _CURRENT else None
        if self._drain is not None:
            self._drain._steps[self] = None  # noqa: SLF001 - the two belong together

    def close(self) -> None:
        """The drive has ended."""
        if self._drain is not None:
            self._drain._steps.pop(self, None)  # noqa: SLF001

    @property
    def is_last(self) -> bool:
        """Whether nothing new is to be begun."""
        self._stops = self._stops or (bool(_CURRENT) and _CURRENT[-1].requested)
        return self._stops

    def check(self) -> None:
        """Between two steps: stop here, if the process drains."""
        if self.is_last:
            raise Drained

    def __enter__(self) -> Self:
        self._is_busy = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_busy = False

    @contextmanager
    def outside(self) -> Iterator[None]:
        """While what runs is not the drive but whoever iterates over it."""
        self._is_busy = False
        yield
        self.__enter__()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While nothing is done, so that nothing is lost if it ends now."""
        self._is_waiting = True
        try:
            self.check()
            yield
        finally:
            self._is_waiting = False

    def sleep(self, sleep: Callable[[float], Any], seconds: float) -> None:
        """Wait, not longer than the process has."""
        with self.waiting():
            if self._drain is None or sleep is not time.sleep:
                sleep(seconds)
            else:
                with suppress(Empty):
                    self._woken.get(timeout=seconds)
            self.check()

    def is_cut(self, *, hard: bool) -> bool:
        """Whether it may be interrupted where it is now."""
        return self._is_waiting or (hard and self._is_busy)

    def wake(self, *, hard: bool) -> None:
        """Called by the watching thread."""
        del hard
        self._woken.put(None)
