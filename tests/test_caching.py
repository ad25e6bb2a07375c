"""Prompt caching by default: what it saves, where it is left out, what may not change beneath it (R35, R48-R50)."""

from __future__ import annotations

from typing import Any

import pytest
from _driving import MODEL, both, go_on
from test_sending import CLOUDS, Cloud

from fsm import (
    Claude,
    Final,
    Human,
    MemoryStore,
    RunError,
    Tools,
    Workflow,
    WorkflowError,
    compact,
    rounds_left,
    run,
    say,
    tool,
)
from fsm._ledger import Ledger, marks_in
from fsm._prices import price_of
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

AUTOMATIC = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
TURNS = 50
WORDS = "The parcel left the warehouse and was seen at the next stop on its way. "


@tool
def look(step: int) -> str:
    """Look where the parcel was at this step."""
    return f"Step {step}: " + WORDS * 6


def loop_of(**given: Any) -> type[Workflow]:
    state = Claude(**{"model": MODEL, "max_tokens": 1000, "tools": [look], **given})

    class Looking(Workflow):
        asking = state
        calling = Tools()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    return Looking


def heads(emulator: Emulator) -> list[Any]:
    """The top-level `cache_control` of each request; "none" where there is none."""
    return [request.body.get("cache_control", "none") for request in emulator.requests]


def marked(text: str = "x", mark: Any = AUTOMATIC) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": mark}


# ── what it saves ───────────────────────────────────────────────────────────────────────────────────────────────────


def script() -> list[Reply]:
    steps = (replies.tool_use("look", {"step": n}, text=f"Step {n}.") for n in range(TURNS - 1))
    return [*steps, replies.text("Here.")]


def input_price(result: Any) -> float:
    """What the input of a run cost, by the price list that its verdict uses."""
    usages = [record.data["message"]["usage"] for record in result.records if record.kind == "reply"]
    assert len(usages) == TURNS
    prices = [price_of(MODEL, {**usage, "output_tokens": 0}) for usage in usages]
    assert None not in prices
    return sum(price for price in prices if price is not None)


@pytest.mark.parametrize("stream", [False, True])
def test_fifty_turns_cost_a_fifth_for_their_input(*, stream: bool) -> None:
    """Issue 3, part 6: at most 20 % of the same run without caching."""
    system = "You follow parcels. " + WORDS * 40
    cached, emulator = both(loop_of(system=system), "Where is it?", script(), is_async=False, stream=stream)
    plain, other = both(
        loop_of(system=system, cache_control=None), "Where is it?", script(), is_async=False, stream=stream
    )
    assert heads(emulator) == [AUTOMATIC] * TURNS
    assert heads(other) == ["none"] * TURNS
    assert [r.body["messages"] for r in emulator.requests] == [r.body["messages"] for r in other.requests]
    share = input_price(cached) / input_price(plain)
    assert share <= 0.20, f"{share:.1%}"
    # Nothing else makes it cheaper: the same tokens were read, and all of the run costs less by just as much.
    assert cached.verdict.usage.total == plain.verdict.usage.total
    saved = input_price(plain) - input_price(cached)
    assert plain.verdict.price - cached.verdict.price == pytest.approx(saved)


def test_each_request_reads_what_the_one_before_wrote() -> None:
    """CACHE: the mark moves to the last block; nothing before it changes (R35)."""
    result, _ = both(loop_of(system=WORDS * 100), "Where is it?", script()[-6:], is_async=False)
    usages = [record.data["message"]["usage"] for record in result.records if record.kind == "reply"]
    held = 0
    for number, usage in enumerate(usages):
        assert usage["cache_read_input_tokens"] == held, number
        held += usage["cache_creation_input_tokens"]
        assert usage["input_tokens"] < 20


# ── where the state decides ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("given", "sent"), [(HOUR, HOUR), (AUTOMATIC, AUTOMATIC), (None, "none")], ids=str)
def test_what_the_state_says_is_sent(given: Any, sent: Any) -> None:
    _, emulator = both(loop_of(cache_control=given), "Hi.", [replies.text("Hello.")], is_async=False)
    assert heads(emulator) == [sent]


@pytest.mark.parametrize(("marks", "sent"), [(0, AUTOMATIC), (3, AUTOMATIC), (4, "none")])
def test_four_marks_of_one_s_own_leave_no_place(marks: int, sent: Any) -> None:
    """R48, R50: in the system prompt, and in tools just as well."""
    system = [marked(str(n)) for n in range(marks)]
    _, emulator = both(loop_of(system=system), "Hi.", [replies.text("Hello.")], is_async=False)
    assert heads(emulator) == [sent]
    assert emulator.requests[0].status == 200
    search = {"type": "web_search_20250305", "name": "web_search", "cache_control": AUTOMATIC}
    _, emulator = both(
        loop_of(system=system[:-1], tools=[search] if marks else []), "Hi.", [replies.text("Hello.")], is_async=False
    )
    assert heads(emulator) == [sent]


