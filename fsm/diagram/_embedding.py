"""What pages of documentation need: options as they are written there, and a picture that keeps to its column."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from fsm._errors import UsageError

from ._folding import Folded
from ._groups import Groups

_WORDS = ("history", "prefix")


def groups_from(given: Iterable[str], option: str = "groups") -> Groups | None:
    """`groups=` of `render`, from texts like `NAME=STATE,STATE`, or the one word `history` or `prefix`.

    Raises:
        UsageError: it is written otherwise, or a name stands twice.
    """
    texts = [text.strip() for text in given if text.strip()]
    if not texts:
        return None
    for word in _WORDS:
        if texts == [word]:
            return word  # type: ignore[return-value]  # one of the two
    named: dict[str, list[str]] = {}
    for text in texts:
        name, equals, states = (part.strip() for part in text.partition("="))
        listed = [state.strip() for state in states.split(",") if state.strip()]
        if not (name and equals and listed):
            raise UsageError(f"{option} takes NAME=STATE,STATE or one of {', '.join(_WORDS)}, not {text!r}")
        if name in named:
            raise UsageError(f"{option} names {name!r} twice: list all of its states in one")
        named[name] = listed
    return named


def folded_from(given: Iterable[str]) -> Folded:
    """`folded=` of `render`, from names of groups, or `all`."""
    names = tuple(name.strip() for name in given if name.strip())
    return True if "all" in names else names


def embedded(svg: str, label: str = "") -> str:
    """The picture to stand in a page: no wider than its column, and told as the label says where there is one."""
    said = f' aria-label="{escape(label)}"' if label else ""
    return svg.strip().replace("<svg ", f'<svg style="max-width:100%;height:auto"{said} ', 1)
