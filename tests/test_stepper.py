"""The page that stands alone (X2): one steps through a run with the arrow keys, in a real browser, offline."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from _browser import launched, opened
from attrs import evolve
from golden.standing import HERE, records_in
from golden.workflows import WORKFLOWS
from hypothesis import given
from hypothesis import strategies as st

from examples.optimiser import Optimiser
from examples.support import Shop, Support
from fsm import Result, approve, deny, run
from fsm._graph import Graph
from fsm._records import Record
from fsm.diagram import render
from fsm.diagram._looks import ROLES
from fsm.diagram._page._html import as_data
from fsm.diagram._page._said import readable
from fsm.diagram._page._steps import steps_of
from fsm.testing import Emulator, replies

REFUND = {"number": "7", "euros": 249.0}
EVERYTHING = (
    replies.tool_uses(("find_order", {"number": "7"}), ("find_order", {"number": "8"}), text="I look at both."),
    replies.overloaded(retry_after=0.5),
    replies.max_tokens("It is order 7.", tool=("refund", REFUND)),
    replies.tool_use("refund", REFUND, text="I ask for the refund."),
    replies.text("Done: it is paid back."),
)
AGAIN = replies.tool_use("find_order", {"number": "9"}, text="I look again.")


def ran(*answers: Any, workflow: Any = Support, said: str = "Refund order 7.", **options: Any) -> Result:
    options = {"deps": Shop(), "ask": lambda question: approve(), "sleep": lambda _: None, **options}
    return run(workflow, said, client=Emulator(list(answers)).client(), **options)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as program:
        yield program


@pytest.fixture(scope="module")
def support() -> Result:
    return ran(*EVERYTHING)


@pytest.fixture(scope="module")
def stuck() -> Result:
    return ran(*[AGAIN] * 12)


def now(page: Any) -> dict[str, Any]:
    """What the picture marks: the states and arrows, the row of the label, and those that were passed before."""
    return page.evaluate(
        """() => {
            const all = (query) => [...document.querySelectorAll(query)];
            return {
                states: all("g.state.now").map((each) => each.dataset.state),
                arrows: all("g.arrow.now").map((each) => each.id),
                rows: all("g.label.now > g.row").map((each) => each.textContent.trim()),
                past: all("g.state.past").map((each) => each.dataset.state).sort(),
                stuck: all("g.label.stuck").map((each) => each.textContent.trim().split(/\\s+/)[0]).sort(),
                count: document.getElementById("count").textContent,
                words: document.getElementById("step").innerText,
                address: location.hash,
            };
        }"""
    )


# --- stepping --------------------------------------------------------------------------------------------------------


def test_the_arrow_keys_step_through_a_run_and_the_picture_follows(browser, support, tmp_path):
    moves = support.moves
    with opened(browser, support.diagram("html"), tmp_path) as page:
        assert now(page)["states"] == ["asking"]
        assert now(page)["arrows"] == []
        assert "Refund order 7." in now(page)["words"]
        for number, move in enumerate(moves, 1):
            page.keyboard.press("ArrowRight")
            seen = now(page)
            assert seen["states"] == [move.dest]
            assert len(seen["arrows"]) == 1
            assert [row.split()[0] for row in seen["rows"]] == [move.event]
            assert seen["count"] == f"{number} / {len(moves)}"
            passed = {each.source for each in moves[:number]} | {each.dest for each in moves[:number]}
            assert set(seen["past"]) == passed - {move.dest}
            assert move.event in seen["words"]
        page.keyboard.press("ArrowRight")
        assert now(page)["count"] == f"{len(moves)} / {len(moves)}"
        page.keyboard.press("ArrowLeft")
        assert now(page)["states"] == [moves[-1].source]
        page.keyboard.press("Home")
        assert now(page)["count"] == f"0 / {len(moves)}"
        page.keyboard.press("End")
        assert now(page)["states"] == ["answered"]


def test_a_step_tells_what_led_to_it(browser, support, tmp_path):
    words = {
        1: ["I look at both.", "calls find_order", '{"number": "8"}', "support.py:"],
        2: ["find_order", "Order 8: kettle, 39.00 euros, delivered."],
        3: ["[attempts_left(6)]", "/ back_off", "529 overloaded_error", "Overloaded", "waits 0.5 s", "standard row"],
        4: ["It is order 7.", "asks again with max_tokens=2048", "1,024"],
        7: ["asks a person about refund", '"euros": 249.0', "approves refund"],
        9: ["Done: it is paid back.", "ended in answered: end_turn", "$0.0"],
    }
    with opened(browser, support.diagram("html"), tmp_path) as page:
        for number, told in words.items():
            page.evaluate("(step) => { location.hash = `#step=${step}`; }", number)
            page.wait_for_function(
                "(step) => document.getElementById('count').textContent.startsWith(`${step} /`)", arg=number
            )
            shown = now(page)["words"]
            assert [each for each in told if each not in shown] == []


def test_the_end_of_a_stuck_run_says_why_and_what_to_do_and_marks_the_cycle(browser, stuck, tmp_path):
    evidence = stuck.verdict.evidence
    with opened(browser, stuck.diagram("html"), tmp_path) as page:
        page.keyboard.press("End")
        seen = now(page)
        assert evidence["why"] in seen["words"]
        assert evidence["todo"] in seen["words"]
        assert seen["stuck"] == ["tool_results", "tool_use"]
        assert seen["states"] == ["stuck"]
        page.keyboard.press("ArrowLeft")
        assert "part of the cycle" in now(page)["words"]
        assert "ended in" not in now(page)["words"]


def test_a_parked_run_ends_where_it_waits(browser, tmp_path):
    result = ran(replies.tool_use("refund", REFUND), ask=None)
    with opened(browser, result.diagram("html"), tmp_path, step="#step=2") as page:
        seen = now(page)
        assert seen["states"] == ["approving"]
        assert "stands in approving: waiting_person" in seen["words"]
        assert "asks a person about refund" in seen["words"]


def test_an_address_leads_to_a_step_and_follows_it(browser, support, tmp_path):
    with opened(browser, support.diagram("html"), tmp_path, step="#step=4") as page:
        assert now(page)["count"].startswith("4 /")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => location.hash === '#step=5'")
    with opened(browser, support.diagram("html"), tmp_path, step="#step=4000") as page:
        assert now(page)["count"] == "9 / 9"
    with opened(browser, support.diagram("html"), tmp_path, step="#step=x") as page:
        assert now(page)["count"] == "0 / 9"


def test_space_plays_and_pauses_and_the_keys_are_told(browser, support, tmp_path):
    with opened(browser, support.diagram("html"), tmp_path) as page:
        page.clock.install()
        page.keyboard.press("Space")
        page.clock.run_for(3_000)
        playing = now(page)["count"]
        assert playing in {"2 / 9", "3 / 9"}
        page.keyboard.press("Space")
        page.clock.run_for(10_000)
        assert now(page)["count"] == playing
        page.keyboard.press("Space")
        page.clock.run_for(60_000)
        assert now(page)["count"] == "9 / 9"
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        page.keyboard.press("ArrowLeft")
        assert now(page)["count"] == "9 / 9"
        page.keyboard.press("Escape")
        assert not page.locator("#keys").is_visible()


def test_each_step_is_announced_and_the_line_is_a_slider(browser, support, tmp_path):
    with opened(browser, support.diagram("html"), tmp_path) as page:
        page.keyboard.press("ArrowRight")
        assert page.locator("#live").text_content() == "Step 1 of 9: asking, tool_use, to calling"
        place = page.get_by_role("slider")
        place.fill("6")
        assert now(page)["states"] == ["approving"]
        place.focus()
        page.keyboard.press("ArrowLeft")
        assert now(page)["count"] == "5 / 9"
        assert page.evaluate("getComputedStyle(document.getElementById('line')).outlineStyle") == "solid"
        box = page.locator("#place").bounding_box()
        page.mouse.click(box["x"] + box["width"] - 4, box["y"] + 10)
        assert now(page)["count"] == "9 / 9"
        page.locator("#moves summary").click()
        page.locator("#moves tr[data-step='2']").click()
        assert now(page)["count"] == "2 / 9"
        assert "Ended: end_turn" not in page.locator("#live").text_content()


def test_a_thousand_moves_are_gone_through(browser, stuck, tmp_path):
    head = [record for record in stuck.records if record.seq < 2]
    turn = [record for record in stuck.records if 2 <= record.seq < 8]
    assert [record.kind for record in turn] == ["request", "reply", "move", "tool.begin", "tool.end", "move"]
    records = [evolve(record, seq=seq) for seq, record in enumerate([*head, *turn * 500])]
    with opened(browser, render(Support.graph, "html", records=records), tmp_path) as page:
        for _ in range(30):
            page.keyboard.press("ArrowRight")
        assert now(page)["count"] == "30 / 1,000"
        page.keyboard.press("End")
        assert now(page)["states"] == ["asking"]
        assert "stands in asking: running" in now(page)["words"]
        page.get_by_role("slider").fill("500")
        assert now(page)["words"].startswith("500")
        page.locator("#s1").click()
        assert "and 461 more" in page.locator("#card").inner_text()


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_state_that_is_clicked_shows_its_rows_tools_and_guards(browser, tmp_path):
    with opened(browser, Optimiser.diagram("html"), tmp_path) as page:
        guarded = next(edge for edge in Optimiser.graph.edges if edge.guard is not None and not edge.implied)
        page.locator(f"g.state[data-state={guarded.source}] text").first.click()
        card = page.locator("#card").inner_text()
        node = Optimiser.graph.by_name[guarded.source]
        assert guarded.guard.doc in card
        assert node.where in card
        assert guarded.where in card
        assert node.state.model in card
        page.keyboard.press("Escape")
        assert page.locator("#card").inner_text() == ""
    with opened(browser, Support.diagram("html"), tmp_path) as page:
        page.locator("g.state[data-state=calling]").focus()
        page.keyboard.press("Enter")
        card = page.locator("#card").inner_text()
        assert "Pay an order back." in card
        assert "asks a person first" in card
        assert not page.locator("#controls").is_visible()
        page.locator("#lee3, #le3").first.click()
        assert page.locator("#card li.chosen").count() > 0


def test_the_picture_is_moved_and_zoomed(browser, support, tmp_path):
    def view() -> list[float]:
        return [float(number) for number in page.locator("#picture > svg").get_attribute("viewBox").split()]

    with opened(browser, support.diagram("html"), tmp_path) as page:
        first = view()
        page.keyboard.press("+")
        assert view()[2] < first[2]
        page.mouse.move(200, 300)
        page.mouse.down()
        page.mouse.move(260, 340)
        page.mouse.up()
        moved = view()
        assert moved[0] < first[0] + first[2]
        assert page.locator("#card").inner_text() == ""
        page.mouse.wheel(0, 300)
        page.wait_for_function(
            "(wide) => document.querySelector('#picture > svg').viewBox.baseVal.width > wide", arg=moved[2]
        )
        page.keyboard.press("f")
        assert view() == first


# --- nothing gets in, nothing gets out (X2) ---------------------------------------------------------------------------

PAYLOADS = (
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "]]></title></style></svg><img src=x onerror=window.pwned=2>",
    "\"'` onload=window.pwned=3 \\u003c \\",
    "&lt;b&gt;&amp;#60;script&#62;",
    "line\u2028separator\u2029paragraph",
    "\u202egnp.exe\u2066\u200b",
    "\x1b[31mred\x1b]8;;http://example.com\x07link",
    "javascript:window.pwned=4",
    "{{constructor.constructor('window.pwned=5')()}}${window.pwned=6}$policy$$",
    "half \ud83d of a character \x00",
)


WORD = "PAYLOAD"


@pytest.fixture(scope="module")
def spoken() -> list[list[Record]]:
    """Runs in which everybody says one word: with a denial, with an error, and stuck."""
    asked: list[Any] = []

    def ask(question: Any) -> Any:
        asked.append(question)
        return deny(WORD) if len(asked) == 1 else approve()

    calls = [("find_order", {"number": WORD}), ("refund", {"number": WORD, "euros": 1}), ("refund", {"what": WORD})]
    says = [replies.tool_use(name, given, text=WORD) for name, given in calls]
    shop, tags = Shop(orders={WORD: (WORD, 1.0)}), {"who": WORD}
    runs = [
        ran(*says, replies.thinking(WORD, then=replies.text(WORD)), said=WORD, ask=ask, deps=shop, tags=tags),
        ran(replies.error(400, "invalid_request_error", WORD), said=WORD),
        ran(*[replies.tool_use("find_order", {"number": WORD}, text=WORD)] * 12, said=WORD, deps=shop),
    ]
    return [list(result.records) for result in runs]


def hostile(payload: str) -> Graph:
    """A graph whose every name is the payload."""
    graph = Support.graph
    nodes = tuple(evolve(node, name=node.name + payload, where=payload) for node in graph.nodes)
    edges = tuple(
        evolve(
            edge,
            source=edge.source + payload,
            dest=edge.dest + payload,
            event=edge.event if edge.implied else edge.event + payload,
            guard=edge.guard and evolve(edge.guard, name=payload, doc=payload),
            where=payload,
        )
        for edge in graph.edges
    )
    return evolve(graph, name=payload, doc=payload, nodes=nodes, edges=edges)


def said(record: Record, payload: str) -> Record:
    """The record with the payload instead of the word, and in every name."""
    data = put(record.data, payload)
    for name in ("source", "dest", "state"):
        if name in data:
            data[name] += payload
    if record.kind == "open":
        data["workflow"] = payload  # as the graph is called
    if record.kind == "reply":
        data["content"] = json.dumps(put(json.loads(record.data["content"]), payload))
    if record.kind == "move":
        data["event"] += "" if data["implied"] else payload
        data["guard"] = payload
        data["effects"] = [[payload, change] for _, change in data["effects"]]
    return evolve(record, data=data)


def put(value: Any, payload: str) -> Any:
    match value:
        case str():
            return value.replace(WORD, payload)
        case list():
            return [put(each, payload) for each in value]
        case dict():
            return {put(name, payload): put(each, payload) for name, each in value.items()}
    return value


class Elements(HTMLParser):
    """The elements of a page, and their attributes, as a parser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}


