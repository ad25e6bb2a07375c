"""What the emulator refuses before the rules of `_legality`: headers, and bodies that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

VERSIONS = frozenset({"2023-06-01", "2026-10-21"})
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
MAX_BODY = 32 * 1024 * 1024  # bytes, R54
# Headers whose values are kept. Keys come under any name (`api-key`, `x-goog-api-key`, a gateway's own), so that what
# is not known to hold none is not kept (X7).
_OPEN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "anthropic-version",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "transfer-encoding",
        "user-agent",
    }
)
_OPEN_PREFIX = "x-stainless-"  # what the SDK says of itself


class RequestRefusedError(Exception):
    """The emulator answers this request with an error of the API; never leaves the emulator."""

    def __init__(self, message: str, *, status: int = 400, details: Mapping[str, Any] | None = None) -> None:
        """Params: the API's own words, the HTTP status, `details` with its `error_code`."""
        super().__init__(message)
        self.status = status
        self.details = details


@frozen(kw_only=True)
class RecordedRequest:
    """One request that the emulator received, whatever it answered.

    `body` is the JSON object that was sent (`None` where it was none), `conversation` the same with the history that
    the server holds for its thread (`None` where the request was refused), `status` what was answered, `error` its
    text, `fault` what a fault plan did to the answer, `paused` whether it sends a paused turn back. The values of
    `headers` are replaced by `[redacted]`, except those of the API and of HTTP that hold no secret.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes = field(repr=False)
    body: dict[str, Any] | None = field(repr=False)
    conversation: dict[str, Any] | None = field(repr=False)
    status: int
    request_id: str
    error: str | None = None
    fault: str | None = None
    paused: bool = False

    @property
    def refused(self) -> bool:
        """Whether the answer was an error status."""
        return self.status >= 400  # noqa: PLR2004 - HTTP's own line between success and failure


def redacted(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers in lower case; the value of each that may hold a secret is left out (X7)."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return {
        name: value if name in _OPEN_HEADERS or name.startswith(_OPEN_PREFIX) else "[redacted]"
        for name, value in lowered.items()
    }


def check_http(method: str, path: str, headers: Mapping[str, str]) -> None:
    """Refuse an unknown path (404), another method (405), a missing key (401), a wrong version (V1, R1)."""
    if path not in {MESSAGES, COUNT_TOKENS}:
        raise RequestRefusedError(f"Not found: {path}", status=404)
    if method != "POST":
        raise RequestRefusedError("Method Not Allowed", status=405)
    bearer = headers.get("authorization", "")
    if not (headers.get("x-api-key", "").strip() or bearer.removeprefix("Bearer ").strip()):
        raise RequestRefusedError("invalid x-api-key", status=401)
    version = headers.get("anthropic-version")
    if version is None:
        raise RequestRefusedError("anthropic-version: header is required")
    if version not in VERSIONS:
        problem = f'anthropic-version: "{version}" is not a valid version'
        raise RequestRefusedError(problem)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestRefusedError("content-type: must be application/json")


def parse(raw: bytes) -> dict[str, Any]:
    """The body as a JSON object; anything else is refused, and what is too large before it is read (R54)."""
    if len(raw) > MAX_BODY:
        raise RequestRefusedError("Request exceeds the maximum size", status=413)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError(f"The request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestRefusedError("The request body must be a JSON object")
    return body
