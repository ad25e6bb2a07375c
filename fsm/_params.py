"""The parameters of a request that a `Claude` state takes besides its own: names as in the SDK's `messages.create`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

from attrs import asdict, field, frozen

from ._errors import DeclarationError


class MessageParams(TypedDict, total=False):
    """Parameters of `messages.create` (a test compares them with the SDK's; the message list is ours)."""

    cache_control: Mapping[str, Any] | None
    container: Any
    diagnostics: Mapping[str, Any] | None
    inference_geo: str | None
    metadata: Mapping[str, Any]
    output_config: Mapping[str, Any]
    service_tier: str
    speed: str | None
    stop_sequences: Sequence[str]
    thinking: Mapping[str, Any]
    tool_choice: Mapping[str, Any]
    user_profile_id: str
    workspace_id: str


_REMOVED = ("temperature", "top_p", "top_k")
_OWN = ("model", "max_tokens", "system", "tools", "output", "history", "fresh", "continues", "prompt", "initial")


def check_params(params: Mapping[str, Any], max_tokens: int) -> None:
    """Refuse an unknown parameter, with the nearest known one.

    Raises:
        DeclarationError: unknown name, or a `max_tokens` that is no positive number.
    """
    known = (*MessageParams.__annotations__, *_OWN, "extra_body")
    for name in params:
        if name not in MessageParams.__annotations__:
            if difflib.get_close_matches(name, _REMOVED, 1):
                msg = f"Claude(...) has no parameter {name!r}: the API has no sampling parameters any more (R4a)"
                raise DeclarationError(msg)
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}=?" if near else "pass it in extra_body={...} if the API knows it"
            msg = f"Claude(...) has no parameter {name!r}: {hint}"
            raise DeclarationError(msg)
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        msg = f"max_tokens is a positive number of tokens, not {max_tokens!r}"
        raise DeclarationError(msg)


@frozen(eq=False)
class Schema:
    """A JSON schema that is made when it is first needed, and its validator."""

    source: Any
    _made: dict[str, Any] = field(factory=dict, init=False, repr=False)

    @property
    def json(self) -> Mapping[str, Any]:
        """The schema itself."""
        if "json" not in self._made:
            self._made["json"] = self.source if isinstance(self.source, Mapping) else _derived(self.source)
        schema: Mapping[str, Any] = self._made["json"]
        return schema

    def prepare(self) -> None:
        """Make the validator: called before a run, so that a schema that cannot be used does not surface in one.

        Raises:
            DeclarationError: no JSON schema, or none that can be made of the type.
        """
        if "validator" in self._made:
            return
        import jsonschema_rs

        try:
            self._made["validator"] = jsonschema_rs.validator_for(dict(self.json))
        except Exception as error:
            msg = f"the JSON schema {self.source!r} cannot be used: {error}"
            raise DeclarationError(msg) from error

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, in one line for the model, or None."""
        self.prepare()
        found = next(self._made["validator"].iter_errors(value), None)
        if found is None:
            return None
        path = ".".join(str(p) for p in found.instance_path)
        return f"{path}: {found.message}" if path else str(found.message)


def _derived(source: Any) -> Mapping[str, Any]:
    from pydantic import TypeAdapter

    closed: Mapping[str, Any] = _closed(TypeAdapter(source).json_schema())
    return closed


def _closed(schema: Any) -> Any:
    """Structured outputs want `additionalProperties: false` on every object (R43)."""
    if isinstance(schema, dict):
        made = {key: _closed(value) for key, value in schema.items()}
        return {**made, "additionalProperties": False} if made.get("type") == "object" else made
    return [_closed(item) for item in schema] if isinstance(schema, list) else schema


def output_schema(output: Any) -> Schema | None:
    """What stands in `output=`, as a schema.

    Raises:
        DeclarationError: neither a schema nor a type.
    """
    if output is None or isinstance(output, Schema):
        return output
    if isinstance(output, (Mapping, type)) or hasattr(output, "__origin__"):
        return Schema(output)
    msg = f"output= takes a JSON schema or a type, not {output!r}"
    raise DeclarationError(msg)


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


_UNITS: dict[str, float] = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*")


def seconds_of(span: str | float | timedelta | None) -> float | None:
    """A time span in seconds: 90, "90s", "30m", "12h", "1d", or a timedelta.

    Raises:
        DeclarationError: none of these, or not positive.
    """
    given = span
    if span is None:
        return None
    if isinstance(span, timedelta):
        span = span.total_seconds()
    if isinstance(span, str):
        found = _SPAN.fullmatch(span)
        span = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not _is_positive(span):
        msg = f"a time span is a positive number of seconds, or text such as '90s', '30m', '12h', '1d', not {given!r}"
        raise DeclarationError(msg)
    return float(span)


@frozen(kw_only=True)
class Limits:
    """What a run may use; reaching one is the event `over_limit`. None: no limit.

    `turns` replies, `tool_calls` calls, `tokens` of all kinds, `money` in US dollars, `seconds` of recorded work.
    """

    turns: int | None = field(default=None)
    tool_calls: int | None = field(default=None)
    tokens: int | None = field(default=None)
    money: float | None = field(default=None)
    seconds: float | None = field(default=None)

    def __attrs_post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not _is_positive(value):
                msg = f"Limits({name}=) is a positive number, not {value!r}"
                raise DeclarationError(msg)

    def given(self) -> dict[str, float]:
        """The limits that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}
