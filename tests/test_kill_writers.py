"""K7: two drivers on one run. One wins; the other gets `ConcurrentWriter`, has written nothing and does no more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from _crash import JOURNAL, Racing, TrappedStore, World, Zygote, client_of, effects, race

from fsm import ConcurrentWriter, MemoryStore, Record, resume, run
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies, serve
from fsm.testing.replies import Reply

ROUNDS = 200
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the other drivers are processes of their own")


@pytest.fixture(scope="module")
def racers() -> Iterator[Sequence[Zygote]]:
    made = [Zygote() for _ in range(2)]
    yield made
    for racer in made:
        racer.close()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


class Ring:
    """Where a round takes place. Whoever wins asks Claude, and is answered when the other one has lost."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lost = folder, threading.Event()
        self.emulator = Emulator(self._reply)

    def _reply(self, body: dict[str, Any]) -> Reply:
        assert self.lost.wait(20), "nobody lost"
        return replies.text("done") if len(body["messages"]) > 2 else replies.tool_use("charge", {"number": 1})

    def begin(self, store: Any, count: int = ROUNDS) -> list[str]:
        """Runs that wait for a person's word."""
        ids = [f"r{n}" for n in range(count)]
        for run_id in ids:
            assert (
                run(Racing, "Hi.", run_id=run_id, journal=store, deps=World(self.folder)).verdict.reason
                == "waiting_person"
            )
        return ids

    def fight(self, fighters: Sequence[Callable[[], dict[str, Any]]], pool: ThreadPoolExecutor) -> tuple[Any, Any]:
        """Let both go at once; the winner and the loser."""
        self.lost.clear()
        futures = [pool.submit(fighter) for fighter in fighters]
        first, _ = wait(futures, 20, return_when=FIRST_COMPLETED)
        loser = first.pop().result()
        self.lost.set()
        (winner,) = (future.result(20) for future in futures if future.result(20) is not loser)
        return winner, loser


def check(records: Sequence[Record], winner: dict[str, Any], loser: dict[str, Any]) -> None:
    """The run is that of the winner alone, to its end."""
    assert "lost" in loser, loser
    assert winner == {"state": "answered", "words": winner.get("words")}
    assert winner["words"] != loser["words"]
    assert [r.data["said"] for r in records if r.kind == "answer"] == [winner["words"]]
    assert [r.seq for r in records] == list(range(len(records)))
    kinds = [r.kind for r in records]
    assert {kind: kinds.count(kind) for kind in ("request", "reply", "tool.begin", "tool.end", "close")} == {
        "request": 2,
        "reply": 2,
        "tool.begin": 1,
        "tool.end": 1,
        "close": 1,
    }


@pytest.mark.parametrize("claims", [True, False], ids=["claim", "fence"])
def test_two_processes_on_one_run(tmp_path: Path, racers: Sequence[Zygote], *, claims: bool) -> None:
    """K7: 200 rounds; with claims the loser is told at once, without them it loses at the fence of `append`."""
    ring = Ring(tmp_path)
    with SqliteStore(tmp_path / JOURNAL) as store:
        ids = ring.begin(store)
    with serve(ring.emulator) as server, ThreadPoolExecutor(2) as pool:
        for run_id in ids:
            given = {"folder": str(tmp_path), "url": server.url, "run_id": run_id, "claims": claims, "here": True}

            def fighter(racer: Zygote, words: str, given: dict[str, Any] = given) -> Callable[[], dict[str, Any]]:
                return lambda: racer.done("answer", words=words, **given)[1]

            winner, loser = ring.fight([fighter(racers[0], "one"), fighter(racers[1], "two")], pool)
            with SqliteStore(tmp_path / JOURNAL) as store:
                check(list(store.read(run_id)), winner, loser)
                assert store.verify(run_id) is None
    charged = [key for kind, key, _ in effects(tmp_path) if kind == "charge"]
    assert len(charged) == len(set(charged)) == ROUNDS, "a tool ran for the winner, once"


@pytest.mark.parametrize("claims", [True, False], ids=["claim", "fence"])
def test_two_threads_on_one_run(tmp_path: Path, *, claims: bool) -> None:
    """K7: the same within one process, on one handle."""
    ring, stores = Ring(tmp_path), TrappedStore(tmp_path / JOURNAL, claims=claims)
    ids = ring.begin(stores.inner)
    with ring.emulator.client() as client, ThreadPoolExecutor(2) as pool:
        for run_id in ids:
            both = threading.Barrier(2)

            def fighter(words: str, run_id: str = run_id, both: threading.Barrier = both) -> Any:
                meet = None if claims else both.wait
                return lambda: race(stores, client, World(tmp_path), run_id, words, meet=meet)

            winner, loser = ring.fight([fighter("one"), fighter("two")], pool)
            check(list(stores.read(run_id)), winner, loser)
    charged = [key for kind, key, _ in effects(tmp_path) if kind == "charge"]
    assert len(charged) == len(set(charged)) == ROUNDS
    stores.inner.close()


