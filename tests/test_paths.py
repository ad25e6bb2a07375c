"""Paths: found for every row, played for real, honest about what was not found."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path as File
from typing import Any, Literal

import pytest
from _workflows import WORKFLOWS, HandOver, Stages

from examples.support import Support
from fsm import (
    Approval,
    Claude,
    Code,
    Context,
    Facts,
    Final,
    Human,
    Limits,
    Outcome,
    Tools,
    Workflow,
    attempts_left,
    exits,
    guard,
    matched,
    output,
    rounds_left,
    run,
    said_is,
    say,
    tool,
    value_is,
)
from fsm._errors import UsageError
from fsm._params import Schema
from fsm.testing import Emulator, Path, Paths, assert_path, happy_path, paths, replies, serve
from fsm.testing._samples import samples
from fsm.testing.paths import INPUT

MODEL = "claude-sonnet-5"
DONE: list[str] = []  # what tools and functions did


@tool
def look_up(ctx: Context[dict[str, str]], number: str) -> str:
    """Look something up."""
    DONE.append(f"look_up {number}")
    return ctx.deps[number]


def too_much(given: Any) -> bool:
    return bool(given["euros"] > 100)


@tool(needs_approval=too_much)
def pay(euros: int) -> str:
    """Pay."""
    DONE.append(f"pay {euros}")
    return "paid"


class Asking(Workflow):
    """A tool loop."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[look_up])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def found(workflow: type[Workflow], **more: Any) -> dict[str, str]:
    """The states of each path by its id."""
    return {path.id: str(path) for path in paths(workflow, **more)}


def missing(of: Paths) -> dict[tuple[str, str, int], str]:
    return {uncovered.row.key: uncovered.reason for uncovered in of.uncovered}


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_path_is_a_shortest_one_through_its_row_to_an_end() -> None:
    made = found(Asking)
    assert made["asking-end_turn-answered"] == "asking → answered"
    assert made["asking-tool_use-calling"] == "asking → calling → asking → answered"
    assert made["asking-refusal-refused"] == "asking → refused"
    assert made["asking-max_tokens-1-asking"] == "asking → asking → answered"
    assert made["asking-max_tokens-2-truncated"] == "asking → asking → asking → truncated"
    assert made["asking-max_tokens-4-truncated"] == "asking → asking → asking → asking → truncated"
    assert made["asking-pause_turn-2-stuck"] == "asking → asking → asking → asking → asking → asking → stuck"
    assert made["asking-over_limit-over_limit"] == "asking → asking → over_limit"
    assert made["asking-cancel-cancelled"] == "asking → cancelled"
    assert made["calling-outcome_unknown-calling"] == "asking → calling → calling → asking → answered"


def test_every_row_has_its_path_or_a_reason() -> None:
    made = paths(Asking)
    assert [path.row for path in made] == list(Asking.graph.edges)
    assert missing(made) == {}
    assert all(path.row in path.rows for path in made)


def test_retries_run_out_and_the_path_ends_parked() -> None:
    made = paths(Asking)
    at_once = made.of("asking", "overloaded_error", 1)
    assert (str(at_once), at_once.parked) == ("asking → asking", True)
    assert at_once.replies[0].headers == {"retry-after": "3600"}
    after_six = made.of("asking", "connection_error", 1)
    assert (len(after_six.replies), after_six.parked) == (7, True)
    result = after_six.run(Asking)
    assert_path(result, after_six)
    assert result.verdict.reason == "waiting_api"


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_paths_of_other_workflows(workflow: type[Workflow]) -> None:
    made = paths(workflow)
    for path in made:
        assert_path(path.run(workflow), path)
    reasons = set(missing(made).values())
    expected = {"[rounds_left(1)] held in every run that was tried"} if workflow is Stages else set()
    assert reasons == expected  # the wrap-up of `Stages` ends the run, so its rows have no second time
    assert happy_path(workflow).run(workflow).ok


def test_two_runs_find_the_same() -> None:
    assert found(HandOver) == found(HandOver)
    assert [path.script for path in paths(HandOver)] == [path.script for path in paths(HandOver)]


@guard
def third_turn(facts: Facts) -> bool:
    """It took a while."""
    return facts.turns >= 3


@guard
def is_magic(facts: Facts) -> bool:
    """The model says a word that nobody would guess."""
    return facts.text == "abracadabra"


def gate(facts: Facts) -> Literal["ok", "bad"]:
    DONE.append("gate")
    return "ok" if facts.text else "bad"


def weigh(facts: Facts) -> Outcome[Literal["heavy", "light"]]:
    DONE.append("weigh")
    return Outcome("heavy", {"grams": len(facts.text)})


