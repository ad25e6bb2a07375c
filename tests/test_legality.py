"""The rules of a request: each one is refused in the API's own words, and passes where it is kept."""

from __future__ import annotations

import copy
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from _messages import HI, IMAGE, THINKING, Message, assistant, mcp, result, search, searched, system, text, use, user
from _pairs import (
    CALLED,
    CODE,
    FIND,
    HAIKU,
    MANUAL,
    MARK,
    NO_PREFILL,
    ON,
    ONE,
    PAIRS,
    SONNET,
    TWO,
    Pair,
    body,
    schema,
    unanswered,
    without,
)
from attrs import frozen

import fsm._legality
from fsm._legality import REQUIRED, STRICT, Legality, Profile, profile_of, repaired, violations

# ── the rules ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_request_is_accepted_and_its_neighbour_refused(pair: Pair) -> None:
    assert pair.judged(pair.good) == ()
    found = pair.judged(pair.bad)
    assert [(each.rule, each.path, each.message, each.ids) for each in found] == [
        (pair.rule, pair.path, pair.message, pair.ids)
    ]
    assert found[0].repair.endswith(".")


def rules_in_code() -> set[str]:
    """Every rule id that stands in the code of `_legality` as a value."""
    files = Path(str(fsm._legality.__file__)).parent.glob("*.py")
    return {rule for file in files for rule in re.findall(r'"(R\d+[a-z]?)"', file.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def rows(root: Path) -> list[str]:
    """The ids of the table of rules in the documentation."""
    return re.findall(r"^\| (R\d+[a-z]?) \|", (root / "docs" / "rules.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_rule_that_can_be_found_has_a_pair_and_stands_in_the_docs(rows: list[str]) -> None:
    assert rules_in_code() <= set(rows)
    assert rules_in_code() == {pair.rule for pair in PAIRS}
    assert len(PAIRS) >= 140
    assert len({pair.name for pair in PAIRS}) == len(PAIRS)


def test_the_docs_have_one_row_for_each_rule_of_a_request(rows: list[str]) -> None:
    numbers = [*range(1, 27), *range(30, 39), *range(40, 58), 60, 61, 62, 70, 71, 72]
    assert [int(row[1:]) for row in rows if row[1:].isdigit()] == numbers
    assert [row for row in rows if not row[1:].isdigit()] == ["R4a", "R19a", "R19b", "R19c", "R19d", "R19e"]


@frozen
class Accepted:
    name: str
    body: Any
    profile: Profile | None = None


SPLIT = body(HI, assistant(use(ONE), use(TWO)), user(result(TWO)), user(result(ONE)), user(text()))

ACCEPTED = [
    Accepted("R3 known keys", body(HI, {**system(text()), "clear_at": "never", "output_config": {}}), STRICT),
    Accepted("R3 unknown key where nobody asked", body({**HI, "saved_at": 7})),
    Accepted("R4 whole", body(HI, system="be kind", tools=[])),
    Accepted("R4 system as blocks", body(HI, system=[text()])),
    Accepted("R4 model in the address", {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1, "messages": [HI]}),
    Accepted("R4 content as string", body({"role": "user", "content": "hi"})),
    Accepted("R4 unknown block type", body(HI, assistant({"type": "hologram"}), user({"type": "hologram"}))),
    Accepted("R5 first message assistant", body(assistant(text()), HI)),
    Accepted("R6 same role twice", body(HI, HI, assistant(text()), assistant(text()), HI)),
    Accepted("R7 three roles", body(HI, system(text()), assistant(text()), HI)),
    Accepted("R8 the model is not known", body(HI, system(text()), assistant(text()), HI)),
    Accepted("R8 directives only", body(HI, {"role": "system", "output_config": {"effort": "low"}})),
    Accepted(
        "R10 answered", body(HI, assistant(text(), use(caller={"type": "direct"}, toolset_name=None)), user(result()))
    ),
    Accepted(
        "R10 answered in other order", body(HI, assistant(use(ONE), use(TWO)), user(result(TWO), result(ONE))), STRICT
    ),
    Accepted(
        "R10 merged assistant", body(HI, assistant(use(ONE)), assistant(use(TWO)), user(result(ONE), result(TWO)))
    ),
    Accepted("R11 results first", body(HI, assistant(use()), user(result(), text()))),
    Accepted("R12 words after", body(HI, assistant(use()), user(result()), user(text(), IMAGE)), STRICT),
    Accepted("R13 pair", body(HI, assistant(use()), user(result()), assistant(use(TWO)), user(result(TWO)))),
    Accepted("R13 server pair", body(HI, assistant(search(), searched(), text()), HI)),
    Accepted("R13 server use long before", body(HI, assistant(search(), searched()), HI, assistant(searched()), HI)),
    Accepted("R13 thread", body(user(result("toolu_9")), thread={"type": "continue", "previous_message_id": "msg_1"})),
    Accepted("R14 different", body(HI, assistant(use(ONE), use(TWO)), user(result(ONE), result(TWO)))),
    Accepted("R15 one each", body(HI, assistant(use(ONE), use(TWO)), user(result(ONE), result(TWO), text()))),
    Accepted("R16 paused", body(HI, assistant(text(), search())), NO_PREFILL),
    Accepted(
        "R16 paused twice", body(HI, assistant(search()), assistant(searched(), search("srvtoolu_2"))), NO_PREFILL
    ),
    Accepted("R16 results only", body(HI, assistant(search(), use()), user(result()))),
    Accepted("R16 results only, MCP", body(HI, assistant(mcp(), use()), user(result()))),
    Accepted(
        "R16 resolved in the next reply",
        body(HI, assistant(search(), use()), user(result()), assistant(searched()), HI),
    ),
    Accepted(
        "R16 open over several rounds",
        body(
            HI,
            assistant(search(name="code_execution"), use(ONE, **CALLED)),
            user(result(ONE)),
            assistant(use(TWO, **CALLED)),
            user(result(TWO)),
            assistant(searched(kind="code_execution_tool_result"), text()),
            HI,
        ),
    ),
    Accepted("R17 split, merging", SPLIT),
    Accepted("R17 one message", body(HI, assistant(use(ONE), use(TWO)), user(result(ONE), result(TWO))), STRICT),
    Accepted("R19 in place", body(HI, assistant(THINKING, use()), user(result()))),
    Accepted(
        "R19a ids",
        body(
            HI, assistant(use("A-z_9"), search("srvtoolu_bdrk_9"), searched("srvtoolu_bdrk_9")), user(result("A-z_9"))
        ),
    ),
    Accepted("R19b object", body(HI, assistant(use(input={"a": [None]})), user(result()))),
    Accepted("R19c absent", body(HI, assistant(use()), user({"type": "tool_result", "tool_use_id": ONE}))),
    Accepted("R19c empty", body(HI, assistant(use()), user(result(content="")))),
    Accepted("R19c image", body(HI, assistant(use()), user(result(content=[text(), IMAGE], is_error=False)))),
    Accepted("R19c words in error", body(HI, assistant(use()), user(result(content=[text()], is_error=True)))),
    Accepted("R19d", body(HI, assistant(use()), user(result(toolset_name=None)))),
    Accepted("R20 text", body(HI)),
    Accepted("R21 single space", body(HI, assistant(text(" ")), HI)),
    Accepted("R22 final assistant", body(HI, assistant())),
    Accepted("R22 final assistant string", body(HI, {"role": "assistant", "content": ""})),
    Accepted("R22 empty item of a run", body(user(), HI)),
    Accepted("R23 text", body(user(text(cache_control={"type": "ephemeral"})))),
    Accepted("R24 nobody asked", body(HI, assistant(text("so ")))),
    Accepted("R25 nobody asked", body(HI, assistant(text()))),
    Accepted("R25 fallback credit", body(HI, assistant(text()), fallback_credit_token="t"), NO_PREFILL),
]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_accepted(case):
    assert violations(case.body, case.profile) == ()


def test_split_results_are_refused_by_the_strict_profile_with_the_text_of_r10():
    assert [each.message for each in violations(SPLIT, STRICT)] == [unanswered(1, ONE)]


def test_final_whitespace_and_prefill_are_refused_by_a_profile_that_says_so():
    found = violations(body(HI, assistant(text("so "))), NO_PREFILL)
    assert [each.rule for each in found] == ["R24", "R25"]
    assert found[0].message == "messages: final assistant content cannot end with trailing whitespace"


@pytest.mark.parametrize(
    ("messages", "rules"),
    [
        ([HI, assistant(use()), user(text(), result(), result())], ["R15", "R11"]),
        ([HI, assistant(search()), user(result())], ["R13", "R16"]),
        ([HI, assistant(use()), system(text()), user(result())], ["R10", "R13"]),
        ([HI, assistant(use(ONE), use(TWO)), user(result(ONE), result("toolu_9"))], ["R13", "R10"]),
    ],
)
def test_two_faults_are_two_findings(messages, rules):
    assert [each.rule for each in violations(body(*messages))] == rules


def test_count_tokens_needs_no_max_tokens():
    assert violations({"model": "m", "messages": [HI]}, required=("model", "messages")) == ()


def test_the_order_is_that_of_the_api():
    broken = {"messages": [{**user(text("")), "note": 1}, assistant(use(input="x"))], "system": [{}], "tools": [FIND]}
    rules = [(each.rule, each.path) for each in violations(broken, STRICT)]
    assert rules == [
        ("R4", "model"),
        ("R19b", "messages.1.content.0.tool_use.input"),
        ("R4", "system.0.type"),
        ("R4", "max_tokens"),
        ("R3", "messages.0.note"),
        ("R20", "messages.0.content.0"),
        ("R10", "messages.1"),
    ]


def test_the_first_fault_of_each_field_comes_in_the_order_of_the_api() -> None:
    """R2: model, tools, messages, parameters, unknown keys, conversation, and the permission for the container."""
    broken = {
        "mine": 1,
        "container": "c",
        "inference_geo": 1,
        "stream": 1,
        "top_p": "x",
        "top_k": "x",
        "service_tier": 1,
        "temperature": "x",
        "stop_sequences": 1,
        "metadata": 1,
        "max_tokens": "x",
        "cache_control": 1,
        "output_config": 1,
        "thinking": 1,
        "system": 1,
        "messages": [HI, {**assistant(text("")), "mine": 1}, user(IMAGE), HI, {"role": "user"}, assistant(use())],
        "tools": 1,
        "tool_choice": 1,
        "model": 1,
    }
    found = [each.path for each in violations(broken, STRICT, version="2023-06-01")]
    assert found == [
        "model",
        "tool_choice",
        "tools",
        "messages.2.content",
        "system",
        "thinking",
        "output_config",
        "cache_control",
        "max_tokens",
        "metadata",
        "stop_sequences",
        "temperature",
        "service_tier",
        "top_k",
        "top_p",
        "stream",
        "inference_geo",
        "mine",
        "messages.1.mine",
        "messages.1.content.0",
        "messages.3",
        "container",
    ]


# ── step by step ────────────────────────────────────────────────────────────────────────────────────────────────────


def after(*messages: Message, profile: Profile | None = None) -> Legality:
    state = Legality.start(profile)
    for message in messages:
        state, found = state.step(message)
        assert found == ()
    return state


def test_open_calls_are_those_not_answered_yet():
    state = after(HI, assistant(use(ONE), search(), searched(), use(TWO)))
    assert state.open_calls == (ONE, TWO)
    state = after(HI, assistant(use(ONE), use(TWO)), user(result(ONE)))
    assert state.open_calls == (TWO,)
    assert after(HI, assistant(use()), user(result())).open_calls == ()
    assert Legality.start().open_calls == ()


def test_an_unanswered_call_is_certain_when_its_turn_ends_or_at_once_where_results_do_not_merge():
    calls, one = (HI, assistant(use(ONE), use(TWO))), user(result(ONE))
    state, found = after(*calls).step(one)
    assert found == ()
    assert [each.rule for each in state.finish()] == ["R10"]
    assert [each.rule for each in state.step(assistant(text()))[1]] == ["R10"]
    state, found = after(*calls, profile=STRICT).step(one)
    assert [each.rule for each in found] == ["R10"]
    assert state.finish() == ()  # given once


def test_a_rejected_message_changes_nothing():
    state = after(HI, assistant(use(ONE)), user(result(ONE)))
    _, found = state.step(assistant(use(TWO), use(ONE)))
    assert [each.rule for each in found] == ["R14"]
    assert state == after(HI, assistant(use(ONE)), user(result(ONE)))
    assert state.step(assistant(use(TWO)))[1] == ()


def test_two_branches_do_not_see_each_other():
    root = after(HI)
    left, right = (root.step(assistant(use(call)))[0] for call in (ONE, TWO))
    for state, own, other in ((left, ONE, TWO), (right, TWO, ONE)):
        assert state.open_calls == (own,)
        done, found = state.step(user(result(own)))
        assert found == ()
        assert done.step(assistant(use(other)))[1] == ()
        assert [each.rule for each in done.step(assistant(use(own)))[1]] == ["R14"]
    assert root.open_calls == ()


def test_states_that_know_the_same_ids_without_an_id_between_them_branch_too():
    before = after(HI, assistant(text()))
    later = before.step(HI)[0]
    left = later.step(assistant(use(ONE)))[0].step(user(result(ONE)))[0]
    right = before.step(assistant(use(ONE)))[0]
    assert right.open_calls == (ONE,)
    assert [each.rule for each in left.step(assistant(use(ONE)))[1]] == ["R14"]


def test_one_state_can_be_stepped_by_many_threads():
    root = after(HI, assistant(use("a")), user(result("a")))
    names = [f"toolu_{number}" for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda name: root.step(assistant(use(name)))[0].step(user(result(name)))[0], names))
    for name, state in zip(names, ended, strict=True):
        again = [call for call in ("a", *names) if state.step(assistant(use(call)))[1]]
        assert again == ["a", name]


@pytest.mark.parametrize(
    "unreadable", [5, None, {"content": "x"}, {"role": "tool", "content": []}, {"role": "assistant", "content": 5}]
)
def test_what_an_unreadable_message_may_have_held_is_not_judged(unreadable):
    assert len(violations(body(HI, unreadable, user(result())))) == 1
    assert len(violations(body(HI, assistant(use()), user(result()), unreadable, HI))) == 1


def test_what_a_message_of_no_known_role_may_have_held_can_have_its_server_result_later():
    assert len(violations(body(HI, {"role": "model", "content": []}, assistant(searched())))) == 1


# ── repairs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

MENDED = {
    "R10 at the end": (body(HI, assistant(text(), use(ONE), use(TWO))), None),
    "R10 beside a server tool": (body(HI, assistant(search(), use())), None),
    "R25 prefill": (body(HI, assistant(text())), SONNET),
    "R38 prefill": (body(HI, assistant(THINKING, text()), thinking=ON), None),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_repair_appends_and_leaves_the_request_as_it_was(name: str) -> None:
    request, profile = MENDED[name]
    before = copy.deepcopy(request)
    mended, findings = repaired(request, profile)
    assert request == before
    assert mended["messages"][:-1] == request["messages"]
    assert without(mended, "messages") == without(request, "messages")
    assert findings == violations(request, profile)
    assert name.startswith(findings[0].rule)
    assert violations(mended, profile) == ()


@pytest.mark.parametrize(("name", "value", "least"), [("max_tokens", -1, 1), ("top_k", -1, 0)])
def test_a_number_that_is_too_small_is_told_the_least(name: str, value: int, least: int) -> None:
    (found,) = (each for each in violations({**body(HI), name: value}) if each.path == name)
    assert found.message == f"{name}: Input should be greater than or equal to {least}"
    assert found.repair == f"Send {least} or more here."


@pytest.mark.parametrize("profile", [None, SONNET, STRICT])
def test_what_only_a_lenient_profile_would_take_is_no_repair(profile: Profile | None) -> None:
    """R17: the other call can be answered in a second message only, which is the split form."""
    request = body(HI, assistant(use(ONE), use(TWO)), user(result(ONE)))
    assert "R10" in {each.rule for each in violations(request, profile)}
    assert repaired(request, profile) == (request, ())


def test_a_call_that_is_answered_by_a_repair_is_answered_as_not_run() -> None:
    mended, _ = repaired(body(HI, assistant(use())))
    (block,) = mended["messages"][-1]["content"]
    assert (block["tool_use_id"], block["is_error"]) == (ONE, True)
    assert "not run" in block["content"]


@pytest.mark.parametrize(
    ("request_body", "profile"),
    [
        (body(HI, assistant(use()), HI), None),  # R10 of an earlier turn: only an insertion would help
        (body(HI, assistant(use()), user(text(), result())), None),  # R11
        (body(HI, assistant(use(ONE), use(TWO)), user(result(ONE)), user(result(TWO))), STRICT),  # R17: a merge would
        (body(HI, assistant(use(ONE), use(TWO)), user(result(ONE))), STRICT),  # R17: so would this
        (body(user(text(""))), None),
        (body(HI, assistant()), SONNET),  # R25: words after it would make R22 of it
        (body(), None),
        (body(HI, max_tokens="x"), None),
    ],
)
def test_what_cannot_be_mended_by_appending_is_left_alone(request_body: Any, profile: Profile | None) -> None:
    assert violations(request_body, profile) != ()
    assert repaired(request_body, profile) == (request_body, ())


def test_a_lawful_request_needs_no_repair() -> None:
    assert repaired(body(HI)) == (body(HI), ())


# ── profiles ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_is_not_known_is_refused_nothing_of_its_own() -> None:
    unknown = profile_of("claude-next-9")
    for pair in PAIRS:
        if pair.profile is None:
            assert violations(pair.good, unknown, **pair.more) == ()
    for request in (body(HI, assistant(text("so "))), body(HI, system(text())), body(HI, max_tokens=10**9)):
        assert violations(request, unknown) == violations(request) == ()


def test_the_same_model_under_another_spelling_is_the_same_profile() -> None:
    names = ("claude-haiku-4-5", "claude-haiku-4-5-20251001", "us.anthropic.claude-haiku-4-5-20251001-v1:0")
    assert [violations(body(HI, max_tokens=64001), profile_of(name))[0].rule for name in names] == ["R46"] * 3
    assert profile_of("claude-opus-5-5").binds is True


def test_a_strict_profile_refuses_all_that_a_lenient_one_does() -> None:
    for pair in PAIRS:
        model = pair.profile.name if pair.profile else "claude-next-9"
        lenient = {
            each.rule for each in violations(pair.bad, profile_of(model), **{"version": "2023-06-01", **pair.more})
        }
        rigorous = profile_of(model, strict=True)
        found = {each.rule for each in violations(pair.bad, rigorous, **{"version": "2023-06-01", **pair.more})}
        assert lenient <= found, pair.name


def test_a_version_named_beside_the_profile_counts_more() -> None:
    warm = body(HI, temperature=0.5)
    assert (
        violations(warm)
        == violations(warm, version="2023-06-01")
        == violations(warm, STRICT, version="2023-06-01")
        == ()
    )
    assert [each.rule for each in violations(warm, STRICT)] == ["R4a"]


def test_a_beta_header_makes_its_fields_known() -> None:
    asked = body(HI, mcp_servers=[], context_management={"edits": []})
    assert violations(asked, STRICT) == ()  # the headers are not known
    assert [each.path for each in violations(asked, STRICT, betas=())] == ["mcp_servers", "context_management"]
    betas = ["mcp-client-2025-11-20", "context-management-2025-06-27"]
    assert violations(asked, STRICT, betas=betas) == ()


def test_thinking_between_calls_may_have_a_budget_beyond_one_reply() -> None:
    asked = body(HI, thinking=MANUAL, max_tokens=512)
    assert violations(asked, HAIKU) == violations(asked, betas=["interleaved-thinking-2025-05-14"]) == ()
    assert [each.rule for each in violations(asked, betas=())] == ["R30"]


# ── recorded traffic ────────────────────────────────────────────────────────────────────────────────────────────────

OLDER = Profile("older", prefill_allowed=False, final_whitespace_allowed=False, system_role=False)
# Each request earns the recorded refusal of the same name.
RECORDED: dict[str, tuple[Any, Profile | None]] = {
    "tool_use_unanswered": (body(HI, assistant(use()), HI), None),
    "tool_result_orphan": (body(user(result())), None),
    "server_result_orphan": (body(HI, assistant(searched(kind="advisor_tool_result")), HI), None),
    "server_use_unanswered": (body(HI, assistant(search()), HI), None),
    "thinking_missing": (body(HI, assistant(use()), user(result()), thinking=MANUAL), HAIKU),
    "thinking_not_first": (body(HI, assistant(text(), THINKING), HI, thinking=MANUAL), HAIKU),
    "thinking_field": (body(HI, assistant(without(THINKING, "thinking")), HI), None),
    "empty_text": (body(user(text(""))), None),
    "empty_message": (body(HI, assistant(), HI), None),
    "cache_empty_text": (body(HI, system=[text("", cache_control=MARK)]), None),
    "cache_too_many": (body(user(*[text(cache_control=MARK)] * 5)), None),
    "no_messages": (body(), None),
    "dup_tool_use": (body(HI, assistant(use(), use()), user(result())), None),
    "dup_tool_result": (body(HI, assistant(use()), user(result(), result())), None),
    "tool_result_role": (body(HI, assistant(result())), None),
    "tool_use_role": (body(user(use())), None),
    "tool_result_noid": (body(user({"type": "tool_result", "content": "x"})), None),
    "tool_use_input": (body(HI, assistant(use(input=None)), user(result())), None),
    "prefill": (body(HI, assistant(text())), OLDER),
    "trailing_ws": (body(HI, assistant(text("so "))), OLDER),
    "system_role_model": (body(HI, system(text())), OLDER),
    "system_role_first": (body(system(text())), None),
    "system_role_follow": (body(HI, assistant(text()), system(text())), None),
    "system_role_precede": (body(HI, system(text()), HI), None),
    "container": (body(HI, assistant(use(**CALLED)), user(result()), tools=[FIND, CODE]), None),
    "thinking_forced_tool": (body(HI, thinking=MANUAL, tool_choice={"type": "any"}), None),
    "budget_min": (body(HI, thinking={**MANUAL, "budget_tokens": 1000}), None),
    "budget_max": (body(HI, thinking={**MANUAL, "budget_tokens": 4096}, tools=[]), None),
    "thinking_enabled": (body(HI, thinking=MANUAL), SONNET),
    "max_tokens_cap": (
        {**body(HI, max_tokens=48000), "model": "claude-opus-4-1-20250805"},
        Profile("claude-opus-4-1", max_output=32000),
    ),
    "shape": (body("hi"), None),
    "tool_choice_tag": (body(HI, tool_choice={"type": "required"}), None),
    "tool_schema": (body(HI, tools=schema(required="q")), None),
    "schema_top": (body(HI, tools=schema(oneOf=[])), None),
}
OBSOLETE = {
    "roles_alternate": body(HI, HI),
    "first_user": body(assistant(text()), HI),
    "system_role_old": body(HI, system(text())),
}
# What the body alone does not show; docs/rules.md names who judges it.
ELSEWHERE = {
    "thinking_modified": "R31: the reply as it was sent",
    "thinking_signature": "R32: the key of the signature",
    "thinking_prefix_binding": "R35: what stood before the block when it was signed",
    "too_long": "R60: the number of tokens",
    "ctx_sum": "R61: the number of tokens",
}


@pytest.fixture(scope="module")
def refusals(corpus: Path) -> dict[str, str]:
    lines = (corpus / "issue_400_messages.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case["message"] for case in map(json.loads, lines)}


def without_names(message: str) -> str:
    message = re.sub(r"\b(messages|content|system|tools)\.\d+", r"\1.N", message)
    return re.sub(r"\b(toolu|srvtoolu)_[\w.]+", "ID", message)


def test_no_recorded_refusal_is_left_out(refusals: dict[str, str]) -> None:
    assert set(refusals) == {*RECORDED, *OBSOLETE, *ELSEWHERE}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_refusal_is_given_word_by_word(name: str, refusals: dict[str, str]) -> None:
    request, profile = RECORDED[name]
    assert without_names(violations(request, profile)[0].message) == without_names(refusals[name])


@pytest.mark.parametrize("name", OBSOLETE)
def test_a_refusal_that_the_api_has_given_up_is_not_given(name: str) -> None:
    assert violations(OBSOLETE[name], STRICT) == ()


def test_no_recorded_request_that_the_api_answered_is_refused(exchanges: list[Path]) -> None:
    judged = 0
    for file in exchanges:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            exchange = json.loads(line)
            request, status, url = exchange["request"], exchange["status"], exchange["url"] or ""
            if request is None or not 200 <= (status or 0) < 300 or "/files" in url:
                continue
            required = REQUIRED[:2] if "count_tokens" in url else REQUIRED
            headers = exchange["request_headers"] or {}
            betas = [name.strip() for name in headers.get("anthropic-beta", "").split(",")]
            for profile in (None, profile_of(str(request.get("model")))):
                assert violations(request, profile, required=required) == (), (file.name, number)
                assert violations(request, profile, required=required, betas=betas) == (), (file.name, number)
            judged += 1
    assert judged > 100
