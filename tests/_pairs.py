"""For each rule of a request: one that is accepted, and its nearest neighbour that is refused, with rule, path, text.

A text that begins with a colon follows the path, as most of the API's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _messages import HI, IMAGE, THINKING, Message, assistant, mcp, result, search, searched, system, text, use, user
from _messages import body as plain_body
from attrs import evolve, field, frozen

from fsm._legality import STRICT, Profile, Violation, profile_of, violations

FIND: Message = {"name": "find", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}
WEB: Message = {"type": "web_search_20250305", "name": "web_search"}
CODE: Message = {"type": "code_execution_20260120", "name": "code_execution"}
OLD = evolve(STRICT, name="2023-06-01", version="2023-06-01")  # before version 2026-10-21 took fields away (R4a)
NO_PREFILL = Profile("no prefill", prefill_allowed=False, final_whitespace_allowed=False)
HAIKU = profile_of("claude-haiku-4-5")
SONNET = profile_of("claude-sonnet-5")
ONE, TWO = "toolu_1", "toolu_2"
S1, S2 = "srvtoolu_1", "srvtoolu_2"
MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
EMPTY = ": all messages must have non-empty content except for the optional final assistant message"
PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."
EXTRA = ": Extra inputs are not permitted"
REQUIRED = ": Field required"
CLIENT_ID, SERVER_ID = "^[a-zA-Z0-9_-]+$", "^srvtoolu_[a-zA-Z0-9_]+$"
ON = {"type": "adaptive"}
MANUAL = {"type": "enabled", "budget_tokens": 1024}
FORMAT = {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}}
CALLED = {"caller": {"type": "code_execution_20260120", "tool_id": S1}}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    """A request with tools, which every conversation that has calls must declare (R19e)."""
    return plain_body(*messages, **{"tools": [FIND, WEB], "max_tokens": 2048, **more})


def without(request: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in request.items() if key not in keys}


def tool(**more: Any) -> dict[str, Any]:
    return {**FIND, **more}


def schema(**more: Any) -> list[Any]:
    return [tool(input_schema={"type": "object", **more})]


def strict(**properties: Any) -> dict[str, Any]:
    names = list(properties)
    closed = {"type": "object", "additionalProperties": False, "properties": properties, "required": names}
    return tool(strict=True, input_schema=closed)


def image(**source: Any) -> Message:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk=", **source}}


def pdf(**source: Any) -> Message:
    return {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk=", **source}}


def unanswered(turn: int, *calls: str) -> str:
    return (
        f"messages.{turn}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def stray(call: str) -> str:
    return (
        f": unexpected `tool_use_id` found in `tool_result` blocks: {call}. "
        "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
    )


def stray_server(kind: str, used: str, call: str) -> str:
    return (
        f": unexpected `tool_use_id` found in `{kind}` blocks: {call}. Each `{kind}` block must have a corresponding "
        f"`{used}` block before it."
    )


def unpaired(tool_name: str, call: str, kind: str) -> str:
    return f": `{tool_name}` tool use with id `{call}` was found without a corresponding `{kind}` block"


def tag(value: str, *allowed: str) -> str:
    listed = ", ".join(f"'{each}'" for each in allowed)
    return f": Input tag '{value}' found using 'type' does not match any of the expected tags: {listed}"


@frozen
class Pair:
    """`good` is accepted and `bad` refused, both under `profile` and `more`, the other keywords of `violations`."""

    name: str
    good: Any
    bad: Any
    path: str
    text: str
    profile: Profile | None = None
    ids: tuple[str, ...] = field(default=(), kw_only=True)
    more: Mapping[str, Any] = field(factory=dict, kw_only=True)

    @property
    def rule(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def message(self) -> str:
        return f"{self.path}{self.text}" if self.text.startswith(":") else self.text

    def judged(self, request: Any) -> tuple[Violation, ...]:
        return violations(request, self.profile, **self.more)


GOOD = body(HI)
CALL = body(HI, assistant(use()), user(result()))
BOTH = body(HI, assistant(use(ONE), use(TWO)), user(result(ONE), result(TWO)))
DONE = (HI, assistant(use()), user(result()), assistant(text()))

SUMMARY = {"type": "compaction", "content": "x", "signature": "c2ln"}

# ── parameters ──────────────────────────────────────────────────────────────────────────────────────────────────────

SHAPES = [
    Pair("R3 key of our own", GOOD, {**GOOD, "saved_at": 7}, "saved_at", EXTRA, STRICT),
    Pair("R3 key in a message", GOOD, body({**HI, "saved_at": 7}), "messages.0.saved_at", EXTRA, STRICT),
    Pair(
        "R3 beta field",
        GOOD,
        body(HI, mcp_servers=[]),
        "mcp_servers",
        EXTRA,
        STRICT,
        more={"betas": ["pdfs-2024-09-25"]},
    ),
    Pair("R4 no model", GOOD, without(GOOD, "model"), "model", REQUIRED),
    Pair("R4 model no string", GOOD, {**GOOD, "model": 5}, "model", ": Input should be a valid string"),
    Pair("R4 no max_tokens", GOOD, without(GOOD, "max_tokens"), "max_tokens", REQUIRED),
    Pair("R4 max_tokens no integer", GOOD, body(HI, max_tokens=1.5), "max_tokens", ": Input should be a valid integer"),
    Pair("R4 max_tokens true", GOOD, body(HI, max_tokens=True), "max_tokens", ": Input should be a valid integer"),
    Pair(
        "R4 max_tokens negative",
        body(HI, max_tokens=1),
        body(HI, max_tokens=-1),
        "max_tokens",
        ": Input should be greater than or equal to 1",
    ),
    Pair("R4 no messages", GOOD, without(GOOD, "messages"), "messages", REQUIRED),
    Pair("R4 empty messages", GOOD, body(), "messages", ": at least one message is required"),
    Pair("R4 messages no list", GOOD, {**GOOD, "messages": HI}, "messages", ": Input should be a valid array"),
    Pair("R4 no object", GOOD, ["body"], "", "Input should be an object"),
    Pair("R4 message no object", GOOD, body("hi"), "messages.0", ": Input does not match the expected shape."),
    Pair("R4 no role", GOOD, body({"content": "hi"}), "messages.0.role", REQUIRED),
    Pair("R4 no content", body(HI, assistant()), body(HI, {"role": "assistant"}), "messages.1.content", REQUIRED),
    Pair(
        "R4 content no list",
        body({"role": "user", "content": "5"}),
        body({"role": "user", "content": 5}),
        "messages.0.content",
        ": Input should be a valid array",
    ),
    Pair(
        "R4 content null", GOOD, body({**HI, "content": None}), "messages.0.content", ": Input should be a valid array"
    ),
    Pair("R4 block no object", GOOD, body(user("hi")), "messages.0.content.0", ": Input should be an object"),
    Pair("R4 block without type", GOOD, body(user(text(), {"text": "x"})), "messages.0.content.1.type", REQUIRED),
    Pair(
        "R4 text no string",
        GOOD,
        body(user(text(1))),
        "messages.0.content.0.text.text",
        ": Input should be a valid string",
    ),  # type: ignore[arg-type]
    Pair(
        "R4 call without id",
        CALL,
        body(HI, assistant({"type": "tool_use", "name": "find", "input": {}})),
        "messages.1.content.0.tool_use.id",
        REQUIRED,
    ),
    Pair(
        "R4 call without name",
        CALL,
        body(HI, assistant(without(use(), "name")), user(result())),
        "messages.1.content.0.tool_use.name",
        REQUIRED,
    ),
    Pair(
        "R4 thinking without text",
        body(HI, assistant(THINKING, text()), HI),
        body(HI, assistant(without(THINKING, "thinking"), text()), HI),
        "messages.1.content.0.thinking.thinking",
        REQUIRED,
    ),
    Pair(
        "R4 thinking without signature",
        body(HI, assistant(THINKING, text()), HI),
        body(HI, assistant(without(THINKING, "signature"), text()), HI),
        "messages.1.content.0.thinking.signature",
        REQUIRED,
    ),
    Pair(
        "R4 redacted thinking without data",
        body(HI, assistant({"type": "redacted_thinking", "data": "eA=="}, text()), HI),
        body(HI, assistant({"type": "redacted_thinking"}, text()), HI),
        "messages.1.content.0.redacted_thinking.data",
        REQUIRED,
    ),
    Pair("R4 system no text", body(HI, system="x"), body(HI, system=5), "system", ": Input should be a valid array"),
    Pair(
        "R4 system with an image",
        body(HI, system=[text()]),
        body(HI, system=[IMAGE]),
        "system.0.type",
        ": Input should be 'text'",
    ),
    Pair("R4 tools no list", GOOD, body(HI, tools={}), "tools", ": Input should be a valid array"),
    Pair("R4 tool no object", GOOD, body(HI, tools=[FIND, "find"]), "tools.1", ": Input should be an object"),
    Pair(
        "R4 thinking no object",
        body(HI, thinking=ON),
        body(HI, thinking=True),
        "thinking",
        ": Input should be an object",
    ),
    Pair("R4 thinking without type", body(HI, thinking=ON), body(HI, thinking={}), "thinking.type", REQUIRED),
    Pair(
        "R4 output_config no object",
        body(HI, output_config={"effort": "low"}),
        body(HI, output_config="low"),
        "output_config",
        ": Input should be an object",
    ),
    Pair(
        "R4 effort unknown",
        body(HI, output_config={"effort": "max"}),
        body(HI, output_config={"effort": "huge"}),
        "output_config.effort",
        ": Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        STRICT,
    ),
    Pair(
        "R4 mark without type",
        body(HI, cache_control=MARK),
        body(HI, cache_control={}),
        "cache_control.type",
        REQUIRED,
    ),
    Pair(
        "R4 mark of another kind",
        body(user(text(cache_control=MARK))),
        body(user(text(cache_control={"type": "eternal"}))),
        "messages.0.content.0.text.cache_control.type",
        ": Input should be 'ephemeral'",
    ),
    Pair(
        "R4 mark with another ttl",
        body(HI, system=[text(cache_control=HOUR)]),
        body(HI, system=[text(cache_control={**MARK, "ttl": "2h"})]),
        "system.0.cache_control.ttl",
        ": Input should be '5m' or '1h'",
    ),
    Pair(
        "R4 temperature no number",
        body(HI, temperature=0.5),
        body(HI, temperature="0.5"),
        "temperature",
        ": Input should be a valid number",
    ),
    Pair(
        "R4 temperature too high",
        body(HI, temperature=1),
        body(HI, temperature=1.5),
        "temperature",
        ": Input should be less than or equal to 1",
    ),
    Pair("R4 top_k no integer", body(HI, top_k=5), body(HI, top_k=0.5), "top_k", ": Input should be a valid integer"),
    Pair(
        "R4a temperature is gone",
        body(HI),
        body(HI, temperature=1),
        "temperature",
        EXTRA,
        more={"version": "2026-10-21"},
    ),
    Pair("R4a top_p is gone", body(HI), body(HI, top_p=1), "top_p", EXTRA, STRICT),
    Pair("R4a top_k is gone", body(HI), body(HI, top_k=1), "top_k", EXTRA, STRICT),
    Pair(
        "R4a document of the model",
        body(HI, assistant(search(), {**searched(), "content": [pdf()]}), HI),
        body(HI, assistant(pdf()), HI),
        "messages.1.content.0",
        ": `document` blocks can only be in `user` messages",
        STRICT,
    ),
    Pair(
        "R4a citations of the user",
        body(HI, assistant(text(citations=[{}])), user(text(citations=[]), {**pdf(), "citations": {"enabled": True}})),
        body(user(text(citations=[{}]))),
        "messages.0.content.0.text.citations",
        EXTRA,
        STRICT,
    ),
    Pair(
        "R4a citations in a search result",
        body(user({"type": "search_result", "content": [text()], "citations": {"enabled": True}})),
        body(user({"type": "search_result", "content": [text(citations=[{}])]})),
        "messages.0.content.0.search_result.content.0.text.citations",
        EXTRA,
        STRICT,
    ),
    Pair(
        "R4a citations in a tool result",
        body(HI, assistant(use()), user(result(content=[text()]))),
        body(HI, assistant(use()), user(result(content=[text(citations=[{}])]))),
        "messages.2.content.0.tool_result.content.0.text.citations",
        EXTRA,
        STRICT,
    ),
    Pair(
        "R4a sampling of a newer model",
        body(HI, temperature=1),
        body(HI, temperature=0.5),
        "temperature",
        "`temperature` is deprecated for this model.",
        SONNET,
    ),
    Pair(
        "R4a both samplings",
        body(HI, temperature=0.5),
        body(HI, temperature=0.5, top_p=0.5),
        "top_p",
        "`temperature` and `top_p` cannot both be specified for this model.",
        HAIKU,
    ),
    Pair(
        "R26 lone surrogate",
        body(user(text("\U0001f600"))),
        body(user(text("\ud83d"))),
        "",
        "The request body is not valid JSON: strings must not contain lone surrogates",
        STRICT,
    ),
    Pair(
        "R26 no number",
        body(HI, assistant(use(input={"x": 1.5})), user(result())),
        body(HI, assistant(use(input={"x": float("nan")})), user(result())),
        "",
        "The request body is not valid JSON: numbers must be finite, and keys strings",
        STRICT,
    ),
]

LIMITS = [
    Pair(
        "R46 above the cap",
        body(HI, max_tokens=64000),
        body(HI, max_tokens=64001),
        "max_tokens",
        ": 64001 > 64000, which is the maximum allowed number of output tokens for claude-sonnet-5",
        HAIKU,
    ),
    Pair(
        "R47 nothing on a stream",
        body(HI, max_tokens=0),
        body(HI, max_tokens=0, stream=True),
        "max_tokens",
        ": Input should be greater than or equal to 1 with `stream`",
    ),
    Pair(
        "R47 nothing with thinking",
        body(HI, max_tokens=0, thinking=ON),
        body(HI, max_tokens=0, thinking=MANUAL),
        "max_tokens",
        ": Input should be greater than or equal to 1 with `thinking.type.enabled`",
    ),
    Pair(
        "R47 nothing with a forced tool",
        body(HI, max_tokens=0, tool_choice={"type": "auto"}),
        body(HI, max_tokens=0, tool_choice={"type": "any"}),
        "max_tokens",
        ": Input should be greater than or equal to 1 with a forced `tool_choice`",
    ),
    Pair(
        "R47 nothing in a format",
        body(HI, max_tokens=0, output_config={"effort": "low"}),
        body(HI, max_tokens=0, output_config=FORMAT),
        "max_tokens",
        ": Input should be greater than or equal to 1 with `output_config.format`",
    ),
    Pair(
        "R48 five marks",
        body(user(*[text(cache_control=MARK)] * 4)),
        body(user(*[text(cache_control=MARK)] * 5)),
        "cache_control",
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    Pair(
        "R48 marks everywhere",
        body(
            *DONE,
            user(*[text(cache_control=MARK)] * 2),
            tools=[tool(cache_control=MARK)],
            system=[text(cache_control=MARK)],
        ),
        body(
            HI,
            assistant(use()),
            user(result(content=[text(cache_control=MARK)])),
            assistant(text()),
            user(*[text(cache_control=MARK)] * 2),
            tools=[tool(cache_control=MARK)],
            system=[text(cache_control=MARK)],
        ),
        "cache_control",
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    Pair(
        "R49 the longer one later",
        body(user(text(cache_control=MARK)), system=[text(cache_control=HOUR)]),
        body(user(text(cache_control=HOUR)), system=[text(cache_control=MARK)]),
        "messages.0.content.0.text.cache_control.ttl",
        ": a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks are "
        "processed in the following order: `tools`, `system`, `messages`.",
    ),
    Pair(
        "R50 marked thinking",
        body(HI, assistant(THINKING, text(cache_control=MARK)), HI),
        body(HI, assistant({**THINKING, "cache_control": MARK}, text()), HI),
        "messages.1.content.0.thinking.cache_control",
        EXTRA,
    ),
    Pair(
        "R50 one mark too many",
        body(user(*[text(cache_control=MARK)] * 3), cache_control=MARK),
        body(user(*[text(cache_control=MARK)] * 4), cache_control=MARK),
        "cache_control",
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    Pair(
        "R50 the last block lives otherwise",
        body(user(text(cache_control=HOUR)), cache_control=HOUR),
        body(user(text(cache_control=HOUR)), cache_control=MARK),
        "cache_control.ttl",
        ": the ttl of the automatic breakpoint must be that of the cache_control on the last block",
    ),
    Pair(
        "R51 blank",
        body(HI, stop_sequences=["END"]),
        body(HI, stop_sequences=["END", "\n"]),
        "stop_sequences.1",
        "stop_sequences: each stop sequence must contain non-whitespace",
    ),
    Pair(
        "R51 no string",
        body(HI, stop_sequences=None),
        body(HI, stop_sequences=[7]),
        "stop_sequences.0",
        ": Input should be a valid string",
    ),
    Pair(
        "R51 no list",
        body(HI, stop_sequences=[]),
        body(HI, stop_sequences="END"),
        "stop_sequences",
        ": Input should be a valid array",
    ),
    Pair(
        "R52 another key",
        body(HI, metadata={"user_id": "7"}),
        body(HI, metadata={"user_id": "7", "session": 1}),
        "metadata.session",
        EXTRA,
        STRICT,
    ),
    Pair("R52 no object", body(HI, metadata=None), body(HI, metadata="7"), "metadata", ": Input should be an object"),
    Pair(
        "R52 number",
        body(HI, metadata={"user_id": None}),
        body(HI, metadata={"user_id": 7}),
        "metadata.user_id",
        ": Input should be a valid string",
    ),
    Pair(
        "R53 without code",
        body(HI, container="c", tools=[CODE]),
        body(HI, container="c", tools=[FIND]),
        "container",
        ": Container identifier can only be provided when using the code execution tool",
    ),
    Pair(
        "R53 no id",
        body(HI, container=None),
        body(HI, container=7, tools=[CODE]),
        "container",
        ": Input should be a valid string",
    ),
    Pair(
        "R55 bitmap",
        body(user(image(media_type="image/webp"))),
        body(user(image(media_type="image/bmp"))),
        "messages.0.content.0.image.source.base64.media_type",
        ": Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'",
    ),
    Pair(
        "R55 too large",
        body(user(image(data="a" * 10485760))),
        body(user(image(data="a" * 10485761))),
        "messages.0.content.0.image.source.base64",
        ": image exceeds 10 MB maximum: 10485761 bytes > 10485760 bytes",
    ),
    Pair(
        "R55 too many",
        body(user(*[image()] * 100)),
        body(user(*[image()] * 101)),
        "messages",
        ": at most 100 images are allowed in one request. Found 101",
        HAIKU,
    ),
    Pair(
        "R55 too many for any model",
        body(HI, assistant(use()), user(result(content=[image()] * 600))),
        body(HI, assistant(use()), user(result(content=[image()] * 600), image())),
        "messages",
        ": at most 600 images are allowed in one request. Found 601",
    ),
    Pair(
        "R55 no data",
        body(user({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}})),
        body(user({"type": "image", "source": {"type": "url"}})),
        "messages.0.content.0.image.source.url.url",
        REQUIRED,
    ),
    Pair(
        "R55 no source",
        body(user(image())),
        body(user({"type": "image"})),
        "messages.0.content.0.image.source",
        REQUIRED,
    ),
    Pair(
        "R56 no PDF",
        body(user(pdf())),
        body(user(pdf(media_type="application/msword"))),
        "messages.0.content.0.document.source.base64.media_type",
        ": Input should be 'application/pdf'",
    ),
    Pair(
        "R56 no source",
        body(user(pdf())),
        body(user({"type": "document"})),
        "messages.0.content.0.document.source",
        REQUIRED,
    ),
    Pair(
        "R57 citations",
        body(user({**pdf(), "citations": {"enabled": False}}), output_config=FORMAT),
        body(user({**pdf(), "citations": {"enabled": True}}), output_config=FORMAT),
        "messages.0.content.0.document.citations",
        "`output_config.format` cannot be combined with citations",
    ),
    Pair(
        "R57 prefill",
        body(HI, assistant(text()), HI, output_config=FORMAT),
        body(HI, assistant(text()), output_config=FORMAT),
        "messages.1",
        "`output_config.format` cannot be combined with an assistant message at the end",
    ),
    Pair(
        "R57 another format",
        body(HI, output_config=FORMAT),
        body(HI, output_config={"format": {"type": "xml"}}),
        "output_config.format.type",
        ": Input should be 'json_schema'",
    ),
    Pair(
        "R57 no schema",
        body(HI, output_config=FORMAT),
        body(HI, output_config={"format": {"type": "json_schema"}}),
        "output_config.format.schema",
        REQUIRED,
    ),
    Pair(
        "R62 service_tier",
        body(HI, service_tier="auto"),
        body(HI, service_tier="premium"),
        "service_tier",
        ": Input should be 'auto' or 'standard_only'",
    ),
    Pair("R62 stream", body(HI, stream=False), body(HI, stream="no"), "stream", ": Input should be a valid boolean"),
    Pair(
        "R62 null",
        body(HI, inference_geo=None),
        body(HI, stream=None),
        "stream",
        ": Input should be a valid boolean",
        STRICT,
    ),
    Pair(
        "R62 inference_geo",
        body(HI, inference_geo="eu"),
        body(HI, inference_geo=1),
        "inference_geo",
        ": Input should be a valid string",
    ),
    Pair(
        "R62 speed",
        body(HI, speed="fast"),
        body(HI, speed="warp"),
        "speed",
        ": Input should be 'standard' or 'fast'",
        STRICT,
    ),
    Pair(
        "R70 with context management",
        body(HI, assistant(text()), compaction={"type": "summarize"}),
        body(HI, assistant(text()), compaction={"type": "summarize"}, context_management={"edits": []}),
        "compaction",
        ": cannot be combined with context_management",
    ),
    Pair(
        "R70 a turn that is not complete",
        body(HI, assistant(search(), searched()), compaction={"type": "summarize"}),
        body(HI, assistant(search()), compaction={"type": "summarize"}),
        "compaction",
        ": the last turn is not complete: a server tool has no result yet",
    ),
    Pair(
        "R70 not first",
        body(assistant(SUMMARY), HI),
        body(HI, assistant(SUMMARY), HI),
        "messages.1.content.0",
        ": `compaction` blocks must come first, in place of the messages that they summarise",
        STRICT,
    ),
    Pair(
        "R70 two",
        body(assistant(SUMMARY, {**SUMMARY, "content": None}), HI),
        body(assistant(SUMMARY, SUMMARY), HI),
        "messages.0.content.1",
        ": only one `compaction` block with content may be provided",
        STRICT,
    ),
    Pair(
        "R71 thinking in a thread",
        body(HI, thread={"type": "create"}),
        body(HI, thread={"type": "create"}, thinking=ON),
        "thread",
        ": not supported together with thinking",
    ),
    Pair(
        "R72 four",
        body(HI, fallbacks=[{"model": "a"}, {"model": "b"}, {"model": "c"}]),
        body(HI, fallbacks=[{"model": "a"}, {"model": "b"}, {"model": "c"}, {"model": "d"}]),
        "fallbacks",
        ": at most 3 fallback models may be provided. Found 4",
    ),
    Pair(
        "R72 twice",
        body(HI, fallbacks=[{"model": "a"}, {"model": "b"}]),
        body(HI, fallbacks=[{"model": "a"}, {"model": "a"}]),
        "fallbacks",
        ": fallback models must be distinct",
    ),
    Pair(
        "R72 the older beta",
        body(HI, fallbacks=[{"model": "a"}]),
        body(HI, fallbacks="default"),
        "fallbacks",
        ": the form 'default' requires the beta server-side-fallback-2026-07-01",
        more={"betas": ["server-side-fallback-2026-06-01"]},
    ),
    Pair("R72 no model", body(HI, fallbacks="default"), body(HI, fallbacks=[{}]), "fallbacks.0.model", REQUIRED),
]

THOUGHT = (HI, assistant(THINKING, use()), user(result()))
SILENT = (HI, assistant(use()), user(result()))
MUST_THINK = (
    ".type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final "
    "`assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` "
    "blocks). We recommend you include thinking blocks from previous turns. To avoid this requirement, disable "
    "`thinking`. Please consult our documentation at "
    "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking"
)

MODES = [
    Pair(
        "R30 small budget",
        body(HI, thinking=MANUAL),
        body(HI, thinking={**MANUAL, "budget_tokens": 1023}),
        "thinking.enabled.budget_tokens",
        ": Input should be greater than or equal to 1024",
    ),
    Pair(
        "R30 no budget",
        body(HI, thinking=MANUAL),
        body(HI, thinking={"type": "enabled"}),
        "thinking.enabled.budget_tokens",
        REQUIRED,
    ),
    Pair(
        "R30 budget of everything",
        body(HI, thinking=MANUAL, max_tokens=1025, tools=[]),
        body(HI, thinking=MANUAL, max_tokens=1024, tools=[]),
        "max_tokens",
        "max_tokens must be greater than thinking.budget_tokens",
    ),
    Pair(
        "R33 loop without thinking",
        body(*THOUGHT, thinking=MANUAL),
        body(*SILENT, thinking=MANUAL),
        "messages.1.content.0.type",
        f"messages.1.content.0{MUST_THINK}",
        HAIKU,
    ),
    Pair(
        "R33 a round later",
        body(*THOUGHT, assistant(use(TWO)), user(result(TWO)), thinking=MANUAL),
        body(*SILENT, assistant(THINKING, use(TWO)), user(result(TWO)), thinking=MANUAL),
        "messages.1.content.0.type",
        f"messages.1.content.0{MUST_THINK}",
        HAIKU,
    ),
    Pair(
        "R33 words before thinking",
        body(HI, assistant(THINKING, text()), HI, thinking=MANUAL),
        body(HI, assistant(text(), THINKING), HI, thinking=MANUAL),
        "messages.1.content.0",
        ": If an assistant message contains any thinking blocks, the first block must be `thinking` or "
        "`redacted_thinking`. Found `text`.",
        HAIKU,
    ),
    Pair(
        "R34 manual",
        body(HI, thinking=ON),
        body(HI, thinking=MANUAL),
        "thinking.type",
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
        '"output_config.effort" to control thinking behavior.',
        SONNET,
    ),
    Pair(
        "R34 adaptive",
        body(HI, thinking=MANUAL),
        body(HI, thinking=ON),
        "thinking.type",
        "adaptive thinking is not supported on this model",
        HAIKU,
    ),
    Pair(
        "R34 disabled",
        body(HI, thinking=ON),
        body(HI, thinking={"type": "disabled"}),
        "thinking.type",
        '"thinking.type.disabled" is not supported for this model.',
        profile_of("claude-fable-5"),
    ),
    Pair(
        "R34 disabled at an effort",
        body(HI, thinking={"type": "disabled"}, output_config={"effort": "high"}),
        body(HI, thinking={"type": "disabled"}, output_config={"effort": "max"}),
        "thinking.type",
        '"thinking.type.disabled" is not supported at effort "max" for this model.',
        profile_of("claude-opus-5"),
    ),
    Pair(
        "R34 unknown",
        body(HI, thinking={"type": "between_tools"}),
        body(HI, thinking={"type": "often"}),
        "thinking",
        tag("often", "adaptive", "between_tools", "disabled", "enabled"),
        STRICT,
    ),
    Pair(
        "R36 manual",
        body(HI, thinking=MANUAL, tool_choice={"type": "auto"}),
        body(HI, thinking=MANUAL, tool_choice={"type": "any"}),
        "thinking",
        "Thinking may not be enabled when tool_choice forces tool use.",
    ),
    Pair(
        "R36 adaptive",
        body(HI, thinking=ON, tool_choice={"type": "none"}),
        body(HI, thinking=ON, tool_choice={"type": "tool", "name": "find"}),
        "thinking",
        "Thinking may not be enabled when tool_choice forces tool use.",
        profile_of("claude-opus-5-5"),
    ),
    Pair(
        "R37 top_k",
        body(HI, top_k=5, thinking={"type": "disabled"}),
        body(HI, top_k=5, thinking=ON),
        "top_k",
        "`top_k` must be unset when thinking is enabled or in adaptive mode",
    ),
    Pair(
        "R37 temperature",
        body(HI, temperature=1, thinking=MANUAL),
        body(HI, temperature=0, thinking=MANUAL),
        "temperature",
        "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode",
    ),
    Pair(
        "R38 prefill",
        body(HI, assistant(text()), thinking={"type": "disabled"}),
        body(HI, assistant(text()), thinking=ON),
        "messages.1",
        "messages: the final message cannot be an assistant message when thinking is enabled",
    ),
]

REFERS = {"properties": {"next": {"$ref": "#/$defs/node"}}, "$defs": {"node": {"type": "object"}}}
CIRCLE = {**REFERS, "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}
CALLERS = ["code_execution_20260120"]
NAME_PATTERN = ": String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"

TOOLS = [
    Pair(
        "R40 space",
        body(HI, tools=[tool(name="a-b_1")]),
        body(HI, tools=[tool(name="a b")]),
        "tools.0.custom.name",
        NAME_PATTERN,
    ),
    Pair(
        "R40 long",
        body(HI, tools=[tool(name="a" * 128)]),
        body(HI, tools=[tool(name="a" * 129)]),
        "tools.0.custom.name",
        NAME_PATTERN,
    ),
    Pair("R40 none", GOOD, body(HI, tools=[WEB, without(FIND, "name")]), "tools.1.custom.name", REQUIRED),
    Pair(
        "R41 twice",
        GOOD,
        body(HI, tools=[FIND, WEB, tool(description="again")]),
        "tools",
        ": Tool names must be unique.",
    ),
    Pair("R42 no schema", GOOD, body(HI, tools=[{"name": "find"}]), "tools.0.custom.input_schema", REQUIRED),
    Pair("R42 no type", GOOD, body(HI, tools=[tool(input_schema={})]), "tools.0.custom.input_schema.type", REQUIRED),
    Pair(
        "R42 array",
        GOOD,
        body(HI, tools=[tool(input_schema={"type": "array"})]),
        "tools.0.custom.input_schema.type",
        ": Input should be 'object'",
    ),
    Pair(
        "R42 union at the top",
        body(HI, tools=schema(properties={"x": {"anyOf": [{"type": "null"}, {"type": "string"}]}})),
        body(HI, tools=schema(anyOf=[{"type": "object"}])),
        "tools.0.custom.input_schema",
        ": input_schema does not support oneOf, allOf, or anyOf at the top level",
    ),
    Pair(
        "R42 of another draft",
        body(
            HI, tools=schema(properties={"x": {"type": "array", "prefixItems": [{"type": "string"}], "items": False}})
        ),
        body(HI, tools=schema(properties={"x": {"type": "array", "items": [{"type": "string"}]}})),
        "tools.0.custom.input_schema",
        ": JSON schema is invalid. It must match JSON Schema draft 2020-12 (https://json-schema.org/draft/2020-12). "
        "Learn more about tool use at https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview.",
    ),
    Pair(
        "R43 open object",
        body(HI, tools=[strict(x={"type": "string"})]),
        body(HI, tools=[tool(strict=True)]),
        "tools.0.custom",
        ": For 'object' type, 'additionalProperties' must be explicitly set to false",
    ),
    Pair(
        "R43 lookahead",
        body(HI, tools=[strict(x={"type": "string", "pattern": "^a+$"})]),
        body(HI, tools=[strict(x={"type": "string", "pattern": "^(?=a)"})]),
        "tools.0.custom",
        ": Unsupported regex feature in pattern field: ^(?=a)",
    ),
    Pair(
        "R43 twenty-one",
        body(HI, tools=[{**strict(), "name": f"t{n}"} for n in range(20)]),
        body(HI, tools=[{**strict(), "name": f"t{n}"} for n in range(21)]),
        "tools",
        ": at most 20 tools can be strict. Found 21",
        STRICT,
    ),
    Pair(
        "R43 too complex",
        body(HI, tools=[strict(**{f"p{n}": {"type": ["string", "null"]} for n in range(16)})]),
        body(HI, tools=[strict(**{f"p{n}": {"type": ["string", "null"]} for n in range(17)})]),
        "tools",
        "Schema is too complex for compilation.",
        STRICT,
    ),
    Pair(
        "R44 tag",
        body(HI, tool_choice={"type": "any"}),
        body(HI, tool_choice={"type": "required"}),
        "tool_choice",
        tag("required", "auto", "any", "tool", "none"),
    ),
    Pair(
        "R44 string",
        body(HI, tool_choice={"type": "auto"}),
        body(HI, tool_choice="auto"),
        "tool_choice",
        ": Input should be an object",
    ),
    Pair("R44 no type", body(HI, tool_choice={"type": "none"}), body(HI, tool_choice={}), "tool_choice.type", REQUIRED),
    Pair(
        "R44 no name",
        body(HI, tool_choice={"type": "tool", "name": "find"}),
        body(HI, tool_choice={"type": "tool"}),
        "tool_choice.tool.name",
        REQUIRED,
    ),
    Pair(
        "R44 unknown tool",
        body(HI, tool_choice={"type": "tool", "name": "find"}),
        body(HI, tool_choice={"type": "tool", "name": "lose"}),
        "tool_choice",
        ": tool 'lose' not found in provided tools",
        STRICT,
    ),
    Pair(
        "R44 no tools",
        body(HI, tool_choice={"type": "auto"}),
        body(HI, tool_choice={"type": "auto"}, tools=[]),
        "tool_choice",
        ": may only be specified while providing `tools`",
        STRICT,
    ),
    Pair(
        "R45 all deferred",
        body(HI, tools=[tool(defer_loading=True), WEB]),
        body(HI, tools=[tool(defer_loading=True)]),
        "tools",
        "All tools have defer_loading: true",
    ),
    Pair(
        "R45 example",
        body(HI, tools=[tool(input_examples=[{"q": "x"}])]),
        body(HI, tools=[tool(input_examples=["x"])]),
        "tools.0.custom.input_examples.0",
        ": Input should be a valid dictionary",
    ),
    Pair(
        "R45 circle",
        body(HI, tools=[tool(input_schema={"type": "object", **REFERS}, allowed_callers=CALLERS)]),
        body(HI, tools=[tool(input_schema={"type": "object", **CIRCLE}, allowed_callers=CALLERS)]),
        "tools.0.custom.input_schema",
        ": Circular $ref detected",
    ),
]

# ── conversations ───────────────────────────────────────────────────────────────────────────────────────────────────

EITHER = "role 'system' must follow a 'user' message or an 'assistant' message ending in a server tool result"
DIRECTIVES = {"role": "system", "content": [], "output_config": {"effort": "low"}}
FIRST = (
    ": use the top-level 'system' parameter for the initial system prompt; the directive-only form (content: [] with "
    "output_config) is accepted at any position"
)

ROLES = [
    Pair(
        "R7 role tool",
        CALL,
        body(HI, {"role": "tool", "content": "x"}),
        "messages.1",
        'messages: Unexpected role "tool". Allowed roles are "user" or "assistant"',
    ),
    Pair(
        "R7 role no string",
        GOOD,
        body({"role": ["user"], "content": "x"}),
        "messages.0",
        'messages: Unexpected role "[\'user\']". Allowed roles are "user" or "assistant"',
    ),
    Pair(
        "R8 unknown to the model",
        body(HI, HI),
        body(HI, system(text())),
        "messages.1",
        "role 'system' is not supported on this model",
        SONNET,
    ),
    Pair("R8 first", body(DIRECTIVES, HI), body(system(text()), HI), "messages.0", FIRST),
    Pair(
        "R8 after a reply",
        body(HI, assistant(search(), searched()), system(text())),
        body(HI, assistant(text()), system(text())),
        "messages.2",
        f": {EITHER}",
    ),
    Pair(
        "R8 after a reply, with directives",
        body(HI, assistant(text()), DIRECTIVES, HI),
        body(HI, assistant(text()), DIRECTIVES, system(text())),
        "messages.2",
        f": {EITHER}",
    ),
    Pair(
        "R8 before a user message",
        body(HI, system(text()), system(text()), assistant(text()), HI),
        body(HI, system(text()), HI),
        "messages.1",
        "role 'system' must precede an 'assistant' message or end the array",
    ),
    Pair(
        "R8 image",
        body(HI, system({"type": "tool_addition", "tool": {"type": "tool_reference", "name": "find"}})),
        body(HI, system(IMAGE)),
        "messages.1.content.0",
        ": `image` blocks are not allowed in `system` messages; use `text`, `tool_addition` or `tool_removal`",
    ),
    Pair(
        "R8 blank",
        body(HI, system(text(" x"))),
        body(HI, system(text(" "))),
        "messages.1.content.0",
        ": text content blocks in `system` messages must contain non-whitespace text",
    ),
    Pair(
        "R8 nothing",
        body(HI, DIRECTIVES),
        body(HI, {**DIRECTIVES, "output_config": {}}),
        "messages.1",
        ": role 'system' needs non-empty content or an output_config with at least one field",
    ),
    Pair(
        "R9 too many",
        body(*[HI] * 100_000),
        body(*[HI] * 100_001),
        "messages",
        ": at most 100000 messages may be provided. Found 100001",
    ),
    Pair(
        "R20 in user",
        GOOD,
        body(user(text(""))),
        "messages.0.content.0",
        "messages: text content blocks must be non-empty",
    ),
    Pair(
        "R20 in assistant",
        body(HI, assistant(text(" ")), HI),
        body(HI, assistant(text("")), HI),
        "messages.1.content.0",
        "messages: text content blocks must be non-empty",
    ),
    Pair(
        "R20 in system",
        body(HI, system=[text()]),
        body(HI, system=[text("")]),
        "system.0",
        "system: text content blocks must be non-empty",
    ),
    Pair(
        "R22 assistant",
        body(HI, {"role": "assistant", "content": ""}),
        body(HI, {"role": "assistant", "content": ""}, HI),
        "messages.1",
        EMPTY,
    ),
    Pair("R22 assistant list", body(HI, assistant()), body(HI, assistant(), HI), "messages.1", EMPTY),
    Pair("R22 user", body(user(), HI), body(user()), "messages.0", EMPTY),
    Pair(
        "R22 user in the middle",
        body(HI, assistant(text()), user(), HI),
        body(HI, assistant(text()), user(), assistant(text())),
        "messages.2",
        EMPTY,
    ),
    Pair(
        "R23 in a message",
        body(user(text(cache_control=MARK))),
        body(user(text("", cache_control=MARK))),
        "messages.0.content.0",
        "messages.0.content.0.text: cache_control cannot be set for empty text blocks",
    ),
    Pair(
        "R23 in system",
        body(HI, system=[text(cache_control=MARK)]),
        body(HI, system=[text("", cache_control=MARK)]),
        "system.0",
        ": cache_control cannot be set for empty text blocks",
    ),
    Pair(
        "R24 blank end",
        body(HI, assistant(text("so"))),
        body(HI, assistant(text("so "))),
        "messages.1",
        "messages: final assistant content cannot end with trailing whitespace",
        HAIKU,
    ),
    Pair(
        "R25 prefill", body(HI, assistant(text()), HI), body(HI, assistant(text())), "messages.1", PREFILL, NO_PREFILL
    ),
    Pair(
        "R25 no pause",
        body(HI, assistant(text(), search())),
        body(HI, assistant(search(), searched(), text())),
        "messages.1",
        PREFILL,
        SONNET,
    ),
]

CALLS = [
    Pair("R10 at the end", CALL, body(HI, assistant(text(), use())), "messages.1", unanswered(1, ONE), ids=(ONE,)),
    Pair("R10 by words", CALL, body(HI, assistant(use()), HI), "messages.1", unanswered(1, ONE), ids=(ONE,)),
    Pair(
        "R10 by a string",
        CALL,
        body(HI, assistant(use()), {"role": "user", "content": "x"}),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Pair(
        "R10 one of two",
        BOTH,
        body(HI, assistant(use(ONE), use(TWO)), user(result(ONE))),
        "messages.1",
        unanswered(1, TWO),
        ids=(TWO,),
    ),
    Pair(
        "R10 both",
        BOTH,
        body(HI, assistant(use(ONE), use(TWO)), HI),
        "messages.1",
        unanswered(1, ONE, TWO),
        ids=(ONE, TWO),
    ),
    Pair(
        "R10 long ago",
        body(*DONE, HI),
        body(HI, assistant(use()), assistant(text()), HI, assistant(text()), HI),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Pair(
        "R10 system between",
        body(*SILENT, system(text())),
        body(HI, assistant(use()), system(text())),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Pair(
        "R10 merged index",
        body(HI, HI, assistant(text()), assistant(use()), user(result())),
        body(HI, HI, assistant(text()), assistant(use()), HI),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Pair(
        "R11 words first",
        body(HI, assistant(use()), user(result(), text())),
        body(HI, assistant(use()), user(text(), result())),
        "messages.1",
        unanswered(1, ONE),
        ids=(ONE,),
    ),
    Pair(
        "R11 words between",
        BOTH,
        body(HI, assistant(use(ONE), use(TWO)), user(result(ONE), text(), result(TWO))),
        "messages.1",
        unanswered(1, TWO),
        ids=(TWO,),
    ),
    Pair("R13 first message", CALL, body(user(result())), "messages.0.content.0", stray(ONE), ids=(ONE,)),
    Pair(
        "R13 unknown id",
        CALL,
        body(HI, assistant(use()), user(result(), result("toolu_9"))),
        "messages.2.content.1",
        stray("toolu_9"),
        ids=("toolu_9",),
    ),
    Pair(
        "R13 turn before last",
        body(*DONE, HI),
        body(*DONE, user(result())),
        "messages.4.content.0",
        stray(ONE),
        ids=(ONE,),
    ),
    Pair(
        "R13 merged index",
        body(HI, assistant(text()), HI, user(text(), text())),
        body(HI, assistant(text()), HI, user(text(), result())),
        "messages.2.content.2",
        stray(ONE),
        ids=(ONE,),
    ),
    Pair(
        "R13 server result",
        body(HI, assistant(search(name="advisor"), searched(kind="advisor_tool_result")), HI),
        body(HI, assistant(text(), searched(kind="advisor_tool_result")), HI),
        "messages.1.content.1",
        stray_server("advisor_tool_result", "server_tool_use", S1),
        ids=(S1,),
    ),
    Pair(
        "R13 result of an MCP tool",
        body(HI, assistant(mcp(), {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1"})),
        body(HI, assistant({"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1"})),
        "messages.1.content.0",
        stray_server("mcp_tool_result", "mcp_tool_use", "mcptoolu_1"),
        ids=("mcptoolu_1",),
    ),
    Pair(
        "R14 in one message",
        BOTH,
        body(HI, assistant(use(), use()), user(result())),
        "messages.1.content.1",
        ": `tool_use` ids must be unique",
        ids=(ONE,),
    ),
    Pair(
        "R14 in a later turn",
        body(*SILENT, assistant(text(), use(TWO)), user(result(TWO))),
        body(*SILENT, assistant(text(), use()), user(result())),
        "messages.3.content.1",
        ": `tool_use` ids must be unique",
        ids=(ONE,),
    ),
    Pair(
        "R14 reply appended twice",
        body(HI, assistant(use()), assistant(use(TWO)), user(result(), result(TWO))),
        body(HI, assistant(use()), assistant(use()), user(result())),
        "messages.1.content.1",
        ": `tool_use` ids must be unique",
        ids=(ONE,),
    ),
    Pair(
        "R15 two results",
        BOTH,
        body(HI, assistant(use()), user(result(), result())),
        "messages.2.content.1",
        f": each tool_use must have a single result. Found multiple `tool_result` blocks with id: {ONE}",
        ids=(ONE,),
    ),
    Pair(
        "R15 in the merged message",
        body(HI, assistant(use()), user(result(), text()), HI),
        body(HI, assistant(use()), user(result(), text()), user(result())),
        "messages.2.content.2",
        f": each tool_use must have a single result. Found multiple `tool_result` blocks with id: {ONE}",
        ids=(ONE,),
    ),
    Pair(
        "R16 words after a pause",
        body(HI, assistant(search())),
        body(HI, assistant(search()), HI),
        "messages.1",
        unpaired("web_search", S1, "web_search_tool_result"),
        ids=(S1,),
    ),
    Pair(
        "R16 words after the results",
        body(HI, assistant(search(), use()), user(result())),
        body(HI, assistant(search(), use()), user(result(), text())),
        "messages.1",
        unpaired("web_search", S1, "web_search_tool_result"),
        ids=(S1,),
    ),
    Pair(
        "R16 never resolved",
        body(HI, assistant(search(), use()), user(result()), assistant(searched(), text()), HI),
        body(HI, assistant(search(), use()), user(result()), assistant(text()), HI),
        "messages.1",
        unpaired("web_search", S1, "web_search_tool_result"),
        ids=(S1,),
    ),
    Pair(
        "R16 tool search",
        body(HI, assistant(search(name="tool_search_tool_bm25"), searched(kind="tool_search_tool_result")), HI),
        body(HI, assistant(search(name="tool_search_tool_bm25")), HI),
        "messages.1",
        unpaired("tool_search_tool_bm25", S1, "tool_search_tool_result"),
        ids=(S1,),
    ),
    Pair(
        "R16 MCP tool",
        body(HI, assistant(mcp())),
        body(HI, assistant(mcp()), HI),
        "messages.1",
        unpaired("look", "mcptoolu_1", "mcp_tool_result"),
        ids=("mcptoolu_1",),
    ),
    Pair(
        "R16 system after a pause",
        body(HI, assistant(search(), searched()), system(text())),
        body(HI, assistant(search()), system(text())),
        "messages.1",
        unpaired("web_search", S1, "web_search_tool_result"),
        ids=(S1,),
    ),
    Pair(
        "R16 the tool is gone",
        body(HI, assistant(search())),
        body(HI, assistant(search()), tools=[FIND]),
        "messages.1",
        unpaired("web_search", S1, "web_search_tool_result") + ", but no `web_search` tool was provided",
        STRICT,
        ids=(S1,),
    ),
    Pair(
        "R10 split results, R17",
        BOTH,
        body(HI, assistant(use(ONE), use(TWO)), user(result(ONE)), user(result(TWO))),
        "messages.1",
        unanswered(1, TWO),
        STRICT,
        ids=(TWO,),
    ),
    Pair(
        "R18 words beside the result",
        body(HI, assistant(use(**CALLED)), user(result()), container="c", tools=[FIND, CODE]),
        body(HI, assistant(use(**CALLED)), user(result(), text()), container="c", tools=[FIND, CODE]),
        "messages.2",
        ": only `tool_result` blocks may answer tool uses generated by code execution with tools; other content "
        f"follows the results of: {ONE}",
        ids=(ONE,),
    ),
    Pair(
        "R18 image in the result",
        body(HI, assistant(use(**CALLED)), user(result(content=[text()])), container="c", tools=[FIND, CODE]),
        body(HI, assistant(use(**CALLED)), user(result(content=[IMAGE])), container="c", tools=[FIND, CODE]),
        "messages.2.content.0",
        ": the result of a tool use generated by code execution with tools must be a string or `text` blocks",
        ids=(ONE,),
    ),
    Pair(
        "R18 no container",
        body(HI, assistant(use(**CALLED)), user(result()), container="c", tools=[FIND, CODE]),
        body(HI, assistant(use(**CALLED)), user(result()), tools=[FIND, CODE]),
        "container",
        "container_id is required when there are pending tool uses generated by code execution with tools.",
        ids=(ONE,),
    ),
    Pair(
        "R19 result in assistant",
        CALL,
        body(HI, assistant(result())),
        "messages.1.content.0",
        "messages.1: `tool_result` blocks can only be in `user` messages",
    ),
    Pair(
        "R19 call in user",
        CALL,
        body(user(text(), use())),
        "messages.0.content.1",
        "messages.0: `tool_use` blocks can only be in `assistant` messages",
    ),
    Pair(
        "R19 thinking in user",
        body(HI, assistant(THINKING)),
        body(user(THINKING)),
        "messages.0.content.0",
        "messages.0: `thinking` blocks can only be in `assistant` messages",
    ),
    Pair(
        "R19 server result in user",
        body(HI, assistant(search(), searched())),
        body(HI, assistant(search()), assistant(searched()), user(searched(S2))),
        "messages.2.content.0",
        "messages.2: `web_search_tool_result` blocks can only be in `assistant` messages",
    ),
    Pair(
        "R19 call in system",
        body(HI, system(text())),
        body(HI, system(use())),
        "messages.1.content.0",
        "messages.1: `tool_use` blocks can only be in `assistant` messages",
    ),
    Pair(
        "R19 result in system",
        body(HI, system(text())),
        body(HI, system(result())),
        "messages.1.content.0",
        "messages.1: `tool_result` blocks can only be in `user` messages",
    ),
    Pair(
        "R19a client id",
        body(HI, assistant(use("a-b")), user(result("a-b"))),
        body(HI, assistant(use("a b")), user(result("a b"))),
        "messages.1.content.0.tool_use.id",
        f": String should match pattern '{CLIENT_ID}'",
        ids=("a b",),
    ),
    Pair(
        "R19a line end",
        body(HI, assistant(use("a")), user(result("a"))),
        body(HI, assistant(use("a\n")), user(result("a\n"))),
        "messages.1.content.0.tool_use.id",
        f": String should match pattern '{CLIENT_ID}'",
        ids=("a\n",),
    ),
    Pair(
        "R19a server id",
        body(HI, assistant(search(), searched())),
        body(HI, assistant(search(ONE), searched(ONE))),
        "messages.1.content.0.server_tool_use.id",
        f": String should match pattern '{SERVER_ID}'",
        ids=(ONE,),
    ),
    Pair(
        "R19b string",
        CALL,
        body(HI, assistant(use(input="{}")), user(result())),
        "messages.1.content.0.tool_use.input",
        ": Input should be a valid dictionary",
    ),
    Pair(
        "R19b absent",
        CALL,
        body(HI, assistant(without(use(), "input")), user(result())),
        "messages.1.content.0.tool_use.input",
        REQUIRED,
    ),
    Pair(
        "R19c number",
        CALL,
        body(HI, assistant(use()), user(result(content=5))),
        "messages.2.content.0.tool_result.content",
        ": Input should be a valid array",
    ),
    Pair(
        "R19c strings",
        CALL,
        body(HI, assistant(use()), user(result(content=["x"]))),
        "messages.2.content.0.tool_result.content.0",
        ": Input should be an object",
    ),
    Pair(
        "R19c result in result",
        body(HI, assistant(use()), user(result(content=[image()]))),
        body(HI, assistant(use()), user(result(content=[result()]))),
        "messages.2.content.0.tool_result.content.0",
        tag("tool_result", "text", "image", "document", "search_result", "tool_reference", "browser_state"),
    ),
    Pair(
        "R19c image in error",
        body(HI, assistant(use()), user(result(content=[text()], is_error=True))),
        body(HI, assistant(use()), user(result(content=[text(), IMAGE], is_error=True))),
        "messages.2.content.0",
        "messages.2.content.0.tool_result: all content must be type `text` if `is_error` is true",
        ids=(ONE,),
    ),
    Pair(
        "R19d no id",
        CALL,
        body(HI, user({"type": "tool_result", "content": "x"})),
        "messages.0.content.1.tool_result.tool_use_id",
        REQUIRED,
    ),
    Pair(
        "R19e no tools",
        CALL,
        without(CALL, "tools"),
        "tools",
        "Requests which include `tool_use` or `tool_result` blocks must define tools.",
        STRICT,
    ),
]

PAIRS = [*SHAPES, *LIMITS, *MODES, *TOOLS, *ROLES, *CALLS]
