"""A workflow of two states."""

from __future__ import annotations

from fsm import Claude, Final, Workflow


class Tiny(Workflow):
    """Answers once."""

    asking = Claude(model="claude-sonnet-5", max_tokens=100)
    answered = Final()
    asking.on(end_turn=answered)
