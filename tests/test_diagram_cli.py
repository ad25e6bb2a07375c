"""`fsm diagram`: every format and option as a user types it, what it refuses, and what `--check` says that differs."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fsm import run
from fsm.cli import main
from fsm.cli._load import load_workflow
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

DESK = """
    from fsm import Approval, Claude, Final, Tools, Workflow, tool

    @tool(needs_approval=True)
    def refund(number: str) -> str:
        \"\"\"Pay an order back.\"\"\"
        return number

    class Desk(Workflow):
        '''Refunds.'''
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[refund])
        calling = Tools()
        approving = Approval(within="1d")
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking, expired=asking)
"""
OLD = DESK.replace("denied=asking", "denied=done").replace("class Desk", "class Was")


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FSM_JOURNAL", raising=False)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    for name, text in (("desk.py", DESK), ("old.py", OLD)):
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def said(capsys):
    """Runs `fsm diagram …` in this process: exit code, what it printed, what it complained about."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["diagram", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def recorded():
    """Three runs of the desk in runs.db; gives the id of the first, in which nothing was asked for."""
    workflow = load_workflow("desk.py")
    ids = []
    for _ in range(3):
        with SqliteStore("runs.db") as store, Emulator([replies.text("Done.")]).client() as client:
            ids.append(run(workflow, "Hello there", client=client, journal=store).run_id)
    return ids[0]


# ── formats ─────────────────────────────────────────────────────────────────────────────────────────────────────────

