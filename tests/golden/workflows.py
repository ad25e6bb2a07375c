"""The workflows of the golden journals. Never change one: a journal names it, and is replayed with it for ever."""

from __future__ import annotations

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
    compact,
    effect,
    exits,
    rounds_left,
    said_is,
    say,
    tool,
)

MODEL = "claude-sonnet-5"
ORDER = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}


@tool(input_schema=ORDER)
def find(number: str) -> str:
    """Find an order."""
    return f"order {number}"


@tool(input_schema=ORDER, needs_approval=True)
def refund(number: str) -> str:
    """Pay an order back."""
    return f"paid {number}"


class Desk(Workflow):
    """A tool loop with an approval."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find, refund], system="You help at a desk.")
    calling = Tools()
    approving = Approval(within="1h")
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


class Chat(Workflow):
    """A person and Claude; "/compact" has the history summarised."""

    chatting = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    waiting = Human(within="1d")
    bye = Final()

    chatting.on(tool_use=calling, end_turn=waiting, refusal=waiting)
    calling.on(tool_results=chatting)
    waiting.on(
        said=[bye.when(said_is("/quit")), chatting.when(said_is("/compact")).then(compact), chatting], expired=bye
    )


def grade(facts: Facts) -> Outcome[Literal["good", "weak"]]:
    """Good answers are long."""
    return Outcome("good" if len(facts.text) > 10 else "weak", {"length": len(facts.text)})


@effect
def remembered(facts: Facts) -> Any:
    """The newest text."""
    return [facts.text]


def topic(facts: Facts) -> str:
    return f"Write about {facts.input}"


class Optimiser(Workflow):
    """A draft, a grade by code, a polish in a history of its own, structured output."""

    drafting = Claude(model=MODEL, max_tokens=100, prompt=topic)
    grading = Code(grade)
    polishing = Claude(
        model=MODEL,
        max_tokens=100,
        history="polish",
        continues="main",
        prompt="Polish it.",
        output={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    )
    done = Final()

    drafting.on(end_turn=grading.then(remembered), max_tokens=[drafting.when(attempts_left(2)), exits.truncated])
    grading.on("good", polishing).on(
        "weak", [drafting.when(rounds_left(2)).then(say("It is too short.")), exits.over_limit]
    )
    polishing.on(end_turn=done)


class Renamed(Workflow, renamed={"talking": "chatting"}):
    """A later version of a chat."""

    chatting = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    waiting = Human()
    bye = Final()

    chatting.on(tool_use=calling, end_turn=waiting)
    calling.on(tool_results=chatting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting])


WORKFLOWS = {each.name: each for each in (Desk, Chat, Optimiser, Renamed)}
