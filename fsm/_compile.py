"""The graph as a sealed `transitions.Machine`: the only file that imports `transitions`.

The library chooses and moves; this file makes sure that nothing else does. One machine serves every run of a
workflow: it has no models, and a move is `machine.events[name].trigger(cursor, facts=...)` on a one-slot cursor.

Closed, with a test each: a false guard that returns False silently, assigning the state, `set_state`, `add_model`,
`to_<state>`, adding or removing transitions, states and callbacks after compilation, callbacks that fail after the
state changed, and writing to the machine's parts: events, their transitions, states, lists of callbacks, `__dict__`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from types import GetSetDescriptorType, MappingProxyType
from typing import Any, NoReturn, Self

from attrs import evolve, frozen
from transitions import Machine, MachineError
from transitions.core import Event as LibraryEvent
from transitions.core import State as LibraryState
from transitions.core import Transition

from ._errors import ConversationEnded, DecisionError, IllegalMove, SealedMachine
from ._facts import Facts
from ._graph import Edge, Graph

# The library logs every callback of every move at DEBUG and INFO; our own line per move replaces them.
logging.getLogger("transitions.core").setLevel(logging.WARNING)


class Cursor:
    """Where one run stands, for one move. The machine reads `state`; only a transition of ours writes it."""

    __slots__ = ("_edge", "_state")
    _edge: Edge | None
    _state: str

    def __init__(self, state: str) -> None:
        object.__setattr__(self, "_state", state)
        object.__setattr__(self, "_edge", None)

    @property
    def state(self) -> str:
        """The name of the state."""
        return self._state

    @property
    def edge(self) -> Edge | None:
        """The edge that the last move took."""
        return self._edge

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"a state is changed by an event, not by assigning {name!r}: feed the conversation"
        raise SealedMachine(msg)

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)


class _Part:
    """A part of a machine: it reads as the library's own and, once sealed, cannot be written."""

    __slots__ = ("_sealed",)
    _sealed: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        del args, kwargs  # they are for __init__
        made = super().__new__(cls)
        object.__setattr__(made, "_sealed", False)
        return made

    def __setattr__(self, name: str, value: object) -> None:
        if self._sealed:
            _refuse(f"new value of {name!r}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        _refuse(f"removal of {name!r}")

    def seal(self) -> None:
        """Its lists become tuples; from here on it is read only."""
        own = _own(self)
        own.update({name: tuple(value) for name, value in own.items() if isinstance(value, (list, deque))})
        object.__setattr__(self, "_sealed", True)


def _own(part: _Part) -> dict[str, Any]:
    for base in type(part).__mro__:
        found = vars(base).get("__dict__")
        if isinstance(found, GetSetDescriptorType):
            own: dict[str, Any] = found.__get__(part)
            return own
    raise TypeError(part)


_read_only = property(lambda part: MappingProxyType(_own(part)))
"""`__dict__` of each part, since `vars(machine)["events"] = {}` would be a way in."""


class _Move(_Part, Transition):
    """A transition that knows its edge and moves the cursor alone, without callbacks that could fail half-way."""

    __slots__ = ()
    __dict__ = _read_only

    def __init__(self, source: str, dest: str, *callbacks: Any, edge: Edge) -> None:
        super().__init__(source, dest, *callbacks)
        self.edge = edge

    def execute(self, event_data: Any) -> bool:
        """Move if the guard holds. The library's own also calls callbacks, of which there are none, and logs each."""
        if not self._eval_conditions(event_data):
            return False
        self._change_state(event_data)
        return True

    def _eval_conditions(self, event_data: Any) -> bool:
        guard = self.edge.guard
        if guard is None:
            return True
        facts: Facts = event_data.kwargs["facts"]
        counts: Mapping[tuple[str, str, int], int] = event_data.kwargs["rounds"]
        rounds = counts.get(self.edge.key, 0)
        try:
            return guard(facts if rounds == facts.rounds else evolve(facts, rounds=rounds))
        except Exception as error:
            raise DecisionError(
                "guard",
                str(guard),
                workflow=event_data.machine.title,
                state=self.source,
                event=self.edge.event,
                cause=error,
            ) from error

    def _change_state(self, event_data: Any) -> None:
        cursor = event_data.model
        object.__setattr__(cursor, "_state", self.dest)
        object.__setattr__(cursor, "_edge", self.edge)

    def add_callback(self, trigger: str, func: Any) -> NoReturn:
        """Refused: effects are data on the row."""
        _refuse(f"{trigger} callback {func!r}")


class _State(_Part, LibraryState):
    """A state of a sealed machine."""

    __slots__ = ()
    __dict__ = _read_only

    def add_callback(self, trigger: str, func: Any) -> NoReturn:
        """Refused: effects are data on the row."""
        _refuse(f"{trigger} callback {func!r}")


class _Event(_Part, LibraryEvent):
    """An event of a sealed machine."""

    __slots__ = ()
    __dict__ = _read_only

    def add_transition(self, transition: Any) -> None:
        """Only while compiling."""
        if self._sealed:
            _refuse("transition")
        super().add_transition(transition)

    def add_callback(self, trigger: str, func: Any) -> NoReturn:
        """Refused: effects are data on the row."""
        _refuse(f"{trigger} callback {func!r}")


def _refuse(what: str) -> NoReturn:
    msg = f"the machine is sealed and takes no {what}: declare it on the workflow with .on(event=target.when().then())"
    raise SealedMachine(msg)


_CHANGING = (
    "add_model", "remove_model", "set_state", "add_state", "add_states", "add_transition", "add_transitions",
    "add_ordered_transitions", "remove_transition", "dispatch",
)  # fmt: skip


class Sealed(_Part, Machine):
    """A `transitions.Machine` that reads as one and cannot be changed."""

    __slots__ = ()
    __dict__ = _read_only
    state_cls = _State
    transition_cls = _Move
    event_cls = _Event

    def __init__(self, graph: Graph) -> None:
        super().__init__(
            model=None,
            states=[{"name": node.name, "final": node.is_final} for node in graph.nodes],
            initial=graph.initial,
            auto_transitions=False,
            send_event=True,
            name=graph.name,
        )
        self.title = graph.name
        for edge in graph.edges:
            guard: Any = [edge.guard] if edge.guard is not None else None
            super().add_transition(edge.event, edge.source, edge.dest, conditions=guard, edge=edge)
        events: Mapping[str, Any] = self.events
        states: Mapping[str, Any] = self.states
        for event in events.values():
            event.transitions = MappingProxyType({source: tuple(rows) for source, rows in event.transitions.items()})
            for move in (move for rows in event.transitions.values() for move in rows):
                move.seal()
            event.seal()
        for state in states.values():
            state.seal()
        own = _own(self)
        own["events"], own["states"] = MappingProxyType(dict(events)), MappingProxyType(dict(states))
        self.seal()

    def __getattr__(self, name: str) -> Any:
        # The library makes on_enter_x, before_x, ... on the fly through __getattr__: those add callbacks.
        if self._sealed and name.startswith(("on_", "before_", "after_", "prepare_")):
            _refuse(f"callback {name!r}")
        return super().__getattr__(name)


def _closed(name: str) -> Any:
    def closed(self: Sealed, *args: Any, **kwargs: Any) -> Any:
        if self._sealed:
            _refuse(f"call of {name}()")
        return getattr(Machine, name)(self, *args, **kwargs)

    closed.__name__ = name
    return closed


for _name in _CHANGING:
    setattr(Sealed, _name, _closed(_name))


@frozen
class Plan:
    """A checked workflow, ready to run: the graph and its machine."""

    graph: Graph
    machine: Sealed

    def move(
        self, state: str, event: str, facts: Facts, rounds: Mapping[tuple[str, str, int], int] = MappingProxyType({})
    ) -> Edge:
        """The edge that this event takes from this state.

        `rounds` counts how often each edge was taken.

        Raises:
            ConversationEnded: the state is final.
            IllegalMove: the state does not accept the event, or no alternative's guard holds.
            DecisionError: a guard raised.
        """
        known = self.machine.events.get(event) if state in self.machine.states else None
        cursor = Cursor(state)
        try:
            taken = known is not None and known.trigger(cursor, facts=facts, rounds=rounds)
        except MachineError:
            taken = False
        if not taken or cursor.edge is None:  # the library answers False where every guard is false
            raise self._illegal(state, event)
        return cursor.edge

    def _illegal(self, state: str, event: str) -> Exception:
        node = self.graph.by_name.get(state)
        if node is not None and node.is_final:
            msg = f"'{self.graph.name}' ended in '{state}' and cannot take {event}: start a new run, or pass after="
            return ConversationEnded(msg)
        where = node.where if node is not None else f"no line: the states are {', '.join(self.graph.by_name)}"
        return IllegalMove(self.graph.name, state, event, self.graph.events(state), where)


def compile_graph(graph: Graph) -> Plan:
    """The plan of a graph that the checks accepted."""
    return Plan(graph, Sealed(graph))
