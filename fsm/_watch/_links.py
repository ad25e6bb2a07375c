"""Which conversation a request belongs to.

The Messages API has no conversation id, so it is read from the messages: a request goes on from the longest known
request whose messages are a prefix of its own, and from that one of its replies which the next message echoes. Requests
and replies are a tree, then: a fork is a second child, samples are several replies to one request. A request of a
thread (beta) names the reply it goes on from.

The same request again, after a reply that asked for tools and that nobody went on from, is a lost result or one more
sample; the bodies are alike. What tells them apart is how they are sent. Samples are drawn side by side: two of them
are on their way at once, or the task or thread that got the reply still runs and may go on from it, or a reply is gone
on from after a later one came. A body of which this was seen once is sampled, and is never called lost from then on.
What is sent strictly one after another is a loop, whether or not each request has a task or a thread of its own, as
`wait_for`, `create_task` and `to_thread` give it; only where `to_thread` takes another thread of its pool while the
first one is idle, it is missed. Samples that one worker draws one after another look exactly like that: they are told
apart by the names that the user gives them.

Only hashes are kept, for each conversation its newest `KEPT` requests, and at most `CONVERSATIONS` conversations.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from attrs import define, evolve, field, frozen

from fsm._records import Move
from fsm._stuck import Finding

from ._course import Course
from ._prints import Gist, chain, digest_of, gist_of, start_of

__all__ = ["CONVERSATIONS", "Answer", "Link", "Links", "Point", "WatchedConversation"]

CONVERSATIONS = 10_000
KEPT = 4
_ANSWERS = 64  # replies that one request keeps: samples of it, or conversations that begin alike
_LINES = 1000  # moves and findings that a conversation keeps

Sender = int | str
"""The task or thread that sends a request, or the name of the conversation that the user gave."""


@define(eq=False)
class WatchedConversation:
    """One conversation of a watched loop, live: where it stands, its newest moves and findings.

    `state` is a state of the workflow, `replies` counts the replies, `moves` and `findings` hold the newest 1000.
    """

    name: str
    state: str = ""
    replies: int = 0
    moves: deque[Move] = field(factory=lambda: deque(maxlen=_LINES))
    findings: deque[Finding] = field(factory=lambda: deque(maxlen=_LINES))
    _points: deque[Point] = field(factory=deque, repr=False)


@define(eq=False)
class Answer:
    """One reply to a request."""

    course: Course
    gist: Gist
    sender: Sender
    conversation: WatchedConversation
    message_id: str
    digest: bytes = b""  # of the request, with its head
    is_continued: bool = False


@define(eq=False)
class Point:
    """One request, by the hash of its messages: how things stood before a reply, and the replies that came."""

    key: bytes
    before: Course  # with all that the messages tell
    answers: dict[Gist, Answer] = field(factory=dict)
    trying: dict[Sender, tuple[Course, WatchedConversation]] = field(factory=dict)  # sent, not answered
    owners: set[str] = field(factory=set)
    flying: WeakSet[Any] = field(factory=WeakSet)  # requests on their way; one that its caller forgot is not

    def newest_of(self, sender: Sender) -> Answer | None:
        """The newest reply that this sender got and has not gone on from."""
        found = next((a for a in reversed(self.answers.values()) if a.sender == sender), None)
        return None if found is None or found.is_continued else found

    def newest_lost(self, digest: bytes) -> Answer | None:
        """The newest reply of all, if it asked for tools, came to this very request, and nobody went on from it."""
        found = next(reversed(self.answers.values()), None)
        if found is None or found.is_continued or found.digest != digest or not found.course.detector.open_calls:
            return None
        return found

    def add(self, answer: Answer) -> None:
        """Keep a reply."""
        self.answers.pop(answer.gist, None)
        self.answers[answer.gist] = answer
        if len(self.answers) > _ANSWERS:
            del self.answers[next(iter(self.answers))]


@frozen
class Link:
    """Where a request goes on: the point (None: not seen before), the reply, the course, and the messages that are new.

    `echoed` says that the first of these messages echoes the reply.
    """

    key: bytes
    point: Point | None = None
    answer: Answer | None = None
    course: Course | None = None  # None: nothing is known of what was before
    conversation: WatchedConversation | None = None  # None: a new one
    messages: Sequence[Any] = ()
    echoed: bool = False
    is_sample: bool = False
    origin: bytes | None = None  # the request that this one shows to be sampled

    @property
    def is_paused(self) -> bool:
        """Whether the request sends a paused turn back (S7.2)."""
        reply = self.course.reply if self.course is not None else None
        is_last = self.echoed and len(self.messages) == 1
        return is_last and reply is not None and reply.stop_reason == "pause_turn"


class Links:
    """The tree of all requests that are remembered."""

    def __init__(self, is_running: Callable[[Sender], bool] = lambda _: False) -> None:
        self.is_running = is_running  # whether a task still runs
        self.sampled: OrderedDict[bytes, None] = OrderedDict()
        self.points: dict[bytes, Point] = {}
        self.by_message: dict[str, tuple[Point, Answer]] = {}
        self.conversations: OrderedDict[str, WatchedConversation] = OrderedDict()
        self._count = 0

    def find(self, body: Mapping[str, Any], sender: Sender, named: str | None, *, is_retry: bool) -> Link:
        """Link a request; nothing is changed."""
        messages = body["messages"]
        thread = body.get("thread")
        if isinstance(thread, Mapping) and thread.get("type") == "continue":
            return self._of_thread(body, str(thread.get("previous_message_id")), sender, is_retry=is_retry)
        keys = [start_of(named)]
        for message in messages:
            keys.append(chain(keys[-1], message))
        if (point := self.points.get(keys[-1])) is not None and messages:
            return self._again(point, body, sender, is_retry=is_retry)
        for length in range(len(messages) - 1, 0, -1):
            if (point := self.points.get(keys[length])) is not None:
                return self._onward(keys[-1], point, messages[length:], sender)
        known = self.conversations.get(named) if named is not None else None
        return Link(keys[-1], conversation=known, messages=messages)

    def _again(self, point: Point, body: Mapping[str, Any], sender: Sender, *, is_retry: bool) -> Link:
        """The messages of a request that was sent before."""
        if (tried := point.trying.get(sender)) is not None:  # the same attempt once more, after an error
            return Link(point.key, point, None, *tried)
        answer = None
        if not is_retry and point.key not in self.sampled:
            answer = point.newest_of(sender) or point.newest_lost(digest_of(point.key, body))
        if answer is not None and answer.sender != sender and self.is_running(answer.sender):
            return Link(point.key, point, None, point.before, is_sample=True)  # it may go on from its own reply
        if answer is not None:
            return Link(point.key, point, answer, answer.course, answer.conversation)
        return Link(point.key, point, None, point.before)  # a sample, or another conversation that begins alike

    def _onward(self, key: bytes, point: Point, new: Sequence[Any], sender: Sender) -> Link:
        """The messages of a known request, and more."""
        first = new[0]
        if isinstance(first, Mapping) and first.get("role") == "assistant":
            answer = point.answers.get(gist_of(first.get("content"))) or _by_calls(point, first)
            if answer is not None:
                is_sample = answer is not next(reversed(point.answers.values()))  # later ones came, this one counts
                return evolve(self._from(key, answer, new, echoed=True), origin=point.key if is_sample else None)
            return Link(key, None, None, point.before, messages=new)  # a reply that others gave
        # The reply is left out: refused, cut, or dropped on purpose.
        answer = point.newest_of(sender)
        if answer is None:
            return Link(key, None, None, point.before, messages=new)
        return Link(key, None, answer, answer.course.dropped(), answer.conversation, new)

    def _of_thread(self, body: Mapping[str, Any], message_id: str, sender: Sender, *, is_retry: bool) -> Link:
        messages = body["messages"]
        found = self.by_message.get(message_id)
        key = start_of(message_id) if found is None else _after(found)
        for message in messages:
            key = chain(key, message)
        if found is None:
            return Link(key, messages=messages)
        if (again := self.points.get(key)) is not None:
            return self._again(again, body, sender, is_retry=is_retry)
        return self._from(key, found[1], messages, echoed=False)

    def _from(self, key: bytes, answer: Answer, new: Sequence[Any], *, echoed: bool) -> Link:
        fork = answer.is_continued
        return Link(key, None, answer, answer.course, None if fork else answer.conversation, new, echoed)

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def conversation(self, named: str | None) -> WatchedConversation:
        """A new conversation, or the one with this name; the one that was quiet for longest may be forgotten."""
        if named is None:
            self._count += 1
            named = f"conversation-{self._count}"
        if (known := self.conversations.get(named)) is not None:
            self.conversations.move_to_end(named)
            return known
        made = self.conversations[named] = WatchedConversation(named)
        while len(self.conversations) > CONVERSATIONS:
            _, oldest = self.conversations.popitem(last=False)
            while oldest._points:  # noqa: SLF001  # ours, not the user's
                self._drop(oldest._points.popleft(), oldest)  # noqa: SLF001
        return made

    def sent(
        self, link: Link, before: Course, after: Course, conversation: WatchedConversation, sender: Sender
    ) -> Point:
        """A request leaves."""
        point = link.point
        if point is None or self.points.get(link.key) is not point:
            point = self.points.setdefault(link.key, Point(link.key, before))
        if link.answer is not None and link.point is None:
            link.answer.is_continued = True
        if point.flying or link.is_sample:
            self._mark(point.key)
        if link.origin is not None:
            self._mark(link.origin)
        point.trying.pop(sender, None)
        point.trying[sender] = after, conversation
        if len(point.trying) > _ANSWERS:
            del point.trying[next(iter(point.trying))]
        points = conversation._points  # noqa: SLF001  # ours, not the user's
        if conversation.name not in point.owners:
            point.owners.add(conversation.name)
            points.append(point)
            while len(points) > KEPT:
                self._drop(points.popleft(), conversation)
        if conversation.name in self.conversations:
            self.conversations.move_to_end(conversation.name)
        return point

    def answered(self, point: Point, answer: Answer, *, threaded: bool) -> None:
        """A reply came."""
        point.trying.pop(answer.sender, None)
        point.add(answer)
        if threaded and answer.message_id and self.points.get(point.key) is point:
            self.by_message[answer.message_id] = point, answer

    def _mark(self, key: bytes) -> None:
        """This request is sampled: its replies are independent."""
        self.sampled[key] = None
        self.sampled.move_to_end(key)
        while len(self.sampled) > CONVERSATIONS:
            self.sampled.popitem(last=False)

    def _drop(self, point: Point, owner: WatchedConversation) -> None:
        point.owners.discard(owner.name)
        if point.owners:
            return
        if self.points.get(point.key) is point:
            del self.points[point.key]
        for answer in point.answers.values():
            self.by_message.pop(answer.message_id, None)


def _after(found: tuple[Point, Answer]) -> bytes:
    """The hash after a reply, as a later request with the whole history will have it."""
    point, answer = found
    blocks: list[Any] = [{"type": "text", "text": answer.gist.text}] if answer.gist.text else []
    blocks += [{"type": "mark", "id": mark} for mark in answer.gist.marks]
    return chain(point.key, {"role": "assistant", "content": blocks})


def _by_calls(point: Point, message: Mapping[str, Any]) -> Answer | None:
    """The reply that has one of the message's ids, where the loop changed the words."""
    marks = {mark for mark in gist_of(message.get("content")).marks if "_" in mark}
    return next((a for a in reversed(point.answers.values()) if marks & set(a.gist.marks)), None)
