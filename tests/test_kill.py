"""K1, K2: real processes that die by SIGKILL around every commit, and are gone on with in another process.

FSM_NIGHTLY=1 kills at every point, at every point again while the run is being taken up, and by the clock of the wall.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from threading import local
from typing import Any

import pytest
from _crash import EFFECTS, JOURNAL, PHASES, SCENARIOS, Zygote, effects

from fsm import Record
from fsm._actions import SendRequest
from fsm._conversation import Conversation
from fsm._conversation._heads import Heads
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, FaultPlan, RecordedRequest, serve

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked, and killed with SIGKILL")

NIGHTLY = os.environ.get("FSM_NIGHTLY") == "1"
SEED = int(os.environ.get("FSM_SEED", "7"))
POINTS = 60  # in CI; all of them nightly
WALL = 200  # kills by the clock of the wall, nightly
# What a crash adds: a retry that is not needed any more is not made, an unknown outcome is said to be one.
_INCIDENTAL = frozenset({"outcome_unknown", "connection_error", "rate_limit_error", "cut_stream", "denied", "approved"})


@pytest.fixture(scope="module")
def zygotes() -> Iterator[Sequence[Zygote]]:
    made = [Zygote() for _ in range(2)]  # one a core
    yield made
    for zygote in made:
        zygote.close()


class Case:
    """A scenario in a folder of its own, with an emulator that every process of it asks."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.scenario = name, folder, SCENARIOS[name]
        folder.mkdir()
        self.emulator = Emulator(self.scenario.script, faults=FaultPlan(self.scenario.faults))

    def records(self, folder: Path | None = None) -> list[Record]:
        with SqliteStore((folder or self.folder) / JOURNAL) as store:
            return list(store.read("r")) if any(run.run_id == "r" for run in store.runs()) else []

    def left_behind(self) -> list[Record]:
        """What the dead process left, read from a copy: the next process is the one that recovers the file."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.folder.glob(f"{JOURNAL}*"):
            shutil.copy(file, copy)
        return self.records(copy) if (copy / JOURNAL).exists() else []

    def folded(self, records: Sequence[Record]) -> Conversation:
        workflow = self.scenario.workflow
        conversation = Conversation(workflow.plan, Heads(workflow.graph, workflow.toolbox.definitions))
        conversation.fold(records)
        return conversation

    def next_body(self) -> bytes | None:
        """B6: the bytes that the next process must send first; None where it sends something else, or nothing."""
        records = self.left_behind()
        if not records:
            return None
        conversation = self.folded(records)
        if conversation.run.parked is not None:
            return None
        actions = conversation.pending()
        action = actions[0] if actions else None
        return action.body(stream=self.scenario.stream) if isinstance(action, SendRequest) else None


def play(case: Case, zygote: Zygote, kills: Sequence[tuple[int, str]], *, within: float | None = None) -> int:
    """Kill one process after another, then let one end the run; gives how many commits that one made.

    With `within` the kills are by the clock of the wall, so many seconds after the start at most, and may miss.
    """
    with serve(case.emulator) as server:
        given = {"name": case.name, "folder": str(case.folder), "url": server.url}
        for number, phase in kills:
            seen, due = len(case.emulator.requests), case.next_body()
            if within is None:
                code, heard = zygote.done("drive", **given, number=number, phase=phase)
                if code == 0 and "state" in heard:
                    break  # gone on with after a crash, it made fewer commits than there are points
            else:
                pid = zygote.start("drive", **given)
                time.sleep(within * number / 1000)
                os.kill(pid, signal.SIGKILL)  # a zombie at worst
                code, heard = zygote.wait()
            assert code in {0, -signal.SIGKILL}, heard
            assert "error" not in heard, heard["error"]
            assert_same_bytes(case, seen, due)
        seen, due = len(case.emulator.requests), case.next_body()
        code, heard = zygote.done("drive", **given)
        assert code == 0, heard
        assert "error" not in heard, heard["error"]
        assert_same_bytes(case, seen, due)
        commits: int = heard["commits"]
    check(case, heard["state"])
    return commits


def assert_same_bytes(case: Case, seen: int, due: bytes | None) -> None:
    """B2, B6: what an unanswered request left again with is what the folded journal says, byte for byte."""
    sent = case.emulator.requests[seen:]
    if due is not None and sent:
        assert sent[0].raw == due


def check(case: Case, state: str) -> None:
    """I1-I8, I13 of a run that ended after its crashes, against the same run without any."""
    records, calm = case.records(), baseline(case.name)
    with SqliteStore(case.folder / JOURNAL) as store:
        assert store.verify("r") is None
        assert store.summary("r").status == "ended"
    assert [record.seq for record in records] == list(range(len(records)))  # I7
    conversation = case.folded(records)
    assert conversation.finished  # I8
    assert conversation.run.state == state  # I6
    assert state in case.scenario.ends
    if state == calm["state"]:
        incidental = _INCIDENTAL | ({"tool_results"} if "denied" in moves(records) else set())
        found, expected = ([e for e in m if e not in incidental] for m in (moves(records), calm["moves"]))
        assert found == expected
        assert_same_words(transcript(conversation), calm["transcript"])
    assert [r.error for r in case.emulator.requests if r.status == HTTPStatus.BAD_REQUEST] == []  # I1
    assert_prefixes(case.emulator.requests)
    check_effects(case, records)


def check_effects(case: Case, records: Sequence[Record]) -> None:
    """B3, I3, I4: an effect belongs to a recorded call that had begun; twice only where the tool allows it."""
    counts = Counter((kind, key) for kind, key, _ in effects(case.folder))
    begun = {call for r in records if r.kind == "tool.begin" for call in r.data["ids"]} | {"grading"}
    ends = {end[0]: end for r in records if r.kind == "tool.end" for end in r.data["ends"]}
    for (kind, key), times in counts.items():
        assert key in begun
        may_repeat = kind == "look" or case.name == "code again"
        assert times == 1 or may_repeat, f"{kind} {key} ran {times} times"
    for key, (_, content, is_error, _) in ends.items():
        if not is_error:
            (kind,) = [kind for kind, known in counts if known == key]
            assert kind[:4] in str(content) or str(content).endswith(("paid 1", "paid 22"))


def moves(records: Sequence[Record]) -> list[str]:
    return [r.data["event"] for r in records if r.kind == "move"]


def transcript(conversation: Conversation) -> Any:
    """What was said, with the ids numbered as they come, and unsigned: a reply that nobody recorded had others."""
    text = "[" + ",".join(raw.decode() for raw in conversation.run.ledger("main").encoded()) + "]"
    numbers: dict[str, str] = {}
    named = re.sub(r"\b(?:srv)?toolu_\w+", lambda found: numbers.setdefault(found[0], f"id{len(numbers)}"), text)
    return json.loads(re.sub(r'"(signature|encrypted_content)":"[^"]*"', r'"\1":""', named))


def assert_same_words(found: Any, calm: Any) -> None:
    assert len(found) == len(calm)
    for message, expected in zip(found, calm, strict=True):
        assert message["role"] == expected["role"]
        assert len(message["content"]) == len(expected["content"])
        for block, other in zip(message["content"], expected["content"], strict=True):
            if block != other:  # B3: nobody knows what this call did, and the model is told so
                assert (block["type"], block["tool_use_id"]) == (other["type"], other["tool_use_id"])
                assert block["is_error"]
                assert str(block["content"]).startswith(("The outcome of this call is unknown", "Not run again"))


def assert_prefixes(requests: Sequence[RecordedRequest]) -> None:
    """I5: each history begins with the bytes of the one before, except where a summary takes its place (S10.2)."""
    sent = [request.raw.split(b'"messages":[', 1)[1].removesuffix(b"]}") for request in requests]
    for before, after in pairwise(sent):
        assert after.startswith(before) or b'"compaction"' in after


_BASELINES: dict[str, dict[str, Any]] = {}


def baseline(name: str) -> dict[str, Any]:
    return _BASELINES[name]


@cache
def _folder(root: Path) -> Iterator[Path]:
    return (root / str(n) for n in range(100_000))


def calm_runs(root: Path, zygotes: Sequence[Zygote]) -> dict[str, int]:
    """Each scenario without a crash: what the others are compared with, and how many commits each makes."""
    commits: dict[str, int] = {}
    for name in SCENARIOS:
        case = Case(name, next(_folder(root)))
        with serve(case.emulator) as server:
            began = time.monotonic()
            code, heard = zygotes[0].done("drive", name=name, folder=str(case.folder), url=server.url)
            lasted = time.monotonic() - began
        assert code == 0
        assert "error" not in heard, heard["error"]
        records = case.records()
        conversation = case.folded(records)
        calm = [event for event in moves(records) if event not in _INCIDENTAL]
        _BASELINES[name] = {
            "state": heard["state"],
            "moves": calm,
            "transcript": transcript(conversation),
            "seconds": lasted,
        }
        check(case, heard["state"])
        commits[name] = heard["commits"]
    return commits


def on_all(root: Path, zygotes: Sequence[Zygote], jobs: Sequence[Any]) -> None:
    """Play every job, a zygote at a time each; all failures are told, with the job that has them."""
    mine, free = local(), list(zygotes)

    def played(job: Any) -> str | None:
        if not hasattr(mine, "zygote"):
            mine.zygote = free.pop()
        name, kills, within = job
        case = Case(name, next(_folder(root)))
        try:
            play(case, mine.zygote, kills, within=within)
        except Exception as error:  # noqa: BLE001 - told with all others
            return f"{job}, seed {SEED}: {type(error).__name__}: {error}"
        shutil.rmtree(case.folder)
        return None

    with ThreadPoolExecutor(len(zygotes)) as pool:
        failures = [found for found in pool.map(played, jobs) if found is not None]
    assert not failures, f"{len(failures)} of {len(jobs)} kills: " + "\n".join(failures[:5])


def test_killed_around_every_commit(tmp_path: Path, zygotes: Sequence[Zygote]) -> None:
    """K2: at 60 points over K1's scripts (nightly: at all, and by the clock) the run ends as it would have."""
    commits = calm_runs(tmp_path, zygotes)
    points = [(name, n, phase) for name, count in commits.items() for n in range(1, count + 1) for phase in PHASES]
    chance = random.Random(SEED)
    jobs: list[Any] = [(name, [(n, phase)], None) for name, n, phase in points]
    if NIGHTLY:
        for name, n, phase in points:  # twice: at a point, and again while it is taken up
            jobs.append((name, [(n, phase), (chance.randint(1, 3), chance.choice(PHASES))], None))
        for _ in range(WALL):
            name = chance.choice(list(SCENARIOS))
            kills = [(chance.randint(0, 1000), "wall") for _ in range(chance.randint(1, 3))]
            jobs.append((name, kills, baseline(name)["seconds"]))
        print(f"{len(points)} points, {sum(len(kills) for _, kills, _ in jobs)} kills in {len(jobs)} runs")  # noqa: T201
    else:
        first = [next(job for job in jobs if job[0] == name) for name in SCENARIOS]
        jobs = [*first, *chance.sample(jobs, POINTS - len(first))]
    on_all(tmp_path, zygotes, jobs)


def test_the_trap_kills_where_it_says(tmp_path: Path, zygotes: Sequence[Zygote]) -> None:
    """K2: the four points are four: what is on the disk after each is what it should be."""
    left = {}
    for phase in PHASES:
        case = Case("one tool", tmp_path / phase)
        with serve(case.emulator) as server:
            code, _ = zygotes[0].done(
                "drive", name=case.name, folder=str(case.folder), url=server.url, number=2, phase=phase
            )
        assert code == -signal.SIGKILL
        left[phase] = ([r.kind for r in case.left_behind()], (case.folder / EFFECTS).exists())
    asked = ["open", "say", "request"]
    begun = [*asked, "reply", "move", "tool.begin"]
    assert left == {
        "before": (asked, False),
        "written": (asked, False),
        "committed": (begun, False),
        "acting": (begun, True),
    }
