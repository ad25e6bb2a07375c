"""Running tools: `@tool`, schemas through the SDK's `beta_tool`, validation, and results the model can act on.

Whatever goes wrong with one call becomes a short text for the model, marked `is_error`: an unknown name, an input
against the schema, an exception, a timeout, a result that is too large or no JSON. A tool never ends the run.
"""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Generator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar, overload

from ._actions import OpenCall
from ._errors import DeclarationError, UsageError
from ._events import ToolEnd
from ._params import Schema, check_json
from ._reading import invalid_json
from ._results import Misfit, reasons_of, sendable
from ._toolspec import Context, ToolSpec, docstring, function_spec

F = TypeVar("F", bound=Callable[..., Any])

_POLICY = ("needs_approval", "idempotent", "timeout", "max_result", "description")


@overload
def tool(fn: Callable[..., Any]) -> ToolSpec: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: bool | Callable[[dict[str, Any]], bool] = False,
    idempotent: bool = False,
    timeout: float | None = 60.0,
    max_result: int = 256 * 1024,
    input_schema: Mapping[str, Any] | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], ToolSpec]: ...
def tool(fn: Callable[..., Any] | None = None, **given: Any) -> Any:
    """Make a plain or async function a tool that Claude may call.

    The docstring is what the model reads; the annotations make the JSON schema (through the SDK's `beta_tool`). A
    parameter annotated `Context[T]` gets deps, run id, tags and the call's id, and is not part of the schema.

    Args:
        fn: the function.
        given: `name`, `description`, `needs_approval` (True, or a function of the input), `idempotent` (may run again
            after a crash), `timeout` (seconds; None for no limit, then `run` calls it in its own thread, which some
            connections need), `max_result` (characters), `input_schema`, and the SDK's own options such as `strict`,
            `cache_control`, `input_examples`.

    Raises:
        DeclarationError: no docstring, a name the API refuses (R40), a parameter without annotation or without a name.
    """

    def make(function: Callable[..., Any]) -> ToolSpec:
        policy = {k: v for k, v in given.items() if k in _POLICY and (v is not None or k == "timeout")}
        options = {k: v for k, v in given.items() if k not in {*_POLICY, "name"} and v is not None}
        spec = function_spec(function, name=given.get("name"), options=options, **policy)
        if "input_schema" not in options:
            _refuse_bare_parameters(spec)
        return spec

    return make(fn) if fn is not None else make


def _refuse_bare_parameters(spec: ToolSpec) -> None:
    for name, parameter in inspect.signature(spec.run).parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            msg = f"tool '{spec.name}' ({spec.where}) takes *{name}: a schema needs named parameters"
            raise DeclarationError(msg)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            msg = f"tool '{spec.name}' ({spec.where}): '{name}' is positional-only, inputs come by name: drop the '/'"
            raise DeclarationError(msg)
        if parameter.annotation is parameter.empty:
            msg = f"tool '{spec.name}' ({spec.where}): parameter '{name}' has no annotation, so it has no schema"
            raise DeclarationError(msg)


class Runnable:
    """One tool, ready: its definition for the API, its validator, and how to call it."""

    def __init__(self, spec: ToolSpec) -> None:
        self.spec = spec
        self.is_async = False
        self.needs: str | None = None  # the type of deps that it cannot do without
        self._call: Callable[[dict[str, Any], Context[Any]], Any]
        if spec.form == "server":
            self.definition = dict(spec.run)
            return
        if spec.form == "sdk":
            self.definition = dict(spec.run.to_dict())
            self._call = lambda given, context: spec.run.call(given)  # noqa: ARG005
            self.is_async = inspect.iscoroutinefunction(spec.run.call)
        elif spec.form == "toolset":
            self.definition = dict(spec.run.to_dict())
            self.is_async = inspect.iscoroutinefunction(spec.run.call)
        else:
            self._prepare_function()
        schema = self.definition.get("input_schema")
        check_json(self.definition, f"the definition of tool '{spec.name}' ({spec.where})")
        self.schema = Schema(schema) if schema else None
        if self.schema is not None:
            try:
                self.schema.prepare()
            except DeclarationError as error:
                msg = f"tool '{spec.name}' ({spec.where}): {error}"
                raise DeclarationError(msg) from error

    def _prepare_function(self) -> None:
        spec = self.spec
        if "input_schema" not in spec.options:
            _refuse_bare_parameters(spec)  # a plain function in tools=[...] has not been looked at yet
        context, self.needs, parse = _parsed(spec)
        self.definition = parse.to_dict()
        self.is_async = inspect.iscoroutinefunction(spec.run)

        def call(given: dict[str, Any], ctx: Context[Any]) -> Any:
            try:
                arguments = parse.call(given)
            except ValueError as error:
                raise Misfit(reasons_of(error) or str(error)) from error
            return spec.run(**arguments, **({context: ctx} if context else {}))

        self._call = call

    def problem(self, given: Any) -> str | None:
        """What is wrong with an input, for the model, or None."""
        return self.schema.problem(given) if self.schema is not None else None

    def call(self, call: OpenCall, context: Context[Any]) -> Any:
        """Call it with an input of its own. An async tool gives a coroutine."""
        given = deepcopy(dict(call.input))
        return self._member(call, given) if self.spec.form == "toolset" else self._call(given, context)

    def _member(self, call: OpenCall, given: dict[str, Any]) -> Any:
        """S6.9: the SDK's toolset runs its member, which it knows by the call's name; it validates the input itself."""
        from anthropic.tools.computer import BetaToolsetCallContext
        from anthropic.types.beta import BetaToolUseBlock

        block = BetaToolUseBlock.model_construct(
            id=call.id, type="tool_use", name=call.name, input=given, toolset_name=call.toolset
        )
        return self.spec.run.call(BetaToolsetCallContext.model_construct(tool_use=block), call.name, given)


