"""Calling a `Code` function: with `Facts`, and a `Context` if it takes one."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from fsm._encoded import plain
from fsm._events import CodeEnded
from fsm._facts import Facts
from fsm._redact import redact_secrets
from fsm._states import Outcome
from fsm._toolspec import Context

_LONGEST = 10_000  # characters of an exception that are kept


def call_function(fn: Callable[..., Any], facts: Facts, context: Context[Any]) -> Any:
    """Call it with what its signature takes."""
    return fn(facts, context) if _takes_context(fn) else fn(facts)


@lru_cache(maxsize=256)
def _takes_context(fn: Callable[..., Any]) -> bool:
    return len(inspect.signature(fn).parameters) > 1


def code_ended(at: float, value: Any, started: float) -> CodeEnded:
    """What it returned or raised, as an event. A value that is no JSON is an error that says so."""
    seconds = time.monotonic() - started
    if isinstance(value, BaseException):
        return CodeEnded(at, None, error=_words_of(value), seconds=seconds)
    name, kept = (value.name, value.value) if isinstance(value, Outcome) else (value, value)
    try:
        kept = plain(kept)
        plain(name)
    except (TypeError, ValueError, RecursionError) as error:
        hint = "; give value=x.model_dump(mode='json')" if _holds_model(kept) else ""
        return CodeEnded(at, None, error=f"the value of the outcome is not JSON: {error}{hint}", seconds=seconds)
    return CodeEnded(at, name, kept, seconds=seconds)


def _words_of(error: BaseException) -> str:
    """An exception in words that can be recorded, also where it cannot say what it is."""
    try:
        said = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an exception's own `__str__` may raise anything
        said = f"{type(error).__name__}: its message cannot be read"
    return redact_secrets(said[:_LONGEST]).encode(errors="replace").decode()  # X7


def _holds_model(value: Any) -> bool:
    """Whether it is a pydantic model, or a dict or list of some."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return any(hasattr(item, "model_dump") for item in (value, *inner))
