"""The picture as a Mermaid flowchart, which GitHub draws: generated ids, every text quoted and entity-encoded (X1).

A flowchart and not a `stateDiagram-v2`: only there the kinds can have shapes of their own. Nothing from data stands
outside of quotes; the `classDef` and `linkStyle` lines are fixed text and numbers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from ._looks import (
    BLUE,
    FADED_LINE,
    GREY,
    INK,
    LOOKS,
    PALE,
    PANEL_FILL,
    PANEL_LINE,
    RED,
    WRONG_FILL,
    colours_of,
    stroke_of,
)
from ._model import Arrow, Box, Note, Picture

# Letters, digits and what has no meaning in Mermaid, Markdown or HTML. `.` and `-` are plain inside of a word only, and
# a number at the start is not, since these could begin a list.
_SPECIAL = re.compile(r"^[0-9]|[^A-Za-z0-9_ ,()='/?!.-]|(?<![A-Za-z0-9])[.-]|[.-](?![A-Za-z0-9])")
# `$$…$$` is a formula and `fa:fa-…` an icon even where they are encoded; a space of no width takes them apart.
_MAGIC = re.compile("#36;|#58;(?=fa-)")
_BREAK = "<br/>"
_INIT = '%%{init: {"flowchart": {"wrappingWidth": 620}}}%%'  # our lines are broken already


def to_mermaid(picture: Picture) -> str:
    """The picture as the text of a Mermaid code block."""
    lines = [_INIT, "flowchart TD"]
    if picture.initial is not None:
        lines += ["  s0(( )):::start", f"  s0 --> {picture.initial.id}"]
    lines += [f"  {_box(box)}" for box in picture.boxes]
    lines += [f"  {_arrow(arrow)}" for arrow in _drawn(picture)]
    lines += [_note(f"n{place}", note) for place, note in enumerate(picture.notes, 1)]
    lines += _legend(picture)
    return "\n".join([*lines, *_styles(picture), ""])


def encoded(text: str) -> str:
    """Text for between quotes: what is not plain becomes `#number;`, Mermaid's own form of an entity."""
    numbered = _SPECIAL.sub(lambda found: f"#{ord(found.group())};", text)
    return _MAGIC.sub(lambda found: f"{found.group()}#8203;", numbered)


def _rows(rows: Iterable[str]) -> str:
    return '"' + _BREAK.join(encoded(row) for row in rows) + '"'


def _box(box: Box) -> str:
    start, end = LOOKS[box.shape].mermaid
    marks = [*(f"({finding})" for finding in box.findings), *(["(here)"] if box.current else [])]
    rows = _rows([" ".join([_mark(box.shape) + box.caption, *marks]), box.name, *box.details])
    return f"{box.id}{start}{rows}{end}:::{_class(box)}"


def _mark(shape: str) -> str:
    return {"Final": "✓ ", "Failed": "✗ "}.get(shape, "")


def _class(box: Box) -> str:
    if box.findings:
        return "wrong"
    if box.current:
        return f"{box.shape}Here"
    return "faded" if box.faded else box.shape


def _drawn(picture: Picture) -> list[Arrow]:
    """Mermaid lays the labels of loops over those of other links, so the loops that sum up are left to the note."""
    return [arrow for arrow in picture.arrows if not arrow.is_summary]


def _arrow(arrow: Arrow) -> str:
    line = "-.->" if arrow.standard else "-->"
    return f"{arrow.source} {line}|{_rows(line.text for line in arrow.lines)}| {arrow.dest}"


def _note(ident: str, note: Note) -> str:
    return f"  {ident}[{_rows(note.lines)}]:::{'wrong' if note.wrong else 'note'}"


def _legend(picture: Picture) -> Iterable[str]:
    yield '  subgraph legend ["legend"]'
    yield "    direction TB"
    dotted = any(arrow.standard for arrow in _drawn(picture))
    entries = [(key, words) for key, words in picture.legend if key != "standard" or dotted]
    for place, (key, words) in enumerate(entries, 1):
        look = LOOKS.get(key)
        start, end = look.mermaid if look else ("[", "]")
        name = key if look else "note"
        yield f"    k{place}{start}{_rows((_mark(key) + _WORDS.get(key, '') + words).split(': '))}{end}:::{name}"
    yield "  end"
    # Links that are not drawn keep notes and legend below the states.
    column = [*(f"n{place}" for place in range(1, len(picture.notes) + 1)), "legend"]
    yield from (f"  {ident} ~~~ {column[0]}" for ident in picture.last)
    yield from (f"  {upper} ~~~ {lower}" for upper, lower in itertools.pairwise(column))


_WORDS = {
    "own": "solid arrow: ",
    "standard": "dotted arrow: ",
    "taken": "(1, 2): ",
    "current": "(here): ",
    "wrong": "red: ",
}


def _styles(picture: Picture) -> Iterable[str]:
    shapes = sorted({box.shape for box in picture.boxes})
    for shape in shapes:
        look = LOOKS[shape]
        dashes = ",stroke-dasharray:6 3" if shape == "Failed" else ""
        yield f"  classDef {shape} fill:{look.fill},stroke:{look.stroke},color:{INK}{dashes}"
    for box in picture.boxes:
        if box.current and not box.findings:
            fill, _ = colours_of(box)
            yield f"  classDef {box.shape}Here fill:{fill},stroke:{BLUE},stroke-width:4px,color:{INK}"
    yield f"  classDef start fill:{INK},stroke:{INK}"
    yield f"  classDef note fill:{PANEL_FILL},stroke:{PANEL_LINE},color:{GREY},text-align:left,stroke-dasharray:4 3"
    yield f"  classDef faded fill:{PANEL_FILL},stroke:{FADED_LINE},color:{PALE}"
    yield f"  classDef wrong fill:{WRONG_FILL},stroke:{RED},color:{RED},text-align:left"
    yield f"  style legend fill:none,stroke:{PANEL_LINE},color:{GREY}"
    styles: dict[str, list[int]] = {}
    for place, arrow in enumerate(_drawn(picture), 0 if picture.initial is None else 1):
        colour, thick = stroke_of(arrow)
        text = {PALE: GREY, FADED_LINE: PALE}.get(colour, colour)
        styles.setdefault(f"stroke:{colour},stroke-width:{thick:g}px,color:{text}", []).append(place)
    for style, places in styles.items():
        yield f"  linkStyle {','.join(map(str, places))} {style}"
