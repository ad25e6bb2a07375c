"""Every error of the API, E0-E28, and N1, N2, N4: what is sent again, what is waited for, where the run ends.

`ROWS` is the table of the specification, with what an error of each row must come to. What a header asks for, and what
is waited because of it, is worked out here anew from E20 and E21, and compared with what a run does on a virtual clock.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from itertools import product
from typing import Any

import anthropic
import httpx2
import pytest
from _driving import MODEL, NOW, Clock, Plain, events_of, loop_of
from anthropic._error_classes import ERROR_CLASSES
from attrs import field, frozen

from fsm import Claude, Facts, Final, Workflow, arun, attempts_left, back_off, guard, park, run
from fsm._alphabet import ALPHABET, ERROR_CODES, Group, advice_for
from fsm._wire import failed_from_response
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

MODES = tuple(product((False, True), (False, True)))  # async?, streamed?
CANARY = "canary-key-1f2e3d4c"
DRAW = 0.5


@pytest.fixture(autouse=True)
def _same_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter takes a number from 0 to 1; here it is always one half."""
    monkeypatch.setattr("random.random", lambda: DRAW)


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Row:
    """One row of the table: what comes, the class that the SDK gives it, and the event that it is here."""

    rule: str
    status: int
    type: str | None
    event: str
    sdk: str
    code: str | None = field(default=None, kw_only=True)
    message: str = field(default="No, because of this.", kw_only=True)

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may be answered later."""
        return ALPHABET[self.event].group is Group.RETRYABLE

    @property
    def is_spend_cap(self) -> bool:
        """E11."""
        return self.rule.startswith("E11")

    def reply(self, headers: dict[str, str] | None = None) -> Reply:
        """It on the wire. Where the table names no type, the body is no error of the API."""
        if self.type is None:
            return replies.raw(self.status, b"", headers)
        details = {"error_code": self.code} if self.code else None
        return replies.error(self.status, self.type, self.message, details=details, headers=headers)


OWN_LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
NO_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to add credits."

# fmt: off
ROWS = (
    Row("E1", 400, "invalid_request_error", "invalid_request_error", "BadRequestError"),
    Row("E1a limit", 400, "invalid_request_error", "invalid_request_error", "BadRequestError", message=OWN_LIMIT),
    Row("E1a credit", 400, "invalid_request_error", "invalid_request_error", "BadRequestError", message=NO_CREDIT),
    Row("E2", 401, "authentication_error", "authentication_error", "AuthenticationError"),
    Row("E3", 402, "billing_error", "billing_error", "PaymentRequiredError"),
    Row("E4", 403, "permission_error", "permission_error", "PermissionDeniedError"),
    Row("E5", 404, "not_found_error", "not_found_error", "NotFoundError"),
    Row("E6", 408, None, "timeout_error", "RequestTimeoutError"),
    Row("E7", 409, "conflict_error", "conflict_error", "ConflictError"),
    Row("E8", 413, "request_too_large", "request_too_large", "ContentTooLargeError"),
    Row("E8 cdn", 413, None, "request_too_large", "ContentTooLargeError"),
    Row("E9", 422, None, "invalid_request_error", "UnprocessableEntityError"),
    Row("E10", 429, "rate_limit_error", "rate_limit_error", "RateLimitError"),
    Row("E11 tier", 429, "rate_limit_error", "rate_limit_error", "EnforcedSpendLimitReachedError",
        code="enforced_spend_limit_reached"),
    Row("E11 contract", 429, "rate_limit_error", "rate_limit_error", "ContractSpendLimitReachedError",
        code="contract_spend_limit_reached"),
    Row("E12", 429, "rate_limit_error", "rate_limit_error", "RampLimitExceededError", code="ramp_limit_exceeded"),
    Row("E13", 500, "api_error", "api_error", "InternalServerError"),
    Row("E14", 503, "api_error", "api_error", "ServiceUnavailableError"),
    Row("E15", 504, "timeout_error", "timeout_error", "GatewayTimeoutError"),
    Row("E16", 529, "overloaded_error", "overloaded_error", "OverloadedError"),
    Row("E16 compaction", 529, "overloaded_error", "overloaded_error", "CompactionUnavailableError",
        code="compaction_unavailable"),
    Row("E17 418", 418, None, "invalid_request_error", "APIStatusError"),
    Row("E17 499", 499, None, "invalid_request_error", "ClientClosedRequestError"),
    Row("E17 451", 451, "a_type_of_the_future", "invalid_request_error", "APIStatusError"),
    Row("E18 501", 501, None, "api_error", "HTTPNotImplementedError"),
    Row("E18 502", 502, None, "api_error", "InternalServerError"),
    Row("E18 520", 520, "a_type_of_the_future", "api_error", "InternalServerError"),
)
# fmt: on

# E19: what the transport raises before there is an answer.
TRANSPORT: tuple[type[httpx2.TransportError], ...] = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ReadError,
    httpx2.ReadTimeout,
    httpx2.WriteError,
    httpx2.WriteTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.RemoteProtocolError,
)


# ── how a case is driven ─────────────────────────────────────────────────────────────────────────────────────────────


class Line(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """An emulator behind a line that can break: an exception in the script is raised instead of an answer."""

    def __init__(self, script: Callable[[int], Reply | Exception]) -> None:
        self.script, self.emulator = script, Emulator(self._reply)
        self.bodies: list[bytes] = []
        self.headers: list[httpx2.Headers] = []
        self._next: Reply | None = None

    def _reply(self, body: dict[str, Any]) -> Reply:
        assert self._next is not None
        return self._next

    def _come(self, request: httpx2.Request, raw: bytes) -> None:
        self.bodies.append(raw)
        self.headers.append(request.headers)
        given = self.script(len(self.bodies) - 1)
        if isinstance(given, Exception):
            raise given
        self._next = given

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._come(request, request.read())
        return self.emulator.transport().handle_request(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._come(request, await request.aread())
        return await self.emulator.async_transport().handle_async_request(request)

    def options(self, *, is_async: bool, **options: Any) -> dict[str, Any]:
        """What makes an SDK client that sends over this line."""
        http: Any = httpx2.AsyncClient(transport=self) if is_async else httpx2.Client(transport=self)
        return {"api_key": CANARY, "base_url": "http://emulator.invalid", "http_client": http, **options}


def tried(
    script: Callable[[int], Reply | Exception] | Sequence[Reply | Exception],
    *,
    workflow: type[Workflow] = Plain,
    is_async: bool = False,
    stream: bool = False,
    client: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Any, Line, Clock]:
    """Run a workflow on a virtual clock: the result, what was sent, what was waited."""
    line = Line(script if callable(script) else script.__getitem__)
    clock = Clock()
    options = {"clock": clock, "sleep": clock.sleep, "stream": stream, **options}
    given = line.options(is_async=is_async, **(client or {}))
    if not is_async:
        with anthropic.Anthropic(**given) as sync_client:
            return run(workflow, "Hi.", client=sync_client, **options), line, clock

    async def main() -> Any:
        async with anthropic.AsyncAnthropic(**given) as async_client:
            return await arun(workflow, "Hi.", client=async_client, **options)

    return asyncio.run(main()), line, clock


def folded(result: Any) -> bool:
    """Whether the journal adds up to the same verdict, in a conversation that did not live through it."""
    from fsm._conversation import Conversation
    from fsm._conversation._heads import Heads

    workflow = result.workflow
    fresh = Conversation(workflow.plan, Heads(workflow.graph, workflow.toolbox.definitions))
    fresh.fold(result.records)
    return bool(fresh.verdict() == result.verdict)


# ── each row ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_a_row_has_its_event_its_target_and_its_evidence(row: Row) -> None:
    """E1-E18: status, type, code → event → standard target; a row that cannot be mended is sent once."""
    for is_async, stream in MODES:
        reply = row.reply({"retry-after": "3"})
        result, line, clock = tried(lambda _, reply=reply: reply, is_async=is_async, stream=stream)

        assert (result.state, result.verdict.reason) == (
            ("asking", "waiting_api") if row.is_retryable else ("failed", row.event)
        )
        assert set(events_of(result.records)) == {row.event}
        assert result.parked is result.verdict.resumable is row.is_retryable
        evidence = result.verdict.evidence
        assert evidence["status"] == row.status
        assert evidence.get("type") == row.type
        assert evidence["message"]
        assert row.type is None or evidence["message"] == row.message
        assert evidence["retry_after"] == 3.0
        assert evidence["request_id"] == result.verdict.request_ids[-1] == line.emulator.requests[-1].request_id
        assert evidence["why"] == ALPHABET[row.event].why
        assert evidence["todo"] == advice_for(row.event, evidence.get("code"))
        assert f"what to do: {evidence['todo']}" in str(result.verdict)
        again = row.is_retryable and not row.is_spend_cap
        assert clock.slept == ([3.0] * 6 if again else [])
        assert len(set(line.bodies)) == 1, "E24: the same bytes"
        assert folded(result)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_the_sdk_gives_a_row_the_class_of_the_table(row: Row) -> None:
    """The column of the specification that is the SDK's: if it changes, the table is read again."""
    line = Line(lambda _: row.reply())
    options = line.options(is_async=False, max_retries=0)
    with anthropic.Anthropic(**options) as client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi."}])
    assert type(caught.value).__name__ == row.sdk
    assert caught.value.error_code == row.code


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (OWN_LIMIT, "usage_limit", "spend limit"),
        (NO_CREDIT, "low_credit", "Buy credit"),
        ("prompt is too long: 215000 tokens > 200000 maximum", "prompt_too_long", "larger window"),
        ("input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000", "prompt_too_long", "compact"),
        ("max_tokens: Field required", None, "change the request"),
    ],
)
def test_e1a_a_400_that_says_what_to_do(message: str, code: str | None, words: str) -> None:
    """No change of the request helps where the account is the reason, and the verdict says so. In a stream too."""
    plain = replies.error(400, "invalid_request_error", message)
    late = replies.sse_error("invalid_request_error", after=2, message=message)
    for (is_async, stream), reply in product(MODES, (plain, late)):
        result, line, clock = tried([reply], is_async=is_async, stream=stream)
        assert (result.state, result.verdict.reason) == ("failed", "invalid_request_error")
        assert (len(line.bodies), clock.slept) == (1, [])
        assert result.verdict.evidence.get("code") == code
        assert words in result.verdict.evidence["todo"]
        assert words in str(result.verdict)


