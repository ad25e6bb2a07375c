"""What runs did, arrow by arrow and state by state, to be drawn over the graph they ran on."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from fsm._records import Move

Key = tuple[str, str, int]
"""What names an arrow: source, event, index (`Edge.key`)."""


@frozen
class Tally:
    """How often, for how long (seconds of recorded work), at what price (US dollars, None: unknown), how often badly."""

    count: int = 0
    seconds: float = 0.0
    tokens: int = 0
    price: float | None = 0.0
    failures: int = 0


@frozen
class Overlay:
    """A run to draw into the picture: the moves it made, and the state it is in.

    `edges` and `states` are what was done on each arrow and in each state, `stuck` the arrows of the cycle that ended
    the run. Where `runs` is more than one, arrows are not numbered and the busiest ones are drawn the thickest.
    """

    moves: tuple[Move, ...] = ()
    current: str | None = None
    edges: Mapping[Key, Tally] = field(factory=dict, kw_only=True)
    states: Mapping[str, Tally] = field(factory=dict, kw_only=True)
    stuck: frozenset[Key] = field(default=frozenset(), kw_only=True)
    runs: int = field(default=1, kw_only=True)
