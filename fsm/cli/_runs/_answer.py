"""`fsm runs answer`: what a person decided or said, recorded, and the run driven on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._opening import check_question, reopened
from fsm._summary import RunSummary
from fsm._terminal import clean, left_out, one_line
from fsm.cli._deps import deps_of
from fsm.cli._errors import CommandError
from fsm.cli._show import DIM, GOOD, HEAD, WARN, Screen

from ._drive import TOO_LATE, drive_on, refuse_driven
from ._look import command, go_on, shown_id, waits_for
from ._open import OK, PARKED, Deps, Drives, Journal, Opened, Run, driver_of, meant, opened, standing
from ._story import story_of
from ._words import FORMS, VERBS, answer_of, named

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
    question: Annotated[
        int | None,
        typer.Option("--question", metavar="N", help="Only if that is what is asked still; `show` gives the number."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="For all that is denied; Claude reads it.")
    ] = None,
    no_run: NoRun = False,
) -> int:
    """Answer a run that waits for a person, and go on with it.

    A CALL is its number, its tool's name or its whole id, as `fsm runs show` prints them; without one all are meant.
    Several verbs may stand in one answer: `approve 1 3 deny 2 because "too much" edit 4 '{"euros": 5}'`. The JSON of
    `edit` is the whole new input. What is not decided is asked again.

    Exits with 0 when the run ended well, 1 when it ended otherwise, 3 when it is parked again or nothing was answered
    because it came too late or you gave none; with --no-run with 0 once the answer is recorded.
    """
    with opened(journal) as place:
        summary = meant(place, run, "answer")
        if words and words[0] not in VERBS:
            raise CommandError(f"an answer begins with a verb, not {words[0]!r}: {FORMS}")
        if question is None or question == summary.question:
            _asks_somebody(place, summary)
        target = driver_of(summary, workflow, "answer")
        refuse_driven(place, summary)
        if question is not None and question != summary.question:
            with reopened(target, summary.run_id, {"journal": place.store}, "resume") as session:
                check_question(session, question, words or [])
        screen = Screen()
        first = _answerer(screen, place, summary.run_id, target, words=words or [], reason=reason)
        number = summary.question if words else question  # whoever is asked on the terminal sees what it is
        if no_run:
            return _record(screen, place, summary, target, workflow, first=first, number=number)
        value, _ = deps_of(target, deps)
        return drive_on(
            screen, place, summary, target, workflow, deps=value, first=first, number=number, is_asked=not words
        )


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
        given = answer_of(words, question, story_of(place.store.read(run_id)).numbers, reason=reason, check=check)
        decisions = {} if isinstance(given, str) else given
        for call in question.calls:
            decision = decisions.get(call.id)
            if decision is not None and (left := left_out(call, decision.input or call.input)):
                screen.line((f"{named(call)} goes without {left}, which it had", WARN), indent=2)
        return given

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
    screen: Screen,
    place: Opened,
    run: RunSummary,
    workflow: type[Workflow],
    target: str | None,
    *,
    first: Callable[[Question], Any],
    number: int | None,
) -> int:
    """Record the answer and what follows from it at once, and leave the rest to a `resume`; see `drive_on`."""
    from fsm.drivers._pump import answer_event

    answered = False
    with reopened(workflow, run.run_id, {"journal": place.store}, "resume") as session:
        question, is_expired = session.conversation.question(), session.conversation.run.is_expired
        if number is not None:
            check_question(session, number, first)
        if question is None:
            raise CommandError(f"run '{shown_id(run.run_id)}' asks nobody now: `{command('show', run, place)}`")
        given = None if is_expired(session.clock()) else first(question)
        at = session.clock()
        if is_expired(at):
            screen.line((TOO_LATE, WARN), indent=2)
        elif given is None:
            screen.line(("Nothing was answered; it waits on.", DIM), indent=2)
        else:
            for event in [*session.upgrade, answer_event(at, question, given, session.toolbox)]:
                session.commit(event)
            session.park()
            answered = True
    now = place.store.summary(run.run_id)
    if answered:
        screen.line(("✓ ", GOOD), "recorded; it stands in ", (one_line(now.state, 64), HEAD), indent=2)
    go_on(screen, place, now, standing(place, now), target)
    return OK if answered else PARKED
