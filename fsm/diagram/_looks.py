"""Colours and shapes, the same in every format. What a colour says, a shape, a stroke or a word says too.

Every colour is a role of one table, with its value on light and on dark paper. Pictures are drawn in the light values,
no two roles have the same, so that a table from light to dark is all that a dark picture needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from xml.etree import ElementTree as ET

from attrs import frozen

from ._model import Arrow, Box, Theme

FONT = "Helvetica,Arial,sans-serif"

# role: on light paper, on dark paper. Words have a contrast of 4.5 to what they stand on, strokes of 3 (WCAG 2.2).
ROLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paper": ("#ffffff", "#15191e"),
        "panel": ("#f7f8f9", "#1c2229"),
        "ink": ("#1f2933", "#e8ecf0"),
        "grey": ("#57616b", "#aeb8c2"),
        "faded-ink": ("#606b76", "#93a0ac"),
        "line": ("#3e4c59", "#c5ced7"),
        "pale": ("#7d8791", "#7f8b97"),
        "quiet": ("#858e98", "#707c88"),
        "blue": ("#1a56db", "#8ab8ff"),
        "red": ("#c81e1e", "#ff8f86"),
        "wrong": ("#fdecec", "#3b1d20"),
        "added": ("#16703a", "#6fd08c"),
        "removed": ("#a3261a", "#f79a8e"),
        "rerouted": ("#7d5200", "#e0b458"),
        "heat-1": ("#fffbf0", "#221f17"),
        "heat-2": ("#fff5d9", "#2e2715"),
        "heat-3": ("#ffeec0", "#3b3013"),
        "heat-4": ("#ffe7a6", "#493a10"),
        "heat-5": ("#ffdf8c", "#58440c"),
        "heat-line-1": ("#c4822f", "#a05f38"),
        "heat-line-2": ("#af6825", "#c07639"),
        "heat-line-3": ("#98501c", "#d99346"),
        "heat-line-4": ("#7f3b1a", "#edb361"),
        "heat-line-5": ("#642819", "#fad68d"),
        "claude": ("#fdebdf", "#3a2318"),
        "claude-line": ("#ad4a20", "#f2a57e"),
        "tools": ("#e1effe", "#15293f"),
        "tools-line": ("#1c64b2", "#7db7f5"),
        "approval": ("#fdf3c7", "#362c0c"),
        "approval-line": ("#855f00", "#e2c054"),
        "human": ("#efe8fc", "#2b2142"),
        "human-line": ("#6b46b8", "#c0a6f6"),
        "code": ("#dff5ee", "#10302b"),
        "code-line": ("#0f766e", "#57c9b8"),
        "child": ("#e8eaf6", "#222744"),
        "child-line": ("#4650a8", "#a7b1f2"),
        "group": ("#eef1f4", "#262d35"),
        "group-line": ("#4a5763", "#b4bfca"),
        "final": ("#e3f4e1", "#16301a"),
        "final-line": ("#2a7a2f", "#7dce83"),
        "failed": ("#f3e9e9", "#352325"),
        "failed-line": ("#8a4b4b", "#e2a3a3"),
    }
)


def _light(role: str) -> str:
    return ROLES[role][0]


WHITE, PANEL_FILL = _light("paper"), _light("panel")
INK, GREY, FADED_INK = _light("ink"), _light("grey"), _light("faded-ink")
LINE, PALE, PANEL_LINE = _light("line"), _light("pale"), _light("quiet")
FADED_FILL, FADED_LINE = PANEL_FILL, PANEL_LINE
BLUE, RED, WRONG_FILL = _light("blue"), _light("red"), _light("wrong")
ADDED, REMOVED, REROUTED = _light("added"), _light("removed"), _light("rerouted")
HEAT = tuple(_light(f"heat-{step}") for step in range(1, 6))  # fills; words in `INK` and `GREY` can be read on all
HEAT_LINES = tuple(_light(f"heat-line-{step}") for step in range(1, 6))  # as light falls, evenly: it works in grey
CHANGED = {"added": ADDED, "removed": REMOVED, "rerouted": REROUTED, "changed": REROUTED}
_BADGES = {"blue": BLUE, "red": RED, **CHANGED}


@frozen
class Look:
    """How a kind is drawn: fill, stroke, the DOT shape, the brackets of Mermaid."""

    fill: str
    stroke: str
    dot: str
    mermaid: tuple[str, str]


def _look(role: str, dot: str, mermaid: tuple[str, str]) -> Look:
    return Look(_light(role), _light(f"{role}-line"), dot, mermaid)


LOOKS: Mapping[str, Look] = MappingProxyType(
    {
        "Claude": _look("claude", "box", ("(", ")")),
        "Tools": _look("tools", "component", ("[[", "]]")),
        "Approval": _look("approval", "hexagon", ("{{", "}}")),
        "Human": _look("human", "ellipse", ("([", "])")),
        "Code": _look("code", "note", ("[/", "/]")),
        "Child": _look("child", "box3d", ("[(", ")]")),
        "Group": _look("group", "folder", ("[", "]")),
        "Final": _look("final", "box", ("(((", ")))")),
        "Failed": _look("failed", "octagon", ("(((", ")))")),
    }
)


def stroke_of(arrow: Arrow) -> tuple[str, float]:
    """Colour and width of an arrow's line."""
    if arrow.wrong:
        return (RED, 2.2)
    if arrow.change:
        return (CHANGED[arrow.change], 1.6 if arrow.change == "removed" else 2.4)
    if arrow.heat:
        return (HEAT_LINES[_step(arrow.heat)], 1.4 + 4.6 * math.sqrt(arrow.heat))
    if arrow.stuck:
        return (RED, 3.4)
    if arrow.taken:
        return (BLUE, 2.6)
    if arrow.standard:
        return (PALE, 1.0)
    return (FADED_LINE, 1.1) if arrow.faded else (LINE, 1.6)


