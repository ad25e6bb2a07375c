"""The Messages API in one object: scripted replies, strict requests, in-process or behind `fsm.testing.server`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from fsm import _legality
from fsm.testing import _requests, _serving
from fsm.testing import replies as _replies
from fsm.testing._reply import STATUS_OF_ERROR, Reply
from fsm.testing._requests import RecordedRequest, RequestRefusedError
from fsm.testing._serving import Answer
from fsm.testing._threads import Joined, Threads

if TYPE_CHECKING:
    import anthropic
    import httpx2

Script: TypeAlias = Callable[[dict[str, Any]], Reply | str]
_CLIENT_BASE_URL = "http://emulator.invalid"


class Emulator:
    """Answers requests of the Messages API from a script, and refuses what the API refuses.

    Params:
        replies: a sequence, given out in order, or a function of the request body (with the whole conversation, also
            when the request carries only the new messages of a thread), called under the emulator's lock. A plain
            string stands for `replies.text` of it.
        seed: chooses the ids and the key that signs thinking.
        strict: false judges requests by the lenient profile of `_legality` (split results merge, R17) and accepts
            thinking blocks that this emulator did not sign.
        latency: in seconds, or a function that gives it; waited before each answer of a scripted reply.
        chunk: re-cuts streams to pieces of so many bytes (V5).

    Raises:
        TypeError: the script holds something that is no `Reply`; build it with `fsm.testing.replies`.
        ValueError: `chunk` is less than 1.
    """

    def __init__(
        self,
        replies: Sequence[Reply | str] | Script,
        *,
        seed: int = 0,
        strict: bool = True,
        latency: float | Callable[[], float] = 0.0,
        chunk: int | None = None,
    ) -> None:
        if isinstance(replies, str):
            raise TypeError("the script is one string: put it in a list")
        script = () if callable(replies) else tuple(_as_reply(each) for each in replies)
        for number, reply in enumerate(script, 1):
            if not isinstance(reply, Reply):
                kind = type(reply).__name__
                raise TypeError(f"reply {number} of the script is a {kind}: build it with fsm.testing.replies")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk={chunk} counts bytes: use 1 or more")
        self._function: Script | None = replies if callable(replies) else None
        self._script: tuple[Reply, ...] = script
        self._strict, self._latency, self._chunk = strict, latency, chunk
        self._lock = threading.RLock()
        self._ids, self._signer, self._threads = _serving.Ids(seed), _serving.Signer(seed), Threads()
        self._next = 0
        self._beyond = 0
        self._problems: list[str] = []
        self._requests: list[RecordedRequest] = []
        self._calls: list[tuple[bytes, tuple[dict[str, Any], ...]]] = []

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request so far, in order of arrival, refused ones included (V10)."""
        with self._lock:
            return tuple(self._requests)

    @property
    def unconsumed(self) -> tuple[Reply, ...]:
        """The scripted replies that no request has asked for yet."""
        with self._lock:
            return self._script[self._next :]

    @property
    def exhausted(self) -> bool:
        """Whether a request came after the last scripted reply."""
        with self._lock:
            return self._beyond > 0

    def done(self) -> None:
        """Assert that the script was played to its end and not beyond.

        Raises:
            AssertionError: says how many replies are left, how many requests had none, what failed in the script
                itself, and which errors were answered on the way.
        """
        problems = list(self._problems)
        if self.exhausted:
            problems.append(f"{self._beyond} request(s) came after the last of {len(self._script)} replies")
        if self.unconsumed:
            kinds = ", ".join(reply.stop_reason or reply.kind for reply in self.unconsumed)
            problems.append(f"{len(self.unconsumed)} of {len(self._script)} replies were not asked for: {kinds}")
        if problems:
            problems += [f"answered {request.status}: {request.error}" for request in self.requests if request.error]
            raise AssertionError("; ".join(problems))

    def answer(self, method: str, target: str, headers: Mapping[str, str], raw: bytes) -> Answer:
        """Answer one HTTP request; the transports and the server are thin around this.

        Params:
            method: the HTTP method.
            target: path and query.
            headers: of the request, names in any case.
            raw: the body as received.

        Returns:
            The answer; a request that the API would refuse gets its error, nothing is raised.
        """
        lowered = {name.lower(): value for name, value in headers.items()}
        path = target.partition("?")[0]
        with self._lock:
            request_id = self._ids.new("req_01", b"")
            body: dict[str, Any] | None = None
            joined: Joined | None = None
            problem: str | None = None
            try:
                _requests.check_http(method, path, lowered)
                body = _requests.parse(raw)
                joined = self._judge(body, lowered, counting=path == _requests.COUNT_TOKENS)
                answer, problem = self._serve(joined, path, raw, request_id)
            except RequestRefusedError as refused:
                problem = str(refused)
                error = {"type": _serving.error_type(refused.status), "message": problem}
                details = {"details": dict(refused.details)} if refused.details else {}
                answer = _serving.error_answer(refused.status, error | details, request_id)
            self._requests.append(
                RecordedRequest(
                    method=method,
                    path=target,
                    headers=_requests.redacted(headers),
                    raw=raw,
                    body=body,
                    conversation=None if joined is None else joined.body,
                    status=answer.status,
                    request_id=request_id,
                    error=problem,
                )
            )
            return answer

    def _judge(self, body: dict[str, Any], headers: Mapping[str, str], *, counting: bool) -> Joined:
        """Refuse what breaks a rule of the envelope, of threads, of the version or of the conversation."""
        _requests.check_types(body)
        whole = isinstance(body.get("messages"), list)
        joined = self._threads.join(body, headers.get("anthropic-beta", "")) if whole else Joined(body=body, sent=body)
        profile = _legality.STRICT if self._strict else _legality.LENIENT
        required = [name for name in _legality.REQUIRED if not (counting and name == "max_tokens")]
        for violation in _legality.violations(joined.body, profile, required=required):
            raise RequestRefusedError(violation.message)
        _requests.check_version(joined.body, headers["anthropic-version"])
        if self._strict:
            for role, path, block in _requests.blocks(joined.body["messages"]):
                if role == "assistant" and block.get("type") == "thinking" and not self._signer.accepts(block):
                    raise RequestRefusedError(f"{path}: Invalid `signature` in `thinking` block")  # R32
        return joined

    def _serve(self, joined: Joined, path: str, raw: bytes, request_id: str) -> tuple[Answer, str | None]:
        """The next reply of the script as an answer, and what was wrong, if it is an error."""
        size = len(raw)
        if joined.before is not None:
            size += len(json.dumps(joined.body["messages"]))
        if path == _requests.COUNT_TOKENS:
            counted = json.dumps({"input_tokens": _serving.tokens(size)}).encode()
            return _serving.body_answer(200, counted, request_id), None
        reply = self._take(joined)
        delay = self._latency() if callable(self._latency) else self._latency
        if reply.body is not None:
            return _serving.body_answer(reply.status, reply.body, request_id, reply=reply, delay=delay), None
        stream = bool(joined.sent.get("stream"))
        if reply.error is not None and not (stream and reply.kind == "sse_error"):
            answer = _serving.error_answer(_status(reply), reply.error, request_id, reply=reply, delay=delay)
            return answer, str(reply.error["message"])
        message = _serving.build_message(
            reply, joined.body, ids=self._ids, signer=self._signer, known=raw, input_tokens=_serving.tokens(size)
        )
        if reply.error is None:
            self._remember(joined, message)
        answer = _serving.message_answer(reply, message, request_id, stream=stream, chunk=self._chunk, delay=delay)
        return answer, None

    def _take(self, joined: Joined) -> Reply:
        """The reply for this request; raises what is answered when the script has none."""
        if self._function is not None:
            reply = self._ask(self._function, joined.body)
        elif self._next < len(self._script):
            reply = self._script[self._next]
            self._next += 1
        else:
            self._beyond += 1
            have = len(self._script)
            raise RequestRefusedError(
                f"emulator: the script has {have} replies and this is request {have + self._beyond}"
            )
        return self._repeat(reply, joined) if reply.repeats else reply

    def _ask(self, function: Script, body: dict[str, Any]) -> Reply:
        try:
            reply = _as_reply(function(body))
        except Exception as error:  # noqa: BLE001  # whatever the script does, the client gets an answer that says so
            self._fail(f"emulator: the reply function raised {type(error).__name__}: {error}", error)
        if not isinstance(reply, Reply):
            self._fail(f"emulator: the reply function returned {type(reply).__name__}, no Reply of fsm.testing.replies")
        return reply

    def _repeat(self, reply: Reply, joined: Joined) -> Reply:
        """The earlier reply of this conversation whose ids come again (D1)."""
        mine = [calls for key, calls in self._calls if key == _conversation_key(joined)]
        if len(mine) < reply.repeats:
            problem = f"emulator: repeat_id({reply.repeats}) but this conversation has {len(mine)} replies with calls"
            self._fail(problem)
        return Reply(content=mine[-reply.repeats], stop_reason="tool_use")

    def _remember(self, joined: Joined, message: Mapping[str, Any]) -> None:
        self._threads.store(joined, message)
        calls = tuple(block for block in message["content"] if block["type"] == "tool_use")
        if calls:
            self._calls.append((_conversation_key(joined), calls))

    def _fail(self, problem: str, cause: Exception | None = None) -> NoReturn:
        """Answer that the script itself is wrong, and let `done` say so."""
        self._problems.append(problem)
        raise RequestRefusedError(problem) from cause

    def transport(self) -> httpx2.BaseTransport:
        """The emulator as a transport for `httpx2.Client`; no socket is opened."""
        from fsm.testing._transports import EmulatorTransport

        return EmulatorTransport(self.answer)

    def async_transport(self) -> httpx2.AsyncBaseTransport:
        """The emulator as a transport for `httpx2.AsyncClient`; no socket is opened."""
        from fsm.testing._transports import AsyncEmulatorTransport

        return AsyncEmulatorTransport(self.answer)

    def client(self, **options: Any) -> anthropic.Anthropic:
        """A real SDK client that talks to this emulator; `options` go to `anthropic.Anthropic` (retries are off)."""
        import anthropic
        import httpx2

        http = httpx2.Client(transport=self.transport())
        given: dict[str, Any] = {"api_key": "test-key", "base_url": _CLIENT_BASE_URL, "max_retries": 0}
        return anthropic.Anthropic(**(given | {"http_client": http} | options))

    def async_client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """The same for `anthropic.AsyncAnthropic`."""
        import anthropic
        import httpx2

        http = httpx2.AsyncClient(transport=self.async_transport())
        given: dict[str, Any] = {"api_key": "test-key", "base_url": _CLIENT_BASE_URL, "max_retries": 0}
        return anthropic.AsyncAnthropic(**(given | {"http_client": http} | options))


def _as_reply(given: Any) -> Any:
    return _replies.text(given) if isinstance(given, str) else given


def _status(reply: Reply) -> int:
    """The HTTP status of an error reply; one made for a stream has that of its type."""
    if reply.kind != "sse_error" or reply.error is None:
        return reply.status
    return STATUS_OF_ERROR.get(str(reply.error["type"]), 500)


def _conversation_key(joined: Joined) -> bytes:
    first = joined.body["messages"][0] if joined.body["messages"] else None
    return json.dumps(first, sort_keys=True).encode()
