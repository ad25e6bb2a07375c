"""Runs on the picture (issue 5.3): what one run did, many as a heat map, any table of counts, two runs compared."""

from __future__ import annotations

import gc
import html
import json
import random
import re
import weakref
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from _driving import MODEL, Clock, both, find, go_on
from _mermaid import read
from _workflows import HandOver, Optimiser
from attrs import evolve

from fsm import (
    Approval,
    Claude,
    Final,
    MemoryStore,
    Record,
    Result,
    Tools,
    UsageError,
    Workflow,
    approve,
    compare,
    deny,
    tool,
)
from fsm.cli import main
from fsm.diagram import Overlay, render
from fsm.diagram._overlay import Tally
from fsm.diagram._text import amount, dollars, span
from fsm.stores.sqlite import SqliteStore
from fsm.testing import replies

SVG = "{http://www.w3.org/2000/svg}"
FORMATS = ("svg", "dot", "mermaid", "state", "table")
LOOK_7 = replies.tool_use("find", {"number": "7"})
REFUND = replies.tool_use("refund", {"number": "7"})
DONE = replies.text("done")


@tool(needs_approval=True)
def refund(number: str) -> str:
    """Pay back."""
    return f"paid {number}"


@tool
def breaks(number: str) -> str:
    """Always fails."""
    raise ValueError(number)


class Desk(Workflow):
    """Refunds what a person approved."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find, refund, breaks])
    calling = Tools()
    approving = Approval(within="1h")
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


SCRIPTS: dict[str, tuple[type[Workflow], Sequence[Any], Any]] = {
    "plain": (Desk, [DONE], None),
    "parallel tools, one fails": (
        Desk,
        [replies.tool_uses(("find", {"number": "1"}), ("breaks", {"number": "2"}), ("find", {"number": "3"})), DONE],
        None,
    ),
    "retries": (Desk, [replies.overloaded(), replies.rate_limited(), LOOK_7, replies.overloaded(), DONE], None),
    "approved": (Desk, [REFUND, DONE], approve()),
    "denied": (Desk, [REFUND, DONE], deny("no")),
    "parked": (Desk, [LOOK_7, REFUND], None),
    "stuck": (Desk, [replies.tool_use("find", {"number": "1"}), *[LOOK_7] * 8], None),
    "truncated": (Desk, [replies.max_tokens("half a")] * 5, None),
    "the API stays away": (Desk, [replies.overloaded()] * 9, None),
    "code and two histories": (Optimiser, [replies.text("ab"), replies.text("long enough"), DONE], None),
    "handed over": (HandOver, [replies.tool_use("transfer", {"team": "billing"}), LOOK_7, DONE], None),
}


def ran(name: str, **options: Any) -> Result:
    workflow, script, answer = SCRIPTS[name]
    clock = Clock()
    ask = None if answer is None else (lambda _question: answer)
    options = {"clock": clock, "sleep": clock.sleep, "ask": ask, **options}
    result: Result = both(workflow, "Hi.", script, is_async=False, **options)[0]
    return result


def summed(tallies: Any) -> Tally:
    total = Tally()
    for tally in tallies:
        total = total.plus(tally)
    return total


def words(svg: str) -> str:
    return " ".join(ET.fromstring(svg).itertext())  # noqa: S314 - ours


def plain(text: str) -> str:
    """What a reader sees of a text format: entities of Markdown and of Mermaid as characters."""
    return html.unescape(re.sub(r"&?#(\d+);", lambda found: chr(int(found[1])), text)).replace("\u200b", "")


def said(workflow: type[Workflow] | Result, format: str, **options: Any) -> str:
    drawn = str(workflow.diagram(format, **options))
    return words(drawn) if format == "svg" else plain(drawn)


def strokes(svg: str) -> dict[str, ET.Element]:
    """The line of each arrow by its id."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):  # noqa: S314 - ours
        if re.fullmatch(r"[er]\w*\d+", group.get("id", "")):
            found[group.get("id", "")] = group.find(f"{SVG}path")
    return {ident: path for ident, path in found.items() if path is not None}


