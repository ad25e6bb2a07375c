"""`fsm runs answer`, `rm` and `purge`: the run, question and calls that are meant, and no others (issue 4.3)."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import textwrap
import time

import pytest
import test_runs_cli as runs_cli

from fsm import approve, resume
from fsm._summary import Query
from fsm.cli._load import load_workflow
from fsm.cli._runs._open import at, name_of
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

# The fixtures are those of the other commands of `fsm runs`.
_own_folder, said, api, support = runs_cli._own_folder, runs_cli.said, runs_cli.api, runs_cli.support
desk, chat = runs_cli.desk, runs_cli.chat
refund, three, records, results = runs_cli.refund, runs_cli.three, runs_cli.records, runs_cli.results

LATE = '''
    from fsm import Approval, Claude, Final, Tools, Workflow, tool

    @tool(needs_approval=True)
    def pay(n: int, note: str = "", urgent: bool = False) -> str:
        """Pay."""
        return f"paid {n}"

    class Late(Workflow):
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[pay])
        calling = Tools()
        approving = Approval(within="1h")
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking, expired=asking)
'''


@pytest.fixture
def late(tmp_path, monkeypatch):
    """Records runs of payments in runs.db; what drives them is named by the environment."""
    from fsm import run

    (tmp_path / "late.py").write_text(textwrap.dedent(LATE))
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")
    monkeypatch.setenv("FSM_WORKFLOW", "late.py:Late")
    workflow = load_workflow("late.py:Late")

    def record(*calls, run_id="r", hours_ago=0.0):
        script = [replies.tool_uses(*(("pay", each) for each in calls))]
        with SqliteStore("runs.db") as store, Emulator(script).client() as client:
            begun = lambda: time.time() - hours_ago * 3600  # noqa: E731 - a clock
            return run(workflow, "Pay", client=client, journal=store, run_id=run_id, clock=begun)

    return record


def question(said, run_id: str) -> dict:
    return json.loads(said("show", run_id, "--json")[1])["question"]


# ── which run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_changes_a_run_takes_its_whole_id(desk, said, support, api):
    """A run that is gone is not stood in for by another one whose id begins so."""
    for name in ("order-1", "order-12"):
        desk([refund()], run_id=name)
    api([])
    assert said("rm", "order-1", "--yes")[0] == 0
    before = records("order-12")
    for verb, more in (
        ("rm", ["--yes"]),
        ("answer", ["approve", "--no-run", "-w", support]),
        ("answer", ["approve", "-w", support]),
        ("resume", ["-w", support]),
        ("cancel", ["-w", support]),
        ("fork", ["--move", "1", "-w", support]),
    ):
        code, _, err = said(verb, "order-1", *more)
        assert code == 2, verb
        assert "runs.db has no run 'order-1'" in err
        assert f"takes the whole id, did you mean  fsm runs {verb} order-12 ?" in err, verb
        assert records("order-12") == before, verb
    with SqliteStore("runs.db") as store:
        assert [each.run_id for each in store.runs()] == ["order-12"]
    assert said("show", "order-1")[0] == 0, "looking does no harm"
    assert said("verify", "order-1")[0] == 0
    desk([refund()], run_id="order-13")
    assert "order-12, order-13" in said("rm", "order-1", "--yes")[2]
    assert "`fsm runs ls` lists what it has" in said("rm", "zzz", "--yes")[2]


def test_purge_takes_the_runs_that_were_listed_and_as_they_were(desk, said, support, api, monkeypatch):
    """What came after the yes was asked for is no part of it, nor what was gone on with since."""
    old = {"clock": lambda: time.time() - 50 * 86400}
    for name in ("goes-on", "waits"):
        desk([refund()], run_id=name, tags={"tenant": "a"}, **old)
    api([replies.text("Paid."), replies.text("never sent")])

    def meanwhile(prompt):
        """While a person thinks: one run is answered and parks again, and a new one is there."""
        script = [refund(euros=1.0)]
        with SqliteStore("runs.db") as store, Emulator(script).client() as client:
            shop = sys.modules[load_workflow(support).__module__].Shop
            options = {"journal": store, "client": client, "deps": shop(), **old}
            result = resume(load_workflow(support), "goes-on", answer=approve(), **options)
            assert result.verdict.reason == "waiting_person"
        desk([refund()], run_id="new", tags={"tenant": "a"}, **old)
        return "y"

    monkeypatch.setattr("builtins.input", meanwhile)
    monkeypatch.setattr(sys, "stdin", _Terminal())
    code, out, _ = said("purge", "--tag", "tenant=a", "--status", "parked")
    assert code == 1
    assert "deleted: 1 run\n" in out
    assert "goes-on stays: it went on meanwhile" in out
    with SqliteStore("runs.db") as store:
        assert sorted(each.run_id for each in store.runs()) == ["goes-on", "new"]


def test_a_run_that_is_taken_up_between_look_and_lock_stays(late):
    """Whether it is as it was is looked at again where nobody can come between any more."""
    late({"n": 1}, {"n": 2})
    workflow = load_workflow("late.py:Late")

    class Slow(SqliteStore):
        def claim(self, run_id):
            with SqliteStore("runs.db") as other:
                call = other_call(other, run_id)
                resume(workflow, run_id, journal=other, answer={call: approve()}, client=Emulator([]).client())
            super().claim(run_id)

    def other_call(store, run_id):
        return [r.data["calls"][0] for r in store.read(run_id) if r.kind == "asked"][-1]

    with Slow("runs.db") as store:
        seen = Query(only={"r": store.summary("r").records})
        assert store.purge(seen, unfinished=True) == ()
        assert store.summary("r").records > seen.only["r"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# ── which question ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_names_the_question_that_was_shown(late, said, api):
    late({"n": 1})
    number = question(said, "r")["number"]
    assert json.loads(said("ls", "--json")[1])[0]["question"] == number
    assert f"answer it:  fsm runs answer r --question {number}" in said("show", "r")[1]
    api([replies.tool_use("pay", {"n": 10})])
    code, out, _ = said("answer", "r", "approve", "--question", str(number))
    assert code == 3
    later = question(said, "r")["number"]
    assert later > number
    assert f"fsm runs answer r --question {later}" in out
    before = records("r")
    for more in ([], ["--no-run"]):
        code, _, err = said("answer", "r", "approve", "--question", str(number), *more)
        assert code == 2
        assert f"question {number} of run 'r' was answered already" in err
        assert f"asked now is question {later}, in state 'approving': pay; nothing was recorded" in err
    assert records("r") == before
    api([replies.text("ok")])
    assert said("answer", "r", "deny", "--question", str(later))[0] == 0
    code, _, err = said("answer", "r", "deny", "--question", str(later))
    assert (code, "was answered already, and it has ended in 'done'" in err) == (2, True)


def test_words_for_a_question_whose_time_ran_out_answer_no_later_one(late, said, api):
    """What comes after the expiry may be a question, too: nobody saw it, so nothing approves it."""
    late({"n": 1}, hours_ago=2)
    api([replies.tool_use("pay", {"n": 1000}), replies.text("never sent")])
    code, out, _ = said("answer", "r", "approve")
    assert code == 3
    assert "The answer came too late and was not recorded" in out
    assert [r.data["event"] for r in records("r") if r.kind == "move"][-2:] == ["tool_use", "approval_needed"]
    assert "paid" not in json.dumps([r.data for r in records("r") if r.kind == "tool.end"])
    assert not [r for r in records("r") if r.kind == "answer"]


def test_an_answer_that_came_too_late_is_told_and_is_none(late, said, api):
    """U1: as `--help` promises, 3 where nothing was answered; with --no-run, too."""
    late({"n": 1}, hours_ago=2)
    before = records("r")
    code, out, _ = said("answer", "r", "approve", "--no-run")
    assert code == 3
    assert "The answer came too late and was not recorded" in out
    assert "✓" not in out
    assert records("r") == before
    assert "go on:  fsm runs resume r" in out
    api([replies.text("Too late, then.")])
    code, out, _ = said("answer", "r", "approve")
    assert code == 3
    assert "The answer came too late and was not recorded" in out
    assert "expired" in [r.data["event"] for r in records("r") if r.kind == "move"]


# ── which calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["t", "too", "toolu_", "ref", "refunds", "END", ""])
def test_a_word_is_no_call(desk, said, support, name):
    """Every id begins alike, so its beginning or end names nothing: a slip of the finger is no decision."""
    desk([refund()], run_id="asks")
    before = records("asks")
    name = question(said, "asks")["calls"][0]["id"][-6:] if name == "END" else name
    code, _, err = said("answer", "asks", "approve", name, "--no-run", "-w", support)
    assert code == 2
    assert f"no open call is meant by {name!r}: a call is its number, its tool's name or its whole id" in err
    assert records("asks") == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["deny", "too", "much"], "deny because 'too much'"),
        (["deny", "1", "too", "much"], "deny 1 because 'too much'"),
        (["deny", "1", "because", "too", "much"], "deny 1 because 'too much'"),
        (["approve", "2", "deny", "1", "3", "no"], "deny 1 3 because no"),
    ],
)
def test_a_reason_without_because_says_how_to_give_it(desk, said, support, words, line):
    desk(three(), run_id="asks")
    code, _, err = said("answer", "asks", *words, "--no-run", "-w", support)
    assert code == 2
    assert f"a reason follows because:  {line}" in err
    assert "3 open calls" not in err


# ── what is decided ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_decision_that_was_made_is_shown_with_what_is_still_asked(desk, said, support, api):
    desk(three(), run_id="asks")
    words = ["edit", "1", '{"number": "7", "euros": 5}', "deny", "3", "because", "not\x1b[2J again"]
    assert said("answer", "asks", *words, "--no-run", "-w", support)[0] == 0
    shown = said("show", "asks")[1]
    api([])
    driven = said("resume", "asks", "-w", support)[1]
    for out in (shown, driven):
        assert re.search(r"1  refund  toolu_\w+  changed and approved\n +number +\"7\"\n +euros +5\n", out)
        assert re.search(r"3  refund  toolu_\w+  denied: not again\n", out)
        assert re.search(r"2  refund  toolu_\w+\n +number +\"8\"\n +euros +8.0\n", out)
        assert "\x1b[2J" not in out
    assert [c["number"] for c in question(said, "asks")["calls"]] == [2]
    decided = question(said, "asks")["decided"]
    assert [(c["number"], c["decision"], c["input"].get("euros"), c["reason"]) for c in decided] == [
        (1, "edit", 5, None),
        (3, "deny", 9.0, "not\x1b[2J again"),
    ]


def test_answering_on_a_terminal_keeps_what_was_decided(desk, said, support, monkeypatch):
    """U6: Enter leaves one call for later, and not what was decided before it."""
    desk(three(), run_id="asks")
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n\nd\nno\n"))
    code, out, _ = said("answer", "asks", "--no-run", "-w", support)
    assert code == 0
    assert "2 of 3 decided; what is left is asked again" in out
    assert [c["number"] for c in question(said, "asks")["calls"]] == [2]


# ── hints that can be pasted ────────────────────────────────────────────────────────────────────────────────────────


def test_the_line_that_show_gives_can_be_typed(desk, said, support, monkeypatch):
    """U18: with its workflow where that is known, else with a place to put it."""
    desk([refund()], run_id="asks")
    monkeypatch.delenv("FSM_JOURNAL")
    number = question_of("asks")
    line = f"fsm runs answer asks --question {number}"
    assert f"{line} --workflow FILE.py:Support --journal runs.db" in said("show", "asks", "-j", "runs.db")[1]
    assert "FILE.py is the file with the class Support" in said("show", "asks", "-j", "runs.db")[1]
    monkeypatch.setenv("FSM_WORKFLOW", support)
    out = said("show", "asks", "-j", "runs.db")[1]
    assert f"{line} --journal runs.db" in out
    assert "FILE.py" not in out
    typed = shlex.split(re.search(r"fsm runs (answer asks .*)", out)[1])
    assert said(*typed, "approve", "--no-run")[0] == 0


def question_of(run_id: str) -> int:
    with SqliteStore("runs.db") as store:
        return store.summary(run_id).question


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("postgresql://fsm@/postgres?host=/tmp/s&options=-csearch_path%3Da", None),
        ("postgresql://anna:hunter2@db.example:5433/runs?sslmode=require", "postgresql://anna@db.example:5433/runs?sslmode=require"),
        ("postgresql://anna:hun#t?er2@db/runs?password=hunter3&a=b", "postgresql://anna@db/runs?a=b"),
        ("postgres://db/runs?a=b&PASSWORD=hunter3", "postgres://db/runs?a=b"),
        ("postgresql://db/runs?passw%6Frd=hunter3&sslpassword=hunter4", "postgresql://db/runs"),
        ("postgresql://:hunter2@[::1]:5432,b:5433/runs", "postgresql://@[::1]:5432,b:5433/runs"),
        ("postgresql://anna:hunter2/3@db/runs", "postgresql://..."),
        ("postgresql://anna@/runs?user=b@c", None),
    ],
)  # fmt: skip
def test_of_the_url_of_a_journal_only_the_password_is_hidden(where, shown):
    """So the commands that are suggested reach the same journal; the shell is given it in quotes."""
    assert name_of(where) == (shown or where)
    options = at(None, where).options
    assert shlex.split(options) == ["--journal", shown or where]
    assert "hunter" not in options


# ── edit ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_edit_says_that_it_replaces_all_of_the_input(late, said):
    late({"n": 1, "note": "it's\u202e", "urgent": True})
    assert "the whole new input" in re.sub(r"\s+", " ", said("answer", "--help")[1])
    before = records("r")
    code, _, err = said("answer", "r", "edit", '{"note": "new"}', "--no-run")
    assert code == 2
    assert '"n" is a required property' in err
    assert "edit takes the whole new input; the present one is" in err
    present = re.search(r"the present one is  (.*)", err)[1]
    assert json.loads(shlex.split(present)[0]) == {"n": 1, "note": "it's\u202e", "urgent": True}
    assert "\u202e" not in err
    assert records("r") == before
    code, out, _ = said("answer", "r", "edit", '{"n": 2, "urgent": true}', "--no-run")
    assert code == 0
    assert "pay (toolu_" in out
    assert "goes without note, which it had" in out


def test_edit_on_a_terminal_shows_the_present_input_to_copy(late, said, monkeypatch):
    late({"n": 1, "note": "x"})
    monkeypatch.setattr(sys, "stdin", io.StringIO('e\n{"n": 2}\n'))
    code, out, _ = said("answer", "r", "--no-run")
    assert code == 0
    assert 'It is:  {"n": 1, "note": "x"}' in out
    assert "Without note, which it had." in out


# ── what else can be done ───────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_key_the_answer_can_still_be_recorded(desk, said, support, monkeypatch):
    desk([refund()], run_id="asks")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    code, _, err = said("answer", "asks", "approve", "-w", support)
    assert code == 2
    assert "no API key" in err
    assert "only record the answer: --no-run" in err
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")


def test_where_decisions_are_asked_for_no_words_are_offered(desk, said, support):
    desk([refund()], run_id="asks")
    for words in (["say", "hello"], ["approve", "1", "say", "x"]):
        err = said("answer", "asks", *words, "--no-run", "-w", support)[2]
        assert "edit [CALL] JSON" in err
        assert "say TEXT" not in err
