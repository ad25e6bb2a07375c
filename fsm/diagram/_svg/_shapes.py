"""SVG primitives: text, pills, and one outline for each kind, so that a glance tells who acts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.etree import ElementTree as ET

from fsm.diagram._looks import INK, WHITE
from fsm.diagram._text import width

from ._layout import Point, Size

_PILL = 10.0  # font size of the words on a pill


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{round(value, 1) + 0:g}"  # + 0 turns -0.0 into 0.0


def text(parent: ET.Element, at: Point, words: str, size: float, **look: str) -> None:
    """Words at a place; `look` are attributes, with `_` for `-`."""
    attributes = {"x": number(at[0]), "y": number(at[1]), "font-size": number(size), "fill": INK}
    attributes |= {name.replace("_", "-"): value for name, value in look.items()}
    ET.SubElement(parent, "text", attributes).text = words


def pill_width(words: str) -> float:
    """How wide a pill with these words is."""
    return width(words, _PILL, bold=True) + 10


def pill(parent: ET.Element, at: Point, words: str, fill: str) -> float:
    """White words on a coloured pill whose left middle is `at`; gives its width."""
    wide = pill_width(words)
    rect(parent, (at[0] + wide / 2, at[1]), (wide, 14), 7, fill=fill)
    text(parent, (at[0] + wide / 2, at[1] + 3.5), words, _PILL, fill=WHITE, font_weight="bold", text_anchor="middle")
    return wide


def rect(parent: ET.Element, middle: Point, size: Size, radius: float, **look: str) -> None:
    """A rectangle around its middle."""
    (x, y), (wide, high) = middle, size
    place = {"x": number(x - wide / 2), "y": number(y - high / 2), "width": number(wide), "height": number(high)}
    attributes = {**place, "rx": number(radius)} | {name.replace("_", "-"): value for name, value in look.items()}
    ET.SubElement(parent, "rect", attributes)


def extra_of(shape: str) -> Size:
    """What the outline needs besides the text, in width and height."""
    return _EXTRA.get(shape, (0.0, 0.0))


_EXTRA = {
    "Tools": (16.0, 0.0),
    "Approval": (26.0, 0.0),
    "Human": (16.0, 0.0),
    "Code": (8.0, 0.0),
    "Child": (8.0, 4.0),
    "Group": (8.0, 6.0),
    "Final": (22.0, 6.0),
    "Failed": (22.0, 6.0),
}
_CUT = 18.0  # how far the points of a hexagon stick out
_RING = 4.0  # between the two rings of a final state
_BAR = 7.0  # from the side of a Tools box to its bar
_FOLD = 11.0  # the folded corner of a Code box


def draw_shape(parent: ET.Element, shape: str, middle: Point, size: Size, *, look: dict[str, str], plain: bool) -> None:
    """The outline of a kind. `plain` leaves out what is inside of it: bars, rings, folded corners."""
    high = size[1]
    if shape in {"Final", "Failed"}:
        rings = [size] if plain else [size, (size[0] - 2 * _RING, high - 2 * _RING)]
        for ring in rings:
            if shape == "Final":
                rect(parent, middle, ring, ring[1] / 2, **look)
            else:
                _polygon(parent, _octagon(middle, ring), look)
        return
    if shape == "Approval":
        _polygon(parent, _hexagon(middle, size), look)
        return
    if shape == "Code" and not plain:
        _folded(parent, middle, size, look)
        return
    rect(
        parent,
        middle,
        size,
        {"Claude": min(12, high / 5), "Human": high / 2, "Child": 4, "Group": 4}.get(shape, 2),
        **look,
    )
    if not plain:
        _draw_inside(parent, shape, middle, size, look)


def _draw_inside(parent: ET.Element, shape: str, middle: Point, size: Size, look: dict[str, str]) -> None:
    (x, y), (wide, high) = middle, size
    if shape == "Tools":
        for side in (-1, 1):
            bar = x + side * (wide / 2 - _BAR)
            _line(parent, [(bar, y - high / 2), (bar, y + high / 2)], look)
    elif shape == "Child":
        rect(parent, middle, (wide - 6, high - 6), 3, **look)
    elif shape == "Group":
        for down in (3.5, 7.0):  # sheets below the first: there is more than one state in it
            half, bottom = wide / 2 - down, y + high / 2 + down
            ends = [(x + half, bottom), (x + half, bottom - 2)]
            _line(parent, [(x - half, bottom - 2), (x - half, bottom), *ends], look)


def is_inside(shape: str, middle: Point, size: Size, point: Point) -> bool:
    """Whether the point lies inside of the outline."""
    across, down = abs(point[0] - middle[0]), abs(point[1] - middle[1])
    wide, high = size[0] / 2, size[1] / 2
    if shape == "Approval":
        return across <= wide - _CUT * down / high
    if shape == "Failed":
        return across <= wide and down <= high and across + down <= wide + high * (math.sqrt(2) - 1)
    if shape in {"Human", "Final"}:
        return math.hypot(max(across - wide + high, 0), down) <= high
    return across <= wide and down <= high


def _hexagon(middle: Point, size: Size) -> list[Point]:
    (x, y), (wide, high) = middle, (size[0] / 2, size[1] / 2)
    flat = wide - min(_CUT, wide / 2)  # in the legend it is small, and a hexagon all the same
    top, bottom = [(x - flat, y - high), (x + flat, y - high)], [(x + flat, y + high), (x - flat, y + high)]
    return [(x - wide, y), *top, (x + wide, y), *bottom]


def _octagon(middle: Point, size: Size) -> list[Point]:
    (x, y), (wide, high) = middle, (size[0] / 2, size[1] / 2)
    cut = high * (2 - math.sqrt(2))
    ends = [(wide, high - cut), (wide - cut, high)]
    right = [(x + a, y - b) for a, b in ends[::-1]] + [(x + a, y + b) for a, b in ends]
    left = [(x - a, y + b) for a, b in ends[::-1]] + [(x - a, y - b) for a, b in ends]
    return right + left


def _folded(parent: ET.Element, middle: Point, size: Size, look: dict[str, str]) -> None:
    (x, y), (wide, high) = middle, (size[0] / 2, size[1] / 2)
    fold = (x + wide - _FOLD, y - high), (x + wide, y - high + _FOLD)
    _polygon(parent, [(x - wide, y - high), *fold, (x + wide, y + high), (x - wide, y + high)], look)
    _line(parent, [fold[0], (fold[0][0], fold[1][1]), fold[1]], look)


def _polygon(parent: ET.Element, points: Iterable[Point], look: dict[str, str]) -> None:
    ET.SubElement(parent, "polygon", {"points": _points(points), "stroke-linejoin": "round", **_dashes(look)})


def _line(parent: ET.Element, points: Iterable[Point], look: dict[str, str]) -> None:
    ET.SubElement(parent, "polyline", {"points": _points(points), **_dashes(look), "fill": "none"})


def _dashes(look: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in look.items()}


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)
