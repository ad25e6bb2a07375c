"""One run of a workflow, as a pure step function: `feed(event) -> (records, actions)`, and `fold(records)`.

How an event is processed:

 1. Everything happens on a copy of the run's state, swapped in at the end. An event that the state does not accept, a
    guard, an effect or a prompt that raises: the copy is thrown away and nothing has changed.
 2. The event is recorded as the fact it is (a reply, an error, ends of tools, an answer).
 3. It is given its name in the alphabet, and the machine chooses the row. The move is recorded with the row, the name
    of the guard that let it pass and the values of its effects.
 4. The entered state says what is next, which may be another move: a limit that is reached, a call that needs a person,
    a final state. This goes on until the outside world must act.
 5. What the outside world must do follows from the state alone (`_pending`), so a run that was folded from its journal
    asks for the same as the run that wrote it.

Deliberately not done here: reading a clock, drawing a random number, any I/O, calling a tool or a `Code` function. The
driver does these and feeds what came of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from ._actions import Action, AskHuman, Finish, OpenCall, Question, RunCode, RunTools, SendRequest, Wait
from ._alphabet import ALPHABET, Group
from ._compile import Plan
from ._effects import as_blocks
from ._errors import ConversationEnded, DecisionError, IllegalRequest, RunError
from ._events import (
    Answered,
    Cancelled,
    CodeEnded,
    Event,
    Failed,
    Parked,
    Replied,
    Resumed,
    Started,
    TimePassed,
    ToolsEnded,
)
from ._evidence import evidence_of, limit_reached
from ._facts import Facts
from ._fold import OpenCallState, RunState, apply, cap_of, family
from ._graph import Edge
from ._heads import Head, Heads
from ._ledger import Standing
from ._reading import Reading, read
from ._records import Record, Verdict
from ._states import Approval, Claude, Code, Human

MAX_RESENDS = 3  # J3: the same bytes, after a crash between request and reply


class Conversation:
    """One run. `plan` is the workflow, `heads` its request heads; `feed` and `fold` are the only ways to change it."""

    def __init__(self, plan: Plan, heads: Heads) -> None:
        self.plan, self.heads = plan, heads
        self._run = RunState(plan.graph.initial)

    @property
    def run(self) -> RunState:
        """The facts, to read."""
        return self._run

    @property
    def finished(self) -> bool:
        """Whether it stands in a final state."""
        return self._run.closed is not None

    def feed(self, event: Event) -> tuple[tuple[Record, ...], tuple[Action, ...]]:
        """Take one event: what to record, then what to do.

        Raises:
            ConversationEnded: the run is over.
            IllegalMove: the state does not accept the event.
            DecisionError: a guard, effect or prompt raised.
            RunError: an answer of the wrong form. In every case nothing has changed.
        """
        step = _Step(self.plan, self.heads, self._run.copy(), event.at, origin=self._run)
        actions = step.take_in(event)
        self._run = step.run
        return tuple(step.records), actions

    def fold(self, records: Iterable[Record]) -> None:
        """Add records of this run; no user code is called."""
        run = self._run.copy()
        for record in records:
            apply(run, record, self.plan.graph)
        self._run = run

    def pending(self) -> tuple[Action, ...]:
        """What the outside world has to do now."""
        return _Step(self.plan, self.heads, self._run, self._run.at).pending()

    def question(self) -> Question | None:
        """What a person is asked, parked or not; None where nobody is."""
        return None if self._run.asked is None else _Step(self.plan, self.heads, self._run, self._run.at).question()

    def verdict(self) -> Verdict:
        """How it stands: ended, parked or still running."""
        return _verdict(self._run)

    def carry(self) -> dict[str, tuple[str, ...]]:
        """The histories for a new run (`after=`): open calls answered, a paused tail cut."""
        carried = {}
        for history, ledger in self._run.ledgers.items():
            sealed = ledger.seal()
            encoded = [raw.decode() for raw in sealed.encoded()]
            if sealed.legality.finish() or (run_calls := sealed.legality.open_calls):
                run_calls = sealed.legality.open_calls
                blocks = [
                    {"type": "tool_result", "tool_use_id": i, "content": "Not run: the run ended.", "is_error": True}
                    for i in run_calls
                ]
                encoded.append(json.dumps({"role": "user", "content": blocks}, ensure_ascii=False))
            elif self._run.last_event == "pause_turn" and '"role":"assistant"' in encoded[-1][:20]:
                encoded.pop()
            carried[history] = tuple(encoded)
        return carried


class _Step:
    """One event being taken in: the copy, the records made so far."""

    def __init__(
        self, plan: Plan, heads: Heads, run: RunState, at: float, *, origin: RunState | None = None
    ) -> None:
        self.plan, self.graph, self.heads, self.run, self.at = plan, plan.graph, heads, run, at
        self.origin = origin or run
        self.records: list[Record] = []

    # --- recording and moving ---------------------------------------------------------------------------------------

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
                value = {effect.name: value}
        except Exception as error:
            raise DecisionError("effect", effect.name, self.graph.name, edge.source, edge.event, error) from error
        return [effect.name, {effect.change: value}]

    def facts(self, event: str) -> Facts:
        """What is so now, for guards, effects, prompts and `Code`."""
        run = self.run
        state = self.graph.by_name[run.state].state
        reply = run.reading.reply if run.reading else None
        return Facts(
            run.state,
            event,
            _with_output(reply, run.output),
            run.failure,
            run.results,
            run.values,
            run.usage,
            run.turns,
            run.tool_calls,
            run.elapsed,
            run.given,
            run.said,
            run.attempts.get((run.state, family(event)), 0),
            run.waited.get(run.state, 0.0),
            0,
            self._max_tokens(state) if isinstance(state, Claude) else 0,
            cap_of(self._model(state)) if isinstance(state, Claude) else None,
            run.tags,
        )

    def _max_tokens(self, state: Claude) -> int:
        return self.run.tokens.get(self.run.state, state.max_tokens)

    def _model(self, state: Claude) -> str:
        return self.run.models.get(self.run.state, state.model)

    # --- entering a state --------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """The state that was just entered says what is next."""
        node = self.graph.by_name[self.run.state]
        state = node.state
        if node.is_final:
            self.record("close", {"state": node.name, "reason": self.run.last_event, "evidence": self._why()})
        elif isinstance(state, Claude):
            self._enter_claude(state)
        elif isinstance(state, (Approval, Human)):
            self._ask(state)
        elif isinstance(state, Code):
            self.record("code.begin", {"state": node.name})
        else:
            self._enter_tools()

    def _enter_claude(self, state: Claude) -> None:
        self._say_on_entry(state)
        if self.run.parked is None and self.run.wait_until is None:
            self._send(state)

    def _say_on_entry(self, state: Claude) -> None:
        run = self.run
        history = state.history or "main"
        standing = run.ledger(history).standing
        if state.prompt is not None:
            if standing in {Standing.EMPTY, Standing.SPOKEN}:
                self.record("say", {"history": history, "messages": [self._prompt(state)], "words": False})
        elif run.waiting and standing is not Standing.CALLS and self._may_speak(history):
            self.record("say", {"history": history, "messages": list(run.waiting), "words": True})

    def _may_speak(self, history: str) -> bool:
        """Words wait while a server tool of the newest reply is unresolved: only its result may follow (R16)."""
        run = self.run
        paused = run.last_event == "pause_turn" and run.ledger(history).standing is Standing.OWES
        mixed = any(b.get("type") == "tool_result" for b in run.ledger(history).tail) and self._has_open_server_tool()
        return not paused and not mixed

    def _has_open_server_tool(self) -> bool:
        message = self.run.ledger(self.run.home or "main").messages()[-2:-1]
        blocks = message[0]["content"] if message and isinstance(message[0]["content"], list) else []
        started = {b.get("id") for b in blocks if b.get("type") in {"server_tool_use", "mcp_tool_use"}}
        return bool(started - {b.get("tool_use_id") for b in blocks})

    def _prompt(self, state: Claude) -> dict[str, Any]:
        prompt = state.prompt
        if not callable(prompt):
            return {"role": "user", "content": as_blocks(prompt)}
        try:
            return {"role": "user", "content": as_blocks(prompt(self.facts(self.run.last_event)))}
        except Exception as error:
            name = getattr(prompt, "__name__", "prompt")
            raise DecisionError("prompt", name, self.graph.name, self.run.state, "entry", error) from error

    def _send(self, state: Claude) -> None:
        """About to send: what is stuck or over a limit moves on instead; else the request is recorded."""
        run = self.run
        if run.finding is not None and "stuck" not in run.free:
            self.move("stuck", run.finding.evidence())
            return
        over = limit_reached(run)
        if over is not None and "over_limit" not in run.free:
            self.move("over_limit", over)
            return
        history = state.history or "main"
        compact = history in run.compacting
        head = self._head(state, compact=compact)
        ledger = run.ledger(history)
        try:
            sealed = ledger if compact else ledger.seal()
            if not compact:
                sealed.check()
        except IllegalRequest as error:
            self.move("invalid_request_error", evidence_of(error))
            return
        digest = hashlib.sha256(head.digest + sealed.digest).digest()
        _, finding = run.detector.requested(digest)
        if finding is not None and "stuck" not in run.free:
            self.move("stuck", finding.evidence())
            return
        data: dict[str, Any] = {
            "n": run.requests + 1,
            "state": run.state,
            "history": history,
            "hash": digest.hex(),
            "attempt": run.attempts.get((run.state, "retry"), 0) + 1,
        }
        if compact:
            data["compact"] = True
        run.with_ledger(history, sealed)  # as folding does: a sealed ledger stays as it is, so nothing is encoded twice
        self.record("request", data)

    def _head(self, state: Claude, *, compact: bool) -> Head:
        return self.heads.head(
            self.run.state,
            self.run.systems,
            max_tokens=self._max_tokens(state),
            model=self._model(state),
            compact=compact,
        )

    def _enter_tools(self) -> None:
        run = self.run
        if any(self._asks(c) and c.decision is None for c in run.open.values()):
            self.move("approval_needed")
            return
        denied = [c for c in run.open.values() if c.decision and c.decision.verb == "deny" and c.end is None]
        if denied:
            ends = [[c.call.id, f"Denied by a person: {c.decision.reason or 'no reason given'}", True, 0.0]
                    for c in denied if c.decision]  # fmt: skip
            self.record("tool.end", {"ends": ends})
        fresh = [c.call.id for c in self.run.open.values() if not c.begun and c.end is None]
        if fresh:
            self.record("tool.begin", {"ids": fresh})
        self._results_if_done()

    def _results_if_done(self) -> None:
        if all(c.end is not None for c in self.run.open.values()):
            self.move("tool_results")

    def _asks(self, call: OpenCallState) -> bool:
        if call.end is not None:
            return False
        spec = self._spec(call.call.name)
        if spec is None or not spec.may_ask:
            return False
        try:
            return spec.asks(call.call.input)
        except Exception as error:
            name = getattr(spec.needs_approval, "__name__", spec.name)
            raise DecisionError("needs_approval", name, self.graph.name, self.run.state, "tool_use", error) from error

    def _spec(self, name: str) -> Any:
        """The tool of this name, of a Claude state on the calls' history."""
        return self.graph.tools.get((self.run.home or "", name))

    def _ask(self, state: Approval | Human) -> None:
        expires = {} if state.within is None else {"expires_at": self.at + state.within}
        self.record("asked", {"state": self.run.state, **expires})

    # --- events ------------------------------------------------------------------------------------------------------

    def take_in(self, event: Event) -> tuple[Action, ...]:
        """Record the event, move, and say what is to be done."""
        if self.run.closed is not None:
            state = self.run.closed["state"]
            msg = f"'{self.graph.name}' ended in '{state}' and takes no {type(event).__name__}: pass after= to go on"
            raise ConversationEnded(msg)
        before = self.run.open
        _HANDLERS[type(event)](self, event)
        if isinstance(event, ToolsEnded) and self.run.open and self.run.state == self.run.state and before:
            running = any(c.begun and c.end is None for c in self.run.open.values())
            if running:
                return ()  # the others still run; they were asked for already
        return self.pending()

    def started(self, event: Started) -> None:
        data = {
            "workflow": self.graph.name,
            "run_id": event.run_id,
            "messages": list(event.messages),
            "tags": dict(event.tags),
            "systems": dict(event.systems),
            "heads": dict(event.heads),
            "carried": dict(event.carried),
            "limits": dict(event.limits),
        }
        self.record("open", data)
        self.enter()

    def replied(self, event: Replied) -> None:
        run = self.run
        node = self.graph.by_name[run.state]
        if run.request is None or not isinstance(node.state, Claude):
            msg = f"'{self.graph.name}' waits for no reply in state '{run.state}'"
            raise RunError(msg)
        reading = read(event.message)
        name, output, problem = reading.event, None, reading.problem
        if node.state.output is not None and name in {"end_turn", "stop_sequence"}:
            output, problem = _parse_output(node.state, reading.reply.text)
            name = "invalid_output" if problem else name
        try:
            self._reply(event, reading, name, output, problem)
        except IllegalRequest as error:  # what the API sent cannot be sent back: it is not from the API
            self.run, self.records = self.origin.copy(), []
            self._reply(event, reading, "malformed", None, evidence_of(error)["detail"])

    def _reply(self, event: Replied, reading: Reading, name: str, output: Any, problem: str | None) -> None:
        data: dict[str, Any] = {
            "event": name,
            "message": {k: v for k, v in event.message.items() if k != "content"},
            "content": event.content_json,
            "request_id": event.request_id,
            "seconds": event.seconds,
            "price": event.price,
        }
        if output is not None:
            data["output"] = output
        reading = reading if reading.event == name else evolve(reading, event=name)
        self.record("reply", data, (event.message, reading))
        finding = self.run.finding
        if finding is not None:  # D1a: a repeated id; nothing is appended, nothing is run
            self.move("stuck", finding.evidence(), event.request_id)
            return
        self.move(name, _reply_evidence(name, event.message, problem), event.request_id)

    def failed(self, event: Failed) -> None:
        if self.run.request is None:
            msg = f"'{self.graph.name}' waits for no reply in state '{self.run.state}'"
            raise RunError(msg)
        data = {
            "event": event.event,
            "message": event.message,
            "status": event.status,
            "type": event.type,
            "code": event.code,
            "retry_after": event.retry_after,
            "request_id": event.request_id,
            "draw": event.draw,
            "seconds": event.seconds,
        }
        self.record("error", data)
        evidence = {
            key: data[key]
            for key in ("message", "status", "type", "code", "retry_after", "request_id")
            if data[key] is not None
        }
        self.move(event.event, evidence, event.request_id)

    def tools_ended(self, event: ToolsEnded) -> None:
        wrong = [e.call_id for e in event.ends if not self._is_running(e.call_id)]
        if wrong:
            msg = f"no running call has the id {', '.join(wrong)}; running: {', '.join(self.run.open) or 'none'}"
            raise RunError(msg)
        self.record("tool.end", {"ends": [[e.call_id, e.content, e.is_error, e.seconds] for e in event.ends]})
        self._results_if_done()

    def _is_running(self, call_id: str) -> bool:
        call = self.run.open.get(call_id)
        return call is not None and call.begun and call.end is None

    def answered(self, event: Answered) -> None:
        run = self.run
        if run.asked is None:
            msg = f"'{self.graph.name}' asks nobody in state '{run.state}': there is nothing to answer"
            raise RunError(msg)
        expires = run.asked.get("expires_at")
        if expires is not None and event.at > expires:
            self.move("expired", {"expires_at": expires})
        elif self.graph.by_name[run.state].kind == "Human":
            if not event.said:
                msg = "a Human state is answered with words: text or content blocks"
                raise RunError(msg)
            self.record("answer", {"said": event.said})
            self.move("said")
        else:
            self._decided(event)

    def _decided(self, event: Answered) -> None:
        asked = self.undecided()
        known = {c.call.id for c in asked}
        if not event.decisions or not set(event.decisions) <= known:
            msg = f"an Approval is answered with a decision per call id; undecided: {', '.join(sorted(known))}"
            raise RunError(msg)
        data = {i: [d.verb, d.input, d.reason] for i, d in event.decisions.items()}
        self.record("answer", {"decisions": data})
        if self.undecided():
            self._ask(self.graph.by_name[self.run.state].state)  # type: ignore[arg-type] # _decided is for Approval
            return
        verbs = {c.decision.verb for c in self.run.open.values() if c.decision}
        self.move("approved" if verbs - {"deny"} else "denied")

    def undecided(self) -> list[OpenCallState]:
        """The calls a person still has to decide on: those that ask; where none asks, all."""
        waiting = [c for c in self.run.open.values() if c.end is None and not c.begun]
        asking = [c for c in waiting if c.unknown or self._asks(c)]
        return [c for c in (asking or waiting) if c.decision is None]

    def code_ended(self, event: CodeEnded) -> None:
        state = self.graph.by_name[self.run.state].state
        if not isinstance(state, Code) or self.run.code is None:
            msg = f"'{self.graph.name}' runs no function in state '{self.run.state}'"
            raise RunError(msg)
        error = event.error
        if error is None and event.outcome not in state.outcomes:
            error = f"the function gave {event.outcome!r}; its outcomes are {', '.join(state.outcomes)}"
        data = {"outcome": event.outcome, "value": event.value, "error": error, "seconds": event.seconds}
        self.record("code.end", data)
        self.move("raised", {"message": error}) if error is not None else self.move(event.outcome or "")

    def time_passed(self, event: TimePassed) -> None:
        run = self.run
        if run.wait_until is not None and event.at >= run.wait_until:
            self.record("wake", {})
            self._send(self.graph.by_name[run.state].state)  # type: ignore[arg-type] # only Claude states wait
        elif run.asked is not None and event.at >= run.asked.get("expires_at", float("inf")):
            self.move("expired", {"expires_at": run.asked["expires_at"]})

    def cancelled(self, event: Cancelled) -> None:
        self.move("cancel", {"message": event.reason})

    def parked(self, event: Parked) -> None:
        self.record("park", {"reason": event.reason})

    def resumed(self, event: Resumed) -> None:
        del event
        run = self.run
        self.record("resume", {})
        node = self.graph.by_name[run.state]
        if isinstance(node.state, Claude):
            self._resume_claude(node.state)
        elif node.kind == "Tools":
            self._resume_tools()
        elif run.code is not None:
            self.move("raised", {"message": "the process stopped while the function ran; its outcome is unknown"})

    def _resume_claude(self, state: Claude) -> None:
        request = self.run.request
        if request is None:
            if self.run.wait_until is None:
                self._enter_claude(state)
            return
        if request["attempt"] >= MAX_RESENDS:
            why = f"the process stopped {MAX_RESENDS} times between this request and its reply"
            self.record("error", {**_NO_ERROR, "event": "connection_error", "message": why})
            self.move("connection_error", {"message": why})
            return
        self.record("request", {**request, "attempt": request["attempt"] + 1})  # B2: the same bytes again

    def _resume_tools(self) -> None:
        lost = [c for c in self.run.open.values() if c.begun and c.end is None]
        if any(not self._may_repeat(c) for c in lost):
            self.move("outcome_unknown", {"ids": [c.call.id for c in lost]})
            return
        if not lost:
            self._enter_tools()

    def _may_repeat(self, call: OpenCallState) -> bool:
        spec = self._spec(call.call.name)
        return spec is None or spec.idempotent

    # --- what is to be done -------------------------------------------------------------------------------------------

    def pending(self) -> tuple[Action, ...]:
        """What the outside world has to do; it follows from the state alone."""
        run = self.run
        state = self.graph.by_name[run.state].state
        if run.closed is not None or run.parked is not None:
            return (Finish(_verdict(run), parked=run.closed is None),)
        if isinstance(state, Claude):
            return self._pending_claude(state)
        if run.asked is not None:
            return (AskHuman(self.question()),)
        if isinstance(state, Code):
            return (RunCode(run.state, state.fn, self.facts(run.last_event)),) if run.code is not None else ()
        running = [c for c in run.open.values() if c.begun and c.end is None]
        return (RunTools(tuple(self._open_call(c) for c in running)),) if running else ()

    def _pending_claude(self, state: Claude) -> tuple[Action, ...]:
        run = self.run
        if run.wait_until is not None:
            seconds = min(run.wait_seconds, max(0.0, run.wait_until - self.at))
            return (Wait(run.wait_until, seconds, run.last_event),)
        if run.request is None:
            return ()
        head = self._head(state, compact=bool(run.request.get("compact")))
        encoded = run.ledger(run.request["history"]).encoded()
        return (
            SendRequest(
                run.state, run.request["n"], run.request["attempt"], head.params, head.encoded, encoded, head.betas
            ),
        )

    def question(self) -> Question:
        """What a person is asked."""
        run = self.run
        prompt = run.reading.reply.text if run.reading else ""
        expires = (run.asked or {}).get("expires_at")
        if self.graph.by_name[run.state].kind == "Human":
            return Question("words", (), prompt, "", run.state, expires)
        calls = tuple(self._open_call(c) for c in self.undecided())
        unknown = [c.call.name for c in self.undecided() if c.unknown]
        why = f"the outcome of {', '.join(unknown)} is unknown after a restart" if unknown else "needs_approval"
        return Question("approval", calls, prompt, why, run.state, expires)

    def _open_call(self, call: OpenCallState) -> OpenCall:
        edited = call.decision is not None and call.decision.verb == "edit"
        return OpenCall(call.call.id, call.call.name, call.input, self._spec(call.call.name), edited)

    def _why(self) -> dict[str, Any]:
        spec = ALPHABET.get(self.run.last_event)
        told = {"why": spec.why, "todo": spec.todo} if spec is not None else {}
        return {**told, **self.run.evidence}


