"""Calling a `Code` function: with `Facts`, and a `Context` if it takes one."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fsm._encoded import plain
from fsm._events import CodeEnded
from fsm._facts import Facts
from fsm._states import Outcome
from fsm._toolspec import Context


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
        return CodeEnded(at, None, error=f"{type(value).__name__}: {value}", seconds=seconds)
    name, kept = (value.name, value.value) if isinstance(value, Outcome) else (value, value)
    try:
        kept = plain(kept)
    except (TypeError, ValueError) as error:
        return CodeEnded(at, None, error=f"the value of the outcome is not JSON: {error}", seconds=seconds)
    return CodeEnded(at, name, kept, seconds=seconds)
