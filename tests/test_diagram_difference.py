"""What a newer version of a workflow changed (issue 5.3): as data, in words, and drawn."""

from __future__ import annotations

import html
import json
import random
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from _driving import MODEL, find
from _mermaid import read
from _workflows import Chat, Desk, HandOver, Optimiser, Stages, Stubborn, no, refund, yes

from fsm import Approval, Claude, Final, Human, Tools, Workflow, discard, exits, guard, park, rounds_left, say
from fsm._difference import ChangedEdge, Difference, difference
from fsm._graph import Edge, Graph, build_graph
from fsm.diagram import render
from fsm.diagram._model import MARKS

SVG = "{http://www.w3.org/2000/svg}"
FORMATS = ("svg", "dot", "mermaid", "state", "table")
WORKFLOWS = (Chat, Desk, HandOver, Optimiser, Stages, Stubborn)


class Old(Workflow):
    """Looks things up."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class New(Workflow):
    """Looks things up, and asks a person before it pays."""

    asking = Claude(model=MODEL, max_tokens=200, tools=[find, refund])
    calling = Tools()
    approving = Approval(within="1d")
    done = Final()

    asking.on(tool_use=calling, end_turn=done, refusal=done)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


LINES = """\
asking: max_tokens was 100, is 200, tools +refund
approving: added (Approval)
done: added (Final)
answered: removed (Final)
asking --end_turn--> done: rerouted, was answered
asking --refusal--> done: rerouted, was refused, was a standard row
calling --approval_needed--> approving: added
approving --approved--> calling: added
approving --denied--> asking: added
approving --expired--> asking: added"""


def changed(old: Graph, new: Graph) -> dict[tuple[str, str], tuple[str, ...]]:
    return {each.edge.key[:2]: each.words for each in difference(old, new).told}


def row(*targets: Any, first: Mapping[str, Any] | None = None) -> Graph:
    """A graph whose `asking` has these alternatives for `end_turn`, each made of the states `a`, `b` and `c`."""
    asking, a, b, c = Claude(model=MODEL, max_tokens=100, **(first or {})), Final(), Final(), Final()
    states = {"a": a, "b": b, "c": c}
    asking.on(end_turn=[make(states) for make in targets])
    return build_graph("W", {"asking": asking, **states})


@guard
def long(facts: Any) -> bool:
    return len(facts.text) > 5


# --- as data ---------------------------------------------------------------------------------------------------------


def test_each_difference_has_a_line() -> None:
    assert str(difference(Old.graph, New.graph)) == LINES


def test_the_other_way_round_it_is_undone() -> None:
    lines = difference(New.graph, Old.graph).lines
    assert "asking --refusal--> refused: rerouted, was done, a standard row now" in lines
    assert "approving: removed (Approval)" in lines
    assert "calling --approval_needed--> approving: removed" in lines


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_does_not_differ_from_itself(workflow: type[Workflow]) -> None:
    found = difference(workflow.graph, workflow.graph)
    assert not found
    assert (found.states, found.edges, found.gone, str(found)) == ((), (), (), "no difference in states and rows")
    again = Workflow.from_transitions(name=workflow.name, states=workflow.states, transitions=workflow.table)
    assert not difference(workflow.graph, again.graph)


def applied(found: Difference, old: Graph) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """The rows of the old graph with the difference applied: alternatives in order."""
    rows = {(e.source, e.event): list(old.row(e.source, e.event)) for e in old.edges}
    for each in found.edges:
        row = rows.setdefault(each.edge.key[:2], [])
        if each.old is not None:
            row.remove(each.old)
    for key, row in rows.items():
        placed = [each.new for each in found.edges if each.new is not None and each.edge.key[:2] == key]
        for edge in sorted(placed, key=lambda edge: edge.index):
            row.insert(edge.index, edge)
    return {key: [content(edge) for edge in row] for key, row in rows.items() if row}


def content(edge: Edge) -> tuple[Any, ...]:
    return (edge.dest, str(edge.guard or ""), tuple(map(str, edge.effects)), edge.implied)


def some_graph(seed: int) -> Graph:
    """A graph of a few states with random rows: alternatives, guards, effects, kinds."""
    chance = random.Random(seed)
    names = chance.sample(["asking", "calling", "waiting", "deciding", "done", "other"], chance.randint(2, 6))
    kinds: dict[str, Any] = {
        "asking": lambda: Claude(model=chance.choice([MODEL, "claude-opus-5"]), max_tokens=100),
        "calling": Tools,
        "waiting": lambda: Human(within=chance.choice([None, 60])),
        "deciding": Approval,
        "done": lambda: Final(ok=chance.random() < 0.5),
        "other": chance.choice([Final, Tools]),
    }
    states = {name: kinds[name]() for name in names}
    events = {"Claude": ("end_turn", "tool_use", "refusal", "stuck"), "Tools": ("tool_results", "approval_needed")}
    events |= {"Human": ("said",), "Approval": ("approved", "denied"), "Final": ()}
    targets = [*states.values(), exits.failed]
    for state in states.values():
        for event in events[state.kind]:
            if chance.random() < 0.7:
                guards = chance.sample([yes, no, long, rounds_left(2)], chance.randint(0, 3))
                row = [chance.choice(targets).when(each) for each in guards] + [chance.choice(targets)]
                row = [t.then(*chance.sample([discard, park], 1)) if chance.random() < 0.3 else t for t in row]
                state.lead(event, row)
    return build_graph("W", states, strict=chance.random() < 0.3)


def test_applied_to_the_old_version_it_gives_the_new_one() -> None:
    """For random pairs: nothing is left out, and nothing is told that is not so."""
    kinds: set[str] = set()
    for seed in range(400):
        old, new = some_graph(seed), some_graph(seed + (1 if seed % 2 else 1000))
        found = difference(old, new)
        assert applied(found, old) == {
            (e.source, e.event): [content(each) for each in new.row(e.source, e.event)] for e in new.edges
        }, seed
        added = {each.name for each in found.states if each.change == "added"}
        removed = {each.name for each in found.states if each.change == "removed"}
        assert (set(old.by_name) | added) - removed == set(new.by_name)
        assert {node.name for node in found.gone} == removed
        assert not difference(old, old)
        assert not difference(new, new)
        assert bool(found) == (str(found) != "no difference in states and rows")
        kinds |= {each.change for each in found.edges}
    assert kinds == {"added", "removed", "rerouted", "changed", "moved"}


def test_an_alternative_is_paired_with_the_one_it_came_from() -> None:
    plain = row(lambda s: s["a"].when(yes), lambda s: s["b"])
    assert changed(plain, row(lambda s: s["c"].when(yes), lambda s: s["b"])) == {
        ("asking", "end_turn"): ("rerouted, was a",)
    }
    assert changed(plain, row(lambda s: s["a"].when(no), lambda s: s["b"])) == {
        ("asking", "end_turn"): (f"guard was {yes}",)
    }
    assert changed(plain, row(lambda s: s["a"].when(yes).then(discard), lambda s: s["b"])) == {
        ("asking", "end_turn"): ("effects were none",)
    }
    first = row(lambda s: s["c"].when(long), lambda s: s["a"].when(yes), lambda s: s["b"])
    assert changed(plain, first) == {("asking", "end_turn"): ("added",)}  # the others stand behind it, unchanged
    assert changed(first, plain) == {("asking", "end_turn"): ("removed",)}


def test_the_order_in_which_alternatives_are_tried_is_a_difference() -> None:
    one = row(lambda s: s["a"].when(yes), lambda s: s["b"].when(long), lambda s: s["c"])
    other = row(lambda s: s["b"].when(long), lambda s: s["a"].when(yes), lambda s: s["c"])
    (only,) = difference(one, other).told
    assert only.change == "moved"
    assert re.fullmatch(r"tried as number [12], was [12]", *only.words)


def test_words_that_are_said_are_compared_though_their_name_is_shortened() -> None:
    long_text = "Please look at the whole order again, item by item"
    one, other = (row(lambda s, t=text: s["a"].then(say(t))) for text in (long_text + ".", long_text + "!"))
    assert [each.words for each in difference(one, other).told] == [("effects say other words",)]


def test_states_tell_what_changed_in_them() -> None:
    plain = row(lambda s: s["a"])
    for options, words in (
        ({"system": "Be brief."}, "system was none, is Be brief."),
        ({"system": "Be brief. " * 9}, "system added"),
        ({"stop_sequences": ["."]}, "stop_sequences was none, is ['.']"),
        ({"history": "other"}, "history was main, is other"),
        ({"tools": [find]}, "tools +find"),
        ({"prompt": "Go on."}, "prompt was none, is Go on."),
    ):
        (state,) = difference(plain, row(lambda s: s["a"], first=options)).states
        assert str(state) == f"asking: {words}"


def test_a_renamed_state_is_renamed_and_not_gone() -> None:
    newer = Workflow.from_transitions(
        name="Old",
        states={"drafting": Old.states["asking"], "calling": Tools(), "answered": Final()},
        transitions=[
            ["tool_use", "drafting", "calling"],
            ["end_turn", "drafting", "answered"],
            ["tool_results", "calling", "drafting"],
        ],
        renamed={"asking": "drafting"},
    )
    found = difference(Old.graph, newer.graph, renamed=newer.renamed)
    assert found.lines == ("drafting: renamed, was asking",)
    assert len(difference(Old.graph, newer.graph).lines) > 3
    assert "renamed, was asking" in said(newer, "dot", against=Old)


def test_standard_rows_are_summed_up_where_there_are_many() -> None:
    class Strict(Old, strict=True, check=False):
        pass

    lines = difference(Old.graph, Strict.graph).lines
    assert any(re.fullmatch(r"asking: \d+ standard rows removed", line) for line in lines)
    assert len(lines) < 6


# --- drawn -----------------------------------------------------------------------------------------------------------


def said(workflow: type[Workflow], format: str, **options: Any) -> str:
    drawn = str(workflow.diagram(format, **options))
    if format == "svg":
        return " ".join(ET.fromstring(drawn).itertext())  # noqa: S314 - ours
    return html.unescape(re.sub(r"&?#(\d+);", lambda found: chr(int(found[1])), drawn))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_draws_both_versions_and_lists_all_in_words(format: str) -> None:
    drawn = said(New, format, against=Old)
    assert "10 differences" in drawn
    for line in LINES.splitlines():
        head, _, words = line.partition(": ")
        assert head in drawn
        for word in words.split(", "):
            assert word in drawn
    for name in ("answered", "done", "approving"):
        assert name in drawn
    for mark in ("+", "−", "→", "~"):
        assert mark in drawn


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_without_a_difference_the_picture_is_the_same_and_says_so(workflow: type[Workflow]) -> None:
    assert "no difference" in said(workflow, "dot", against=workflow)
    assert "difference" not in said(workflow, "dot")
    assert (
        re.sub(r"compared with .*", "", said(workflow, "table", against=workflow)).strip()
        == said(workflow, "table").strip()
    )


def groups(svg: str) -> dict[str, ET.Element]:
    return {g.get("id", ""): g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("id")}  # noqa: S314 - ours


def test_what_is_gone_is_dashed_struck_and_marked_and_what_is_new_is_marked() -> None:
    """A difference is never said by colour alone."""
    drawn = groups(str(New.diagram(against=Old)))
    labels = {ident[1:]: " ".join(g.itertext()).split() for ident, g in drawn.items() if re.fullmatch(r"le\d+", ident)}
    gone = {ident for ident, text in labels.items() if MARKS["removed"] in text}
    new = {ident for ident, text in labels.items() if MARKS["added"] in text}
    assert len(gone) == 2
    assert len(new) == 3
    for ident in gone:
        path = drawn[ident].find(f"{SVG}path")
        assert path is not None
        assert path.get("stroke-dasharray")
        assert any(span.get("text-decoration") == "line-through" for span in drawn[f"l{ident}"].iter(f"{SVG}tspan"))
    for ident in new:
        path = drawn[ident].find(f"{SVG}path")
        assert path is not None
        assert not path.get("stroke-dasharray")
    names = {text.text: text for g in drawn.values() for text in g.iter(f"{SVG}text")}
    assert names["answered"].get("text-decoration") == "line-through"
    assert not names["done"].get("text-decoration")


def test_the_legend_explains_what_is_there_and_nothing_else() -> None:
    legend = " ".join(groups(str(New.diagram(against=Old)))["legend"].itertext())
    assert all(word in legend for word in ("added", "removed", "leads elsewhere now", "changed"))
    back = " ".join(groups(str(Old.diagram(against=New)))["legend"].itertext())
    assert all(word in back for word in ("added", "removed"))
    assert "elsewhere" not in " ".join(groups(str(Old.diagram()))["legend"].itertext())


def test_a_removed_alternative_does_not_hide_the_row_that_has_its_place_now() -> None:
    """Both have one key: `(asking, end_turn, 0)`."""
    old = row(lambda s: s["a"].when(yes), lambda s: s["a"].when(long), lambda s: s["b"])
    new = row(lambda s: s["a"].when(long), lambda s: s["b"])
    table = html.unescape(render(new, "table", difference=difference(old, new)))
    rows = [line for line in table.splitlines() if "end_turn" in line and "|" in line]
    assert [("long" in line, str(yes) in line, "−" in line) for line in rows if "`a`" in line] == [
        (True, False, False),
        (False, True, True),
    ]


def test_both_at_once_runs_and_versions() -> None:
    drawn = said(New, "svg", against=Old, runs={("asking", "tool_use"): 3})
    assert "3×" in drawn
    assert "10 differences" in drawn


def test_json_has_the_difference_as_data() -> None:
    data = json.loads(str(New.diagram("json", against=Old)))["difference"]
    states = {each["state"]: each for each in data if "state" in each}
    assert states["asking"]["traits"] == [
        {"what": "max_tokens", "was": "100", "is": "200"},
        {"what": "tools", "was": "find", "is": "find, refund"},
    ]
    (end,) = [each for each in data if each.get("event") == "end_turn" and each["source"] == "asking"]
    assert (end["change"], end["was"]["dest"], end["is"]["dest"]) == ("rerouted", "answered", "done")


def test_names_of_gone_states_are_text_and_nothing_else() -> None:
    """X1: what a version said is data in the picture of another one."""
    evil = '"><script>alert(1)</script>'
    old = build_graph("W", {evil: Claude(model=MODEL, max_tokens=1).on(end_turn=exits.failed)})
    new = build_graph("W", {"asking": Claude(model=MODEL, max_tokens=1).on(end_turn=exits.failed)})
    for format in ("svg", "mermaid", "state"):  # quoted in DOT, and in a code span in a table, a bracket is text
        drawn = render(new, format, difference=difference(old, new))
        assert "<script" not in drawn, format
        assert "alert" in drawn, format
    assert isinstance(ChangedEdge("added", new=new.edges[0]).edge, Edge)


def test_mermaid_reads_both_forms_of_a_difference() -> None:
    """As GitHub does: every state of both versions, and every arrow that is drawn."""
    texts = [str(New.diagram(format, against=Old)) for format in ("mermaid", "state")]
    for found in read(texts):
        assert "error" not in found, found
        shown = json.dumps(found, ensure_ascii=False)
        assert all(name in shown for name in ("asking", "calling", "approving", "done", "answered", "refused"))
