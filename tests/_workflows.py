"""A handful of workflows, and short ways to drive their conversations without a driver."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from fsm import (
    Approval,
    Claude,
    Code,
    Facts,
    Final,
    Human,
    Outcome,
    Tools,
    Workflow,
    attempts_left,
    calls,
    compact,
    discard,
    effect,
    exits,
    guard,
    rounds_left,
    said_is,
    say,
    tool,
)
from fsm._actions import Action, SendRequest
from fsm._conversation import Conversation
from fsm._conversation._heads import Heads
from fsm._events import Failed, Replied, Started, ToolEnd, ToolsEnded
from fsm._legality import violations
from fsm._records import Record

MODEL = "claude-sonnet-5"


@tool
def find(number: str) -> str:
    """Find an order."""
    return f"order {number}"


@tool(needs_approval=True)
def refund(number: str) -> str:
    """Pay an order back."""
    return f"paid {number}"


@tool(idempotent=True)
def transfer(team: str) -> str:
    """Hand the conversation to another team."""
    return f"to {team}"


class Desk(Workflow):
    """A tool loop with an approval."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find, refund])
    calling = Tools()
    approving = Approval(within=100)
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving, outcome_unknown=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


class Chat(Workflow):
    """A person and Claude, turn by turn, with a tool."""

    chatting = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    waiting = Human(within=100)
    bye = Final()

    chatting.on(tool_use=calling, end_turn=waiting)
    calling.on(tool_results=chatting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting], expired=bye)


class HandOver(Workflow):
    """Main hands over to a history of its own for billing, which starts with a copy."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find, transfer])
    calling = Tools()
    billing = Claude(
        model="claude-opus-5", max_tokens=100, tools=[find], system="You do bills.", history="billing", continues="main"
    )
    looking = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=[billing.when(calls("transfer")), asking])
    billing.on(tool_use=looking, end_turn=answered, refusal=asking.then(say("Billing declined. Answer yourself.")))
    looking.on(tool_results=billing)


def grade(facts: Facts) -> Outcome[Literal["good", "weak"]]:
    """Good answers are long."""
    return Outcome("good" if len(facts.text) > 5 else "weak", {"length": len(facts.text)})


def draft_prompt(facts: Facts) -> str:
    return f"Write about {facts.input}."


def feedback(facts: Facts) -> str:
    return f"Too short: {facts.text!r}."


@effect
def remembered(facts: Facts) -> Any:
    """The newest text."""
    return [facts.text]


class Optimiser(Workflow):
    """A draft, a grade by code, a wrap-up."""

    drafting = Claude(model=MODEL, max_tokens=100, prompt=draft_prompt)
    grading = Code(grade)
    polishing = Claude(model=MODEL, max_tokens=100, history="polish", fresh=True, prompt="Polish it.")
    done = Final()

    drafting.on(end_turn=grading.then(remembered), max_tokens=[drafting.when(attempts_left(2)), exits.truncated])
    grading.on("good", polishing).on("weak", [drafting.when(rounds_left(2)).then(say(feedback)), exits.over_limit])
    polishing.on(end_turn=done, cancel=drafting.then(say("Never mind the polish.")))


class Stages(Workflow, check=True):
    """Limits with a wrap-up: it keeps the tools and forbids them."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    wrapping = Claude(model=MODEL, max_tokens=100, tools=[find], tool_choice={"type": "none"})
    answered = Final()
    partial = Final(ok=False)

    asking.on(
        tool_use=calling,
        end_turn=answered,
        over_limit=[wrapping.when(rounds_left(1)).then(say("Wrap up now.")), exits.over_limit],
        stuck=[wrapping.when(rounds_left(1)).then(say("You go round. Wrap up.")), exits.stuck],
    )
    calling.on(tool_results=asking)
    wrapping.on(end_turn=partial)


class Stubborn(Workflow):
    """Whatever goes wrong, a person says how to go on; "/compact" has the history summarised."""

    chatting = Claude(model=MODEL, max_tokens=100, tools=[find, refund], history="desk")
    calling = Tools()
    approving = Approval()
    waiting = Human()
    bye = Final()

    chatting.on(
        tool_use=[chatting.when(calls("transfer")).then(discard, say("There is no transfer.")), calling],
        end_turn=waiting,
        refusal=waiting,
        malformed=waiting,
        unknown_stop=waiting,
        model_context_window_exceeded=waiting,
        stuck=waiting,
        over_limit=waiting,
        invalid_request_error=waiting,
        pause_turn=[chatting.when(attempts_left(3)), exits.stuck],
        cancel=waiting,
    )
    calling.on(tool_results=chatting, approval_needed=approving, cancel=exits.cancelled)
    approving.on(approved=calling, denied=chatting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting.when(said_is("/compact")).then(compact), chatting])


WORKFLOWS = (Stubborn, Desk, Chat, HandOver, Optimiser, Stages)


@guard(name="always true")
def yes(facts: Facts) -> bool:
    del facts
    return True


@guard(name="never true")
def no(facts: Facts) -> bool:
    del facts
    return False


