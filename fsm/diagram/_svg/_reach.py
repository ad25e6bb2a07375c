"""How far arrows reach: what the layout will cost, and which arrows lead up."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

log = logging.getLogger("fsm")

# Crossings and curves cost Graphviz minutes where hundreds of arrows pass many ranks, and nothing else bounds it: 600
# arrows between 120 states took more than two minutes with curves, one second with lines.
_MANY, _TOO_MANY, _ENDLESS = 500, 2000, 40_000  # ranks that all arrows pass together


def effort(boxes: Iterable[str], links: Iterable[tuple[str, str]]) -> str:
    """How hard Graphviz may try: attributes by how far the arrows will reach."""
    links = tuple(links)
    reach = reach_of(boxes, links)
    if reach > _ENDLESS:
        how = "groups= and folded= (fsm diagram --groups prefix --fold all) draw groups as one box each, at once"
        log.warning("placing %d arrows that lead far may take a minute: %s", len(links), how)
        return 'splines="line" nslimit="0.1" nslimit1="0.1" mclimit="0.01"'
    if reach > _TOO_MANY:
        return 'splines="line" nslimit="1" nslimit1="1" mclimit="0.1"'
    return 'splines="true" nslimit="2" nslimit1="2" mclimit="0.5"' if reach > _MANY else 'splines="true"'


def reach_of(boxes: Iterable[str], links: Iterable[tuple[str, str]]) -> int:
    """How many ranks the arrows pass, all together: each box as far down as its longest way, loops left out."""
    links = tuple(links)
    ranks, _ = ranks_of(boxes, links)
    return sum(abs(ranks[source] - ranks[dest]) for source, dest in links)


def ranks_of(boxes: Iterable[str], links: Iterable[tuple[str, str]]) -> tuple[Mapping[str, int], set[tuple[str, str]]]:
    """Each box as far down as its longest way, and the arrows that lead up: those that close a loop."""
    onward = _onward(boxes, links)
    ranks = dict.fromkeys(onward, 0)
    order, back = _walk(onward)
    for box in reversed(order):
        for other in onward[box]:
            if (box, other) not in back:
                ranks[other] = max(ranks[other], ranks[box] + 1)
    return ranks, back


def _onward(boxes: Iterable[str], links: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    onward: dict[str, list[str]] = {box: [] for box in boxes}
    for source, dest in links:
        if source != dest:
            onward[source].append(dest)
    return onward


def _walk(onward: Mapping[str, Sequence[str]]) -> tuple[list[str], set[tuple[str, str]]]:
    """The boxes in the order in which a depth-first walk leaves them, and the links that close a loop."""
    order: list[str] = []
    back: set[tuple[str, str]] = set()
    entered, left = set[str](), set[str]()
    for first in onward:
        if first in entered:
            continue
        entered.add(first)
        stack = [(first, iter(onward[first]))]
        while stack:
            box, others = stack[-1]
            other = next(others, None)
            if other is None:
                stack.pop()
                left.add(box)
                order.append(box)
            elif other not in entered:
                entered.add(other)
                stack.append((other, iter(onward[other])))
            elif other not in left:
                back.add((box, other))
    return order, back
