"""What runs and a newer version did to the rows and states of a graph, in the words that are drawn beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from attrs import evolve

from fsm._difference import ChangedEdge, Difference
from fsm._graph import Edge, Graph
from fsm._records import Move, parting

from ._model import Change, Note
from ._overlay import Key, Overlay, Tally
from ._phrases import (
    PARTING,
    WAITS,
    both,
    box_words,
    counted,
    digits_of,
    names_of,
    parting_note,
    plural,
    row_words,
    subject,
    sums,
)
from ._text import amount, clean, numbers

Measure = Literal["seconds", "tokens", "count"]

_EDGE_CHANGES: Mapping[str, Change] = {
    "added": "added", "removed": "removed", "rerouted": "rerouted", "changed": "changed", "moved": "changed",
}  # fmt: skip
_NONE = Tally()


class Marks:
    """Looks up what is to be said about a row or a state. `graph` has the rows and states that are gone, too."""

    def __init__(self, graph: Graph, overlay: Overlay | None, difference: Difference | None) -> None:
        self.overlay = overlay = overlay.on(graph) if overlay is not None else None
        self.difference = difference
        self.gone: dict[int, ChangedEdge] = {}  # by identity: another row may have their key now
        self.changed: dict[Key, ChangedEdge] = {}
        self.known = {edge.key: edge for edge in graph.edges}
        self.graph = self._union(graph)
        self.seqs: dict[Key, list[int]] = {}
        self.strays: list[Move] = []
        for move in overlay.moves if overlay else ():
            key = (move.source, move.event, move.index)
            if key in self.known and self.known[key].dest == move.dest:
                self.seqs.setdefault(key, []).append(move.seq)
            else:
                self.strays.append(move)
        self.visited = self._visited(graph)
        self.is_heat = overlay is not None and (overlay.runs > 1 or overlay.is_count) and overlay.other is None
        self.measure = self._measure()
        self.digits = digits_of((*overlay.edges.values(), *overlay.states.values())) if overlay is not None else 0
        self.most = max((tally.count for tally in overlay.edges.values()), default=0) if overlay else 0

    # --- versions ----------------------------------------------------------------------------------------------------

    def _union(self, graph: Graph) -> Graph:
        if not self.difference:
            return graph
        ghosts: list[Edge] = []
        for each in self.difference.told:
            if each.new is not None:
                self.changed[each.new.key] = each
            if each.old is not None and each.change in {"removed", "rerouted"}:
                ghosts.append(each.old)
                self.gone[id(each.old)] = each
        nodes = [node for node in graph.nodes if not node.is_exit]
        nodes += [node for node in self.difference.gone if node.name not in graph.by_name]
        nodes += [node for node in graph.nodes if node.is_exit]
        places = {node.name: place for place, node in enumerate(nodes)}
        edges = sorted((*graph.edges, *ghosts), key=lambda edge: places[edge.source])
        return evolve(graph, nodes=tuple(nodes), edges=tuple(edges))

    def is_gone(self, edge: Edge) -> bool:
        """Whether the row is one of the older version's only."""
        return id(edge) in self.gone

    def change(self, edge: Edge) -> Change:
        """What the newer version did to the row; of two runs, which of them took it."""
        if self.is_gone(edge):
            return "removed"
        if (found := self.changed.get(edge.key)) is not None:
            return _EDGE_CHANGES[found.change]
        if self.overlay is not None and self.overlay.other is not None:
            mine, others = self._counts(edge)
            return "added" if mine and not others else "removed" if others and not mine else ""
        return ""

    def state_change(self, name: str) -> Change:
        """What the newer version did to the state."""
        found = self.difference.state(name) if self.difference else None
        return found.change if found is not None else ""

    # --- runs --------------------------------------------------------------------------------------------------------

    def _visited(self, graph: Graph) -> frozenset[str]:
        if self.overlay is None:
            return frozenset()
        names = {name for move in self.overlay.moves for name in (move.source, move.dest)}
        names |= {name for name, tally in self.overlay.states.items() if tally.count}
        for key, tally in self.overlay.edges.items():
            if tally.count and key in self.known:
                names |= {key[0], self.known[key].dest}
        if not self.overlay.is_count:
            names.add(self.overlay.current or graph.initial)
        if self.overlay.other is not None:
            names |= Marks(graph, self.overlay.other, None).visited
        return frozenset(names)

    def _measure(self) -> Measure:
        """What the heat of states is: time, else tokens, else how often."""
        tallies = self.overlay.states.values() if self.overlay else ()
        if any(tally.seconds for tally in tallies):
            return "seconds"
        return "tokens" if any(tally.tokens for tally in tallies) else "count"

    def _counts(self, edge: Edge) -> tuple[int, int]:
        assert self.overlay is not None  # noqa: S101 - asked for only where two runs are compared
        assert self.overlay.other is not None  # noqa: S101
        pair = (self.overlay, self.overlay.other)
        return (pair[0].edges.get(edge.key, _NONE).count, pair[1].edges.get(edge.key, _NONE).count)

    def tally(self, edge: Edge) -> Tally | None:
        """What was done on the row; None where nothing was, or nobody counted."""
        if self.overlay is None or self.is_gone(edge):
            return None
        return self.overlay.edges.get(edge.key)

    def others(self, edge: Edge) -> Tally | None:
        """What the run did on the row that this one is compared with; None where none is."""
        if self.overlay is None or self.overlay.other is None:
            return None
        return self.overlay.other.edges.get(edge.key, _NONE)

    def place(self, edge: Edge) -> int:
        """As which of the alternatives of its event it is tried, from 1; 0 where there are no others."""
        has_others = (*edge.key[:2], 1) in self.known and not self.is_gone(edge)
        return edge.index + 1 if has_others else 0

    def is_together(self, edge: Edge) -> bool:
        """Whether its count is that of all alternatives of its event."""
        return self.overlay is not None and not self.is_gone(edge) and edge.key in self.overlay.together

    def numbers(self, edge: Edge) -> tuple[int, ...]:
        """The numbers of its moves, where one run is drawn."""
        return () if self.is_gone(edge) else tuple(sorted(self.seqs.get(edge.key, ())))

    def is_taken(self, edge: Edge) -> bool:
        """Whether a run took the row."""
        tally = self.tally(edge)
        return bool(self.numbers(edge)) or (tally is not None and tally.count > 0)

    def is_told(self, edge: Edge) -> bool:
        """Whether the row is drawn even if it is a standard row."""
        return self.is_taken(edge) or bool(self.change(edge))

    def is_stuck(self, edge: Edge) -> bool:
        """Whether the row belongs to the cycle that ended a run."""
        return self.overlay is not None and not self.is_gone(edge) and edge.key in self.overlay.stuck

    def heat(self, edges: Iterable[Edge]) -> float | None:
        """The share of the busiest row's count."""
        if not self.is_heat or not self.most:
            return None
        return max((tally.count for edge in edges if (tally := self.tally(edge))), default=0) / self.most

    def state_heat(self, name: str) -> float | None:
        """The share of the busiest state's work."""
        if not self.is_heat or self.overlay is None or not self.overlay.states:
            return None
        most = max(float(getattr(tally, self.measure)) for tally in self.overlay.states.values())
        return float(getattr(self.overlay.states.get(name, _NONE), self.measure)) / most if most else None

    # --- words -------------------------------------------------------------------------------------------------------

    def words(self, edge: Edge) -> tuple[str, ...]:
        """What is said beside a row."""
        if self.is_gone(edge):
            return ()
        found = self.changed.get(edge.key)
        words = [clean(word) for word in found.words] if found is not None and found.change != "added" else []
        if self.overlay is not None and self.overlay.other is not None:
            mine, others = self._counts(edge)
            return (*words, f"{others}× → {mine}×") if mine != others and mine and others else tuple(words)
        tally = self.tally(edge)
        return (*words, *self._tally_words(edge, tally)) if tally is not None else tuple(words)

    def _tally_words(self, edge: Edge, tally: Tally) -> Iterable[str]:
        if self.overlay is not None and self.overlay.is_count:
            together = " together" if edge.key in self.overlay.together else ""
            return (f"{amount(tally.count)}×{together}" if tally.count else "never",)
        words = row_words(tally, is_heat=self.is_heat, digits=self.digits)
        is_numbered = "×" in numbers(self.numbers(edge))  # they end in how many they are
        return words[1:] if is_numbered and not self.is_heat else words

    def state_words(self, name: str) -> tuple[str, ...]:
        """What is said in a state: what was done there, and who is waited for."""
        words: list[str] = []
        changed = self.difference.state(name) if self.difference else None
        if changed is not None and changed.traits:
            words += [clean(word) for word in changed.words]
        overlay = self.overlay
        if overlay is not None and overlay.other is not None:
            place = parting(overlay.moves, overlay.other.moves)
            paths = (overlay.moves, overlay.other.moves)
            parts = {moves[place].source for moves in paths if place is not None and place < len(moves)}
            return (*words, *([PARTING] if name in parts else []))
        if overlay is None:
            return tuple(words)
        if (tally := overlay.states.get(name)) is not None and tally.count:
            words += box_words(tally, is_heat=self.is_heat, digits=self.digits)
        if overlay.current == name and overlay.waits_for:
            words.append(WAITS[overlay.waits_for])
        if overlay.runs > 1:
            here = {who: n for (state, who), n in overlay.standing.items() if state == name}
            words += [f"{n} {plural(WAITS[who], n)}" for who, n in here.items()]
        return tuple(words)

    def facts(self) -> tuple[str, ...]:
        """What came of the runs, in few words; of two runs, of both."""
        overlay = self.overlay
        if overlay is None:
            return self._versions()
        if overlay.is_count:
            own = {edge.key[:2] for edge in self.known.values() if not edge.implied}
            standard = {edge.key[:2] for edge in self.known.values() if edge.implied}
            taken = {key[:2] for key, tally in overlay.edges.items() if tally.count}
            parts = (("own", own), ("standard", standard))
            return tuple(f"{len(rows & taken)} of {len(rows)} {name} events taken" for name, rows in parts if rows)
        if overlay.other is not None:
            pairs = zip(sums(overlay.other), sums(overlay), strict=True)
            return (*subject(overlay), *(both(was, now) for was, now in pairs if was or now))
        return (*self._versions(), *subject(overlay), *(word for word in sums(overlay, self.digits) if word))

    def _versions(self) -> tuple[str, ...]:
        """Which version it is compared with, and whether nothing differs."""
        if self.difference is None:
            return ()
        older = (f"compared with {clean(self.difference.older)}",) if self.difference.older else ()
        return older if self.difference else (*older, str(self.difference))

    def notes(self) -> Iterable[Note]:
        """Panels: what differs, where two runs part, what another version did."""
        if self.difference:
            rows = tuple((clean(head), tuple(map(clean, words))) for head, words in self.difference.rows)
            yield Note(counted("difference", len(rows)), rows)
        if self.overlay is not None and self.overlay.other is not None:
            yield parting_note(names_of(self.overlay, self.overlay.other), self.overlay.moves, self.overlay.other.moves)
        title = "moves without a row here"
        if self.overlay is not None and self.overlay.workflows:  # moves alone do not say what they are of
            title += ": made by another version of the workflow"
        if self.strays:
            yield Note(title, tuple((f"{m.seq}", (clean(m),)) for m in self.strays), wrong=True)
        elif self.overlay is not None and self.overlay.strays:
            ways = self.overlay.strays.items()
            rows = tuple((f"{n}×", (clean(f"{way[0]} --{way[1]}--> {way[3]}"),)) for way, n in ways)
            yield Note(title, rows, wrong=True)

    def legend(self) -> Iterable[tuple[str, str]]:
        """What the marks mean, as far as there are any."""
        overlay = self.overlay
        if overlay is not None and overlay.moves:
            whose = "" if overlay.other is None else f" by {names_of(overlay, overlay.other)[0]}"
            yield ("taken", f"taken{whose}, numbered in order")
        if self.is_heat:
            yield ("heat", "the thicker, the more often taken")
            if overlay is not None and overlay.states:
                yield ("warm", {"seconds": "more time", "tokens": "more tokens", "count": "more often"}[self.measure])
        if overlay is not None and overlay.stuck:
            yield ("stuck", "the cycle in which it was stuck")
        is_runs = overlay is not None and overlay.other is not None
        mine, others = names_of(overlay, overlay.other if overlay else None)
        of_runs: _Words = (("added", f"taken by {mine} only"), ("removed", f"taken by {others} only"))
        words = of_runs if is_runs else _OF_VERSIONS
        present = {self.change(edge) for edge in self.graph.edges}
        present |= {each.change for each in (self.difference.states if self.difference else ())}
        yield from ((change, word) for change, word in words if change in present)


_Words = tuple[tuple[Change, str], ...]
_OF_VERSIONS: _Words = (
    ("added", "added"),
    ("removed", "removed"),
    ("rerouted", "leads elsewhere now"),
    ("changed", "changed"),
)
