"""JSON text that is parsed once and keeps where each value stands, so that a value can be echoed as it was written.

Python's own scanner does the work, with three differences from `json.loads`: NaN, Infinity and numbers too large for
a float are refused (a journal could not hold them as JSON), nesting is limited (a value that parses just below the
recursion limit cannot be written again from a deeper stack), and each failure is a `ValueError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]  # what `json` itself uses, typeshed lacks it
from math import isinf
from typing import Any

MAX_DEPTH = 200
"""Objects and lists inside each other. The API's own deepest replies have about ten."""

Member = tuple[str, Any, int, int]
"""Key, value, and where the value's text starts and ends."""

_space = re.compile(r"[ \t\n\r]*").match
_SPACES = " \t\n\r"
_LONE = re.compile("[\ud800-\udfff]")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]  # as above


def parse(text: str) -> Any:
    """The value of a whole JSON text.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or holds a number that has no finite value.
    """
    try:
        value, end = _decoder.raw_decode(text, _end_of_space(text, 0))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _end_of_space(text, end) != len(text):
        raise ValueError(f"something follows the JSON value at character {end}")
    _refuse_depth(text, value)
    return value


def members(text: str) -> list[Member]:
    """The members of a JSON text that is one object, in order, duplicates included; the last of equal keys counts.

    Raises:
        ValueError: as `parse`, and for JSON that is no object.
    """
    try:
        found, end = _members(text, _end_of_space(text, 0))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (IndexError, StopIteration):
        raise ValueError("the JSON object is not complete or holds something that is no JSON") from None
    if end != len(text) and _end_of_space(text, end) != len(text):
        raise ValueError(f"something follows the JSON object at character {end}")
    _refuse_depth(text, [member[1] for member in found])
    return found


def _members(text: str, at: int) -> tuple[list[Member], int]:
    """One pass over the top level: the scanner takes whole values. An IndexError means that the text ended."""
    if text[at] != "{":
        raise ValueError("it is no JSON object")
    found: list[Member] = []
    at = _end_of_space(text, at + 1)
    if text[at] == "}":
        return found, at + 1
    while True:
        key, at = _key(text, at)
        value, end = _scan(text, at)
        found.append((key, value, at, end))
        at = _end_of_space(text, end) if text[end] in _SPACES else end
        if text[at] == "}":
            return found, at + 1
        if text[at] != ",":
            raise ValueError(f"',' or '}}' was expected at character {at}")
        at += 1
        if text[at] in _SPACES:
            at = _end_of_space(text, at)


def _key(text: str, at: int) -> tuple[str, int]:
    """The key that starts here, and where its value starts."""
    if text[at] != '"':
        raise ValueError(f"a key was expected at character {at}")
    key, at = scanstring(text, at + 1, True)  # noqa: FBT003 - a C function: strict, positional only
    if text[at] != ":":
        at = _end_of_space(text, at)
        if text[at] != ":":
            raise ValueError(f"':' was expected at character {at}")
    at += 1
    return key, _end_of_space(text, at) if text[at] in _SPACES else at


def written(value: Any) -> str:
    """The JSON text of a value whose own text is lost.

    Raises:
        ValueError: it has none, or none that `parse` would take.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    _refuse_depth(text, value)
    return text


def raw_member(text: str, *path: str) -> str:
    """The text of the value that `path` names, as it was written: `raw_member(event, "delta", "citation")`."""
    for key in path:
        spans = [(start, end) for name, _, start, end in members(text) if name == key]
        if not spans:
            raise ValueError(f"there is no {key!r}")
        start, end = spans[-1]
        text = text[start:end]
    return text


def replaced(text: str, values: dict[str, str]) -> str:
    """The text of an object with the values of some keys (as JSON text) put in; the rest stays as it was written."""
    found = members(text)
    parts, at = [], 0
    for key, _, start, end in found:
        if key in values:
            parts += [text[at:start], values[key]]
            at = end
    known = {member[0] for member in found}
    added = [f"{quoted(key)}:{value}" for key, value in values.items() if key not in known]
    if not added:
        return "".join([*parts, text[at:]])
    close = text.rindex("}")
    return "".join([*parts, text[at:close], "," if found else "", ",".join(added), text[close:]])


def quoted(text: str) -> str:
    """The JSON string of a text. A lone surrogate, which UTF-8 cannot hold, stays escaped; the rest is as it is."""
    return json.dumps(text, ensure_ascii=bool(_LONE.search(text)))


def paired(text: str) -> str:
    """The text with surrogate halves joined that came in two pieces, as JSON itself would have joined them."""
    if not _LONE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def storable(text: str) -> str:
    """JSON text whose lone surrogates are written as escapes, so that it can become UTF-8."""
    return _LONE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _end_of_space(text: str, at: int) -> int:
    match = _space(text, at)
    return match.end() if match else at


def _refuse_depth(text: str, value: Any) -> None:
    # Depth cannot exceed the number of openings; so an ordinary reply pays for two counts and no walk.
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
