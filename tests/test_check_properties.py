"""The data-flow against a plain walk over whole situations, on random workflows; and what it costs."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm._alphabet import accepted_by
from fsm._check import check
from fsm._check._flow import BUDGET, explore, same_request
from fsm._check._paths import components
from fsm._effects import compact, discard, effect, say
from fsm._facts import Facts
from fsm._graph import Edge, Graph, build_graph
from fsm._guards import guard
from fsm._ledger import Standing, after_reply, is_kept
from fsm._state import State
from fsm._states import Approval, Claude, Code, Final, Human, Tools

SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def look_up(number: str) -> str:
    """Look something up."""
    return number


@guard
def maybe(facts: Facts) -> bool:
    """Opaque to the checks."""
    return bool(facts.text)


@effect(changes="model")
def cheaper(facts: Facts) -> str:
    """Another model."""
    return "claude-haiku-4-5"


def yes_or_no(facts: Facts) -> Literal["yes", "no"]:
    return "yes" if facts.text else "no"


# --- a plain reference: one situation holds all histories --------------------------------------------------------

Fact = tuple[Standing, str, bool]
Ledgers = tuple[tuple[str, Standing, str, bool], ...]
Situation = tuple[str, bool, Ledgers, tuple[str, ...]]


class FaultError(Exception):
    """The state may not be entered so."""


def begun(state: Claude, own: Fact, known: dict[str, Fact], *, goes_on: bool) -> Fact:
    """The ledger that a Claude state speaks in; what stands unanswered is taken up where the run comes from it."""
    if own[0] is Standing.CALLS or (own[0] is Standing.OWES and goes_on):
        return own
    if state.fresh:
        return (Standing.EMPTY, "", False)
    if state.continues not in known:
        return own
    standing, _, called = copied = known[state.continues]
    if standing is Standing.CALLS:
        raise FaultError("W6")
    if called and not state.tools:
        raise FaultError("W11")
    return copied


def asked(graph: Graph, state: Claude, fact: Fact, changes: set[str], *, hears: bool) -> Standing:
    standing, by, _ = fact
    if standing is Standing.CALLS:
        raise FaultError("W6")
    if "say" in changes or hears:
        standing = Standing.OWES
    if state.prompt is not None and standing in {Standing.EMPTY, Standing.SPOKEN}:
        standing = Standing.OWES
    if standing is Standing.REFUSED:
        refused = graph.by_name[by].state
        assert isinstance(refused, Claude)
        if same_request(refused, state) and "model" not in changes:
            raise FaultError("W7")
    elif standing is not Standing.OWES:
        if standing is Standing.SPOKEN and "compact" in changes:
            return standing  # a summary is asked for, and nothing else
        raise FaultError("W12")
    return Standing.OWES


def worked_for(graph: Graph, here: Situation) -> str | None:
    """The history that the state before a move is about."""
    node = graph.by_name[here[0]]
    if node.kind in {"Tools", "Approval"}:
        return here[3][-1] if here[3] else None
    return (node.history or "") if node.kind == "Claude" else None


def entered(graph: Graph, left: Situation, edge: Edge | None, name: str, before: str | None = None) -> Situation:
    _, waiting, ledgers, open_calls = left
    node = graph.by_name[name]
    state = node.state
    if node.kind in {"Tools", "Approval"} and not open_calls:
        raise FaultError("W9")
    if not isinstance(state, Claude):
        return (name, waiting, ledgers, open_calls)
    known = {h: (standing, by, called) for h, standing, by, called in ledgers}
    fact = begun(state, known[node.history or ""], known, goes_on=before == (node.history or ""))
    hears = waiting and state.prompt is None
    changes = {e.change for e in edge.effects} if edge is not None else set()
    known[node.history or ""] = (asked(graph, state, fact, changes, hears=hears), "", fact[2])
    return (name, waiting and not hears, tuple((h, *fact) for h, fact in known.items()), open_calls)


def left_by(graph: Graph, here: Situation, edge: Edge) -> Situation:
    name, waiting, ledgers, open_calls = here
    source, dest = graph.by_name[edge.source], graph.by_name[edge.dest]
    known = {h: (standing, by, called) for h, standing, by, called in ledgers}
    if isinstance(source.state, Claude):
        history = source.history or ""
        standing, _, called = known[history]
        said = edge.says and dest.kind == "Claude" and dest.history == history
        after = after_reply(edge.event, Standing.OWES, said=said, discarded=edge.discards)
        if (edge.event, standing) == ("compaction", Standing.SPOKEN):
            after = Standing.SPOKEN
        if after is Standing.CALLS:
            open_calls, called = (*open_calls, history), True
        if any(not t.is_client for t in source.state.tools):
            called = called or is_kept(edge.event, said=said, discarded=edge.discards)
        known[history] = (after, name if after is Standing.REFUSED else "", called)
    elif (
        edge.event in {"tool_results", "denied"} or (edge.event, source.kind) == ("expired", "Approval")
    ) and open_calls:
        *rest, history = open_calls
        open_calls, known[history] = tuple(rest), (Standing.OWES, "", known[history][2])
    return (name, waiting or edge.event == "said", tuple((h, *fact) for h, fact in known.items()), open_calls)


def plain_walk(graph: Graph, limit: int) -> tuple[dict[tuple[str, str, str], int], bool]:
    """Every fault (check, source, target) with the number of moves before it; False if the limit ended the walk."""
    histories = sorted({n.history or "" for n in graph.nodes if n.kind == "Claude"})
    start: Situation = (graph.initial, True, tuple((h, Standing.EMPTY, "", False) for h in histories), ())
    faults: dict[tuple[str, str, str], int] = {}
    try:
        first = entered(graph, start, None, graph.initial)
    except FaultError as fault:
        return {(str(fault), "", graph.initial): 0}, True
    seen = {first: 0}
    todo = deque([first])
    while todo:
        here = todo.popleft()
        if len(seen) > limit:
            return faults, False
        for event in graph.events(here[0]):
            for edge in graph.row(here[0], event):
                try:
                    there = entered(graph, left_by(graph, here, edge), edge, edge.dest, worked_for(graph, here))
                except FaultError as fault:
                    faults.setdefault((str(fault), edge.source, edge.dest), seen[here])
                else:
                    if there not in seen:
                        seen[there] = seen[here] + 1
                        todo.append(there)
                if edge.guard is None:
                    break
    return faults, True


# --- random workflows --------------------------------------------------------------------------------------------

HISTORIES = ("main", "second", "third")
EFFECTS = (say("Go on."), discard, compact, cheaper)
EVENTS = {
    "Claude": ("end_turn", "tool_use", "refusal", "max_tokens", "api_error", "compaction"),
    "Tools": ("tool_results", "approval_needed"),
    "Approval": ("approved", "denied", "expired"),
    "Human": ("said", "expired"),
    "Code": ("yes", "no"),
    "Final": (),
}


@st.composite
def states(draw: st.DrawFn) -> State:
    kind = draw(st.sampled_from(["Claude", "Claude", "Claude", "Tools", "Human", "Approval", "Code", "Final"]))
    if kind == "Claude":
        history = draw(st.sampled_from(HISTORIES))
        return Claude(
            model=draw(st.sampled_from(["claude-opus-5", "claude-sonnet-5"])),
            max_tokens=10,
            history=history,
            tools=draw(st.sampled_from([[], [look_up], [SEARCH]])),
            fresh=draw(st.booleans()),
            continues=draw(st.sampled_from([None, None, *(h for h in HISTORIES if h != history)])),
            prompt=draw(st.sampled_from([None, None, "Begin."])),
        )
    others: dict[str, Any] = {
        "Tools": Tools, "Human": Human, "Approval": Approval, "Code": lambda: Code(yes_or_no), "Final": Final,
    }  # fmt: skip
    made: State = others[kind]()
    return made


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    found = draw(st.lists(states(), min_size=1, max_size=7))
    named = {f"s{i}": state for i, state in enumerate(found)}
    for state in found:
        for event in EVENTS[state.kind]:
            row: list[Any] = []
            for _ in range(draw(st.integers(0, 2))):
                chosen = draw(st.lists(st.sampled_from(EFFECTS), max_size=1)) if draw(st.booleans()) else []
                alternative = draw(st.sampled_from(found)).then(*chosen)
                row.append(alternative.when(maybe) if draw(st.booleans()) else alternative)
            if row:
                state._on({event: row})
    return build_graph("W", named)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # only of what failed is it of use
@settings(max_examples=400)
@given(graphs())
def test_walking_histories_apart_finds_what_walking_all_together_finds(graph: Graph) -> None:
    faults, is_all = plain_walk(graph, 4000)
    flow = explore(graph)
    assert flow.complete
    if is_all:
        assert bool(flow.findings) == bool(faults)
    if flow.findings:
        nearest = min(flow.findings, key=lambda f: len(f.path))
        source = nearest.edge[0] if nearest.edge else ""
        place = (nearest.id, source, nearest.path[-1])
        assert place in faults or not is_all
        if is_all:
            assert faults[place] == min(faults.values()) == max(len(nearest.path) - 2, 0)


@settings(max_examples=150)
@given(graphs())
def test_any_declaration_gets_findings_and_no_exception(graph: Graph) -> None:
    found = check(graph)
    assert len({(f.id, f.state, f.event, f.problem, f.edge) for f in found}) == len(found)
    assert [int(f.id[1:]) for f in found] == sorted(int(f.id[1:]) for f in found)
    assert "\n".join(map(str, found)) == "\n".join(map(str, check(graph)))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_components_are_those_who_reach_each_other(pairs: list[tuple[int, int]]) -> None:
    names = [str(i) for i in range(10)]
    links: dict[str, set[str]] = {}
    for source, dest in pairs:
        links.setdefault(str(source), set()).add(str(dest))
    reach = {n: {n} for n in names}
    for _ in names:
        reach = {n: set().union(r, *(links.get(m, set()) for m in r)) for n, r in reach.items()}
    expected = {tuple(m for m in names if m in reach[n] and n in reach[m]) for n in names}
    assert components(names, links) == sorted(expected)


# --- what it costs -----------------------------------------------------------------------------------------------


def large(seed: int, size: int, histories: int) -> Graph:
    """A large workflow that is right: each history a tool loop of several states, with random ways between them."""
    draw = random.Random(seed)
    made: dict[str, State] = {}
    talking: list[Claude] = []
    loops: list[tuple[Claude, Tools, Human]] = []
    each = size // (histories * 4)
    for h in range(histories):
        for i in range(each):
            state = Claude(
                model="claude-sonnet-5",
                max_tokens=10,
                tools=[look_up],
                history=f"h{h}",
                prompt="Go on.",
                continues=f"h{h - 1}" if h % 4 == 3 else None,
            )
            calling, listening = Tools(), Human(within="1h")
            made |= {f"c{h}_{i}": state, f"t{h}_{i}": calling, f"l{h}_{i}": listening, f"g{h}_{i}": Code(yes_or_no)}
            talking.append(state)
            loops.append((state, calling, listening))
    made["done"] = done = Final()
    codes = [s for s in made.values() if isinstance(s, Code)]
    for (state, calling, listening), code in zip(loops, codes, strict=True):
        state.on(tool_use=calling, end_turn=[*(s.when(maybe) for s in draw.sample(talking, 3)), code])
        calling.on(tool_results=state)
        listening.on(said=draw.choice(talking), expired=done)
        code.on("yes", listening).on("no", done)
    return build_graph("Large", made)


@pytest.mark.parametrize("seed", range(3))
def test_a_large_workflow_is_walked_in_few_steps(seed: int) -> None:
    graph = large(seed, 120, 12)
    assert len(graph.nodes) > 90
    flow = explore(graph)
    assert flow.findings == ()
    assert flow.complete
    assert flow.steps < 400 * len(graph.nodes)


def test_steps_grow_with_the_histories_not_with_their_combinations() -> None:
    few, many = explore(large(0, 48, 3)), explore(large(0, 192, 12))
    assert few.complete
    assert many.complete
    assert many.steps < 4 * 4 * 2 * few.steps  # states times histories, and some slack; not 2 to the histories


@pytest.mark.parametrize("seed", range(3))
def test_a_wild_graph_stays_within_the_budget(seed: int) -> None:
    draw = random.Random(seed)
    found: list[Any] = [
        Claude(
            model="claude-sonnet-5", max_tokens=10, tools=[look_up], history=f"h{i % 12}",
            prompt=draw.choice([None, "Go."]), continues=draw.choice([None, f"h{(i + 1) % 12}"]),
        )
        if i % 2
        else draw.choice([Tools, Human, Approval])()
        for i in range(120)
    ]  # fmt: skip
    for state in found:
        for event in accepted_by(state.kind):
            state._on({event: [draw.choice(found).when(maybe), draw.choice(found)]})
    flow = explore(build_graph("Wild", {f"s{i}": s for i, s in enumerate(found)}))
    assert flow.findings
    assert flow.steps <= 12 * (BUDGET + 1)
