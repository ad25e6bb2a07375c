"""Runs whose texts were changed, erased or damaged: nobody can go on with them, they say so, and can be ended."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_retention import Paying, one_call

from fsm import (
    Claude,
    DeclarationError,
    Final,
    JournalError,
    Limits,
    MemoryStore,
    RunError,
    Workflow,
    arun,
    cancel,
    migrate,
    resume,
    run,
)
from fsm._redact import redact_secrets
from fsm._versions import standings
from fsm.cli import main
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

SECRET = "my key is sk-ant-api03-abcdefghijklmnop123456"
HERE = f"{Path(__file__).with_name('test_retention.py')}:Paying"


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSM_JOURNAL", "runs.db")
    monkeypatch.delenv("FSM_WORKFLOW", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))


def parked(store: Any, run_id: str = "r", words: str = SECRET, script: Any = None, **options: Any) -> Any:
    """A run that waits for a person, or for the API."""
    script = one_call("pay", {"iban": "DE02"}) if script is None else script
    with Emulator(script).client() as client:
        result = run(Paying, words, client=client, journal=store, run_id=run_id, sleep=lambda _: None, **options)
    assert result.parked
    return result


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    return (code, *capsys.readouterr())


def damage(run_id: str) -> None:
    with closing(sqlite3.connect("runs.db")) as db, db:
        (number,) = db.execute("SELECT id FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        db.execute("UPDATE records SET at = at + 1 WHERE run = ? AND seq = 2", (number,))


# ── what a run says of itself ───────────────────────────────────────────────────────────────────────────────────────


def test_the_verdict_of_a_run_that_was_redacted_says_that_it_cannot_be_resumed() -> None:
    with SqliteStore("runs.db", redact=redact_secrets) as store:
        changed, whole = parked(store, "changed"), parked(store, "whole", "Hello.")
        assert (whole.verdict.resumable, "not_resumable" in whole.verdict.evidence) == (True, False)
        assert not changed.verdict.resumable
        assert "redact= changed record 0 (open)" in changed.verdict.evidence["not_resumable"]
        assert "not resumable: " in str(changed.verdict)
        assert "goes on from here" not in str(changed.verdict)
        with pytest.raises(JournalError, match="cannot be gone on with: redact= changed record 0"):
            resume(Paying, "changed", journal=store)
        away = parked(store, "away", script=lambda body: replies.overloaded())
        assert (away.verdict.reason, away.verdict.resumable) == ("waiting_api", False)


def test_an_async_run_says_it_too() -> None:
    async def go() -> Any:
        with SqliteStore("runs.db", redact=redact_secrets) as store:
            async with Emulator(one_call("pay", {"iban": "DE02"})).async_client() as client:
                return await arun(Paying, SECRET, client=client, journal=store)

    assert not asyncio.run(go()).verdict.resumable


def test_show_does_not_name_a_command_that_would_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with SqliteStore("runs.db", redact=redact_secrets) as store:
        parked(store, "changed")
        parked(store, "erased", "Hello.")
        parked(store, "whole", "Hello.")
        store.erase("erased", unfinished=True)
    for name, why in (("changed", "redact= changed record 0"), ("erased", "was erased")):
        code, out, _ = said(capsys, "runs", "show", name)
        assert code == 0
        assert why in " ".join(out.split())
        assert "fsm runs answer" not in out
        assert ("what a person is asked" in out) == (name == "changed")
        assert f"end it:  fsm runs cancel {name} --workflow" in out
        assert f"delete it:  fsm runs rm {name}" in out
    assert "fsm runs answer whole" in said(capsys, "runs", "show", "whole")[1]


# ── and what can still be done with it ──────────────────────────────────────────────────────────────────────────────


def lost(how: str, store: SqliteStore) -> None:
    parked(store, words=SECRET if how == "redacted" else "Hello.")
    if how == "erased":
        store.erase("r", unfinished=True)


@pytest.mark.parametrize("how", ["redacted", "erased"])
def test_it_is_cancelled_without_what_was_said(how: str) -> None:
    with SqliteStore("runs.db", redact=redact_secrets) as store:
        lost(how, store)
        before = store.summary("r")
        result = cancel(Paying, "r", reason="nobody can go on", journal=store)
        assert (result.state, result.ok, result.parked) == ("cancelled", False, False)
        assert result.verdict.reason == "cancel"
        assert result.verdict.evidence["message"] == "nobody can go on"
        assert (result.verdict.usage.total, result.verdict.price) == (before.tokens, before.price)
        assert [record.kind for record in store.outline("r", before.records)] == ["resume", "move", "close"]
        assert (store.summary("r").status, store.verify("r")) == ("ended", None)
        with pytest.raises(RunError, match="has ended in 'cancelled'"):
            cancel(Paying, "r", journal=store)


@pytest.mark.parametrize("how", ["redacted", "erased"])
def test_cancel_on_the_command_line(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    with SqliteStore("runs.db", redact=redact_secrets) as store:
        lost(how, store)
    code, out, err = said(capsys, "runs", "cancel", "r", "-w", HERE)
    assert (code, err) == (0, "")
    assert "cancelled · cancel" in out
    assert "1 request · " in out
    assert said(capsys, "runs", "cancel", "r", "-w", HERE)[0] == 2
    assert json.loads(said(capsys, "runs", "ls", "--json")[1])[0]["status"] == "ended"


class Farewell(Workflow):
    """Asks Claude to say goodbye when it is cancelled."""

    asking = Claude(model="claude-sonnet-5", max_tokens=100)
    leaving = Claude(model="claude-sonnet-5", max_tokens=100, prompt="Say goodbye.")
    done = Final()
    asking.on(end_turn=done, cancel=leaving)
    leaving.on(end_turn=done)


def test_where_cancel_would_go_on_with_what_was_said_nothing_is_done() -> None:
    with SqliteStore("runs.db", redact=redact_secrets) as store:
        with Emulator(lambda body: replies.overloaded()).client() as client:
            run(Farewell, SECRET, client=client, journal=store, run_id="r", sleep=lambda _: None)
        before = store.summary("r")
        with pytest.raises(RunError, match=r"cancel leads to 'leaving'.*Delete it"):
            cancel(Farewell, "r", journal=store)
        assert store.summary("r") == before


def test_a_damaged_run_is_not_ended_over_its_damage() -> None:
    with SqliteStore("runs.db") as store:
        parked(store)
    damage("r")
    with SqliteStore("runs.db") as store, pytest.raises(JournalError, match="damaged"):
        cancel(Paying, "r", journal=store)


def test_purge_erases_runs_that_wait_only_when_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    with SqliteStore("runs.db") as store:
        parked(store, words="Hello.")
    purge = ("runs", "purge", "--state", "approving", "--status", "parked", "--bodies")
    code, _, err = said(capsys, *purge, "--yes")
    assert code == 2
    assert "cannot go on without what was said in them" in err
    assert "give --unfinished" in err
    assert said(capsys, *purge, "--dry-run")[0] == 0
    assert "Hello." in said(capsys, "runs", "show", "r")[1]
    assert said(capsys, *purge, "--unfinished", "--yes")[0] == 0
    assert "fsm runs cancel r" in said(capsys, "runs", "show", "r")[1]
    assert said(capsys, "runs", "cancel", "r", "-w", HERE)[0] == 0


def test_a_run_id_that_is_taken_says_what_can_be_done_with_it() -> None:
    store = MemoryStore()
    parked(store, "waits")
    parked(store, "ended")
    parked(store, "away", script=lambda body: replies.overloaded())
    cancel(Paying, "ended", journal=store)
    for run_id, words in (
        ("waits", r"has not ended \(it is in 'approving'\): resume\(answer=\.\.\.\) answers it, or choose another"),
        ("away", r"has not ended \(it is in 'asking'\): resume\(\) goes on with it, or choose another"),
        ("ended", r"has ended in 'cancelled': choose another run_id; resume\(\) gives its result"),
    ):
        with Emulator([]).client() as client, pytest.raises(RunError, match=words):
            run(Paying, "Again.", client=client, journal=store, run_id=run_id)
    assert resume(Paying, "ended", journal=store).state == "cancelled"


# ── before a deployment ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_check_reads_runs_of_this_version_too(capsys: pytest.CaptureFixture[str]) -> None:
    with SqliteStore("runs.db", redact=redact_secrets) as store:
        parked(store, "changed")
        for name in ("erased", "whole", "damaged"):
            parked(store, name, "Hello.")
        store.erase("erased", unfinished=True)
    damage("damaged")
    with SqliteStore("runs.db") as store:
        found = {each.run_id: each for each in standings(Paying, store)}
        assert all(each.is_current for each in found.values())
        why = {name: " ".join(map(str, each.strands)) for name, each in found.items()}
        assert why["whole"] == ""
        assert "redact= changed record 0" in why["changed"]
        assert "was erased" in why["erased"]
        assert "is damaged" in why["damaged"]
        assert migrate(Paying, journal=store) == tuple(found.values())
    code, out, _ = said(capsys, "migrate", "--check", "runs.db", HERE)
    assert code == 1
    assert "4 waiting runs, 3 stranded" in out
    assert "fsm runs cancel" in " ".join(out.split())


def named(name: str, folder: Path, options: str = "") -> str:
    """The same workflow as a class of another name."""
    path = folder / f"w_{name.lower()}_{folder.name}.py"
    text = "from test_retention import Paying\n\n\nclass {}(Paying{}):\n    pass\n"
    path.write_text(text.format(name, options), "utf-8")
    return f"{path}:{name}"


def test_the_check_is_not_green_for_a_class_that_no_run_is_of(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with SqliteStore("runs.db") as store:
        for name in ("a", "b"):
            parked(store, name)
    renamed = named("Payments", tmp_path)
    for options in (["--check"], []):
        code, out, _ = said(capsys, "migrate", *options, "runs.db", renamed)
        assert code == 1
        words = " ".join(out.split())
        assert "runs.db has 2 waiting runs of Paying, none of Payments" in words
        assert 'class Payments(Workflow, name="Paying")' in words
    found = json.loads(said(capsys, "migrate", "--check", "--json", "runs.db", renamed)[1])
    assert (found["runs"], found["others"]) == ([], {"Paying": 2})
    kept = named("Payments2", tmp_path, ', name="Paying"')
    code, out, _ = said(capsys, "migrate", "--check", "runs.db", kept)
    assert (code, "2 waiting runs, none stranded" in out) == (0, True)


def test_a_journal_that_has_runs_of_it_or_none_at_all_is_fine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with SqliteStore("runs.db") as store:
        parked(store, "a")
        cancel(Paying, "a", journal=store)
        with Emulator(lambda body: replies.overloaded()).client() as client:
            run(Farewell, "Hi.", client=client, journal=store, run_id="r", sleep=lambda _: None)
    assert said(capsys, "migrate", "--check", "runs.db", HERE)[0] == 0, "runs of it have ended, others wait"
    with SqliteStore("empty.db"):
        pass
    assert said(capsys, "migrate", "--check", "empty.db", named("Nobody", tmp_path))[0] == 0


def test_a_class_keeps_the_name_of_its_runs() -> None:
    class Payments(Paying, name="Paying"):
        """The same under a new name."""

    class Others(Payments):
        """A name is not inherited."""

    assert (Payments.name, Payments.graph.name, Others.name) == ("Paying", "Paying", "Others")
    store = MemoryStore()
    parked(store)
    assert resume(Payments, "r", journal=store).parked
    with pytest.raises(RunError, match=r"is a run of 'Paying', not of 'Others'.*name='Paying'"):
        resume(Others, "r", journal=store)
    with pytest.raises(DeclarationError, match="name= takes a name"):

        class Wrong(Workflow, name=""):
            """Without a name."""


def test_moving_a_run_makes_it_no_younger(tmp_path: Path) -> None:
    """`--older-than` means what happened in the run, not the deployment."""

    class Later(Paying, name="Paying", limits=Limits(turns=9)):
        """Another version."""

    with SqliteStore("runs.db") as store:
        parked(store, clock=lambda: 1_700_000_000.0)
        (moved,) = migrate(Later, journal=store)
        assert not moved.is_current
        after = store.summary("r")
        assert (after.migrations, after.updated) == (1, 1_700_000_000.0)
        assert store.verify("r") is None
