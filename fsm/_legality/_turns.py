"""`Legality`: how the turns of a conversation fit together, one message at a time.

A turn is a run of messages of one role, which the API reads as one message (R6). A state describes the turn that is
still growing and what the turns before it left open, so a step looks at the new message only and costs the same at
every turn.

A finding is given by the step that makes it certain, once. What a later message of the same turn could still mend, such
as an unanswered call when split results merge (R17), is given by the step that begins the next turn, or by `finish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from . import _findings as findings
from ._blocks import is_server_result
from ._contents import Answers, Reply, ServerUse, blocks_of, check_system, ends_blank
from ._profile import LENIENT, Profile
from ._seen import Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._findings import Violation

__all__ = ["Legality"]

_ROLES = ("user", "assistant", "system")
_KEYS = {"user": {"role", "content"}, "assistant": {"role", "content"}}
_KEYS["system"] = {"role", "content", "clear_at", "output_config"}
_NONE: frozenset[str] = frozenset()
# Where a run of system messages stands, in the place of the type of its last block: unlawfully, or found out already.
_MISPLACED, _BLAMED = "misplaced", "blamed"


@frozen(slots=False)  # attrs makes these in a third of the time, and a turn makes two
class Legality:
    """What must be remembered of some messages to judge the next one; begin with `start`.

    A value is never changed: `step` returns another one, and both can be stepped again.
    """

    _profile: Profile
    _continued: bool
    _seen: Seen
    _turn: int = -1
    _role: str = ""  # empty before the first message and after one that could not be read
    _blocks: int = 0
    _tail: str = ""  # type of the last block, for the end of the request
    _tail_blank: bool = False
    # Calls of the last assistant turn. None: what stood before is not known, so that results cannot be judged.
    _calls: tuple[str, ...] | None = ()
    _coded: frozenset[str] = _NONE  # those of them that code on the server made (R18)
    _answered: frozenset[str] = _NONE
    _late: frozenset[str] = _NONE  # answered, but after other content (R11)
    _spoken: bool = False  # the user turn has content other than results
    _reported: bool = False  # the unanswered calls were found already
    _server: tuple[ServerUse, ...] = ()
    # The first block of the first reply since a user spoke: its turn and its type (R33).
    _opening: tuple[int, str] | None = None
    _paused: bool = False  # the newest reply was paused, which its content does not tell (S7.1)

    @classmethod
    def start(cls, profile: Profile | None = None, *, continued: bool = False) -> Legality:
        """Return the state before the first message.

        Params:
            profile: what is refused beyond the rules that hold for all; None refuses nothing that is doubtful.
            continued: the messages go on from some that are not in the request, as with `thread`; what they may answer
                is then not known and not judged.
        """
        profile = LENIENT if profile is None else profile
        return cls(profile, continued, Seen(), calls=None if continued else ())

    @property
    def open_calls(self) -> tuple[str, ...]:
        """The ids of the client tool calls in the last assistant turn that have no result yet, in order."""
        return tuple(call for call in self._calls or () if call not in self._answered)

    @property
    def open_server_tools(self) -> tuple[str, ...]:
        """The ids of the server tool uses without a result: nothing may be said before they have one (R16)."""
        return tuple(use.id for use in self._server)

    @property
    def pending(self) -> tuple[ServerUse, ...]:
        """The server tools that the API would go on with if the request ended here (R16)."""
        return self._server

    @property
    def coded_calls(self) -> tuple[str, ...]:
        """The answered calls of code that still runs on the server: the request must name its container (R18)."""
        return tuple(sorted(self._coded & self._answered)) if self._role == "user" else ()

    @property
    def is_coded(self) -> bool:
        """Whether code on the server waits for the calls of the last assistant turn, answered or not (R18)."""
        return bool(self._coded)

    @property
    def at(self) -> str:
        """The address of the turn that is still growing."""
        return f"messages.{max(self._turn, 0)}"

    @property
    def opening(self) -> tuple[int, str] | None:
        """Turn and type of the first block of the reply that the open tool loop began with, or None (R33)."""
        return self._opening if self._role == "user" and self._calls and not self._spoken else None

    def step(self, message: Mapping[str, Any]) -> tuple[Legality, tuple[Violation, ...]]:
        """Append one message.

        Params:
            message: a message of a request, `{"role": …, "content": …}`; anything else gives a finding, never an error.

        Returns:
            The state after it, and the rules that it breaks for certain, none for a message that may be sent. If there
            are any, do not send it, and go on from the state that you had.
        """
        if type(message) is not dict and not isinstance(message, Mapping):  # the first test is the cheap one
            return self._unread(), (findings.wrong_shape(self._next()),)
        role = message.get("role")
        if role not in _ROLES:
            at = self._next()
            unread = findings.unexpected_role(at, role) if "role" in message else findings.missing(f"{at}.role")
            return self._unread(), (unread,)
        found: list[Violation] = []
        turn = self._turn
        if role != self._role:
            turn += 1
            self._end(role, found)
        if not self._profile.extra_keys_allowed:
            found += [
                findings.extra_key(f"messages.{turn}.{key}")
                for key in message
                if not isinstance(key, str) or key not in _KEYS[role]
            ]
        blocks = blocks_of(message, turn, found)
        if blocks is None:
            return self._unjudged(role, turn), tuple(found)
        if role == "assistant":
            state = self._assistant(blocks, turn, found)
        elif role == "user":
            state = self._user(blocks, turn, found)
        else:
            state = self._system(message, blocks, turn, found)
        return state, tuple(found)

    def as_paused(self) -> Legality:
        """The same, where the newest reply was paused: its turn may end with anything and goes back as it is (S7)."""
        return evolve(self, paused=True)

    def finish(self, *, contained: bool = True) -> tuple[Violation, ...]:
        """Return the rules that are broken if the request ends here; none if it may be sent.

        `contained` is whether the request names a container, which calls of code on the server need (R18).
        """
        if self._turn < 0:
            return () if self._continued else (findings.no_messages(),)
        at = f"messages.{self._turn}"
        found: list[Violation] = []
        if self._role == "user":
            self._end_user(found)
        if not contained and self.coded_calls:
            found.append(findings.no_container(self.coded_calls))
        if self._role != "assistant":
            return tuple(found)
        if self._calls:
            return (findings.unanswered(at, self._calls, late=False),)
        is_blank = self._tail == "text" and self._tail_blank and not self._paused
        if is_blank and self._profile.final_whitespace_allowed is False:
            found.append(findings.final_whitespace(at))
        if self._profile.prefill_allowed is False and self.is_prefilled:
            found.append(findings.prefill(at))
        return tuple(found)

    @property
    def is_prefilled(self) -> bool:
        """Whether a request that ends here asks the model to go on with words of its own (R25, R38).

        A paused turn is not that, and is sent back as it is (S7). Whoever does not know whether it was paused takes one
        for paused that ends with a server tool.
        """
        is_paused = self._paused or bool(self._server) or is_server_result(self._tail)
        is_paused = is_paused or self._tail == "compaction"  # S10.1: so is it
        return self._role == "assistant" and not self._calls and not is_paused

    # ── turns ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _next(self) -> str:
        return f"messages.{self._turn + 1}"

    def _unread(self) -> Legality:
        """Count a message that cannot be read as a turn; judge nothing by what it may have held."""
        return Legality(self._profile, True, self._seen, self._turn + 1, calls=None)  # noqa: FBT003

    def _unjudged(self, role: str, turn: int) -> Legality:
        """Keep the turn of a message whose content cannot be read; what it may have answered is not known."""
        server = () if role == "system" and role != self._role else self._server
        blocks = 1 if turn > self._turn else self._blocks + 1
        return Legality(self._profile, self._continued, self._seen, turn, role, blocks, calls=None, server=server)

    def _end(self, role: str, found: list[Violation]) -> None:
        """Say what is wrong with the turn that ends because one of another role begins."""
        if self._role == "user":
            self._end_user(found)
        elif self._role == "assistant":
            if not self._blocks:
                found.append(findings.empty_message(f"messages.{self._turn}"))
            if role == "system":  # R8: nothing may stand between calls and results
                if self._calls:
                    found.append(findings.unanswered(f"messages.{self._turn}", self._calls, late=False))
                found += _unpaired(self._server)
        elif self._role == "system" and role == "user" and self._blocks and self._tail != _BLAMED:
            found.append(findings.system_precedes(f"messages.{self._turn}"))

    def _end_user(self, found: list[Violation]) -> None:
        if not self._blocks:
            found.append(findings.empty_message(f"messages.{self._turn}"))
        if not self._reported and (unanswered := self.open_calls):
            found.append(findings.unanswered(f"messages.{self._turn - 1}", unanswered, late=False))

    def _assistant(self, blocks: Sequence[Any], turn: int, found: list[Violation]) -> Legality:
        if turn > self._turn:
            base, tail, blank = 0, "", False
            opening = self._opening if self._role == "user" else None
            reply = Reply(self._profile, self._seen, self._continued, turn, {}, _NONE, self._server, opening, "")
        else:
            base, tail, blank = self._blocks, self._tail, self._tail_blank
            calls, head = dict.fromkeys(self._calls or ()), "thinking"
            reply = Reply(
                self._profile, self._seen, self._continued, turn, calls, self._coded, self._server, self._opening, head
            )
        reply.read(blocks, base, found)
        if blocks:
            tail, blank = reply.kind or "", ends_blank(blocks[-1])
        return Legality(
            self._profile,
            self._continued,
            self._seen.add(reply.fresh) if reply.fresh else self._seen,
            turn,
            "assistant",
            base + len(blocks),
            tail,
            blank,
            tuple(reply.calls),
            reply.coded,
            server=reply.server,
            opening=reply.opening,
        )

    def _user(self, blocks: Sequence[Any], turn: int, found: list[Violation]) -> Legality:
        calls, coded = self._calls, self._coded
        if turn > self._turn:
            base, spoken, reported = 0, False, False
            answers = Answers(turn, calls, coded, set(), set(), False)  # noqa: FBT003
        else:
            base, spoken, reported = self._blocks, self._spoken, self._reported
            answers = Answers(turn, calls, coded, set(self._answered), set(self._late), spoken)
        answers.read(blocks, base, found, trimmed=self._profile.is_trimmed)
        if blocks and not reported:
            reported = answers.lost(merging=self._profile.split_results_merge, found=found)
        if coded and answers.spoken and not spoken:
            found.append(findings.coded_not_alone(f"messages.{turn}", sorted(coded)))
        server = self._server
        # R16: a server tool may stay open only while the results of the client tools beside it, and nothing else, come.
        # What code on the server asked for has its own text, just above (R18).
        if server and blocks and (answers.spoken or calls == ()):
            found += _unpaired(use for use in server if not (coded and use.tool == "code_execution"))
            server = ()
        return Legality(
            self._profile,
            self._continued,
            self._seen,
            turn,
            "user",
            base + len(blocks),
            "",
            False,  # noqa: FBT003
            calls,
            coded,
            frozenset(answers.answered),
            frozenset(answers.late) if answers.late else _NONE,
            answers.spoken,
            reported,
            server,
            None if answers.spoken else self._opening,
        )

    def _system(self, message: Mapping[str, Any], blocks: Sequence[Any], turn: int, found: list[Violation]) -> Legality:
        at, begins = f"messages.{turn}", turn > self._turn
        place = self._place_system() if begins else self._tail
        if self._profile.system_role is False:
            found.append(findings.no_system_role(at))
            place = _BLAMED
        elif blocks and place == _MISPLACED:
            found.append(findings.system_first(at) if turn == 0 else findings.system_follows(at))
            place = _BLAMED
        elif not blocks and not message.get("output_config"):
            found.append(findings.system_empty(at))
        base = 0 if begins else self._blocks
        check_system(blocks, turn, base, found)
        server = () if begins and self._role == "assistant" else self._server
        count = base + len(blocks)
        return Legality(self._profile, self._continued, self._seen, turn, "system", count, place, server=server)

    def _place_system(self) -> str:
        """R8: where a system message stands that comes next; one that only gives directives may stand anywhere."""
        if self._turn < 0:
            return "" if self._continued else _MISPLACED
        if self._role != "assistant" or is_server_result(self._tail):
            return ""
        return _BLAMED if self._calls or self._server else _MISPLACED  # R10 and R16 have been found by `_end`


def _unpaired(server: Iterable[ServerUse]) -> list[Violation]:
    return [findings.unpaired_server_use(f"messages.{use.turn}", use.id, use.tool, use.result) for use in server]
