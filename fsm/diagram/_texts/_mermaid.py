"""The picture as a Mermaid flowchart, which GitHub draws: generated ids, every text quoted and entity-encoded (X1).

Only in a flowchart the kinds have shapes of their own; `_state_diagram` is the plainer form. Nothing from data stands
outside of quotes; the lines of styles are fixed text, generated ids and numbers.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve

from fsm.diagram._looks import (
    BLUE,
    FADED_LINE,
    GREY,
    HEAT,
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
from fsm.diagram._model import Arrow, Box, Frame, Note, Picture
from fsm.diagram._overlay import Tally
from fsm.diagram._phrases import spent_words

from ._nesting import nested

log = logging.getLogger("fsm")

# Letters, digits and what has no meaning in Mermaid, Markdown or HTML. `.` and `-` are plain inside of a word only, and
# a number at the start is not, since these could begin a list.
_SPECIAL = re.compile(r"^[0-9]|[^A-Za-z0-9_ ,()='/?!.-]|(?<![A-Za-z0-9])[.-]|[.-](?![A-Za-z0-9])")
# `$$…$$` is a formula and `fa:fa-…` an icon even where they are encoded; a space of no width takes them apart.
_MAGIC = re.compile("#36;(?=#36;)|#58;(?=fa-)")
_EDGE = re.compile(r"^ +\w+ (?:-->|-\.->|~~~)", re.MULTILINE)
_MOST_EDGES, _MOST_TEXT = 500, 50_000  # what Mermaid draws where nobody configured it, as on GitHub
_PLAIN = re.compile("[^A-Za-z0-9_ ]")
_BREAK = "<br/>"
_DIGITS = 10  # the most that a price may have
_INIT = '%%{init: {"flowchart": {"wrappingWidth": 620}}}%%'  # our lines are broken already


def to_mermaid(picture: Picture) -> str:
    """The picture as the text of a Mermaid code block."""
    lines = [*titled(picture), _INIT, "flowchart TD"]
    if picture.initial is not None:
        lines += ["  s0(( ))", f"  s0 --> {picture.initial.id}"]
    lines += nested(picture, _box, _frame_lines)
    lines += [f"  {_arrow(arrow)}" for arrow in drawn_arrows(picture)]
    lines += [_note(f"n{place}", note) for place, note in enumerate(picture.panels, 1)]
    lines += _legend(picture)
    return checked("\n".join([*lines, *_styles(picture), ""]))


# --- what both forms of Mermaid share --------------------------------------------------------------------------------


def encoded(text: str) -> str:
    """Text for between quotes: what is not plain becomes `#number;`, Mermaid's own form of an entity."""
    numbered = _SPECIAL.sub(lambda found: f"#{ord(found.group())};", text)
    return _MAGIC.sub(lambda found: f"{found.group()}#8203;", numbered)


def undrawable(text: str) -> str:
    """Why GitHub shows an error instead of this picture, and what to do; empty where it draws it.

    Source: https://mermaid.js.org/config/schema-docs/config.html (maxEdges, maxTextSize)
    """
    edges = len(_EDGE.findall(text)) if "\nflowchart " in text else 0  # only flowcharts count them
    many = f"{edges} arrows, and GitHub draws {_MOST_EDGES} at most" if edges > _MOST_EDGES else ""
    if not many and len(text) > _MOST_TEXT:
        many = f"{len(text):,} characters of Mermaid, and GitHub draws {_MOST_TEXT:,} at most"
    return f"this picture has {many}: fold groups of states (groups=, folded=), or take SVG" if many else ""


def checked(text: str) -> str:
    """The text; where GitHub would not draw it, the log says so."""
    if why := undrawable(text):
        log.warning("%s", why)
    return text


def titled(picture: Picture) -> Iterator[str]:
    """The name, which stands above the picture: front matter, YAML in which all but plain characters is a number (X1).

    Source: https://mermaid.js.org/config/configuration.html#frontmatter-config
    """
    numbered = _PLAIN.sub(lambda found: f"\\U{ord(found.group()):08x}", picture.name)
    yield from ("---", f'title: "{numbered}"', "---")


def words_on(arrow: Arrow) -> Iterator[str]:
    """The rows of an arrow, without what they cost: that stands in the boxes, and long labels lie over each other."""
    for line in arrow.lines:
        cost = evolve(line.tally, failures=0) if line.tally is not None else Tally()
        spent = {words for digits in range(_DIGITS) for words in spent_words(cost, digits)}
        yield evolve(line, facts=tuple(fact for fact in line.facts if fact not in spent)).text


def broken(rows: Iterable[str]) -> str:
    """Rows of text, each encoded, on one line of Mermaid."""
    return _BREAK.join(encoded(row) for row in rows)


def words_of(box: Box) -> str:
    """What stands in a box."""
    return broken([_mark(box.shape) + box.head, box.name, *box.lines])


def drawn_arrows(picture: Picture) -> list[Arrow]:
    """Mermaid lays the labels of loops over those of other links, so the loops that sum up are left to the note."""
    return [arrow for arrow in picture.arrows if not arrow.is_summary]


