"""`Workflow`: a class body becomes a graph, is checked, and compiled."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from ._errors import DeclarationError, UsageError, WorkflowError
from ._facts import Facts
from ._graph import Edge, Graph, build_graph
from ._params import Limits
from ._rows import states_of_rows
from ._state import State

if TYPE_CHECKING:
    from ._check import Finding
    from ._compile import Plan, Sealed
    from ._drawing import Runs
    from .diagram import Format, ImageFormat, Options, TextFormat
    from .tools import Toolbox

lenient: ContextVar[bool] = ContextVar("fsm_lenient", default=False)
"""Set by the command line while it imports a file: a broken workflow is made, so that all its findings can be shown. It
cannot run, as with `check=False`."""


class WorkflowType(type):
    """What a workflow class can be asked. The machine is compiled when it is first needed."""

    _name: str
    _states: Mapping[str, State]
    _graph: Graph
    _plan: Plan | None
    _checked: bool  # when the class was made; else when it is compiled
    _toolbox: Toolbox | None
    limits: Limits
    _renamed: Mapping[str, str]

    @property
    def name(cls) -> str:
        """The name in records, pictures and messages."""
        return cls._name

    @property
    def declared(cls) -> Mapping[str, State]:
        """The declared states by name, with their rows; sealed."""
        return cls._states

    @property
    def states(cls) -> Mapping[str, State]:
        """The declared states by name, without their rows: what `from_transitions(states=...)` takes."""
        return {name: state.bare() for name, state in cls._states.items()}

    @property
    def renamed(cls) -> Mapping[str, str]:
        """What states of older versions are called now."""
        return cls._renamed

    @property
    def graph(cls) -> Graph:
        """The model that checker, machine, pictures, tests and audit read."""
        return cls._graph

    @property
    def table(cls) -> list[dict[str, object]]:
        """All rows as the `transitions` library writes them, plus `effects` and `implied`."""
        return [edge.row() for edge in cls._graph.edges]

    @property
    def machine(cls) -> Sealed:
        """The sealed `transitions.Machine` that enforces every move."""
        return cls.plan.machine

    @property
    def plan(cls) -> Plan:
        """The compiled workflow.

        Raises:
            WorkflowError: declared with `check=False`, and the checks find errors: it can be drawn, not run.
        """
        if cls._plan is None:
            from ._compile import compile_graph

            if not cls._checked:
                _refuse(cls._graph)
            cls._plan = compile_graph(cls._graph)
        return cls._plan

    @property
    def toolbox(cls) -> Toolbox:
        """The tools of all states, with their schemas.

        Raises:
            DeclarationError: a schema that cannot be made or used; it names the state or the tool.
        """
        if cls._toolbox is None:
            from ._states import Claude
            from .tools import Toolbox

            asking = {n: s for n, s in cls._states.items() if isinstance(s, Claude)}
            for state in asking.values():
                if state.output is not None:
                    with state.named():
                        state.output.prepare()
            cls._toolbox = Toolbox({n: s.tools for n, s in asking.items()})
        return cls._toolbox

    def move(cls, state: str, event: str, facts: Facts | None = None) -> Edge:
        """The arrow that this event takes from this state, chosen by the machine; nothing is run.

        Args:
            state: name of a state.
            event: name of an event of the alphabet, or an outcome.
            facts: what the guards read; nothing has happened yet where it is left out.

        Raises:
            IllegalMove: the state does not accept the event; it names what is accepted.
            ConversationEnded: the state is final.
        """
        return cls.plan.move(state, event, facts if facts is not None else Facts(state, event))

    def check(cls) -> tuple[Finding, ...]:
        """Every finding of W1-W12, warnings included; empty when all is well."""
        from ._check import check

        return check(cls._graph)

    @overload
    def diagram(
        cls,
        format: TextFormat = ...,
        *,
        runs: Runs | None = ...,
        against: WorkflowType | None = ...,
        **options: Unpack[Options],
    ) -> str: ...
    @overload
    def diagram(
        cls,
        format: ImageFormat,
        *,
        runs: Runs | None = ...,
        against: WorkflowType | None = ...,
        **options: Unpack[Options],
    ) -> bytes: ...
    @overload
    def diagram(
        cls, format: Format, *, runs: Runs | None = ..., against: WorkflowType | None = ..., **options: Unpack[Options]
    ) -> str | bytes: ...
    def diagram(
        cls,
        format: Format = "svg",
        *,
        runs: Runs | None = None,
        against: WorkflowType | None = None,
        **options: Unpack[Options],
    ) -> str | bytes:
        """The picture, always of the table that runs.

        Args:
            format: "svg", "png", "pdf", "dot", "mermaid", "state", "table", "json" or "html".
            runs: what runs did is drawn into it: a result, several, the records of a run, a journal (a file, a URL or a
                store: all its runs of this workflow, by its name), or a table of counts `{(state, event): n}`, in which
                what it does not name was never taken. One run is numbered, many are a heat map.
            against: an older version of the workflow: what this one added, removed and led elsewhere.
            options: see `fsm.diagram.render`.

        Raises:
            UsageError: an unknown format or option, or nothing that runs can be; it says what is taken.
            MissingExtra, MissingProgram: what draws is not installed; it says what to install.
            JournalError: the journal cannot be read.
        """
        from .diagram import known_options, render

        known_options(options, "runs", "against")
        if runs is not None:
            from ._drawing import overlay_of

            if format == "html" and hasattr(runs, "records"):  # one run, to be stepped through
                options["records"], options["renamed"] = runs.records, cls._renamed
            options["overlay"] = overlay_of(runs, cls._graph, cls._renamed)
        if against is not None:
            from ._difference import difference

            if not isinstance(against, WorkflowType):
                raise UsageError(f"against= takes another version of the workflow, not {against!r}")
            limits = (against.limits, cls.limits)
            options["difference"] = difference(against.graph, cls._graph, renamed=cls._renamed, limits=limits)
        return render(cls._graph, format, **options)

    def __format__(cls, spec: str) -> str:
        """A picture in a format string: `f"{Support:mermaid}"`, `f"{Support:table,full}"`."""
        from .diagram import formatted

        return formatted(cls.diagram, spec) if spec else str(cls)

    def _repr_mimebundle_(
        cls, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The picture, where a notebook shows the class."""
        from .diagram import mime_bundle

        return mime_bundle(repr(cls), cls.diagram, include, exclude)

    def __repr__(cls) -> str:
        return f"<workflow {cls._name}: {', '.join(cls._states)}>"


