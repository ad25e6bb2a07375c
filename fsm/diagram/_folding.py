"""Folding: groups of states drawn as one box each, with the work of all of their states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from typing import TypedDict

from attrs import evolve

from fsm._errors import UsageError

from ._groups import NAME
from ._model import MARKS, Arrow, Box, Change, Frame, Line, Picture
from ._overlay import Tally
from ._phrases import PARTING, box_words, row_words
from ._text import amount, clean, unlike

Folded = bool | Collection[str]

_EVENTS = 2  # that the arrow of a folded group names
_STATES = 30  # that show when the mouse rests on it
_KINDS = ("Claude", "Tools", "Approval", "Human", "Code", "Child")


class _Telling(TypedDict):
    is_heat: bool
    digits: int


def fold(picture: Picture, which: Folded, *, is_heat: bool = False, digits: int = 0) -> Picture:
    """The picture with these groups drawn as one box each; True folds all.

    A group has the work of all of its states, and was entered as often as an arrow from outside led into it. What is
    warmest and widest is found anew, among what is drawn.

    Args:
        picture: with all of its boxes.
        which: paths of groups, or their last parts.
        is_heat: whether counts are told of everything, not only of what was done more than once.
        digits: of prices.

    Raises:
        UsageError: a name that no group has, or several have.
    """
    chosen = _chosen(picture, which)
    if not chosen:
        return picture
    frames = {frame.id: frame for frame in picture.frames}
    outer = {ident: _outermost(ident, frames, chosen) for ident in frames}
    homes = {box.id: outer.get(box.group, "") or box.id for box in picture.boxes}
    inside: dict[str, list[Box]] = {}
    for box in picture.boxes:
        inside.setdefault(homes[box.id], []).append(box)
    telling: _Telling = {"is_heat": is_heat, "digits": digits}
    within: dict[str, list[Line]] = {}
    names = {box.id: box.name for box in picture.boxes}
    merged: dict[tuple[str, str, bool], list[Arrow]] = {}
    for arrow in picture.arrows:
        ends = (homes[arrow.source], homes[arrow.dest])
        if ends[0] == ends[1] and ends[0] in frames:
            within.setdefault(ends[0], []).extend(arrow.lines)
        else:
            merged.setdefault((*ends, arrow.standard), []).append(arrow)
    arrows = tuple(
        _folded_arrow(source, dest, found, names, telling) if source in frames or dest in frames else found[0]
        for (source, dest, _), found in merged.items()
    )
    boxes = tuple(
        _folded_box(frames[home], found, within.get(home, ()), telling) if home in frames else found[0]
        for home, found in inside.items()
    )
    boxes, arrows = _told_apart(_warmed(boxes), frames), _widened(arrows)
    return evolve(
        picture,
        boxes=boxes,
        arrows=arrows,
        frames=tuple(frame for frame in picture.frames if not outer[frame.id]),
        legend=_legend(picture.legend, boxes, arrows),
    )


def _chosen(picture: Picture, which: Folded) -> frozenset[str]:
    if isinstance(which, bool):
        return frozenset(frame.id for frame in picture.frames) if which else frozenset()
    names = (which,) if isinstance(which, str) else tuple(which) if isinstance(which, Iterable) else (which,)
    if not all(isinstance(name, str) for name in names):
        raise UsageError(f"folded= takes True or names of groups, not {which!r}")
    return frozenset(_named(picture, name) for name in names)


def _named(picture: Picture, name: str) -> str:
    """The id of the group with this path, or with this last part, if only one has it."""
    for frame in picture.frames:
        if frame.path == name:
            return frame.id
    found = [frame for frame in picture.frames if frame.path.rpartition("/")[2] == name]
    if len(found) == 1:
        return found[0].id
    known = ", ".join(sorted(frame.path for frame in found or picture.frames))
    if found:
        raise UsageError(f"folded names {name!r}, but {len(found)} groups are called so: give the path, one of {known}")
    there = f"the groups are {known}" if known else "there are no groups: give groups= too"
    raise UsageError(f"folded names {name!r}, but {there}")


def _outermost(ident: str, frames: Mapping[str, Frame], chosen: Collection[str]) -> str:
    """The outermost folded group around a frame, itself included."""
    found = ""
    while ident:
        found = ident if ident in chosen else found
        ident = frames[ident].parent
    return found


def _folded_box(frame: Frame, inside: Sequence[Box], within: Sequence[Line], telling: _Telling) -> Box:
    kinds = {box.kind for box in inside}
    names = [box.name for box in inside]
    more = [f"and {len(names) - _STATES} more"] if len(names) > _STATES else []
    acting = [kind for kind in _KINDS if kind in kinds]
    per_row = 3
    rows = [", ".join(acting[place : place + per_row]) for place in range(0, len(acting), per_row)]
    ends = ["it can end here"] if "Final" in kinds else []
    changes = {box.change for box in inside}
    tally = _entered(_sum(box.tally for box in inside), within)
    heats = [box.heat for box in inside if box.heat is not None]
    parts = any(fact == PARTING for box in inside for fact in box.facts)
    return Box(
        frame.id,
        frame.name,
        "Group",
        details=(f"{len(inside)} state{'s' if len(inside) != 1 else ''}", *rows, *ends),
        initial=any(box.initial for box in inside),
        current=any(box.current for box in inside),
        faded=all(box.faded for box in inside),
        findings=tuple(dict.fromkeys(found for box in inside for found in box.findings)),
        title="\n".join([f"{frame.name}:", *names[:_STATES], *more]),
        group=frame.parent,
        states=tuple(state for box in inside for state in box.states),
        tally=tally,
        heat=sum(heats) if heats else None,
        change=changes.pop() if len(changes) == 1 else "changed",
        facts=(PARTING,) if parts else box_words(tally, **telling),
    )


def _entered(tally: Tally | None, within: Iterable[Line]) -> Tally | None:
    """Its states were entered so often less, seen from outside, as moves led from one of them to another."""
    if tally is None:
        return None
    inner = sum(line.tally.count for line in within if line.tally is not None)
    return evolve(tally, count=max(tally.count - inner, 0))


def _folded_arrow(
    source: str,
    dest: str,
    found: Sequence[Arrow],
    names: Mapping[str, str],
    telling: _Telling,
) -> Arrow:
    lines = [line for arrow in found for line in arrow.lines]
    tally = _sum_of_rows(lines)
    change, facts = _change_of_rows(lines, tally, telling)
    guards = list(dict.fromkeys(line.guard for line in lines))
    line = Line(
        _events(lines),
        guard=guards[0] if len(lines) == 1 else "…" if any(guards) else "",
        seqs=tuple(sorted(seq for line in lines for seq in line.seqs)),
        findings=tuple(dict.fromkeys(each for line in lines for each in line.findings)),
        tally=tally,
        stuck=any(line.stuck for line in lines),
        change=change,
        facts=facts,
    )
    said = [
        f"{names[arrow.source]} to {names[arrow.dest]}: {row}" for arrow in found for row in arrow.title.split("\n")
    ]
    more = [f"and {len(said) - _STATES} more"] if len(said) > _STATES else []
    return Arrow(
        found[0].id,
        source,
        dest,
        (line,),
        standard=found[0].standard,
        taken=any(arrow.taken for arrow in found),
        faded=all(arrow.faded for arrow in found),
        is_summary=all(arrow.is_summary for arrow in found),
        title="\n".join([*said[:_STATES], *more]),
        heat=max((arrow.heat for arrow in found if arrow.heat is not None), default=None),
    )


def _change_of_rows(
    lines: Sequence[Line],
    tally: Tally | None,
    telling: _Telling,
) -> tuple[Change, tuple[str, ...]]:
    """What a version changed in rows that are drawn as one, or which of two runs took one of them; and in words."""
    others = _sum(line.others for line in lines)
    if others is not None:  # two runs are compared
        mine = tally.count if tally is not None else 0
        if mine and others.count:
            return "", ((f"{amount(others.count)}× → {amount(mine)}×",) if mine != others.count else ())
        return "added" if mine else "removed" if others.count else "", ()
    changes = {line.change for line in lines}
    words = row_words(tally, **telling, together=any(line.together for line in lines))
    if tally is not None and not tally.count and all("never" in line.facts for line in lines):
        words = ("never",)
    return changes.pop() if len(changes) == 1 else "changed", words


def _warmed(boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    """Shares of the box that has most of the work now."""
    most = max((box.heat for box in boxes if box.heat is not None), default=0.0)
    return tuple(evolve(box, heat=box.heat / most) if box.heat is not None and most else box for box in boxes)


def _told_apart(boxes: tuple[Box, ...], frames: Mapping[str, Frame]) -> tuple[Box, ...]:
    """Groups that would have one name show their paths."""
    often = Counter(box.name for box in boxes if box.id in frames)
    same = [box.id for box in boxes if box.id in frames and often[box.name] > 1]
    names = dict(zip(same, unlike([clean(frames[ident].path) for ident in same], NAME), strict=True))
    return tuple(evolve(box, name=names.get(box.id, box.name)) for box in boxes)


def _widened(arrows: tuple[Arrow, ...]) -> tuple[Arrow, ...]:
    """Shares of the arrow that was taken most often now."""
    counts = [max((line.tally.count for line in arrow.lines if line.tally is not None), default=0) for arrow in arrows]
    most = max(counts, default=0)
    return tuple(
        evolve(arrow, heat=count / most) if arrow.heat is not None and most else arrow
        for arrow, count in zip(arrows, counts, strict=True)
    )


def _events(lines: Iterable[Line]) -> str:
    """`tool_use, end_turn +3`."""
    events = list(dict.fromkeys(line.event for line in lines))
    more = f" +{len(events) - _EVENTS}" if len(events) > _EVENTS else ""
    return ", ".join(events[:_EVENTS]) + more


def _sum(tallies: Iterable[Tally | None]) -> Tally | None:
    known = [tally for tally in tallies if tally is not None]
    if not known:
        return None
    return reduce(Tally.plus, known)


def _sum_of_rows(lines: Iterable[Line]) -> Tally | None:
    """The sum; a count of all alternatives of an event together counts once."""
    once: dict[object, Tally | None] = {}
    for place, line in enumerate(lines):
        key = line.key[:2] if line.together and line.key is not None else place
        once.setdefault(key, line.tally)
    return _sum(once.values())


def _legend(
    legend: Sequence[tuple[str, str]], boxes: Sequence[Box], arrows: Iterable[Arrow]
) -> tuple[tuple[str, str], ...]:
    shapes = {box.shape for box in boxes}
    kinds = {*_KINDS, "Final", "Failed"}
    changes: set[str] = {line.change for arrow in arrows for line in arrow.lines} | {box.change for box in boxes}
    legend = [(key, words) for key, words in legend if key not in MARKS or key in changes]
    is_mixed = "changed" in changes - {key for key, _ in legend}
    return (
        ("Group", "Group: several states, folded"),
        *((key, words) for key, words in legend if key not in kinds or key in shapes),
        *([("changed", "changed")] if is_mixed else []),
    )
