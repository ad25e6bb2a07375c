"""Requests go exactly where the SDK itself sends them, whatever the base URL: the key and the conversation go along."""

from __future__ import annotations

import anthropic
import httpx2
import pytest

from fsm import Claude, Final, Workflow, run

REPLY = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Done."}], "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip


class Asking(Workflow):
    """One question."""

    asking = Claude(model="claude-sonnet-5", max_tokens=10)
    answered = Final()
    asking.on(end_turn=answered)


@pytest.mark.parametrize(
    "base",
    [
        "https://api.anthropic.com",
        "http://gateway.test:81",
        "http://gateway.test/",
        "http://gateway.test/claude",
        "http://gateway.test/claude//",
        "http://me:secret@gateway.test/a b/%2f/é",
        "http://münchen.test/x",
        "http://[::1]:9/x",
        "http://gateway.test/x?tenant=1",
        "http://gateway.test/x#part",
        "HTTP://Gateway.TEST/X",
    ],
)
def test_a_request_goes_where_the_sdk_sends_it(base: str) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=REPLY)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(
        api_key="k", base_url=base, http_client=http, max_retries=0, default_query={"version": "2"}
    )
    client.messages.create(model="claude-sonnet-5", max_tokens=10, messages=[{"role": "user", "content": "Hello."}])
    assert run(Asking, "Hello.", client=client).ok
    theirs, ours = seen
    assert ours.url == theirs.url
    assert ours.url.host == httpx2.URL(base).host
    assert ours.headers["host"] == theirs.headers["host"]
    assert ours.headers.get("x-api-key") == theirs.headers.get("x-api-key")
