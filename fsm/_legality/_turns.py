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
from ._blocks import check_block, is_server_result, only_in_assistant, result_kind, use_kind
from ._profile import LENIENT, Profile
from ._seen import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._findings import Violation

__all__ = ["Legality"]

_ROLES = ("user", "assistant", "system")
_KEYS = {"user": {"role", "content"}, "assistant": {"role", "content"}}
_KEYS["system"] = {"role", "content", "clear_at", "output_config"}


@frozen
class _ServerUse:
    """A server tool use without a result so far: its id, the tool, the type of its result, the turn that it is in."""

    id: str
    tool: str
    result: str
    turn: int


@frozen(kw_only=True)
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
    _answered: frozenset[str] = frozenset()
    _late: frozenset[str] = frozenset()  # answered, but after other content (R11)
    _spoken: bool = False  # the user turn has content other than results
    _reported: bool = False  # the unanswered calls were found already
    _server: tuple[_ServerUse, ...] = ()

    @classmethod
    def start(cls, profile: Profile | None = None, *, continued: bool = False) -> Legality:
        """Return the state before the first message.

        Params:
            profile: what is refused beyond the rules that hold for all; None refuses nothing that is doubtful.
            continued: the messages go on from some that are not in the request, as with `thread`; what they may answer
                is then not known and not judged.
        """
        return cls(
            profile=LENIENT if profile is None else profile,
            continued=continued,
            seen=Seen(),
            calls=None if continued else (),
        )

    @property
    def open_calls(self) -> tuple[str, ...]:
        """The ids of the client tool calls in the last assistant turn that have no result yet, in order."""
        return tuple(call for call in self._calls or () if call not in self._answered)

    @property
    def open_server_tools(self) -> tuple[str, ...]:
        """The ids of the server tool uses without a result: nothing may be said before they have one (R16)."""
        return tuple(use.id for use in self._server)

    def step(self, message: Mapping[str, Any]) -> tuple[Legality, tuple[Violation, ...]]:
        """Append one message.

        Params:
            message: a message of a request, `{"role": …, "content": …}`; anything else gives a finding, never an error.

        Returns:
            The state after it, and the rules that it breaks for certain, none for a message that may be sent. If there
            are any, do not send it, and go on from the state that you had.
        """
        at = f"messages.{self._turn + 1}"
        if not isinstance(message, Mapping):
            return self._unread(), (findings.wrong_shape(at),)
        role = message.get("role")
        if "role" not in message:
            return self._unread(), (findings.missing(f"{at}.role"),)
        if role not in _ROLES:
            return self._unread(), (findings.unexpected_role(at, role),)
        found: list[Violation] = []
        state = self if role == self._role else self._begin(role, found)
        return state._append(message, found), tuple(found)  # noqa: SLF001  # a state of our own class

    def finish(self) -> tuple[Violation, ...]:
        """Return the rules that are broken if the request ends here; none if it may be sent."""
        at = f"messages.{self._turn}"
        if self._turn < 0:
            return () if self._continued else (findings.no_messages(),)
        if self._role == "user":
            return tuple(self._close_user())
        if self._role != "assistant":
            return ()
        if self._calls:
            return (findings.unanswered(at, self._calls, late=False),)
        found = []
        if self._tail == "text" and self._tail_blank and self._profile.final_whitespace_allowed is False:
            found.append(findings.final_whitespace(at))
        # R25: a paused turn is sent back as it is; it ends with a server tool.
        paused = bool(self._server) or is_server_result(self._tail)
        if self._profile.prefill_allowed is False and not paused:
            found.append(findings.prefill(at))
        return tuple(found)

    # ── turns ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _unread(self) -> Legality:
        """Count a message that cannot be read as a turn; judge nothing by what it may have held."""
        return Legality(profile=self._profile, continued=True, seen=self._seen, turn=self._turn + 1, calls=None)

    def _begin(self, role: str, found: list[Violation]) -> Legality:
        """End the current turn and begin one of another role."""
        calls, server = self._calls, self._server
        if self._role == "user":
            found += self._close_user()
        elif self._role == "assistant":
            if not self._blocks:
                found.append(findings.empty_message(f"messages.{self._turn}"))
            if role == "system":  # R8: nothing may stand between calls and results
                found += [findings.unanswered(f"messages.{self._turn}", calls, late=False)] if calls else []
                found += _unpaired(server)
                server = ()
        if role != "user":
            calls = ()
        return Legality(
            profile=self._profile,
            continued=self._continued,
            seen=self._seen,
            turn=self._turn + 1,
            role=role,
            calls=calls,
            server=server,
        )

    def _close_user(self) -> list[Violation]:
        found = []
        if not self._blocks:
            found.append(findings.empty_message(f"messages.{self._turn}"))
        if not self._reported and (unanswered := self.open_calls):
            found.append(findings.unanswered(f"messages.{self._turn - 1}", unanswered, late=False))
        return found

    def _append(self, message: Mapping[str, Any], found: list[Violation]) -> Legality:
        """Add a message to the turn that has begun."""
        at = f"messages.{self._turn}"
        if not self._profile.extra_keys_allowed:
            found += [findings.extra_key(f"{at}.{key}") for key in message if key not in _KEYS[self._role]]
        if self._role == "system" and self._profile.system_role is False:
            found.append(findings.no_system_role(at))
        blocks = _blocks(message, at, found)
        if blocks is None:
            return evolve(self, blocks=self._blocks + 1, calls=None)
        if self._role == "assistant":
            return self._assistant(blocks, at, found)
        if self._role == "user":
            return self._user(blocks, at, found)
        return self._system(blocks, at, found)

    def _assistant(self, blocks: Sequence[Any], at: str, found: list[Violation]) -> Legality:
        calls = dict.fromkeys(self._calls or ())
        server = {use.id: use for use in self._server}
        fresh: dict[str, None] = {}
        kind: str | None = None
        for index, block in enumerate(blocks, self._blocks):
            where = f"{at}.content.{index}"
            kind = check_block(block, where, found)
            if kind == "tool_use" and isinstance(call := block.get("id"), str):
                if call in fresh or call in self._seen:
                    found.append(findings.repeated_call(where, call))
                fresh[call] = calls[call] = None
            elif kind in ("server_tool_use", "mcp_tool_use") and isinstance(call := block.get("id"), str):
                server[call] = _ServerUse(call, str(block.get("name")), result_kind(block), self._turn)
                fresh[_server_key(call)] = None
            elif kind == "tool_result":
                found.append(findings.wrong_role(at, where, kind, "user"))
            elif kind is not None and is_server_result(kind) and isinstance(call := block.get("tool_use_id"), str):
                key = _server_key(call)
                if server.pop(call, None) is None and not (self._continued or key in fresh or key in self._seen):
                    found.append(findings.stray_server_result(where, call, kind, use_kind(kind)))
        # Built by name, here and in `_user`: `evolve` costs more than the rest of a step.
        return Legality(
            profile=self._profile,
            continued=self._continued,
            seen=self._seen.add(fresh) if fresh else self._seen,
            turn=self._turn,
            role=self._role,
            blocks=self._blocks + len(blocks),
            calls=tuple(calls),
            server=tuple(server.values()),
            tail=(kind or "") if blocks else self._tail,
            tail_blank=_ends_blank(blocks[-1]) if blocks else self._tail_blank,
        )

    def _user(self, blocks: Sequence[Any], at: str, found: list[Violation]) -> Legality:
        calls = None if self._calls is None else frozenset(self._calls)
        answered, late, spoken = set(self._answered), set(self._late), self._spoken
        for index, block in enumerate(blocks, self._blocks):
            where = f"{at}.content.{index}"
            kind = check_block(block, where, found)
            if kind != "tool_result":
                spoken = True
                if kind is not None and only_in_assistant(kind):
                    found.append(findings.wrong_role(at, where, kind, "assistant"))
            elif isinstance(call := block.get("tool_use_id"), str):
                if call in answered or call in late:
                    found.append(findings.repeated_result(where, call))
                elif calls is not None and call not in calls:
                    found.append(findings.stray_result(where, call))
                else:
                    (late if spoken else answered).add(call)
        unanswered = tuple(call for call in self._calls or () if call not in answered)
        # R11, R17: after other content, or in another message where those do not merge, no result counts any more.
        certain = spoken or (bool(blocks) and not self._profile.split_results_merge)
        if unanswered and certain and not self._reported:
            before = f"messages.{self._turn - 1}"
            found.append(findings.unanswered(before, unanswered, late=late.issuperset(unanswered)))
        # R16: a server tool may stay open only while the results of the client tools beside it, and nothing else, come.
        server = self._server
        if server and blocks and (spoken or self._calls == ()):
            found += _unpaired(server)
            server = ()
        return Legality(
            profile=self._profile,
            continued=self._continued,
            seen=self._seen,
            turn=self._turn,
            role=self._role,
            blocks=self._blocks + len(blocks),
            calls=self._calls,
            answered=frozenset(answered),
            late=frozenset(late),
            spoken=spoken,
            reported=self._reported or (certain and bool(unanswered)),
            server=server,
        )

    def _system(self, blocks: Sequence[Any], at: str, found: list[Violation]) -> Legality:
        for index, block in enumerate(blocks, self._blocks):
            where = f"{at}.content.{index}"
            kind = check_block(block, where, found)
            if kind == "tool_result":
                found.append(findings.wrong_role(at, where, kind, "user"))
            elif kind is not None and only_in_assistant(kind):
                found.append(findings.wrong_role(at, where, kind, "assistant"))
        return evolve(self, blocks=self._blocks + len(blocks))


def _blocks(message: Mapping[str, Any], at: str, found: list[Violation]) -> Sequence[Any] | None:
    """Return the content as blocks, or None, with the finding, if it cannot be read."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if isinstance(content, list | tuple):
        return content
    if "content" in message:
        found.append(findings.wrong_type(f"{at}.content", "a valid array"))
    elif message.get("role") == "system":  # R8: the form that only gives directives has no content
        return []
    else:
        found.append(findings.missing(f"{at}.content"))
    return None


def _server_key(call: str) -> str:
    return f"server:{call}"  # no client tool has such an id (R19a), so one set holds both


def _unpaired(server: Sequence[_ServerUse]) -> list[Violation]:
    return [findings.unpaired_server_use(f"messages.{use.turn}", use.id, use.tool, use.result) for use in server]


def _ends_blank(block: object) -> bool:
    text = block.get("text") if isinstance(block, Mapping) else None
    return isinstance(text, str) and text[-1:].isspace()
