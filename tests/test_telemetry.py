"""Spans and counters with the real OpenTelemetry SDK: what is told, whose child it is, and that silence is free."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from _driving import MODEL, Clock, Loop, Plain, both, go_on, loop_of, one_call
from attrs import evolve
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import fsm
from fsm import (
    Claude,
    Code,
    Facts,
    Final,
    Human,
    JournalError,
    MemoryStore,
    Record,
    Workflow,
    run,
    tool,
)
from fsm._verify import verify
from fsm.testing import Emulator, replies

VERBS = [pytest.param(False, id="run"), pytest.param(True, id="arun")]
ROOT = Path(fsm.__file__).resolve().parent.parent
SECRET = "Zx81-canary"


class Told:
    """What was exported, by name."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def named(self, begin: str) -> list[ReadableSpan]:
        found = [span for span in self.spans if span.name.startswith(begin)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def parent(self, span: ReadableSpan) -> str | None:
        known = {each.context.span_id: each.name for each in self.spans}
        return None if span.parent is None else known[span.parent.span_id]

    def tree(self) -> Counter[tuple[str, str | None]]:
        return Counter((span.name, self.parent(span)) for span in self.spans)

    def counts(self) -> dict[str, dict[tuple[Any, ...], int]]:
        data = self.reader.get_metrics_data()
        made: dict[str, dict[tuple[Any, ...], int]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = {tuple(sorted(p.attributes.items())): p.value for p in metric.data.data_points}
                    made[metric.name] = points
        return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """The providers of the process: a program sets them once and for good, so here they are put in their place."""
    made = Told()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.provider)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", made.meters)
    yield made
    made.provider.shutdown()
    made.meters.shutdown()


CHAT = "anthropic.messages.create"
RUN = "invoke_workflow Loop"
TREE = {
    (RUN, None): 1,
    ("fsm.state asking", RUN): 2,
    ("fsm.state calling", RUN): 1,
    (CHAT, "fsm.state asking"): 2,
    ("execute_tool find", "fsm.state calling"): 1,
}


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_run_is_a_tree_of_spans_with_one_chat_span_a_request(told: Told, *, is_async: bool, stream: bool) -> None:
    result, _ = both(Loop, "Hi.", one_call("find", {"number": "1"}), is_async=is_async, run_id="r-1", stream=stream)
    assert result.ok
    assert told.tree() == TREE
    assert len({span.context.trace_id for span in told.spans}) == 1
    root = told.one(RUN)
    assert dict(root.attributes or {}) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "Loop",
        "gen_ai.conversation.id": "r-1",
        "fsm.resumed": False,
        "fsm.state": "answered",
        "fsm.reason": "end_turn",
        "fsm.parked": False,
    }
    assert root.status.is_ok
    called = dict(told.one("execute_tool find").attributes or {})
    assert called.pop("gen_ai.tool.call.id").startswith("toolu_")
    assert called == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "find",
        "gen_ai.tool.type": "function",
    }
    for chat in told.named(CHAT):
        attributes = chat.attributes or {}
        assert attributes["gen_ai.operation.name"] == "chat"
        assert attributes["gen_ai.request.model"] == MODEL
        assert attributes["gen_ai.request.max_tokens"] == 100
        assert attributes["gen_ai.request.stream"] is stream
        assert attributes["http.response.status_code"] == 200


def test_moves_are_events_of_the_run(told: Told) -> None:
    script = [replies.tool_use("find", {"number": "1"}), replies.overloaded(), replies.text("done")]
    result, _ = both(Loop, "Hi.", script, is_async=False, sleep=Clock().sleep)
    events = told.one(RUN).events
    assert [event.name for event in events] == ["fsm.move"] * len(result.moves)
    for event, move in zip(events, result.moves, strict=True):
        attributes = dict(event.attributes or {})
        assert tuple(attributes.pop("fsm.move.effects", ())) == move.effects
        assert attributes.pop("fsm.move.guard", None) == move.guard
        expected = {"fsm.move.source": move.source, "fsm.move.event": move.event, "fsm.move.dest": move.dest}
        assert attributes == expected
    failed = [span for span in told.named("fsm.state asking") if not span.status.is_ok]
    assert [(span.attributes or {})["error.type"] for span in failed] == ["overloaded_error"]


