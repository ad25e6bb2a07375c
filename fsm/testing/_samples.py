"""Values that fit a JSON schema: the inputs of tools and the structured outputs that a path is played with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fsm._params import Schema

MOST = 24
"""Values tried for one schema."""

_DEEPEST = 8  # a schema that refers to itself ends here
_NUMBERS = (1, 1000, 0, -1, 2, 5, 10, 100)
_STRINGS: Mapping[str, str] = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def samples(schema: Schema, wanted: Iterable[tuple[Sequence[str], Any]] = ()) -> list[Any]:
    """Values that the schema allows, a plain one first; then such that differ from it in one place.

    Params: `wanted` are pairs of a path and the value to have there, as the guard `output("grade", "good")` asks.
    Returns at most `MOST` values; none where only a pattern or a rule of its own would tell what is allowed.
    """
    whole = dict(schema.json)
    made = _values(whole, whole, 0)
    plain = made[0] if made else {}
    asked = [_with(plain, path, value) for path, value in wanted]
    found: list[Any] = []
    for value in [*made[:1], *asked, *made[1:]]:
        if value not in found and schema.problem(value) is None:
            found.append(value)
    return found[:MOST]


def _with(value: Any, path: Sequence[str], leaf: Any) -> Any:
    """A copy with `leaf` at `path`; what stands in the way becomes an object."""
    if not path:
        return leaf
    inside = dict(value) if isinstance(value, Mapping) else {}
    inside[path[0]] = _with(inside.get(path[0]), path[1:], leaf)
    return inside


def _values(schema: Any, root: Mapping[str, Any], depth: int) -> list[Any]:
    """Values of one schema, the plain one first; empty where none can be made."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return []
    if "$ref" in schema:
        return _values(_referred(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return list(schema["enum"])
    given = [*schema.get("examples", ()), *([schema["default"]] if schema.get("default") is not None else [])]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return [*given, *(value for option in schema[key] for value in _values(option, root, depth + 1))]
    if "allOf" in schema:
        merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
        for part in schema["allOf"]:
            inner = _referred(str(part["$ref"]), root) if "$ref" in part else part
            merged = {**merged, **inner, "properties": {**merged.get("properties", {}), **inner.get("properties", {})}}
        return _values(merged, root, depth + 1)
    kinds = schema.get("type") or ("object" if "properties" in schema else None)
    named = [kinds] if isinstance(kinds, str) else list(kinds or ())
    return [*given, *(value for kind in named for value in _of_kind(kind, schema, root, depth))]


def _referred(ref: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference inside the schema stands for."""
    found: Any = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _of_kind(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> list[Any]:
    if kind == "object":
        return list(_objects(schema, root, depth))
    if kind == "array":
        return list(_arrays(schema, root, depth))
    if kind == "string":
        return [_STRINGS.get(str(schema.get("format")), "example").ljust(schema.get("minLength", 0), ".")]
    if kind in {"integer", "number"}:
        return _numbers(schema)
    return [True, False] if kind == "boolean" else [None]


def _objects(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """All properties with their plain values; then one of them another value, or left out where it may be."""
    options = {name: _values(inner, root, depth + 1) for name, inner in schema.get("properties", {}).items()}
    plain = {name: values[0] for name, values in options.items() if values}
    yield plain
    for name, values in options.items():
        for value in values[1:]:
            yield {**plain, name: value}
    for name in plain:
        if name not in schema.get("required", ()):
            yield {key: value for key, value in plain.items() if key != name}


def _arrays(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Iterator[list[Any]]:
    items = _values(schema.get("items", {}), root, depth + 1) or ["example"]
    least = schema.get("minItems", 0)
    for item in items:
        yield [item] * max(1, least)
    if not least:
        yield []


def _numbers(schema: Mapping[str, Any]) -> list[Any]:
    edges = [schema.get(key) for key in ("minimum", "maximum")]
    near = [(schema.get("exclusiveMinimum"), 1), (schema.get("exclusiveMaximum"), -1)]
    edges += [edge + by for edge, by in near if isinstance(edge, (int, float))]
    step = schema.get("multipleOf")
    steps = [step] if step else []
    return [*_NUMBERS, *(edge for edge in edges if edge is not None), *steps]
