"""Every example, on a path to each of its rows, and in the conversations that it was written for.

All of it runs through the real client against the emulator. The paths stand in for tools and functions; the
conversations run them.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
from collections.abc import Callable
from pathlib import Path as File
from typing import Any

import pytest

from examples.chain import Chain
from examples.chat import Chat
from examples.extraction import PIECE, Extraction
from examples.optimiser import Optimiser
from examples.router import Router
from examples.support import Shop, Support
from examples.weather import Weather
from examples.web import Tutor
from fsm import MemoryStore, Question, Result, Workflow, approve, arun, deny, resume, run
from fsm.testing import Emulator, Path, assert_path, happy_path, paths, replies

EXAMPLES: tuple[type[Workflow], ...] = (Support, Weather, Chain, Router, Optimiser, Chat, Extraction, Tutor)
FOLDER = File(__file__).resolve().parent.parent / "examples"
FOUND = {workflow: paths(workflow) for workflow in EXAMPLES}


EVERY_PATH = [
    pytest.param(workflow, path, id=f"{workflow.name}-{path.id}") for workflow, found in FOUND.items() for path in found
]


@pytest.mark.parametrize(("workflow", "path"), EVERY_PATH)
def test_a_row(workflow: type[Workflow], path: Path) -> None:
    result = path.run(workflow)
    assert_path(result, path)
    assert path.row in path.rows
    assert result.parked == path.parked


@pytest.mark.parametrize("workflow", EXAMPLES)
def test_every_row_that_can_happen_has_a_path(workflow: type[Workflow]) -> None:
    found = FOUND[workflow]
    assert found.uncovered == ()
    assert [path.row for path in found] == list(workflow.graph.edges)


@pytest.mark.parametrize("workflow", EXAMPLES)
def test_no_check_finds_anything(workflow: type[Workflow]) -> None:
    assert workflow.check() == ()


@pytest.mark.parametrize(
    ("workflow", "expected"),
    [
        (Support, "asking → calling → asking → calling → approving → calling → asking → answered"),
        (Weather, "asking → calling → asking → answered"),
        (Chain, "outlining → gating → writing → polishing → written"),
        (Router, "sorting → billing → answered"),
        (Optimiser, "drafting → judging → drafting → judging → done"),
        (Chat, "answering → listening → answering → listening → recapping → listening → over"),
        (Tutor, "explaining → listening → explaining → listening → over"),
    ],
)
def test_the_happy_path_shows_what_the_example_is_about(workflow: type[Workflow], expected: str) -> None:
    path = happy_path(workflow)
    assert str(path) == expected
    result = path.run(workflow)
    assert_path(result, expected)
    assert result.ok


def test_the_happy_path_of_the_extraction_goes_through_its_cuts() -> None:
    path = happy_path(Extraction)
    assert {row.label for row in path.rows} >= {"max_tokens [room_to_grow] / partial, grow", "more", "all"}
    assert path.run(Extraction).ok


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_one_short_file_with_one_workflow_that_says_when_to_use_it(file: File) -> None:
    source = file.read_text("utf-8")
    assert len(source.splitlines()) <= (100 if file.stem == "web" else 60)  # half of that one is HTTP
    assert "\n\nUse it " in (ast.get_docstring(ast.parse(source)) or "")
    module = importlib.import_module(f"examples.{file.stem}")
    own = [w for w in vars(module).values() if isinstance(w, type) and issubclass(w, Workflow) and w is not Workflow]
    assert len(own) == 1
    assert own[0] in EXAMPLES


# --- conversations ----------------------------------------------------------------------------------------------------


def said_to(emulator: Emulator, number: int) -> list[dict[str, Any]]:
    """The messages of one request."""
    body = emulator.requests[number].body
    assert body is not None
    return body["messages"]


def results_in(emulator: Emulator, number: int) -> list[dict[str, Any]]:
    return [block for block in said_to(emulator, number)[-1]["content"] if block["type"] == "tool_result"]


def answers(*given: Any) -> Callable[[Question], Any]:
    waiting = list(given)
    return lambda question: waiting.pop(0)


REFUND = replies.tool_uses(("find_order", {"number": "7"}), ("refund", {"number": "7", "euros": 249.0}))


def test_support_pays_back_what_was_approved() -> None:
    shop, emulator = Shop(), Emulator([REFUND, replies.overloaded(), replies.text("It is paid back.")])
    asked: list[Question] = []

    def ask(question: Question) -> Any:
        asked.append(question)
        assert shop.paid_back == []
        return approve()

    result = run(Support, "Refund order 7.", deps=shop, client=emulator.client(), ask=ask, sleep=lambda _: None)
    assert_path(result, "asking → calling → approving → calling → asking → asking → answered")
    assert [[call.name for call in question.calls] for question in asked] == [["refund"]]
    assert shop.paid_back == [("7", 249.0)]
    assert [block["content"] for block in results_in(emulator, 2)] == [
        "Order 7: espresso machine, 249.00 euros, delivered.",
        "249.00 euros paid back for order 7.",
    ]
    assert result.text == "It is paid back."
    emulator.done()


def test_support_pays_nothing_back_that_was_denied() -> None:
    shop, emulator = Shop(), Emulator([REFUND, replies.text("I may not do that.")])
    ask = answers(deny("Only within 30 days."))
    result = run(Support, "Refund order 7.", deps=shop, client=emulator.client(), ask=ask)
    assert_path(result, "asking → calling → approving → asking → answered")
    assert shop.paid_back == []
    assert results_in(emulator, 1)[1] == {
        "type": "tool_result",
        "tool_use_id": results_in(emulator, 1)[1]["tool_use_id"],
        "content": "Denied by a person: Only within 30 days.",
        "is_error": True,
    }


def test_support_waits_for_a_person_and_gives_up_after_a_day() -> None:
    store, shop = MemoryStore(), Shop()
    first = Emulator([REFUND])
    options: dict[str, Any] = {"deps": shop, "journal": store, "client": first.client()}
    parked = run(Support, "Refund order 7.", run_id="r1", clock=lambda: 1000.0, **options)
    assert_path(parked, "asking → calling → approving")
    assert parked.parked
    later = Emulator([replies.text("Nobody was there to approve it.")], seed=1)
    options["client"] = later.client()
    result = resume(Support, "r1", answer=approve(), clock=lambda: 1000.0 + 86_401, **options)
    assert_path(result, "asking → calling → approving → asking → answered")
    assert shop.paid_back == []
    assert "in time" in results_in(later, 0)[1]["content"]


def test_weather_tells_claude_which_call_failed() -> None:
    calls = replies.tool_uses(("forecast", {"city": "Lisbon"}), ("forecast", {"city": "Atlantis"}))
    emulator = Emulator([calls, replies.text("21 °C in Lisbon; I do not know Atlantis.")])
    result = run(Weather, "Lisbon or Atlantis?", client=emulator.client())
    assert_path(result, "asking → calling → asking → answered")
    good, bad = results_in(emulator, 1)
    assert (good["content"], good.get("is_error")) == ("Lisbon: 21 °C, sun", None)
    assert (bad["content"], bad["is_error"]) == ("The tool 'forecast' failed: KeyError: 'Atlantis'", True)


def test_weather_streams_without_blocking() -> None:
    async def main() -> tuple[Result, list[str]]:
        pieces: list[str] = []
        result = await arun(
            Weather, "Lisbon?", client=emulator.async_client(), on_delta=lambda delta: pieces.append(delta.text)
        )
        return result, pieces

    emulator = Emulator([replies.tool_use("forecast", {"city": "Lisbon"}), replies.text("It will be 21 °C.")])
    result, pieces = asyncio.run(main())
    assert_path(result, "asking → calling → asking → answered")
    assert [(request.body or {}).get("stream") for request in emulator.requests] == [True, True]
    assert "".join(pieces).endswith(result.text)


def test_weather_has_a_limit() -> None:
    def ever_on(body: dict[str, Any]) -> Any:
        return replies.tool_use("find_cities", {"country": f"Country {len(body['messages'])}"})

    result = run(Weather, "Where?", client=Emulator(ever_on).client())
    assert result.state == "over_limit"
    assert result.verdict.evidence["limit"] == "turns"
    assert result.verdict.usage.output_tokens > 0


OUTLINE = replies.text("- new moon\n- crescent\n- full moon")


def test_chain_goes_back_when_the_outline_is_thin() -> None:
    emulator = Emulator([replies.text("The moon."), OUTLINE, replies.text("Long."), replies.text("Short.")])
    result = run(Chain, "The moon, please.", client=emulator.client())
    assert_path(result, "outlining → gating → outlining → gating → writing → polishing → written")
    assert said_to(emulator, 1)[-1]["content"][0]["text"].startswith("Too thin")
    assert [message["role"] for message in said_to(emulator, 3)] == ["user", "assistant"] * 3 + ["user"]
    assert result.text == "Short."
    assert result.values["gating"] == "enough"


def test_chain_fails_when_it_stays_thin() -> None:
    result = run(Chain, "The moon.", client=Emulator([replies.text("The moon.")] * 3).client())
    assert_path(result, "outlining → gating → outlining → gating → outlining → gating → failed")
    assert not result.ok


@pytest.mark.parametrize(("desk", "state"), [("billing", "billing"), ("technical", "technical"), ("other", "helping")])
def test_router_lets_each_desk_read_the_question_only(desk: str, state: str) -> None:
    emulator = Emulator([replies.structured({"desk": desk, "language": "French"}), replies.text("Voilà.")])
    result = run(Router, "J'ai payé deux fois.", client=emulator.client())
    assert_path(result, f"sorting → {state} → answered")
    assert said_to(emulator, 1) == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "J'ai payé deux fois.\n\nAnswer in this language: French"}],
        }
    ]
    sent = emulator.requests[0].body
    assert sent is not None
    assert sent["output_config"]["format"]["schema"]["properties"]["desk"]["enum"] == ["billing", "technical", "other"]


@pytest.mark.parametrize("text", ["billing", '{"desk": "kitchen", "language": "French"}', "[]"])
def test_router_takes_no_output_that_does_not_fit(text: str) -> None:
    result = run(Router, "Hello?", client=Emulator([replies.text(text)]).client())
    assert_path(result, "sorting → failed")
    assert result.verdict.reason == "invalid_output"


def test_optimiser_writes_again_until_the_judge_is_content() -> None:
    script = [
        replies.text("First."),
        replies.structured({"grade": "weak", "why": "Too short."}),
        replies.text("Second."),
        replies.structured({"grade": "good", "why": "Fine."}),
    ]
    emulator = Emulator(script)
    result = run(Optimiser, "Explain recursion.", client=emulator.client())
    assert_path(result, "drafting → judging → drafting → judging → done")
    assert result.values["draft"] == "Second."
    assert result.output == {"grade": "good", "why": "Fine."}
    assert [len(said_to(emulator, number)) for number in range(4)] == [1, 1, 3, 1]  # the judge begins anew
    assert "Too short." in json.dumps(said_to(emulator, 2)[-1])
    assert "Second." in json.dumps(said_to(emulator, 3))


def test_optimiser_does_not_pass_off_a_weak_draft_as_done() -> None:
    weak = replies.structured({"grade": "weak", "why": "No."})
    result = run(Optimiser, "Explain.", client=Emulator([replies.text("A draft."), weak] * 4).client())
    assert_path(result, ["drafting", "judging"] * 4 + ["over_limit"])
    assert not result.ok
    assert result.values["draft"] == "A draft."


def test_chat_takes_turns_until_quit() -> None:
    emulator = Emulator([replies.text(f"Answer {n}.") for n in range(3)])
    ask = answers("And base two?", "/recap", " /quit ")
    result = run(Chat, "Logarithms?", client=emulator.client(), ask=ask)
    assert_path(result, "answering → listening → answering → listening → recapping → listening → over")
    assert [message["role"] for message in result.messages] == ["user", "assistant"] * 3
    assert "/quit" not in json.dumps([message["content"] for message in said_to(emulator, 2)])


def test_chat_goes_on_in_another_process() -> None:
    store = MemoryStore()
    parked = run(Chat, "Hi.", client=Emulator([replies.text("Hello.")]).client(), journal=store, run_id="c1")
    assert parked.parked
    assert parked.verdict.reason == "waiting_person"
    later = Emulator([replies.text("Bye.")], seed=1)
    result = resume(Chat, "c1", journal=store, answer="Thanks!", client=later.client())
    assert_path(result, "answering → listening → answering → listening")
    assert [m["content"][0]["text"] for m in said_to(later, 0)] == ["Hi.", "Hello.", "Thanks!"]


def test_extraction_raises_the_limit_then_reads_in_pieces() -> None:
    line = "On 4 May 1904 it was begun.\n"
    document = line * (PIECE // len(line) + 10)
    cut = replies.max_tokens("4 May 1904: beg")
    emulator = Emulator([cut, cut, cut, replies.text("First half."), replies.text("Second half.")])
    result = run(Extraction, document, client=emulator.client())
    assert_path(
        result, "reading → reading → reading → reading_piece → collecting → reading_piece → collecting → extracted"
    )
    bodies = [request.body or {} for request in emulator.requests]
    assert [body["max_tokens"] for body in bodies] == [8000, 16000, 32000, 8000, 8000]
    assert [bool(body.get("stream")) for body in bodies] == [False, False, True, False, False]  # E25
    assert result.values["collecting"] == ["First half.", "Second half."]
    assert result.values["partial"] == "4 May 1904: beg"
    pieces = [said_to(emulator, number)[0]["content"][0]["text"].partition("\n\n")[2] for number in (3, 4)]
    assert "".join(pieces) == document
    assert result.ok


def test_extraction_of_a_short_document_is_one_request() -> None:
    result = run(Extraction, "On 4 May 1904.", client=Emulator([replies.text("4 May 1904: begun")]).client())
    assert_path(result, "reading → extracted")
    assert result.text == "4 May 1904: begun"
