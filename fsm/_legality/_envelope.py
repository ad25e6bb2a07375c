"""The parameters around the messages, in the order in which the API looks at them (R2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _findings as findings
from ._blocks import check_block
from ._features import check_features
from ._findings import Violation, said
from ._marks import check_cache_control
from ._thinking import check_thinking, mode
from ._tools import check_tool_choice, check_tools, forced

if TYPE_CHECKING:
    from ._asked import Asked, Check

__all__ = ["AFTER_MESSAGES", "BEFORE_MESSAGES", "max_tokens"]

_TIERS = ("auto", "standard_only")
_SPEEDS = ("standard", "fast")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def _either(values: tuple[str, ...]) -> str:
    return " or ".join((", ".join(f"'{value}'" for value in values[:-1]), f"'{values[-1]}'"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _model(request: Mapping[str, Any], _: Asked) -> Iterator[Violation]:
    if "model" in request and not (isinstance(request["model"], str) and request["model"]):
        yield findings.wrong_type("model", "a valid string")


def _system(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if not asked.given(request, "system"):
        return
    system, found = request["system"], list[Violation]()
    if isinstance(system, list | tuple):
        for index, block in enumerate(system):
            if check_block(block, f"system.{index}", found) not in {"text", None}:
                found.append(findings.wrong_type(f"system.{index}.type", "'text'"))
    elif not isinstance(system, str):
        found.append(findings.wrong_type("system", "a valid array"))
    yield from found


def _output_config(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if not asked.given(request, "output_config"):
        return
    config = request["output_config"]
    if not isinstance(config, Mapping):
        yield findings.wrong_type("output_config", "an object")
        return
    effort, form = config.get("effort"), config.get("format")
    if effort is not None and not isinstance(effort, str):
        yield findings.wrong_type("output_config.effort", "a valid string")
    elif asked.strict and effort is not None and effort not in _EFFORTS:
        yield findings.wrong_type("output_config.effort", _either(_EFFORTS))
    if form is None:
        return
    if not isinstance(form, Mapping):
        yield findings.wrong_type("output_config.format", "an object", "R57")
    elif form.get("type") != "json_schema":
        yield findings.wrong_type("output_config.format.type", "'json_schema'", "R57")
    elif not isinstance(form.get("schema"), Mapping):
        yield findings.missing("output_config.format.schema", "R57")


def max_tokens(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    """R46, R47: how much may be asked for, and when nothing may be; that it is there is asked elsewhere."""
    if "max_tokens" not in request:
        return
    limit, most = request["max_tokens"], asked.profile.max_output
    if not _is_integer(limit):
        yield findings.wrong_type("max_tokens", "a valid integer")
    elif limit < 0:
        yield findings.too_small("max_tokens", 1)
    elif limit == 0:
        config = request.get("output_config")
        reasons = {
            "`stream`": request.get("stream") is True,
            "`thinking.type.enabled`": mode(request) == "enabled",
            "`output_config.format`": isinstance(config, Mapping) and config.get("format") is not None,
            "a forced `tool_choice`": forced(request),
        }
        if with_what := [name for name, is_so in reasons.items() if is_so]:
            text = f"Input should be greater than or equal to 1 with {', '.join(with_what)}"
            yield said("R47", "max_tokens", text, "Warm the cache with a request that has none of these.")
    elif most is not None and limit > most and not asked.has("output-"):
        text = (
            f"max_tokens: {limit} > {most}, which is the maximum allowed number of output tokens for "
            f"{request.get('model') or asked.profile.name}"
        )
        yield Violation("R46", "max_tokens", text, f"Ask for at most {most} tokens.")


def _metadata(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if not asked.given(request, "metadata"):
        return
    metadata = request["metadata"]
    if not isinstance(metadata, Mapping):
        yield findings.wrong_type("metadata", "an object", "R52")
        return
    if not isinstance(metadata.get("user_id", ""), str | None):
        yield findings.wrong_type("metadata.user_id", "a valid string", "R52")
    if not asked.profile.extra_keys_allowed:
        for key in metadata:
            if key != "user_id":
                text = "Extra inputs are not permitted"
                yield said("R52", f"metadata.{key}", text, "Send only `user_id`; keep the rest in your own records.")


def _stop_sequences(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if not asked.given(request, "stop_sequences"):
        return
    sequences = request["stop_sequences"]
    if not isinstance(sequences, list | tuple):
        yield findings.wrong_type("stop_sequences", "a valid array", "R51")
        return
    for index, each in enumerate(sequences):
        if not isinstance(each, str):
            yield findings.wrong_type(f"stop_sequences.{index}", "a valid string", "R51")
        elif not each.strip():
            text = "stop_sequences: each stop sequence must contain non-whitespace"
            yield Violation("R51", f"stop_sequences.{index}", text, "Leave the blank sequence out.")


def _sampling(request: Mapping[str, Any], asked: Asked, name: str) -> Iterator[Violation]:
    """R4a, R37: what is the same for the three of them; the version decides first."""
    value = request[name]
    if asked.profile.is_trimmed:
        yield findings.removed(name)
    elif not (_is_integer(value) if name == "top_k" else _is_number(value)):
        yield findings.wrong_type(name, "a valid integer" if name == "top_k" else "a valid number")
    elif value < 0:
        yield findings.too_small(name, 0)
    elif name != "top_k" and value > 1:
        yield findings.wrong_type(name, "less than or equal to 1")
    elif asked.profile.sampling is False and (name == "top_k" or value != 1):
        text = f"`{name}` is deprecated for this model."
        yield Violation("R4a", name, text, f"Leave `{name}` out.")


def _temperature(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if not asked.given(request, "temperature"):
        return
    found = list(_sampling(request, asked, "temperature"))
    yield from found
    if not found and mode(request) in {"enabled", "adaptive"} and request["temperature"] != 1:
        text = "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode"
        yield Violation("R37", "temperature", text, "Leave `temperature` out, or switch thinking off.")


def _service_tier(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if asked.given(request, "service_tier") and request["service_tier"] not in _TIERS:
        yield findings.wrong_type("service_tier", _either(_TIERS), "R62")


def _top_k(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if not asked.given(request, "top_k"):
        return
    found = list(_sampling(request, asked, "top_k"))
    yield from found
    if not found and mode(request) in {"enabled", "adaptive"}:
        text = "`top_k` must be unset when thinking is enabled or in adaptive mode"
        yield Violation("R37", "top_k", text, "Leave `top_k` out, or switch thinking off.")


def _top_p(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if not asked.given(request, "top_p"):
        return
    found = list(_sampling(request, asked, "top_p"))
    yield from found
    if not found and asked.profile.sampling_pair is False and request.get("temperature") is not None:
        text = "`temperature` and `top_p` cannot both be specified for this model."
        yield Violation("R4a", "top_p", text, "Send one of the two.")


def _stream(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if asked.given(request, "stream") and not isinstance(request["stream"], bool):
        yield findings.wrong_type("stream", "a valid boolean", "R62")


def _container(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if asked.given(request, "container") and not isinstance(request["container"], str | Mapping):
        yield findings.wrong_type("container", "a valid string", "R53")


def _inference_geo(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if asked.given(request, "inference_geo") and not isinstance(request["inference_geo"], str):
        yield findings.wrong_type("inference_geo", "a valid string", "R62")


def _speed(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    if asked.strict and asked.given(request, "speed") and request["speed"] not in _SPEEDS:
        yield findings.wrong_type("speed", _either(_SPEEDS), "R62")


BEFORE_MESSAGES: tuple[Check, ...] = (_model, check_tool_choice, check_tools)
"""What is judged before the shapes of the messages."""

AFTER_MESSAGES: tuple[Check, ...] = (
    _system,
    check_thinking,
    _output_config,
    check_cache_control,
    max_tokens,
    _metadata,
    _stop_sequences,
    _temperature,
    _service_tier,
    _top_k,
    _top_p,
    _stream,
    _container,
    _inference_geo,
    _speed,
    check_features,
)
"""What is judged after them, and before unknown keys and the shape of the conversation."""