def test_e1a_a_limit_of_one_s_own_that_comes_as_429_is_not_tried_again() -> None:
    for is_async, stream in MODES:
        reply = replies.error(429, "rate_limit_error", OWN_LIMIT)
        result, line, clock = tried([reply], is_async=is_async, stream=stream)
        assert (result.verdict.reason, len(line.bodies), clock.slept) == ("waiting_api", 1, [])
        assert result.verdict.evidence["code"] == "usage_limit"
        assert "spend limit set in the console" in str(result.verdict)


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_e11_a_spend_cap_parks_at_once_and_names_a_time_only_if_the_api_does(code: str) -> None:
    """Nobody knows when a cap is lifted; the 429 of a tier cap has no retry-after. In a stream its code says it."""
    for is_async, stream in MODES:
        reply = replies.rate_limited(error_code=code)
        result, line, clock = tried([reply], is_async=is_async, stream=stream)
        assert (result.parked, result.verdict.reason, len(line.bodies), clock.slept) == (True, "waiting_api", 1, [])
        assert "retry_at" not in result.verdict.evidence
        assert result.verdict.evidence["todo"] == ERROR_CODES[code]
        assert folded(result)
    result, _, _ = tried([replies.rate_limited(error_code=code, retry_after=90)])
    assert result.verdict.evidence["retry_at"] == NOW + 90


