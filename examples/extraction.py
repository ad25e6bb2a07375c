"""Work on a long document: what came before a cut is saved, the limit is raised, and then the document is split.

Use it when the size of the answer depends on the input. A reply that `max_tokens` cut is no answer: here its arrow says
what to do, first with more room, then in pieces, and the partial reply is kept for whoever looks at the run.
"""

from typing import Any, Literal

from fsm import Claude, Code, Facts, Final, Outcome, Workflow, effect, grow, room_to_grow, run

TASK = "List every date in the text with what happened on it, one a line. Nothing else.\n\n"
PIECE = 20_000  # characters


@effect
def partial(facts: Facts) -> str:
    """Saves what came before the cut: `result.values["partial"]`."""
    return facts.text


def whole(facts: Facts) -> str:
    """The task, and all of the document."""
    return f"{TASK}{facts.input}"


def next_piece(facts: Facts) -> str:
    """The task, and the first piece that has no answer yet."""
    start = PIECE * len(facts.values.get("collecting") or [])
    return f"{TASK}{facts.input[start : start + PIECE]}"


def collect(facts: Facts) -> Outcome[Literal["more", "all"]]:
    """Adds the newest answer to those that there are."""
    answers: list[Any] = [*(facts.values.get("collecting") or []), facts.text]
    return Outcome("more" if PIECE * len(answers) < len(facts.input) else "all", answers)


class Extraction(Workflow):
    """Lists the dates of a document: read whole if it fits, in pieces if not."""

    reading = Claude(model="claude-haiku-4-5", max_tokens=8000, prompt=whole)
    reading_piece = Claude(model="claude-haiku-4-5", max_tokens=8000, history="piece", fresh=True, prompt=next_piece)
    collecting = Code(collect)
    extracted = Final()

    reading.on(
        end_turn=extracted,
        max_tokens=[reading.when(room_to_grow).then(partial, grow), reading_piece.then(partial)],
        model_context_window_exceeded=reading_piece.then(partial),
    )
    reading_piece.on(end_turn=collecting)
    collecting.on("more", reading_piece).on("all", extracted)


if __name__ == "__main__":
    result = run(Extraction, "On 4 May 1904 it was begun.\nOn 15 August 1914 it was opened.")
    print("\n".join(result.values.get("collecting") or [result.text]))
