"""`fsm runs`: runs that real drives recorded in SQLite are listed, shown, followed, answered, gone on with, taken away.

Everything goes through the command line; the API is the emulator, in this process or on a socket.
"""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import shlex
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fsm import Claude, Final, RunError, Workflow, guard, resume, run
from fsm._actions import OpenCall, Question
from fsm._terminal import ask
from fsm.cli import main
from fsm.cli._load import load_workflow
from fsm.cli._runs._open import at, name_of
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies, serve

CHAT = '''
    from fsm import Claude, Final, Human, Tools, Workflow, said_is, tool

    class Chat(Workflow):
        """Talks until /quit."""
        asking = Claude(model="claude-sonnet-5", max_tokens=100)
        listening = Human(within="1h")
        bye = Final()
        asking.on(end_turn=listening)
        listening.on(said=[bye.when(said_is("/quit")), asking], expired=bye)
'''
SLOW = '''
    import os, pathlib, time
    from fsm import Claude, Final, Tools, Workflow, tool

    @tool
    def work() -> str:
        """Take long."""
        pathlib.Path("entered").touch()
        time.sleep(60 if os.environ.get("SLOW") else 0)
        return "worked"

    class Slow(Workflow):
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[work])
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking)
'''


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    """A folder of one's own, no journal and no workflow named by the environment; imports are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FSM_JOURNAL", raising=False)
    monkeypatch.delenv("FSM_WORKFLOW", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def said(capsys):
    """Runs `fsm runs …` in this process: exit code, what it printed, what it complained about."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["runs", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def api(monkeypatch):
    """Serves replies, with the environment of a user who has a key; gives the emulator."""
    servers = []

    def start(script) -> Emulator:
        emulator = Emulator(script)
        servers.append(serve(emulator))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", servers[-1].url)
        return emulator

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def support(root):
    return f"{root / 'examples' / 'support.py'}:Support"


@pytest.fixture
def desk(support, monkeypatch):
    """Records runs of the support desk in runs.db, which the environment names; gives the results' ids."""
    workflow = load_workflow(support)
    shop = sys.modules[workflow.__module__].Shop
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")

    def record(script, words="Refund order 7", **options) -> str:
        with SqliteStore("runs.db") as store, Emulator(script).client() as client:
            options = {"deps": shop(), "sleep": lambda seconds: None, **options}
            return run(workflow, words, client=client, journal=store, **options).run_id

    return record


@pytest.fixture
def chat(tmp_path, monkeypatch):
    """The same for a conversation with a person."""
    (tmp_path / "chat.py").write_text(textwrap.dedent(CHAT))
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")
    monkeypatch.setenv("FSM_WORKFLOW", "chat.py:Chat")
    workflow = load_workflow("chat.py:Chat")

    def record(script, words="Hello", **options) -> str:
        with SqliteStore("runs.db") as store, Emulator(script).client() as client:
            return run(workflow, words, client=client, journal=store, **options).run_id

    return record


def refund(number="7", euros=249.0, **more):
    return replies.tool_use("refund", {"number": number, "euros": euros, **more}, text="May I?")


def three() -> list:
    return [replies.tool_uses(*(("refund", {"number": str(n), "euros": float(n)}) for n in (7, 8, 9)))]


def away(body):
    del body
    return replies.overloaded()


def records(run_id: str) -> list:
    with SqliteStore("runs.db") as store:
        return list(store.read(run_id))


def results(emulator: Emulator, request: int = 0) -> list[dict]:
    return [b for b in emulator.requests[request].body["messages"][-1]["content"] if b["type"] == "tool_result"]


# ── which journal, which run ────────────────────────────────────────────────────────────────────────────────────────


def test_every_command_explains_itself_and_its_exit_codes(said):
    code, out, _ = said("--help")
    assert code == 0
    commands = re.findall(r"^  ([a-z]+) {2,}\S", out, re.MULTILINE)
    assert sorted(commands) == sorted(
        ["ls", "show", "tail", "answer", "resume", "cancel", "fork", "compare", "verify", "rm", "purge"]
    )
    for command in commands:
        code, out, _ = said(command, "--help")
        assert code == 0
        assert "FSM_JOURNAL" in out, command
        assert re.search(r"\bExits\s+with\s+0\b", out), command


def test_a_journal_is_named_and_never_made(said, tmp_path):
    assert "no journal is named: give --journal runs.db, or set FSM_JOURNAL" in said("ls")[2]
    (tmp_path / "other.db").touch()
    for words in (["ls", "other.db"], ["other.db"]):
        code, _, err = said(*words)
        assert code == 2
        assert "A journal is named with --journal other.db. See: fsm runs" in err
    for words in (["ls", "nothing.db"], ["ls", "x", "-j", "other.db"], ["ls", "x", "--journal=other.db"]):
        assert "named with" not in said(*words)[2]
    code, _, err = said("ls", "--journal", "runs.db")
    assert code == 2
    assert "there is no journal runs.db; there is other.db. `fsm run TARGET --journal runs.db` makes one" in err
    assert not (tmp_path / "runs.db").exists()
    (tmp_path / "notes.db").write_text("these are notes, no journal " * 40)
    code, _, err = said("ls", "--journal", "notes.db")
    assert (code, "Traceback" in err) == (2, False)
    assert (tmp_path / "notes.db").read_text().startswith("these are notes")


