"""The folder of pictures of every example: written by `fsm diagram --write`, compared by `fsm diagram --check`.

Text is compared, SVG is not: its layout depends on the version of Graphviz. The rows of the table in `index.md` say
which arrows differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from fsm import Workflow
from fsm._errors import MissingExtra

from ._errors import CommandError
from ._load import examples_folder, load_module, workflows_of
from ._pictures import HOW_SVG, make_folder, write_text

INDEX = "index.md"
_MOST = 8  # rows that are shown of each picture


def write_gallery(folder: Path) -> int:
    """Write text and picture of every example, and the index; files of examples that are gone are removed."""
    texts = dict(_texts())
    make_folder(folder)
    for name, text in texts.items():
        write_text(folder / name, text)
    for stem, _, workflow in _examples():
        try:
            write_text(folder / f"{stem}.svg", workflow.diagram("svg"))
        except MissingExtra as error:
            raise CommandError(f"the text forms are in {folder}, but SVG cannot be drawn here: {HOW_SVG}") from error
    for stale in _stale(folder, texts):
        stale.unlink()
        typer.echo(f"removed {stale}: no example makes it")
    typer.echo(f"{len(texts) - 1} text files, their SVG and {INDEX} are in {folder}")
    return 0


def compare_gallery(folder: Path) -> int:
    """Name each file that differs from what the examples make, and the rows that do; 1 if there are any."""
    if not folder.is_dir():
        raise CommandError(f"there is no folder {folder}: make it with  fsm diagram --write {folder}")
    texts = dict(_texts())
    wrong = [f"{path}: no example makes it" for path in _stale(folder, texts)]
    for stem, *_ in _examples():
        if not (folder / f"{stem}.svg").is_file():
            wrong.append(f"{folder / stem}.svg is missing")
    for name, text in texts.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path} is missing")
        elif (there := path.read_text("utf-8")) != text:
            wrong.append(f"{path} differs")
            wrong += [f"    {line}" for line in _difference(there, text)] if name == INDEX else []
    for line in wrong:
        typer.echo(line)
    if wrong:
        typer.echo(f"Write them anew with  fsm diagram --write {folder}")
        return 1
    typer.echo(f"{folder}: {len(texts)} text files are those of the examples")
    return 0


def _examples() -> Iterator[tuple[str, Path, type[Workflow]]]:
    """Name of the picture, file and class of every workflow of the examples, by file."""
    for path in sorted(examples_folder().glob("*.py")):
        found = workflows_of(load_module(str(path)))
        for name, workflow in found.items():
            yield (path.stem if len(found) == 1 else f"{path.stem}-{name.lower()}", path, workflow)


def _texts() -> Iterator[tuple[str, str]]:
    index = [
        "# Pictures of the examples",
        "",
        "Made by `fsm diagram --write diagrams/`; CI compares them with the code.",
        "",
    ]
    for stem, path, workflow in _examples():
        yield f"{stem}.dot", workflow.diagram("dot")
        yield f"{stem}.mmd", workflow.diagram("mermaid")
        source = f"[`examples/{path.name}`](../examples/{path.name})"
        index += [f"## {workflow.name}", "", *_doc(workflow)]
        index += [
            f"From {source}; as text: [DOT]({stem}.dot), [Mermaid]({stem}.mmd).",
            "",
        ]
        index += [f"![The states of {workflow.name}]({stem}.svg)", ""]
        index += ["<details><summary>Its rows</summary>", "", workflow.diagram("table").strip(), "", "</details>", ""]
    yield INDEX, "\n".join(index)


def _doc(workflow: type[Workflow]) -> list[str]:
    first = workflow.graph.doc.split("\n\n")[0]
    return [" ".join(first.split()), ""] if first else []


def _stale(folder: Path, texts: dict[str, str]) -> list[Path]:
    known = {Path(name).stem for name in texts}
    made = {".dot", ".mmd", ".svg"}
    return sorted(path for path in folder.glob("*") if path.suffix in made and path.stem not in known)


def _difference(there: str, now: str) -> list[str]:
    """The rows that are only in one of two indexes, by workflow."""
    before, after = _rows(there), _rows(now)
    lines = []
    for name in dict.fromkeys([*before, *after]):
        gone = [row for row in before.get(name, []) if row not in after.get(name, [])]
        new = [row for row in after.get(name, []) if row not in before.get(name, [])]
        marked = [f"{name}: - {row}" for row in gone] + [f"{name}: + {row}" for row in new]
        lines += marked[:_MOST]
        if len(marked) > _MOST:
            lines.append(f"{name}: and {len(marked) - _MOST} more")
    return lines


def _rows(index: str) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    name = ""
    for line in index.splitlines():
        if line.startswith("## "):
            name = line[3:]
        elif line.startswith("| ") and not line.startswith(("| state ", "| --- ")):
            cells = [re.sub(r"[`*]", "", cell).strip() for cell in line.strip("| ").split(" | ")]
            rows.setdefault(name, []).append(" · ".join(filter(None, cells)))
    return rows