class Stopper:
    """Claude calls a tool; the first process that asks is stopped before it reads that."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self.zygote, self.folder = zygote, folder
        self.pids: SimpleQueue[int] = SimpleQueue()
        self.stopped = threading.Event()

    def reply(self, body: dict[str, Any]) -> Reply:
        if not self.stopped.is_set():
            os.kill(self.pids.get(timeout=20), signal.SIGSTOP)
            self.stopped.set()
        return replies.text("done") if len(body["messages"]) > 2 else replies.tool_use("charge", {"number": 1})

    def start(self, url: str, *, claims: bool) -> int:
        """A process that drives run r0 and sleeps since its request left."""
        with SqliteStore(self.folder / JOURNAL) as store:
            run(Racing, "Hi.", run_id="r0", journal=store, deps=World(self.folder))
        given = {"folder": str(self.folder), "url": url, "run_id": "r0", "words": "zombie", "claims": claims}
        pid = self.zygote.start("answer", **given)
        self.pids.put(pid)
        assert self.stopped.wait(20)
        return pid


def test_a_driver_that_slept_while_its_run_was_taken_over_does_not_act_any_more(tmp_path: Path, zygote: Zygote) -> None:
    """K7, I3: a claim is a courtesy; a zombie loses at the fence, before the tool of the reply that it got."""
    stopper = Stopper(zygote, tmp_path)
    with serve(Emulator(stopper.reply)) as server, client_of(server.url) as client:
        pid = stopper.start(server.url, claims=False)
        with SqliteStore(tmp_path / JOURNAL) as store:
            assert resume(Racing, "r0", journal=store, client=client, deps=World(tmp_path)).state == "answered"
            before = list(store.read("r0"))
            os.kill(pid, signal.SIGCONT)
            code, heard = zygote.wait()
            assert code == 0
            assert "gone on with" in heard["lost"]
            assert list(store.read("r0")) == before
            assert store.verify("r0") is None
    assert [pid for _, _, pid in effects(tmp_path)] == [os.getpid()], "the tool ran here, and nowhere else"


def test_a_claim_ends_with_its_process(tmp_path: Path, zygote: Zygote) -> None:
    """K7: a process that sleeps still holds its run; one that was killed does not, at once."""
    stopper = Stopper(zygote, tmp_path)
    with serve(Emulator(stopper.reply)) as server, client_of(server.url) as client:
        pid = stopper.start(server.url, claims=True)
        with SqliteStore(tmp_path / JOURNAL) as store:
            options: dict[str, Any] = {"journal": store, "client": client, "deps": World(tmp_path)}
            before = list(store.read("r0"))
            for answer in (None, "Me too."):
                with pytest.raises(ConcurrentWriter, match="being driven by another process"):
                    resume(Racing, "r0", answer=answer, **options)
            assert list(store.read("r0")) == before
            os.kill(pid, signal.SIGKILL)
            assert zygote.wait()[0] == -signal.SIGKILL
            assert resume(Racing, "r0", **options).state == "answered"
            assert [r.data["said"] for r in store.read("r0") if r.kind == "answer"] == ["zombie"]
    assert len(effects(tmp_path)) == 1


def test_an_answer_to_a_run_that_is_driven_is_not_recorded(tmp_path: Path) -> None:
    """K7: whoever answers is told, and the answer is nowhere."""
    store = MemoryStore()
    run(Racing, "Hi.", run_id="r", journal=store, deps=World(tmp_path))
    seen: list[int] = []

    def reply(body: dict[str, Any]) -> Reply:
        before = tuple(store.read("r"))
        with pytest.raises(ConcurrentWriter, match="driven already"):
            resume(Racing, "r", answer="Me too.", journal=store, deps=World(tmp_path))
        assert tuple(store.read("r")) == before
        seen.append(len(before))
        return replies.text("done")

    with Emulator(reply).client() as client:
        result = resume(Racing, "r", answer="Go.", journal=store, client=client, deps=World(tmp_path))
    assert (result.text, len(seen)) == ("done", 1)