def test_a_run_is_named_by_the_beginning_of_its_id(desk, said):
    for name in ("alpha-1", "alpha-2", "beta"):
        desk([replies.text("ok")], run_id=name)
    assert said("show", "be")[0] == 0
    code, _, err = said("show", "alpha")
    assert code == 2
    assert "several runs begin with 'alpha': alpha-1, alpha-2. Give more of the id" in err
    assert "has no run 'betta'; did you mean beta?" in said("show", "betta")[2]
    assert "has no run 'zzz': `fsm runs ls` lists what it has" in said("show", "zzz")[2]


def test_the_password_of_a_database_is_not_shown():
    where = "postgresql://anna:hunter2@db.example/runs?password=hunter3"
    assert name_of(where) == "postgresql://anna@db.example/runs"
    assert "hunter" not in at(None, where).options


# ── ls ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def several(desk):
    desk([replies.text("It is here.")], run_id="ended-a", tags={"tenant": "a"})
    desk([refund()], run_id="asks-b", tags={"tenant": "b", "user": "anna"})
    desk(away, run_id="away-b", tags={"tenant": "b"})
    desk([replies.refusal()], run_id="refused", clock=lambda: time.time() - 40 * 86400)


def listed(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines()[1:] if line.strip()]


def test_ls_shows_what_each_run_waits_for_newest_first(several, said):
    code, out, err = said("ls")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["run", "workflow", "state", "status", "age", "turns", "tokens", "price", "tags"]
    assert listed(out) == ["away-b", "asks-b", "ended-a", "refused"]
    assert "API away" in lines[1]
    assert "asks person" in lines[2]
    assert "tenant=b user=anna" in lines[2]
    assert re.search(r"answered +ended", lines[3])
    assert re.search(r"refused +ended, not ok +40 d", lines[4])


def test_an_own_final_state_that_is_no_success_is_told_without_the_workflow(said, monkeypatch):
    """What `Final(ok=False)` says is recorded with the end of the run."""
    states = {"asking": Claude(model="claude-sonnet-5", max_tokens=9), "taken": Final(), "turned_down": Final(ok=False)}
    rows = [
        {"trigger": "end_turn", "source": "asking", "dest": "turned_down", "conditions": "is_no"},
        ["end_turn", "asking", "taken"],
    ]
    guards = {"is_no": guard(name="is_no")(lambda facts: facts.text == "no")}
    workflow = Workflow.from_transitions(name="Offer", states=states, transitions=rows, guards=guards)
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")
    ended = {}
    with SqliteStore("runs.db") as store:
        for run_id, text in (("yes", "yes"), ("no", "no")):
            with Emulator([replies.text(text)]).client() as client:
                ended[run_id] = run(workflow, "Deal?", client=client, journal=store, run_id=run_id).ok
        assert {summary.run_id: summary.ok for summary in store.runs()} == ended == {"yes": True, "no": False}
    _, out, _ = said("ls")
    assert re.search(r"taken +ended  ", out)
    assert re.search(r"turned_down +ended, not ok", out)
    assert {each["run_id"]: each["ok"] for each in json.loads(said("ls", "--json")[1])} == ended
    assert "ended, not ok" in said("show", "no")[1]
    assert [said("tail", run_id)[0] for run_id in ("yes", "no")] == [0, 1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--state approving", {"asks-b"}),
        ("--status ended", {"ended-a", "refused"}),
        ("--status parked", {"asks-b", "away-b"}),
        ("--status running", set()),
        ("--status stopped", set()),
        ("--waiting person", {"asks-b"}),
        ("--waiting api", {"away-b"}),
        ("--tag tenant=b", {"asks-b", "away-b"}),
        ("--tag tenant=b --tag user=anna", {"asks-b"}),
        ("--older-than 30d", {"refused"}),
        ("--newer-than 1h --status ended", {"ended-a"}),
        ("--workflow Support --waiting api", {"away-b"}),
        ("--workflow Other", set()),
    ],
)
def test_ls_filters(several, said, options, expected):
    code, out, _ = said("ls", *options.split(), "--json")
    assert code == 0
    assert {each["run_id"] for each in json.loads(out)} == expected
    assert ("has no run that fits" in said("ls", *options.split())[1]) == (not expected)


