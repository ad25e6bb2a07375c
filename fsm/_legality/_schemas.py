"""JSON Schema as far as the API looks at it (R42, R43, R45); inputs are not validated here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["is_circular", "is_schema", "objects_of"]

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_names(value: object) -> bool:
    names = value if isinstance(value, list | tuple) else (0,)
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _is_type(value: object) -> bool:
    if isinstance(value, str):
        return value in _TYPES
    return _is_names(value) and bool(value) and _TYPES.issuperset(value)  # type: ignore[arg-type]  # they are names


def _is_string(value: object) -> bool:
    return isinstance(value, str)


_VALUES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _is_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _is_number),
    **dict.fromkeys(("pattern", "format", "title", "description", "$ref", "$schema", "$id", "$comment"), _is_string),
    "type": _is_type,
    "required": _is_names,
    "enum": lambda value: isinstance(value, list | tuple),
    "uniqueItems": lambda value: isinstance(value, bool),
}


def _parts(schema: Mapping[str, Any]) -> Iterator[object]:
    """What must be schemas directly below a schema."""
    for key in _MAPS:
        if isinstance(below := schema.get(key), Mapping):
            yield from below.values()
    for key in _LISTS:
        if isinstance(below := schema.get(key), list | tuple):
            yield from below
    yield from (schema[key] for key in _SINGLE if key in schema)


def is_schema(schema: object) -> bool:
    """Whether a value is a schema of draft 2020-12 by its keywords; references are not followed."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, bool):
            continue
        if not isinstance(part, Mapping):
            return False
        if any(key in part and not isinstance(part[key], Mapping) for key in _MAPS):
            return False
        if any(key in part and not (isinstance(part[key], list | tuple) and part[key]) for key in _LISTS):
            return False
        if any(key in part and not is_right(part[key]) for key, is_right in _VALUES.items()):
            return False
        waiting += _parts(part)
    return True


def objects_of(schema: object) -> Iterator[Mapping[str, Any]]:
    """The schema and all schemas below it, references not followed."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield part
            waiting += _parts(part)


def _target(schema: Mapping[str, Any], ref: str) -> object:
    found: object = schema
    for name in ref.removeprefix("#").strip("/").split("/"):
        if name:
            found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def _refs(part: object) -> set[str]:
    every = (each.get("$ref") for each in objects_of(part))
    return {ref for ref in every if isinstance(ref, str) and ref.startswith("#")}


def is_circular(schema: Mapping[str, Any]) -> bool:
    """Whether a reference inside the schema leads back to where it stands."""
    starts = _refs(schema)
    if "#" in starts:
        return True
    for start in starts:
        waiting, met = [start], set[str]()
        while waiting:
            refs = _refs(_target(schema, waiting.pop()))
            if start in refs:
                return True
            waiting += refs - met
            met |= refs
    return False