class Guarded(Workflow):
    """Guards of every kind."""

    asking = Claude(
        model=MODEL,
        max_tokens=100,
        tools=[look_up, pay],
        stop_sequences=["</a>", "</b>"],
        system=lambda deps: deps["system"],
    )
    calling = Tools()
    approving = Approval()
    gating = Code(gate)
    weighing = Code(weigh)
    listening = Human()
    early, late, magic, heavy, bye, done = Final(), Final(), Final(), Final(), Final(), Final()

    asking.on(
        tool_use=calling,
        end_turn=[magic.when(is_magic), late.when(third_turn), gating],
        stop_sequence=[early.when(matched("</b>")), listening],
    )
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)
    gating.on("ok", weighing).on("bad", [asking.when(rounds_left(1)).then(say("Again.")), exits.failed])
    weighing.on("heavy", [heavy.when(value_is("weighing", {"grams": 7})), done]).on("light", done)
    listening.on(said=[bye.when(said_is("/quit") | said_is("/bye")), asking])


def test_built_in_guards_are_asked_what_they_want() -> None:
    made = paths(Guarded)
    assert missing(made) == {
        (
            "asking",
            "end_turn",
            0,
        ): "nothing that was tried made [is_magic] hold: give replies=, said= or values= that do",
        ("weighing", "heavy", 1): "[weighing = {'grams': 7}] held in every run that was tried",
    }
    assert made.of("asking", "stop_sequence", 0).replies[0].stop_sequence == "</b>"
    assert made.of("listening", "said", 0).answers == ["/quit"]
    assert str(made.of("gating", "bad", 1)).endswith("asking → gating → failed")
    assert str(made.of("asking", "end_turn", 1)) == "asking → gating → asking → asking → late"
    assert str(made.of("calling", "approval_needed")).startswith("asking → calling → approving")


def test_what_cannot_be_guessed_is_given() -> None:
    more: dict[str, Any] = {
        "replies": {"asking": [replies.text("abracadabra")]},
        "values": {"weighing": [{"grams": 7}, {"grams": 1}]},
    }
    made = paths(Guarded, **more)
    assert missing(made) == {}
    assert str(made.of("asking", "end_turn", 0)) == "asking → magic"
    assert str(made.of("weighing", "heavy", 1)) == "asking → gating → weighing → done"
    for path in made:
        assert_path(path.run(Guarded), path)


class Forms(Workflow):
    """Structured output, read by arrows and by prompts."""

    sorting = Claude(
        model=MODEL,
        max_tokens=100,
        output={
            "type": "object",
            "properties": {
                "kind": {"$ref": "#/$defs/kind"},
                "urgent": {"type": "boolean"},
                "score": {"type": "integer", "minimum": 0, "maximum": 40},
            },
            "required": ["kind", "urgent", "score"],
            "additionalProperties": False,
            "$defs": {"kind": {"enum": ["a", "b"]}},
        },
    )
    urgent, second, third, other = Final(), Final(), Final(), Final()
    sorting.on(
        end_turn=[
            urgent.when(output("urgent", value=False) & ~output("kind", "a")),
            second.when(output("kind", "b")),
            third.when(output("score", 37)),
            other,
        ]
    )


def test_outputs_are_made_from_the_schema_and_the_guards() -> None:
    made = paths(Forms)
    assert missing(made).keys() == {("sorting", "end_turn", 0), ("sorting", "stop_sequence", 0)}  # two fields at once
    given = {"sorting": [replies.structured({"kind": "b", "urgent": False, "score": 1})]}
    assert ("sorting", "end_turn", 0) not in missing(paths(Forms, replies=given))
    assert {path.states for path in made} >= {("sorting", name) for name in ("second", "third", "other", "failed")}
    for path in made:
        assert_path(path.run(Forms), path)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, ["example"]),
        ({"type": "string", "minLength": 9}, ["example.."]),
        ({"enum": ["x", 1, None]}, ["x", 1, None]),
        ({"type": "integer", "minimum": 7, "maximum": 9}, [7, 9]),
        ({"type": "number", "exclusiveMinimum": 5, "maximum": 6}, [6]),
        ({"type": "array", "items": {"const": 4}, "minItems": 2}, [[4, 4]]),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, [True, False, None]),
        ({"allOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}]}, [{"a": 1}]),
        ({"type": "object", "properties": {"a": {"default": "b"}}, "additionalProperties": False}, [{"a": "b"}]),
        ({"type": "string", "pattern": "^[0-9]{4}$"}, []),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"t": {"$ref": "#/$defs/t"}}}}}, None),
    ],
)
def test_samples_fit_their_schema(schema: dict[str, Any], expected: list[Any] | None) -> None:
    made = samples(Schema(schema))
    assert all(Schema(schema).problem(value) is None for value in made)
    if expected is not None:
        assert made[: len(expected)] == expected


