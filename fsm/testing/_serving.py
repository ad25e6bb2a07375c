"""From a scripted reply to the bytes of an answer: ids, signatures, usage, the envelope of errors, cuts."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from attrs import frozen

from fsm.testing import _sse
from fsm.testing._reply import STATUS_OF_ERROR, Reply

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ID_LENGTH = 22
_ID_PREFIXES = {"tool_use": "toolu_01", "server_tool_use": "srvtoolu_01", "mcp_tool_use": "mcptoolu_01"}
_TYPE_OF_STATUS = {status: name for name, status in STATUS_OF_ERROR.items()} | {405: "invalid_request_error"}
_MAY_BE_RETRIED = frozenset({408, 409, 429})
_CHARACTERS_PER_TOKEN = 4


@frozen(kw_only=True)
class Answer:
    """What goes back over the wire.

    `chunks` are written one after another after `delay` seconds. A `streamed` body has no length; any other announces
    `length` bytes. `complete=False` means that the connection is lost after the last chunk, `silent` that it is
    lost before the first byte of the answer.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    length: int
    streamed: bool = False
    complete: bool = True
    silent: bool = False
    delay: float = 0.0


class Ids:
    """Ids that are fresh, look like the API's, and come out the same for the same seed (V3)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def new(self, prefix: str, known: bytes) -> str:
        """Make the next id that does not occur in `known`: another emulator of this seed may have made some of it."""
        while True:
            self._count += 1
            number = int.from_bytes(hashlib.sha256(f"{self._seed}/{self._count}".encode()).digest())
            letters = []
            for _ in range(_ID_LENGTH):
                number, rest = divmod(number, len(_ALPHABET))
                letters.append(_ALPHABET[rest])
            made = prefix + "".join(letters)
            if made.encode() not in known:
                return made


class Signer:
    """Signs thinking, so that an altered block is found when it comes back (V4, R31, R32)."""

    def __init__(self, seed: int) -> None:
        self._key = f"fsm emulator {seed}".encode()
        self._given: set[tuple[str, str]] = set()

    def sign(self, text: str) -> str:
        """The signature of a thinking text."""
        digest = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()

    def fill(self, block: dict[str, Any]) -> None:
        """Sign a thinking block; a signature that the script gave stays and is remembered."""
        if block["type"] == "thinking":
            block.setdefault("signature", self.sign(block["thinking"]))
            self._given.add((block["thinking"], block["signature"]))
        elif block["type"] == "redacted_thinking":
            block.setdefault("data", self.sign("redacted"))

    def accepts(self, block: Mapping[str, Any]) -> bool:
        """Whether a thinking block that came back is as it was served."""
        text, signature = block.get("thinking"), block.get("signature")
        if not isinstance(text, str) or not isinstance(signature, str):
            return False
        return (text, signature) in self._given or hmac.compare_digest(
            signature.encode("utf-8", "surrogatepass"), self.sign(text).encode()
        )


def build_message(
    reply: Reply, request: Mapping[str, Any], *, ids: Ids, signer: Signer, known: bytes, input_tokens: int
) -> dict[str, Any]:
    """Fill a template in: fresh ids, signatures, the request's model, plausible usage."""
    content = [deepcopy(block) for block in reply.content or ()]
    server_call: str | None = None
    for block in content:
        kind = str(block.get("type"))
        if kind in _ID_PREFIXES:
            block.setdefault("id", ids.new(_ID_PREFIXES[kind], known))
            server_call = block["id"] if kind != "tool_use" else server_call
        elif kind.endswith("_tool_result") and "tool_use_id" not in block:
            block["tool_use_id"] = server_call or ids.new("srvtoolu_01", known)
        elif kind in {"thinking", "redacted_thinking"}:
            signer.fill(block)
    limit = request.get("max_tokens")
    spent = 3 + len(_sse.to_json(content)) // _CHARACTERS_PER_TOKEN if content else 3
    if reply.stop_reason == "max_tokens" and isinstance(limit, int):
        spent = limit
    usage = {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": spent,
        "service_tier": "standard",
    }
    return {
        "id": ids.new("msg_01", known),
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": None if reply.stop_details is None else dict(reply.stop_details),
        "usage": usage | dict(reply.usage),
    }