def test_ls_says_what_an_option_takes_and_how_many_there_are(several, said):
    assert "--waiting is one of person, expired, api, interrupted, wait, not 'tea'" in said("ls", "--waiting", "tea")[2]
    assert "--status is one of running, stopped, parked, ended" in said("ls", "--status", "x")[2]
    assert "--older-than takes a time such as 90s" in said("ls", "--older-than", "soon")[2]
    assert "--tag takes KEY=VALUE" in said("ls", "--tag", "tenant")[2]
    _, out, _ = said("ls", "--limit", "1")
    assert "1 of 4; --limit 0 lists all" in out


def test_a_run_whose_process_was_killed_is_stopped_and_is_taken_up(said, api, tmp_path, monkeypatch, root):
    (tmp_path / "slow.py").write_text(textwrap.dedent(SLOW))
    api([replies.tool_use("work", {}), replies.text("It may have worked.")])
    environment = {**os.environ, "SLOW": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "fsm.cli", "run", "slow.py", "go", "--journal", "runs.db"]
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 60
            while not (tmp_path / "entered").exists():
                assert time.monotonic() < until
                time.sleep(0.05)
            shown = said("ls", "--json")
            assert shown[0] == 0, shown
            (only,) = json.loads(shown[1])
            assert only["status"] == "running"
            code, _, err = said("resume", only["run_id"], "-w", "slow.py")
            assert (code, "is being driven by another process" in err) == (2, True)
            code, _, err = said("rm", only["run_id"], "--yes")
            assert code == 1
        finally:
            process.kill()
    (only,) = json.loads(said("ls", "--status", "stopped", "--json")[1])
    assert only["status"] == "stopped"
    assert "nobody drives it, its process has ended" in said("show", only["run_id"])[1]
    code, out, err = said("resume", "--stopped", "-w", "slow.py")
    assert (code, err) == (0, "")
    assert "1 of 1 ended well" in out
    assert "outcome_unknown" in [r.data["event"] for r in records(only["run_id"]) if r.kind == "move"], "B3"


# ── show ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_show_tells_where_a_run_stands_and_all_that_a_person_is_asked(desk, said):
    why = "word " * 2000 + "the end"
    desk([refund(number=why)], run_id="asks", tags={"tenant": "a"})
    code, out, err = said("show", "asks")
    assert (code, err) == (0, "")
    for words in (
        "asks · Support · asks person", "state     approving", "waits     for a person until 20", "tags      tenant=a",
        "1 asking", "─ tool_use → calling", "2 calling", "approval_needed → approving",
        "1  refund  toolu_", f'number  "{why}"', "euros   249.0", "why: the tool needs approval",
        "Claude    May I?", "you       Refund order 7", "answer it:  fsm runs answer asks",
    ):  # fmt: skip
        assert re.sub(r"\d\d:\d\d:\d\d ", "", out).count(words) >= 1, words


def test_show_tells_everything_with_messages_and_clips_without_full(desk, said):
    long = "x" * 5000
    desk([replies.tool_use("find_order", {"number": "7"}), replies.text(long)], run_id="long")
    _, out, _ = said("show", "long", "--messages")
    assert 'find_order(number="7")' in out
    assert "find_order → Order 7: espresso machine" in out
    assert long not in out
    assert long in said("show", "long", "--full")[1]
    assert long in said("show", "long", "--messages", "--full")[1]


def test_show_json_has_moves_question_and_texts(desk, said):
    desk([refund()], run_id="asks")
    shown = json.loads(said("show", "asks", "--json", "--messages")[1])
    assert shown["state"] == "approving"
    assert [move["event"] for move in shown["path"]] == ["tool_use", "approval_needed"]
    (call,) = shown["question"]["calls"]
    assert (call["number"], call["name"], call["input"]) == (1, "refund", {"number": "7", "euros": 249.0})
    assert shown["texts"][-1] == {"who": "Claude", "text": "May I?"}
    assert len(shown["records"]) == shown["records"][-1]["seq"] + 1


def test_a_question_is_the_same_with_and_without_the_workflow(desk, said, support):
    """What `show` reads out of the records is what the conversation itself asks, also after a part was answered."""
    desk([replies.tool_uses(("find_order", {"number": "7"}), ("refund", {"number": "7", "euros": 1.0}),
                            ("refund", {"number": "8", "euros": 2.0}))], run_id="asks")  # fmt: skip
    assert [c["number"] for c in json.loads(said("show", "asks", "--json")[1])["question"]["calls"]] == [2, 3]
    assert said("answer", "asks", "deny", "2", "--no-run", "-w", support)[0] == 0
    shown = json.loads(said("show", "asks", "--json")[1])["question"]
    with SqliteStore("runs.db") as store:
        result = resume(load_workflow(support), "asks", journal=store, deps=object())
    assert result.question is not None
    assert [(c["id"], c["input"]) for c in shown["calls"]] == [(c.id, c.input) for c in result.question.calls]
    assert (shown["why"], shown["prompt"]) == (result.question.why, result.question.prompt)