# --- messages ---------------------------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(name: str, given: Mapping[str, Any] | None = None, call_id: str | None = None) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": call_id or f"toolu_{next(_numbers):04}",
        "name": name,
        "input": dict(given if given is not None else {"number": "7"}),
    }


def message(*content: Any, stop: str | None = None, **more: Any) -> dict[str, Any]:
    """A reply as the API sends it; the stop reason follows from the content unless given."""
    if stop is None:
        stop = "tool_use" if any(b.get("type") == "tool_use" for b in content) else "end_turn"
    return {
        "id": f"msg_{next(_numbers):04}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
        **more,
    }


def replied(at: float, body: Mapping[str, Any], *, raw: str | None = None, **more: Any) -> Replied:
    """The event of a reply; `raw` is its content as it came on the wire."""
    return Replied(at, body, raw if raw is not None else json.dumps(body.get("content")), **more)


def overloaded(at: float, **more: Any) -> Failed:
    return Failed(at, "overloaded_error", "Overloaded", status=529, **more)


# --- conversations ----------------------------------------------------------------------------------------------------


class Driven:
    """A conversation with its clock and its journal. Each event is a second after the one before."""

    def __init__(self, workflow: type[Workflow], given: Any = "Hello.", **options: Any) -> None:
        self.workflow = workflow
        self.heads = heads_of(workflow)
        self.conversation = Conversation(workflow.plan, self.heads)
        self.records: list[Record] = []
        self.actions: tuple[Action, ...] = ()
        self.bodies: list[bytes] = []
        self.at = 1000.0
        if given is not None:
            messages = given if isinstance(given, tuple) else ({"role": "user", "content": [text(given)]},)
            self.feed(Started(self.at, "run", messages, **options))

    @property
    def run(self) -> Any:
        return self.conversation.run

    @property
    def state(self) -> str:
        return self.run.state

    @property
    def action(self) -> Action:
        (action,) = self.conversation.pending()
        return action

    def feed(self, event: Any) -> tuple[Action, ...]:
        records, actions = self.conversation.feed(event)
        self.records.extend(records)
        self.actions = actions
        self.bodies.extend(action.body() for action in actions if isinstance(action, SendRequest))
        return actions

    def now(self, seconds: float = 1.0) -> float:
        self.at += seconds
        return self.at

    def reply(self, *content: Any, raw: str | None = None, **more: Any) -> tuple[Action, ...]:
        return self.feed(replied(self.now(), message(*content, **more), raw=raw))

    def fail(self, event: str = "overloaded_error", **more: Any) -> tuple[Action, ...]:
        return self.feed(Failed(self.now(), event, "failed", **more))

    def end(self, *ends: tuple[str, Any] | str, is_error: bool = False) -> tuple[Action, ...]:
        """Tools ended: ids, or pairs of id and content. None given: all that run."""
        if not ends:
            ends = tuple(i for i, c in self.run.open.items() if c.begun and c.end is None)
        made = [(e, "found") if isinstance(e, str) else e for e in ends]
        return self.feed(ToolsEnded(self.now(), tuple(ToolEnd(i, c, is_error=is_error) for i, c in made)))

    def kinds(self) -> list[str]:
        return [record.kind for record in self.records]

    def path(self) -> list[str]:
        return [r.data["event"] for r in self.records if r.kind == "move"]

    def sent(self, index: int = -1) -> list[dict[str, Any]]:
        """The messages of a body that was sent."""
        messages: list[dict[str, Any]] = json.loads(self.bodies[index])["messages"]
        return messages


def heads_of(workflow: type[Workflow]) -> Heads:
    """The heads, with definitions that need no SDK."""
    definitions = {
        name: [{"name": t.name, "input_schema": {"type": "object"}} for t in state.tools]
        for name, state in workflow.states.items()
        if isinstance(state, Claude)
    }
    return Heads(workflow.graph, definitions)


def through_json(records: Sequence[Record]) -> list[Record]:
    """The records as a store gives them back: plain JSON, nothing decoded."""
    return [Record(r.seq, r.kind, r.at, json.loads(json.dumps(dict(r.data), allow_nan=False))) for r in records]


def folded(driven: Driven, records: Sequence[Record] | None = None) -> Conversation:
    """Another conversation, from the journal alone."""
    other = Conversation(driven.workflow.plan, heads_of(driven.workflow))
    other.fold(driven.records if records is None else records)
    return other


def snapshot(conversation: Conversation) -> dict[str, Any]:
    """Every fact of a run as values that compare: ledgers by their bytes and their standing, the rest as it is."""
    facts = dict(vars(conversation.run))
    facts["ledgers"] = {
        name: (ledger.generation, ledger.count, ledger.digest, ledger.standing, tuple(ledger.encoded()),
               json.dumps(list(ledger.tail)))
        for name, ledger in conversation.run.ledgers.items()
    }  # fmt: skip
    return facts


def refused(body: bytes) -> tuple[Any, ...]:
    """What the API would refuse in a body."""
    return tuple(violations(json.loads(body)))


def raises(error: type[Exception], call: Callable[[], Any]) -> Exception:
    """The error that a call raises."""
    try:
        call()
    except error as caught:
        return caught
    raise AssertionError(f"nothing was raised, {error.__name__} was expected")
