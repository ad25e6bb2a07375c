"""Large pictures: what they cost before the layout, that the layout ends, and the overview with groups folded."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree as ET

import pytest

from benchmarks.diagram import company
from fsm._errors import UsageError
from fsm._graph import Edge, Graph, Node, build_graph
from fsm._records import Move
from fsm._states import Approval, Claude, Final, Human, Tools
from fsm.diagram import Overlay, render
from fsm.diagram._extract import make_picture
from fsm.diagram._svg import _layout as layout
from fsm.diagram._svg._drawing import to_svg

SVG = "{http://www.w3.org/2000/svg}"


def tree(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own output, and expat refuses entity bombs


def ids(root: ET.Element, pattern: str) -> set[str]:
    return {i for each in root.iter() if (i := each.get("id", "")) and re.fullmatch(pattern, i)}


# --- cost ------------------------------------------------------------------------------------------------------------


class ReachedError(Exception):
    """What stands before the layout is done."""


def work(graph: Graph, detail: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many times anything of a picture is looked at before the layout: measured letters and functions called."""
    calls = 0

    def stop(source: str) -> bytes:
        raise ReachedError(source)

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        del frame, arg
        calls += event in {"call", "c_call"}

    with monkeypatch.context() as patch:
        patch.setattr(layout, "laid_out", stop)
        sys.setprofile(count)
        try:
            with pytest.raises(ReachedError):
                render(graph, detail=detail)
        finally:
            sys.setprofile(None)
    return calls


@pytest.mark.parametrize("detail", ["default", "full"])
def test_the_work_before_the_layout_grows_with_the_rows_and_not_faster(detail, monkeypatch):
    """Counted, not timed: `benchmarks/diagram.py` measures the half second for 200 states with 1,000 rows."""
    small, large = company(50, 250), company(200, 1000)
    growth = len(large.edges) / len(small.edges)
    assert growth > 3.5
    assert work(large, detail, monkeypatch) < 1.25 * growth * work(small, detail, monkeypatch)


def test_a_large_dense_picture_is_laid_out_with_less_effort_and_ends():
    """Curves and crossings of 300 arrows between 60 states, each to anywhere, took Graphviz 19 s; this, under one."""
    graph = company(60, 300, anywhere=1.0)
    picture = make_picture(graph)
    root = tree(to_svg(picture))
    assert {arrow.id for arrow in picture.arrows} <= ids(root, r"[er].+"), "each is an arrow, or stands in a tag"
    assert {box.id for box in picture.boxes} <= ids(root, r"s[1-9]\d*")


@pytest.mark.parametrize(
    ("links", "reach"),
    [([], 0), ([("a", "b"), ("b", "c")], 2), ([("a", "b"), ("b", "c"), ("a", "c"), ("c", "a")], 6), ([("a", "a")], 0)],
)
def test_the_reach_of_arrows_counts_the_ranks_that_they_pass(links, reach):
    assert layout.reach_of("abc", links) == reach


def test_what_may_take_a_minute_is_said_before_it_begins(caplog, monkeypatch):
    def stop(source: str) -> bytes:
        raise ReachedError(source)

    monkeypatch.setattr(layout, "laid_out", stop)
    with pytest.raises(ReachedError):
        render(company(200, 1000, anywhere=1.0))
    assert caplog.messages == []
    with pytest.raises(ReachedError):
        render(company(300, 1500, anywhere=1.0))
    assert "may take a minute: groups= and folded=" in caplog.text


def test_a_large_picture_says_how_to_get_an_overview():
    large, small = (" ".join(tree(render(company(*size))).itertext()) for size in ((100, 300), (40, 100)))
    assert "An overview draws groups as one box each" in large
    assert "An overview" not in small


def test_the_first_state_stands_at_the_top_with_frames_too():
    """Many rows lead back to the first state from other groups; it stays above them."""
    root = tree(render(company(60, 300), groups="prefix"))
    start = next(each for each in root.iter(f"{SVG}g") if each.get("id") == "s0")
    circle = start.find(f"{SVG}circle")
    assert circle is not None
    frames = [g.find(f"{SVG}rect") for g in root.iter(f"{SVG}g") if re.fullmatch(r"g\d+", g.get("id", ""))]
    assert all(float(circle.attrib["cy"]) < float(rect.attrib["y"]) for rect in frames if rect is not None)


