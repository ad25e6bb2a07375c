"""What a picture must not say or leave out: names, sums of groups, versions, runs of other workflows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from _driving import MODEL, Clock, both, find

from fsm import Approval, Claude, Final, Limits, Result, Tools, UsageError, Workflow, attempts_left, guard, tool
from fsm._difference import Difference, difference
from fsm._graph import Edge, Graph, Node, build_graph
from fsm._records import Move
from fsm.cli._part import dollars as told_by_the_command_line
from fsm.diagram import Counts, Overlay, render
from fsm.diagram._extract import make_picture
from fsm.diagram._model import Arrow, Box, Picture
from fsm.diagram._overlay import Tally
from fsm.diagram._text import LONGEST, clean, dollars, numbers, unlike
from fsm.testing import replies

LOOK = replies.tool_use("find", {"number": "7"})
DONE = replies.text("done")


class Desk(Workflow):
    """Looks things up."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Other(Workflow):
    """Has states of the same names."""

    asking = Claude(model=MODEL, max_tokens=100)
    answered = Final()

    asking.on(end_turn=answered)


def ran(workflow: type[Workflow], *script: Any, **options: Any) -> Result:
    clock = Clock()
    found: Result = both(workflow, "Hi.", list(script), is_async=False, clock=clock, sleep=clock.sleep, **options)[0]
    return found


# --- whose run it is -------------------------------------------------------------------------------------------------

STRANGE: dict[str, Callable[[Result, Result], object]] = {
    "one run": lambda _mine, other: Desk.diagram("dot", runs=other),
    "records": lambda _mine, other: Desk.diagram("dot", runs=other.records),
    "among others": lambda mine, other: Desk.diagram("dot", runs=[mine, other, mine]),
    "two runs": lambda mine, other: mine.diagram("dot", against=other),
    "overlay": lambda _mine, other: render(Desk.graph, "dot", overlay=Overlay.of(other.records)),
    "a page": lambda _mine, other: Desk.diagram("html", runs=other),
    "as JSON": lambda _mine, other: Desk.diagram("json", runs=other),
}


@pytest.mark.parametrize("way", STRANGE)
def test_a_run_of_another_workflow_is_refused_and_both_are_named(way: str) -> None:
    with pytest.raises(UsageError, match="run 'strange' is a run of 'Other', not of 'Desk'"):
        STRANGE[way](ran(Desk, DONE), ran(Other, DONE, run_id="strange"))


def test_another_version_is_only_said_of_runs_that_are_known() -> None:
    stray = Move(1, 0.0, "asking", "end_turn", "gone")
    assert "another version" not in render(Desk.graph, "dot", overlay=Overlay((stray,), "gone"))

    renamed = Workflow.from_transitions(
        name="Desk",
        states={"asking": Claude(model=MODEL, max_tokens=100, tools=[find]), "calling": Tools(), "closed": Final()},
        transitions=[
            ["tool_use", "asking", "calling"],
            ["end_turn", "asking", "closed"],
            ["tool_results", "calling", "asking"],
        ],
    )
    assert "another version" in str(renamed.diagram("dot", runs=ran(Desk, DONE)))


@pytest.mark.parametrize("format", ["dot", "html", "json"])
def test_records_without_their_first_are_refused_with_what_to_give(format: Any) -> None:
    with pytest.raises(UsageError, match=r"begin with `open`, not with `.*`: give all of them"):
        Desk.diagram(format, runs=ran(Desk, DONE).records[1:])


def test_a_picture_of_a_run_says_which_when_and_why_it_ended() -> None:
    """Of two, both are named."""
    mine, others = ran(Desk, LOOK, DONE, run_id="mine"), ran(Desk, DONE, run_id="others")
    for format in ("svg", "dot", "mermaid", "state", "table"):
        drawn = re.sub(r"&?#(\d+);", lambda found: chr(int(found[1])), str(mine.diagram(format)))
        assert "run mine" in drawn, format
        assert "2027-01-15 08:00:00 UTC" in drawn, format
        assert "ended: end_turn" in drawn, format
        assert "run mine against others" in str(mine.diagram("svg", against=others))
    assert "run mine" not in str(Desk.diagram("svg", runs=[mine, others]))


