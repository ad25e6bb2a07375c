"""How runs look: the list of them, the facts of one, the question that it waits with."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from attrs import asdict

from fsm._actions import OpenCall, Question
from fsm._records import is_over, moment
from fsm._spoken import TextsGone
from fsm._summary import RunSummary
from fsm._terminal import clean, one_line, shown_input
from fsm._versions import why_lost
from fsm.cli._part import dollars
from fsm.cli._show import BAD, DIM, GOOD, HEAD, STYLES, WARN, Screen

from ._open import Opened, is_expired, standing
from ._story import Decided, Story

if TYPE_CHECKING:
    from rich.text import Text

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_ID = 64  # characters of a run's id that are shown: as many as a name may have (X4)
_CELL = 60  # characters of a cell, at most


def age(seconds: float) -> str:
    """A time span in its largest unit: `12 s`, `3 min`, `5 h`, `40 d`."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def shown_id(run_id: str) -> str:
    """The id of a run as one word."""
    return one_line(run_id, _ID)


def command(verb: str, run: RunSummary, journal: Opened, more: str = "") -> str:
    """A command as one would type it for this run."""
    return f"fsm runs {verb} {shlex.quote(shown_id(run.run_id))}{more}{journal.options}"


def status_words(run: RunSummary, status: str, now: float) -> tuple[str, str]:
    """Where a run stands in a word or two, and the style."""
    if status == "ended":
        return ("ended", STYLES["Final"]) if run.ok else ("ended, not ok", STYLES["Failed"])
    if status == "stopped":
        return "stopped", WARN
    if run.waits_for == "person":
        return ("expired", WARN) if is_expired(run) else ("asks person", STYLES["Approval"])
    if status == "parked":
        return ("API away", WARN) if run.waits_for == "api" else (one_line(run.reason, 20).replace("_", " "), WARN)
    if run.waits_for == "wait" and run.until is not None and run.until > now:
        return f"waits {age(run.until - now)}", DIM
    return "running", STYLES["Claude"]


def as_json(run: RunSummary, status: str) -> dict[str, Any]:
    """A run for machines; `status` says `stopped` where its process died."""
    return {**asdict(run), "tags": dict(run.tags), "status": status}


# ── many ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_HEAD = ("run", "workflow", "state", "status", "age", "turns", "tokens", "price", "tags")
_RIGHT = frozenset({"age", "turns", "tokens", "price"})
_GOES = ("turns", "tokens", "tags")  # what is left out where the terminal is too narrow for it, in this order
_TAGS = 12  # columns that tags need at least
_SHRINKS = {"tags": _TAGS, "workflow": 8, "state": 8, "run": 12}  # what is cut where that is not enough, to how much


def list_runs(screen: Screen, journal: Opened, runs: Sequence[RunSummary]) -> None:
    """One line for each run; on a terminal they fit it."""
    now = time.time()
    rows = [_row(screen, run, standing(journal, run), now) for run in runs]
    shown = [name for name in _HEAD if name != "tags" or any(run.tags for run in runs)]
    cells = {name: [row[name] for row in rows] for name in shown}
    wide = {name: max(len(name), *(cell.cell_len for cell in cells[name])) for name in shown}
    room = screen.width - 2
    for name in _GOES:
        if name in shown and _needed({**wide, "tags": min(wide.get("tags", 0), _TAGS)}, shown) > room:
            shown.remove(name)
    for name, least in _SHRINKS.items():
        if name in shown and (over := _needed(wide, shown) - room) > 0:
            wide[name] = max(min(least, wide[name]), wide[name] - over)
    screen.line(*_columns(screen, [screen.text((name, DIM)) for name in shown], shown, wide), indent=2)
    for row in rows:
        screen.line(*_columns(screen, [row[name] for name in shown], shown, wide), indent=2)


def _needed(wide: Mapping[str, int], shown: Sequence[str]) -> int:
    return sum(wide[name] for name in shown) + 2 * (len(shown) - 1)


