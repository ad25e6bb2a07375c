"""Where journals are kept: `open_store` takes the name of a file or the URL of a database."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from fsm._errors import UsageError
from fsm.journal import Store

from ._file import named

if TYPE_CHECKING:
    from .postgres import PostgresStore
    from .sqlite import SqliteStore

__all__ = ["open_store", "shared_store"]


def open_store(
    where: str | os.PathLike[str],
    *,
    encrypt: Callable[[bytes], bytes] | None = None,
    decrypt: Callable[[bytes], bytes] | None = None,
    redact: Callable[[str], str] | None = None,
) -> SqliteStore | PostgresStore:
    """Open the journal at `where`: a path (SQLite), or `postgresql://user@host/database`. Whoever opens it closes it.

    Args:
        where: the path or the URL.
        encrypt: applied to what was said before it is stored, bytes to bytes.
        decrypt: its inverse.
        redact: applied to each text that was said before it is stored; a run that it changed is not resumed.

    Raises:
        UsageError: neither a path nor a URL that is known.
        MissingExtra: the driver of that database is not installed.
        JournalError: it cannot be opened, or is no journal; nothing was changed.
    """
    name = _name(where)
    if _is_url(name):
        from .postgres import PostgresStore

        return PostgresStore(name, encrypt=encrypt, decrypt=decrypt, redact=redact)
    from .sqlite import SqliteStore

    return SqliteStore(name, encrypt=encrypt, decrypt=decrypt, redact=redact)


def shared_store(where: str | os.PathLike[str]) -> Store:
    """What `journal=` means: the handle that this process has on that file, closed when nobody holds it any more.

    Raises:
        UsageError, MissingExtra, JournalError: as `open_store`.
    """
    name = _name(where)
    if _is_url(name):
        return open_store(name)
    from .sqlite import shared

    return shared(name)


def _name(where: str | os.PathLike[str]) -> str:
    name = os.fspath(where)
    if not name:
        raise UsageError('journal="" names no file: give a path such as "runs.db"')
    return name if name.startswith(("postgresql://", "postgres://")) else named(name)


def _is_url(name: str) -> bool:
    scheme, separator, _ = name.partition("://")
    if separator and scheme not in {"postgresql", "postgres"}:
        raise UsageError(f"journal={scheme}://... is no journal that is known: give a path, or postgresql://...")
    return bool(separator)