def _parsed(spec: ToolSpec) -> tuple[str | None, str | None, Any]:
    """The name of the `Context` parameter, the type of deps it needs, and the SDK's tool over the other parameters."""
    from anthropic import beta_tool

    try:
        hints = typing.get_type_hints(spec.run, include_extras=True)
    except Exception as error:
        msg = f"tool '{spec.name}' ({spec.where}): an annotation cannot be read: {error}"
        raise DeclarationError(msg) from error
    signature = inspect.signature(spec.run)
    context = next((n for n in signature.parameters if _is_context(hints.get(n))), None)
    kept = [p.replace(annotation=hints.get(n, p.annotation)) for n, p in signature.parameters.items() if n != context]

    def arguments(**given: Any) -> Any:
        return given

    stub: Any = functools.wraps(spec.run)(arguments)
    del stub.__wrapped__
    stub.__signature__ = signature.replace(parameters=kept, return_annotation=signature.empty)
    stub.__annotations__ = {p.name: p.annotation for p in kept}
    # Left out, the SDK reads the docstring itself: the part before `Args:` for the tool, the rest for the parameters.
    told = None if spec.description == docstring(spec.run) else spec.description
    try:
        stub.maker = _apart(partial(beta_tool, stub, name=spec.name, description=told, **spec.options))
        made = next(stub.maker)
        made.to_dict()
    except Exception as error:
        first = str(error).splitlines()[0]
        msg = f"tool '{spec.name}' ({spec.where}): no JSON schema can be made of its parameters: {first}"
        raise DeclarationError(msg) from error
    return context, _needed(hints[context]) if context else None, made


def _apart(make: Callable[[], Any]) -> Generator[Any, None, None]:
    """Gives what `make` gives; what keeps that keeps this too, and never goes on with it.

    What validates a tool's input keeps the frame that it was made in, from Python 3.13 on with all the frames that led
    there: the first run of a workflow and whoever began it would be held as long as the tool. The frame of a generator
    that waits has nobody before it, so there the chain ends.
    """
    yield make()


def _needed(annotation: Any) -> str | None:
    """The name of `T` in `Context[T]`, where None would not do."""
    given = typing.get_args(annotation)
    if not given or given[0] in {Any, object, type(None)} or isinstance(given[0], TypeVar):
        return None
    return None if type(None) in typing.get_args(given[0]) else getattr(given[0], "__name__", str(given[0]))


def _is_context(annotation: Any) -> bool:
    return annotation is Context or typing.get_origin(annotation) is Context


_NAME = 200  # characters of an unknown name that are repeated
_RAW = 1000  # characters of an input that is no JSON


class Toolbox:
    """The tools of a workflow, made ready once."""

    def __init__(self, states: Mapping[str, tuple[ToolSpec, ...]]) -> None:
        made: dict[int, Runnable] = {}
        self.definitions: dict[str, list[dict[str, Any]]] = {}
        for state, specs in states.items():
            for spec in specs:
                if id(spec) not in made:
                    made[id(spec)] = Runnable(spec)
            self.definitions[state] = [made[id(spec)].definition for spec in specs]
        self._runnable = made
        self._names = sorted({spec.name for specs in states.values() for spec in specs})

    def check_deps(self, deps: Any, verb: str = "run") -> None:
        """Refuse a run whose tools would find no deps.

        Raises:
            UsageError: with the tool and the type that it needs.
        """
        for runnable in self._runnable.values() if deps is None else ():
            if runnable.needs is not None:
                msg = f"the tool '{runnable.spec.name}' takes Context[{runnable.needs}]: pass deps= to {verb}()"
                raise UsageError(msg)

    def of(self, spec: ToolSpec) -> Runnable:
        """The runnable of a spec."""
        return self._runnable[id(spec)]

    def refusal(self, call: OpenCall) -> ToolEnd | None:
        """Why this call cannot be run at all: an unknown tool, an input against the schema (S6.4)."""
        if call.spec is None:
            known = ", ".join(self._names) or "none"
            unknown = call.name[:_NAME] if call.toolset is None else f"{call.toolset[:_NAME]}/{call.name[:_NAME]}"
            text = f"There is no tool '{unknown}'. The tools are: {known}."
            return ToolEnd(call.id, sendable(text), is_error=True)
        if (raw := invalid_json(call.input)) is not None:  # S6.5: the model is shown what it wrote, nothing is run
            return ToolEnd(call.id, sendable(json.dumps({"INVALID_JSON": raw[:_RAW]})), is_error=True)
        problem = self.of(call.spec).problem(dict(call.input))
        if problem is None:
            return None
        text = f"The input does not fit the schema of '{call.name}': {problem}. Nothing was run; call it again."
        return ToolEnd(call.id, sendable(text), is_error=True)