def colours_of(box: Box) -> tuple[str, str]:
    """Fill and stroke of a box."""
    look = LOOKS[box.shape]
    if box.findings:
        return (WRONG_FILL, RED)
    if box.change:
        return (FADED_FILL if box.change == "removed" else look.fill, CHANGED[box.change])
    if box.faded:
        return (FADED_FILL, FADED_LINE)
    return (look.fill if box.heat is None else HEAT[_step(box.heat)], look.stroke)


def badge_colour(role: str) -> str:
    """What a badge is filled with (`Line.badges`)."""
    return _BADGES[role]


def _step(heat: float) -> int:
    """The step of a ramp for a share of 0 to 1; small shares are spread, since most things are rare."""
    return min(int(math.sqrt(heat) * len(HEAT)), len(HEAT) - 1)


# --- themes ----------------------------------------------------------------------------------------------------------

_AUTO = "fsm-auto"  # a picture's own class: in a page, its style sheet must not reach other pictures
_DARK = dict(ROLES.values())
_COLOURED = ("fill", "stroke")


def put_theme(root: ET.Element, theme: Theme) -> None:
    """Turn a picture drawn in light values into that of another theme.

    `dark` replaces the values. `auto` leaves them and adds a style sheet, which is the same for every picture: styles
    come before attributes, so one file serves readers of both schemes (and those whose viewer knows no styles).
    """
    if theme == "dark":
        for element in root.iter():
            for name in _COLOURED:
                if element.get(name) in _DARK:
                    element.set(name, _DARK[element.attrib[name]])
    elif theme == "auto":
        root.set("class", _AUTO)
        style = ET.Element("style")
        style.text = _sheet()
        root.insert(1, style)  # after the title, which must be the first


def _sheet() -> str:
    rules = [f'svg.{_AUTO} [{name}="{light}"]{{{name}:{dark}}}' for light, dark in _DARK.items() for name in _COLOURED]
    return f"@media (prefers-color-scheme:dark){{{''.join(rules)}}}"


def css_colours(theme: Theme) -> str:
    """The roles as CSS properties (`--ink`, `--claude-line`, …), for what is drawn around a picture."""
    light, dark = (_properties(place) for place in (0, 1))
    if theme == "auto":
        return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return f":root{{{dark if theme == 'dark' else light}}}"


def _properties(place: int) -> str:
    return "".join(f"--{role}:{values[place]};" for role, values in ROLES.items())
