"""The `anthropic` SDK: clients, sending a request, and what is compared with the SDK's own literals (W13).

A request is posted as the bytes the ledger already has (rule 10): the SDK keeps authentication, headers, typed errors
and transport, and does not walk the history again. Clients that need a dict to work on (middleware, Bedrock, Vertex)
get `messages.create` instead. Retries of the SDK are off: a retry is a bounded row of the workflow (rule 9).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import cache
from typing import Any, get_args

import anthropic
import httpx2
from anthropic.resources.messages import Messages
from attrs import evolve

from ._actions import SendRequest
from ._alphabet import ERROR_TYPES, FOREIGN_ERROR_TYPES, STOP_REASONS
from ._bodies import Body, body_of
from ._clients import TRANSPORT_ERRORS, address, failed_unanswered, takes_bytes, without_secrets
from ._conversation._heads import AUTOMATIC_CACHE
from ._errors import UsageError, WireError
from ._events import Failed, Replied
from ._prices import price_of
from ._reading import read
from ._wire import (
    Delta,
    StreamError,
    Wire,
    failed_from_response,
    failed_from_stream,
    failed_malformed,
)

STREAM_ABOVE = 21_333
"""E25: with more `max_tokens` the SDK refuses to wait for a whole reply, so the request is streamed."""

Clock = Callable[[], float]
Draw = Callable[[], float]
Scope = Callable[[], AbstractContextManager[None]]
"""Stands around what sends, so that the client's own span is below ours."""

_PATH = "/v1/messages"

# Every platform takes a top-level `cache_control` but the legacy integration of Bedrock, which answers 400 (CACHE,
# automatic caching); there marks on blocks are the way.
_NO_AUTOMATIC_CACHE = (anthropic.AnthropicBedrock, anthropic.AsyncAnthropicBedrock)


def default_client() -> anthropic.Anthropic:
    """A client from the environment.

    Raises:
        UsageError: no key; the message says how to set one, or do without.
    """
    client: anthropic.Anthropic = _made(anthropic.Anthropic)
    return client


def default_async_client() -> anthropic.AsyncAnthropic:
    """The async twin of `default_client`."""
    client: anthropic.AsyncAnthropic = _made(anthropic.AsyncAnthropic)
    return client


def _made(kind: Any) -> Any:
    client = kind(max_retries=0)
    if not client.api_key and not client.auth_token and not getattr(client, "credentials", None):
        msg = (
            "no API key: set ANTHROPIC_API_KEY, pass client=anthropic.Anthropic(api_key=...), "
            "or use the emulator (client=Emulator([...]).client(), `fsm run --emulate`)"
        )
        raise UsageError(msg)
    return client


class Request:
    """One attempt: how it is posted, and what its outcome is as an event.

    `restart` is what a consumer of deltas is told before the first of them.
    """

    def __init__(
        self,
        client: Any,
        action: SendRequest,
        *,
        stream: bool,
        clock: Clock,
        draw: Draw,
        scope: Scope | None = None,
        restart: Delta | None = None,
    ) -> None:
        self.client, self.action, self.clock, self.draw, self.restart = client, action, clock, draw, restart
        self.is_traced, self.scope = scope is not None, scope or nullcontext
        self.stream = stream or action.params["max_tokens"] > STREAM_ABOVE
        self.started = time.monotonic()

    @property
    def posts_bytes(self) -> bool:
        """Whether the client takes ready bytes."""
        return takes_bytes(self.client)

    def post_arguments(self) -> dict[str, Any]:
        """The arguments of `client.post`."""
        action = self.action
        headers: dict[str, str] = {"Content-Type": "application/json"}
        if action.betas:
            headers["anthropic-beta"] = ",".join(action.betas)
        return {
            "cast_to": httpx2.Response,
            "options": {
                "headers": headers,
                "max_retries": 0,
                "timeout": self.client.timeout,
                "follow_redirects": False,  # N6: the conversation and a gateway's token would go along
                **(self._chat_span() if self.is_traced else {}),
            },
            "stream": True,  # of the SDK: hand the open response out, so that its body is read here, with a limit (N6)
            "content": action.body(stream=self.stream),
        }

    def _chat_span(self) -> dict[str, Any]:
        """What makes the client trace ready bytes as it traces `messages.create`: it cannot read them."""
        params = self.action.params
        return {
            "span_name": "anthropic.messages.create",
            "span_route": _PATH,
            "span_attributes": {
                "gen_ai.request.model": str(params["model"]),
                "gen_ai.request.max_tokens": int(params["max_tokens"]),
                "gen_ai.request.stream": self.stream,
            },
        }

    def create_arguments(self) -> dict[str, Any]:
        """The arguments of `messages.create`, for clients that need a dict. Parameters it does not know go along."""
        params = dict(self.action.params)
        if isinstance(self.client, _NO_AUTOMATIC_CACHE) and params.get("cache_control") == AUTOMATIC_CACHE:
            del params["cache_control"]
        known = {k: params.pop(k) for k in tuple(params) if k in _create_parameters()}
        # With a timeout of its own the SDK does not guess whether the reply would take too long (E25).
        arguments = {**known, "messages": self.action.messages, "timeout": self.client.timeout}
        if params:
            arguments["extra_body"] = params
        if self.action.betas:
            arguments["extra_headers"] = {"anthropic-beta": ",".join(self.action.betas)}
        if self.stream:
            arguments["stream"] = True
        return arguments

    def replied(self, wire: Wire, request_id: str | None) -> Replied:
        """A complete reply."""
        message = wire.message
        usage = message.get("usage")
        price = price_of(str(message.get("model")), usage) if isinstance(usage, dict) else None
        return Replied(
            self.clock(),
            message,
            wire.content_json,
            request_id=request_id,
            seconds=round(time.monotonic() - self.started, 6),
            price=price,
        )

    def body(self, response: httpx2.Response) -> Body:
        """What reads an answer with status 2xx. The client's read timeout says how long it may stand still (N5)."""
        timeout = self.client.timeout
        patience = timeout.read if isinstance(timeout, httpx2.Timeout) else timeout
        return body_of(response, is_streamed=self.stream, patience=patience)

    def outcome(self, response: httpx2.Response, body: Body, error: Exception | None = None) -> Replied | Failed:
        """What came of an answer with status 2xx: `body` was read to its end, or to `error`."""
        request_id = response.headers.get("request-id")
        try:
            wire = body.wire() if error is None else body.after(error)
        except (WireError, StreamError, *TRANSPORT_ERRORS) as failure:
            return self.failed(failure, request_id)
        if wire.message.get("type") != "message":  # X7: what is no message is no reply, and is not recorded whole
            return self.failed(WireError(str(read(wire.message).problem), rule="S11.3"), request_id)
        return self.replied(wire, request_id)

    def failed(self, error: BaseException, request_id: str | None = None) -> Failed:
        """Any failure as an event: by its type first, then by status, then by class (E0, E23); without keys (X7)."""
        return without_secrets(self._failed(error, request_id), self.client)

    def _failed(self, error: BaseException, request_id: str | None) -> Failed:
        at, draw, seconds = self.clock(), self.draw(), round(time.monotonic() - self.started, 6)
        if isinstance(error, WireError):
            return failed_malformed(error, at=at, draw=draw, seconds=seconds, request_id=request_id)
        if isinstance(error, StreamError):
            return failed_from_stream(error, at=at, draw=draw, seconds=seconds, request_id=request_id)
        if isinstance(error, anthropic.APIStatusError):
            response = error.response
            return failed_from_response(
                response.status_code, response.headers, _body(response), at=at, draw=draw, seconds=seconds
            )
        if isinstance(error, (anthropic.APIConnectionError, *TRANSPORT_ERRORS)):
            unanswered = failed_unanswered(self.client, error, at=at, draw=draw, seconds=seconds)
            return evolve(unanswered, request_id=request_id) if request_id else unanswered
        raise error


