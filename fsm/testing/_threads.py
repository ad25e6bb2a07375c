"""Message threads (beta): the history that the server holds, so that a request carries only what is new (R71)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from fsm.testing._requests import RequestRefusedError

THREADS_BETA = "message-threads-2026-08-12"
_CREATE_ONLY = ("system", "tools")  # The thread keeps those of its first request.
_UNSUPPORTED = ("cache_control", "context_management", "fallbacks", "thinking")


@frozen(kw_only=True)
class _Turn:
    """One stored turn: what the request added and what was answered, after the turn `before` it."""

    before: _Turn | None
    said: list[dict[str, Any]]
    answered: list[dict[str, Any]]
    kept: dict[str, Any]
    output_config: object

    def history(self) -> list[dict[str, Any]]:
        turns: list[_Turn] = []
        turn: _Turn | None = self
        while turn is not None:
            turns.append(turn)
            turn = turn.before
        return [message for turn in reversed(turns) for message in (*turn.said, *turn.answered)]


@frozen(kw_only=True)
class Joined:
    """A request as the API judges it: `body` is the whole conversation, `before` the stored turn that it continues."""

    body: dict[str, Any]
    sent: dict[str, Any]
    before: _Turn | None = None
    threaded: bool = False


class Threads:
    """The threads that an emulator holds, by the id of the reply that each turn ended with."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._continued: set[str] = set()
        self._in_flight: set[str] = set()

    def join(self, body: dict[str, Any], betas: str) -> Joined:
        """Put the stored history before the messages of a continuation.

        Params: the request, and its `anthropic-beta` header. Raises `RequestRefusedError` as the API does (E28).
        """
        thread = body.get("thread")
        if thread is None:
            return Joined(body={key: value for key, value in body.items() if key != "thread"}, sent=body)
        if THREADS_BETA not in [name.strip() for name in betas.split(",")]:
            raise RequestRefusedError("thread: Extra inputs are not permitted")  # R3: unknown without its beta header.
        unsupported = [name for name in _UNSUPPORTED if body.get(name) is not None]
        if unsupported:
            problem = f"thread: not supported together with {', '.join(unsupported)}"
            details = {"error_code": "thread_unsupported_request", "unsupported": unsupported}
            raise RequestRefusedError(problem, details=details)
        kind = thread.get("type") if isinstance(thread, Mapping) else None
        if kind == "create":
            return Joined(body={key: body[key] for key in body if key != "thread"}, sent=body, threaded=True)
        if kind != "continue":
            raise RequestRefusedError(
                "thread: Input tag found using 'type' does not match any of the expected tags: 'create', 'continue'"
            )
        return self._continue(body, thread.get("previous_message_id"))

    def _continue(self, body: dict[str, Any], previous: object) -> Joined:
        if not isinstance(previous, str):
            raise RequestRefusedError("thread.continue.previous_message_id: Field required")
        turn = self._turns.get(previous)
        if turn is None:
            raise RequestRefusedError(
                f"thread: no thread was found for previous_message_id {previous}",
                status=404,
                details={"error_code": "thread_not_found"},
            )
        if previous in self._in_flight:
            raise RequestRefusedError(
                f"thread: the response {previous} is being continued by another request",
                details={"error_code": "thread_continue_in_flight"},
            )
        if previous in self._continued:
            raise RequestRefusedError(
                f"thread: the response {previous} has already been continued",
                details={"error_code": "thread_already_continued"},
            )
        repeated = [name for name in _CREATE_ONLY if name in body]
        if repeated:
            raise RequestRefusedError(
                f"{repeated[0]}: cannot be set when a thread is continued; the thread keeps its own"
            )
        if body.get("output_config") != turn.output_config:
            raise RequestRefusedError(
                "thread: the request does not match its thread; differing field(s): output_config",
                details={"error_code": "thread_fingerprint_mismatch"},
            )
        rest = {key: value for key, value in body.items() if key not in {"thread", "messages"}}
        whole = turn.kept | rest | {"messages": [*turn.history(), *body["messages"]]}
        return Joined(body=whole, sent=body, before=turn, threaded=True)

    def begin(self, joined: Joined) -> Callable[[], None]:
        """Say that an answer is on its way; what is returned says that it has ended, however it did."""
        if joined.before is None:
            return lambda: None
        previous = str(joined.sent["thread"]["previous_message_id"])
        self._in_flight.add(previous)
        return lambda: self._in_flight.discard(previous)

    def store(self, joined: Joined, message: Mapping[str, Any]) -> None:
        """Hold the conversation up to `message` under its id; a refused turn is not held, an empty one adds nothing."""
        if not joined.threaded:
            return
        if joined.before is not None:
            self._continued.add(str(joined.sent["thread"]["previous_message_id"]))
        if message["stop_reason"] == "refusal":
            return
        content = message["content"]
        self._turns[message["id"]] = _Turn(
            before=joined.before,
            said=list(joined.sent["messages"]),
            answered=[{"role": "assistant", "content": content}] if content else [],
            kept={key: joined.body[key] for key in _CREATE_ONLY if key in joined.body},
            output_config=joined.body.get("output_config"),
        )
