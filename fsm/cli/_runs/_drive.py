"""`fsm runs resume` and `cancel`, and what all do that drive a run on: it is told as `fsm run` tells it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._errors import ConcurrentWriter, FsmError
from fsm._summary import RunSummary
from fsm._terminal import one_line
from fsm.cli._client import live_client, stops_at_a_step
from fsm.cli._deps import deps_of
from fsm.cli._errors import CommandError
from fsm.cli._live import LiveJournal, show_result
from fsm.cli._load import load_workflow
from fsm.cli._part import dollars
from fsm.cli._show import BAD as RED
from fsm.cli._show import DIM, GOOD, HEAD, WARN, Screen
from fsm.cli._telling import Narrator

from ._look import command, go_on, show_damaged, show_question, shown_id
from ._ls import Newer, Older, Tags
from ._open import (
    BAD,
    INTERRUPTED,
    OK,
    PARKED,
    Deps,
    DriveMany,
    Drives,
    Journal,
    Opened,
    Run,
    driver_of,
    filtered,
    is_expired,
    is_interrupted,
    meant,
    opened,
    readable,
    selected,
    standing,
)
from ._story import story_of

if TYPE_CHECKING:
    from fsm import Question, Result, Workflow


def refuse_driven(place: Opened, run: RunSummary) -> None:
    """Said before a person is asked in vain; the claim of the store is what counts."""
    if place.is_driven(run.run_id):
        raise CommandError(
            f"run '{shown_id(run.run_id)}' is being driven by another process: answer it there, or stop that "
            f"one first. `{command('tail', run, place)}` shows what it does"
        )


def drive_on(
    screen: Screen,
    place: Opened,
    run: RunSummary,
    workflow: type[Workflow],
    target: str | None,
    *,
    deps: Any,
    first: Callable[[Question], Any] | None = None,
    number: int | None = None,
    is_asked: bool = False,
) -> int:
    """Drive a run on, and tell it.

    Params: `first` answers the question that it waits with, and with a `number` no other one; a person on the terminal
    answers those after it, and with `is_asked` also one at the other end of a pipe.
    """
    from fsm import resume as resume_run
    from fsm.cli._run import asker

    screen.busy("loading the SDK …")
    instead = "look at it without one:  " + command("show", run, place)
    client = live_client(instead if first is None else f"only record the answer: --no-run. Or {instead}")
    screen.stop()
    narrator = Narrator(screen, workflow.graph)
    journal = LiveJournal(narrator, store=place.store)
    for record in place.store.read(run.run_id):
        journal.teller.know(record)
    screen.line((shown_id(run.run_id), HEAD), (f" · {workflow.name}, from move {run.moves + 1} on", DIM), indent=2)
    screen.line()
    answers = [first] if first is not None else []
    later = asker(narrator, workflow) if is_asked or _is_terminal() else None

    def ask(question: Question) -> Any:
        if answers and number in {None, question.number}:
            return answers.pop()(question)
        return later(question) if later is not None and not answers else None

    with client, stops_at_a_step():
        result = resume_run(workflow, run.run_id, deps=deps, client=client, journal=journal, ask=ask)
    screen.stop()
    if answers:
        screen.line((TOO_LATE, WARN), indent=2)
    show_result(screen, result)
    now = place.store.summary(run.run_id)
    if result.question is not None:
        screen.title("what a person is asked")
        show_question(screen, result.question, story_of(place.store.read(run.run_id)))
        screen.line()
    go_on(screen, place, now, standing(place, now), target)
    return PARKED if answers and code_of(result) != INTERRUPTED else code_of(result)


TOO_LATE = "The answer came too late and was not recorded: its time had run out, or somebody else had answered."


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def code_of(result: Result) -> int:
    """The exit code of a run that was driven."""
    if result.verdict.reason == "interrupted":
        return INTERRUPTED
    return PARKED if result.parked else OK if result.ok else BAD


def resume(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The run's id, the whole of it.", show_default=False)
    ] = None,
    journal: Journal = None,
    *,
    workflows: DriveMany = None,
    deps: Deps = None,
    waiting: Annotated[
        str | None,
        typer.Option(
            "--waiting",
            metavar="WORD",
            help="api: all that are parked because the API stayed away. interrupted: all that were stopped or drained.",
        ),
    ] = None,
    stopped: Annotated[
        bool, typer.Option("--stopped", help="All whose process died, or was stopped or drained.")
    ] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="All that ask a person, and whose time to answer is over.")
    ] = False,
    tags: Tags = None,
    older: Older = None,
    newer: Newer = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on with the next one although the API stays away from one.")
    ] = False,
) -> int:
    """Go on with a run that is parked, or whose process died; or with all of a kind, after an outage or a deployment.

    Exits with 0 when it ended well, 1 when it ended otherwise, 3 when it is parked again. With --waiting, --stopped or
    --expired each outcome is a line: 1 when any ended otherwise or could not be taken up, else 3 when any is parked
    again. The first one that the API stays away from again ends it, unless --keep-going.
    """
    many = bool(waiting or stopped or expired)
    if run is not None and many:
        raise CommandError("name a run, or say which with --waiting, --stopped and --expired: not both")
    if run is None and not many:
        raise CommandError(
            "name a run, or take all up that wait: --waiting api, --waiting interrupted, --stopped, --expired"
        )
    if waiting not in {None, "api", "interrupted"}:
        instead = ": --expired takes up those whose time is over" if waiting in {"person", "expired"} else ""
        raise CommandError(
            f"--waiting takes api or interrupted here, not {waiting!r}{instead or ', which end by themselves'}"
        )
    with opened(journal) as place:
        if run is not None:
            summary = meant(place, run, "resume")
            if tags or older or newer:
                raise CommandError("--tag, --older-than and --newer-than choose among many: leave RUN out")
            return _resume_one(place, summary, workflows or [], deps)
        wanted = filtered(tags=tags, older=older, newer=newer)
        damaged: dict[str, str] = {}
        runs = [
            each
            for each in readable(selected(place, wanted), damaged)
            if (waiting == "api" and each.status == "parked" and each.waits_for == "api")
            or ((stopped or waiting == "interrupted") and is_interrupted(each))
            or (stopped and standing(place, each) == "stopped")
            or (expired and is_expired(each))
        ]
        code = _resume_all(place, runs, workflows or [], deps, keep_going=keep_going)
        show_damaged(Screen(), damaged)
        return code or (BAD if damaged else OK)


def _resume_one(place: Opened, run: RunSummary, targets: Sequence[str], deps: str | None) -> int:
    if run.status == "ended":
        raise CommandError(
            f"run '{shown_id(run.run_id)}' has ended in '{one_line(run.state, 64)}': there is nothing to resume. "
            "A new run goes on from its history with run(..., after=result)"
        )
    target = targets[0] if targets else None
    if len(targets) > 1:
        target = _by_name(targets).get(run.workflow, (None, None))[0]
    workflow = driver_of(run, target, "resume")
    refuse_driven(place, run)
    value, _ = deps_of(workflow, deps)
    return drive_on(Screen(), place, run, workflow, target, deps=value)


def _by_name(targets: Sequence[str]) -> dict[str, tuple[str, type[Workflow]]]:
    """What was named, by the name of the workflow."""
    return {workflow.name: (target, workflow) for target, workflow in ((t, load_workflow(t)) for t in targets)}


def _resume_all(
    place: Opened, runs: Sequence[RunSummary], targets: Sequence[str], deps: str | None, *, keep_going: bool
) -> int:
    screen = Screen()
    if not runs:
        screen.line("no run waits for that", indent=2)
        return OK
    by_name = {name: workflow for name, (_, workflow) in _by_name(targets).items()}
    if not any(run.workflow in by_name for run in runs):
        driver_of(runs[0], targets[0] if targets else None, "resume")
    values = {name: deps_of(workflow, deps)[0] for name, workflow in by_name.items()}
    screen.busy("loading the SDK …")
    client = live_client("look at them without one:  fsm runs ls")
    screen.stop()
    width = max(len(shown_id(run.run_id)) for run in runs)
    codes: list[int] = []
    with client, stops_at_a_step():
        for number, run in enumerate(runs, 1):
            screen.busy(f"{number} of {len(runs)}  {one_line(run.workflow, 40)} {shown_id(run.run_id)} …")
            workflow = by_name.get(run.workflow)
            code, mark, style, words = (
                (BAD, "✗", RED, f"left: a run of {one_line(run.workflow, 64)}, name it with --workflow")
                if workflow is None
                else _taken_up(place, run, workflow, values[run.workflow], client)
            )
            screen.stop()
            screen.entry(screen.text(f"  {mark} ", (f"{shown_id(run.run_id)}", style)), words, column=width + 6)
            codes.append(code)
            if code == INTERRUPTED or (words.startswith(_STILL_AWAY) and not keep_going):
                break
    left = len(runs) - len(codes)
    screen.line()
    well = codes.count(OK)
    screen.line(
        f"{well} of {len(runs)} ended well"
        + (f", {codes.count(PARKED)} parked again" if PARKED in codes else "")
        + (f", {codes.count(BAD)} otherwise" if BAD in codes else "")
        + (f", {codes.count(_ELSEWHERE)} driven elsewhere" if _ELSEWHERE in codes else "")
        + (f", {left} not taken up" if left else ""),
        indent=2,
    )
    return next((code for code in (INTERRUPTED, BAD, PARKED) if code in codes), OK)


_STILL_AWAY = "the API is still away"
_ELSEWHERE = -1  # no exit code: somebody else takes care of that run


def _taken_up(
    place: Opened, run: RunSummary, workflow: type[Workflow], deps: Any, client: Any
) -> tuple[int, str, str, str]:
    """Drive one of many: its exit code, mark, style and outcome."""
    from fsm import resume as resume_run

    try:
        result = resume_run(workflow, run.run_id, deps=deps, client=client, journal=place.store)
    except ConcurrentWriter:
        return _ELSEWHERE, "·", DIM, "is being driven by another process"
    except FsmError as error:
        return BAD, "✗", RED, one_line(error, 400)
    verdict = result.verdict
    used = "price unknown" if verdict.price is None else dollars(verdict.price)
    words = f"{one_line(verdict.state, 64)} · {one_line(verdict.reason, 64)} · {used}"
    code = code_of(result)
    if verdict.reason == "waiting_api":
        words = f"{_STILL_AWAY}: {one_line(verdict.evidence.get('message') or verdict.evidence.get('why') or '', 200)}"
    mark, style = {OK: ("✓", GOOD), BAD: ("✗", RED)}.get(code, ("‖", WARN))
    return code, mark, style, words


def cancel(
    run: Run,
    journal: Journal = None,
    *,
    workflow: Drives = None,
    deps: Deps = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it is recorded.")
    ] = "cancelled by the user",
) -> int:
    """End a run that is parked, or whose process died: the event `cancel`; its open calls are not run.

    Exits with 0 when it ended, 3 when the workflow leads `cancel` to where it waits again.
    """
    from fsm import cancel as cancel_run

    with opened(journal) as place:
        summary = meant(place, run, "cancel")
        if summary.status == "ended":
            raise CommandError(
                f"run '{shown_id(summary.run_id)}' has ended in '{one_line(summary.state, 64)}': nothing to cancel"
            )
        target = driver_of(summary, workflow, "cancel")
        refuse_driven(place, summary)
        screen = Screen()
        narrator = Narrator(screen, target.graph)
        live = LiveJournal(narrator, store=place.store)
        live.teller.moves = summary.moves
        options: dict[str, Any] = {} if deps is None else {"deps": deps_of(target, deps)[0]}
        result = cancel_run(target, summary.run_id, reason=reason, journal=live, **options)
        screen.stop()
        show_result(screen, result)
        return PARKED if result.parked else OK