def test_a_mark_of_one_s_own_beside_four_is_refused_at_declaration() -> None:
    """R50, W14."""
    with pytest.raises(WorkflowError, match=r"W14 lawful.*R50"):
        _ = loop_of(system=[marked(str(n)) for n in range(4)], cache_control=AUTOMATIC).plan


@pytest.mark.parametrize(("marks", "sent"), [(2, AUTOMATIC), (3, "none")])
def test_marks_in_the_messages_count_too(marks: int, sent: Any) -> None:
    """R48: those of the input stay there; with the fourth in the request the automatic one gives way for good."""
    given = [*(marked(str(n)) for n in range(marks)), {"type": "text", "text": "Where is it?"}]
    result, emulator = both(loop_of(system=[marked()]), given, script()[-3:], is_async=False)
    assert result.state == "answered"
    assert heads(emulator) == [sent] * 3


def test_marks_in_tool_results_count_and_are_the_last_ones() -> None:
    """R48, R50: a result with a mark inside ends the request, so the API need not set one of its own."""

    @tool
    def look(step: int) -> list[dict[str, Any]]:
        """Look."""
        return [marked(f"Step {step}.")]

    steps = [*(replies.tool_use("look", {"step": n}) for n in range(2)), replies.text("Here.")]
    result, emulator = both(loop_of(tools=[look]), "Where is it?", steps, is_async=False)
    assert result.state == "answered"
    assert heads(emulator) == [AUTOMATIC, "none", "none"]


@pytest.mark.parametrize("mark", [AUTOMATIC, HOUR], ids=["5m", "1h"])
def test_a_marked_last_block_is_not_marked_twice(mark: dict[str, str]) -> None:
    """R50: with another lifetime that would be refused; with the same it would change nothing."""
    result, emulator = both(loop_of(), [marked("Hi.", mark)], script()[-2:], is_async=False)
    assert result.state == "answered"
    assert heads(emulator) == ["none", AUTOMATIC]


def test_a_thread_takes_none() -> None:
    """R71."""
    threaded = loop_of(tools=[], extra_body={"thread": {"type": "create"}})
    _, emulator = both(threaded, "Hi.", [replies.text("Hello.")], is_async=False)
    assert heads(emulator) == ["none"]


def test_marks_are_counted_wherever_they_stand() -> None:
    inside = {"type": "tool_result", "tool_use_id": "t", "content": [marked(), {"type": "text", "text": "y"}]}
    assert marks_in([marked(), inside, {"type": "text", "text": '"cache_control": {}'}]) == 2
    assert marks_in("text") == marks_in(None) == marks_in([{"cache_control": None}, 7]) == 0
    said = Ledger().append_message({"role": "user", "content": [marked(), {"type": "text", "text": "y"}]}).seal()
    assert said.marks == (1, 0)
    assert said.append_message({"role": "user", "content": [marked()]}).seal().marks == (2, 1)
    quoted = Ledger().append_message({"role": "user", "content": [{"type": "text", "text": '{"cache_control": 1}'}]})
    assert quoted.seal().marks == (0, 0)