def _columns(screen: Screen, cells: Sequence[Text], shown: Sequence[str], wide: dict[str, int]) -> list[Text]:
    parts: list[Text] = []
    for name, cell in zip(shown, cells, strict=True):
        fitted = cell.copy()
        fitted.truncate(wide[name], overflow="ellipsis" if screen.is_terminal else "fold")
        gap = wide[name] - fitted.cell_len
        if name in _RIGHT:
            fitted.pad_left(gap)
        elif name != shown[-1]:
            fitted.pad_right(gap)
        parts += [screen.text("  "), fitted] if parts else [fitted]
    return parts


def _row(screen: Screen, run: RunSummary, status: str, now: float) -> dict[str, Text]:
    cells = {
        "run": (shown_id(run.run_id), HEAD),
        "workflow": (one_line(run.workflow, _CELL), ""),
        "state": (one_line(run.state, _CELL), ""),
        "status": status_words(run, status, now),
        "age": (age(now - run.updated), DIM),
        "turns": (str(run.turns), ""),
        "tokens": (f"{run.tokens:,}", ""),
        "price": (dollars(run.price), ""),
        "tags": (tags_of(run, 200), DIM),
    }
    return {name: screen.text(cell) for name, cell in cells.items()}


def show_damaged(screen: Screen, damaged: Mapping[str, str]) -> None:
    """The runs whose line cannot be read, and why."""
    for why in damaged.values():
        screen.line(("✗ ", BAD), one_line(why, 600), indent=2)


def tags_of(run: RunSummary, limit: int) -> str:
    """The tags of a run on one line."""
    return one_line(" ".join(f"{key}={value}" for key, value in run.tags.items()), limit)


# ── one ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def waits_for(run: RunSummary, status: str, now: float) -> str:
    """What a run waits for, in a sentence; empty where it waits for nothing."""
    until = "" if run.until is None else f" until {moment(run.until)}"
    left = "" if run.until is None else f" (in {age(run.until - now)})" if run.until > now else " (over)"
    if status == "stopped":
        return "for somebody to go on with it: nobody drives it, its process has ended"
    if run.waits_for == "person":
        return f"for a person{until}{left}"
    if run.waits_for == "api":
        return f"for the API, which stayed away longer than the retries{until and f'; best after {until[7:]}'}"
    if run.waits_for == "wait":
        return f"before it sends the same bytes again{until}{left}"
    return "for somebody to go on with it" if status == "parked" else ""


def facts(screen: Screen, journal: Opened, run: RunSummary, status: str, story: Story) -> None:
    """The head of what is shown of one run."""
    now, forked = time.time(), story.forked
    began = run.started if forked is None or story.forked_at is None else story.forked_at
    words, style = status_words(run, status, now)
    screen.line(
        (shown_id(run.run_id), HEAD), (f" · {one_line(run.workflow, 64)} · ", DIM), (words, style), indent=2, hang=4
    )
    screen.line()
    used = f"{run.turns} turn{'s' * (run.turns != 1)}, {run.moves} move{'s' * (run.moves != 1)}"
    rows = {
        "state": one_line(run.state, 64),
        "why": one_line(run.reason, 80) if status == "ended" else "",
        "waits": waits_for(run, status, now),
        "fork": "" if forked is None else f"of {shown_id(str(forked['run_id']))}, at record {forked['at']}",
        "began": f"{moment(began)}, {age(now - began)} ago",
        "went on": f"{moment(run.updated)}, {age(now - run.updated)} ago",
        "used": f"{used} · {run.tokens:,} tokens · {_price(run)}",
        "tags": tags_of(run, 2000),
        "journal": f"{one_line(journal.name, 300)}, {run.records:,} records",
    }
    for key, value in rows.items():
        if value:
            screen.entry(screen.text("  ", (key, DIM)), value, column=12)


def _price(run: RunSummary) -> str:
    return "price unknown" if run.price is None else dollars(run.price)


