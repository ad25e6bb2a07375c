"""A run as it happens: a journal that prints what it is given, record by record, and the verdict at the end.

Moves are the spine, numbered; what led to them (a reply, results, an error, a person's answer) stands above them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fsm._graph import Graph
from fsm._records import Move, Record, Verdict, moment
from fsm._terminal import clean, one_line, shown_call
from fsm.drivers._pump import move_of
from fsm.journal import MemoryStore

from ._show import BAD, DIM, GOOD, GUTTER, HEAD, WARN, Part, Screen, style_of

if TYPE_CHECKING:
    from rich.text import Text

    from fsm._result import Result
    from fsm._wire import Delta

_NUMBER = 4  # columns for the number of a move
_WHO = 9  # columns for who acts, at least
_RESULT = 300  # characters of a tool's result that are shown


class Narrator:
    """Prints moves and facts in columns that fit one workflow."""

    def __init__(self, screen: Screen, graph: Graph) -> None:
        self.screen, self.graph = screen, graph
        longest = max((len(node.name) for node in graph.nodes if not node.is_exit), default=0)
        self.column = _NUMBER + min(max(longest, _WHO), 24) + 3

    def fact(self, who: str, kind: str, *parts: Part) -> None:
        """What somebody did; `who` may be empty where the line before goes on."""
        self.screen.entry(self.label(who, kind), *parts, column=self.column)

    def label(self, who: str, kind: str) -> Text:
        """Who did something, in the colour of the kind of state."""
        return self.screen.text(" " * (_NUMBER + 1), (who, style_of(kind) or DIM))

    def detail(self, key: str, words: str) -> None:
        """More about the fact above, under a word."""
        self.screen.entry(self.screen.text(" " * self.column, (key, DIM)), words, column=self.column + 9)

    def move(self, move: Move) -> None:
        """An arrow that was taken: standard rows are lighter than the workflow's own."""
        source, dest = self._style(move.source), self._style(move.dest)
        guard = f" [{move.guard}]" if move.guard else ""
        effects = f" / {', '.join(move.effects)}" if move.effects else ""
        label = self.screen.text((f"{move.seq:>{_NUMBER}} ", DIM), (move.source, source))
        event = move.event, ("" if move.implied else HEAD)
        self.screen.entry(
            label,
            ("─ ", DIM),
            event,
            (one_line(guard + effects, 400) and f"{guard}{effects}", DIM),
            (" → ", DIM),
            (move.dest, dest),
            column=self.column,
        )

    def _style(self, state: str) -> str:
        node = self.graph.by_name.get(state)
        return "" if node is None else style_of(node.kind, ok=node.ok)


