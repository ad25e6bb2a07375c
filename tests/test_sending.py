"""Requests on the wire: bytes, headers, streams, the fall-back for clients that want a dict, one request an attempt."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import pytest
from _driving import MODEL, Clock, Loop, Plain, both, events_of, find, go_on, loop_of, one_call

from fsm import Claude, Final, MemoryStore, UsageError, Workflow, aiterate, arun, iterate, run
from fsm.testing import Emulator, replies, serve
from fsm.testing._requests import RecordedRequest
from fsm.testing.replies import Reply


def messages_bytes(raw: bytes) -> bytes:
    """What stands between the brackets of the messages, which come last in the body."""
    head, _, tail = raw.partition(b'"messages":[')
    assert head.endswith(b",")
    assert tail.endswith(b"]}")
    return tail[:-2]


def call(number: str) -> Reply:
    return replies.tool_use("find", {"number": number}, text="Ich schaue nach: ä 🙂")


LONG = [call("1"), call("2"), replies.max_tokens("Once upon"), replies.overloaded(), replies.text(" a time.")]


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_each_body_begins_with_the_one_before(*, is_async: bool, stream: bool) -> None:
    clock = Clock()
    result, emulator = both(Loop, "Hi. ü", LONG, is_async=is_async, stream=stream, sleep=clock.sleep)

    assert result.state == "answered"
    bodies = [request.raw for request in emulator.requests]
    assert len(bodies) == len(LONG)
    for before, after in pairwise(bodies):
        assert messages_bytes(after).startswith(messages_bytes(before))
    assert bodies[3] == bodies[4], "a retry sends the same bytes"
    for body in bodies:
        parsed = json.loads(body)
        assert list(parsed)[-1] == "messages"
        assert parsed.get("stream", False) is stream
        assert {k: parsed[k] for k in ("model", "max_tokens")} == {"model": MODEL, "max_tokens": 100}


def test_the_model_s_own_bytes_are_echoed() -> None:
    """V-echo2: white space, number forms, escapes and unknown fields of a reply come back as they came."""
    content = '[ {"type":"tool_use","id":"toolu_1","name":"find","input":{"number": "\\u00e4"},"caller":{"x":1.0}} ]'
    raw = (
        '{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5","content":'
        + content
        + ',"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}'
    )
    script = [replies.raw(200, raw.encode(), {"content-type": "application/json"}), replies.text("done")]
    _, emulator = both(Loop, "Hi.", script, is_async=False)

    assert f'{{"role":"assistant","content":{content}}}'.encode() in emulator.requests[1].raw


def bodies_version() -> str:
    """The version of the API that this SDK asks for by itself."""
    emulator = Emulator([replies.text("Hello.")])
    with emulator.client() as client:
        client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi."}])
    return str(emulator.requests[0].headers["anthropic-version"])


@pytest.mark.parametrize("is_async", [False, True])
def test_headers_are_the_client_s_own(*, is_async: bool) -> None:
    _, emulator = both(Plain, "Hi.", [replies.text("Hello.")], is_async=is_async)

    (request,) = emulator.requests
    assert request.path == "/v1/messages"
    assert request.headers["content-type"] == "application/json"
    assert "[redacted]" in {request.headers.get("x-api-key"), request.headers.get("authorization")}
    assert request.headers["anthropic-version"] == bodies_version()
    assert request.headers["x-stainless-retry-count"] == "0"
    assert request.headers["x-stainless-timeout"] == request.headers["x-stainless-read-timeout"] == "600"


# --- clients that need a dict ----------------------------------------------------------------------------------------


def _passes(request: Any, call_next: Any) -> Any:
    return call_next(request)


async def _passes_async(request: Any, call_next: Any) -> Any:
    return await call_next(request)


class OwnClient(anthropic.Anthropic):
    """A user's subclass. It looks at the JSON of a request, as Bedrock's does."""

    def _prepare_options(self, options: Any) -> Any:
        assert isinstance(options.json_data, dict), "no dict to work on"
        return super()._prepare_options(options)


class Aside(anthropic.AsyncAnthropic):
    """A user's async subclass, whose name does not say that it is one."""

    async def _prepare_options(self, options: Any) -> Any:
        assert isinstance(options.json_data, dict), "no dict to work on"
        return await super()._prepare_options(options)


