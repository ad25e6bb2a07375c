"""Paths that are streamed go the way they go when they are not."""

from __future__ import annotations

import anthropic
import pytest
from attrs import evolve

from fsm import Claude, Final, Workflow
from fsm._errors import UsageError
from fsm.testing import Emulator, assert_path, paths, replies, serve


class Asking(Workflow):
    asking = Claude(model="claude-sonnet-5", max_tokens=100, system="A SYSTEM PROMPT OF SOME LENGTH")
    answered = Final()

    asking.on(end_turn=answered)


class Long(Workflow):
    asking = Claude(model="claude-sonnet-5", max_tokens=30_000)
    answered = Final()

    asking.on(end_turn=answered)


@pytest.mark.parametrize("workflow", [Asking, Long])
@pytest.mark.parametrize("stream", [False, True])
def test_every_path_is_the_same_streamed_and_not(workflow, stream):
    made = paths(workflow)
    assert {"connection_error", "malformed", "cut_stream"} <= {path.row.event for path in made}
    for path in made:
        assert_path(path.run(stream=stream), path)


def test_a_path_knows_its_workflow():
    path = paths(Asking).of("asking", "end_turn")
    assert path.run().workflow is Asking
    with pytest.raises(UsageError, match="not of 'Long'"):
        path.run(Long)


def test_a_path_that_only_goes_unstreamed_says_so_in_one_short_line():
    path = paths(Asking).of("asking", "malformed")
    first, *rest = path.script.steps
    nothing = replies.raw(200, b"", {"content-type": "text/event-stream"})  # no message, or a stream that was cut
    steps = (evolve(first, reply=nothing), *rest)
    only_plain = evolve(path, script=evolve(path.script, steps=steps))
    assert_path(only_plain.run(), path)
    with pytest.raises(AssertionError) as caught:
        only_plain.run(stream=True)
    words = str(caught.value)
    assert "leave stream=True out" in words
    assert "SYSTEM PROMPT" not in words
    assert len(words) < 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("over", ["in process", "socket"])
def test_a_connection_that_is_lost_before_the_answer(stream, over):
    emulator = Emulator([replies.cut(replies.text("lost"), after_bytes=0, clean=False), "came"])
    given = {"model": "claude-sonnet-5", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
    with serve(emulator) as server, server.client() as socket, emulator.client() as inside:
        client = socket if over == "socket" else inside
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.create(**given, stream=stream)
        assert client.messages.create(**given).content[0].text == "came"