# ── answer ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_approve_goes_on_elsewhere_and_tells_it(desk, said, support, api):
    desk([refund()], run_id="asks")
    emulator = api([replies.text("Paid back.")])
    code, out, err = said("answer", "asks", "approve", "--workflow", support)
    assert (code, err) == (0, "")
    assert "person     approves refund" in out
    assert "✓ answered · end_turn" in out
    assert "249.00 euros paid back" in json.dumps(results(emulator)[0])
    assert "   5 asking" in out, "moves are counted on"


def test_one_is_approved_another_edited_a_third_denied_with_a_reason(desk, said, support, api):
    """Issue 4.3: a decision per call in one answer; what was denied has its reason, what was edited says so."""
    desk(three(), run_id="asks")
    emulator = api([replies.text("So be it.")])
    words = ["approve", "1", "edit", "2", '{"number": "8", "euros": 5}', "deny", "3", "because", "approve nothing"]
    code, out, err = said("answer", "asks", *words, "-w", support)
    assert (code, err) == (0, "")
    first, second, third = (json.dumps(each) for each in results(emulator))
    assert "7.00 euros" in first
    assert "5.00 euros" in second
    assert "approve nothing" in third
    assert json.loads(third)["is_error"] is True
    assert len(emulator.requests) == 1
    assert "denies refund: approve nothing" in out


@pytest.mark.parametrize("name", ["1", "refund", "ID"])
def test_a_call_is_named_by_number_tool_or_id(desk, said, support, api, name):
    desk([refund()], run_id="asks")
    api([replies.text("ok")])
    (call,) = json.loads(said("show", "asks", "--json")[1])["question"]["calls"]
    assert said("answer", "asks", "approve", call["id"] if name == "ID" else name, "-w", support)[0] == 0


def test_what_is_not_decided_is_asked_again_under_the_same_number(desk, said, support, api):
    desk(three(), run_id="asks")
    emulator = api([replies.text("ok")])
    code, out, _ = said("answer", "asks", "approve", "1", "-w", support)
    assert code == 3
    assert "2  refund" in out
    assert "3  refund" in out
    assert re.search(rf"fsm runs answer asks --question \d+ --workflow {re.escape(shlex.quote(support))}", out)
    assert not emulator.requests
    code, _, err = said("answer", "asks", "deny", "1", "-w", support)
    assert code == 2
    assert re.search(r"no open call is meant by '1': .*Open: 2 refund", err)
    assert said("answer", "asks", "deny", "--reason", "enough", "-w", support)[0] == 0
    assert "7.00 euros" in json.dumps(results(emulator)[0]), "approved before, run once"
    assert all("enough" in json.dumps(each) for each in results(emulator)[1:])


@pytest.mark.parametrize(
    "answered",
    [
        (["yes"], "an answer begins with a verb, not 'yes': approve"),
        (
            ["approve", "4"],
            "no open call is meant by '4': a call is its number, its tool's name or its whole id. Open: 1",
        ),
        (["approve", "refund"], "3 open calls are meant by 'refund': name one by its number"),
        (["approve", "1", "deny", "1"], "is decided on twice"),
        (["edit", "1", "{"], "is no JSON"),
        (["edit", "1", "[1]"], "is a JSON object, in braces"),
        (["edit", "1", '{"number": 7}'], "does not fit refund"),
        (["edit", "1"], "edit takes a call and its whole new input as JSON"),
        (["deny", "1", "because"], "because takes one text"),
        (["deny", "1", "because", "too", "much"], "because takes one text"),
        (["say", "hello"], "a decision is asked for, not words"),
        (["approve", "--reason", "why not"], "--reason is for what is denied, and nothing is"),
    ],
)
def test_a_wrong_answer_says_what_is_right_and_records_nothing(desk, said, support, api, answered):
    words, complaint = answered
    desk(three(), run_id="asks")
    api([])
    before = records("asks")
    code, _, err = said("answer", "asks", *words, "-w", support)
    assert code == 2
    assert complaint in err
    assert records("asks") == before


def test_answer_needs_the_workflow_and_somebody_who_asks(desk, said, support, tmp_path):
    desk([refund()], run_id="asks")
    desk([replies.text("ok")], run_id="ended")
    desk(away, run_id="away")
    code, _, err = said("answer", "asks", "approve")
    assert code == 2
    assert "name Support with --workflow file.py:Class or module:Class, or set FSM_WORKFLOW" in err
    assert "A journal holds no code" in err
    (tmp_path / "chat.py").write_text(textwrap.dedent(CHAT))
    assert "is a run of Support, and chat.py is Chat" in said("answer", "asks", "approve", "-w", "chat.py")[2]
    assert "has ended in 'answered': nothing to answer" in said("answer", "ended", "approve", "-w", support)[2]
    assert "asks nobody in state 'asking': it waits for the API" in said("answer", "away", "approve", "-w", support)[2]
    assert "no API key" in said("answer", "asks", "approve", "-w", support)[2]
    assert [r.kind for r in records("asks")][-1] == "park", "nothing was recorded"


