"""What a large picture costs before its layout: 200 states with 1,000 rows, in one process.

    python benchmarks/diagram.py [--states 200] [--rows 1000] [--rounds 5] [--layout]

Before the layout stand: the graph as a picture, the room of every label, and the source for Graphviz. Printed are
milliseconds, median (lowest-highest), for each detail, and for the overview with its groups folded; the aim is 500 ms.
`--layout` measures the whole picture as well, for rows that lead near and for rows that lead anywhere.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from fsm import Approval, Claude, Final, Human, Tools, exits
from fsm._graph import Graph, build_graph
from fsm.diagram import render
from fsm.diagram._extract import make_picture
from fsm.diagram._svg import _drawing, _layout

AIM = 500.0  # milliseconds
STAGES = [
    "intake",
    "research",
    "planning",
    "writing",
    "checking",
    "legal",
    "design",
    "testing",
    "release",
    "billing",
    "support",
    "archive",
    "audit",
    "review",
    "triage",
    "routing",
    "search",
    "summary",
    "export",
    "notify",
]
STEPS = ["asking", "calling", "approving", "judging", "drafting", "polishing", "talking", "done", "waiting", "closing"]
EVENTS = {
    "Claude": [
        "end_turn",
        "tool_use",
        "max_tokens",
        "refusal",
        "pause_turn",
        "over_limit",
        "stuck",
        "rate_limit_error",
        "cancel",
    ],
    "Tools": ["tool_results", "outcome_unknown", "cancel"],
    "Approval": ["approved", "denied", "expired", "cancel"],
    "Human": ["said", "expired", "cancel"],
}


def company(states: int = 200, rows: int = 1000, *, anywhere: float = 0.0) -> Graph:
    """A workflow of this size in twenty stages, the same at every call.

    Args:
        states: how many; exits come on top.
        rows: of the workflow's own, as far as its states have events for them.
        anywhere: the share of rows that lead to any state; of the others six in seven lead on in the same stage, one
            to the next three stages.
    """
    chance = random.Random(1)
    found: dict[str, Any] = {}
    each = max(2, -(-(states - 1) // len(STAGES)))
    for place in range(states - 1):
        stage, step = divmod(place, each)
        found[f"{STAGES[stage]}_{STEPS[step % len(STEPS)]}{step // len(STEPS) or ''}"] = _state(step, STAGES[stage])
    found["finished"] = Final()
    stages: dict[str, list[str]] = {}
    for name in found:
        stages.setdefault(name.split("_", maxsplit=1)[0], []).append(name)
    todo = [
        (name, EVENTS[state.kind][turn])
        for turn in range(len(EVENTS["Claude"]))
        for name, state in found.items()
        if turn < len(EVENTS.get(state.kind, ()))
    ]
    for name, event in todo[:rows]:
        stage = STAGES.index(name.split("_", maxsplit=1)[0])
        onward = min(stage + (0 if chance.random() < 6 / 7 else chance.randrange(1, 4)), len(stages) - 1)
        dest = chance.choice([*found] if chance.random() < anywhere else [*stages.values()][onward])
        target = {"refusal": exits.refused, "cancel": exits.cancelled}.get(event, found[dest])
        found[name].on(**{event: target})
    return build_graph("Company", found, doc="A large workflow, in twenty stages.")


def _state(step: int, stage: str) -> Any:
    kinds: dict[int, Callable[[], Any]] = {
        1: Tools,
        2: lambda: Approval(within="1d"),
        6: lambda: Human(within="2h"),
        7: Final,
    }
    kind = kinds.get(step % len(STEPS))
    return kind() if kind else Claude(model="claude-sonnet-5", max_tokens=1000, history=stage)


class _ReachedError(Exception):
    """What stands before the layout is done."""


def before_layout(graph: Graph, **options: Any) -> float:
    """Milliseconds until Graphviz would be called."""

    def stop(source: str) -> bytes:
        raise _ReachedError(source)

    real, _layout.laid_out = _layout.laid_out, stop  # where the layout begins
    begun = time.perf_counter()
    try:
        _drawing.to_svg(make_picture(graph, **options))
    except _ReachedError:
        return (time.perf_counter() - begun) * 1000
    finally:
        _layout.laid_out = real
    raise AssertionError("the layout was not reached")


def whole(graph: Graph, **options: Any) -> float:
    """Milliseconds of the whole picture."""
    begun = time.perf_counter()
    render(graph, **options)
    return (time.perf_counter() - begun) * 1000


def _line(name: str, found: list[float], aim: float | None = None) -> None:
    verdict = "" if aim is None else f"   aim {aim:.0f}: {'met' if statistics.median(found) <= aim else 'MISSED'}"
    print(f"{name:34} {statistics.median(found):7.0f} ms ({min(found):.0f}-{max(found):.0f}){verdict}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--states", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layout", action="store_true")
    given = parser.parse_args()
    near, anywhere = (company(given.states, given.rows, anywhere=share) for share in (0.0, 1.0))
    own = sum(not edge.implied for edge in near.edges)
    print(f"{given.states} states, {own} own rows, {len(near.edges)} rows in all")
    folded: dict[str, Any] = {"groups": "prefix", "folded": True}
    for name, options in (
        *((detail, {"detail": detail}) for detail in ("simple", "default", "full")),
        ("folded", folded),
    ):
        _line(f"before the layout, {name}", [before_layout(near, **options) for _ in range(given.rounds)], AIM)
    if given.layout:
        for name, graph, more in (
            ("folded", near, folded),
            ("rows lead near", near, {}),
            ("rows lead anywhere", anywhere, {}),
        ):
            _line(f"whole picture, {name}", [whole(graph, **more) for _ in range(min(given.rounds, 2))])


if __name__ == "__main__":
    main()
