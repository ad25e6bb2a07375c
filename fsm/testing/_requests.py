"""What the emulator refuses beside the rules of `_legality`: headers, unreadable bodies, rules of a version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

VERSIONS = frozenset({"2023-06-01", "2026-10-21"})
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
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
    text. The values of `headers` are replaced by `[redacted]`, except those of the API and of HTTP that hold no secret.
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
    """The body as a JSON object; anything else is refused."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError(f"The request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestRefusedError("The request body must be a JSON object")
    return body


def check_types(body: Mapping[str, Any]) -> None:
    """Refuse a scalar field of the wrong type (R4, R47, R62); what is missing is found by `_legality`."""
    if "model" in body and not (isinstance(body["model"], str) and body["model"]):
        raise RequestRefusedError("model: Input should be a valid string")
    limit = body.get("max_tokens", 1)
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise RequestRefusedError("max_tokens: Input should be a valid integer")
    if limit < 0 or (limit == 0 and body.get("stream")):
        raise RequestRefusedError("max_tokens: Input should be greater than or equal to 1")
    if not isinstance(body.get("stream", False), bool):
        raise RequestRefusedError("stream: Input should be a valid boolean")


def check_version(body: Mapping[str, Any], version: str) -> None:
    """Refuse what version 2026-10-21 took away (R4a); the official wording is not published."""
    if version == "2023-06-01":
        return
    for name in ("temperature", "top_p", "top_k"):
        if name in body:
            raise RequestRefusedError(f"{name}: Extra inputs are not permitted")
    for role, path, block in blocks(body["messages"]):
        if role == "assistant" and block.get("type") == "document":
            raise RequestRefusedError(f"{path}: `document` blocks can only be in `user` messages")
        if role == "user":
            _check_citations(path, block)


def _check_citations(path: str, block: Mapping[str, Any]) -> None:
    if block.get("type") == "text" and block.get("citations"):
        raise RequestRefusedError(f"{path}.text.citations: Extra inputs are not permitted")
    if block.get("type") == "search_result" and isinstance(block.get("content"), list):
        for index, inner in enumerate(block["content"]):
            if isinstance(inner, Mapping):
                _check_citations(f"{path}.search_result.content.{index}", inner)


def blocks(messages: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every content block as (role, path, block); content that is a plain string has none."""
    for number, item in enumerate(messages):
        content = item.get("content")
        for index, block in enumerate(content if isinstance(content, list) else ()):
            if isinstance(block, dict):
                yield str(item.get("role")), f"messages.{number}.content.{index}", block
