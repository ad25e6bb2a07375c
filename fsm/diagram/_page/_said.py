"""What was said in a run, as text to be shown: nothing hidden in it, and what is no text is named or set as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fsm._facts import SUCCESS

_LONGEST = 40_000  # characters of one text: a page is to be looked at, the journal holds the rest
_SHORT = 60  # characters of JSON that stand on one line
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0, DEL, C1; tab and line feed stay
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff]"  # halves of characters
)
_BREAKS = re.compile("\r\n?|[\u0085\u2028\u2029]")


def readable(text: object) -> str:
    """Foreign text with nothing hidden in it: what cannot be seen, or turns text around, stands there as its escape."""
    shown = _HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], _BREAKS.sub("\n", str(text)))
    left = len(shown) - _LONGEST
    return shown if left <= 0 else f"{shown[:_LONGEST]}\n… {left:,} more characters are in the journal"


def told_of(reason: str, evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the evidence says in words: why, what was behind it, what to do."""
    cause = evidence.get("detail") or evidence.get("message") or evidence.get("explanation")
    for name, value in (
        ("why", evidence.get("why")),
        ("because", cause),
        ("what to do", None if reason in SUCCESS else evidence.get("todo")),
        ("category", evidence.get("category")),
        ("request", evidence.get("request_id")),
    ):
        if value:
            yield name, readable(value)


def change_of(what: str, value: Any) -> str:
    """What an effect changed, in words; empty where it says nothing to a person."""
    match what:
        case "wait":
            return f"waits {seconds_of(value):.1f} s, then sends the same bytes again"
        case "max_tokens":
            return f"asks again with max_tokens={value}"
        case "model":
            return f"goes on with the model {value}"
        case "say":
            return f"says: {words_of(value)}"
        case "discard":
            return "leaves the reply out of the history"
        case "compact":
            return "has the history summarised first"
        case "park":
            return "parks the run: the API stays away"
    return ""


def seconds_of(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def blocks_of(raw: Any) -> list[Mapping[str, Any]] | None:
    """The content blocks of a reply; None where its body is gone."""
    try:
        content = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        return None
    return [each for each in content if isinstance(each, Mapping)] if isinstance(content, (list, tuple)) else None


def words_of(content: Any) -> str:
    """The text of content blocks; what is no text is named."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, (list, tuple)):
        return json_of(content)
    return "\n".join(
        str(block.get("text", "")) if block.get("type") == "text" else f"({block.get('type')})"
        for block in content
        if isinstance(block, Mapping)
    )


def json_of(value: Any) -> str:
    """A value as JSON: on one line where it is short."""
    short = json.dumps(value, ensure_ascii=False, default=repr)
    return short if len(short) <= _SHORT else json.dumps(value, ensure_ascii=False, indent=2, default=repr)
