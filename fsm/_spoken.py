"""Which parts of a record are bodies: what people, models and tools said, apart from what happened.

A store keeps bodies apart from the rest, so that they can be encrypted or erased while order, moves and hashes stay:
`fsm runs verify` holds after `purge`, and nothing of what was said is left.

What is the same in nearly every record is not stored: `split` drops it and `joined` puts it back. A default that a
record lacks is named in the list `"-"`, so that `joined(kind, *split(record))` is the record's data, whatever it holds.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ._encoded import encode
from ._errors import JournalError
from ._records import Record

BODIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "open": ("messages", "systems", "carried"),
        "reply": ("content", "output"),
        "error": ("message",),
        "move": ("effects", "evidence"),
        "say": ("messages",),
        "tool.end": ("ends",),
        "asked": ("prompt", "why"),
        "answer": ("said", "decisions"),
        "code.end": ("value", "error"),
        "close": ("evidence",),
    }
)
"""The fields of each kind of record that are kept as its body."""

NEEDED = frozenset({"open", "reply", "say", "tool.end", "answer", "code.end"})
"""The kinds whose bodies the next request is made of: changed ones cannot be gone on from."""

CHANGED = "redacted"
"""Stands in the data of a record whose body a store changed before it was kept."""


class TextsGone(JournalError):  # noqa: N818 - states a fact
    """What was said in a run was erased, or changed before it was stored: it can be ended, and not gone on with."""


_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "move": {"guard": None, "effects": [], "implied": False, "index": 0},
    "request": {"history": "main", "attempt": 1},
    "reply": {"price": None, "request_id": None},
}
_MESSAGE: Mapping[str, Any] = {"type": "message", "role": "assistant", "stop_sequence": None, "stop_details": None}
_PLAIN = frozenset({"id", "type", "role", "model", "stop_reason", "stop_sequence", "usage"})  # says nothing of anybody
_ABSENT = "-"
_SHORT: Mapping[str, Mapping[str, str]] = {
    "move": {"source": "s", "event": "e", "dest": "d", "request_id": "r"},
    "reply": {"message": "m", "seconds": "t", "request_id": "r"},
}  # what stands in every turn
_LONG = {kind: {short: name for name, short in names.items()} for kind, names in _SHORT.items()}
_AS_IT_IS = "="
_DIGEST = 64  # characters of a SHA-256 in hex


def split(record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data of a record without its body, and its body."""
    kind = record.kind
    data = _without(_DEFAULTS[kind], record.data) if kind in _DEFAULTS else record.data
    named = BODIES.get(kind)
    rest: dict[str, Any] = {}
    body: dict[str, Any] = {}
    if named is None:
        rest = dict(data)
    else:
        for name, value in data.items():
            (body if name in named else rest)[name] = value
    if kind == "reply" and isinstance(rest.get("message"), dict):
        _split_message(rest, body)
    elif kind == "request":
        digest = rest.get("hash")
        if "h" in rest:
            rest[_AS_IT_IS] = 1
        elif isinstance(digest, str) and len(digest) == _DIGEST and set(digest) <= _HEX:
            del rest["hash"]
            rest["h"] = b64encode(bytes.fromhex(digest)).decode().rstrip("=")
    if kind in _SHORT:
        if rest.keys().isdisjoint(_LONG[kind]):
            names = _SHORT[kind]
            rest = {names.get(name, name): value for name, value in rest.items()}
        else:
            rest[_AS_IT_IS] = 1
    return rest, body


_HEX = frozenset("0123456789abcdef")


def joined(kind: str, rest: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a record, from both parts."""
    if kind in _SHORT:
        names: Mapping[str, str] = {} if _AS_IT_IS in rest else _LONG[kind]
        rest = {names.get(name, name): value for name, value in rest.items() if name != _AS_IT_IS}
    data = {**rest, **body}
    if kind == "reply" and isinstance(rest.get("message"), dict):
        data["message"] = _with(_MESSAGE, {**rest["message"], **body.get("message", {})})
        if "event" not in rest.get(_ABSENT, ()):
            data.setdefault("event", data["message"].get("stop_reason"))
    elif kind == "request" and data.pop(_AS_IT_IS, None) is None and "h" in data:
        data["hash"] = b64decode(data.pop("h") + "=").hex()
    return _with(_DEFAULTS[kind], data) if kind in _DEFAULTS else data


def _split_message(rest: dict[str, Any], body: dict[str, Any]) -> None:
    """The fields of a message that say what somebody said (why Claude refused, for one) belong to the body."""
    message = rest["message"]
    if "event" not in rest:
        rest[_ABSENT] = [*rest.get(_ABSENT, ()), "event"]
    elif rest["event"] == message.get("stop_reason"):
        del rest["event"]
    message = _without(_MESSAGE, message)
    rest["message"] = {name: value for name, value in message.items() if name in _PLAIN or name == _ABSENT}
    if len(rest["message"]) != len(message):
        body["message"] = {name: value for name, value in message.items() if name not in rest["message"]}


def _without(defaults: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    left, absent = dict(data), []
    for name, default in defaults.items():
        if name not in left:
            absent.append(name)
        elif (value := left[name]) == default and type(value) is type(default):
            del left[name]
    if absent:
        left[_ABSENT] = absent
    return left


def _with(defaults: Mapping[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    absent = data.pop(_ABSENT, ())
    if not absent:
        return {**defaults, **data}
    return {**{name: value for name, value in defaults.items() if name not in absent}, **data}


_NAMES = frozenset({"type", "role", "id", "tool_use_id", "name"})  # the API's own words, and what ties messages


def redacted(kind: str, body: Mapping[str, Any], redact: Callable[[str], str]) -> Mapping[str, Any]:
    """A body with `redact` applied to every text in it, also in JSON that is kept as text; names and ids stay."""
    if kind == "tool.end":
        return {"ends": [[call_id, _texts(content, redact), *rest] for call_id, content, *rest in body["ends"]]}
    if kind == "open":
        carried = {name: [_in_json(raw, redact) for raw in raws] for name, raws in body.get("carried", {}).items()}
        return {**_texts({k: v for k, v in body.items() if k != "carried"}, redact), "carried": carried}
    if kind == "reply" and isinstance(body.get("content"), str):
        rest = _texts({k: v for k, v in body.items() if k != "content"}, redact)
        return {**rest, "content": _in_json(body["content"], redact)}
    found: Mapping[str, Any] = _texts(body, redact)
    return found


def _texts(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: each if name in _NAMES else _texts(each, redact) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_texts(each, redact) for each in value]
    return value


def _in_json(raw: str, redact: Callable[[str], str]) -> str:
    """The same bytes where nothing is to be changed (V-echo2)."""
    before = json.loads(raw)
    after = _texts(before, redact)
    return raw if after == before else encode(after).decode()
