"""`Path`: one way through a workflow, with everything that the outside world does on it; and looking at a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from fsm._errors import UsageError
from fsm._graph import Edge
from fsm._records import Move
from fsm._workflow import Workflow
from fsm.testing._reply import Reply
from fsm.testing._steps import Script

if TYPE_CHECKING:
    from fsm._result import Result

_ARROW = " → "


@frozen
class Path:
    """One way through a workflow, and what the outside world does on it.

    `row` is what it was made to cover (None for a happy path), `rows` everything that it takes, in order; `states`
    the states from the first to the last; `parked` whether it ends parked and not in a final state.
    """

    id: str
    workflow: str
    row: Edge | None
    rows: tuple[Edge, ...] = field(repr=False)
    states: tuple[str, ...]
    script: Script = field(repr=False)
    parked: bool = False
    _declared: type[Workflow] | None = field(default=None, repr=False, eq=False, kw_only=True)

    @property
    def __name__(self) -> str:
        """The id: pytest shows it for a parameter."""
        return self.id

    @property
    def replies(self) -> list[Reply]:
        """The replies that the emulator serves, in order."""
        return self.script.replies

    @property
    def answers(self) -> list[Any]:
        """What the person answers, in order: text, or a decision for all calls."""
        return [step.answer for step in self.script.steps if step.kind == "answer"]

    @property
    def input(self) -> str:
        """What the run begins with."""
        return self.script.input

    def run(
        self,
        workflow: type[Workflow] | None = None,
        *,
        client: Any = None,
        on_move: Callable[[Move], Any] | None = None,
        stream: bool = False,
    ) -> Result:
        """Play it: real driver and client, no waiting.

        Params:
            workflow: the class, by default the one that the path was found in.
            client: an SDK client that talks to an emulator which serves `replies`; one is made in-process otherwise.
            on_move: called with each move.
            stream: stream every request (those of a path that needs it are streamed anyway).

        Raises:
            AssertionError: the run left the path; the text says where.
            UsageError: `workflow` is another one than the path's.
        """
        if workflow is None and (workflow := self._declared) is None:
            msg = f"this path does not know its class: give it, path.run({self.workflow})"
            raise UsageError(msg)
        if workflow.name != self.workflow:
            msg = f"this is a path of '{self.workflow}', not of '{workflow.name}'"
            raise UsageError(msg)
        from fsm.testing._playing import play  # the drivers load the SDK

        return play(self.script, workflow, client=client, on_move=on_move, stream=stream)

    def __str__(self) -> str:
        return _ARROW.join(self.states)


@frozen
class Uncovered:
    """A row that no path was found to, and why."""

    row: Edge
    reason: str

    def __str__(self) -> str:
        return f"{self.row.source} --{self.row.label}--> {self.row.dest}: {self.reason}"


class Paths(list[Path]):
    """Paths, and in `uncovered` the rows that no path was found to."""

    uncovered: tuple[Uncovered, ...] = ()

    def of(self, source: str, event: str, index: int = 0) -> Path:
        """The path that was made for this row.

        Raises:
            KeyError: there is none.
        """
        for path in self:
            if path.row is not None and path.row.key == (source, event, index):
                return path
        raise KeyError((source, event, index))


def assert_path(result: Result, expected: Path | str | Sequence[str]) -> None:
    """Assert that a run went this way.

    Params: `expected` states in order, as "asking → calling → asking → answered" ("->" works too) or as a list; or a
    `Path`, then the rows must be the same as well.

    Raises:
        AssertionError: shows both ways and the move at which they part.
    """
    taken = [result.moves[0].source, *(move.dest for move in result.moves)] if result.moves else [result.state]
    states = _states(expected)
    if taken != states:
        raise AssertionError(_difference(result, states, taken))
    if isinstance(expected, Path):
        for row, move in zip(expected.rows, result.moves, strict=True):
            if row.key != (move.source, move.event, move.index):
                msg = f"the states are those of {expected.id}, but move {move.seq} is {move}, not {row.label}"
                raise AssertionError(msg)


def _states(expected: Path | str | Sequence[str]) -> list[str]:
    if isinstance(expected, Path):
        return list(expected.states)
    if isinstance(expected, str):
        return [name.strip() for name in expected.replace("->", "→").split("→")]
    return list(expected)


def _difference(result: Result, expected: list[str], taken: list[str]) -> str:
    together = 0
    while together < min(len(expected), len(taken)) and expected[together] == taken[together]:
        together += 1
    before = len(_ARROW.join(taken[:together])) + (len(_ARROW) if together else 0)
    lines = [
        "the run went another way",
        f"  expected: {_ARROW.join(expected)}",
        f"  taken:    {_ARROW.join(taken)}",
        f"            {' ' * before}^",
    ]
    if together == 0:
        lines.append(f"  it began in '{taken[0]}'")
    elif together == len(taken):
        lines.append(f"  it stopped in '{taken[-1]}' ({result.verdict.reason})")
    else:
        lines.append(f"  move {together} was {result.moves[together - 1]}")
    return "\n".join(lines)