# --- options ---------------------------------------------------------------------------------------------------------


class Odd(dict[Any, Any]):
    """A table whose keys need not be hashable."""

    def items(self) -> Any:
        return [(("asking", "tool_use", []), 1)]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a count of 400 digits": ({"runs": {("asking", "tool_use"): 10**400}}, "too large a number"),
    "an index that is none": ({"runs": Odd()}, "none is number \\[\\]"),
    "groups that are none": ({"groups": 3}, "groups= takes a table of names and states, 'history' or 'prefix', not 3"),
    "a group without a name": ({"groups": {3: ["asking"]}}, "3 is no name of a group"),
    "a group without states": ({"groups": {"a": 3}}, "'a' needs a list of states, not 3"),
    "too deep": ({"groups": {"/".join("a" * 2000): ["asking"]}}, "more than 20 groups in each other"),
    "folded that is none": ({"groups": "prefix", "folded": 3}, "folded= takes True or names of groups, not 3"),
    "an unknown option": ({"detial": "full"}, r"no option detial=: did you mean detail=\?"),
    "an option like nothing": ({"foo": 1}, "no option foo=: it has format, runs, against"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_an_error_that_says_what_to_write(name: str) -> None:
    options, says = WRONG[name]
    with pytest.raises(UsageError, match=says):
        Desk.diagram("svg", **options)


def test_a_result_names_unknown_options_too() -> None:
    with pytest.raises(UsageError, match="no option theem=: did you mean theme="):
        ran(Desk, DONE).diagram("dot", theem="dark")  # type: ignore[call-overload]


# --- names -----------------------------------------------------------------------------------------------------------


def ring(*names: str) -> Graph:
    nodes = tuple(Node(name, "Human", initial=not place) for place, name in enumerate(names))
    edges = tuple(Edge(one, "said", other) for one, other in zip(names, (*names[1:], names[0]), strict=True))
    return Graph("Ring", nodes, edges)


def test_states_that_differ_are_called_differently_in_every_picture() -> None:
    """Names that share their beginning, differ in what is not shown, or are like words of the picture."""
    long = "the_state_that_waits_for_the_answer_of_the_department_of_"
    graph = ring(f"{long}finance", f"{long}law", "one", "one\u200b", "same state", "", "y" * 400, "y" * 401)
    names = [box.name for box in make_picture(graph).boxes]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 40
    assert names[2] == "one"
    assert names[0].endswith("finance")
    table = render(graph, "table")
    assert f"{long}finance" in table
    assert f"{long}law" in table
    for _ in range(3):
        assert len(set(unlike(names * 3, 40))) == 24
    assert unlike(["a (2)", "a", "a"]) == ["a (2)", "a", "a (3)"]


def test_a_state_called_same_state_is_told_from_the_same_state() -> None:
    first, second = Claude(model=MODEL, max_tokens=100), Final()
    first.on(end_turn=second, refusal=second)
    graph = build_graph("W", {"asking": first, "same state": second})
    (note,) = [note for note in make_picture(graph).notes if note.standard]
    heads = [head for head, _ in note.rows]
    assert "(same state)" in heads
    assert len(heads) == len(set(heads))


# --- words -----------------------------------------------------------------------------------------------------------


def test_what_is_cut_ends_at_a_word_and_says_so() -> None:
    text = "a sentence of several words, " * 20
    assert clean(text).endswith("words,…") or clean(text).endswith("…")
    assert len(clean(text)) <= LONGEST
    assert clean(text)[:-1].rsplit(" ", 1)[-1] in text.split()
    assert clean("x" * 400) == "x" * (LONGEST - 1) + "…"
    assert clean("x" * LONGEST) == "x" * LONGEST
    assert make_picture(evolved(doc=text)).doc.endswith("…")


def evolved(doc: str) -> Graph:
    graph = Desk.graph
    return Graph(graph.name, graph.nodes, graph.edges, doc=doc)


@guard
def small(facts: Any) -> bool:
    """The answer is short. What short is, is said elsewhere.

    And more.
    """
    return len(facts.text) < 9


@guard
def late(facts: Any) -> bool:
    """It is late."""
    return bool(facts.text)


def guarded() -> Graph:
    asking, one, other = Claude(model=MODEL, max_tokens=100), Final(), Final()
    asking.on(end_turn=[one.when(small & ~late), one.when(attempts_left(2)), other])
    return build_graph("W", {"asking": asking, "one": one, "other": other})


def test_hovering_tells_the_first_sentence_of_each_guard_and_the_order_of_alternatives() -> None:
    titles = "\n".join(arrow.title for arrow in make_picture(guarded()).arrows).splitlines()
    own = [title for title in titles if "end_turn" in title]
    assert own[0].startswith("1. end_turn [small & not late]")
    assert own[0].endswith("small: The answer is short. late: It is late.")
    assert own[1].startswith("2. end_turn [attempts_left(2)]")
    assert own[2].startswith("3. end_turn")
    assert "1. `small &" in render(guarded(), "table").replace("&#38;", "&") or "1. " in render(guarded(), "table")
    alone = [arrow.title for arrow in make_picture(Desk.graph).arrows if not arrow.standard]
    assert not any(re.match(r"\d\. ", title) for title in alone)


def test_the_standard_panel_lists_every_event_and_what_is_else() -> None:
    (note,) = [note for note in make_picture(Desk.graph).notes if note.standard]
    rows = dict(note.rows)
    assert rows["where end_turn leads"] == ("stop_sequence",)
    assert "max_tokens [else]" in rows["truncated"]
    assert "max_tokens" not in rows["truncated"]


def test_prices_of_parts_and_of_their_total_have_the_same_digits_everywhere() -> None:
    parts = (0.0075, 0.0112)
    assert [*map(dollars, parts), dollars(sum(parts))] == ["$0.0075", "$0.0112", "$0.0187"]
    for price in (0.0, 0.0000123, 0.00056, 0.0187, 12.5, 1234.5):
        assert told_by_the_command_line(price) == dollars(price)
    assert told_by_the_command_line(None) == "unknown"
    tiny = Overlay(edges={("asking", "end_turn", 0): Tally(1, price=0.00045)}, total=Tally(2, price=0.5), runs=2)
    drawn = str(render(Desk.graph, "dot", overlay=tiny))
    assert "$0.00045" in drawn
    assert "$0.50000" in drawn, "the total is not coarser than its parts"
    for price in (1e-8, 1.26e-5, 0.00098, 0.0099):
        assert abs(float(dollars(price)[1:]) - price) <= 0.05 * price


def test_how_often_is_said_once() -> None:
    result = ran(Loopy, *[replies.tool_use("find", {"number": str(n)}) for n in range(9)], DONE)
    line = next(
        line
        for arrow in make_picture(Loopy.graph, overlay=Overlay.of(result.records)).arrows
        for line in arrow.lines
        if line.event == "tool_use"
    )
    assert numbers(line.seqs).endswith("(9×)")
    assert line.text.count("9×") == 1


class Loopy(Workflow, limits=Limits(turns=50)):
    """Looks up much."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


# --- groups folded ---------------------------------------------------------------------------------------------------

LOOP = {"loop": ["asking", "calling"]}


def folded(
    workflow: type[Workflow], overlay: Overlay | None, groups: Any = LOOP, which: Any = ..., **more: Any
) -> Picture:
    return make_picture(workflow.graph, overlay=overlay, groups=groups, folded=True if which is ... else which, **more)


def named(picture: Picture, name: str) -> Box:
    return next(box for box in picture.boxes if box.name == name)


def between(picture: Picture, source: str, dest: str) -> Arrow:
    ends = (named(picture, source).id, named(picture, dest).id)
    return next(arrow for arrow in picture.arrows if (arrow.source, arrow.dest) == ends)


class Two(Workflow):
    """Two loops, of which the second needs an answer from the first."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    judging = Claude(model=MODEL, max_tokens=100, tools=[find], prompt="Judge.")
    answered = Final()
    sent_back = Final(ok=False)

    asking.on(tool_use=calling, end_turn=judging)
    calling.on(tool_results=asking)
    judging.on(end_turn=[answered.when(small), sent_back], tool_use=calling)


def test_a_folded_group_was_entered_as_often_as_from_outside() -> None:
    """It has the time, tokens and price of all its states."""
    one = ran(Desk, LOOK, LOOK, DONE)
    whole = Overlay.of(one.records)
    assert whole.states["asking"].count == 3
    box = named(folded(Desk, whole), "loop")
    assert box.tally is not None
    assert box.tally.count == 1
    assert box.tally.tokens == whole.states["asking"].tokens
    assert not any("×" in fact for fact in box.facts), "as in the picture that is not folded"
    arrow = between(folded(Desk, whole), "loop", "answered")
    assert not any("×" in fact for line in arrow.lines for fact in line.facts)
    many = Overlay.of_runs([one.records, ran(Desk, DONE).records, ran(Desk, LOOK, DONE).records])
    box = named(folded(Desk, many), "loop")
    assert box.facts[0].startswith("3×")
    assert "3×" in between(folded(Desk, many), "loop", "answered").lines[0].facts


def test_the_warmth_of_a_folded_group_is_that_of_all_its_states() -> None:
    """Relative to the busiest that is drawn; so is the width of arrows."""
    work = {"asking": Tally(2, 30.0), "calling": Tally(2, 30.0), "judging": Tally(1, 40.0), "answered": Tally(1)}
    edges = {key: Tally(4) for key in [("asking", "tool_use", 0), ("calling", "tool_results", 0)]}
    edges |= {("asking", "end_turn", 0): Tally(1), ("judging", "end_turn", 0): Tally(1)}
    overlay = Overlay(states=work, edges=edges, runs=2)
    plain = make_picture(Two.graph, overlay=overlay)
    assert named(plain, "judging").heat == 1.0
    assert named(plain, "asking").heat == 0.75
    picture = folded(Two, overlay)
    assert named(picture, "loop").heat == 1.0
    assert named(picture, "judging").heat == pytest.approx(40 / 60)
    assert between(plain, "asking", "judging").heat == 0.25
    assert between(picture, "loop", "judging").heat == 1.0, "what is folded away is not what others are measured by"


def test_counts_of_an_event_together_are_not_added_up_by_alternatives() -> None:
    counts: Counts = {("judging", "end_turn"): 4}
    picture = folded(Two, Overlay.of_counts(counts, Two.graph), {"ends": ["answered", "sent_back"]})
    assert between(picture, "judging", "ends").lines[0].facts == ("4× together",)
    assert between(picture, "asking", "judging").lines[0].facts == ("never",)
    both_folded = folded(Two, Overlay.of_counts(counts, Two.graph), {**LOOP, "ends": ["answered", "sent_back"]})
    assert between(both_folded, "loop", "judging").lines[0].facts == ("never",)


def test_of_two_runs_a_folded_arrow_says_who_took_it_and_nothing_of_rows_that_nobody_took() -> None:
    """A row of the arrow that neither took is no change."""
    mine, others = (
        Overlay.of(ran(Two, DONE, replies.text("long enough")).records),
        Overlay.of(ran(Two, DONE, DONE).records),
    )
    ends = {"ends": ["answered", "sent_back"], **LOOP}
    picture = folded(Two, mine.against(others), {"second": ["judging"], **LOOP})
    assert between(picture, "second", "sent_back").change == "added"
    assert between(picture, "second", "answered").change == "removed"
    assert between(picture, "loop", "second").change == ""
    assert {"changed", "added", "removed"} & dict(picture.legend).keys() == {"added", "removed"}
    whole = folded(Two, mine.against(others), ends)
    assert not {"changed", "added", "removed"} & dict(whole.legend).keys()
    joined = between(whole, "judging", "ends")
    assert (joined.change, joined.lines[0].facts) == ("", ()), "seen from here both did the same"
    neither = Overlay.of(ran(Desk, DONE).records).against(Overlay.of(ran(Desk, DONE).records))
    calls = folded(Desk, neither, {"tools": ["calling"], "talk": ["asking"]})
    assert between(calls, "talk", "tools").change == ""
    looked = Overlay.of(ran(Desk, LOOK, LOOK, DONE).records).against(Overlay.of(ran(Desk, LOOK, DONE).records))
    calls = folded(Desk, looked, {"tools": ["calling"], "talk": ["asking"]})
    assert between(calls, "talk", "tools").lines[0].facts == ("1× → 2×",)


def test_a_version_that_changed_a_part_of_a_folded_arrow_has_it_in_the_legend() -> None:
    class Newer(Two):
        judging = Claude(model=MODEL, max_tokens=100, tools=[find], prompt="Judge.")
        judging.on(end_turn=[Two.answered.when(small), Two.sent_back], tool_use=Two.calling, refusal=Two.sent_back)

    found = difference(Two.graph, Newer.graph)
    picture = make_picture(Newer.graph, difference=found, groups={"ends": ["answered", "sent_back"]}, folded=True)
    assert between(picture, "judging", "ends").change == "changed"
    assert "changed" in dict(picture.legend)


def test_a_folded_arrow_keeps_the_guard_of_its_row_and_says_where_there_are_several() -> None:
    picture = folded(Two, None, {"good": ["answered"]})
    assert between(picture, "judging", "good").lines[0].text == "end_turn [small]"
    picture = folded(Two, None, {"ends": ["answered", "sent_back"]})
    assert between(picture, "judging", "ends").lines[0].text == "end_turn […]"
    assert between(folded(Two, None), "loop", "judging").lines[0].text == "end_turn"


def test_folded_takes_the_names_that_groups_takes() -> None:
    """Paths, however long, and a last part that only one group has."""
    long = "the group of everything that has to do with answers, one" + "x" * 40
    groups = {"a/b": ["asking"], "z/b": ["calling"], f"{long}": ["judging"], "a/only": ["answered"]}

    def boxes(*which: str) -> set[tuple[str, ...]]:
        return {box.states for box in folded(Two, None, groups, which).boxes if box.kind == "Group"}

    assert boxes("a/b") == {("asking",)}
    assert boxes("z/b") == {("calling",)}
    assert boxes(long) == {("judging",)}
    assert boxes("only") == {("answered",)}
    assert boxes("a") == {("asking", "answered")}
    with pytest.raises(UsageError, match="2 groups are called so: give the path, one of a/b, z/b"):
        boxes("b")
    both_b = folded(Two, None, groups, ("a/b", "z/b"))
    assert {box.name for box in both_b.boxes if box.kind == "Group"} == {"a/b", "z/b"}
    alike = {"x" * 50 + "1": ["asking"], "x" * 50 + "2": ["calling"]}
    assert len({frame.name for frame in make_picture(Two.graph, groups=alike).frames}) == 2


# --- versions --------------------------------------------------------------------------------------------------------


def lines(old: Any, new: Any) -> str:
    found: Difference = difference(old.graph, new.graph, limits=(old.limits, new.limits))
    return str(found)


def judge(*rows: Any, **options: Any) -> type[Workflow]:
    ends = {name: Final() for name in "abc"}

    class Judge(Workflow):
        judging = Claude(model=MODEL, max_tokens=100, **options)
        a, b, c = ends.values()
        judging.on(end_turn=[make(ends) for make in rows], refusal=ends["b"], cancel=ends["c"], stuck=ends["a"])

    return Judge


def test_a_row_that_was_changed_and_moved_says_both() -> None:
    old = judge(lambda s: s["a"].when(small), lambda s: s["b"].when(late), lambda s: s["c"])
    new = judge(lambda s: s["b"].when(late), lambda s: s["a"].when(small & ~late), lambda s: s["c"])
    told = lines(old, new)
    assert "guard was small" in told
    assert re.search(r"tried as number \d, was \d", told)


@tool(needs_approval=True)
def pay(number: str) -> str:
    """Pay."""
    return number


def policy(tools: Any, **options: Any) -> type[Workflow]:
    class Shop(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=tools, **options)
        calling = Tools()
        approving = Approval(within="1h")
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking, expired=asking)

    return Shop


