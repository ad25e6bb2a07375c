"""Graph, run and findings to the picture: what is drawn, what is merged, what is summed up.

The order is the order of the graph, so the same declaration gives the same picture, character by character.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fsm._alphabet import ALPHABET, Group
from fsm._difference import Difference
from fsm._graph import Edge, Graph, Node
from fsm._guards import leaves
from fsm._params import lasting
from fsm._states import Approval, Claude, Code, Human

from ._folding import Folded, fold
from ._groups import Groups, framed, grouped
from ._marks import Marks
from ._model import Arrow, Box, Detail, Line, Note, Picture
from ._overlay import Key, Overlay
from ._text import clean, first_sentence, short, unlike, wrapped

_STANDARD = "standard rows: of every state that has no row of its own for the event"
_SAME, _AS_END_TURN = "same state", "where end_turn leads"
_NAME, _PART, _FULL_PART = 40, 46, 120  # characters


def make_picture(
    graph: Graph,
    *,
    overlay: Overlay | None = None,
    detail: Detail = "default",
    findings: Iterable[Any] = (),
    merged: bool = True,
    groups: Groups | None = None,
    folded: Folded = False,
    difference: Difference | None = None,
) -> Picture:
    """The picture of a graph, with a run and findings where given.

    `merged` draws one arrow for all rows between two states, `difference` what this version changed; `groups` and
    `folded` are those of `render`.
    """
    graph = grouped(graph, groups)
    maker = _Maker(Marks(graph, overlay, difference), detail, tuple(findings), merged=merged)
    return fold(framed(maker.picture(), maker.graph), folded, is_heat=maker.marks.is_heat, digits=maker.marks.digits)


class _Maker:
    def __init__(self, marks: Marks, detail: Detail, findings: tuple[Any, ...], *, merged: bool) -> None:
        self.marks, self.detail, self.merged = marks, detail, merged
        self.overlay, self.graph = marks.overlay, marks.graph
        self.edge_findings: dict[Key, list[str]] = {}
        self.state_findings: dict[str, list[str]] = {}
        self.findings = findings
        for finding in findings:
            self._place(finding, self.marks.known)
        self.names = unlike([clean(node.name) for node in self.graph.nodes], _NAME if merged else None)
        self.shown = dict(zip((node.name for node in self.graph.nodes), self.names, strict=True))
        self.ids = {node.name: f"s{place}" for place, node in enumerate(self.graph.nodes, 1)}
        self.histories = {node.history for node in self.graph.nodes if node.history}

    def _place(self, finding: Any, known: dict[Key, Edge]) -> None:
        """The edge that it names, or the edges of its event, or the state; the note lists it in any case."""
        edge = getattr(finding, "edge", None)
        key = getattr(edge, "key", edge)
        row = self.graph.row(finding.state, finding.event) if finding.event else ()
        keys = [key] if key in known else [edge.key for edge in row]
        for found in keys:
            _add(self.edge_findings, found, finding.id)
        if not keys and finding.state in self.graph.by_name:
            _add(self.state_findings, finding.state, finding.id)

    def picture(self) -> Picture:
        shown: list[Edge] = []
        hidden: list[Edge] = []
        for edge in self.graph.edges:
            (shown if self._is_drawn(edge) else hidden).append(edge)
        boxes = tuple(self._box(node) for node in self.graph.nodes if self._has_box(node, shown))
        arrows = (*self._arrows(shown), *self._retries(shown, hidden))
        notes = [*self._standard(hidden), *self._wrong(), *self.marks.notes()]
        legend = tuple(self._legend(boxes, arrows))
        return Picture(
            clean(self.graph.name),
            clean(self.graph.doc.strip().split("\n\n")[0]),
            boxes,
            arrows,
            tuple(notes),
            legend,
            facts=self.marks.facts(),
        )

    def _is_drawn(self, edge: Edge) -> bool:
        single = self.marks.is_told(edge) or edge.key in self.edge_findings
        return not edge.implied or self.detail == "full" or single

    def _has_box(self, node: Node, shown: Sequence[Edge]) -> bool:
        if not node.is_exit or node.name in self.marks.visited or node.name in self.state_findings:
            return True
        return any(edge.dest == node.name for edge in shown)

    # --- boxes -------------------------------------------------------------------------------------------------------

    def _box(self, node: Node) -> Box:
        return Box(
            self.ids[node.name],
            self.shown[node.name],
            node.kind,
            details=tuple(self._details(node)),
            ok=node.ok,
            initial=node.initial,
            is_exit=node.is_exit,
            current=self.overlay is not None and self.overlay.current == node.name,
            faded=self.overlay is not None and node.name not in self.marks.visited,
            findings=_once(self.state_findings.get(node.name, ())),
            title=_sentence(f"{clean(node.name)} ({node.kind})", clean(node.where)),
            states=(node.name,),
            tally=self.overlay.states.get(node.name) if self.overlay is not None else None,
            heat=self.marks.state_heat(node.name),
            change=self.marks.state_change(node.name),
            facts=self.marks.state_words(node.name),
        )

    def _details(self, node: Node) -> Iterable[str]:
        state, limit = node.state, 30
        if isinstance(state, Claude):
            yield short(clean(state.model), limit)
            if server := [clean(t.name) for t in state.tools if not t.is_client]:
                yield from wrapped(server, limit, 2)
            if state.output is not None:
                yield "answers as JSON"
            if len(self.histories) > 1:
                yield short(f"history: {clean(state.history)}", limit)
        elif node.kind == "Tools":
            tools = {t.name: None for caller in self.graph.callers(node.name) for t in caller.client_tools}
            yield from wrapped([clean(name) for name in tools], limit, 3)
        elif isinstance(state, (Approval, Human)):
            yield "a person decides" if isinstance(state, Approval) else "a person speaks"
            if state.within is not None:
                yield f"within {lasting(state.within)}"
        elif isinstance(state, Code):
            yield short(clean(getattr(state.fn, "__name__", "function")), limit) + "()"

    # --- arrows ------------------------------------------------------------------------------------------------------

    def _arrows(self, shown: Sequence[Edge]) -> tuple[Arrow, ...]:
        groups: dict[object, list[Edge]] = {}
        for edge in shown:
            merged = (edge.source, edge.dest, edge.implied, self.marks.is_gone(edge))
            groups.setdefault(merged if self.merged else (edge.key, self.marks.is_gone(edge)), []).append(edge)
        return tuple(self._arrow(f"e{place}", edges) for place, edges in enumerate(groups.values(), 1))

    def _arrow(self, ident: str, edges: Sequence[Edge]) -> Arrow:
        first = edges[0]
        taken = any(map(self.marks.is_taken, edges))
        return Arrow(
            ident,
            self.ids[first.source],
            self.ids[first.dest],
            tuple(self._line(edge) for edge in edges),
            standard=first.implied,
            taken=taken,
            faded=self.overlay is not None and not taken,
            title="\n".join(_hover(edge, self.marks.place(edge)) for edge in edges),
            heat=self.marks.heat(edges),
        )

    def _line(self, edge: Edge) -> Line:
        limit = _FULL_PART if self.detail == "full" else _PART
        return Line(
            short(clean(edge.event), limit) or "(no name)",
            guard=short(_guard(edge), limit),
            effects=short(", ".join(clean(e) for e in edge.effects), limit),
            seqs=self.marks.numbers(edge),
            findings=_once(self.edge_findings.get(edge.key, ())),
            key=None if self.marks.is_gone(edge) else edge.key,
            tally=self.marks.tally(edge),
            stuck=self.marks.is_stuck(edge),
            change=self.marks.change(edge),
            facts=self.marks.words(edge),
            others=self.marks.others(edge),
            together=self.marks.is_together(edge),
            place=self.marks.place(edge),
        )

    def _retries(self, shown: Sequence[Edge], hidden: Sequence[Edge]) -> Iterable[Arrow]:
        """One light loop for all that sends a Claude state's request again by the standard table.

        Where a run took one of these rows, it is drawn by itself, and says that there is such a thing.
        """
        if self.detail != "default" or not self.merged:
            return
        looped = {edge.source for edge in shown if edge.source == edge.dest and edge.implied}
        loops: dict[str, list[Edge]] = {}
        for edge in hidden:
            if edge.source == edge.dest and edge.source not in looped and self._is_claude(edge.source):
                _add(loops, edge.source, edge)
        for source, edges in loops.items():
            ident = self.ids[source]
            title = "\n".join(dict.fromkeys(map(_standard_text, edges)))
            faded = self.overlay is not None
            yield Arrow(
                f"r{ident}", ident, ident, (Line("retries"),), standard=True, faded=faded, is_summary=True, title=title
            )

    def _is_claude(self, name: str) -> bool:
        return self.graph.by_name[name].kind == "Claude"

    # --- notes -------------------------------------------------------------------------------------------------------

    def _standard(self, hidden: Sequence[Edge]) -> Iterable[Note]:
        """The implied rows of all states as one small table: where they lead, and on what."""
        if self.detail != "default" or not hidden:
            return
        rows: dict[str, dict[str, None]] = {}
        own = _SAME if _SAME not in self.names else unlike([*self.names, f"({_SAME})"])[-1]  # no state's name
        for edge in hidden:
            if edge.event == "stop_sequence":
                _add_key(rows, _AS_END_TURN, edge.event)
                continue
            dest = own if edge.dest == edge.source else self.shown[edge.dest]
            _add_key(rows, dest, _standard_text(edge))
        order = [own, *self.names, _AS_END_TURN]
        yield Note(_STANDARD, tuple((dest, tuple(rows[dest])) for dest in order if dest in rows), standard=True)

    def _wrong(self) -> Iterable[Note]:
        if self.findings:
            yield Note(
                f"{len(self.findings)} finding{'s' if len(self.findings) != 1 else ''}",
                tuple((clean(f.id), tuple(_finding(f))) for f in self.findings),
                wrong=True,
            )

    # --- legend ------------------------------------------------------------------------------------------------------

    def _legend(self, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> Iterable[tuple[str, str]]:
        shapes = {box.shape for box in boxes}
        yield from ((shape, text) for shape, text in _KINDS if shape in shapes)
        if any(not arrow.standard for arrow in arrows):
            yield ("own", "row of this workflow: event [guard] / effect")
        if any(arrow.standard for arrow in arrows):
            yield ("standard", "standard row, implied")
        yield from self.marks.legend()
        if any(box.current for box in boxes):
            yield ("current", "the run is here")
        if self.findings:
            yield ("wrong", "finding")


_KINDS = (
    ("Claude", "Claude: the model acts"),
    ("Tools", "Tools: functions run"),
    ("Approval", "Approval: a person decides"),
    ("Human", "Human: a person speaks"),
    ("Code", "Code: your function decides"),
    ("Child", "Child: another workflow"),
    ("Final", "Final: the goal is reached"),
    ("Failed", "Final, not ok: it ends without the goal"),
)


def _add(into: dict[Any, list[Any]], key: Any, value: Any) -> None:
    into.setdefault(key, []).append(value)


def _add_key(into: dict[str, dict[str, None]], key: str, value: str) -> None:
    into.setdefault(key, {})[value] = None


def _once(ids: Iterable[object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clean(i) for i in ids))


def _sentence(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _standard_text(edge: Edge) -> str:
    """An implied row in few words: the many errors by their group."""
    group = ALPHABET[edge.event].group
    event = {Group.RETRYABLE: "retryable errors", Group.FATAL: "fatal errors"}.get(group, edge.event)
    guard = f" [{_guard(edge)}]" if _guard(edge) else ""
    effects = f" / {', '.join(clean(e) for e in edge.effects)}" if edge.effects else ""
    return f"{event}{guard}{effects}"


def _guard(edge: Edge) -> str:
    return "else" if edge.guard is None and edge.index else clean(edge.guard or "")


def _hover(edge: Edge, place: int) -> str:
    docs = {clean(leaf): first_sentence(leaf.doc) for leaf in (leaves(edge.guard) if edge.guard is not None else ())}
    where = clean(edge.where) or ("standard row" if edge.implied else "")
    told = (f"{name}: {doc}" for name, doc in docs.items() if doc)
    return (f"{place}. " if place else "") + _sentence(clean(edge.label), where, " ".join(told))


def _finding(finding: Any) -> Iterable[str]:
    place = " ".join(clean(p) for p in (finding.state, finding.event) if p)
    yield f"{place}: {clean(finding.problem)}" if place else clean(finding.problem)
    if remedy := clean(getattr(finding, "remedy", "")):
        yield remedy
