"""The Messages API in one object: scripted replies, strict requests, in-process or behind `fsm.testing.server`."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from attrs import evolve, frozen

from fsm import _legality
from fsm._models import model_facts
from fsm._prices import window_of
from fsm.testing import _requests, _serving
from fsm.testing import replies as _replies
from fsm.testing._caching import Account, Cache, least_of
from fsm.testing._echoes import Echoes
from fsm.testing._faults import Fault
from fsm.testing._limits import Limits
from fsm.testing._plan import FaultPlan
from fsm.testing._prefix import Piece, pieces
from fsm.testing._reply import STATUS_OF_ERROR, Reply
from fsm.testing._requests import RecordedRequest, RequestRefusedError
from fsm.testing._serving import Answer
from fsm.testing._signing import Judged, Signer
from fsm.testing._threads import Joined, Threads

if TYPE_CHECKING:
    import anthropic
    import httpx2


@frozen(kw_only=True)
class _Asked:
    """A lawful request: with its thread's history, as it was sent, as the model reads it, and what was left out."""

    joined: Joined
    raw: bytes
    pieces: list[Piece]
    judged: Judged
    is_paused: bool  # it ends in a turn that was paused here (S7.2)

    @property
    def facts_name(self) -> str:
        """The model's name without its date."""
        return model_facts(str(self.joined.body["model"])).name


Script: TypeAlias = Callable[[dict[str, Any]], Reply | str]
_SMALL = 50_000  # tokens, which every model can read: below it the price list need not be loaded
_CLIENT_BASE_URL = "http://emulator.invalid"