# --- one run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_counted_is_what_the_run_used(name: str) -> None:
    """Arrows and states add up to the verdict: time, tokens, price; nothing is lost and nothing counts twice."""
    result = ran(name)
    overlay, verdict = Overlay.of(result.records), result.verdict
    assert overlay.total is not None
    assert overlay.total.count == len(result.moves) == sum(tally.count for tally in overlay.edges.values())
    for total in (overlay.total, summed(overlay.states.values())):
        assert total.tokens == verdict.usage.total
        assert total.price == pytest.approx(verdict.price)
        assert total.seconds == pytest.approx(verdict.duration)
    errors = sum(record.kind == "error" for record in result.records)
    failed = sum(end[2] for record in result.records if record.kind == "tool.end" for end in record.data["ends"])
    assert overlay.total.failures == errors + failed
    assert (overlay.current, overlay.runs, overlay.run_id) == (result.state, 1, result.run_id)
    assert [move.seq for move in overlay.moves] == list(range(1, len(result.moves) + 1))


def test_what_is_done_in_a_state_is_charged_to_the_arrow_that_leaves_it() -> None:
    overlay = Overlay.of(ran("retries").records)
    for state, tally in overlay.states.items():
        leaving = summed(each for key, each in overlay.edges.items() if key[0] == state)
        assert leaving.tokens == tally.tokens
        assert leaving.failures == tally.failures
        assert leaving.seconds == pytest.approx(tally.seconds)
    assert overlay.edges["asking", "overloaded_error", 0] == evolve(
        overlay.edges["asking", "overloaded_error", 0], count=2, failures=2, tokens=0, price=0.0
    )
    assert overlay.edges["asking", "tool_use", 0].failures == 0


def test_calls_that_run_beside_each_other_count_as_the_longest_of_them() -> None:
    """As in the verdict: recorded work, not its sum over threads."""
    result = ran("parallel tools, one fails")
    took = (1.0, 4.0, 2.0)

    def timed(record: Record) -> Record:
        if record.kind != "tool.end":
            return record
        return evolve(record, data={"ends": [[*e[:3], t] for e, t in zip(record.data["ends"], took, strict=True)]})

    records = map(timed, result.records)
    tally = Overlay.of(records).states["calling"]
    assert (tally.seconds, tally.failures, tally.count) == (4.0, 1, 1)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_the_same_of_a_run(format: str) -> None:
    result = ran("retries")
    overlay = Overlay.of(result.records)
    tally = overlay.edges["asking", "tool_use", 0]
    drawn = said(result, format)
    if format in {"mermaid", "state"}:  # long labels lie over each other there: what rows cost stands in the boxes
        tally = overlay.states["asking"]
    assert f"{amount(tally.tokens)} tok" in drawn
    assert "1 failed" in drawn
    assert "2 failed" in drawn  # overloaded twice
    assert f"{len(result.moves)} moves" in drawn
    assert f"{amount(result.verdict.usage.total)} tokens" in drawn
    prices = [float(price) for price in re.findall(r"\$(\d+\.\d+)", drawn)]
    assert pytest.approx(result.verdict.price, rel=0.005) in prices
    assert "3 failed" in drawn
    for seqs in ("3", "4", "5", "6"):
        assert re.search(rf"\b{seqs}\b", drawn)


def test_a_price_that_is_unknown_is_never_shown_as_none_or_zero() -> None:
    class Unpriced(Workflow):
        asking = Claude(model="some-model-of-a-gateway", max_tokens=100)
        answered = Final()
        asking.on(end_turn=answered)

    result, _ = both(Unpriced, "Hi.", [DONE], is_async=False)
    overlay = Overlay.of(result.records)
    assert overlay.edges["asking", "end_turn", 0].price is None
    assert overlay.states["asking"].price is None
    assert overlay.states["answered"].price == 0.0  # nothing was bought there
    drawn = said(result, "svg")
    assert "price unknown" in drawn
    assert "$?" in drawn
    assert "$0" not in drawn
    assert json.loads(str(result.diagram("json")))["states"][0]["price"] is None


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_that_waits_says_for_whom(format: str) -> None:
    assert "waits for a person" in said(ran("parked"), format)
    assert "waits for the API" in said(ran("the API stays away"), format)
    assert "waits" not in said(ran("plain"), format)


def test_where_it_is_now_is_marked() -> None:
    parked = ran("parked")
    assert Overlay.of(parked.records).waits_for == "person"
    assert "here" in said(parked, "svg")
    assert "approval (here)" in said(parked, "dot").lower()


# --- stuck -----------------------------------------------------------------------------------------------------------


