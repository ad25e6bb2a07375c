"""What every `fsm runs` command begins with: the journal, the run that is meant, the workflow that drives it.

A journal holds no code and names none that would be loaded: what drives a run is named on the command line.
"""

from __future__ import annotations

import difflib
import heapq
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import unquote

import typer
from attrs import frozen

from fsm._errors import DeclarationError, FsmError, RunError
from fsm._params import seconds_of
from fsm._summary import Query, RunSummary
from fsm._terminal import one_line
from fsm._workflow import Workflow
from fsm.cli._errors import CommandError
from fsm.cli._load import load_object, load_workflow
from fsm.journal import DamagedRuns

if TYPE_CHECKING:
    from fsm.journal import Store

OK, BAD, USAGE, PARKED, INTERRUPTED = 0, 1, 2, 3, 130

Journal = Annotated[
    str | None,
    typer.Option(
        "--journal",
        "-j",
        envvar="FSM_JOURNAL",
        metavar="WHERE",
        help="The journal: a file, postgresql://..., or NAME of a store or of a function that opens one (encrypt=, "
        "decrypt=, redact=): file.py:NAME or module:NAME.",
        show_default=False,
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, the whole of it.", show_default=False)]
Looked = Annotated[
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
    if "://" not in journal and not _is_named(journal):
        _refuse_missing(journal)
    with kept_open(journal) as store:
        yield at(store, journal)


def _refuse_missing(journal: str) -> None:
    path = Path(journal)
    folder = path.absolute().parent
    if path.is_dir():
        raise CommandError(f"{journal} is a folder: name the journal in it, such as {path / 'runs.db'}")
    if not folder.is_dir():
        raise CommandError(f"there is no journal {journal}, and no folder {folder}")
    if not path.is_file():
        beside = sorted(each.name for each in folder.glob("*.db"))
        near = f"; there is {', '.join(beside[:5])}" if beside else ""
        raise CommandError(f"there is no journal {journal}{near}. `fsm run TARGET --journal {journal}` makes one")
    log = Path(f"{path}-wal")
    if not path.stat().st_size and not (log.is_file() and log.stat().st_size):
        raise CommandError(f"{journal} is empty: no journal. `fsm run TARGET --journal {journal}` begins one in it")


def at(store: Store, journal: str) -> Opened:
    """A store that is open, with the name that it was opened by."""
    return Opened(store, name_of(journal), _options(journal))


@contextmanager
def kept_open(journal: str) -> Iterator[Store]:
    """Open a journal, or make it; what is opened here is closed.

    Raises:
        CommandError: what is named is no journal and opens none.
        JournalError: it is no journal, or cannot be read.
    """
    if _is_named(journal):
        found = load_object(journal, Workflow)
        if is_store(found):
            yield found
            return
        store = _opened_by(found, journal)
    else:
        from fsm.stores import open_store

        store = open_store(journal)
    try:
        yield store
    finally:
        close = getattr(store, "close", None)
        if close is not None:
            close()


def _is_named(journal: str) -> bool:
    """Whether it is `module:name` or `file.py:name`, and no file."""
    source, colon, name = journal.rpartition(":")
    is_source = source.endswith(".py") or (len(source) > 1 and all(part.isidentifier() for part in source.split(".")))
    return bool(colon) and name.isidentifier() and is_source and not Path(journal).exists()


def is_store(thing: Any) -> bool:
    """Whether this is a store, and not the class of one."""
    from fsm.journal import Store

    return isinstance(thing, Store) and not isinstance(thing, type)


def _opened_by(function: Any, journal: str) -> Store:
    made = None
    if callable(function):
        try:
            made = function()
        except FsmError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {one_line(error, 300)}"
            raise CommandError(f"--journal: {journal} failed with {what}") from error
    if not is_store(made):
        what = one_line(repr(function if made is None else made), 60)
        raise CommandError(f"{journal} is {what}: a journal is a Store, or a function without arguments that opens one")
    return cast("Store", made)


def name_of(journal: str) -> str:
    """A journal as it may be shown: a URL without its passwords, and with all else that finds the database."""
    scheme, is_url, rest = journal.partition("://")
    if not is_url:
        return journal
    parts = _URL.fullmatch(rest)
    if parts is None or not all(map(_HOST.fullmatch, parts["hosts"].split(","))):
        return f"{scheme}://..."  # it cannot be told what in it is the password
    user = "" if parts["user"] is None else f"{parts['user']}@"
    options = (parts["options"] or "").split("&")
    kept = [each for each in options if unquote(each.partition("=")[0]).lower() not in _SECRET]
    return f"{scheme}://{user}{parts['hosts']}{parts['path']}{'?' * any(kept)}{'&'.join(kept)}"


_SECRET = frozenset({"password", "sslpassword"})
# As PostgreSQL's own library takes it apart: what is before the first @ may hold any sign but a /.
_URL = re.compile(
    r"((?P<user>[^:@/]*)(:[^@/]*)?@)?(?P<hosts>[^@/?]*)(?P<path>(/[^@?]*)?)(\?(?P<options>.*))?", re.DOTALL
)
_HOST = re.compile(r"(\[[^]]*\]|[^][:]*)(:[0-9]*)?")


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
        starting = _starting(journal, given)
    if len(starting) == 1:
        return journal.store.summary(starting[0])  # type: ignore[no-any-return]
    if starting:
        more = ", ..." if len(starting) > 5 else ""  # noqa: PLR2004 - as many as are listed
        raise CommandError(f"several runs begin with {given!r}: {_listed(starting[:5])}{more}. Give more of the id")
    raise _unknown(journal, given)


def meant(journal: Opened, given: str, verb: str) -> RunSummary:
    """The run of exactly this id, for a command that changes it: no other run stands in for one that is gone.

    Raises:
        CommandError: there is none; the message has the line to type where another one's id begins so.
    """
    try:
        return journal.store.summary(given)  # type: ignore[no-any-return]
    except RunError:
        starting = _starting(journal, given)
    if not starting:
        raise _unknown(journal, given)
    missing = f"{journal.name} has no run {given!r}: {verb} takes the whole id"
    if len(starting) > 1:
        raise CommandError(f"{missing}. There is {_listed(starting[:5])}")
    line = f"fsm runs {verb} {shlex.quote(one_line(starting[0], 64))}{journal.options}"
    raise CommandError(f"{missing}, did you mean  {line} ?")


def _starting(journal: Opened, given: str) -> list[str]:
    """The first ids that begin so."""
    return list(islice((name for name in _names(journal) if given and name.startswith(given)), 6))


def _unknown(journal: Opened, given: str) -> CommandError:
    ids = list(islice(_names(journal), 10_000))
    near = difflib.get_close_matches(given, ids, 3)
    if near:
        return CommandError(f"{journal.name} has no run {given!r}; did you mean {_listed(near)}?")
    lists = f"`fsm runs ls{journal.options}` lists what it has" if ids else "it has none at all"
    return CommandError(f"{journal.name} has no run {given!r}: {lists}")


def _names(journal: Opened) -> Iterator[str]:
    damaged: dict[str, str] = {}
    yield from (run.run_id for run in readable(journal.store.runs(), damaged))
    yield from damaged


def readable(runs: Iterator[RunSummary], damaged: dict[str, str]) -> Iterator[RunSummary]:
    """The runs of a journal; what is wrong with those whose line is damaged goes into `damaged` at the end."""
    try:
        yield from runs
    except DamagedRuns as error:
        damaged.update(error.lines)


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(one_line(each, 64) for each in ids)


def standing(journal: Opened, run: RunSummary) -> str:
    """`running`, `parked`, `ended`, or `stopped`: not parked, and nobody drives it, for its process died."""
    if run.status == "running" and journal.is_driven(run.run_id) is False:
        return "stopped"
    return run.status


# ── which runs ──────────────────────────────────────────────────────────────────────────────────────────────────────

STATUSES = ("running", "stopped", "parked", "ended")
WAITS = ("person", "expired", "api", "interrupted", "wait")


@frozen
class Filter:
    """Which runs are meant; `standing` is that of `standing()`, which no store can look up, as some of `waiting`."""

    query: Query
    standing: str | None = None
    waiting: str | None = None


def is_expired(run: RunSummary) -> bool:
    """Whether a person is asked, and the time to answer is over."""
    return run.status != "ended" and run.waits_for == "person" and run.until is not None and run.until <= time.time()


def is_interrupted(run: RunSummary) -> bool:
    """Whether it stands still because somebody stopped its process, and not because it waits for anybody."""
    return run.status == "parked" and run.reason == "interrupted" and run.waits_for != "person"


_MORE = {
    "expired": ({"waits_for": "person"}, is_expired),
    "interrupted": ({"status": "parked"}, is_interrupted),
}  # what no store can look up: what it can, and what is looked at then


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
    near, _ = _MORE.get(waiting or "", ({"waits_for": waiting}, None))
    if status is not None and near.get("status") not in {None, status}:
        raise CommandError(f"what is {waiting} is {near['status']}: leave --status {status} out")
    query = Query(
        state=state,
        status=cast("Any", near.get("status") or ("running" if status == "stopped" else status)),
        waits_for=cast("Any", near.get("waits_for")),
        workflow=workflow,
        before=None if until is None else now - until,
        after=None if since is None else now - since,
        tags=pairs_of(tags or []),
    )
    return Filter(query, status if status in {"running", "stopped"} else None, waiting)


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
    _, is_so = _MORE.get(wanted.waiting or "", ({}, lambda run: True))  # noqa: ARG005 - every one is called alike
    for run in journal.store.runs(wanted.query):
        if is_so(run) and (wanted.standing is None or standing(journal, run) == wanted.standing):
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