# fmt: off
BUILT = frozenset({
    "b", "button", "circle", "code", "dd", "details", "div", "dl", "dt", "h2", "h3", "li", "p", "section", "small",
    "span", "summary", "table", "tbody", "td", "th", "thead", "tr", "ul",
})
# fmt: on
WALK = """() => {
    const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    const told = [document.getElementById("step").textContent];
    for (let before = ""; before !== document.getElementById("count").textContent;) {
        before = document.getElementById("count").textContent;
        press("ArrowRight");
        told.push(document.getElementById("step").textContent);
    }
    document.querySelector("g.state").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    const names = [...new Set([...document.querySelectorAll("*")].map((each) => each.localName))];
    return { told, names, pwned: window.pwned, scripts: document.scripts.length };
}"""


def test_what_was_said_stays_markup_to_no_parser(support, spoken):
    plain = Elements(support.diagram("html"))
    for payload in PAYLOADS:
        graph = hostile(payload)
        for html in (render(graph, "html"), *(render(graph, "html", records=each) for each in heard(spoken, payload))):
            html.encode()
            elements = Elements(html)
            assert elements.tags["script"] == 2
            assert elements.tags.keys() <= plain.tags.keys() | BUILT
            assert not any(name.startswith("on") or name in {"href", "src", "style"} for name in elements.attributes)


