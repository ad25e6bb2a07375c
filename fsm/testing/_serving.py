"""From a scripted reply to the bytes of an answer: ids, signatures, usage, the envelope of errors, cuts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from fsm.testing import _sse
from fsm.testing._caching import Account
from fsm.testing._prefix import Piece
from fsm.testing._reply import STATUS_OF_ERROR, Reply
from fsm.testing._signing import Signer

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ID_LENGTH = 22
_ID_PREFIXES = {"tool_use": "toolu_01", "server_tool_use": "srvtoolu_01", "mcp_tool_use": "mcptoolu_01"}
_TYPE_OF_STATUS = {status: name for name, status in STATUS_OF_ERROR.items()} | {405: "invalid_request_error"}
_MAY_BE_RETRIED = frozenset({408, 409, 429})
_CHARACTERS_PER_TOKEN = 4
_CONTAINER_ENDS = "2099-12-31T23:59:59Z"  # containers live as long as the emulator


PING = _sse.encode({"type": "ping"})
Ending: TypeAlias = Literal["end", "lost", "reset", "stall", "pings"]


@frozen(kw_only=True)
class Answer:
    """What goes back over the wire.

    `chunks` are written one after another, the first after `delay` seconds, the others `pace` seconds apart. A
    `streamed` body has no length; any other announces `length` bytes. `ending` is what comes after the last chunk: the
    proper end, a lost connection (no chunk terminator, or less than was announced), a reset, or silence or pings until
    the client goes away. `silent` means that the connection is over before the first byte of the answer. `ended` is
    called when nothing more will be written.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    length: int
    streamed: bool = False
    ending: Ending = "end"
    silent: bool = False
    delay: float = 0.0
    pace: float = 0.0
    ended: Callable[[], None] = field(default=lambda: None, repr=False, eq=False)


class Ids:
    """Ids that are fresh, look like the API's, and come out the same for the same seed (V3)."""

    def __init__(self, seed: str) -> None:
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


def build_message(
    reply: Reply,
    request: Mapping[str, Any],
    pieces: Sequence[Piece],
    *,
    ids: Ids,
    signer: Signer,
    known: bytes,
    account: Account,
) -> dict[str, Any]:
    """Fill a template in: fresh ids, signatures, the request's model, usage."""
    content = [deepcopy(block) for block in reply.content or ()]
    _fill_ids(content, ids, known, _open_server_call(pieces))
    signer.sign(content, request, pieces)
    limit = request.get("max_tokens")
    spent = 3 + len(_sse.to_json(content)) // _CHARACTERS_PER_TOKEN if content else 3
    if reply.stop_reason == "max_tokens" and isinstance(limit, int):
        spent = limit
    usage = account.usage | {"output_tokens": spent, "service_tier": "standard"}
    message = {
        "id": ids.new("msg_01", known),
        "type": "message",
        "role": "assistant",
        "model": reply.model or request["model"],
        "content": content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": None if reply.stop_details is None else dict(reply.stop_details),
        "usage": usage | dict(reply.usage),
    }
    if reply.container is not None:
        message["container"] = {"id": reply.container, "expires_at": _CONTAINER_ENDS}
    return message


def _open_server_call(pieces: Sequence[Piece]) -> str | None:
    """The call of a server tool that has no result yet: the reply may open with it (section 9, R16)."""
    calls = [str(piece.block.get("id")) for piece in pieces if piece.kind in {"server_tool_use", "mcp_tool_use"}]
    done = {str(piece.block.get("tool_use_id")) for piece in pieces if piece.kind.endswith("_tool_result")}
    return next((call for call in reversed(calls) if call not in done), None)


def _fill_ids(content: Sequence[dict[str, Any]], ids: Ids, known: bytes, server_call: str | None) -> None:
    """Give each call its id, and each result and each call made by code the id of its server call."""
    for block in content:
        kind = str(block.get("type"))
        if kind in _ID_PREFIXES:
            block.setdefault("id", ids.new(_ID_PREFIXES[kind], known))
            server_call = block["id"] if kind != "tool_use" else server_call
        elif kind.endswith("_tool_result") and "tool_use_id" not in block:
            block["tool_use_id"] = server_call or ids.new("srvtoolu_01", known)
        caller = block.get("caller")
        if isinstance(caller, dict) and caller.get("type") != "direct":
            caller.setdefault("tool_id", server_call or ids.new("srvtoolu_01", known))


def message_answer(
    reply: Reply,
    message: dict[str, Any],
    request_id: str,
    *,
    stream: bool,
    chunk: int | None,
    headers: Mapping[str, str],
    delay: float,
) -> Answer:
    """The answer that carries a message, streamed or not, cut where the script says so."""
    if not stream:
        return body_answer(200, _sse.to_json(message), request_id, reply=reply, headers=headers, delay=delay)
    events = _sse.events(message, cut_input=reply.cut_input, starts_whole=reply.starts_whole)
    encoded = [_sse.encode(event) for event in events]
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
    given = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"} | dict(reply.headers)
    return Answer(
        status=200,
        headers=_headers(dict(headers) | given, request_id),
        chunks=tuple(piece for piece in encoded if piece),
        length=0,
        streamed=True,
        ending="end" if complete else "lost",
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
    # What a reply or a fault asks for wins, as a gateway's word does (E20).
    sent = ({"x-should-retry": "false"} if final else {}) | dict(headers or {}) | dict(reply.headers if reply else {})
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
        ending="end" if complete else "lost",
        silent=reply is not None and _is_silent(reply),
        delay=delay,
    )


def _is_silent(reply: Reply) -> bool:
    return reply.cut is not None and reply.cut.byte_count == 0 and not reply.cut.clean


def _headers(headers: Mapping[str, str], request_id: str) -> tuple[tuple[str, str], ...]:
    return (*((name.lower(), value) for name, value in headers.items()), ("request-id", request_id))
