"""Spans and counters of a run for OpenTelemetry, by its API package alone; `anthropic` brings that one.

    invoke_workflow <workflow>      one for each drive; its events `fsm.move` are the moves; linked to the drive before
      fsm.state <state>             one for each stay in a state
        anthropic.messages.create   the client's own `chat` span (never a second one)
        execute_tool <tool>         one for each call that ran; what the tool traces is below it

Everything is read off the records that were just made durable, so sync and async say the same, and nothing is said
that the journal does not hold. No text, input or result goes into a span: names, numbers and reasons only (X7). Names
are those of the GenAI semantic conventions where they have one. Where nobody has set OpenTelemetry up, `spans_of` gives
None: one look a run.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from ._alphabet import ALPHABET, Group
from ._conversation import Conversation
from ._events import Answered, Event, Resumed, Started, ToolEnd
from ._records import Record
from ._version import __version__
from ._wire import clean

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Meter
    from opentelemetry.trace import Link, Span, Tracer

log = logging.getLogger("fsm.telemetry")

_SCOPE = "fsm"
_API = ("opentelemetry.trace", "opentelemetry.metrics")  # what the providers of the API package itself are: nothing
_BY_ENVIRONMENT = ("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER")
_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")  # W3C trace context
_LONGEST = 200  # characters of a name
_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_STOPS = frozenset({"close", "park"})
_FAILURES = frozenset({Group.RETRYABLE, Group.FATAL, Group.ANOMALY})


def spans_of(conversation: Conversation, client: Any = None) -> Spans | None:
    """What tells OpenTelemetry of a run; None where nobody listens.

    Params: the run; the client it was given, whose own tracer provider (`open_telemetry=`) wins over the global one.
    """
    given = getattr(client, "open_telemetry", None)
    own = given.get("tracer_provider") if isinstance(given, Mapping) else None
    if own is None and _API[0] not in sys.modules and not any(name in os.environ for name in _BY_ENVIRONMENT):
        return None
    if not _loads():
        return None
    from opentelemetry import metrics, trace

    tracers, meters = own or trace.get_tracer_provider(), metrics.get_meter_provider()
    if _is_nothing(tracers) and _is_nothing(meters):
        return None
    meter = None if _is_nothing(meters) else meters.get_meter(_SCOPE, __version__)
    return Spans(conversation, tracers.get_tracer(_SCOPE, __version__), None if meter is None else Counters.of(meter))


@cache
def _loads() -> bool:
    """Whether the providers that the environment names can be loaded; asked once, since each failure is logged."""
    try:
        from opentelemetry import metrics, trace

        trace.get_tracer_provider()
        metrics.get_meter_provider()
    except Exception:  # a provider that is not installed, or fails, must not stop a run
        log.debug("OpenTelemetry gives no provider, so runs have no spans", exc_info=True)
        return False
    return True


def _is_nothing(provider: object) -> bool:
    return type(provider).__module__.startswith(_API)


def _is_failure(event: str) -> bool:
    known = ALPHABET.get(event)
    return event == "raised" or (known is not None and known.group in _FAILURES)


def _name(text: object) -> str:
    return clean(str(text), _LONGEST)


@frozen
class Counters:
    """What is counted, by workflow, state and reason."""

    runs: Counter
    moves: Counter
    tokens: Counter

    @classmethod
    def of(cls, meter: Meter) -> Counters:
        """The counters of a meter, which gives the same ones each time."""
        return cls(
            meter.create_counter("fsm.runs", "{run}", "Drives that ended or parked, by workflow, state and reason"),
            meter.create_counter("fsm.moves", "{move}", "Moves, by workflow, source state and event"),
            meter.create_counter("fsm.tokens", "{token}", "Tokens, by workflow, state and type"),
        )


class Spans:
    """The spans of one drive, from its first event to its end."""

    def __init__(self, conversation: Conversation, tracer: Tracer, counters: Counters | None) -> None:
        from opentelemetry import trace

        self._trace, self._tracer, self._counters = trace, tracer, counters
        self._conversation = conversation
        self._graph = conversation.plan.graph
        self._workflow = _name(self._graph.name)
        self._run: Span = trace.INVALID_SPAN
        self._state: Span = trace.INVALID_SPAN
        self._at = ""
        self._stopped: Mapping[str, Any] | None = None  # what the journal says of it, which may know less than the run

    def begin(self, run_id: str, first: Sequence[Event]) -> tuple[Event, ...]:
        """Start the span of the run; gives the first events, with where the span is found again written on them."""
        run = self._conversation.run
        self._run = self._tracer.start_span(
            f"invoke_workflow {self._workflow}",
            links=self._links(run.trace),
            attributes={
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": self._workflow,
                "gen_ai.conversation.id": _name(run_id),
                "fsm.resumed": run.seq > 0,
            },
        )
        self._stopped = run.parked
        self._enter(run.state)
        if not self._run.is_recording():
            return tuple(first)
        here = self._run.get_span_context()
        parent = f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"
        return tuple(evolve(e, trace=parent) if isinstance(e, (Started, Resumed, Answered)) else e for e in first)

    def _links(self, before: str) -> list[Link]:
        found = _PARENT.fullmatch(before)
        if found is None:
            return []
        trace = self._trace
        flags = trace.TraceFlags(int(found[3], 16))
        return [trace.Link(trace.SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags))]

    def _enter(self, state: str) -> None:
        self._state.end()
        self._at = _name(state)
        node = self._graph.by_name.get(state)
        self._state = self._trace.INVALID_SPAN
        if node is not None and not node.is_final:
            self._state = self._tracer.start_span(
                f"fsm.state {self._at}",
                context=self._trace.set_span_in_context(self._run),
                attributes={"fsm.workflow": self._workflow, "fsm.state": self._at, "fsm.state.kind": node.kind},
            )

    def observe(self, records: Sequence[Record]) -> None:
        """Take in what was just recorded."""
        for record in records:
            if record.kind == "move":
                self._moved(record.data)
            elif record.kind == "reply":
                self._used(record.data["message"])
            elif record.kind == "migrate":
                self._enter(record.data["renamed"].get(self._at, self._at))
            elif record.kind in _STOPS:
                self._stopped = record.data
            elif record.kind in {"resume", "answer"}:
                self._stopped = None

    def _moved(self, data: Mapping[str, Any]) -> None:
        event, dest = _name(data["event"]), _name(data["dest"])
        if self._counters is not None:
            self._counters.moves.add(1, {"fsm.workflow": self._workflow, "fsm.state": self._at, "fsm.event": event})
        if self._run.is_recording():
            told: dict[str, Any] = {"fsm.move.source": self._at, "fsm.move.event": event, "fsm.move.dest": dest}
            if data["guard"]:
                told["fsm.move.guard"] = _name(data["guard"])
            if data["effects"]:
                told["fsm.move.effects"] = [_name(name) for name, _ in data["effects"]]
            self._run.add_event("fsm.move", told)
            self._state.set_attribute("fsm.event", event)
            if _is_failure(data["event"]):
                self._fail(self._state, event)
        self._enter(data["dest"])

    def _used(self, message: Mapping[str, Any]) -> None:
        """Tokens stand on the span of the state: the client does not see them where the bytes are read here."""
        usage = message.get("usage") or {}
        numbers = {name: n for name, n in usage.items() if isinstance(n, int) and not isinstance(n, bool)}
        for kind, used in (
            ("input", sum(numbers.get(name, 0) for name in _INPUT)),
            ("output", numbers.get("output_tokens", 0)),
        ):
            self._state.set_attribute(f"gen_ai.usage.{kind}_tokens", used)
            if self._counters is not None and used > 0:
                told = {"fsm.workflow": self._workflow, "fsm.state": self._at, "gen_ai.token.type": kind}
                self._counters.tokens.add(used, told)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What runs inside, the client's request among it, is below the span of the state.

        Never around a `yield` to whoever iterates over the run, whose own spans are their business.
        """
        with self._trace.use_span(self._state, record_exception=False, set_status_on_exception=False):
            yield

    @contextmanager
    def tool(self, name: str, call_id: str) -> Iterator[_Ended]:
        """The span of a call, around the tool itself, in whatever thread it runs."""
        span = self._tracer.start_span(
            f"execute_tool {_name(name)}",
            context=self._trace.set_span_in_context(self._state),
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": _name(name),
                "gen_ai.tool.call.id": _name(call_id),
                "gen_ai.tool.type": "function",
            },
        )
        with self._trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield _Ended(self, span)

    def _fail(self, span: Span, kind: str) -> None:
        span.set_attribute("error.type", kind)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))

    def end(self) -> None:
        """The drive is over: ended, parked, or thrown out of by an exception that is being raised now."""
        stopped, error = self._stopped, sys.exc_info()[1]
        if stopped is not None:
            reason = _name(stopped["reason"])
        else:
            reason = type(error).__name__ if error is not None else "unknown"
            self._fail(self._state, reason)
        self._state.end()
        node = self._graph.by_name.get(self._at)
        is_final = node is not None and node.is_final
        if self._counters is not None:
            self._counters.runs.add(1, {"fsm.workflow": self._workflow, "fsm.state": self._at, "fsm.reason": reason})
        self._run.set_attributes(
            {"fsm.state": self._at, "fsm.reason": reason, "fsm.parked": not is_final and bool(stopped)}
        )
        if stopped is None or (node is not None and is_final and not node.ok and reason != "cancel"):
            self._fail(self._run, reason)
        self._run.end()


class _Ended:
    """Marks the span of a call by how the call ended."""

    def __init__(self, spans: Spans, span: Span) -> None:
        self._spans, self._span = spans, span

    def __call__(self, end: ToolEnd) -> ToolEnd:
        if end.is_error:
            self._spans._fail(self._span, "tool_error")  # noqa: SLF001 - one class in two parts
        return end
