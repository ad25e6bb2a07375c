"""The SVG as PNG or PDF, drawn by Graphviz: its `_background` takes drawing instructions (xdot) as they are.

So an image shows what the SVG shows, bold names and badges included, without a second layout and without a browser.
Texts of users stand in the instructions with their length in bytes before them (X1).

Source: https://graphviz.org/docs/attr-types/xdot/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal
from xml.etree import ElementTree as ET

from fsm._errors import MissingProgram
from fsm.diagram._looks import FONT
from fsm.diagram._text import advance

from ._layout import Point
from ._program import DotFailed, DotMissing, dot

ImageFormat = Literal["png", "pdf"]

_DPI = {"png": 144, "pdf": 72}  # 72 units an inch there, and a unit is a pixel of the SVG: a PNG has two for each
_BEGINS = {"png": b"\x89PNG\r\n", "pdf": b"%PDF-"}
_CREATED = re.compile(rb"(/CreationDate \(D:)(\d{4,14})")
_SEMIBOLD = 600
_ANCHORS = {"start": -1, "middle": 0, "end": 1}
_ROUND = 0.5523  # where the control points of a quarter of a circle lie, as a share of the radius
_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*)")
_DRAWN = {"rect", "circle", "polygon", "polyline", "path", "text"}
_INHERITED = re.compile(r"(fill|stroke|font|text-anchor)(-|$)")
_HINTED = 1.03  # letters are put on whole dots, which makes words a little longer
_TRANSPARENT = "#00000000"


def to_image(svg: str, format: ImageFormat) -> bytes:
    """The picture as an image file.

    Raises:
        MissingProgram: there is no `dot`, or it cannot make this format; install what the message names, or take SVG.
    """
    source = _source(svg, _DPI[format]).encode()
    failed = ""
    try:
        drawn = dot(source, "neato", format, renderer="cairo", neato_no_op=2)
        if drawn.startswith(_BEGINS[format]):
            return _undated(drawn) if format == "pdf" else drawn
        failed = f"what it makes is no {format.upper()}"
    except DotMissing:
        pass
    except DotFailed as error:
        failed = str(error)
    instead = "SVG shows the same and needs no program"
    raise MissingProgram("dot", f"drawing {format.upper()}", "graphviz", instead, failed=failed)


def _undated(pdf: bytes) -> bytes:
    """The file without the time of its making, which not every version of cairo can be told: equal graphs, equal bytes.

    As long as before, since a PDF counts its bytes.
    """
    return _CREATED.sub(lambda found: found[1] + b"19800101000000"[: len(found[2])], pdf)


def _source(svg: str, dpi: int) -> str:
    """A graph of two invisible points that span the page, with the picture behind them."""
    root = ET.fromstring(svg)  # noqa: S314 - our own output, and expat refuses entity bombs
    wide, high = float(root.get("width", "")), float(root.get("height", ""))
    # Pieces that are put together again: the lexer of Graphviz takes at most 16384 characters in one string.
    drawn = " + ".join(f'"{instruction} "' for instruction in _drawn(root, {}, (0.0, high)))
    point = 'style=invis shape=point label="" width=0 height=0'
    return (
        f'digraph {{ graph [margin=0 pad=0 dpi={dpi} viewport="{wide:g},{high:g},1,{wide / 2:g},{high / 2:g}" '
        f"_background={drawn}] "
        f'a [{point} pos="0,0!"] b [{point} pos="{wide:g},{high:g}!"] }}'
    )


def _drawn(element: ET.Element, outer: Mapping[str, str], origin: Point) -> Iterator[str]:
    """The instructions for an element and what is in it; `origin` is its place from the bottom left, y goes up."""
    look = {**outer, **element.attrib}
    tag = element.tag.rpartition("}")[2]
    if move := re.fullmatch(r"translate\(\s*([-\d.]+)[ ,]+([-\d.]+)\s*\)", element.get("transform", "")):
        origin = (origin[0] + float(move[1]), origin[1] - float(move[2]))
    if tag == "text":
        yield from _text(element, look, origin)
    elif tag in _DRAWN:
        yield from _outline(tag, look, origin)
    else:
        for inner in element:
            yield from _drawn(inner, {name: look[name] for name in look if _INHERITED.match(name)}, origin)


def _outline(tag: str, look: Mapping[str, str], origin: Point) -> Iterator[str]:
    fill, stroke = _colour(look, "fill", "#000000"), _colour(look, "stroke", "none")
    if stroke is not None:
        dashed = look.get("stroke-dasharray", "none") != "none"
        yield _sized("S", f"setlinewidth({float(look.get('stroke-width', 1)):g})")
        yield _sized("S", "dashed" if dashed else "solid")
    yield _sized("c", stroke or _TRANSPARENT)
    if fill is not None:
        yield _sized("C", fill)
    curve = _curve(tag, look)
    points = " ".join(f"{origin[0] + x:g} {origin[1] - y:g}" for x, y in curve)
    kinds = {"polygon": "pP", "polyline": "LP"}.get(tag, "Bb")
    yield f"{kinds[fill is not None]} {len(curve)} {points}"


def _curve(tag: str, look: Mapping[str, str]) -> Sequence[Point]:
    """The corners of a polygon or polyline; of all else the points of a Bézier curve."""
    if tag in {"polygon", "polyline"}:
        flat = [float(number) for number in re.split(r"[ ,]+", look["points"].strip())]
        return list(zip(flat[::2], flat[1::2], strict=True))
    if tag == "path":
        return _path(look["d"])
    if tag == "circle":
        radius = float(look["r"])
        x, y = float(look.get("cx", 0)) - radius, float(look.get("cy", 0)) - radius
        return _rounded((x, y), (2 * radius, 2 * radius), radius)
    place, size = (float(look.get("x", 0)), float(look.get("y", 0))), (float(look["width"]), float(look["height"]))
    return _rounded(place, size, float(look.get("rx", 0)))


def _rounded(place: Point, size: Point, radius: float) -> Sequence[Point]:
    """A rectangle with round corners, clockwise from the end of its top left one."""
    (left, top), (right, bottom) = place, (place[0] + size[0], place[1] + size[1])
    across, down = min(radius, size[0] / 2), min(radius, size[1] / 2)
    corners = (
        ((right - across, top), (right, top), (right, top + down)),
        ((right, bottom - down), (right, bottom), (right - across, bottom)),
        ((left + across, bottom), (left, bottom), (left, bottom - down)),
        ((left, top + down), (left, top), (left + across, top)),
    )
    points = [(left + across, top)]
    for start, corner, end in corners:
        points += [points[-1], start, start]  # the straight piece before it
        points += [_between(start, corner, _ROUND), _between(end, corner, _ROUND), end]
    return points


def _between(one: Point, other: Point, share: float) -> Point:
    return (one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share)


def _path(data: str) -> Sequence[Point]:
    """The Bézier points of a path of the commands M, L, C and Z; straight pieces have their control points on them."""
    points: list[Point] = []
    for command, given in _COMMAND.findall(data):
        flat = [float(number) for number in re.split(r"[ ,]+", given.strip()) if number]
        ends = list(zip(flat[::2], flat[1::2], strict=True))
        if command in "MC":
            points += ends
        elif command in "LZ":
            for end in ends or points[:1]:
                points += [points[-1], end, end]
        else:
            msg = f"a path of the picture has the command {command!r}, which images do not know"
            raise AssertionError(msg)
    return points


# --- words -----------------------------------------------------------------------------------------------------------


def _text(element: ET.Element, look: Mapping[str, str], origin: Point) -> Iterator[str]:
    """Each piece of a text by itself, one after the other, since a style holds for all of an instruction."""
    x, y = origin[0] + float(look.get("x", 0)), origin[1] - float(look.get("y", 0))
    pieces = list(_pieces(element, look))
    anchor = look.get("text-anchor", "start")
    if len(pieces) > 1 and anchor != "start":
        whole = sum(_advance(words, own) for words, own in pieces)
        x, anchor = x - whole / (2 if anchor == "middle" else 1), "start"
    for words, own in pieces:
        lead = words[: len(words) - len(words.lstrip())]
        yield from _words(words.strip(), own, (x + _advance(lead, own), y), anchor)
        x += _advance(words, own) * _HINTED


def _pieces(element: ET.Element, look: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The words with their looks; as in SVG, several spaces count as one, and those at the start as none."""
    given = [(element.text, look)]
    for inner in element:
        given += [(inner.text, {**look, **inner.attrib}), (inner.tail, look)]
    apart: bool | None = None  # whether a space came before; None at the start
    for words, own in ((words or "", own) for words, own in given):
        if words.strip():
            joint = " " if apart or (apart is not None and words[0].isspace()) else ""
            yield (joint + " ".join(words.split()), own)
            apart = words[-1].isspace()
        elif words and apart is not None:
            apart = True


