"""`fsm runs verify`, `rm` and `purge`: whether a journal is whole, and what is taken out of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._errors import ConcurrentWriter, JournalError
from fsm._summary import RunSummary
from fsm._terminal import one_line

from ._errors import CommandError
from ._load import load_workflow
from ._runs_look import list_runs, shown_id
from ._runs_ls import OfWorkflow, Older, State, Status, Tags
from ._runs_open import BAD, OK, PARKED, AsJson, DriveMany, Journal, Opened, Yes, filtered, found, opened, selected
from ._show import BAD as RED
from ._show import DIM, GOOD, HEAD, WARN, Screen

if TYPE_CHECKING:
    from fsm import Workflow

_LISTED = 20  # runs that are shown before it asks

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids, or their beginnings.", show_default=False)]


def verify(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id, or its beginning; all without.", show_default=False)
    ] = None,
    journal: Journal = None,
    *,
    workflows: DriveMany = None,
    json_: AsJson = False,
) -> int:
    """Check that runs are stored as they were written: every record, body and commit against the chain of hashes.

    With --workflow each run is decided again, too, without any request or tool: guards, effects and prompts that decide
    otherwise than they did are listed. Exits with 0 when all is well, 1 when anything is not.
    """
    with opened(journal) as place:
        stored = place.able("verify")
        by_name = {workflow.name: workflow for workflow in map(load_workflow, workflows or [])}
        runs = [found(place, run)] if run is not None else place.store.runs()
        screen = Screen()
        findings: list[dict[str, Any]] = []
        for number, each in enumerate(runs, 1):
            if not json_:
                screen.busy(f"{number:,} {shown_id(each.run_id)} …")
            problem = stored(each.run_id)
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
    if json_:
        sys.stdout.write(json.dumps(findings, indent=2) + "\n")
    else:
        _show_findings(screen, findings, one=run is not None)
    return BAD if any(each["problem"] or each["differences"] for each in findings) else OK


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
    bad = 0
    for each in findings:
        lines = [each["problem"]] if each["problem"] else each["differences"]
        bad += bool(lines)
        if lines or one or each["note"]:
            mark, style = ("✗ ", RED) if lines else ("✓ ", GOOD)
            what = f"{each['records']:,} records"
            screen.line((mark, style), (shown_id(each["run_id"]), HEAD), (f" · {what}", DIM), indent=2, hang=4)
        for line in lines:
            screen.line(one_line(line, 600), indent=4)
        if each["note"]:
            screen.line((f"not decided again: {one_line(each['note'], 600)}", DIM), indent=4)
    again = sum(each["decided_again"] for each in findings)
    if not one:
        words = f"{len(findings):,} run{'s' * (len(findings) != 1)}: "
        words += f"{bad:,} {'are' if bad != 1 else 'is'} not as written" if bad else "all as they were written"
        screen.line(("✗ " if bad else "✓ ", RED if bad else GOOD), words, indent=2)
    screen.line(
        (f"{again:,} decided again with the same outcome" if again and not bad else "" if again else _ONLY_CHAIN, DIM),
        indent=4,
    )


_ONLY_CHAIN = "only the chain of hashes was looked at; with --workflow runs are decided again, too"


def rm(runs: Runs, journal: Journal = None, *, yes: Yes = False) -> int:
    """Delete runs for good: records, texts, all.

    Asks before. Exits with 0, with 3 when you said no, with 1 when somebody drives one of them, which stays.
    """
    with opened(journal) as place:
        meant = {run.run_id: run for run in (found(place, each) for each in runs)}
        screen, delete = Screen(), place.able("delete")
        if not _is_meant(screen, place, list(meant.values()), "delete", yes=yes):
            return PARKED
        kept = []
        for run_id in meant:
            try:
                delete(run_id, unfinished=True)
            except ConcurrentWriter:
                kept.append(run_id)
        return _removed(screen, "delete", len(meant), kept)


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    yes: Yes = False,
) -> int:
    """Delete the runs that are old, or have a tag; with --bodies erase their texts only.

    Only runs that have ended, unless --status names others. Asks before. Exits with 0, with 3 when you said no, with 1
    when somebody drives one of them, which stays.
    """
    if not (older or tags or state or workflow):
        raise CommandError("say which: --older-than 30d, --tag KEY=VALUE, --workflow NAME, --state NAME")
    if status not in {None, "ended", "parked"}:
        raise CommandError(f"--status is ended or parked here, not {status!r}: what runs is not deleted")
    wanted = filtered(older=older, tags=tags, state=state, status=status or "ended", workflow=workflow)
    verb = "erase" if bodies else "delete"
    with opened(journal) as place:
        runs = list(selected(place, wanted))
        screen = Screen()
        if not runs:
            screen.line(f"no run of {one_line(place.name, 200)} fits: nothing to do", indent=2)
            return OK
        if dry_run:
            list_runs(screen, place, runs)
            return OK
        remove = place.able("purge")
        if not _is_meant(screen, place, runs, verb, yes=yes):
            return PARKED
        gone = set(remove(wanted.query, unfinished=status == "parked", erase=bodies))
        return _removed(screen, verb, len(runs), [run.run_id for run in runs if run.run_id not in gone])


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
        screen.line((f"{waiting} of them {'have' if waiting > 1 else 'has'} not ended", WARN), indent=2)
    screen.console.file.flush()
    if input(f"\n  {verb} {count} for good? [y/N] ").strip().lower() in {"y", "yes"}:
        return True
    screen.line(("nothing was done", DIM), indent=2)
    return False


def _removed(screen: Screen, verb: str, count: int, kept: Sequence[str]) -> int:
    for run_id in kept[:_LISTED]:
        screen.line(("· ", WARN), f"{shown_id(run_id)} stays: somebody drives it", indent=2)
    screen.line(("✓ ", GOOD), f"{_DONE[verb]}: {_what(verb, count - len(kept))}", indent=2)
    return BAD if kept else OK
