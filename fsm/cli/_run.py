"""`fsm run`: a workflow on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._terminal import clean, one_line

from ._client import live_client, stops_at_a_step
from ._errors import CommandError
from ._load import load_object, load_workflow
from ._pictures import format_of, write_file
from ._runs._open import Opened, at, kept_open, pairs_of
from ._show import DIM, HEAD, Screen

if TYPE_CHECKING:
    from fsm import OpenCall, Question, Result, Store, Workflow

    from ._telling import Narrator

OK, ENDED, PARKED, INTERRUPTED = 0, 1, 3, 130


def run(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="file.py:Class or module:Class", show_default=False)],
    given: Annotated[
        str | None,
        typer.Argument(metavar="INPUT", help="What you say first; asked for, or read from a pipe.", show_default=False),
    ] = None,
    *,
    chat: Annotated[
        bool, typer.Option("--chat", help="Talk with a workflow that has a Human state; replies are streamed.")
    ] = False,
    emulate: Annotated[
        bool,
        typer.Option("--emulate", help="No key: play a generated path; replies, tools and people are stood in for."),
    ] = False,
    deps: Annotated[
        str | None,
        typer.Option(
            "--deps",
            metavar="NAME",
            help="A value, or a function without arguments that makes it: NAME beside the workflow, or file.py:NAME. "
            "Default: T() where the tools take Context[T].",
        ),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", help="For tools, records and log lines; may be repeated."),
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(
            "--journal",
            "-j",
            metavar="WHERE",
            help="Record it there: a file, postgresql://..., or file.py:NAME of a store or of a function that opens "
            "one; `fsm runs` goes on with it. Default: in memory.",
        ),
    ] = None,
    draw: Annotated[Path | None, typer.Option("--draw", metavar="FILE", help="Draw the path that it took.")] = None,
) -> int:
    """Run a workflow; every move is printed as it happens, approvals are asked for on the terminal.

    Exits with 0 when it ended well, 1 when it ended otherwise, 3 when it is parked: a person or the API did
    not answer. With --journal a parked run is gone on with by `fsm runs answer` and `fsm runs resume`.
    """
    workflow = load_workflow(target)
    _refuse_broken(workflow)
    if draw is not None:
        format_of(draw)
    if chat and emulate:
        raise CommandError("--emulate plays a path by itself, nobody can chat with it: give one of the two")
    if chat and not any(node.kind == "Human" for node in workflow.graph.nodes):
        raise CommandError(
            f"{workflow.name} has no Human state, so there is nobody to chat with: run it without --chat"
        )
    if journal is not None and emulate:
        raise CommandError("--emulate plays a path, which is no run to keep: leave --journal out")
    pairs = pairs_of(tags or [])
    screen = Screen()
    if emulate:
        if deps is not None:
            load_object(deps, workflow)  # nothing takes it here; a wrong name is wrong all the same
        result = _emulated(screen, workflow, given)
    else:
        with _kept(journal) as store:
            result = _driven(screen, workflow, given, target=target, chat=chat, deps=deps, tags=pairs, store=store)
            place = None if store is None or journal is None else at(store, journal)
            return _end(screen, result, target=target, place=place, chat=chat, draw=draw)
    return _end(screen, result, target=target, place=None, chat=chat, draw=draw)


@contextmanager
def _kept(journal: str | None) -> Iterator[Store | None]:
    """The journal that was named, made where it is missing; None for memory."""
    if journal is None:
        yield None
        return
    with kept_open(journal) as store:
        yield store


def _refuse_broken(workflow: type[Workflow]) -> None:
    from fsm import WorkflowError

    errors = [finding for finding in workflow.check() if finding.is_error]
    if errors:
        raise WorkflowError(workflow.name, errors)


# ── played ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _emulated(screen: Screen, workflow: type[Workflow], given: str | None) -> Result:
    from fsm.testing.paths import INPUT, happy_path

    from ._live import LiveJournal
    from ._telling import Narrator

    screen.busy("looking for a path …")
    path = happy_path(workflow, input=given or INPUT)
    try:
        result = path.run(workflow)
    except AssertionError as error:
        raise CommandError(f"the emulated run left its path: {error}") from error
    screen.stop()
    screen.line((workflow.name, HEAD), (" · emulated: replies, tools and people are stood in for", DIM), indent=2)
    screen.line()
    LiveJournal(Narrator(screen, workflow.graph)).append(result.run_id, result.records)
    return result


# ── driven ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _driven(
    screen: Screen,
    workflow: type[Workflow],
    given: str | None,
    *,
    target: str,
    chat: bool,
    deps: str | None,
    tags: Mapping[str, str],
    store: Store | None,
) -> Result:
    from fsm import run as run_workflow

    from ._deps import deps_of
    from ._live import LiveJournal
    from ._telling import Narrator

    value, shown = deps_of(workflow, deps)
    screen.busy("loading the SDK …")
    client = live_client(f"play it without one:  fsm run {target} --emulate")
    screen.stop()
    screen.line((workflow.name, HEAD), (f" · deps: {shown}" if shown else "", DIM), indent=2)
    screen.line()
    narrator = Narrator(screen, workflow.graph)
    typed = sys.stdin.isatty() and screen.is_terminal
    said = given if given is not None else _first_words(narrator, chat=chat)
    journal = LiveJournal(narrator, store=store, quiet_input=typed and given is None)
    with client, stops_at_a_step():
        return run_workflow(
            workflow,
            said,
            deps=value,
            client=client,
            tags=tags,
            journal=journal,
            ask=asker(narrator, workflow),
            stream=chat,
            on_delta=journal.delta if chat else None,
        )


def _first_words(narrator: Narrator, *, chat: bool) -> str:
    """What is said first: a line from the terminal, or all of a pipe (with --chat, its first line)."""
    is_pipe = not sys.stdin.isatty()
    words = sys.stdin.read().strip() if is_pipe and not chat else _line(narrator)
    if not words:
        raise CommandError("nothing was said: give INPUT as an argument, or pipe it in")
    return words


def _line(narrator: Narrator) -> str | None:
    """The next line that a person types; empty ones are passed over. None at the end of input."""
    typed = sys.stdin.isatty()
    prompt = " " * 5 + f"{'you':{narrator.column - 5}}" if typed else ""
    try:
        while True:
            if line := input(prompt).strip():
                return line
    except EOFError:
        if typed:
            narrator.screen.line()
        return None


def asker(narrator: Narrator, workflow: type[Workflow]) -> Callable[[Question], Any]:
    from fsm._terminal import ask

    def check(call: OpenCall, new_input: Mapping[str, Any]) -> str | None:
        return None if call.spec is None else workflow.toolbox.of(call.spec).problem(dict(new_input))

    def asked(question: Question) -> Any:
        narrator.screen.stop()
        narrator.screen.console.file.flush()
        if question.kind == "words":
            line = _line(narrator)
            if line is not None and not (sys.stdin.isatty() and narrator.screen.is_terminal):
                narrator.fact("you", "Human", line)
            return line
        return ask(question, check=check)

    return asked


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _end(screen: Screen, result: Result, *, target: str, place: Opened | None, chat: bool, draw: Path | None) -> int:
    from ._live import show_result

    show_result(screen, result)
    if place is not None:
        _kept_there(screen, result, target, place)
    elif result.parked:
        words = "It was kept in memory only. With --journal runs.db it is kept, and `fsm runs resume` goes on with it."
        screen.line((words, DIM), indent=4)
    if draw is not None:
        text = result.diagram(format_of(draw))
        screen.line(("drawn: ", DIM), one_line(clean(write_file(draw, text))), indent=4)
    if result.ok:
        return OK
    if result.verdict.reason == "interrupted":
        return INTERRUPTED
    if result.parked:
        # Leaving a chat by Ctrl-D is how it ends.
        return OK if chat and result.verdict.reason == "waiting_person" else PARKED
    return ENDED


def _kept_there(screen: Screen, result: Result, target: str, place: Opened) -> None:
    """Which run it is, and how to go on with it."""
    from ._runs._look import command, go_on

    run = place.store.summary(result.run_id)
    screen.line((f"kept in {one_line(place.name, 300)} as ", DIM), (one_line(result.run_id, 64), HEAD), indent=4)
    if result.parked:
        go_on(screen, place, run, "parked", target, indent=4)
    else:
        screen.line(("look at it:  ", DIM), command("show", run, place), indent=4)
