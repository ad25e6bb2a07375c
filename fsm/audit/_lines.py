"""Paths become files, files become lines; what cannot be read becomes a reason. Nothing here raises.

A file is read line by line, and a line longer than `MAX_LINE` is skipped, so that memory does not depend on sizes.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from attrs import field, frozen

from fsm._wire import clean

__all__ = ["MAX_LINE", "BadLine", "BadPath", "Line", "files_of", "lines_of"]

MAX_LINE = 64 * 1024 * 1024
"""Bytes of one line that are read. The API takes requests of at most 32 MB (R54)."""

_ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


@frozen
class Line:
    """One line of text; `file` is fit to be shown, `size` the line's length in bytes."""

    file: str
    number: int
    size: int
    text: str = field(repr=False)

    @property
    def where(self) -> str:
        """File and number, for people."""
        return f"{self.file}:{self.number}"


@frozen
class BadLine:
    """One line that is no text; `reason` is one of a few, `detail` says more about this line."""

    file: str
    number: int
    size: int
    reason: str
    detail: str = ""

    @property
    def where(self) -> str:
        """File and number, for people."""
        return f"{self.file}:{self.number}"


@frozen
class BadPath:
    """A path that could not be read, or not to its end: how many lines it has is not known."""

    path: str
    reason: str


def files_of(paths: Iterable[Path | str]) -> Iterator[Path | BadPath]:
    """The files that paths name, each once; of a folder all that end in `.jsonl` or `.ndjson`, plain or `.gz`."""
    known: set[str] = set()
    for given in paths:
        path = Path(given)
        if "\0" in str(path):
            yield BadPath(str(path), "the name holds a null byte")
            continue
        found: Iterable[Path | BadPath] = _below(path) if path.is_dir() else (path,)
        for file in found:
            if isinstance(file, BadPath):
                yield file
            elif (real := os.path.realpath(file)) not in known:
                known.add(real)
                yield file


def _below(folder: Path) -> Iterator[Path | BadPath]:
    count, problems = 0, list[OSError]()
    for parent, folders, names in os.walk(folder, onerror=problems.append):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(_ENDINGS):
                count += 1
                yield Path(parent, name)
    for problem in problems:
        yield BadPath(str(problem.filename or folder), _said(problem))
    if not count and not problems:
        yield BadPath(str(folder), "the folder holds no .jsonl file")


def lines_of(path: Path) -> Iterator[Line | BadLine | BadPath]:
    """The lines of one file, gzip or plain, told apart by how the file begins."""
    name = clean(str(path), 200)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device may never end
            yield BadPath(name, "it is no regular file")
            return
        with path.open("rb") as plain:
            begin = plain.read(2)
            plain.seek(0)
            if begin == _GZIP:
                with gzip.open(plain) as packed:
                    yield from _lines(name, packed)  # type: ignore[arg-type]  # a reader of bytes, as `plain` is
            else:
                yield from _lines(name, plain)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield BadPath(name, f"the gzip data is damaged, what stands before was read: {error}")
    except OSError as error:
        yield BadPath(name, _said(error))


def _lines(name: str, file: IO[bytes]) -> Iterator[Line | BadLine]:
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        size = len(raw)
        if size > MAX_LINE and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE)
                size += len(raw)
            yield BadLine(name, number, size, f"the line is longer than {MAX_LINE >> 20} MB")
            continue
        yield _line(name, number, size, raw.removeprefix(_BOM) if number == 1 else raw)


def _line(name: str, number: int, size: int, raw: bytes) -> Line | BadLine:
    if b"\0" in raw:  # JSON writes it as an escape
        return BadLine(name, number, size, "binary data, or not UTF-8 (it holds NUL bytes)")
    try:
        return Line(name, number, size, raw.decode())
    except UnicodeDecodeError as error:
        return BadLine(name, number, size, "not UTF-8", f"{error.reason} at byte {error.start}")


def _said(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    return error.strerror or str(error)