def class_lines(boxes: Iterable[Box]) -> Iterator[str]:
    """`classDef` and `class`: the looks of the boxes, and the ids of those that have them."""
    looks: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for box in boxes:
        name, look = _look(box)
        looks[name] = look
        members.setdefault(name, []).append(box.id)
    yield from (f"  classDef {name} {looks[name]}" for name in sorted(looks))
    yield from (f"  class {','.join(members[name])} {name}" for name in sorted(members))


def _look(box: Box) -> tuple[str, str]:
    fill, stroke = colours_of(box)
    dashes = ",stroke-dasharray:6 3" if box.shape == "Failed" else ""
    if box.findings:
        return ("wrongState", f"fill:{fill},stroke:{stroke},color:{RED}")
    if box.change:
        dashes = ",stroke-dasharray:6 3" if box.change == "removed" else ""
        return (f"{box.shape}{box.change}", f"fill:{fill},stroke:{stroke},stroke-width:3px,color:{INK}{dashes}")
    if box.current:
        return (f"{box.shape}Here", f"fill:{fill},stroke:{BLUE},stroke-width:4px,color:{INK}")
    if box.faded:
        return ("faded", f"fill:{fill},stroke:{stroke},color:{PALE}")
    heat = "" if box.heat is None else f"Heat{HEAT.index(fill)}"
    return (f"{box.shape}{heat}", f"fill:{fill},stroke:{stroke},color:{INK}{dashes}")


def _mark(shape: str) -> str:
    return {"Final": "✓ ", "Failed": "✗ "}.get(shape, "")


# --- the flowchart ---------------------------------------------------------------------------------------------------


def _box(box: Box) -> str:
    start, end = LOOKS[box.shape].mermaid
    return f'{box.id}{start}"{words_of(box)}"{end}'


def _frame_lines(frame: Frame) -> tuple[str, ...]:
    return (f'subgraph {frame.id} ["{encoded(frame.name)}"]', "end")


def _arrow(arrow: Arrow) -> str:
    line = "-.->" if arrow.standard or arrow.change == "removed" else "-->"
    return f'{arrow.source} {line}|"{broken(words_on(arrow))}"| {arrow.dest}'


def _note(ident: str, note: Note) -> str:
    return f'  {ident}["{broken(note.lines)}"]:::{"wrong" if note.wrong else "note"}'


def _entries(picture: Picture) -> Iterator[tuple[str, str, str]]:
    """Id, key and words of what the legend has."""
    dotted = any(arrow.standard for arrow in drawn_arrows(picture))
    entries = [(key, words) for key, words in picture.legend if key != "standard" or dotted]
    yield from ((f"k{place}", key, words) for place, (key, words) in enumerate(entries, 1))


def _legend(picture: Picture) -> Iterator[str]:
    yield '  subgraph legend ["legend"]'
    yield "    direction TB"
    for ident, key, words in _entries(picture):
        start, end = LOOKS[key].mermaid if key in LOOKS else ("[", "]")
        rows = broken((_mark(key) + _WORDS.get(key, "") + words).split(": "))
        yield f'    {ident}{start}"{rows}"{end}:::{"key" + key if key in LOOKS else "note"}'
    yield "  end"
    # Links that are not drawn keep notes and legend below the states.
    column = [*(f"n{place}" for place in range(1, len(picture.panels) + 1)), "legend"]
    yield from (f"  {ident} ~~~ {column[0]}" for ident in picture.last)
    yield from (f"  {upper} ~~~ {lower}" for upper, lower in itertools.pairwise(column))


_WORDS: Mapping[str, str] = {
    "own": "solid arrow: ",
    "standard": "dotted arrow: ",
    "taken": "(1, 2): ",
    "heat": "width of an arrow: ",
    "warm": "colour of a state: ",
    "stuck": "(stuck): ",
    "added": "(+) green: ",
    "removed": "(−) red, dotted: ",
    "rerouted": "(→) brown: ",
    "changed": "(~) brown: ",
    "current": "(here): ",
    "wrong": "red: ",
}


def _styles(picture: Picture) -> Iterator[str]:
    yield from class_lines(picture.boxes)
    for key in sorted(key for _, key, _ in _entries(picture) if key in LOOKS):
        yield f"  classDef key{key} fill:{LOOKS[key].fill},stroke:{LOOKS[key].stroke},color:{INK}"
    yield f"  classDef note fill:{PANEL_FILL},stroke:{PANEL_LINE},color:{GREY},text-align:left,stroke-dasharray:4 3"
    yield f"  classDef wrong fill:{WRONG_FILL},stroke:{RED},color:{RED},text-align:left"
    yield f"  style legend fill:none,stroke:{PANEL_LINE},color:{GREY}"
    if picture.initial is not None:
        yield f"  style s0 fill:{INK},stroke:{INK}"
    for frame in picture.frames:
        if any(nested(picture, _box, _frame_lines, frame.id)):
            yield f"  style {frame.id} fill:none,stroke:{PANEL_LINE},color:{GREY}"
    styles: dict[str, list[int]] = {}
    for place, arrow in enumerate(drawn_arrows(picture), 0 if picture.initial is None else 1):
        colour, thick = stroke_of(arrow)
        text = {PALE: GREY, FADED_LINE: PALE}.get(colour, colour)
        styles.setdefault(f"stroke:{colour},stroke-width:{thick:g}px,color:{text}", []).append(place)
    for style, places in styles.items():
        yield f"  linkStyle {','.join(map(str, places))} {style}"
