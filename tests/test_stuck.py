"""The loop detector: what it must find, when, and what it must leave alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm._facts import Call, Reply, Result
from fsm._stuck import REPEATS, WINDOW, Detector, Finding, call_key, canonical, result_key, shown

Pair = tuple[str, Any, Any]  # tool, input, result


class Talk:
    """A conversation with a detector: every turn gets new ids and a new request."""

    def __init__(self, detector: Detector | None = None) -> None:
        self.detector = detector or Detector.start()
        self.count = 0

    def turn(self, *pairs: Pair, is_error: bool = False) -> Finding | None:
        self.count += 1
        calls = tuple(Call(f"toolu_{self.count}_{i}", name, given) for i, (name, given, _) in enumerate(pairs))
        results = [Result(c.id, c.name, r, is_error) for c, (_, _, r) in zip(calls, pairs, strict=True)]
        found = [self.ask(str(self.count)), self.reply(*calls), self.answer(*results)]
        return next((f for f in found if f), None)

    def turns(self, *turns: Sequence[Pair]) -> list[Finding | None]:
        return [self.turn(*pairs) for pairs in turns]

    def ask(self, digest: str) -> Finding | None:
        self.detector, found = self.detector.requested(digest.encode())
        return found

    def reply(self, *calls: Call, stop: str | None = None) -> Finding | None:
        self.detector, found = self.detector.replied(reply(*calls, stop=stop))
        return found

    def answer(self, *results: Result) -> Finding | None:
        self.detector, found = self.detector.answered(results)
        return found


def reply(*calls: Call, stop: str | None = None) -> Reply:
    return Reply("msg_1", "claude-sonnet-5", stop or ("tool_use" if calls else "end_turn"), "", calls)


def call(name: str = "toolu_1", tool: str = "find", **given: Any) -> Call:
    return Call(name, tool, given)


def result(name: str = "toolu_1", content: Any = "found") -> Result:
    return Result(name, "find", content)


POLL: Pair = ("get_status", {"job": 7}, "running")


# ── D1: ids ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_in_two_replies_is_found_at_once_and_is_not_the_models_fault():
    talk = Talk()
    assert talk.ask("a") is None
    assert talk.reply(call("toolu_1", number=7)) is None
    assert talk.answer(result("toolu_1")) is None
    assert talk.ask("b") is None
    found = talk.reply(call("toolu_1", number=7))
    assert found is not None
    assert (found.kind, found.rule, found.fault) == ("repeated_id", "D1a", "backend")
    assert found.ids == ("toolu_1",)
    assert found.turns == (1, 2)
    assert found.call == {"name": "find", "input": {"number": 7}}


def test_an_id_of_long_ago_is_still_known_and_a_reset_does_not_forget_it():
    talk = Talk()
    for n in range(200):
        assert talk.turn(("find", {"n": n}, "found")) is None
        talk.detector = talk.detector.window_reset()
    found = talk.reply(call("toolu_3_0"))
    assert found is not None
    assert found.turns == (3, 201)


def test_an_id_twice_in_one_reply():
    found = Talk().reply(call("toolu_1"), call("toolu_1"))
    assert found is not None
    assert (found.rule, found.turns) == ("D1a", (1,))


def test_a_repeated_id_is_reported_once_and_needs_no_answer():
    talk = Talk()
    talk.reply(call("toolu_1"))
    talk.answer(result("toolu_1"))
    assert talk.reply(call("toolu_1")) is not None
    assert talk.reply(call("toolu_2")) is None


def test_a_reply_whose_calls_were_never_answered():
    talk = Talk()
    talk.ask("a")
    talk.reply(call("toolu_1"), call("toolu_2"))
    talk.answer(result("toolu_1"))
    talk.ask("b")
    found = talk.reply()
    assert found is not None
    assert (found.kind, found.rule, found.fault) == ("lost_result", "D1b", "harness")
    assert found.ids == ("toolu_2",)
    assert found.turns == (1, 2)


def test_the_same_request_after_tool_use_is_a_lost_result():
    talk = Talk()
    talk.ask("a")
    talk.reply(call("toolu_1", number=7))
    found = talk.ask("a")
    assert found is not None
    assert (found.kind, found.rule, found.fault) == ("lost_result", "D1c", "harness")
    assert found.ids == ("toolu_1",)
    assert found.call == {"name": "find", "input": {"number": 7}}
    assert talk.reply(call("toolu_2")) is None, "what D1c found is not found again by D1b"
    again = talk.ask("a")
    assert again is not None
    assert again.ids == ("toolu_2",)


def test_the_same_request_after_an_error_or_a_cut_reply_is_lawful():
    talk = Talk()
    for _ in range(3):  # errors bring no reply
        assert talk.ask("a") is None
    assert talk.reply(call("toolu_1"), stop="max_tokens") is None
    assert talk.ask("a") is None
    assert talk.reply(call("toolu_2")) is None
    assert talk.answer(result("toolu_2")) is None
    assert talk.ask("b") is None
    assert talk.ask("b") is None
    assert talk.reply() is None


def test_the_same_request_after_a_refusal():
    talk = Talk()
    talk.ask("a")
    talk.reply(stop="refusal")
    found = talk.ask("a")
    assert found is not None
    assert (found.kind, found.rule, found.fault) == ("unchanged_request", "D11", "harness")
    talk.reply(stop="refusal")
    assert talk.ask("b") is None


def test_calls_of_a_cut_reply_wait_for_no_answer():
    for stop in ("max_tokens", "refusal", "model_context_window_exceeded"):
        talk = Talk()
        talk.ask("a")
        talk.reply(call("toolu_1"), stop=stop)
        assert talk.detector.open_calls == ()
        talk.ask("b")
        assert talk.reply() is None


def test_a_reply_that_is_dropped_on_purpose_is_not_lost():
    talk = Talk()
    talk.ask("a")
    talk.reply(call("toolu_1"))
    talk.detector = talk.detector.discarded()
    assert talk.ask("a") is None
    assert talk.reply() is None


def test_an_approval_between_call_and_result_leaves_the_call_open():
    talk = Talk()
    talk.ask("a")
    talk.reply(call("toolu_1"))
    talk.detector = talk.detector.window_reset()
    assert talk.detector.open_calls == ("toolu_1",)
    assert talk.answer(result("toolu_1")) is None
    assert talk.detector.open_calls == ()


# ── D2: steps ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_call_with_the_same_result_is_stuck_at_five():
    talk = Talk()
    found = talk.turns(*[[POLL]] * 5)
    assert found[:4] == [None] * 4
    last = found[4]
    assert last is not None
    assert (last.kind, last.rule, last.fault) == ("no_progress", "D2", "model")
    assert last.ids == tuple(f"toolu_{n}_0" for n in range(1, 6))
    assert last.turns == (1, 2, 3, 4, 5)
    assert last.call == {"name": "get_status", "input": {"job": 7}}


def test_after_a_finding_it_is_counted_afresh():
    found = Talk().turns(*[[POLL]] * 15)
    assert [n for n, f in enumerate(found, 1) if f] == [5, 10, 15]


def test_the_repeats_need_not_be_consecutive():
    found = Talk().turns(*[[("a", {}, 1)], [("b", {}, 2)]] * 6)
    assert next(n for n, f in enumerate(found, 1) if f) <= 11


def test_a_loop_with_the_same_error_is_found():
    talk = Talk()
    found = [talk.turn(("find", {"n": 1}, "no such order"), is_error=True) for _ in range(5)]
    assert found[4] is not None


def test_a_loop_of_parallel_calls_is_found_in_any_order():
    pairs: list[Pair] = [("a", {}, "x"), ("b", {}, "y")]
    found = Talk().turns(*[pairs, pairs[::-1]] * 3)
    assert [n for n, f in enumerate(found, 1) if f] == [5]


def test_results_that_come_one_by_one_are_one_step():
    talk = Talk()
    for n in range(REPEATS):
        talk.ask(str(n))
        talk.reply(call(f"toolu_{n}a"), call(f"toolu_{n}b"))
        assert talk.answer(result(f"toolu_{n}a")) is None
        found = talk.answer(result(f"toolu_{n}b"))
    assert found is not None
    assert len(found.ids) == 2 * REPEATS
    assert found.turns == (1, 2, 3, 4, 5)


def test_results_without_a_call_are_ignored():
    detector = Detector.start()
    for _ in range(9):
        detector, found = detector.answered([result("toolu_x")])
        assert found is None


def test_repeats_further_apart_than_the_window_do_not_count():
    around: list[list[Pair]] = [[("page", {"n": n}, "p")] for n in range(WINDOW // (REPEATS - 1))]
    found = Talk().turns(*around * 12)
    assert not any(found), "five of them never lie in one window"
    assert any(Talk().turns(*around[: WINDOW // REPEATS] * 12))


# ── D2: what is no loop (§5.3) ──────────────────────────────────────────────────────────────────────────────────────


def test_a_status_that_changes_in_between():
    states = ["running"] * 4 + ["half"] + ["running"] * 4
    assert not any(Talk().turns(*[[("get_status", {"job": 7}, s)] for s in states]))


def test_a_tool_declared_as_polling():
    talk = Talk(Detector.start(polling=["get_status"]))
    assert not any(talk.turns(*[[POLL]] * 100))


def test_polling_is_progress_for_others_when_it_changes():
    talk = Talk(Detector.start(polling=["get_status"]))
    turns = [[("log", {}, "same"), ("get_status", {}, n // 4)] for n in range(40)]
    assert not any(talk.turns(*turns))


def test_tests_that_run_again_after_edits():
    edits = [[("edit", {"line": n}, "ok")] for n in range(20)]
    runs: list[list[Pair]] = [[("run_tests", {}, "1 failed")]] * 20
    assert not any(Talk().turns(*[turn for pair in zip(edits, runs, strict=True) for turn in pair]))


def test_edits_that_are_themselves_repeated_are_a_loop():
    turns: list[list[Pair]] = [[("edit", {"line": 1}, "ok")], [("run_tests", {}, "1 failed")]]
    assert any(Talk().turns(*turns * 6))


def test_different_inputs():
    assert not any(Talk().turns(*[[("read", {"page": n}, "empty")] for n in range(100)]))


def test_distinct_writes_that_say_ok():
    assert not any(Talk().turns(*[[("write", {"path": f"{n}.txt", "body": "x"}, "ok")] for n in range(100)]))


def test_a_clock():
    assert not any(Talk().turns(*[[("now", {}, f"12:00:{n:02}")] for n in range(60)]))


def test_parallel_identical_calls_are_one_step():
    talk = Talk()
    assert talk.turn(*[("roll", {}, "4")] * 20) is None
    assert not any(talk.turns(*[[("roll", {}, "4")] * 20] * 3))
    assert talk.turn(("roll", {}, "4")) is not None, "the fifth step with it"


def test_a_person_who_asks_again_begins_a_new_window():
    talk = Talk()
    for _ in range(10):
        assert not any(talk.turns(*[[POLL]] * 4))
        talk.detector = talk.detector.window_reset()


def test_fields_that_do_not_count():
    def turns() -> list[list[Pair]]:
        return [[("search", {"q": "x", "at": n}, "none")] for n in range(5)]

    assert not any(Talk().turns(*turns()))
    assert Talk(Detector.start(ignore={"search": ["at"]})).turns(*turns())[-1] is not None
    assert not any(Talk(Detector.start(ignore={"other": ["at"]})).turns(*turns()))


# ── the definition, spelled out ─────────────────────────────────────────────────────────────────────────────────────

steps = st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), min_size=1), max_size=40)


def by_definition(history: list[dict[str, str]]) -> bool:
    """D2, read off its definition for the newest step: the slow way, over the whole window."""
    window = history[-WINDOW:]
    last: dict[str, str] = {}
    count: dict[str, int] = {}
    for step in window:
        if any(last.get(key) != value for key, value in step.items()):
            count = {}
        last |= step
        for key in step:
            count[key] = count.get(key, 0) + 1
    return any(count[key] >= REPEATS for key in history[-1])


@given(steps)
def test_the_first_finding_comes_exactly_when_the_definition_says(history: list[dict[str, str]]):
    talk = Talk()
    for n, step in enumerate(history, 1):
        found = talk.turn(*[(key, {}, value) for key, value in step.items()])
        assert bool(found) == by_definition(history[:n])
        if found:
            break


@given(steps, st.integers(0, 40))
def test_a_detector_is_a_value(history: list[dict[str, str]], at: int):
    def run(talk: Talk, part: list[dict[str, str]]) -> list[Finding | None]:
        return [talk.turn(*[(key, {}, value) for key, value in step.items()]) for step in part]

    talk = Talk()
    run(talk, history[:at])
    old, count = talk.detector, talk.count
    first = run(talk, history[at:])
    other = Talk(old)
    other.count = count + 1000  # another continuation, with ids of its own
    run(other, [{"z": "1"}] * 7)
    again = Talk(old)
    again.count = count
    assert run(again, history[at:]) == first
    assert again.detector == talk.detector
    assert hash(again.detector._ids) == hash(talk.detector._ids)


def test_two_continuations_do_not_see_each_others_ids():
    base, _ = Detector.start().replied(reply(call("toolu_1")))
    base, _ = base.answered([result("toolu_1")])
    left, _ = base.replied(reply(call("toolu_2")))
    right, found = base.replied(reply(call("toolu_2")))
    assert found is None
    assert left == right
    for detector in (left, right):
        assert detector.replied(reply(call("toolu_1")))[1] is not None
        assert detector.replied(reply(call("toolu_2")))[1] is not None


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=12)


@given(values)
def test_equal_values_have_equal_bytes_and_others_have_not(value: Any):
    data = canonical(value)
    assert data == canonical(json.loads(json.dumps(value)))
    assert data != canonical([value])
    if value == value:  # noqa: PLR0124  # NaN is not equal to itself
        assert canonical(json.loads(data)) == data


@given(st.dictionaries(st.text(), scalars))
def test_the_order_of_keys_does_not_count(value: dict[str, Any]):
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_numbers_are_compared_by_value_and_types_are_kept_apart():
    assert canonical({"a": 1, "b": [2.0]}) == canonical({"b": [2], "a": 1.0}) == b'{"a":1,"b":[2]}'
    assert canonical(float("nan")) == canonical(float("nan"))
    assert len({canonical(v) for v in (1, True, "1", None, 1.5, float("inf"), [], {}, "")}) == 9


def test_strings_are_left_as_they_are():
    assert canonical("e\u0301") != canonical("\u00e9")
    assert canonical("\ud800") != canonical("\ud801")


def test_any_depth_and_a_value_in_itself():
    def nested(depth: int) -> Any:
        value: Any = {"b": 1.0, "a": [True, None]}
        for n in range(depth):
            value = [value, n, 0.5] if n % 2 else {"y": "é", "x": value}
        return value

    # The limit of the recursion, and so the way that is taken, depends on the caller: the bytes must not.
    deep = canonical(nested(100_000))
    assert deep.startswith(b'[{"x":[{"x":')
    assert deep.endswith(b",99999,0.5]")
    from fsm._stuck._keys import _pieces  # the other way, on a value that both can take

    assert "".join(_pieces(nested(50))).encode() == canonical(nested(50))
    around: list[Any] = []
    around.append(around)
    assert canonical(around) == canonical(around)


def test_call_keys_tell_name_and_input_apart():
    pairs = [("a", {}), ("a", {"x": 1}), ("a{}", {}), ("b", {}), ("", {})]
    assert len({call_key(*pair) for pair in pairs}) == len(pairs)


def test_result_keys_compare_what_the_model_reads():
    def key(content: Any, *, is_error: bool = False) -> bytes:
        return result_key(is_error, content)

    block = {"type": "text", "text": "ok"}
    cached = {**block, "cache_control": {"type": "ephemeral"}}
    assert key("ok") == key([block]) == key([cached])
    assert key("") == key([]) == key(None)
    assert key("ok") != key("ok", is_error=True)
    assert key('[{"text":"a"}]') != key([{"text": "a"}])
    image = {"type": "image", "source": {"type": "url", "url": "u"}}
    assert key([block, image]) == key([cached, image]) != key([image, block])


# ── what people read ────────────────────────────────────────────────────────────────────────────────────────────────


def test_evidence_is_plain_json():
    found = Talk().turns(*[[POLL]] * 5)[-1]
    assert found is not None
    evidence = found.evidence()
    assert json.loads(json.dumps(evidence)) == evidence
    assert evidence["fault"] == "model"
    assert evidence["turns"] == [1, 2, 3, 4, 5]


def test_a_finding_reads_as_one_line_and_hostile_names_are_escaped():
    bad = 'a"><script>\n\x1b[31m\u202e' + "x" * 10_000
    found = Talk().turns(*[[(bad, {"é": bad, "\ud800": 1}, "r")]] * 5)[-1]
    assert found is not None
    text = str(found)
    assert text.isprintable()
    assert len(text) < 1500
    assert found.todo in text
    assert "é" in text
    assert "toolu_1_0" in text
    assert "1, 2, 3, 4, 5" in text


@pytest.mark.parametrize("text", ["plain", "ä €", 'q"', "日本"])
def test_ordinary_text_is_shown_as_it_is(text: str):
    assert shown(text) == text


def test_a_step_costs_the_same_at_turn_ten_thousand():
    def cost(talk: Talk, turns: int) -> float:
        best = 1.0
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(turns):
                talk.turn(("find", {"n": talk.count}, f"order {talk.count}"))
            best = min(best, (time.perf_counter() - start) / turns)
        return best

    talk = Talk()
    talk.turns(*[[("find", {"n": n}, "x")] for n in range(100)])
    early = cost(talk, 100)
    for _ in range(10_000):
        talk.turn(("find", {"n": talk.count}, "x"))
    late = cost(talk, 100)
    assert late < 3 * early
    assert late < 200e-6, "the target is 50 µs on a quiet machine"
