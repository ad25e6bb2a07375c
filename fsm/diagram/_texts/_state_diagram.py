"""The picture as a Mermaid `stateDiagram-v2`, the form that most people know: generated ids, every text encoded (X1).

It has one shape for all states, so the kind stands in words and in the colour, and no legend is needed. A line begins
with a generated id or a fixed word; what comes from data stands between quotes or after the colon, encoded.
"""

from __future__ import annotations

from fsm.diagram._looks import GREY, PANEL_FILL, PANEL_LINE
from fsm.diagram._model import Arrow, Frame, Picture

from ._mermaid import broken, checked, class_lines, drawn_arrows, encoded, titled, words_of, words_on
from ._nesting import nested

_INIT = (
    '%%{init: {"flowchart": {"wrappingWidth": 620}, "themeVariables": '
    f'{{"noteBkgColor": "{PANEL_FILL}", "noteBorderColor": "{PANEL_LINE}", "noteTextColor": "{GREY}"}}}}}}%%'
)


def to_state_diagram(picture: Picture) -> str:
    """The picture as the text of a Mermaid code block."""
    lines = [*titled(picture), _INIT, "stateDiagram-v2", "  direction TB"]
    lines += nested(picture, lambda box: f'state "{words_of(box)}" as {box.id}', _frame_lines)
    if picture.initial is not None:
        lines.append(f"  [*] --> {picture.initial.id}")
    lines += [f"  {_arrow(arrow)}" for arrow in drawn_arrows(picture)]
    lines += [f"  {box.id} --> [*]" for box in picture.boxes if box.kind == "Final"]
    # A note hangs on a state; what is said of all states stands where one begins to read.
    for box in [*filter(None, [picture.initial]), *picture.boxes][:1]:
        lines += [f"  note right of {box.id} : {broken(note.lines)}" for note in picture.panels]
    return checked("\n".join([*lines, *class_lines(picture.boxes), ""]))


def _frame_lines(frame: Frame) -> tuple[str, ...]:
    return (f'state "{encoded(frame.name)}" as {frame.id} {{', "}")


def _arrow(arrow: Arrow) -> str:
    """Lines cannot be dotted here, so a standard row says what it is."""
    standard = " (standard)" if arrow.standard else ""
    return f"{arrow.source} --> {arrow.dest} : {broken(words + standard for words in words_on(arrow))}"
