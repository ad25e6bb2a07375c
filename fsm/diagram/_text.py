"""Text from data, made safe and measured: names, guards and effects are somebody else's words (X1).

Renderers quote for their own format; what no format wants (control characters, bidirectional overrides, lone
surrogates) is taken out here, once.
"""

from __future__ import annotations

import math
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Sequence

LONGEST = 300  # characters of any one text; a name that long is no name any more

# Widths of Helvetica, in thousandths of the font size. Arial and Liberation Sans have the same.
_WIDTHS = {
    191: "'",
    222: "ijl",
    260: "|",
    278: " !,./:;I[\\]ft",
    333: "()-`r",
    334: "{}",
    355: '"',
    389: "*",
    469: "^",
    500: "Jcksvxyz",
    556: "#$0123456789?L_abdeghnopqu",
    584: "+<=>~×−",
    611: "FTZ",
    667: "&ABEKPSVXY",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    889: "%",
    944: "W",
    1000: "→…",
    1015: "@",
}
_WIDTH_OF = {char: width for width, chars in _WIDTHS.items() for char in chars}
_OTHER, _WIDE = 650, 1000
_BOLD, _NARROW = 1.07, 40.0  # times as wide; the narrowest letters gain more
_SLACK = 1.04  # a viewer may have another font than the one measured


def clean(text: object) -> str:
    """The text on one line, without control, format, surrogate, private or unassigned characters."""
    text = str(text)
    if text.isascii() and text.isprintable():  # nearly all are, and a picture has thousands
        return _at_most(" ".join(text.split()))
    kept = (" " if char.isspace() else char for char in text if _is_shown(char))
    return _at_most(" ".join("".join(kept).split()))


def _at_most(text: str) -> str:
    """What is longer ends at a word, if there is one in its last third, and in `…`."""
    if len(text) <= LONGEST:
        return text
    head = text[: LONGEST - 1]
    space = head.rfind(" ", 2 * LONGEST // 3)
    return head[: space if space > 0 else None].rstrip() + "…"


def _is_shown(char: str) -> bool:
    return char.isspace() or not unicodedata.category(char).startswith("C")


def short(text: str, limit: int) -> str:
    """At most `limit` characters; `…` stands for the rest."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def unlike(names: Sequence[str], limit: int | None = None) -> list[str]:
    """The names, no two alike: what is too long is cut at its end, else in the middle; what is the same is numbered."""
    found = [name or "(no name)" for name in names]
    if limit is not None:
        cut = [short(name, limit) for name in found]
        often = Counter(cut)
        found = [_middle(name, limit) if often[end] > 1 else end for name, end in zip(found, cut, strict=True)]
    taken = set(found)
    met: set[str] = set()
    for place, name in enumerate(found):
        number = 1
        while found[place] in met:
            number += 1
            tail = f" ({number})"
            one = (name if limit is None else short(name, limit - len(tail))) + tail
            found[place] = one if one not in taken else found[place]
        met.add(found[place])
    return found


def _middle(text: str, limit: int) -> str:
    """At most `limit` characters; `…` stands for what is left out in the middle."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail].rstrip()}…{text[-tail:].lstrip()}"


def first_sentence(text: str) -> str:
    """Of a docstring: up to the first full stop that ends a sentence, at most the first paragraph."""
    words = clean(text.strip().split("\n\n")[0])
    return re.split(r"(?<=[.!?])\s(?=[^a-z])", words, maxsplit=1)[0]


def width(text: str, size: float, *, bold: bool = False) -> float:
    """How many pixels to keep for the text at this font size."""
    narrow = sum(_NARROW for char in text if char in _WIDTHS[222]) if bold else 0.0
    return (advance(text, size, bold=bold) + narrow / 1000 * size) * _SLACK


def advance(text: str, size: float, *, bold: bool = False) -> float:
    """How many pixels the text takes in the font that was measured."""
    return sum(_char_width(char) for char in text) / 1000 * size * (_BOLD if bold else 1)


def _char_width(char: str) -> int:
    known = _WIDTH_OF.get(char)
    if known is not None:
        return known
    if unicodedata.combining(char):
        return 0
    return _WIDE if unicodedata.east_asian_width(char) in "WF" else _OTHER


def wrapped(words: list[str], limit: int, lines: int) -> list[str]:
    """`a, b, c` over at most `lines` lines of about `limit` characters; the last one says how many are left out."""
    out: list[str] = []
    for place, word in enumerate(words):
        piece = short(word, limit) + ("," if place < len(words) - 1 else "")
        if out and len(out[-1]) + 1 + len(piece) <= limit:
            out[-1] += " " + piece
        elif len(out) < lines:
            out.append(piece)
        else:
            out[-1] += f" +{len(words) - place}"
            break
    return out


def filled(head: str, items: tuple[str, ...], limit: int) -> list[str]:
    """`head: a · b · c`, broken between items (and in one that is longer) at about `limit` characters."""
    lines = [f"{head}:"]
    for place, item in enumerate(items):
        joint = " · " if place else " "
        if len(lines[-1]) + len(joint) + len(item) <= limit:
            lines[-1] += joint + item
        else:
            begun = lines.pop() + " " if place == 0 else ""
            lines += textwrap.wrap(begun + item, limit)
    return lines


def numbers(seqs: tuple[int, ...]) -> str:
    """`1, 3, 5`; a long list keeps its ends and says how many there are."""
    most, head = 6, 3
    if len(seqs) <= most:
        return ", ".join(map(str, seqs))
    return f"{', '.join(map(str, seqs[:head]))} … {seqs[-1]} ({len(seqs)}×)"


def amount(count: int) -> str:
    """`999`, `1.2k`, `3.4M`: a count in at most four characters or so."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 0.9995 * size:  # what rounds up belongs to the larger unit
            return f"{count / size:.3g}{unit}"
    return str(count)


def span(seconds: float) -> str:
    """`40 ms`, `4.1 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 0.9995:  # noqa: PLR2004 - what rounds up is a second
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 else "0 ms"  # noqa: PLR2004
    if seconds < 59.95:  # noqa: PLR2004
        return f"{seconds:.3g} s" if seconds < 9.995 else f"{seconds:.0f} s"  # noqa: PLR2004
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


_CENTS, _LEAST_DIGITS, _MOST_DIGITS = 100.0, 4, 9


def digits_for(price: float) -> int:
    """How many digits behind the point a price needs: two that say something, and at least a hundredth of a cent."""
    if price <= 0:
        return _LEAST_DIGITS
    return min(max(1 - math.floor(math.log10(price)), _LEAST_DIGITS), _MOST_DIGITS)


def dollars(price: float, digits: int = 0) -> str:
    """A price in US dollars; `digits` are those of other prices beside it, so that parts add up to their total."""
    if price >= _CENTS - 5 * 10.0 ** -(_LEAST_DIGITS + 1):
        return f"${price:,.2f}"
    if 0 < price < 10.0**-_MOST_DIGITS:
        return f"<${10.0**-_MOST_DIGITS:.{_MOST_DIGITS}f}"
    return f"${price:.{max(digits, digits_for(price))}f}"