def show_question(screen: Screen, question: Question, story: Story) -> None:
    """What a person is asked, complete: each call with all of its input, why it asks, what Claude said before.

    Params: `story` of the run knows the numbers by which an answer names the calls, and what was decided already.
    """
    if question.prompt:
        screen.entry(screen.text("  ", ("Claude", STYLES["Claude"])), clean(question.prompt), column=12)
        screen.line()
    calls: list[tuple[int, OpenCall | Decided]] = [(story.numbers[call.id], call) for call in question.calls]
    calls += [(each.number, each) for each in story.decisions()]
    for number, call in sorted(calls, key=itemgetter(0)):
        made = (_DONE[call.decision], GOOD) if isinstance(call, Decided) else ("", "")
        why = f": {one_line(call.reason, 2000)}" if isinstance(call, Decided) and call.reason else ""
        screen.entry(
            screen.text(f"  {number}  "),
            (one_line(call.name, 100_000), HEAD),
            (f"  {one_line(call.id, 200)}", DIM),
            ("  " * bool(made[0]) + made[0], made[1]),
            why,
            column=5,
            hang=2,
        )
        if isinstance(call, Decided) and call.decision != "edit":
            continue
        for row in shown_input(call.input):
            screen.entry(screen.text(" " * 7), row, column=7, hang=2)
        if not call.input:
            screen.line(("(no input)", DIM), indent=7)
    if question.why and question.why != "needs_approval":
        screen.line((f"why: {one_line(question.why, 2000)}", WARN), indent=2)
    elif question.calls:
        screen.line(("why: the tool needs approval", DIM), indent=2)
    if question.expires_at is not None:
        screen.line((f"an answer counts until {moment(question.expires_at)}", DIM), indent=2)


_DONE = {"approve": "approved", "edit": "changed and approved", "deny": "denied"}


def next_verb(run: RunSummary, status: str) -> str:
    """The command that goes on with a run; empty where it goes on by itself, or has ended."""
    if run.waits_for == "person" and not is_over(run.until, time.time()):
        return "answer"
    return "resume" if status in {"parked", "stopped"} else ""


def go_on(
    screen: Screen, journal: Opened, run: RunSummary, status: str, target: str | None = None, *, indent: int = 2
) -> None:
    """How to go on with a run that has not ended, or why nobody can, and what can still be done with it."""
    if run.status != "ended" and (why := why_lost(journal.store, run.run_id)):
        screen.line((one_line(why, 1000), WARN), indent=indent)
        if not isinstance(why, TextsGone):
            return  # with its key, or restored from a backup, it goes on
        end = command("cancel", run, journal, _driven_by(run, target))
        screen.line(("end it:  ", DIM), end, indent=indent, hang=indent + 4)
        screen.line(("delete it:  ", DIM), command("rm", run, journal), indent=indent, hang=indent + 4)
        return
    line = next_command(journal, run, status, target)
    if not line:
        return
    words = "answer it:  " if next_verb(run, status) == "answer" else "go on:  "
    screen.line((words, DIM), line, indent=indent, hang=indent + 4)
    if _IN_FILE in line:
        name = one_line(run.workflow, 64)
        screen.line((f"{_IN_FILE} is the file with the class {name}: a journal holds no code", DIM), indent=indent + 4)


def next_command(journal: Opened, run: RunSummary, status: str, target: str | None = None) -> str:
    """The line that goes on with a run, as one would type it; empty where `next_verb` is.

    Params: `target` is the workflow as it was named; without one, and none in the environment, a place for it is left.
    """
    verb = next_verb(run, status)
    which = f" --question {run.question}" if verb == "answer" and run.question is not None else ""
    return command(verb, run, journal, which + _driven_by(run, target)) if verb else ""


_IN_FILE = "FILE.py"


def _driven_by(run: RunSummary, target: str | None) -> str:
    if target is None and os.environ.get("FSM_WORKFLOW"):
        return ""
    return f" --workflow {shlex.quote(target or f'{_IN_FILE}:{one_line(run.workflow, 64)}')}"
