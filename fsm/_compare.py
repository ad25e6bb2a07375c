"""`compare`: two runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

from attrs import frozen

from ._encoded import plain
from ._records import Move, Record
from ._result import Result
from ._summary import RunSummary
from .drivers._pump import move_of

_NOT_SAID = frozenset({"seconds", "request_id", "run_id", "forked", "fingerprint", "tags", "attempt", "resent"})
_NOT_DONE = frozenset({"park", "resume", "migrate", "wake"})  # when it stood still is no difference


@frozen
class Comparison:
    """How two runs differ; false where they do not. Each pair is of the first run and of the second.

    `record` is the number of the first record that differs, in each run (None: one has no more of them); `move` the
    index in `moves` of the first pair that differs. `duration` is recorded work in seconds, `price` in US dollars (None
    where unknown).
    """

    run_ids: tuple[str, str]
    record: tuple[int | None, int | None] | None
    move: int | None
    moves: tuple[tuple[Move | None, Move | None], ...]
    state: tuple[str, str]
    turns: tuple[int, int]
    tokens: tuple[int, int]
    price: tuple[float | None, float | None]
    duration: tuple[float, float]

    def __bool__(self) -> bool:
        return self.record is not None

    def __str__(self) -> str:
        head = f"{self.run_ids[0]} and {self.run_ids[1]}"
        if self.record is None:
            return f"{head} do not differ"
        places = " and ".join("its end" if seq is None else f"record {seq}" for seq in self.record)
        lines = [f"{head} part at {places}", *self._moved()]
        for name, pair, form in (
            ("state", self.state, str),
            ("turns", self.turns, str),
            ("tokens", self.tokens, lambda n: f"{n:,}"),
            ("price", self.price, lambda p: "unknown" if p is None else f"${p:.4f}"),
            ("duration", self.duration, lambda s: f"{s:.1f} s"),
        ):
            shown = [form(value) for value in pair]
            lines.append(f"  {name:<9} {shown[0]}" + (f" → {shown[1]}" if shown[0] != shown[1] else ""))
        return "\n".join(lines)

    def _moved(self) -> list[str]:
        shown = [[" " if move is None else str(move) for move in pair] for pair in self.moves]
        width = max((len(left) for left, _ in shown), default=0)
        first = len(self.moves) if self.move is None else self.move
        return [
            f"{'≠' if number >= first else ' '} {left:<{width}}  {right}".rstrip()
            for number, (left, right) in enumerate(shown)
        ]


def compare(a: Result | Iterable[Record], b: Result | Iterable[Record]) -> Comparison:
    """Say where two runs part, and what each came to.

    What a clock, a request id or a restart makes differ is no difference, so a fork is like its origin up to its cut.

    Args:
        a: a result, or the records of a run (`store.read(run_id)`).
        b: the other.
    """
    left, right = (tuple(run.records if isinstance(run, Result) else run) for run in (a, b))
    moves = tuple(zip_longest(_moves(left), _moves(right)))
    sums = _summary(left), _summary(right)
    return Comparison(
        run_ids=(sums[0].run_id, sums[1].run_id),
        record=_parting(left, right),
        move=next((n for n, pair in enumerate(moves) if not _is_same(*pair)), None),
        moves=moves,
        state=(sums[0].state, sums[1].state),
        turns=(sums[0].turns, sums[1].turns),
        tokens=(sums[0].tokens, sums[1].tokens),
        price=(sums[0].price, sums[1].price),
        duration=(_worked(left), _worked(right)),
    )


def _parting(a: Iterable[Record], b: Iterable[Record]) -> tuple[int | None, int | None] | None:
    for left, right in zip_longest(_done(a), _done(b)):
        if left is None or right is None or left.kind != right.kind or _told(left) != _told(right):
            return (None if left is None else left.seq, None if right is None else right.seq)
    return None


def _done(records: Iterable[Record]) -> list[Record]:
    """Without what only says that it stood still; a request that was sent again after a crash is one request."""
    return [r for r in records if r.kind not in _NOT_DONE and not r.data.get("resent")]


def _told(record: Record) -> Any:
    data = {name: value for name, value in record.data.items() if name not in _NOT_SAID and value is not None}
    if record.kind == "tool.end":
        return [end[:3] for end in plain(data["ends"])]
    if record.kind == "asked":
        data.pop("expires_at", None)
    if isinstance(data.get("evidence"), Mapping):
        data["evidence"] = {n: v for n, v in data["evidence"].items() if n not in {*_NOT_SAID, "retry_at"}}
    return plain(data)


def _moves(records: Iterable[Record]) -> list[Move]:
    return [move_of(r, number) for number, r in enumerate((r for r in records if r.kind == "move"), 1)]


def _is_same(a: Move | None, b: Move | None) -> bool:
    return a is not None and b is not None and str(a) == str(b)


def _summary(records: tuple[Record, ...]) -> RunSummary:
    summary = RunSummary(records[0].data["run_id"] if records else "")
    summary.add(records)
    return summary


def _worked(records: Iterable[Record]) -> float:
    """Recorded work: what was waited for side by side counts once."""
    seconds = 0.0
    for record in records:
        if record.kind == "tool.end":
            seconds += max((end[3] for end in record.data["ends"]), default=0.0)
        else:
            seconds += record.data.get("seconds") or 0.0
    return seconds
