"""What came of a run, and what a person may answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Unpack, overload

from attrs import field, frozen

from ._actions import Question
from ._errors import JournalError, UsageError
from ._events import Decision
from ._facts import Reply
from ._records import Move, Record, Verdict, move_of
from ._state import State
from ._workflow import WorkflowType
from .journal import Store

if TYPE_CHECKING:
    from ._conversation import Conversation
    from .diagram import Format, ImageFormat, Options, TextFormat

Answer = str | Sequence[Mapping[str, Any]] | Decision | Mapping[str, Decision]
"""What a person answers: text or content blocks, one decision for all calls, or decisions by call id."""


def approve() -> Decision:
    """Let the call run as it is."""
    return Decision("approve")


def edit(new_input: Mapping[str, Any]) -> Decision:
    """Let the call run with this input instead; its result says that a person changed it."""
    return Decision("edit", input=dict(new_input))


def deny(reason: str | None = None) -> Decision:
    """Do not run the call; the model reads the reason."""
    return Decision("deny", reason=reason)


@frozen
class Result:
    """How a run ended, or where it is parked.

    `messages` is the history that the newest reply belongs to, `moves` every arrow that was taken.
    """

    workflow: WorkflowType = field(repr=False)
    run_id: str
    verdict: Verdict
    _store: Store = field(repr=False)
    _conversation: Conversation = field(repr=False)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The journal of the run up to here, read when it is first asked for."""
        return tuple(islice(self._store.read(self.run_id), self._conversation.run.seq))

    @property
    def journal(self) -> Store:
        """The store that holds the run, for `resume(workflow, result.run_id, journal=result.journal)`."""
        return self._store

    @property
    def state(self) -> str:
        """The name of the final state, or of the state it is parked in."""
        return self.verdict.state

    def at(self, state: State) -> bool:
        """Whether it stands in this state: `result.at(Support.answered)`."""
        return state.name == self.state

    @property
    def ok(self) -> bool:
        """Whether it ended in a final state that counts as success."""
        node = self.workflow.graph.by_name[self.state]
        return node.is_final and node.ok

    @property
    def parked(self) -> bool:
        """Whether it stands still and `resume` goes on."""
        return not self.workflow.graph.by_name[self.state].is_final

    @property
    def reply(self) -> Reply | None:
        """The newest reply."""
        reading = self._conversation.run.reading
        return reading.reply if reading is not None else None

    @property
    def question(self) -> Question | None:
        """What a person is asked, where the run is parked for one: calls with their inputs, or words."""
        return self._conversation.question() if self.parked else None

    @property
    def text(self) -> str:
        """The text of the newest reply, with what it continues, a partial one included; empty before the first.

        Empty after a refusal too, whose partial text is not to be used (S8.2); `reply.text` has it.
        """
        run = self._conversation.run
        if run.reading is None or run.reading.event == "refusal":
            return ""
        return run.continued + run.reading.reply.text

    @property
    def output(self) -> Any:
        """The structured output of the newest reply, or None."""
        return self._conversation.run.output

    @property
    def values(self) -> Mapping[str, Any]:
        """What the `Code` states and plain effects gave, by name."""
        return self._conversation.run.values

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the history that the newest reply belongs to, as the API takes them."""
        return self.history(self._conversation.run.last_history)

    def history(self, name: str = "main") -> list[dict[str, Any]]:
        """The messages of a history."""
        return self._conversation.run.ledger(name).messages()

    def carried(self) -> dict[str, tuple[str, ...]]:
        """The histories as a new run takes them up (`after=`): open calls answered, a paused tail cut."""
        return self._conversation.carry()

    @property
    def moves(self) -> tuple[Move, ...]:
        """Every arrow that was taken, in order."""
        taken = [record for record in self.records if record.kind == "move"]
        return tuple(move_of(record, number) for number, record in enumerate(taken, 1))

    @overload
    def diagram(self, format: TextFormat = ..., *, against: Result | None = ..., **options: Unpack[Options]) -> str: ...
    @overload
    def diagram(self, format: ImageFormat, *, against: Result | None = ..., **options: Unpack[Options]) -> bytes: ...
    @overload
    def diagram(self, format: Format, *, against: Result | None = ..., **options: Unpack[Options]) -> str | bytes: ...
    def diagram(
        self, format: Format = "svg", *, against: Result | None = None, **options: Unpack[Options]
    ) -> str | bytes:
        """The picture of the workflow with what the run did: its path numbered, time, tokens, price and failures.

        Args:
            format: "svg", "png", "pdf", "dot", "mermaid", "state", "table", "json" or "html".
            against: another run of the workflow: which arrows only one of them took, and where they part.
            options: see `fsm.diagram.render`.

        Raises:
            UsageError: an unknown format or option, or `against` is no result.
            MissingExtra, MissingProgram: what draws is not installed; it says what to install.
        """
        from .diagram import Overlay, known_options, render

        known_options(options, "against")
        names = self.workflow.renamed
        if against is not None:
            if not isinstance(against, Result):
                raise UsageError(f"against= takes the result of another run, not {against!r}")
            other = Overlay.of(against._readable(), renamed=names)  # noqa: SLF001 - another one of us
            options["overlay"] = Overlay.of(self._readable(), renamed=names).against(other)
        elif "overlay" not in options:
            options["records"], options["renamed"] = self._readable(), names
        return render(self.workflow.graph, format, **options)

    def _readable(self) -> tuple[Record, ...]:
        """The records; of a run that was erased since, what happened in it."""
        from ._drawing import readable

        try:
            return self.records
        except JournalError:
            return tuple(islice(readable(self._store, self.run_id), self._conversation.run.seq))

    def __format__(self, spec: str) -> str:
        """A picture in a format string: `f"{result:mermaid}"`."""
        from .diagram import formatted

        return formatted(self.diagram, spec) if spec else str(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The picture and the verdict, where a notebook shows the result."""
        from .diagram import mime_bundle

        return mime_bundle(str(self.verdict), self.diagram, include, exclude)