def test_over_limit_is_reached_by_lowering_the_limit() -> None:
    made = paths(Stages)
    path = made.of("asking", "over_limit", 0)
    assert dict(path.script.limits) == {"turns": 1}
    assert str(path) == "asking → calling → asking → wrapping → partial" or "wrapping → partial" in str(path)
    assert_path(path.run(Stages), path)


class Limited(Workflow, limits=Limits(turns=2)):
    """A limit of its own."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[look_up])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered, max_tokens=[asking.when(attempts_left(9)), exits.truncated])
    calling.on(tool_results=asking)


def test_a_limit_of_the_workflow_holds_on_its_paths_and_hides_what_is_behind_it() -> None:
    made = paths(Limited)
    assert made.of("asking", "over_limit").script.limits["turns"] <= 2
    assert missing(made)[("asking", "max_tokens", 1)] == "[attempts_left(9)] held in every run that was tried"


def broken(facts: Facts) -> str:
    return str(facts.values["nobody put this there"])


class Raising(Workflow):
    """Its second step cannot be entered."""

    first = Claude(model=MODEL, max_tokens=100)
    second = Claude(model=MODEL, max_tokens=100, history="second", prompt=broken)
    done = Final()
    first.on(end_turn=second)
    second.on(end_turn=done)


def test_what_raises_on_the_way_is_the_reason() -> None:
    made = paths(Raising)
    reasons = missing(made)
    assert "prompt 'broken'" in reasons[("first", "end_turn", 0)]
    assert reasons[("second", "end_turn", 0)] == "no run was found that enters 'second'"
    assert ("first", "refusal", 0) not in reasons
    with pytest.raises(UsageError, match=r"'Raising': no run was found .*prompt 'broken'"):
        happy_path(Raising)


def test_covers() -> None:
    declared = paths(Guarded, "declared")
    assert {path.row.implied for path in declared if path.row} == {False}
    states = paths(Guarded, cover="states", replies={"asking": [replies.text("abracadabra")]})
    seen = {state for path in states for state in path.states}
    assert seen >= {node.name for node in Guarded.graph.nodes}
    assert len(states) < len(declared)
    assert states.uncovered == ()
    assert [u.row.dest for u in paths(Raising, cover="states").uncovered] == ["second", "done"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"cover": "rows"}, "takes 'transitions', 'declared' or 'states', not 'rows'"),
        ({"replies": {"askin": []}}, "has no Claude state 'askin'; it has asking"),
        ({"replies": {"calling": []}}, "has no Claude state 'calling'"),
        ({"values": {"asking": []}}, "has no Code state 'asking'; it has none"),
    ],
)
def test_wrong_arguments(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        paths(Asking, **given)


def test_not_a_workflow() -> None:
    with pytest.raises(UsageError, match="paths are found for a Workflow class"):
        paths(object)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a path of 'Asking', not of 'Forms'"):
        happy_path(Asking).run(Forms)


# --- playing ----------------------------------------------------------------------------------------------------------


def test_tools_and_functions_are_not_run_and_nothing_waits() -> None:
    DONE.clear()
    began = time.monotonic()
    for path in paths(Guarded, "declared"):
        assert_path(path.run(Guarded), path)
    six = paths(Asking).of("asking", "connection_error", 1).run(Asking)
    assert sum(record.data.get("seconds") or 0 for record in six.records if record.kind == "error") < 1
    waited = six.records[-1].at - six.records[0].at
    assert waited > 20  # by its own clock
    assert DONE == []
    assert time.monotonic() - began < 15


def test_results_of_tools_differ_so_that_a_loop_is_not_taken_for_one_without_progress() -> None:
    script = happy_path(Support)
    result = script.run(Support)
    blocks = [b for m in result.messages for b in m["content"] if b["type"] == "tool_result"]
    assert [block["content"] for block in blocks] == ["Result 1 of find_order.", "Result 2 of refund."]


def test_a_cut_stream_is_streamed_and_everything_else_can_be() -> None:
    path = paths(Asking).of("asking", "cut_stream", 0)
    assert path.script.stream
    assert_path(path.run(Asking), path)
    streamed = happy_path(Asking)
    assert not streamed.script.stream
    assert_path(streamed.run(Asking, stream=True), streamed)


def test_moves_are_told_and_a_client_of_ones_own_can_be_used() -> None:
    path = happy_path(Asking)
    moves: list[str] = []
    with serve(Emulator(path.replies)) as server, server.client() as client:
        result = path.run(Asking, client=client, on_move=lambda move: moves.append(move.event))
    assert moves == ["tool_use", "tool_results", "end_turn"]
    assert_path(result, path)


def test_the_input_is_said_first() -> None:
    assert happy_path(Asking).input == INPUT
    result = happy_path(Asking, input="Where is order 7?").run(Asking)
    assert result.messages[0]["content"][0]["text"] == "Where is order 7?"


class Same(Workflow):
    """What `Asking` becomes when somebody changes a row."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[look_up])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered, refusal=answered, overloaded_error=exits.failed)
    calling.on(tool_results=answered)


