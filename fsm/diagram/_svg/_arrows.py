"""The arrows: curves that end at the outlines, and labels that stay legible where a curve runs through them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET

from attrs import frozen

from fsm.diagram._looks import BLUE, CHANGED, FADED_INK, GREY, INK, RED, WHITE, badge_colour, stroke_of
from fsm.diagram._model import Arrow, Box, Line
from fsm.diagram._text import width

from ._layout import Layout, Point, Route, Size
from ._shapes import is_inside, number, pill, pill_width, rect

_LABEL = 11.5  # font size
_FACT = 10.0  # font size of what runs did
_ROW = 15.0  # from one label row to the next
_LABEL_WIDE = 280.0  # a label wider than this goes on below
_FACTS_WIDE = 150.0
_INDENT = 12.0
_STEP = 6.0  # pixels from point to point of a curve
_FURTHEST = 30  # pixels from the rectangle around a box to its outline


def draw_arrow(parent: ET.Element, arrow: Arrow, route: Route) -> None:
    """The line of an arrow, and what shows when the mouse rests on it."""
    colour, thick = stroke_of(arrow)
    group = ET.SubElement(parent, "g", id=arrow.id)
    ET.SubElement(group, "title").text = arrow.title
    draw_curve(group, route, colour, thick, dashed=arrow.standard or arrow.change == "removed")


def draw_curve(parent: ET.Element, route: Route, colour: str, thick: float, *, dashed: bool = False) -> None:
    """A line along the route, with a filled head."""
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


def points_on(route: Route) -> Iterator[Point]:
    """Points along a route, close enough to see what it runs through."""
    curve = route.curve
    for at in range(0, len(curve) - 3, 3):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = curve[at : at + 4]
        pieces = max(int((abs(x3 - x0) + abs(y3 - y0)) / _STEP), 4)
        for piece in range(pieces + 1):
            t = piece / pieces
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            yield (a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3)
    yield route.tip


@frozen
class Fit:
    """Graphviz ends arrows at the rectangle around a box; other outlines are reached by going straight on."""

    layout: Layout
    sizes: Mapping[str, Size]

    def to_outlines(self, route: Route, source: Box, dest: Box) -> Route:
        """The route, made longer where an outline is smaller than its rectangle."""
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
    colour: str
    line: Line | None = None  # None where it goes on
    is_fact: bool = False  # what runs did there, small

    @property
    def left(self) -> float:
        """Where the words start."""
        return sum(pill_width(mark) + 4 for mark in self.line.marks) if self.line else _INDENT

    def right(self, *, strong: bool) -> float:
        """Where they end."""
        size = _FACT if self.is_fact else _LABEL
        return self.left + width(" ".join(self.parts), size, bold=strong and not self.is_fact)


def _colour(arrow: Arrow, line: Line) -> str:
    """Of a row's words: in a heat map the line has the colour, and words stay legible."""
    is_hot = arrow.taken and arrow.heat is not None
    if line.findings or (line.stuck and not is_hot):
        return RED
    if line.change:
        return CHANGED[line.change]
    if line.taken:
        return INK if is_hot else BLUE
    is_past = arrow.faded or (arrow.taken and not line.taken)
    return FADED_INK if is_past else GREY if arrow.standard else INK


def _rows_of(facts: tuple[str, ...]) -> list[str]:
    """`4.1 s, 1.2k tok` on as few rows as it takes."""
    rows: list[str] = []
    for fact in facts:
        joined = f"{rows[-1]}, {fact}" if rows else fact
        if rows and width(joined, _FACT) <= _FACTS_WIDE:
            rows[-1] = joined
        else:
            rows.append(fact)
    return rows


@frozen
class Label:
    """The words of an arrow, as rows of known size."""

    rows: tuple[_Row, ...]
    strong: bool  # rows of the workflow's own

    @classmethod
    def of(cls, arrow: Arrow) -> Label:
        """One row for each of its lines; long ones go on below."""
        rows: list[_Row] = []
        for line in arrow.lines:
            colour = _colour(arrow, line)
            whole = _Row(line.parts, colour, line)
            if len(line.parts) > 1 and whole.left + width(" ".join(line.parts), _LABEL, bold=True) > _LABEL_WIDE:
                rows += [_Row(line.parts[:1], colour, line), *(_Row((part,), colour) for part in line.parts[1:])]
            else:
                rows.append(whole)
            rows += [_Row((row,), colour, is_fact=True) for row in _rows_of(line.facts)]
        return cls(tuple(rows), not arrow.standard)

    @property
    def size(self) -> Size:
        """The room that it takes."""
        wide = max((row.right(strong=self.strong) for row in self.rows), default=0)
        return (wide + 10, _ROW * len(self.rows) + 2)


def draw_label(parent: ET.Element, ident: str, label: Label, route: Route) -> None:
    """The rows of an arrow; `l` and its id name the group, in which each of its lines is one."""
    if route.label is None:
        return
    whole = ET.SubElement(parent, "g", id=f"l{ident}")
    wide, high = label.size
    left, y = route.label[0] - wide / 2 + 5, route.label[1] - high / 2 + 12
    for row in label.rows:
        parent = ET.SubElement(whole, "g") if row.line or not len(whole) else whole[-1]
        x = left + (0 if row.line else _INDENT)
        for mark, role in row.line.badges if row.line else ():
            x += pill(parent, (x, y - 4), mark, badge_colour(role)) + 4
        # Where a curve runs through a label, the label stays legible. Outlined letters would look lighter, but need
        # `paint-order`: converters that do not know it paint the outline over the letters.
        wide = row.right(strong=label.strong) - row.left + 4
        rect(parent, (x - 2 + wide / 2, y - 4), (wide, _ROW - 1), 3, fill=WHITE, fill_opacity="0.85")
        size = _FACT if row.is_fact else _LABEL
        words = ET.SubElement(parent, "text", {"x": number(x), "y": number(y), "font-size": number(size)})
        for place, part in enumerate(row.parts):
            is_event = place == 0 and row.line is not None
            look = {
                "fill": row.colour
                if is_event or (row.colour not in {INK, *CHANGED.values()} and not row.is_fact)
                else GREY
            }
            if is_event and label.strong:
                look["font-weight"] = "bold"
            if row.line and row.line.change == "removed":
                look["text-decoration"] = "line-through"
            ET.SubElement(words, "tspan", look).text = f" {part}" if place else part
        y += _ROW
