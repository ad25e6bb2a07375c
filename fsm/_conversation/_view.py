"""What follows from the state of a run alone: facts for guards, what is to be done, what a person is asked.

Nothing here changes a run. A run that was folded from its journal is asked the same questions as the one that wrote
it.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from fsm._actions import Action, AskHuman, Finish, OpenCall, Question, RunCode, RunTools, SendRequest, Wait
from fsm._errors import DecisionError
from fsm._facts import Call, Facts, Reply
from fsm._graph import Graph
from fsm._ledger import Ledger
from fsm._reading import invalid_json
from fsm._records import Verdict
from fsm._states import Claude, Code

from ._evidence import told
from ._fold import cap_of, closes, family, results_of
from ._heads import COMPACT_BETA, Head, Heads
from ._run_state import OpenCallState, RunState


class View:
    """A run, read at a time."""

    def __init__(self, graph: Graph, heads: Heads, run: RunState, at: float) -> None:
        self.graph, self.heads, self.run, self.at = graph, heads, run, at

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
            results_of(run, event) if run.open and closes(event, state.kind) else run.results,
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
            self._cap(self._model(state)) if isinstance(state, Claude) else None,
            run.tags,
            run.continued,
            run.reading is not None and run.reading.cut_in_call,
            {model: len(digests) for model, digests in run.refusals.items()},
            run.request_ids[0] if run.request_ids else None,
        )

    def _max_tokens(self, state: Claude) -> int:
        asked = self.run.tokens.get(self.run.state, state.max_tokens)
        if self.run.state not in self.run.models:
            return asked
        # R46: it was declared for another model, or grown up to the cap of one; this one may have a lower cap.
        return min(asked, self._cap(self._model(state)) or asked)

    def _model(self, state: Claude) -> str:
        return self.run.models.get(self.run.state, state.model)

    def _cap(self, model: str) -> int | None:
        return self.run.caps.get(model) or cap_of(model)

    def head(self, state: Claude, ledger: Ledger, *, compact: bool, container: bool = False) -> Head:
        """The head of a request with the sealed messages of this ledger."""
        return self.heads.head(
            self.run.state,
            self.run.systems,
            max_tokens=self._max_tokens(state),
            model=self._model(state),
            compact=compact,
            marks=ledger.marks,
            container=self.run.containers[state.history or "main"].id if container else None,
        )

    def needs_container(self, state: Claude, ledger: Ledger) -> bool:
        """Whether the next request names the container that code of this history runs in (S6.8, S14).

        It does while the container lives, and while code in it waits for results even if it seems over, since without
        it those are refused (R18). R53: only with the code execution tool, and not where the state names one itself.
        """
        known = self.run.containers.get(state.history or "main")
        if known is None or not self.heads.takes_container(self.run.state):
            return False
        is_waiting = bool(ledger.legality.coded_calls)
        return is_waiting or known.expires_at is None or self.at < known.expires_at

    def asks(self, call: OpenCallState) -> bool:
        if call.end is not None:
            return False
        spec = self.spec(call.call)
        if spec is None or not spec.may_ask:
            return False
        if invalid_json(call.call.input) is not None:  # S6.5: answered, so nobody is asked
            return False
        if not self.heads.fits(self.run.home or "", call.call.name, call.call.input):
            return False
        try:
            return bool(spec.asks(call.call.input))
        except Exception as error:
            name = getattr(spec.needs_approval, "__name__", spec.name)
            raise DecisionError(
                "needs_approval", name, workflow=self.graph.name, state=self.run.state, event="tool_use", cause=error
            ) from error

    def spec(self, call: Call) -> Any:
        """The tool that is called, of a Claude state on the calls' history.

        S6.9: a toolset's members may be named like other tools, so a call of one is told by its `toolset_name`.
        """
        spec = self.graph.tools.get((self.run.home or "", call.toolset or call.name))
        return spec if spec is not None and (spec.form == "toolset") == (call.toolset is not None) else None

    def undecided(self) -> list[OpenCallState]:
        """The calls a person still has to decide on: those that ask; where none asks, all."""
        waiting = [c for c in self.run.open.values() if c.end is None and not c.begun]
        asking = [c for c in waiting if c.unknown or self.asks(c)]
        return [c for c in (asking or waiting) if c.decision is None]

    def pending(self) -> tuple[Action, ...]:
        """What the outside world has to do; it follows from the state alone."""
        run = self.run
        state = self.graph.by_name[run.state].state
        if run.closed is not None or run.parked is not None:
            return (Finish(verdict_of(run), parked=run.closed is None),)
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
        ledger = run.ledger(run.request["history"])
        covers = run.request.get("compact")
        if covers:
            ledger = ledger.first(ledger.count if covers is True else covers)
        head = self.head(state, ledger, compact=bool(covers), container=bool(run.request.get("container")))
        history = ledger.sealed
        betas = head.betas or ((COMPACT_BETA,) if ledger.summary else ())  # S10.2: wherever such a block is sent
        return (
            SendRequest(run.state, run.request["n"], run.request["attempt"], head.params, head.encoded, history, betas),
        )

    def question(self) -> Question:
        """What a person is asked."""
        run = self.run
        prompt = run.reading.reply.text if run.reading else ""
        asked = run.asked or {}
        expires, number = asked.get("expires_at"), asked.get("number")
        if self.graph.by_name[run.state].kind == "Human":
            return Question("words", (), prompt, "", run.state, expires, number)
        undecided = self.undecided()
        calls = tuple(self._open_call(c) for c in undecided)
        unknown = [c.call.name for c in undecided if c.unknown]
        why = f"the outcome of {', '.join(unknown)} is unknown after a restart" if unknown else "needs_approval"
        return Question("approval", calls, prompt, why, run.state, expires, number)

    def _open_call(self, call: OpenCallState) -> OpenCall:
        edited = call.decision is not None and call.decision.verb == "edit"
        made = call.call
        return OpenCall(made.id, made.name, call.input, self.spec(made), edited, made.toolset, made.is_programmatic)


def _with_output(reply: Reply | None, output: Any) -> Reply | None:
    if reply is None or output is None:
        return reply
    return evolve(reply, output=output)


def verdict_of(run: RunState, *, names_requests: bool = True) -> Verdict:
    end = run.closed or run.parked or {"reason": "running"}
    ids, node = [], run.request_ids if names_requests else None
    while node is not None:
        newest, node = node
        ids.append(newest)
    parked_by_api = run.closed is None and end["reason"] == "waiting_api"
    evidence = told(run) if parked_by_api else dict(end.get("evidence") or run.evidence)
    if end.get("until"):
        evidence["retry_at"] = end["until"]
    return Verdict(
        run.state,
        end["reason"],
        evidence,
        run.usage,
        run.price,
        run.elapsed,
        (*(call_id for _, calls in run.shelved for call_id in calls), *run.open),
        run.closed is None,
        tuple(reversed(ids)),
    )
