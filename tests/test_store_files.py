"""The files of the embedded journal: what is refused untouched, who may read, that what is deleted is gone."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import stat
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _driving import Plain
from test_resume import Desk

from fsm import JournalError, Record, RunError, UsageError, approve, fork, resume, run
from fsm._summary import Query
from fsm.stores.sqlite import SqliteStore, shared
from fsm.testing import Emulator, replies

CANARY = "canary-7c1f"
OPEN = {"workflow": "W", "state": "asking", "messages": [CANARY], "tags": {}}
NOBODY = 65534
needs_posix = pytest.mark.skipif(os.name != "posix", reason="modes and forks are of POSIX")


def whole_run(store: SqliteStore, run_id: str, text: str = CANARY, size: int = 1) -> None:
    store.append(run_id, [Record(0, "open", 1.0, {**OPEN, "messages": [text]})])
    store.append(run_id, [Record(1, "say", 2.0, {"history": "main", "messages": [text * size]})])
    ended = {"state": "done", "ok": True, "reason": "end", "evidence": {"text": text}}
    store.append(run_id, [Record(2, "close", 3.0, ended)])


def journal(path: Path) -> Path:
    """A journal of one run, closed."""
    with SqliteStore(path) as store:
        whole_run(store, "r")
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(folder.iterdir()) if each.is_file()}


def in_child(act: Callable[[], object], user: int | None = None) -> str:
    """What a fork says about an act: the error it raises, or nothing."""
    here, there = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests have left threads behind
        child = os.fork()
    if not child:
        told = ""
        try:
            if user is not None:
                os.setuid(user)
            act()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            told = traceback.format_exception_only(error)[-1]
        os.write(there, told.encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    return told


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


def _text(path: Path) -> None:
    path.write_text("Dear diary,\n" * 100)


def _one_byte(path: Path) -> None:
    path.write_bytes(b"S")


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(8192))


def _of_another(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE runs (id INTEGER); PRAGMA application_id = 77")
    db.close()


def _of_nobody(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE songs (id INTEGER)")
    db.close()


def _newer(path: Path) -> None:
    db = sqlite3.connect(journal(path))
    db.execute("PRAGMA user_version = 99")
    db.close()


def _cut_header(path: Path) -> None:
    path.write_bytes(journal(path).read_bytes()[:50])


def _cut_page(path: Path) -> None:
    path.write_bytes(journal(path).read_bytes()[:-100])


def _for_the_group(path: Path) -> None:
    journal(path).chmod(0o660)


def _for_all(path: Path) -> None:
    journal(path).chmod(0o602)


def _link(path: Path) -> None:
    path.symlink_to(journal(path.with_name("real.db")))


def _broken_link(path: Path) -> None:
    path.symlink_to(path.with_name("nothing.db"))


REFUSED: dict[Callable[[Path], None], str] = {
    _text: "is no journal: it is no SQLite file. Name another file",
    _one_byte: "is no journal",
    _zeros: "is no journal",
    _of_another: "is an SQLite file of another program. Name another file",
    _of_nobody: "is an SQLite file of another program. Name another file",
    _newer: "newer version of fsm.*upgrade claude-fsm",
    _cut_header: "header is cut. Restore it from a backup",
    _cut_page: "size is not a whole number of pages. Restore it from a backup",
    _for_the_group: "run `chmod go-w`",
    _for_all: "run `chmod go-w`",
    _link: "is a symbolic link: name the file that it leads to",
    _broken_link: "is a symbolic link: name the file that it leads to",
}


@needs_posix
@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: str(spoil.__name__.strip("_")))
def test_what_is_no_journal_of_ours_is_refused_and_untouched(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "runs.db"
    spoil(path)
    before, mode = bytes_of(tmp_path), path.lstat().st_mode
    with pytest.raises(JournalError, match=REFUSED[spoil]) as caught:
        SqliteStore(path)
    assert str(path) in str(caught.value)
    assert (bytes_of(tmp_path), path.lstat().st_mode) == (before, mode)


def test_a_folder_and_what_lies_in_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalError, match="is no file"):
        SqliteStore(tmp_path / "folder")
    with pytest.raises(JournalError, match="cannot be made: No such file or directory; is there such a folder"):
        SqliteStore(tmp_path / "missing" / "runs.db")
    with pytest.raises(UsageError, match="names no file: there is a NUL in it"):
        SqliteStore(tmp_path / "nul\0byte.db")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_posix
@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_file_that_may_not_be_written_or_read_is_refused(open_folder: Path, mode: int) -> None:
    path = journal(open_folder / "runs.db")
    before = bytes_of(open_folder)
    path.chmod(mode)
    told = in_child(lambda: SqliteStore(path), NOBODY if os.geteuid() == 0 else None)  # root may do everything
    assert ("run `chmod u+w`" if mode else "cannot be read: Permission denied") in told
    path.chmod(0o600)
    assert bytes_of(open_folder) == before


@needs_posix
def test_a_folder_that_may_not_be_written_is_named(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    told = in_child(lambda: SqliteStore(open_folder / "new.db"), NOBODY if os.geteuid() == 0 else None)
    open_folder.chmod(0o755)
    assert "may you write in it?" in told
    assert not bytes_of(open_folder)


# ── who may read ────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_every_file_is_its_owners_only_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with SqliteStore(tmp_path / "runs.db") as store:
            whole_run(store, "r")
            store.claim("r")
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
            store.release("r")
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("runs.db", "runs.db-wal", "runs.db-shm", "runs.db-claims"), 0o600)


@needs_posix
def test_a_handle_from_before_a_fork_is_refused_in_the_child_and_whole_in_the_parent(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        whole_run(store, "r")
        for act in (
            lambda: store.summary("r"),
            lambda: list(store.read("r")),
            lambda: store.append("r", [Record(3, "wake", 4.0, {})]),
            lambda: store.delete("r"),
        ):
            told = in_child(act)
            assert "JournalError" in told
            assert "before this process was forked: open it anew" in told

        def anew() -> None:
            store.close()  # does nothing here: the parent's handle stays open
            with SqliteStore(tmp_path / "runs.db") as own:
                own.append("r", [Record(3, "wake", 4.0, {})])

        assert in_child(anew) == ""
        store.append("r", [Record(4, "wake", 5.0, {})])
        assert store.summary("r").records == 5
        assert store.verify("r") is None


# ── what is gone is gone ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["erase", "delete", "purge", "purge and erase"])
def test_what_was_erased_or_deleted_is_in_no_byte_of_any_file(tmp_path: Path, verb: str) -> None:
    with SqliteStore(tmp_path / "runs.db") as store, SqliteStore(tmp_path / "runs.db") as reader:
        for n in range(20):  # pages are shared and split, and some bodies take many pages
            whole_run(store, f"kept {n}", "kept-text")
            whole_run(store, f"gone {n}", CANARY, 1 + 700 * (n % 3))
        assert reader.summary("gone 1").records == 3
        assert any(CANARY.encode() in each for each in bytes_of(tmp_path).values())
        if verb.startswith("purge"):
            for n in range(20):
                store.claim(f"kept {n}")
            assert len(store.purge(Query(), erase=verb != "purge")) == 20
        else:
            for n in range(20):
                getattr(store, verb)(f"gone {n}")
        found = bytes_of(tmp_path)
        assert not [name for name, each in found.items() if CANARY.encode() in each]
        assert b"kept-text" in found["runs.db"]
        assert {store.verify(each.run_id) for each in store.runs()} == {None}
        assert [r.data["messages"] for r in reader.read("kept 3", 0) if r.kind == "open"] == [["kept-text"]]
    assert not [name for name, each in bytes_of(tmp_path).items() if CANARY.encode() in each]


# ── hooks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def turned(by: int) -> Callable[[bytes], bytes]:
    return lambda body: bytes((byte + by) % 256 for byte in body)


def test_a_wrong_key_is_said_so_and_verify_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with SqliteStore(path, encrypt=turned(3), decrypt=turned(-3)) as store:
        whole_run(store, "r")
    assert CANARY.encode() not in b"".join(bytes_of(tmp_path).values())
    wrong = (turned(-4), lambda body: b"[" + body, lambda body: body[:0], lambda _: 1 / 0)
    for decrypt in (None, *wrong):
        with SqliteStore(path, decrypt=decrypt) as store:  # type: ignore[arg-type]
            with pytest.raises(
                JournalError, match=r"body of record 0 cannot be read .*pass the decrypt= that it needs"
            ):
                list(store.read("r"))
            assert store.verify("r") is None
            assert [record.kind for record in store.outline("r")] == ["open", "say", "close"]
            assert store.summary("r").status == "ended"
    with SqliteStore(path, decrypt=turned(-3)) as store:
        assert next(store.read("r")).data["messages"] == [CANARY]


def test_a_hook_that_fails_writes_nothing_and_leaves_the_handle_whole(tmp_path: Path) -> None:
    def refuse(body: bytes) -> bytes:
        if b"refuse" in body:
            raise ValueError("no key today")
        return body

    with SqliteStore(tmp_path / "runs.db", encrypt=refuse) as store:
        whole_run(store, "r")
        with pytest.raises(
            JournalError, match=r"record 0 \(open\) cannot be stored: no key today; nothing was written"
        ):
            whole_run(store, "other", "refuse")
        with pytest.raises(RunError):
            store.summary("other")
        whole_run(store, "other")


def test_what_redact_changed_is_not_stored_and_such_a_run_is_verified_not_resumed(tmp_path: Path) -> None:
    path, emulator = tmp_path / "runs.db", Emulator([replies.tool_use("refund", {"number": CANARY})])

    def hidden(text: str) -> str:
        return text.replace(CANARY, "[gone]")

    with SqliteStore(path, redact=hidden) as store:
        parked = run(Desk, f"Pay {CANARY}", client=emulator.client(), journal=store, run_id="r")
        assert parked.verdict.reason == "waiting_person"
    assert CANARY.encode() not in b"".join(bytes_of(tmp_path).values())
    with SqliteStore(path) as store:
        assert store.verify("r") is None
        assert "[gone]" in str(list(store.read("r")))
        before = list(store.read("r"))
        for go_on in (
            lambda: resume(Desk, "r", answer=approve(), client=emulator.client(), journal=store),
            lambda: fork(Desk, "r", at=len(before), journal=store),
        ):
            with pytest.raises(JournalError, match=r"redact= changed record 0 \(open\).*run anew"):
                go_on()
        assert list(store.read("r")) == before
        assert not store.is_claimed("r")


def test_a_run_that_redact_left_alone_is_resumed_as_ever(tmp_path: Path) -> None:
    emulator = Emulator([replies.tool_use("refund", {"number": "7"}), replies.text("Done.")])
    with SqliteStore(tmp_path / "runs.db", redact=lambda text: text.replace(CANARY, "")) as store:
        run(Desk, "Pay 7", client=emulator.client(), journal=store, run_id="r")
        assert resume(Desk, "r", answer=approve(), client=emulator.client(), journal=store).state == "answered"


# ── handles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_handles_that_are_dropped_warn_of_nothing_and_are_closed(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole_run(SqliteStore(tmp_path / "runs.db"), "r")
        half_read = SqliteStore(tmp_path / "runs.db").read("r")
        next(half_read)
        del half_read
        emulator = Emulator([replies.text("Hello.")])
        result = run(Plain, "Hi", client=emulator.client(), journal=tmp_path / "runs.db")
        assert shared(tmp_path / "runs.db") is shared(tmp_path / "runs.db")
        assert result.records
        del result
        gc.collect()
    assert [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)] == []
    assert set(bytes_of(tmp_path)) - {"runs.db-claims"} == {"runs.db"}  # the last to close takes the log away


def test_a_closed_handle_says_so_and_closing_twice_is_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db")
    whole_run(store, "r")
    store.close()
    store.close()
    for act in (lambda: store.summary("r"), lambda: store.append("r", [Record(3, "wake", 4.0, {})]), store.compact):
        with pytest.raises(JournalError, match="it was closed: open it anew"):
            act()
