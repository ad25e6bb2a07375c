"""What is drawn: boxes, arrows and notes. All formats render this and only this.

Ids are generated (`s1`, `e1`, X1), names appear as text only, clean and shortened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from ._overlay import Key, Tally
from ._text import filled, numbers

Detail = Literal["simple", "default", "full"]
Theme = Literal["light", "dark", "auto"]
Change = Literal["", "added", "removed", "rerouted", "changed"]

MARKS: Mapping[str, str] = {"added": "+", "removed": "−", "rerouted": "→", "changed": "~"}

_NOTE_WIDE = 90  # characters


@frozen
class Line:
    """One row on an arrow: `1, 3 event [guard] / effects`, and the ids of the findings about it.

    `tally` is what runs did here, `stuck` says that it belongs to the cycle that ended a run, `change` what a newer
    version did to the row.
    """

    event: str
    guard: str = field(default="", kw_only=True)
    effects: str = field(default="", kw_only=True)
    seqs: tuple[int, ...] = field(default=(), kw_only=True)
    findings: tuple[str, ...] = field(default=(), kw_only=True)
    tally: Tally | None = field(default=None, kw_only=True)
    stuck: bool = field(default=False, kw_only=True)
    key: Key | None = field(default=None, kw_only=True)  # of the edge, for whoever looks a move up in the picture
    change: Change = field(default="", kw_only=True)
    facts: tuple[str, ...] = field(default=(), kw_only=True)  # what runs did here and what it was before, in few words
    others: Tally | None = field(default=None, kw_only=True)  # what the run did here that this one is compared with
    together: bool = field(default=False, kw_only=True)  # its count is that of all alternatives of its event
    place: int = field(default=0, kw_only=True)  # as which of several alternatives it is tried: 1, 2, ...

    @property
    def taken(self) -> bool:
        """Whether the run took it, or the one that is compared with another."""
        return bool(self.seqs) or (self.tally is not None and self.tally.count > 0)

    @property
    def idle(self) -> bool:
        """Whether two runs are compared and neither took it."""
        return self.others is not None and not self.others.count and not self.taken

    @property
    def badges(self) -> tuple[tuple[str, str], ...]:
        """What stands before the event, each with the role of its colour: numbers of moves, findings, changes."""
        stuck = [("stuck", "red")] if self.stuck else []
        change = [(MARKS[self.change], self.change)] if self.change else []
        taken = [(numbers(self.seqs), "blue")] if self.seqs else []
        return (*change, *taken, *stuck, *((found, "red") for found in self.findings))

    @property
    def marks(self) -> tuple[str, ...]:
        """The words of the badges."""
        return tuple(words for words, _ in self.badges)

    @property
    def parts(self) -> tuple[str, ...]:
        """Event, guard and effects, as far as there are any."""
        guard = f"[{self.guard}]" if self.guard else ""
        effects = f"/ {self.effects}" if self.effects else ""
        return tuple(part for part in (self.event, guard, effects) if part)

    @property
    def text(self) -> str:
        """Marks, parts and facts on one line."""
        marks = "".join(f"({mark}) " for mark in self.marks)
        facts = f" ({', '.join(self.facts)})" if self.facts else ""
        return marks + " ".join(self.parts) + facts


@frozen
class Box:
    """A state. `details` are small lines below the name; `title` shows when the mouse rests on it.

    `group` is the id of the frame around it, `heat` what share of the busiest state's work was done here (0 to 1).
    """

    id: str
    name: str
    kind: str
    details: tuple[str, ...] = field(default=(), kw_only=True)
    ok: bool = field(default=True, kw_only=True)
    initial: bool = field(default=False, kw_only=True)
    is_exit: bool = field(default=False, kw_only=True)
    current: bool = field(default=False, kw_only=True)
    faded: bool = field(default=False, kw_only=True)
    findings: tuple[str, ...] = field(default=(), kw_only=True)
    title: str = field(default="", kw_only=True)
    group: str = field(default="", kw_only=True)
    states: tuple[str, ...] = field(default=(), kw_only=True)  # their names as declared: one, or those folded into it
    tally: Tally | None = field(default=None, kw_only=True)
    heat: float | None = field(default=None, kw_only=True)
    change: Change = field(default="", kw_only=True)
    facts: tuple[str, ...] = field(default=(), kw_only=True)  # what runs did here and what it was before, in few words

    @property
    def lines(self) -> tuple[str, ...]:
        """The small lines below the name."""
        return (*self.details, *self.facts)

    @property
    def caption(self) -> str:
        """The small line above the name: who acts."""
        if self.kind != "Final":
            return self.kind
        word = "Exit" if self.is_exit else "Final"
        return word if self.ok else f"{word}, not ok"

    @property
    def head(self) -> str:
        """The caption and the marks in words, for formats that have no badges."""
        here = [*([f"({MARKS[self.change]})"] if self.change else []), *(["(here)"] if self.current else [])]
        return " ".join([self.caption, *(f"({found})" for found in self.findings), *here])

    @property
    def shape(self) -> str:
        """The key of its looks: the kind, with two sorts of finals."""
        return "Failed" if self.kind == "Final" and not self.ok else self.kind


@frozen
class Arrow:
    """One or more rows from one box to another."""

    id: str
    source: str
    dest: str
    lines: tuple[Line, ...]
    standard: bool = field(default=False, kw_only=True)
    taken: bool = field(default=False, kw_only=True)
    faded: bool = field(default=False, kw_only=True)
    is_summary: bool = field(default=False, kw_only=True)  # stands for standard rows that the note lists
    title: str = field(default="", kw_only=True)
    heat: float | None = field(default=None, kw_only=True)  # its share of the busiest arrow's count, 0 to 1

    @property
    def wrong(self) -> bool:
        """Whether a finding is about one of its rows."""
        return any(line.findings for line in self.lines)

    @property
    def stuck(self) -> bool:
        """Whether one of its rows belongs to the cycle that ended a run."""
        return any(line.stuck for line in self.lines)

    @property
    def change(self) -> Change:
        """What a newer version did to its rows, or which of two runs took them, where it is the same for all."""
        changes = {line.change for line in self.lines if not line.idle} or {""}
        return changes.pop() if len(changes) == 1 else ""


@frozen
class Frame:
    """A group of states: a frame around their boxes, or one box where it is folded. `parent` is the frame around it."""

    id: str
    name: str
    parent: str = field(default="", kw_only=True)
    path: str = field(default="", kw_only=True)  # as it was declared: `outer/inner`


@frozen
class Note:
    """A panel below the graph: rows of a word and what belongs to it."""

    title: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    wrong: bool = field(default=False, kw_only=True)
    standard: bool = field(default=False, kw_only=True)  # sums standard rows up

    @property
    def lines(self) -> tuple[str, ...]:
        """Title and rows as plain lines, for formats that have no columns."""
        rows = (line for left, right in self.rows for line in filled(left, right, _NOTE_WIDE))
        return (self.title, *rows)


@frozen
class Picture:
    """Everything a renderer needs."""

    name: str
    doc: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    notes: tuple[Note, ...]
    legend: tuple[tuple[str, str], ...]
    frames: tuple[Frame, ...] = field(default=(), kw_only=True)
    facts: tuple[str, ...] = field(default=(), kw_only=True)  # what came of the runs, in few words

    @property
    def panels(self) -> tuple[Note, ...]:
        """The notes, and the facts as one, for formats that have no heading."""
        return (*([Note(" · ".join(self.facts), ())] if self.facts else []), *self.notes)

    @property
    def initial(self) -> Box | None:
        """The first state, where there is one."""
        return next((box for box in self.boxes if box.initial), None)

    @property
    def last(self) -> tuple[str, ...]:
        """The ids of the boxes that nothing leads on from, for what is to stand below them."""
        places = {box.id: place for place, box in enumerate(self.boxes)}
        leading = {arrow.source for arrow in self.arrows if places[arrow.dest] > places[arrow.source]}
        return tuple(box.id for box in self.boxes if box.id not in leading)