def _body(response: httpx2.Response) -> bytes:
    try:
        return response.content
    except httpx2.HTTPError:
        return b""


@cache
def _create_parameters() -> frozenset[str]:
    return frozenset(inspect.signature(Messages.create).parameters)


def send(request: Request) -> Generator[Delta | Replied | Failed, None, None]:
    """Send one attempt with a sync client: deltas as they come, then its outcome as the last item.

    Never raises for what the API or the network does. Closing the iterator closes the connection.
    """
    if request.restart is not None:
        yield request.restart
    try:
        with request.scope():
            response = _opened(request)
        body, failure = request.body(response), None
        try:
            for chunk in response.iter_bytes():
                yield from body.feed(chunk)
                body.check()
        except (WireError, StreamError, *TRANSPORT_ERRORS) as error:
            failure = error
        finally:
            response.close()
        yield request.outcome(response, body, failure)
    except (anthropic.AnthropicError, *TRANSPORT_ERRORS) as error:
        yield request.failed(error)


def _opened(request: Request) -> httpx2.Response:
    """The answer, once its headers came; `send` reads its body and closes it."""
    if request.posts_bytes:
        response: httpx2.Response = request.client.post(address(request.client, _PATH), **request.post_arguments())
        return response
    create = request.client.messages.with_streaming_response.create
    answer: httpx2.Response = create(**request.create_arguments()).__enter__().http_response
    return answer


async def send_async(request: Request) -> AsyncGenerator[Delta | Replied | Failed, None]:
    """The async twin of `send`. One generator, because each costs the event loop more than a sync one does."""
    if request.restart is not None:
        yield request.restart
    try:
        with request.scope():
            response = await _opened_async(request)
        body, failure = request.body(response), None
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    for delta in body.feed(chunk):
                        yield delta
                    body.check()
        except (WireError, StreamError, *TRANSPORT_ERRORS) as error:
            failure = error
        finally:
            await response.aclose()
        yield request.outcome(response, body, failure)
    except (anthropic.AnthropicError, *TRANSPORT_ERRORS) as error:
        yield request.failed(error)


async def _opened_async(request: Request) -> httpx2.Response:
    if request.posts_bytes:
        path = address(request.client, _PATH)
        response: httpx2.Response = await request.client.post(path, **request.post_arguments())
        return response
    create = request.client.messages.with_streaming_response.create
    answer: httpx2.Response = (await create(**request.create_arguments()).__aenter__()).http_response
    return answer


def alphabet_gaps() -> tuple[str, ...]:
    """W13: stop reasons and error types that the installed SDK knows and the alphabet lacks."""
    from anthropic.types.beta.beta_stop_reason import BetaStopReason
    from anthropic.types.shared.error_type import ErrorType
    from anthropic.types.stop_reason import StopReason

    reasons = {*get_args(StopReason), *get_args(BetaStopReason)} - set(STOP_REASONS)
    errors = set(get_args(ErrorType)) - set(ERROR_TYPES) - set(FOREIGN_ERROR_TYPES)
    return tuple(
        [f"stop reason {name}" for name in sorted(reasons)] + [f"error type {name}" for name in sorted(errors)]
    )