def test_e12_a_ramp_limit_is_waited_for_as_long_as_it_says() -> None:
    for is_async, stream in MODES:
        limited = replies.rate_limited(error_code="ramp_limit_exceeded", retry_after=41)
        result, _, clock = tried([limited, replies.text("Hello.")], is_async=is_async, stream=stream)
        assert (result.text, clock.slept) == ("Hello.", [41.0])


# ── N1: every row, every header ──────────────────────────────────────────────────────────────────────────────────────

LONGEST = 4_294_967.0
"""E21: what `inf` comes to, as in the SDK; far above the cap of a wait."""

# What a header asks for: seconds, or None for nothing usable.
ASKED: dict[str, tuple[dict[str, str], float | None]] = {
    "no header": ({}, None),
    "0": ({"retry-after": "0"}, None),
    "-3": ({"retry-after": "-3"}, None),
    "7": ({"retry-after": "7"}, 7.0),
    "60": ({"retry-after": "60"}, 60.0),
    "61": ({"retry-after": "61"}, 61.0),
    "3600": ({"retry-after": "3600"}, 3600.0),
    "inf": ({"retry-after": "inf"}, LONGEST),
    "nan": ({"retry-after": "nan"}, None),
    "past date": ({"retry-after": formatdate(NOW - 90, usegmt=True)}, None),
    "future date": ({"retry-after": formatdate(NOW + 7200, usegmt=True)}, 7200.0),
    "garbage": ({"retry-after": "in a while"}, None),
    "ms": ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
    "should retry": ({"x-should-retry": "true"}, None),
    "should not": ({"x-should-retry": "false"}, None),
    "should not, 7": ({"x-should-retry": "false", "retry-after": "7"}, 7.0),
}
BACK_OFF = [DRAW * min(60.0, 2.0**n) for n in range(6)]


def due(row: Row, name: str) -> tuple[list[float], float | None]:
    """What must be waited, and how long after the last answer it says that it can be tried again (None: it ended).

    E20: the SDK obeys `x-should-retry` whatever the row is. Here the row decides first, so that `true` sends no request
    again that cannot be mended; `false` is obeyed, and the run is parked with nothing lost.
    """
    headers, asked = ASKED[name]
    if not row.is_retryable:
        return [], None
    if row.is_spend_cap:
        return [], asked
    if headers.get("x-should-retry") == "false" or (asked or 0.0) > 60.0:
        return [], asked or 60.0
    return ([asked] * 6 if asked else BACK_OFF), asked or 60.0


