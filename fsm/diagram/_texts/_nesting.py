"""Groups in groups as lines of text: one walk for every language, which says only how it writes a box and a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fsm.diagram._model import Box, Frame, Picture

Frames = Callable[[Frame], tuple[str, ...]]
"""The lines that open a frame; the last one closes it."""


def nested(
    picture: Picture, box_line: Callable[[Box], str], frame_lines: Frames, group: str = "", indent: str = "  "
) -> Iterator[str]:
    """The boxes of a group, then the groups in it that have any."""
    yield from (f"{indent}{box_line(box)}" for box in picture.boxes if box.group == group)
    for frame in picture.frames:
        if frame.parent == group:
            inner = list(nested(picture, box_line, frame_lines, frame.id, indent + "  "))
            if inner:
                *opening, closing = (f"{indent}{line}" for line in frame_lines(frame))
                yield from (*opening, *inner, closing)
