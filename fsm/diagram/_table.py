"""The rows as a Markdown table, for readers without pictures and for `diff`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ._model import Box, Line, Picture

# What a code span shows as it is. A backtick would end it, a pipe the cell, and a backslash could escape either.
_CODE = re.compile(r"[^`|\\]+")
_PLAIN = re.compile(r"[^\w ,()=/…·×✓✗]|_")


def to_table(picture: Picture) -> str:
    """The picture as one Markdown table with a line for each row, the standard rows summed up below, findings last."""
    boxes = {box.id: box for box in picture.boxes}
    marked = any(line.marks for arrow in picture.arrows for line in arrow.lines)
    rows = [_head(marked=marked)]
    for arrow in picture.arrows:
        source, dest = boxes[arrow.source], boxes[arrow.dest]
        for line in arrow.lines:
            event = _code(line.event) + (" (standard)" if arrow.standard else "")
            cells = [_state(source), event, *_rest(line), _state(dest)]
            rows.append([*cells, *([_text(", ".join(line.marks))] if marked else [])])
    mentioned = {ident for arrow in picture.arrows for ident in (arrow.source, arrow.dest)}
    rows += [[_state(box)] for box in picture.boxes if box.id not in mentioned]
    for note in picture.notes:
        if not note.wrong:
            rows += [["(standard)", ", ".join(map(_code, events)), "", "", _code(to)] for to, events in note.rows]
    lines = ["| " + " | ".join(row + [""] * (len(rows[0]) - len(row))) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join([*lines, *_findings(picture), ""])


def _head(*, marked: bool) -> list[str]:
    return ["state", "event", "guard", "effects", "next", *(["moves and findings"] if marked else [])]


def _rest(line: Line) -> tuple[str, str]:
    return (_code(line.guard), _code(line.effects))


def _state(box: Box) -> str:
    here = " **(here)**" if box.current else ""
    first = "▶ " if box.initial else ""
    return f"{first}{_code(box.name)} {_text(box.caption)}{here}"


def _findings(picture: Picture) -> Iterable[str]:
    for note in picture.notes:
        if note.wrong:
            yield ""
            yield f"{_text(note.title)}:"
            yield ""
            yield from (f"* **{_text(left)}** {_text(' '.join(right))}" for left, right in note.rows)


def _code(text: str) -> str:
    if not text:
        return ""
    return f"`{text}`" if _CODE.fullmatch(text) else _text(text)


def _text(text: str) -> str:
    """Text without any meaning in Markdown or HTML: what could have one becomes a numeric entity."""
    return _PLAIN.sub(lambda found: f"&#{ord(found.group())};", text)
