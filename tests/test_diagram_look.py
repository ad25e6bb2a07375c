"""How pictures look, measured in what is drawn: contrast, what is left without colour, and words that keep clear."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from _pictures import Problem
from attrs import evolve

from fsm import Workflow, tool
from fsm._effects import say
from fsm._exits import exits
from fsm._graph import Graph, build_graph
from fsm._guards import rounds_left
from fsm._records import Move
from fsm._states import Approval, Claude, Human, State, Tools
from fsm.cli._load import load_module, workflows_of
from fsm.diagram import Overlay, render
from fsm.diagram._looks import HEAT, ROLES
from fsm.diagram._overlay import Tally
from tests._browser import launched

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SVG = "{http://www.w3.org/2000/svg}"
DETAILS = ("simple", "default", "full")
THEMES = ("light", "dark")


@tool
def look_up(text: str) -> str:
    """Look something up."""
    return text


def examples() -> Iterator[tuple[str, type[Workflow]]]:
    for path in sorted(EXAMPLES.glob("*.py")):
        for name, workflow in workflows_of(load_module(str(path))).items():
            yield f"{path.stem}-{name}", workflow


def claude(**options: Any) -> Claude:
    return Claude(model="claude-sonnet-5", max_tokens=1000, **options)


def named(names: list[str]) -> Graph:
    """A ring of states of these names, kinds in turn, with guards and effects and an exit from each."""
    kinds = [lambda: claude(tools=[look_up]), Tools, lambda: Approval(within="1d"), lambda: Human(within="2h")]
    states: dict[str, State] = {name: kinds[place % 4]() for place, name in enumerate(names)}
    events = {"Claude": "end_turn", "Tools": "tool_results", "Approval": "approved", "Human": "said"}
    ring = list(states.values())
    for here, onward in zip(ring, [*ring[1:], ring[0]], strict=True):
        here.on(**{events[here.kind]: onward, "cancel": exits.cancelled})
        if here.kind == "Claude":
            here.on(tool_use=[onward.when(rounds_left(2)).then(say("Go on, please.")), exits.failed], refusal=ring[0])
    return build_graph("Of long names", states, doc="The first sentence, which is there as well. " * 4)


def walk(graph: Graph, steps: int) -> Overlay:
    """A run along the first own row of each state."""
    moves, here = [], graph.initial
    for seq in range(1, steps + 1):
        edge = next((edge for edge in graph.outgoing(here) if not edge.implied), None)
        if edge is None:
            break
        moves.append(Move(seq, float(seq), edge.source, edge.event, edge.dest, index=edge.index))
        here = edge.dest
    return Overlay(tuple(moves), current=here)


def told_by_runs(graph: Graph, runs: int) -> Overlay:
    """Times, tokens, prices and failures on every own row and in every state, a stuck cycle on the first ones."""
    own = [edge.key for edge in graph.edges if not edge.implied]
    tally = Tally(1234, 98765.4, 12_345_678, 1234.56, 17)
    edges, states = dict.fromkeys(own, tally), dict.fromkeys(graph.by_name, tally)
    return evolve(walk(graph, 12), edges=edges, states=states, stuck=frozenset(own[:2]), runs=runs)


def pictures() -> dict[str, str]:
    """The pictures that are measured, by what they show."""
    found = {}
    for name, workflow in examples():
        for detail in DETAILS:
            found[f"{name} {detail}"] = render(workflow.graph, detail=detail)
            found[f"{name} {detail} run"] = render(workflow.graph, detail=detail, overlay=walk(workflow.graph, 30))
        for runs in (1, 20):
            found[f"{name} {runs} runs"] = render(workflow.graph, overlay=told_by_runs(workflow.graph, runs))
        found[f"{name} findings"] = render(workflow.graph, findings=workflow.check())
    scripts = [
        "W" * 40,
        "m" * 40,
        "審査結果を待っている状態の名前はとても長い" * 2,
        "проверяющий_ответ_на_вопрос_клиента_сейчас",
        "i" * 40,
    ]
    wide = named([f"{name[:38]}{place}" for place, name in enumerate(scripts)])
    thirty = named([f"{stage}_{step}" for stage in ("research", "writing", "release") for step in "abcdefghij"])
    for detail in DETAILS:
        found[f"long names {detail}"] = render(wide, detail=detail)
        found[f"thirty {detail}"] = render(thirty, detail=detail)
        found[f"thirty {detail} run"] = render(thirty, detail=detail, overlay=walk(thirty, 60))
        found[f"thirty {detail} runs"] = render(
            thirty, detail=detail, overlay=told_by_runs(thirty, 20), groups="prefix", folded=["writing"]
        )
        found[f"thirty {detail} framed"] = render(thirty, detail=detail, groups="prefix")
        found[f"thirty {detail} folded"] = render(thirty, detail=detail, groups="prefix", folded=["writing"])
    return found


# --- words, in a real browser ----------------------------------------------------------------------------------------

# Every text against the border of the picture, against the outline that it stands in, and against all other texts.
MEASURE = """() => [...document.querySelectorAll('svg')].map(svg => {
  const wrong = [], SLACK = 1.5;
  const boundsOf = e => { const r = e.getBoundingClientRect(); return {l: r.left, t: r.top, r: r.right, b: r.bottom} };
  const picture = boundsOf(svg);
  const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
    .map(t => ({words: t.textContent, node: t, at: boundsOf(t)}));
  const over = (a, b, c, d) => Math.min(b, d) - Math.max(a, c) > SLACK;
  const meet = (a, b) => over(a.l, a.r, b.l, b.r) && over(a.t, a.b, b.t, b.b);
  const within = (a, b) => a.l >= b.l - .1 && a.r <= b.r + .1 && a.t >= b.t - .1 && a.b <= b.b + .1;
  for (const {words, at} of texts) if (!within(at, picture)) wrong.push(`${words}: over the border`);
  for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++)
    if (meet(texts[i].at, texts[j].at)) wrong.push(`${texts[i].words} | ${texts[j].words}: over each other`);
  for (const box of svg.querySelectorAll('g')) {
    const state = /^s[1-9][0-9]*$|^g[0-9]+$/.test(box.id) && box.querySelector(':scope > title');
    const shapes = [...box.children].filter(e => ['rect', 'polygon'].includes(e.tagName) && e.getAttribute('stroke'));
    if (!shapes.length || !box.querySelector('text') || /^(legend|e.*)$/.test(box.id)) continue;
    const inner = state && shapes.length > 1 ? shapes[shapes.length - 1] : shapes[0];
    const matrix = inner.getScreenCTM().inverse();
    for (const text of box.querySelectorAll('text')) {
      const at = boundsOf(text), pill = text.previousElementSibling;
      if (state && pill && pill.tagName === 'rect' && !pill.getAttribute('stroke')) continue;
      const corners = [[at.l, at.t + 2], [at.r, at.t + 2], [at.l, at.b - 2], [at.r, at.b - 2]];
      if (!corners.every(([x, y]) => inner.isPointInFill(new DOMPoint(x, y).matrixTransform(matrix))))
        wrong.push(`${text.textContent}: out of its outline ${box.id}`);
    }
    if (state) for (const {words, node, at} of texts)
      if (!box.contains(node) && meet(at, boundsOf(shapes[0]))) wrong.push(`${words}: over the box ${box.id}`);
  }
  return wrong;
})"""


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


def test_no_text_is_cut_off_or_over_another_text_or_out_of_its_outline(browser):
    """Measured where it is drawn: the width of letters that the layout was computed from is only an estimate."""
    shown = pictures()
    with browser.new_page() as page:
        page.set_content("<meta charset=utf-8>" + "".join(f"<div>{svg}</div>" for svg in shown.values()))
        found = dict(zip(shown, page.evaluate(MEASURE), strict=True))
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_the_measuring_finds_what_is_wrong(browser):
    bad = """<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100">
      <g id="s1"><title>a</title><rect x="10" y="10" width="40" height="30" fill="none" stroke="black"/>
      <text x="12" y="30" font-size="14">far too long</text></g>
      <text x="60" y="32" font-size="14">above</text><text x="180" y="80" font-size="14">cut off</text></svg>"""
    with browser.new_page() as page:
        page.set_content(f"<div>{bad}</div>")
        (wrong,) = page.evaluate(MEASURE)
    kinds = {each.rpartition(": ")[2] for each in wrong}
    assert kinds == {"over the border", "over each other", "out of its outline s1"}


# --- colours, from the picture itself --------------------------------------------------------------------------------

Colour = tuple[float, float, float]

# Linear RGB as it is seen without one kind of cone (Machado, Oliveira, Fernandes 2009, severity 1.0), and as luminance.
SEEN = {
    "as it is": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "grey": ((0.2126, 0.7152, 0.0722),) * 3,
}
WORDS, STROKES = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11
GREATEST_LOSS = 0.85  # of the contrast, where colours are not seen as they are


def linear(colour: str) -> Colour:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def contrast(one: str, other: str, seen: str = "as it is") -> float:
    def luminance(colour: str) -> float:
        rgb = [sum(a * b for a, b in zip(row, linear(colour), strict=True)) for row in SEEN[seen]]
        red, green, blue = (min(max(part, 0.0), 1.0) for part in rgb)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def bounds(shape: ET.Element) -> tuple[float, float, float, float]:
    if shape.tag == f"{SVG}rect":
        x, y = float(shape.get("x", 0)), float(shape.get("y", 0))
        return x, y, x + float(shape.get("width", "0")), y + float(shape.get("height", "0"))
    if shape.tag == f"{SVG}circle":
        x, y, r = (float(shape.attrib[name]) for name in ("cx", "cy", "r"))
        return x - r, y - r, x + r, y + r
    pairs = [tuple(map(float, pair.split(","))) for pair in shape.attrib["points"].split()]
    xs, ys = zip(*pairs, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def pairs(root: ET.Element) -> Iterator[tuple[str, str, str]]:
    """What is drawn in which colour on which ground: `word` or `stroke`, its colour, the ground painted last there."""
    grounds: list[tuple[tuple[float, float, float, float], str]] = []

    def walk_through(element: ET.Element, move: tuple[float, float]) -> Iterator[tuple[str, str, str]]:
        if found := re.fullmatch(r"translate\(([\d.-]+) ([\d.-]+)\)", element.get("transform", "")):
            move = (move[0] + float(found[1]), move[1] + float(found[2]))
        kind = element.tag.removeprefix(SVG)
        if kind == "text":
            x, y = float(element.attrib["x"]) + move[0], float(element.attrib["y"]) + move[1] - 3
            ground = next(fill for (x0, y0, x1, y1), fill in reversed(grounds) if x0 <= x <= x1 and y0 <= y <= y1)
            inks = [part.get("fill") for part in element.iter(f"{SVG}tspan")] or [element.get("fill")]
            yield from (("word", ink, ground) for ink in inks if ink)
        elif kind in {"rect", "polygon", "circle", "path", "polyline"}:
            if (stroke := element.get("stroke")) is not None:
                yield "stroke", stroke, grounds[0][1]
                if (fill := element.get("fill")) not in {None, "none"}:
                    yield "stroke", stroke, fill
            if kind in {"rect", "polygon", "circle"} and (fill := element.get("fill", "none")) != "none":
                left, top, right, bottom = bounds(element)
                if element.get("fill-opacity") is None:
                    grounds.append(((left + move[0], top + move[1], right + move[0], bottom + move[1]), fill))
        for child in element:
            yield from walk_through(child, move)

    yield from walk_through(root, (0.0, 0.0))


def tree(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own output, and expat refuses entity bombs


def every_sight(theme: str) -> Iterator[ET.Element]:
    """Pictures that together show every role: kinds, runs, findings, tags, groups."""
    for _, workflow in examples():
        graph = workflow.graph
        yield tree(render(graph, theme=theme))
        yield tree(render(graph, detail="full", theme=theme, overlay=walk(graph, 3)))
        yield tree(render(graph, theme=theme, groups="history", folded=True))
        yield tree(render(graph, theme=theme, overlay=told_by_runs(graph, 1)))
        yield tree(render(graph, theme=theme, overlay=told_by_runs(graph, 20)))
    broken = named([f"{letter}_{step}" for letter in "ab" for step in "abcde"])
    problems = [Problem("W1", "a_a", "end_turn", None, "wrong"), Problem("W2", "b_b", None, None, "wrong, too")]
    yield tree(render(broken, theme=theme, findings=problems, groups="prefix"))
    yield tree(render(broken, theme=theme, findings=problems, overlay=walk(broken, 4), groups="prefix", folded=["b"]))


@pytest.mark.parametrize("theme", THEMES)
def test_words_and_strokes_keep_their_contrast_however_colours_are_seen(theme):
    found = {pair for root in every_sight(theme) for pair in pairs(root)}
    assert len(found) > 30
    faults = []
    for (kind, colour, ground), seen in itertools.product(sorted(found), SEEN):
        least = (WORDS if kind == "word" else STROKES) * (1 if seen == "as it is" else GREATEST_LOSS)
        if contrast(colour, ground, seen) < least:
            faults.append(f"{kind} {colour} on {ground}, {seen}: {contrast(colour, ground, seen):.2f} < {least:.2f}")
    assert faults == []


def told(group: ET.Element) -> tuple[Any, ...]:
    """What a box or an arrow tells without any colour: outline, width and dashes of its stroke, words that mark it."""
    form = [
        (each.tag, each.get("stroke-width"), each.get("stroke-dasharray")) for each in group if each.tag != f"{SVG}text"
    ]
    words = ["".join(text.itertext()) for text in group.iter(f"{SVG}text")]
    return (*form[1:], *words[:1], *(word for word in words if word == "here" or re.fullmatch(r"W\d", word)))


def test_a_shape_a_stroke_or_a_word_says_what_a_colour_says():
    """Of two boxes or arrows that differ in colour, outline, stroke or a word differs, too; faded ones are grey."""
    seen = 0
    for root in every_sight("light"):
        colours: dict[tuple[Any, ...], set[tuple[str | None, str | None]]] = {}
        for group in root.iter(f"{SVG}g"):
            if not re.fullmatch(r"[eg]\d+|s[1-9]\d*", group.get("id", "")) or group.find(f"{SVG}g") is not None:
                continue
            shape = next((each for each in group if each.get("stroke")), None)
            if shape is not None and shape.get("stroke") != ROLES["quiet"][0]:
                colours.setdefault(told(group), set()).add((shape.get("stroke"), shape.get("fill")))
        assert all(len(looks) == 1 for looks in colours.values())
        seen += len(colours)
    assert seen > 100


def test_words_can_be_read_on_every_step_of_the_heat():
    for place in (0, 1):
        dark = {light: values[place] for values in ROLES.values() for light in values[:1]}
        steps = [dark[fill] for fill in HEAT]
        for ink, ground in itertools.product(("ink", "grey"), steps):
            assert contrast(ROLES[ink][place], ground) >= WORDS
        lightness = [contrast(step, "#000000") for step in steps]
        assert lightness == sorted(lightness, reverse=place == 0), "in grey, too, one step follows the other"


def test_no_two_roles_share_a_value_on_light_paper():
    """A dark picture is a light one with other values, so the value must say what it is for."""
    lights = [light for light, _ in ROLES.values()]
    assert len(set(lights)) == len(lights)


# --- themes ----------------------------------------------------------------------------------------------------------


def colourless(text: str) -> str:
    return re.sub(r"#[0-9a-f]{6}", "#", text)


def test_dark_is_the_same_picture_in_other_colours():
    for _, workflow in examples():
        light, dark = (render(workflow.graph, detail="full", theme=theme) for theme in THEMES)
        assert light != dark
        assert colourless(light) == colourless(dark)
        assert not {*re.findall(r"#[0-9a-f]{6}", dark)} - {value for _, value in ROLES.values()}


def test_auto_is_the_light_picture_with_one_style_sheet_that_is_always_the_same():
    sheets = set()
    for _, workflow in examples():
        light, auto = render(workflow.graph), render(workflow.graph, theme="auto")
        root = tree(auto)
        (style,) = root.iter(f"{SVG}style")
        sheets.add(style.text)
        assert root[0].tag == f"{SVG}title"
        rest = re.sub(r"\n *<style>.*</style>", "", auto.replace(' class="fsm-auto"', ""))
        assert rest == light
    assert len(sheets) == 1


def test_auto_follows_the_scheme_of_the_reader_in_a_real_browser(browser):
    graph = next(workflow for name, workflow in examples() if name.startswith("support")).graph
    ask = """() => [...document.querySelectorAll('svg [fill], svg [stroke]')]
        .map(e => ['fill', 'stroke'].map(name => e.hasAttribute(name) ? getComputedStyle(e)[name] : ''))"""
    shown = {}
    for theme, scheme in (("light", "light"), ("auto", "light"), ("auto", "dark"), ("dark", "light")):
        with browser.new_page(color_scheme=scheme) as page:
            page.set_content(render(graph, theme=theme) + '<svg><rect fill="#ffffff" class="another"/></svg>')
            *shown[theme, scheme], (another, _) = page.evaluate(ask)
            assert another == "rgb(255, 255, 255)", "a picture colours only itself"
    assert shown["auto", "light"] == shown["light", "light"]
    assert shown["auto", "dark"] == shown["dark", "light"] != shown["light", "light"]


# --- at a glance -----------------------------------------------------------------------------------------------------


def test_the_legend_says_who_acts_where_it_starts_how_it_ends_and_which_rows_are_own():
    for _, workflow in examples():
        root = tree(render(workflow.graph))
        legend = next(group for group in root.iter(f"{SVG}g") if group.get("id") == "legend")
        said = " ".join("".join(text.itertext()) for text in legend.iter(f"{SVG}text"))
        kinds = {node.kind for node in workflow.graph.nodes if not node.is_exit}
        assert all(f"{kind}:" in said for kind in kinds)
        assert "it starts here" in said
        assert "row of this workflow" in said
        assert "standard row" in said


def test_hovering_shows_the_line_of_the_declaration_and_what_the_guard_says():
    for name, workflow in examples():
        root = tree(render(workflow.graph, detail="full"))
        titles = "\n".join(each.text or "" for each in root.iter(f"{SVG}title"))
        assert f"{name.partition('-')[0]}.py:" in titles
        for edge in workflow.graph.edges:
            if not edge.implied:
                assert f"{edge.label}, {edge.where}" in titles
            if edge.guard is not None and edge.guard.doc:
                assert " ".join(edge.guard.doc.split())[:60] in titles


# --- ways out, gathered ----------------------------------------------------------------------------------------------


def test_full_lists_the_ways_out_beside_their_state_and_still_names_every_row():
    for _, workflow in examples():
        root = tree(render(workflow.graph, detail="full"))
        panels = [group for group in root.iter(f"{SVG}g") if re.fullmatch(r"ts\d+", group.get("id", ""))]
        assert panels
        shown = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
        assert {edge.event for edge in workflow.graph.edges} <= {*re.findall(r"\w+", shown)}
        for panel in panels:
            for entry in panel.findall(f"{SVG}g"):
                title = entry.findtext(f"{SVG}title") or ""
                assert "standard row" in title, "hovering tells of each row"


def test_a_row_that_was_taken_stays_an_arrow():
    graph = named(["a", "b", "c", "d"])
    taken = Overlay((Move(1, 0.0, "a", "refusal", "a"), Move(2, 0.0, "a", "cancel", "cancelled")), current="cancelled")
    root = tree(render(graph, detail="full", overlay=taken))
    listed = {
        entry.get("id") for panel in root.iter(f"{SVG}g") if panel.get("id", "").startswith("ts") for entry in panel
    }
    arrows = {group.get("id") for group in root.iter(f"{SVG}g") if group.find(f"{SVG}path") is not None}
    blue = {
        group.get("id")
        for group in root.iter(f"{SVG}g")
        for path in group.findall(f"{SVG}path")
        if path.get("stroke") == ROLES["blue"][0]
    }
    assert blue
    assert blue <= arrows - listed


def test_own_rows_of_many_states_to_one_bad_end_are_gathered_those_of_few_are_arrows():
    def lines(names: str) -> int:
        root = tree(render(named([*names]), detail="simple"))
        return sum(panel.get("id", "").startswith("ts") for panel in root.iter(f"{SVG}g"))

    assert lines("abc") == 0
    assert lines("abcd") == 4
