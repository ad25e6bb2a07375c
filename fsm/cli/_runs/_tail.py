"""`fsm runs tail`: a run that another process drives, as it happens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._records import Record
from fsm._summary import RunSummary
from fsm._terminal import one_line
from fsm.cli._live import show_verdict
from fsm.cli._part import dollars
from fsm.cli._show import DIM, HEAD, WARN, Screen
from fsm.cli._telling import Narrator, Teller

from ._look import age, next_command, shown_id, status_words, waits_for
from ._open import BAD, OK, Journal, Looked, Opened, found, opened
from ._story import Story

if TYPE_CHECKING:
    from rich.text import Text

POLL = 0.25
"""Seconds between two looks at the journal."""
_LOOKS_AT_CLAIM = 8  # looks between two at who drives it: looking means to try its lock


def tail(
    run: Looked,
    journal: Journal = None,
    *,
    last: Annotated[
        int, typer.Option("--last", min=0, metavar="N", help="Moves of the past that are shown first.")
    ] = 10,
) -> int:
    """Follow a run that another process drives: each move and what was said, as it is recorded.

    On a terminal the last line says where it stands, what it used and what it waits for; in a pipe there are plain
    lines only. It ends when the run ends, or with Ctrl-C; a parked run is followed on, for somebody may take it up.

    Exits with 0 when the run ended well, 1 when it ended otherwise, 130 after Ctrl-C.
    """
    with opened(journal) as place:
        followed = _Followed(Screen(), place, found(place, run))
        followed.begin(last)
        with followed.footer():
            while followed.run.status != "ended":
                time.sleep(POLL)
                followed.look()
        return followed.end()


class _Followed:
    """A run being followed."""

    def __init__(self, screen: Screen, place: Opened, run: RunSummary) -> None:
        self.screen, self.place, self.run = screen, place, run
        self.story = Story(keep=1)
        self.seen = 0  # records taken in
        self.looks = 0
        self.status = self.said = ""
        self.teller = Teller(Narrator(screen))

    def begin(self, last: int) -> None:
        """Head, and the last moves with what led to them."""
        groups: deque[list[Record]] = deque([[]], maxlen=last + 1)  # the records up to each move; the newest is open
        first = 1
        for record in self._new():
            groups[-1].append(record)
            if record.kind == "move":
                first += len(groups) == groups.maxlen
                groups.append([])
        narrator = Narrator(self.screen, kinds=self.story.kinds, timed=True)
        self.teller = Teller(narrator)
        self.teller.calls = dict(self.story.names)
        self.teller.moves = first - 1
        self.screen.line(
            (shown_id(self.run.run_id), HEAD), (f" · {one_line(self.run.workflow, 64)}", DIM), indent=2, hang=4
        )
        if first > 1:
            self.screen.line((f"… {first - 1:,} moves before", DIM), indent=5)
        self._tell(record for group in groups for record in group)
        self._stand()

    def look(self) -> None:
        """Tell what was recorded since the last look."""
        self.looks += 1
        self.run = self.place.store.summary(self.run.run_id)
        if self.run.records > self.seen:
            self._tell(self._new())
        self._stand()

    def _new(self) -> Iterable[Record]:
        for record in self.place.store.read(self.run.run_id, self.seen):
            self.seen = record.seq + 1
            self.story.take(record)
            yield record

    def _tell(self, records: Iterable[Record]) -> None:
        for record in records:
            self.teller.tell(record)
        self.screen.console.file.flush()

    def _stand(self) -> None:
        """Where it stands; without a terminal a line says so when that changes."""
        if self.run.status != "running":
            self.status = self.run.status
        elif self.looks % _LOOKS_AT_CLAIM == 0:
            self.status = "stopped" if self.place.is_driven(self.run.run_id) is False else "running"
        elif self.status not in {"running", "stopped"}:
            self.status = "running"
        waits = waits_for(self.run, self.status, time.time()) if self.run.waits_for != "wait" else ""
        words = f"waits {waits.partition(' (in ')[0]}" if waits else ""
        if words != self.said and not self.screen.is_terminal and self.status != "ended":
            self.teller.narrator.fact("run", "", (words or "goes on", WARN))
            self.screen.console.file.flush()
        self.said = words

    def footer(self) -> Any:
        """The moving lines at the bottom of a terminal; nothing without one."""
        if not self.screen.is_terminal:
            return nullcontext()
        from rich.live import Live

        return Live(get_renderable=self._standing, console=self.screen.console, refresh_per_second=4, transient=True)

    def _standing(self) -> Text:
        run, now = self.run, time.time()
        words, style = status_words(run, self.status, now)
        price = "price unknown" if run.price is None else dollars(run.price)
        used = f"{run.moves} moves · {run.tokens:,} tokens · {price} · {age(now - run.started)} old"
        silent = now - run.updated
        rows = [
            self.screen.text("  ", (words, style), (" · ", DIM), (one_line(run.state, 40), HEAD), (f" · {used}", DIM))
        ]
        waits = waits_for(run, self.status, now)
        quiet = f"nothing new for {age(silent)}"
        rows.append(self.screen.text("  ", (f"waits {waits}" if waits else quiet, DIM)))
        if line := next_command(self.place, run, self.status):
            rows.append(self.screen.text("  ", (line, DIM)))
        made = self.screen.text()
        for row in rows:
            row.truncate(self.screen.width - 1, overflow="ellipsis")
            made.append_text(self.screen.text("\n", row))
        return made

    def end(self) -> int:
        """How it ended."""
        ok = bool(self.run.ok)
        verdict = self.story.verdict(self.run.state, self.run.reason)
        show_verdict(self.screen, verdict, requests=self.story.requests, ok=ok, parked=False)
        return OK if ok else BAD