def test_without_a_verb_a_person_is_asked(desk, said, support, api, monkeypatch):
    desk(three(), run_id="asks")
    emulator = api([replies.text("ok")])
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert said("answer", "asks", "-w", support)[0] == 3, "nothing was answered"
    monkeypatch.setattr(sys, "stdin", io.StringIO('a\ne\n{"number": "8", "euros": 1}\nd\nno money\n'))
    code, out, err = said("answer", "asks", "-w", support)
    assert (code, err) == (0, "")
    assert "(2 of 3)" in out
    assert "1.00 euros" in json.dumps(results(emulator)[1])
    assert "no money" in json.dumps(results(emulator)[2])


def test_no_run_records_the_answer_and_resume_runs_it_once(desk, said, support, api):
    """Issue 4.3: nothing runs twice because a person answered."""
    desk(three(), run_id="asks")
    code, out, err = said("answer", "asks", "approve", "--no-run", "-w", support)  # no key is needed
    assert (code, err) == (0, "")
    assert "recorded; it stands in calling" in out
    assert "go on:  fsm runs resume asks" in out
    emulator = api([replies.text("ok")])
    assert said("resume", "asks", "-w", support)[0] == 0
    assert ["euros paid back" in json.dumps(each) for each in results(emulator)] == [True] * 3
    begun = [call for r in records("asks") if r.kind == "tool.begin" for call in r.data["ids"]]
    ended = [end[0] for r in records("asks") if r.kind == "tool.end" for end in r.data["ends"]]
    assert sorted(set(begun)) == sorted(ended)


def test_an_answer_after_its_time_is_not_recorded(desk, said, support, api):
    desk([refund()], run_id="late", clock=lambda: time.time() - 2 * 86400)
    emulator = api([replies.text("It was too late.")])
    code, out, _ = said("answer", "late", "approve", "-w", support)
    assert code == 3
    assert "The answer came too late and was not recorded" in out
    assert "expired" in [r.data["event"] for r in records("late") if r.kind == "move"]
    assert results(emulator)[0]["is_error"] is True


def test_say_speaks_where_words_are_asked_for(chat, said, api):
    chat([replies.text("Well?")], run_id="talk")
    emulator = api([replies.text("The kettle then."), replies.text("never sent")])
    assert "asks for words, no call is open: say TEXT" in said("answer", "talk", "approve")[2]
    assert "nothing is said" in said("answer", "talk", "say", "")[2]
    code, out, err = said("answer", "talk", "say", "the", "kettle")
    assert (code, err) == (3, "")
    assert "The kettle then." in out
    assert emulator.requests[0].body["messages"][-1]["content"][0]["text"] == "the kettle"
    assert "you       the kettle" in said("show", "talk", "--full")[1]
    code, out, _ = said("answer", "talk", "say", "/quit")
    assert (code, len(emulator.requests)) == (0, 1)


# ── resume, cancel ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_an_outage_all_are_taken_up_and_each_outcome_is_told(desk, said, support, api, chat):
    for name in ("a", "b", "c"):
        desk(away, run_id=name)
    chat(away, run_id="other", sleep=lambda seconds: None)
    api([replies.text("Fine."), replies.refusal(), replies.text("Fine.")])
    code, out, _ = said("resume", "--waiting", "api", "-w", support)
    assert code == 1
    assert re.search(r"✓ a +answered · end_turn · \$", out)
    assert re.search(r"✗ b +refused · refusal", out)
    assert re.search(r"✓ c +answered", out)
    assert re.search(r"✗ other +left: a run of Chat, name it with --workflow", out)
    assert "2 of 4 ended well, 2 otherwise" in out
    api([replies.text("Hello.")])
    code, out, _ = said("resume", "--waiting", "api", "-w", support, "-w", "chat.py")
    assert code == 3
    assert "0 of 1 ended well, 1 parked again" in out
    assert said("resume", "--waiting", "api", "-w", support)[:2] == (0, "  no run waits for that\n")


def test_while_the_api_is_still_away_the_rest_is_left_alone(desk, said, support, api):
    for name in ("a", "b"):
        desk(away, run_id=name)
    capped = replies.rate_limited(error_code="enforced_spend_limit_reached")  # E11: no retry helps, it parks at once
    emulator = api(lambda body: capped)
    before = records("b")
    code, out, _ = said("resume", "--waiting", "api", "-w", support)
    assert code == 3
    assert re.search(r"‖ a +the API is still away: ", out)
    assert "0 of 2 ended well, 1 parked again, 1 not taken up" in out
    assert (len(emulator.requests), records("b")) == (1, before)
    code, out, _ = said("resume", "--waiting", "api", "--keep-going", "-w", support)
    assert (code, "2 parked again" in out, len(emulator.requests)) == (3, True, 3)


