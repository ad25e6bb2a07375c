"""K3, K4: a journal whose log was torn, or in which a bit was flipped; one that was taken away while open."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from _driving import Clock, loop_of

from fsm import JournalError, MemoryStore, Record, RunError, resume, run, tool
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

FLIPS = 400
OFFSETS = 256
NOBODY = 65534


@tool
def charge(number: int) -> str:
    """Charge."""
    return f"charged {number} " + "é~" * 400


WORKFLOW = loop_of(charge)


def script(body: dict[str, Any]) -> Any:
    """By what was said so far, so that a request that is sent again gets the same answer."""
    turns = sum(message["role"] == "assistant" for message in body["messages"])
    return replies.tool_use("charge", {"number": turns}) if turns < 3 else replies.text("done")


def begin(store: Any, run_id: str = "r") -> None:
    clock = Clock()
    with Emulator(script).client() as client:
        run(WORKFLOW, "Hi.", client=client, journal=store, run_id=run_id, clock=clock, sleep=clock.sleep)


def end(store: Any, run_id: str = "r") -> None:
    """Take the run up where it stands: it ends, and is whole."""
    clock = Clock()
    with Emulator(script).client() as client:
        assert not resume(
            WORKFLOW, run_id, client=client, journal=store, clock=clock, sleep=clock.sleep
        ).verdict.resumable
    assert store.verify(run_id) is None


def commits(path: Path, run_id: str = "r") -> list[int]:
    """How many records a run had after each of its commits; 0 before the first."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT seq FROM records JOIN runs ON runs.id = run WHERE hash_ AND run_id = ? ORDER BY seq"
        found = db.execute(query.replace("hash_", "records.hash IS NOT NULL"), (run_id,))
        return [0, *(seq + 1 for (seq,) in found)]


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


# --- K3: torn ---------------------------------------------------------------------------------------------------------


class Torn:
    """A journal as it was when the power went: its file, and a log that is not in it yet."""

    def __init__(self, folder: Path, *, half_way: bool) -> None:
        self.folder = folder
        path = folder / "whole.db"
        with SqliteStore(path) as store:
            if half_way:  # a part is in the file, and the log began anew after it, over what it held
                begin(store, "before")
                assert store._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
            begin(store)
            self.records = list(store.read("r"))
            self.ends = commits(path)
            self.file, self.log = path.read_bytes(), log_of(path).read_bytes()
        self.seen: dict[int, int] = {}

    def places(self, offsets: int) -> list[int]:
        """Each boundary of a frame, and others; see SQLite's file format, section 4."""
        frame = 24 + int.from_bytes(self.log[8:12])
        edges = [0, 1, 31, *range(32, len(self.log) + 1, frame)]
        return sorted({*edges, *random.Random(3).sample(range(len(self.log)), offsets)})

    def look(self, log: bytes) -> None:
        path = self.folder / "torn.db"
        path.unlink(missing_ok=True)
        path.with_name("torn.db-shm").unlink(missing_ok=True)
        path.write_bytes(self.file)
        path.chmod(0o600)
        log_of(path).write_bytes(log)
        try:
            store = SqliteStore(path)
        except JournalError:
            self.seen[-1] = self.seen.get(-1, 0) + 1
            return
        with store:
            try:
                found = list(store.read("r"))
            except RunError:
                found = []  # nothing of it is there
            except JournalError:
                assert store.verify("r") is not None
                self.seen[-1] = self.seen.get(-1, 0) + 1
                return
            assert found == self.records[: len(found)]
            assert len(found) in self.ends, "half a commit"
            if not found:
                assert not [each for each in store.runs() if each.run_id == "r"]
            else:
                assert store.verify("r") is None
                assert store.summary("r").records == len(found)
                if len(found) not in self.seen:
                    end(store)
            self.seen[len(found)] = self.seen.get(len(found), 0) + 1