def test_a_summary_is_asked_for_with_what_is_cached() -> None:
    """S10.2: the same prefix is read once more, so the mark stays; and the request is lawful."""

    class Shrinking(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        done = Final()
        asking.on(end_turn=[asking.when(rounds_left(1)).then(compact, say("Go on.")), done])

    summary = replies.compaction("They greeted.")
    result, emulator = both(Shrinking, "Hi.", [replies.text("Hello."), summary, replies.text("End.")], is_async=False)
    assert result.text == "End."
    assert [("compaction" in r.body, r.body["cache_control"]) for r in emulator.requests] == [
        (False, AUTOMATIC), (True, AUTOMATIC), (False, AUTOMATIC),
    ]  # fmt: skip


# ── clients ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", CLOUDS)
@pytest.mark.parametrize("given", [{}, {"cache_control": HOUR}], ids=["by default", "asked for"])
def test_only_the_old_bedrock_goes_without(path: str, given: dict[str, Any]) -> None:
    """CACHE: it answers 400 to the field, all other platforms take it; what a state asks for is sent as it is."""
    cloud = Cloud([replies.text("Hello.")])
    with CLOUDS[path](cloud.http()) as client:
        assert run(loop_of(**given), "Hi.", client=client).text == "Hello."
    is_bedrock = path.endswith("/invoke")
    assert heads(cloud.emulator) == [given.get("cache_control", "none" if is_bedrock else AUTOMATIC)]


# ── what may not change ─────────────────────────────────────────────────────────────────────────────────────────────


@tool
def seek(step: int) -> str:
    """Seek."""
    return str(step)


def chat_of(**given: Any) -> type[Workflow]:
    state = Claude(**{"model": MODEL, "max_tokens": 100, "tools": [look], "system": "Be brief.", **given})

    class Chatting(Workflow):
        asking = state
        calling = Tools()
        waiting = Human()
        asking.on(tool_use=calling, end_turn=waiting)
        calling.on(tool_results=asking)
        waiting.on(said=asking)

    return Chatting


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"system": "Be long."}, "system in 'asking'"),
        ({"tools": [look, seek]}, "tools in 'asking'"),
        ({"tools": [seek], "system": None}, "system in 'asking', tools in 'asking'"),
        ({"model": "claude-opus-5"}, "model in 'asking'"),
        ({"cache_control": None}, "parameters in 'asking'"),
    ],
    ids=["system", "tools", "both", "model", "parameters"],
)
def test_what_changed_since_the_run_began_is_named(change: dict[str, Any], parts: str) -> None:
    """R35: the state, the part and what to do; nothing is sent and nothing is recorded."""
    store = MemoryStore()
    both(chat_of(), "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r")
    before = tuple(store.read("r"))
    with pytest.raises(RunError) as refused:
        go_on(chat_of(**change), "r", [], journal=store, answer="And now?")
    message = str(refused.value)
    assert f"began with another {parts}: " in message
    assert "(R35)" in message
    assert "after=" in message
    assert tuple(store.read("r")) == before


def thinking_of(model: str, **given: Any) -> type[Workflow]:
    state = Claude(**{"model": model, "max_tokens": 2000, "tools": [look], "system": "Be brief.", **given})

    class Thinking(Workflow):
        asking = state
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking)

    return Thinking


THOUGHT = replies.thinking("Hm.", then=replies.text("Hello."))


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-foo-9"])
@pytest.mark.parametrize(
    ("change", "parts"),
    [({"system": "Be long."}, "system in 'asking'"), ({"tools": [look, seek]}, "tools in 'asking'")],
    ids=["system", "tools"],
)
def test_a_new_run_does_not_go_on_from_thinking_under_another_prefix(
    model: str, change: dict[str, Any], parts: str
) -> None:
    """R35: the API would refuse it; an unknown model is taken for one that binds."""
    first, _ = both(thinking_of(model), "Hi.", [THOUGHT], is_async=False)
    emulator = Emulator([replies.text("Never.")])
    with emulator.client() as client, pytest.raises(RunError) as refused:
        run(thinking_of(model, **change), "And?", client=client, after=first)
    message = str(refused.value)
    assert f"was sent another {parts}: " in message
    assert "(R35)" in message
    assert 'continues="main"' in message
    assert emulator.requests == ()


@pytest.mark.parametrize(
    ("model", "reply", "change"),
    [
        ("claude-opus-5-5", THOUGHT, {}),
        ("claude-opus-5-5", THOUGHT, {"max_tokens": 3000}),
        ("claude-opus-5-5", replies.text("Hello."), {"system": "Be long."}),
        ("claude-opus-5", THOUGHT, {"system": "Be long."}),
    ],
    ids=["the same", "more tokens", "no thinking", "a model that binds nothing"],
)
def test_a_new_run_goes_on_where_nothing_binds(model: str, reply: Reply, change: dict[str, Any]) -> None:
    first, _ = both(thinking_of(model), "Hi.", [reply], is_async=False)
    emulator = Emulator([replies.text("Then.")])
    with emulator.client() as client:
        # Another emulator signs with the same seed, so its blocks are those of the first.
        assert run(thinking_of(model, **change), "And?", client=client, after=first).text == "Then."


def test_a_prefix_that_is_made_anew_each_time_is_noticed() -> None:
    """R35: a `system=` function that says the date is the usual way to break it."""
    told = iter(["It is Monday.", "It is Tuesday."])

    def dated(deps: Any) -> str:
        del deps
        return next(told)

    first, _ = both(thinking_of("claude-opus-5-5", system=dated), "Hi.", [THOUGHT], is_async=False)
    with Emulator([]).client() as client, pytest.raises(RunError, match=r"another system in 'asking'.*R35"):
        run(thinking_of("claude-opus-5-5", system=dated), "And?", client=client, after=first)
