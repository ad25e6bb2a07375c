"""The picture as SVG: every element and attribute is written here, Graphviz only says where (X1).

There is no script, no style sheet, no link and no image in it, and the text of users is text nodes and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from attrs import frozen

from ._layout import Layout, Link, Point, Route, Size, lay_out
from ._looks import BLUE, FONT, GREY, INK, PALE, PANEL_LINE, RED, WHITE, colours_of, stroke_of
from ._model import Arrow, Box, Line, Picture
from ._panels import draw_heading, draw_legend, draw_note
from ._shapes import draw_shape, extra_of, is_inside, number, pill, pill_width, rect, text
from ._text import width

_NAME, _SMALL, _LABEL, _CAPTION = 14.0, 11.0, 11.5, 9.0  # font sizes
_ROW = 15.0  # from one label row to the next
_MARGIN = 20.0
_LEAST_WIDE = 460.0  # notes and legend need some room
_LABEL_WIDE = 280.0  # a label wider than this goes on below
_INDENT = 12.0
_DOT = 12.0  # the mark of the initial state
_START = "s0"
_FURTHEST = 30  # pixels from the rectangle around a box to its outline
_FRAME, _LEAVES = 14.0, 26.0  # room inside the frame; length of the arrow that leaves it


def to_svg(picture: Picture) -> str:
    """The picture as one self-contained SVG document."""
    labels = {arrow.id: _Label.of(arrow) for arrow in picture.arrows}
    sizes = {box.id: _size(box) for box in picture.boxes}
    links = [Link(a.id, a.source, a.dest, labels[a.id].size, loose=a.standard) for a in picture.arrows]
    if picture.initial is not None:
        sizes = {_START: (_DOT, _DOT), **sizes}
        links.insert(0, Link("e0", _START, picture.initial.id))
    layout = lay_out(sizes, tuple(links), _last(picture))
    frame = _FRAME if any(not note.wrong for note in picture.notes) else 0.0

    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": FONT})
    ET.SubElement(root, "title").text = picture.name
    paper = ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": WHITE})
    wide = max(layout.size[0] + 2 * frame, _LEAST_WIDE)
    y = draw_heading(root, picture, (_MARGIN, _MARGIN), wide)
    left = _MARGIN + (wide - layout.size[0]) / 2
    if frame:
        _draw_frame(root, (_MARGIN, y), (wide, layout.size[1] + 2 * frame))
    canvas = ET.SubElement(root, "g", transform=f"translate({number(left)} {number(y + frame)})")
    boxes = {box.id: box for box in picture.boxes}
    for arrow in picture.arrows:
        ends = (boxes[arrow.source], boxes[arrow.dest])
        route = _Fit(layout, sizes).to_outlines(layout.routes[arrow.id], *ends)
        _draw_arrow(canvas, arrow, route)
    if picture.initial is not None:
        _draw_start(canvas, layout.boxes[_START], layout.routes["e0"])
    for box in picture.boxes:
        _draw_box(canvas, box, layout.boxes[box.id], sizes[box.id])
    for arrow in picture.arrows:
        _draw_label(canvas, labels[arrow.id], layout.routes[arrow.id])
    y += layout.size[1] + (2 * frame + _LEAVES if frame else _MARGIN)
    for note in picture.notes:
        y = draw_note(root, note, (_MARGIN, y), wide) + 12
    y = draw_legend(root, picture, (_MARGIN, y), wide)
    _set_size(root, paper, (wide + 2 * _MARGIN, y + _MARGIN / 2))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _last(picture: Picture) -> tuple[str, ...]:
    """The exits that only standard rows lead to: at the bottom, out of the way."""
    used = {arrow.dest for arrow in picture.arrows if not arrow.standard}
    return tuple(box.id for box in picture.boxes if box.is_exit and box.id not in used)


def _draw_frame(parent: ET.Element, at: Point, size: Size) -> None:
    """As in a statechart, what holds for every state leaves the frame around all of them: to the note below."""
    (x, y), (wide, high) = at, size
    group = ET.SubElement(parent, "g", id="frame")
    look = {"fill": "none", "stroke": PANEL_LINE, "stroke_dasharray": "4 3"}
    rect(group, (x + wide / 2, y + high / 2), size, 10, **look)
    start, tip = (x + 30, y + high), (x + 30, y + high + _LEAVES)
    end = (tip[0], tip[1] - 8)
    third = (start[0], (start[1] + end[1]) / 2)
    _draw_curve(group, Route((start, third, third, end), tip, None), PALE, 1.2, dashed=True)


def _set_size(root: ET.Element, paper: ET.Element, size: Size) -> None:
    wide, high = number(size[0]), number(size[1])
    root.attrib |= {"width": wide, "height": high, "viewBox": f"0 0 {wide} {high}"}
    paper.attrib |= {"width": wide, "height": high}


# --- boxes -----------------------------------------------------------------------------------------------------------


def _size(box: Box) -> Size:
    rows = [width(box.caption.upper(), _CAPTION, bold=True) * 1.08, width(box.name, _NAME, bold=True)]
    rows += [width(detail, _SMALL) for detail in box.details]
    extra = extra_of(box.shape)
    return (max(max(rows) + 26 + extra[0], 92), 44 + 14 * len(box.details) + extra[1])


def _draw_box(parent: ET.Element, box: Box, middle: Point, size: Size) -> None:
    group = ET.SubElement(parent, "g", id=box.id)
    ET.SubElement(group, "title").text = box.title
    fill, stroke = colours_of(box)
    if box.current:
        look = {"fill": WHITE, "stroke": BLUE, "stroke_width": "3"}
        draw_shape(group, box.shape, middle, (size[0] + 12, size[1] + 12), look=look, plain=True)
    look = {"fill": fill, "stroke": stroke, "stroke_width": "2.4" if box.findings else "1.6"}
    draw_shape(group, box.shape, middle, size, look=look, plain=False)
    x, y = middle
    ink, grey = (PALE, PALE) if box.faded else (INK, GREY)
    row = y - 7 * len(box.details) - 7
    bold = {"font_weight": "bold", "text_anchor": "middle"}
    text(
        group, (x, row), box.caption.upper(), _CAPTION, fill=grey if box.faded else stroke, letter_spacing="0.5", **bold
    )
    row += 17
    text(group, (x, row), box.name, _NAME, fill=ink, **bold)
    for detail in box.details:
        row += 14
        text(group, (x, row), detail, _SMALL, fill=grey, text_anchor="middle")
    at, top = x + size[0] / 2 - 6, y - size[1] / 2
    for finding in reversed(box.findings):
        at -= pill_width(finding)
        pill(group, (at, top), finding, RED)
    if box.current:
        pill(group, (x - pill_width("here") / 2, y + size[1] / 2 + 6), "here", BLUE)


def _draw_start(parent: ET.Element, middle: Point, route: Route) -> None:
    group = ET.SubElement(parent, "g", id=_START)
    ET.SubElement(group, "title").text = "the run starts here"
    _draw_curve(group, route, INK, 1.4)
    ET.SubElement(group, "circle", cx=number(middle[0]), cy=number(middle[1]), r=number(_DOT / 2), fill=INK)


# --- arrows ----------------------------------------------------------------------------------------------------------


def _draw_arrow(parent: ET.Element, arrow: Arrow, route: Route) -> None:
    colour, thick = stroke_of(arrow)
    group = ET.SubElement(parent, "g", id=arrow.id)
    ET.SubElement(group, "title").text = arrow.title
    _draw_curve(group, route, colour, thick, dashed=arrow.standard)


def _draw_curve(parent: ET.Element, route: Route, colour: str, thick: float, *, dashed: bool = False) -> None:
    start, *rest = (f"{number(x)} {number(y)}" for x, y in route.curve)
    look = {"fill": "none", "stroke": colour, "stroke-width": number(thick)}
    if dashed:
        look["stroke-dasharray"] = "4 3"
    ET.SubElement(parent, "path", {"d": f"M{start} C{' '.join(rest)}", **look})
    (x, y), (tip_x, tip_y) = route.curve[-1], route.tip
    long = max(((tip_x - x) ** 2 + (tip_y - y) ** 2) ** 0.5, 0.01)
    half = 3.0 + thick / 2
    across_x, across_y = -(tip_y - y) / long * half, (tip_x - x) / long * half
    corners = [(tip_x, tip_y), (x + across_x, y + across_y), (x - across_x, y - across_y)]
    ET.SubElement(parent, "polygon", points=" ".join(f"{number(a)},{number(b)}" for a, b in corners), fill=colour)


@frozen
class _Fit:
    """Graphviz ends arrows at the rectangle around a box; other outlines are reached by going straight on."""

    layout: Layout
    sizes: Mapping[str, Size]

    def to_outlines(self, route: Route, source: Box, dest: Box) -> Route:
        first, second, *_ = route.curve
        start = self._onto(source, second, first)
        base = route.curve[-1]
        tip = self._onto(dest, base, route.tip)
        moved = (base[0] + tip[0] - route.tip[0], base[1] + tip[1] - route.tip[1])
        # A straight Bézier piece has its control points on the line.
        return Route((start, start, first, *route.curve, base, moved, moved), tip, route.label)

    def _onto(self, box: Box, before: Point, end: Point) -> Point:
        (x, y), middle, size = end, self.layout.boxes[box.id], self.sizes[box.id]
        long = max(math.hypot(x - before[0], y - before[1]), 0.01)
        step_x, step_y = (x - before[0]) / long, (y - before[1]) / long
        for step in range(_FURTHEST):
            point = (x + step * step_x, y + step * step_y)
            if is_inside(box.shape, middle, size, point):
                return point
        return end


@frozen
class _Row:
    """One row of a label: pills, then words, the ones that go on from the row above set in."""

    parts: tuple[str, ...]
    line: Line | None = None  # None where it goes on

    @property
    def left(self) -> float:
        """Where the words start."""
        return sum(pill_width(mark) + 4 for mark in self.line.marks) if self.line else _INDENT


@frozen
class _Label:
    rows: tuple[_Row, ...]
    colour: str
    strong: bool  # rows of the workflow's own

    @classmethod
    def of(cls, arrow: Arrow) -> _Label:
        rows: list[_Row] = []
        for line in arrow.lines:
            whole = _Row(line.parts, line)
            if len(line.parts) > 1 and whole.left + width(" ".join(line.parts), _LABEL, bold=True) > _LABEL_WIDE:
                rows += [_Row(line.parts[:1], line), *(_Row((part,)) for part in line.parts[1:])]
            else:
                rows.append(whole)
        colour = RED if arrow.wrong else BLUE if arrow.taken else PALE if arrow.faded else INK
        return cls(tuple(rows), GREY if arrow.standard and colour == INK else colour, not arrow.standard)

    @property
    def size(self) -> Size:
        wide = max((row.left + width(" ".join(row.parts), _LABEL, bold=self.strong) for row in self.rows), default=0)
        return (wide + 10, _ROW * len(self.rows) + 2)


def _draw_label(parent: ET.Element, label: _Label, route: Route) -> None:
    if route.label is None:
        return
    wide, high = label.size
    left, y = route.label[0] - wide / 2 + 5, route.label[1] - high / 2 + 12
    for row in label.rows:
        x = left + (0 if row.line else _INDENT)
        for mark in row.line.marks if row.line else ():
            x += pill(parent, (x, y - 4), mark, RED if row.line and mark in row.line.findings else BLUE) + 4
        # Where a curve runs through a label, the label stays legible. Outlined letters would look lighter, but need
        # `paint-order`: converters that do not know it paint the outline over the letters.
        wide = width(" ".join(row.parts), _LABEL, bold=label.strong) + 4
        rect(parent, (x - 2 + wide / 2, y - 4), (wide, _ROW - 1), 3, fill=WHITE, fill_opacity="0.85")
        words = ET.SubElement(parent, "text", {"x": number(x), "y": number(y), "font-size": number(_LABEL)})
        for place, part in enumerate(row.parts):
            is_event = place == 0 and row.line is not None
            look = {"fill": label.colour if is_event or label.colour != INK else GREY}
            if is_event and label.strong:
                look["font-weight"] = "bold"
            ET.SubElement(words, "tspan", look).text = f" {part}" if place else part
        y += _ROW
