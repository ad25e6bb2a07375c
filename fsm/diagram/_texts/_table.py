"""The rows as a Markdown table, for readers without pictures and for `diff`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fsm.diagram._model import MARKS, Box, Line, Picture

# What a code span shows as it is. A backtick would end it, a pipe the cell, and a backslash could escape either.
_CODE = re.compile(r"[^`|\\]+")
_PLAIN = re.compile(r"[^\w ,()=/…·×→−✓✗]|_")


def to_table(picture: Picture) -> str:
    """The picture as one Markdown table with a line for each row, the standard rows summed up below, findings last."""
    boxes = {box.id: box for box in picture.boxes}
    marked = any(line.marks or line.facts for arrow in picture.arrows for line in arrow.lines)
    rows = [_head(marked=marked)]
    told: set[str] = set()  # what runs did in a state stands at its first row
    for arrow in picture.arrows:
        source, dest = boxes[arrow.source], boxes[arrow.dest]
        for line in arrow.lines:
            event = _code(line.event) + (" (standard)" if arrow.standard else "")
            first = _state(source) + (_facts(source) if source.id not in told else "")
            told.add(source.id)
            cells = [first, event, *_rest(line), _state(dest)]
            rows.append([*cells, *([_text(", ".join((*line.marks, *line.facts)))] if marked else [])])
    mentioned = told | {arrow.dest for arrow in picture.arrows}
    silent = [box for box in picture.boxes if box.id not in mentioned or (box.id not in told and box.facts)]
    rows += [[_state(box) + _facts(box)] for box in silent]
    for note in picture.notes:
        if note.standard:
            rows += [["(standard)", ", ".join(map(_code, events)), "", "", _code(to)] for to, events in note.rows]
    lines = ["| " + " | ".join(row + [""] * (len(rows[0]) - len(row))) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join([*lines, *_findings(picture), ""])


def _head(*, marked: bool) -> list[str]:
    return ["state", "event", "guard", "effects", "next", *(["runs, changes and findings"] if marked else [])]


def _rest(line: Line) -> tuple[str, str]:
    place = f"{line.place}. " if line.place else ""  # as which of several alternatives it is tried
    return (place + _code(line.guard), _code(line.effects))


def _state(box: Box) -> str:
    here = " **(here)**" if box.current else ""
    first = "▶ " if box.initial else ""
    change = f" {_text(MARKS[box.change])}" if box.change else ""
    return f"{first}{_code(box.name)} {_text(box.caption)}{here}{change}"


def _facts(box: Box) -> str:
    return f": {_text(', '.join(box.facts))}" if box.facts else ""


def _findings(picture: Picture) -> Iterable[str]:
    if picture.facts:
        yield from ("", _text(", ".join(picture.facts)))
    for note in picture.notes:
        if not note.standard:
            yield ""
            yield f"{_text(note.title)}:"
            yield ""
            yield from (
                f"* **{_text(left)}** {_text((' ' if note.wrong else ', ').join(right))}" for left, right in note.rows
            )


def _code(text: str) -> str:
    if not text:
        return ""
    return f"`{text}`" if _CODE.fullmatch(text) else _text(text)


def _text(text: str) -> str:
    """Text without any meaning in Markdown or HTML: what could have one becomes a numeric entity."""
    return _PLAIN.sub(lambda found: f"&#{ord(found.group())};", text)
