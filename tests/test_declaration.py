"""Declaring a workflow: what is taken, what is inherited, and what is refused with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
from _workflows import MODEL, Desk, Driven, find, text

import fsm
from fsm import (
    Approval,
    Claude,
    Code,
    Context,
    DeclarationError,
    Facts,
    Final,
    Human,
    Limits,
    Outcome,
    Tools,
    Workflow,
    WorkflowError,
    effect,
    exits,
    guard,
    rounds_left,
    say,
    tool,
)
from fsm._alphabet import accepted_by
from fsm._events import CodeEnded
from fsm._toolspec import ToolSpec
from fsm.testing import Emulator, replies


def claude(**more: Any) -> Claude:
    return Claude(model=MODEL, max_tokens=10, **more)


class Base(Workflow):
    """To be subclassed."""

    asking = claude(tools=[find])
    calling = Tools()
    done = Final()

    asking.on(tool_use=calling, end_turn=done)
    calling.on(tool_results=asking)


def dest(workflow: type[Workflow], state: str, event: str) -> list[str]:
    return [edge.dest for edge in workflow.graph.row(state, event)]


# --- states and targets -----------------------------------------------------------------------------------------------


def test_a_workflow_is_named_after_its_class_and_says_what_it_is_for() -> None:
    assert (Base.name, Base.graph.doc) == ("Base", "To be subclassed.")
    assert list(Base.states) == ["asking", "calling", "done"]
    assert (Base.asking.name, Base.asking.owner) == ("asking", "Base")
    assert repr(Base) == "<workflow Base: asking, calling, done>"


def test_a_workflow_cannot_be_instantiated() -> None:
    with pytest.raises(DeclarationError, match=r"run\(Base, ...\) runs it"):
        Base()


def test_the_first_state_is_initial_unless_another_says_so() -> None:
    class Second(Workflow):
        """Begins in the middle."""

        calling = Tools()
        asking = claude(tools=[find], initial=True)
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking)

    assert (Base.graph.initial, Second.graph.initial) == ("asking", "asking")


def test_on_gives_the_state_back_and_may_be_called_twice() -> None:
    done = Final()
    state = claude()
    assert state.on(end_turn=done).on(refusal=done) is state
    assert list(state.rows) == ["end_turn", "refusal"]


def test_a_second_row_for_one_event_is_refused() -> None:
    done = Final()
    with pytest.raises(DeclarationError, match="end_turn has a row already; give its alternatives as one list"):
        claude().on(end_turn=done).on(end_turn=done)


@pytest.mark.parametrize(
    ("kind", "event", "hint"),
    [
        (claude, "tool_used", "did you mean tool_use?"),
        (Tools, "tool_result", "did you mean tool_results?"),
        (Approval, "approve", "did you mean approved?"),
        (Human, "zzz", "it accepts said, expired, cancel"),
    ],
)
def test_an_unknown_event_is_refused_with_the_nearest(kind: Callable[[], Any], event: str, hint: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        kind().on(**{event: Final()})
    assert hint in str(caught.value)


@pytest.mark.parametrize("kind", ["Claude", "Tools", "Approval", "Human"])
def test_each_kind_takes_exactly_the_events_of_the_alphabet(kind: str) -> None:
    made = claude() if kind == "Claude" else getattr(fsm, kind)()
    made.on(**{event: Final() for event in accepted_by(kind)})
    assert tuple(made.rows) == accepted_by(kind)


@pytest.mark.parametrize("target", ["done", None, Final, [], [Final(), "done"]])
def test_what_is_no_target_is_refused(target: Any) -> None:
    with pytest.raises(DeclarationError, match="state"):
        claude().on(end_turn=target)


def test_a_target_is_a_state_an_alternative_or_a_list_of_these() -> None:
    done, other = Final(), Final()
    state = claude().on(end_turn=[done.when(rounds_left(1)).then(effect(_named)), other], refusal=other)
    first, second = state.rows["end_turn"]
    assert (first.target, str(first.guard), [str(e) for e in first.effects]) == (done, "rounds_left(1)", ["_named"])
    assert (second.target, second.guard, second.effects) == (other, None, ())


def _named(facts: Facts) -> Any:
    return facts.text


def test_guards_on_one_alternative_are_joined() -> None:
    alternative = Final().when(rounds_left(1)).when(_holds)
    assert str(alternative.guard) == "rounds_left(1) & _holds"


def _holds(facts: Facts) -> bool:
    return bool(facts.text)


@pytest.mark.parametrize("bare", [lambda: Final().when(lambda facts: True), lambda: guard(lambda facts: True)])
def test_a_bare_lambda_is_refused(bare: Callable[[], Any]) -> None:
    with pytest.raises(DeclarationError, match="needs a name, since pictures and records print it: use @guard"):
        bare()


@pytest.mark.parametrize(
    ("bare", "words"),
    [
        (lambda: Final().when("always"), r"\.when\(\) takes a guard, not 'always'"),
        (lambda: Final().then(_named), "decorate a function of Facts with @effect"),
        (lambda: Final().then("say hi"), "decorate a function of Facts with @effect"),
        (lambda: effect(lambda facts: 1), "a effect needs a name|an effect needs a name"),
        (lambda: say(""), "needs words"),
        (lambda: effect(changes="everything")(_named), "takes 'max_tokens', 'model' or 'history'"),
        (lambda: rounds_left(0), "must be more than 0"),
    ],
)
def test_guards_and_effects_of_the_wrong_form_are_refused(bare: Callable[[], Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        bare()


def refused(body: dict[str, Any], *ids: str, **options: Any) -> str:
    with pytest.raises(WorkflowError) as caught:
        type(Workflow)("Broken", (Workflow,), body, **options)
    assert tuple(f.id for f in caught.value.findings) == ids, str(caught.value)
    return str(caught.value)


def test_no_states() -> None:
    assert "declares no states" in refused({}, "W3")


def test_an_unnamed_target_is_refused() -> None:
    assert "Assign it in the class body" in refused({"asking": claude().on(end_turn=Final())}, "W10")


def test_a_foreign_target_is_refused() -> None:
    words = refused({"asking": claude().on(end_turn=Desk.answered)}, "W10")
    assert "belongs to the workflow 'Desk'" in words
    assert "subclass" in words


def test_one_object_under_two_names_is_refused() -> None:
    asking, done = claude(), Final()
    asking.on(end_turn=done)
    assert "under the names 'asking', 'other'" in refused({"asking": asking, "other": asking, "done": done}, "W10")


@pytest.mark.parametrize(
    "name", ["name", "states", "machine", "table", "graph", "check", "diagram", "limits", "plan", "toolbox", "_states"]
)
def test_a_state_may_not_be_named_like_something_of_the_class(name: str) -> None:
    asking, done = claude(), Final()
    asking.on(end_turn=done)
    assert f"'Broken.{name}' hides {name} of the workflow itself" in refused({name: asking, "done": done}, "W10")


@pytest.mark.parametrize("name", ["failed", "stuck", "refused"])
def test_a_state_may_not_be_named_like_an_exit(name: str) -> None:
    asking, own = claude(), Final()
    asking.on(end_turn=own)
    assert f"exits.{name}" in refused({"asking": asking, name: own}, "W10")


def test_every_finding_is_reported_at_once_with_its_line() -> None:
    asking, done = claude(tools=[find]), Final()
    asking.on(refusal=[done, done])
    words = refused({"asking": asking, "done": done, "lonely": Final()}, "W1", "W2", "W3")
    assert "3 findings" in words
    assert words.count("test_declaration.py:") >= 3


def test_a_broken_workflow_can_be_made_to_be_drawn_and_not_to_run() -> None:
    class Broken(Workflow, check=False):
        """Says nothing about end_turn."""

        asking = claude()

    assert next(f.id for f in Broken.check() if f.severity == "error") == "W1"
    with pytest.raises(WorkflowError, match="no row for end_turn"):
        Broken.machine  # noqa: B018 - compiling is the test


# --- subclasses -------------------------------------------------------------------------------------------------------


def test_a_subclass_has_the_states_of_its_bases_first() -> None:
    class Longer(Base):
        """With a person."""

        waiting = Human()
        asking = Base.asking.replace(end_turn=waiting)
        waiting.on(said=[Base.done.when(fsm.said_is("bye")), Base.asking])

    assert list(Longer.states) == ["asking", "calling", "done", "waiting"]
    assert Longer.graph.initial == "asking"
    assert dest(Longer, "asking", "end_turn") == ["waiting"]
    assert dest(Longer, "asking", "tool_use") == ["calling"]
    assert dest(Longer, "waiting", "said") == ["done", "asking"]
    assert dest(Base, "asking", "end_turn") == ["done"]
    assert Longer.asking is not Base.asking
    assert Longer.calling is Base.calling


def test_targets_are_resolved_by_name_like_methods() -> None:
    class Careful(Base):
        """Another `calling`; the inherited row of `asking` leads there."""

        calling = Tools()
        approving = Approval()
        calling.on(tool_results=Base.asking, approval_needed=approving)
        approving.on(approved=calling, denied=Base.asking)

    edge = Careful.graph.row("asking", "tool_use")[0]
    assert edge.dest == "calling"
    assert Careful.graph.by_name["calling"].state is Careful.calling
    assert Careful.calling is not Base.calling


def test_the_nearest_base_wins_as_with_methods() -> None:
    class Left(Base):
        """Changes nothing."""

    class Right(Base):
        """Refusals are done."""

        asking = Base.asking.replace(refusal=Base.done)

    class Both(Left, Right):
        """Has what `Right` says, since `Left` says nothing."""

    assert Both.asking is Right.asking
    assert dest(Both, "asking", "refusal") == ["done"]


def test_on_after_the_class_is_finished_is_refused_with_the_remedy() -> None:
    with pytest.raises(DeclarationError) as caught:
        Base.asking.on(refusal=Base.done)
    assert "asking = Base.asking.replace(refusal=...)" in str(caught.value)
    assert dest(Base, "asking", "refusal") == ["refused"]


def test_replace_takes_other_rows_and_keeps_the_rest() -> None:
    done = Final()
    state = claude().on(end_turn=done, refusal=done)
    other = state.replace(refusal=[exits.failed])
    assert list(other.rows) == ["end_turn", "refusal"]
    assert other.rows["refusal"][0].target is exits.failed
    assert state.rows["refusal"][0].target is done
    with pytest.raises(DeclarationError, match="did you mean refusal"):
        state.replace(refusa=done)


def test_limits_and_strictness_are_inherited() -> None:
    class Limited(Base, limits=Limits(turns=3)):
        """Three turns."""

    class Again(Limited):
        """As before."""

    class Other(Limited, limits=Limits(money=1)):
        """Its own."""

    class Strict(Workflow, strict=True, check=False):
        """Nothing is implied."""

        asking = claude()
        done = Final()
        asking.on(end_turn=done)

    class StillStrict(Strict, check=False):
        """Nothing is implied here either."""

    assert (Again.limits.given(), Other.limits.given(), Base.limits.given()) == ({"turns": 3}, {"money": 1}, {})
    assert StillStrict.graph.strict
    assert StillStrict.graph.events("asking") == ("end_turn",)


def test_strict_implies_nothing_and_wants_every_event() -> None:
    asking, done = claude(), Final()
    asking.on(**{e: done for e in accepted_by("Claude") if e not in {"overloaded_error", "tool_use", "stop_sequence"}})
    words = refused({"asking": asking, "done": done}, "W1", strict=True)
    assert "no row for overloaded_error" in words


# --- the standard table -----------------------------------------------------------------------------------------------


def test_what_is_not_mentioned_goes_by_the_standard_table() -> None:
    assert dest(Base, "asking", "refusal") == ["refused"]
    assert dest(Base, "asking", "overloaded_error") == ["asking", "asking"]
    assert dest(Base, "asking", "billing_error") == ["failed"]
    assert dest(Base, "calling", "cancel") == ["cancelled"]
    assert dest(Base, "asking", "stop_sequence") == dest(Base, "asking", "end_turn") == ["done"]
    assert all(e.implied for e in Base.graph.row("asking", "refusal"))
    assert not any(e.implied for e in Base.graph.row("asking", "end_turn"))


def test_a_declared_row_replaces_the_standard_one() -> None:
    class Own(Base):
        """Refusals are done."""

        asking = Base.asking.replace(refusal=Base.done, overloaded_error=exits.failed)

    assert dest(Own, "asking", "refusal") == ["done"]
    assert dest(Own, "asking", "overloaded_error") == ["failed"]


@pytest.mark.parametrize("more", [{}, {"tools": [find], "tool_choice": {"type": "none"}}])
def test_tool_use_is_implied_only_where_no_tool_can_be_called(more: dict[str, Any]) -> None:
    asking, done = claude(**more), Final()
    asking.on(end_turn=done)
    made = type(Workflow)("W", (Workflow,), {"asking": asking, "done": done})
    assert dest(made, "asking", "tool_use") == ["failed"]


def test_what_is_never_implied_must_be_declared() -> None:
    asking = claude(tools=[find], stop_sequences=["</a>"])
    words = refused({"asking": asking, "done": Final()}, "W1", "W3")
    assert "no row for end_turn, tool_use (though it has tools), stop_sequence (though it has stop_sequences)" in words


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"tool_choise": {}}, "did you mean tool_choice=?"),
        ({"stop_sequence": ["x"]}, "did you mean stop_sequences=?"),
        ({"tool": []}, "did you mean tools=?"),
        ({"zzz": 1}, "pass it in extra_body={...}"),
        ({"messages": []}, "has no parameter 'messages'"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_nearest(given: dict[str, Any], hint: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        claude(**given)
    assert hint in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "100", None])
def test_max_tokens_is_a_positive_number(value: Any) -> None:
    with pytest.raises(DeclarationError, match="max_tokens is a positive number"):
        Claude(model=MODEL, max_tokens=value)


def test_extra_body_is_merged_into_the_request() -> None:
    class Extra(Workflow):
        """Asks for something new."""

        asking = claude(metadata={"user_id": "u"}, extra_body={"brand_new": 1})
        done = Final()
        asking.on(end_turn=done)

    params = Driven(Extra).action.params
    assert (params["brand_new"], params["metadata"]) == (1, {"user_id": "u"})


def test_a_history_cannot_continue_itself() -> None:
    with pytest.raises(DeclarationError, match="copy the history onto itself"):
        claude(history="a", continues="a")


@pytest.mark.parametrize("name", ["turns", "tool_calls", "tokens", "money", "seconds"])
@pytest.mark.parametrize("value", [0, -1, True, "3", float("nan")])
def test_limits_are_positive_numbers(name: str, value: Any) -> None:
    with pytest.raises(DeclarationError, match=rf"Limits\({name}=\) is a positive number"):
        Limits(**{name: value})


def test_limits_of_a_class_are_limits() -> None:
    with pytest.raises(DeclarationError, match=r"limits= takes Limits"):
        type(Workflow)("W", (Workflow,), {}, limits=5)


@pytest.mark.parametrize(
    ("span", "seconds"),
    [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1d", 86400), ("1w", 604800), (5, 5), (None, None)],
)
def test_spans_of_time(span: Any, seconds: float | None) -> None:
    assert Approval(within=span).within == Human(within=span).within == seconds
    assert Human(within=timedelta(minutes=2)).within == 120


@pytest.mark.parametrize("span", ["soon", "1y", "-1s", 0, -5, True, [], {}, "", "1d2h"])
def test_what_is_no_span_of_time_is_refused(span: Any) -> None:
    with pytest.raises(DeclarationError, match="'90s', '30m', '12h', '1d'"):
        Approval(within=span)


# --- tools ------------------------------------------------------------------------------------------------------------


def with_tools(*tools: Any) -> type[Workflow]:
    asking, calling, done = claude(tools=tools), Tools(), Final()
    asking.on(tool_use=calling, end_turn=done)
    calling.on(tool_results=asking)
    return type(Workflow)("Tooled", (Workflow,), {"asking": asking, "calling": calling, "done": done})


def undocumented(number: str) -> str:
    return number


def test_a_tool_needs_a_docstring() -> None:
    for make in (tool, lambda fn: claude(tools=[fn])):
        with pytest.raises(DeclarationError, match=r"tool 'undocumented' \(test_declaration.py:\d+\) has no docstring"):
            make(undocumented)
    assert tool(description="Looks up.")(undocumented).description == "Looks up."


def unannotated(number) -> str:
    """Look up."""
    return str(number)


def starred(*numbers: str) -> str:
    """Look up."""
    return str(numbers)


class Opaque:
    """Nothing that a schema can say."""


def impossible(thing: Opaque) -> str:
    """Look up."""
    return str(thing)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (unannotated, "parameter 'number' has no annotation"),
        (starred, r"takes \*numbers: a schema needs named parameters"),
        (impossible, "no JSON schema can be made of its parameters"),
    ],
)
def test_a_tool_with_an_impossible_schema_is_refused_before_anything_runs(function: Any, words: str) -> None:
    for make in (tool, lambda fn: fn):
        with pytest.raises(DeclarationError, match=rf"tool '{function.__name__}' \(test_declaration.py:\d+\).*{words}"):
            with_tools(make(function)).toolbox  # noqa: B018 - making the schemas is the test


def test_a_schema_that_is_none_is_refused_before_anything_runs() -> None:
    broken = tool(input_schema={"type": "nonsense"})(find.run)
    with pytest.raises(DeclarationError, match=r"tool 'find' .* cannot be used"):
        with_tools(broken).toolbox  # noqa: B018

    class Judge(Workflow):
        """Its output is none."""

        judging = claude(output={"type": "nonsense"})
        done = Final()
        judging.on(end_turn=done)

    with pytest.raises(DeclarationError, match=r"nonsense.* cannot be used"):
        Judge.toolbox  # noqa: B018


@pytest.mark.parametrize("thing", [5, "find", {"name": "x", "input_schema": {}}, {"name": "x"}, None])
def test_what_is_no_tool_is_refused(thing: Any) -> None:
    with pytest.raises(DeclarationError, match="tool"):
        claude(tools=[thing])


def test_tool_names_are_unique_and_lawful() -> None:
    with pytest.raises(DeclarationError, match=r"unique \(R41\): find"):
        claude(tools=[find, find])
    with pytest.raises(DeclarationError, match="R40"):
        tool(name="no spaces")(find.run)


def test_the_context_is_not_part_of_the_schema() -> None:
    @tool
    def look(ctx: Context[dict[str, str]], number: str, often: int = 1) -> str:
        """Look up."""
        return f"{ctx.deps[number]} {often}"

    (definition,) = with_tools(look).toolbox.definitions["asking"]
    schema = definition["input_schema"]
    assert set(schema["properties"]) == {"number", "often"}
    assert schema["required"] == ["number"]
    assert "Context" not in str(definition)


def test_server_tools_are_sent_as_they_are() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    asking, done = claude(tools=[search]), Final()
    asking.on(end_turn=done)
    made = type(Workflow)("Searching", (Workflow,), {"asking": asking, "done": done})
    assert made.toolbox.definitions["asking"] == [search]
    assert dest(made, "asking", "tool_use") == ["failed"]  # no tool of ours can be called


def test_a_tool_can_still_be_called_like_the_function() -> None:
    assert isinstance(find, ToolSpec)
    assert find("7") == "order 7"


# --- Code -------------------------------------------------------------------------------------------------------------


def plain(facts: Facts) -> Literal["ok", "thin"]:
    return "ok" if facts.text else "thin"


def stringy(facts: "Facts") -> "Literal['ok', 'thin']":  # noqa: UP037 - the annotation is a string in a string
    return plain(facts)


def valued(facts: Facts) -> Outcome[Literal["ok", "thin"]]:
    return Outcome(plain(facts), 5)


async def awaited(facts: Facts) -> Literal["ok", "thin"]:
    return plain(facts)


async def awaited_value(facts: Facts, ctx: Context[str]) -> Outcome[Literal["ok", "thin"]]:
    return Outcome(plain(facts), ctx.deps)


@pytest.mark.parametrize("fn", [plain, stringy, valued, awaited, awaited_value], ids=lambda f: f.__name__)
def test_outcomes_are_read_from_the_annotation(fn: Any) -> None:
    state = Code(fn)
    assert (state.outcomes, state.outcomes_problem) == (("ok", "thin"), None)
    assert state.alphabet() == ("ok", "thin", "raised", "cancel")


def coded(fn: Any, *outcomes: str) -> dict[str, Any]:
    asking, gating, done = claude(), Code(fn), Final()
    asking.on(end_turn=gating)
    for outcome in outcomes:
        gating.on(outcome, done)
    return {"asking": asking, "gating": gating, "done": done}


def test_a_missing_outcome_and_an_unknown_one_are_refused() -> None:
    assert "no row for thin" in refused(coded(plain, "ok"), "W1")
    assert "Did you mean 'thin'?" in refused(coded(plain, "ok", "thin", "thick"), "W1")


def no_annotation(facts: Facts):
    return plain(facts)


def too_wide(facts: Facts) -> str:
    return plain(facts)


def unknown_name(facts: Facts) -> Nowhere:  # noqa: F821 - it does not exist, that is the case
    return plain(facts)


@pytest.mark.parametrize("fn", [no_annotation, too_wide, unknown_name], ids=lambda f: f.__name__)
def test_outcomes_that_cannot_be_read_are_refused(fn: Any) -> None:
    with pytest.raises(WorkflowError) as caught:
        type(Workflow)("Broken", (Workflow,), coded(fn, "ok", "thin"))
    assert f"'{fn.__name__}'" in str(caught.value)
    assert {f.id for f in caught.value.findings} == {"W1"}


def test_code_takes_a_function() -> None:
    with pytest.raises(DeclarationError, match="takes a function of Facts, not 'plain'"):
        Code("plain")


def test_an_outcome_is_moved_on_and_its_value_recorded() -> None:
    made = type(Workflow)("Coded", (Workflow,), coded(valued, "ok", "thin"))
    driven = Driven(made)
    driven.reply(text("Hi."))
    driven.feed(CodeEnded(driven.now(), "ok", 5))
    assert (driven.state, dict(driven.run.values)) == ("done", {"gating": 5})


# --- dependencies, driven against the emulator ------------------------------------------------------------------------


def test_a_system_function_is_called_once_per_run_and_frozen() -> None:
    seen: list[Any] = []

    def system(deps: Any) -> str:
        seen.append(deps)
        return f"You serve {deps} for the {len(seen)}. time."

    @tool
    def look(ctx: Context[str], number: str) -> str:
        """Look up."""
        return f"{ctx.deps} {number} {ctx.tool_use_id} {ctx.run_id} {dict(ctx.tags)}"

    class Served(Workflow):
        """Two states with a system function."""

        asking = claude(system=system, tools=[look])
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking)

    emulator = Emulator([replies.tool_use("look", {"number": "7"}), replies.text("Done.")])
    store = fsm.MemoryStore()
    result = fsm.run(Served, "Hi.", client=emulator.client(), deps="tea", run_id="r", tags={"team": "x"}, journal=store)
    assert result.state == "done"
    assert seen == ["tea"]
    assert [r.body["system"] for r in emulator.requests] == ["You serve tea for the 1. time."] * 2
    (block,) = emulator.requests[1].body["messages"][-1]["content"]
    assert block["content"] == f"tea 7 {block['tool_use_id']} r {{'team': 'x'}}"
    assert "tea 7" in str(tuple(store.read("r")))
    assert next(iter(store.read("r"))).data["systems"] == {"asking": "You serve tea for the 1. time."}


def test_a_subclass_can_begin_elsewhere() -> None:
    class Base(Workflow):
        asking = Claude(model=MODEL, max_tokens=10, initial=True)
        answered = Final()
        asking.on(end_turn=answered)

    class Later(Base):
        opening = Claude(model=MODEL, max_tokens=10, history="opening", prompt="Open.", initial=True)
        opening.on(end_turn=Base.asking)

    assert Base.graph.initial == "asking"
    assert Later.graph.initial == "opening"
    assert [edge.dest for edge in Later.graph.row("opening", "end_turn")] == ["asking"]
