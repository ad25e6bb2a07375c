"""`Watcher`: takes requests and what came of them, keeps the conversations, and reports moves and findings."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal
from weakref import WeakKeyDictionary, WeakValueDictionary

from attrs import define, evolve, field, frozen

from fsm._compile import Plan
from fsm._errors import LoopFinding
from fsm._events import Failed
from fsm._legality import violations
from fsm._reading import read
from fsm._records import Move
from fsm._stuck import Finding, shown

from ._course import Course, of_violation
from ._links import Answer, Link, Links, Point, Sender, WatchedConversation
from ._prints import digest_of, gist_of

__all__ = ["OnFinding", "Pending", "WatchedMove", "Watcher"]

log = logging.getLogger("fsm.watch")

OnFinding = Literal["warn", "raise"] | Callable[[Finding], object]

_KEPT = 10_000  # moves and findings that a watcher keeps
_PATH = "/v1/messages"
_serials = itertools.count(1)
_threads = threading.local()
_tasks: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_running: WeakValueDictionary[int, Any] = WeakValueDictionary()  # tasks and threads by their numbers
_SAMPLES = " If these are samples of one question, send each inside `with client.conversation(name):`."


@frozen
class WatchedMove(Move):
    """A move of a watched loop, with the name of its conversation.

    It has no effects, for fsm does nothing there: who waits and sends again is the SDK or the loop. It names a guard
    only where the row is one of the workflow's own.
    """

    conversation: str = field(default="", kw_only=True)


@define(eq=False)
class Pending:
    """A request that is on its way."""

    point: Point
    course: Course
    conversation: WatchedConversation
    sender: Sender
    threaded: bool = False
    digest: bytes = b""


@frozen
class _Begun:
    """What was made of a request: `before` is the course that another reply to it starts from too."""

    link: Link
    before: Course
    after: Course
    found: Finding | None
    conversation: WatchedConversation
    sender: Sender
    threaded: bool
    digest: bytes


class Watcher:
    """What is known of all conversations of one client. Any number of threads and tasks may use it at once."""

    def __init__(self, plan: Plan, on_move: Callable[[Move], object] | None, on_finding: OnFinding) -> None:
        self.plan, self.on_move, self.on_finding = plan, on_move, on_finding
        self.findings: deque[Finding] = deque(maxlen=_KEPT)
        self.moves: deque[WatchedMove] = deque(maxlen=_KEPT)
        self._links = Links(_is_running)
        self.conversations: Mapping[str, WatchedConversation] = MappingProxyType(self._links.conversations)
        self._lock = threading.Lock()
        self._named: ContextVar[str | None] = ContextVar("fsm_watched_conversation", default=None)
        self._is_broken = False

    @contextmanager
    def conversation(self, name: str) -> Iterator[None]:
        """Requests made inside, by this task and those it starts, belong to the conversation of this name."""
        token = self._named.set(str(name))
        try:
            yield
        finally:
            self._named.reset(token)

    @contextmanager
    def safely(self) -> Iterator[None]:
        """Whatever of ours fails inside: the watched program must not notice, but somebody should read it once."""
        try:
            yield
        except Exception:  # as above
            level = logging.DEBUG if self._is_broken else logging.ERROR
            self._is_broken = True
            log.log(level, "watching failed here, the program goes on; please report this", exc_info=True)

    # ── before ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, request: Any) -> Pending | None:
        """A request is about to leave; None: it is none of ours.

        Raises:
            LoopFinding: there is something wrong with it, and `on_finding="raise"`; it must not leave.
        """
        begun: _Begun | None = None
        with self.safely():
            begun = self._judged(request)
        if begun is None:
            return None
        self._moved(begun.conversation, begun.after, None)
        if begun.found is not None:
            self._found(begun.conversation, begun.found)  # what it raises comes before the request counts as sent
        with self.safely(), self._lock:
            point = self._links.sent(begun.link, begun.before, begun.after, begun.conversation, begun.sender)
            pending = Pending(point, begun.after, begun.conversation, begun.sender, begun.threaded, begun.digest)
            point.flying.add(pending)
            return pending
        return None

    def _judged(self, request: Any) -> _Begun | None:
        body = _body_of(request)
        if body is None:
            return None
        is_retry = request.retries_taken > 0
        threaded = isinstance(body.get("thread"), Mapping)
        broken = () if is_retry else violations(body)
        named = self._named.get()
        sender = _sender() if named is None else named
        with self._lock:
            link = self._links.find(body, sender, named, is_retry=is_retry)
            course, found = (link.course or Course.start(self.plan)).told(link.messages, echoed=link.echoed)
            if broken and link.is_paused:  # rare enough to be judged twice
                broken = violations(body, paused=True)
            if broken:
                found = of_violation(broken[0], course)
            elif found is None and threaded and link.messages:
                found = course.lost()
            again = link.point is not None and link.answer is not None
            digest = digest_of(link.key, body)
            before, wrong = course.asked(digest, body.get("max_tokens"), again=again)
            if wrong is not None and wrong.rule == "D1c":
                wrong = evolve(wrong, todo=wrong.todo + _SAMPLES)
            found = found or wrong
            after = before if found is None else before.forgiven().stuck(found)
            conversation = link.conversation or self._links.conversation(named)
        return _Begun(link, before, after, found, conversation, sender, threaded, digest)

    # ── after ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def replied(self, pending: Pending, message: Mapping[str, Any], request_id: str | None) -> None:
        """A whole message came.

        Raises:
            LoopFinding: there is something wrong with it, and `on_finding="raise"`.
        """
        found: Finding | None = None
        with self.safely():
            reading = read(message)
            gist = gist_of(message.get("content"))
            with self._lock:
                course, found = pending.course.replied(reading)
                pending.course = course
                pending.point.flying.discard(pending)
                answer = Answer(
                    course, gist, pending.sender, pending.conversation, reading.reply.id, digest=pending.digest
                )
                self._links.answered(pending.point, answer, threaded=pending.threaded)
                pending.conversation.replies += 1
            self._moved(pending.conversation, course, request_id)
        if found is not None:
            self._found(pending.conversation, found)

    def failed(self, pending: Pending, failed: Failed) -> None:
        """No message came."""
        found: Finding | None = None
        with self.safely():
            with self._lock:
                pending.point.flying.discard(pending)
                pending.course, found = pending.course.failed(failed)
                if pending.sender in pending.point.trying:
                    pending.point.trying[pending.sender] = pending.course, pending.conversation
            self._moved(pending.conversation, pending.course, failed.request_id)
        if found is not None:
            self._found(pending.conversation, found)

    def given_up(self, pending: Pending) -> None:
        """Nobody waits for the answer any more."""
        with self.safely(), self._lock:
            pending.point.flying.discard(pending)

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _moved(self, conversation: WatchedConversation, course: Course, request_id: str | None) -> None:
        conversation.state = course.state
        first = course.moves - len(course.edges) + 1
        for seq, edge in enumerate(course.edges, first):
            move = WatchedMove(
                seq,
                time.time(),
                edge.source,
                edge.event,
                edge.dest,
                str(edge.guard) if edge.guard is not None and not edge.implied else None,
                (),
                edge.index,
                edge.implied,
                request_id,
                conversation=conversation.name,
            )
            conversation.state = edge.dest
            conversation.moves.append(move)
            self.moves.append(move)
            log.info("%s: %s request_id=%s", shown(conversation.name), move, request_id)
            if self.on_move is not None:
                with self.safely():
                    self.on_move(move)

    def _found(self, conversation: WatchedConversation, found: Finding) -> None:
        conversation.findings.append(found)
        self.findings.append(found)
        if self.on_finding == "raise":
            raise LoopFinding(found)
        if self.on_finding == "warn":
            log.warning("%s: %s", shown(conversation.name), found)
        else:
            self.on_finding(found)


def _body_of(request: Any) -> Mapping[str, Any] | None:
    """The body of a request for a message; None for every other path (token counts, batches, files, …)."""
    if request.method.lower() != "post" or not request.url.partition("?")[0].rstrip("/").endswith(_PATH):
        return None
    body = request.json
    if body is None and isinstance(raw := request.options.content, bytes | str):
        body = json.loads(raw)
    return body if isinstance(body, Mapping) and isinstance(body.get("messages"), list | tuple) else None


def _sender() -> int:
    """A number for the task, or the thread, that runs this: numbers of the dead are not given again."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None:
        if (serial := _tasks.get(task)) is None:
            serial = _tasks[task] = next(_serials)
            _running[serial] = task
        return serial
    if (known := getattr(_threads, "serial", None)) is None:
        known = _threads.serial = next(_serials)
        _running[known] = threading.current_thread()
    return int(known)


def _is_running(sender: Sender) -> bool:
    """Whether the task or thread with this number has not ended."""
    runner = _running.get(sender) if isinstance(sender, int) else None
    if isinstance(runner, threading.Thread):
        return runner.is_alive()
    return runner is not None and not runner.done()
