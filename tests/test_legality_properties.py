"""What holds of the rules for any request: random conversations, an oracle, branches, and the cost of a step."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from types import FrameType
from typing import Any

from _messages import HI, THINKING, Message, assistant, body, result, search, searched, system, text, use, user
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fsm._legality import LENIENT, STRICT, Legality, Violation, profile_of, repaired, violations


def fold(messages: Sequence[Any], start: Legality | None = None) -> tuple[Legality, list[Violation]]:
    """Returns the state after all messages and what the steps found."""
    state, found = start or Legality.start(), []
    for message in messages:
        state, new = state.step(message)
        found += new
    return state, found


TOOLS = [
    {"name": "find", "input_schema": {"type": "object"}},
    {"type": "web_search_20250305", "name": "web_search"},
]

# ── well-formed conversations are accepted ──────────────────────────────────────────────────────────────────────────


@st.composite
def conversations(draw: st.DrawFn, *, split_results: bool = True) -> list[Message]:
    """Conversations as they should be: parallel calls, server tools, pauses, merged messages, words in between."""
    messages: list[Message] = []
    number = 0
    calls: list[str] = []
    waiting: list[str] = []  # server tools without result

    def say(role: Callable[..., Message], blocks: list[Message], *, split: bool) -> None:
        cut = draw(st.integers(0, len(blocks))) if split else len(blocks)
        messages.extend(role(*part) for part in (blocks[:cut], blocks[cut:]) if part)

    for _ in range(draw(st.integers(1, 6))):
        if calls:
            results = [result(call) for call in draw(st.permutations(calls))]
            more = [] if waiting else draw(st.lists(st.just(text()), max_size=1))
            say(user, results + more, split=split_results)
        elif not waiting:
            messages.append(draw(st.sampled_from([HI, user(text(" "), text()), {"role": "user", "content": "hi"}])))
            messages.extend(draw(st.lists(st.sampled_from([HI, system(text())]), max_size=1)))
        blocks = [searched(name) for name in waiting]
        waiting, calls = [], []
        for kind in draw(
            st.lists(st.sampled_from(["text", "thinking", "use", "pair", "server"]), min_size=1, max_size=5)
        ):
            number += 1
            if kind == "use":
                calls.append(f"toolu_{number}")
                blocks.append(use(calls[-1]))
            elif kind in {"pair", "server"}:
                blocks.append(search(f"srvtoolu_{number}"))
                if kind == "pair":
                    blocks.append(searched(f"srvtoolu_{number}"))
                else:
                    waiting.append(f"srvtoolu_{number}")
            else:
                blocks.append(text() if kind == "text" else THINKING)
        say(assistant, blocks, split=True)
    if calls:
        messages.append(user(*(result(call) for call in calls)))
    return messages


@given(conversations())
def test_a_well_formed_conversation_is_accepted(messages):
    assert violations(body(*messages)) == ()


@given(conversations(split_results=False))
def test_one_that_answers_in_one_message_is_accepted_by_the_strict_profile(messages):
    assert violations(body(*messages, tools=TOOLS), STRICT) == ()


@given(conversations(), st.data())
def test_one_that_lost_a_result_is_refused(messages, data):
    places = [
        (m, b)
        for m, message in enumerate(messages)
        for b, block in enumerate(message["content"])
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]
    assume(places)
    place, lost = data.draw(st.sampled_from(places))
    blocks = list(messages[place]["content"])
    call = blocks.pop(lost)["tool_use_id"]
    damaged = [*messages[:place], *([user(*blocks)] if blocks else []), *messages[place + 1 :]]
    assert [(each.rule, each.ids) for each in violations(body(*damaged)) if each.rule == "R10"] == [("R10", (call,))]


@given(conversations(), conversations())
def test_one_that_repeats_an_id_is_refused(messages, more):
    used = {
        block["id"]
        for message in messages
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_use"
    }
    again = {
        block["id"]
        for message in more
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_use"
    }
    found = {each.ids[0] for each in violations(body(*messages, *more)) if each.rule == "R14"}
    assert found == used & again


# ── client calls against an oracle that looks at the whole request ──────────────────────────────────────────────────

NAMES = st.sampled_from(["a", "b", "c"])
USER = st.lists(st.one_of(st.just(text()), st.builds(result, NAMES)), max_size=3).map(lambda blocks: user(*blocks))
ASSISTANT = st.lists(st.one_of(st.just(text()), st.builds(use, NAMES)), max_size=3).map(
    lambda blocks: assistant(*blocks)
)
TALK = st.lists(st.one_of(USER, ASSISTANT), min_size=1, max_size=7)


def lawful(messages: Sequence[Message]) -> bool:
    """R10, R11, R13, R14, R15, R17 and R22 as one would write them with all messages at hand."""
    turns = [
        (role, [block for message in run for block in message["content"]])
        for role, run in groupby(messages, key=lambda message: message["role"])
    ]
    used = [block["id"] for _, blocks in turns for block in blocks if block["type"] == "tool_use"]
    if len(used) != len(set(used)):
        return False
    for number, (role, blocks) in enumerate(turns):
        last = number == len(turns) - 1
        if not blocks and not (role == "assistant" and last):
            return False
        calls = {block["id"] for block in blocks if block["type"] == "tool_use"}
        if calls and last:
            return False
        if role == "user":
            before = turns[number - 1][1] if number else []
            wanted = {block["id"] for block in before if block["type"] == "tool_use"}
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            first = [
                block["tool_use_id"]
                for kind, block in zip([block["type"] for block in blocks[: len(wanted)]], blocks, strict=False)
                if kind == "tool_result"
            ]
            if len(results) != len(set(results)) or set(results) != wanted or set(first) != wanted:
                return False
    return True


@given(TALK)
def test_the_steps_agree_with_an_oracle_that_sees_all_messages(messages):
    assert (violations(body(*messages)) == ()) == lawful(messages)


# ── anything at all ─────────────────────────────────────────────────────────────────────────────────────────────────

JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
KINDS = st.sampled_from(
    ["text", "tool_use", "tool_result", "server_tool_use", "mcp_tool_use", "web_search_tool_result"]
)
KEYS = ["text", "id", "tool_use_id", "name", "input", "content", "is_error", "cache_control"]
VALUES = st.one_of(JUNK, st.sampled_from(["a", "srvtoolu_a", [{"type": "text", "text": "x"}], {}]))
BLOCKS = st.one_of(
    JUNK, st.builds(lambda kind, more: {**more, "type": kind}, KINDS, st.dictionaries(st.sampled_from(KEYS), VALUES))
)
CONTENTS = st.one_of(st.lists(BLOCKS, max_size=3), JUNK)
ROLES = st.one_of(st.sampled_from(["user", "assistant", "system"]), JUNK)
MESSAGES = st.one_of(st.fixed_dictionaries({}, optional={"role": ROLES, "content": CONTENTS}), JUNK)
PROFILES = st.sampled_from([LENIENT, STRICT])


def around(finding: Violation) -> bool:
    """Whether a finding needs more than the messages one by one."""
    return finding.rule in {"R16", "R19e", "R26", "R48", "R55", "R56"} or "cache_control" in finding.path


@given(JUNK)
def test_a_body_that_is_anything_gives_findings(request_body):
    assert violations(request_body) != ()


FIELDS = [
    "model", "messages", "max_tokens", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control",
    "metadata", "stop_sequences", "temperature", "service_tier", "top_k", "top_p", "stream", "container",
    "inference_geo", "speed", "compaction", "context_management", "fallbacks", "fallback_credit_token", "mcp_servers",
    "thread", "mine",
]  # fmt: skip
INSIDE = [
    "type", "name", "input_schema", "properties", "required", "items", "anyOf", "$ref", "strict", "allowed_callers",
    "input_examples", "cache_control", "ttl", "budget_tokens", "effort", "format", "schema", "source", "media_type",
    "data", "content", "role", "model", "citations", "enabled", "caller", "signature", "pattern",
]  # fmt: skip
WORDS = st.sampled_from([
    "tool", "any", "custom", "enabled", "adaptive", "ephemeral", "1h", "object", "json_schema", "base64", "image",
    "document", "text", "tool_result", "tool_use", "compaction", "continue", "user", "assistant", "default", "#",
])  # fmt: skip
NESTED = st.recursive(
    st.one_of(JUNK, WORDS, st.just(float("nan"))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(INSIDE), inner, max_size=4)),
    max_leaves=12,
)
EVERY_PROFILE = st.sampled_from([
    None, STRICT, *(profile_of(name, strict=True) for name in ("claude-opus-5", "claude-haiku-4-5", "claude-opus-5-5")),
])  # fmt: skip


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(FIELDS), NESTED, max_size=6), EVERY_PROFILE)
def test_whatever_the_fields_of_a_request_hold_the_answer_is_findings(fields, profile):
    asked = {**body(HI), **fields}
    found = violations(asked, profile, betas=())
    assert all(each.rule and each.message and each.repair for each in found)
    copy, mended = repaired(asked, profile, betas=())
    assert set(violations(copy, profile, betas=())) == set(found) - set(mended)


# ── repairs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(conversations(), st.integers(0, 30), st.sampled_from([None, profile_of("claude-sonnet-5")]))
def test_a_conversation_that_broke_off_anywhere_is_mended_by_appending(messages, length, profile):
    """R10, R25: what is there stays, and what is appended breaks nothing.

    A turn that is answered in part stays so: results in a second message are no repair (R17).
    """
    broken = body(*messages[: 1 + length % len(messages)], tools=TOOLS)
    before = copy.deepcopy(broken)
    found = violations(broken, profile)
    mended, gone = repaired(broken, profile)
    assert broken == before
    kept = len(broken["messages"])
    assert mended["messages"][:kept] == broken["messages"]
    assert len(mended["messages"]) == kept + bool(gone)
    assert {**mended, "messages": None} == {**broken, "messages": None}
    left = violations(mended, profile)
    assert set(left) == set(found) - set(gone)
    in_part = any(block.get("type") == "tool_result" for block in _blocks(broken["messages"][-1]))
    assert not {each.rule for each in left} & ({"R25"} if in_part else {"R10", "R25"})


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"] if message["role"] == "user" else []
    return [] if isinstance(content, str) else content


@given(st.lists(st.one_of(MESSAGES, USER, ASSISTANT), max_size=6), PROFILES)
def test_violations_are_the_fold_of_the_steps_and_the_end(messages, profile):
    state, found = fold(messages, Legality.start(profile))
    found = [each for each in [*found, *state.finish()] if not around(each)]
    got = [each for each in violations(body(*messages), profile) if not around(each)]
    assert sorted(map(repr, got)) == sorted(map(repr, found))
    assert all(each.rule and each.message and each.repair for each in got)


# ── branches ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.integers(0, 99), st.one_of(USER, ASSISTANT, MESSAGES)), max_size=12))
def test_each_state_of_a_tree_is_what_its_own_line_alone_would_give(steps):
    tree: list[tuple[Legality, list[Any]]] = [(Legality.start(), [])]
    for parent, message in steps:
        state, line = tree[parent % len(tree)]
        tree.append((state.step(message)[0], [*line, message]))
    for state, line in tree:
        alone = fold(line)[0]
        assert state == alone
        assert hash(state) == hash(alone)
        for probe in (assistant(use("a"), use("b"), use("c")), user(result("a"), result("b"))):
            assert state.step(probe)[1] == alone.step(probe)[1]


# ── cost ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def instructions(call: Callable[[], object]) -> int:
    """Counts the interpreter's instructions during a call, which no machine's load can change."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    for each in (lambda: None, call):  # Python 3.12 counts from the second time on that a trace is set
        count = 0
        sys.settrace(trace)
        try:
            each()
        finally:
            sys.settrace(before)
    return count


def test_a_step_costs_the_same_at_every_turn():
    state, found = fold([HI])
    shared = None
    cost = {}
    for turn in range(1, 1001):
        reply, answer = assistant(text(), use(f"toolu_{turn:04}")), user(result(f"toolu_{turn:04}"))
        if turn in {10, 1000}:

            def both(state: Legality = state, reply: Message = reply, answer: Message = answer) -> None:
                state.step(reply)[0].step(answer)[0].finish()

            cost[turn] = instructions(both)
            # The measured steps took the place of the next one, which therefore begins dicts of its own.
            shared = None
        state, new = fold([reply, answer], state)
        found += new
        # C code is not counted above: it would show as a copy of the ids.
        assert shared is None or state._seen._first is shared
        shared = state._seen._first
    assert found == []
    assert len(shared) == 1000
    assert cost[10] == cost[1000] > 100
