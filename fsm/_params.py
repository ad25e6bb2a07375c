"""The parameters of a request that a `Claude` state takes besides its own: names as in the SDK's `messages.create`."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

from attrs import asdict, field, frozen

from ._encoded import encode
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


_SHOWN: Mapping[str, tuple[str, ...]] = {
    "inference_geo": (),
    "output_config": ("effort", "task_budget"),
    "service_tier": (),
    "speed": (),
    "stop_sequences": (),
    "thinking": ("type", "budget_tokens", "display"),
    "tool_choice": ("type", "name", "disable_parallel_tool_use"),
}  # what a picture may show, of objects their members; all else may be a credential or say who the user is (X7)


def shown_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request that may be shown to whoever sees a picture (X7); others can only be named."""
    shown: dict[str, Any] = {}
    for name, members in _SHOWN.items():
        value = params.get(name)
        if members and isinstance(value, Mapping):
            value = {member: value[member] for member in members if member in value}
        if value:
            shown[name] = value
    return shown


_REMOVED = ("temperature", "top_p", "top_k")
_DEEPEST = 500  # levels of a JSON value that are looked at: a recursive schema would exhaust the stack of the validator
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
        if max_tokens == 0 and not isinstance(max_tokens, bool):  # S5.5: it only fills the cache, and answers nothing
            msg += ": a request with 0 only warms the cache, so send that one yourself with client.messages.create"
        raise DeclarationError(msg)
    for name in _OBJECTS:
        if params.get(name) is not None and not isinstance(params[name], Mapping):
            msg = f"{name}= is a dict as in the API, not {params[name]!r}"
            raise DeclarationError(msg)
    stops = params.get("stop_sequences")
    if "stop_sequences" in params and not _is_texts(stops):
        msg = f"stop_sequences= is a list of texts, not {stops!r}"
        raise DeclarationError(msg)
    for name, value in params.items():
        check_json(value, f"{name}=")


_OBJECTS = ("cache_control", "diagnostics", "metadata", "output_config", "thinking", "tool_choice")


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


_RESERVED = {
    **{name: f"write {name}= of the state" for name in ("model", "max_tokens", "system", "tools")},
    "messages": "the framework keeps the messages",
    "stream": "pass stream=True to run()",
}


def check_extra(extra: Any) -> Mapping[str, Any]:
    """What stands in `extra_body=`, where it can be merged into a request.

    Raises:
        DeclarationError: no dict, a parameter that is set elsewhere, or no JSON.
    """
    if extra is None:
        return {}
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        msg = f"extra_body= is a dict of parameters by name, not {extra!r}"
        raise DeclarationError(msg)
    for name in extra:
        known = f"write {name}= of the state" if name in MessageParams.__annotations__ else None
        if instead := _RESERVED.get(name, known):
            msg = f"extra_body={{{name!r}: ...}} is reserved: {instead}"
            raise DeclarationError(msg)
    check_json(extra, "extra_body=")
    return extra


def check_choice(choice: Mapping[str, Any] | None, tools: Sequence[str]) -> None:
    """Refuse a `tool_choice` that no tool can answer.

    Raises:
        DeclarationError: no tools, or none of that name.
    """
    if choice is None:
        return
    if not tools:
        msg = f"tool_choice={dict(choice)!r} needs tools=: there is nothing to choose from"
        raise DeclarationError(msg)
    if choice.get("type") == "tool" and choice.get("name") not in tools:
        msg = f"tool_choice= names the tool {choice.get('name')!r}; the tools are: {', '.join(tools)}"
        raise DeclarationError(msg)


def check_system(system: Any) -> None:
    """Refuse what cannot stand in `system=`.

    Raises:
        DeclarationError: neither text, text blocks nor a function, or not to be sent (R26).
    """
    if system is None or callable(system):
        return
    if not isinstance(system, str) and not (
        isinstance(system, (list, tuple)) and all(isinstance(block, Mapping) for block in system)
    ):
        msg = f"system= is text, a list of text blocks or a function of deps, not {system!r}"
        raise DeclarationError(msg)
    check_json(system, "system=")


def check_json(value: Any, what: str) -> None:
    """Refuse what cannot be sent as JSON (R26).

    Raises:
        DeclarationError: `what` it is, and why.
    """
    why = unsendable(value)
    if why is not None:
        msg = f"{what} cannot be sent as JSON (R26): {why}"
        raise DeclarationError(msg)


def unsendable(value: Any) -> str | None:
    """Why a value cannot be sent or recorded as JSON: NaN, half a character, bytes, too deep; or None."""
    if _is_deep(value):
        return f"it is nested more than {_DEEPEST} levels deep"
    try:
        encode(value)
    except UnicodeEncodeError:
        return "it holds half a character (a lone surrogate)"
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    return None


@frozen(eq=False)
class Schema:
    """A JSON schema that is made when it is first needed, and its validator. `formats`: also check `format`."""

    source: Any
    formats: bool = field(default=False, kw_only=True)
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
            schema = dict(self.json)
            check_json(schema, "it")
            # Offline: a `$ref` must not make this process fetch anything.
            made = jsonschema_rs.validator_for(schema, validate_formats=self.formats, offline=True)
        except Exception as error:
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            msg = f"the JSON schema {self.source!r} cannot be used: {why}"
            raise DeclarationError(msg) from error
        self._made["validator"] = made

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, in one line for the model, or None. It raises for no value."""
        self.prepare()
        why = unsendable(value)
        if why is not None:
            return why
        try:
            found = next(self._made["validator"].iter_errors(value), None)
        except Exception as error:  # noqa: BLE001 - a limit of the validator is the model's to work around
            return f"it cannot be checked: {error}"
        if found is None:
            return None
        path = ".".join(str(p) for p in found.instance_path)
        return f"{path}: {found.message}" if path else str(found.message)


def _is_deep(value: Any) -> bool:
    """Whether it has more levels than are looked at. Without recursion, which is what it protects from."""
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(v for v in item.values() if isinstance(v, (dict, list, tuple)))
            elif isinstance(item, (list, tuple)):
                inner.extend(v for v in item if isinstance(v, (dict, list, tuple)))
        if not inner:
            return False
        level = inner
    return True


def _derived(source: Any) -> Mapping[str, Any]:
    from pydantic import TypeAdapter

    closed: Mapping[str, Any] = _closed(TypeAdapter(source).json_schema())
    return closed


def _closed(schema: Any) -> Any:
    """Structured outputs want `additionalProperties: false` on objects (R43); a dict of any keys stays one."""
    if isinstance(schema, dict):
        made = {key: value if key in _DATA else _closed(value) for key, value in schema.items()}
        closes = made.get("type") == "object" and "properties" in made
        return {"additionalProperties": False, **made} if closes else made
    return [_closed(item) for item in schema] if isinstance(schema, list) else schema


_DATA = frozenset({"default", "const", "enum", "examples"})  # these hold values, not schemas


def output_schema(output: Any) -> Schema | None:
    """What stands in `output=`, as a schema.

    Raises:
        DeclarationError: neither a schema nor a type.
    """
    if output is None or isinstance(output, Schema):
        return output
    if isinstance(output, (Mapping, type, types.UnionType)) or any(hasattr(output, name) for name in _TYPE_MARKS):
        return Schema(output, formats=True)
    msg = f"output= takes a JSON schema or a type, not {output!r}"
    raise DeclarationError(msg)


_TYPE_MARKS = ("__origin__", "__supertype__", "__value__")  # generics, NewType, `type X = ...`


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


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


def lasting(seconds: float) -> str:
    """A time span in the largest unit that it is a whole number of: "1 d", "12 h", "90 s"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s"


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
