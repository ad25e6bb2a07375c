"""Colours and shapes, the same in every format. What a colour says, a shape, a stroke or a word says too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import frozen

from ._model import Arrow, Box

FONT = "Helvetica,Arial,sans-serif"
INK, GREY, PALE, LINE = "#1f2933", "#57616b", "#8a949e", "#3e4c59"
BLUE, RED, WHITE = "#1a56db", "#c81e1e", "#ffffff"
FADED_FILL, FADED_LINE = "#f7f8f9", "#b3bbc3"
PANEL_FILL, PANEL_LINE, WRONG_FILL = "#f7f8f9", "#d5dbe1", "#fdecec"


@frozen
class Look:
    """How a kind is drawn: fill, stroke, the DOT shape, the brackets of Mermaid."""

    fill: str
    stroke: str
    dot: str
    mermaid: tuple[str, str]


LOOKS: Mapping[str, Look] = MappingProxyType(
    {
        "Claude": Look("#fdebdf", "#c2592f", "box", ("(", ")")),
        "Tools": Look("#e1effe", "#1c64b2", "component", ("[[", "]]")),
        "Approval": Look("#fdf3c7", "#8f6b00", "hexagon", ("{{", "}}")),
        "Human": Look("#efe8fc", "#6b46b8", "ellipse", ("([", "])")),
        "Code": Look("#dff5ee", "#0f766e", "note", ("[/", "/]")),
        "Child": Look("#e8eaf6", "#4650a8", "box3d", ("[(", ")]")),
        "Final": Look("#e3f4e1", "#2a7a2f", "ellipse", ("(((", ")))")),
        "Failed": Look("#f3e9e9", "#8a4b4b", "octagon", ("(((", ")))")),
    }
)


def stroke_of(arrow: Arrow) -> tuple[str, float]:
    """Colour and width of an arrow's line."""
    if arrow.wrong:
        return (RED, 2.2)
    if arrow.taken:
        return (BLUE, 2.6)
    if arrow.standard:
        return (PALE, 1.0)
    return (FADED_LINE, 1.1) if arrow.faded else (LINE, 1.4)


def colours_of(box: Box) -> tuple[str, str]:
    """Fill and stroke of a box."""
    look = LOOKS[box.shape]
    if box.findings:
        return (WRONG_FILL, RED)
    if box.faded:
        return (FADED_FILL, FADED_LINE)
    return (look.fill, look.stroke)