def _words(words: str, look: Mapping[str, str], at: Point, anchor: str) -> Iterator[str]:
    size = float(look.get("font-size", 12))
    yield _sized("c", _colour(look, "fill", "#000000") or _TRANSPARENT)
    yield _sized(f"F {size:g}", FONT)
    yield f"t {int(_is_bold(look))}"
    yield f"T {at[0]:g} {at[1]:g} {_ANCHORS[anchor]} {_advance(words, look):g} {_escaped(words)}"


def _advance(words: str, look: Mapping[str, str]) -> float:
    return advance(words, float(look.get("font-size", 12)), bold=_is_bold(look))


def _is_bold(look: Mapping[str, str]) -> bool:
    weight = look.get("font-weight", "normal")
    return weight == "bold" or (weight.isdigit() and int(weight) >= _SEMIBOLD)


def _colour(look: Mapping[str, str], name: str, default: str) -> str | None:
    """`#rrggbb`, with the opacity where it is not whole; None for `none`."""
    colour = look.get(name, default)
    opacity = float(look.get(f"{name}-opacity", 1)) * float(look.get("opacity", 1))
    if colour == "none" or not opacity:
        return None
    return colour if opacity >= 1 else f"{colour}{math.floor(opacity * 255):02x}"


def _sized(instruction: str, value: str) -> str:
    return f"{instruction} {len(value)} -{value}"


def _escaped(words: str) -> str:
    r"""Length and words within a quoted string of DOT, which knows one escape, `\"`.

    A backslash before a quote would make it end the string, so a space of no width keeps them apart.
    """
    kept = re.sub(r'\\(?=")', "\\\\\u200b", words)
    return f"{len(kept.encode())} -" + kept.replace('"', '\\"')