def test_resume_says_what_to_name(desk, said, support, api):
    desk([replies.text("ok")], run_id="ended")
    desk([refund()], run_id="asks")
    assert "name a run, or take all up that wait" in said("resume")[2]
    assert "not both" in said("resume", "ended", "--waiting", "api")[2]
    assert "--waiting takes api or interrupted here, not 'person'" in said("resume", "--waiting", "person")[2]
    assert "there is nothing to resume" in said("resume", "ended", "-w", support)[2]
    assert "--workflow" in said("resume", "asks")[2]
    api([])
    before = records("asks")
    code, out, _ = said("resume", "asks", "-w", support)
    assert code == 3
    assert "answer it:  fsm runs answer asks" in out
    assert records("asks") == before


def test_cancel_ends_a_parked_run_without_a_key(desk, said, support):
    desk([refund()], run_id="asks")
    code, out, _ = said("cancel", "asks", "--reason", "no longer wanted", "-w", support)
    assert code == 0
    assert "cancelled · cancel" in out
    assert "no longer wanted" in out
    assert records("asks")[-1].data["state"] == "cancelled"
    assert "nothing to cancel" in said("cancel", "asks", "-w", support)[2]


def test_fsm_run_keeps_a_run_and_says_how_to_go_on(said, api, support, capsys):
    """What it prints can be typed: the command goes on with the run."""
    api([refund(), replies.text("Paid back.")])
    assert main(["run", support, "refund order 7", "--journal", "runs.db", "--tag", "tenant=a"]) == 3
    out = capsys.readouterr().out
    assert "kept in runs.db as " in out
    (hint,) = re.findall(r"answer it:  fsm (runs answer .*)", out)
    assert main([*shlex.split(hint), "approve"]) == 0
    capsys.readouterr()
    (only,) = json.loads(said("ls", "--journal", "runs.db", "--json")[1])
    assert (only["state"], only["tags"]) == ("answered", {"tenant": "a"})


# ── tail ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tail_follows_another_process_in_plain_lines_and_ends_with_the_run(desk, said, support, api, root):
    desk(three(), run_id="asks")
    api([replies.text("All is well.")])
    command = [sys.executable, "-m", "fsm.cli", "runs", "tail", "asks"]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as tail:
        seen = []
        for line in tail.stdout:  # what is there already
            seen.append(line)
            if "waits for a person" in line:
                break
        assert said("answer", "asks", "approve", "-w", support)[0] == 0
        rest = tail.stdout.read()
        assert tail.wait(60) == 0
    before, out = "".join(seen), "".join(seen) + rest
    assert "\x1b" not in out
    assert re.search(r"1 \S+ asking +─ tool_use → calling", before)
    assert "person     approves refund" in rest
    assert re.search(r"5 \S+ asking +─ end_turn → answered", rest)
    assert "All is well." in rest
    assert "✓ answered · end_turn" in rest


def test_tail_shows_the_last_moves_only_and_fails_with_a_run_that_failed(desk, said):
    desk([*(replies.tool_use("find_order", {"number": str(n)}) for n in range(8)), replies.refusal()], run_id="much")
    code, out, _ = said("tail", "much", "--last", "2")
    assert code == 1
    assert "… 15 moves before" in out
    assert re.findall(r"^ +(\d+) \d\d:", out, re.MULTILINE) == ["16", "17"]
    assert "✗ refused · refusal" in out
    assert "find_order → Order" in out


# ── fork, compare, verify ───────────────────────────────────────────────────────────────────────────────────────────


def test_fork_and_compare_two_answers(desk, said, support, api):
    desk([refund()], run_id="asks")
    code, out, err = said("fork", "asks", "--move", "2", "--id", "other", "-w", support)
    assert (code, err) == (0, "")
    assert "other begins with" in out
    assert "fsm runs answer other" in out
    api([replies.text("Paid.")])
    assert said("answer", "asks", "approve", "-w", support)[0] == 0
    api([replies.text("Sorry.")])
    assert said("answer", "other", "deny", "-w", support)[0] == 0
    code, out, _ = said("compare", "asks", "other")
    assert code == 1
    assert "approving --approved--> calling" in out
    assert "approving --denied--> asking" in out
    assert "they part at record " in out
    shown = json.loads(said("compare", "asks", "other", "--json")[1])
    assert (shown["same"], shown["part_at_move"]) == (False, 3)
    assert said("compare", "asks", "asks")[0] == 0
    assert "1 to" in said("fork", "asks", "--move", "99", "-w", support)[2]
    assert "one of the two" in said("fork", "asks", "-w", support)[2]


def test_verify_finds_what_was_changed_in_the_file(desk, said, support):
    for name in ("good", "bad"):
        desk([replies.text("It is here.")], run_id=name)
    assert said("verify")[0] == 0
    code, out, _ = said("verify", "-w", support)
    assert (code, "2 decided again with the same outcome" in out) == (0, True)
    with sqlite3.connect("runs.db") as db:
        (number,) = db.execute("SELECT id FROM runs WHERE run_id = 'bad'").fetchone()
        db.execute("UPDATE records SET at = at + 1 WHERE run = ? AND seq = 2", (number,))
    db.close()
    code, out, _ = said("verify")
    assert code == 1
    assert "✗ bad" in out
    assert "2 runs: 1 is not as written" in out
    assert said("verify", "good")[0] == 0
    found = {each["run_id"]: each["problem"] for each in json.loads(said("verify", "--json")[1])}
    assert found["good"] is None
    assert found["bad"]


