"""The picture as DOT, for people who have Graphviz and for `diff`: generated ids, every text a quoted string (X1)."""

from __future__ import annotations

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
    WHITE,
    WRONG_FILL,
    colours_of,
    stroke_of,
)
from ._model import Arrow, Box, Note, Picture

_TEXT_ON = {PALE: GREY, FADED_LINE: PALE}  # lines may be lighter than words
_COLUMNS = 3  # of the legend
_CENTRED, _LEFT = "\\n", "\\l"


def to_dot(picture: Picture) -> str:
    """The picture as the source of a digraph."""
    lines = [
        "digraph workflow {",
        f"  graph {_attributes(label=_quoted(picture.name), labelloc='t', fontname='Helvetica')}",
        f"  node {_attributes(fontname='Helvetica', fontsize='12', style='filled', margin=_quoted('0.2,0.1'))}",
        f"  edge {_attributes(fontname='Helvetica', fontsize='11', arrowsize='0.8')}",
    ]
    if picture.initial is not None:
        lines.append(
            f"  s0 {_attributes(shape='circle', width='0.16', fixedsize='true', **_same(INK), label=_quoted(''))}"
        )
        lines.append(f"  s0 -> {picture.initial.id}")
    lines += [f"  {box.id} {_box(box)}" for box in picture.boxes]
    lines += [f"  {arrow.source} -> {arrow.dest} {_arrow(arrow)}" for arrow in picture.arrows]
    return "\n".join([*lines, *_below(picture), "}", ""])


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
    marks = [*(f"({finding})" for finding in box.findings), *(["(here)"] if box.current else [])]
    rows = [" ".join([box.caption, *marks]), box.name, *box.details]
    return _attributes(
        label=_label(rows, _CENTRED),
        shape=LOOKS[box.shape].dot,
        style=_quoted("rounded,filled" if box.kind == "Claude" else "filled"),
        peripheries="2" if box.kind == "Final" else "1",
        fillcolor=_quoted(fill),
        color=_quoted(BLUE if box.current else stroke),
        penwidth="3" if box.current else "1.6",
        fontcolor=_quoted(PALE if box.faded else INK),
        tooltip=_quoted(box.title),
    )


def _arrow(arrow: Arrow) -> str:
    colour, thick = stroke_of(arrow)
    return _attributes(
        label=_label((f" {line.text} " for line in arrow.lines), _LEFT),
        color=_quoted(colour),
        fontcolor=_quoted(_TEXT_ON.get(colour, colour)),
        penwidth=f"{thick:g}",
        style="dashed" if arrow.standard else "solid",
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


def _below(picture: Picture) -> Iterable[str]:
    """Legend and notes; edges that are not drawn keep them in rows below the states."""
    idents = []
    yield "  subgraph cluster_legend {"
    yield f"    graph {_attributes(label=_quoted('legend'), color=_quoted(PANEL_LINE), fontsize='10')}"
    yield f"    node {_attributes(fontsize='10', margin=_quoted('0.1,0.04'), height='0.3')}"
    for place, (key, words) in enumerate(picture.legend, 1):
        idents.append(f"k{place}")
        yield f"    {idents[-1]} {_sample(key, words)}"
    for place, note in enumerate(picture.notes, 1):
        idents.append(f"n{place}")
        yield f"    {idents[-1]} {_note(note)}"
    yield "  }"
    upper = [*picture.last[-_COLUMNS:], *idents[:-_COLUMNS]]
    lower = idents[max(_COLUMNS - len(picture.last), 0) :] if len(picture.last) < _COLUMNS else idents
    yield from (f"  {one} -> {other} [style=invis]" for one, other in zip(upper, lower, strict=False))


def _sample(key: str, words: str) -> str:
    look = LOOKS.get(key)
    if look is None:
        return _attributes(label=_quoted(_PLAIN[key] + words), shape="plaintext", fillcolor=_quoted(WHITE))
    return _attributes(
        label=_label(words.split(": "), _CENTRED),
        shape=look.dot,
        style=_quoted("rounded,filled" if key == "Claude" else "filled"),
        peripheries="2" if key in {"Final", "Failed"} else "1",
        fillcolor=_quoted(look.fill),
        color=_quoted(look.stroke),
    )


_PLAIN = {
    "own": "solid arrow: ",
    "standard": "dashed, light: ",
    "taken": "(1, 2): ",
    "current": "(here): ",
    "wrong": "red: ",
}