def heard(spoken: list[list[Record]], payload: str) -> list[list[Record]]:
    return [[said(record, payload) for record in records] for records in spoken]


def test_what_was_said_stays_text_in_the_browser(browser, spoken, tmp_path):
    for place, payload in enumerate(PAYLOADS):
        records = heard(spoken, payload)[place % len(spoken)]
        with opened(browser, render(hostile(payload), "html", records=records), tmp_path) as page:
            before = set(page.evaluate("[...document.querySelectorAll('*')].map((each) => each.localName)"))
            found = page.evaluate(WALK)
            assert len(found["told"]) > sum(record.kind == "move" for record in records)
            assert set(found["names"]) - before <= BUILT
            assert readable(payload) in found["told"][0]
            assert readable(payload) in found["told"][-1]
            assert (found.get("pwned"), found["scripts"]) == (None, 2)


def test_the_policy_stops_a_script_that_got_in(browser, support, tmp_path):
    html = support.diagram("html").replace(
        "<main>",
        "<main><script>window.pwned = 1</script><img src='https://example.com/x.png' onerror='window.pwned = 2'>"
        "<p id='styled' style='color: red'>x</p><style>#styled { position: fixed }</style>",
    )
    with opened(browser, html, tmp_path) as page:
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("getComputedStyle(document.getElementById('styled')).position") == "static"
        refused = page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (e) { return e.name; } }"
        )
        assert refused == "TypeError"
        page.wait_for_timeout(0)
        assert len([each for each in page.complaints if "Content Security Policy" in each]) >= 3
        page.complaints.clear()