def test_the_tokens_of_a_reply_stand_on_its_state(told: Told) -> None:
    result, _ = both(Plain, "Hi.", [replies.text("Hello.")], is_async=False)
    attributes = told.one("fsm.state asking").attributes or {}
    usage = result.verdict.usage
    assert attributes["gen_ai.usage.output_tokens"] == usage.output_tokens
    assert attributes["gen_ai.usage.input_tokens"] == usage.total - usage.output_tokens
    assert not [span for span in told.spans if span.name != "fsm.state asking" and _has_usage(span)]


def _has_usage(span: ReadableSpan) -> bool:
    return any(name.startswith("gen_ai.usage.") for name in span.attributes or {})


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("timeout", [60.0, None])
def test_what_a_tool_traces_is_below_its_span(told: Told, timeout: float | None, *, is_async: bool) -> None:
    """In a thread of its own, in the thread of the driver, on the event loop."""
    tracer = told.provider.get_tracer("of.the.user")

    @tool(timeout=timeout)
    def inside(number: str) -> str:
        """Trace something."""
        with tracer.start_as_current_span(f"mine {number}"):
            return "ok"

    @tool(timeout=timeout)
    async def inside_async(number: str) -> str:
        """Trace something."""
        with tracer.start_as_current_span(f"mine {number}"):
            await asyncio.sleep(0)
            return "ok"

    names = ("inside", "inside_async", "inside")
    several = replies.tool_uses(*((name, {"number": str(n)}) for n, name in enumerate(names, 1)))
    both(loop_of(inside, inside_async), "Hi.", [several, replies.text("done")], is_async=is_async)
    assert {span.name: told.parent(span) for span in told.named("mine")} == {
        "mine 1": "execute_tool inside",
        "mine 2": "execute_tool inside_async",
        "mine 3": "execute_tool inside",
    }
    assert {told.parent(span) for span in told.named("execute_tool")} == {"fsm.state calling"}


@pytest.mark.parametrize("is_async", VERBS)
def test_the_run_is_below_what_the_program_traces(told: Told, *, is_async: bool) -> None:
    with told.provider.get_tracer("of.the.user").start_as_current_span("request"):
        both(Plain, "Hi.", [replies.text("Hello.")], is_async=is_async)
    assert told.parent(told.one("invoke_workflow Plain")) == "request"


def test_whoever_iterates_is_not_inside_our_spans(told: Told) -> None:
    """A span that stayed current across a `yield` would swallow what the loop's body traces."""
    emulator = Emulator(one_call("find", {"number": "1"}))
    with emulator.client() as client, closing(fsm.iterate(Loop, "Hi.", client=client, deltas=True)) as items:
        for _ in items:
            assert not trace.get_current_span().get_span_context().is_valid

    async def main() -> None:
        async with (
            Emulator(one_call("find", {"number": "1"})).async_client() as client,
            aclosing(fsm.aiterate(Loop, "Hi.", client=client, deltas=True)) as items,
        ):
            async for _ in items:
                assert not trace.get_current_span().get_span_context().is_valid

    asyncio.run(main())
    assert told.tree() == {pair: 2 * count for pair, count in TREE.items()}


def test_leaving_the_loop_ends_the_spans(told: Told) -> None:
    with Emulator(one_call("find", {"number": "1"})).client() as client:
        items = fsm.iterate(Loop, "Hi.", client=client)
        next(items)
        items.close()
    root = told.one(RUN).attributes or {}
    assert (root["fsm.reason"], root["fsm.parked"]) == ("interrupted", True)


class Talk(Workflow):
    """A person is asked, then Claude is."""

    hearing = Human()
    asking = Claude(model=MODEL, max_tokens=100)
    answered = Final()

    hearing.on(said=asking)
    asking.on(end_turn=answered)


@pytest.mark.parametrize("is_async", VERBS)
def test_after_a_restart_the_new_span_is_linked_to_the_one_before(told: Told, *, is_async: bool) -> None:
    store = MemoryStore()
    result, _ = both(Talk, "Hi.", [], is_async=is_async, journal=store, run_id="r")
    assert result.parked
    go_on(Talk, "r", [replies.text("Hello.")], is_async=is_async, journal=store, answer="And?")
    first, second = told.named("invoke_workflow Talk")
    assert first.context.trace_id != second.context.trace_id
    (link,) = second.links
    assert (link.context.trace_id, link.context.span_id) == (first.context.trace_id, first.context.span_id)
    assert (second.attributes or {})["fsm.resumed"] is True
    kept = [r.data["trace"] for r in store.read("r") if "trace" in r.data]
    assert [one.split("-")[2] for one in kept] == [f"{s.context.span_id:016x}" for s in (first, second)]
    assert not verify(Talk, "r", journal=store)