# ── rm, purge ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rm_asks_first_and_deletes_for_good(desk, said):
    desk([replies.text("ok")], run_id="gone")
    desk([replies.text("ok")], run_id="stays")
    code, _, err = said("rm", "gone")
    assert code == 2
    assert "this would delete 1 run of runs.db for good, and there is no terminal to ask on: give --yes" in err
    assert said("rm", "gone", "--yes")[0] == 0
    assert listed(said("ls")[1]) == ["stays"]
    with SqliteStore("runs.db") as store, pytest.raises(RunError):
        store.summary("gone")


def test_purge_deletes_what_is_old_and_has_ended(several, said, desk):
    desk([refund()], run_id="old-asks", clock=lambda: time.time() - 50 * 86400)
    assert "say which: --older-than 30d" in said("purge")[2]
    assert listed(said("purge", "--older-than", "30d", "--dry-run")[1]) == ["refused"]
    code, out, _ = said("purge", "--older-than", "30d", "--yes")
    assert (code, "deleted: 1 run" in out) == (0, True)
    assert "fits: nothing to do" in said("purge", "--older-than", "30d", "--yes")[1]
    assert "old-asks" in listed(said("ls")[1]), "it has not ended"
    assert said("purge", "--older-than", "30d", "--status", "parked", "--yes")[0] == 0
    assert sorted(listed(said("ls")[1])) == ["asks-b", "away-b", "ended-a"]


def test_erased_bodies_leave_moves_and_a_chain_that_holds(desk, said, support):
    """Issue 4.7: what was said is gone from the file, order and hashes stay."""
    desk([replies.text("the secret of the kettle")], words="my secret question", run_id="told", tags={"tenant": "a"})
    assert "secret of the kettle" in said("show", "told")[1]
    code, out, _ = said("purge", "--tag", "tenant=a", "--bodies", "--yes")
    assert (code, "erased: what was said in 1 run" in out) == (0, True)
    code, out, _ = said("show", "told")
    assert code == 0
    assert "secret" not in out
    assert "asking" in out
    assert re.search(r"end_turn → answered", out), "moves stay"
    assert "was erased" in out
    assert said("show", "told", "--json")[0] == 0
    code, out, _ = said("verify", "told", "-w", support)
    assert code == 0
    assert "not decided again" in out
    code, _, err = said("tail", "told")
    assert (code, "erased" in err) == (2, True)


# ── what is foreign ─────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = (
    "\x1b[31m", "\x1b[2J", "\x1b[1;1H", "\x1b[?25l", "\x1b[6n", "\x1b[>0q", "\x1b[3J", "\x1bc", "\x1b7", "\x1b(B",
    "\x1b#8", "\x1b]0;title\x07", "\x1b]2;title\x1b\\", "\x1b]8;;http://evil\x07", "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]1337;File=x\x07", "\x1bP+q544e\x1b\\", "\x1b_app\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\", "\x9b31m",
    "\x9d0;title\x9c", "\x90q\x9c", "\x07", "\x08\x08\x08", "\x7f", "\x0e", "\r", "\x85", "\u2028", "\u2029", "\u202e",
    "\u202a", "\u2066", "\u2069", "\u061c", "\u200f", "\u200b", "\ufeff", "\U000e0041", "\x1b]0;never ended",
    "[bold red]markup[/]", "\x0b\x0c", "\n  ✓ answered · end_turn",
)  # fmt: skip
FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


