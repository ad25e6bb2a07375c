"""One scripted run of each example, for its picture: the real driver and client, the emulator, and a clock of its own.

A run is the same each time it is made. What is left to chance otherwise is what the clock of the run says: how long a
request took, in which order calls that run side by side came back, the draw of a back-off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from fsm._records import Record

if TYPE_CHECKING:
    from fsm import Workflow
    from fsm.testing import Reply

QUESTION = "My espresso machine arrived broken. It is order 7 or order 8, please refund it."
_BEGAN = 1_767_258_000.0  # 2026-01-01 09:00 UTC, in seconds since the epoch
_TOOL = 0.1  # seconds that a tool takes
_PERSON = 20.0  # seconds that a person takes


@frozen
class Script:
    """What is said to a workflow, what the model replies, what people answer, and the class that `deps=` is one of."""

    said: str
    replies: tuple[Reply | str, ...]
    answers: tuple[Any, ...] = field(default=(), kw_only=True)
    deps: str = field(default="", kw_only=True)


def support_replies() -> tuple[Reply, ...]:
    """Everything that goes wrong on a normal day: an overloaded API, a reply that is cut in the middle of a call."""
    from fsm.testing import replies

    refund = {"number": "7", "euros": 249.0}
    return (
        replies.tool_uses(
            ("find_order", {"number": "7"}), ("find_order", {"number": "8"}), text="I look at both orders."
        ),
        replies.overloaded(retry_after=0.5),
        replies.max_tokens("Order 7 is the espresso machine.", tool=("refund", refund)),
        replies.tool_use("refund", refund, text="Order 7 is the espresso machine. I ask for the refund."),
        replies.text("Done: 249.00 euros for your espresso machine, order 7, are on their way back to you."),
    )


def _scripts() -> Mapping[str, Script]:
    """The scripts, by the name of the example's file, in the order in which the gallery shows them."""
    from fsm import approve
    from fsm.testing import replies

    return {
        "support": Script(QUESTION, support_replies(), answers=(approve(),), deps="Shop"),
        "weather": Script(
            "Where will it be warmer tomorrow, in Lisbon or in Atlantis?",
            (
                replies.tool_uses(("forecast", {"city": "Lisbon"}), ("forecast", {"city": "Atlantis"})),
                "Lisbon will have 21 °C and sun. For Atlantis there is no forecast.",
            ),
        ),
        "chain": Script(
            "Outline a text for children: why does the moon look different every night?",
            (
                "The moon changes because of the sun.",
                "- The moon is lit by the sun\n- It travels round us once a month\n- So we see more or less of it",
                "Have you ever looked up and wondered where half of the moon went? …",
                "Where does half of the moon go? Nowhere: …",
            ),
        ),
        "router": Script(
            "J'ai payé deux fois ce mois-ci.",
            (
                replies.structured({"desk": "billing", "language": "French"}),
                "Vous avez raison : le second paiement vous est remboursé.",
            ),
        ),
        "optimiser": Script(
            "Explain recursion to a cook, in four sentences.",
            (
                "Recursion is when a function calls itself.",
                replies.structured({"grade": "weak", "why": "No cook would see why."}),
                "To peel an onion, take off one layer, and peel the onion that is left. …",
                replies.structured({"grade": "good", "why": "Clear, and from the kitchen."}),
            ),
        ),
        "chat": Script(
            "I would like to understand logarithms.",
            (
                "How often must you divide 1000 by 10 to reach 1? That number is its logarithm.",
                "To base two you divide by two: log₂ 8 = 3.",
                "A logarithm counts divisions by its base.",
            ),
            answers=("And to base two?", "/recap", "/quit"),
        ),
        "extraction": Script(
            "".join(f"On {day} May 1904 the bridge grew by {day} metres.\n" for day in range(1, 32)) * 16,
            (
                *[replies.max_tokens("1 May 1904: grew by 1 metre\n2 May 1904: grew") for _ in range(3)],
                "1 May 1904: grew by 1 metre …",
                "31 May 1904: grew by 31 metres",
            ),
        ),
        "web": Script(
            "What is a logarithm?",
            ("It counts how often one divides by ten.", "By two, then: the base says by what."),
            answers=("And to base two?", "/quit"),
        ),
    }


def place_of(stem: str) -> int:
    """Where an example stands in the gallery: those without a script are the last."""
    known = list(_scripts())
    return known.index(stem) if stem in known else len(known)


def run_of(stem: str, workflow: type[Workflow], module: Any) -> tuple[Record, ...]:
    """The records of the scripted run of an example; of one that has no script, of its happy path.

    Args:
        stem: the name of its file, without suffix; also the id of the run.
        workflow: what runs.
        module: the file, imported.
    """
    from fsm import run
    from fsm.testing import Emulator, happy_path
    from fsm.testing._playing import Clock

    script = _scripts().get(stem)
    if script is None:
        return tuple(_steady(happy_path(workflow).run(workflow).records))
    clock = Clock(_BEGAN)
    coming, answers = iter(script.replies), iter(script.answers)

    def reply(body: Mapping[str, Any]) -> Reply | str:
        del body
        given = next(coming)
        clock.sleep(_seconds(given))
        return given

    def ask(question: object) -> Any:
        del question
        clock.sleep(_PERSON)
        return next(answers, None)

    result = run(
        workflow,
        script.said,
        deps=getattr(module, script.deps)() if script.deps else None,
        client=Emulator(reply, clock=clock).client(),
        ask=ask,
        run_id=stem,
        clock=clock,
        sleep=clock.sleep,
    )
    return tuple(_steady(result.records))


def _seconds(reply: Reply | str) -> float:
    """How long a reply takes: long ones longer."""
    if not isinstance(reply, str) and reply.kind == "error":
        return 0.2
    words = reply if isinstance(reply, str) else repr(reply.content)
    return round(0.8 + len(words) / 100, 1)


def _steady(records: Iterable[Record]) -> Iterator[Record]:
    """The records with what is measured and drawn by lot replaced by what the clock of the run says."""
    asked, begun, ends = _BEGAN, list[str](), list[Any]()
    for record in records:
        data = dict(record.data)
        if record.kind == "request":
            asked = record.at
        elif record.kind == "tool.begin":
            begun = list(data["ids"])
        elif record.kind == "tool.end":
            ends += [[*end[:-1], _TOOL] for end in data["ends"]]
            if len(ends) < len(begun):  # calls that run side by side come back together, or not
                continue
            data["ends"], ends = sorted(ends, key=lambda end: begun.index(end[0])), []
        elif "seconds" in data:
            data["seconds"] = round(record.at - asked, 6) if record.kind in {"reply", "error"} else 0.0
        if "draw" in data:
            data["draw"] = 0.5
        yield evolve(record, data=data)
