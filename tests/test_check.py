"""Every check trips on one workflow and lets a near miss pass; the patterns that people build have no findings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest

from fsm._alphabet import accepted_by
from fsm._check import RESERVED, TITLES, Finding, check, required
from fsm._effects import back_off, compact, discard, effect, grow, park, say
from fsm._errors import WorkflowError
from fsm._exits import EXIT_STATES, exits
from fsm._facts import Facts
from fsm._graph import Graph, build_graph
from fsm._guards import attempts_left, calls, guard, output, room_to_grow, rounds_left, said_is, value_is
from fsm._state import State
from fsm._states import Approval, Claude, Code, Final, Human, Outcome, Tools
from fsm._toolspec import function_spec
from fsm._workflow import Workflow

BINDS, FREE, OTHER = "claude-opus-5-5", "claude-sonnet-5", "claude-haiku-4-5"


def look_up(number: str) -> str:
    """Look something up."""
    return number


def transfer(to: str) -> str:
    """Hand the conversation over."""
    return to


def pay(euros: float) -> str:
    """Pay."""
    return str(euros)


PAY = function_spec(pay, needs_approval=True)
SEARCH = {"type": "web_search_20250305", "name": "web_search"}

States = Mapping[str, State]


@guard
def good(facts: Facts) -> bool:
    """Whatever."""
    return bool(facts.text)


@effect(changes="model")
def cheaper(facts: Facts) -> str:
    """Another model."""
    return OTHER


def claude(**given: Any) -> Claude:
    return Claude(**{"model": FREE, "max_tokens": 100, **given})


def graph_of(states: Mapping[str, State], *, strict: bool = False, name: str = "W") -> Graph:
    return build_graph(name, states, strict=strict)


def findings(states: Mapping[str, State], *, strict: bool = False) -> tuple[Finding, ...]:
    return check(graph_of(states, strict=strict))


# --- the patterns ------------------------------------------------------------------------------------------------


def tool_loop() -> States:
    asking, calling, approving, answered = claude(tools=[look_up, PAY]), Tools(), Approval(within="1d"), Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)
    return {"asking": asking, "calling": calling, "approving": approving, "answered": answered}


def chain_with_a_gate() -> States:
    def gate(facts: Facts) -> Literal["ok", "thin"]:
        return "ok" if len(facts.text) > 10 else "thin"

    outlining = claude()
    gating: Code[Literal["ok", "thin"]] = Code(gate)
    writing, done = claude(prompt="Now write it."), Final()
    outlining.on(end_turn=gating)
    gating.on("ok", writing).on("thin", [outlining.when(rounds_left(2)).then(say("Longer, please.")), exits.failed])
    writing.on(end_turn=done)
    return {"outlining": outlining, "gating": gating, "writing": writing, "done": done}


def router() -> States:
    def pick(facts: Facts) -> Outcome[Literal["money", "other"]]:
        return Outcome("money" if "money" in facts.text else "other")

    sorting = claude(system="Sort.", history="sorting")
    picking: Code[Literal["money", "other"]] = Code(pick)
    billing = claude(system="Bill.", history="billing", prompt=lambda facts: facts.input)
    helping = claude(system="Help.", history="helping", prompt=lambda facts: facts.input)
    done = Final()
    sorting.on(end_turn=picking)
    picking.on("money", billing).on("other", helping)
    billing.on(end_turn=done)
    helping.on(end_turn=done)
    return {"sorting": sorting, "picking": picking, "billing": billing, "helping": helping, "done": done}


def evaluator_optimiser() -> States:
    drafting = claude()
    judging = claude(system="Judge.", history="judging", fresh=True, prompt=lambda facts: facts.text, output={})
    answered = Final()
    drafting.on(end_turn=judging)
    judging.on(
        end_turn=[
            answered.when(output("grade", "good")),
            drafting.when(rounds_left(3)).then(say(lambda facts: facts.text, name="feedback")),
            exits.over_limit,
        ]
    )
    return {"drafting": drafting, "judging": judging, "answered": answered}


def hand_over() -> States:
    asking, calling = claude(tools=[look_up, transfer]), Tools()
    billing = claude(model=BINDS, system="Bill.", tools=[pay], history="billing", continues="main")
    paying, listening, answered = Tools(), Human(within="1h"), Final()
    asking.on(tool_use=calling, end_turn=listening)
    calling.on(tool_results=[billing.when(calls("transfer")), asking])
    billing.on(tool_use=paying, end_turn=listening)
    paying.on(tool_results=billing)
    listening.on(said=asking, expired=answered)
    return {"asking": asking, "calling": calling, "billing": billing, "paying": paying, "listening": listening,
            "answered": answered}  # fmt: skip


PATTERNS = [tool_loop, chain_with_a_gate, router, evaluator_optimiser, hand_over]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.__name__)
def test_the_patterns_have_no_findings(pattern: Callable[[], States]) -> None:
    assert findings(pattern()) == ()


# --- one workflow for each check, and a near miss ----------------------------------------------------------------

GUARDS = {"good": good, "rounds": rounds_left(2), "attempts": attempts_left(2), "transfer": calls("transfer")}
EFFECTS = {
    "say": say("Go on."),
    "cheaper": cheaper,
    "discard": discard,
    "compact": compact,
    "grow": grow,
    "park": park,
    "wait": back_off,
}
ROW = re.compile(r"(\w+) (\S+)(?: \[(~?)(\w+)])?(?: / ([\w, ]+))? -> (\S+)")


def wf(*rows: str, **states: State) -> States:
    """States with rows `source event [guard] / effects -> dest`; alternatives are rows that follow each other."""
    targets = {**states, **{f"exits.{name}": state for name, state in EXIT_STATES.items()}}
    table: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        found = ROW.fullmatch(row)
        assert found, row
        source, event, negated, condition, effects, dest = found.groups()
        target: Any = targets[dest]
        if condition:
            target = target.when(~GUARDS[condition] if negated else GUARDS[condition])
        if effects:
            target = target.then(*(EFFECTS[name] for name in effects.split(", ")))
        table.setdefault((source, event), []).append(target)
    for (source, event), alternatives in table.items():
        states[source]._on({event: alternatives})
    return states


def yes_or_no(facts: Facts) -> Literal["yes", "no"]:
    return "yes" if facts.text else "no"


def unannotated(facts):
    return "yes"


def unreadable(facts: Facts) -> Nowhere:  # type: ignore[name-defined] # noqa: F821
    return "yes"


def raising(facts: Facts) -> Literal["yes", "raised"]:
    return "yes"


def asking_all(tools: Any = (look_up,), **more: Any) -> dict[str, State]:
    """The states of a plain tool loop."""
    return {"asking": claude(tools=tools, **more), "calling": Tools(), "answered": Final()}


LOOP = ("asking tool_use -> calling", "asking end_turn -> answered", "calling tool_results -> asking")
TALK = ("asking end_turn -> answered",)
TWO = ("asking end_turn -> writing", "writing end_turn -> answered")


def two(asking: Mapping[str, Any], writing: Mapping[str, Any]) -> dict[str, State]:
    """Two Claude states and a final one."""
    return {"asking": claude(**asking), "writing": claude(**writing), "answered": Final()}


def with_name(name: str) -> dict[str, State]:
    """A final state of this name."""
    return {"asking": claude(), name: Final()}


def final_with_rows() -> States:
    states = wf(*TALK, asking=claude(), answered=Final())
    states["answered"].rows["cancel"] = (exits.cancelled.then(),)
    return states


def under_two_names() -> States:
    states = wf(*TALK, asking=claude(), answered=Final())
    return {**states, "finished": states["answered"]}


def of_another_workflow() -> States:
    stranger = claude()
    stranger.__set_name__(type("Other", (), {}), "stranger")
    return wf("asking end_turn [good] -> answered", "asking end_turn -> stranger",
              asking=claude(), answered=Final(), stranger=stranger)  # fmt: skip


def without(states: States, name: str) -> States:
    return {n: s for n, s in states.items() if n != name}


CASES: list[tuple[str, str, States, States]] = [
    (
        "W1",
        "no row for end_turn",
        wf("asking refusal -> answered", asking=claude(), answered=Final()),
        wf("asking end_turn -> answered", asking=claude(), answered=Final()),
    ),
    (
        "W1",
        "no row for tool_use",
        wf(*TALK, asking=claude(tools=[look_up]), answered=Final()),
        wf(*TALK, asking=claude(tools=[look_up], tool_choice={"type": "none"}), answered=Final()),
    ),
    (
        "W1",
        "no row for stop_sequence",
        wf(*TALK, asking=claude(stop_sequences=["</stop>"]), answered=Final()),
        wf(*TALK, asking=claude(tools=[SEARCH]), answered=Final()),
    ),
    (
        "W1",
        "no row for tool_results",
        wf("asking tool_use -> calling", "asking end_turn -> answered", "calling outcome_unknown -> answered",
           **asking_all()),
        wf(*LOOP, **asking_all()),
    ),
    (
        "W1",
        "no row for approval_needed",
        wf(*LOOP, **asking_all([PAY])),
        wf(*LOOP, "calling approval_needed -> approving", "approving approved -> calling",
           "approving denied -> asking", **asking_all([PAY]), approving=Approval()),
    ),
    (
        "W1",
        "no row for denied",
        wf(*LOOP, "calling approval_needed -> approving", "approving approved -> calling",
           **asking_all([PAY]), approving=Approval()),
        wf("asking tool_use -> approving", "asking end_turn -> answered", "approving approved -> answered",
           "approving denied -> asking", asking=claude(tools=[PAY]), approving=Approval(), answered=Final()),
    ),
    (
        "W1",
        "no row for expired",
        wf("asking end_turn -> listening", "listening said -> asking", asking=claude(), listening=Human(within=60)),
        wf("asking end_turn -> listening", "listening said -> asking", asking=claude(), listening=Human()),
    ),
    (
        "W1",
        "an outcome is missing",
        wf("asking end_turn -> gating", "gating yes -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
    ),
    (
        "W1",
        "an outcome is unknown",
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> answered", "gating yess -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> answered", "gating raised -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
    ),
    (
        "W1",
        "outcomes are not annotated",
        wf("asking end_turn -> gating", "gating yes -> answered",
           asking=claude(), gating=Code(unannotated), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
    ),
    (
        "W1",
        "outcomes are unreadable",
        wf("asking end_turn -> gating", "gating yes -> answered",
           asking=claude(), gating=Code(unreadable), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
    ),
    (
        "W1",
        "the last alternative is guarded",
        wf("asking end_turn [good] -> answered", asking=claude(), answered=Final()),
        wf("asking end_turn [good] -> answered", "asking end_turn -> exits.failed", asking=claude(), answered=Final()),
    ),
    (
        "W2",
        "an alternative after an unconditional one",
        wf("asking end_turn -> answered", "asking end_turn [good] -> exits.failed", "asking end_turn -> exits.failed",
           asking=claude(), answered=Final()),
        wf("asking end_turn [good] -> answered", "asking end_turn [~good] -> exits.failed",
           "asking end_turn -> exits.failed", asking=claude(), answered=Final()),
    ),
    (
        "W2",
        "two unconditional alternatives",
        wf("asking end_turn -> answered", "asking end_turn -> exits.failed", asking=claude(), answered=Final()),
        wf("asking end_turn [good] -> answered", "asking end_turn -> exits.failed", asking=claude(), answered=Final()),
    ),
    (
        "W2",
        "two states are initial",
        wf(*TWO, asking=claude(initial=True), writing=claude(initial=True, prompt="Go on."), answered=Final()),
        wf(*TWO, answered=Final(), asking=claude(initial=True), writing=claude(prompt="Go on.")),
    ),
    (
        "W3",
        "nothing leads there",
        wf(*TALK, asking=claude(), answered=Final(), forgotten=Final()),
        wf(*TALK, "asking refusal -> forgotten", asking=claude(), answered=Final(), forgotten=Final()),
    ),
    (
        "W3",
        "a part that is cut off",
        wf(*TALK, "listening said -> writing", "writing end_turn -> listening",
           asking=claude(), answered=Final(), listening=Human(), writing=claude()),
        wf("asking end_turn -> listening", "listening said -> writing", "writing end_turn -> listening",
           asking=claude(), listening=Human(), writing=claude()),
    ),
    ("W3", "no states", {}, wf(*TALK, asking=claude(), answered=Final())),
    (
        "W3",
        "the first state is final",
        wf(*TALK, answered=Final(), asking=claude()),
        wf(*TALK, answered=Final(), asking=claude(initial=True)),
    ),
    (
        "W4",
        "no end and no person",
        wf("asking end_turn / say -> asking", asking=claude()),
        wf("asking end_turn -> listening", "listening said -> asking", asking=claude(), listening=Human()),
    ),
    (
        "W4",
        "a corner without a way out",
        wf("asking end_turn [good] -> answered", "asking end_turn -> writing", "writing end_turn / say -> writing",
           asking=claude(), writing=claude(prompt="Write."), answered=Final()),
        wf("asking end_turn [good] -> answered", "asking end_turn -> writing",
           "writing end_turn [rounds] / say -> writing", "writing end_turn -> exits.failed",
           asking=claude(), writing=claude(prompt="Write."), answered=Final()),
    ),
    (
        "W5",
        "Code goes round",
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> gating",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no [rounds] -> gating",
           "gating no -> answered", asking=claude(), gating=Code(yes_or_no), answered=Final()),
    ),
    (
        "W5",
        "a guard that may stay true",
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no [good] -> gating",
           "gating no -> answered", asking=claude(), gating=Code(yes_or_no), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no / say -> asking",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
    ),
    (
        "W5",
        "two Code states pass it to each other",
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> second", "second yes -> answered",
           "second no -> gating", asking=claude(), gating=Code(yes_or_no), second=Code(yes_or_no), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> second", "second said -> gating",
           asking=claude(), gating=Code(yes_or_no), second=Human(), answered=Final()),
    ),
    (
        "W5",
        "an error is retried for ever",
        wf(*TALK, "asking overloaded_error / wait -> asking", asking=claude(), answered=Final()),
        wf(*TALK, "asking overloaded_error [attempts] / wait -> asking", "asking overloaded_error / park -> asking",
           asking=claude(), answered=Final()),
    ),
    (
        "W5",
        "max_tokens for ever",
        wf(*TALK, "asking max_tokens / grow -> asking", asking=claude(), answered=Final()),
        wf(*TALK, "asking max_tokens [attempts] / grow -> asking", "asking max_tokens -> exits.truncated",
           asking=claude(), answered=Final()),
    ),
    (
        "W5",
        "paused for ever",
        wf(*TALK, "asking pause_turn -> asking", asking=claude(), answered=Final()),
        wf(*TALK, "asking pause_turn [attempts] -> asking", "asking pause_turn -> answered",
           asking=claude(), answered=Final()),
    ),
    (
        "W5",
        "stuck again and again",
        wf(*TALK, "asking stuck / say -> asking", asking=claude(), answered=Final()),
        wf(*TALK, "asking stuck [rounds] / say -> asking", "asking stuck -> exits.stuck",
           asking=claude(), answered=Final()),
    ),
    (
        "W5",
        "two models refuse in turn",
        wf(*TALK, "asking refusal -> second", "second refusal -> asking", "second end_turn -> answered",
           asking=claude(continues="second"), second=claude(model=OTHER, history="second", continues="main"),
           answered=Final()),
        wf(*TALK, "asking refusal -> second", "second end_turn -> answered",
           asking=claude(), second=claude(model=OTHER, history="second", continues="main"), answered=Final()),
    ),
    (
        "W6",
        "tool_use leads back",
        wf("asking tool_use -> asking", "asking end_turn -> answered",
           asking=claude(tools=[look_up]), answered=Final()),
        wf("asking tool_use / discard -> asking", "asking end_turn -> answered",
           asking=claude(tools=[look_up]), answered=Final()),
    ),
    (
        "W6",
        "a person speaks instead of the tools",
        wf("asking tool_use -> listening", "asking end_turn -> answered", "listening said -> asking",
           asking=claude(tools=[look_up]), listening=Human(), answered=Final()),
        wf("asking tool_use -> deciding", "asking end_turn -> answered", "deciding denied -> asking",
           "deciding approved -> answered", asking=claude(tools=[look_up]), deciding=Approval(), answered=Final()),
    ),
    (
        "W6",
        "a person who says nothing answers no calls",
        wf("asking tool_use -> listening", "asking end_turn -> answered", "listening said -> answered",
           "listening expired -> asking", asking=claude(tools=[look_up]), listening=Human(within=60), answered=Final()),
        wf("asking tool_use -> deciding", "asking end_turn -> answered", "deciding denied -> answered",
           "deciding approved -> answered", "deciding expired -> asking",
           asking=claude(tools=[look_up]), deciding=Approval(within=60), answered=Final()),
    ),
    (
        "W6",
        "approved is not yet answered",
        wf("asking tool_use -> deciding", "asking end_turn -> answered", "deciding denied -> asking",
           "deciding approved -> asking", asking=claude(tools=[look_up]), deciding=Approval(), answered=Final()),
        wf("asking tool_use -> deciding", "asking end_turn -> answered", "deciding denied -> asking",
           "deciding expired -> asking", "deciding approved -> answered",
           asking=claude(tools=[look_up]), deciding=Approval(within="1h"), answered=Final()),
    ),
    (
        "W6",
        "something is said over open calls",
        wf("asking tool_use / say -> asking", "asking end_turn -> answered",
           asking=claude(tools=[look_up]), answered=Final()),
        wf(*LOOP[:2], "calling tool_results / say -> asking", **asking_all()),
    ),
    (
        "W6",
        "a hand-over by an open call",
        wf("asking tool_use -> billing", "asking end_turn -> answered", "billing end_turn -> answered",
           asking=claude(tools=[transfer]), answered=Final(),
           billing=claude(model=OTHER, tools=[transfer], tool_choice={"type": "none"}, history="bills",
                          continues="main")),
        wf(*LOOP[:2], "calling tool_results [transfer] -> billing", "calling tool_results -> asking",
           "billing end_turn -> answered",
           **asking_all([transfer]),
           billing=claude(model=OTHER, tools=[transfer], tool_choice={"type": "none"}, history="bills",
                          continues="main")),
    ),
    (
        "W6",
        "the helper's answer is not the calls' answer",
        wf("asking tool_use -> helping", "asking end_turn -> answered", "helping end_turn -> asking",
           asking=claude(tools=[look_up]), helping=claude(history="help", prompt="Help."), answered=Final()),
        wf("asking tool_use -> helping", "asking end_turn -> answered", "helping end_turn -> calling",
           "calling tool_results -> asking",
           **asking_all(), helping=claude(history="help", prompt="Help.")),
    ),
    (
        "W7",
        "the same request after a refusal",
        wf(*TALK, "asking refusal [rounds] -> asking", "asking refusal -> exits.refused",
           asking=claude(), answered=Final()),
        wf(*TALK, "asking refusal [rounds] / say -> asking", "asking refusal -> exits.refused",
           asking=claude(), answered=Final()),
    ),
    (
        "W7",
        "the same request from a state that is equal",
        wf(*TALK, "asking refusal -> second", "second end_turn -> answered",
           asking=claude(), second=claude(max_tokens=200), answered=Final()),
        wf(*TALK, "asking refusal -> second", "second end_turn -> answered",
           asking=claude(), second=claude(thinking={"type": "adaptive"}), answered=Final()),
    ),
    (
        "W7",
        "the same request after Code",
        wf(*TALK, "asking refusal -> gating", "gating yes -> asking", "gating no -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
        wf(*TALK, "asking refusal -> listening", "listening said -> asking",
           asking=claude(), listening=Human(), answered=Final()),
    ),
    (
        "W7",
        "the same request in a copy",
        wf(*TALK, "asking refusal -> second", "second end_turn -> answered",
           asking=claude(), second=claude(history="second", continues="main"), answered=Final()),
        wf(*TALK, "asking refusal -> second", "second end_turn -> answered",
           asking=claude(), second=claude(history="second", continues="main", model=BINDS), answered=Final()),
    ),
    (
        "W7",
        "more tokens do not help",
        wf(*TALK, "asking refusal [rounds] / grow -> asking", "asking refusal -> exits.refused",
           asking=claude(), answered=Final()),
        wf(*TALK, "asking refusal [rounds] / cheaper -> asking", "asking refusal -> exits.refused",
           asking=claude(), answered=Final()),
    ),
    (
        "W8",
        "pause_turn leads elsewhere",
        wf(*TALK, "asking pause_turn -> writing", "writing end_turn -> answered",
           asking=claude(), writing=claude(), answered=Final()),
        wf(*TALK, "asking pause_turn -> answered", asking=claude(), answered=Final()),
    ),
    (
        "W8",
        "tools while the turn is paused",
        wf(*LOOP, "asking pause_turn -> calling", **asking_all()),
        wf(*LOOP, "asking pause_turn -> exits.stuck", **asking_all()),
    ),
    (
        "W8",
        "something is said to a paused turn",
        wf(*TALK, "asking pause_turn [attempts] / say -> asking", "asking pause_turn -> exits.stuck",
           asking=claude(), answered=Final()),
        wf(*TALK, "asking pause_turn [attempts] / wait -> asking", "asking pause_turn -> exits.stuck",
           asking=claude(), answered=Final()),
    ),
    (
        "W8",
        "a paused turn is dropped",
        wf(*TALK, "asking pause_turn [attempts] / discard -> asking", "asking pause_turn -> exits.stuck",
           asking=claude(), answered=Final()),
        wf(*TALK, "asking pause_turn [attempts] -> asking", "asking pause_turn -> exits.truncated",
           asking=claude(), answered=Final()),
    ),
    (
        "W9",
        "tools of a cut reply",
        wf(*LOOP, "asking max_tokens -> calling", **asking_all()),
        wf(*LOOP, "asking max_tokens -> exits.truncated", **asking_all()),
    ),
    (
        "W9",
        "tools after a finished turn",
        wf("asking tool_use -> calling", "asking end_turn -> calling", "calling tool_results [good] -> asking",
           "calling tool_results -> answered", **asking_all()),
        wf("asking tool_use -> calling", "asking end_turn -> answered", "calling tool_results [good] -> asking",
           "calling tool_results -> answered", **asking_all()),
    ),
    (
        "W9",
        "the run starts with tools",
        wf(*LOOP, calling=Tools(), asking=claude(tools=[look_up]), answered=Final()),
        wf(*LOOP, **asking_all(initial=True)),
    ),
    (
        "W9",
        "approval after the results",
        wf("asking tool_use -> calling", "asking end_turn -> answered", "calling tool_results -> deciding",
           "deciding approved -> asking", "deciding denied -> asking", **asking_all(), deciding=Approval()),
        wf("asking tool_use -> deciding", "asking end_turn -> answered", "calling tool_results -> asking",
           "deciding approved -> calling", "deciding denied -> asking", **asking_all(), deciding=Approval()),
    ),
    (
        "W9",
        "tools after the reply was dropped",
        wf("asking tool_use / discard -> calling", *LOOP[1:], **asking_all()),
        wf(*LOOP, **asking_all()),
    ),
    ("W10", "named like an exit", wf("asking end_turn -> failed", **with_name("failed")),
     wf("asking end_turn -> exits.failed", asking=claude())),
    ("W10", "named like the workflow's own", wf("asking end_turn -> graph", **with_name("graph")),
     wf("asking end_turn -> graphs", **with_name("graphs"))),
    ("W10", "named =", wf("asking end_turn -> =", **with_name("=")), wf("asking end_turn -> é", **with_name("é"))),
    ("W10", "named *", wf("asking end_turn -> *", **with_name("*")), wf("asking end_turn -> _", **with_name("_"))),
    ("W10", "named by a keyword", wf("asking end_turn -> class", **with_name("class")),
     wf("asking end_turn -> klass", **with_name("klass"))),
    ("W10", "a final state with rows", final_with_rows(), wf(*TALK, asking=claude(), answered=Final())),
    ("W10", "one state under two names", under_two_names(),
     wf(*TALK, "asking refusal -> finished", asking=claude(), answered=Final(), finished=Final())),
    ("W10", "a target of another workflow", without(of_another_workflow(), "stranger"),
     wf("asking end_turn [good] -> answered", "asking end_turn -> exits.refused", asking=claude(), answered=Final())),
    (
        "W10",
        "an outcome named like an event",
        wf("asking end_turn -> gating", "gating yes -> answered", "gating raised -> answered",
           asking=claude(), gating=Code(raising), answered=Final()),
        wf("asking end_turn -> gating", "gating yes -> answered", "gating no -> answered", "gating raised -> answered",
           asking=claude(), gating=Code(yes_or_no), answered=Final()),
    ),
    ("W11", "another model in one history", wf(*TWO, **two({"model": BINDS}, {"prompt": "Go on."})),
     wf(*TWO, **two({"model": BINDS}, {"prompt": "Go on.", "history": "writing", "continues": "main"}))),
    ("W11", "another system in one history", wf(*TWO, **two({"model": BINDS}, {"model": BINDS, "system": "Write.",
                                                                            "prompt": "Go on."})),
     wf(*TWO, **two({"model": BINDS}, {"model": BINDS, "max_tokens": 7, "prompt": "Go on."}))),
    ("W11", "other tools, unknown model",
     wf(*TWO, **two({"model": "mine"}, {"model": "mine", "tools": [SEARCH], "prompt": "Go on."})),
     wf(*TWO, **two({"model": "mine"}, {"model": "mine", "output": {}, "prompt": "Go on."}))),
    ("W11", "fresh without prompt", wf(*TWO, **two({}, {"history": "writing", "fresh": True})),
     wf(*TWO, **two({}, {"history": "writing", "fresh": True, "prompt": "Write."}))),
    ("W11", "fresh and continues",
     wf(*TWO, **two({}, {"history": "writing", "fresh": True, "continues": "main", "prompt": "Write."})),
     wf(*TWO, **two({}, {"history": "writing", "continues": "main", "prompt": "Write."}))),
    ("W11", "continues a history that is not there", wf(*TWO, **two({}, {"history": "writing", "continues": "mian"})),
     wf(*TWO, **two({}, {"history": "writing", "continues": "main", "prompt": "Write."}))),
    (
        "W11",
        "continues calls without tools",
        wf(*LOOP[:2], "calling tool_results -> writing", "writing end_turn -> answered",
           **asking_all(), writing=claude(model=BINDS, history="writing", continues="main")),
        wf("asking end_turn -> writing", "writing end_turn -> answered", "asking tool_use -> exits.failed",
           asking=claude(tools=[look_up]), answered=Final(),
           writing=claude(model=BINDS, history="writing", continues="main", prompt="Write.")),
    ),
    ("W11", "continues what the API's own tools did, without tools",
     wf("asking end_turn -> writing", "writing end_turn -> answered", asking=claude(tools=[SEARCH]), answered=Final(),
        writing=claude(model=BINDS, history="writing", continues="main", prompt="Write.")),
     wf("asking end_turn -> writing", "writing end_turn -> answered", asking=claude(tools=[SEARCH]), answered=Final(),
        writing=claude(model=BINDS, history="writing", continues="main", prompt="Write.", tools=[SEARCH]))),
    ("W12", "a finished reply is sent again", wf("asking end_turn [good] -> answered", "asking end_turn -> asking",
                                                asking=claude(), answered=Final()),
     wf("asking end_turn [good] -> answered", "asking end_turn / say -> asking", asking=claude(), answered=Final())),
    ("W12", "the second state has nothing to answer", wf(*TWO, **two({}, {})),
     wf(*TWO, **two({}, {"prompt": "Go on."}))),
    ("W12", "an empty history", wf(*TWO, **two({}, {"history": "writing"})),
     wf(*TWO, **two({"prompt": "Begin."}, {"history": "writing"}))),
    ("W12", "a copy of a finished talk", wf(*TWO, **two({}, {"history": "writing", "continues": "main"})),
     wf("asking end_turn / say -> writing", "writing end_turn -> answered",
        **two({}, {"history": "writing", "continues": "main"}))),
    (
        "W12",
        "a summary and nothing to answer after it",
        wf("asking end_turn [good] / compact -> asking", "asking end_turn -> answered",
           asking=claude(), answered=Final()),
        wf("asking end_turn [good] / compact -> asking", "asking end_turn -> answered",
           "asking compaction -> listening", "listening said -> asking",
           asking=claude(), answered=Final(), listening=Human()),
    ),
    (
        "W12",
        "nothing to summarise",
        wf("asking end_turn / compact -> writing", "writing end_turn -> answered",
           **two({}, {"history": "writing"})),
        wf("asking end_turn / compact, say -> asking", "asking refusal -> answered", asking=claude(), answered=Final()),
    ),
    (
        "W12",
        "nobody spoke in time",
        wf("asking end_turn -> listening", "listening said -> asking", "listening expired -> asking",
           asking=claude(), listening=Human(within="1h")),
        wf("asking end_turn -> listening", "listening said -> asking", "listening expired / say -> asking",
           asking=claude(), listening=Human(within="1h")),
    ),
    (
        "W12",
        "said to a final state",
        wf("asking end_turn / say -> answered", asking=claude(), answered=Final()),
        wf("asking end_turn [rounds] / say -> asking", "asking end_turn -> answered",
           asking=claude(), answered=Final()),
    ),
    (
        "W12",
        "said to a person",
        wf("asking end_turn / say -> listening", "listening said -> asking", asking=claude(), listening=Human()),
        wf("asking end_turn -> listening", "listening said / say -> asking", asking=claude(), listening=Human()),
    ),
    ("W14", "more tokens than the model gives",
     wf("asking end_turn -> answered", asking=claude(model="claude-haiku-4-5", max_tokens=64_001), answered=Final()),
     wf("asking end_turn -> answered", asking=claude(model="claude-haiku-4-5", max_tokens=64_000), answered=Final())),
]  # fmt: skip
NAMES = [f"{check_id}-{name}" for check_id, name, _, _ in CASES]


@pytest.mark.parametrize(("check_id", "states"), [(c, s) for c, _, s, _ in CASES], ids=NAMES)
def test_a_check_trips_exactly_once(check_id: str, states: States) -> None:
    found = findings(states)
    assert [f.id for f in found] == [check_id], "\n".join(map(str, found))
    assert found[0].is_error
    assert found[0].workflow == "W"


@pytest.mark.parametrize("states", [s for _, _, _, s in CASES], ids=NAMES)
def test_a_near_miss_passes(states: States) -> None:
    assert [str(f) for f in findings(states) if f.is_error] == []


def test_every_check_of_a_graph_has_a_case() -> None:
    assert {check_id for check_id, *_ in CASES} == set(TITLES) - {"W13"}


# --- several at once, warnings, strict ---------------------------------------------------------------------------


def test_all_findings_come_at_once_and_sorted() -> None:
    states = wf(
        "asking end_turn -> answered",
        "asking end_turn -> exits.failed",
        "asking max_tokens -> calling",
        "asking pause_turn / say -> asking",
        "calling tool_results -> asking",
        "writing end_turn [good] -> answered",
        **asking_all(),
        writing=claude(model="mine"),
        forgotten=Final(),
    )
    found = findings(states)
    assert [(f.id, f.state, f.event) for f in found] == [
        ("W1", "asking", "tool_use"),
        ("W1", "writing", "end_turn"),
        ("W2", "asking", "end_turn"),
        ("W3", "writing", None),
        ("W3", "forgotten", None),
        ("W8", "asking", "pause_turn"),
        ("W9", "asking", "max_tokens"),
        ("W11", "writing", None),
    ]
    error = WorkflowError("W", found)
    assert error.findings == found
    assert str(error).startswith("'W' is refused, 8 findings:\n  W1 complete · 'W.asking' has no row for tool_use")
    assert all(str(f) in str(error) for f in found)


def test_the_same_declaration_gives_the_same_findings() -> None:
    assert findings(tool_loop()) == findings(tool_loop())
    broken = [findings(wf("asking end_turn [good] -> asking", asking=claude())) for _ in range(2)]
    assert [str(f) for f in broken[0]] == [str(f) for f in broken[1]] != []


def test_a_shared_history_of_models_that_do_not_bind_is_a_warning() -> None:
    (found,) = findings(wf(*TWO, **two({}, {"model": OTHER, "prompt": "Go on."})))
    assert (found.id, found.state, found.severity) == ("W11", "writing", "warning")
    assert not found.is_error
    assert str(found).startswith("W11 history (warning) · 'W.writing' and 'asking' share the history 'main'")


def every_row(kind: str, *leave_out: str) -> tuple[str, ...]:
    state = kind.lower()
    return tuple(f"{state} {event} -> answered" for event in accepted_by(kind) if event not in leave_out)


def test_strict_wants_every_event_that_can_happen() -> None:
    left_out = ("stop_sequence", "invalid_output")
    states = wf(*every_row("Claude", *left_out, "tool_use"), claude=claude(), answered=Final())
    assert findings(states, strict=True) == ()
    states = wf(*every_row("Claude", *left_out, "tool_use", "refusal"), claude=claude(), answered=Final())
    (found,) = findings(states, strict=True)
    assert (found.id, found.state, found.event) == ("W1", "claude", "refusal")
    assert findings(states) == ()


def test_strict_counts_what_the_parameters_make_possible() -> None:
    graph = graph_of({"asking": claude(output={}, tools=[look_up], stop_sequences=["x"])}, strict=True)
    assert set(required(graph, graph.by_name["asking"])) == set(accepted_by("Claude"))
    graph = graph_of({"a": Approval(), "b": Approval(within=1), "c": Tools()}, strict=True)
    assert [required(graph, graph.by_name[name]) for name in "abc"] == [
        ("approved", "denied", "cancel"),
        ("approved", "denied", "expired", "cancel"),
        ("tool_results", "outcome_unknown", "cancel"),
    ]


# --- what a finding says -----------------------------------------------------------------------------------------


def test_a_finding_says_who_where_what_and_what_to_do() -> None:
    asking, answered = claude(), Final()
    asking.on(refusal=answered)
    (found,) = check(build_graph("Support", {"asking": asking, "answered": answered}))
    assert str(found) == (
        f"W1 complete · 'Support.asking' has no row for end_turn ({asking.where}). Add asking.on(end_turn=...)."
    )
    assert re.fullmatch(r"test_check\.py:\d+", found.where)


def test_a_finding_of_the_walk_shows_the_way() -> None:
    states = wf(*LOOP[:2], "calling tool_results -> answered", "asking refusal -> gating", "gating yes -> calling",
                "gating no -> answered", **asking_all(), gating=Code(yes_or_no))  # fmt: skip
    (found,) = findings(states)
    assert found.path == ("asking", "gating", "calling")
    assert found.edge == ("gating", "yes", 0)
    assert str(found) == (
        f"W9 calls · 'W.gating' leads yes to 'calling', when no call can be open ({found.where}). Only tool_use leaves "
        "calls to run or to decide on; a cut or refused call never runs (S5.3). Enter 'calling' from there.\n"
        "     Path: asking → gating → calling."
    )


def test_the_remedy_of_a_shared_history_can_be_pasted() -> None:
    (found,) = findings(wf(*TWO, **two({"model": BINDS}, {"prompt": "Go on."})))
    assert 'writing = Claude(..., history="writing", continues="main")' in found.remedy
    assert "R35" in found.problem


def test_a_near_name_is_suggested() -> None:
    by_name = {name: states for _, name, states, _ in CASES}
    assert "Did you mean 'main'?" in findings(by_name["continues a history that is not there"])[0].remedy
    assert "Did you mean 'yes'?" in findings(by_name["an outcome is unknown"])[0].remedy


@pytest.mark.parametrize("states", [s for _, _, s, _ in CASES], ids=NAMES)
def test_a_finding_can_be_placed(states: States) -> None:
    graph = graph_of(states)
    for found in check(graph):
        assert found.problem
        assert found.remedy.endswith((".", "?"))
        assert "{" not in f"{found.problem}{found.remedy}".replace('{"type": "none"}', "")
        if found.edge is not None:
            assert found.edge in {edge.key for edge in graph.edges}
        if found.state:
            assert found.state in graph.by_name
            assert found.where
        if found.event is not None:
            node = graph.by_name[found.state]
            assert found.event in {*graph.events(node.name), *required(graph, node)}


# --- on real classes ---------------------------------------------------------------------------------------------


class Support(Workflow):
    """Finds orders."""

    asking = claude(tools=[look_up])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def test_a_class_is_refused_with_every_finding() -> None:
    with pytest.raises(WorkflowError) as refused:

        class Broken(Workflow):
            asking = claude(tools=[look_up])
            calling = Tools()
            answered = Final()

            asking.on(end_turn=answered, max_tokens=calling)
            calling.on(tool_results=asking)

    assert [f.id for f in refused.value.findings] == ["W1", "W9"]
    assert refused.value.workflow == "Broken"
    assert all(str(f) in str(refused.value) for f in refused.value.findings)


def test_a_class_may_be_left_broken_to_be_drawn() -> None:
    class Broken(Workflow, check=False):
        asking = claude(tools=[look_up])
        asking.on(tool_use=asking, end_turn=exits.failed)

    (found,) = Broken.check()
    assert (found.id, found.edge) == ("W6", ("asking", "tool_use", 0))
    with pytest.raises(WorkflowError, match="W6"):
        _ = Broken.machine


def test_a_warning_does_not_refuse() -> None:
    with pytest.warns(UserWarning, match="W11 history"):

        class Two(Workflow):
            asking = claude()
            writing = claude(model=OTHER, prompt="Go on.")
            answered = Final()
            asking.on(end_turn=writing)
            writing.on(end_turn=answered)

    assert [f.severity for f in Two.check()] == ["warning"]


def test_a_target_of_another_workflow_is_refused_and_an_inherited_one_is_not() -> None:
    class Longer(Support):
        thanking = claude(prompt="Thank them.", tools=[look_up], tool_choice={"type": "none"})
        asking = Support.asking.replace(end_turn=thanking)
        thanking.on(end_turn=Support.answered)

    assert Longer.check() == ()
    with pytest.raises(WorkflowError, match=r"W10 final · 'Stranger\.asking' leads end_turn to no state of its own"):

        class Stranger(Workflow):
            asking = claude()
            answered = Final()
            asking.on(end_turn=Support.answered, refusal=answered)


def test_the_names_that_a_workflow_uses_itself_are_known() -> None:
    own = {name for kind in (Workflow, type(Workflow)) for name in vars(kind) if not name.startswith("__")}
    assert own - {"_abc_impl"} <= RESERVED


# --- guards that count nothing, effects that act on nothing ---------------------------------------------------------


def turning(facts: Facts) -> Literal["again", "other", "ok"]:
    """Outcomes that lead back."""
    raise AssertionError(facts)


def coded(again: Any, other: Any = None) -> States:
    asking, checking, done = claude(), Code(turning), Final()
    asking.on(end_turn=checking)
    checking.on("again", [checking.when(again), exits.over_limit]).on("ok", done)
    checking.on("other", done if other is None else [checking.when(other), exits.failed])
    return {"asking": asking, "checking": checking, "done": done}


def ids(states: States) -> list[str]:
    return [f.id for f in findings(states)]


def test_attempts_bound_code_unless_another_event_begins_the_count_anew() -> None:
    assert ids(coded(attempts_left(3))) == []
    assert ids(coded(attempts_left(3), attempts_left(3))) == ["W5"]
    assert ids(coded(attempts_left(3), rounds_left(3))) == []
    assert ids(coded(attempts_left(3) | good)) == ["W5"]
    assert ids(coded(attempts_left(3) & good)) == []


def test_room_to_grow_is_refused_where_no_request_grows() -> None:
    (found,) = findings(coded(room_to_grow))
    assert (found.id, found.state, found.event) == ("W5", "checking", "again")
    assert "room_to_grow, which bounds nothing there" in found.problem


@pytest.mark.parametrize("guard_", [attempts_left(3), good & attempts_left(3), ~attempts_left(3), room_to_grow])
def test_what_a_success_sets_back_is_no_bound_of_it(guard_: Any) -> None:
    asking, answered = claude(), Final()
    asking.on(end_turn=[asking.when(guard_).then(say("More.")), answered])
    (found,) = findings({"asking": asking, "answered": answered})
    assert (found.id, found.event) == ("W5", "end_turn")
    assert "rounds_left(n)" in found.remedy


@pytest.mark.parametrize("acting", [back_off, park, grow, compact, cheaper, say("Go.")], ids=str)
@pytest.mark.parametrize("target", [Final, Human, Tools, Approval], ids=lambda t: t.__name__)
def test_what_acts_on_requests_is_refused_towards_what_sends_none(acting: Any, target: Any) -> None:
    asking, other, done = claude(tools=[PAY]), target(), Final()
    calling = Tools() if target is not Tools else other
    asking.on(tool_use=other.then(acting) if target in {Tools, Approval} else calling, end_turn=done)
    if target in {Final, Human}:
        asking.rows["end_turn"] = (other.then(acting),)
    approving = other if target is Approval else Approval()
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)
    if target is Human:
        other.on(said=asking)
    states = {"asking": asking, "other": other, "calling": calling, "approving": approving, "done": done}
    unique = {name: s for name, s in states.items() if name == "other" or s is not other}
    found = [f for f in findings(unique) if f.id == "W12"]
    assert len(found) == 1
    assert str(acting) in found[0].problem or acting.says


def test_grow_is_refused_on_the_way_to_another_state() -> None:
    asking, writing, done = claude(), claude(), Final()
    asking.on(end_turn=done, max_tokens=[writing.when(rounds_left(1)).then(grow), exits.truncated])
    writing.on(end_turn=done)
    (found,) = findings({"asking": asking, "writing": writing, "done": done})
    assert (found.id, found.event) == ("W12", "max_tokens")
    assert "another one" in found.problem


def test_discard_is_refused_where_no_reply_comes() -> None:
    asking, done = claude(), Final()
    asking.on(end_turn=done.then(discard), overloaded_error=[asking.when(rounds_left(1)).then(discard), exits.failed])
    (found,) = findings({"asking": asking, "done": done})
    assert (found.id, found.event) == ("W12", "overloaded_error")


@pytest.mark.parametrize("never", [calls("lookup"), value_is("nope", 1), said_is("/quit"), output("a", 1)], ids=str)
def test_a_guard_that_can_never_hold_is_a_warning(never: Any) -> None:
    asking, calling, done = claude(tools=[look_up]), Tools(), Final()
    asking.on(tool_use=[exits.failed.when(never), calling], end_turn=done)
    calling.on(tool_results=asking)
    (found,) = findings({"asking": asking, "calling": calling, "done": done})
    assert (found.id, found.severity, found.event) == ("W2", "warning", "tool_use")
    assert str(never) in found.problem


@pytest.mark.parametrize(
    "may", [calls("look_up"), calls("invented"), ~calls("lookup"), value_is("noted", "x") | good], ids=str
)
def test_a_guard_that_may_hold_is_no_warning(may: Any) -> None:
    asking, calling, done = claude(tools=[look_up]), Tools(), Final()
    asking.on(tool_use=[exits.failed.when(may), calling], end_turn=done)
    calling.on(tool_results=asking)
    assert findings({"asking": asking, "calling": calling, "done": done}) == ()


def test_missing_rows_of_one_state_are_one_finding() -> None:
    states = wf("asking end_turn -> answered", asking=claude(), answered=Final())
    (found,) = findings(states, strict=True)
    assert (found.id, found.state) == ("W1", "asking")
    assert "max_tokens, pause_turn, refusal" in found.problem
    assert "max_tokens=..., pause_turn=..., refusal=..." in found.remedy
