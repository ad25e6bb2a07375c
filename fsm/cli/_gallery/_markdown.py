"""The gallery as Markdown, which GitHub shows: `index.md`, and `peers.md` beside pictures that others draw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ._examples import Example
from ._peers import FOLDER, Machine, Peers
from ._story import moves_of, question_of

_MARKUP = re.compile(r"[^\w ,.:;()'?!/…·×→−–-]|_")

_ABOUT = """Of each example the class, the picture that is drawn from it, and one run of it against the emulator. Made
by `make diagrams`; CI compares it with the code. [index.html](index.html) is the same as a page of its own."""


def index_md(examples: Iterable[Example], peers: Peers | None) -> str:
    """All examples, each with its code, its picture and a run."""
    lines = ["# Pictures of the examples", "", _ABOUT, ""]
    for example in examples:
        lines += _example(example)
    if peers is not None:
        lines += ["## The same machine elsewhere", ""]
        lines += ["[peers.md](peers.md) shows it as it is drawn by " + _and(peers.names) + ".", ""]
    return "\n".join(lines)


def _example(example: Example) -> Iterator[str]:
    stem, name = example.stem, example.workflow.name
    first, last = example.lines
    yield from (f"## {name}", "", text(example.about), "", text(example.use), "")
    yield from ("```python", example.code, "```", "")
    forms = f"[Mermaid]({stem}.mmd), [DOT]({stem}.dot), [JSON]({stem}.json)"
    yield from (f"[{example.source}](../{example.source}#L{first}-L{last}); the picture as text: {forms}.", "")
    yield from (picture(stem, f"The states of {name}"), "")
    yield from ("### One run", "", f"> {text(question_of(example))}", "")
    yield from (picture(f"{stem}-run", f"A run of {name}: {', '.join(moves_of(example))}"), "")
    page = f"[{stem}-run.html]({stem}-run.html)"
    yield f"Step through it with the arrow keys: {page} (download it, then open it). [As Mermaid]({stem}-run.mmd)."
    yield ""
    rows = example.workflow.diagram("table").strip()
    yield from ("<details><summary>Its rows</summary>", "", rows, "", "</details>", "")


def peers_md(peers: Peers) -> str:
    """The same machines, drawn by others."""
    lines = ["# The same machine, drawn elsewhere", "", text(peers.about), "", f"* **fsm**: {text(peers.ours)}"]
    for peer in peers.peers:
        words = f"{text(peer.shows)} {text(peer.lacks)} Drawn by {text(peer.made)}."
        lines.append(f"* **{text(peer.name)}**: {words}")
    for machine in peers.machines:
        lines += ["", f"## {text(machine.title)}", "", text(machine.about), "", *_side_by_side(machine, peers)]
    return "\n".join([*lines, ""])


def _side_by_side(machine: Machine, peers: Peers) -> Iterator[str]:
    """All pictures of a machine, two in a row."""
    cells = [("fsm", picture(machine.ours, f"{machine.title}, drawn by fsm"))]
    for peer in peers.peers:
        file = f"{FOLDER}/{machine.stem}-{peer.stem}.svg"
        image = f'<img alt="{text(f"{machine.title}, drawn by {peer.name}")}" src="{file}">'
        cells.append((peer.name, f'<a href="{file}">{image}</a>'))
    yield "<table>"
    for place in range(0, len(cells), 2):
        row = cells[place : place + 2]
        heads = "".join(f"<th>{text(name)}</th>" for name, _ in row)
        drawn = "".join(f'<td width="50%" valign="top">{each}</td>' for _, each in row)
        yield from (f"<tr>{heads}</tr>", f"<tr>{drawn}</tr>")
    yield "</table>"


def picture(stem: str, alt: str) -> str:
    """A picture that follows the reader's colour scheme; GitHub takes its own setting for it."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{stem}-dark.svg">'
        f'<img alt="{text(alt)}" src="{stem}.svg"></picture>'
    )


def text(words: str) -> str:
    """Words without a meaning in Markdown or HTML; what stands in backticks stays code."""
    parts = words.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is one
        return _escaped(words)
    return "`".join(part if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _escaped(words: str) -> str:
    return _MARKUP.sub(lambda found: f"&#{ord(found.group())};", words)


def _and(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