@pytest.mark.parametrize(("is_async", "stream"), MODES)
def test_n1_every_row_with_every_header(*, is_async: bool, stream: bool) -> None:
    """432 cases in each of the four modes: the number of requests, the exact waits, the state, when to try again."""
    for row, name in product(ROWS, ASKED):
        check_case(row, name, is_async=is_async, stream=stream)


def check_case(row: Row, name: str, *, is_async: bool, stream: bool) -> None:
    """One case of N1."""
    case = f"{row.rule}, {name}, {is_async=}, {stream=}"
    reply = row.reply(dict(ASKED[name][0]))
    result, line, clock = tried(lambda _: reply, is_async=is_async, stream=stream)
    waits, later = due(row, name)

    assert clock.slept == waits, case
    assert len(line.bodies) == len(waits) + 1, case
    assert max(waits, default=0) <= 60, case
    assert sum(waits) <= 600, case
    assert events_of(result.records) == [row.event] * len(line.bodies), case
    assert result.parked is row.is_retryable, case
    expected = None if later is None else clock.now + later
    assert result.verdict.evidence.get("retry_at") == expected, case
    # E22: our own count of attempts is not the SDK's, which has retried nothing.
    assert {headers["x-stainless-retry-count"] for headers in line.headers} == {"0"}, case
    assert not any("idempotency-key" in headers for headers in line.headers), case


def test_n1_a_date_that_comes_is_waited_for_once() -> None:
    """The date stays the same while the clock goes on: after the first wait it is past, and asks for nothing."""
    reply = replies.overloaded(retry_after=formatdate(NOW + 30, usegmt=True))
    _, _, clock = tried(lambda _: reply)
    assert clock.slept == [30.0, *BACK_OFF[1:]]


@pytest.mark.parametrize("kind", TRANSPORT, ids=lambda kind: kind.__name__)
def test_e19_no_answer_is_tried_again_then_parked(kind: type[httpx2.TransportError]) -> None:
    """Whether the request was processed is unknown, so the same bytes go again (E22: it may be billed twice)."""
    for is_async, stream in MODES:
        result, line, clock = tried(lambda _: kind("it broke"), is_async=is_async, stream=stream)
        assert clock.slept == BACK_OFF
        assert (result.state, result.verdict.reason) == ("asking", "waiting_api")
        assert events_of(result.records) == ["connection_error"] * 7
        assert len(set(line.bodies)) == 1
        evidence = result.verdict.evidence
        assert evidence["message"] == f"{kind.__name__} at http://emulator.invalid: it broke"
        assert evidence["retry_at"] == clock.now + 60
        assert "status" not in evidence
        assert folded(result)


def test_e19_an_exception_without_words_is_named() -> None:
    result, _, _ = tried(lambda _: httpx2.ReadTimeout(""))
    assert result.verdict.evidence["message"] == "ReadTimeout at http://emulator.invalid: no answer"


