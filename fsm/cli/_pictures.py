"""Pictures in files: SVG where it can be made, else Mermaid, which GitHub and many editors draw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsm._errors import MissingExtra
from fsm._graph import Graph

from ._errors import CommandError

if TYPE_CHECKING:
    from fsm.diagram import Format

SUFFIXES: Mapping[str, Format] = {
    ".svg": "svg",
    ".png": "png",
    ".pdf": "pdf",
    ".html": "html",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".md": "table",
    ".json": "json",
}
HOW_SVG = "pip install 'claude-fsm[svg]'"


def write_picture(folder: Path, stem: str, graph: Graph, **options: Any) -> Path:
    """Write the picture of a graph; returns its path, which ends in .mmd where SVG cannot be made here.

    Raises:
        CommandError: the file cannot be written.
    """
    from fsm.diagram import render

    make_folder(folder)
    try:
        return write_file(folder / f"{stem}.svg", render(graph, "svg", **options))
    except MissingExtra:
        return write_file(folder / f"{stem}.mmd", render(graph, "mermaid", **options))


def write_file(path: Path, data: str | bytes) -> Path:
    """Write a file into a folder that is there: a path that was mistyped must not make folders.

    Raises:
        CommandError: it cannot be written.
    """
    if not path.parent.exists():
        raise CommandError(f"cannot write {path}: there is no folder {path.parent}. Make it, or choose another place")
    try:
        path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}. Choose another place") from error
    return path


def make_folder(folder: Path) -> None:
    """Make a folder of our own, if it is not there.

    Raises:
        CommandError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror or error}. Choose another place") from error


def format_of(path: Path) -> Format:
    """The format that a file name asks for.

    Raises:
        CommandError: none that is known.
    """
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise CommandError(f"{path} says no format: end it in {', '.join(SUFFIXES)}, or give --format")
    return found
