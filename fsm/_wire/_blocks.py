"""One content block while it is streamed: how it began, the deltas that fit it (G3, G4), and what it is in the end.

What the model wrote stays as it was written: the tool input, citations and unknown fields are spliced as raw JSON
text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from attrs import define, field, frozen

from fsm._errors import WireError

from ._rawjson import paired, parse, quoted, raw_member, replaced, storable, written

# G3. Block types that are not here and end in `_tool_result`, or are in _COMPLETE, come whole; others are unknown (G9).
_TAKES: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text_delta", "citations_delta"}),
    "tool_use": frozenset({"input_json_delta"}),
    "server_tool_use": frozenset({"input_json_delta"}),
    "mcp_tool_use": frozenset({"input_json_delta"}),
    "thinking": frozenset({"thinking_delta", "signature_delta"}),
    "compaction": frozenset({"compaction_delta"}),
}
_KNOWN_DELTAS = frozenset().union(*_TAKES.values())
_COMPLETE = frozenset({"redacted_thinking", "container_upload", "fallback", "mcp_list_tools"})


@frozen
class Delta:
    """A piece of a reply that is being written, for display only. `index` is the number of its block.

    `restart` comes from the driver, with no text: what was shown since the last move that kept a reply is void (a cut
    stream, a refusal, a summary, a reply that is asked again), and what comes now stands in its place.
    """

    kind: Literal["text", "thinking", "tool_input", "other", "restart"]
    text: str
    index: int
    call_id: str | None = None


@define
class Block:
    """A content block while it is written: how it began, and what was added."""

    kind: str
    value: dict[str, Any]
    raw: str
    texts: dict[str, list[str]] = field(factory=dict)  # field → pieces that are appended to what it began with
    whole: dict[str, tuple[Any, str]] = field(factory=dict)  # field → value and JSON text that take its place
    citations: list[tuple[Any, str]] = field(factory=list)
    inputs: list[str] = field(factory=list)

    def add(self, index: int, delta: dict[str, Any], data: str | None) -> Delta:
        """Take a delta; `data` is the text of its event, None where a recording has lost it.

        Raises:
            WireError: G3, its kind does not fit the block, or it is incomplete; G4, the same for a tool input.
        """
        kind = delta["type"]
        if self._refuses(kind):
            raise WireError(f"a {kind} came in a block of type {self.kind[:40]!r}", rule="G3")
        return _ADD.get(kind, _add_nothing)(self, index, delta, data)

    def _refuses(self, delta: str) -> bool:
        """Whether a known kind of delta does not belong in a known kind of block."""
        if delta not in _KNOWN_DELTAS:
            return False
        if self.kind in _COMPLETE or self.kind.endswith("_tool_result"):
            return True
        return delta not in _TAKES.get(self.kind, _KNOWN_DELTAS)

    def finished(self, stop_reason: str) -> tuple[dict[str, Any], str]:
        """The block as a value and as JSON text."""
        new = dict(self.whole)
        for name, pieces in self.texts.items():
            text = paired("".join([self.value.get(name) or "", *pieces]))
            new[name] = text, quoted(text)
        if self.citations:
            new["citations"] = self._all_citations()
        if (self.inputs or "input_json_delta" in _TAKES.get(self.kind, ())) and (given := self._input(stop_reason)):
            new["input"] = given
        if not new:
            return self.value, self.raw
        value = self.value | {name: changed for name, (changed, _) in new.items()}
        return value, replaced(self.raw, {name: raw for name, (_, raw) in new.items()})

    def _all_citations(self) -> tuple[Any, str]:
        first = self.value.get("citations") or []
        before = raw_member(self.raw, "citations").strip()[1:-1] if first else ""
        raw = ",".join([*([before] if first else []), *(text for _, text in self.citations)])
        return [*first, *(value for value, _ in self.citations)], f"[{raw}]"

    def _input(self, stop_reason: str) -> tuple[Any, str] | None:
        """The tool input, None to leave it as it began. Tools without arguments send only "" (S6.6)."""
        raw = storable(paired("".join(self.inputs)))
        if not raw.strip():
            return ({}, "{}") if self.value.get("input") is None else None
        try:
            value = parse(raw)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value, raw
        if stop_reason != "tool_use":  # nothing runs it (S2a)
            return {}, "{}"
        return {"INVALID_JSON": raw}, f'{{"INVALID_JSON":{quoted(raw)}}}'  # S6.5: validation answers it


def spelled(data: str | None, value: Any, *path: str) -> str:
    """The text of a value as it was written: it stands at `path` in `data`, or is written anew where that was lost.

    Raises:
        WireError: S11.3, a recorded value is no JSON.
    """
    if data is not None:
        return raw_member(data, *path)
    try:
        return written(value)
    except ValueError as error:
        raise WireError(f"a recorded event holds what is no JSON: {error}", rule="S11.3") from None


# ── what each delta does ──────────────────────────────────────────────────────────────────────────────────────────────


def _add_text(block: Block, index: int, delta: dict[str, Any], _data: str | None) -> Delta:
    return Delta("text", _piece(block, "text", delta), index)


def _add_thinking(block: Block, index: int, delta: dict[str, Any], _data: str | None) -> Delta:
    if "signature" in block.whole:
        raise WireError("a thinking_delta came after the signature", rule="G3")
    return Delta("thinking", _piece(block, "thinking", delta), index)


def _piece(block: Block, name: str, delta: dict[str, Any]) -> str:
    piece = delta.get(name)
    if not isinstance(piece, str) or not isinstance(block.value.get(name), str | None):
        raise WireError(f"a {name}_delta holds no {name}, or its block began with something else", rule="G3")
    block.texts.setdefault(name, []).append(piece)
    return piece


def _add_signature(block: Block, index: int, delta: dict[str, Any], _data: str | None) -> Delta:
    # A block that a refusal or a limit closed early has none, so only a second one is refused.
    signature = delta.get("signature")
    if not isinstance(signature, str) or "signature" in block.whole:
        raise WireError("a signature_delta holds no signature, or is the second of its block", rule="G3")
    block.whole["signature"] = signature, quoted(signature)
    return Delta("other", signature, index)


def _add_citation(block: Block, index: int, delta: dict[str, Any], data: str | None) -> Delta:
    if not isinstance(delta.get("citation"), dict) or not isinstance(block.value.get("citations"), list | None):
        raise WireError("a citations_delta holds no citation, or its block began with something else", rule="G3")
    raw = spelled(data, delta["citation"], "delta", "citation")
    block.citations.append((delta["citation"], raw))
    return Delta("other", raw, index)


def _add_compaction(block: Block, index: int, delta: dict[str, Any], data: str | None) -> Delta:
    if block.whole:
        raise WireError("a second compaction_delta came in one block", rule="G3")
    block.whole |= {name: (delta[name], spelled(data, delta[name], "delta", name)) for name in delta if name != "type"}
    return Delta("other", spelled(data, delta, "delta"), index)


def _add_input(block: Block, index: int, delta: dict[str, Any], _data: str | None) -> Delta:
    piece = delta.get("partial_json")
    if not isinstance(piece, str):
        raise WireError("an input_json_delta holds no partial_json", rule="G4")
    if piece and block.value.get("input"):
        raise WireError("a tool block began with an input and got another in deltas", rule="G4")
    block.inputs.append(piece)
    return Delta("tool_input", piece, index, call_id if isinstance(call_id := block.value.get("id"), str) else None)


def _add_nothing(_block: Block, index: int, delta: dict[str, Any], data: str | None) -> Delta:
    return Delta("other", spelled(data, delta, "delta"), index)  # G9: what it would change is not known


_ADD: Mapping[str, Callable[[Block, int, dict[str, Any], str | None], Delta]] = {
    "text_delta": _add_text,
    "thinking_delta": _add_thinking,
    "signature_delta": _add_signature,
    "citations_delta": _add_citation,
    "compaction_delta": _add_compaction,
    "input_json_delta": _add_input,
}
