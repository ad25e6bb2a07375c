"""The rules of a request: each one is refused in the API's own words, and passes where it is kept."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from _messages import (
    HI,
    IMAGE,
    THINKING,
    Message,
    assistant,
    body,
    mcp,
    result,
    search,
    searched,
    system,
    text,
    use,
    user,
)
from attrs import frozen

from fsm._legality import REQUIRED, STRICT, Legality, Profile, violations

# ── the rules ───────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Refused:
    name: str
    body: Any
    path: str
    message: str
    profile: Profile | None = None
    ids: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        return self.name.partition(" ")[0]


def unanswered(turn: int, *calls: str) -> str:
    return (
        f"messages.{turn}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def stray(at: str, call: str) -> str:
    return (
        f"{at}: unexpected `tool_use_id` found in `tool_result` blocks: {call}. "
        "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
    )


def unpaired(turn: int, tool: str, call: str, kind: str) -> str:
    return f"messages.{turn}: `{tool}` tool use with id `{call}` was found without a corresponding `{kind}` block"


EMPTY = "all messages must have non-empty content except for the optional final assistant message"
NO_PREFILL = Profile("no prefill", prefill_allowed=False, final_whitespace_allowed=False)
NO_SYSTEM = Profile("no system role", system_role=False)
PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."
CLIENT_ID, SERVER_ID = "^[a-zA-Z0-9_-]+$", "^srvtoolu_[a-zA-Z0-9_]+$"
ONE, TWO = "toolu_1", "toolu_2"

REFUSED = [
    Refused(
        "R3 key of our own",
        body({**HI, "saved_at": 7}),
        "messages.0.saved_at",
        "messages.0.saved_at: Extra inputs are not permitted",
        STRICT,
    ),
    Refused("R4 no model", {"messages": [HI], "max_tokens": 1}, "model", "model: Field required"),
    Refused("R4 no max_tokens", {"messages": [HI], "model": "m"}, "max_tokens", "max_tokens: Field required"),
    Refused("R4 no messages", {"model": "m", "max_tokens": 1}, "messages", "messages: Field required"),
    Refused("R4 empty messages", body(), "messages", "messages: at least one message is required"),
    Refused(
        "R4 messages no list",
        {**body(), "messages": {"role": "user"}},
        "messages",
        "messages: Input should be a valid array",
    ),
    Refused("R4 no object", ["body"], "", "Input should be an object"),
    Refused("R4 message no object", body("hi"), "messages.0", "messages.0: Input does not match the expected shape."),
    Refused("R4 no role", body({"content": "hi"}), "messages.0.role", "messages.0.role: Field required"),
    Refused(
        "R4 no content", body(HI, {"role": "assistant"}), "messages.1.content", "messages.1.content: Field required"
    ),
    Refused(
        "R4 content no list",
        body({"role": "user", "content": 5}),
        "messages.0.content",
        "messages.0.content: Input should be a valid array",
    ),
    Refused(
        "R4 content null",
        body({"role": "user", "content": None}),
        "messages.0.content",
        "messages.0.content: Input should be a valid array",
    ),
    Refused(
        "R4 block no object",
        body(user("hi")),
        "messages.0.content.0",
        "messages.0.content.0: Input should be an object",
    ),
    Refused(
        "R4 block without type",
        body(user(text(), {"text": "x"})),
        "messages.0.content.1.type",
        "messages.0.content.1.type: Field required",
    ),
    Refused(
        "R4 text no string",
        body(user({"type": "text", "text": 1})),
        "messages.0.content.0.text.text",
        "messages.0.content.0.text.text: Input should be a valid string",
    ),
    Refused(
        "R4 call without id",
        body(HI, assistant({"type": "tool_use", "name": "find", "input": {}})),
        "messages.1.content.0.tool_use.id",
        "messages.1.content.0.tool_use.id: Field required",
    ),
    Refused(
        "R4 call without name",
        body(assistant({"type": "tool_use", "id": ONE, "input": {}}), user(result())),
        "messages.0.content.0.tool_use.name",
        "messages.0.content.0.tool_use.name: Field required",
    ),
    Refused("R4 system no text", body(HI, system=5), "system", "system: Input should be a valid array"),
    Refused(
        "R7 role tool",
        body(HI, assistant(use()), {"role": "tool", "content": "found"}),
        "messages.2",
        'messages: Unexpected role "tool". Allowed roles are "user" or "assistant"',
    ),
    Refused(
        "R7 role no string",
        body({"role": ["user"], "content": "x"}),
        "messages.0",
        'messages: Unexpected role "[\'user\']". Allowed roles are "user" or "assistant"',
    ),
    Refused(
        "R8 model without the role",
        body(HI, system(text())),
        "messages.1",
        "role 'system' is not supported on this model",
        NO_SYSTEM,
    ),
    Refused("R10 at the end", body(HI, assistant(text(), use())), "messages.1", unanswered(1, ONE), ids=(ONE,)),
    Refused("R10 by words", body(HI, assistant(use()), HI), "messages.1", unanswered(1, ONE), ids=(ONE,)),
    Refused(
        "R10 by a string",
        body(HI, assistant(use()), {"role": "user", "content": "x"}),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Refused(
        "R10 one of two",
        body(HI, assistant(use(ONE), use(TWO)), user(result(ONE))),
        "messages.1",
        unanswered(1, TWO),
        ids=(TWO,),
    ),
    Refused(
        "R10 both",
        body(HI, assistant(use(ONE), use(TWO)), user(text())),
        "messages.1",
        unanswered(1, ONE, TWO),
        ids=(ONE, TWO),
    ),
    Refused(
        "R10 long ago",
        body(HI, assistant(use(ONE), use(TWO)), user(result(ONE)), assistant(text()), HI),
        "messages.1",
        unanswered(1, TWO),
        ids=(TWO,),
    ),
    Refused(
        "R10 system between", body(HI, assistant(use()), system(text())), "messages.1", unanswered(1, ONE), ids=(ONE,)
    ),
    Refused(
        "R10 merged index",
        body(HI, HI, HI, assistant(text()), assistant(use()), HI),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Refused(
        "R11 words first",
        body(HI, assistant(use()), user(text(), result())),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Refused(
        "R11 words between",
        body(HI, assistant(use(ONE), use(TWO)), user(result(ONE), text(), result(TWO))),
        "messages.1",
        unanswered(1, TWO),
        ids=(TWO,),
    ),
    Refused(
        "R13 first message",
        body(user(result())),
        "messages.0.content.0",
        stray("messages.0.content.0", ONE),
        ids=(ONE,),
    ),
    Refused(
        "R13 unknown id",
        body(HI, assistant(use()), user(result(), result("toolu_9"))),
        "messages.2.content.1",
        stray("messages.2.content.1", "toolu_9"),
        ids=("toolu_9",),
    ),
    Refused(
        "R13 turn before last",
        body(HI, assistant(use()), user(result()), assistant(text()), user(result())),
        "messages.4.content.0",
        stray("messages.4.content.0", ONE),
        ids=(ONE,),
    ),
    Refused(
        "R13 merged index",
        body(HI, assistant(text()), HI, user(text(), result())),
        "messages.2.content.2",
        stray("messages.2.content.2", ONE),
        ids=(ONE,),
    ),
    Refused(
        "R13 server result",
        body(HI, assistant(text(), searched(kind="advisor_tool_result")), HI),
        "messages.1.content.1",
        "messages.1.content.1: unexpected `tool_use_id` found in `advisor_tool_result` blocks: srvtoolu_1. Each "
        "`advisor_tool_result` block must have a corresponding `server_tool_use` block before it.",
        ids=("srvtoolu_1",),
    ),
    Refused(
        "R13 result of an MCP tool",
        body(HI, assistant({"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1"})),
        "messages.1.content.0",
        "messages.1.content.0: unexpected `tool_use_id` found in `mcp_tool_result` blocks: mcptoolu_1. Each "
        "`mcp_tool_result` block must have a corresponding `mcp_tool_use` block before it.",
        ids=("mcptoolu_1",),
    ),
    Refused(
        "R14 in one message",
        body(HI, assistant(use(), use()), user(result())),
        "messages.1.content.1",
        "messages.1.content.1: `tool_use` ids must be unique",
        ids=(ONE,),
    ),
    Refused(
        "R14 in a later turn",
        body(HI, assistant(use()), user(result()), assistant(text(), use()), user(result())),
        "messages.3.content.1",
        "messages.3.content.1: `tool_use` ids must be unique",
        ids=(ONE,),
    ),
    Refused(
        "R14 reply appended twice",
        body(HI, assistant(use()), assistant(use()), user(result())),
        "messages.1.content.1",
        "messages.1.content.1: `tool_use` ids must be unique",
        ids=(ONE,),
    ),
    Refused(
        "R15 two results",
        body(HI, assistant(use()), user(result(), result())),
        "messages.2.content.1",
        f"messages.2.content.1: each tool_use must have a single result. "
        f"Found multiple `tool_result` blocks with id: {ONE}",
        ids=(ONE,),
    ),
    Refused(
        "R15 in the merged message",
        body(HI, assistant(use()), user(result(), text()), user(result())),
        "messages.2.content.2",
        f"messages.2.content.2: each tool_use must have a single result. "
        f"Found multiple `tool_result` blocks with id: {ONE}",
        ids=(ONE,),
    ),
    Refused(
        "R16 words after a pause",
        body(HI, assistant(search()), HI),
        "messages.1",
        unpaired(1, "web_search", "srvtoolu_1", "web_search_tool_result"),
        ids=("srvtoolu_1",),
    ),
    Refused(
        "R16 words after the results",
        body(HI, assistant(search(), use()), user(result(), text())),
        "messages.1",
        unpaired(1, "web_search", "srvtoolu_1", "web_search_tool_result"),
        ids=("srvtoolu_1",),
    ),
    Refused(
        "R16 never resolved",
        body(HI, assistant(search(name="code_execution"), use()), user(result()), assistant(text()), HI),
        "messages.1",
        unpaired(1, "code_execution", "srvtoolu_1", "code_execution_tool_result"),
        ids=("srvtoolu_1",),
    ),
    Refused(
        "R16 tool search",
        body(HI, assistant(search(name="tool_search_tool_bm25")), HI),
        "messages.1",
        unpaired(1, "tool_search_tool_bm25", "srvtoolu_1", "tool_search_tool_result"),
        ids=("srvtoolu_1",),
    ),
    Refused(
        "R16 MCP tool",
        body(HI, assistant(mcp()), HI),
        "messages.1",
        unpaired(1, "look", "mcptoolu_1", "mcp_tool_result"),
        ids=("mcptoolu_1",),
    ),
    Refused(
        "R16 system after a pause",
        body(HI, assistant(search()), system(text()), HI),
        "messages.1",
        unpaired(1, "web_search", "srvtoolu_1", "web_search_tool_result"),
        ids=("srvtoolu_1",),
    ),
    Refused(
        "R19 result in assistant",
        body(HI, assistant(result())),
        "messages.1.content.0",
        "messages.1: `tool_result` blocks can only be in `user` messages",
    ),
    Refused(
        "R19 call in user",
        body(user(text(), use())),
        "messages.0.content.1",
        "messages.0: `tool_use` blocks can only be in `assistant` messages",
    ),
    Refused(
        "R19 thinking in user",
        body(user(THINKING)),
        "messages.0.content.0",
        "messages.0: `thinking` blocks can only be in `assistant` messages",
    ),
    Refused(
        "R19 call in system",
        body(HI, system(use())),
        "messages.1.content.0",
        "messages.1: `tool_use` blocks can only be in `assistant` messages",
    ),
    Refused(
        "R19 result in system",
        body(HI, system(result())),
        "messages.1.content.0",
        "messages.1: `tool_result` blocks can only be in `user` messages",
    ),
    Refused(
        "R19a client id",
        body(HI, assistant(use("a b")), user(result("a b"))),
        "messages.1.content.0.tool_use.id",
        f"messages.1.content.0.tool_use.id: String should match pattern '{CLIENT_ID}'",
        ids=("a b",),
    ),
    Refused(
        "R19a line end",
        body(HI, assistant(use("a\n")), user(result("a\n"))),
        "messages.1.content.0.tool_use.id",
        f"messages.1.content.0.tool_use.id: String should match pattern '{CLIENT_ID}'",
        ids=("a\n",),
    ),
    Refused(
        "R19a server id",
        body(HI, assistant(search(ONE), searched(ONE))),
        "messages.1.content.0.server_tool_use.id",
        f"messages.1.content.0.server_tool_use.id: String should match pattern '{SERVER_ID}'",
        ids=(ONE,),
    ),
    Refused(
        "R19b string",
        body(HI, assistant(use(input="{}")), user(result())),
        "messages.1.content.0.tool_use.input",
        "messages.1.content.0.tool_use.input: Input should be a valid dictionary",
    ),
    Refused(
        "R19b absent",
        body(HI, assistant({"type": "tool_use", "id": ONE, "name": "find"}), user(result())),
        "messages.1.content.0.tool_use.input",
        "messages.1.content.0.tool_use.input: Field required",
    ),
    Refused(
        "R19c number",
        body(HI, assistant(use()), user(result(content=5))),
        "messages.2.content.0.tool_result.content",
        "messages.2.content.0.tool_result.content: Input should be a valid array",
    ),
    Refused(
        "R19c strings",
        body(HI, assistant(use()), user(result(content=["x"]))),
        "messages.2.content.0.tool_result.content.0",
        "messages.2.content.0.tool_result.content.0: Input should be an object",
    ),
    Refused(
        "R19c result in result",
        body(HI, assistant(use()), user(result(content=[result()]))),
        "messages.2.content.0.tool_result.content.0",
        "messages.2.content.0.tool_result.content.0: Input tag 'tool_result' found using 'type' does not match "
        "any of the expected tags: 'text', 'image', 'document', 'search_result', 'tool_reference', 'browser_state'",
    ),
    Refused(
        "R19c image in error",
        body(HI, assistant(use()), user(result(content=[text(), IMAGE], is_error=True))),
        "messages.2.content.0",
        "messages.2.content.0.tool_result: all content must be type `text` if `is_error` is true",
        ids=(ONE,),
    ),
    Refused(
        "R19d",
        body(HI, user({"type": "tool_result", "content": "x"})),
        "messages.0.content.1.tool_result.tool_use_id",
        "messages.0.content.1.tool_result.tool_use_id: Field required",
    ),
    Refused(
        "R20 in user",
        body(HI, assistant(text()), user(text(""))),
        "messages.2.content.0",
        "messages: text content blocks must be non-empty",
    ),
    Refused(
        "R20 in assistant",
        body(HI, assistant(text(), text("")), HI),
        "messages.1.content.1",
        "messages: text content blocks must be non-empty",
    ),
    Refused("R20 in system", body(HI, system=[text("")]), "system.0", "system: text content blocks must be non-empty"),
    Refused(
        "R22 assistant",
        body(HI, {"role": "assistant", "content": ""}, HI),
        "messages.1",
        f"messages.1: {EMPTY}",
    ),
    Refused("R22 assistant list", body(HI, assistant(), HI), "messages.1", f"messages.1: {EMPTY}"),
    Refused("R22 user at the end", body(user()), "messages.0", f"messages.0: {EMPTY}"),
    Refused(
        "R22 user in the middle",
        body(HI, assistant(text()), user(), assistant(text())),
        "messages.2",
        f"messages.2: {EMPTY}",
    ),
    Refused(
        "R23 in a message",
        body(user(text(), text("", cache_control={"type": "ephemeral"}))),
        "messages.0.content.1",
        "messages.0.content.1.text: cache_control cannot be set for empty text blocks",
    ),
    Refused(
        "R23 in system",
        body(HI, system=[text("", cache_control={"type": "ephemeral"})]),
        "system.0",
        "system.0: cache_control cannot be set for empty text blocks",
    ),
    Refused("R25 prefill", body(HI, assistant(text())), "messages.1", PREFILL, NO_PREFILL),
]


@frozen
class Accepted:
    name: str
    body: Any
    profile: Profile | None = None

    @property
    def rule(self) -> str:
        return self.name.partition(" ")[0]


SPLIT = body(HI, assistant(use(ONE), use(TWO)), user(result(TWO)), user(result(ONE)), user(text()))
CALLER = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}

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
            assistant(search(name="code_execution"), use(ONE, caller=CALLER)),
            user(result(ONE)),
            assistant(use(TWO, caller=CALLER)),
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
RULES = ["R4", "R7", "R10", "R11", "R13", "R14", "R15", "R16", "R19", "R19a", "R19b", "R19c", "R19d", "R20", "R22"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(case):
    found = violations(case.body, case.profile)
    assert [(each.rule, each.path, each.message, each.ids) for each in found] == [
        (case.rule, case.path, case.message, case.ids)
    ]
    assert found[0].repair.endswith(".")


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_accepted(case):
    assert violations(case.body, case.profile) == ()


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_both(rule):
    assert rule in {case.rule for case in REFUSED}
    assert rule in {case.rule for case in ACCEPTED}


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
    broken = {"messages": [{**user(text("")), "note": 1}, assistant(use(input="x"))], "system": [{}]}
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


# ── recorded traffic ────────────────────────────────────────────────────────────────────────────────────────────────

# Each request earns the recorded refusal of the same name.
RECORDED = {
    "tool_use_unanswered": body(HI, assistant(use()), HI),
    "tool_result_orphan": body(user(result())),
    "server_result_orphan": body(HI, assistant(searched(kind="advisor_tool_result")), HI),
    "server_use_unanswered": body(HI, assistant(search()), HI),
    "empty_text": body(user(text(""))),
    "empty_message": body(HI, assistant(), HI),
    "cache_empty_text": body(HI, system=[text("", cache_control={"type": "ephemeral"})]),
    "no_messages": body(),
    "dup_tool_use": body(HI, assistant(use(), use()), user(result())),
    "dup_tool_result": body(HI, assistant(use()), user(result(), result())),
    "tool_result_role": body(HI, assistant(result())),
    "tool_use_role": body(user(use())),
    "tool_result_noid": body(user({"type": "tool_result", "content": "x"})),
    "tool_use_input": body(HI, assistant(use(input=None)), user(result())),
    "prefill": body(HI, assistant(text())),
    "trailing_ws": body(HI, assistant(text("so "))),
    "system_role_model": body(HI, system(text())),
    "shape": body("hi"),
}
OBSOLETE = {"roles_alternate": body(HI, HI), "first_user": body(assistant(text()), HI)}


@pytest.fixture(scope="module")
def refusals(corpus) -> dict[str, str]:
    lines = (corpus / "issue_400_messages.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case["message"] for case in map(json.loads, lines)}


def without_names(message: str) -> str:
    message = re.sub(r"\b(messages|content|system)\.\d+", r"\1.N", message)
    return re.sub(r"\b(toolu|srvtoolu)_[\w.]+", "ID", message)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_refusal_is_given_word_by_word(name, refusals):
    profile = Profile("old", prefill_allowed=False, final_whitespace_allowed=name != "trailing_ws", system_role=False)
    assert without_names(violations(RECORDED[name], profile)[0].message) == without_names(refusals[name])


@pytest.mark.parametrize("name", OBSOLETE)
def test_a_refusal_that_the_api_has_given_up_is_not_given(name, refusals):
    assert name in refusals
    assert violations(OBSOLETE[name], STRICT) == ()


def test_no_recorded_request_that_the_api_answered_is_refused(exchanges):
    judged = 0
    for file in exchanges:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            exchange = json.loads(line)
            request, status = exchange["request"], exchange["status"]
            if request is None or not 200 <= (status or 0) < 300 or "/files" in exchange["url"]:
                continue
            counting = "count_tokens" in exchange["url"]
            found = violations(request, required=REQUIRED[:2] if counting else REQUIRED)
            assert found == (), (file.name, number)
            judged += 1
    assert judged > 100
