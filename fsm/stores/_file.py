"""The file of a journal before SQLite touches it: made for its owner only, or refused untouched."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fsm._errors import JournalError, UsageError

SCHEMA = 1
APPLICATION = 0x66736D6A  # "fsmj", the application id in the header of an SQLite file

_MAGIC = b"SQLite format 3\x00"
_SMALLEST_PAGE = 512
_HEADER = 100  # bytes; their meaning is SQLite's file format, section 1.3


def named(where: str | os.PathLike[str]) -> str:
    """The path of a file, as it was given.

    Raises:
        UsageError: no file has such a name, or SQLite's own tools would take it for something else.
    """
    name = os.fspath(where)
    if "\0" in name:
        msg = f"journal={name!r} names no file: there is a NUL in it"
        raise UsageError(msg)
    if name == ":memory:" or name.startswith("file::memory:"):
        msg = f'journal="{name}" is no file: use MemoryStore() for runs that end with the process'
        raise UsageError(msg)
    if name.startswith("file:"):
        plain = name.removeprefix("file:").partition("?")[0]
        plain = plain.removeprefix("//") if plain.startswith("///") else plain
        msg = f'journal="{name}" is a URI: give the path alone, "{plain}"'
        raise UsageError(msg)
    return name


def prepare(path: Path, looked_at: Callable[[tuple[int, int]], bool]) -> tuple[int, int]:
    """Make the file if it is missing; look at it if it is there. Gives what tells it from every other file.

    `looked_at` says whether this process has that file open: then it is not opened here again, because closing a second
    descriptor would drop the locks of the first.

    Raises:
        JournalError: it cannot be made or read, others may write it, or it is no journal of this version.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError:
        descriptor = None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        msg = f"the journal {path} cannot be made: {why}; is there such a folder, and may you write in it?"
        raise JournalError(msg) from error
    if descriptor is not None:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # whatever the umask took away; SQLite gives its other files the same mode
        os.close(descriptor)
        _sync_folder(path.parent)
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            msg = f"the journal {path} is a symbolic link: name the file that it leads to"
            raise JournalError(msg)
        if not looked_at((found.st_dev, found.st_ino)):
            _look(path, found)
    except OSError as error:
        msg = f"the journal {path} cannot be read: {error.strerror}"
        raise JournalError(msg) from error
    return found.st_dev, found.st_ino


def _sync_folder(folder: Path) -> None:
    """The name of a new file is durable when its folder is."""
    with suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _look(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        msg = f"the journal {path} is no file"
        raise JournalError(msg)
    if os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = f"others may write the journal {path}: run `chmod go-w` on it if you trust what it holds"
        raise JournalError(msg)
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if not os.access(path, os.W_OK):
        msg = f"the journal {path} may not be written: run `chmod u+w` on it, or copy it to where you may"
        raise JournalError(msg)
    log = path.with_name(f"{path.name}-journal")
    is_half_made = log.exists() and log.stat().st_size > 0  # the process ended while the tables were being made
    if not header or (is_half_made and not any(header)):
        return
    problem = _problem(header, 0 if is_half_made else found.st_size)
    if problem is not None:
        msg = f"{path} {problem}; it was not touched"
        raise JournalError(msg)


def _problem(header: bytes, size: int) -> str | None:
    if not header.startswith(_MAGIC):
        return "is no journal: it is no SQLite file. Name another file"
    if len(header) < _HEADER:
        return "is damaged: its header is cut. Restore it from a backup"
    version = int.from_bytes(header[60:64])
    application = int.from_bytes(header[68:72])
    if application != APPLICATION:
        return "is no journal: it is an SQLite file of another program. Name another file"
    if version > SCHEMA:
        return f"was written by a newer version of fsm (schema {version}, this one knows {SCHEMA}): upgrade claude-fsm"
    page = int.from_bytes(header[16:18])
    page = 65536 if page == 1 else page
    if page < _SMALLEST_PAGE or page & (page - 1) or size % page:
        return "is damaged: its size is not a whole number of pages. Restore it from a backup"
    return None