# --- groups ----------------------------------------------------------------------------------------------------------


def told() -> Graph:
    """Two histories, what serves each, what lies between."""
    asking, calling, approving = (
        Claude(model="claude-sonnet-5", max_tokens=1000, history="talk"),
        Tools(),
        Approval(within="1d"),
    )
    judging, listening, done = (
        Claude(model="claude-sonnet-5", max_tokens=1000, history="judge"),
        Human(within="1h"),
        Final(),
    )
    asking.on(tool_use=calling, end_turn=judging)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)
    judging.on(end_turn=listening, refusal=asking)
    listening.on(said=asking, expired=done)
    states = {
        "talk_asking": asking,
        "talk_calling": calling,
        "talk_approving": approving,
        "judging": judging,
        "listening": listening,
        "done": done,
    }
    return build_graph("Told", states)


def homes(graph: Graph, groups: object) -> dict[str, str]:
    picture = make_picture(graph, groups=groups)
    names = {frame.id: frame.name for frame in picture.frames}
    return {box.name: names.get(box.group, "") for box in picture.boxes}


def test_history_groups_the_claude_states_of_a_history_and_what_serves_only_them():
    assert homes(told(), "history") == {
        "talk_asking": "talk",
        "talk_calling": "talk",
        "talk_approving": "talk",
        "judging": "judge",
        "listening": "",
        "done": "",
    }


def test_prefix_groups_names_up_to_the_first_underscore_where_two_share_it():
    found = homes(told(), "prefix")
    assert {name for name, home in found.items() if home == "talk"} == {"talk_asking", "talk_calling", "talk_approving"}
    assert {home for name, home in found.items() if not name.startswith("talk")} == {""}


def test_groups_stand_in_groups_and_frames_hold_their_boxes():
    groups = {"outer/inner": ["talk_asking", "talk_calling"], "outer": ["judging"], "alone": ["listening"]}
    picture = make_picture(told(), groups=groups)
    parents = {frame.name: frame.parent for frame in picture.frames}
    outer = next(frame.id for frame in picture.frames if frame.name == "outer")
    assert parents == {"outer": "", "inner": outer, "alone": ""}
    root = tree(render(told(), groups=groups))
    rects = {
        i: part.find(f"{SVG}rect") for part in root.iter(f"{SVG}g") if re.fullmatch(r"g\d+", i := part.get("id", ""))
    }

    def edges(rect: ET.Element) -> tuple[float, float, float, float]:
        x, y, wide, high = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        return x, y, x + wide, y + high

    for frame in picture.frames:
        left, top, right, bottom = edges(rects[frame.id])
        inside = [box.id for box in picture.boxes if box.group == frame.id]
        inside += [other.id for other in picture.frames if other.parent == frame.id]
        for ident in inside:
            part = next(each for each in root.iter(f"{SVG}g") if each.get("id") == ident)
            if (rect := part.find(f"{SVG}rect")) is not None:
                x, y, end_x, end_y = edges(rect)
                assert left <= x
                assert end_x <= right
                assert top <= y
                assert end_y <= bottom


