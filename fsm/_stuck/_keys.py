"""Canonical bytes of a value, and the keys by which calls and results are compared (reliability 5.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import frozen

from fsm._encoded import encoder

__all__ = ["call_key", "canonical", "result_key"]

_encode = encoder(default=repr, sort_keys=True, allow_nan=True)


def canonical(value: Any) -> bytes:
    """Bytes that are equal for equal JSON values: sorted keys, no spaces, 1 and 1.0 alike, NaN equal to itself.

    Params:
        value: what `json.loads` gives, of any depth; other objects count as their `repr`.
    """
    try:
        return _encode(_by_value(value)).encode("utf-8", "surrogatepass")
    except RecursionError:
        return "".join(_pieces(value)).encode("utf-8", "surrogatepass")


def call_key(name: str, input: Any, ignore: Collection[str] = ()) -> bytes:
    """The key of a call: its tool and its input without the fields to `ignore`."""
    if ignore and isinstance(input, Mapping):
        input = {key: value for key, value in input.items() if key not in ignore}
    # A NUL ends the name: a JSON text holds none, so no name and input run into another pair.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass") + b"\0" + canonical(input)).digest()


def result_key(is_error: bool, content: Any) -> bytes:  # noqa: FBT001  # both are what is compared
    """The key of a result: what the model reads of it. A text and one block with that text are alike."""
    if isinstance(content, list | tuple):
        content = [_uncached(block) for block in content]
        if len(content) == 1 and isinstance(only := content[0], dict) and only.keys() == {"type", "text"}:
            content = only["text"]
    # One letter says which form follows, so that no text equals a list of blocks or an error.
    if isinstance(content, str) or not content:
        return hashlib.sha256((b"e" if is_error else b"t") + (content or "").encode("utf-8", "surrogatepass")).digest()
    return hashlib.sha256((b"E" if is_error else b"T") + canonical(content)).digest()


def _uncached(block: Any) -> Any:
    """Where a cache breakpoint stands is not part of what is said."""
    if isinstance(block, Mapping) and "cache_control" in block:
        return {key: value for key, value in block.items() if key != "cache_control"}
    return block


def _by_value(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is dict or isinstance(value, Mapping):
        return {key if type(key) is str else str(key): _by_value(each) for key, each in value.items()}
    if kind is list or kind is tuple:
        return [_by_value(each) for each in value]
    return value


def _pieces(value: Any) -> Iterable[str]:
    """What `canonical` encodes, for values that are nested too deeply for recursion."""
    todo: list[Any] = [value]
    around: set[int] = set()  # what the present value stands in: a value inside itself has no JSON
    while todo:
        each = todo.pop()
        if isinstance(each, _Piece):
            around.discard(each.ends)
            yield each.text
        elif isinstance(each, Mapping | list | tuple):
            if id(each) in around:
                yield '"…"'
                continue
            around.add(id(each))
            inside: list[Any] = []
            if isinstance(each, Mapping):
                for key, member in sorted((str(key), member) for key, member in each.items()):
                    inside += [_Piece(f"{',' if inside else ''}{_encode(key)}:"), member]
                ends = "{}"
            else:
                for member in each:
                    inside += [_Piece(","), member] if inside else [member]
                ends = "[]"
            yield ends[0]
            todo += [_Piece(ends[1], id(each)), *reversed(inside)]
        else:
            yield _encode(_by_value(each))


@frozen
class _Piece:
    text: str
    ends: int = 0
