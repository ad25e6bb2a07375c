"""The strict emulator: what it refuses, signs and counts, each by the rule of the API that it stands for (V1–V10)."""

from __future__ import annotations

import asyncio
import copy
import json

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.testing import Emulator, assert_legal, replies, serve
from fsm.testing._caching import least_of
from fsm.testing._signing import BINDING_BETA
from fsm.testing._threads import THREADS_BETA

BINDS = "claude-sonnet-5-5"
FREE = "claude-sonnet-5"
TOOLS = [{"name": "find_order", "input_schema": {"type": "object", "properties": {"number": {"type": "string"}}}}]
CALL = replies.tool_use("find_order", {"number": "7"})
HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21", "content-type": "application/json"}
MODIFIED = (
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
    "These blocks must remain as they were in the original response."
)


def user(text="Where is order 7?"):
    return {"role": "user", "content": text}


def said(message):
    return {"role": "assistant", "content": copy.deepcopy(message["content"])}


def results(message):
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": c["id"], "content": "ok"} for c in calls],
    }


def post(emulator, *, betas=(), path="/v1/messages", **body):
    """One request as it goes over the wire; the status and the JSON that comes back."""
    headers = HEADERS | ({"anthropic-beta": ",".join(betas)} if betas else {})
    sent = {"model": BINDS, "max_tokens": 500, "tools": TOOLS} | body
    if path.endswith("count_tokens"):
        del sent["max_tokens"]
    answer = emulator.answer("POST", path, headers, json.dumps(sent).encode())
    return answer.status, json.loads(b"".join(answer.chunks))


def talk(script, *, model=BINDS, seed=0, **fixed):
    """Play a script to its end; the emulator, whose next reply is a text, and the history, which ends with a reply."""
    emulator = Emulator([*script, *["Fine."] * 9], seed=seed)
    history = [user()]
    for number, _ in enumerate(script):
        status, message = post(emulator, messages=history, model=model, **fixed)
        assert status == 200, message
        history.append(said(message))
        if number < len(script) - 1:
            calls = message["stop_reason"] == "tool_use"
            history.append(results(message) if calls else user(f"And then, {number}?"))
    return emulator, history


def goes_on(history):
    """The history with what belongs after its last reply."""
    last = history[-1]["content"]
    is_call = any(block["type"] == "tool_use" for block in last)
    return [*history, results({"content": last}) if is_call else user("Go on.")]


def refused(answer):
    status, body = answer
    assert status == 400, body
    assert body["error"]["type"] == "invalid_request_error"
    return body["error"]["message"]


THOUGHT = replies.thinking("Look it up.", then=CALL)
TWICE = replies.thinking("One.", then=replies.after([{"type": "text", "text": "Hm."}], then=THOUGHT))
THREE = replies.thinking("a", then=replies.thinking("b", then=replies.thinking("c", then=CALL)))


# ── R31, R32: thinking comes back as it was ─────────────────────────────────────────────────────────────────────────


def test_thinking_that_comes_back_as_it_was_is_accepted():
    """R31, R32, R35 refuse nothing that was only appended to, over a long tool loop with interleaved thinking."""
    script = [THOUGHT, TWICE, replies.redacted_thinking(then=CALL), THREE, replies.thinking("", then=replies.text("x"))]
    emulator, history = talk(script, system="Be kind.")
    assert post(emulator, messages=goes_on(history), system="Be kind.")[0] == 200


def swap(content):
    content[0], content[1] = content[1], content[0]


R31 = {
    "a block edited in an open tool loop": (THOUGHT, lambda c: c[0].update(thinking="Else."), 0),
    "dropped from the middle": (THREE, lambda c: c.pop(1), 1),
    "the first of several dropped": (THREE, lambda c: c.pop(0), 0),
    "the last of several dropped": (THREE, lambda c: c.pop(2), 1),
    "reordered": (THREE, swap, 0),
    "moved before the text": (TWICE, lambda c: c.insert(1, c.pop(2)), 1),
    "the text before it edited": (TWICE, lambda c: c[1].update(text="Hum."), 2),
    "copied": (THREE, lambda c: c.insert(1, c[0]), 1),
}


