"""A router: a small model sorts what comes in, then a specialist with its own prompt and history answers.

Use it when requests fall into kinds that are better served apart. The answer of the sorting step is structured output,
so that an arrow can ask for it; each specialist reads the question only, not how it was sorted.
"""

from dataclasses import dataclass
from typing import Literal

from fsm import Claude, Facts, Final, Workflow, output, run

MODEL = "claude-sonnet-5"


@dataclass
class Ticket:
    """What the sorting step gives."""

    desk: Literal["billing", "technical", "other"]
    language: str


def question(facts: Facts) -> str:
    """What the customer wrote, and in which language to answer."""
    return f"{facts.input}\n\nAnswer in this language: {facts.output['language']}"


class Router(Workflow):
    """Sends a customer's question to the desk that it belongs to."""

    sorting = Claude(
        model="claude-haiku-4-5",
        max_tokens=256,
        system="Sort the customer's request. Say 'other' rather than guess.",
        output=Ticket,
        history="sorting",
    )
    billing = Claude(model=MODEL, max_tokens=2048, system="You do the bills.", history="billing", prompt=question)
    technical = Claude(model=MODEL, max_tokens=2048, system="You mend things.", history="technical", prompt=question)
    helping = Claude(model=MODEL, max_tokens=1024, system="You know who to ask.", history="helping", prompt=question)
    answered = Final()

    sorting.on(
        end_turn=[
            billing.when(output("desk", "billing")),
            technical.when(output("desk", "technical")),
            helping,
        ]
    )
    billing.on(end_turn=answered)
    technical.on(end_turn=answered)
    helping.on(end_turn=answered)


if __name__ == "__main__":
    print(run(Router, "J'ai payé deux fois ce mois-ci.").text)
