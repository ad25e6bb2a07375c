"""Fault plans (V7): each fault on the wire, in process and over sockets, and runs that recover from them."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import Claude, Context, Final, Tools, Workflow, arun, run, tool
from fsm.testing import Emulator, FaultPlan, faults, replies, serve

START = 1_767_225_600.0  # later than the past date of `faults.RETRY_AFTER`
USER = {"role": "user", "content": "Where is order 7?"}
BODY = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": [USER]}
HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21", "content-type": "application/json"}


@tool
def find_order(number: str) -> str:
    """Look an order up."""
    return f"order {number}: shipped"


@tool
def refund(ctx: Context[None], number: str) -> str:
    """Pay an order back."""
    return f"order {number}: paid back as {ctx.tool_use_id}"


class Support(Workflow):
    """Finds orders and refunds them."""

    asking = Claude(model="claude-sonnet-5-5", max_tokens=1024, system="Be kind.", tools=[find_order, refund])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


SCRIPT = [
    replies.thinking(
        "Two of them.", then=replies.tool_uses(("find_order", {"number": "7"}), ("refund", {"number": "8"}))
    ),
    replies.thinking("One more.", then=replies.tool_use("find_order", {"number": "9"}, text="Ünd now 🚚:")),
    replies.thinking("", then=replies.text("All are shipped.")),
]


def play(plan, *, stream, script=SCRIPT, is_async=False):
    """One run of the workflow with virtual time: the result, the emulator, and the seconds that it waited."""
    emulator = Emulator(list(script), faults=plan)
    now = [START]

    def sleep(seconds):
        now[0] += seconds

    async def asleep(seconds):
        now[0] += seconds

    options = {"stream": stream, "clock": lambda: now[0], "run_id": "r"}
    if is_async:
        result = asyncio.run(arun(Support, "Hi.", client=emulator.async_client(), sleep=asleep, **options))
    else:
        result = run(Support, "Hi.", client=emulator.client(), sleep=sleep, **options)
    return result, emulator, now[0] - START


def outcome(result, emulator):
    """What must not depend on faults: how it ended, every message, and the bytes of every request that was answered."""
    sent = [
        each.raw for each in emulator.requests if each.status == 200 and (each.fault is None or not lost(each.fault))
    ]
    return result.state, result.text, json.dumps(result.messages), sent


def lost(fault):
    return not fault.startswith(("slow", "unknown event"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_under_any_retryable_faults_ends_as_without_them(stream):
    """V7, R35: the same ledger bytes and the same result, whatever goes wrong on the way, over 150 plans."""
    result, emulator, _ = play(FaultPlan(), stream=stream)
    expected = outcome(result, emulator)
    assert expected[0] == "answered"
    hit = set()
    for seed in range(150):
        result, emulator, waited = play(FaultPlan.random(seed, rate=0.5), stream=stream)
        assert outcome(result, emulator) == expected, f"seed {seed}"
        emulator.done()
        hit |= {each.fault.partition(" ")[0] for each in emulator.requests if each.fault}
        assert (waited > 0) == any(each.fault and lost(each.fault) for each in emulator.requests)
    assert len(hit) > 10


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(faults.RETRYABLE), stream=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_async_run_recovers_too(seed, kind, stream):
    """V7: one kind of fault at a time, so that a failing example names it."""
    expected = outcome(*play(FaultPlan(), stream=stream)[:2])
    plan = FaultPlan.random(seed, rate=0.6, kinds=[kind], longest=2)
    result, emulator, _ = play(plan, stream=stream, is_async=True)
    assert outcome(result, emulator) == expected


def test_a_function_is_asked_once_for_a_reply_that_is_lost():
    """A faulted request does not consume: the function's reply is kept for the request that comes again."""
    asked = []

    def answer(body):
        asked.append(len(body["messages"]))
        return replies.text(f"Answer {len(asked)}.")

    emulator = Emulator(answer, faults=FaultPlan({1: faults.cut(events=3, ends="lost"), 2: faults.row("E16")}))
    client = emulator.client()
    with pytest.raises(httpx2.RemoteProtocolError), client.messages.stream(**BODY) as stream:
        stream.get_final_text()
    with pytest.raises(anthropic.OverloadedError):
        client.messages.create(**BODY)
    with client.messages.stream(**BODY) as stream:
        assert stream.get_final_text() == "Answer 1."
    assert asked == [1]


