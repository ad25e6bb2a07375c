"""What happened in a run, record by record, in the words and columns that every command uses.

Moves are the spine, numbered; what led to them (a reply, results, an error, a person's answer) stands above them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fsm._alphabet import FINAL_NAMES
from fsm._conversation._fold import UNKNOWN_OUTCOME, unknown_denied
from fsm._graph import Graph
from fsm._records import Move, Record, moment, move_of
from fsm._terminal import one_line, shown_call
from fsm.diagram._page._said import change_of, words_of

from ._show import BAD, DIM, HEAD, WARN, Part, Screen, style_of

if TYPE_CHECKING:
    from rich.text import Text

_NUMBER = 4  # columns for the number of a move
_TIME = 9  # columns for its time of day
_WHO = 9  # columns for who acts, at least
_RESULT = 300  # characters of a tool's result that are shown


class Narrator:
    """Prints moves and facts in columns that fit one workflow.

    Params:
        graph: gives the colours and the width of the states; without it they are told by `kinds`.
        kinds: the kind of each state that is known, by name, for runs whose workflow is not loaded.
        timed: whether a move is shown with its time of day (UTC).
    """

    def __init__(
        self, screen: Screen, graph: Graph | None = None, *, kinds: Mapping[str, str] | None = None, timed: bool = False
    ) -> None:
        self.screen, self.timed = screen, timed
        self._styles = {name: style_of(kind) for name, kind in (kinds or {}).items()}
        self._styles |= dict.fromkeys(FINAL_NAMES, style_of("Final", ok=False))
        if graph is not None:
            self._styles |= {node.name: style_of(node.kind, ok=node.ok) for node in graph.nodes}
            names = [node.name for node in graph.nodes if not node.is_exit]
        else:
            names = list(kinds or {})
        longest = max((len(one_line(name)) for name in names), default=0)
        self.column = _NUMBER + (_TIME if timed else 0) + min(max(longest, _WHO), 24) + 3
        self._day = ""

    def fact(self, who: str, kind: str, *parts: Part) -> None:
        """What somebody did; `who` may be empty where the line before goes on."""
        self.screen.entry(self.label(who, kind), *parts, column=self.column)

    def label(self, who: str, kind: str) -> Text:
        """Who did something, in the colour of the kind of state."""
        return self.screen.text(" " * (self._before + 1), (who, style_of(kind) or DIM))

    @property
    def _before(self) -> int:
        return _NUMBER + (_TIME if self.timed else 0)

    def detail(self, key: str, words: str) -> None:
        """More about the fact above, under a word."""
        self.screen.entry(self.screen.text(" " * self.column, (key, DIM)), words, column=self.column + 9)

    def move(self, move: Move) -> None:
        """An arrow that was taken: standard rows are lighter than the workflow's own."""
        source, dest = self._style(move.source), self._style(move.dest)
        guard = f" [{move.guard}]" if move.guard else ""
        effects = f" / {', '.join(move.effects)}" if move.effects else ""
        label = self.screen.text((f"{move.seq:>{_NUMBER}} {self._time(move.at)}", DIM), (one_line(move.source), source))
        event = one_line(move.event), ("" if move.implied else HEAD)
        self.screen.entry(
            label,
            ("─ ", DIM),
            event,
            (one_line(f".{guard}{effects}", 400)[1:], DIM),
            (" → ", DIM),
            (one_line(move.dest), dest),
            column=self.column,
        )

    def _time(self, at: float) -> str:
        """The time of day in UTC; a new day is said on a line of its own."""
        if not self.timed:
            return ""
        day, _, time = moment(at).partition(" ")
        if day != self._day:
            self.screen.line((day and f"{day} UTC", DIM), indent=_NUMBER + 1)
            self._day = day
        return f"{time.removesuffix(' UTC'):<{_TIME}}"

    def know(self, state: str, kind: str) -> None:
        """What was learnt of a state while its run is followed."""
        self._styles.setdefault(state, style_of(kind))

    def _style(self, state: str) -> str:
        return self._styles.get(state, "")