BEGINNINGS = {
    "x.svg": b"<svg ",
    "x.html": b"<!doctype html>",
    "x.mmd": b'---\ntitle: "desk"\n---\n%%{init',
    "x.mermaid": b'---\ntitle: "desk"\n---\n%%{init',
    "x.dot": b"digraph",
    "x.gv": b"digraph",
    "x.md": b"| state",
    "x.json": b'{\n "format"',
    "X.SVG": b"<svg ",
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_the_file_name_says_the_format(said, name):
    assert said("desk.py", "-o", name) == (0, f"Desk: {name}\n", "")
    assert Path(name).read_bytes().lower().startswith(BEGINNINGS[name])


@pytest.mark.skipif(not shutil.which("dot") and not os.environ.get("CI"), reason="needs Graphviz: apt install graphviz")
def test_images_are_written_and_piped(said, monkeypatch):
    for name, begin in (("x.png", b"\x89PNG"), ("x.pdf", b"%PDF-")):
        assert said("desk.py", "-o", name)[0] == 0
        assert Path(name).read_bytes().startswith(begin)
    piped = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", piped)
    assert main(["diagram", "desk.py", "--format", "png"]) == 0
    assert piped.buffer.getvalue().startswith(b"\x89PNG")


def test_what_is_binary_is_not_written_to_a_terminal(root):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "fsm.cli", "diagram", "desk.py", "--format", "png"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"png is binary and would garble the terminal: write it with -o desk.png" in done.stderr


def test_without_dot_an_image_is_refused_with_what_to_install(said, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = said("desk.py", "-o", "x.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "apt install graphviz" in err
    assert not Path("x.png").exists()


def test_a_state_diagram_is_mermaid_too(said):
    assert said("desk.py", "--format", "state", "-o", "x.mmd")[0] == 0
    assert "stateDiagram-v2" in Path("x.mmd").read_text("utf-8")


# ── how much, in which colours, in which groups ─────────────────────────────────────────────────────────────────────


def test_simple_and_full_are_short_for_detail(said):
    drawn = {
        option: said("desk.py", *option.split())[1]
        for option in ("--simple", "--detail simple", "--full", "", "--detail full")
    }
    assert drawn["--simple"] == drawn["--detail simple"] != drawn[""]
    assert drawn["--full"] == drawn["--detail full"] != drawn[""]
    assert said("desk.py", "--simple", "--detail", "simple")[1] == drawn["--simple"]


LARGE = """
    from fsm import Claude, Final, Workflow
    states = {f"s{n}": Claude(model="claude-sonnet-5", max_tokens=5, prompt="x") for n in range(620)}
    rows = [["end_turn", f"s{n}", f"s{n + 1}"] for n in range(620)]
    Large = Workflow.from_transitions(name="Large", states={**states, "s620": Final()}, transitions=rows, check=False)
"""


def test_a_picture_that_github_will_not_draw_is_warned_of(said):
    Path("large.py").write_text(textwrap.dedent(LARGE), encoding="utf-8")
    code, out, err = said("large.py", "--simple")
    assert code == 0
    assert out.startswith('---\ntitle: "Large"')
    assert "fsm: Large: this picture has 6" in err
    assert "(--groups, --fold), or take SVG" in err


def test_a_theme_is_that_of_the_picture(said):
    texts = [said("desk.py", "--format", "svg", "--theme", theme)[1] for theme in ("light", "dark", "auto")]
    assert len(set(texts)) == 3
    assert "prefers-color-scheme" in texts[2]


def test_groups_are_framed_and_folded(said):
    groups = ("--groups", "work=asking, calling", "--groups", "people=approving")
    framed = said("desk.py", "--format", "mermaid", *groups)[1]
    assert framed.count("subgraph g") == 2
    assert 'subgraph g1 ["work"]' in framed
    folded = said("desk.py", *groups, "--fold", "work")[1]
    assert "asking" not in "".join(line for line in folded.splitlines() if re.match(r"\s+s\d", line))
    assert folded != said("desk.py", *groups, "--fold", "all")[1] != framed
    assert "subgraph g1" in said("desk.py", "--groups", "history")[1]


# ── runs and versions ───────────────────────────────────────────────────────────────────────────────────────────────


def test_one_run_and_all_runs_of_a_journal_are_drawn(said, recorded):
    one = said("desk.py", "--run", recorded[:12], "--journal", "runs.db", "--format", "json")[1]
    assert [row["seqs"] for row in json.loads(one)["transitions"] if row["count"]] == [[1]]
    assert json.loads(one)["run"]["current"] == "done"
    every = json.loads(said("desk.py", "--runs", "runs.db", "--format", "json")[1])
    assert every["run"]["runs"] == 3
    assert [row["count"] for row in every["transitions"] if row["count"]] == [3]


def test_a_page_of_a_run_may_leave_out_what_was_said(said, recorded):
    for option, is_there in (("--bodies", True), ("--no-bodies", False)):
        assert said("desk.py", "--run", recorded, "-j", "runs.db", option, "-o", "run.html")[0] == 0
        assert ("Hello there" in Path("run.html").read_text("utf-8")) is is_there


@pytest.mark.parametrize("old", ["old.py:Was", "old.json"])
def test_a_difference_is_drawn_and_told(said, old):
    """The older version is another workflow, or the JSON of it that was kept."""
    assert said("old.py", "-o", "old.json")[0] == 0
    code, out, _ = said("desk.py", "--against", old, "-o", "x.svg")
    assert code == 0
    assert out == "Desk: x.svg\n    approving --denied--> asking: rerouted, was done\n"
    assert "rerouted, was done" in Path("x.svg").read_text("utf-8")
    assert (
        said("desk.py", "--against", "desk.py", "-o", "y.svg")[1]
        == "Desk: y.svg\n    no difference in states, rows and limits\n"
    )


EVIL = """
    from fsm import Claude, Final, Workflow
    states = {"a": Claude(model="claude-sonnet-5", max_tokens=5, prompt="x"), "b": Final()}
    rows = [["end_turn", "a", "b"]]
    Evil = Workflow.from_transitions(name="De\\x1b]0;t\\x07\\x1b[31msk", states=states, transitions=rows, check=False)
"""


def test_what_is_told_of_a_difference_steers_no_terminal(said):
    """X8: names of states in a file that anybody wrote, and of workflows."""
    said("old.py", "-o", "old.json")
    whole = json.loads(Path("old.json").read_text("utf-8"))
    evil = dict(whole["states"][0], name="gone\x1b]0;title\x07\x1b[31m\x9b2J\u202e\rred", initial=False)
    whole["states"].append(evil)
    Path("old.json").write_text(json.dumps(whole))
    Path("evil.py").write_text(textwrap.dedent(EVIL), encoding="utf-8")
    code, out, err = said("evil.py", "--against", "old.json", "-o", "x.svg")
    assert (code, err) == (0, "")
    assert "gone red: removed" in out
    assert out.startswith("Desk: x.svg")
    assert [char for char in out if (ord(char) < 32 and char != "\n") or char in "\x7f\x9b\u202e"] == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe{}", "old.json is no text in UTF-8"),
        (b"[" * 100_000, "old.json: this is no graph as JSON (fsm-graph/1): it is nested too deep"),
        (b'{"format": "fsm-graph/1", "name": null}', "old.json: this is no graph as JSON (fsm-graph/1): name is"),
    ],
)
def test_a_file_that_is_no_older_version_is_one_line(said, data, words):
    Path("old.json").write_bytes(data)
    code, out, err = said("desk.py", "--against", "old.json", "-o", "x.svg")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_run_that_was_erased_is_drawn_by_what_happened(said, recorded):
    with SqliteStore("runs.db") as store:
        store.erase(recorded)
    code, out, err = said("desk.py", "--run", recorded, "--journal", "runs.db", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["run"]["path"] == [[json.loads(out)["run"]["path"][0][0], "asking", "end_turn", 0, "done"]]
    assert said("desk.py", "--run", recorded, "--journal", "runs.db", "-o", "x.html")[0] == 0


def test_a_result_whose_run_was_erased_is_drawn(said):
    with SqliteStore("runs.db") as store, Emulator([replies.text("Done.")]).client() as client:
        result = run(load_workflow("desk.py"), "Hello there", client=client, journal=store)
        store.erase(result.run_id)
        assert result.diagram("table", against=result)
        assert json.loads(result.diagram("json"))["run"]["current"] == "done"


# ── what cannot be done ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nothing to draw: name a workflow as file.py:Class"),
        (["desk.py", "--format", "jpeg"], "--format is one of svg, png, pdf, html, mermaid, state,"),
        (["desk.py", "-o", "x.jpeg"], "x.jpeg says no format: end it in .svg, .png, .pdf, .html, .mmd,"),
        (["desk.py", "-o", "x.svg", "--format", "png"], "x.svg is named as svg, and --format says png: leave"),
        (["desk.py", "--theme", "blue"], "--theme is one of light, dark, auto, not 'blue'"),
        (["desk.py", "--simple", "--full"], "--simple, --full and --detail say the same thing: give one of them"),
        (["desk.py", "--groups", "work"], "--groups takes NAME=STATE,STATE or one of history, prefix, not 'work'"),
        (["desk.py", "--groups", "a=asking", "--groups", "a=done"], "--groups names 'a' twice"),
        (["desk.py", "--groups", "a=nowhere"], "groups: 'a' names 'nowhere', which is no state of Desk: asking"),
        (["desk.py", "--fold", "b"], "--fold draws a group as one box, and Desk has none: give --groups too"),
        (["desk.py", "--groups", "a=asking", "--fold", "b"], "folded names 'b', but the groups are a"),
        (["desk.py", "--run", "x"], "no journal is named: give --journal runs.db"),
        (["desk.py", "--run", "x", "-j", "none.db"], "there is no journal none.db"),
        (["desk.py", "--runs", "none.db"], "there is no journal none.db"),
        (["desk.py", "--run", "x", "--runs", "y"], "--run draws one run and --runs all of them: give one of the two"),
        (["desk.py", "--against", "none.json"], "none.json cannot be read: No such file"),
        (["desk.py", "--against", "none.py"], "none.py"),
        (["desk.py", "old.py", "--format", "svg"], "svg holds one picture and 2 are named (Desk, Was)"),
        (["desk.py", "old.py", "-o", "x.dot"], "-o takes one picture and 2 are named (Desk, Was): run it"),
        (["desk.py", "old.py", "--run", "x"], "--run and --against are about one workflow, and 2 are named"),
        (["--check", "a", "--write", "b"], "--write DIR and --check DIR draw all examples"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_with_the_remedy(said, arguments, expected):
    code, out, err = said(*arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1


def test_a_run_of_another_workflow_is_refused(said, recorded):
    assert f"run {recorded} is a run of Desk, not of Was" in said("old.py", "--run", recorded, "-j", "runs.db")[2]
    assert (
        "runs.db has no run of Was: `fsm runs ls --journal runs.db` lists them"
        in said("old.py", "--runs", "runs.db")[2]
    )


def test_the_help_fits_a_terminal_of_80_columns(root):
    done = subprocess.run(
        [sys.executable, "-m", "fsm.cli", "diagram", "--help"],
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    for option in ("--simple", "--full", "--theme", "--groups", "--fold", "--run", "--runs", "--against", "--check"):
        assert option in done.stdout


# ── the folder that is committed ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "pictures"
    assert main(["diagram", "--write", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that may be changed."""
    return Path(shutil.copytree(written, tmp_path / "pictures"))


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text("utf-8")
    for old, new in changes:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def test_every_example_has_its_files_and_they_are_those_of_the_code(said, folder, root):
    names = {path.name for path in folder.iterdir()}
    for example in (root / "examples").glob("*.py"):
        assert {f"{example.stem}.{suffix}" for suffix in ("svg", "dot", "mmd", "json")} <= names
    assert said("--check", str(folder))[0] == 0


def test_the_comparison_names_the_rows_and_states_that_differ(said, folder):
    """Removed, added, rerouted and changed rows, a state that is made of something else: not only files."""
    graph = json.loads((folder / "support.json").read_text("utf-8"))
    rows = {(row["source"], row["event"]): row for row in graph["transitions"]}
    rows["approving", "denied"]["dest"] = "answered"
    rows["asking", "tool_use"]["guard"], rows["asking", "tool_use"]["guard_doc"] = "few_calls", ""
    graph["transitions"].remove(rows["calling", "approval_needed"])
    graph["transitions"].append({**rows["asking", "end_turn"], "event": "refusal", "index": 1})
    graph["states"][0]["model"] = "claude-opus-4-8"
    (folder / "support.json").write_text(json.dumps(graph))
    code, out, _ = said("--check", str(folder))
    assert code == 1
    assert out.splitlines()[:-1] == [
        f"{folder}/support.json differs",
        "    asking --tool_use--> calling: guard was few_calls",
        "    asking --refusal--> answered: removed",
        "    calling --approval_needed--> approving: added",
        "    approving --denied--> asking: rerouted, was answered",
        "    asking: model was claude-opus-4-8, is claude-sonnet-5",
    ]
    assert out.splitlines()[-1] == f"Write them anew with  fsm diagram --write {folder}"


def test_the_comparison_reads_a_text_that_was_edited_by_hand(said, folder):
    """The graph is the same, so the lines are told, with the names of the states for the ids."""
    edit(folder / "support.mmd", ('  s1 -->|"tool_use"| s2\n', '  s1 -->|"tool_used"| s3\n'))
    edit(folder / "support.dot", ('[label=" denied \\l expired \\l"', '[label=" denied \\l"'))
    code, out, _ = said("--check", str(folder))
    assert code == 1
    lines = out.splitlines()
    assert f"{folder}/support.mmd differs" in lines
    assert "    - asking --tool_used--> approving" in lines
    assert "    + asking --tool_use--> calling" in lines
    assert "    - approving --denied--> asking" in lines
    assert "    + approving --denied, expired--> asking" in lines


def test_the_comparison_says_so_where_only_lines_moved(said, folder):
    edit(folder / "chat.json", ('"strict": false', '"strict": true'))
    path = folder / "weather.json"
    path.write_text(re.sub(r"weather\.py:(\d+)", r"weather.py:1\1", path.read_text("utf-8")), "utf-8")
    out = said("--check", str(folder))[1]
    assert "no row differs: only the lines of the declarations" in out
    assert "another strict" in out


def test_missing_and_left_over_files_are_named_and_made_right(said, folder):
    (folder / "weather.svg").unlink()
    (folder / "weather.json").unlink()
    (folder / "gone.dot").write_text("digraph {}")
    (folder / "chain.json").write_text("{")
    code, out, _ = said("--check", str(folder))
    assert code == 1
    assert f"{folder}/weather.svg is missing" in out
    assert f"{folder}/weather.json is missing" in out
    assert f"{folder}/gone.dot: no example makes it" in out
    assert "this is no graph as JSON (fsm-graph/1)" in out
    assert said("--write", str(folder))[0] == 0
    assert not (folder / "gone.dot").exists()
    assert said("--check", str(folder))[0] == 0