_NO_FACTS = Facts("", "")
_NO_ERROR = dict.fromkeys(("status", "type", "code", "retry_after", "request_id")) | {"draw": 0.5, "seconds": 0.0}

_HANDLERS: Mapping[type, Any] = {
    Started: _Step.started,
    Replied: _Step.replied,
    Failed: _Step.failed,
    ToolsEnded: _Step.tools_ended,
    Answered: _Step.answered,
    CodeEnded: _Step.code_ended,
    TimePassed: _Step.time_passed,
    Cancelled: _Step.cancelled,
    Parked: _Step.parked,
    Resumed: _Step.resumed,
}


def _parse_output(state: Claude, text: str) -> tuple[Any, str | None]:
    try:
        value = json.loads(text)
    except ValueError as error:
        return None, f"the text is not JSON: {error}"
    return value, state.output.problem(value) if state.output is not None else None


def _with_output(reply: Any, output: Any) -> Any:
    if reply is None or output is None:
        return reply
    return evolve(reply, output=output)


def _reply_evidence(event: str, message: Mapping[str, Any], problem: str | None) -> dict[str, Any] | None:
    """What a verdict should show of a reply that was no ordinary turn."""
    if ALPHABET[event].group is Group.TURN:
        return None
    found: dict[str, Any] = {}
    if problem:
        found["detail"] = problem
    details = message.get("stop_details")
    if event == "refusal" and isinstance(details, dict):
        found.update({k: details.get(k) for k in ("category", "explanation")})
    if event == "unknown_stop":
        found["stop_reason"] = message.get("stop_reason")
    return found


def _verdict(run: RunState) -> Verdict:
    end = run.closed or run.parked or {"reason": "running"}
    ids, node = [], run.request_ids
    while node is not None:
        newest, node = node
        ids.append(newest)
    evidence = dict(end.get("evidence") or run.evidence)
    if end.get("until"):
        evidence["retry_at"] = end["until"]
    return Verdict(
        run.state,
        end["reason"],
        evidence,
        run.usage,
        run.price,
        run.elapsed,
        tuple(run.open),
        run.closed is None,
        tuple(reversed(ids)),
    )
