"""The boxes: who acts, the name, what else must be known, and the mark of where it starts."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from fsm.diagram._looks import BLUE, CHANGED, FADED_INK, GREY, INK, RED, WHITE, colours_of
from fsm.diagram._model import MARKS, Box
from fsm.diagram._text import width

from ._arrows import draw_curve
from ._layout import Point, Route, Size
from ._shapes import draw_shape, extra_of, number, pill, pill_width, text

START = "s0"
DOT = 12.0  # the mark of the initial state

_RING, _RING_WIDE = 12.0, 3.0  # how much larger than its box the ring of the current state is; its stroke
_NAME, _SMALL, _CAPTION = 14.0, 11.0, 9.0  # font sizes


def size_of(box: Box) -> Size:
    """The room that the outline needs."""
    rows = [width(box.caption.upper(), _CAPTION, bold=True) * 1.08, width(box.name, _NAME, bold=True)]
    rows += [width(line, _SMALL) for line in box.lines]
    extra = extra_of(box.shape)
    return (max(max(rows) + 26 + extra[0], 92), 44 + 14 * len(box.lines) + extra[1])


def room_of(box: Box) -> Size:
    """The room that it takes, with the ring of the state that a run is in: arrows end there."""
    wide, high = size_of(box)
    ring = _RING + _RING_WIDE if box.current else 0.0
    return (wide + ring, high + ring)


def draw_box(parent: ET.Element, box: Box, middle: Point, size: Size) -> None:
    """The outline with its words, and the marks of a run and of findings."""
    group = ET.SubElement(parent, "g", id=box.id)
    ET.SubElement(group, "title").text = box.title
    fill, stroke = colours_of(box)
    if box.current:
        look = {"fill": WHITE, "stroke": BLUE, "stroke_width": number(_RING_WIDE)}
        draw_shape(group, box.shape, middle, (size[0] + _RING, size[1] + _RING), look=look, plain=True)
    look = {"fill": fill, "stroke": stroke, "stroke_width": "2.4" if box.findings or box.change else "1.6"}
    if box.change == "removed":
        look["stroke_dasharray"] = "5 4"
    draw_shape(group, box.shape, middle, size, look=look, plain=False)
    x, y = middle
    ink, grey = (FADED_INK, FADED_INK) if box.faded else (INK, GREY)
    caption = grey if box.faded or box.heat is not None else stroke
    row = y - 7 * len(box.lines) - 7
    bold = {"font_weight": "bold", "text_anchor": "middle"}
    text(group, (x, row), box.caption.upper(), _CAPTION, fill=caption, letter_spacing="0.5", **bold)
    row += 17
    struck = {"text_decoration": "line-through"} if box.change == "removed" else {}
    text(group, (x, row), box.name, _NAME, fill=ink, **bold, **struck)
    told = CHANGED[box.change] if box.change else BLUE if box.heat is None else INK
    for place, line in enumerate(box.lines):
        row += 14
        text(group, (x, row), line, _SMALL, fill=grey if place < len(box.details) else told, text_anchor="middle")
    at, top = x + size[0] / 2 - 6, y - size[1] / 2
    for finding in reversed(box.findings):
        at -= pill_width(finding)
        pill(group, (at, top), finding, RED)
    if box.change:
        pill(group, (x - size[0] / 2 + 6, top), MARKS[box.change], CHANGED[box.change])
    if box.current:
        pill(group, (x - pill_width("here") / 2, y + size[1] / 2 + 6), "here", BLUE)


def draw_start(parent: ET.Element, middle: Point, route: Route) -> None:
    """The dot, and the arrow to the first state."""
    group = ET.SubElement(parent, "g", id=START)
    ET.SubElement(group, "title").text = "the run starts here"
    draw_curve(group, route, INK, 1.4)
    ET.SubElement(group, "circle", cx=number(middle[0]), cy=number(middle[1]), r=number(DOT / 2), fill=INK)
