"""An evaluator and an optimiser: one Claude writes, another judges, until the judge is content or the rounds are spent.

Use it when good can be told from bad more easily than good can be written. The judge begins with an empty history every
time, so that it never grades its own earlier verdict, and the number of rounds is part of the declaration.
"""

from dataclasses import dataclass
from typing import Literal

from fsm import Claude, Facts, Final, Workflow, effect, exits, output, rounds_left, run, say


@dataclass
class Grade:
    """What the judge gives."""

    grade: Literal["good", "weak"]
    why: str


@effect
def draft(facts: Facts) -> str:
    """Keeps the newest draft: `result.values["draft"]`."""
    return facts.text


def to_judge(facts: Facts) -> str:
    """What the judge reads."""
    return f"You are a strict editor. Good means fit to print.\n\nTask:\n{facts.input}\n\nDraft:\n{facts.text}"


def feedback(facts: Facts) -> str:
    """What the writer hears."""
    return f"Not there yet: {facts.output['why']} Write it again, the whole text and nothing else."


class Optimiser(Workflow):
    """Writes a text, has it judged, and writes it again at most three times."""

    drafting = Claude(model="claude-sonnet-5", max_tokens=4096)
    judging = Claude(
        model="claude-opus-4-8", max_tokens=1024, output=Grade, history="judge", fresh=True, prompt=to_judge
    )
    done = Final()

    drafting.on(end_turn=judging.then(draft))
    judging.on(
        end_turn=[
            done.when(output("grade", "good")),
            drafting.when(rounds_left(3)).then(say(feedback)),
            exits.over_limit,
        ]
    )


if __name__ == "__main__":
    print(run(Optimiser, "Explain recursion to a cook, in four sentences.").values["draft"])
