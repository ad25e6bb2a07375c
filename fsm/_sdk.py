"""The `anthropic` SDK: clients, sending a request, and what is compared with the SDK's own literals (W13).

A request is posted as the bytes the ledger already has (rule 10): the SDK keeps authentication, headers, typed errors
and transport, and does not walk the history again. Clients that need a dict to work on (middleware, Bedrock, Vertex)
get `messages.create` instead. Retries of the SDK are off: a retry is a bounded row of the workflow (rule 9).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import cache
from typing import Any, get_args

import anthropic
import httpx2
from anthropic.resources.messages import Messages

from ._actions import SendRequest
from ._alphabet import ERROR_TYPES, FOREIGN_ERROR_TYPES, STOP_REASONS
from ._errors import UsageError, WireError
from ._events import Failed, Replied
from ._prices import price_of
from ._wire import (
    Delta,
    StreamError,
    StreamReader,
    Wire,
    failed_from_response,
    failed_from_stream,
    failed_malformed,
    read_message,
)

STREAM_ABOVE = 21_333
"""E25: with more `max_tokens` the SDK refuses to wait for a whole reply, so the request is streamed."""

Clock = Callable[[], float]
Draw = Callable[[], float]

_PATH = "/v1/messages"


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
    """One attempt: how it is posted, and what its outcome is as an event."""

    def __init__(self, client: Any, action: SendRequest, *, stream: bool, clock: Clock, draw: Draw) -> None:
        self.client, self.action, self.clock, self.draw = client, action, clock, draw
        self.stream = stream or action.params["max_tokens"] > STREAM_ABOVE
        self.started = time.monotonic()

    @property
    def posts_bytes(self) -> bool:
        """Whether the client takes ready bytes: Bedrock, Vertex and middleware want a dict to work on."""
        return type(self.client) in {anthropic.Anthropic, anthropic.AsyncAnthropic} and not self.client.middleware

    def post_arguments(self) -> dict[str, Any]:
        """The arguments of `client.post`."""
        action = self.action
        headers: dict[str, str] = {"Content-Type": "application/json"}
        if action.betas:
            headers["anthropic-beta"] = ",".join(action.betas)
        arguments: dict[str, Any] = {
            "cast_to": httpx2.Response,
            "options": {"headers": headers, "max_retries": 0, "timeout": self.client.timeout},
        }
        if self.stream:
            arguments["stream"] = True
        return {**arguments, "content": action.body(stream=self.stream)}

    def create_arguments(self) -> dict[str, Any]:
        """The arguments of `messages.create`, for clients that need a dict. Parameters it does not know go along."""
        params = dict(self.action.params)
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
            seconds=time.monotonic() - self.started,
            price=price,
        )

    def read(self, response: httpx2.Response) -> Replied | Failed:
        """A whole body with status 2xx."""
        try:
            wire = read_message(response.content, response.headers.get("content-type"))
        except WireError as error:
            return self.failed(error)
        return self.replied(wire, response.headers.get("request-id"))

    def failed(self, error: BaseException) -> Failed:
        """Any failure as an event: by its type first, then by status, then by class (E0, E23)."""
        at, draw, seconds = self.clock(), self.draw(), time.monotonic() - self.started
        if isinstance(error, WireError):
            return failed_malformed(error, at=at, draw=draw, seconds=seconds)
        if isinstance(error, StreamError):
            return failed_from_stream(error, at=at, draw=draw, seconds=seconds)
        if isinstance(error, anthropic.APIStatusError):
            response = error.response
            return failed_from_response(
                response.status_code, response.headers, _body(response), at=at, draw=draw, seconds=seconds
            )
        if isinstance(error, (anthropic.APIConnectionError, httpx2.HTTPError)):
            text = str(error.__cause__ or error)[:500]
            return Failed(at, "connection_error", f"{type(error).__name__}: {text}", draw=draw, seconds=seconds)
        raise error


def _body(response: httpx2.Response) -> bytes:
    try:
        return response.content
    except httpx2.HTTPError:
        return b""


@cache
def _create_parameters() -> frozenset[str]:
    return frozenset(inspect.signature(Messages.create).parameters)


def send(request: Request) -> Iterator[Delta | Replied | Failed]:
    """Send one attempt with a sync client: deltas as they come, then its outcome as the last item.

    Never raises for what the API or the network does.
    """
    try:
        if not request.stream:
            if request.posts_bytes:
                response = request.client.post(_PATH, **request.post_arguments())
            else:
                response = request.client.messages.with_raw_response.create(**request.create_arguments()).http_response
            yield request.read(response)
        elif request.posts_bytes:
            # With this cast the SDK hands out the open response itself, not one of its streams.
            yield from _read_stream(request, request.client.post(_PATH, **request.post_arguments()))
        else:
            create = request.client.messages.with_streaming_response.create
            with create(**request.create_arguments()) as opened:
                yield from _read_stream(request, opened.http_response)
    except (anthropic.AnthropicError, httpx2.HTTPError) as error:
        yield request.failed(error)


def _read_stream(request: Request, response: httpx2.Response) -> Iterator[Delta | Replied | Failed]:
    reader = StreamReader()
    try:
        for chunk in response.iter_bytes():
            yield from reader.feed(chunk)
        wire = reader.finish()
    except (WireError, StreamError, httpx2.HTTPError) as error:
        yield request.failed(_broken(error))
        return
    finally:
        response.close()
    yield request.replied(wire, response.headers.get("request-id"))


async def send_async(request: Request) -> AsyncGenerator[Delta | Replied | Failed, None]:
    """The async twin of `send`."""
    try:
        if not request.stream:
            if request.posts_bytes:
                response = await request.client.post(_PATH, **request.post_arguments())
            else:
                raw = await request.client.messages.with_raw_response.create(**request.create_arguments())
                response = raw.http_response
            yield request.read(response)
        elif request.posts_bytes:
            response = await request.client.post(_PATH, **request.post_arguments())
            async with aclosing(_read_async_stream(request, response)) as items:
                async for item in items:
                    yield item
        else:
            create = request.client.messages.with_streaming_response.create
            async with (
                create(**request.create_arguments()) as opened,
                aclosing(_read_async_stream(request, opened.http_response)) as items,
            ):
                async for item in items:
                    yield item
    except (anthropic.AnthropicError, httpx2.HTTPError) as error:
        yield request.failed(error)


async def _read_async_stream(
    request: Request, response: httpx2.Response
) -> AsyncGenerator[Delta | Replied | Failed, None]:
    reader = StreamReader()
    try:
        async for chunk in response.aiter_bytes():
            for delta in reader.feed(chunk):
                yield delta
        wire = reader.finish()
    except (WireError, StreamError, httpx2.HTTPError) as error:
        yield request.failed(_broken(error))
        return
    finally:
        await response.aclose()
    yield request.replied(wire, response.headers.get("request-id"))


def _broken(error: Exception) -> Exception:
    """A connection that broke after the stream began is a cut stream (G20), whatever its class."""
    if isinstance(error, httpx2.HTTPError):
        return WireError(f"the stream broke: {type(error).__name__}: {error}", rule="G20")
    return error


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
