"""`difference`: what a newer version of a workflow changed, state by state and row by row.

Two rows are the same if they have one source, event, guard (by name), effects and target; where they are declared does
not matter. Within the alternatives of one event, what is the same is paired first, then what has the same guard
(rerouted), then what leads to the same state and is a row of the same sort (changed); the rest was added or removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import evolve, field, frozen

from ._effects import Effect
from ._graph import Edge, Graph, Node
from ._params import Limits
from ._traits import shown, told_of, trait_words, traits_of, yes

EdgeChange = Literal["added", "removed", "rerouted", "changed", "moved"]
StateChange = Literal["added", "removed", "changed"]

_SAME = "stop_sequence"  # where it is implied, it goes where `end_turn` goes
_SUMMED = 3  # more standard rows of one state than this are counted, not listed


@frozen
class ChangedEdge:
    """A row that differs. `old` is None where it was added, `new` where it was removed.

    `rerouted`: the same event and guard lead elsewhere. `changed`: guard, effects, or whether it is a standard row.
    `moved`: the same alternative, tried before or after others that it was not.
    """

    change: EdgeChange
    old: Edge | None = None
    new: Edge | None = None
    moved: bool = field(default=False, kw_only=True)  # it is tried before or after others that it was not, besides

    @property
    def edge(self) -> Edge:
        """The row as it is now, or was before it went."""
        found = self.new if self.new is not None else self.old
        assert found is not None  # noqa: S101 - one of them is always there
        return found

    @property
    def words(self) -> tuple[str, ...]:
        """What happened to it, in few words each."""
        if self.old is None or self.new is None:
            return (self.change,)
        return tuple(_edge_words(self.old, self.new, moved=self.moved)) or (self.change,)

    def __str__(self) -> str:
        edge = self.edge
        return f"{edge.source} --{edge.label}--> {edge.dest}: {', '.join(self.words)}"


def _group(each: ChangedEdge) -> tuple[str, str]:
    return (each.edge.source, each.change)


@frozen
class ChangedState:
    """A state that differs; `traits` are what it is made of as (what, was, is), empty where it came or went."""

    name: str
    change: StateChange
    kind: str = ""
    traits: tuple[tuple[str, str, str], ...] = field(default=(), kw_only=True)

    @property
    def words(self) -> tuple[str, ...]:
        """What happened to it, in few words each."""
        return tuple(trait_words(*trait) for trait in self.traits) or (f"{self.change} ({self.kind})",)

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.words)}"


@frozen
class Difference:
    """What differs between two graphs; false where nothing does. `str()` has a line for each state and row.

    `gone` are the states that were removed, `whole` what differs in the workflow itself as (what, was, is). `older` is
    what the other version is called, `compared` what was looked at.
    """

    states: tuple[ChangedState, ...] = ()
    edges: tuple[ChangedEdge, ...] = ()
    gone: tuple[Node, ...] = ()
    whole: tuple[tuple[str, str, str], ...] = field(default=(), kw_only=True)
    name: str = field(default="", kw_only=True)
    older: str = field(default="", kw_only=True)
    compared: str = field(default="states and rows", kw_only=True)

    def __bool__(self) -> bool:
        return bool(self.states or self.edges or self.whole)

    def state(self, name: str) -> ChangedState | None:
        """What happened to a state, None where nothing did."""
        return next((each for each in self.states if each.name == name), None)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for each difference; standard rows that come or go with their state are not worth one."""
        return tuple(f"{head}: {', '.join(words)}" for head, words in self.rows)

    @property
    def rows(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The same, as what differs and the words about it."""
        told = self.told
        rows: list[tuple[str, tuple[str, ...]]] = [(self.name, (trait_words(*each),)) for each in self.whole]
        rows += [(each.name, each.words) for each in self.states]
        rows += [(f"{e.edge.source} --{e.edge.label}--> {e.edge.dest}", e.words) for e in told]
        for (source, change), count in self._standard.items():
            if count > _SUMMED:
                rows.append((source, (f"{count} standard rows {change}",)))
        return tuple(rows)

    @property
    def told(self) -> tuple[ChangedEdge, ...]:
        """The rows that are worth a line each."""
        sums = self._standard
        return tuple(
            each
            for each in self.edges
            if not each.edge.implied or (each.edge.event != _SAME and 0 < sums.get(_group(each), 0) <= _SUMMED)
        )

    @property
    def _standard(self) -> Mapping[tuple[str, str], int]:
        """How many standard rows changed how, of the states that are in both versions."""
        gone = {each.name for each in self.states if each.change != "changed"}
        implied = [e for e in self.edges if e.edge.implied and e.edge.event != _SAME]
        return Counter(_group(each) for each in implied if each.edge.source not in gone)

    def __str__(self) -> str:
        return "\n".join(self.lines) or f"no difference in {self.compared}"


def difference(
    old: Graph,
    new: Graph,
    *,
    renamed: Mapping[str, str] | None = None,
    limits: tuple[Limits, Limits] | None = None,
) -> Difference:
    """Say what differs between two versions of a workflow.

    Args:
        old: `Older.graph`.
        new: `Newer.graph`.
        renamed: what states of the old one are called in the new one, as `Newer.renamed` says; such a state is said to
            be renamed, its rows are compared under the new name.
        limits: of the old one and of the new one, which graphs do not have.

    Returns:
        States and rows that differ, in the order of the new graph, what was removed after what is still there.
    """
    names = {was: now for was, now in (renamed or {}).items() if was in old.by_name}
    old = _with_names(old, names)
    before = {now: was for was, now in names.items()}
    states = [each for name in _all(new.by_name, old.by_name) for each in _state(old, new, name, before.get(name))]
    rows = {(edge.source, edge.event): None for graph in (new, old) for edge in graph.edges}
    sources = {name: place for place, name in enumerate(_all(new.by_name, old.by_name))}
    ordered = sorted(rows, key=lambda row: sources[row[0]])  # stable: of one source they stand as in the new graph
    edges = [each for row in ordered for each in _row(old.row(*row), new.row(*row))]
    gone = tuple(node for node in old.nodes if node.name not in new.by_name)
    compared = "states, rows and limits" if limits is not None else "states and rows"
    return Difference(
        tuple(states),
        tuple(edges),
        gone,
        name=new.name,
        whole=tuple(_whole_traits(old, new, limits)),
        older=_called(old, new),
        compared=compared,
    )


def _called(old: Graph, new: Graph) -> str:
    """By its name, and where versions share it by the file and line of its first state."""
    where = next((node.where for node in old.nodes if node.where), "")
    return f"{old.name} of {where}" if where and old.name == new.name else old.name


def _whole_traits(old: Graph, new: Graph, limits: tuple[Limits, Limits] | None) -> Iterator[tuple[str, str, str]]:
    if old.strict != new.strict:
        yield "strict", yes(old.strict), yes(new.strict)
    before, after = (each.given() for each in limits) if limits is not None else ({}, {})
    for name in _all(after, before):
        if before.get(name) != after.get(name):
            yield f"limit of {name}", shown(before.get(name)), shown(after.get(name))


def _with_names(graph: Graph, names: Mapping[str, str]) -> Graph:
    if not names:
        return graph
    nodes = tuple(evolve(node, name=names.get(node.name, node.name)) for node in graph.nodes)
    edges = tuple(
        evolve(edge, source=names.get(edge.source, edge.source), dest=names.get(edge.dest, edge.dest))
        for edge in graph.edges
    )
    return evolve(graph, nodes=nodes, edges=edges)


def _all(first: Iterable[str], then: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*first, *then)))


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(old: Sequence[Edge], new: Sequence[Edge]) -> Iterator[ChangedEdge]:
    """Pair the alternatives of one event, the likest first."""
    left, right = list(old), list(new)
    pairs: list[tuple[Edge, Edge]] = []
    keys: tuple[Callable[[Edge], Any], ...] = (
        _whole,
        lambda e: (_guard(e), _effects(e)),
        _guard,
        lambda e: (e.dest, e.implied),
    )
    for key in keys:
        for one in tuple(left):
            other = next((edge for edge in right if key(edge) == key(one)), None)
            if other is not None:
                left.remove(one)
                right.remove(other)
                pairs.append((one, other))
    pairs.sort(key=lambda pair: pair[1].index)
    kept = _in_order([one.index for one, _ in pairs])
    found = [
        ChangedEdge(what, one, other, moved=one.index not in kept)
        for one, other in pairs
        if (what := _what(one, other, one.index in kept))
    ]
    found += [ChangedEdge("added", new=edge) for edge in right]
    yield from sorted(found, key=lambda each: each.edge.index)
    yield from (ChangedEdge("removed", old=edge) for edge in left)


def _what(old: Edge, new: Edge, kept: bool) -> EdgeChange | None:  # noqa: FBT001 - it is private
    if old.dest != new.dest:
        return "rerouted"
    if _whole(old) != _whole(new):
        return "changed"
    return None if kept else "moved"


def _in_order(places: Sequence[int]) -> set[int]:
    """The longest run of places that still follow each other: what is not in it was moved."""
    best: list[list[int]] = []
    for place in places:
        before = sorted((run for run in best if run[-1] < place), key=len)
        best.append([*(before[-1] if before else []), place])
    longest = max(map(len, best), default=0)
    return set(next((run for run in best if len(run) == longest), []))


def _whole(edge: Edge) -> tuple[Any, ...]:
    return (edge.dest, _guard(edge), _effects(edge), edge.implied)


def _guard(edge: Edge) -> str:
    return "" if edge.guard is None else str(edge.guard)


def _effects(edge: Edge) -> tuple[Any, ...]:
    return tuple((effect.name, effect.change, _words(effect)) for effect in edge.effects)


def _words(effect: Effect) -> Any:
    """What it says, where that is fixed: a long text is shortened in its name."""
    value = getattr(effect.decide, "value", None)
    return value if isinstance(value, (str, int, float)) else None


def _edge_words(old: Edge, new: Edge, *, moved: bool) -> Iterator[str]:
    if old.dest != new.dest:
        yield f"rerouted, was {old.dest}"
    if _guard(old) != _guard(new):
        yield f"guard was {_guard(old) or 'none'}"
    if _effects(old) != _effects(new):
        was, now = (", ".join(map(str, edge.effects)) for edge in (old, new))
        yield "effects say other words" if was == now else f"effects were {was or 'none'}"
    if old.implied != new.implied:
        yield "a standard row now" if new.implied else "was a standard row"
    if moved and old.index != new.index:
        yield f"tried as number {new.index + 1}, was {old.index + 1}"


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _state(old: Graph, new: Graph, name: str, was: str | None) -> Iterator[ChangedState]:
    one, other = old.by_name.get(name), new.by_name.get(name)
    if one is None or other is None:
        node = one or other
        assert node is not None  # noqa: S101 - it has the name from one of the graphs
        yield ChangedState(name, "added" if one is None else "removed", node.kind)
        return
    left, right = dict(traits_of(one)), dict(traits_of(other))
    traits = [(what, left.get(what, ""), right.get(what, "")) for what in _all(left, right)]
    before, after = told_of(one), told_of(other)
    changed = [(what, before.get(what, was), after.get(what, now)) for what, was, now in traits if was != now]
    # What is said of a tool is said where it is there before and after.
    changed = [trait for trait in changed if " of " not in trait[0] or (trait[1] and trait[2])]
    if was is not None:
        changed.insert(0, ("name", was, name))
    if changed:
        yield ChangedState(name, "changed", other.kind, traits=tuple(changed))
