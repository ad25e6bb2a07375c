"""`compare`: two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, zip_longest
from typing import Any

from attrs import field, frozen

from ._encoded import plain
from ._records import Move, Record, move_of, parting
from ._result import Result
from ._summary import RunSummary
from ._versions import translated

_NOT_SAID = frozenset({"seconds", "request_id", "run_id", "forked", "fingerprint", "tags", "attempt", "resent"})
_LAST = ("reply.message", "request.n")  # ids and usage follow from what was said
_MOST, _SHOWN = 3, 120
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
    differs: tuple[tuple[str, str, str], ...] = field(default=(), kw_only=True)
    """What differs at that record, most telling first: the field, and its value in each, shortened."""

    def __bool__(self) -> bool:
        return self.record is not None

    def __str__(self) -> str:
        head = f"{self.run_ids[0]} and {self.run_ids[1]}"
        if self.record is None:
            return f"{head} do not differ"
        places = " and ".join("its end" if seq is None else f"record {seq}" for seq in self.record)
        told = [f"  {name}: {left} ≠ {right}" for name, left, right in self.differs]
        lines = [f"{head} part at {places}", *told, *self._moved()]
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
    given = [tuple(run.records if isinstance(run, Result) else run) for run in (a, b)]
    left, right = _as_now(given[0], given[1]), _as_now(given[1], given[0])
    pair = _parting(left, right)
    paths = _moves(left), _moves(right)
    sums = _summary(left), _summary(right)
    return Comparison(
        run_ids=(sums[0].run_id, sums[1].run_id),
        record=None if pair is None else (_seq(pair[0]), _seq(pair[1])),
        move=parting(*paths),
        moves=tuple(zip_longest(*paths)),
        state=(sums[0].state, sums[1].state),
        turns=(sums[0].turns, sums[1].turns),
        tokens=(sums[0].tokens, sums[1].tokens),
        price=(sums[0].price, sums[1].price),
        duration=(_worked(left), _worked(right)),
        differs=() if pair is None else _differing(*pair),
    )


def _as_now(records: tuple[Record, ...], other: tuple[Record, ...]) -> tuple[Record, ...]:
    """With the names that the states have by now, as a fork has them from its first record on.

    A run that was not moved, and began under the version that the other one began under, is called as that one is.
    """
    moved, also = _renames(records), _renames(other)
    if moved:
        return tuple(translated(records, moved))
    begun = {found[0].data.get("fingerprint") for found in (records, other) if found}
    if not also or len(begun) > 1 or any(record.kind == "migrate" for record in records):
        return records
    return tuple(translated(records, [(len(records), names) for _, names in also]))


def _renames(records: Iterable[Record]) -> list[tuple[int, Mapping[str, str]]]:
    return [(r.seq, r.data["renamed"]) for r in records if r.kind == "migrate" and r.data["renamed"]]


def _seq(record: Record | None) -> int | None:
    return None if record is None else record.seq


def _differing(a: Record | None, b: Record | None) -> tuple[tuple[str, str, str], ...]:
    if a is None or b is None or a.kind != b.kind:
        return (("record", _named(a), _named(b)),)
    pairs = sorted(_leaves(_told(a), _told(b), a.kind), key=lambda pair: pair[0].startswith(_LAST))
    return tuple((name, _short(left), _short(right)) for name, left, right in islice(pairs, _MOST))


def _leaves(a: Any, b: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """The places in which two values differ."""
    if isinstance(a, dict) and isinstance(b, dict) and (a.keys() & b.keys() or not (a or b)):
        for key in dict.fromkeys((*a, *b)):
            yield from _leaves(a.get(key), b.get(key), f"{name}.{key}")
    elif isinstance(a, list) and isinstance(b, list):
        for number, (left, right) in enumerate(zip_longest(a, b)):
            yield from _leaves(left, right, f"{name}[{number}]")
    elif a != b:
        yield name, a, b


def _named(record: Record | None) -> str:
    if record is None:
        return "nothing"
    if record.kind == "move":
        return f"the move {move_of(record, 0)}"
    return f"a{'n' * (record.kind[0] in 'aeo')} {record.kind}" + (
        f" in '{record.data['state']}'" if "state" in record.data else ""
    )


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _parting(a: Iterable[Record], b: Iterable[Record]) -> tuple[Record | None, Record | None] | None:
    for left, right in zip_longest(_done(a), _done(b)):
        if left is None or right is None or left.kind != right.kind or _told(left) != _told(right):
            return left, right
    return None


def _done(records: Iterable[Record]) -> list[Record]:
    """Without what only says that it stood still; a request that was sent again after a crash is one request."""
    return [r for r in records if r.kind not in _NOT_DONE and not r.data.get("resent")]


def _told(record: Record) -> Any:
    data = {name: value for name, value in record.data.items() if name not in _NOT_SAID and value is not None}
    if record.kind == "tool.end":
        return {"ends": [end[:3] for end in plain(data["ends"])]}
    if record.kind == "reply":
        data["content"] = json.loads(data["content"])
    if record.kind == "open":
        data.pop("heads", None)  # they follow from the version, and show in the hashes of requests
    if record.kind == "asked":
        data.pop("expires_at", None)
    if isinstance(data.get("evidence"), Mapping):
        data["evidence"] = {n: v for n, v in data["evidence"].items() if n not in {*_NOT_SAID, "retry_at"}}
    return plain(data)


def _moves(records: Iterable[Record]) -> list[Move]:
    return [move_of(r, number) for number, r in enumerate((r for r in records if r.kind == "move"), 1)]


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