class LiveJournal(MemoryStore):
    """A journal in memory that shows what it is given once it holds it."""

    def __init__(self, narrator: Narrator, *, quiet_input: bool = False) -> None:
        super().__init__()
        self.narrator, self.screen = narrator, narrator.screen
        self.quiet_input = quiet_input
        self._moves = 0
        self._calls: dict[str, str] = {}
        self._column: int | None = None  # where streamed text ends on its line
        self._block = 0
        self._was_streamed = False
        self._shown: Mapping[str, Callable[[Record], None]] = {
            "open": self._open,
            "reply": self._reply,
            "error": self._error,
            "move": self._move,
            "tool.begin": self._tool_begin,
            "tool.end": self._tool_end,
            "answer": self._answer,
            "code.end": self._code_end,
        }

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """See `Store`; then print."""
        super().append(run_id, records)
        self.screen.stop()
        self._was_streamed, self._column = self._column is not None, None
        if self._was_streamed:
            self.screen.end_line()
        for record in records:
            if record.kind in self._shown:
                self._shown[record.kind](record)
        if records:
            self._wait(records[-1])

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

    # ── records ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, record: Record) -> None:
        if self.quiet_input:
            return
        for message in record.data["messages"]:
            if message["role"] == "user":
                self.narrator.fact("you", "Human", words_of(message["content"]))

    def _reply(self, record: Record) -> None:
        content = json.loads(record.data["content"])
        cut = record.data["event"] in {"max_tokens", "model_context_window_exceeded"}
        first = "Claude"
        if self._was_streamed:  # its text is there already
            first, content = "", [block for block in content if block.get("type") != "text"]
        for block in content:
            kind = block.get("type")
            if kind == "text":
                self.narrator.fact(first, "Claude", block.get("text", ""), (" … cut off" if cut else "", WARN))
            elif kind == "tool_use":
                self._calls[block["id"]] = block["name"]
                call = shown_call(block["name"], block["input"])
                parts: list[Part] = [call[:-1] + " ", ("… cut off", WARN)] if cut else [call]
                self.narrator.fact(first, "Claude", *parts)
            else:
                self.narrator.fact(first, "Claude", (f"({one_line(kind, 60)})", DIM))
            first = ""
        if first and not content:
            self.narrator.fact(first, "Claude", ("(nothing)", DIM))

    def _error(self, record: Record) -> None:
        data = record.data
        status = f"{data['status']} " if data.get("status") else ""
        words = f"{status}{one_line(data.get('type') or data['event'], 60)}: {one_line(data['message'], 400)}"
        self.narrator.fact("API", "Failed", words)

    def _move(self, record: Record) -> None:
        self._moves += 1
        self.narrator.move(move_of(record, self._moves))
        for _, change in record.data["effects"]:
            for what, value in change.items():
                if told := _effect(what, value):
                    self.narrator.fact("fsm", "", (told, DIM))

    def _tool_begin(self, record: Record) -> None:
        if len(record.data["ids"]) > 1:
            self.narrator.fact("tools", "Tools", (f"runs {len(record.data['ids'])} calls in parallel", DIM))

    def _tool_end(self, record: Record) -> None:
        for call_id, content, is_error, _ in record.data["ends"]:
            name = self._calls.get(call_id, call_id)
            tail = (" (error)", BAD) if is_error else ""
            self.narrator.fact(
                "tools", "Tools", (f"{one_line(name, 64)} → ", DIM), one_line(words_of(content), _RESULT), tail
            )

    def _answer(self, record: Record) -> None:
        verbs = {"approve": "approves", "edit": "changes and approves", "deny": "denies"}
        for call_id, (verb, given, reason) in record.data.get("decisions", {}).items():
            name = self._calls.get(call_id, call_id)
            words = shown_call(name, given) if verb == "edit" and given else one_line(name, 64)
            why = f": {one_line(reason, 200)}" if reason else ""
            self.narrator.fact("person", "Approval", f"{verbs.get(verb, verb)} {words}{why}")

    def _code_end(self, record: Record) -> None:
        data = record.data
        if data["error"]:
            self.narrator.fact("code", "Code", one_line(data["error"], 400), (" (raised)", BAD))
        else:
            value = data["value"]
            more = (
                f" ({one_line(json.dumps(value, ensure_ascii=False), 120)})"
                if value not in {None, data["outcome"]}
                else ""
            )
            self.narrator.fact("code", "Code", f"says {one_line(data['outcome'], 60)}{more}")

    # ── what is waited for ──────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, last: Record) -> None:
        if last.kind == "request":
            self.screen.busy("Claude …")
        elif last.kind == "tool.begin":
            names = sorted({self._calls.get(call_id, call_id) for call_id in last.data["ids"]})
            self.screen.busy(f"{one_line(', '.join(names), 60)} …")
        elif last.kind == "code.begin":
            self.screen.busy(f"{one_line(last.data['state'], 60)} …")
        elif last.kind == "move" and any("wait" in change for _, change in last.data["effects"]):
            self.screen.busy("waiting …")


def _effect(what: str, value: Any) -> str:
    """What an effect changed, in words; empty where it says nothing to a person."""
    match what:
        case "wait":
            return f"waits {value:.1f} s, then sends the same bytes again"
        case "max_tokens":
            return f"asks again with max_tokens={value}"
        case "model":
            return f"goes on with the model {one_line(value, 60)}"
        case "say":
            return f"says: {one_line(words_of(value), 400)}"
        case "discard":
            return "leaves the reply out of the history"
        case "compact":
            return "has the history summarised first"
        case "park":
            return "parks the run: the API stays away"
    return ""


def words_of(content: Any) -> str:
    """The text of content blocks; what is no text is named."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return json.dumps(content, ensure_ascii=False, default=repr)
    return "\n".join(
        str(block.get("text", "")) if block.get("type") == "text" else f"({block.get('type')})"
        for block in content
        if isinstance(block, Mapping)
    )


def show_result(screen: Screen, result: Result) -> None:
    """How a run ended: its final state, why, what it used."""
    requests = sum(record.kind == "request" for record in result.records)
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