def freely() -> Any:
    @tool
    def pay(number: str) -> str:
        """Pay."""
        return number

    return pay


def otherwise() -> Any:
    @tool(needs_approval=True)
    def pay(number: str, shop: int = 0) -> str:
        """Pay at once."""
        return f"{number}{shop}"

    return pay


class Answer:
    text: str


def answer_of(kind: type) -> type:
    return type("Answer", (), {"__annotations__": {"text": kind}})


BEHAVIOUR: dict[str, tuple[Any, Any, str]] = {
    "approval": (policy([pay]), policy([freely()]), "needs_approval of pay was yes, is no"),
    "description": (policy([pay]), policy([otherwise()]), "description of pay was Pay., is Pay at once."),
    "parameters": (policy([pay]), policy([otherwise()]), "another parameters of pay"),
    "another tool": (policy([pay]), policy([pay, find]), "asking: tools +find"),
    "system": (policy([pay], system="a"), policy([pay], system="b"), "system was a, is b"),
    "output": (
        judge(lambda s: s["a"], output={"type": "object", "properties": {"a": {"type": "string"}}}),
        judge(lambda s: s["a"], output={"type": "object", "properties": {"b": {"type": "string"}}}),
        "another output",
    ),
}


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_what_a_version_does_otherwise_is_a_difference(name: str) -> None:
    """What the fingerprint of a version covers is not called "no difference"."""
    old, new, says = BEHAVIOUR[name]
    assert says in lines(old, new)
    assert not difference(old.graph, old.graph)


