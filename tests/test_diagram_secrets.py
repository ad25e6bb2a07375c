"""X7: what a request carries beside its words (tokens of MCP servers, ids of users) stands in no picture."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from _driving import MODEL

from fsm import Claude, Final, Workflow, run
from fsm._difference import difference
from fsm.diagram import TextFormat
from fsm.testing import Emulator, replies


def workflow(canary: str) -> type[Workflow]:
    """One whose request carries a canary wherever nobody but the API should read it."""
    blocks = [{"type": "text", "text": f"system-{canary}"}]

    class Carrier(Workflow, check=False):
        asking = Claude(
            model=MODEL,
            max_tokens=100,
            system=blocks,
            prompt=f"prompt-{canary}",
            tools=[{"type": "web_search_20250305", "name": "web_search", "user_location": {"city": canary}}],
            thinking={"type": "adaptive", "secret": canary},
            output_config={"effort": "low", "secret": canary},
            metadata={"user_id": canary},
            user_profile_id=canary,
            workspace_id=canary,
            diagnostics={"previous_message_id": canary},
            extra_body={"mcp_servers": [{"authorization_token": canary}], "thinking_hint": canary},
        )
        done = Final()
        asking.on(end_turn=done)

    return Carrier


@pytest.mark.parametrize("format", get_args(TextFormat))
def test_no_picture_shows_what_a_request_carries(format):
    drawn: dict[str, Any] = {"bodies": False, "detail": "full"} if format == "html" else {"detail": "full"}
    one, other = workflow("canary-1f7a"), workflow("canary-2b8c")
    with Emulator([replies.text("Hello.")]).client() as client:
        result = run(one, "Hi", client=client)
    assert "canary" not in one.diagram(format, **drawn)
    assert "canary" not in result.diagram(format, **drawn)
    again = other.diagram(format, against=one, **drawn)
    told = [line for line in again.splitlines() if "canary" in line and "system" not in line and "prompt" not in line]
    assert told == []


def test_a_page_shows_what_a_reader_may_know_of_a_request():
    html = workflow("canary-1f7a").diagram("html")
    for words in (
        '"effort": "low"',
        '"type": "adaptive"',
        "user_profile_id",
        "mcp_servers",
        "web_search",
        "system-canary",
    ):
        assert words in html.replace('\\"', '"'), words
    assert html.count("canary") == 2, "the system prompt and the prompt"


def test_a_difference_says_that_something_secret_changed_and_not_what():
    told = str(difference(workflow("canary-1f7a").graph, workflow("canary-2b8c").graph))
    assert "another metadata" in told
    assert "another mcp_servers" in told
    assert "canary" not in told.replace("prompt-canary", "")
