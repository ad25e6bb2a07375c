"""Who drives which run: a lock that ends with the process that holds it, whatever ends the process.

Each claim locks one byte of a file beside the journal, at a place that follows from the run's id. The system drops the
locks of a process that dies. Locks of this kind belong to the whole process and are dropped when any descriptor of the
file is closed, so a process has it open once, and closes it when it holds no claim.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import threading
from pathlib import Path

from fsm._errors import ConcurrentWriter, JournalError

try:
    import fcntl
except ImportError:  # no such locks there: claims hold within the process, the fence of `append` holds everywhere
    fcntl = None  # type: ignore[assignment]


class _File:
    """The lock file of one journal, while this process holds a claim in it."""

    def __init__(self, path: Path) -> None:
        self.held: set[str] = set()
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            if hasattr(os, "fchmod") and os.fstat(self.descriptor).st_uid == os.geteuid():
                os.fchmod(self.descriptor, 0o600)  # whatever the umask is
        except OSError as error:
            msg = f"the lock file {path} cannot be made: {error.strerror}"
            raise JournalError(msg) from error


_FILES: dict[Path, _File] = {}
_GUARD = threading.Lock()


def _forget() -> None:
    """A fork has none of its parent's locks, and nobody gives the parent's guard back."""
    global _GUARD  # noqa: PLW0603 - a lock that a thread of the parent held is held for ever here
    _GUARD = threading.Lock()
    for file in _FILES.values():
        os.close(file.descriptor)
    _FILES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Claims:
    """The claims on the runs of one journal."""

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_name(f"{journal.name}-claims")

    def claim(self, run_id: str) -> None:
        """Take a run, or say who has it.

        Raises:
            ConcurrentWriter: this process or another one drives it.
            JournalError: the lock file cannot be made, or its file system knows no locks.
        """
        with _GUARD:
            file = _FILES.get(self._path) or _File(self._path)
            _FILES[self._path] = file
            if run_id in file.held:
                msg = f"run '{run_id}' is being driven in this process already: wait for it, or stop it first"
                raise ConcurrentWriter(msg)
            try:
                self._lock(file, run_id)
                file.held.add(run_id)
            finally:
                self._close_unused(file)

    def _lock(self, file: _File, run_id: str) -> None:
        if fcntl is None:
            return
        try:
            fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(run_id))
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                msg = f"run '{run_id}' is being driven by another process: wait for it, or stop that one first"
                raise ConcurrentWriter(msg) from error
            msg = f"{self._path} cannot be locked: {error.strerror}; keep the journal on a local disk, not on a share"
            raise JournalError(msg) from error

    def release(self, run_id: str) -> None:
        """Give a run back; nothing happens where it is not held."""
        with _GUARD:
            file = _FILES.get(self._path)
            if file is None or run_id not in file.held:
                return
            file.held.remove(run_id)
            if fcntl is not None:
                fcntl.lockf(file.descriptor, fcntl.LOCK_UN, 1, _place(run_id))
            self._close_unused(file)

    def _close_unused(self, file: _File) -> None:
        if not file.held:
            del _FILES[self._path]
            os.close(file.descriptor)

    def is_claimed(self, run_id: str) -> bool:
        """Whether somebody drives a run now. Asking keeps nobody from claiming it, where the system can say so."""
        with _GUARD:
            file = _FILES.get(self._path)
            if file is not None and run_id in file.held:
                return True
            if sys.platform == "linux":
                if file is not None:
                    return _is_locked(file.descriptor, run_id)
                if not self._path.exists():
                    return False
                file = _File(self._path)
                try:
                    return _is_locked(file.descriptor, run_id)
                finally:
                    os.close(file.descriptor)
        try:
            self.claim(run_id)
        except ConcurrentWriter:
            return True
        self.release(run_id)
        return False


_FLOCK = "hhqqi4x"  # `struct flock` of Linux: type, whence, start, length, process


def _is_locked(descriptor: int, run_id: str) -> bool:
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _place(run_id), 1, 0)
    found = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return bool(found[0] != fcntl.F_UNLCK)


def _place(run_id: str) -> int:
    return int.from_bytes(hashlib.sha256(run_id.encode(errors="surrogatepass")).digest()[:7])