def test_nothing_foreign_acts_on_the_terminal_x8(desk, said, support, api):
    """X8: text of a model, a person, a tool, a tag, an id and an argument, in every command that shows any of it.

    A sequence ends with its line at the latest, so each payload stands on a line of its own and hides no other.
    """
    parts = ["\n".join(f"a{payload}b" for payload in HOSTILE[first::4]) for first in range(4)]
    for number, text in enumerate(parts):
        desk(
            [replies.tool_use("find_order", {"number": text}, text=text),
             replies.tool_use("refund", {"number": text, "euros": 1.0}, text=text)],
            words=text, run_id=f"h{number}{text}", tags={text: text},
        )  # fmt: skip
    shown = [
        said("ls"),
        said("ls", "--json"),
        said("verify", "-w", support),
        said("purge", "--tag", "x=y", "--dry-run"),
    ]
    for number, text in enumerate(parts):
        api([replies.text(text)])
        name, fork = f"h{number}", f"f{number}"  # enough to look at a run by; what changes one takes all of its id
        whole, copy = name + text, fork + text
        shown += [
            said("show", name), said("show", name, "--messages", "--full"), said("show", name, "--json", "--messages"),
            said("show", name + text + "?"), said("answer", whole, text, "-w", support), said("ls", "--tag", text),
            said("answer", whole, "approve", text, "-w", support), said("ls", "--journal", text),
            said("answer", whole, "deny", text, text, "-w", support), said("answer", name, "deny", "-w", support),
            said("fork", whole, "--move", "4", "-w", support, "--id", copy),
            said("answer", whole, "deny", "--reason", text, "--no-run", "-w", support),
            said("resume", whole, "-w", support), said("tail", name), said("show", name, "--messages", "--full"),
            said("compare", name, fork), said("verify", name, "-w", support),
            said("cancel", copy, "--reason", text, "-w", support), said("show", fork), said("purge", "--tag", text),
            said("rm", fork, "--yes"), said("rm", copy), said("rm", copy, "--yes"),
        ]  # fmt: skip
    for code, out, err in shown:
        assert not FORBIDDEN.search(out + err), ascii(out + err)
        assert "this is a fault in fsm" not in err
        assert code in {0, 1, 2, 3}
    honest = [line for _, out, _ in shown for line in out.splitlines() if line.startswith("  ✓ answered · end_turn")]
    assert len(honest) == 2 * len(parts), "only what fsm says itself looks like it: of resume and of tail"


def test_what_a_person_decides_on_is_exact(desk, said):
    """X8: a character that is taken out would show another value than the one that runs."""
    desk([refund(number="7\u202e\u200b\x1b[2J\u00a0")], run_id="asks")
    assert r'number  "7\u202e\u200b\u001b[2J\u00a0"' in said("show", "asks")[1]


def test_who_is_asked_on_the_terminal_sees_the_whole_input(capsys, monkeypatch):
    value = "x" * 5000 + "\u202eend"
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    ask(Question("approval", (OpenCall("toolu_1", "n" * 128, {"number": value}),)))
    out = capsys.readouterr().out
    assert "n" * 128 in out
    assert "x" * 5000 + r"\u202eend" in out


# ── on a terminal ───────────────────────────────────────────────────────────────────────────────────────────────────


def on_terminal(root: Path, columns: int, *arguments: str, until: str = "", keys: str = "") -> tuple[int, str]:
    """A command on a pseudo-terminal: its exit code, what it wrote. Once `until` is there the keys are pressed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(COLUMNS=str(columns), LINES="40", TERM="xterm-256color", PYTHONPATH=str(root))
        os.execv(sys.executable, [sys.executable, "-m", "fsm.cli", "runs", *arguments])  # noqa: S606 - our own program
    raw, end, pressed = "", time.monotonic() + 60, time.monotonic()
    try:
        while time.monotonic() < end:
            if select.select([fd], [], [], 0.2)[0]:
                try:
                    piece = os.read(fd, 65_536).decode(errors="replace")
                except OSError:
                    break
                if not piece:
                    break
                raw += piece
            if keys and until in raw and time.monotonic() > pressed:
                os.write(fd, keys.encode())
                pressed = time.monotonic() + 3  # again, should nobody have heard it
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), raw
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(fd)


def plain(raw: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", raw).replace("\r", "")


@pytest.mark.parametrize("columns", [80, 120])
def test_lines_keep_to_the_width_of_the_terminal(desk, root, columns):
    desk([refund()], words="word " * 60, run_id="asks-a-person", tags={"tenant": "a", "user": "somebody@example.com"})
    desk([replies.text("word " * 60)], run_id="f" * 40, tags={"note": "x" * 100})
    for arguments in (["ls"], ["show", "asks"], ["show", "asks", "--messages"], ["compare", "asks", "ff"]):
        _, raw = on_terminal(root, columns, *arguments)
        lines = plain(raw).splitlines()
        assert lines
        assert max(map(len, lines)) <= columns, arguments
        assert "\x1b[" in raw, "a terminal gets colours"


def test_tail_keeps_a_moving_line_and_ends_with_ctrl_c(desk, root):
    desk([refund()], run_id="asks")
    code, raw = on_terminal(root, 80, "tail", "asks", until="fsm runs answer asks", keys="\x03")
    assert code == 130
    shown = plain(raw)
    assert "asks person · approving · 2 moves" in shown
    assert "tokens · $" in shown
    assert "waits for a person until" in shown


def test_rm_on_a_terminal_takes_no_for_an_answer(desk, root, said):
    desk([refund()], run_id="asks")
    code, raw = on_terminal(root, 80, "rm", "asks", until="for good? [y/N]", keys="n\n")
    assert code == 3
    assert "1 of them has not ended" in plain(raw)
    assert listed(said("ls")[1]) == ["asks"]
    code, _ = on_terminal(root, 80, "rm", "asks", until="for good? [y/N]", keys="y\n")
    assert code == 0
    assert "has no run" in said("ls")[1]
