"""The folder of pictures of every example: written by `fsm diagram --write`, compared by `fsm diagram --check`.

Text is compared, SVG is not: its layout depends on the version of Graphviz. The JSON of the folder is the graph that
was drawn: compared with that of the code, it says which rows and states differ. Pictures that other libraries draw are
not made here (`_gallery_peers`): what they were made from is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from fsm._errors import MissingExtra
from fsm.cli._errors import CommandError
from fsm.cli._pictures import HOW_SVG, make_folder, write_file

from ._drift import what_differs
from ._examples import Example, examples
from ._html import index_html, without_pictures
from ._markdown import index_md, peers_md
from ._peers import FOLDER, Peers, peers_drift, peers_in

INDEX = "index.md"
_MADE = frozenset({".dot", ".html", ".json", ".md", ".mmd", ".svg"})


def write_gallery(folder: Path) -> int:
    """Write text and picture of every example, and the index; files of examples that are gone are removed."""
    found = examples()
    make_folder(folder)
    peers = peers_in(folder)
    texts = dict(_texts(found, peers))
    for name, text in texts.items():
        write_file(folder / name, text)
    try:
        for name, drawn in (*_pages(found, peers), *_pictures(found, peers)):
            write_file(folder / name, drawn)
    except MissingExtra as error:
        raise CommandError(f"the text forms are in {folder}, but SVG cannot be drawn here: {HOW_SVG}") from error
    for stale in _stale(folder, found, peers):
        stale.unlink()
        typer.echo(f"removed {stale}: no example makes it")
    typer.echo(f"{len(found)} examples are in {folder}: open {folder / 'index.html'}, or read {INDEX}")
    return 0


def compare_gallery(folder: Path) -> int:
    """Name each file that differs from what the examples make, and the rows that do; 1 if there are any."""
    if not folder.is_dir():
        raise CommandError(f"there is no folder {folder}: make it with  fsm diagram --write {folder}")
    found = examples()
    peers = peers_in(folder)
    texts = dict(_texts(found, peers))
    wrong = [f"{path}: no example makes it" for path in _stale(folder, found, peers)]
    wrong += [f"{folder / name} is missing" for name in _svgs(found, peers) if not (folder / name).is_file()]
    for name, text in texts.items():
        wrong += _compared(folder / name, text, texts.get(f"{Path(name).stem.removesuffix('-run')}.json"))
    try:
        for name, page in _pages(found, peers):
            wrong += _compared(folder / name, page, None)
    except MissingExtra:
        typer.echo(f"The HTML pages are not compared, since SVG cannot be drawn here: {HOW_SVG}")
    if peers is not None:
        wrong += peers_drift(peers, {each.stem: each.workflow for each in found})
    for line in wrong:
        typer.echo(line)
    if wrong:
        typer.echo(f"Write them anew with  fsm diagram --write {folder}")
        return 1
    typer.echo(f"{folder}: {len(texts)} text files and the pages are those of the examples")
    return 0


def _compared(path: Path, text: str, graph: str | None) -> list[str]:
    if not path.is_file():
        return [f"{path} is missing"]
    there = path.read_text("utf-8")
    if path.suffix == ".html":
        there, text = without_pictures(there), without_pictures(text)
    return (
        []
        if there == text
        else [f"{path} differs", *(f"    {line}" for line in what_differs(path, there, text, graph))]
    )


# --- what is in the folder -------------------------------------------------------------------------------------------


def _texts(found: Sequence[Example], peers: Peers | None) -> Iterator[tuple[str, str]]:
    """Name and content of each text file."""
    for example in found:
        stem, workflow = example.stem, example.workflow
        yield f"{stem}.json", workflow.diagram("json")
        yield f"{stem}.dot", workflow.diagram("dot")
        yield f"{stem}.mmd", workflow.diagram("mermaid")
        yield f"{stem}-run.mmd", example.ran("mermaid", detail="simple")
    yield INDEX, index_md(found, peers)
    if peers is not None:
        yield "peers.md", peers_md(peers)


def _pages(found: Sequence[Example], peers: Peers | None) -> Iterator[tuple[str, str]]:
    """Name and content of each page; there are pictures in them."""
    for example in found:
        yield f"{example.stem}-run.html", example.ran("html")
    yield "index.html", index_html(found, peers)


def _pictures(found: Sequence[Example], peers: Peers | None) -> Iterator[tuple[str, str]]:
    """Name and content of each picture: GitHub chooses between two files by the reader's setting."""
    by_stem = {example.stem: example for example in found}
    for theme, suffix in (("light", ""), ("dark", "-dark")):
        for example in found:
            yield f"{example.stem}{suffix}.svg", example.drawn(theme=theme)
            yield f"{example.stem}-run{suffix}.svg", example.ran("svg", theme=theme, detail="simple")
        for machine in peers.machines if peers is not None else ():
            if machine.ours.startswith(f"{FOLDER}/") and machine.example in by_stem:
                yield f"{machine.ours}{suffix}.svg", by_stem[machine.example].drawn(theme=theme, detail=machine.detail)


def _svgs(found: Sequence[Example], peers: Peers | None) -> Iterator[str]:
    """The names of the pictures."""
    stems = [f"{example.stem}{run}" for example in found for run in ("", "-run")]
    stems += [machine.ours for machine in peers.machines] if peers is not None else []
    yield from dict.fromkeys(f"{stem}{suffix}.svg" for stem in stems for suffix in ("", "-dark"))


def _stale(folder: Path, found: Sequence[Example], peers: Peers | None) -> list[Path]:
    """Files of ours that no example makes any more; those of the peers are not ours."""
    forms = [
        f"{example.stem}{form}" for example in found for form in (".json", ".dot", ".mmd", "-run.mmd", "-run.html")
    ]
    known = {*forms, *_svgs(found, peers), INDEX, "index.html", *(["peers.md"] if peers is not None else [])}
    return sorted(path for path in folder.glob("*") if path.suffix in _MADE and path.name not in known)
