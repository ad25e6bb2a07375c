"""`Course`: where one conversation of a watched loop stands: state of the machine, detector, counters. A value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from fsm._alphabet import ALPHABET, Group
from fsm._compile import Plan
from fsm._conversation._fold import cap_of, family
from fsm._errors import ConversationEnded, DecisionError, IllegalMove
from fsm._events import Failed
from fsm._facts import Call, Facts, Failure, Reply, Result, Usage
from fsm._graph import Edge
from fsm._legality import Violation
from fsm._reading import Reading
from fsm._stuck import Detector, Finding

from ._prints import blocks_of, calls_of, results_of, tells

__all__ = ["Course", "of_violation"]

_SUCCESS = frozenset({"end_turn", "stop_sequence", "tool_use"})
_NEVER_RUN = {Group.CUT: "S5.2", Group.REFUSAL: "S8.5"}
_LOOPS = frozenset({"repeated_id", "lost_result", "unchanged_request", "no_progress"})
_KINDS = {"R10": "lost_result", "R14": "repeated_id"}
_HOPS = 4  # states that one request can pass: an approval, its tools, a person who speaks


@frozen
class Course:
    """What is known of a conversation up to one request or one reply of it."""

    plan: Plan
    state: str
    home: str  # the newest Claude state
    detector: Detector = field(factory=Detector.start)
    moves: int = 0
    turns: int = 0
    tool_calls: int = 0
    usage: Usage = field(factory=Usage)
    reply: Reply | None = None
    failure: Failure | None = None
    results: tuple[Result, ...] = ()
    said: Any = None
    max_tokens: int = 0
    attempts: Mapping[tuple[str, str], int] = field(factory=dict)
    rounds: Mapping[tuple[str, str, int], int] = field(factory=dict)
    cut: Mapping[str, tuple[Call, str]] = field(factory=dict)  # calls that must not be run, with the rule
    edges: tuple[Edge, ...] = ()  # taken in the newest step

    @classmethod
    def start(cls, plan: Plan) -> Course:
        """A conversation that has not begun."""
        return cls(plan, plan.graph.initial, plan.graph.initial)

    # ── a request ───────────────────────────────────────────────────────────────────────────────────────────────────

    def told(self, messages: Sequence[Any], *, echoed: bool) -> tuple[Course, Finding | None]:
        """Messages that are new in a request; `echoed` says that the first one echoes the reply that is known.

        What happened before the last reply among them is history that others wrote: it is learnt, not judged.
        """
        course, found = evolve(self, results=(), said=None), None
        for index, message in enumerate(messages):
            if not isinstance(message, Mapping):
                continue
            if message.get("role") == "assistant":
                if index or not echoed:
                    course, found = course.recalled(message.get("content")), None
            else:
                course, hit = course.heard(message)
                found = found or hit
        return course, found

    def recalled(self, content: Any) -> Course:
        """A reply of the history that we did not see come."""
        calls = calls_of(content)
        text = "".join(str(b.get("text")) for b in blocks_of(content) if b.get("type") == "text")
        reply = Reply("", "", "tool_use" if calls else "end_turn", text, calls)
        detector, _ = self.detector.discarded().replied(reply)
        return evolve(self, detector=detector, reply=reply, cut={}, results=(), said=None, turns=self.turns + 1)

    def heard(self, message: Mapping[str, Any]) -> tuple[Course, Finding | None]:
        """A message that is no reply: tool results, words, or both."""
        blocks = results_of(message.get("content"))
        said = message.get("content") if tells(message) else self.said
        names = {call.id: call.name for call in self.reply.calls} if self.reply else {}
        results = tuple(_result(block, names) for block in blocks)
        # A person speaks after a finished turn. Words beside results are as a rule the loop's own reminders.
        is_external = said is not None and not (results or self.results or self.detector.open_calls)
        detector = self.detector.window_reset() if is_external else self.detector
        found: Finding | None = None
        for result in results:
            if result.id in self.cut and not result.is_error and found is None:
                found = _run_though_cut(*self.cut[result.id], self.turns)
        detector, stuck = detector.answered(results)
        return evolve(self, detector=detector, results=(*self.results, *results), said=said), found or stuck

    def asked(self, digest: bytes, max_tokens: Any, *, again: bool) -> tuple[Course, Finding | None]:
        """The request is complete and about to leave: the moves that lead to it, and what is wrong with it.

        Params:
            digest: of messages and head.
            max_tokens: what the request allows; it may be anything that a body can hold.
            again: these messages got a reply already, which the loop has not gone on from.
        """
        detector, found = self.detector.requested(digest)
        course = evolve(self, detector=detector, max_tokens=max_tokens if type(max_tokens) is int else 0, edges=())
        # With another head it is another question: the loop wants a new reply in place of the one it had.
        course = course.dropped() if again and found is None else course.walked()
        if course.kind not in {"Claude", "Final"} and found is None:
            found = course.out_of_place()
        if course.kind != "Claude":  # it leaves nevertheless
            course = evolve(course, state=course.home)
        return course, found

    def walked(self) -> Course:
        """The moves that a request shows: results were given, a person approved or spoke."""
        course = self
        if course.kind == "Final":  # the conversation goes on after its end, as with `after=`
            initial = course.plan.graph.initial
            course = evolve(course, state=initial, attempts={}, rounds={})
        for _ in range(_HOPS):
            event = course.shown_event()
            if event is None or event not in course.plan.graph.events(course.state):
                break
            moved, found = course.moved(event)
            if found is not None:
                break
            course = moved
        return course

    def shown_event(self) -> str | None:
        """What a request shows to have happened in the state."""
        if self.kind == "Tools":
            return "tool_results" if self.results else None
        if self.kind == "Approval":
            # Whether denied calls were denied by a person is not on the wire; that all failed is the best guess.
            denied = all(result.is_error for result in self.results)
            return ("denied" if denied else "approved") if self.results else None
        return "said" if self.kind == "Human" and self.said is not None else None

    @property
    def kind(self) -> str:
        """The kind of the state."""
        return self.plan.graph.by_name[self.state].kind

    def out_of_place(self) -> Finding:
        """A request where the machine has nothing to ask."""
        node = self.plan.graph.by_name[self.state]
        who = {"Tools": "tools act", "Approval": "a person decides", "Human": "a person speaks"}.get(
            self.kind, "nobody asks"
        )
        return Finding(
            "illegal_move",
            "machine",
            "harness",
            ids=self.detector.open_calls,
            turns=(self.turns,),
            why=f"A request leaves although '{self.plan.graph.name}' is in '{self.state}', where {who}.",
            todo=f"It accepts there: {', '.join(self.plan.graph.events(self.state))}."
            + (f" Declared at {node.where}." if node.where else ""),
        )

    def lost(self) -> Finding | None:
        """What a continued thread does not show in its messages: calls that this request leaves unanswered (R10)."""
        ids = self.detector.open_calls
        if not ids or self.reply is None:
            return None
        call = next(call for call in self.reply.calls if call.id == ids[0])
        return Finding(
            "lost_result",
            "R10",
            "harness",
            ids=ids,
            turns=(self.turns,),
            call={"name": call.name, "input": dict(call.input)},
            why="Claude asked for tools, and the next request of the thread has no tool_result for these calls.",
            todo="Send a tool_result for every call of a reply in the next message.",
        )

    # ── what came of it ─────────────────────────────────────────────────────────────────────────────────────────────

    def replied(self, reading: Reading) -> tuple[Course, Finding | None]:
        """A reply came."""
        event, reply = reading.event, reading.reply
        detector, found = self.detector.replied(reply)
        rule = _NEVER_RUN.get(ALPHABET[event].group)
        course = evolve(
            self,
            detector=detector,
            turns=self.turns + 1,
            tool_calls=self.tool_calls + (len(reply.calls) if event == "tool_use" else 0),
            usage=self.usage.plus(reply.usage),
            reply=reply,
            failure=None,
            cut={call.id: (call, rule) for call in reply.calls} if rule else {},
            attempts={key: n for key, n in self.attempts.items() if key != (self.state, "retry")},
            edges=(),
        )
        course, wrong = course.moved(event)
        return course, found or wrong

    def failed(self, failed: Failed) -> tuple[Course, Finding | None]:
        """No reply came."""
        return evolve(self, failure=Failure.of(failed), edges=()).moved(failed.event)

    def stuck(self, found: Finding) -> Course:
        """The move of a finding that is a loop; the other findings move nothing. If the request leaves, it goes on."""
        course = self
        if found.kind in _LOOPS and "stuck" in self.plan.graph.events(self.state):
            course, _ = self.moved("stuck")
        if course.kind != "Claude":
            course = evolve(course, state=course.home)
        return course

    def dropped(self) -> Course:
        """The loop left the newest reply out: nobody has to answer its calls, and the model is asked again."""
        return evolve(self, detector=self.detector.discarded(), state=self.home, cut={})

    def forgiven(self) -> Course:
        """Open calls are forgotten: they were dropped on purpose, or reported already."""
        return evolve(self, detector=self.detector.discarded()) if self.detector.open_calls else self

    def moved(self, event: str) -> tuple[Course, Finding | None]:
        """One event of the machine. What it does not accept is a finding, and nothing is changed."""
        try:
            edge = self.plan.move(self.state, event, self.facts(event), self.rounds)
        except (IllegalMove, ConversationEnded) as error:
            return self, Finding(
                "illegal_move",
                "machine",
                "harness",
                turns=(self.turns,),
                why=str(error),
                todo="Declare a row for the event, or mend the loop.",
            )
        except DecisionError:  # a guard that needs what cannot be seen from outside: the loop is not to blame
            return self, None
        attempts = self.counted(event)
        return (
            evolve(
                self,
                state=edge.dest,
                home=edge.dest if self.plan.graph.by_name[edge.dest].kind == "Claude" else self.home,
                moves=self.moves + 1,
                attempts=attempts,
                rounds={**self.rounds, edge.key: self.rounds.get(edge.key, 0) + 1},
                edges=(*self.edges, edge),
            ),
            None,
        )

    def counted(self, event: str) -> Mapping[tuple[str, str], int]:
        """The attempts after an event: a success forgets those of its state."""
        if self.kind != "Claude":
            return self.attempts
        if event in _SUCCESS:
            return {key: n for key, n in self.attempts.items() if key[0] != self.state}
        key = (self.state, family(event))
        return {**self.attempts, key: self.attempts.get(key, 0) + 1}

    def facts(self, event: str) -> Facts:
        """What guards read; what cannot be seen from outside has its default."""
        return Facts(
            self.state,
            event,
            self.reply,
            self.failure,
            self.results,
            usage=self.usage,
            turns=self.turns,
            tool_calls=self.tool_calls,
            said=self.said,
            attempts=self.attempts.get((self.state, family(event)), 0),
            max_tokens=self.max_tokens,
            max_tokens_cap=cap_of(self.reply.model) if self.reply and self.reply.model else None,
        )


def of_violation(violation: Violation, course: Course) -> Finding:
    """A request that the API refuses, as a finding."""
    kind: Any = _KINDS.get(violation.rule, "illegal_request")
    calls = course.reply.calls if course.reply else ()
    call = next((c for c in calls if c.id in violation.ids), None)
    return Finding(
        kind,
        violation.rule,
        "harness",
        ids=violation.ids,
        turns=(course.turns,) if course.turns else (),
        call=None if call is None else {"name": call.name, "input": dict(call.input)},
        why=f"The API refuses this request: {violation.message}",
        todo=violation.repair,
    )


def _run_though_cut(call: Call, rule: str, turn: int) -> Finding:
    refused = rule == "S8.5"
    return Finding(
        "truncated_call",
        rule,
        "harness",
        ids=(call.id,),
        turns=(turn,),
        call={"name": call.name, "input": dict(call.input)},
        why=(
            "A tool was run for a reply that was refused."
            if refused
            else "A tool was run for a reply that was cut: its input may look complete and is not."
        ),
        todo=(
            "Run tools only when stop_reason is tool_use; drop the refused turn."
            if refused
            else "Run tools only when stop_reason is tool_use; send the request again with a larger max_tokens."
        ),
    )


def _result(block: Mapping[str, Any], names: Mapping[str, str]) -> Result:
    call = str(block.get("tool_use_id"))
    return Result(call, names.get(call, ""), block.get("content"), bool(block.get("is_error")))
