"""The state kinds: who acts next, and where each event leads.

A state is built in a class body with `.on(event=target)`, then sealed with its workflow: from then on it only reads.
The keyword arguments of `.on` are TypedDicts, so that a type checker refuses an event that the kind does not have.
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    Never,
    NoReturn,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
    get_origin,
    overload,
)

from attrs import field, frozen

from ._alphabet import accepted_by
from ._errors import DeclarationError
from ._facts import Facts
from ._guards import pure_function
from ._params import (
    MessageParams,
    check_choice,
    check_extra,
    check_json,
    check_params,
    check_system,
    output_schema,
    seconds_of,
)
from ._state import State, Target
from ._toolspec import ToolSpec, as_toolspec

L = TypeVar("L", bound=str)


class ActiveRows(TypedDict, total=False):
    """Every state that is not final."""

    cancel: Target


class ClaudeRows(ActiveRows, total=False):
    """The events of a `Claude` state: stop reasons, error types, and what only the client can see."""

    end_turn: Target
    tool_use: Target
    stop_sequence: Target
    max_tokens: Target
    pause_turn: Target
    refusal: Target
    model_context_window_exceeded: Target
    compaction: Target
    rate_limit_error: Target
    timeout_error: Target
    api_error: Target
    overloaded_error: Target
    conflict_error: Target
    invalid_request_error: Target
    authentication_error: Target
    billing_error: Target
    permission_error: Target
    not_found_error: Target
    request_too_large: Target
    connection_error: Target
    cut_stream: Target
    empty_turn: Target
    unknown_stop: Target
    malformed: Target
    invalid_output: Target
    stuck: Target
    over_limit: Target


class ToolsRows(ActiveRows, total=False):
    """The events of a `Tools` state."""

    tool_results: Target
    approval_needed: Target
    outcome_unknown: Target


class ApprovalRows(ActiveRows, total=False):
    """The events of an `Approval` state."""

    approved: Target
    denied: Target
    expired: Target


class HumanRows(ActiveRows, total=False):
    """The events of a `Human` state."""

    said: Target
    expired: Target


class CodeRows(ActiveRows, total=False):
    """The events of a `Code` state besides its outcomes."""

    raised: Target


class Claude(State):
    """The model acts.

    Args:
        model: model name, as the API takes it.
        max_tokens: tokens one reply may have.
        system: text, text blocks, or a function of `deps` that is called once per run and frozen (R35).
        tools: functions, `@tool`, SDK tools, server tool dicts.
        output: a JSON schema (dict), or a type pydantic can make one of; the reply's text is parsed against it.
        history: name of the line of talk; states of one history share it.
        fresh: begin an empty ledger when the own one is empty, finished or refused.
        continues: begin with a copy of this history instead of an empty ledger.
        prompt: text, or a function of `Facts`: said on entry when there is nothing to answer.
        initial: the run starts here.
        extra_body: parameters that the installed SDK does not know, merged into the request.
        params: any other parameter of `messages.create`. Without `cache_control=` prompt caching is on;
            `cache_control=None` switches it off, `{"type": "ephemeral", "ttl": "1h"}` keeps what is cached longer.

    Raises:
        DeclarationError: an unknown parameter or one of the wrong type, what cannot be sent as JSON, a tool without
            docstring, a limit that is not positive, a `tool_choice` without its tool.
    """

    kind = "Claude"

    def __init__(
        self,
        *,
        model: str,
        max_tokens: int,
        system: str | Sequence[Mapping[str, Any]] | Callable[[Any], str] | None = None,
        tools: Iterable[Any] | None = (),
        output: Any = None,
        history: str = "main",
        fresh: bool = False,
        continues: str | None = None,
        prompt: str | Callable[[Facts], Any] | None = None,
        initial: bool = False,
        extra_body: Mapping[str, Any] | None = None,
        **params: Unpack[MessageParams],
    ) -> None:
        super().__init__(initial=initial)
        check_params(params, max_tokens)
        for name, given in (("model", model), ("history", history), ("continues", continues)):
            if not (isinstance(given, str) and given) and not (name == "continues" and given is None):
                msg = f"{name}= is a name, not {given!r}"
                raise DeclarationError(msg)
            check_json(given, f"{name}=")
        check_system(system)
        if callable(system):
            pure_function(system, "system= function", "deps")
        if not isinstance(prompt, str | None) and not callable(prompt):
            msg = f"prompt= is text or a function of Facts, not {prompt!r}"
            raise DeclarationError(msg)
        self.model, self.max_tokens, self.system = model, max_tokens, system
        self.tools: tuple[ToolSpec, ...] = tuple(as_toolspec(t) for t in _listed_tools(tools))
        self.output = output_schema(output)
        self.history, self.fresh, self.continues, self.prompt = history, fresh, continues, prompt
        self.params: dict[str, Any] = {**params, **check_extra(extra_body)}
        if callable(prompt):
            pure_function(prompt, "prompt")
        if continues == history:
            msg = f"continues={continues!r} would copy the history onto itself: give the state another history="
            raise DeclarationError(msg)
        names = [t.name for t in self.tools]
        for server_tool in (t for t in self.tools if not t.is_client):
            check_json(server_tool.run, f"tool '{server_tool.name}'")
        check_choice(params.get("tool_choice"), names)
        if doubled := {n for n in names if names.count(n) > 1}:
            msg = f"tool names must be unique (R41): {', '.join(sorted(doubled))}"
            raise DeclarationError(msg)

    def on(self, *misplaced: Never, **rows: Unpack[ClaudeRows]) -> Self:
        """Where each event leads: a state, an alternative, or a list of alternatives tried in order."""
        return self._on(rows, misplaced)

    @property
    def forbids_tools(self) -> bool:
        """Whether `tool_choice` keeps the model from calling tools."""
        choice = self.params.get("tool_choice")
        return isinstance(choice, Mapping) and choice.get("type") == "none"

    @property
    def compacts(self) -> bool:
        """Whether the API compacts by itself: `context_management` has an edit that does so (S10.1)."""
        managed = self.params.get("context_management")
        edits = managed.get("edits") if isinstance(managed, Mapping) else None
        listed = edits if isinstance(edits, (list, tuple)) else ()
        return any(isinstance(e, Mapping) and str(e.get("type")).startswith("compact_") for e in listed)

    @property
    def client_tools(self) -> tuple[ToolSpec, ...]:
        """The tools that our side runs."""
        return tuple(t for t in self.tools if t.is_client)


class Tools(State):
    """Tool functions act, for the newest reply that has unanswered calls."""

    kind = "Tools"

    def on(self, *misplaced: Never, **rows: Unpack[ToolsRows]) -> Self:
        """Where each event leads."""
        return self._on(rows, misplaced)


class Approval(State):
    """A person decides on the open calls. `within` is seconds, or text such as "30m", "12h", "1d"."""

    kind = "Approval"

    def __init__(self, *, within: str | float | None = None, initial: bool = False) -> None:
        super().__init__(initial=initial)
        self.within = seconds_of(within)

    def on(self, *misplaced: Never, **rows: Unpack[ApprovalRows]) -> Self:
        """Where each event leads."""
        return self._on(rows, misplaced)


class Human(State):
    """A person speaks. `within` is seconds, or text such as "30m", "12h", "1d"."""

    kind = "Human"

    def __init__(self, *, within: str | float | None = None, initial: bool = False) -> None:
        super().__init__(initial=initial)
        self.within = seconds_of(within)

    def on(self, *misplaced: Never, **rows: Unpack[HumanRows]) -> Self:
        """Where each event leads."""
        return self._on(rows, misplaced)


@frozen
class Outcome(Generic[L]):
    """What a `Code` function decided, with a value that is recorded as `facts.values[state name]` (plain JSON)."""

    name: L
    value: Any = field(default=None)


_R = TypeVar("_R")
_Takes = Callable[Concatenate[Facts, ...], _R]  # a `Context` may follow


class Code(State, Generic[L]):
    """A Python function acts. `fn(facts)` (and a `Context[T]` parameter if it wants one) returns an outcome.

    The outcomes are read from the return annotation, `Literal["ok", "thin"]` or `Outcome[Literal["ok", "thin"]]`.

    It is recorded before and after, like a tool (B3): a function that had begun when the process died has an unknown
    outcome, which is the event `raised`.

    Args:
        fn: the function.
        idempotent: it may run twice: after a crash it is run again instead.
        initial: the run starts here.
    """

    kind = "Code"

    # Not `L | Outcome[L]` in one: a type checker would widen the Literal to str there.
    @overload
    def __init__(
        self, fn: _Takes[Coroutine[Any, Any, Outcome[L]]], *, idempotent: bool = ..., initial: bool = ...
    ) -> None: ...
    @overload
    def __init__(self, fn: _Takes[Coroutine[Any, Any, L]], *, idempotent: bool = ..., initial: bool = ...) -> None: ...
    @overload
    def __init__(self, fn: _Takes[Outcome[L]], *, idempotent: bool = ..., initial: bool = ...) -> None: ...
    @overload
    def __init__(self, fn: _Takes[L], *, idempotent: bool = ..., initial: bool = ...) -> None: ...
    def __init__(self, fn: Any, *, idempotent: bool = False, initial: bool = False) -> None:
        super().__init__(initial=initial)
        if not callable(fn):
            msg = f"Code(fn) takes a function of Facts, not {fn!r}"
            raise DeclarationError(msg)
        self.fn: Callable[..., Any] = fn
        self.idempotent = idempotent
        self.outcomes, self.outcomes_problem = _outcomes(fn)

    def on(self, outcome: L | None = None, target: Target | None = None, /, **rows: Unpack[CodeRows]) -> Self:
        """`.on("ok", target)` for an outcome, `.on(raised=target)` for an exception."""
        given: dict[str, Any] = dict(rows)
        if outcome is not None:
            with self.named():
                _check_outcome(outcome, target)
            given[outcome] = target
        return self._on(given)

    def alphabet(self) -> tuple[str, ...]:
        """Its outcomes, `raised` and `cancel`."""
        return (*self.outcomes, *accepted_by("Code"))

    def accepts(self, event: str) -> bool:
        """Unknown outcomes are taken here and reported by the checks, with all other findings (W1)."""
        del event
        return True


class Final(State):
    """Nobody acts: the run is over. `ok=False` says that it did not reach its goal."""

    kind = "Final"

    def __init__(self, *, ok: bool = True, initial: bool = False) -> None:
        super().__init__(initial=initial)
        if not isinstance(ok, bool):
            msg = f"Final(ok=) is True or False, not {ok!r}"
            raise DeclarationError(msg)
        self.ok = ok

    if not TYPE_CHECKING:  # a type checker says that there is no `on`

        def on(self, *targets: Any, **rows: Any) -> NoReturn:
            """Refused: the run is over here.

            Raises:
                DeclarationError: always.
            """
            del targets, rows
            with self.named():
                msg = "a Final state has no rows: the run is over there"
                raise DeclarationError(msg)


def _check_outcome(outcome: Any, target: Any) -> None:
    if not isinstance(outcome, str):
        msg = f"a Code state is led by outcome: write .on('outcome', target), not .on({outcome!r})"
        raise DeclarationError(msg)
    if target is None:
        msg = f"the outcome {outcome!r} leads nowhere: write .on({outcome!r}, target)"
        raise DeclarationError(msg)


def _listed_tools(tools: Any) -> list[Any]:
    if tools is None:
        return []
    if isinstance(tools, (str, Mapping, ToolSpec)) or not isinstance(tools, Iterable):
        msg = f"tools= is a list of functions, @tool, SDK tools or server tool dicts, not {tools!r}"
        raise DeclarationError(msg)
    return list(tools)


def _outcomes(fn: Callable[..., Any]) -> tuple[tuple[str, ...], str | None]:
    """The names in the return annotation, and what is wrong with it."""
    shown = getattr(fn, "__name__", repr(fn))
    try:
        returned = typing.get_type_hints(fn).get("return")
    except Exception as error:  # noqa: BLE001 - an annotation can raise anything; it becomes a finding
        return (), f"the return annotation of '{shown}' cannot be read ({error})"
    if get_origin(returned) in {Awaitable, typing.Coroutine}:
        returned = get_args(returned)[-1]
    if get_origin(returned) is Outcome:
        returned = get_args(returned)[0]
    names = get_args(returned) if get_origin(returned) is Literal else ()
    if not names or not all(isinstance(n, str) for n in names):
        return (), f"'{shown}' must be annotated -> Literal['ok', ...] or -> Outcome[Literal['ok', ...]]"
    return tuple(names), None
