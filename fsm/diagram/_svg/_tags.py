"""What would cross everything, gathered: a tag beside a state lists its ways out; a frame holds a group of states.

A standard row leads to an exit or back to its state, and every state has twenty of them. As off-page connectors they
name where they lead instead of going there. Rows that a run took, or that a finding is about, stay arrows.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from attrs import frozen

from fsm.diagram._looks import FADED_INK, GREY, INK, LINE, LOOKS, PANEL_FILL, PANEL_LINE, WHITE, stroke_of
from fsm.diagram._model import Arrow, Box, Frame, Line, Picture
from fsm.diagram._text import width

from ._arrows import draw_curve
from ._layout import Point, Route, Size
from ._panels import listed
from ._shapes import draw_shape, rect, text

_TEXT = 10.5  # font size
_ROW, _BETWEEN = 14.0, 3.0  # from row to row; more than that between two ends
_WIDE = 300.0  # of the words
_MARK, _INSIDE = 18.0, 9.0  # room for the small outline; from the border to the words
_GAP = 12.0
_CROWD = 4  # own rows of as many states to one exit are gathered too
_SAME = "same state"
_TITLE, _TITLE_STEP = 12.0, 6.0  # font size of a group's name; pixels to the next place for it


@frozen
class _Entry:
    """An arrow's rows in a tag: where it leads, and its rows as lines that fit."""

    arrow: Arrow
    dest: Box | None  # None: back to the same state
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.dest.name if self.dest else _SAME


@frozen
class Tag:
    """The panel beside a state."""

    id: str
    state: str
    entries: tuple[_Entry, ...]

    @property
    def arrows(self) -> tuple[Arrow, ...]:
        """Those that are not drawn because they are listed here."""
        return tuple(entry.arrow for entry in self.entries)

    @property
    def is_own(self) -> bool:
        """Whether rows of the workflow's own are among them: it looks as they do."""
        return any(not arrow.standard for arrow in self.arrows)

    @property
    def column(self) -> float:
        """Where the rows begin, right of the names."""
        return _INSIDE + _MARK + max(width(entry.name, _TEXT, bold=True) for entry in self.entries) + _GAP

    @property
    def size(self) -> Size:
        """The room that it takes."""
        words = max(width(line, _TEXT, bold=not entry.arrow.standard) for entry in self.entries for line in entry.lines)
        rows = sum(len(entry.lines) for entry in self.entries)
        return (self.column + words + _INSIDE, _ROW * rows + _BETWEEN * (len(self.entries) - 1) + _INSIDE)


def tags_of(picture: Picture) -> tuple[Tag, ...]:
    """A tag for each state that has arrows to be gathered."""
    boxes = {box.id: box for box in picture.boxes}
    crowded = _crowded(picture, boxes)
    found: dict[str, list[_Entry]] = {}
    for arrow in picture.arrows:
        if _is_told(arrow):
            continue
        dest = boxes[arrow.dest]
        is_loop = arrow.source == arrow.dest
        if (arrow.standard and (is_loop or dest.is_exit)) or (arrow.dest in crowded and not is_loop):
            lines = tuple(listed(_rows(arrow), _WIDE, _TEXT))
            found.setdefault(arrow.source, []).append(_Entry(arrow, None if is_loop else dest, lines))
    for state in [s for s, entries in found.items() if all(entry.arrow.is_summary for entry in entries)]:
        del found[state]  # one light loop is less than a panel
    places = {box.id: place for place, box in enumerate(picture.boxes)}
    return tuple(
        Tag(f"t{state}", state, tuple(sorted(entries, key=lambda e: places[e.dest.id] if e.dest else -1)))
        for state, entries in found.items()
    )


def _is_told(arrow: Arrow) -> bool:
    """Whether something is drawn on it: what runs did, a finding, a change."""
    marked = any(line.tally or line.change for line in arrow.lines)
    return arrow.taken or arrow.wrong or arrow.stuck or marked


def _crowded(picture: Picture, boxes: dict[str, Box]) -> frozenset[str]:
    """The bad ends that many states lead to by rows of their own: one line from each would hide the rest."""
    sources: dict[str, set[str]] = {}
    for arrow in picture.arrows:
        if not arrow.standard and boxes[arrow.dest].shape == "Failed":
            sources.setdefault(arrow.dest, set()).add(arrow.source)
    return frozenset(dest for dest, found in sources.items() if len(found) >= _CROWD)