def tokens(size: int) -> int:
    """A plausible number of tokens for so many bytes of JSON."""
    return max(1, size // _CHARACTERS_PER_TOKEN)


def message_answer(
    reply: Reply, message: dict[str, Any], request_id: str, *, stream: bool, chunk: int | None, delay: float
) -> Answer:
    """The answer that carries a message, streamed or not, cut where the script says so."""
    if not stream:
        return body_answer(200, _sse.to_json(message), request_id, reply=reply, delay=delay)
    encoded = [_sse.encode(event) for event in _sse.events(message, cut_input=reply.cut_input)]
    if reply.error_after is not None:
        kept = encoded[: min(reply.error_after, len(encoded) - 1)]
        encoded = [*kept, _sse.encode(_sse.error_event(dict(reply.error or {}), request_id))]
    complete = True
    if reply.cut is not None:
        complete = reply.cut.clean
        if reply.cut.events is not None:
            encoded = encoded[: reply.cut.events]
        else:
            encoded = [b"".join(encoded)[: reply.cut.byte_count]]
    if chunk is not None:
        whole = b"".join(encoded)
        encoded = [whole[at : at + chunk] for at in range(0, len(whole), chunk)]
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"} | dict(reply.headers)
    return Answer(
        status=200,
        headers=_headers(headers, request_id),
        chunks=tuple(piece for piece in encoded if piece),
        length=0,
        streamed=True,
        complete=complete,
        silent=_is_silent(reply),
        delay=delay,
    )


def error_answer(
    status: int,
    error: Mapping[str, Any],
    request_id: str,
    *,
    headers: Mapping[str, str] | None = None,
    reply: Reply | None = None,
    delay: float = 0.0,
) -> Answer:
    """An error in the API's envelope (E0); a 4xx that cannot succeed later says so to the SDK (V2)."""
    body = _sse.to_json({"type": "error", "error": dict(error), "request_id": request_id})
    final = 400 <= status < 500 and status not in _MAY_BE_RETRIED  # noqa: PLR2004 - the 4xx class
    sent = ({"x-should-retry": "false"} if final else {}) | dict(headers or {})
    return body_answer(status, body, request_id, reply=reply, headers=sent, delay=delay)


def error_type(status: int) -> str:
    """The error type of a status (E1-E18); what has none of its own is a bad request or a server error."""
    fallback = "api_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004 - the 5xx class
    return _TYPE_OF_STATUS.get(status, fallback)


def body_answer(
    status: int,
    body: bytes,
    request_id: str,
    *,
    reply: Reply | None = None,
    headers: Mapping[str, str] | None = None,
    delay: float = 0.0,
) -> Answer:
    """An answer that is no stream, cut where the script says so."""
    given = {"content-type": "application/json"} | dict(reply.headers if reply else {}) | dict(headers or {})
    kept, complete = body, True
    if reply is not None and reply.cut is not None:
        at = reply.cut.byte_count
        kept, complete = body[: len(body) // 2 if at is None else at], reply.cut.clean
    return Answer(
        status=status,
        headers=_headers(given, request_id),
        chunks=(kept,) if kept else (),
        # A clean cut announces what it sends; a lost connection announced more than came.
        length=len(kept) if complete else max(len(body), len(kept) + 1),
        complete=complete,
        silent=reply is not None and _is_silent(reply),
        delay=delay,
    )


def _is_silent(reply: Reply) -> bool:
    return reply.cut is not None and reply.cut.byte_count == 0 and not reply.cut.clean


def _headers(headers: Mapping[str, str], request_id: str) -> tuple[tuple[str, str], ...]:
    return (*((name.lower(), value) for name, value in headers.items()), ("request-id", request_id))