def test_a_workflow_that_has_groups_needs_no_option():
    nodes = (Node("a", "Human", initial=True, group="one/two"), Node("b", "Final", group="one"), Node("c", "Final"))
    graph = Graph("Grouped", nodes, (Edge("a", "said", "b"), Edge("a", "expired", "c")))
    assert [frame.name for frame in make_picture(graph).frames] == ["one", "two"]
    assert [box.name for box in make_picture(graph, folded=True).boxes] == ["one", "c"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"groups": {"a": ["nowhere"]}}, "'nowhere', which is no state of Told: talk_asking"),
        ({"groups": {"a": ["judging"], "b": ["judging"]}}, "'judging' stands in 'a' and in 'b'"),
        ({"groups": {"a//b": ["judging"]}}, "'a//b' is no name"),
        ({"groups": {"a": "judging"}}, "needs a list of states"),
        ({"groups": "colour"}, "neither 'history' nor 'prefix'"),
        ({"groups": "prefix", "folded": ["talks"]}, "'talks', but the groups are talk"),
        ({"folded": ["talk"]}, "give groups= too"),
    ],
)
def test_a_wrong_group_is_an_error_that_says_what_there_is(options, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        render(told(), **options)


def test_the_name_of_a_group_is_text_and_nothing_else():
    """X1: ids are generated, names are text nodes."""
    name = "<script>alert(1)</script>\"'&]]> \u202e"
    for folded in (False, True):
        root = tree(render(told(), groups={name.replace("/", "|"): ["judging", "listening"]}, folded=folded))
        assert not list(root.iter(f"{SVG}script"))
        assert any("<script>alert(1)" in (text.text or "") for text in root.iter(f"{SVG}text"))
        assert ids(root, r".*script.*") == set()


# --- folding ---------------------------------------------------------------------------------------------------------


def test_a_folded_group_is_one_box_that_says_how_many_states_and_who_acts():
    picture = make_picture(told(), groups="history", folded=["talk"])
    box = next(box for box in picture.boxes if box.kind == "Group")
    assert (box.name, box.details) == ("talk", ("3 states", "Claude, Tools, Approval"))
    assert box.initial
    assert box.states == ("talk_asking", "talk_calling", "talk_approving")
    assert {b.name for b in picture.boxes} == {"talk", "judging", "listening", "done"}
    assert ("Tools", "Tools: functions run") not in picture.legend
    assert picture.legend[0][0] == "Group"


def test_the_arrows_of_a_folded_group_are_merged_and_their_labels_shortened():
    graph = told()
    picture = make_picture(
        graph, groups={"all": ["judging", "listening"], "talk": ["talk_asking", "talk_calling"]}, folded=True
    )
    names = {box.id: box.name for box in picture.boxes}
    labels = {
        (names[a.source], names[a.dest]): [line.text for line in a.lines] for a in picture.arrows if not a.standard
    }
    assert labels["talk", "all"] == ["end_turn"]
    assert labels["all", "talk"] == ["refusal, said"]
    assert labels["talk_approving", "talk"] == ["approved, denied +1"]
    assert ("talk", "talk") not in labels
    assert all(names[a.source] != names[a.dest] for a in picture.arrows if names[a.source] in {"all", "talk"})
    arrow = next(a for a in picture.arrows if names[a.source] == "talk_approving")
    assert "talk_approving to talk_calling: approved" in arrow.title, "hovering tells each row"


def test_a_run_through_folded_groups_keeps_its_numbers_and_its_place():
    steps = [
        ("talk_asking", "tool_use", "talk_calling"),
        ("talk_calling", "tool_results", "talk_asking"),
        ("talk_asking", "end_turn", "judging"),
    ]
    moves = tuple(Move(seq, 0.0, *step) for seq, step in enumerate(steps, 1))
    picture = make_picture(told(), overlay=Overlay(moves, current="judging"), groups="history", folded=True)
    boxes = {box.name: box for box in picture.boxes}
    assert boxes["judge"].current
    assert not boxes["talk"].current
    assert [line.seqs for a in picture.arrows if a.taken for line in a.lines] == [(3,)]


def test_the_overview_of_two_hundred_states_has_a_box_for_each_group_and_every_row_in_some_arrow():
    graph = company(200, 1000)
    picture = make_picture(graph, groups="prefix", folded=True)
    groups = [box for box in picture.boxes if box.kind == "Group"]
    assert len(groups) == 20
    assert sum(len(box.states) for box in groups) == sum("_" in node.name and not node.is_exit for node in graph.nodes)
    homes_of = {state: box.id for box in picture.boxes for state in box.states}
    drawn = {(arrow.source, arrow.dest) for arrow in picture.arrows}
    for edge in graph.edges:
        ends = (homes_of[edge.source], homes_of.get(edge.dest, ""))
        if not edge.implied and ends[0] != ends[1]:
            assert ends in drawn
    root = tree(to_svg(picture))
    assert ids(root, r"g\d+") == {box.id for box in groups}
    assert float(root.get("width", "0")) < 2000


def test_equal_graphs_give_equal_text_folded_or_not():
    for options in ({"groups": "prefix"}, {"groups": "history", "folded": True}, {"detail": "full"}):
        assert render(company(40, 150), **options) == render(company(40, 150), **options)
