"""`Tally`: the account while it is being made. Whatever the files hold, it stays small."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from fsm._wire import clean

from ._report import FINDINGS_KEPT, Found, Kind, Report, Row, Unreadable, UnreadPath

__all__ = ["Tally"]

_CELLS = 5000  # files can name any number of sources
_OTHERS = "(other sources)"


@define
class Tally:
    """Counts lines as they are read, and again in the cell that each one belongs to."""

    lines: int = 0
    size: int = 0
    replies: int = 0
    echoed: int = 0
    linked: int = 0
    moves: int = 0
    _cells: Counter[tuple[str, Kind, str, str]] = field(factory=Counter)
    _in_cell: Counter[tuple[str, Kind, str, str]] = field(factory=Counter)
    _bad: Counter[tuple[str, str]] = field(factory=Counter)
    _parts: Counter[tuple[str, str]] = field(factory=Counter)
    _examples: dict[tuple[str, str], str] = field(factory=dict)
    _paths: list[UnreadPath] = field(factory=list)
    _found: list[Found] = field(factory=list)
    _counts: Counter[str] = field(factory=Counter)

    def row(self, source: str, kind: Kind, outcome: str, *, state: str = "", replies: int = 0) -> None:
        """Put one line into its cell."""
        cell = (source, kind, outcome, state)
        if cell not in self._cells and len(self._cells) >= _CELLS:
            cell = (_OTHERS, kind, outcome if kind in {"reply", "error"} else kind, state)
        self._cells[cell] += 1
        self._in_cell[cell] += replies

    def bad(self, source: str, reason: str, where: str, detail: str = "") -> None:
        """Put one line among those that could not be read."""
        self._bad[self._noted(source, reason, where, detail)] += 1

    def bad_part(self, source: str, reason: str, where: str, detail: str = "") -> None:
        """Something inside a readable line could not be read."""
        self._parts[self._noted(source, reason, where, detail)] += 1

    def bad_path(self, path: str, reason: str) -> None:
        """A path could not be read to its end."""
        self._paths.append(UnreadPath(clean(path, 200), clean(reason, 200)))

    def found(self, finding: Found) -> None:
        """A finding."""
        self._counts[finding.kind] += 1
        if len(self._found) < FINDINGS_KEPT:
            self._found.append(finding)

    def report(self) -> Report:
        """The account."""
        order = {"reply": 0, "error": 1, "transcript": 2, "other": 3, "blank": 4}
        cells = sorted(self._cells, key=lambda cell: (cell[0], order[cell[1]], cell[2], cell[3]))
        return Report(
            tuple(Row(*cell, self._cells[cell], self._in_cell[cell]) for cell in cells),
            tuple(
                Unreadable(*key, self._bad[key], self._examples[key], parts=self._parts[key])
                for key in sorted(self._bad.keys() | self._parts.keys())
            ),
            tuple(self._paths),
            tuple(self._found),
            dict(self._counts),
            self.lines,
            self.size,
            replies=self.replies,
            echoed=self.echoed,
            linked=self.linked,
            moves=self.moves,
        )

    def _noted(self, source: str, reason: str, where: str, detail: str) -> tuple[str, str]:
        key = (source, reason)
        if key not in self._examples and len(self._examples) >= _CELLS:
            key = (_OTHERS, reason)
        self._examples.setdefault(key, clean(f"{where}: {detail}" if detail else where, 300))
        return key