@pytest.mark.parametrize("model", [BINDS, FREE])
@pytest.mark.parametrize("name", R31)
def test_r31_the_latest_assistant_turn_is_not_modified(name, model):
    """R31 holds for every model, binding or not, with the API's text and the place of the block."""
    reply, change, at = R31[name]
    emulator, history = talk([reply], model=model)
    change(history[-1]["content"])
    assert refused(post(emulator, messages=goes_on(history), model=model)) == f"messages.1.content.{at}: {MODIFIED}"


def test_r31_two_replies_of_one_turn_keep_their_thinking_apart():
    """R31, R6: hoisting the thinking of a continued pause before the first reply's text is a modification."""
    found = replies.server_tool("web_search", {"query": "x"}, [])
    script = [replies.thinking("a", then=replies.pause(*found)), replies.thinking("b", then=replies.text("Done."))]
    emulator = Emulator([*script, "Fine."])
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    paused = said(post(emulator, messages=[user()], tools=tools)[1])
    ended = said(post(emulator, messages=[user(), paused], tools=tools)[1])
    merged = {"role": "assistant", "content": [*paused["content"], *ended["content"]]}
    first, *rest = merged["content"]
    hoisted = {"role": "assistant", "content": [first, ended["content"][0], *rest[:2], *rest[3:]]}
    assert (
        refused(post(emulator, messages=[user(), hoisted, user()], tools=tools)) == f"messages.1.content.1: {MODIFIED}"
    )
    assert post(emulator, messages=[user(), merged, user()], tools=tools)[0] == 200


def test_thinking_may_be_left_out_as_a_whole():
    """The prefix check says: all thinking, or a leading run of it, may be removed."""
    emulator, history = talk([replies.thinking(str(n), then=replies.text(str(n))) for n in range(3)])
    bare = copy.deepcopy(history)
    for message in bare[1::2]:
        del message["content"][0]
    assert post(emulator, messages=goes_on(bare))[0] == 200
    leading = copy.deepcopy(history)
    del leading[1]["content"][0]
    assert post(emulator, messages=goes_on(leading))[0] == 200


FORGED = "QUJD" * 30


@pytest.mark.parametrize("model", [BINDS, FREE])
@pytest.mark.parametrize(
    ("reply", "change", "words"),
    [
        (
            replies.thinking("a", then=replies.text("x")),
            {"signature": FORGED},
            "Invalid `signature` in `thinking` block",
        ),
        (replies.thinking("a", then=replies.text("x")), {"signature": "?"}, "Invalid `signature` in `thinking` block"),
        (replies.thinking("a", then=replies.text("x")), {"thinking": "b"}, "Invalid `signature` in `thinking` block"),
        (
            replies.redacted_thinking(then=replies.text("x")),
            {"data": FORGED},
            "Invalid `data` in `redacted_thinking` block",
        ),
    ],
)
def test_r32_a_bad_signature(reply, change, words, model):
    """R32, and it is no matter of the prefix: no sentence about another conversation follows."""
    emulator, history = talk([reply, replies.text("y")], model=model)
    history[1]["content"][0].update(change)
    assert refused(post(emulator, messages=goes_on(history), model=model)) == f"messages.1.content.0: {words}"


def test_r32_another_emulator_has_another_key_and_the_same_seed_the_same():
    _, history = talk([replies.thinking("a", then=replies.text("x"))])
    assert "Invalid `signature`" in refused(post(Emulator(["Fine."], seed=1), messages=goes_on(history)))
    assert post(Emulator(["Fine."]), messages=goes_on(history))[0] == 200


# ── R35: thinking is bound to what came before it ───────────────────────────────────────────────────────────────────

SYSTEM, OTHER = "The `system` prompt", "The `tools` list"
MISSING = "Content that preceded this block when it was created is missing from this request, starting at `{}`."
BOUND = (
    "messages.{}: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the "
    'block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block". That setting requires the '
    "`thinking-binding-controls-2026-08-01` value in the `anthropic-beta` header."
)


def loop():
    """Two finished turns and an open tool loop, all with thinking."""
    one = replies.thinking("a", then=replies.text("x"))
    return talk([one, one, THOUGHT], system="Be kind.")


def edit_first(history):
    history[0]["content"] = "Where is order 8?"


def trim(history):
    del history[:2]


def summarise(history):
    history[:2] = [user("They asked for order 7."), {"role": "assistant", "content": "I said x."}]