def test_the_page_refers_to_nothing(support):
    html = support.diagram("html")
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html
    for part in ("script-src", "style-src"):
        rule = re.search(rf"{part} ([^;]+)", html)
        assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", each) for each in rule[1].split())
    script = (Path(__file__).parent.parent / "fsm/diagram/_page/page.js").read_text("utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|setTimeout\(['\"]", script
    )


@given(st.text(st.characters()))
def test_data_is_json_in_which_no_markup_begins(text):
    data = as_data({"x": text, text: 1})
    data.encode()
    assert json.loads(data) == {"x": text, text: 1}
    assert not set(data) & set("<>&\u2028\u2029")


def test_a_page_without_bodies_says_nothing_that_anybody_said(support, stuck, browser, tmp_path):
    said = ("Refund order", "I look", "euros", "kettle", "249.0", "Overloaded", "paid back", 'number\\"')
    for result in (support, stuck):
        html = result.diagram("html", bodies=False)
        assert [word for word in said if word in html.replace("Finds orders and refunds", "")] == []
        assert len(steps_of(result.records, result.workflow.graph, bodies=False).steps) == len(result.moves) + 1
    with opened(browser, support.diagram("html", bodies=False), tmp_path, step="#step=1") as page:
        assert "calls find_order" in now(page)["words"]