def test_limits_and_strictness_are_of_the_workflow_and_compared() -> None:
    class Limited(Desk, name="Desk", limits=Limits(turns=5, money=1.0)):
        pass

    class Tighter(Desk, name="Desk", limits=Limits(turns=3, money=1.0)):
        pass

    assert lines(Desk, Limited) == "Desk: limit of turns was none, is 5\nDesk: limit of money was none, is 1.0"
    assert lines(Limited, Tighter) == "Desk: limit of turns was 5, is 3"
    drawn = str(Limited.diagram("dot", against=Desk))
    assert "limit of turns was none, is 5" in drawn
    assert "no difference" not in drawn
    assert str(difference(Desk.graph, Limited.graph)) == "no difference in states and rows", "limits are not known"
    assert "no difference in states, rows and limits" in str(Desk.diagram("table", against=Desk))

    class Strict(Desk, name="Desk", strict=True, check=False):
        pass

    assert "strict was no, is yes" in lines(Desk, Strict)
    found = json.loads(str(Limited.diagram("json", against=Desk)))["difference"]
    assert {"workflow": "Desk", "what": "limit of turns", "was": "", "is": "5"} in found


def test_a_difference_says_what_it_is_compared_with() -> None:
    class Desk2(Desk):
        pass

    assert "compared with Desk" in str(Desk2.diagram("dot", against=Desk))
    assert re.search(r"compared with Desk of test_diagram_truth\.py:\d+", str(Desk.diagram("dot", against=Desk)))
