"""What every `fsm runs` command begins with: the journal, the run that is meant, the workflow that drives it.

A journal holds no code and names none that would be loaded: what drives a run is named on the command line.
"""

from __future__ import annotations

import difflib
import heapq
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import urlsplit

import typer
from attrs import frozen

from fsm._errors import DeclarationError, RunError
from fsm._params import seconds_of
from fsm._summary import Query, RunSummary
from fsm._terminal import one_line

from ._errors import CommandError
from ._load import load_workflow

if TYPE_CHECKING:
    from fsm import Workflow
    from fsm.journal import Store

OK, BAD, USAGE, PARKED, INTERRUPTED = 0, 1, 2, 3, 130

Journal = Annotated[
    str | None,
    typer.Option(
        "--journal",
        "-j",
        envvar="FSM_JOURNAL",
        metavar="WHERE",
        help="The journal: a file, or postgresql://...",
        show_default=False,
    ),
]
Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run's id, or the beginning of it if only one has it.", show_default=False),
]
Drives = Annotated[
    str | None,
    typer.Option(
        "--workflow",
        "-w",
        envvar="FSM_WORKFLOW",
        metavar="TARGET",
        help="What the run is a run of: file.py:Class or module:Class. A journal holds no code.",
        show_default=False,
    ),
]
DriveMany = Annotated[
    list[str] | None,
    typer.Option(
        "--workflow",
        "-w",
        envvar="FSM_WORKFLOW",
        metavar="TARGET",
        help="What the runs are runs of: file.py:Class or module:Class; may be repeated. A journal holds no code.",
        show_default=False,
    ),
]
Deps = Annotated[str | None, typer.Option("--deps", metavar="NAME", help="As for `fsm run`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for machines.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


# ── the journal ─────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Opened:
    """An open journal. `options` is what a command that is shown has to name besides the run, for this journal."""

    store: Any  # a Store; what not every one can do is asked for by name
    name: str
    options: str

    def is_driven(self, run_id: str) -> bool | None:
        """Whether somebody drives a run now; None where the journal cannot tell."""
        is_claimed = getattr(self.store, "is_claimed", None)
        return None if is_claimed is None else bool(is_claimed(run_id))

    def able(self, verb: str) -> Any:
        """A method that not every store has.

        Raises:
            CommandError: this one has none.
        """
        found = getattr(self.store, verb, None)
        if found is None:
            raise CommandError(f"the journal {self.name} has no {verb}(): {type(self.store).__name__} cannot do that")
        return found


@contextmanager
def opened(journal: str | None) -> Iterator[Opened]:
    """The journal that is named; it is never made here.

    Raises:
        CommandError: none is named, or there is none.
        JournalError: it is no journal, or cannot be read.
    """
    if not journal:
        raise CommandError("no journal is named: give --journal runs.db, or set FSM_JOURNAL")
    if "://" not in journal and not Path(journal).is_file():
        beside = sorted(each.name for each in Path(journal).absolute().parent.glob("*.db"))
        near = f"; there is {', '.join(beside[:5])}" if beside else ""
        raise CommandError(f"there is no journal {journal}{near}. `fsm run TARGET --journal {journal}` makes one")
    store = open_journal(journal)
    try:
        yield at(store, journal)
    finally:
        close = getattr(store, "close", None)
        if close is not None:
            close()


def at(store: Store, journal: str) -> Opened:
    """A store that is open, with the name that it was opened by."""
    return Opened(store, name_of(journal), _options(journal))


def open_journal(journal: str) -> Store:
    """Open a journal, or make it."""
    from fsm.stores import open_store

    return open_store(journal)


def name_of(journal: str) -> str:
    """A journal as it may be shown: without the password of a URL."""
    if "://" not in journal:
        return journal
    parts = urlsplit(journal)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _options(journal: str) -> str:
    """` --journal runs.db`, as a command that is shown needs it; nothing where the environment says it."""
    import os

    if os.environ.get("FSM_JOURNAL") == journal:
        return ""
    return f" --journal {shlex.quote(name_of(journal))}"


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def found(journal: Opened, given: str) -> RunSummary:
    """The run of this id, or the only one whose id begins so.

    Raises:
        CommandError: there is none, or more than one; the message lists what is near.
    """
    try:
        return journal.store.summary(given)  # type: ignore[no-any-return]
    except RunError:
        pass
    starting = list(islice((run.run_id for run in journal.store.runs() if given and run.run_id.startswith(given)), 6))
    if len(starting) == 1:
        return journal.store.summary(starting[0])  # type: ignore[no-any-return]
    if starting:
        more = ", ..." if len(starting) > 5 else ""  # noqa: PLR2004 - as many as are listed
        raise CommandError(f"several runs begin with {given!r}: {_listed(starting[:5])}{more}. Give more of the id")
    ids = [run.run_id for run in islice(journal.store.runs(), 10_000)]
    near = difflib.get_close_matches(given, ids, 3)
    if near:
        raise CommandError(f"{journal.name} has no run {given!r}; did you mean {_listed(near)}?")
    lists = f"`fsm runs ls{journal.options}` lists what it has" if ids else "it has none at all"
    raise CommandError(f"{journal.name} has no run {given!r}: {lists}")


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(one_line(each, 64) for each in ids)


def standing(journal: Opened, run: RunSummary) -> str:
    """`running`, `parked`, `ended`, or `stopped`: not parked, and nobody drives it, for its process died."""
    if run.status == "running" and journal.is_driven(run.run_id) is False:
        return "stopped"
    return run.status


# ── which runs ──────────────────────────────────────────────────────────────────────────────────────────────────────

STATUSES = ("running", "stopped", "parked", "ended")
WAITS = ("person", "api", "wait")


@frozen
class Filter:
    """Which runs are meant; `standing` is that of `standing()`, which no store can look up."""

    query: Query
    standing: str | None = None


def filtered(
    *,
    state: str | None = None,
    status: str | None = None,
    waiting: str | None = None,
    workflow: str | None = None,
    tags: Sequence[str] | None = None,
    older: str | None = None,
    newer: str | None = None,
) -> Filter:
    """The filter that options name.

    Raises:
        CommandError: a word, a tag or a time that is none.
    """
    for option, word, known in (("--status", status, STATUSES), ("--waiting", waiting, WAITS)):
        if word is not None and word not in known:
            raise CommandError(f"{option} is one of {', '.join(known)}, not {word!r}")
    since, until = _age("--newer-than", newer), _age("--older-than", older)
    now = time.time()
    query = Query(
        state=state,
        status=cast("Any", "running" if status == "stopped" else status),
        waits_for=cast("Any", waiting),
        workflow=workflow,
        before=None if until is None else now - until,
        after=None if since is None else now - since,
        tags=pairs_of(tags or []),
    )
    return Filter(query, status if status in {"running", "stopped"} else None)


def _age(option: str, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        return seconds_of(given)
    except DeclarationError as error:
        raise CommandError(f"{option} takes a time such as 90s, 30m, 12h or 30d, not {given!r}") from error


def pairs_of(given: Sequence[str]) -> dict[str, str]:
    """Tags, from `KEY=VALUE`.

    Raises:
        CommandError: one has no key or no value.
    """
    pairs = {}
    for tag in given:
        key, equals, value = tag.partition("=")
        if not (key and equals):
            raise CommandError(f"--tag takes KEY=VALUE, not {tag!r}")
        pairs[key] = value
    return pairs


def selected(journal: Opened, wanted: Filter) -> Iterator[RunSummary]:
    """The runs that are meant, oldest first."""
    for run in journal.store.runs(wanted.query):
        if wanted.standing is None or standing(journal, run) == wanted.standing:
            yield run


def newest(runs: Iterator[RunSummary], count: int) -> tuple[list[RunSummary], int]:
    """The `count` runs that went on last (0: all), newest first, and how many there were; the rest is not kept."""
    total = 0

    def counted() -> Iterator[RunSummary]:
        nonlocal total
        for run in runs:
            total += 1
            yield run

    def by_time(run: RunSummary) -> float:
        return run.updated

    kept = heapq.nlargest(count, counted(), by_time) if count else sorted(counted(), key=by_time, reverse=True)
    return kept, total


# ── the workflow ────────────────────────────────────────────────────────────────────────────────────────────────────


def driver_of(run: RunSummary, target: str | None, verb: str) -> type[Workflow]:
    """The workflow that drives a run, as it was named.

    Raises:
        CommandError: none was named, or it is another run's.
    """
    name = one_line(run.workflow, 64)
    if target is None:
        raise CommandError(
            f"{verb} drives the run on, which needs its workflow: name {name} with --workflow file.py:Class or "
            "module:Class, or set FSM_WORKFLOW. A journal holds no code, and none is loaded by what it says"
        )
    workflow = load_workflow(target)
    if workflow.name != run.workflow:
        raise CommandError(
            f"run '{one_line(run.run_id, 64)}' is a run of {name}, and {target} is {workflow.name}: "
            f"name {name} with --workflow"
        )
    return workflow
