"""Two loops as they are written by hand every day, each with a fault that is hard to see; `fsm demo` watches them.

Both are ordinary programs around `client.messages.create`; nothing in them knows of a workflow.
"""
# ruff: noqa: T201 - they are programs, and programs print

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fsm import Claude, Final, Tools, Workflow

MODEL = "claude-sonnet-5"
Bill = list[Any]
"""The `usage` of each reply."""

NUMBER = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}
FIND = {"name": "find_order", "description": "Look an order up by its number.", "input_schema": NUMBER}
TRACK = {"name": "track_parcel", "description": "Say where the parcel of an order is.", "input_schema": NUMBER}
WITH_FIND: Mapping[str, Any] = {"model": MODEL, "max_tokens": 1024, "tools": [FIND]}
WITH_TRACK: Mapping[str, Any] = {"model": MODEL, "max_tokens": 1024, "tools": [TRACK]}


def find_order(number: str) -> str:
    """Look an order up by its number."""
    return f"Order {number}: espresso machine, 249.00 euros, delivered."


def track_parcel(number: str) -> str:
    """Say where the parcel of an order is."""
    return f"Parcel {number}: no news yet, ask again later."


# The lines below are shown in a terminal of 80 columns: they have 72.


def forgets_the_result(client: Any, question: str, bill: Bill) -> Any:
    """Run the tool and print what it gives, but never send it back."""
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        reply = client.messages.create(messages=messages, **WITH_FIND)
        bill.append(reply.usage)
        messages.append({"role": "assistant", "content": reply.content})
        if reply.stop_reason != "tool_use":
            return reply
        for block in reply.content:
            if block.type == "tool_use":
                result = find_order(**block.input)
                print("the tool:", result)  # <- and Claude never sees it


def never_gives_up(client: Any, question: str, bill: Bill) -> Any:
    """Answer every call, for as long as the model keeps calling."""
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:  # <- no limit, and nobody looks for progress
        reply = client.messages.create(messages=messages, **WITH_TRACK)
        bill.append(reply.usage)
        messages.append({"role": "assistant", "content": reply.content})
        if reply.stop_reason != "tool_use":
            return reply
        results = []
        for block in reply.content:
            if block.type == "tool_use":
                result = track_parcel(**block.input)
                print("the tool:", result)
                answer = {"type": "tool_result", "tool_use_id": block.id}
                results.append({**answer, "content": result})
        messages.append({"role": "user", "content": results})


class Loop(Workflow):
    """What both loops are meant to do; they are held against it."""

    asking = Claude(model=MODEL, max_tokens=1024, tools=[find_order, track_parcel])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)