def test_the_cap_of_all_waits_is_ten_minutes() -> None:
    """Eleven waits of 59 seconds would be more than 600, though a row of one's own allows fifty."""

    class Patient(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        answered = Final()
        asking.on(
            end_turn=answered, rate_limit_error=[asking.when(attempts_left(50)).then(back_off), asking.then(park)]
        )

    for is_async, stream in MODES:
        reply = replies.rate_limited(retry_after=59)
        result, _, clock = tried(lambda _, r=reply: r, workflow=Patient, is_async=is_async, stream=stream)
        assert clock.slept == [59.0] * 10
        assert (result.verdict.reason, result.verdict.evidence["retry_at"]) == ("waiting_api", clock.now + 59)


def test_e20_a_foreign_loop_is_judged_by_the_same_guard() -> None:
    """`x-should-retry` reaches the guard through every reader of the table."""
    failed = failed_from_response(529, {"X-Should-Retry": "false"}, b"", at=NOW, draw=DRAW)
    assert failed.should_retry is False
    assert failed_from_response(529, {"x-should-retry": "true"}, b"", at=NOW, draw=DRAW).should_retry is True
    for said in ("", "no", "False "):
        assert failed_from_response(529, {"x-should-retry": said}, b"", at=NOW, draw=DRAW).should_retry is None


# ── N2: one attempt, one request ─────────────────────────────────────────────────────────────────────────────────────


def _passes(request: Any, call_next: Any) -> Any:
    return call_next(request)


async def _passes_async(request: Any, call_next: Any) -> Any:
    return await call_next(request)


class OwnClient(anthropic.Anthropic):
    """A user's subclass."""


def clients(line: Line) -> Iterator[tuple[str, Any]]:
    """Sync clients that would retry by themselves: five times, some of them by an option that was set later."""
    given = line.options(is_async=False, max_retries=5)
    yield "retries on", anthropic.Anthropic(**given)
    yield "default", anthropic.Anthropic(**{k: v for k, v in given.items() if k != "max_retries"})
    yield "with_options", anthropic.Anthropic(**{**given, "max_retries": 0}).with_options(max_retries=4)
    yield "middleware", anthropic.Anthropic(**given, middleware=[_passes])
    yield "subclass", OwnClient(**given)
    http = given["http_client"]
    yield "bedrock", anthropic.AnthropicBedrock(aws_region="eu-central-1", api_key=CANARY, http_client=http)
    yield (
        "vertex",
        anthropic.AnthropicVertex(region="europe-west1", project_id="p", access_token=CANARY, http_client=http),
    )


def async_clients(line: Line) -> Iterator[tuple[str, Any]]:
    """The async ones."""
    given = line.options(is_async=True, max_retries=5)
    yield "retries on", anthropic.AsyncAnthropic(**given)
    yield "with_options", anthropic.AsyncAnthropic(**{**given, "max_retries": 0}).with_options(max_retries=4)
    yield "middleware", anthropic.AsyncAnthropic(**given, middleware=[_passes_async])
    yield (
        "bedrock",
        anthropic.AsyncAnthropicBedrock(aws_region="eu-central-1", api_key=CANARY, http_client=given["http_client"]),
    )


class Dead(Line):
    """Whatever is sent, to whatever address: the same failure."""

    def __init__(self, failure: httpx2.Response | Exception) -> None:
        super().__init__(lambda _: replies.empty())
        self.failure = failure

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.bodies.append(request.read())
        if isinstance(self.failure, Exception):
            raise self.failure
        return httpx2.Response(self.failure.status_code, headers=self.failure.headers, content=self.failure.content)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return self.handle_request(request)


FAILURES: dict[str, Callable[[], httpx2.Response | Exception]] = {
    "429": lambda: httpx2.Response(429, headers={"retry-after": "1"}),
    "500": lambda: httpx2.Response(500),
    "529": lambda: httpx2.Response(529, json={"type": "error", "error": {"type": "overloaded_error", "message": "x"}}),
    "400, should retry": lambda: httpx2.Response(400, headers={"x-should-retry": "true"}),
    "connect": lambda: httpx2.ConnectError("refused"),
    "timeout": lambda: httpx2.ReadTimeout("slow"),
    "200, no message": lambda: httpx2.Response(200, content=b"<html>"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_n2_one_attempt_is_one_request_whatever_the_client_would_do(name: str) -> None:
    """`max_retries=0`: requests on the wire are request records in the journal, one for one."""
    for stream in (False, True):
        line = Dead(FAILURES[name]())
        for kind, client in clients(line):
            line.bodies.clear()
            clock = Clock()
            result = run(Plain, "Hi.", client=client, stream=stream, clock=clock, sleep=clock.sleep)
            attempts = [r for r in result.records if r.kind == "request"]
            assert len(line.bodies) == len(attempts) == len(clock.slept) + 1, (name, kind, stream)

        line = Dead(FAILURES[name]())

        async def main(line: Dead = line, *, stream: bool = stream) -> None:
            for kind, client in async_clients(line):
                line.bodies.clear()
                clock = Clock()
                result = await arun(Plain, "Hi.", client=client, stream=stream, clock=clock, sleep=clock.sleep)
                attempts = [r for r in result.records if r.kind == "request"]
                assert len(line.bodies) == len(attempts) == len(clock.slept) + 1, (name, kind, stream)

        asyncio.run(main())


# ── E23: after the headers ───────────────────────────────────────────────────────────────────────────────────────────


def events_on_the_wire(reply: Reply) -> list[bytes]:
    """The events of a streamed reply, as the emulator sends them."""
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    body = {"model": MODEL, "max_tokens": 99, "stream": True, "messages": [{"role": "user", "content": "Hi."}]}
    answer = Emulator([reply]).answer("POST", "/v1/messages", headers, json.dumps(body).encode())
    return [part + b"\n\n" for part in b"".join(answer.chunks).split(b"\n\n") if part]


def as_stream(*parts: bytes) -> Reply:
    """These bytes, as a stream with status 200."""
    return replies.raw(200, b"".join(parts), {"content-type": "text/event-stream; charset=utf-8"})


WHOLE = events_on_the_wire(replies.text("Hello there."))
BAD_DELTA = b'data: {"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"x"}}\n\n'

E23: dict[str, tuple[Reply, str]] = {
    "an error event": (replies.sse_error("overloaded_error", after=2), "overloaded_error"),
    "an error event of an unknown type": (replies.sse_error("a_type_of_the_future", after=2), "api_error"),
    "closed inside a chunk": (replies.cut(replies.text("Hello."), after_bytes=200, clean=False), "cut_stream"),
    "clean end without message_stop": (as_stream(*WHOLE[:-1]), "cut_stream"),
    "clean end before message_delta": (as_stream(*WHOLE[:-2]), "cut_stream"),
    "clean end before any event": (as_stream(), "cut_stream"),
    "pings only": (as_stream(b"event: ping\ndata: {}\n\n"), "cut_stream"),
    "a byte that is not UTF-8": (as_stream(*WHOLE[:2], b"data: \xff\xfe\n\n"), "malformed"),
    "bad JSON in data": (as_stream(*WHOLE[:2], b"event: content_block_delta\ndata: {oops\n\n"), "malformed"),
    "a delta for an index that is not open": (as_stream(*WHOLE[:2], BAD_DELTA), "malformed"),
    "no message_start": (as_stream(*WHOLE[1:]), "malformed"),
    "message_start twice": (as_stream(WHOLE[0], *WHOLE), "malformed"),
    "late events": (as_stream(*WHOLE, WHOLE[1]), "malformed"),
}


@pytest.mark.parametrize("name", E23)
def test_e23_whatever_comes_after_the_headers_is_a_named_event(name: str) -> None:
    """Each case, the SDK's exceptions of which are no `APIError` at all or have the wrong class, is one event here."""
    reply, event = E23[name]
    is_retryable = ALPHABET[event].group is Group.RETRYABLE
    for is_async in (False, True):
        result, line, clock = tried([reply, replies.text("Hello.")], is_async=is_async, stream=True)
        assert events_of(result.records)[0] == event, result.verdict
        assert result.state == ("answered" if is_retryable else "failed")
        if is_retryable:
            assert (result.text, len(clock.slept), len(set(line.bodies))) == ("Hello.", 1, 1)
        else:
            assert result.verdict.evidence["message"]
            assert result.verdict.evidence["todo"]
            assert len(line.bodies) == 1
        assert folded(result)


def test_e23_a_read_timeout_in_the_middle_is_a_cut_stream() -> None:
    class Stalled(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield WHOLE[0]
            raise httpx2.ReadTimeout("nothing came")

        async def __aiter__(self) -> Any:
            for chunk in self:
                yield chunk

    class Stalling(Line):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if not self.bodies:
                self.bodies.append(request.read())
                return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Stalled())
            return super().handle_request(request)

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if not self.bodies:
                self.bodies.append(await request.aread())
                return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Stalled())
            return await super().handle_async_request(request)

    line, clock = Stalling(lambda _: replies.text("Hello.")), Clock()
    with anthropic.Anthropic(**line.options(is_async=False)) as client:
        result = run(Plain, "Hi.", client=client, stream=True, clock=clock, sleep=clock.sleep)
    assert events_of(result.records) == ["cut_stream", "end_turn"]

    async def main() -> Any:
        other = Stalling(lambda _: replies.text("Hello."))
        async with anthropic.AsyncAnthropic(**other.options(is_async=True)) as client:
            return await arun(Plain, "Hi.", client=client, stream=True, clock=clock, sleep=clock.sleep)

    assert events_of(asyncio.run(main()).records) == ["cut_stream", "end_turn"]


N4_TYPES = (
    "overloaded_error",
    "rate_limit_error",
    "api_error",
    "timeout_error",
    "invalid_request_error",
    "authentication_error",
)


@pytest.mark.parametrize("type_", N4_TYPES)
def test_n4_an_error_at_each_position_of_a_stream(type_: str) -> None:
    """Status 200, so only the type counts: retryable ones go again with the same bytes, no tool of the rest runs."""
    call = replies.tool_use("note", {"number": "7"}, text="One moment.")
    length = len(events_on_the_wire(call))
    assert length > 7
    is_retryable = ALPHABET[type_].group is Group.RETRYABLE
    for position, is_async in product(range(length), (False, True)):
        ran: list[str] = []

        broken = replies.sse_error(type_, after=position, reply=call, message="Not now.")
        result, line, clock = tried(
            [broken, call, replies.text("done")], workflow=note_loop(ran), is_async=is_async, stream=True
        )
        at = (type_, position, is_async)
        if is_retryable:
            assert events_of(result.records) == [type_, "tool_use", "tool_results", "end_turn"], at
            assert (ran, len(clock.slept), len(set(line.bodies[:2]))) == (["7"], 1, 1), at
        else:
            assert (events_of(result.records), ran, len(line.bodies)) == ([type_], [], 1), at
            assert result.verdict.evidence["message"] == "Not now.", at
        assert [r.data["status"] for r in result.records if r.kind == "error"] == [200], at


def note_loop(ran: list[str]) -> type[Workflow]:
    """A tool loop whose tool writes down that it ran."""

    def note(number: str) -> str:
        """Note it."""
        ran.append(number)
        return "noted"

    return loop_of(note)


def test_n4_an_error_after_message_stop_is_not_taken_for_a_reply() -> None:
    """G7: a finished stream that goes on is no stream of the API."""
    late = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"late"}}\n\n'
    result, _, _ = tried([as_stream(*WHOLE, late)], stream=True)
    assert (result.state, result.verdict.reason) == ("failed", "malformed")