# --- how it looks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [360, 1600])
def test_nothing_is_wider_than_the_window(browser, support, spoken, tmp_path, wide):
    long = "W" * 260
    for html in (render(hostile(long), "html", records=heard(spoken, long)[0]), support.diagram("html")):
        with opened(browser, html, tmp_path, wide=wide, high=740) as page:
            page.locator("g.state").first.focus()
            page.keyboard.press("Enter")
            for _ in range(9):
                page.keyboard.press("ArrowRight")
                assert page.evaluate(TOO_WIDE) == []


TOO_WIDE = """[document.documentElement, ...document.querySelectorAll('#panel, #controls, header')]
    .filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.id || each.localName)"""


def test_a_long_text_is_cut_until_somebody_wants_it(browser, tmp_path):
    result = ran(replies.text("word " * 3000 + "the end"))
    with opened(browser, result.diagram("html"), tmp_path, step="#step=1") as page:
        assert "the end" not in page.locator("#step").text_content()
        page.get_by_role("button", name="more").click()
        assert "the end" in page.locator("#step").text_content()
        page.get_by_role("button", name="less").click()
        assert "the end" not in page.locator("#step").text_content()


@pytest.mark.parametrize(("scheme", "place"), [("light", 0), ("dark", 1)])
def test_light_and_dark_follow_the_reader(browser, support, tmp_path, scheme, place):
    def rgb(role: str) -> str:
        value = ROLES[role][place]
        return f"rgb({', '.join(str(int(value[at : at + 2], 16)) for at in (1, 3, 5))})"

    with opened(browser, support.diagram("html"), tmp_path, color_scheme=scheme) as page:
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == rgb("paper")
        box = page.evaluate("getComputedStyle(document.querySelector('#s2 > :not(.halo, title)')).fill")
        assert box == rgb("tools")
    other = "dark" if scheme == "light" else "light"
    with opened(browser, support.diagram("html", theme=scheme), tmp_path, color_scheme=other) as page:
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == rgb("paper")


