"""`fsm runs fork` and `compare`: the same conversation, gone on with in another way, and the two side by side."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._errors import RunError, UsageError
from fsm._terminal import one_line
from fsm.cli._deps import deps_of
from fsm.cli._errors import CommandError
from fsm.cli._load import load_workflow
from fsm.cli._part import dollars
from fsm.cli._pictures import format_of, write_file
from fsm.cli._show import DIM, GOOD, HEAD, WARN, Screen

from ._look import go_on, shown_id
from ._open import (
    BAD,
    OK,
    AsJson,
    Deps,
    Drives,
    Journal,
    Opened,
    Run,
    driver_of,
    found,
    meant,
    opened,
    pairs_of,
    standing,
)

if TYPE_CHECKING:
    from fsm._compare import Comparison


def fork(
    run: Run,
    journal: Journal = None,
    *,
    workflow: Drives = None,
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="SEQ", help="The number of the first record that is not copied, as `show --records` says."
        ),
    ] = None,
    move: Annotated[
        int | None, typer.Option("--move", metavar="N", help="Instead: the last move that is copied, as `show` counts.")
    ] = None,
    say: Annotated[
        str | None,
        typer.Option(
            "--say",
            metavar="TEXT",
            help="Said there in place of the words that no copied request has sent: the input, a prompt, an answer.",
        ),
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Tags of the new run; default: the same.")
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", metavar="NAME", help="Names the new run.")] = None,
    deps: Deps = None,
) -> int:
    """Begin a new run with a copy of another one's records; the other one stays as it is.

    Go on with the new run by `fsm runs answer` or `resume`: with another answer, with --say another prompt, or with
    another workflow or version. It is not driven here. The copy is cut back to where a run may stand. Exits with 0.
    """
    from fsm._fork import fork as fork_run

    if (at is None) == (move is None):
        raise CommandError("say where: --at SEQ (a record) or --move N (a move), one of the two")
    with opened(journal) as place:
        summary = meant(place, run, "fork")
        # Another workflow may go on with a copy: whether it can, the library says.
        target = driver_of(summary, None, "fork") if workflow is None else load_workflow(workflow)
        with _as_options():
            made = fork_run(
                target,
                summary.run_id,
                at=at if at is not None else _after(place, summary.run_id, move or 0),
                journal=place.store,
                new_id=new_id,
                say=say,
                tags=pairs_of(tags) if tags else None,
                deps=deps_of(target, deps)[0] if deps is not None else None,
            )
        now = place.store.summary(made)
        screen = Screen()
        screen.line(
            ("✓ ", GOOD),
            (shown_id(made), HEAD),
            (f" begins with {now.records:,} records, in ", DIM),
            now.state,
            indent=2,
        )
        go_on(screen, place, now, standing(place, now), workflow)
        return OK


_OPTIONS = (
    (r"\bnew_id\b=?", "--id"),
    (r"\b(at|say)=", r"--\1"),
    (r"give resume\(\) the answer", "leave --say out, and answer the fork with `fsm runs answer`"),
    (r"\brun\(\)", "`fsm run`"),
)


@contextmanager
def _as_options() -> Iterator[None]:
    """What the library says of its arguments, with the names that they have here."""
    try:
        yield
    except (RunError, UsageError) as error:
        words = str(error)
        for argument, option in _OPTIONS:
            words = re.sub(argument, option, words)
        raise CommandError(words) from error


def _after(place: Opened, run_id: str, number: int) -> int:
    """The record behind a move, and behind what is asked or said on entering the state that it leads to."""
    count = 0
    for record in place.store.read(run_id):
        if count == number and number and record.kind not in {"asked", "say"}:
            return int(record.seq)
        count += record.kind == "move"
    if count == number and number:
        return int(place.store.summary(run_id).records)
    raise CommandError(f"run '{shown_id(run_id)}' has {count} moves: --move is 1 to {count}")


_BEFORE, _AFTER = 3, 30  # moves that are shown before and behind where the runs part


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The other one's.", show_default=False)],
    journal: Journal = None,
    *,
    full: Annotated[bool, typer.Option("--full", help="All moves.")] = False,
    diagram: Annotated[
        Path | None,
        typer.Option(
            "--diagram", metavar="FILE", help="Draw both in one picture; needs --workflow.", show_default=False
        ),
    ] = None,
    workflow: Drives = None,
    json_: AsJson = False,
) -> int:
    """Show two runs side by side: where they part, their moves, what each used.

    What a clock, a request id or a restart makes differ is no difference. Exits with 0 when they do not differ, 1 when
    they do.
    """
    from fsm._compare import compare as compare_runs

    with opened(journal) as place:
        ids = [found(place, each).run_id for each in (first, second)]
        between = compare_runs(*(place.store.read(each) for each in ids))
        if diagram is not None:
            _draw(place, ids, workflow, diagram)
    if json_:
        sys.stdout.write(json.dumps(_as_json(between), indent=2) + "\n")
    else:
        _show(Screen(), between, full=full)
    return BAD if between else OK


def _draw(place: Opened, ids: list[str], target: str | None, path: Path) -> None:
    """The second run, and what the first one did otherwise."""
    from fsm.diagram import Overlay, render

    if target is None:
        raise CommandError("--diagram draws the workflow: name it with --workflow file.py:Class, or set FSM_WORKFLOW")
    made = load_workflow(target)
    first, second = (Overlay.of(place.store.read(each), renamed=made.renamed) for each in ids)
    write_file(path, render(made.graph, format_of(path), overlay=second.against(first)))


def _as_json(between: Comparison) -> dict[str, Any]:
    return {
        "runs": list(between.run_ids),
        "same": not between,
        "part_at_record": None if between.record is None else list(between.record),
        "differs": [list(each) for each in between.differs],
        "part_at_move": None if between.move is None else between.move + 1,
        "moves": [[None if move is None else str(move) for move in pair] for pair in between.moves],
        **{name: list(getattr(between, name)) for name in ("state", "turns", "tokens", "price", "duration")},
    }


def _show(screen: Screen, between: Comparison, *, full: bool) -> None:
    count = len(between.moves)
    part = count if between.move is None else between.move
    begin, end = (0, count) if full else (max(0, part - _BEFORE), min(count, part + _AFTER))
    head = ["", *(shown_id(each) for each in between.run_ids)]
    rows: list[list[Any]] = []
    if begin:
        rows.append(["", screen.text((f"… {begin} alike", DIM)), ""])
    for number in range(begin, end):
        style = WARN if number >= part else ""
        moves = [screen.text(("" if move is None else one_line(move, 300), style)) for move in between.moves[number]]
        rows.append([screen.text((f"{number + 1}", DIM)), *moves])
    if end < count:
        rows.append(["", screen.text((f"… {count - end} more; --full shows all", DIM)), ""])
    rows += [[screen.text((name, DIM)), *values] for name, values in _sums(between)]
    screen.table(head, rows)
    screen.line()
    if not between:
        screen.line(("✓ ", GOOD), "they do not differ", indent=2)
        return
    places = ["the end" if seq is None else f"record {seq}" for seq in between.record or ()]
    alike = " (their moves are the same)" if between.move is None else ""
    screen.line(("≠ ", WARN), f"they part at {' and '.join(dict.fromkeys(places))}{alike}", indent=2, hang=4)
    for name, left, right in between.differs:
        screen.line(
            (f"{one_line(name, 200)}: ", DIM), f"{one_line(left, 200)} ≠ {one_line(right, 200)}", indent=4, hang=6
        )


def _sums(between: Comparison) -> list[tuple[str, list[str]]]:
    return [
        ("state", [one_line(each, 64) for each in between.state]),
        ("turns", [str(each) for each in between.turns]),
        ("tokens", [f"{each:,}" for each in between.tokens]),
        ("price", [dollars(each) for each in between.price]),
        ("work", [f"{each:.1f} s" for each in between.duration]),
    ]