class Twice(Workflow):
    """Looks once on the way to a loop of its own, so that the cycle is not the whole path."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    checking = Claude(model=MODEL, max_tokens=100, tools=[find])
    looking = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=checking)
    checking.on(tool_use=looking, end_turn=answered)
    looking.on(tool_results=checking)


def test_the_cycle_that_the_evidence_names_is_marked_and_nothing_else() -> None:
    clock = Clock()
    first = replies.tool_use("find", {"number": "1"})
    result, _ = both(Twice, "Hi.", [first, *[LOOK_7] * 8], is_async=False, clock=clock, sleep=clock.sleep)
    assert result.state == "stuck"
    assert min(result.verdict.evidence["turns"]) > 1
    overlay = Overlay.of(result.records)
    assert overlay.stuck == {("checking", "tool_use", 0), ("looking", "tool_results", 0)}
    assert overlay.stuck_runs == 1
    for format in FORMATS:
        drawn = said(result, format)
        assert drawn.count("stuck") > said(Twice, format).count("stuck"), format
    rows = json.loads(str(result.diagram("json")))["transitions"]
    assert {(row["source"], row["event"]) for row in rows if row["stuck"]} == {
        ("checking", "tool_use"),
        ("looking", "tool_results"),
    }


def test_what_is_stuck_is_drawn_thicker_in_red_and_with_a_word() -> None:
    drawn = str(ran("stuck").diagram())
    thick = {path.get("stroke") for path in strokes(drawn).values() if float(path.get("stroke-width", 0)) > 3}
    assert thick == {"#c81e1e"}
    assert words(drawn).count(" stuck ") >= 2
    assert "the cycle in which it was stuck" in words(drawn)
    assert "cycle" not in said(ran("retries"), "svg")


# --- many runs -------------------------------------------------------------------------------------------------------


NAMES = ("plain", "retries", "approved", "denied", "parked", "stuck", "parallel tools, one fails")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 35 runs of `Desk`, and two of another workflow."""
    path = tmp_path_factory.mktemp("many") / "runs.db"
    with SqliteStore(path) as store:
        for number in range(35):
            ran(NAMES[number % len(NAMES)], journal=store, run_id=f"run-{number}")
        for number in range(2):
            ran("handed over", journal=store, run_id=f"other-{number}")
    return path


def test_the_runs_of_a_journal_add_up(journal: Path) -> None:
    """A path, a store and the results say the same; runs of other workflows are left out."""
    with SqliteStore(journal) as store:
        singles = [Overlay.of(store.read(f"run-{number}")) for number in range(35)]
        whole = Overlay.of_runs(store.read(f"run-{number}") for number in range(35))
        assert (
            Desk.diagram("dot", runs=store)
            == Desk.diagram("dot", runs=journal)
            == Desk.diagram("dot", runs=str(journal))
        )
        assert Desk.diagram("dot", runs=store) == Desk.diagram("dot", overlay=whole)
    assert whole.runs == 35
    assert whole.total is not None
    assert whole.total.count == sum(len(each.moves) for each in singles)
    for key in {key for each in singles for key in each.edges}:
        assert whole.edges[key].count == sum(each.edges[key].count for each in singles if key in each.edges)
        assert whole.edges[key].tokens == sum(each.edges[key].tokens for each in singles if key in each.edges)
    assert whole.standing == {("approving", "person"): 5}
    assert whole.stuck_runs == 5
    for format in FORMATS:
        drawn = said(Desk, format, runs=journal)
        assert "35 runs" in drawn, format
        assert "5 wait for a person" in drawn, format
        assert f"{whole.edges['asking', 'end_turn', 0].count}×" in drawn, format
    assert "35 runs" not in said(HandOver, "dot", runs=journal)


def test_the_busiest_arrow_is_the_thickest_and_what_was_never_taken_is_pale(journal: Path) -> None:
    drawn = str(Desk.diagram(runs=journal))
    with SqliteStore(journal) as store:
        overlay = Overlay.of_runs(store.read(run.run_id) for run in store.runs() if run.workflow == "Desk")
    labels = {}
    for group in ET.fromstring(drawn).iter(f"{SVG}g"):  # noqa: S314 - ours
        if re.fullmatch(r"le\d+", group.get("id", "")):
            labels[group.get("id", "")[1:]] = " ".join(group.itertext())
    widths = {ident: float(path.get("stroke-width", 0)) for ident, path in strokes(drawn).items()}
    counts = {ident: max(map(int, found)) for ident, text in labels.items() if (found := re.findall(r"(\d+)×", text))}
    ordered = sorted(counts, key=lambda ident: counts[ident])
    assert all(widths[less] <= widths[more] for less, more in pairwise(ordered))
    assert widths[ordered[-1]] > 2 * widths[ordered[0]]
    assert counts[ordered[-1]] == max(tally.count for tally in overlay.edges.values())
    counted = str(Desk.diagram(runs={("asking", "tool_use"): 9}))
    hot = [path for path in strokes(counted).values() if float(path.get("stroke-width", 0)) > 2]
    assert len(hot) == 1
    assert len(strokes(counted)) > 3
    assert "the thicker, the more often taken" in words(drawn)


