"""What `show`, `show --messages` and `resume` tell: also what a fork said, and what Claude was told after a crash."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from test_runs_cli import _own_folder, api, chat, desk, refund, said, support

from fsm import run
from fsm._records import Record
from fsm.cli._load import load_workflow
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

__all__ = ["_own_folder", "api", "chat", "desk", "said", "support"]


def words(text: str) -> str:
    return " ".join(text.split())


def test_what_a_fork_said_is_told_in_place_of_the_input(desk: Any, said: Any, support: str, api: Any) -> None:
    desk([refund()], "Refund order 7", run_id="origin")
    assert said("fork", "origin", "--at", "1", "--say", "Refund order 8", "--id", "other", "-w", support)[0] == 0
    api([replies.text("Paid.")])
    assert said("resume", "other", "-w", support)[0] == 0
    for options in ([], ["--messages"], ["--json"]):
        _, out, _ = said("show", "other", *options)
        assert "Refund order 8" in out, options
        assert "Refund order 7" not in out, options
    assert "Refund order 7" in said("show", "origin")[1]
    assert "Refund order 8" in said("tail", "other")[1]


def test_what_a_fork_said_later_stands_where_it_was_said(desk: Any, said: Any, support: str, api: Any) -> None:
    desk([replies.tool_use("find_order", {"number": "7"}), replies.text("Here.")], "Where is it?", run_id="origin")
    (at,) = [r.seq for r in records("origin") if r.kind == "tool.end"]
    assert said("fork", "origin", "--at", str(at + 2), "--say", "Be brief.", "--id", "other", "-w", support)[0] == 0
    api([replies.text("Fine.")])
    assert said("resume", "other", "-w", support)[0] == 0
    out = words(said("show", "other", "--messages")[1])
    assert out.index("Where is it?") < out.index("find_order →") < out.index("Be brief.") < out.index("Fine.")
    assert "by the fork" in out
    shown = json.loads(said("show", "other", "--json", "--messages")[1])
    assert [text["text"] for text in shown["texts"]] == ["Where is it?", "Be brief.", "Fine."]


def records(run_id: str) -> list[Record]:
    with SqliteStore("runs.db") as store:
        return list(store.read(run_id))


def cut_after(run_id: str, kind: str) -> None:
    """The run as it stands when its process dies behind the first record of a kind."""
    found = records(run_id)
    end = next(r.seq for r in found if r.kind == kind) + 1
    with SqliteStore("runs.db") as store:
        opened = Record(0, "open", found[0].at, {**found[0].data, "run_id": "dead"})
        store.append("dead", [opened, *found[1:end]])


LOST = "is unknown: the process stopped while it ran"


PLAIN = '''
    from fsm import Approval, Claude, Final, Tools, Workflow, tool

    @tool
    def work() -> str:
        """Work."""
        return "worked"

    class Plain(Workflow):
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[work])
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking)

    class Asked(Workflow):
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[work])
        calling = Tools()
        approving = Approval()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking, outcome_unknown=approving)
        approving.on(approved=calling, denied=asking)
'''


def crashed(workflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "plain.py").write_text(textwrap.dedent(PLAIN))
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")
    with (
        SqliteStore("runs.db") as store,
        Emulator([replies.tool_use("work", {}), replies.text("ok")]).client() as client,
    ):
        run(load_workflow(f"plain.py:{workflow}"), "Hi.", client=client, journal=store, run_id="whole")
    cut_after("whole", "tool.begin")
    return f"plain.py:{workflow}"


def test_the_text_that_claude_reads_is_told(said: Any, api: Any, tmp_path: Path, monkeypatch: Any) -> None:
    target = crashed("Plain", tmp_path, monkeypatch)
    api([replies.text("I will look.")])
    code, out, _ = said("resume", "dead", "-w", target)
    assert code == 0
    for told in (words(out), words(said("show", "dead", "--messages")[1])):
        assert "work had begun when the process died" in told
        assert f"Claude is told: The outcome of this call {LOST}" in told


def test_where_a_person_is_asked_first_it_is_told_what_the_answer_says(
    said: Any, api: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    target = crashed("Asked", tmp_path, monkeypatch)
    api([])
    code, out, _ = said("resume", "dead", "-w", target)
    assert code == 3
    assert "work had begun when the process died" in words(out)
    assert LOST not in words(out)
    api([replies.text("Fine.")])
    code, out, _ = said("answer", "dead", "deny", "because", "It was done.", "-w", target)
    for told in (words(out), words(said("show", "dead", "--messages")[1])):
        assert "Claude is told: Not run again: the process stopped while this call ran" in told
        assert "A person looked into it: It was done." in told