class Emulator:
    """Answers requests of the Messages API from a script, and refuses what the API refuses.

    Params:
        replies: a sequence, given out in order, or a function of the request body (with the whole conversation, also
            when the request carries only the new messages of a thread), called under the emulator's lock. A plain
            string stands for `replies.text` of it.
        seed: chooses the ids and the key that signs thinking.
        strict: false judges requests by the lenient profile of `_legality` (split results merge, R17), whatever the
            model, and accepts thinking blocks that this emulator did not sign.
        faults: what goes wrong with which request (`fsm.testing.faults`): a `FaultPlan`, or a dict as it takes one.
        clock: gives seconds; entries of the prompt cache end, and rate limits refill, by it.
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
        faults: FaultPlan | Mapping[int, Fault | Reply] | None = None,
        clock: Callable[[], float] = time.monotonic,
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
        # Requests and answers that do not arrive have ids of their own, so that a fault changes no other id.
        self._ids, self._lost_ids = _serving.Ids(str(seed)), _serving.Ids(f"{seed}/lost")
        self._signer, self._threads, self._echoes = Signer(seed), Threads(), Echoes()
        self._cache, self._limits = Cache(clock), Limits(clock)
        self._faults = faults if isinstance(faults, FaultPlan) else FaultPlan(faults or {})
        self._served = 0  # requests that were answered, or would have been without a fault
        self._held: dict[bytes, Reply] = {}  # replies of a function that did not arrive, by the request
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
            request_id = self._lost_ids.new("req_01", b"")
            body: dict[str, Any] | None = None
            asked: _Asked | None = None
            fault: Fault | None = None
            problem: str | None = None
            try:
                _requests.check_http(method, path, lowered)
                body = _requests.parse(raw)
                asked = self._judge(body, raw, lowered, counting=path == _requests.COUNT_TOKENS)
                if path == _requests.COUNT_TOKENS:
                    counted = json.dumps({"input_tokens": sum(piece.tokens for piece in asked.pieces)}).encode()
                    answer = _serving.body_answer(200, counted, request_id)
                else:
                    self._served += 1
                    fault = self._faults.at(self._served)
                    answer, problem = self._serve(asked, request_id, fault)
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
                    conversation=None if asked is None else asked.joined.body,
                    status=answer.status,
                    request_id=request_id,
                    error=problem,
                    fault=None if fault is None else fault.name,
                    paused=asked is not None and asked.is_paused,
                )
            )
            return answer

    def _judge(self, body: dict[str, Any], raw: bytes, headers: Mapping[str, str], *, counting: bool) -> _Asked:
        """Refuse what breaks a rule of the envelope, of threads, of the version or of the conversation."""
        whole = isinstance(body.get("messages"), list)
        joined = self._threads.join(body, headers.get("anthropic-beta", "")) if whole else Joined(body=body, sent=body)
        betas = [name.strip() for name in headers.get("anthropic-beta", "").split(",")]
        model = joined.body.get("model")
        profile = _legality.LENIENT
        if self._strict:
            profile = _legality.profile_of(model, strict=True) if isinstance(model, str) else _legality.STRICT
        required = [name for name in _legality.REQUIRED if not (counting and name == "max_tokens")]
        messages = joined.body.get("messages")
        is_paused = self._echoes.is_paused(messages)
        for violation in _legality.violations(
            joined.body,
            profile,
            required=required,
            version=headers["anthropic-version"],
            betas=betas if self._strict else None,
            paused=is_paused,
        ):
            if self._is_served_so(violation, messages):
                continue
            raise RequestRefusedError(violation.message)
        split, judged = pieces(joined.body), Judged()
        if self._strict:
            judged = self._signer.judge(split, joined.body, betas, binds=profile.binds is not False)
        split = [piece for piece in split if piece.path not in judged.dropped]
        tokens = sum(piece.tokens for piece in split)
        window = window_of(str(model)) if tokens > _SMALL else None
        if window is not None and tokens > window:
            raise RequestRefusedError(f"prompt is too long: {tokens} tokens > {window} maximum")  # R60
        return _Asked(joined=joined, raw=raw, pieces=split, judged=judged, is_paused=is_paused)

    def _is_served_so(self, violation: _legality.Violation, messages: object) -> bool:
        """Whether a turn begins as this emulator served it: what the API sends, it takes back (R33)."""
        place = re.fullmatch(r"messages\.(\d+)\.content\.0", violation.path) if violation.rule == "R33" else None
        return place is not None and self._echoes.began_so(messages, int(place[1]))

    def _serve(self, asked: _Asked, request_id: str, fault: Fault | None) -> tuple[Answer, str | None]:
        """The answer to a lawful request, with what goes wrong on the way, and what was wrong, if it is an error."""
        arrives = fault is None or fault.arrives
        account = self._cache.account(asked.joined.body, asked.pieces, least=least_of(asked.facts_name), keep=arrives)
        if fault is not None and fault.answer is not None:
            reply = self._repeat(fault.answer, asked.joined) if fault.answer.repeats else fault.answer
        else:
            reply = self._take(asked, keep=not arrives)
        if fault is not None and fault.change is not None:
            reply = fault.change(reply)
        answer, problem = self._answer(asked, reply, account, request_id, arrives=arrives)
        return (answer if fault is None else fault.apply(answer)), problem

    def _answer(
        self, asked: _Asked, reply: Reply, account: Account, request_id: str, *, arrives: bool
    ) -> tuple[Answer, str | None]:
        delay = self._latency() if callable(self._latency) else self._latency
        if reply.body is not None:
            return _serving.body_answer(reply.status, reply.body, request_id, reply=reply, delay=delay), None
        joined, stream = asked.joined, bool(asked.joined.sent.get("stream"))
        if reply.error is not None and not (stream and reply.kind == "sse_error"):
            limits = self._limits.headers()
            answer = _serving.error_answer(
                _status(reply), reply.error, request_id, reply=reply, headers=limits, delay=delay
            )
            return answer, str(reply.error["message"])
        message = _serving.build_message(
            reply,
            joined.body,
            asked.pieces,
            ids=self._ids if arrives else self._lost_ids,
            signer=self._signer,
            known=asked.raw,
            account=account,
        )
        if asked.judged.controls:
            message["input_transformations"] = list(asked.judged.transformations)
        ended = self._threads.begin(joined) if stream or delay > 0 else _nothing
        if reply.error is None and arrives:
            self._remember(joined, message)
        limits = self._limits.headers(input_tokens=account.total, output_tokens=message["usage"]["output_tokens"])
        answer = _serving.message_answer(
            reply, message, request_id, stream=stream, chunk=self._chunk, headers=limits, delay=delay
        )
        return evolve(answer, ended=ended), None

    def _take(self, asked: _Asked, *, keep: bool) -> Reply:
        """The reply for this request, kept for the next one if it will not arrive; raises what is answered without."""
        if asked.joined.body.get("max_tokens") == 0:
            return _replies.max_tokens(usage={"output_tokens": 0})  # S5.5: the cache is warmed and nothing generated
        if self._function is not None:
            reply = self._held.pop(asked.raw, None) or self._ask(self._function, asked.joined.body)
            if keep:
                self._held[asked.raw] = reply
        elif self._next < len(self._script):
            reply = self._script[self._next]
            self._next += 0 if keep else 1
        else:
            self._beyond += 1
            have = len(self._script)
            raise RequestRefusedError(
                f"emulator: the script has {have} replies and this is request {have + self._beyond}"
            )
        return self._repeat(reply, asked.joined) if reply.repeats else reply

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
        self._echoes.remember(joined.body["messages"], message)
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


def _nothing() -> None:
    """What an answer that is over at once has to say at its end."""


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
