"""The picture as DOT, for people who have Graphviz and for `diff`: generated ids, every text a quoted string (X1)."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator

from fsm.diagram._looks import (
    BLUE,
    FADED_LINE,
    FONT,
    GREY,
    INK,
    LOOKS,
    PALE,
    PANEL_FILL,
    PANEL_LINE,
    RED,
    WHITE,
    WRONG_FILL,
    colours_of,
    stroke_of,
)
from fsm.diagram._model import Arrow, Box, Frame, Note, Picture

from ._nesting import nested

_TEXT_ON = {PALE: GREY, FADED_LINE: PALE}  # lines may be lighter than words
_COLUMNS = 3  # of the legend
_DOC_WIDE = 76  # characters
_MARGINS = {"hexagon": "0.02,0.02", "ellipse": "0.05,0.04", "octagon": "0.08,0.04"}  # these shapes have room already
_ROUND = {"Claude", "Final"}
_CENTRED, _LEFT = "\\n", "\\l"


def to_dot(picture: Picture) -> str:
    """The picture as the source of a digraph."""
    title = [picture.name, *textwrap.wrap(picture.doc, _DOC_WIDE), *textwrap.wrap(" · ".join(picture.facts), _DOC_WIDE)]
    look = {"labelloc": "t", "labeljust": "l", "fontname": _quoted(FONT), "fontsize": "14", "fontcolor": _quoted(INK)}
    margin = _quoted("0.2,0.08")
    lines = [
        "digraph workflow {",
        f"  graph {_attributes(label=_label(title, _LEFT), **look, nodesep='0.4', ranksep='0.5', pad='0.2')}",
        f"  node {_attributes(fontname=_quoted(FONT), fontsize='12', style='filled', margin=margin, height='0.4')}",
        f"  edge {_attributes(fontname=_quoted(FONT), fontsize='11', arrowsize='0.8', color=_quoted(INK))}",
    ]
    if picture.initial is not None:
        size = {"width": "0.16", "height": "0.16", "fixedsize": "true"}
        start = _attributes(shape="circle", **size, **_same(INK), label=_quoted(""))
        lines += [f"  s0 {start}", f"  s0 -> {picture.initial.id}"]
    lines += nested(picture, lambda box: f"{box.id} {_box(box)}", _frame_lines)
    lines += [f"  {arrow.source} -> {arrow.dest} {_arrow(arrow)}" for arrow in picture.arrows]
    return "\n".join([*lines, *_below(picture), "}", ""])


def _frame_lines(frame: Frame) -> tuple[str, ...]:
    return (f"subgraph cluster_{frame.id} {{", f"  {_frame(frame)}", "}")


def _frame(frame: Frame) -> str:
    look = {"style": _quoted("rounded,dashed"), "color": _quoted(PANEL_LINE), "fontcolor": _quoted(GREY)}
    return f"graph {_attributes(label=_quoted(frame.name), labeljust='l', fontsize='11', **look)}"


def _quoted(text: str) -> str:
    r"""A quoted string that Graphviz shows as the text is.

    A backslash would begin an escape (`\N` is the node's id) and `&` an entity, so both are escaped as well as `"`.
    """
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") + '"'


def _label(rows: Iterable[str], end: str) -> str:
    """Several rows as one quoted string; only the line ends are escapes."""
    return '"' + "".join(_quoted(row)[1:-1] + end for row in rows).removesuffix(_CENTRED) + '"'


def _attributes(**values: str) -> str:
    return "[" + " ".join(f"{name}={value}" for name, value in values.items()) + "]"


def _same(colour: str) -> dict[str, str]:
    return {"color": _quoted(colour), "fillcolor": _quoted(colour)}


def _box(box: Box) -> str:
    fill, stroke = colours_of(box)
    return _attributes(
        label=_label([box.head, box.name, *box.lines], _CENTRED),
        **_shape(box.shape),
        fillcolor=_quoted(fill),
        color=_quoted(BLUE if box.current else stroke),
        penwidth="3" if box.current else "1.6",
        fontcolor=_quoted(PALE if box.faded else INK),
        tooltip=_quoted(box.title),
    )


def _shape(key: str) -> dict[str, str]:
    """The outline of a kind."""
    shape = LOOKS[key].dot
    margin = {"margin": _quoted(_MARGINS[shape])} if shape in _MARGINS else {}
    style = _quoted("rounded,filled" if key in _ROUND else "filled")
    return {"shape": shape, "style": style, "peripheries": "2" if key in {"Final", "Failed"} else "1", **margin}


def _arrow(arrow: Arrow) -> str:
    colour, thick = stroke_of(arrow)
    return _attributes(
        label=_label((f" {line.text} " for line in arrow.lines), _LEFT),
        color=_quoted(colour),
        fontcolor=_quoted(_TEXT_ON.get(colour, colour)),
        penwidth=f"{thick:g}",
        style="dashed" if arrow.standard or arrow.change == "removed" else "solid",
        tooltip=_label(arrow.title.split("\n"), _CENTRED),
    )


def _note(note: Note) -> str:
    return _attributes(
        label=_label(note.lines, _LEFT),
        shape="box",
        style=_quoted("filled" if note.wrong else "filled,dashed"),
        fillcolor=_quoted(WRONG_FILL if note.wrong else PANEL_FILL),
        color=_quoted(RED if note.wrong else PANEL_LINE),
        fontcolor=_quoted(RED if note.wrong else GREY),
        fontsize="10",
    )


def _below(picture: Picture) -> Iterator[str]:
    """Notes, and the legend in rows; edges that are not drawn keep them in order below the states."""
    notes = [f"n{place}" for place in range(1, len(picture.notes) + 1)]
    yield from (f"  {ident} {_note(note)}" for ident, note in zip(notes, picture.notes, strict=True))
    samples = {f"k{place}": _sample(key, words) for place, (key, words) in enumerate(_kinds(picture), 1)}
    if words := [_PLAIN[key] + words for key, words in picture.legend if key not in LOOKS]:
        samples["k0"] = _attributes(
            label=_label(words, _LEFT), shape="plaintext", fillcolor=_quoted(WHITE), fontcolor=_quoted(GREY)
        )
    if not samples:
        return
    idents = list(samples)
    rows = [idents[place : place + _COLUMNS] for place in range(0, len(idents), _COLUMNS)]
    yield "  subgraph cluster_legend {"
    yield f"    graph {_attributes(label=_quoted(''), peripheries='0')}"
    yield f"    node {_attributes(fontsize='10', margin=_quoted('0.1,0.04'), height='0.3')}"
    yield from (f"    {ident} {sample}" for ident, sample in samples.items())
    for row in rows:
        yield f"    {{ rank=same; {' -> '.join(row)} [style=invis] }}" if len(row) > 1 else f"    {row[0]}"
    yield "  }"
    column = [*notes, *(row[len(row) // 2] for row in rows)]
    yield from (f"  {ident} -> {column[0]} [style=invis]" for ident in picture.last)
    yield from (f"  {upper} -> {lower} [style=invis]" for upper, lower in itertools.pairwise(column))


def _kinds(picture: Picture) -> list[tuple[str, str]]:
    return [(key, words) for key, words in picture.legend if key in LOOKS]


def _sample(key: str, words: str) -> str:
    look = LOOKS[key]
    colours = {"fillcolor": _quoted(look.fill), "color": _quoted(look.stroke), "fontcolor": _quoted(INK)}
    return _attributes(label=_label(words.split(": "), _CENTRED), **_shape(key), **colours)


_PLAIN = {
    "own": "solid arrow: ",
    "standard": "dashed, light: ",
    "taken": "(1, 2): ",
    "heat": "width of an arrow: ",
    "warm": "colour of a state: ",
    "stuck": "(stuck): ",
    "added": "(+) green: ",
    "removed": "(−) red, dashed: ",
    "rerouted": "(→) brown: ",
    "changed": "(~) brown: ",
    "current": "(here): ",
    "wrong": "red: ",
}
