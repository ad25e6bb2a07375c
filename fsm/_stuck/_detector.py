"""`Detector`: what happened in one conversation, in order, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from fsm._facts import Call, Reply, Result

from ._finding import Finding, shown
from ._keys import call_key, result_key
from ._window import STEP_RULES, Group, Window

__all__ = ["Detector"]


@frozen(eq=False)
class _Ids:
    """The ids of all calls so far, each with the number of its reply.

    The values of one line share a dict that is only added to, as the legality rules do: a value sees the replies up to
    its own `bound`. Who comes second from the same value copies; `setdefault` decides who that is.
    """

    turns: dict[str, int] = field(factory=dict, repr=False)
    claims: dict[int, object] = field(factory=dict, repr=False)
    bound: int = 0

    def turn_of(self, call: str) -> int | None:
        turn = self.turns.get(call)
        return turn if turn is not None and turn <= self.bound else None

    def add(self, calls: Iterable[str], turn: int) -> _Ids:
        claim = object()
        turns, claims = self.turns, self.claims
        if claims.setdefault(self.bound, claim) is not claim:
            turns = self.known()
            claims = {self.bound: claim}
        for call in calls:
            turns.setdefault(call, turn)
        return _Ids(turns, claims, turn)

    def known(self) -> dict[str, int]:
        return {call: turn for call, turn in self.turns.copy().items() if turn <= self.bound}

    def __eq__(self, other: object) -> bool:
        return self.known() == other.known() if isinstance(other, _Ids) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self.known()))


@frozen
class Detector:
    """Finds loops in one conversation; begin with `start`. Each method returns a new value, the old one stays valid."""

    _ignore: Mapping[str, frozenset[str]] = field(factory=dict)
    _ids: _Ids = field(factory=_Ids)
    _turn: int = 0  # replies so far
    _asked: bytes | None = field(default=None, kw_only=True)  # the newest request
    # A request whose reply forbids to send it again, and the stop reason of that reply.
    _barred: tuple[bytes, str] | None = field(default=None, kw_only=True)
    # Calls of the newest reply, if it was a tool_use, that have no result; and the results of the others.
    _open: tuple[Call, ...] = field(default=(), kw_only=True)
    _given: tuple[tuple[Call, Result], ...] = field(default=(), kw_only=True)
    _window: Window = field(factory=Window, kw_only=True)

    @classmethod
    def start(cls, *, ignore: Mapping[str, Collection[str]] | None = None, polling: Collection[str] = ()) -> Detector:
        """The detector of a new conversation.

        Params:
            ignore: for a tool the top-level input fields that do not make a call another one, such as a timestamp.
            polling: names of tools that may be called again and again with an unchanged result.
        """
        fields = {tool: frozenset(names) for tool, names in (ignore or {}).items()}
        return cls(ignore=fields, window=Window(polling=frozenset(polling)))

    @property
    def open_calls(self) -> tuple[str, ...]:
        """The ids of the calls that wait for a result."""
        return tuple(call.id for call in self._open)

    def requested(self, digest: bytes) -> tuple[Detector, Finding | None]:
        """A request is about to be sent; `digest` identifies its head and its messages (D1c, D11)."""
        found = self.repeated(digest)
        if found is not None:
            return evolve(self._asking(digest), barred=None, open=(), given=()), found  # once, not again by D1b
        return self if digest == self._asked else self._asking(digest), None

    def repeated(self, digest: bytes) -> Finding | None:
        """What is wrong if this request is sent now.

        Sending the same request again is lawful after an error or a cut reply. It is not after a reply that asked for
        tools, for then the results were lost, nor after a refusal, for it is refused again (S8.3).
        """
        if self._barred is None or self._barred[0] != digest:
            return None
        if self._barred[1] == "refusal":
            return Finding(
                "unchanged_request",
                "D11",
                "harness",
                turns=(self._turn,),
                why="A request that was refused is sent again unchanged; it is refused again.",
                todo="Change the request, drop the refused turn, or use another model.",
            )
        return Finding(
            "lost_result",
            "D1c",
            "harness",
            ids=self.open_calls,
            turns=(self._turn,),
            call=_plain(self._open[0]) if self._open else None,
            why="Claude asked for tools, and the same request is sent again without the reply and its tool_result.",
            todo="Append the reply and one user message with a tool_result for every call before the next request.",
        )

    def replied(self, reply: Reply) -> tuple[Detector, Finding | None]:
        """A reply came (D1a, D1b)."""
        turn = self._turn + 1
        names = [call.id for call in reply.calls]
        finding = self._repeated(reply, names, turn) or self._lost(turn)
        opened = reply.calls if reply.stop_reason == "tool_use" else ()  # a cut call is never run (S5.2)
        is_barring = bool(opened) or reply.stop_reason == "refusal"
        after = Detector(
            self._ignore,
            self._ids.add(names, turn) if names else self._ids,
            turn,
            asked=self._asked,
            barred=(self._asked, reply.stop_reason) if is_barring and self._asked is not None else None,
            # What D1a found is not to be run, so nobody has to answer it.
            open=() if finding is not None and finding.rule == "D1a" else opened,
            window=self._window,
        )
        return after, finding

    def answered(self, results: Sequence[Result]) -> tuple[Detector, Finding | None]:
        """Results are about to be sent; the step is judged when every call has one (D2)."""
        waiting = {call.id: call for call in self._open}
        found = [(call, result) for result in results if (call := waiting.pop(result.id, None)) is not None]
        given = (*self._given, *found) if self._given else found
        if waiting or not given:
            return evolve(self, open=tuple(waiting.values()), given=tuple(given)), None
        groups: dict[bytes, Group] = {}
        for call, result in given:
            key = call_key(call.name, call.input, self._ignore.get(call.name, ()))
            answer = result_key(result.is_error, result.content)
            if (group := groups.get(key)) is None:
                groups[key] = call, [call.id], {answer}
            else:
                group[1].append(call.id)
                group[2].add(answer)
        window, finding = self._window.stepped(groups, self._turn), None
        for rule in STEP_RULES:
            window, hit = rule(window)
            finding = finding or hit
        # Built by name and not with `evolve`, which costs more than all the rest of a turn.
        return (
            Detector(self._ignore, self._ids, self._turn, asked=self._asked, barred=self._barred, window=window),
            finding,
        )

    def discarded(self) -> Detector:
        """The newest reply is dropped on purpose: nobody has to answer its calls, and its request may be sent again."""
        return evolve(self, barred=None, open=(), given=())

    def window_reset(self) -> Detector:
        """Something came from outside: a new window. The ids stay known, open calls stay open."""
        return evolve(self, window=Window(polling=self._window.polling))

    def _asking(self, digest: bytes) -> Detector:
        return Detector(
            self._ignore,
            self._ids,
            self._turn,
            asked=digest,
            barred=self._barred,
            open=self._open,
            given=self._given,
            window=self._window,
        )

    def _repeated(self, reply: Reply, names: Sequence[str], turn: int) -> Finding | None:
        """D1a. An id that comes twice in one reply cannot be answered either (R14)."""
        for index, name in enumerate(names):
            first = turn if name in names[:index] else self._ids.turn_of(name)
            if first is None:
                continue
            where = "twice in one reply" if first == turn else f"in reply {first} and again in reply {turn}"
            return Finding(
                "repeated_id",
                "D1a",
                "backend",
                ids=(name,),
                turns=(first, turn) if first != turn else (turn,),
                call=_plain(reply.calls[index]),
                why=f"The tool_use id {shown(name)} came {where}; the API itself never gives an id twice.",
                todo="Look at what stands between you and the API: a replaying proxy or cache, or another backend.",
            )
        return None

    def _lost(self, turn: int) -> Finding | None:
        """D1b."""
        if not self._open:
            return None
        return Finding(
            "lost_result",
            "D1b",
            "harness",
            ids=self.open_calls,
            turns=(turn - 1, turn),
            call=_plain(self._open[0]),
            why=f"Reply {turn} came although calls of reply {turn - 1} were never answered.",
            todo="Send a tool_result for every call of a reply before anything else.",
        )


def _plain(call: Call) -> dict[str, Any]:
    return {"name": call.name, "input": dict(call.input)}
