"""One part of the demo: what the last table says about it, its code, and what tokens cost."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from attrs import frozen

from ._show import DIM, WARN, Screen

FOLDER = Path("fsm-demo")


@frozen
class Part:
    """What came of one part; `style` is that of its verdict."""

    name: str
    verdict: str
    style: str
    requests: int
    tokens: int
    price: float | None
    as_expected: bool
    picture: Path


def pace(screen: Screen) -> float:
    """Seconds that the emulator takes for a reply, so that a person can follow; nothing without a terminal."""
    return 0.35 if screen.is_terminal else 0.0


def dollars(price: float | None) -> str:
    """A price; an unknown one says so."""
    from fsm.diagram._text import dollars as shown  # the same words as in pictures

    return "unknown" if price is None else shown(price)


def show_code(screen: Screen, thing: Any) -> None:
    """The source of a class or function, with its line numbers; a remark `# <-` stands out."""
    from rich.syntax import Syntax

    lines, first = inspect.getsourcelines(thing)
    plain = screen.text("".join(lines).rstrip()).plain
    text = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(plain)
    text.rstrip()
    text.highlight_regex(r"# <-.*", WARN)
    for number, row in enumerate(text.split("\n", allow_blank=True), first):
        indent = len(row.plain) - len(row.plain.lstrip())
        screen.entry(screen.text((f"{number:>6}", DIM)), row, column=8, hang=indent + 4)