def test_runs_are_read_one_after_the_other_and_none_is_kept() -> None:
    """Memory does not grow with the number of runs."""
    made = ran("approved").records
    seen: list[list[weakref.ref[Record]]] = []

    def runs() -> Iterator[list[Record]]:
        for _ in range(20):
            gc.collect()
            assert sum(ref() is not None for refs in seen[:-1] for ref in refs) == 0
            copies = [evolve(record) for record in made]
            seen.append([weakref.ref(record) for record in copies])
            yield copies
            del copies

    overlay = Overlay.of_runs(runs())
    assert overlay.runs == 20
    assert len(seen) == 20


def test_a_run_whose_bodies_were_erased_still_counts(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        ran("approved", journal=store, run_id="a")
        ran("plain", journal=store, run_id="b")
        before = Overlay.of_runs([store.read("a"), store.read("b")])
        store.erase("a")
        drawn = said(Desk, "svg", runs=store)
    assert before.total is not None
    assert "2 runs" in drawn
    assert f"{before.total.count} moves" in drawn
    assert f"{amount(before.total.tokens)} tokens" in drawn


def test_several_results_and_records_are_taken_too() -> None:
    first, second = ran("plain"), ran("approved")
    assert (
        Desk.diagram("dot", runs=[first]) == Desk.diagram("dot", runs=first) == Desk.diagram("dot", runs=first.records)
    )
    assert Desk.diagram("dot", runs=first) == first.diagram("dot")
    assert "2 runs" in said(Desk, "dot", runs=[first, second])
    assert "0 runs" in said(Desk, "dot", runs=[])
    assert "0 runs" in said(Desk, "dot", runs=MemoryStore())


@pytest.mark.parametrize("wrong", [7, [1, 2], ["a.db"], object()])
def test_what_is_no_run_is_refused_with_what_is_taken(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"runs= takes a Result, several of them"):
        Desk.diagram("dot", runs=wrong)


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such journal"):
        Desk.diagram("dot", runs=tmp_path / "typo.db")
    assert list(tmp_path.iterdir()) == []


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_of_counts_says_what_was_never_taken(format: str) -> None:
    """Coverage will be one: `{(state, event): n}`, or with the number of the alternative."""
    counts = {("asking", "tool_use"): 7, ("calling", "tool_results", 0): 3, ("asking", "cancel"): 0}
    drawn = said(Desk, format, runs=counts)
    assert "7×" in drawn
    assert "3×" in drawn
    assert drawn.count("never") == 5  # the other rows of its own
    assert "2 of 7 own events taken" in drawn


def test_a_count_of_an_event_is_of_all_its_alternatives_together() -> None:
    counted = Overlay.of_counts({("asking", "overloaded_error"): 4}, Desk.graph)
    assert counted.edges["asking", "overloaded_error", 0].count == 4
    assert "4× together" in said(Desk, "dot", runs={("asking", "overloaded_error"): 4})
    drawn = said(Desk, "dot", runs={("asking", "overloaded_error", 1): 4})
    assert "4×" in drawn
    assert "together" not in drawn


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        ({("askin", "end_turn"): 1}, "has no state 'askin': did you mean 'asking'"),
        ({("asking", "endturn"): 1}, "'Desk.asking' does not accept 'endturn': did you mean 'end_turn'"),
        ({("answered", "end_turn"): 1}, "does not accept 'end_turn'; it has none"),
        ({("asking", "end_turn", 3): 1}, "has 1 alternatives for end_turn, and none is number 3"),
        ({("asking", "end_turn"): -1}, "that is no count"),
        ({("asking", "end_turn"): 1.5}, "that is no count"),
        ({"asking": 1}, r"counts are by \(state, event\)"),
    ],
)
def test_counts_of_what_is_not_there_are_refused(counts: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Desk.diagram("dot", runs=counts)


# --- versions --------------------------------------------------------------------------------------------------------


def version(asking: str = "asking", *, done: str = "answered", renamed: Any = None) -> type[Workflow]:
    return Workflow.from_transitions(
        name="Desk",
        states={
            asking: Claude(model=MODEL, max_tokens=100, tools=[find, refund, breaks]),
            "calling": Tools(),
            "approving": Approval(within="1h"),
            "answered": Final(),
            **({done: Final()} if done != "answered" else {}),
        },
        transitions=[
            ["tool_use", asking, "calling"],
            ["end_turn", asking, done],
            *([["cancel", asking, "answered"]] if done != "answered" else []),
            ["tool_results", "calling", asking],
            ["approval_needed", "calling", "approving"],
            ["approved", "approving", "calling"],
            ["denied", "approving", asking],
            ["expired", "approving", asking],
        ],
        renamed=renamed,
    )


def test_a_run_that_went_on_under_another_version_is_drawn_with_the_names_of_now() -> None:
    store = MemoryStore()
    ran("parked", journal=store, run_id="r")
    newer = version("drafting", renamed={"asking": "drafting"})
    before = said(newer, "dot", runs=store)  # before it was migrated: the names of its version are translated
    assert "another version" not in before
    result = go_on(newer, "r", [LOOK_7, DONE], journal=store, answer=approve(), clock=Clock(), sleep=lambda _: None)
    assert any(record.kind == "migrate" for record in store.read("r"))
    overlay = Overlay.of(store.read("r"))  # the record `migrate` says by itself what was renamed
    assert {name for key in overlay.edges for name in key[:1]} == {"drafting", "calling", "approving"}
    assert set(overlay.states) == {"drafting", "calling", "approving", "answered"}
    assert overlay.edges["drafting", "tool_use", 0].count == 3
    for drawn in (said(result, "svg"), said(newer, "svg", runs=store)):
        assert "another version" not in drawn
        assert re.search(r"1, 3, 7\s+tool_use", drawn)
    third = version("writing", renamed={"drafting": "writing"})
    assert "another version" not in said(third, "dot", runs=store)


@pytest.mark.parametrize("format", FORMATS)
def test_moves_that_lead_elsewhere_now_are_listed_and_not_drawn(format: str) -> None:
    newer, runs = version(done="closed"), [ran("plain"), ran("approved"), ran("plain")]
    drawn = said(newer, format, runs=runs)
    assert "another version" in drawn
    assert "3×" in drawn
    assert "asking --end_turn--> answered" in drawn
    single = said(newer, format, runs=runs[0])
    assert "another version" in single
    overlay = Overlay.of_runs(run.records for run in runs).on(newer.graph)
    assert overlay.strays == {("asking", "end_turn", 0, "answered"): 3}
    assert ("asking", "end_turn", 0) not in overlay.edges


# --- two runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_two_runs_in_one_picture(format: str) -> None:
    mine, others = ran("approved", run_id="mine"), ran("retries", run_id="others")
    drawn = said(mine, format, against=others)
    between = compare(others, mine)
    assert between.move is not None
    assert f"they part at move {between.move + 1}" in drawn
    assert str(mine.moves[between.move]) in drawn
    assert str(others.moves[between.move]) in drawn
    if format not in {"table", "state"}:  # these have no legend
        assert "taken by mine only" in drawn
        assert "taken by others only" in drawn
    assert f"{len(others.moves)} → {len(mine.moves)} moves" in drawn
    assert drawn.count("they part here") == 1


def test_only_one_of_them_took_it() -> None:
    mine, others = ran("approved"), ran("retries")
    table = plain(str(mine.diagram("table", against=others))).splitlines()
    marks = {tuple(cell.strip(" `▶") for cell in row.split("|")[1:3]): row.split("|")[6] for row in table if "|" in row}
    by_event = {event.split("`")[0]: cell for (_, event), cell in marks.items()}
    assert by_event["approved"].strip().startswith("+")
    assert by_event["approval_needed"].strip().startswith("+")
    assert by_event["rate_limit_error"].strip() == "−"
    assert by_event["end_turn"].strip() not in {"+", "−"}
    looped, once = ran("stuck"), ran("retries")
    counts = [Overlay.of(each.records).edges["asking", "tool_use", 0].count for each in (once, looped)]
    assert f"{counts[0]}× → {counts[1]}×" in said(looped, "dot", against=once)


def test_two_runs_alike_part_nowhere() -> None:
    drawn = said(ran("approved"), "svg", against=ran("approved"))
    assert "two runs with the same moves" in drawn
    assert "part at" not in drawn
    assert "part here" not in drawn


def test_moves_alone_can_be_compared_too() -> None:
    """`fsm watch` has no records, only moves: what it cannot know is left out."""
    mine, others = ran("stuck"), ran("plain")
    overlay = Overlay(mine.moves, mine.state)
    assert "they part at move 1" in plain(
        str(render(Desk.graph, "dot", overlay=overlay.against(Overlay(others.moves))))
    )
    drawn = plain(str(render(Desk.graph, "dot", overlay=overlay.against(Overlay.of(others.records)))))
    assert "they part at move 1" in drawn
    full = said(mine, "dot", against=others)
    assert "none → stuck" in full


@pytest.mark.parametrize("format", ["svg", "mermaid", "state"])
def test_the_id_of_a_run_is_text_and_nothing_else(format: str) -> None:
    """X1: it is told where two runs are compared, and whoever starts a run chooses it."""
    drawn = str(ran("plain", run_id="<script>1</script>").diagram(format, against=ran("denied", run_id="b\n] --> c")))
    assert "<script" not in drawn
    assert "] --> c" not in drawn
    assert "script" in drawn


def test_against_takes_a_result() -> None:
    with pytest.raises(UsageError, match="against= takes the result of another run"):
        ran("plain").diagram("dot", against=Desk)
    with pytest.raises(UsageError, match="against= takes another version"):
        Desk.diagram("dot", against=ran("plain"))


def test_the_command_line_draws_two_runs_of_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        ran("plain", journal=store, run_id="first")
        ran("approved", journal=store, run_id="second")
    target = f"{Path(__file__)}:Desk"
    given = ["runs", "compare", "first", "second", "--journal", str(tmp_path / "runs.db")]
    assert main([*given, "--diagram", str(tmp_path / "both.dot"), "--workflow", target]) == 1
    drawn = (tmp_path / "both.dot").read_text()
    assert "taken by second only" in drawn
    assert "they part at move 1" in drawn
    capsys.readouterr()
    assert main([*given, "--diagram", str(tmp_path / "none.dot")]) == 2
    assert "--workflow" in capsys.readouterr().err
    assert not (tmp_path / "none.dot").exists()


# --- words -----------------------------------------------------------------------------------------------------------


def test_amounts_are_short_and_never_lose_their_size() -> None:
    assert [amount(n) for n in (0, 999, 1000, 1234, 999_499, 999_500, 1_234_567, 5 * 10**9)] == [
        "0", "999", "1k", "1.23k", "999k", "1M", "1.23M", "5G",
    ]  # fmt: skip
    assert [span(s) for s in (0.0, 0.04, 0.9996, 4.1, 42.0, 59.97, 200, 3600, 7500)] == [
        "0 ms", "40 ms", "1 s", "4.1 s", "42 s", "1 min", "3 min 20 s", "1 h", "2 h 5 min",
    ]  # fmt: skip
    assert [dollars(p) for p in (0.0, 1e-12, 0.00001234, 0.0012, 0.01, 0.0187, 3.1, 12345.6)] == [
        "$0.0000", "<$0.000000001", "$0.000012", "$0.0012", "$0.0100", "$0.0187", "$3.1000", "$12,345.60",
    ]  # fmt: skip
    sizes = {"k": 1e3, "M": 1e6, "G": 1e9}
    for _ in range(2000):
        count = int(10 ** random.Random(_).uniform(0, 11))
        shown = amount(count)
        value = float(shown.rstrip("kMG")) * sizes.get(shown[-1], 1)
        assert abs(value - count) <= 0.006 * count, (count, shown)


@pytest.mark.parametrize("format", [*FORMATS, "json"])
def test_pictures_of_runs_are_the_same_text_twice(format: str) -> None:
    result = ran("approved")
    assert result.diagram(format) == Desk.diagram(format, runs=result.records)


def test_mermaid_reads_runs_in_both_forms(journal: Path) -> None:
    """As GitHub does."""
    results = [ran(name) for name in ("stuck", "parked", "retries")]
    drawn = [each.diagram(format) for each in results for format in ("mermaid", "state")]
    drawn += [Desk.diagram(format, runs=journal) for format in ("mermaid", "state")]
    drawn += [results[0].diagram(format, against=results[2]) for format in ("mermaid", "state")]
    assert [found["error"] for found in read([str(each) for each in drawn]) if "error" in found] == []