# ── plans ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_counts_the_requests_that_would_have_been_answered():
    emulator = Emulator(["a", "b"], faults=FaultPlan({2: faults.row("E16")}))
    client = emulator.client()
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**BODY | {"messages": []})
    assert client.messages.create(**BODY).content[0].text == "a"
    assert client.messages.count_tokens(model=BODY["model"], messages=[USER]).input_tokens > 0
    with pytest.raises(anthropic.OverloadedError):
        client.messages.create(**BODY)
    assert client.messages.create(**BODY).content[0].text == "b"
    assert [each.fault for each in emulator.requests] == [None, None, None, "overloaded_error 529", None]
    emulator.done()


def test_a_random_plan_is_the_same_for_the_same_seed():
    def drawn(seed, **options):
        plan = FaultPlan.random(seed, **options)
        return [None if (found := plan.at(number)) is None else found.name for number in range(1, 300)]

    first = drawn(1)
    assert first == drawn(1) != drawn(2)
    assert 0.15 < sum(name is not None for name in first) / len(first) < 0.45
    assert not any(drawn(1, rate=0.0))
    always = drawn(1, rate=1.0, longest=2)
    assert [name is None for name in always[:6]] == [False, False, True] * 2
    plan = FaultPlan.random(1, rate=0.7)
    late = plan.at(200)
    assert late == FaultPlan.random(1, rate=0.7).at(200)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: FaultPlan({0: faults.silent()}), "counts requests from 1"),
        (lambda: FaultPlan.random(1, kinds=["nothing"]), "choose from overloaded"),
        (lambda: FaultPlan.random(1, kinds=[]), "choose from"),
        (lambda: FaultPlan.random(1, rate=2), "from 0 to 1"),
        (lambda: faults.row("E99"), "choose from E1"),
        (lambda: faults.thread("nothing"), "choose from thread_already_continued"),
        (faults.cut, "exactly one of"),
        (lambda: faults.cut(events=-1), "0 or more"),
    ],
)
def test_a_wrong_plan_says_what_to_do(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"1": faults.silent()}, "by whole numbers from 1, not '1'"),
        ({True: faults.silent()}, "by whole numbers from 1, not True"),
        ({1: "overloaded"}, "build it with fsm.testing.faults"),
        ({1: faults.row}, "build it with fsm.testing.faults"),
    ],
)
def test_what_is_no_plan_says_what_to_write(plan, words):
    for build in (FaultPlan, lambda plan: Emulator([], faults=plan)):
        with pytest.raises(TypeError, match=words):
            build(plan)


def test_a_plan_may_be_a_dict():
    client = Emulator(["a"], faults={1: faults.row("E16")}).client()
    with pytest.raises(anthropic.OverloadedError):
        client.messages.create(**BODY)
    assert client.messages.create(**BODY).content[0].text == "a"


def test_every_kind_can_be_drawn_and_served():
    """V7: each kind answers, streamed or not, and leaves the script's reply unless it arrives."""
    for name, build in faults.KINDS.items():
        for number in range(20):
            fault = build(Random(number))
            plan = FaultPlan({1: fault})
            emulator = Emulator(["Hi."], faults=plan)
            body = json.dumps(BODY | {"stream": bool(number % 2)}).encode()
            answer = emulator.answer("POST", "/v1/messages", HEADERS, body)
            assert answer.chunks or answer.silent or answer.ending in {"lost", "reset", "stall", "pings", "end"}, name
            assert len(emulator.unconsumed) == (0 if plan.at(1).arrives else 1), name
            assert emulator.requests[0].fault == plan.at(1).name


