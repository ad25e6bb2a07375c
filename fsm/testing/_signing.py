"""Thinking that is bound to what came before it (V4): what makes R31, R32 and R35 really hold.

A signature holds digests of the model, of `system`, of `tools`, of every block before the thinking block and of the
thinking block before that one, and a MAC over these and the text. Earlier thinking is not part of what came before, so
that it may be left out from the front; it is a chain of its own, so that a gap in it is found. A compaction block
stands for all that it replaced: with it, or with what it replaced, the digest is the same.

A signature tells everything but where a history differs; for that the emulator keeps the digests that it has signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from fsm.testing._prefix import DIGEST, THINKING, Piece, block_of, chain
from fsm.testing._requests import RequestRefusedError

BINDING_BETA = "thinking-binding-controls-2026-08-01"
_START = bytes(DIGEST)
_FIELDS = 5
_MODIFIED = (
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
    "These blocks must remain as they were in the original response."
)
_BOUND = (
    "Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the block, or set "
    '`thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
)
_NEEDS_BETA = f"That setting requires the `{BINDING_BETA}` value in the `anthropic-beta` header."


@frozen
class _Claims:
    """What a signature says of the block that it signs."""

    model: bytes
    system: bytes
    tools: bytes
    before: bytes
    thought: bytes  # of the thinking block before this one


@frozen
class _Served:
    """A thinking block as it was served: which reply, which block stood before it, all thinking of that reply."""

    reply: int
    before: bytes | None
    whole: tuple[str, ...]
    text: object
    is_last: bool


@frozen(kw_only=True)
class Judged:
    """Which thinking blocks of a request the model does not read, and the `input_transformations` that say so."""

    dropped: frozenset[str] = frozenset()
    transformations: tuple[dict[str, str], ...] = ()
    controls: bool = field(default=False)


class Signer:
    """Signs the thinking of one emulator; another one of the same seed accepts it too."""

    def __init__(self, seed: int) -> None:
        self._key = f"fsm emulator {seed}".encode()
        self._given: set[tuple[str, str]] = set()  # signatures that a script wrote: bound to nothing
        self._served: dict[str, _Served] = {}
        self._parents: dict[bytes, bytes] = {}
        self._replies = 0

    # ── serving ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def sign(self, content: Sequence[dict[str, Any]], request: Mapping[str, Any], pieces: Sequence[Piece]) -> None:
        """Sign what a reply thinks and compacts.

        Params: the blocks of the reply, which are changed; the request that it answers, and the same as pieces.
        """
        if not any(block.get("type") in THINKING or block.get("type") == "compaction" for block in content):
            return
        system, tools, before, thought = self._read(pieces)
        claims = _Claims(chain(b"", str(request["model"]).encode()), system, tools, before, thought)
        on_demand = request.get("compaction") is not None
        signed: list[tuple[dict[str, Any], bytes | None]] = []
        last: bytes | None = None
        for block in content:
            kind = block.get("type")
            if kind in THINKING or kind == "compaction":
                claims = _Claims(claims.model, system, tools, before, thought)
                self._fill(block, claims, on_demand=on_demand)
            if kind in THINKING:
                signed.append((block, last))
                thought = chain(b"", _signature(block).encode())
            last = block_of("assistant", block).encoded
            before = self._after(before, block_of("assistant", block))
        self._replies += 1
        whole = tuple(_signature(block) for block, _ in signed)
        for block, stood in signed:
            is_last = block is content[-1]
            self._served[_signature(block)] = _Served(self._replies, stood, whole, block.get("thinking"), is_last)

    def _fill(self, block: dict[str, Any], claims: _Claims, *, on_demand: bool) -> None:
        """Sign one block; a signature that the script gave stays and is remembered."""
        if block["type"] == "compaction":
            if block.get("content") is not None:  # S10.2: on demand it is signed, S10.1: else opaque data goes with it
                key = "signature" if on_demand else "encrypted_content"
                block.setdefault(key, self._seal(claims, block["content"]))
            return
        key = "signature" if block["type"] == "thinking" else "data"
        if key in block:
            self._given.add((str(block.get("thinking")), str(block[key])))
        else:
            block[key] = self._seal(claims, block.get("thinking"))

    def _seal(self, claims: _Claims, text: object) -> str:
        said = b"".join((claims.model, claims.system, claims.tools, claims.before, claims.thought))
        return base64.b64encode(said + self._mac(said, text)).decode()

    def _mac(self, said: bytes, text: object) -> bytes:
        read = "" if text is None else str(text)
        return hmac.new(self._key, said + read.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

    def _open(self, signature: object, text: object) -> _Claims | None:
        """What a signature says; None if this key did not make it for this text."""
        try:
            raw = base64.b64decode(str(signature).encode(), validate=True)
        except ValueError:
            return None
        said, mac = raw[: _FIELDS * DIGEST], raw[_FIELDS * DIGEST :]
        if len(said) < _FIELDS * DIGEST or not hmac.compare_digest(mac, self._mac(said, text)):
            return None
        return _Claims(*(said[at : at + DIGEST] for at in range(0, len(said), DIGEST)))

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, pieces: Sequence[Piece]) -> tuple[bytes, bytes, bytes, bytes]:
        """The digests of `system`, of `tools`, of all messages and of the last thinking of a request."""
        system, tools = _heads(pieces)
        before, thought = _START, _START
        for piece in pieces:
            if piece.section != "messages":
                continue
            if piece.kind in THINKING:
                thought = chain(b"", _signature(piece.block).encode())
            else:
                before = self._after(before, piece)
        return system, tools, before, thought

    def _after(self, before: bytes, piece: Piece) -> bytes:
        """The digest with one more block, which is no thinking."""
        if piece.kind in THINKING:
            return before
        if piece.kind == "compaction" and piece.block.get("content") is not None:
            claims = self._open(_stamp(piece.block), piece.block["content"])
            return claims.before if claims is not None else chain(_START, piece.encoded)
        after = chain(before, piece.role.encode(), piece.encoded)
        self._parents.setdefault(after, before)
        return after

    def judge(self, pieces: Sequence[Piece], body: Mapping[str, Any], betas: Sequence[str], *, binds: bool) -> Judged:
        """Check the thinking and the compaction blocks that came back.

        Params:
            pieces: the request.
            body: the same; its `model` and `thinking.block_binding` are read.
            betas: what its `anthropic-beta` header names.
            binds: whether the model refuses thinking whose prefix has changed (R35).

        Raises:
            RequestRefusedError: R31, R32, R35 or R70, as the API says it.
        """
        controls = BINDING_BETA in betas
        thinking = body.get("thinking")
        binding = thinking.get("block_binding") if isinstance(thinking, Mapping) else None
        if binding is not None and not controls:
            kind = thinking.get("type") if isinstance(thinking, Mapping) else None
            raise RequestRefusedError(f"thinking.{kind}.block_binding: Extra inputs are not permitted")  # R3
        drops = isinstance(binding, Mapping) and binding.get("prefix_mismatch_behavior") == "drop_block"
        if not any(piece.kind in THINKING or piece.kind == "compaction" for piece in pieces):
            return Judged(controls=controls)
        self._check_latest(pieces)
        walk = _Walk(pieces, chain(b"", str(body["model"]).encode()))
        for piece in pieces:
            if piece.section != "messages":
                continue
            if piece.kind in THINKING:
                problem = self._judge_one(piece, walk, binds=binds)
                if problem and not drops:
                    texts = [f"{piece.path}: {_BOUND}", *([] if controls else [_NEEDS_BETA]), problem]
                    raise RequestRefusedError(" ".join(text for text in texts if text.strip()))
                walk.add_thinking(piece)
            else:
                self._check_compaction(piece)
                walk.add(piece, self._after(walk.before, piece))
        return Judged(dropped=frozenset(walk.dropped), transformations=tuple(walk.transformations), controls=controls)

    def _judge_one(self, piece: Piece, walk: _Walk, *, binds: bool) -> str:
        """What is wrong with the place of a block: nothing, or a sentence, which is blank if there is none to say."""
        if (str(piece.block.get("thinking")), _signature(piece.block)) in self._given:
            return ""
        claims = self._open(_signature(piece.block), piece.block.get("thinking"))
        if claims is None:
            name = "signature" if piece.kind == "thinking" else "data"
            raise RequestRefusedError(f"{piece.path}: Invalid `{name}` in `{piece.kind}` block")  # R32
        if claims.model != walk.model:
            # Another model's thinking is left out without an error. Which models read each other's is not modelled.
            walk.drop(piece, "model_binding_mismatch")
            return ""
        problem = self._problem(claims, walk) if binds else ""
        if problem or walk.is_broken:
            walk.is_broken = True
            walk.drop(piece, "prefix_binding_mismatch")
            return problem or " "
        return ""

    def _problem(self, claims: _Claims, walk: _Walk) -> str:
        """R35: which part is not as it was when the block was made."""
        if claims.system != walk.system:
            return "The `system` prompt differs from the one this block was created with."
        if claims.tools != walk.tools:
            return "The `tools` list differs from the one this block was created with."
        if claims.before != walk.before:
            at = self._first_missing(claims.before, walk)
            missing = "Content that preceded this block when it was created is missing from this request, starting at"
            return f"{missing} `{at}`." if at else " "
        if walk.thought is not None and claims.thought != walk.thought:
            return " "  # a gap in the thinking, for which no sentence is known
        return ""

    def _first_missing(self, digest: bytes, walk: _Walk) -> str:
        """Where the history that a block was made with and the one in the request part; empty if it is not known."""
        recorded = []
        while digest in self._parents:
            recorded.append(digest)
            digest = self._parents[digest]
        if digest != walk.steps[0][0]:
            return ""
        recorded.reverse()
        now = [step for step, _ in walk.steps[1:]]
        for index, made in enumerate(recorded):
            if index >= len(now) or made != now[index]:
                return walk.steps[index + 1][1] if index < len(now) else ""
        # The request holds all of it and more: what stands there now was not there then.
        return walk.steps[len(recorded) + 1][1] if len(recorded) < len(now) else ""

    def _check_compaction(self, piece: Piece) -> None:
        """R70: a compaction block comes back as it was."""
        if piece.kind != "compaction" or piece.block.get("signature") is None:
            return
        if self._open(piece.block["signature"], piece.block.get("content")) is None:
            raise RequestRefusedError(
                f"{piece.path}: the `compaction` block was modified or was not created by this API",
                details={"error_code": "compaction_signature_invalid"},
            )

    def _check_latest(self, pieces: Sequence[Piece]) -> None:
        """R31: in the latest assistant turn the thinking of each reply is whole, in order and where it was."""
        turns = [piece.turn for piece in pieces if piece.role == "assistant"]
        latest = [piece for piece in pieces if turns and piece.turn == turns[-1]]
        if any(piece.kind == "fallback" for piece in latest):
            return  # S8.7: thinking before a hand-over is left out
        after = [piece.kind for piece in pieces if turns and piece.turn > turns[-1]]
        is_open = after[:1] == ["tool_result"]
        groups: dict[int, list[Piece]] = {}
        stood: bytes | None = None
        for piece in latest:
            known = self._served.get(_signature(piece.block)) if piece.kind in THINKING else None
            if known is not None:
                moved = stood != known.before and not (known.before is None and self._ends_reply(stood, latest, piece))
                edited = is_open and piece.block.get("thinking") != known.text
                if moved or edited:
                    raise RequestRefusedError(f"{piece.path}: {_MODIFIED}")
                groups.setdefault(known.reply, []).append(piece)
            stood = piece.encoded
        for group in groups.values():
            whole = self._served[_signature(group[0].block)].whole
            if tuple(_signature(piece.block) for piece in group) != whole:
                raise RequestRefusedError(f"{group[-1].path}: {_MODIFIED}")

    def _ends_reply(self, stood: bytes | None, latest: Sequence[Piece], piece: Piece) -> bool:
        """Whether what stands before the first block of a reply may be the end of the reply before it in this turn."""
        if stood is None:
            return True
        before = latest[latest.index(piece) - 1]
        known = self._served.get(_signature(before.block)) if before.kind in THINKING else None
        return before.kind not in THINKING or known is None or known.is_last


class _Walk:
    """Where a check is in a request."""

    def __init__(self, pieces: Sequence[Piece], model: bytes) -> None:
        self.model = model
        self.system, self.tools = _heads(pieces)
        self.before = _START
        self.thought: bytes | None = None  # none seen yet: what came before the first may have been left out
        self.steps: list[tuple[bytes, str]] = [(_START, "")]
        self.is_broken = False
        self.dropped: list[str] = []
        self.transformations: list[dict[str, str]] = []

    def add(self, piece: Piece, after: bytes) -> None:
        """Go past a block that is no thinking."""
        if piece.kind == "compaction":
            self.thought, self.steps = None, []
        self.before = after
        self.steps.append((after, piece.path))

    def add_thinking(self, piece: Piece) -> None:
        """Go past a thinking block, read or not."""
        self.thought = chain(b"", _signature(piece.block).encode())

    def drop(self, piece: Piece, reason: str) -> None:
        """Leave a block out of what the model reads."""
        self.dropped.append(piece.path)
        self.transformations.append({"type": "thinking_dropped", "path": piece.path, "reason": reason})


def _heads(pieces: Sequence[Piece]) -> tuple[bytes, bytes]:
    """The digests of `system` and of the set of tools; a tool whose loading is deferred may be added later."""
    system = [piece.encoded for piece in pieces if piece.section == "system"]
    tools = [p.encoded for p in pieces if p.section == "tools" and p.block.get("defer_loading") is not True]
    return chain(_START, *system), chain(_START, *sorted(tools))


def _signature(block: Mapping[str, Any]) -> str:
    return str(block.get("signature" if block.get("type") == "thinking" else "data"))


def _stamp(block: Mapping[str, Any]) -> object:
    """What a compaction block says of the conversation that it stands for."""
    return block.get("signature") or block.get("encrypted_content")
