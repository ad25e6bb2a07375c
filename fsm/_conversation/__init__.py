"""One run of a workflow, as a pure step function: `feed(event) -> (records, actions)`, and `fold(records)`.

How an event is processed:

 1. Everything happens on a copy of the run's state, swapped in at the end. An event that the state does not accept, a
    guard, an effect or a prompt that raises: the copy is thrown away and nothing has changed.
 2. The event is recorded as the fact it is (a reply, an error, ends of tools, an answer).
 3. It is given its name in the alphabet, and the machine chooses the row. The move is recorded with the row, the name
    of the guard that let it pass and the values of its effects.
 4. The entered state says what is next, which may be another move: a limit that is reached, a call that needs a person,
    a final state. This goes on until the outside world must act.
 5. What the outside world must do follows from the state alone (`_view`), so a run that was folded from its journal
    asks for the same as the run that wrote it.

Deliberately not done here: reading a clock, drawing a random number, any I/O, calling a tool or a `Code` function.
The driver does these and feeds what came of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from fsm._actions import Action, Question
from fsm._alphabet import ALPHABET, Group, Keep
from fsm._compile import Plan
from fsm._effects import as_blocks
from fsm._encoded import encode, plain
from fsm._errors import ConversationEnded, DeclarationError, IllegalRequest, RunError
from fsm._events import (
    Answered,
    Cancelled,
    CodeEnded,
    Event,
    Failed,
    Migrated,
    Parked,
    Replied,
    Resumed,
    Started,
    TimePassed,
    ToolsEnded,
)
from fsm._facts import Result
from fsm._ledger import Ledger
from fsm._legality import Legality
from fsm._params import unsendable
from fsm._reading import Reading, read, unechoable
from fsm._records import Record, Verdict
from fsm._states import Claude, Code

from ._evidence import MAX_RECOVERIES, cut_evidence, evidence_of, recovered_too_often, reply_evidence
from ._fold import apply, result_block
from ._heads import Heads
from ._outline import outlined
from ._replies import recorded
from ._run_state import OpenCallState, RunState
from ._step import Step
from ._summaries import cap_learned, failed_summary
from ._view import View, verdict_of

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
        step = _Intake(self.plan, self.heads, self._run, event.at)
        actions = step.take_in(event)
        self._run = step.run
        return tuple(step.records), actions

    def fold(self, records: Iterable[Record]) -> None:
        """Add records of this run; no user code is called."""
        run = self._run.copy()
        for record in records:
            apply(run, record, self.plan.graph)
        self._run = run

    def as_it_stands(self) -> Conversation:
        """A conversation that stays as this one is now: what is fed to either is not in the other."""
        same = Conversation(self.plan, self.heads)
        same._run = self._run  # a run is replaced, never changed
        return same

    def adopt(self, other: Conversation) -> None:
        """Stand where another conversation stands, which is not changed by what happens here."""
        self._run = other.run

    def stand_by(self, outline: Iterable[Record], state: str, *, parked: str | None) -> None:
        """Stand where records without their bodies say: enough to be cancelled, and for nothing else."""
        self._run = outlined(outline, state, parked)

    def pending(self) -> tuple[Action, ...]:
        """What the outside world has to do now."""
        return self._view().pending()

    def question(self) -> Question | None:
        """What a person is asked, parked or not; None where nobody is."""
        return None if self._run.asked is None else self._view().question()

    def verdict(self) -> Verdict:
        """How it stands: ended, parked or still running."""
        return verdict_of(self._run)

    def _view(self) -> View:
        return View(self.plan.graph, self.heads, self._run, self._run.at)

    def carry(self) -> dict[str, tuple[str, ...]]:
        """The histories for a new run (`after=`): open calls answered, a paused tail cut."""
        carried = {}
        for history, ledger in self._run.ledgers.items():
            try:
                sealed = ledger.seal()
            except IllegalRequest:  # what waited to be said is why the run ended
                sealed = ledger
            sealed = sealed.without_refused_turn()
            encoded = [raw.decode() for raw in sealed.encoded()]
            if not sealed.may_speak:  # S7.2, R16: nothing could be said after it
                _cut_open_turns(encoded)
            elif sealed.legality.open_calls:
                families = {i: c.call.toolset for calls in self._all_open() for i, c in calls.items()}
                blocks = [
                    result_block(Result(i, "", "Not run: the run ended.", is_error=True, toolset=families.get(i)))
                    for i in sealed.legality.open_calls
                ]
                encoded.append(encode({"role": "user", "content": blocks}).decode())
            carried[history] = tuple(encoded)
        return carried

    def _all_open(self) -> list[Mapping[str, OpenCallState]]:
        return [self._run.open, *(calls for _, calls in self._run.shelved)]


def _cut_open_turns(encoded: list[str]) -> None:
    """Drop the newest turn of the model, paused replies before it included, and what follows it.

    Where code on the server called tools one after another, it runs since an earlier turn: all of them go (R16, R18).
    """
    messages = [json.loads(raw) for raw in encoded]
    states = [Legality.start()]
    for message in messages:
        states.append(states[-1].step(message)[0])
    is_first = True
    while messages and (is_first or states[len(messages)].open_server_tools):
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        is_first = False
    del encoded[len(messages) :]


class _Intake(Step):
    """What each kind of event means."""

    def take_in(self, event: Event) -> tuple[Action, ...]:
        """Record the event, move, and say what is to be done."""
        if self.run.closed is not None:
            state = self.run.closed["state"]
            msg = f"'{self.graph.name}' ended in '{state}' and takes no {type(event).__name__}: pass after= to go on"
            raise ConversationEnded(msg)
        if self.run.parked is not None and not isinstance(event, _WHILE_PARKED):
            msg = f"'{self.graph.name}' is parked in '{self.run.state}' and takes no {type(event).__name__}: resume it"
            raise RunError(msg)
        _HANDLERS[type(event)](self, event)
        if isinstance(event, Migrated):
            return ()  # what is to be done is as it was, parked or not
        if isinstance(event, ToolsEnded) and self._only_waits():
            return ()  # the others still run; they were asked for already
        return self.pending()

    def _only_waits(self) -> bool:
        """Whether calls are running, and none of them began just now."""
        is_running = any(c.begun and c.end is None for c in self.run.open.values())
        return is_running and not any(record.kind == "tool.begin" for record in self.records)

    def started(self, event: Started) -> None:
        if self.run.seq:
            msg = f"run '{self.run.run_id}' has begun already: a run is started once"
            raise RunError(msg)
        given = {
            "workflow": self.graph.name,
            "state": self.graph.initial,
            "run_id": event.run_id,
            "messages": list(event.messages),
            "tags": dict(event.tags),
            "systems": dict(event.systems),
            "heads": dict(event.heads),
            "carried": dict(event.carried),
            "limits": dict(event.limits),
        }
        if event.fingerprint:
            given["fingerprint"] = event.fingerprint
        given.update(_traced(event))
        try:
            data = plain(given)
        except (TypeError, ValueError) as error:
            msg = f"the input and the tags of a run are plain JSON that can be sent (R26): {error}"
            raise RunError(msg) from error
        _refuse_unlawful(data["messages"], is_continued=bool(event.carried))
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
        if ALPHABET[name].keep is not Keep.NEVER and (problem := unechoable(event.content_json)):
            name = "malformed"
        if run.request.get("compact") and ALPHABET[name].group is not Group.ANOMALY:
            # S10.2: whatever stopped it, it is no summary, the old history is kept and the run goes on.
            failed = "" if name == "compaction" else f"no summary came, but a reply that stopped with {name}"
            name, problem = "compaction", failed or problem
        elif node.state.output is not None and name in {"end_turn", "stop_sequence"}:
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
            "message": recorded(event.message),
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
        is_turn = ALPHABET[name].group is Group.TURN
        evidence = None if is_turn else reply_evidence(self.facts(name), reading, event, problem)
        self.move(name, evidence, event.request_id)

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
        if event.should_retry is not None:
            data["should_retry"] = event.should_retry
        evidence = {
            key: data[key]
            for key in ("message", "status", "type", "code", "retry_after", "request_id")
            if data[key] is not None
        }
        moved = event.event
        state = self.graph.by_name[self.run.state].state
        if failed_summary(self.run, event):
            moved, data["no_summary"] = "compaction", True
            evidence = {"kind": "compaction", "rule": "E28", **evidence}
        elif isinstance(state, Claude) and (cap := cap_learned(self.run, event, self._ungrown(state))) is not None:
            moved, data["cap"] = "max_tokens", cap
        self.record("error", data)
        if moved == "max_tokens":
            reading = self.run.reading
            evidence = {**(cut_evidence(self.facts(moved), reading) if reading else {}), **evidence}
        self.move(moved, evidence, event.request_id)

    def _ungrown(self, state: Claude) -> int:
        """The most `max_tokens` that a reply of this state came with."""
        grown = self.run.dropped.grown if self.run.dropped is not None else None
        return grown[1] if grown is not None and grown[0] == self.run.state and grown[1] else state.max_tokens

    def tools_ended(self, event: ToolsEnded) -> None:
        wrong = [e.call_id for e in event.ends if not self._is_running(e.call_id)]
        if wrong:
            msg = f"no running call has the id {', '.join(wrong)}; running: {', '.join(self.run.open) or 'none'}"
            raise RunError(msg)
        self.record("tool.end", {"ends": [[e.call_id, e.content, e.is_error, e.seconds] for e in event.ends]})
        self.results_if_done()

    def _is_running(self, call_id: str) -> bool:
        call = self.run.open.get(call_id)
        return call is not None and call.begun and call.end is None

    def answered(self, event: Answered) -> None:
        run = self.run
        if run.asked is None:
            msg = f"'{self.graph.name}' asks nobody in state '{run.state}': there is nothing to answer"
            raise RunError(msg)
        if run.is_expired(event.at):
            self._unpark()
            why = {"expires_at": run.asked["expires_at"], "detail": "the answer came too late and did not count"}
            self.move("expired", why)
        elif self.graph.by_name[run.state].kind == "Human":
            try:
                blocks = as_blocks(event.said)
            except DeclarationError as error:
                msg = f"a Human state is answered with words: text or content blocks ({error})"
                raise RunError(msg) from error
            said = event.said if isinstance(event.said, str) else blocks
            self.record("answer", {"said": said, **_traced(event)})
            self.move("said")
        else:
            self._decided(event)

    def _decided(self, event: Answered) -> None:
        asked = self.undecided()
        known = {c.call.id for c in asked}
        if not event.decisions or not set(event.decisions) <= known:
            decided = {i for i in event.decisions if (call := self.run.open.get(i)) is not None and call.decision}
            unknown = set(event.decisions) - known - decided
            found = [("undecided", known), ("decided already", decided), ("no open call", unknown)]
            listed = "; ".join(f"{what}: {', '.join(sorted(ids))}" for what, ids in found if ids)
            msg = f"an Approval is answered with a decision for each call id that is undecided; {listed}"
            raise RunError(msg)
        try:
            data = plain({i: [d.verb, d.input, d.reason] for i, d in event.decisions.items()})
        except (TypeError, ValueError) as error:
            msg = f"an edited input and a reason are plain JSON (R26): {error}"
            raise RunError(msg) from error
        self.record("answer", {"decisions": data, **_traced(event)})
        if self.undecided():
            self.ask(self.graph.by_name[self.run.state].state)  # type: ignore[arg-type] # _decided is for Approval
            return
        verbs = {c.decision.verb for c in self.run.open.values() if c.decision}
        self.move("approved" if verbs - {"deny"} else "denied")

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
        state = self.graph.by_name[run.state].state
        if isinstance(state, Claude) and run.wait_until is not None and event.at >= run.wait_until:
            self.record("wake", {})
            self.send(state)
        elif run.asked is not None and run.is_expired(event.at):
            self.move("expired", {"expires_at": run.asked["expires_at"]})

    def cancelled(self, event: Cancelled) -> None:
        self._unpark()
        self.move("cancel", {"message": event.reason})

    def _unpark(self) -> None:
        if self.run.parked is not None:
            self.record("resume", {})

    def parked(self, event: Parked) -> None:
        if self.run.parked is not None and self.run.parked["reason"] == event.reason:
            return  # it stands as it stood
        untouched = {"untouched": list(event.untouched)} if event.untouched else {}
        self.record("park", {"reason": event.reason, **untouched})

    def migrated(self, event: Migrated) -> None:
        data = {"from": self.run.fingerprint, "to": event.fingerprint, "renamed": dict(event.renamed)}
        self.record("migrate", {**data, "heads": {name: dict(head) for name, head in event.heads.items()}})

    def resumed(self, event: Resumed) -> None:
        run = self.run
        self.record("resume", _traced(event))
        node = self.graph.by_name[run.state]
        if isinstance(node.state, Claude):
            self._resume_claude(node.state)
        elif node.kind == "Tools":
            self._resume_tools()
        elif node.kind == "Code" and run.code is None:
            self.enter()
        elif isinstance(node.state, Code) and not (node.state.idempotent and run.recoveries < MAX_RECOVERIES):
            # B3, as for tools: it may or may not have taken effect, so it is not entered again.
            self.move("raised", {"message": "the process stopped while the function ran; its outcome is unknown"})

    def _resume_claude(self, state: Claude) -> None:
        stuck = recovered_too_often(self.run)
        if stuck is not None:
            self.move("stuck", stuck)
            return
        request = self.run.request
        if request is None:
            if self.run.wait_until is None:
                self.enter_claude(state)
            return
        resent = request.get("resent", 0)  # apart from `attempt`, which counts the retries of the API's errors too
        if resent >= MAX_RESENDS:
            why = f"the process stopped {MAX_RESENDS} times between this request and its reply"
            self.record("error", {**_NO_ERROR, "event": "connection_error", "message": why})
            self.move("connection_error", {"message": why})
            return
        again = {"attempt": request["attempt"] + 1, "resent": resent + 1}
        self.record("request", {**request, **again})  # B2: the same bytes again

    def _resume_tools(self) -> None:
        lost = [c for c in self.run.open.values() if c.begun and c.end is None]
        if any(not self._may_repeat(c) for c in lost):
            self.move("outcome_unknown", {"ids": [c.call.id for c in lost if not self._may_repeat(c)]})
            return
        if not lost:
            self.enter_tools()

    def _may_repeat(self, call: OpenCallState) -> bool:
        spec = self.spec(call.call)
        return spec is None or (spec.idempotent and self.run.recoveries < MAX_RECOVERIES)


def _traced(event: Started | Resumed | Answered) -> dict[str, str]:
    return {"trace": event.trace} if event.trace else {}


_NO_ERROR = dict.fromkeys(("status", "type", "code", "retry_after", "request_id")) | {"draw": 0.5, "seconds": 0.0}

_WHILE_PARKED = (Resumed, Answered, Cancelled, Parked, Migrated)
_HANDLERS: Mapping[type, Any] = {
    Started: _Intake.started,
    Replied: _Intake.replied,
    Failed: _Intake.failed,
    ToolsEnded: _Intake.tools_ended,
    Answered: _Intake.answered,
    CodeEnded: _Intake.code_ended,
    TimePassed: _Intake.time_passed,
    Cancelled: _Intake.cancelled,
    Parked: _Intake.parked,
    Resumed: _Intake.resumed,
    Migrated: _Intake.migrated,
}


def _refuse_unlawful(messages: Iterable[Mapping[str, Any]], *, is_continued: bool) -> None:
    """An input that could never be sent is refused before it is recorded.

    Raises:
        IllegalRequest: with every violation.
    """
    ledger = Ledger(legality=Legality.start(continued=is_continued))
    for message in messages:
        ledger = ledger.append_message(message)
    ledger.seal()


def _no_json(name: str) -> Any:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


def _parse_output(state: Claude, text: str) -> tuple[Any, str | None]:
    try:
        value = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        return None, f"the text is not JSON: {error}"
    why = unsendable(value)
    if why is not None:  # it could not be recorded
        return None, f"the text is not JSON: {why}"
    problem = state.output.problem(value) if state.output is not None else None
    return (None, problem) if problem else (value, None)