# ── rows of the error table ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", faults.ROWS)
def test_each_row_has_its_status_and_its_class_in_the_sdk(name):
    """E1-E18: the SDK raises a status error with the status of the row."""
    emulator = Emulator(["never"], faults=FaultPlan({1: faults.row(name)}))
    with pytest.raises(anthropic.APIStatusError) as caught:
        emulator.client().messages.create(**BODY)
    assert caught.value.status_code == faults.ROWS[name].status
    code = ((faults.ROWS[name].error or {}).get("details") or {}).get("error_code")
    assert getattr(caught.value, "error_code", None) == code


@pytest.mark.parametrize("value", faults.RETRY_AFTER)
def test_retry_after_of_any_value_reaches_the_client(value):
    """E21: absent, nothing, negative, long, infinite, no number, a date in the past or the future, garbage."""
    plan = FaultPlan({1: faults.row("E10", retry_after=value, retry_after_ms=7, should_retry=False)})
    with pytest.raises(anthropic.RateLimitError) as caught:
        Emulator([], faults=plan).client().messages.create(**BODY)
    headers = caught.value.response.headers
    assert headers.get("retry-after") == value
    assert (headers["retry-after-ms"], headers["x-should-retry"]) == ("7", "false")


def test_x_should_retry_overrides_what_the_status_says():
    """E20: a 400 that asks for it is tried again by the SDK, a 529 that forbids it is not."""
    plan = FaultPlan(
        {1: faults.row("E1", should_retry=True, retry_after_ms=1), 2: faults.row("E16", should_retry=False)}
    )
    emulator = Emulator(["a"], faults=plan)
    with pytest.raises(anthropic.OverloadedError):
        emulator.client(max_retries=2).messages.create(**BODY)
    assert [each.status for each in emulator.requests] == [400, 529]


@pytest.mark.parametrize(
    "code",
    ["already_continued", "continue_in_flight", "fingerprint_mismatch", "unsupported_request", "not_found"],
)
def test_r71_thread_codes(code):
    plan = FaultPlan({1: faults.thread(f"thread_{code}")})
    with pytest.raises(anthropic.APIStatusError) as caught:
        Emulator([], faults=plan).client().messages.create(**BODY)
    assert caught.value.error_code == f"thread_{code}"


# ── on the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────

ENDS = {
    "eof": None,
    "lost": httpx2.RemoteProtocolError,
    "reset": (httpx2.ReadError, httpx2.RemoteProtocolError),
    "stall": httpx2.ReadTimeout,
    "pings": httpx2.ReadTimeout,
}


def stream_of(url=None, emulator=None, *, timeout=0.3, total=1.0):
    """Read one stream raw: the bytes that came and the error it ended with."""
    http = httpx2.Client(trust_env=False, timeout=timeout) if url else httpx2.Client(transport=emulator.transport())
    came, begun = b"", time.monotonic()
    with (
        http,
        http.stream("POST", f"{url or 'http://x'}/v1/messages", headers=HEADERS, json=BODY | {"stream": True}) as r,
    ):
        try:
            for piece in r.iter_raw():
                came += piece
                if url and time.monotonic() - begun > total:
                    raise httpx2.ReadTimeout("pings went on")
        except httpx2.TransportError as error:
            return came, error
    return came, None


