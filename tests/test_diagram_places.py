"""Where things are in pictures: nothing on top of something else, whatever is grouped, looped or gathered."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from examples.support import Support
from fsm import Claude, Final, Human, Workflow, rounds_left, say
from fsm._graph import Graph
from fsm._records import Move
from fsm.diagram import Overlay, render
from fsm.diagram._extract import make_picture
from fsm.diagram._looks import BLUE, CHANGED, FADED_INK
from fsm.diagram._overlay import Tally
from fsm.diagram._svg import _layout
from fsm.diagram._svg._arrows import Fit, points_on
from fsm.diagram._svg._boxes import size_of
from fsm.diagram._svg._drawing import _Drawing
from fsm.diagram._svg._layout import Layout, Point
from fsm.diagram._svg._shapes import is_inside
from tests.test_diagram_look import SVG, examples, named, told_by_runs, tree, walk
from tests.test_diagram_size import company

Area = tuple[float, float, float, float]  # left, top, right, bottom


class Looping(Workflow):
    """States with rows of their own that lead back to them."""

    planning = Claude(model="claude-sonnet-5", max_tokens=1000, prompt="Plan.")
    drafting = Claude(model="claude-sonnet-5", max_tokens=1000, prompt="Draft.")
    judging = Claude(model="claude-sonnet-5", max_tokens=1000, prompt="Judge.")
    done = Final()
    planning.on(end_turn=[drafting.when(rounds_left(3)), judging])
    drafting.on(end_turn=[drafting.when(rounds_left(2)).then(say("Please cut it to 500 words.")), done])
    judging.on(end_turn=[judging.when(rounds_left(2)).then(say("Please judge it once more.")), done])


class Dropping(Workflow):
    """Four states give up by rows of their own."""

    asking = Claude(model="claude-sonnet-5", max_tokens=1000)
    first = Human()
    second = Human()
    third = Human()
    fourth = Human()
    done = Final()
    dropped = Final(ok=False)
    asking.on(end_turn=first)
    first.on(said=second, expired=dropped)
    second.on(said=third, expired=dropped)
    third.on(said=fourth, expired=dropped)
    fourth.on(said=done, expired=dropped)


def around(middle: Point, size: Point) -> Area:
    (x, y), (wide, high) = middle, size
    return (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)


def meet(one: Area, other: Area, slack: float = 2.0) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    return across > slack and min(one[3], other[3]) - max(one[1], other[1]) > slack


def laid_out(graph: Graph, **options: Any) -> tuple[_Drawing, Layout]:
    drawing = _Drawing.of(make_picture(graph, **options))
    return drawing, drawing.laid_out()


def labels(drawing: _Drawing, layout: Layout) -> dict[str, Area]:
    found = {}
    for arrow in drawing.arrows:
        at = layout.routes[arrow.id].label
        assert at is not None, "every arrow has words"
        found[arrow.id] = around(at, drawing.labels[arrow.id].size)
    return found


def collisions(drawing: _Drawing, layout: Layout) -> list[str]:
    """Labels and boxes on each other, arrows on one line, frames without what they are of."""
    areas = labels(drawing, layout)
    boxes = {ident: around(at, drawing.sizes[ident]) for ident, at in layout.boxes.items()}
    found = [f"{a} on {b}" for a, b in itertools.combinations(areas, 2) if meet(areas[a], areas[b])]
    found += [f"{a} on box {b}" for a, b in itertools.product(areas, boxes) if meet(areas[a], boxes[b])]
    found += [f"box {a} on box {b}" for a, b in itertools.combinations(boxes, 2) if meet(boxes[a], boxes[b])]
    lines: dict[object, str] = {}
    for ident, route in layout.routes.items():
        same = lines.setdefault(min(route.curve, route.curve[::-1]), ident)
        found += [f"{ident} on the line of {same}"] if same != ident else []
    for frame in drawing.picture.frames:
        left, top, right, bottom = around(*layout.clusters[frame.id])
        for box in drawing.picture.boxes:
            if box.group == frame.id:
                x0, y0, x1, y1 = boxes[box.id]
                found += [] if left <= x0 and top <= y0 and x1 <= right and y1 <= bottom else [f"{box.id} out of it"]
    return found


# --- frames ----------------------------------------------------------------------------------------------------------


def groupings() -> Iterator[Mapping[str, list[str]]]:
    """All ways to put the states of Support in groups, one of them in another, names aside."""
    paths, seen = ("", "a", "b", "a/c", "d"), set[frozenset[tuple[str, frozenset[str]]]]()
    for places in itertools.product(paths, repeat=4):
        groups: dict[str, list[str]] = {}
        for state, path in zip(("asking", "calling", "approving", "answered"), places, strict=True):
            if path:
                groups.setdefault(path, []).append(state)
        nested = frozenset(groups.get("a", ())) if "a/c" in groups else frozenset()
        key = frozenset(
            (f"in {sorted(nested)}" if path == "a/c" else "", frozenset(states)) for path, states in groups.items()
        )
        if key not in seen:
            seen.add(key)
            yield groups


def test_however_states_are_grouped_arrows_there_and_back_are_two_lines_with_two_labels():
    shown = 0
    for groups in groupings():
        assert collisions(*laid_out(Support.graph, groups=groups)) == [], groups
        shown += 1
    assert shown > 50


def test_arrows_lead_down_in_frames_as_they_do_without():
    for groups in (None, {"people": ["asking", "approving"], "work": ["calling"]}):
        drawing, layout = laid_out(Support.graph, groups=groups)
        heights = {box.name: layout.boxes[box.id][1] for box in drawing.picture.boxes}
        assert heights["asking"] < heights["calling"] < heights["approving"]


@pytest.mark.parametrize("detail", ["simple", "default", "full"])
@pytest.mark.parametrize("ends", [["failed"], ["failed", "stuck", "cancelled"], ["asking", "failed"], ["answered"]])
def test_ends_can_stand_in_a_group_too_with_arrows_to_them_and_without(detail, ends):
    counts = {("asking", "tool_use"): 1, ("asking", "cancel"): 2}
    for options in ({}, {"runs": counts}, {"folded": True}, {"folded": True, "runs": counts}):
        assert "<svg" in Support.diagram(detail=detail, groups={"ends": ends}, **options)
    drawing, layout = laid_out(Support.graph, detail=detail, groups={"ends": ends})
    assert collisions(drawing, layout) == []
    lowest = max(layout.boxes[box.id][1] for box in drawing.picture.boxes if not box.is_exit)
    exits = [layout.boxes[box.id][1] for box in drawing.picture.boxes if box.is_exit]
    assert all(y >= lowest for y in exits), "the ways out are at the bottom, grouped or not"


def test_any_grouping_of_any_workflow_is_drawn_with_nothing_on_top_of_anything():
    choose = random.Random(5)
    graphs = [*(workflow.graph for _, workflow in examples()), named([*"abcdef"]), company(12, 40), Looping.graph]
    for _ in range(60):
        graph, paths = choose.choice(graphs), ["a", "b", "a/c", "a/c/d"][: choose.randint(1, 4)]
        groups: dict[str, list[str]] = {}
        for node in graph.nodes:
            if choose.random() < 0.6:
                groups.setdefault(choose.choice(paths), []).append(node.name)
        overlay = choose.choice([None, walk(graph, 9), told_by_runs(graph, 20)])
        detail = choose.choice(["simple", "default", "full"])
        assert collisions(*laid_out(graph, detail=detail, groups=groups, overlay=overlay)) == [], groups


def test_an_arrow_that_graphviz_cannot_route_is_a_straight_line(monkeypatch):
    """Among many frames Graphviz 2.43 loses arrows ("in routesplines, Pshortestpath failed"): they have no `pos`."""
    asked = _layout.laid_out

    def without_ways(source: str) -> Mapping[str, Any]:
        found = asked(source)
        for edge in found["edges"]:
            del edge["pos"]
        return found

    monkeypatch.setattr(_layout, "laid_out", without_ways)
    for groups in (None, {"people": ["asking", "approving"], "work": ["calling"]}):
        drawing, layout = laid_out(Support.graph, groups=groups)
        for arrow in drawing.arrows:
            route = layout.routes[arrow.id]
            for end, box in ((route.curve[0], arrow.source), (route.tip, arrow.dest)):
                left, top, right, bottom = around(layout.boxes[box], drawing.sizes[box])
                assert left - 1 <= end[0] <= right + 1
                assert top - 1 <= end[1] <= bottom + 1
        assert "<svg" in Support.diagram(groups=groups)


def test_frames_keep_apart_and_their_names_are_where_no_arrow_runs():
    stages = [f"{stage}_{step}" for stage in ("research", "writing", "release") for step in "abcd"]
    for graph in (named(stages), company(20, 60)):
        drawing, layout = laid_out(graph, groups="prefix")
        frames = {frame.id: frame for frame in drawing.picture.frames}
        areas = {ident: around(*layout.clusters[ident]) for ident in frames}
        for one, other in itertools.combinations(areas.values(), 2):
            assert not meet(one, other, slack=-4.0), "neither on each other nor side by side without a gap"
        root = tree(render(graph, groups="prefix"))
        points = [point for route in layout.routes.values() for point in points_on(route)]
        for group in root.iter(f"{SVG}g"):
            if re.fullmatch(r"lg\d+", group.get("id", "")):
                halo = next(group.iter(f"{SVG}rect"))
                x, y, wide, high = (float(halo.attrib[name]) for name in ("x", "y", "width", "height"))
                assert not any(x < at[0] < x + wide and y < at[1] < y + high for at in points)


# --- loops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detail", ["simple", "default", "full"])
def test_a_loop_and_its_label_have_room_of_their_own(detail):
    """Neither a box nor a label nor another arrow runs through it, few words or many."""
    graphs = [*(workflow.graph for _, workflow in examples()), Looping.graph, Dropping.graph, named([*"abcd"])]
    seen = 0
    for graph in graphs:
        for overlay in (None, walk(graph, 6), told_by_runs(graph, 20)):
            drawing, layout = laid_out(graph, detail=detail, overlay=overlay)
            assert collisions(drawing, layout) == []
            words = labels(drawing, layout)
            for loop in (arrow for arrow in drawing.arrows if arrow.source == arrow.dest):
                middle, half = layout.boxes[loop.source][0], drawing.sizes[loop.source][0] / 2
                points = points_on(layout.routes[loop.id])
                xs, ys = zip(*(point for point in points if abs(point[0] - middle) > half + 6), strict=True)
                rooms = (words[loop.id], (min(xs), min(ys), max(xs), max(ys)))
                others = (arrow for arrow in drawing.arrows if arrow.source != arrow.dest)
                for other in others:
                    for room, point in itertools.product(rooms, points_on(layout.routes[other.id])):
                        assert not meet(room, (*point, *point), slack=-0.5), (graph.name, loop.id, other.id)
                seen += 1
    assert seen >= 12


def test_a_state_with_a_loop_of_its_own_retries_too_and_shows_it():
    picture = make_picture(Looping.graph)
    ids = {box.name: box.id for box in picture.boxes}
    loops = [
        (arrow.source, [line.event for line in arrow.lines]) for arrow in picture.arrows if arrow.source == arrow.dest
    ]
    assert (ids["drafting"], ["end_turn"]) in loops
    assert (ids["drafting"], ["retries"]) in loops
    drawing, layout = laid_out(Looping.graph)
    assert collisions(drawing, layout) == []


# --- what is gathered, and the ring of the current state -------------------------------------------------------------


def parts(root: ET.Element, ident: str) -> ET.Element:
    return next(group for group in root.iter(f"{SVG}g") if group.get("id") == ident)


def test_own_rows_that_are_gathered_look_own_and_their_end_is_at_the_bottom():
    drawing, layout = laid_out(Dropping.graph)
    assert {tag.is_own for tag in drawing.tags} == {True}
    root = tree(Dropping.diagram())
    for tag in drawing.tags:
        assert next(parts(root, tag.id).iter(f"{SVG}rect")).get("stroke-dasharray") is None
    assert all(path.get("stroke-dasharray") is None for path in parts_of_tags(root, drawing))
    assert "rows of this workflow to one end, gathered" in "".join(parts(root, "legend").itertext())
    (dropped,) = (box.id for box in drawing.picture.boxes if box.name == "dropped")
    assert layout.boxes[dropped][1] == max(y for _, y in layout.boxes.values())


def parts_of_tags(root: ET.Element, drawing: _Drawing) -> list[ET.Element]:
    """The lines that lead to the tags: the ones in no group of their own that end right before a tag."""
    canvas = next(group for group in root.iter(f"{SVG}g") if group.get("transform"))
    found = canvas.findall(f"{SVG}path")
    assert len(found) == len(drawing.tags)
    return found


def test_standard_rows_that_are_gathered_look_implied():
    drawing, _ = laid_out(Support.graph, detail="full")
    root = tree(Support.diagram(detail="full"))
    assert {tag.is_own for tag in drawing.tags} == {False}
    assert all(path.get("stroke-dasharray") for path in parts_of_tags(root, drawing))
    assert "gathered" not in "".join(parts(root, "legend").itertext())


def test_the_last_arrow_ends_at_the_ring_of_the_current_state_and_not_under_it():
    for steps in (1, 2, 3, 5):
        drawing, layout = laid_out(Support.graph, overlay=walk(Support.graph, steps))
        boxes = {box.id: box for box in drawing.picture.boxes}
        (here,) = (box for box in boxes.values() if box.current)
        inner = size_of(here)
        assert drawing.sizes[here.id][0] >= inner[0] + 14
        fit = Fit(layout, drawing.sizes)
        ring = (inner[0] + 12, inner[1] + 12)
        arrows = [arrow for arrow in drawing.arrows if arrow.dest == here.id]
        assert arrows
        for arrow in arrows:
            tip = fit.to_outlines(layout.routes[arrow.id], boxes[arrow.source], here).tip
            assert not is_inside(here.shape, layout.boxes[here.id], ring, tip)


# --- rows that one arrow stands for ----------------------------------------------------------------------------------


def fills(root: ET.Element, event: str) -> set[str | None]:
    return {part.get("fill") for part in root.iter(f"{SVG}tspan") if part.text == event}


def test_of_the_rows_of_one_arrow_only_the_taken_ones_are_blue():
    moves = (Move(1, 0.0, "asking", "tool_use", "calling"), Move(2, 1.0, "calling", "approval_needed", "approving"))
    taken = Overlay((*moves, Move(3, 2.0, "approving", "denied", "asking")), current="asking")
    root = tree(render(Support.graph, overlay=taken))
    assert fills(root, "denied") == {BLUE}
    assert fills(root, "expired") == {FADED_INK}


def test_an_arrow_that_only_one_of_two_runs_took_is_that_run_s_whatever_else_is_on_it():
    """`denied` and `expired` share an arrow; neither run took `expired`."""
    both = {("asking", "tool_use", 0): Tally(1), ("calling", "approval_needed", 0): Tally(1)}
    other = Overlay((), edges=both)
    mine = Overlay((), edges={**both, ("approving", "denied", 0): Tally(1)})
    for one, against, change in ((mine, other, "added"), (other, mine, "removed")):
        picture = make_picture(Support.graph, overlay=evolve(one, other=against))
        (arrow,) = (each for each in picture.arrows if "denied" in {line.event for line in each.lines})
        assert len(arrow.lines) > 1
        assert arrow.change == change
        root = tree(render(Support.graph, overlay=evolve(one, other=against)))
        path = next(parts(root, arrow.id).iter(f"{SVG}path"))
        assert path.get("stroke") == CHANGED[change]