def _bodies(client_of: Callable[[Emulator], Any], *, is_async: bool, stream: bool) -> list[dict[str, Any]]:
    emulator = Emulator([call("1"), replies.text("done")])
    if is_async:

        async def main() -> Any:
            async with client_of(emulator) as client:
                return await arun(Loop, "Hi.", client=client, stream=stream)

        result = asyncio.run(main())
    else:
        with client_of(emulator) as client:
            result = run(Loop, "Hi.", client=client, stream=stream)
    assert result.text == "done"
    assert [r.request_id for r in emulator.requests] == list(result.verdict.request_ids)
    return [request.body or {} for request in emulator.requests]


def _options(emulator: Emulator, *, is_async: bool) -> dict[str, Any]:
    http: Any = (
        httpx2.AsyncClient(transport=emulator.async_transport())
        if is_async
        else httpx2.Client(transport=emulator.transport())
    )
    return {"api_key": "test-key", "base_url": "http://emulator.invalid", "http_client": http, "max_retries": 0}


CLIENTS: dict[str, tuple[bool, Callable[[Emulator], Any]]] = {
    "middleware": (False, lambda e: e.client(middleware=[_passes])),
    "async middleware": (True, lambda e: e.async_client(middleware=[_passes_async])),
    "subclass": (False, lambda e: OwnClient(**_options(e, is_async=False))),
    "async subclass": (True, lambda e: Aside(**_options(e, is_async=True))),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_that_needs_a_dict_sends_the_same(name: str, *, stream: bool) -> None:
    is_async, client_of = CLIENTS[name]
    plain = _bodies(lambda e: e.async_client() if is_async else e.client(), is_async=is_async, stream=stream)

    assert _bodies(client_of, is_async=is_async, stream=stream) == plain


class Everything(Workflow):
    asking = Claude(
        model=MODEL,
        max_tokens=100,
        tools=[find],
        system="Be brief.",
        stop_sequences=["</stop>"],
        tool_choice={"type": "none"},
        metadata={"user_id": "u-1"},
        thinking={"type": "disabled"},
        output={"type": "object", "properties": {}, "additionalProperties": False},
        extra_body={"brand_new": {"x": 1}},
    )
    answered = Final()

    asking.on(end_turn=answered, stop_sequence=answered)


def test_every_parameter_reaches_the_body_both_ways() -> None:
    sent = []
    for middleware in ((), (_passes,)):
        emulator = Emulator([replies.structured({})], strict=False)  # R3: a strict one refuses `brand_new`
        with emulator.client(middleware=middleware) as client:
            assert run(Everything, "Hi.", client=client).state == "answered"
        sent.append(emulator.requests[0].body)
    assert sent[0] == sent[1]
    assert sent[0]["brand_new"] == {"x": 1}
    assert sent[0]["system"] == "Be brief."


class Cloud:
    """The emulator as Bedrock or Vertex: they name the model in the path, and keep their own count of versions."""

    def __init__(self, script: list[Reply]) -> None:
        self.emulator = Emulator(script)
        self.paths: list[str] = []

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        body = json.loads(request.content)
        version = body.pop("anthropic_version")
        headers = {"x-api-key": "k", "anthropic-version": version, "content-type": "application/json"}
        answer = self.emulator.answer("POST", "/v1/messages", headers, json.dumps({"model": MODEL, **body}).encode())
        return httpx2.Response(answer.status, headers=list(answer.headers), content=b"".join(answer.chunks))

    def http(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(self.handle))


CLOUDS: dict[str, Callable[[httpx2.Client], Any]] = {
    f"models/{MODEL}:rawPredict": lambda http: anthropic.AnthropicVertex(
        region="europe-west1", project_id="p", access_token="token", http_client=http
    ),
    f"model/{MODEL}/invoke": lambda http: anthropic.AnthropicBedrock(
        aws_region="eu-central-1", api_key="key", http_client=http
    ),
}


@pytest.mark.parametrize("path", CLOUDS)
def test_bedrock_and_vertex_get_what_they_need(path: str) -> None:
    """They move the model into the path, so they need a dict; the turn is the same."""
    cloud, clock = Cloud([call("1"), replies.overloaded(), replies.text("done")]), Clock()
    with CLOUDS[path](cloud.http()) as client:
        result = run(Loop, "Hi.", client=client, clock=clock, sleep=clock.sleep)

    assert result.text == "done"
    assert len(cloud.paths) == 3, "their own retries are off too"
    assert all(seen.endswith(path) for seen in cloud.paths)
    plain, _ = both(Loop, "Hi.", [call("1"), replies.text("done")], is_async=False)
    sent = cloud.emulator.requests[-1].body or {}
    assert [m["role"] for m in sent["messages"]] == [m["role"] for m in plain.messages[:-1]]


# --- one attempt, one request ----------------------------------------------------------------------------------------

FAILURES = {
    "429": replies.rate_limited(retry_after=1),
    "500": replies.error(500, "api_error", "oh"),
    "529": replies.overloaded(),
    "408": replies.error(408, "timeout_error", "slow"),
    "409": replies.error(409, "conflict_error", "both"),
    "x-should-retry": replies.error(400, "invalid_request_error", "no", headers={"x-should-retry": "true"}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("name", FAILURES)
def test_the_client_s_own_retries_are_off(name: str, *, middleware: bool, stream: bool) -> None:
    """N2: whatever `max_retries` the client was made with, an attempt is one request."""
    random.seed(1)
    clock = Clock()
    emulator = Emulator([FAILURES[name], replies.text("Hello.")])
    with emulator.client(max_retries=5, middleware=[_passes] if middleware else []) as client:
        result = run(Plain, "Hi.", client=client, stream=stream, clock=clock, sleep=clock.sleep)
        assert client.max_retries == 5, "the caller's client is as it was"

    attempts = [r for r in result.records if r.kind == "request"]
    assert len(emulator.requests) == len(attempts) == len(result.verdict.request_ids)


def test_the_client_s_own_timeout_counts() -> None:
    """A reply that comes too late for the client's timeout is a connection error, not ten minutes of waiting."""
    emulator = Emulator([replies.text("late"), replies.text("Hello.")], latency=iter([1.0, 0.0]).__next__)
    clock = Clock()
    with serve(emulator) as server, server.client(timeout=0.15) as client:
        result = run(Plain, "Hi.", client=client, sleep=clock.sleep)

    assert events_of(result.records) == ["connection_error", "end_turn"]


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_tokens", "streamed"), [(21_333, False), (21_334, True)])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_client_would_not_send_is_streamed_by_itself(
    max_tokens: int, *, streamed: bool, is_async: bool
) -> None:
    """E25: above 21,333 tokens the SDK refuses to wait for a whole reply."""

    class Wide(Workflow):
        asking = Claude(model=MODEL, max_tokens=max_tokens)
        answered = Final()
        asking.on(end_turn=answered)

    result, emulator = both(Wide, "Hi.", [replies.text("Hello.")], is_async=is_async)

    assert result.text == "Hello."
    assert (emulator.requests[0].body or {}).get("stream", False) is streamed


@pytest.mark.parametrize("is_async", [False, True])
def test_deltas_come_in_order_and_add_up(*, is_async: bool) -> None:
    words = "A rather long answer, in pieces: " + "ä🙂 " * 30
    seen: list[Any] = []
    result, _ = both(
        Plain, "Hi.", [replies.thinking("Hm.", then=replies.text(words))], is_async=is_async, on_delta=seen.append
    )

    assert result.text == words
    assert "".join(delta.text for delta in seen if delta.kind == "text") == words
    assert len(seen) > 2


def test_an_async_on_delta_is_awaited() -> None:
    seen: list[str] = []

    async def on_delta(delta: Any) -> None:
        await asyncio.sleep(0)
        seen.append(delta.text)

    result, _ = both(Plain, "Hi.", [replies.text("Hello there.")], is_async=True, on_delta=on_delta)
    assert "".join(seen) == result.text == "Hello there."


def test_iterate_gives_deltas_between_moves() -> None:
    emulator = Emulator([call("1"), replies.text("done")])
    with emulator.client() as client:
        items = list(iterate(Loop, "Hi.", client=client, deltas=True))
    kinds = [type(item).__name__ for item in items]
    assert kinds[0] == "Delta"
    assert [str(i) for i, kind in zip(items, kinds, strict=True) if kind == "Move"] == [
        "asking --tool_use--> calling",
        "calling --tool_results--> asking",
        "asking --end_turn--> answered",
    ]
    last = max(n for n, kind in enumerate(kinds) if kind == "Delta")
    assert "".join(i.text for i in items[kinds.index("Move") : last + 1] if hasattr(i, "text")) == "done"


def test_a_stream_that_is_left_is_closed() -> None:
    """Leaving the loop in the middle of a reply gives the connection back, and the run goes on later."""
    store = MemoryStore()
    emulator = Emulator([replies.text("one two three four five six")], chunk=40)
    with emulator.client() as client:
        for item in iterate(Plain, "Hi.", client=client, deltas=True, journal=store, run_id="r"):
            assert type(item).__name__ == "Delta"
            break
    assert [r.kind for r in tuple(store.read("r"))][-1] == "park"
    assert go_on(Plain, "r", [replies.text("Hello.")], journal=store).text == "Hello."


def test_an_async_stream_that_is_left_is_closed() -> None:
    store = MemoryStore()
    closed: list[str] = []

    class Body(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            emulator = Emulator([replies.text("one two three four")], chunk=40)
            headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}
            body = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi."}]}
            for chunk in emulator.answer("POST", "/v1/messages", headers, json.dumps(body).encode()).chunks:
                yield chunk

        async def aclose(self) -> None:
            closed.append("closed")

    def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

    async def main() -> None:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
        async with anthropic.AsyncAnthropic(api_key="k", http_client=http) as client:
            items = aiterate(Plain, "Hi.", client=client, deltas=True, journal=store, run_id="r")
            async for _ in items:
                break
            await items.aclose()
            assert closed == ["closed"]

    asyncio.run(main())
    assert [r.kind for r in tuple(store.read("r"))][-1] == "park"


# --- errors of the connection, over real sockets ---------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_refused_connection_is_retried_then_parked() -> None:
    store, clock = MemoryStore(), Clock()
    options = {"api_key": "k", "base_url": f"http://127.0.0.1:{_free_port()}"}
    with anthropic.Anthropic(**options, http_client=httpx2.Client(trust_env=False)) as client:
        result = run(Plain, "Hi.", client=client, journal=store, run_id="r", clock=clock, sleep=clock.sleep)

    assert events_of(result.records) == ["connection_error"] * 7
    assert (result.parked, result.verdict.reason) == (True, "waiting_api")
    assert len(clock.slept) == 6
    assert go_on(Plain, "r", [replies.text("Hello.")], journal=store).text == "Hello."


@pytest.mark.parametrize("clean", [True, False])
def test_a_stream_cut_on_the_wire_is_sent_again_byte_for_byte(*, clean: bool) -> None:
    """G20, E24: whatever came before the cut is dropped, and no tool of it runs."""
    ran: list[str] = []

    def note(number: str) -> str:
        """Note it."""
        ran.append(number)
        return "noted"

    whole = replies.tool_use("note", {"number": "7"})
    cuts = [replies.cut(whole, after=n, clean=clean) for n in (0, 1, 3, 5)]
    clock = Clock()
    emulator = Emulator([*cuts, whole, replies.text("done")])
    with serve(emulator) as server, server.client() as client:
        result = run(loop_of(note), "Hi.", client=client, stream=True, clock=clock, sleep=clock.sleep)

    assert events_of(result.records) == ["cut_stream"] * 4 + ["tool_use", "tool_results", "end_turn"]
    assert len({request.raw for request in emulator.requests[:5]}) == 1
    assert ran == ["7"]


def test_a_whole_body_cut_on_the_wire_is_sent_again() -> None:
    clock = Clock()
    emulator = Emulator(
        [replies.cut(replies.text("Hello there."), after_bytes=60, clean=False), replies.text("Hello.")]
    )
    with serve(emulator) as server, server.client() as client:
        result = run(Plain, "Hi.", client=client, clock=clock, sleep=clock.sleep)

    assert events_of(result.records) == ["connection_error", "end_turn"]
    assert emulator.requests[0].raw == emulator.requests[1].raw


# --- the retry rows --------------------------------------------------------------------------------------------------


def _retried(script: list[Reply], **options: Any) -> tuple[Any, Clock, tuple[RecordedRequest, ...]]:
    clock = Clock()
    result, emulator = both(Plain, "Hi.", script, is_async=False, clock=clock, sleep=clock.sleep, **options)
    return result, clock, emulator.requests


def test_full_jitter_stays_within_its_bounds() -> None:
    """The n-th wait is drawn from 0 to min(60, 2**n) seconds, and uses the whole of it."""
    random.seed(3)
    waits: list[list[float]] = [[] for _ in range(6)]
    for _ in range(150):
        _, clock, _ = _retried([replies.overloaded()] * 7)
        for number, seconds in enumerate(clock.slept):
            waits[number].append(seconds)
    for number, seen in enumerate(waits):
        bound = min(60.0, 2.0**number)
        assert all(0 <= seconds <= bound for seconds in seen)
        assert max(seen) > 0.9 * bound
        assert min(seen) < 0.1 * bound
        assert len(seen) == 150


@pytest.mark.parametrize(
    "reply",
    [
        replies.rate_limited(retry_after=7),
        replies.overloaded(retry_after=7),
        replies.error(503, "api_error", "busy", headers={"retry-after": "7"}),
        replies.error(500, "api_error", "oh", headers={"retry-after-ms": "7000"}),
    ],
)
def test_retry_after_is_what_an_error_waits(reply: Reply) -> None:
    result, clock, _ = _retried([reply, replies.text("Hello.")])
    assert clock.slept == [7.0]
    assert result.text == "Hello."


def test_retry_after_of_a_success_means_nothing() -> None:
    """E26: most successful answers carry the header too."""
    emulator = Emulator([replies.tool_use("find", {"number": "1"}), replies.text("done")])

    def handle(request: httpx2.Request) -> httpx2.Response:
        answer = emulator.answer("POST", request.url.path, request.headers, request.read())
        headers = [*answer.headers, ("retry-after", "3600")]
        return httpx2.Response(answer.status, headers=headers, content=b"".join(answer.chunks))

    clock = Clock()
    http = httpx2.Client(transport=httpx2.MockTransport(handle))
    with anthropic.Anthropic(api_key="k", http_client=http) as client:
        assert run(Loop, "Hi.", client=client, clock=clock, sleep=clock.sleep).state == "answered"
    assert clock.slept == []


@pytest.mark.parametrize("given", ["-3", "0", "nan", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_useless_retry_after_is_no_wait_of_its_own(given: str) -> None:
    random.seed(5)
    _, clock, _ = _retried([replies.overloaded(retry_after=given), replies.text("Hello.")])
    (slept,) = clock.slept
    assert 0 <= slept <= 1


@pytest.mark.parametrize("given", [61, 3600, "inf"])
def test_a_long_retry_after_parks_and_says_when(given: Any) -> None:
    result, clock, requests = _retried([replies.rate_limited(retry_after=given)])

    assert (result.parked, result.verdict.reason, clock.slept) == (True, "waiting_api", [])
    assert len(requests) == 1
    asked = 4_294_967.0 if given == "inf" else float(given)
    assert result.verdict.evidence["retry_at"] == clock.now + asked
    assert result.verdict.resumable


def test_six_retries_then_it_parks_and_resume_begins_anew() -> None:
    store = MemoryStore()
    result, clock, requests = _retried([replies.overloaded()] * 7, journal=store, run_id="r")

    assert (result.verdict.reason, len(requests), len(clock.slept)) == ("waiting_api", 7, 6)
    assert len({r.raw for r in requests}) == 1
    resumed = go_on(
        Plain, "r", [replies.overloaded()] * 6 + [replies.text("Hello.")], journal=store, clock=clock, sleep=clock.sleep
    )
    assert resumed.text == "Hello."
    assert len(clock.slept) == 12


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_a_spend_cap_parks_at_once(code: str) -> None:
    """E11: waiting does not help."""
    result, clock, requests = _retried([replies.rate_limited(error_code=code)])
    assert (result.verdict.reason, clock.slept, len(requests)) == ("waiting_api", [], 1)
    assert result.verdict.evidence["code"] == code


def test_a_growth_limit_is_waited_for() -> None:
    """E12."""
    result, clock, _ = _retried(
        [replies.rate_limited(error_code="ramp_limit_exceeded", retry_after=3), replies.text("Hi.")]
    )
    assert (result.text, clock.slept) == ("Hi.", [3.0])


def test_any_reply_resets_the_counter() -> None:
    """Six and six retries with a reply between them are not twelve."""
    clock = Clock()
    script = [*[replies.overloaded()] * 6, call("1"), *[replies.overloaded()] * 6, replies.text("done")]
    result, _ = both(Loop, "Hi.", script, is_async=False, clock=clock, sleep=clock.sleep)
    assert (result.text, len(clock.slept)) == ("done", 12)


def test_the_retryable_errors_share_one_counter() -> None:
    mixed = [
        replies.overloaded(),
        replies.rate_limited(),
        replies.error(500, "api_error", "oh"),
        replies.error(409, "conflict_error", "both"),
        replies.error(504, "timeout_error", "slow"),
        replies.cut(replies.text("Hello there."), after_bytes=60, clean=False),
    ]
    result, _, requests = _retried([*mixed, replies.overloaded()])
    assert (result.verdict.reason, len(requests)) == ("waiting_api", 7)


def test_all_waits_together_are_at_most_ten_minutes() -> None:
    """Ten waits of a minute would be too many even where more attempts are allowed."""
    from fsm import attempts_left, back_off, park

    class Patient(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        answered = Final()
        asking.on(
            end_turn=answered, overloaded_error=[asking.when(attempts_left(50)).then(back_off), asking.then(park)]
        )

    clock = Clock()
    result, _ = both(
        Patient, "Hi.", lambda body: replies.overloaded(retry_after=60), is_async=False, clock=clock, sleep=clock.sleep
    )
    assert clock.slept == [60.0] * 10
    assert result.verdict.reason == "waiting_api"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
    ],
)
def test_what_no_retry_can_mend_is_not_retried(status: int, kind: str) -> None:
    result, clock, requests = _retried([replies.error(status, kind, "no way", headers={"retry-after": "5"})])
    assert (result.state, result.verdict.reason, clock.slept, len(requests)) == ("failed", kind, [], 1)
    assert result.verdict.evidence["message"] == "no way"
    assert result.verdict.evidence["status"] == status


# --- which client ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run", "iterate", "arun", "aiterate"])
def test_the_wrong_kind_of_client_is_one_clear_error(verb: str) -> None:
    emulator = Emulator([replies.text("Hello.")])
    store = MemoryStore()

    async def main() -> Any:
        async with emulator.async_client() as client:
            if verb == "run":
                return run(Plain, "Hi.", client=client, journal=store)
            return list(iterate(Plain, "Hi.", client=client, journal=store))

    async def other() -> Any:
        with emulator.client() as client:
            if verb == "arun":
                return await arun(Plain, "Hi.", client=client, journal=store)
            return [item async for item in aiterate(Plain, "Hi.", client=client, journal=store)]

    needed, given = ("Anthropic", "AsyncAnthropic") if verb in {"run", "iterate"} else ("AsyncAnthropic", "Anthropic")
    with pytest.raises(UsageError, match=rf"anthropic\.{needed}, not {given}"):
        asyncio.run(main() if verb in {"run", "iterate"} else other())
    assert emulator.requests == ()
    assert tuple(run.run_id for run in store.runs()) == (), "nothing was begun"


def test_a_key_is_no_client() -> None:
    with pytest.raises(UsageError, match=r"needs a client of the kind anthropic\.Anthropic, not str"):
        run(Plain, "Hi.", client="a key")


@pytest.mark.parametrize("is_async", [False, True])
def test_no_key_says_what_to_do(*, is_async: bool) -> None:
    store = MemoryStore()

    def go() -> Any:
        given: dict[str, Any] = {"journal": store, "run_id": "r"}
        return asyncio.run(arun(Plain, "Hi.", **given)) if is_async else run(Plain, "Hi.", **given)

    with pytest.raises(UsageError, match="set ANTHROPIC_API_KEY") as caught:
        go()
    assert "Emulator" in str(caught.value)
    assert go_on(Plain, "r", [replies.text("Hello.")], journal=store).text == "Hello.", "with a key it goes on"


@pytest.fixture
def real_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A loopback server that the environment names, as it would name a gateway."""
    emulator = Emulator(one_call("find", {"number": "1"}))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(emulator) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield emulator


@pytest.mark.parametrize("is_async", [False, True])
def test_a_client_of_our_own_comes_from_the_environment_and_is_closed(
    real_server: Emulator, monkeypatch: pytest.MonkeyPatch, *, is_async: bool
) -> None:
    closed: list[bool] = []
    kind = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
    close = kind.close

    def watched(self: Any) -> Any:
        closed.append(True)
        return close(self)

    monkeypatch.setattr(kind, "close", watched)
    result = asyncio.run(arun(Loop, "Hi.")) if is_async else run(Loop, "Hi.")

    assert result.text == "done"
    assert closed, "the connection pool was closed"
    assert len(real_server.requests) == 2


def test_a_given_client_stays_open() -> None:
    emulator = Emulator([replies.text("one"), replies.text("two")])
    with emulator.client() as client:
        assert [run(Plain, "Hi.", client=client).text for _ in range(2)] == ["one", "two"]
        assert not client.is_closed()


def test_many_runs_on_one_client_at_once() -> None:
    """Sixteen threads, one client: each gets its own answer."""
    emulator = Emulator(lambda body: replies.text(body["messages"][0]["content"][0]["text"]))
    texts: dict[int, str] = {}
    with emulator.client() as client:

        def one(number: int) -> None:
            texts[number] = run(Plain, f"number {number}", client=client).text

        threads = [threading.Thread(target=one, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == {n: f"number {n}" for n in range(16)}
