"""`verify` of runs that several versions drove, or that a store redacted: what it quotes, judges and exits with."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from _driving import Clock, go_on
from test_versions import DONE, Desk, desk, store, waiting

from fsm import Claude, Final, MemoryStore, Workflow, approve, guard, migrate, resume, run, verify
from fsm._facts import Facts
from fsm._redact import redact_secrets
from fsm.cli import main
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

__all__ = ["store"]

Renamed = desk(asking="drafting", approving="deciding", renamed={"asking": "drafting", "approving": "deciding"})
SECRET = "my key is sk-ant-api03-abcdefghijklmnop123456"


def moved(store: Any) -> None:
    """A run that began under the first version and ended under the second, in which two states are called otherwise."""
    waiting(store)
    assert migrate(Renamed, journal=store, clock=Clock())
    with Emulator([DONE]).client() as client:
        clock = Clock()
        result = resume(Renamed, "r", answer=approve(), client=client, journal=store, clock=clock, sleep=clock.sleep)
    assert result.state == "answered"


def test_each_version_of_a_run_that_was_moved_agrees_with_its_own_part(store: Any) -> None:
    moved(store)
    assert verify(Desk, "r", journal=store) == ()
    assert verify(Renamed, "r", journal=store) == ()


mood: list[bool] = [True]


@guard
def in_the_mood(facts: Facts) -> bool:
    """Not pure."""
    del facts
    return mood[0]


def moody(first: str, renamed: Any = None, second: str = "second") -> type[Workflow]:
    states = {
        first: Claude(model="claude-sonnet-5", max_tokens=100),
        second: Claude(model="claude-sonnet-5", max_tokens=100, prompt="And?"),
        "glad": Final(),
    }
    rows = [
        {"trigger": "end_turn", "source": first, "dest": second, "conditions": [in_the_mood]},
        {"trigger": "end_turn", "source": first, "dest": "glad"},
        ["end_turn", second, "glad"],
    ]
    return Workflow.from_transitions(name="Moody", states=states, transitions=rows, renamed=renamed)


def test_what_was_recorded_is_quoted_as_it_was_recorded_and_in_order() -> None:
    """Under the names of its time, whatever the version that looks calls them."""
    mood[0] = True
    store, old, new = MemoryStore(), moody("asking"), moody("drafting", {"asking": "drafting"})
    with Emulator([replies.text("yes"), replies.overloaded()] + [replies.overloaded()] * 9).client() as client:
        assert run(old, "Hi.", client=client, journal=store, run_id="r", sleep=lambda _: None).parked
    [standing] = migrate(new, journal=store)
    assert not standing.strands
    mood[0] = False
    mine, others = verify(old, "r", journal=store), verify(new, "r", journal=store)
    assert mine[0] == 'record 4: move.dest was recorded as "second", now "glad"'
    assert not any("drafting" in line for line in mine)
    assert others == (), "nothing is decided by the new version yet"
    never = verify(moody("asking", {"drafting": "asking", "second": "third"}, "third"), "r", journal=store)
    assert never[0] == 'record 4: move.dest was recorded as "second", now "glad"'
    for found in (mine, never):
        numbers = [int(line.split(":")[0].removeprefix("record ")) for line in found]
        assert numbers == sorted(numbers)


def test_a_version_that_was_rolled_back_judges_both_of_its_parts() -> None:
    mood[0] = True
    store, old, new = MemoryStore(), moody("asking"), moody("drafting", {"asking": "drafting"})
    with Emulator(lambda body: replies.overloaded()).client() as client:
        run(old, "Hi.", client=client, journal=store, run_id="r", sleep=lambda _: None)
    back = moody("asking", {"drafting": "asking"})
    migrate(new, journal=store)
    migrate(back, journal=store)
    go_on(back, "r", [replies.text("yes"), DONE], journal=store)
    assert verify(back, "r", journal=store) == ()
    mood[0] = False
    assert verify(back, "r", journal=store), "what it decided after it came back"


# ── redacted ────────────────────────────────────────────────────────────────────────────────────────────────────────


@guard
def has_key(facts: Facts) -> bool:
    """Reads what is redacted."""
    return "sk-ant" in facts.text


class Keyed(Workflow):
    asking = Claude(model="claude-sonnet-5", max_tokens=100)
    keyed = Final()
    plain = Final()
    asking.on(end_turn=[keyed.when(has_key), plain])


def test_a_run_that_was_redacted_and_is_untouched_is_no_difference(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db", redact=redact_secrets) as store:
        waiting(store)
        with Emulator([replies.text("Hello.")]).client() as client:
            run(Keyed, SECRET, client=client, journal=store, run_id="said")
        with Emulator([replies.text(SECRET)]).client() as client:
            run(Keyed, SECRET, client=client, journal=store, run_id="told")
        assert verify(Keyed, "said", journal=store) == ()
        found = verify(Keyed, "told", journal=store)
        assert 'move.dest was recorded as "keyed", now "plain"' in found[0]
        assert all("redact= changed what it was decided on" in line for line in found)


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────

GLAD = """
    from fsm import Claude, Final, Workflow, guard

    @guard
    def fits(facts):
        return {answer}

    class Glad(Workflow):
        asking = Claude(model="claude-sonnet-5", max_tokens=100)
        glad = Final()
        sad = Final()
        asking.on(end_turn=[glad.when(fits), sad])
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Two runs of a workflow whose guard decides otherwise by now; gives what runs a command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")
    monkeypatch.delenv("FSM_WORKFLOW", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for name, answer in (("was", "True"), ("now", "False")):
        (tmp_path / f"{name}_{tmp_path.name}.py").write_text(textwrap.dedent(GLAD.format(answer=answer)), "utf-8")
    from fsm.cli._load import load_workflow

    with SqliteStore("runs.db") as store:
        for name in ("a", "b"):
            with Emulator([replies.text("Hello.")]).client() as client:
                run(load_workflow(f"was_{tmp_path.name}.py:Glad"), "Hi.", client=client, journal=store, run_id=name)

    def command(*arguments: str) -> tuple[int, str]:
        code = main(["runs", "verify", *arguments])
        return code, " ".join(capsys.readouterr().out.split())

    return command


def test_decided_otherwise_is_not_changed_on_the_disk(
    commands: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = f"now_{tmp_path.name}.py:Glad"
    code, out = commands("-w", now)
    assert code == 4
    assert "2 runs: all as they were written" in out
    assert "2 are decided otherwise by this version of the workflow" in out
    assert "not as written" not in out
    assert '"glad", now "sad"' in out
    monkeypatch.setenv("FSM_WORKFLOW", now)
    assert commands()[0] == 4
    code, out = commands("--chain")
    assert (code, "all as they were written" in out) == (0, True)
    found = json.loads(commands("--json")[1])
    assert [(each["problem"], bool(each["differences"])) for each in found] == [(None, True), (None, True)]
    with closing(sqlite3.connect("runs.db")) as db, db:
        (number,) = db.execute("SELECT id FROM runs WHERE run_id = 'b'").fetchone()
        db.execute("UPDATE records SET at = at + 1 WHERE run = ? AND seq = 2", (number,))
    code, out = commands()
    assert code == 1, "what is on the disk comes first"
    assert "1 is not as written" in out
    assert "1 is decided otherwise" in out
    assert commands("--chain", "a")[0] == 0
    assert commands("--chain", "b")[0] == 1


def test_the_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "verify", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 when anything was changed" in out
    assert "4 when" in out