def test_a_run_that_was_taken_up_twice_is_a_chain(told: Told) -> None:
    store = MemoryStore()
    script = [replies.overloaded()] * 8
    both(Plain, "Hi.", script, is_async=False, journal=store, run_id="r", sleep=Clock().sleep)
    go_on(Plain, "r", script, journal=store, sleep=Clock().sleep)
    go_on(Plain, "r", [replies.text("Hello.")], journal=store, sleep=Clock().sleep)
    spans = told.named("invoke_workflow Plain")
    assert [[link.context.span_id for link in span.links] for span in spans] == [
        [],
        [spans[0].context.span_id],
        [spans[1].context.span_id],
    ]


def test_a_trace_in_a_journal_that_is_none_is_no_link(told: Told) -> None:
    class Forged(MemoryStore):
        def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
            for record in super().read(run_id, start):
                yield evolve(record, data={**record.data, "trace": "00-\x1b]0;x\x07-1-01"})

    store = Forged()
    both(Talk, "Hi.", [], is_async=False, journal=store, run_id="r")
    go_on(Talk, "r", [replies.text("Hello.")], journal=store, answer="And?")
    assert not told.named("invoke_workflow Talk")[1].links


def test_an_ending_that_is_none_of_success_is_an_error(told: Told) -> None:
    both(Plain, "Hi.", [replies.error(400, "invalid_request_error", "no")], is_async=False)
    root = told.one("invoke_workflow Plain")
    assert (root.status.is_ok, (root.attributes or {})["error.type"]) == (False, "invalid_request_error")
    assert root.status.description is None


def test_an_exception_ends_the_spans_without_its_words(told: Told) -> None:
    class Broken(MemoryStore):
        def append(self, run_id: str, records: Any) -> None:
            if any(record.kind == "reply" for record in records):
                raise JournalError(f"disk full {SECRET}")
            super().append(run_id, records)

    with pytest.raises(JournalError):
        both(Plain, "Hi.", [replies.text("Hello.")], is_async=False, journal=Broken())
    assert (told.one("invoke_workflow Plain").attributes or {})["error.type"] == "JournalError"
    assert told.tree()[("fsm.state asking", "invoke_workflow Plain")] == 1


def test_no_content_and_no_name_that_steers_a_terminal(told: Told) -> None:
    """X7, X8: neither what was said nor what was raised; a run's id is cleaned."""

    @tool
    def echo(text: str) -> str:
        """Echo."""
        raise ValueError(f"{text} {SECRET}")

    result, _ = both(
        loop_of(echo, system=f"You are {SECRET}."),
        f"Hi {SECRET}.",
        [replies.tool_use("echo", {"text": SECRET}), replies.text(f"done {SECRET}")],
        is_async=False,
        run_id="r\x1b[31m\n1",
        tags={"who": SECRET},
    )
    assert result.ok
    everything = "\n".join(span.to_json() for span in told.spans) + json.dumps(str(told.counts()))
    assert SECRET not in everything
    assert "\\u001b" not in everything
    failed = told.one("execute_tool echo")
    assert (failed.attributes or {})["error.type"] == "tool_error"
    assert not failed.events


def test_the_clients_own_provider_wins(told: Told) -> None:
    own = Told()
    with Emulator([replies.text("Hello.")]).client() as client:
        traced = client.with_options(open_telemetry={"tracer_provider": own.provider})
        run(Plain, "Hi.", client=traced)
    assert not told.spans
    assert sum(own.tree().values()) == 3


def test_a_client_whose_spans_are_off_has_none(told: Told) -> None:
    with Emulator([replies.text("Hello.")]).client() as client:
        run(Plain, "Hi.", client=client.with_options(open_telemetry=False))
    assert sorted(span.name for span in told.spans) == ["fsm.state asking", "invoke_workflow Plain"]


def test_a_client_with_middleware_has_one_chat_span_too(told: Told) -> None:
    """Such a client gets `messages.create`, which traces by itself."""
    with Emulator([replies.text("Hello.")]).client() as client:
        run(Plain, "Hi.", client=client.with_options(middleware=[lambda request, call_next: call_next(request)]))
    assert told.tree()[(CHAT, "fsm.state asking")] == 1
    assert len(told.named(CHAT)) == 1


