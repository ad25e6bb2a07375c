"""K5, K6: the n-th write, sync, open of a journal fails. The caller is told, and what is there afterwards is whole.

The children of these tests are processes of their own: one sets a limit for the size of its files, the others load a
library before that of the system, which fails what it is told to fail.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from _driving import Clock, loop_of

from fsm import Context, JournalError, Record, RunError, resume, run, tool
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
enum { SYNC, WRITE, READ, CUT, OPEN };
static int what = -1, left, error, fired;
void fsm_arm(int w, int n, int e) { what = w; left = n; error = e; fired = 0; }
int fsm_fired(void) { what = -1; return fired; }
static int is_ours(int fd) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, name, sizeof name - 1);
    if (size < 0) return 0;
    name[size] = 0;
    return strstr(name, "runs.db") != NULL;
}
static int due(int w, int fd) {
    if (what != w || (fd >= 0 && !is_ours(fd)) || --left) return 0;
    fired = 1;
    return 1;
}
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(w, fd) if (due(w, fd)) { errno = error; return -1; }
int fsync(int fd) { FAIL(SYNC, fd) return REAL(fsync)(fd); }
int fdatasync(int fd) { FAIL(SYNC, fd) return REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t n) { FAIL(CUT, fd) return REAL(ftruncate)(fd, n); }
int ftruncate64(int fd, off64_t n) { FAIL(CUT, fd) return REAL(ftruncate64)(fd, n); }
#define PUT(name, kind) \
    ssize_t name(int fd, const void *from, size_t n, kind at) { \
        if (due(WRITE, fd)) { \
            if (!error) return REAL(name)(fd, from, n / 2, at); \
            errno = error; \
            return -1; \
        } \
        return REAL(name)(fd, from, n, at); \
    }
PUT(pwrite, off_t)
PUT(pwrite64, off64_t)
ssize_t write(int fd, const void *from, size_t n) { FAIL(WRITE, fd) return REAL(write)(fd, from, n); }
ssize_t pread(int fd, void *to, size_t n, off_t at) { FAIL(READ, fd) return REAL(pread)(fd, to, n, at); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) { FAIL(READ, fd) return REAL(pread64)(fd, to, n, at); }
#define OPEN_(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        int mode = va_arg(more, int); \
        va_end(more); \
        if (strstr(path, "runs.db")) FAIL(OPEN, -1) \
        return REAL(name)(path, flags, mode); \
    }
OPEN_(open)
OPEN_(open64)
"""
CASES = (  # what fails, how, every which call after the first dozen, how often the caller must be told at least
    ("sync", "EIO", 1, 10),
    ("write", "EIO", 7, 15),
    ("write", "ENOSPC", 9, 15),
    ("write", "SHORT", 11, 0),
    ("write", "EINTR", 11, 0),
    ("read", "EIO", 2, 1),
    ("cut", "EIO", 1, 0),
    ("open", "EMFILE", 1, 2),
    ("open", "EIO", 1, 2),
)
KINDS = {"sync": 0, "write": 1, "read": 2, "cut": 3, "open": 4}


# --- the run ----------------------------------------------------------------------------------------------------------


@tool
def charge(ctx: Context[list[str]], number: int) -> str:
    """Charge."""
    ctx.deps.append(ctx.tool_use_id or "")
    return f"charged {number}"


WORKFLOW = loop_of(charge)


def script(body: dict[str, Any]) -> Any:
    """By what was said so far, so that a request that is sent again gets the same answer."""
    turns = sum(message["role"] == "assistant" for message in body["messages"])
    return replies.tool_use("charge", {"number": 1}) if turns < 1 else replies.text("done")


