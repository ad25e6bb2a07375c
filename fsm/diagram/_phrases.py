"""What is said of runs in a picture, in few words: sums, and where two of them part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fsm._records import Move, moment, parting

from ._model import Note
from ._overlay import Overlay, Tally
from ._text import amount, clean, digits_for, dollars, short, span

WAITS: Mapping[str, str] = {
    "person": "waits for a person",
    "api": "waits for the API",
    "wait": "waits for the clock",
    "": "under way",
}
"""What is said of a run that has not ended, by who it waits for."""

PARTING = "they part here"
_ID, _FULL_ID = 24, 40  # characters of a run's id, in the legend and in the heading
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


def digits_of(tallies: Iterable[Tally]) -> int:
    """How many digits all prices have, so that the total is not coarser than its parts: two of the smallest."""
    return max((digits_for(tally.price) for tally in tallies if tally.price), default=0)


def spent_words(tally: Tally, digits: int = 0) -> list[str]:
    """`4.1 s`, `1.2k tok`, `$0.0112`, `1 failed`, as far as there is anything; an unknown price says so."""
    words = [span(tally.seconds)] if tally.seconds >= _LEAST else []
    words += [f"{amount(tally.tokens)} tok"] if tally.tokens else []
    words += ["$?"] if tally.price is None else [dollars(tally.price, digits)] if tally.price else []
    return [*words, *([f"{amount(tally.failures)} failed"] if tally.failures else [])]


def box_words(tally: Tally | None, *, is_heat: bool, digits: int = 0) -> tuple[str, ...]:
    """What was done in a state, in one line; how often, where many runs are told of."""
    if tally is None or not tally.count:
        return ()
    words = [*([f"{amount(tally.count)}×"] if is_heat else []), *spent_words(tally, digits)]
    return (", ".join(words),) if words else ()


def row_words(tally: Tally | None, *, is_heat: bool, digits: int = 0, together: bool = False) -> tuple[str, ...]:
    """What was done on a row; of one run how often only where it was more than once."""
    if tally is None or not tally.count:
        return ()
    count = f"{amount(tally.count)}×{' together' if together else ''}"
    return (*([count] if is_heat or together or tally.count > 1 else []), *spent_words(tally, digits))


def subject(overlay: Overlay) -> tuple[str, ...]:
    """Which run it is, when it began, and why it ended or stands still, as far as its records say so."""
    if not overlay.run_id:
        return ()
    run = f"run {short(clean(overlay.run_id), _FULL_ID)}"
    if overlay.other is not None:
        other = short(clean(overlay.other.run_id), _FULL_ID) or "another one"
        return (f"{run} against {other}",)
    return (run, *filter(None, [moment(overlay.began), clean(overlay.reason)]))


def sums(overlay: Overlay, digits: int = 0) -> tuple[str, ...]:
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
        "price unknown" if total.price is None else dollars(total.price, digits) if total.price else "",
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
