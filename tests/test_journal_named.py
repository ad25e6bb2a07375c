"""`--journal`: a file, a URL, or what opens one (keys live there); and what is no journal."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from test_runs_cli import _own_folder, api, desk, refund, said, support

from fsm import resume, run
from fsm._redact import redact_secrets
from fsm.cli import main
from fsm.cli._load import load_workflow
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

__all__ = ["_own_folder", "api", "desk", "said", "support"]

SEALED = """
    from fsm.stores.sqlite import SqliteStore

    def seal(body: bytes) -> bytes:
        return bytes(byte ^ 90 for byte in body)

    def journal():
        return SqliteStore("sealed.db", encrypt=seal, decrypt=seal)

    def broken():
        raise OSError("no key here")

    number = 3
    Store = SqliteStore
"""


@pytest.fixture
def sealed(tmp_path: Path) -> str:
    (tmp_path / "keys.py").write_text(textwrap.dedent(SEALED))
    return "keys.py:journal"


def test_an_encrypted_journal_is_used_from_the_command_line(
    sealed: str, said: Any, support: str, api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    api([refund(), replies.text("Paid back the kettle.")])
    assert main(["run", support, "refund order 7", "--journal", sealed]) == 3
    out = capsys.readouterr().out
    assert f"--journal {sealed}" in out
    assert b"refund order 7" not in Path("sealed.db").read_bytes()
    code, out, _ = said("show", "--journal", "sealed.db", run_id := only(said, sealed))
    assert code == 0
    assert "decrypt=" in " ".join(out.split())
    assert "--journal file.py:NAME" in " ".join(out.split())
    assert "delete it" not in out, "with its key it goes on"
    assert "May I?" in said("show", run_id, "--journal", sealed)[1]
    assert "May I?" in said("show", run_id, "--journal", "keys:journal")[1]
    assert said("answer", run_id, "approve", "-w", support, "--journal", "keys:journal")[0] == 0
    assert "kettle" in said("show", run_id, "--journal", "keys:journal")[1]
    assert main(["migrate", "--check", sealed, support]) == 0


def only(said: Any, journal: str) -> str:
    out = said("ls", "--journal", journal)[1]
    return str(out.splitlines()[1].split()[0])


def test_what_opens_no_journal_says_what_does(sealed: str, said: Any) -> None:
    assert "keys.py:number is 3: a journal is a Store, or a function" in said("ls", "--journal", "keys.py:number")[2]
    assert "keys.py:broken failed with OSError: no key here" in said("ls", "--journal", "keys.py:broken")[2]
    assert "failed with TypeError" in said("ls", "--journal", "keys.py:Store")[2]
    assert "has no 'jurnal' (did you mean journal?)" in said("ls", "--journal", "keys.py:jurnal")[2]
    assert "there is no file missing.py" in said("ls", "--journal", "missing.py:journal")[2]
    out = " ".join(said("ls", "--help")[1].split())
    assert "file.py:NAME" in out
    assert "decrypt=" in out


def test_a_file_of_that_name_is_the_file(sealed: str, said: Any, desk: Any) -> None:
    desk([replies.text("ok")], run_id="r")
    Path("runs.db").rename("keys.py:journal")
    assert "r " in said("ls", "--journal", "keys.py:journal")[1]
    assert sys.modules.get("keys") is None


def test_a_store_that_redacts_says_at_once_that_nobody_goes_on(
    tmp_path: Path, support: str, api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "from fsm import redact_secrets\nfrom fsm.stores.sqlite import SqliteStore\n\n\ndef journal():\n"
    (tmp_path / "clean.py").write_text(text + '    return SqliteStore("clean.db", redact=redact_secrets)\n')
    api([refund()])
    said = "Refund 7, key sk-ant-api03-abcdefghijklmnop123456"
    assert redact_secrets(said) != said
    assert main(["run", support, said, "--journal", "clean.py:journal"]) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "redact= changed record 0" in out
    assert "fsm runs answer" not in out
    assert "end it: fsm runs cancel" in out


@pytest.mark.parametrize("command", [["ls"], ["verify"], ["show", "r"], ["purge", "--older-than", "1d"]])
def test_what_is_no_journal_is_said_as_it_is(said: Any, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "folder").mkdir()
    for name, why in (
        ("empty.db", "empty.db is empty: no journal"),
        ("folder", "folder is a folder: name the journal in it, such as folder/runs.db"),
        ("nowhere/runs.db", f"there is no journal nowhere/runs.db, and no folder {tmp_path / 'nowhere'}"),
    ):
        code, _, err = said(*command, "--journal", name)
        assert (code, why in err) == (2, True), err
        assert "`fsm run TARGET --journal folder" not in err
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_run_may_begin_in_an_empty_file(tmp_path: Path, support: str) -> None:
    (tmp_path / "empty.db").touch()
    workflow = load_workflow(support)
    shop = sys.modules[workflow.__module__].Shop
    with Emulator([refund()]).client() as client:
        result = run(workflow, "Hi.", client=client, journal="empty.db", run_id="r", deps=shop())
    assert resume(workflow, "r", journal=result.journal, deps=shop()).parked


def test_a_journal_that_nobody_closed_yet_is_read(said: Any, support: str) -> None:
    with SqliteStore("open.db"):
        assert said("ls", "--journal", "open.db")[0] == 0