# ── E28 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

OURS = {
    "usage_limit",
    "low_credit",
    "prompt_too_long",
    "redirect",
    "bad_header",
    "bad_url",
    "dns_failure",
    "connection_refused",
    "tls_error",
}
# The list of the specification.
LISTED = {
    *(
        f"compaction_{end}"
        for end in (
            "block_ambiguous",
            "block_misplaced",
            "content_mismatch",
            "incomplete_turn",
            "nothing_to_summarize",
            "signature_invalid",
            "too_many_tool_references",
            "tool_changes_mismatch",
            "unavailable",
        )
    ),
    *(
        f"thread_{end}"
        for end in (
            "already_continued",
            "continue_in_flight",
            "fingerprint_mismatch",
            "unsupported_request",
            "not_found",
        )
    ),
    *(f"request_body_{end}" for end in ("encoding_invalid", "encoding_unsupported", "timeout")),
    "request_body_too_large_after_decoding",
    "image_dimensions_too_large",
    "available_tools_limit_exceeded",
    "tool_name_conflict",
    "tool_reference_unresolved",
    "file_expired",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "ramp_limit_exceeded",
}


def test_e28_the_table_of_codes_is_that_of_the_specification_and_the_sdk() -> None:
    theirs = {code for _, code in ERROR_CLASSES if code}
    assert set(ERROR_CODES) == LISTED | OURS
    assert theirs >= LISTED
    assert not theirs & OURS
    for code, todo in ERROR_CODES.items():
        assert todo.endswith("."), code
        assert todo[0].isupper(), code
        assert 15 < len(todo) < 240, code