class Workflow(metaclass=WorkflowType):
    """A conversation with Claude as a state machine. Declare states in the class body and lead their events somewhere.

    Class options:
        name: its name in records and pictures, where the class is called otherwise: runs of a class that was renamed go
            on with `class SupportDesk(Workflow, name="Support")`.
        strict: imply no standard rows; every event must be declared.
        limits: `Limits(...)` for every run of it.
        check: False to draw a broken machine with its findings; it cannot be run.
        renamed: names of states that older versions had, and what they are called now, so that runs of those versions
            go on: `renamed={"asking": "drafting"}`. `fsm migrate --check` says which runs need it.

    Raises:
        WorkflowError: with every finding of the checks W1-W12.
        DeclarationError: `renamed` has a name that is a state still, or leads to none.
    """

    _name = "Workflow"
    _states: Mapping[str, State] = MappingProxyType({})
    _graph = build_graph("Workflow", {})
    _plan = None
    _checked = False
    _toolbox = None
    limits = Limits()
    _renamed: Mapping[str, str] = MappingProxyType({})

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        strict: bool | None = None,
        limits: Limits | None = None,
        check: bool = True,
        renamed: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            msg = f"'{cls.__name__}': unknown class option {min(kwargs)!r}; known: name, strict, limits, check, renamed"
            raise DeclarationError(msg)
        if name is not None and not (isinstance(name, str) and name):
            msg = f"'{cls.__name__}': name= takes a name, not {name!r}"
            raise DeclarationError(msg)
        super().__init_subclass__()
        if not isinstance(limits, Limits | None):
            msg = f"'{cls.__name__}': limits= takes Limits(turns=..., money=...), not {limits!r}"
            raise DeclarationError(msg)
        states: dict[str, State] = {}
        for base in reversed(cls.__mro__):  # what each class says itself, so that the nearest wins, as with methods
            states.update({name: value for name, value in vars(base).items() if isinstance(value, State)})
        if any(state.initial for state in vars(cls).values() if isinstance(state, State)):
            states = {name: state if name in vars(cls) else state.as_later() for name, state in states.items()}
        for state in states.values():
            state.sealed = True
        cls._name = cls.__name__ if name is None else name
        cls._states = MappingProxyType(states)
        cls.limits = limits if limits is not None else cls.limits
        is_strict = cls._graph.strict if strict is None else strict  # inherited, as limits are
        cls._graph = build_graph(cls._name, states, families=frozenset(cls.__mro__), strict=is_strict, doc=_doc(cls))
        cls._renamed = cls._renamed if renamed is None else _renames(cls._graph, renamed)
        cls._plan = cls._toolbox = None
        cls._checked = check and not lenient.get()
        if cls._checked:
            _refuse(cls._graph)

    def __init__(self) -> None:
        msg = f"a workflow is not instantiated: run({type(self).__name__}, ...) runs it"
        raise DeclarationError(msg)

    @classmethod
    def from_transitions(
        cls,
        *,
        name: str,
        states: Mapping[str, State],
        transitions: Iterable[Mapping[str, Any] | Sequence[Any]],
        guards: Mapping[str, Any] | None = None,
        initial: str | None = None,
        limits: Limits | None = None,
        strict: bool = False,
        check: bool = True,
        renamed: Mapping[str, str] | None = None,
    ) -> type[Self]:
        """The same machine in the format of the `transitions` library.

        Args:
            name: name of the workflow.
            states: state objects without `.on` rows, by name.
            transitions: dicts with `trigger`, `source`, `dest`, and `conditions`, `unless`, `effects` where wanted, or
                lists `[trigger, source, dest]`. `"*"` is every state that is not final, `"="` the source.
            guards: what string conditions refer to.
            initial: name of the first state; the first one given unless named.
            limits: as for a class.
            strict: as for a class.
            check: as for a class.
            renamed: as for a class.

        Raises:
            DeclarationError: a key or callback that has no place here, with the remedy; an unknown name.
            WorkflowError: with every finding of the checks.
        """
        built = states_of_rows(name, states, transitions, guards or {}, initial)

        def body(namespace: dict[str, Any]) -> None:
            namespace.update(built)
            namespace["__module__"] = "fsm"

        options = {"strict": strict, "limits": limits, "check": check, "renamed": renamed}
        made: type[Self] = types.new_class(name, (cls,), options, body)
        return made


