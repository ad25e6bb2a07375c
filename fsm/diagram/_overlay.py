"""What runs did, arrow by arrow and state by state, to be drawn over the graph they ran on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve, field, frozen

from fsm._errors import UsageError
from fsm._graph import Graph
from fsm._records import Move, Record

from ._runs import Key, Renamed, Sums, Tally, Way

__all__ = ["Count", "Counts", "Key", "Overlay", "Tally", "Way"]

Count = tuple[str, str] | Key
"""What is counted: an event of a state, or one alternative of it."""

Counts = Mapping[tuple[str, str], int] | Mapping[Key, int] | Mapping[Count, int]  # a mapping's keys are of one type


@frozen
class Overlay:
    """What runs did, to be drawn into the picture: `Overlay.of`, `of_runs` and `of_counts` make one.

    `moves` are numbered on the arrows, `current` is the state that the run is in and `waits_for` who it waits for there
    ("person", "api", "wait" for a clock; empty: nobody). `edges` and `states` are what was done on each arrow and in
    each state, `total` all of it, `turns` the replies; `stuck` are the arrows of the cycle that ended a run.

    Where `runs` is more than one, arrows are not numbered, the busiest ones are drawn the thickest, and `standing` says
    how many runs stand in a state now and who they wait for. `is_count`: a table of counts, in which what is zero says
    "never"; `together` are arrows whose count is that of all alternatives of their event. `other` is the run that this
    one is compared with. `workflows` are those that the runs are of, by name, each with the id of a run of it; `began`
    (seconds since the epoch) and `reason` are of the one run.
    """

    moves: tuple[Move, ...] = ()
    current: str | None = None
    edges: Mapping[Key, Tally] = field(factory=dict, kw_only=True)
    states: Mapping[str, Tally] = field(factory=dict, kw_only=True)
    stuck: frozenset[Key] = field(default=frozenset(), kw_only=True)
    runs: int = field(default=1, kw_only=True)
    run_id: str = field(default="", kw_only=True)
    waits_for: str = field(default="", kw_only=True)
    total: Tally | None = field(default=None, kw_only=True)
    turns: int = field(default=0, kw_only=True)
    stuck_runs: int = field(default=0, kw_only=True)
    standing: Mapping[tuple[str, str], int] = field(factory=dict, kw_only=True)
    is_count: bool = field(default=False, kw_only=True)
    together: frozenset[Key] = field(default=frozenset(), kw_only=True)
    other: Overlay | None = field(default=None, kw_only=True)
    ways: Mapping[Way, Tally] = field(factory=dict, kw_only=True, repr=False)
    strays: Mapping[Way, int] = field(factory=dict, kw_only=True)
    workflows: Mapping[str, str] = field(factory=dict, kw_only=True)
    began: float = field(default=0.0, kw_only=True)
    reason: str = field(default="", kw_only=True)

    @classmethod
    def of(cls, records: Iterable[Record], *, renamed: Renamed | None = None) -> Overlay:
        """What one run did.

        Args:
            records: of the run, from its first: `result.records`, `store.read(run_id)`.
            renamed: what states of older versions are called now (`Workflow.renamed`).
        """
        return cls.of_runs((records,), renamed=renamed)

    @classmethod
    def of_runs(cls, runs: Iterable[Iterable[Record]], *, renamed: Renamed | None = None) -> Overlay:
        """What many runs did, added up; they are read one after the other, and none is kept.

        Args:
            runs: the records of each.
            renamed: what states of older versions are called now (`Workflow.renamed`).
        """
        sums = Sums()
        for records in runs:
            sums.add(records, renamed or {})
        return _overlay(sums)

    @classmethod
    def of_counts(cls, counts: Counts, graph: Graph) -> Overlay:
        """Any table of counts, such as how often tests took each arrow; what it does not name was never taken.

        Args:
            counts: how often, by (state, event), which counts for all alternatives of the event together, or by
                (state, event, index).
            graph: the declaration that the counts are of.

        Raises:
            UsageError: it names a state, an event or an alternative that the graph does not have, or something that is
                no count.
        """
        edges: dict[Key, Tally] = {edge.key: Tally() for edge in graph.edges}
        together: set[Key] = set()
        for key, count in counts.items():
            _check_count(key, count, graph)
            row = [edge.key for edge in graph.row(key[0], key[1]) if key[2:] in {(), (edge.index,)}]
            edges.update((each, edges[each].plus(Tally(count))) for each in row)
            together.update(row if len(row) > 1 and count else ())
        return cls(edges=edges, runs=0, is_count=True, together=frozenset(together))

    def against(self, other: Overlay) -> Overlay:
        """The same, to be drawn with what the other run did otherwise."""
        return evolve(self, other=other)

    def on(self, graph: Graph) -> Overlay:
        """What of it happened on this graph; `strays` is what another version did, whose arrows lead elsewhere.

        Raises:
            UsageError: a run of another workflow.
        """
        for name, run_id in self.workflows.items():
            if name != graph.name:
                msg = f"run {run_id!r} is a run of {name!r}, not of {graph.name!r}: draw it with the workflow it is of"
                raise UsageError(msg)
        dests = {edge.key: edge.dest for edge in graph.edges}
        other = None if self.other is None else self.other.on(graph)
        if not self.ways:
            return evolve(self, other=other)
        strays = {way: tally.count for way, tally in self.ways.items() if dests.get(way[:3]) != way[3]}
        edges = {way[:3]: tally for way, tally in self.ways.items() if way not in strays}
        return evolve(self, edges=edges, strays=strays, stuck=self.stuck & edges.keys(), other=other)


def _overlay(sums: Sums) -> Overlay:
    edges: dict[Key, Tally] = {}
    for way, tally in sums.ways.items():
        edges[way[:3]] = edges.get(way[:3], Tally()).plus(tally)
    return Overlay(
        sums.moves,
        sums.state if sums.runs == 1 else None,
        edges=edges,
        states=sums.states,
        stuck=frozenset(way[:3] for way in sums.stuck),
        runs=sums.runs,
        run_id=sums.run_id if sums.runs == 1 else "",
        waits_for=sums.waits_for if sums.runs == 1 else "",
        total=sums.total,
        turns=sums.turns,
        stuck_runs=sums.stuck_runs,
        workflows=sums.workflows,
        began=sums.began if sums.runs == 1 else 0.0,
        reason=sums.reason if sums.runs == 1 else "",
        standing=sums.standing,
        ways=sums.ways,
    )


_MOST = 10**12  # nobody counted further, and no picture has room for it


def _check_count(key: Any, count: Any, graph: Graph) -> None:
    if not isinstance(key, tuple) or len(key) not in {2, 3} or not all(isinstance(part, str) for part in key[:2]):
        raise UsageError(f"counts are by (state, event) or (state, event, index), not {key!r}")
    if type(count) is not int or not 0 <= count <= _MOST:
        shown = "too large a number" if type(count) is int and count > _MOST else repr(count)
        raise UsageError(f"{key!r} has {shown} in a table of counts: that is no count (0 to {_MOST:,})")
    state, event, *index = key
    if state not in graph.by_name:
        raise UsageError(f"'{graph.name}' has no state {state!r}{_near(state, graph.by_name)}")
    if not (row := graph.row(state, event)):
        raise UsageError(f"'{graph.name}.{state}' does not accept {event!r}{_near(event, graph.events(state))}")
    if index and index[0] not in [edge.index for edge in row]:
        raise UsageError(
            f"'{graph.name}.{state}' has {len(row)} alternatives for {event}, and none is number {index[0]!r}"
        )


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f": did you mean {near[0]!r}?" if near else f"; it has {', '.join(names) or 'none'}"