class Play:
    """One run that is disturbed, looked at, and taken to its end."""

    def __init__(self, folder: Path) -> None:
        self.path, self.emulator = folder / "runs.db", Emulator(script)
        self.charged: list[str] = []
        self.sent = 0

    def drive(self, verb: Callable[..., Any], store: SqliteStore, given: str, **options: Any) -> Any:
        clock = Clock()
        with self.emulator.client() as client:
            return verb(
                WORKFLOW,
                given,
                client=client,
                journal=store,
                deps=self.charged,
                clock=clock,
                sleep=clock.sleep,
                **options,
            )

    def disturbed(self, calm: Callable[[], Any]) -> bool:
        """Whether the run came through. `calm` ends the trouble; what failed once must not go on after it."""
        store = None
        try:
            store = SqliteStore(self.path)
            self.drive(run, store, "Hi.", run_id="r")
        except JournalError:
            calm()
            if store is not None:
                self.poisoned(store)
            return False
        else:
            calm()
            store.close()
            return True

    def poisoned(self, store: SqliteStore) -> None:
        """K6: after a commit that failed that handle sends and writes nothing; being killed then loses nothing."""
        sent = len(self.emulator.requests)
        if store._broken:
            for verb, given, options in ((resume, "r", {}), (run, "Hi.", {"run_id": "other"})):
                with pytest.raises(JournalError, match="open it anew"):
                    self.drive(verb, store, given, **options)
            with pytest.raises(JournalError, match="open it anew"):
                store.append("other", [Record(0, "note", 1.0, {})])
        assert len(self.emulator.requests) == sent
        killed = self.path.parent / "killed"
        killed.mkdir()
        for file in self.path.parent.glob("runs.db*"):
            shutil.copy(file, killed / file.name)
        store.close()
        other = Play(killed)
        other.charged, other.sent = list(self.charged), sent + self.sent
        other.ends()

    def ends(self) -> None:
        """What is there is whole, and the run ends: no tool twice, and nothing was sent that is not on record."""
        with SqliteStore(self.path) as store:
            try:
                records = list(store.read("r"))
            except RunError:
                records = []
            assert not records or store.verify("r") is None
            assert self.sent + len(self.emulator.requests) <= sum(record.kind == "request" for record in records)
            begun = [call for record in records if record.kind == "tool.begin" for call in record.data["ids"]]
            assert set(self.charged) <= set(begun)
            result = self.drive(resume, store, "r") if records else self.drive(run, store, "Hi.", run_id="r")
            assert not result.verdict.resumable
            assert result.state == "answered"
            assert store.verify("r") is None
        assert len(self.charged) == len(set(self.charged)) <= 1


def each_time(limit: int, attempt: Callable[[Play, int], bool | None]) -> int:
    """Disturb runs, each at a later place, until one is not reached by it; how many were."""
    for count in range(limit):
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:  # noqa: PTH112, S108
            play = Play(Path(folder))
            is_through = attempt(play, count)
            play.ends() if not is_through else None
        if is_through:
            return count
    pytest.fail("it never came through")


# --- the children -----------------------------------------------------------------------------------------------------


