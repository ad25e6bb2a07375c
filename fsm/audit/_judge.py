"""`Judge`: one exchange at a time through the legality rules, the one-state machine, the ledger and the detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from fsm._alphabet import STOP_REASONS
from fsm._errors import ConversationEnded, IllegalMove, IllegalRequest
from fsm._events import Failed
from fsm._facts import Facts, Failure
from fsm._ledger import Ledger, Standing, is_kept
from fsm._legality import REQUIRED, Legality, violations
from fsm._models import model_facts
from fsm._reading import Reading, read
from fsm._single import single_plan
from fsm._wire import Wire, clean
from fsm._wire._rawjson import parse

from ._exchange import COUNTING, MESSAGES, Exchange, Unread
from ._report import Found, Kind
from ._tally import Tally
from ._turns import Turns

__all__ = ["Judge"]

_COUNTED = tuple(name for name in REQUIRED if name != "max_tokens")  # what count_tokens requires
_BAD_REQUEST = 400
_BEGIN = len(b'{"role":"assistant","content":')
_UNMADE = "batch result: "


@define(eq=False)
class Judge:
    """Puts each exchange into its cell, and says what is wrong with it."""

    tally: Tally
    turns: Turns = field(factory=Turns)

    def exchange(self, exchange: Exchange, source: str, where: str, weight: int) -> None:
        """Judge what one line records."""
        if unread := next((each for each in exchange.came if isinstance(each, Unread)), None):
            self.tally.bad(source, unread.reason, where, unread.detail)
            return
        if exchange.endpoint not in {MESSAGES, COUNTING}:
            self.tally.row(source, "other", f"not a Messages request: {exchange.endpoint}")
            return
        self._request(exchange, source, where)
        if exchange.endpoint == COUNTING:
            failed = next((each for each in exchange.came if isinstance(each, Failed)), None)
            self.tally.row(source, "other", f"count_tokens: {failed.event}" if failed else "count_tokens")
            return
        self._replies(exchange, source, where, weight)

    # ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _request(self, exchange: Exchange, source: str, where: str) -> None:
        failed = next((each for each in exchange.came if isinstance(each, Failed)), None)
        refused = exchange.status == _BAD_REQUEST and failed is not None and failed.event == "invalid_request_error"
        required = _COUNTED if exchange.endpoint == COUNTING else REQUIRED
        asked = {} if exchange.request is None else exchange.request
        wrong = () if exchange.request is None else violations(asked, required=required)
        if wrong and self.turns.is_paused(source, asked.get("messages")):  # rare enough to be judged twice
            wrong = violations(asked, required=required, paused=True)
        if refused and failed is not None and failed.code is None:  # with a code it is the account, not the request
            self._refused(failed, wrong[0] if wrong else None, where, has_request=exchange.request is not None)
        elif wrong and (exchange.is_accepted or exchange.status is None):
            kind = "illegal_accepted" if exchange.is_accepted else "illegal_request"
            for each in wrong:
                why = clean(f"The rules refuse this request: {each.message}", 500)
                todo = "Report it: the rule is too strict." if exchange.is_accepted else each.repair
                self.tally.found(Found(kind, each.rule, where, why, todo, ids=each.ids))

    def _refused(self, failed: Failed, wrong: Any, where: str, *, has_request: bool) -> None:
        said = clean(f"The API refused this request: {failed.message}", 500)
        if wrong is None:
            todo = "" if has_request else "The request was not recorded."
            self.tally.found(Found("unexplained_400", "", where, said, todo))
        else:
            self.tally.found(Found("illegal_request", wrong.rule, where, said, wrong.repair, ids=wrong.ids))

    # ── what came back ───────────────────────────────────────────────────────────────────────────────────────────────

    def _replies(self, exchange: Exchange, source: str, where: str, weight: int) -> None:
        request = exchange.request or {}
        link = self.turns.link(source, request.get("messages"), where)
        self.tally.linked += link.turn is not None
        for each in link.found:
            self.tally.found(each)
        if link.answered:
            self._move("calling", "tool_results", Facts("calling", "tool_results"), where)
        outcomes: dict[str, None] = {}
        state = ""
        kind: Kind = "other"
        for came in exchange.came:
            if isinstance(came, str):
                outcomes[_UNMADE + came] = None
            elif isinstance(came, Failed):
                kind = "error" if kind == "other" else kind
                outcomes[came.event] = None
                state = self._failure(came, where)
            elif isinstance(came, Wire):
                kind = "reply"
                reading = read(came.message)
                outcomes[_outcome(reading)] = None
                state = self._reply(reading, request, where)
                if reading.event == "pause_turn":
                    self.turns.paused(source, came.message)
                if found := self.turns.replied(source, link, reading, where, weight):
                    self.tally.found(found)
                self._echo(came, reading, exchange.recorded, where)
        self.tally.row(source, kind, " + ".join(outcomes), state=state, replies=len(exchange.came))

    def _reply(self, reading: Reading, request: Mapping[str, Any], where: str) -> str:
        self.tally.replies += 1
        event, reply = reading.event, reading.reply
        if event in {"malformed", "unknown_stop"}:
            kind = "contradiction" if event == "malformed" else event
            why = clean(str(reading.problem), 500)
            self.tally.found(Found(kind, "S11.3" if event == "malformed" else "S11.2", where, f"{why}.", ""))
        asked = request.get("max_tokens")
        facts = Facts(
            "asking",
            event,
            reply,
            max_tokens=asked if type(asked) is int else 0,
            max_tokens_cap=model_facts(reply.model).max_output if reply.model else None,
        )
        return self._move("asking", event, facts, where)

    def _failure(self, failed: Failed, where: str) -> str:
        facts = Facts("asking", failed.event, failure=Failure.of(failed))
        return self._move("asking", failed.event, facts, where)

    def _move(self, state: str, event: str, facts: Facts, where: str) -> str:
        try:
            edge = single_plan().move(state, event, facts)
        except (IllegalMove, ConversationEnded) as error:
            self.tally.found(Found("illegal_move", "machine", where, str(error), ""))
            return ""
        self.tally.moves += 1
        return edge.dest

    def _echo(self, wire: Wire, reading: Reading, recorded: tuple[Any, ...], where: str) -> None:
        """A reply that goes back to the API with the next request must go back as it was recorded (V-echo2)."""
        if not is_kept(reading.event, said=True, discarded=False):
            return
        content = recorded[0] if recorded else wire.message["content"]
        try:
            ledger = Ledger(legality=Legality.start(continued=True))  # what came before is in the request, not here
            is_paused = reading.event == "pause_turn"
            body = ledger.append_reply(content, wire.content_json, Standing.SPOKEN, paused=is_paused).encoded()[0]
        except IllegalRequest as error:
            first = error.violations[0]
            why = clean(f"The reply cannot be sent back as it is: {first.message}", 500)
            self.tally.found(Found("altered_echo", first.rule, where, why, first.repair))
            return
        raw = body[_BEGIN:-1]
        if raw == wire.content_json.encode() and parse(raw.decode()) == content:
            self.tally.echoed += 1
            return
        why = "The content that our ledger sends back is not the recorded one."
        self.tally.found(Found("altered_echo", "V-echo2", where, why, "Report it: this is a fault of ours."))


def _outcome(reading: Reading) -> str:
    """The event, and the stop reason that was recorded where this is another one."""
    event, stop = reading.event, reading.reply.stop_reason
    return f"{event} ({stop})" if event not in STOP_REASONS and stop in STOP_REASONS else event
