"""Which conversation a request belongs to.

The Messages API has no conversation id, so it is read from the messages: a request goes on from the longest known
request whose messages are a prefix of its own, and from that one of its replies which the next message echoes. Requests
and replies are a tree, then: a fork is a second child, samples are several replies to one request. A request of a
thread (beta) names the reply it goes on from.

The same request again is told apart by who sends it. Whoever got a reply that asked for tools, and sends the very same
request again without having gone on from that reply, lost the results. Another task that sends it draws a sample.

Only hashes are kept, for each conversation its newest `KEPT` requests, and at most `CONVERSATIONS` conversations.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from fsm._records import Move
from fsm._stuck import Finding

from ._course import Course
from ._prints import Gist, chain, gist_of, start_of

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
    is_continued: bool = False


@define(eq=False)
class Point:
    """One request, by the hash of its messages: how things stood before a reply, and the replies that came."""

    key: bytes
    before: Course  # with all that the messages tell
    answers: dict[Gist, Answer] = field(factory=dict)
    trying: dict[Sender, tuple[Course, WatchedConversation]] = field(factory=dict)  # sent, not answered
    owners: set[str] = field(factory=set)

    def newest_of(self, sender: Sender) -> Answer | None:
        """The newest reply that this sender got and has not gone on from."""
        found = next((a for a in reversed(self.answers.values()) if a.sender == sender), None)
        return None if found is None or found.is_continued else found

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


class Links:
    """The tree of all requests that are remembered."""

    def __init__(self) -> None:
        self.points: dict[bytes, Point] = {}
        self.by_message: dict[str, tuple[Point, Answer]] = {}
        self.conversations: OrderedDict[str, WatchedConversation] = OrderedDict()
        self._count = 0

    def find(self, body: Mapping[str, Any], sender: Sender, named: str | None, *, is_retry: bool) -> Link:
        """Link a request; nothing is changed."""
        messages = body["messages"]
        thread = body.get("thread")
        if isinstance(thread, Mapping) and thread.get("type") == "continue":
            return self._of_thread(str(thread.get("previous_message_id")), messages, sender, is_retry=is_retry)
        keys = [start_of(named)]
        for message in messages:
            keys.append(chain(keys[-1], message))
        if (point := self.points.get(keys[-1])) is not None and messages:
            return self._again(point, sender, is_retry=is_retry)
        for length in range(len(messages) - 1, 0, -1):
            if (point := self.points.get(keys[length])) is not None:
                return self._onward(keys[-1], point, messages[length:], sender)
        known = self.conversations.get(named) if named is not None else None
        return Link(keys[-1], conversation=known, messages=messages)

    def _again(self, point: Point, sender: Sender, *, is_retry: bool) -> Link:
        """The messages of a request that was sent before."""
        if (tried := point.trying.get(sender)) is not None:  # the same attempt once more, after an error
            return Link(point.key, point, None, *tried)
        answer = None if is_retry else point.newest_of(sender)
        if answer is not None:
            return Link(point.key, point, answer, answer.course, answer.conversation)
        return Link(point.key, point, None, point.before)  # a sample, or another conversation that begins alike

    def _onward(self, key: bytes, point: Point, new: Sequence[Any], sender: Sender) -> Link:
        """The messages of a known request, and more."""
        first = new[0]
        if isinstance(first, Mapping) and first.get("role") == "assistant":
            answer = point.answers.get(gist_of(first.get("content"))) or _by_calls(point, first)
            if answer is not None:
                return self._from(key, answer, new, echoed=True)
            return Link(key, None, None, point.before, messages=new)  # a reply that others gave
        # The reply is left out: refused, cut, or dropped on purpose.
        answer = point.newest_of(sender)
        if answer is None:
            return Link(key, None, None, point.before, messages=new)
        return Link(key, None, answer, answer.course.dropped(), answer.conversation, new)

    def _of_thread(self, message_id: str, messages: Sequence[Any], sender: Sender, *, is_retry: bool) -> Link:
        found = self.by_message.get(message_id)
        key = start_of(message_id) if found is None else _after(found)
        for message in messages:
            key = chain(key, message)
        if found is None:
            return Link(key, messages=messages)
        if (again := self.points.get(key)) is not None:
            return self._again(again, sender, is_retry=is_retry)
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
