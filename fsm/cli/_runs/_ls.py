"""`fsm runs ls` and `show`: what a journal holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Annotated, Any

import typer

from fsm._errors import JournalError
from fsm._facts import SUCCESS
from fsm._records import Record, moment
from fsm._summary import RunSummary
from fsm._terminal import one_line
from fsm.cli._show import DIM, STYLES, WARN, Screen
from fsm.cli._telling import Narrator, Teller

from . import _story as _runs_story
from ._look import as_json, facts, go_on, list_runs, show_damaged, show_question
from ._open import (
    BAD,
    OK,
    AsJson,
    Journal,
    Looked,
    Opened,
    filtered,
    found,
    newest,
    opened,
    readable,
    selected,
    standing,
)
from ._story import Story, in_short

_MOVES, _TEXTS, _CLIP = 20, 3, 600

State = Annotated[str | None, typer.Option("--state", metavar="NAME", help="Only those in this state.")]
Status = Annotated[
    str | None, typer.Option("--status", metavar="WORD", help="Only those running, stopped, parked or ended.")
]
Waiting = Annotated[
    str | None,
    typer.Option(
        "--waiting",
        metavar="WORD",
        help="Only those that wait for: person; expired (a person, whose time is over); api (it stayed away); "
        "interrupted (stopped, drained: for somebody to resume them); wait (running, before a retry).",
    ),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Only those with this tag; may be repeated.")
]
Older = Annotated[
    str | None, typer.Option("--older-than", metavar="TIME", help="Only those that last went on before: 12h, 30d.")
]
Newer = Annotated[
    str | None, typer.Option("--newer-than", metavar="TIME", help="Only those that went on since: 90s, 30m.")
]
OfWorkflow = Annotated[str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.")]


def ls(
    journal: Journal = None,
    *,
    state: State = None,
    status: Status = None,
    waiting: Waiting = None,
    workflow: OfWorkflow = None,
    tags: Tags = None,
    older: Older = None,
    newer: Newer = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, metavar="N", help="So many, 0 for all. Default: 100, with --json all."),
    ] = None,
    json_: AsJson = False,
) -> int:
    """List the runs of a journal, those that went on last first.

    A run is `running` while somebody drives it, `stopped` when its process died, `parked` when it waits for a
    person or the API, `ended` when it is over. Exits with 0, also when there is none, with 1 where one is damaged.
    """
    wanted = filtered(
        state=state, status=status, waiting=waiting, workflow=workflow, tags=tags, older=older, newer=newer
    )
    with opened(journal) as place:
        count = limit if limit is not None else 0 if json_ else 100
        damaged: dict[str, str] = {}
        runs, total = newest(readable(selected(place, wanted), damaged), count)
        code = BAD if damaged else OK
        if json_:
            _print_json(place, runs, damaged)
            return code
        screen = Screen()
        if not runs:
            any_run = next(readable(place.store.runs(), damaged), None) is not None or damaged
            screen.line(f"{one_line(place.name, 200)} has no run{' that fits' if any_run else ''}")
        else:
            list_runs(screen, place, runs)
        if len(runs) < total:
            screen.line()
            screen.line((f"{len(runs)} of {total:,}; --limit 0 lists all", DIM), indent=2)
        show_damaged(screen, damaged)
        return code


def _print_json(place: Opened, runs: list[Any], damaged: Mapping[str, str]) -> None:
    whole = (as_json(run, standing(place, run)) for run in runs)
    rest = ({"run_id": run_id, "status": "damaged", "problem": why} for run_id, why in damaged.items())
    sys.stdout.write("[")
    for number, run in enumerate(chain(whole, rest)):
        sys.stdout.write(f"{',' if number else ''}\n{json.dumps(run)}")
    sys.stdout.write("\n]\n")


def show(
    run: Looked,
    journal: Journal = None,
    *,
    messages: Annotated[
        bool, typer.Option("--messages", help="Tell all that was said and done, move by move.")
    ] = False,
    records: Annotated[
        bool, typer.Option("--records", help="List the records by number: `fork --at` takes one.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All moves, and texts in full length.")] = False,
    json_: AsJson = False,
) -> int:
    """Show a run: where it stands, its moves, what a person is asked, what was said last.

    No workflow is needed and none is loaded. Exits with 0.
    """
    with opened(journal) as place:
        summary = found(place, run)
        status = standing(place, summary)
        if json_:
            return _show_json(place, summary.run_id, messages=messages, records=records)
        screen = Screen()
        story, lost = _read(place, summary.run_id, None if full else _MOVES)
        facts(screen, place, summary, status, story)
        _because(screen, summary, story)
        if records:
            _records(screen, _recorded(place, summary.run_id, lost))
        elif messages and not lost:
            screen.title("what happened")
            narrator = Narrator(screen, kinds=story.kinds, timed=True)
            teller = Teller(narrator, limit=None if full else _CLIP)
            for record in place.store.read(summary.run_id):
                teller.tell(record)
        else:
            _moves(screen, story)
            _texts(screen, story, is_asked=story.question() is not None, full=full)
        question = story.question()
        if question is not None and status != "ended" and (question.calls or question.prompt or not lost):
            screen.title("what a person is asked")
            show_question(screen, question, story)
        screen.line()
        if lost and status == "ended":
            screen.line((one_line(lost, 1000), WARN), indent=2)
        else:
            go_on(screen, place, summary, status)
        return OK


def _recorded(journal: Opened, run_id: str, lost: str) -> Iterator[Record]:
    """The records of a run, without what was said where that cannot be read."""
    found: Iterator[Record] = (getattr(journal.store, "outline", journal.store.read) if lost else journal.store.read)(
        run_id
    )
    return found


def _records(screen: Screen, found: Iterator[Record]) -> None:
    """One line a record: its number, when it was written, what it is."""
    screen.title("records")
    rows = [
        (screen.text((f"{r.seq}", DIM)), screen.text((moment(r.at), DIM)), r.kind, one_line(in_short(r), 200))
        for r in found
    ]
    screen.table(("", "written", "kind", ""), rows, whole=(0, 1, 2))


def _read(journal: Opened, run_id: str, keep: int | None) -> tuple[Story, str]:
    """A run, and why what was said in it cannot be read, or nothing: then only what happened is known."""
    story = Story(keep)
    try:
        for record in journal.store.read(run_id):
            story.take(record)
    except JournalError as error:  # a body was erased, is encrypted or damaged
        outline = getattr(journal.store, "outline", None)
        if outline is None:
            return story, str(error)
        story = Story(keep)
        for record in outline(run_id):
            story.take(record)
        return story, str(error)
    return story, ""


def _because(screen: Screen, run: RunSummary, story: Story) -> None:
    """What is behind an end or a stand-still that is no success, and what to do about it."""
    if run.status == "running" or run.waits_for == "person" or run.reason in SUCCESS:
        return
    evidence = story.evidence
    cause = evidence.get("message") or evidence.get("detail") or evidence.get("explanation") or evidence.get("why")
    for key, words in (("because", cause), ("do", evidence.get("todo"))):
        if words:
            screen.entry(screen.text("  ", (key, DIM)), one_line(words, 1000), column=12)


def _moves(screen: Screen, story: Story) -> None:
    if not story.moves:
        return
    screen.title("moves")
    narrator = Narrator(screen, kinds=story.kinds, timed=True)
    if story.count > len(story.moves):
        screen.line((f"… {story.count - len(story.moves):,} before; --full shows all", DIM), indent=5)
    for move in story.moves:
        narrator.move(move)


def _texts(screen: Screen, story: Story, *, is_asked: bool, full: bool) -> None:
    texts = list(story.texts)[-_TEXTS:]
    if is_asked and texts and texts[-1] == ("Claude", story.prompt):
        texts.pop()  # it stands whole beside the question
    if not texts:
        return
    screen.title("said last")
    for who, words in texts:
        clipped = words if full or len(words) <= _CLIP else f"{words[:_CLIP].rstrip()} … (--full shows all)"
        style = STYLES["Claude"] if who == "Claude" else STYLES["Human"]
        screen.entry(screen.text("  ", (who, style)), clipped, column=12)


def _show_json(journal: Opened, run_id: str, *, messages: bool, records: bool) -> int:
    summary = journal.store.summary(run_id)
    story, lost = _read(journal, run_id, None)
    shown: dict[str, Any] = {
        **as_json(summary, standing(journal, summary)),
        "path": [
            {
                "seq": move.seq,
                "record": place,
                "at": move.at,
                "source": move.source,
                "event": move.event,
                "dest": move.dest,
                "guard": move.guard,
                "effects": list(move.effects),
            }
            for move, place in zip(story.moves, story.places, strict=True)
        ],
        "question": _runs_story.as_json(story),
        "texts": [{"who": who, "text": words} for who, words in list(story.texts)[0 if messages else -_TEXTS :]],
    }
    if story.forked is not None:
        shown["forked"] = {**story.forked, "began": story.forked_at}
    if lost:
        shown["problem"] = lost
    if records:
        found = _recorded(journal, run_id, lost)
        shown["records"] = [{"seq": r.seq, "kind": r.kind, "at": r.at, "what": in_short(r)} for r in found]
    if messages and not lost:
        shown["records"] = [
            {"seq": r.seq, "kind": r.kind, "at": r.at, "data": _runs_story.plain(dict(r.data))}
            for r in journal.store.read(run_id)
        ]
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    return OK