def test_runs_moves_and_tokens_are_counted(told: Told) -> None:
    for _ in range(2):
        both(Loop, "Hi.", one_call("find", {"number": "1"}), is_async=False)
    both(Talk, "Hi.", [], is_async=False)
    counts = told.counts()
    assert counts["fsm.runs"] == {
        (("fsm.reason", "end_turn"), ("fsm.state", "answered"), ("fsm.workflow", "Loop")): 2,
        (("fsm.reason", "waiting_person"), ("fsm.state", "hearing"), ("fsm.workflow", "Talk")): 1,
    }
    assert counts["fsm.moves"] == {
        (("fsm.event", "tool_use"), ("fsm.state", "asking"), ("fsm.workflow", "Loop")): 2,
        (("fsm.event", "tool_results"), ("fsm.state", "calling"), ("fsm.workflow", "Loop")): 2,
        (("fsm.event", "end_turn"), ("fsm.state", "asking"), ("fsm.workflow", "Loop")): 2,
    }
    assert {key[-1] for key in counts["fsm.tokens"]} == {
        ("gen_ai.token.type", "input"),
        ("gen_ai.token.type", "output"),
    }


def test_a_code_state_and_whoever_is_asked_are_below_their_state(told: Told) -> None:
    tracer = told.provider.get_tracer("of.the.user")

    def look(facts: Facts) -> Any:
        with tracer.start_as_current_span("looked"):
            return "ok"

    look.__annotations__["return"] = __import__("typing").Literal["ok"]

    class Looked(Workflow):
        looking = Code(look)
        hearing = Human()
        answered = Final()

        looking.on("ok", hearing)
        hearing.on(said=answered)

    def ask(question: Any) -> str:
        with tracer.start_as_current_span("asked"):
            return "yes"

    run(Looked, "Hi.", ask=ask)
    assert told.parent(told.one("looked")) == "fsm.state looking"
    assert told.parent(told.one("asked")) == "fsm.state hearing"


def test_switched_off_no_span_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a provider nothing of OpenTelemetry is called but the one look at the start of a run."""
    made: list[str] = []
    for kind in (trace.NoOpTracer, trace.ProxyTracer, trace.NonRecordingSpan):
        for name in ("start_span", "start_as_current_span", "__init__"):
            if name in vars(kind):
                monkeypatch.setattr(kind, name, lambda *a, kind=kind, name=name, **k: made.append(f"{kind}.{name}"))
    looked: list[int] = []
    before = trace.get_tracer_provider
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: looked.append(1) or before())
    monkeypatch.setattr("fsm._telemetry._loads", lambda: True)
    with Emulator(one_call("find", {"number": "1"}) * 3).client() as client:
        client._lazy_tracer = None  # the client's own look is not ours
        for _ in range(3):
            assert run(Loop, "Hi.", client=client).ok
    assert made == []
    assert len(looked) == 3


def test_a_provider_that_is_set_as_programs_do_it() -> None:
    """In a process of its own, by the public functions; before that, nothing is imported and nothing is recorded."""
    code = """
import sys
from fsm import Claude, Final, MemoryStore, Workflow, run
from fsm.testing import Emulator, replies
class Plain(Workflow):
    asking = Claude(model="claude-sonnet-5", max_tokens=100)
    answered = Final()
    asking.on(end_turn=answered)
def go():
    store = MemoryStore()
    run(Plain, "Hi.", client=Emulator([replies.text("Hello.")]).client(), journal=store, run_id="r")
    return "trace" in next(store.read("r")).data
assert not go()
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
assert go()
print([span.name for span in exporter.get_finished_spans()])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['anthropic.messages.create', 'fsm.state asking', 'invoke_workflow Plain']"


def test_a_provider_that_cannot_be_loaded_stops_no_run() -> None:
    code = (
        "from fsm import Final, Human, Workflow, run\n"
        "class Talk(Workflow):\n    hearing = Human()\n    bye = Final()\n    hearing.on(said=bye)\n"
        "print(run(Talk, 'Hi.').verdict.reason, run(Talk, 'Hi.', ask=lambda q: 'yes').state)"
    )
    env = {"OTEL_PYTHON_TRACER_PROVIDER": "none_such", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "waiting_person bye"