R35 = {
    "system": (
        {"system": "Be brief."},
        None,
        "1.content.0",
        f"{SYSTEM} differs from the one this block was created with.",
    ),
    "no system": ({"system": None}, None, "1.content.0", f"{SYSTEM} differs from the one this block was created with."),
    "no tools": ({"tools": None}, None, "1.content.0", f"{OTHER} differs from the one this block was created with."),
    "one tool more": (
        {"tools": [*TOOLS, {"name": "b", "input_schema": {"type": "object"}}]},
        None,
        "1.content.0",
        f"{OTHER} differs from the one this block was created with.",
    ),
    "a tool described": (
        {"tools": [{**TOOLS[0], "description": "Looks up."}]},
        None,
        "1.content.0",
        f"{OTHER} differs from the one this block was created with.",
    ),
    "the first message edited": ({}, edit_first, "1.content.0", MISSING.format("messages.0.content.0")),
    "old turns trimmed": ({}, trim, "1.content.0", MISSING.format("messages.0.content.0")),
    "old turns summarised": ({}, summarise, "3.content.0", MISSING.format("messages.0.content.0")),
    "a reminder put in": (
        {},
        lambda h: h[2].update(content=[{"type": "text", "text": h[2]["content"]}, {"type": "text", "text": "Hurry."}]),
        "3.content.0",
        MISSING.format("messages.2.content.1"),
    ),
    "an earlier reply edited": (
        {},
        lambda h: h[1]["content"][1].update(text="y"),
        "3.content.0",
        MISSING.format("messages.1.content.1"),
    ),
    "a gap in the thinking": ({}, lambda h: h[3]["content"].pop(0), "5.content.0", ""),
}


@pytest.mark.parametrize("name", R35)
def test_r35_the_prefix_is_bound(name):
    """R35 with the API's text: the first block that fails, the header that is missing, and which part differs."""
    changed, change, at, hint = R35[name]
    emulator, history = loop()
    if change:
        change(history)
    body = {"system": "Be kind."} | changed
    if changed.get("tools", TOOLS) is None:  # R19e: a history with calls needs tools
        history = history[:4]
    sent = {key: value for key, value in body.items() if value is not None}
    if "tools" in body and body["tools"] is None:
        answer = post(emulator, messages=goes_on(history), **sent, tools=[])
    else:
        answer = post(emulator, messages=goes_on(history), **sent)
    assert refused(answer) == f"{BOUND.format(at)} {hint}".strip()


@pytest.mark.parametrize("name", R35)
def test_r35_is_not_enforced_for_models_that_do_not_bind(name):
    """R35 names the models; others only sign the text."""
    changed, change, *_ = R35[name]
    one = replies.thinking("a", then=replies.text("x"))
    emulator, history = talk([one, one, THOUGHT], system="Be kind.", model=FREE)
    if change:
        change(history)
    sent = {"system": "Be kind.", "tools": TOOLS} | changed
    sent = {key: value for key, value in sent.items() if value is not None}
    if "tools" not in sent:
        history, sent["tools"] = history[:4], []
    assert post(emulator, messages=goes_on(history), model=FREE, **sent)[0] == 200


def test_r35_an_unknown_model_is_taken_for_one_that_binds():
    emulator, history = talk([replies.thinking("a", then=replies.text("x"))], model="claude-unheard-of")
    message = refused(post(emulator, messages=goes_on(history), model="claude-unheard-of", system="Else."))
    assert "bound to a different conversation" in message