class Teller:
    """Tells records as they come; it remembers the names of the calls, and how many moves there were.

    Params:
        quiet_input: leave out the input that stands on the terminal already.
        quiet_said: leave out what a person said later on, for the same reason.
        limit: characters of a text that are shown; None for all of it.
    """

    def __init__(
        self, narrator: Narrator, *, quiet_input: bool = False, quiet_said: bool = False, limit: int | None = None
    ) -> None:
        self.narrator, self.quiet_input, self.quiet_said, self.limit = narrator, quiet_input, quiet_said, limit
        self.moves = 0
        self.calls: dict[str, str] = {}
        self.unknown: dict[str, None] = {}  # calls whose outcome nobody knows, and of which Claude was told nothing yet
        self._held: Callable[[Record], None] | None = None  # what is told once it is known what follows
        self._tellers: Mapping[str, Callable[[Record], None]] = {
            "open": self._open,
            "request": self._request,
            "error": self._error,
            "move": self._move,
            "tool.begin": self._tool_begin,
            "tool.end": self._tool_end,
            "answer": self._answer,
            "say": self._say,
            "code.begin": self._code_begin,
            "code.end": self._code_end,
        }

    def tell(self, record: Record, *, with_text: bool = True) -> None:
        """Print what a record says; `with_text` is whether the text of a reply is still to be shown."""
        held, self._held = self._held, None
        if held is not None:
            held(record)
        if record.kind == "reply":
            self._reply(record, with_text=with_text)
        elif record.kind in self._tellers:
            self._tellers[record.kind](record)

    def know(self, record: Record) -> None:
        """Take in a record without telling it."""
        if record.kind == "move":
            self.moves += 1
            self._note_unknown(record)
        elif record.kind == "reply":
            self.calls |= {b["id"]: b["name"] for b in blocks_of(record) if b.get("type") == "tool_use"}

    def _clipped(self, words: str) -> str:
        is_long = self.limit is not None and len(words) > self.limit
        return f"{words[: self.limit].rstrip()} …" if is_long else words

    def _request(self, record: Record) -> None:
        self.narrator.know(record.data["state"], "Claude")

    def _code_begin(self, record: Record) -> None:
        self.narrator.know(record.data["state"], "Code")

    def _open(self, record: Record) -> None:
        if not self.quiet_input:
            self._held = partial(self._input, record)

    def _input(self, opened: Record, after: Record) -> None:
        if after.kind == "say" and after.data.get("forked") and after.data.get("words"):
            return  # a fork said something else in its place
        for message in opened.data["messages"]:
            if message["role"] == "user":
                self.narrator.fact("you", "Human", self._clipped(words_of(message["content"])))

    def _say(self, record: Record) -> None:
        for message in record.data["messages"] if record.data.get("forked") else ():
            words = self._clipped(words_of(message["content"]))
            self.narrator.fact("you", "Human", words, ("  (by the fork)", DIM))

    def _reply(self, record: Record, *, with_text: bool) -> None:
        content = blocks_of(record)
        cut = record.data["event"] in {"max_tokens", "model_context_window_exceeded"}
        first = "Claude"
        if not with_text:  # it was streamed, and stands there already
            first, content = "", [block for block in content if block.get("type") != "text"]
        for block in content:
            kind = block.get("type")
            if kind == "text":
                self.narrator.fact(
                    first, "Claude", self._clipped(str(block.get("text", ""))), (" … cut off" if cut else "", WARN)
                )
            elif kind == "tool_use":
                self.calls[block["id"]] = block["name"]
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
        self.moves += 1
        self.narrator.move(move_of(record, self.moves))
        self._note_unknown(record)
        if record.data["event"] in {"outcome_unknown", "expired"} and self.unknown:
            self._held = self._told_unknown
        for _, change in record.data["effects"]:
            for what, value in change.items():
                if told := one_line(change_of(what, value), 400):
                    self.narrator.fact("fsm", "", (told, DIM))

    def _note_unknown(self, record: Record) -> None:
        if record.data["event"] == "outcome_unknown":
            self.unknown = dict.fromkeys((record.data.get("evidence") or {}).get("ids") or ())

    def _told_unknown(self, after: Record) -> None:
        """B3: what Claude reads of calls that had begun before a crash, unless a person is asked about them first."""
        for call_id in self.unknown:
            name = one_line(self.calls.get(call_id, call_id), 64)
            self.narrator.fact("tools", "Tools", (f"{name} had begun when the process died", WARN))
        if after.kind != "asked" and self.unknown:
            self.narrator.fact("", "Tools", ("Claude is told: ", DIM), UNKNOWN_OUTCOME)
            self.unknown = {}

    def _tool_begin(self, record: Record) -> None:
        if len(record.data["ids"]) > 1:
            self.narrator.fact("tools", "Tools", (f"runs {len(record.data['ids'])} calls in parallel", DIM))

    def _tool_end(self, record: Record) -> None:
        for call_id, content, is_error, _ in record.data["ends"]:
            name = self.calls.get(call_id, call_id)
            tail = (" (error)", BAD) if is_error else ""
            self.narrator.fact(
                "tools", "Tools", (f"{one_line(name, 64)} → ", DIM), one_line(words_of(content), _RESULT), tail
            )

    def _answer(self, record: Record) -> None:
        if "said" in record.data and not self.quiet_said:
            self.narrator.fact("you", "Human", self._clipped(words_of(record.data["said"])))
        verbs = {"approve": "approves", "edit": "changes and approves", "deny": "denies"}
        for call_id, (verb, given, reason) in record.data.get("decisions", {}).items():
            name = self.calls.get(call_id, call_id)
            words = shown_call(name, given) if verb == "edit" and given else one_line(name, 64)
            why = f": {one_line(reason, 200)}" if reason else ""
            self.narrator.fact("person", "Approval", f"{verbs.get(verb, verb)} {words}{why}")
            if call_id in self.unknown and verb == "deny":
                self.narrator.fact("", "Tools", ("Claude is told: ", DIM), one_line(unknown_denied(reason), 400))
            self.unknown.pop(call_id, None)

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


def blocks_of(record: Record) -> list[dict[str, Any]]:
    """The content blocks of a reply."""
    content = json.loads(record.data["content"])
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
