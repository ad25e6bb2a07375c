"""Where `fsm run` takes `deps` from: what `--deps` names, or `T()` where tools and functions take `Context[T]`."""

from __future__ import annotations

import inspect
import typing
from typing import Any

from fsm import Claude, Code, Context, Workflow
from fsm._terminal import one_line

from ._errors import CommandError
from ._load import load_object


def deps_of(workflow: type[Workflow], named: str | None) -> tuple[Any, str]:
    """The value for `run(deps=)`, and how it was made.

    Raises:
        CommandError: nothing says how to make it, or making it failed.
    """
    if named is not None:
        thing = load_object(named, workflow)
        return (_made(thing, named), f"{named}()") if callable(thing) else (thing, named)
    wanted = list(dict.fromkeys(_wanted(workflow)))
    if not wanted:
        return None, ""
    names = " and ".join(f"Context[{_name(each)}]" for each in wanted)
    if len(wanted) > 1 or not _makes_itself(wanted[0]):
        raise CommandError(
            f"{workflow.name} takes {names}: name a value, or a function without arguments that makes it, "
            "with --deps NAME"
        )
    return _made(wanted[0], _name(wanted[0])), f"{_name(wanted[0])}()"


def _wanted(workflow: type[Workflow]) -> typing.Iterator[Any]:
    """The T of each `Context[T]` that something in the workflow takes."""
    for node in workflow.graph.nodes:
        state = node.state
        functions: list[Any] = []
        if isinstance(state, Claude):
            functions = [tool.run for tool in state.tools if tool.form == "function"]
        elif isinstance(state, Code):
            functions = [state.fn]
        for function in functions:
            for hint in _hints(function).values():
                if typing.get_origin(hint) is Context:
                    inner = typing.get_args(hint)[0]
                    if inner not in {Any, None, type(None), object} and not isinstance(inner, typing.TypeVar):
                        yield inner


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation that cannot be read says nothing about deps; a run explains it
        return {}


def _makes_itself(wanted: Any) -> bool:
    if not inspect.isclass(wanted) or inspect.isabstract(wanted):
        return False
    try:
        inspect.signature(wanted).bind()
    except (TypeError, ValueError):
        return False
    return True


def _made(maker: Any, name: str) -> Any:
    try:
        return maker()
    except Exception as error:
        what = f"{type(error).__name__}: {one_line(error, 300)}"
        raise CommandError(f"--deps: {name}() failed with {what}") from error


def _name(thing: Any) -> str:
    return getattr(thing, "__name__", str(thing))
