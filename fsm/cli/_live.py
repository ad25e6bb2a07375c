"""A run as it happens: a journal that prints what it is given, record by record, and the verdict at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fsm._records import Record, Verdict, moment
from fsm._summary import Query, RunSummary
from fsm._terminal import clean, one_line
from fsm.journal import EVERY, MemoryStore, Store

from ._show import BAD, DIM, GOOD, GUTTER, WARN, Screen
from ._telling import Narrator, Teller

if TYPE_CHECKING:
    from fsm._result import Result
    from fsm._wire import Delta


_ALSO = frozenset({"outline", "redacts"})


class LiveJournal:
    """A journal that shows what it is given once it holds it.

    Params: `store` holds it; memory, where none is given. `quiet_input` leaves out what was typed here.
    """

    def __init__(self, narrator: Narrator, *, store: Store | None = None, quiet_input: bool = False) -> None:
        self.store: Store = MemoryStore() if store is None else store
        self.narrator, self.screen = narrator, narrator.screen
        self.teller = Teller(narrator, quiet_input=quiet_input, quiet_said=True)
        self._column: int | None = None  # where streamed text ends on its line
        self._block = 0

    def __getattr__(self, name: str) -> Any:
        """What not every store has."""
        if name not in _ALSO:
            raise AttributeError(name)
        return getattr(self.store, name)

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """See `Store`; then print."""
        self.store.append(run_id, records)
        self.screen.stop()
        was_streamed, self._column = self._column is not None, None
        if was_streamed:
            self.screen.end_line()
        for record in records:
            self.teller.tell(record, with_text=not was_streamed)
        if records:
            self._wait(records[-1])

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """See `Store`."""
        return self.store.read(run_id, start)

    def claim(self, run_id: str) -> None:
        """See `Store`."""
        self.store.claim(run_id)

    def release(self, run_id: str) -> None:
        """See `Store`."""
        self.store.release(run_id)

    def summary(self, run_id: str) -> RunSummary:
        """See `Store`."""
        return self.store.summary(run_id)

    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        """See `Store`."""
        return self.store.runs(query)

    def delta(self, delta: Delta) -> None:
        """A piece of a reply while it is written."""
        if delta.kind != "text":
            return
        column = self.narrator.column
        if self._column is None:
            self.screen.stop()
            self.screen.begin(self.narrator.label("Claude", "Claude"), column)
        elif delta.index != self._block:
            self._column = self.screen.stream("\n", column, at=self._column)
        self._block = delta.index
        self._column = self.screen.stream(delta.text, column, at=self._column)

    # ── what is waited for ──────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, last: Record) -> None:
        if last.kind == "request":
            self.screen.busy("Claude …")
        elif last.kind == "tool.begin":
            names = sorted({self.teller.calls.get(call_id, call_id) for call_id in last.data["ids"]})
            self.screen.busy(f"{one_line(', '.join(names), 60)} …")
        elif last.kind == "code.begin":
            self.screen.busy(f"{one_line(last.data['state'], 60)} …")
        elif last.kind == "move" and any("wait" in change for _, change in last.data["effects"]):
            self.screen.busy("waiting …")


def show_result(screen: Screen, result: Result) -> None:
    """How a run ended: its final state, why, what it used."""
    read = getattr(result.journal, "outline", result.journal.read)  # a run is also ended without what was said in it
    requests = sum(record.kind == "request" for record in read(result.run_id))
    show_verdict(screen, result.verdict, requests=requests, ok=result.ok, parked=result.parked)


def show_verdict(screen: Screen, verdict: Verdict, *, requests: int, ok: bool, parked: bool) -> None:
    """A verdict, with its evidence where it is not a success."""
    mark, style = ("✓", GOOD) if ok else ("‖", WARN) if parked else ("✗", BAD)
    why = one_line(verdict.evidence.get("why") or "", 400)
    screen.line()
    screen.line((f"{mark} ", style), (verdict.state, style), (f" · {verdict.reason}", ""), indent=2, hang=4)
    screen.line((used(verdict, requests), DIM), indent=4)
    if ok:
        return
    evidence = verdict.evidence
    rows = {"why": why, "do": one_line(evidence.get("todo") or "", 400)}
    for key, value in evidence.items():
        if key not in rows | {"todo": ""} and value not in (None, [], {}):
            when = moment(value) if key == "retry_at" else ""
            shown = value if isinstance(value, str) else when or json.dumps(value, ensure_ascii=False, default=repr)
            rows[one_line(key, 20)] = one_line(shown, 400)
    if verdict.pending_tool_ids:
        rows["open calls"] = ", ".join(one_line(each, 80) for each in verdict.pending_tool_ids)
    width = max((len(clean(key)) for key in rows), default=0)
    for key, value in rows.items():
        if value:
            screen.entry(screen.text(GUTTER * 2, (key, DIM)), value, column=4 + width + 2)


def used(verdict: Verdict, requests: int) -> str:
    """Requests, tokens, price and time on one line; an unknown price says so."""
    usage = verdict.usage
    price = "price unknown" if verdict.price is None else f"${verdict.price:.4f}"
    into = usage.total - usage.output_tokens
    times = f"{requests} request{'s' if requests != 1 else ''}"
    return f"{times} · {into:,} tokens in, {usage.output_tokens:,} out · {price} · {verdict.duration:.1f} s of work"