def test_e28_a_code_says_what_to_do_in_the_verdict() -> None:
    """Each code with the status that the SDK knows it by; the event is that of its type."""
    statuses = {code: status for status, code in ERROR_CLASSES if code in LISTED}
    types = {400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}
    for code, status in statuses.items():
        type_ = types.get(status, "overloaded_error")
        reply = replies.error(status, type_, "No.", details={"error_code": code}, headers={"retry-after": "100"})
        result, _, _ = tried([reply])
        assert events_of(result.records) == [type_]
        assert result.verdict.evidence["code"] == code
        assert result.verdict.evidence["todo"] == ERROR_CODES[code] == advice_for(type_, code)


def test_e28_advice_for_what_has_no_code_is_that_of_the_event() -> None:
    assert (
        advice_for("overloaded_error")
        == advice_for("overloaded_error", "new_code")
        == ALPHABET["overloaded_error"].todo
    )
    assert advice_for("invalid_request_error", "low_credit") == ERROR_CODES["low_credit"]
    assert advice_for("no event at all") == ""


# ── X7: no secrets ───────────────────────────────────────────────────────────────────────────────────────────────────


def secret_places(result: Any, caplog: pytest.LogCaptureFixture) -> str:
    """Everything that a run leaves behind, as one text."""
    journal = json.dumps([dict(record.data) for record in result.records])
    verdict = f"{result.verdict} {result.verdict!r} {json.dumps(dict(result.verdict.evidence), default=str)}"
    logged = caplog.text + "".join(f"{r.getMessage()} {r.args}" for r in caplog.records)
    return f"{journal} {result!r} {result} {verdict} {logged} {result.records!r}"


ECHOED = (
    f"key {CANARY}, Authorization: Bearer {CANARY}, sk-ant-api03-Abc_123-xyz, Bearer eyJhbGciOi.J9-aa, {CANARY}-header"
)


