"""One event being taken in: moves are recorded, and the entered state says what is next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from fsm._compile import Plan
from fsm._effects import as_blocks
from fsm._encoded import plain
from fsm._errors import DecisionError, IllegalRequest
from fsm._facts import Facts
from fsm._graph import Edge
from fsm._ledger import Standing
from fsm._records import Record
from fsm._states import Approval, Claude, Code, Human

from ._evidence import (
    evidence_of,
    limit_reached,
    recovered_too_often,
    repeats_refused,
    told,
    unlawful,
    unsent_again,
)
from ._fold import NOT_EXECUTED, apply, next_calls, reason_of
from ._heads import Heads
from ._run_state import RunState
from ._summaries import covered, useless
from ._view import View

_NO_FACTS = Facts("", "")


class Step(View):
    """The copy of a run that an event is taken into, and the records made so far."""

    def __init__(self, plan: Plan, heads: Heads, origin: RunState, at: float) -> None:
        super().__init__(plan.graph, heads, origin.copy(), at)
        self.plan, self.origin = plan, origin
        self.records: list[Record] = []

    def record(self, kind: str, data: Mapping[str, Any], parsed: Any = None) -> None:
        """Record a fact and fold it in."""
        record = Record(self.run.seq, kind, self.at, data, parsed)
        apply(self.run, record, self.graph)
        self.records.append(record)

    def move(self, event: str, evidence: Mapping[str, Any] | None = None, request_id: str | None = None) -> None:
        """Let the machine choose the row, record the move, and enter the state it leads to."""
        # Most rows have neither guard nor effect, and need no facts.
        is_plain = self.graph.is_plain(self.run.state, event)
        facts = _NO_FACTS if is_plain else self.facts(event)
        edge = self.plan.move(self.run.state, event, facts, self.run.rounds)
        data: dict[str, Any] = {
            "source": edge.source,
            "event": event,
            "dest": edge.dest,
            "index": edge.index,
            "guard": str(edge.guard) if edge.guard is not None else None,
            "effects": [self._effect(edge, effect, facts) for effect in edge.effects],
            "implied": edge.implied,
        }
        if evidence:
            data["evidence"] = evidence
        if request_id:
            data["request_id"] = request_id
        self.record("move", data)
        self.enter()

    def _effect(self, edge: Edge, effect: Any, facts: Facts) -> list[Any]:
        try:
            value = effect(facts)
            if effect.change == "say":
                value = as_blocks(value)
            elif effect.change == "value":
                value = {effect.name: plain(value)}
            else:
                _check_value(effect.change, value)
        except Exception as error:
            raise DecisionError(
                "effect", effect.name, workflow=self.graph.name, state=edge.source, event=edge.event, cause=error
            ) from error
        return [effect.name, {effect.change: value}]

    def enter(self) -> None:
        """The state that was just entered says what is next."""
        node = self.graph.by_name[self.run.state]
        state = node.state
        if node.is_final:
            ended = {"state": node.name, "ok": node.ok, "reason": self.run.last_event, "evidence": self._why()}
            self.record("close", ended)
        elif isinstance(state, Claude):
            self.enter_claude(state)
        elif isinstance(state, (Approval, Human)):
            self.ask(state)
        elif isinstance(state, Code):
            self.record("code.begin", {"state": node.name})
        else:
            self.enter_tools()

    def enter_claude(self, state: Claude) -> None:
        self._say_on_entry(state)
        if self.run.parked is None and self.run.wait_until is None:
            self.send(state)

    def _say_on_entry(self, state: Claude) -> None:
        run = self.run
        history = state.history or "main"
        if run.unsaid.get(history) and run.ledger(history).may_speak:
            late = list(run.unsaid[history])
            self.record("say", {"history": history, "messages": late, "words": False, "unsaid": True})
        ledger = run.ledger(history)
        standing = ledger.standing
        if state.prompt is not None:
            if standing in {Standing.EMPTY, Standing.SPOKEN}:
                self.record("say", {"history": history, "messages": [self._prompt(state)], "words": False})
        elif run.waiting and standing is not Standing.CALLS and ledger.may_speak:
            self.record("say", {"history": history, "messages": list(run.waiting), "words": True})

    def _prompt(self, state: Claude) -> dict[str, Any]:
        prompt = state.prompt
        if not callable(prompt):
            return {"role": "user", "content": as_blocks(prompt)}
        try:
            return {"role": "user", "content": as_blocks(prompt(self.facts(self.run.last_event)))}
        except Exception as error:
            name = getattr(prompt, "__name__", "prompt")
            raise DecisionError(
                "prompt", name, workflow=self.graph.name, state=self.run.state, event="entry", cause=error
            ) from error

    def send(self, state: Claude) -> None:
        """About to send: what is stuck or over a limit moves on instead; else the request is recorded."""
        run = self.run
        found = run.finding.evidence() if run.finding is not None else recovered_too_often(run)
        if found is not None and "stuck" not in run.free:
            self.move("stuck", found)
            return
        over = limit_reached(run)
        if over is not None and "over_limit" not in run.free:
            self.move("over_limit", over)
            return
        history = state.history or "main"
        ledger = run.ledger(history)
        covers = covered(run, history)
        try:
            sealed = ledger.first(covers) if covers else ledger.seal()
            container = self.needs_container(state, sealed)
            head = self.head(state, sealed, compact=bool(covers), container=container)
            if not covers:
                sealed.check(self._model(state), contained=head.params.get("container") is not None)
        except IllegalRequest as error:
            self.unsent(evidence_of(error))
            return
        digest = hashlib.sha256(head.digest + sealed.digest).digest()
        name = digest.hex()
        unasked = unlawful(run, sealed, name, compact=bool(covers))
        if unasked is not None:
            self.unsent(unasked)
            return
        finding = run.detector.repeated(digest)
        stuck = finding.evidence() if finding is not None else repeats_refused(run, name) or useless(run, history)
        if stuck is not None and "stuck" not in run.free:
            self.move("stuck", stuck)
            return
        data: dict[str, Any] = {
            "n": run.requests + 1,
            "state": run.state,
            "history": history,
            "hash": name,
            "attempt": run.attempts.get((run.state, "retry"), 0) + 1,
        }
        if covers:
            data["compact"] = covers
        if container:
            data["container"] = True  # rule 8: whether it still lived is not judged again
        if not covers:  # as folding does: a sealed ledger stays as it is, so nothing is encoded twice
            run.with_ledger(history, sealed)
        self.record("request", data)

    def unsent(self, found: Mapping[str, Any]) -> None:
        """The API would refuse the request, so it does not leave; one that never can is stuck (D16)."""
        stuck = unsent_again(self.run, found)
        if stuck is not None and "stuck" not in self.run.free:
            self.move("stuck", stuck)
        else:
            self.move("invalid_request_error", found)

    def enter_tools(self) -> None:
        run = self.run
        if any(self.asks(c) and c.decision is None for c in run.open.values()):
            self.move("approval_needed")
            return
        denied = [c for c in run.open.values() if c.decision and c.decision.verb == "deny" and c.end is None]
        if denied:
            self.record("tool.end", {"ends": [[c.call.id, reason_of("approved", c), True, 0.0] for c in denied]})
        self.begin_next()

    def begin_next(self) -> None:
        """Begin the calls whose turn it is; once each has an end, the results are complete."""
        fresh, halted = next_calls(self.run)
        if halted:
            self.record("tool.end", {"ends": [[call_id, NOT_EXECUTED, True, 0.0] for call_id in halted]})
        if fresh:
            self.record("tool.begin", {"ids": list(fresh)})
        self.results_if_done()

    def results_if_done(self) -> None:
        waiting = [c for c in self.run.open.values() if c.end is None]
        if not waiting:
            self.move("tool_results")
        elif not any(c.begun for c in waiting):  # S6.9: members that waited for the one before them
            self.begin_next()

    def ask(self, state: Approval | Human) -> None:
        expires = {} if state.within is None else {"expires_at": self.at + state.within}
        if self.run.asked is not None:  # for the rest: who decided on one call gave nobody longer for the others
            expires = {key: self.run.asked[key] for key in ("expires_at",) if key in self.run.asked}
        # Which calls, so that whoever reads the journal without the workflow shows the person exactly these.
        calls = {"calls": [c.call.id for c in self.undecided()]} if isinstance(state, Approval) else {}
        self.record("asked", {"state": self.run.state, **calls, **expires})

    def _why(self) -> dict[str, Any]:
        return told(self.run, ended_well=self.graph.by_name[self.run.state].ok)


def _check_value(change: str, value: Any) -> None:
    """What an effect of one's own gives goes into a request: it is looked at before it is recorded."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if change == "max_tokens" and not (is_number and isinstance(value, int) and value > 0):
        msg = f"max_tokens is a positive whole number, not {value!r}"
        raise ValueError(msg)
    if change == "model" and not (isinstance(value, str) and value):
        msg = f"a model is named by text, not {value!r}"
        raise ValueError(msg)