LEGAL = {
    "a cache mark": lambda body: body["messages"][-1].update(
        content=[{"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}}]
    ),
    "a system of blocks": lambda body: body.update(system=[{"type": "text", "text": "Be kind."}]),
    "a text as blocks": lambda body: body["messages"][0].update(
        content=[{"type": "text", "text": "Where is order 7?"}]
    ),
    "another order of keys": lambda body: body.update(tools=[dict(reversed(TOOLS[0].items()))]),
    "another max_tokens": lambda body: body.update(max_tokens=900),
    "a tool choice": lambda body: body.update(tool_choice={"type": "none"}),
    "an effort": lambda body: body.update(output_config={"effort": "low"}),
    "a deferred tool": lambda body: body.update(
        tools=[*TOOLS, {"name": "later", "input_schema": {"type": "object"}, "defer_loading": True}]
    ),
}


@pytest.mark.parametrize("name", LEGAL)
def test_r35_what_is_no_edit(name):
    """R35: marks, parameters outside the three fields, deferred tools and other spellings of the same."""
    emulator, history = talk([replies.thinking("a", then=replies.text("x"))] * 2, system="Be kind.")
    body = {"messages": goes_on(history), "system": "Be kind."}
    LEGAL[name](body)
    assert post(emulator, **body)[0] == 200


def test_r35_a_system_message_at_the_end_is_legal():
    """R35, R8: instructions are appended, not rebuilt."""
    model = "claude-opus-5-5"
    emulator, history = talk([replies.thinking("a", then=replies.text("x"))], model=model)
    more = [*history, user("Go on."), {"role": "system", "content": "Answer in French."}]
    assert post(emulator, messages=more, model=model)[0] == 200


def test_r35_drop_block_lets_the_request_pass_and_says_what_was_dropped():
    """R35: with `drop_block` the failing block and all after it are left out, unbilled, and listed."""
    emulator, history = loop()
    body = {"messages": goes_on(history), "system": "Be brief."}
    binding = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    assert "block_binding: Extra inputs are not permitted" in refused(post(emulator, **body, thinking=binding))
    status, message = post(emulator, **body, thinking=binding, betas=[BINDING_BETA])
    assert status == 200
    assert message["input_transformations"] == [
        {"type": "thinking_dropped", "path": f"messages.{turn}.content.0", "reason": "prefix_binding_mismatch"}
        for turn in (1, 3, 5)
    ]
    whole = post(emulator, path="/v1/messages/count_tokens", **(body | {"system": "Be kind."}))[1]["input_tokens"]
    assert message["usage"]["input_tokens"] < whole
    error = binding | {"block_binding": {"prefix_mismatch_behavior": "error"}}
    text = refused(post(emulator, **body, thinking=error, betas=[BINDING_BETA]))
    assert BINDING_BETA not in text  # the header was sent
    assert text.endswith(f"{SYSTEM} differs from the one this block was created with.")


def test_thinking_of_another_model_is_left_out_without_an_error():
    """Preserved thinking: what the model cannot read is dropped, and listed under the header."""
    emulator, history = talk([replies.thinking("a", then=replies.text("x"))], model=FREE)
    status, message = post(emulator, messages=goes_on(history), betas=[BINDING_BETA])
    assert status == 200
    assert [each["reason"] for each in message["input_transformations"]] == ["model_binding_mismatch"]


@given(seed=st.integers(0, 999), data=st.data())
@settings(max_examples=40, deadline=None)
def test_r35_any_edit_before_the_last_thinking_is_found(seed, data):
    """R35: whichever earlier block is changed, dropped or doubled, the last thinking no longer fits."""
    one = replies.thinking("a", then=replies.text("x"))
    emulator, history = talk([one, THOUGHT, one], seed=seed)
    places = [
        (t, b) for t, m in enumerate(history[:-1]) for b in range(len(m["content"])) if isinstance(m["content"], list)
    ]
    turn, at = data.draw(st.sampled_from(places))
    block = history[turn]["content"][at]
    if block["type"] == "text":
        block["text"] += "!"
    elif block["type"] == "tool_use":
        block["input"] = {"number": "8"}
    elif block["type"] == "tool_result":
        block["content"] = "shortened"
    elif turn > 1:
        del history[turn]["content"][at]  # thinking, not the leading one
    else:
        block["signature"] = FORGED
    assert "Invalid `signature`" in refused(post(emulator, messages=goes_on(history)))


# ── compaction ──────────────────────────────────────────────────────────────────────────────────────────────────────

COMPACT_BETA = "compact-2026-09-04"
COMPACT = {"compaction": {"type": "summarize"}, "betas": [COMPACT_BETA]}


def compacted():
    """Two turns and their summary; the emulator, the history and the summary as a message."""
    one = replies.thinking("a", then=replies.text("x"))
    emulator = Emulator([one, one, replies.compaction(), one, one, "Fine."])
    history = [user()]
    for _ in range(2):
        history += [said(post(emulator, messages=history)[1]), user("Go on.")]
    status, summary = post(emulator, messages=history[:-1], **COMPACT)
    assert status == 200, summary
    return emulator, history, said(summary)


def test_a_summary_stands_for_what_it_replaced():
    """S10.2, R35: after the swap new thinking is bound to the summary, also what was thought while it was made."""
    emulator, history, summary = compacted()
    status, meanwhile = post(emulator, messages=history)
    assert status == 200
    swapped = [summary, user("Go on."), said(meanwhile), user("More.")]
    status, message = post(emulator, messages=swapped, betas=[COMPACT_BETA])
    assert status == 200, message
    assert post(emulator, messages=[*swapped, said(message), user("Last.")], betas=[COMPACT_BETA])[0] == 200


def test_r70_a_summary_comes_back_as_it_was():
    emulator, _, summary = compacted()
    summary["content"][0]["content"] += " And more."
    status, body = post(emulator, messages=[summary, user()], betas=[COMPACT_BETA])
    assert status == 400
    assert body["error"]["details"]["error_code"] == "compaction_signature_invalid"


# ── profiles, envelope, headers ─────────────────────────────────────────────────────────────────────────────────────


ENABLED = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"model": FREE, "messages": [user(), {"role": "assistant", "content": "I"}]}, "assistant message prefill"),
        ({"model": "claude-opus-5-5", "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"model": "claude-opus-4-7", "max_tokens": 2000, "thinking": ENABLED}, "thinking.type.enabled"),
        ({"model": "claude-haiku-4-5", "thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
        ({"model": "claude-fable-5-1", "thinking": {"type": "disabled"}}, "thinking.type.disabled"),
        ({"model": "claude-haiku-4-5", "max_tokens": 64_001}, "max_tokens: 64001 > 64000, which is the maximum"),
        ({"model": FREE, "temperature": 1.0}, "temperature"),
        ({"model": FREE, "surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"model": FREE, "messages": [user("word " * 5_000_000)]}, "prompt is too long: "),
    ],
)  # fmt: skip
def test_v6_what_a_model_refuses(body, words):
    """V6: prefill (R25), forced choice (R36), thinking modes (R34), caps (R46), sampling (R4a), R3, window (R60)."""
    emulator = Emulator(["never"])
    assert words in refused(post(emulator, **({"messages": [user()]} | body)))
    assert len(emulator.unconsumed) == 1


def test_v6_not_strict_asks_no_model():
    emulator = Emulator(["Fine."], strict=False)
    assert post(emulator, model=FREE, messages=[user(), {"role": "assistant", "content": "I"}])[0] == 200


def test_r54_a_body_that_is_too_large_in_process():
    answer = Emulator([]).answer("POST", "/v1/messages", HEADERS, b" " * (32 * 1024 * 1024 + 1))
    assert answer.status == 413
    assert json.loads(answer.chunks[0])["error"]["type"] == "request_too_large"


def test_v1_both_keys_and_both_versions():
    emulator = Emulator(["Fine."] * 4)
    body = json.dumps({"model": FREE, "max_tokens": 9, "messages": [user()]}).encode()
    for key in ({"x-api-key": "k"}, {"authorization": "Bearer k"}):
        for version in ("2023-06-01", "2026-10-21"):
            headers = key | {"anthropic-version": version, "content-type": "application/json"}
            assert emulator.answer("POST", "/v1/messages", headers, body).status == 200
    emulator.done()


def test_e26_rate_limit_headers_count_down_and_refill():
    """E26: four buckets, RFC 3339 resets, on answers and on 429s; they refill by the clock."""
    now = [0.0]
    emulator = Emulator(["a", "b", replies.rate_limited(), "c"], clock=lambda: now[0])
    client = emulator.client()
    seen = []
    for number in range(4):
        now[0] = 600.0 if number == 3 else 0.0
        try:
            raw = client.messages.with_raw_response.create(model=FREE, max_tokens=9, messages=[user("word " * 4000)])
            seen.append(raw.headers)
        except anthropic.RateLimitError as error:
            seen.append(error.response.headers)
    left = [int(headers["anthropic-ratelimit-input-tokens-remaining"]) for headers in seen]
    assert left[0] > left[1] == left[2]
    assert left[3] == left[0]
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        assert {f"anthropic-ratelimit-{name}-{what}" for what in ("limit", "remaining", "reset")} <= set(seen[0])
        assert seen[2][f"anthropic-ratelimit-{name}-reset"].endswith("Z")


def test_s5_5_a_request_for_no_tokens_only_warms_the_cache():
    """S5.5: empty content, `max_tokens`, and the reply of the script is left for the next request."""
    emulator = Emulator(["Fine."])
    body = {"messages": [user("word " * 2000)], "cache_control": {"type": "ephemeral"}, "model": FREE}
    status, warmed = post(emulator, **body, max_tokens=0)
    assert (status, warmed["content"], warmed["stop_reason"], warmed["usage"]["output_tokens"]) == (
        200,
        [],
        "max_tokens",
        0,
    )
    assert post(emulator, **body)[1]["usage"]["cache_read_input_tokens"] > 1024


# ── the prompt cache ────────────────────────────────────────────────────────────────────────────────────────────────

LONG = "A sentence of a long prompt. " * 400
MARK = {"type": "ephemeral"}


def usage(emulator, **body):
    status, message = post(emulator, **({"model": FREE} | body))
    assert status == 200, message
    found = message["usage"]
    parts = found["cache_creation"]
    assert sum(parts.values()) == found["cache_creation_input_tokens"]
    return found["cache_read_input_tokens"], found["cache_creation_input_tokens"], found["input_tokens"]


def marked(text, ttl=None):
    return {"type": "text", "text": text, "cache_control": MARK | ({"ttl": ttl} if ttl else {})}


def test_without_a_mark_nothing_is_cached():
    emulator = Emulator(["a"] * 2)
    body = {"system": LONG, "messages": [user()]}
    assert usage(emulator, **body) == usage(emulator, **body)
    assert usage(Emulator(["a"]), **body)[:2] == (0, 0)


def test_a_conversation_with_automatic_caching_reads_all_but_what_is_new():
    """CACHE: the top-level mark moves forward with the last block; each turn reads what the one before wrote."""
    emulator = Emulator(["A reply."] * 12)
    history, before = [user()], 0
    for _ in range(12):
        status, message = post(emulator, model=FREE, system=LONG, messages=history, cache_control=MARK)
        assert status == 200
        found = message["usage"]
        assert found["cache_read_input_tokens"] == before
        assert found["input_tokens"] == 0
        before += found["cache_creation_input_tokens"]
        history += [said(message), user("And then?")]


def test_r48_marks_in_tools_system_and_messages_are_read_apart():
    """CACHE: a change loses what comes after it, in the order tools, system, messages."""
    tools = [{**TOOLS[0], "description": LONG, "cache_control": MARK}]
    body = {"tools": tools, "system": [marked(LONG)], "messages": [{"role": "user", "content": [marked(LONG)]}]}
    emulator = Emulator(["a"] * 20)
    read, written, plain = usage(emulator, **body)
    assert (read, plain) == (0, 0)
    assert usage(emulator, **body) == (written, 0, 0)
    messages_lost, new, _ = usage(emulator, **body | {"messages": [{"role": "user", "content": [marked(LONG + "!")]}]})
    system_lost, more, _ = usage(emulator, **body | {"system": [marked(LONG + "?")]})
    assert 0 < system_lost < messages_lost < written
    assert new < more
    tools_lost, everything, _ = usage(emulator, **body | {"tools": [tools[0] | {"description": LONG + "?"}]})
    assert (tools_lost, everything) == (0, written)
    assert usage(emulator, **body | {"tool_choice": {"type": "none"}})[0] == messages_lost
    assert usage(emulator, **body | {"thinking": {"type": "disabled"}})[0] == messages_lost
    assert usage(emulator, **body | {"model": "claude-sonnet-4-6"})[0] == 0
    assert usage(emulator, **body | {"max_tokens": 7, "metadata": {"user_id": "u"}})[0] == written


@pytest.mark.parametrize(("ttl", "lives"), [("5m", 300), ("1h", 3600)])
def test_an_entry_lives_for_its_ttl_and_a_use_prolongs_it(ttl, lives):
    now = [0.0]
    emulator = Emulator(["a"] * 5, clock=lambda: now[0])
    body = {"system": [marked(LONG, ttl)], "messages": [user()]}
    written = usage(emulator, **body)[1]
    reads = []
    for now[0] in (lives - 1, 2 * lives - 2, 3 * lives - 1):
        reads.append(usage(emulator, **body)[0])
    assert reads == [written, written, 0]


def test_two_ttls_are_counted_apart():
    emulator = Emulator(["a"])
    body = {"system": [marked(LONG, "1h")], "messages": [{"role": "user", "content": [marked(LONG)]}]}
    status, message = post(emulator, model=FREE, **body)
    assert status == 200
    assert all(count > 1024 for count in message["usage"]["cache_creation"].values())


def test_what_is_too_small_is_not_cached():
    """CACHE: the smallest prefix is 1024 tokens, for some models another number."""
    assert (least_of("claude-sonnet-5"), least_of("claude-opus-5"), least_of("claude-haiku-4-5")) == (1024, 512, 4096)
    words = "A sentence of a long prompt. " * 100
    body = {"system": [marked(words)], "messages": [user()]}
    for model, is_cached in ((FREE, False), ("claude-opus-5", True)):
        assert (usage(Emulator(["a"]), **body, model=model)[1] > 0) is is_cached


def test_a_breakpoint_looks_back_twenty_blocks():
    """CACHE: an entry that is further behind is not found."""
    first = [{"type": "text", "text": LONG}]
    for more, is_found in ((19, True), (20, False)):
        emulator = Emulator(["a"] * 2)
        usage(emulator, messages=[{"role": "user", "content": first}], cache_control=MARK)
        blocks = [*first, *({"type": "text", "text": f"{n}"} for n in range(more))]
        read = usage(emulator, messages=[{"role": "user", "content": blocks}], cache_control=MARK)[0]
        assert (read > 0) is is_found


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"system": [marked(str(n)) for n in range(5)]},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        ({"system": [marked("a"), marked("b", "1h")]}, "a ttl='1h' cache_control block must not come after a ttl='5m'"),
        ({"system": [marked(str(n)) for n in range(4)], "cache_control": MARK}, "cache_control"),
        ({"system": [marked("")]}, "system.0: cache_control cannot be set for empty text blocks"),
    ],
)
def test_marks_that_are_refused(body, words):
    """R23, R48, R49, R50."""
    assert words in refused(post(Emulator(["never"]), messages=[user()], **body))


@given(
    turns=st.lists(st.tuples(st.text(max_size=3000), st.booleans()), min_size=1, max_size=6),
    automatic=st.booleans(),
    marks=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_usage_always_adds_up_to_what_count_tokens_says(turns, automatic, marks):
    """The tokens of a prompt are the sum of its blocks': read, written and plain together are what is counted."""
    emulator = Emulator(["a"] * 20)
    system = [marked(LONG)] * min(marks, 1)
    history, before = [], 0
    for text, is_marked in turns:
        blocks = [
            marked(text + ".") if is_marked and marks > len(history) // 2 + 1 else {"type": "text", "text": text + "."}
        ]
        history.append({"role": "user", "content": blocks})
        body = {"messages": history, "model": FREE} | ({"system": system} if system else {})
        body |= {"cache_control": MARK} if automatic else {}
        total = sum(usage(emulator, **body))
        counted = post(emulator, path="/v1/messages/count_tokens", **body)[1]["input_tokens"]
        assert total == counted > before
        before = counted
        history.append({"role": "assistant", "content": "a"})


# ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_r71_one_continuation_at_a_time():
    """R71: while one is being answered another is `thread_continue_in_flight`; after it, `thread_already_continued`."""
    emulator = Emulator(["a", "b", "c"])
    client = emulator.client()
    fixed = {"model": FREE, "max_tokens": 9, "betas": [THREADS_BETA]}
    first = client.beta.messages.create(**fixed, messages=[user()], thread={"type": "create"})
    more = fixed | {"messages": [user()], "thread": {"type": "continue", "previous_message_id": first.id}}
    with client.beta.messages.create(**more, stream=True) as stream:
        next(iter(stream))
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.messages.create(**more)
    assert caught.value.error_code == "thread_continue_in_flight"
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.messages.create(**more)
    assert caught.value.error_code == "thread_already_continued"


@pytest.mark.parametrize(
    "field",
    [{"cache_control": MARK}, {"thinking": {"type": "adaptive"}}, {"fallbacks": [{"model": "claude-opus-4-8"}]}],
)
def test_r71_what_a_thread_does_not_support(field):
    status, body = post(Emulator([]), messages=[user()], thread={"type": "create"}, betas=[THREADS_BETA], **field)
    assert (status, body["error"]["details"]) == (
        400,
        {"error_code": "thread_unsupported_request", "unsupported": list(field)},
    )


# ── assert_legal ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_v10_assert_legal_names_every_rule_that_is_broken():
    call = {"type": "tool_use", "id": "toolu_1", "name": "find_order", "input": {}}
    history = [user(), {"role": "assistant", "content": [call]}, user("")]
    with pytest.raises(AssertionError) as caught:
        assert_legal(history)
    assert "R10 at messages.1" in str(caught.value)
    assert "toolu_1" in str(caught.value)
    history[2] = results({"content": [call]})
    assert_legal(history)
    body = {"model": FREE, "messages": history, "tools": TOOLS}
    with pytest.raises(AssertionError, match="R4 at max_tokens: max_tokens: Field required"):
        assert_legal(body)
    assert_legal(body | {"max_tokens": 9})
    with pytest.raises(TypeError, match="a recorded request"):
        assert_legal("messages")


def test_v10_assert_legal_judges_by_the_model():
    history = [user(), {"role": "assistant", "content": "I"}]
    assert_legal(history)
    with pytest.raises(AssertionError, match="R25"):
        assert_legal(history, model=FREE)


def test_v10_assert_legal_takes_what_an_emulator_recorded():
    emulator = Emulator(["a", "b"])
    with serve(emulator) as server, server.client() as client:
        client.messages.count_tokens(model=FREE, messages=[user()])
        client.messages.create(model=FREE, max_tokens=9, messages=[user()])
    assert len(emulator.requests) == 2
    for recorded in emulator.requests:
        assert_legal(recorded)
    with pytest.raises(anthropic.BadRequestError):
        emulator.client().messages.create(model=FREE, max_tokens=9, messages=[])
    with pytest.raises(AssertionError, match="R4"):
        assert_legal(emulator.requests[-1])


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def raw_stream(reply, **options):
    body = {"model": FREE, "max_tokens": 99, "messages": [user()], "stream": True}
    answer = Emulator([reply], **options).answer("POST", "/v1/messages", HEADERS, json.dumps(body).encode())
    return b"".join(answer.chunks)


def test_v5_pings_have_a_space_and_deltas_are_padded():
    """V5, section 4: both occur live, so whoever compares bytes instead of parsing fails here."""
    body = b"".join(raw_stream(replies.text("a" * length)) for length in range(1, 8))
    assert b'event: ping\ndata: {"type": "ping"}\n\n' in body
    lines = [line for line in body.split(b"\n") if line.startswith(b'data: {"type":"content_block_delta"')]
    assert {line.endswith(b" ") for line in lines} == {True, False}


@given(text=st.text(min_size=1), size=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_v5_any_chunking_gives_the_same_message(text, size):
    body = {"model": FREE, "max_tokens": 99, "messages": [user()]}
    with Emulator([replies.text(text)], chunk=size).client().messages.stream(**body) as stream:
        assert stream.get_final_text() == text


def test_v3_ids_are_unique_over_requests_and_lost_answers():
    """V3: a lost answer has ids of its own, and no id comes twice."""
    emulator = Emulator([CALL] * 30)
    seen = []
    for _ in range(30):
        message = post(emulator, model=FREE, messages=[user()])[1]
        seen += [message["id"], message["content"][0]["id"]]
    seen += [request.request_id for request in emulator.requests]
    assert len(set(seen)) == len(seen) == 90


def test_v9_a_foreign_host_is_refused():
    """V9: a page that was rebound to loopback says its own name in Host."""
    with serve(Emulator(["never"])) as server:
        answer = httpx2.post(
            f"{server.url}/v1/messages", headers={"host": "evil.example"}, content=b"{}", trust_env=False
        )
    assert answer.status_code == 421


def test_the_async_client_sees_the_same():
    async def go():
        emulator = Emulator([replies.thinking("a", then=replies.text("x")), "never"])
        async with emulator.async_client() as client:
            body = {"model": BINDS, "max_tokens": 9}
            first = await client.messages.create(**body, messages=[user()])
            with pytest.raises(anthropic.BadRequestError, match="different conversation"):
                await client.messages.create(**body, system="S", messages=[user(), first.to_param(), user()])

    asyncio.run(go())
