"""`fsm migrate`: which waiting runs a new version of a workflow would strand, and moving the others to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._terminal import one_line

from ._load import load_workflow
from ._runs._open import AsJson, Opened, opened
from ._show import BAD, DIM, GOOD, HEAD, WARN, Screen

if TYPE_CHECKING:
    from fsm import Workflow
    from fsm._versions import Standing
    from fsm.journal import Store

OK, STRANDED = 0, 1


def migrate(
    journal: Annotated[
        str,
        typer.Argument(
            metavar="JOURNAL", help="A file, postgresql://..., or file.py:NAME of a store.", show_default=False
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="file.py:Class or module:Class", show_default=False)],
    *,
    check: Annotated[bool, typer.Option("--check", help="Only say what would come of it; nothing is written.")] = False,
    as_json: AsJson = False,
) -> int:
    """Move waiting runs of older versions to this version of their workflow, or only say which ones it strands.

    Run it with --check before a deployment. A run is stranded where a state that it names is gone or acts otherwise,
    where what it waits for has no row, where the system, tools, model or parameters that its history is bound to
    changed, or the tool of an open call; and where it cannot be read, or redact= changed what was said in it. States
    that are only called otherwise are declared on the class: class W(Workflow, renamed={"old": "new"}). A class that is
    called otherwise keeps the name of its runs: class W(Workflow, name="Old").

    Exits with 0 when no run is stranded, 1 when some are, could not be moved, or the journal has waiting runs, and
    never had one of this workflow.
    """
    from fsm import _versions

    workflow = load_workflow(target)
    _refuse_broken(workflow)
    with opened(journal) as place:
        if check:
            found = tuple(_versions.standings(workflow, place.store))
        else:
            found = _versions.migrate(workflow, journal=place.store)
        others = {} if found else _of_others(place.store, workflow)
    stuck = [standing for standing in found if standing.strands or standing.problem]
    version = _versions.fingerprint(workflow)
    if as_json:
        typer.echo(json.dumps({**_for_machines(workflow, version, found, done=not check), "others": others}, indent=2))
    elif others:
        _show_others(Screen(), place, workflow, others)
    else:
        _show(Screen(), workflow, version, found, done=not check)
    return STRANDED if stuck or others else OK


def _of_others(store: Store, workflow: type[Workflow]) -> dict[str, int]:
    """How many runs wait, by workflow, where the journal never had one of this workflow; else nothing."""
    from fsm._summary import Query

    if next(iter(store.runs(Query(workflow=workflow.name))), None) is not None:
        return {}
    return dict(sorted(Counter(run.workflow for run in store.runs() if run.status != "ended").items()))


def _show_others(screen: Screen, place: Opened, workflow: type[Workflow], others: Mapping[str, int]) -> None:
    counts = [f"{n} waiting run{'s' * (n != 1)} of {one_line(name, 64)}" for name, n in others.items()]
    screen.line(("✗ ", BAD), f"{one_line(place.name, 300)} has {', '.join(counts)}, none of {workflow.name}", hang=2)
    first = next(iter(others))
    screen.line(
        ("name the class that they are runs of; where it was renamed, let it keep their name:  ", DIM),
        f'class {workflow.__name__}(Workflow, name="{one_line(first, 64)}")',
        indent=2,
    )


def _refuse_broken(workflow: type[Workflow]) -> None:
    from fsm import WorkflowError

    errors = [finding for finding in workflow.check() if finding.is_error]
    if errors:
        raise WorkflowError(workflow.name, errors)


def _verdict(standing: Standing, *, done: bool) -> str:
    if standing.strands:
        return "stranded"
    if standing.problem:
        return "not moved"
    return "this version" if standing.is_current else "moved" if done else "fits"


def _for_machines(workflow: type[Workflow], version: str, found: tuple[Standing, ...], *, done: bool) -> dict[str, Any]:
    return {
        "workflow": workflow.name,
        "fingerprint": version,
        "stranded": sum(bool(standing.strands) for standing in found),
        "runs": [
            {
                "run_id": standing.run_id,
                "state": standing.state,
                "waits_for": standing.waits_for,
                "verdict": _verdict(standing, done=done),
                "problem": standing.problem,
                "strands": [
                    {name: getattr(strand, name) for name in ("what", "state", "seq", "detail", "remedy")}
                    for strand in standing.strands
                ],
            }
            for standing in found
        ],
    }


_STYLES = {"stranded": BAD, "not moved": WARN, "this version": DIM, "moved": GOOD, "fits": GOOD}


def _show(screen: Screen, workflow: type[Workflow], version: str, found: tuple[Standing, ...], *, done: bool) -> None:
    stranded = [standing for standing in found if standing.strands]
    number = f"{len(found)} waiting run{'' if len(found) == 1 else 's'}"
    verdict = f"{len(stranded)} stranded" if stranded else "none stranded"
    mark = ("✗ ", BAD) if stranded else ("✓ ", GOOD)
    screen.line(mark, (workflow.name, HEAD), (f" {version}", DIM), f": {number}, {verdict}")
    if not found:
        return
    screen.line()
    rows = []
    for standing in found:
        name = _verdict(standing, done=done)
        why = [str(strand) for strand in standing.strands] or [standing.problem]
        told = screen.text((name, _STYLES[name]))
        shown = one_line(standing.run_id, 64)
        rows += [
            (
                shown if first else "",
                one_line(standing.state, 64) if first else "",
                told if first else "",
                one_line(each, 1000),
            )
            for first, each in zip([True] + [False] * len(why), why, strict=False)
        ]
    screen.table(("run", "state", "", "why"), rows, whole=(0, 1, 2))
