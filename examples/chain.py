"""A prompt chain with a gate: each step works on what the one before made, and plain code decides whether to go on.

Use it when a task falls into fixed steps, and a cheap check between them saves an expensive step on bad material.
"""

from typing import Literal

from fsm import Claude, Code, Facts, Final, Workflow, exits, rounds_left, run, say

MODEL = "claude-sonnet-5"
POINTS = 3


def count_points(facts: Facts) -> Literal["enough", "thin"]:
    """The gate: an outline needs some points, and they begin with a dash."""
    points = [line for line in facts.text.splitlines() if line.lstrip().startswith("-")]
    return "enough" if len(points) >= POINTS else "thin"


class Chain(Workflow):
    """Outlines a text, writes it once the outline is good enough, then polishes it."""

    outlining = Claude(model=MODEL, max_tokens=1024)
    gating = Code(count_points)
    writing = Claude(model=MODEL, max_tokens=8192, prompt="Good. Now write the whole text, about 300 words.")
    polishing = Claude(model=MODEL, max_tokens=8192, prompt="Shorten it by a third. Keep every fact. Only the text.")
    written = Final()

    outlining.on(end_turn=gating)
    gating.on("enough", writing)
    gating.on(
        "thin",
        [
            outlining.when(rounds_left(2)).then(say(f"Too thin: give {POINTS} points or more, each after a dash.")),
            exits.failed,
        ],
    )
    writing.on(end_turn=polishing)
    polishing.on(end_turn=written)


if __name__ == "__main__":
    result = run(Chain, "Outline a text for children: why does the moon look different every night?")
    print(result.text)
    print(result.verdict)