def limited() -> None:
    """K5: files cannot grow beyond a size. The write that would is short, the next one fails."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def attempt(play: Play, count: int) -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (count * 1500, most))
        return play.disturbed(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))

    print(json.dumps(each_time(1000, attempt)))  # noqa: T201 - to the parent


def failing_all() -> None:
    print(json.dumps([failing(kind, getattr(errno, error, 0), stride) for kind, error, stride, _ in CASES]))  # noqa: T201


def failing(kind: str, error: int, stride: int) -> tuple[int, int]:
    """K5, K6: the n-th call fails once, as if nothing had been."""
    shim = ctypes.CDLL(None)
    told = 0

    def attempt(play: Play, count: int) -> bool | None:
        nonlocal told
        number = count + 1 if count < 12 else 12 + (count - 11) * stride
        fired = 0

        def calm() -> None:
            nonlocal fired
            fired = fired or shim.fsm_fired()

        shim.fsm_arm(KINDS[kind], number, error)
        is_through = play.disturbed(calm)
        told += not is_through
        assert fired or is_through, "an error out of nothing"
        return is_through and not fired

    try:
        return each_time(1000, attempt), told
    except BaseException as problem:
        problem.add_note(f"{kind} {os.strerror(error)}, after {told} that were told")
        raise


def in_doubt() -> None:
    """What was said of a commit whose n-th sync or write failed, and whether it counts for whoever reads the file."""
    shim, found = ctypes.CDLL(None), []
    for kind, number in [("sync", 1), ("sync", 2), *(("write", n) for n in range(1, 20))]:
        with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder) / "runs.db") as store:
            store.append("r", [Record(0, "note", 1.0, {})])
            shim.fsm_arm(KINDS[kind], number, errno.EIO)
            said = ""
            try:
                store.append("r", [Record(1, "note", 2.0, {"text": "x" * 20_000})])
            except JournalError as error:
                said = str(error)
            is_hit = bool(shim.fsm_fired())
            killed = Path(folder) / "killed"
            killed.mkdir()
            for file in Path(folder).glob("runs.db*"):
                shutil.copy(file, killed / file.name)
            with SqliteStore(killed / "runs.db") as anew:
                assert anew.verify("r") is None
                found.append((kind, is_hit, said, anew.summary("r").records == 2))
    print(json.dumps(found))  # noqa: T201


def child(call: str, **env: str) -> Any:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", f"import test_fail_io; test_fail_io.{call}"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}", **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="limits are those of POSIX")
def test_a_file_that_cannot_grow() -> None:
    """K5: at any size; each failure is a `JournalError`, and the run is gone on with to its end."""
    assert child("limited()") > 20


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    gcc = shutil.which("gcc")
    if gcc is None or sys.platform != "linux":
        pytest.skip("needs gcc and LD_PRELOAD")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    made = subprocess.run(
        [gcc, "-shared", "-fPIC", "-O1", "-o", folder / "shim.so", folder / "shim.c", "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"gcc cannot make it: {made.stderr[-500:]}")
    return str(folder / "shim.so")


@pytest.fixture(scope="module")
def outcomes(shim: str) -> dict[tuple[str, str], tuple[int, int]]:
    found = child("failing_all()", LD_PRELOAD=shim)
    return {(kind, error): tuple(each) for (kind, error, _, _), each in zip(CASES, found, strict=True)}


@pytest.mark.parametrize(("kind", "error", "least"), [(kind, error, least) for kind, error, _, least in CASES])
def test_the_nth_call_fails(outcomes: Any, kind: str, error: str, least: int) -> None:
    """K5, K6: the handle is of no use after that, nothing is sent any more; opened anew the run goes on to its end."""
    reached, told = outcomes[kind, error]
    assert reached >= 1, "nothing was disturbed"
    assert told >= least
    if error in {"SHORT", "EINTR"}:
        assert told == 0, "what the system asks to be done again is done again"


def test_what_is_said_of_a_commit_that_failed_is_true(shim: str) -> None:
    """K6: after a failed sync it may count; a resume decides by what the file holds."""
    found = child("in_doubt()", LD_PRELOAD=shim)
    told = [(kind, said, counts) for kind, is_hit, said, counts in found if is_hit]
    assert len(told) > 3
    assert all("whether it counts is not known" in said or not counts for _, said, counts in told)
    assert {counts for kind, said, counts in told if kind == "sync"} == {True}, "such a commit can count"
    assert all(not said and counts for _, is_hit, said, counts in found if not is_hit)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """K5: a small disk, full at the start and full half-way; with room made the run goes on."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("may not mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("may not mount")
    try:
        for room in (0, 1, 4, 12, 40, 60, 80, 100, 140):
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            os.truncate(filler, max(0, filler.stat().st_size - room * 1024))
            play = Play(disk)
            is_through = play.disturbed(filler.unlink)
            assert is_through == (room == 140)
            if not is_through:
                play.ends()
            for each in disk.iterdir():
                shutil.rmtree(each) if each.is_dir() else each.unlink()
    finally:
        subprocess.run(["umount", disk], check=True)
