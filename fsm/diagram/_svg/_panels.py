"""Around the graph: the heading above it, the notes and the legend below."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from fsm.diagram._looks import (
    BLUE,
    CHANGED,
    GREY,
    HEAT,
    HEAT_LINES,
    INK,
    LINE,
    LOOKS,
    PALE,
    PANEL_FILL,
    PANEL_LINE,
    RED,
    WHITE,
    WRONG_FILL,
)
from fsm.diagram._model import MARKS, Note, Picture
from fsm.diagram._text import clean, short, width

from ._layout import Point
from ._shapes import draw_shape, number, pill, pill_width, rect, text

_TITLE, _TEXT = 16.0, 11.0
_ROW = 15.0
_DOC_ROWS = 2
_LARGE = 60  # boxes
_SAMPLE = 34.0  # width of what the legend shows


def draw_heading(parent: ET.Element, picture: Picture, at: Point, wide: float) -> float:
    """Name and first sentence of the workflow; gives the y below."""
    x, y = at
    text(parent, (x, y + 12), _fitting(picture.name, _TITLE, wide), _TITLE, font_weight="bold")
    y += 22
    if picture.doc:
        rows = _broken(picture.doc, wide)
        rows = rows if len(rows) <= _DOC_ROWS else [*rows[: _DOC_ROWS - 1], f"{rows[_DOC_ROWS - 1]} …"]
        for row in rows:
            text(parent, (x, y + 9), row, _TEXT, fill=GREY)
            y += _ROW
    for row in _broken(_hint(picture), wide) if _hint(picture) else ():
        text(parent, (x, y + 9), row, _TEXT, fill=GREY, font_style="italic")
        y += _ROW
    for row in listed(picture.facts, wide) if picture.facts else ():
        text(parent, (x, y + 9), row, _TEXT, fill=BLUE)
        y += _ROW
    return y + 12


def _hint(picture: Picture) -> str:
    """What to do about a picture that nobody can see at once."""
    if len(picture.boxes) <= _LARGE:
        return ""
    how = 'groups="prefix", folded=True (fsm diagram --groups prefix --fold all)'
    return f"{len(picture.boxes)} boxes, {len(picture.arrows)} arrows. An overview draws groups as one box each: {how}."


def draw_note(parent: ET.Element, note: Note, at: Point, wide: float) -> float:
    """A panel with a title and rows of two columns; gives the y below."""
    (x, y), ink = at, RED if note.wrong else GREY
    column = max((width(left, _TEXT, bold=True) for left, _ in note.rows), default=0) + 14
    rows = [(left, listed(right, wide - column - 20)) for left, right in note.rows]
    high = 26 + _ROW * sum(len(lines) for _, lines in rows) + 4
    fill, stroke = (WRONG_FILL, RED) if note.wrong else (PANEL_FILL, PANEL_LINE)
    look = {"stroke_dasharray": "4 3"} if note.standard else {}
    group = ET.SubElement(parent, "g")
    rect(group, (x + wide / 2, y + high / 2), (wide, high), 6, fill=fill, stroke=stroke, **look)
    text(group, (x + 10, y + 16), note.title, _TEXT, fill=ink, font_weight="bold")
    row = y + 33
    for left, lines in rows:
        text(group, (x + 10, row), left, _TEXT, fill=ink, font_weight="bold")
        for line in lines:
            text(group, (x + 10 + column, row), line, _TEXT, fill=INK if note.wrong else GREY)
            row += _ROW
    return y + high


def draw_legend(
    parent: ET.Element, picture: Picture, at: Point, wide: float, more: Sequence[tuple[str, str]] = ()
) -> float:
    """What shapes and strokes mean, in as many rows as it takes; gives the y below."""
    group = ET.SubElement(parent, "g", id="legend")
    is_warm = any(box.heat is not None for box in picture.boxes)  # then fills say how much, and outlines who acts
    left, y = at
    x, y = left, y + 12
    start = (("start", "it starts here"),) if picture.initial is not None else ()
    for key, words in (*start, *picture.legend, *more):
        need = _SAMPLE + 8 + width(words, _TEXT) + 20
        if x > left and x + need > left + wide + 20:
            x, y = left, y + 24
        _sample(group, key, (x + _SAMPLE / 2, y), is_warm=is_warm)
        text(group, (x + _SAMPLE + 8, y + 4), words, _TEXT, fill=GREY)
        x += need
    return y + 16


def _sample(parent: ET.Element, key: str, middle: Point, *, is_warm: bool) -> None:
    x, y = middle
    if key in LOOKS:
        look = {"fill": WHITE if is_warm else LOOKS[key].fill, "stroke": LOOKS[key].stroke, "stroke_width": "1.2"}
        draw_shape(parent, key, middle, (_SAMPLE, 18), look=look, plain=key not in {"Final", "Failed", "Tools", "Code"})
    elif key == "start":
        ET.SubElement(parent, "circle", cx=number(x), cy=number(y), r="6", fill=INK)
    elif key == "taken":
        pill(parent, (x - 14, y), "1, 2", BLUE)
    elif key == "gathered":
        rect(parent, middle, (_SAMPLE, 16), 4, fill=PANEL_FILL, stroke=LINE)
    elif key == "current":
        rect(parent, middle, (_SAMPLE, 16), 6, fill=WHITE, stroke=BLUE, stroke_width="3")
    elif key == "wrong":
        pill(parent, (x - 14, y), "W1", RED)
    elif key == "stuck":
        pill(parent, (x - pill_width(key) / 2, y), key, RED)
    elif key in {"heat", "warm"}:
        _ramp(parent, HEAT if key == "warm" else HEAT_LINES, middle)
    else:
        start, end = x - _SAMPLE / 2, x + _SAMPLE / 2
        colour = LINE if key == "own" else CHANGED.get(key, PALE)
        dashes = {"stroke-dasharray": "4 3"} if key in {"standard", "removed"} else {}
        look = {"fill": "none", "stroke": colour, "stroke-width": "1.4", **dashes}
        ET.SubElement(parent, "path", {"d": f"M{number(start)} {number(y)} L{number(end - 8)} {number(y)}", **look})
        corners = [(end, y), (end - 8, y - 3.5), (end - 8, y + 3.5)]
        ET.SubElement(parent, "polygon", points=" ".join(f"{number(a)},{number(b)}" for a, b in corners), fill=colour)
        if key in MARKS:
            pill(parent, (start, y), MARKS[key], colour)


def _ramp(parent: ET.Element, colours: tuple[str, ...], middle: Point) -> None:
    """Squares of fills, or a line that grows."""
    (x, y), wide = middle, _SAMPLE / len(colours)
    for place, fill in enumerate(colours):
        size, look = ((wide, 14.0), {"stroke": GREY}) if colours is HEAT else ((wide, 1.4 + 1.1 * place), {})
        rect(parent, (x + (place - len(colours) // 2) * wide, y), size, 0, fill=fill, **look)


def _fitting(words: str, size: float, wide: float) -> str:
    while len(words) > 1 and width(words, size, bold=True) > wide:
        words = short(words, len(words) - 1)
    return words


def listed(items: tuple[str, ...], wide: float, size: float = _TEXT) -> list[str]:
    """`a · b · c` over lines of at most this width; an item goes to the next line rather than over its end."""
    lines: list[str] = []
    for item in items:
        if lines and width(f"{lines[-1]} · {item}", size) <= wide:
            lines[-1] += f" · {item}"
        else:
            lines += _broken(item, wide, size)
    return lines


def _broken(words: str, wide: float, size: float = _TEXT) -> list[str]:
    """The words over lines of at most this width; one that is wider by itself is cut."""
    lines: list[str] = []
    for word in clean(words).split():
        if lines and width(f"{lines[-1]} {word}", size) <= wide:
            lines[-1] += f" {word}"
        else:
            lines.append(_fitting(word, size, wide))
    return lines or [""]
