"""Records of runs, added up: what was done on each arrow and in each state.

What happens in a state is charged to the state and to the arrow by which it is left, so the arrows of a state add up to
it (but for what has not been left yet). Runs are read one after the other and only sums are kept: how many there are
makes no difference to the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from attrs import define, evolve, field, frozen

from fsm._errors import UsageError
from fsm._facts import Usage
from fsm._records import Move, Record, move_of
from fsm._summary import RunSummary

Key = tuple[str, str, int]
"""What names an arrow: source, event, index (`Edge.key`)."""

Way = tuple[str, str, int, str]
"""An arrow as it was taken: source, event, index, dest. Another version of the workflow may lead it elsewhere."""


@frozen
class Tally:
    """How often, how long (seconds of recorded work), at what price (US dollars, None: unknown), how often badly."""

    count: int = 0
    seconds: float = 0.0
    tokens: int = 0
    price: float | None = 0.0
    failures: int = 0

    def plus(self, other: Tally) -> Tally:
        """The sum; a price is unknown where one of both is."""
        price = None if self.price is None or other.price is None else self.price + other.price
        return Tally(
            self.count + other.count,
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            price,
            self.failures + other.failures,
        )


Renamed = Mapping[str, str]
K = TypeVar("K")
_ONCE = Tally(1)


def rename(way: Way, names: Renamed) -> Way:
    """The arrow with the names that its states have now."""
    source, event, index, dest = way
    return (names.get(source, source), event, index, names.get(dest, dest))


def way_of(move: Move) -> Way:
    """The arrow of a move."""
    return (move.source, move.event, move.index, move.dest)


@define
class Sums:
    """What runs did. `moves` are those of the run where there is one only, `standing` says how many are where now."""

    runs: int = 0
    ways: dict[Way, Tally] = field(factory=dict)
    states: dict[str, Tally] = field(factory=dict)
    stuck: set[Way] = field(factory=set)
    standing: dict[tuple[str, str], int] = field(factory=dict)  # (state, who it waits for, empty: nobody) of live runs
    total: Tally = field(factory=Tally)  # its count is that of moves
    turns: int = 0
    stuck_runs: int = 0
    moves: tuple[Move, ...] = ()
    state: str | None = None
    run_id: str = ""
    waits_for: str = ""
    workflows: dict[str, str] = field(factory=dict)  # their names, each with a run of it
    began: float = 0.0
    reason: str = ""

    def add(self, records: Iterable[Record], names: Renamed) -> None:
        """Read one more run.

        Args:
            records: of one run, from its first.
            names: what states of older versions are called now.

        Raises:
            UsageError: the first record is not there.
        """
        run = _Run()
        for record in records:
            run.add(record)
        if not run.summary.records:
            return
        run.rename(names)
        self.runs += 1
        run.leave()
        for way, tally in run.ways.items():
            self.ways[way] = self.ways.get(way, Tally()).plus(tally)
            self.total = self.total.plus(tally)
        for name, tally in run.states.items():
            self.states[name] = self.states.get(name, Tally()).plus(tally)
        self.total = self.total.plus(run.spent)
        self.stuck |= run.cycle
        self.stuck_runs += bool(run.cycle)
        self.turns += run.summary.turns
        self.moves = tuple(run.moves) if self.runs == 1 else ()
        self.run_id, self.began = run.run_id, run.summary.started
        if run.summary.workflow:
            self.workflows.setdefault(run.summary.workflow, run.run_id)
        status, reason = run.summary.status, run.summary.reason
        self.reason = f"{status}: {reason}" if status != "running" and reason else ""
        self.state, self.waits_for = run.state, run.summary.waits_for or ""
        if run.summary.status != "ended":
            place = (self.state, self.waits_for)
            self.standing[place] = self.standing.get(place, 0) + 1


@define
class _Run:
    """One run, record by record."""

    summary: RunSummary = field(factory=lambda: RunSummary(""))
    run_id: str = ""
    state: str = ""
    ways: dict[Way, Tally] = field(factory=dict)
    states: dict[str, Tally] = field(factory=dict)
    moves: list[Move] = field(factory=list)
    replies: list[int] = field(factory=list)  # how many moves had been made when each reply came
    cycle: set[Way] = field(factory=set)
    spent: Tally = field(factory=Tally)  # since the last move

    def add(self, record: Record) -> None:
        if not self.summary.records:
            if record.kind != "open":
                msg = (
                    f"the records of a run begin with `open`, not with `{record.kind}`: give all of them, as "
                    "result.records and store.read(run_id) do"
                )
                raise UsageError(msg)
            self.run_id = str(record.data.get("run_id") or "")
            self._enter(record.data["state"])
        self.summary.add((record,))
        if record.kind == "move":
            self._move(record)
        elif record.kind == "migrate":
            self.rename(record.data.get("renamed") or {})
        elif (spend := _SPENT.get(record.kind)) is not None:
            self.spent = self.spent.plus(spend(record.data))
            if record.kind == "reply":
                self.replies.append(len(self.moves))

    def _enter(self, state: str) -> None:
        self.state = state
        self._charge(state, _ONCE)

    def _charge(self, state: str, tally: Tally) -> None:
        self.states[state] = self.states.get(state, Tally()).plus(tally)

    def _move(self, record: Record) -> None:
        move = move_of(record, len(self.moves) + 1)
        self.moves.append(move)
        way = way_of(move)
        self.ways[way] = self.ways.get(way, Tally()).plus(self.spent).plus(_ONCE)
        self._charge(move.source, self.spent)
        self.spent = Tally()
        self._enter(move.dest)
        if move.event == "stuck":
            self._mark(record.data.get("evidence") or {})

    def _mark(self, evidence: Mapping[str, Any]) -> None:
        """The arrows from the first reply that the evidence names up to here: the cycle (`Finding.turns`)."""
        turns = [turn for turn in evidence.get("turns") or () if isinstance(turn, int) and turn > 0]
        if turns and min(turns) <= len(self.replies):
            first = self.replies[min(turns) - 1]
            self.cycle.update(way_of(move) for move in self.moves[first:-1])

    def leave(self) -> None:
        """What was done in the state that it stands in has no arrow yet."""
        self._charge(self.state, self.spent)

    def rename(self, names: Renamed) -> None:
        if not names:
            return
        self.state = names.get(self.state, self.state)
        self.ways = _merged((rename(way, names), tally) for way, tally in self.ways.items())
        self.states = _merged((names.get(name, name), tally) for name, tally in self.states.items())
        self.cycle = {rename(way, names) for way in self.cycle}
        self.moves = [
            evolve(m, source=names.get(m.source, m.source), dest=names.get(m.dest, m.dest)) for m in self.moves
        ]


def _merged(tallies: Iterable[tuple[K, Tally]]) -> dict[K, Tally]:
    found: dict[K, Tally] = {}
    for key, tally in tallies:
        found[key] = found.get(key, Tally()).plus(tally)
    return found


# ── what a record adds ───────────────────────────────────────────────────────────────────────────────────────────────


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def _reply(data: Mapping[str, Any]) -> Tally:
    usage = Usage().plus(data["message"].get("usage") or {})
    return Tally(0, _seconds(data.get("seconds")), usage.total, data.get("price"))


def _error(data: Mapping[str, Any]) -> Tally:
    return Tally(0, _seconds(data.get("seconds")), failures=1)


def _tools(data: Mapping[str, Any]) -> Tally:
    """Calls of one commit ran beside each other, so the longest of them counts."""
    ends = data.get("ends") or ()  # an outline has none
    longest = max((_seconds(end[3]) for end in ends), default=0.0)
    return Tally(0, longest, failures=sum(bool(end[2]) for end in ends))


def _code(data: Mapping[str, Any]) -> Tally:
    return Tally(0, _seconds(data.get("seconds")), failures=int(bool(data.get("error"))))


_SPENT: Mapping[str, Callable[[Mapping[str, Any]], Tally]] = {
    "reply": _reply,
    "error": _error,
    "tool.end": _tools,
    "code.end": _code,
}
