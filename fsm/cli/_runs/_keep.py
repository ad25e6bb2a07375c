"""`fsm runs verify`, `rm` and `purge`: whether a journal is whole, and what is taken out of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._errors import JournalError, RunError
from fsm._summary import Query, RunSummary
from fsm._terminal import one_line
from fsm.cli._errors import CommandError
from fsm.cli._load import load_workflow
from fsm.cli._show import BAD as RED
from fsm.cli._show import DIM, GOOD, HEAD, WARN, Screen
from fsm.journal import has_run

from ._look import list_runs, show_damaged, shown_id
from ._ls import OfWorkflow, Older, State, Status, Tags
from ._open import (
    BAD,
    OK,
    PARKED,
    AsJson,
    DriveMany,
    Journal,
    Opened,
    Yes,
    filtered,
    found,
    meant,
    opened,
    readable,
    selected,
)

if TYPE_CHECKING:
    from fsm import Workflow

_LISTED = 20  # runs that are shown before it asks

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids, the whole of each.", show_default=False)]


def verify(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id, or its beginning; all without.", show_default=False)
    ] = None,
    journal: Journal = None,
    *,
    workflows: DriveMany = None,
    chain: Annotated[
        bool, typer.Option("--chain", help="Only what is stored, also where FSM_WORKFLOW names a workflow.")
    ] = False,
    json_: AsJson = False,
) -> int:
    """Check that runs are stored as they were written: every record, body and commit against the chain of hashes.

    With --workflow each run is decided again, too, without any request or tool: what guards, effects and prompts of
    this version decide otherwise than was recorded is listed. That is no damage: the workflow changed, or is not pure.

    Exits with 0 when all is well, 1 when anything was changed on the disk, 4 when this version of a workflow decides
    otherwise.
    """
    with opened(journal) as place:
        stored = place.able("verify")
        named = [] if chain else workflows or []
        by_name = {workflow.name: workflow for workflow in map(load_workflow, named)}
        damaged: dict[str, str] = {}
        every = place.store.runs() if run is None else (found(place, each) for each in [run])
        runs = readable(every, damaged)
        screen = Screen()
        findings: list[dict[str, Any]] = []
        for number, each in enumerate(runs, 1):
            if not json_:
                screen.busy(f"{number:,} {shown_id(each.run_id)} …")
            problem = _problem(stored, each.run_id)
            differences, note = _decided_again(place, each, by_name.get(each.workflow)) if not problem else ((), "")
            findings.append(
                {
                    "run_id": each.run_id,
                    "workflow": each.workflow,
                    "records": each.records,
                    "problem": problem,
                    "decided_again": each.workflow in by_name and not note and not problem,
                    "differences": list(differences),
                    "note": note,
                }
            )
        screen.stop()
        findings += [{**_UNREAD, "run_id": run_id, "problem": why} for run_id, why in damaged.items()]
    if json_:
        sys.stdout.write(json.dumps(findings, indent=2) + "\n")
    else:
        _show_findings(screen, findings, one=run is not None)
    if any(each["problem"] for each in findings):
        return BAD
    return OTHERWISE if any(each["differences"] for each in findings) else OK


OTHERWISE = 4
_UNREAD = {
    "run_id": "", "workflow": "", "records": 0, "problem": "", "decided_again": False, "differences": [], "note": "",
}  # fmt: skip


def _problem(stored: Callable[[str], str | None], run_id: str) -> str | None:
    """What is wrong with a run, also where the storage cannot give what it holds: the next one may be whole."""
    try:
        return stored(run_id)
    except RunError:
        return None  # it was deleted meanwhile
    except JournalError as error:
        return str(error)


def _decided_again(place: Opened, run: RunSummary, workflow: type[Workflow] | None) -> tuple[tuple[str, ...], str]:
    """What differs when a run is decided again, and why it could not be."""
    from fsm._verify import verify as decide_again

    if workflow is None:
        return (), ""
    try:
        return decide_again(workflow, run.run_id, journal=place.store), ""
    except JournalError as error:  # erased or encrypted: the chain holds without what was said, deciding does not
        return (), str(error)


def _show_findings(screen: Screen, findings: Sequence[dict[str, Any]], *, one: bool) -> None:
    for each in findings:
        lines = [each["problem"]] if each["problem"] else each["differences"]
        if lines or one or each["note"]:
            mark, style = ("✗ ", RED) if each["problem"] else ("≠ ", WARN) if lines else ("✓ ", GOOD)
            what = f"{each['records']:,} records"
            screen.line((mark, style), (shown_id(each["run_id"]), HEAD), (f" · {what}", DIM), indent=2, hang=4)
        for line in lines:
            screen.line(one_line(line, 600), indent=4)
        if each["note"]:
            screen.line((f"not decided again: {one_line(each['note'], 600)}", DIM), indent=4)
    bad, other = (sum(bool(each[name]) for each in findings) for name in ("problem", "differences"))
    again = sum(each["decided_again"] for each in findings)
    written = f"{bad:,} {_are(bad)} not as written" if bad else "all as they were written"
    if not one:
        words = f"{len(findings):,} run{'s' * (len(findings) != 1)}: {written}"
        screen.line(("✗ " if bad else "✓ ", RED if bad else GOOD), words, indent=2)
    if other:
        what = "is as it was written, and" if one else f"{other:,} {_are(other)}"
        screen.line(("≠ ", WARN), f"{what} decided otherwise by this version of the workflow", indent=2)
    elif not again:
        screen.line((_ONLY_CHAIN, DIM), indent=4)
    if again > other:
        screen.line((f"{again - other:,} decided again with the same outcome", DIM), indent=4)


def _are(count: int) -> str:
    return "are" if count != 1 else "is"


_ONLY_CHAIN = "only the chain of hashes was looked at; with --workflow runs are decided again, too"


def rm(runs: Runs, journal: Journal = None, *, yes: Yes = False) -> int:
    """Delete runs for good: records, texts, all.

    Asks before. Exits with 0, with 3 when you said no, with 1 when one of them stays: somebody drives it, or went on
    with it while you were asked.
    """
    with opened(journal) as place:
        named = {run.run_id: run for run in (meant(place, each, "rm") for each in runs)}
        return _remove(Screen(), place, list(named.values()), "delete", unfinished=True, yes=yes)


def purge(
    journal: Journal = None,
    *,
    older: Older = None,
    tags: Tags = None,
    state: State = None,
    status: Status = None,
    workflow: OfWorkflow = None,
    bodies: Annotated[
        bool,
        typer.Option("--bodies", help="Erase only what was said; order, moves and hashes stay, `verify` still holds."),
    ] = False,
    unfinished: Annotated[
        bool,
        typer.Option(
            "--unfinished", help="With --bodies --status parked: those cannot go on afterwards, only be cancelled."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    yes: Yes = False,
) -> int:
    """Delete the runs that are old, or have a tag; with --bodies erase their texts only.

    Only runs that have ended, unless --status names others. Asks before. Exits with 0, with 3 when you said no, with 1
    when one of them stays: somebody drives it, or went on with it while you were asked.
    """
    if not (older or tags or state or workflow):
        raise CommandError("say which: --older-than 30d, --tag KEY=VALUE, --workflow NAME, --state NAME")
    if status not in {None, "ended", "parked"}:
        raise CommandError(f"--status is ended or parked here, not {status!r}: what runs is not deleted")
    if bodies and status == "parked" and not (unfinished or dry_run):
        raise CommandError(
            "runs that wait cannot go on without what was said in them, they can only be cancelled or deleted: "
            "give --unfinished to erase it all the same"
        )
    wanted = filtered(older=older, tags=tags, state=state, status=status or "ended", workflow=workflow)
    verb = "erase" if bodies else "delete"
    with opened(journal) as place:
        damaged: dict[str, str] = {}
        runs = list(readable(selected(place, wanted), damaged))
        screen = Screen()
        show_damaged(screen, damaged)
        if not runs:
            screen.line(f"no run of {one_line(place.name, 200)} fits: nothing to do", indent=2)
            return BAD if damaged else OK
        if dry_run:
            list_runs(screen, place, runs)
            return BAD if damaged else OK
        code = _remove(screen, place, runs, verb, unfinished=status == "parked", yes=yes)
        return code or (BAD if damaged else OK)


def _remove(
    screen: Screen, place: Opened, runs: Sequence[RunSummary], verb: str, *, unfinished: bool, yes: bool
) -> int:
    """Take these runs away, as they were when they were looked at, and no others."""
    remove = place.able("purge")
    if not _is_meant(screen, place, runs, verb, yes=yes):
        return PARKED
    seen = Query(only={run.run_id: run.records for run in runs})
    gone = set(remove(seen, unfinished=unfinished, erase=verb == "erase"))
    kept = [run.run_id for run in runs if run.run_id not in gone]
    for run_id in kept[:_LISTED]:
        screen.line(("· ", WARN), f"{shown_id(run_id)} {_why_not(place, run_id)}", indent=2)
    screen.line(("✓ ", GOOD), f"{_DONE[verb]}: {_what(verb, len(gone))}", indent=2)
    return BAD if kept else OK


def _why_not(place: Opened, run_id: str) -> str:
    if not has_run(place.store, run_id):
        return "is gone: somebody else deleted it"
    return "stays: somebody drives it" if place.is_driven(run_id) else "stays: it went on meanwhile"


_DONE = {"delete": "deleted", "erase": "erased"}


def _what(verb: str, count: int) -> str:
    return f"{'what was said in ' if verb == 'erase' else ''}{count:,} run{'s' * (count != 1)}"


def _is_meant(screen: Screen, place: Opened, runs: Sequence[RunSummary], verb: str, *, yes: bool) -> bool:
    """Whether a person says yes, who has seen which runs they are."""
    if yes:
        return True
    count = f"{_what(verb, len(runs))} of {one_line(place.name, 200)}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise CommandError(f"this would {verb} {count} for good, and there is no terminal to ask on: give --yes")
    list_runs(screen, place, runs[:_LISTED])
    if len(runs) > _LISTED:
        screen.line((f"… and {len(runs) - _LISTED:,} more", DIM), indent=2)
    if waiting := sum(run.status != "ended" for run in runs):
        lost = ", and cannot go on afterwards: only `cancel` and `rm` are left" if verb == "erase" else ""
        screen.line((f"{waiting} of them {'have' if waiting > 1 else 'has'} not ended{lost}", WARN), indent=2)
    screen.console.file.flush()
    if input(f"\n  {verb} {count} for good? [y/N] ").strip().lower() in {"y", "yes"}:
        return True
    screen.line(("nothing was done", DIM), indent=2)
    return False