Same._name = "Asking"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (("asking", "refusal", 0), "taken:    asking → answered"),
        (("asking", "tool_use", 0), "it stopped in 'answered' and the script goes on: reply end_turn"),
        (("asking", "overloaded_error", 0), "it stopped in 'failed' and the script goes on"),
    ],
)
def test_a_changed_row_fails_the_paths_through_it(row: tuple[str, str, int], text: str) -> None:
    path = paths(Asking).of(*row)
    with pytest.raises(AssertionError, match=re.escape(text)):
        assert_path(path.run(Same), path)


def test_an_unchanged_row_does_not() -> None:
    path = paths(Asking).of("asking", "end_turn")
    assert_path(path.run(Same), path)


class Longer(Asking):
    """What it becomes when an answer is no longer the end."""

    listening = Human()
    asking = Asking.asking.replace(end_turn=listening)
    listening.on(said=[Asking.answered.when(said_is("/quit")), asking])


Longer._name = "Asking"


def test_a_run_that_goes_on_where_the_path_ends_says_so() -> None:
    with pytest.raises(AssertionError, match="the script is at its end, and in 'listening' there is still AskHuman"):
        happy_path(Asking).run(Longer)


# --- looking ----------------------------------------------------------------------------------------------------------


def test_assert_path_takes_what_people_write() -> None:
    result = happy_path(Asking).run(Asking)
    assert_path(result, "asking → calling → asking → answered")
    assert_path(result, "asking -> calling->asking  ->  answered")
    assert_path(result, ["asking", "calling", "asking", "answered"])
    assert_path(result, happy_path(Asking))


def test_assert_path_of_a_run_that_never_moved() -> None:
    parked = run(Opening, "Hello.")
    assert_path(parked, "listening")
    with pytest.raises(AssertionError, match="it began in 'listening'"):
        assert_path(parked, "asking")


class Opening(Workflow):
    """A person speaks first."""

    listening = Human()
    answering = Claude(model=MODEL, max_tokens=100)
    listening.on(said=answering)
    answering.on(end_turn=listening)


def difference(expected: Path | str) -> str:
    result = happy_path(Asking).run(Asking)
    with pytest.raises(AssertionError) as caught:
        assert_path(result, expected)
    return str(caught.value)


def test_assert_path_shows_where_the_ways_part() -> None:
    assert difference("asking → answered") == (
        "the run went another way\n"
        "  expected: asking → answered\n"
        "  taken:    asking → calling → asking → answered\n"
        "                     ^\n"
        "  move 1 was asking --tool_use--> calling"
    )
    assert difference("asking → calling → asking → answered → asking").endswith("it stopped in 'answered' (end_turn)")
    assert difference("asking → calling").endswith("move 2 was calling --tool_results--> asking")


def test_assert_path_compares_the_rows_of_a_path_too() -> None:
    made = paths(Asking)
    result = made.of("asking", "max_tokens", 0).run(Asking)
    other = made.of("asking", "max_tokens", 2)
    assert str(other) == "asking → asking → answered"
    with pytest.raises(AssertionError, match=r"the states are those of .*, but move 1 is asking --max_tokens"):
        assert_path(result, other)


def test_a_path_of_a_chat_without_an_end_ends_with_nobody_answering() -> None:
    path = happy_path(Opening)
    assert (str(path), path.parked) == ("listening → answering → listening", True)
    result = path.run(Opening)
    assert_path(result, path)
    assert result.verdict.reason == "waiting_person"


# --- the kit ----------------------------------------------------------------------------------------------------------


def test_the_kit_is_light_and_pytest_shows_the_id() -> None:
    assert happy_path(Asking).__name__ == "happy"
    code = (
        "import sys; from fsm.testing import Emulator, assert_path, paths; "
        "print([m for m in ('anthropic', 'httpx2', 'jsonschema_rs', 'pydantic') if m in sys.modules])"
    )
    root = File(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_path_of_that_row() -> None:
    with pytest.raises(KeyError):
        paths(Asking).of("asking", "invalid_output")