@pytest.mark.parametrize("over_http", [False, True])
@pytest.mark.parametrize("ends", ENDS)
def test_a_cut_stream_ends_in_each_way(ends, over_http):
    """V7: clean EOF, no chunk terminator, RST, silence with the socket open, pings for ever."""
    emulator = Emulator(
        ["A text that is long enough for events."], faults=FaultPlan({1: faults.cut(events=4, ends=ends)})
    )
    if over_http:
        with serve(emulator) as server:
            came, error = stream_of(server.url)
    else:
        came, error = stream_of(emulator=emulator)
    assert type(error) in (ENDS[ends] if isinstance(ENDS[ends], tuple) else (ENDS[ends] or type(None),))
    if ends != "reset":  # what was sent just before an RST may be lost
        assert came.count(b"event: ") - came.count(b"event: ping") >= 3
        assert b"message_stop" not in came
    assert (came.count(b"event: ping") > 3) == (ends == "pings")
    assert len(emulator.unconsumed) == 1


@pytest.mark.parametrize("over_http", [False, True])
@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (faults.silent(), (httpx2.RemoteProtocolError,)),
        (faults.refused(), (httpx2.ReadError, httpx2.RemoteProtocolError)),
        (faults.headers_only(), (httpx2.ReadTimeout,)),
        (faults.cut(after_bytes=20), (httpx2.RemoteProtocolError,)),
        (faults.cut(events=2, ends="reset"), (httpx2.ReadError, httpx2.RemoteProtocolError)),
    ],
)
def test_a_plain_answer_ends_in_each_way(fault, errors, over_http):
    """V7, E27: a body that announced its length never ends early in a clean way."""
    emulator = Emulator(["Hi."], faults=FaultPlan({1: fault}))

    def ask(client):
        with pytest.raises(anthropic.APIConnectionError) as caught:
            client.messages.create(**BODY)
        assert isinstance(caught.value.__cause__, errors)
        assert client.messages.create(**BODY).content[0].text == "Hi."

    if over_http:
        with serve(emulator) as server, server.client(timeout=0.5) as client:
            ask(client)
    else:
        ask(emulator.client())
    emulator.done()


@pytest.mark.parametrize("over_http", [False, True])
@pytest.mark.parametrize(
    "fault", [faults.slow(pace=0.0002), faults.unknown_event(before=2)], ids=["slow", "unknown event"]
)
def test_what_arrives_after_all_is_read_whole(fault, over_http):
    """V5, G9: one byte at a time and unknown events are legal; the reply is used up."""
    emulator = Emulator(["Grüße 🚚"], faults=FaultPlan({1: fault}))

    def ask(client):
        with client.messages.stream(**BODY) as stream:
            assert stream.get_final_text() == "Grüße 🚚"

    if over_http:
        with serve(emulator) as server, server.client() as client:
            ask(client)
    else:
        ask(emulator.client())
    emulator.done()


def test_the_server_closes_at_once_while_it_stalls():
    emulator = Emulator(["Hi."] * 2, faults=FaultPlan({1: faults.stall(), 2: faults.pings()}))
    server = serve(emulator)
    for _ in range(2):
        stream_of(server.url, timeout=0.1, total=0.2)
    begun = time.monotonic()
    server.close()
    assert time.monotonic() - begun < 5


# ── what the run makes of faults that no retry mends ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (faults.unknown_stop(), "failed"),
        (faults.html(), "failed"),
        (faults.body({}), "failed"),
        (faults.body({"type": "error", "error": {"type": "api_error", "message": "x"}}), None),
        (faults.row("E2"), "failed"),
        (faults.row("E11 enforced"), None),
        (faults.row("E1a low credit"), None),
        (faults.unknown_block(), "answered"),
    ],
)
def test_a_run_says_what_happened(fault, state):
    """S11.2, S11.3, E2, E11, E1a: nothing is retried in vain; what is parked can go on."""
    result, emulator, waited = play(FaultPlan({1: fault}), stream=False, script=["Done."])
    assert result.state == state or (state is None and (result.parked or result.state == "failed"))
    assert waited == 0 or result.state == "answered"
    assert len(emulator.requests) == 1


def test_a_repeated_id_is_seen():
    """D1: a faulty gateway repeats calls; the run does not run them twice."""
    result, _, _ = play(FaultPlan({2: faults.repeat_id()}), stream=False)
    assert result.state == "stuck"
