"""What is said of runs in a picture, in few words: sums, and where two of them part."""

from __future__ import annotations

from collections.abc import Mapping

from fsm._records import Move, parting

from ._model import Note
from ._overlay import Overlay, Tally
from ._text import amount, clean, dollars, short, span

WAITS: Mapping[str, str] = {
    "person": "waits for a person",
    "api": "waits for the API",
    "wait": "waits for the clock",
    "": "under way",
}
"""What is said of a run that has not ended, by who it waits for."""

_ID = 24  # characters of a run's id
_LEAST = 0.0005  # seconds: less is not worth a word
_SUMS = 8


def names_of(mine: Overlay | None, others: Overlay | None) -> tuple[str, str]:
    """What the two runs are called that are compared."""
    one, other = (clean(each.run_id) if each else "" for each in (mine, others))
    return (short(one, _ID), short(other, _ID)) if one and other and one != other else ("this", "the other")


def parting_note(names: tuple[str, str], mine: tuple[Move, ...], others: tuple[Move, ...]) -> Note:
    """Where two runs part, and what each did then."""
    place = parting(mine, others)
    if place is None:
        return Note("two runs with the same moves", (("moves", (str(len(mine)),)),))
    rows = [
        (name, (clean(moves[place]) if place < len(moves) else "has ended or stands still",))
        for name, moves in zip(names, (mine, others), strict=True)
    ]
    return Note(f"they part at move {place + 1}", tuple(rows))


def spent_words(tally: Tally) -> list[str]:
    """`4.1 s`, `1.2k tok`, `$0.01`, `1 failed`, as far as there is anything; an unknown price says so."""
    words = [span(tally.seconds)] if tally.seconds >= _LEAST else []
    words += [f"{amount(tally.tokens)} tok"] if tally.tokens else []
    words += ["$?"] if tally.price is None else [dollars(tally.price)] if tally.price else []
    return [*words, *([f"{amount(tally.failures)} failed"] if tally.failures else [])]


def sums(overlay: Overlay) -> tuple[str, ...]:
    """The same number of words for all overlays, empty where there is nothing to say."""
    total = overlay.total
    if total is None:
        return ("",) * _SUMS
    live = (
        ""
        if overlay.runs == 1
        else ", ".join(f"{n} {plural(words, n)}" for who, words in WAITS.items() if (n := _standing(overlay, who)))
    )
    stuck = ("stuck" if overlay.runs == 1 else f"{overlay.stuck_runs} stuck") if overlay.stuck_runs else ""
    return (
        counted("run", overlay.runs) if overlay.runs != 1 else "",
        counted("move", total.count),
        f"{span(total.seconds)} of work" if total.seconds >= _LEAST else "",
        f"{amount(total.tokens)} tokens" if total.tokens else "",
        "price unknown" if total.price is None else dollars(total.price) if total.price else "",
        f"{amount(total.failures)} failed" if total.failures else "",
        stuck,
        live,
    )


def both(was: str, now: str) -> str:
    """`3 → 8 moves`."""
    (one, _, unit), (_, _, other) = was.partition(" "), now.partition(" ")
    if was == now:
        return now
    return f"{one} → {now}" if was and now and unit == other else f"{was or 'none'} → {now or 'none'}"


def _standing(overlay: Overlay, who: str) -> int:
    return sum(n for (_, waits), n in overlay.standing.items() if waits == who)


def plural(words: str, count: int) -> str:
    """`3 wait`, `1 waits`: the words for so many runs."""
    return words.replace("waits", "wait") if count != 1 else words


def counted(thing: str, number: int) -> str:
    """`1 run`, `1.2k runs`."""
    return f"{amount(number)} {thing}{'' if number == 1 else 's'}"
