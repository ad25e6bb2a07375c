"""A tool as the core knows it: a name, a policy, and a function that it never calls.

The JSON schema is made lazily by `tools` (it needs the SDK); the states, the checks and the conversation need the
name and the policy only.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar

from attrs import field, frozen

from ._errors import DeclarationError

D = TypeVar("D")

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # R40


@frozen
class Context(Generic[D]):
    """What a tool or a `Code` function gets besides its input, as a parameter annotated `Context[T]`.

    `deps` is the value given to `run(..., deps=)`, never recorded; `tool_use_id` is the idempotency key of the call
    (None in `Code`).
    """

    deps: D = field(repr=False)  # X7: often holds clients and keys
    run_id: str
    tags: Mapping[str, str]
    tool_use_id: str | None = None


@frozen(eq=False)
class ToolSpec:
    """One tool. `form` says what `run` is: a function, an SDK tool or toolset, or nothing (the API runs it).

    A toolset is one entry of `tools` for a family of members; its name is the family's, and its calls carry it (S6.9).

    `timeout` is seconds for one call (None: no limit, and `run` calls it in its own thread); `max_result` characters of
    its result; `idempotent` allows a second run after a crash; `needs_approval` (True, or a function of the input) asks
    a person first.
    """

    name: str
    form: Literal["function", "sdk", "toolset", "server"]
    run: Any = field(repr=False)
    description: str = field(default="", kw_only=True)
    needs_approval: bool | Callable[[dict[str, Any]], bool] = field(default=False, kw_only=True)
    idempotent: bool = field(default=False, kw_only=True)
    timeout: float | None = field(default=60.0, kw_only=True)
    max_result: int = field(default=256 * 1024, kw_only=True)
    options: Mapping[str, Any] = field(factory=dict, kw_only=True, repr=False)
    where: str = field(default="", kw_only=True)

    @property
    def is_client(self) -> bool:
        """Whether our side runs it; a server tool is run by the API."""
        return self.form != "server"

    @property
    def may_ask(self) -> bool:
        """Whether a call of it can need a person's approval."""
        return self.needs_approval is not False

    def asks(self, given: Mapping[str, Any]) -> bool:
        """Whether this call needs a person's approval."""
        need = self.needs_approval
        return need(dict(given)) if callable(need) else need

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as if it were not decorated (for your own tests)."""
        if not callable(self.run):
            msg = f"tool '{self.name}' is run by the API and cannot be called here"
            raise DeclarationError(msg)
        return self.run(*args, **kwargs)


def as_toolspec(thing: Any, state: str = "Claude") -> ToolSpec:
    """Whatever may stand in `tools=`: a `@tool`, a function, an SDK tool or toolset object, a server tool's dict.

    Raises:
        DeclarationError: it is none of these; the message names the remedy.
    """
    if isinstance(thing, ToolSpec):
        return thing
    if isinstance(thing, Mapping):
        return _from_mapping(thing)
    family = getattr(thing, "toolset_name", None)
    if isinstance(family, str) and hasattr(thing, "to_dict") and hasattr(thing, "call"):
        if isinstance(thing, type):
            msg = f"{state}(tools=...) got the toolset class {thing.__name__}: make an object of it"
            raise DeclarationError(msg)
        return ToolSpec(family, "toolset", thing, description=docstring(type(thing)))
    if hasattr(thing, "to_dict") and (hasattr(thing, "call") or hasattr(thing, "to_params")):
        name = getattr(thing, "name", None) or thing.to_dict().get("name")
        return ToolSpec(str(name), "sdk", thing, description=str(getattr(thing, "description", "") or ""))
    if callable(thing):
        return function_spec(thing)
    msg = f"{state}(tools=...) takes functions, @tool, SDK tools or server tool dicts, not {thing!r}"
    raise DeclarationError(msg)


def _from_mapping(thing: Mapping[str, Any]) -> ToolSpec:
    name = thing.get("name")
    if "input_schema" in thing:
        msg = (
            f"tool {name!r} is a bare definition that nothing can run: "
            "decorate the function with @tool, or @tool(input_schema={...})"
        )
        raise DeclarationError(msg)
    kind, server = thing.get("type"), thing.get("mcp_server_name")
    if kind == "mcp_toolset" and isinstance(server, str):  # it has no name of its own, and the API runs its tools
        return ToolSpec(f"{kind}:{server}", "server", dict(thing))
    if isinstance(kind, str) and _FAMILY.fullmatch(kind):
        msg = f"{kind!r} is a bare toolset that nothing can run (S6.9): pass the SDK's toolset object, its subclass"
        raise DeclarationError(msg)
    if not isinstance(name, str) or not isinstance(kind, str):
        msg = f"a server tool needs 'type' and 'name', as in the API's own definition: {dict(thing)!r}"
        raise DeclarationError(msg)
    return ToolSpec(name, "server", dict(thing))


_FAMILY = re.compile(r"(browser|computer)_toolset_\d{8}")


def function_spec(fn: Callable[..., Any], *, name: str | None = None, **policy: Any) -> ToolSpec:
    """The spec of a plain function; the docstring is what the model reads.

    Raises:
        DeclarationError: no docstring, a name the API would refuse (R40), a parameter without annotation.
    """
    known = str(name or getattr(fn, "__name__", ""))
    code = getattr(fn, "__code__", None)
    where = f"{_short(code.co_filename)}:{code.co_firstlineno}" if code else "?"
    if not NAME.fullmatch(known):
        msg = f"tool name {known!r} ({where}) must match ^[a-zA-Z0-9_-]{{1,64}}$ (R40): pass @tool(name=...)"
        raise DeclarationError(msg)
    description = policy.pop("description", None) or docstring(fn)
    if not description:
        msg = f"tool '{known}' ({where}) has no docstring: the model decides by it, so write one or pass description="
        raise DeclarationError(msg)
    timeout = policy.get("timeout", 60.0)
    if timeout is not None and not timeout > 0:
        msg = f"tool '{known}' ({where}): timeout= is more than 0 seconds, or None for no limit, not {timeout!r}"
        raise DeclarationError(msg)
    return ToolSpec(known, "function", fn, description=description, where=where, **policy)


def docstring(fn: Callable[..., Any]) -> str:
    """The docstring without its indentation."""
    return inspect.cleandoc(fn.__doc__ or "")


def _short(filename: str) -> str:
    return filename.replace("\\", "/").rsplit("/", 1)[-1]