def test_paper_and_readers_without_scripts_get_the_picture_and_all_moves(browser, support, tmp_path):
    with opened(browser, support.diagram("html"), tmp_path) as page:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert not page.locator("#controls").is_visible()
        assert page.locator("#moves tbody tr").last.is_visible()
        assert page.locator("#s1").is_visible()
    with opened(browser, support.diagram("html"), tmp_path, java_script_enabled=False) as page:
        assert page.locator("#s1").is_visible()
        assert not page.locator("#controls").is_visible()
        page.locator("#moves summary").click()
        assert page.locator("#moves tbody tr").count() == len(support.moves)


# --- records → steps -------------------------------------------------------------------------------------------------


def test_the_steps_add_up_to_the_verdict(support, stuck):
    for result in (support, stuck, ran(replies.text("Hello."))):
        found = steps_of(result.records, result.workflow.graph)
        usage = result.verdict.usage
        assert [(s.source, s.event, s.dest) for s in found.steps[1:]] == [
            (m.source, m.event, m.dest) for m in result.moves
        ]
        assert found.end.total.given == usage.total - usage.output_tokens
        assert found.end.total.output == usage.output_tokens
        assert found.end.total.price == pytest.approx(result.verdict.price)
        assert found.end.total.seconds == pytest.approx(result.verdict.duration)
        assert found.end.total == found.steps[-1].total
        assert (found.end.state, found.end.reason, found.end.is_ok) == (result.state, result.verdict.reason, result.ok)


def test_records_without_their_bodies_give_the_same_steps(support, tmp_path):
    store = tmp_path / "runs.db"
    result = ran(*EVERYTHING, journal=store)
    whole = steps_of(result.records, Support.graph)
    outline = steps_of(result.journal.outline(result.run_id), Support.graph)
    for one, other in zip(outline.steps, whole.steps, strict=True):
        assert (one.event, one.dest) == (other.event, other.dest)
        assert evolve(one.total, seconds=0) == evolve(other.total, seconds=0)
    assert "kettle" not in str(outline)


def test_what_older_versions_recorded_can_be_stepped_through():
    """The golden journals hold every kind of record."""
    for file in sorted(HERE.glob("*/*.jsonl")):
        records = records_in(file)
        graph = WORKFLOWS[records[0].data["workflow"]].graph
        found = steps_of(records, graph)
        moves = [record.data for record in records if record.kind == "move"]
        assert [step.event for step in found.steps[1:]] == [move["event"] for move in moves]
        assert {step.dest for step in found.steps} <= graph.by_name.keys()
        assert "<table>" in render(graph, "html", records=records)


def test_names_of_older_versions_are_those_of_now(support):
    older = [
        evolve(record, data=json.loads(json.dumps(record.data).replace('"calling"', '"running"')))
        for record in support.records
    ]
    found = steps_of(older, Support.graph, renamed={"running": "calling"})
    assert [step.key for step in found.steps] == [step.key for step in steps_of(support.records, Support.graph).steps]