@pytest.mark.parametrize("half_way", [False, True], ids=["first log", "log used again"])
def test_a_torn_log_leaves_whole_commits(tmp_path: Path, *, half_way: bool) -> None:
    """K3: cut, filled with zeros and with garbage."""
    torn = Torn(tmp_path, half_way=half_way)
    chance = random.Random(5)
    for place in torn.places(OFFSETS // 8 if half_way else OFFSETS):
        torn.look(torn.log[:place])
        size = chance.randint(1, 4096)
        rest = chance.choice([bytes(size), chance.randbytes(size)])
        torn.look(torn.log[:place] + rest + torn.log[place + size :])
    assert set(torn.ends) <= set(torn.seen), "every commit was the last one once"
    assert set(torn.seen) == set(torn.ends), "no tear of a log makes a journal that cannot be read"


def test_a_log_that_was_lost_after_a_part_of_it_reached_the_file(tmp_path: Path) -> None:
    """K3: pages of some commits are in the file, those of others not: it is whole, or it is said to be not."""
    path, parts = tmp_path / "whole.db", tmp_path / "part.db"
    with SqliteStore(path) as store:
        begin(store)
        records, ends = list(store.read("r")), commits(path)
        old = path.read_bytes()
        store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        new = path.read_bytes()
    page, outcomes = 4096, set()
    old += bytes(len(new) - len(old))
    for number in range(len(new) // page):
        cut = slice(number * page, (number + 1) * page)
        parts.write_bytes(new[: cut.start] + old[cut] + new[cut.stop :])
        parts.chmod(0o600)
        outcomes.add(told(parts, {"r": records}, ends))
    assert True in outcomes


# --- K4: bits ---------------------------------------------------------------------------------------------------------


def told(path: Path, runs: dict[str, Sequence[Record]], ends: Sequence[int] = ()) -> bool:
    """Whether damage is reported; if not, the records are those that were written. Nothing else may be raised."""
    try:
        store = SqliteStore(path)
    except JournalError:
        return True
    found = False
    with store:
        for run_id, records in runs.items():
            try:
                read = list(store.read(run_id))
                list(store.outline(run_id))
                is_whole = store.verify(run_id) is None
                assert store.summary(run_id).records == len(read)
            except (JournalError, RunError):
                found = True
                continue
            if not is_whole:
                found = True
            elif ends:
                assert read == records[: len(read)]
                assert len(read) in ends
            else:
                assert read == records
        with suppress(JournalError):
            list(store.runs())
    return found


def test_a_flipped_bit_is_never_accepted_silently(tmp_path: Path) -> None:
    """K4: it is reported, or nothing that was recorded has changed."""
    path = tmp_path / "whole.db"
    with SqliteStore(path) as store:
        for run_id in ("a", "b"):
            begin(store, run_id)
        runs = {run_id: list(store.read(run_id)) for run_id in ("a", "b")}
    whole, chance, flipped = path.read_bytes(), random.Random(11), tmp_path / "flipped.db"
    reported = 0
    for number in range(FLIPS):
        data = bytearray(whole)
        bit = chance.randrange(100 * 8 if number < 100 else len(whole) * 8)  # in the header, then anywhere
        data[bit // 8] ^= 1 << bit % 8
        for rest in tmp_path.glob("flipped.db*"):
            rest.unlink()
        flipped.write_bytes(data)
        flipped.chmod(0o600)
        reported += told(flipped, runs)
    assert reported > FLIPS // 4, "many bytes of a small journal are what was recorded, others are room"


def test_each_column_of_each_row_is_watched(tmp_path: Path) -> None:
    """K4: damage that SQLite cannot see: a value that is another value, or of another type."""
    path = tmp_path / "whole.db"
    with SqliteStore(path) as store:
        begin(store)
        records = list(store.read("r"))
    columns = {
        "records": ("id", "kind", "at", "data", "body", "body_hash", "hash"),
        "bodies": ("id", "body"),
        "runs": ("run_id", "hash", "records"),
    }
    with closing(sqlite3.connect(path)) as db:  # the row in the middle that has all there is
        at = db.execute("SELECT seq FROM records WHERE body IS NOT NULL AND hash IS NOT NULL AND seq > 5").fetchone()[0]
    changed = tmp_path / "changed.db"
    for table, names in columns.items():
        for name in names:
            for value in ("x", b"\xff{", 1, 2.5, 10**6, -1, "", "[]", None, "\0"):
                for rest in tmp_path.glob("changed.db*"):
                    rest.unlink()
                shutil.copy(path, changed)
                with closing(sqlite3.connect(changed, isolation_level=None)) as db:
                    key = {"records": f"seq = {at}", "bodies": "id = 3", "runs": "id = 1"}[table]
                    (old,) = db.execute(f"SELECT {name} FROM {table} WHERE {key}").fetchone()  # noqa: S608
                    try:
                        db.execute(f"UPDATE {table} SET {name} = ? WHERE {key}", (value,))  # noqa: S608
                    except sqlite3.IntegrityError:
                        continue
                    (new,) = db.execute(f"SELECT {name} FROM {table} WHERE {key}").fetchone() or (value,)  # noqa: S608
                if new != old or type(new) is not type(old):
                    assert told(changed, {"r": records}), (table, name, value)


@pytest.mark.parametrize("name", ["records", "moves", "tags", "price", "turns", "state", "hash"])
def test_nothing_is_built_on_a_damaged_line_of_a_run(tmp_path: Path, name: str) -> None:
    """K4: the line of a run is in no chain of hashes; what stands on it is refused, and nothing is written."""
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        begin(store)
        more = [Record(len(list(store.read("r"))), "note", 1.0, {"text": "x"})]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"UPDATE runs SET {name} = ?", (b"\xffx",))  # noqa: S608
    with SqliteStore(path) as store:
        asks = [lambda: store.append("r", more), lambda: list(store.read("r")), lambda: list(store.outline("r"))]
        if name != "hash":
            asks += [lambda: store.summary("r"), lambda: list(store.runs())]
        for ask in asks:
            with pytest.raises(JournalError, match=r"damaged.*restore"):
                ask()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM records").fetchone()[0] == more[0].seq


# --- taken away -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "replaced", "log deleted"])
def test_a_journal_that_was_taken_away_while_it_was_open(tmp_path: Path, how: str) -> None:
    """What is written to a file without a name is lost: it is refused, and nothing is sent."""
    path = tmp_path / "runs.db"
    emulator = Emulator(script)
    with SqliteStore(path) as store, emulator.client() as client:
        begin(store, "before")
        if how == "log deleted":
            log_of(path).unlink()
        else:
            path.unlink()
        if how == "replaced":
            shutil.copy(__file__, path)
        for _ in range(2):
            with pytest.raises(JournalError, match="open"):
                run(WORKFLOW, "Hi.", client=client, journal=store, run_id="r")
    assert not emulator.requests
    if how == "replaced":
        assert path.read_bytes() == Path(__file__).read_bytes()


# --- folders and files that may not be written ------------------------------------------------------------------------


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """As a user who is not root, for whom modes count."""
    if os.name != "posix":
        pytest.skip("modes are those of POSIX")
    if os.getuid():
        yield
        return
    for each in (folder, *folder.iterdir()):
        os.chown(each, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_folder_that_may_not_be_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A clear error, whether the journal is there or not; once the folder may be written, all is as it was."""
    folder = tmp_path_factory.mktemp("locked")
    above = [each for each in folder.parents if each.stat().st_uid == os.getuid() and "pytest" in each.name]
    modes = {each: each.stat().st_mode for each in above}
    path = folder / "runs.db"
    memory = MemoryStore()
    begin(memory)
    records = list(memory.read("r"))
    with SqliteStore(path) as store:
        store.append("r", records)
    try:
        for each in above:
            each.chmod(0o755)
        folder.chmod(0o555)
        with nobody(folder):
            with pytest.raises(JournalError, match="may you write"):
                SqliteStore(folder / "new.db")
            with pytest.raises(JournalError, match="folder"), SqliteStore(path) as store:
                begin(store, "s")
    finally:
        folder.chmod(0o755)
        for each, mode in modes.items():
            each.chmod(mode)
    if not os.getuid():
        for each in (folder, *folder.iterdir()):
            os.chown(each, 0, 0)
    with SqliteStore(path) as store:
        assert list(store.read("r")) == records
