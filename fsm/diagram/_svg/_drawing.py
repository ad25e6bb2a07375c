"""The picture as SVG: every element and attribute is written here, Graphviz only says where (X1).

There is no script, no link and no image in it, no style sheet but the fixed one of the theme `auto`, and the text of
users is text nodes and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from xml.etree import ElementTree as ET

from attrs import evolve, frozen

from fsm.diagram._looks import FONT, PALE, PANEL_LINE, WHITE, put_theme
from fsm.diagram._model import Arrow, Box, Frame, Picture, Theme

from ._arrows import Fit, Label, draw_arrow, draw_curve, draw_label, points_on
from ._boxes import DOT, START, draw_box, draw_start, room_of, size_of
from ._layout import Cluster, Layout, Link, Point, Route, Size, lay_out
from ._panels import draw_heading, draw_legend, draw_note
from ._shapes import number, rect
from ._tags import Tag, draw_frame, draw_frame_title, draw_tag, draw_tag_arrow, frame_title, tags_of

_MARGIN = 20.0
_LEAST_WIDE = 460.0  # notes and legend need some room
_GAP = 18.0  # between exits that stand by themselves
_FRAME, _LEAVES = 14.0, 26.0  # room inside the frame; length of the arrow that leaves it


def to_svg(picture: Picture, *, theme: Theme = "light") -> str:
    """The picture as one self-contained SVG document.

    Args:
        picture: what is drawn.
        theme: `auto` holds both colour schemes, and the reader's own decides.
    """
    drawing = _Drawing.of(picture)
    layout = drawing.laid_out()
    frame = _FRAME if any(note.standard for note in picture.notes) else 0.0

    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": FONT})
    ET.SubElement(root, "title").text = picture.name
    paper = ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": WHITE})
    wide = max(layout.size[0] + 2 * frame, _LEAST_WIDE)
    y = draw_heading(root, picture, (_MARGIN, _MARGIN), wide)
    left = _MARGIN + (wide - layout.size[0]) / 2
    if frame:
        _draw_frame(root, (_MARGIN, y), (wide, layout.size[1] + 2 * frame))
    canvas = ET.SubElement(root, "g", transform=f"translate({number(left)} {number(y + frame)})")
    drawing.draw(canvas, layout)
    y += layout.size[1] + (2 * frame + _LEAVES if frame else _MARGIN)
    for note in picture.notes:
        y = draw_note(root, note, (_MARGIN, y), wide) + 12
    own = (
        [("gathered", "rows of this workflow to one end, gathered")] if any(tag.is_own for tag in drawing.tags) else []
    )
    y = draw_legend(root, picture, (_MARGIN, y), wide, own)
    _set_size(root, paper, (wide + 2 * _MARGIN, y + _MARGIN / 2))
    put_theme(root, theme)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


@frozen
class _Drawing:
    """What is drawn of a picture: its arrows except for those that a tag lists, and the room that each thing takes."""

    picture: Picture
    arrows: tuple[Arrow, ...]
    tags: tuple[Tag, ...]
    labels: Mapping[str, Label]
    sizes: Mapping[str, Size]

    @classmethod
    def of(cls, picture: Picture) -> _Drawing:
        tags = tags_of(picture)
        listed = {arrow.id for tag in tags for arrow in tag.arrows}
        arrows = tuple(arrow for arrow in picture.arrows if arrow.id not in listed)
        sizes = {box.id: room_of(box) for box in picture.boxes} | {tag.id: tag.size for tag in tags}
        return cls(picture, arrows, tags, {arrow.id: Label.of(arrow) for arrow in arrows}, {START: (DOT, DOT)} | sizes)

    @property
    def apart(self) -> tuple[str, ...]:
        """The ends that no arrow is drawn to; those in a frame stay in it."""
        linked = {end for arrow in self.arrows for end in (arrow.source, arrow.dest)}
        ends = (box for box in self.picture.boxes if box.kind == "Final" and not box.initial and not box.group)
        return tuple(box.id for box in ends if box.id not in linked)

    def laid_out(self) -> Layout:
        links = [Link(a.id, a.source, a.dest, self.labels[a.id].size, loose=a.standard) for a in self.arrows]
        links += [Link(f"e{tag.id}", tag.state, tag.id) for tag in self.tags]
        apart = self.apart
        sizes = {ident: size for ident, size in self.sizes.items() if ident not in apart}
        if self.picture.initial is None:
            del sizes[START]
        else:
            links.insert(0, Link("e0", START, self.picture.initial.id))
        layout = lay_out(
            sizes,
            tuple(links),
            _last(self.picture, self.arrows, apart),
            {tag.state: tag.id for tag in self.tags},
            tuple(_cluster(frame, self.picture) for frame in self.picture.frames),
        )
        return _with_row(layout, {ident: self.sizes[ident] for ident in apart})

    def draw(self, canvas: ET.Element, layout: Layout) -> None:
        boxes, fit = {box.id: box for box in self.picture.boxes}, Fit(layout, self.sizes)
        for frame in self.picture.frames:
            if frame.id in layout.clusters:
                draw_frame(canvas, frame, *layout.clusters[frame.id])
        for arrow in self.arrows:
            route = fit.to_outlines(layout.routes[arrow.id], boxes[arrow.source], boxes[arrow.dest])
            draw_arrow(canvas, arrow, route)
        if self.picture.initial is not None:
            draw_start(canvas, layout.boxes[START], layout.routes["e0"])
        for box in self.picture.boxes:
            draw_box(canvas, box, layout.boxes[box.id], size_of(box))
        for tag in self.tags:
            route = fit.to_outlines(layout.routes[f"e{tag.id}"], boxes[tag.state], Box(tag.id, "", "Tag"))
            draw_tag_arrow(canvas, tag, route)
            draw_tag(canvas, tag, layout.boxes[tag.id])
        for arrow in self.arrows:
            draw_label(canvas, arrow.id, self.labels[arrow.id], layout.routes[arrow.id])
        curves = [point for route in layout.routes.values() for point in points_on(route)] if layout.clusters else []
        for frame in self.picture.frames:
            if frame.id in layout.clusters:
                draw_frame_title(canvas, frame, *layout.clusters[frame.id], curves)


def _cluster(frame: Frame, picture: Picture) -> Cluster:
    inside = tuple(box.id for box in picture.boxes if box.group == frame.id)
    return Cluster(frame.id, frame_title(frame), inside, frame.parent)


def _last(picture: Picture, arrows: tuple[Arrow, ...], apart: Collection[str]) -> tuple[str, ...]:
    """The exits that only standard rows lead to: at the bottom, out of the way."""
    used = {arrow.dest for arrow in arrows if not arrow.standard} | {*apart}
    return tuple(box.id for box in picture.boxes if box.is_exit and box.id not in used)


def _with_row(layout: Layout, apart: Mapping[str, Size]) -> Layout:
    """Boxes that no arrow leads to, in rows below the rest: Graphviz would put them anywhere."""
    if not apart:
        return layout
    wide = max(layout.size[0], _LEAST_WIDE)
    rows: list[list[str]] = [[]]
    for ident, size in apart.items():
        if rows[-1] and _row_wide(rows[-1], apart) + _GAP + size[0] > wide:
            rows.append([])
        rows[-1].append(ident)
    boxes, y = dict(layout.boxes), layout.size[1]
    for row in rows:
        high = max(apart[ident][1] for ident in row)
        x, y = (layout.size[0] - _row_wide(row, apart)) / 2, y + _GAP
        for ident in row:
            boxes[ident] = (x + apart[ident][0] / 2, y + high / 2)
            x += apart[ident][0] + _GAP
        y += high
    return evolve(layout, boxes=boxes, size=(layout.size[0], y))


def _row_wide(row: list[str], sizes: Mapping[str, Size]) -> float:
    return sum(sizes[ident][0] for ident in row) + _GAP * (len(row) - 1)


def _draw_frame(parent: ET.Element, at: Point, size: Size) -> None:
    """As in a statechart, what holds for every state leaves the frame around all of them: to the note below."""
    (x, y), (wide, high) = at, size
    group = ET.SubElement(parent, "g", id="frame")
    look = {"fill": "none", "stroke": PANEL_LINE, "stroke_dasharray": "4 3"}
    rect(group, (x + wide / 2, y + high / 2), size, 10, **look)
    start, tip = (x + 30, y + high), (x + 30, y + high + _LEAVES)
    end = (tip[0], tip[1] - 8)
    third = (start[0], (start[1] + end[1]) / 2)
    draw_curve(group, Route((start, third, third, end), tip, None), PALE, 1.2, dashed=True)


def _set_size(root: ET.Element, paper: ET.Element, size: Size) -> None:
    wide, high = number(size[0]), number(size[1])
    root.attrib |= {"width": wide, "height": high, "viewBox": f"0 0 {wide} {high}"}
    paper.attrib |= {"width": wide, "height": high}
