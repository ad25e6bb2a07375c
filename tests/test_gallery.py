"""The gallery: every example with its class, its picture and a run, as text that is the same each time, and as a page
that stands alone."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from _browser import launched, opened

from fsm.cli import main
from fsm.cli._gallery._examples import examples
from fsm.cli._gallery._markdown import text
from fsm.cli._gallery._runs import run_of

ROOT = Path(__file__).resolve().parent.parent
# fmt: off
TAGS = frozenset({
    "a", "b", "body", "code", "dd", "div", "dl", "dt", "figcaption", "figure", "footer", "h1", "h2", "h3", "head",
    "header", "html", "img", "li", "main", "meta", "nav", "ol", "p", "pre", "section", "small", "span", "style",
    "table", "tbody", "td", "th", "thead", "title", "tr",
    "svg", "g", "path", "polygon", "rect", "circle", "ellipse", "line", "polyline", "text", "tspan",
})
# fmt: on
EVIL = '''"""An example.

Use it to see <script>alert(1)</script> and `<img src=x onerror=alert(2)>`.
"""

from fsm import Claude, Final, Workflow


class Evil(Workflow):
    """</code></pre><script>alert(3)</script> & <b>bold</b>."""

    asking = Claude(model="claude-sonnet-5", max_tokens=5, system="<img src=x onerror=alert(4)>")
    done = Final()

    asking.on(end_turn=done)
'''


class Page(HTMLParser):
    """Elements, attributes and words of a page, as a real parser reads it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, each, value in self.attributes if each == name]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "diagrams"
    shutil.copytree(ROOT / "diagrams" / "peers", folder / "peers")
    assert main(["diagram", "--write", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(written, tmp_path / "diagrams"))


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples, in a folder where they may be changed."""
    copy = tmp_path / "examples"
    copy.mkdir()
    for name in ("support.py", "weather.py"):
        shutil.copy(ROOT / "examples" / name, copy)
    monkeypatch.setattr("fsm.cli._load.EXAMPLES_CHECKOUT", copy)
    return copy


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["diagram", *arguments])
    return code, capsys.readouterr().out


def declared() -> dict[str, list[str]]:
    """The workflows that are declared anywhere below examples/, by file."""
    found = {}
    for file in (ROOT / "examples").rglob("*.py"):
        classes = [node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
        names = [each.name for each in classes if any(ast.unparse(base) == "Workflow" for base in each.bases)]
        if names:
            found[file.stem] = names
    return found


# --- what is written -------------------------------------------------------------------------------------------------


def test_two_processes_write_the_same_bytes(written: Path, tmp_path: Path) -> None:
    """No clock, no order of a set, no id by lot and no path of a machine is in it."""
    again = tmp_path / "again"
    shutil.copytree(ROOT / "diagrams" / "peers", again / "peers")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "fsm.cli", "diagram", "--write", str(again)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    files = sorted(path.relative_to(written) for path in written.rglob("*.*"))
    assert files == sorted(path.relative_to(again) for path in again.rglob("*.*"))
    assert [name for name in files if (written / name).read_bytes() != (again / name).read_bytes()] == []


def test_no_file_holds_a_path_of_this_machine(written: Path) -> None:
    places = {str(ROOT), str(Path.home()), str(written), sys.prefix} - {"/"}
    for path in written.rglob("*.*"):
        content = path.read_text("utf-8")
        assert not [place for place in places if place in content], path.name


def test_every_example_is_there_with_class_picture_run_and_rows(written: Path) -> None:
    markdown = (written / "index.md").read_text("utf-8")
    page = Page((written / "index.html").read_text("utf-8"))
    words = "".join(page.words)
    shown = {each.stem: each for each in examples()}
    assert set(shown) == set(declared())
    for stem, example in shown.items():
        assert [example.workflow.__name__] == declared()[stem]
        assert f"```python\n{example.code}\n```" in markdown
        assert example.code in words
        assert (
            f'srcset="{stem}-dark.svg"><img alt="The states of {example.workflow.name}" src="{stem}.svg">' in markdown
        )
        assert f'src="{stem}-run.svg"' in markdown
        assert example.workflow.diagram("table").strip() in markdown
        assert stem in page.values("id")
        assert f"{stem}-run.html" in page.values("href")
        for edge in example.workflow.graph.edges:
            assert edge.implied or edge.event in words
    assert next(iter(shown)) == "support"


def test_the_code_is_that_of_the_file(written: Path) -> None:
    for example in examples():
        source = (ROOT / example.source).read_text("utf-8").splitlines()
        first, last = example.lines
        whole = source[first - 1 : last]
        shown = example.code.splitlines()
        assert [line for line in shown if line not in whole and not line.endswith("(...)")] == []
        assert shown == whole or len(whole) > 15
        ast.parse(example.code)


def test_a_run_is_a_real_one_and_always_the_same(written: Path) -> None:
    for example in examples():
        again = run_of(example.stem, example.workflow, sys.modules[example.workflow.__module__])
        assert again == example.records
        assert [record.seq for record in again] == sorted(record.seq for record in again)
        assert again[-1].kind == "close"
        assert again[-1].data["ok"]
        taken = {(r.data["source"], r.data["event"], r.data["dest"]) for r in again if r.kind == "move"}
        assert taken <= {(edge.source, edge.event, edge.dest) for edge in example.workflow.graph.edges}


# --- drift -----------------------------------------------------------------------------------------------------------


def test_a_changed_example_is_named_by_its_edges(copied: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "pictures"
    assert said(capsys, "--write", str(folder))[0] == 0
    assert said(capsys, "--check", str(folder))[0] == 0
    file = copied / "support.py"
    text = file.read_text("utf-8").replace("denied=asking", "denied=answered")
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "support.py").write_text(text, "utf-8")
    shutil.copy(copied / "weather.py", changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsm.cli._load.EXAMPLES_CHECKOUT", changed)
        code, out = said(capsys, "--check", str(folder))
    assert code == 1
    differing = {Path(line.split()[0]).name for line in out.splitlines() if line.endswith(" differs")}
    assert {"support.json", "support.dot", "support.mmd", "support-run.mmd", "index.md", "index.html"} <= differing
    assert not [name for name in differing if name.startswith("weather")]
    assert "    approving --denied--> answered: rerouted, was asking" in out


def test_an_example_that_is_gone_leaves_nothing_behind(copied: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "pictures"
    said(capsys, "--write", str(folder))
    (copied / "weather.py").unlink()
    code, out = said(capsys, "--check", str(folder))
    assert code == 1
    for name in ("weather.json", "weather-run.html", "weather-dark.svg", "weather-run.mmd"):
        assert f"{folder}/{name}: no example makes it" in out
    assert said(capsys, "--write", str(folder))[0] == 0
    assert list(folder.glob("weather*")) == []
    assert said(capsys, "--check", str(folder))[0] == 0


def test_a_page_that_was_edited_is_found_but_not_another_layout(folder: Path, capsys: Any) -> None:
    """SVG depends on the version of Graphviz, the words around it do not."""
    page = folder / "index.html"
    whole = page.read_text("utf-8")
    page.write_text(re.sub(r'(<svg[^>]*?) width="[\d.]+"', r'\1 width="999"', whole), "utf-8")
    assert page.read_text("utf-8") != whole
    assert said(capsys, "--check", str(folder))[0] == 0
    page.write_text(whole.replace("pip install claude-fsm", "pip install other"), "utf-8")
    (folder / "support-run.html").unlink()
    code, out = said(capsys, "--check", str(folder))
    assert code == 1
    assert f"{folder}/index.html differs" in out
    assert f"{folder}/support-run.html is missing" in out


def test_the_pictures_of_others_are_held_to_the_rows_they_were_made_from(folder: Path, capsys: Any) -> None:
    file = folder / "peers" / "peers.json"
    data = json.loads(file.read_text("utf-8"))
    data["machines"][0]["rows"].remove(["approving", "denied", "", "asking"])
    data["machines"][0]["rows"].append(["approving", "denied", "", "answered"])
    file.write_text(json.dumps(data))
    (folder / "peers" / "support-langgraph.svg").unlink()
    code, out = said(capsys, "--check", str(folder))
    assert code == 1
    assert "were made from other rows: run benchmarks/pictures.py" in out
    assert "    + approving --denied--> asking" in out
    assert "    - approving --denied--> answered" in out
    assert f"{folder}/peers/support-langgraph.svg is missing: run benchmarks/pictures.py" in out
    file.write_text('{"about": 1}')
    assert main(["diagram", "--check", str(folder)]) == 2
    assert "peers.json is not what benchmarks/pictures.py writes" in capsys.readouterr().err


def test_the_pictures_of_others_are_beside_ours(written: Path) -> None:
    data = json.loads((written / "peers" / "peers.json").read_text("utf-8"))
    markdown = (written / "peers.md").read_text("utf-8")
    for machine in data["machines"]:
        for peer in data["peers"]:
            assert f'src="peers/{machine["stem"]}-{peer["stem"]}.svg"' in markdown
            assert re.search(r"\d+\.\d+.*, \d{4}-\d\d-\d\d$", peer["made"])
            assert text(peer["made"]) in markdown
    assert 'src="peers/support-fsm.svg"' in markdown
    page = Page((written / "index.html").read_text("utf-8"))
    assert page.tags["img"] == len(data["machines"]) * len(data["peers"])


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_holds_nothing_but_what_is_on_the_list(written: Path) -> None:
    html = (written / "index.html").read_text("utf-8")
    page = Page(html)
    assert page.tags.keys() <= TAGS
    assert page.tags["style"] == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert all(value.startswith("data:image/svg+xml;base64,") for value in page.values("src"))
    assert len(page.values("id")) == len(set(page.values("id")))
    (policy,) = [value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src")]
    assert "default-src 'none'" in policy
    assert "script-src 'none'" in policy
    assert "unsafe" not in policy
    assert "url(" not in html.partition("<body>")[0]
    for href in page.values("href"):
        assert not re.match(r"[a-z]+:|//", href), "nothing leads out of the repository"
        name, _, fragment = href.partition("#")
        if not name:
            assert fragment in page.values("id")
        elif name.startswith("../"):
            assert (ROOT / "diagrams" / name).is_file(), name
        else:
            assert (written / name).is_file(), name


def test_what_an_example_says_stays_text(copied: Path, tmp_path: Path, capsys: Any) -> None:
    """Also one that has no script of its own: then its happy path is the run."""
    (copied / "evil.py").write_text(EVIL, "utf-8")
    folder = tmp_path / "pictures"
    assert said(capsys, "--write", str(folder))[0] == 0
    page = Page((folder / "index.html").read_text("utf-8"))
    assert page.tags.keys() <= TAGS
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    words = "".join(page.words)
    assert "alert(1)" in words
    assert '"""</code></pre><script>alert(3)</script> & <b>bold</b>."""' in words
    markdown = (folder / "index.md").read_text("utf-8")
    outside = re.sub(r"```python.*?```|`[^`\n]*`", "", markdown, flags=re.DOTALL)
    assert "<script" not in outside
    assert "<img src=x" not in outside
    assert said(capsys, "--check", str(folder))[0] == 0


@pytest.fixture(scope="module")
def browser() -> Any:
    with launched() as program:
        yield program


@pytest.mark.parametrize("wide", [360, 1400])
def test_in_a_browser_it_asks_for_nothing_and_fits(browser: Any, written: Path, tmp_path: Path, wide: int) -> None:
    html = (written / "index.html").read_text("utf-8")
    papers = []
    for scheme in ("light", "dark"):
        with opened(browser, html, tmp_path, wide=wide, color_scheme=scheme) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= wide
            assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
            paper = "getComputedStyle(document.querySelector('svg.fsm-auto > rect')).fill"
            papers.append((page.evaluate(paper), page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert all(picture == ground for picture, ground in papers)
    assert papers[0] != papers[1]


def test_on_paper_it_is_light_and_whole(browser: Any, written: Path, tmp_path: Path) -> None:
    with opened(browser, (written / "index.html").read_text("utf-8"), tmp_path, wide=760) as page:
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 760
        assert page.evaluate("[...document.querySelectorAll('pre')].every((pre) => pre.scrollWidth <= pre.clientWidth)")


def test_the_page_of_each_run_is_stepped_through_to_its_end(browser: Any, written: Path, tmp_path: Path) -> None:
    for example in examples():
        moves = sum(record.kind == "move" for record in example.records)
        with opened(browser, (written / f"{example.stem}-run.html").read_text("utf-8"), tmp_path) as page:
            page.keyboard.press("End")
            assert page.locator("#count").text_content() == f"{moves} / {moves}"
            assert example.records[-1].data["state"] in page.locator("#outcome").inner_text()