def _rows(arrow: Arrow) -> tuple[str, ...]:
    """Events that share guard and effects share a row."""
    events: dict[tuple[str, str], list[Line]] = {}
    for line in arrow.lines:
        events.setdefault((line.guard, line.effects), []).append(line)
    return tuple(" ".join([", ".join(line.event for line in lines), *lines[0].parts[1:]]) for lines in events.values())


def draw_tag_arrow(parent: ET.Element, tag: Tag, route: Route) -> None:
    """The arrow to the panel: that of the workflow's own rows, where it has any."""
    first = next((arrow for arrow in tag.arrows if not arrow.standard), tag.arrows[0])
    colour, thick = stroke_of(first)
    draw_curve(parent, route, colour, thick, dashed=not tag.is_own)


def draw_tag(parent: ET.Element, tag: Tag, middle: Point) -> None:
    """The panel: a small outline and the name of each end, and what leads there."""
    (wide, high), (x, y) = tag.size, middle
    left, row = x - wide / 2, y - high / 2 + _INSIDE / 2
    panel = ET.SubElement(parent, "g", id=tag.id)
    look = {"stroke": LINE} if tag.is_own else {"stroke": PANEL_LINE, "stroke_dasharray": "4 3"}
    rect(panel, middle, tag.size, 5, fill=PANEL_FILL, **look)
    for entry in tag.entries:
        group = ET.SubElement(panel, "g", id=entry.arrow.id)
        ET.SubElement(group, "title").text = entry.arrow.title
        ink, grey = (FADED_INK, FADED_INK) if entry.arrow.faded else (INK, GREY)
        if entry.dest is not None:
            kind = LOOKS[entry.dest.shape]
            look = {"fill": kind.fill, "stroke": kind.stroke, "stroke_width": "1"}
            draw_shape(group, entry.dest.shape, (left + _INSIDE + 6, row + _ROW / 2), (12, 9), look=look, plain=True)
        else:
            text(group, (left + _INSIDE + 1, row + 11), "\u21bb", _TEXT, fill=grey)
        at = left + _INSIDE + _MARK
        text(group, (at, row + 11), entry.name, _TEXT, fill=grey, font_weight="bold")
        for line in entry.lines:
            own = {} if entry.arrow.standard else {"font_weight": "bold"}
            text(group, (left + tag.column, row + 11), line, _TEXT, fill=grey if entry.arrow.standard else ink, **own)
            row += _ROW
        row += _BETWEEN


# --- groups ----------------------------------------------------------------------------------------------------------


def frame_title(frame: Frame) -> Size:
    """The room for a group's name."""
    return (width(frame.name, _TITLE, bold=True) + 16, 16.0)


def draw_frame(parent: ET.Element, frame: Frame, middle: Point, size: Size) -> None:
    """The frame around a group's states."""
    group = ET.SubElement(parent, "g", id=frame.id)
    rect(group, middle, size, 8, fill="none", stroke=LOOKS["Group"].stroke, stroke_width="1.2")


def draw_frame_title(parent: ET.Element, frame: Frame, middle: Point, size: Size, curves: Iterable[Point] = ()) -> None:
    """The name of a group along the upper border, where no arrow runs through it if there is such a place."""
    left, top = middle[0] - size[0] / 2 + 10, middle[1] - size[1] / 2 + 5
    wide = width(frame.name, _TITLE, bold=True)
    crossed = [x for x, y in curves if top - 3 <= y <= top + 18]
    for place in range(int(max(size[0] - 20 - wide, 0) / _TITLE_STEP) + 1):
        at = left + place * _TITLE_STEP
        if not any(at - 6 <= x <= at + wide + 6 for x in crossed):
            left = at
            break
    group = ET.SubElement(parent, "g", id=f"l{frame.id}")
    rect(group, (left + wide / 2, top + 8), (wide + 4, 15), 3, fill=WHITE, fill_opacity="0.85")
    text(group, (left, top + 12), frame.name, _TITLE, fill=LOOKS["Group"].stroke, font_weight="bold")
