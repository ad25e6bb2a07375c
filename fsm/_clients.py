"""The SDK client of a run: how it is prepared, and what comes of a request that nobody answered (E19, N8, X7).

A client is the user's own, with a gateway, a proxy, middleware or Bedrock behind it. What this file decides holds for
all of them: one attempt is one request, the key goes to the base URL and nowhere else, and to no record.
"""

from __future__ import annotations

import inspect
import socket
import ssl
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import anthropic
import httpx2

from ._events import Failed
from ._wire import clean, without

TRANSPORT_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, UnicodeError)
"""What a request without an answer raises. `UnicodeError`: a header that is not ASCII, a host name that is none."""

_NOT_SENT = "invalid_request_error"  # the same request would fail in the same way, without reaching anybody
_SHOWN = 500  # characters of an exception's text
_KEYS = ("api_key", "auth_token", "access_token", "aws_access_key", "aws_secret_key", "aws_session_token")
_CONNECTING = (
    (ssl.SSLError, "tls_error"),
    (socket.gaierror, "dns_failure"),
    (ConnectionRefusedError, "connection_refused"),
)


def takes_bytes(client: Any) -> bool:
    """Whether a client takes ready bytes: Bedrock, Vertex, subclasses and middleware want a dict to work on."""
    return type(client) in {anthropic.Anthropic, anthropic.AsyncAnthropic} and not client.middleware


def address(client: Any, path: str) -> str:
    """What to post to: the whole address, since with a path the SDK parses the joined one twice more at each request.

    A base URL that is no plain address is left to the SDK, which says what is wrong with it.
    """
    return _joined(str(client.base_url), path)


@lru_cache(maxsize=32)
def _joined(base: str, path: str) -> str:
    url = httpx2.URL(base)
    is_plain = url.is_absolute_url and not url.query and not url.fragment
    # The text of a URL ends in a host, or in the slash of its path.
    return base.removesuffix("/") + path if is_plain else path


def prepared(client: Any) -> Any:
    """The client as a run uses it: its own retries are off (rule 9), and it follows no redirect (N6).

    Whoever redirects would get the conversation and the headers that the user gave the client, a gateway's token among
    them: of these the SDK's transport drops `Authorization` only, and only on the way to another host. A client that
    takes ready bytes is told so with each request, any other by one more middleware.

    Returns: the client itself, or a copy that shares its connections; the user's own is not changed.
    """
    options: dict[str, Any] = {}
    if client.max_retries:
        options["max_retries"] = 0
    if not takes_bytes(client):
        stay = _stay_async if inspect.iscoroutinefunction(client.post) else _stay
        options["middleware"] = [*client.middleware, stay]
    return client.with_options(**options) if options else client


def _stay(request: Any, call_next: Any) -> Any:
    request.options.follow_redirects = False  # the SDK made these options for this attempt
    return call_next(request)


async def _stay_async(request: Any, call_next: Any) -> Any:
    request.options.follow_redirects = False
    return await call_next(request)


def failed_unanswered(client: Any, error: BaseException, *, at: float, draw: float, seconds: float) -> Failed:
    """The event of a request that got no answer: `connection_error`, or one that the same request earns again (E19).

    Params: `error` of the SDK or its transport; `at` seconds since the epoch, `draw` in [0, 1), `seconds` how long it
    took. The code is one of ours, where the cause is known (N8).
    """
    event, code = _meaning(error)
    cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) and error.__cause__ else error
    text = f"{type(cause).__name__}{_where(client)}: {str(cause)[:_SHOWN] or 'no answer'}"
    return Failed(at, event, clean(text), code=code, draw=draw, seconds=seconds)


def _meaning(error: BaseException) -> tuple[str, str | None]:
    causes = tuple(_causes(error))
    for cause in causes:
        if isinstance(cause, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
            return _NOT_SENT, "bad_url"
        if isinstance(cause, UnicodeError):
            # A host name that is none is "idna" from Python 3.13 on, and no UnicodeEncodeError before.
            is_header = isinstance(cause, UnicodeEncodeError) and cause.encoding != "idna"
            return _NOT_SENT, "bad_header" if is_header else "bad_url"
        if isinstance(cause, httpx2.LocalProtocolError) and "header" in str(cause):
            return _NOT_SENT, "bad_header"
    if any(isinstance(cause, httpx2.ConnectError) for cause in causes):
        for cause in causes:
            for kind, code in _CONNECTING:
                if isinstance(cause, kind):
                    return "connection_error", code
    return "connection_error", None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from; of a group, the first one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = error.__cause__ or inner or error.__context__


def _where(client: Any) -> str:
    """The address of the client, of which only scheme, host and port are no secret."""
    try:
        url = httpx2.URL(str(client.base_url))
    except httpx2.InvalidURL:
        return ""
    port = f":{url.port}" if url.port else ""
    return f" at {url.scheme}://{url.host}{port}" if url.host else ""


def without_secrets(failed: Failed, client: Any) -> Failed:
    """The same failure without the keys of the client, and without the headers that its user gave it (X7)."""
    return without(failed, _secrets(client))


def _secrets(client: Any) -> Iterator[str]:
    for name in _KEYS:
        if isinstance(value := getattr(client, name, None), str):
            yield value
    for value in (getattr(client, "_custom_headers", None) or {}).values():
        if isinstance(value, str):
            yield value
            yield value.rpartition(" ")[2]  # without its scheme