@pytest.mark.parametrize("is_async", [False, True])
def test_x7_a_key_that_comes_back_is_in_no_record_log_or_verdict(
    caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    """A gateway may echo headers in its error page, an exception may quote them."""
    caplog.set_level(logging.INFO)
    given: list[tuple[Reply | Exception, bool]] = [
        (replies.error(401, "authentication_error", ECHOED), False),
        (replies.error(529, ECHOED, ECHOED, details={"error_code": ECHOED}, headers={"request-id": CANARY}), False),
        (replies.html(f"<h1>{ECHOED}</h1>", status=502), False),
        (replies.html(f"<h1>{ECHOED}</h1>"), False),
        (replies.raw(200, ECHOED.encode(), {"content-type": "application/json"}), False),
        (replies.body({"type": "error", "error": {"type": "api_error", "message": ECHOED}}), False),
        (replies.raw(307, b"", {"location": f"https://{CANARY}:{CANARY}@other.invalid/{CANARY}?{CANARY}"}), False),
        (httpx2.ConnectError(ECHOED), False),
        (httpx2.LocalProtocolError(f"Illegal header value b'{CANARY}\\n'"), False),
        (replies.sse_error("api_error", after=2, message=ECHOED), True),
        (as_stream(*WHOLE[:2], b"data: " + ECHOED.encode() + b"\n\n"), True),
        (as_stream(*WHOLE[:2], f'data: {{"type":"content_block_stop","index":"{CANARY}"}}\n\n'.encode()), True),
    ]
    headers = {"X-Gateway": f"Token {CANARY}-header"}
    clients_: tuple[dict[str, Any], ...] = (
        {"default_headers": headers},
        {"api_key": None, "auth_token": CANARY, "default_headers": headers},
    )
    for (reply, stream), client in product(given, clients_):
        caplog.clear()
        result, _, _ = tried(lambda _, r=reply: r, is_async=is_async, stream=stream, client=client)
        left = secret_places(result, caplog)
        for secret in (CANARY, "sk-ant-api03", "eyJhbGciOi"):
            assert secret not in left, (secret, reply, left[max(0, left.find(secret) - 200) :][:400])
        assert events_of(result.records)
        assert result.verdict.evidence["todo"]


# ── what is declared wins ────────────────────────────────────────────────────────────────────────────────────────────


@guard
def capped(facts: Facts) -> bool:
    """A spend cap was reached."""
    return facts.failure is not None and facts.failure.is_spend_cap


def test_a_row_of_one_s_own_wins_over_the_standard_one() -> None:
    """A spend cap may lead elsewhere, told by its code in `facts.failure`; the rest waits as ever."""

    class Thrifty(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        answered = Final()
        broke = Final(ok=False)
        asking.on(
            end_turn=answered,
            rate_limit_error=[
                broke.when(capped),
                asking.when(attempts_left(6)).then(back_off),
                asking.then(park),
            ],
        )

    for code, state in (("enforced_spend_limit_reached", "broke"), ("ramp_limit_exceeded", "answered")):
        limited = replies.rate_limited(error_code=code)
        result, _, _ = tried([limited, replies.text("Hello.")], workflow=Thrifty)
        assert result.state == state


# ── what a stranger reads ────────────────────────────────────────────────────────────────────────────────────────────

NGINX = "<html><head><title>413 Request Entity Too Large</title></head><body><center>cloudflare</center></body></html>"

# The commonest failures, and what of the verdict's text must be there: what happened, and what to do about it.
READ: dict[str, tuple[Reply | Exception, tuple[str, ...]]] = {
    "bad key": (
        replies.error(401, "authentication_error", "invalid x-api-key"),
        ("failed: authentication_error", "invalid x-api-key", "Set ANTHROPIC_API_KEY"),
    ),
    "no credit": (replies.error(400, "invalid_request_error", NO_CREDIT), ("failed", NO_CREDIT, "Buy credit")),
    "wrong model": (
        replies.error(404, "not_found_error", "model: claude-sonet-5"),
        ("failed: not_found_error", "claude-sonet-5", "Check the model's name"),
    ),
    "rate limit": (
        replies.rate_limited(retry_after=100),
        ("waiting_api", "rate limit", "Wait as long as retry-after says", "best after 2027-01-15 08:01:40 UTC"),
    ),
    "spend limit": (
        replies.rate_limited(error_code="enforced_spend_limit_reached"),
        ("waiting_api", "raise it in the console", "goes on from here"),
    ),
    "overloaded": (replies.overloaded(), ("waiting_api", "overloaded", "after a pause", "best after 2027-01-15")),
    "network down": (
        httpx2.ConnectError("[Errno 101] Network is unreachable"),
        ("waiting_api", "at http://emulator.invalid: [Errno 101]", "Check the network", "goes on from here"),
    ),
    "a proxy's page": (
        replies.html("<title>502 Bad Gateway</title>nginx", status=502),
        ("waiting_api", "gateway", "HTTP 502", "nginx", "after a pause"),
    ),
    "a page with status 200": (
        replies.html("<title>Sign in</title>"),
        ("failed: malformed", "HTML", "Check the base URL and the proxy"),
    ),
    "too large": (replies.html(NGINX, status=413), ("failed: request_too_large", "32 MB", "fewer or smaller")),
    "too long": (
        replies.error(400, "invalid_request_error", "prompt is too long: 215000 tokens > 200000 maximum"),
        ("failed", "215000 tokens > 200000", "larger window"),
    ),
    "cut stream": (
        replies.cut(replies.text("Hello there."), after=3),
        ("waiting_api", "nothing in it counts", "Send the same bytes again", "goes on from here"),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_verdict_says_what_happened_and_what_to_do(name: str) -> None:
    reply, words = READ[name]
    result, _, _ = tried(lambda _: reply, stream=name == "cut stream")
    told = str(result.verdict)
    for word in words:
        assert word in told, told
    assert len(told.splitlines()) <= 6
    assert "Traceback" not in told
