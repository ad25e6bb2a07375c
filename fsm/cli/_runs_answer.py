"""`fsm runs answer`: what a person decided or said, recorded, and the run driven on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._opening import reopened
from fsm._summary import RunSummary
from fsm._terminal import clean, one_line

from ._deps import deps_of
from ._errors import CommandError
from ._runs_drive import drive_on, refuse_driven
from ._runs_look import command, go_on, shown_id, waits_for
from ._runs_open import OK, PARKED, Deps, Drives, Journal, Opened, Run, driver_of, found, opened, standing
from ._runs_story import numbers_of
from ._runs_words import FORMS, VERBS, answer_of
from ._show import DIM, GOOD, HEAD, Screen

if TYPE_CHECKING:
    from fsm import OpenCall, Question, Workflow

NoRun = Annotated[
    bool, typer.Option("--no-run", help="Only record the answer; `fsm runs resume` goes on, anywhere, later.")
]


def answer(
    run: Run,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="ANSWER", help=f"{FORMS}. Without one you are asked.", show_default=False),
    ] = None,
    journal: Journal = None,
    *,
    workflow: Drives = None,
    deps: Deps = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="For all that is denied; Claude reads it.")
    ] = None,
    no_run: NoRun = False,
) -> int:
    """Answer a run that waits for a person, and go on with it.

    A CALL is named by its number, its tool or its id, as `fsm runs show` prints them; without one all are meant.
    Several verbs may stand in one answer: `approve 1 3 deny 2 because "too much" edit 4 '{"euros": 5}'`. What is not
    decided is asked again.

    Exits with 0 when the run ended well, 1 when it ended otherwise, 3 when it is parked again or nothing was answered;
    with --no-run with 0.
    """
    with opened(journal) as place:
        summary = found(place, run)
        if words and words[0] not in VERBS:
            raise CommandError(f"an answer begins with a verb, not {words[0]!r}: {FORMS}")
        _asks_somebody(place, summary)
        target = driver_of(summary, workflow, "answer")
        refuse_driven(place, summary)
        screen = Screen()
        first = _answerer(screen, place, summary.run_id, target, words=words or [], reason=reason)
        if no_run:
            return _record(screen, place, summary, target, first)
        value, _ = deps_of(target, deps)
        return drive_on(screen, place, summary, target, workflow, deps=value, first=first, is_asked=not words)


def _asks_somebody(place: Opened, run: RunSummary) -> None:
    if run.status == "ended":
        raise CommandError(f"run '{shown_id(run.run_id)}' has ended in '{one_line(run.state, 64)}': nothing to answer")
    if run.waits_for != "person":
        does = waits_for(run, standing(place, run), run.updated)
        raise CommandError(
            f"run '{shown_id(run.run_id)}' asks nobody in state '{one_line(run.state, 64)}'"
            + (f": it waits {does}" if does else "; `fsm runs ls --waiting person` lists those that do")
        )


def _answerer(
    screen: Screen,
    place: Opened,
    run_id: str,
    workflow: type[Workflow],
    *,
    words: Sequence[str],
    reason: str | None,
) -> Callable[[Question], Any]:
    """What answers the question that the run waits with: the words, or the person on the terminal."""

    def check(call: OpenCall, new_input: Mapping[str, Any]) -> str | None:
        return None if call.spec is None else workflow.toolbox.of(call.spec).problem(dict(new_input))

    def by_words(question: Question) -> Any:
        return answer_of(words, question, numbers_of(place.store.read(run_id)), reason=reason, check=check)

    def by_person(question: Question) -> Any:
        from fsm._terminal import ask

        screen.stop()
        if question.prompt and question.kind == "approval":
            screen.entry(screen.text("  ", ("Claude", HEAD)), clean(question.prompt), column=10)
        screen.console.file.flush()
        return ask(question, check=check)

    if not words and reason is not None:
        raise CommandError("--reason belongs to an answer: deny --reason TEXT")
    return by_words if words else by_person


def _record(
    screen: Screen, place: Opened, run: RunSummary, workflow: type[Workflow], answers: Callable[[Question], Any]
) -> int:
    """Record the answer and what follows from it at once, and leave the rest to a `resume`."""
    from fsm.drivers._pump import answer_event

    with reopened(workflow, run.run_id, {"journal": place.store}, "resume") as session:
        question = session.conversation.question()
        if question is None:
            raise CommandError(f"run '{shown_id(run.run_id)}' asks nobody now: `{command('show', run, place)}`")
        given = answers(question)
        if given is None:
            screen.line(("Nothing was answered; it waits on.", DIM), indent=2)
            return PARKED
        for event in [*session.upgrade, answer_event(session.clock(), question, given, session.toolbox)]:
            session.commit(event)
        session.park()
    now = place.store.summary(run.run_id)
    screen.line(("✓ ", GOOD), "recorded; it stands in ", (one_line(now.state, 64), HEAD), indent=2)
    go_on(screen, place, now, standing(place, now))
    return OK
