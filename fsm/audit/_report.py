"""What an audit found: a table that accounts for every line, what could not be read, and findings. A value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen

from fsm._wire import clean

__all__ = ["FINDINGS_KEPT", "HEADINGS", "KINDS", "Cell", "Found", "Report", "Row", "UnreadPath", "Unreadable"]

_IDS_KEPT = 20

FINDINGS_KEPT = 1000
"""Findings that a report keeps; all are counted."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "illegal_accepted": "the API answered 2xx to a request that our rules refuse: a rule of ours is wrong",
        "illegal_request": "the request breaks a rule",
        "unexplained_400": "the API answered 400, and no rule of ours says why",
        "contradiction": "stop reason and content contradict each other",
        "unknown_stop": "the stop reason is not known to this version",
        "lost_result": "a tool call was never answered",
        "repeated_id": "a tool_use id came in two replies",
        "truncated_call": "a tool was run for a reply that was cut or refused",
        "no_progress": "the same call with the same result, again and again",
        "illegal_move": "the one-state machine does not accept the event",
        "altered_echo": "our echo of a reply differs from what was recorded: a fault of ours",
    }
)
"""The kinds of findings, each with what it means."""

HEADINGS = ("source", "stop reason or error", "next state", "lines", "replies")
"""What `Report.table` has in its columns."""

Kind = Literal["reply", "error", "other", "transcript", "blank"]


@frozen
class Row:
    """One cell of the account: `lines` lines of `source` with the same outcome.

    `outcome` is a stop reason, an error type, or what else the line is; `state` where the one-state machine goes from
    there, empty where nothing moves it; `replies` counts the replies and failures in these lines.
    """

    source: str
    kind: Kind
    outcome: str
    state: str
    lines: int
    replies: int


@frozen
class Unreadable:
    """`lines` lines of `source` that could not be read, and why.

    `parts` counts what could not be read inside lines that could, such as an event of a transcript; `example` is one of
    them, as file:line and detail.
    """

    source: str
    reason: str
    lines: int
    example: str
    parts: int = field(default=0, kw_only=True)


@frozen
class UnreadPath:
    """A path that could not be read, or not to its end, so that its lines are not known."""

    path: str
    reason: str


def _ids(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(clean(name, 200) for name in islice(names, _IDS_KEPT))


@frozen
class Found:
    """One finding: `kind` of `KINDS`, the rule, file:line, the tool_use ids concerned, why, and what to do."""

    kind: str
    rule: str
    where: str = field(converter=clean)  # what files hold is shown in terminals
    why: str = field(converter=clean)
    todo: str = field(converter=clean)
    ids: tuple[str, ...] = field(default=(), converter=_ids, kw_only=True)

    @property
    def cited(self) -> str:
        """The rule in brackets, where there is one."""
        return f" ({self.rule})" if self.rule else ""

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}{self.cited}: {self.why} {self.todo}".rstrip()


Cell = tuple[str, str, str, int, int]


@frozen
class Report:
    """The result of `audit`.

    Params:
        rows: lines by source and outcome, sorted.
        unreadable: lines that could not be read, by source and reason.
        unread_paths: paths that could not be read at all, or not to their end.
        findings: the first 1000.
        counts: how many findings there are of each kind.
        lines: lines read from all files, counted as they were read.
        bytes: their length, uncompressed.
        replies: replies that were read.
        echoed: replies that went through our ledger and came out as they were recorded.
        linked: requests that go on from a recorded reply, by the tool calls that they carry.
        moves: moves that the one-state machine made.
    """

    rows: tuple[Row, ...]
    unreadable: tuple[Unreadable, ...]
    unread_paths: tuple[UnreadPath, ...]
    findings: tuple[Found, ...]
    counts: Mapping[str, int]
    lines: int
    bytes: int
    replies: int = field(kw_only=True)
    echoed: int = field(kw_only=True)
    linked: int = field(kw_only=True)
    moves: int = field(kw_only=True)

    @property
    def accounted(self) -> bool:
        """Whether every line is in exactly one cell, and every path was read to its end."""
        cells = sum(row.lines for row in self.rows) + sum(each.lines for each in self.unreadable)
        return cells == self.lines and not self.unread_paths

    def exit_code(self, *, strict: bool = False) -> int:
        """Status for a command line: 0, or 1 for findings if `strict`; 2 if a line is not accounted for."""
        if not self.accounted:
            return 2
        return 1 if strict and self.counts else 0

    def table(self) -> tuple[Cell, ...]:
        """The whole account under `HEADINGS`, unreadable lines included: the fourth column adds up to `lines`."""
        read: list[Cell] = [(row.source, row.outcome, row.state, row.lines, row.replies) for row in self.rows]
        bad = (each for each in self.unreadable if each.lines)
        return (*read, *((each.source, f"unreadable: {each.reason}", "", each.lines, 0) for each in bad))

    def render(self, *, findings: int = 20) -> str:
        """The report as plain text; `findings` is how many of each kind are shown."""
        parts = [_columns([HEADINGS, *(tuple(map(str, row)) for row in self.table())], right=(3, 4))]
        if self.unreadable:
            parts.append("\n".join(["Not readable:", *map(_unreadable, self.unreadable)]))
        if self.unread_paths:
            parts.append("\n".join(["Not read:", *(f"  {each.path}: {each.reason}" for each in self.unread_paths)]))
        parts += [self._of_kind(kind, findings) for kind in KINDS if self.counts.get(kind)]
        return "\n\n".join([*parts, self.summary()])

    def _of_kind(self, kind: str, limit: int) -> str:
        shown = [found for found in self.findings if found.kind == kind][:limit]
        more = self.counts[kind] - len(shown)
        return "\n".join(
            [
                f"{kind}: {self.counts[kind]} ({KINDS[kind]})",
                *(f"  {found.where}{found.cited}: {found.why} {found.todo}".rstrip() for found in shown),
                *([f"  … and {more} more"] if more > 0 else []),
            ]
        )

    def summary(self) -> str:
        """The last lines: the totals, and whether they add up."""
        bad = sum(each.lines for each in self.unreadable)
        findings = sum(self.counts.values())
        every = "every" if self.accounted else "NOT every"
        return (
            f"{_n(self.lines, 'line')}, {_size(self.bytes)}: {self.lines - bad} read, {bad} not readable; "
            f"{every} line is accounted for.\n"
            f"{_n(self.replies, 'reply')}, {self.echoed} echoed unchanged, "
            f"{_n(self.linked, 'request')} linked to a reply, {_n(self.moves, 'move')}; {_n(findings, 'finding')}."
        )


def _unreadable(each: Unreadable) -> str:
    count = _n(each.lines, "line") if each.lines else ""
    parts = _n(each.parts, "part") + " of readable lines" if each.parts else ""
    what = ", ".join(filter(None, (count, parts)))
    return f"  {each.source}: {what}: {each.reason}, such as {each.example}"


def _size(count: int) -> str:
    mega = 1_000_000
    return f"{count / mega:.1f} MB" if count >= mega else f"{count / 1000:.1f} kB"


def _n(count: int, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def _columns(rows: Iterable[Sequence[str]], *, right: Sequence[int]) -> str:
    table = list(rows)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
