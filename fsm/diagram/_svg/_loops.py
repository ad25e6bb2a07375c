"""Loops, beside their box. Graphviz lets other arrows run through them and puts their labels on other things."""

from __future__ import annotations

import math

from attrs import field, frozen

Point = tuple[float, float]
Size = tuple[float, float]

_PLACEHOLDER = (6.0, 12.0)  # one character of Courier 10
RECORD = 'shape="record" fixedsize="false" width="0" height="0" margin="0" fontname="Courier" fontsize="10"'
_BULGE = 24.0  # how far a loop stands out, at least
_AWAY = 4.0  # from the loop to its label
_LOOP_HIGH = 30.0  # room for one loop
HEAD = 8.0  # length of an arrowhead


@frozen
class Route:
    """An arrow's curve: the start and three points for each Bézier piece, the tip, and the middle of its label."""

    curve: tuple[Point, ...]
    tip: Point
    label: Point | None


@frozen
class Rect:
    """A column of a node: pixels from the top left."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, middle: Point, size: Size) -> Rect:
        (x, y), (wide, high) = middle, size
        return cls(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)

    def towards(self, point: Point) -> Point:
        """Where the line from the middle to the point leaves it."""
        (x, y), (wide, high) = self.middle, self.size
        across, down = point[0] - x, point[1] - y
        share = max(2 * abs(across) / max(wide, 1.0), 2 * abs(down) / max(high, 1.0), 1.0)
        return (x + across / share, y + down / share)

    @property
    def middle(self) -> Point:
        return ((self.left + self.right) / 2, (self.top + self.bottom) / 2)

    @property
    def size(self) -> Size:
        return (self.right - self.left, self.bottom - self.top)


def blank(size: Size) -> str:
    """A label of x-es in a font of known measure: the room that the real one will take."""
    wide, high = size
    line = "x" * math.ceil(wide / _PLACEHOLDER[0])
    return "\\n".join([line] * math.ceil(high / _PLACEHOLDER[1]))


@frozen
class Strip:
    """The labels of a box's loops, one above the other: a node beside the box, so that arrows keep clear of it."""

    box: str
    loops: tuple[tuple[str, Size | None], ...]  # ids, and sizes of labels
    on_left: bool = field(default=False, kw_only=True)

    @property
    def id(self) -> str:
        return f"x{self.box}"

    @property
    def size(self) -> Size:
        labels = [label or (0.0, 0.0) for _, label in self.loops]
        return (max(wide for wide, _ in labels), sum(max(high, _LOOP_HIGH) for _, high in labels))

    def routes(self, box: tuple[Point, Size], middle: Point) -> dict[str, Route]:
        """The loops from the box (middle, size) and their labels, given where the strip is."""
        side = -1 if self.on_left else 1
        border, edge = box[0][0] + side * box[1][0] / 2, middle[0] - side * self.size[0] / 2
        bulge = max(abs(edge - border) - _AWAY, _BULGE)
        slot = min(_LOOP_HIGH, (box[1][1] - 8) / len(self.loops))
        routes: dict[str, Route] = {}
        top = middle[1] - self.size[1] / 2
        for place, (ident, label) in enumerate(self.loops):
            wide, high = label or (0.0, 0.0)
            y = box[0][1] + (place - (len(self.loops) - 1) / 2) * slot
            half, out = slot * 0.34, border + side * bulge * 4 / 3
            start, end, tip = (border, y - half), (border + side * HEAD, y + half), (border, y + half)
            where = (edge + side * wide / 2, top + max(high, _LOOP_HIGH) / 2)
            routes[ident] = Route((start, (out, y - half), (out, y + half), end), tip, where if label else None)
            top += max(high, _LOOP_HIGH)
        return routes