def _doc(cls: type) -> str:
    return (cls.__dict__.get("__doc__") or "").strip()


def _renames(graph: Graph, given: Any) -> Mapping[str, str]:
    """What each former name is called now, chains followed to their end.

    Raises:
        DeclarationError: a former name that is a state still (W10: names collide), or one that leads to no state.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for pair in given.items() for name in pair):
        msg = f"'{graph.name}': renamed= maps former names of states to present ones, not {given!r}"
        raise DeclarationError(msg)
    made = {}
    for former, name in given.items():
        if former in graph.by_name:
            msg = f"'{graph.name}': renamed= says that '{former}' is called '{name}' now, but it is a state still (W10)"
            raise DeclarationError(msg)
        seen = {former}
        while name in given and name not in seen:
            seen.add(name)
            name = given[name]  # noqa: PLW2901 - a chain is followed
        if name not in graph.by_name:
            known = ", ".join(graph.by_name)
            msg = f"'{graph.name}': renamed= leads '{former}' to '{name}', which is no state; the states are {known}"
            raise DeclarationError(msg)
        made[former] = name
    return MappingProxyType(made)


def _refuse(graph: Graph) -> None:
    from ._check import check

    findings = check(graph)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise WorkflowError(graph.name, errors)
    if findings:
        import warnings

        for finding in findings:
            warnings.warn(str(finding), stacklevel=4)
