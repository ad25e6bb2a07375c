"""Make the golden journals of this version, once at each release: in `tests`, `PYTHONPATH=.. python -m golden.make`.

It writes a folder named like the version, what each journal must fold to, and adds both to the list of hashes. A folder
that is there is never written again: what an older version wrote cannot be made a second time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve

from fsm import (
    Claude,
    Final,
    Human,
    MemoryStore,
    Question,
    Record,
    Tools,
    Workflow,
    __version__,
    approve,
    cancel,
    deny,
    edit,
    fork,
    resume,
    run,
    said_is,
)
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

from .standing import HERE, digest, records_in, standing
from .workflows import WORKFLOWS, Chat, Desk, Optimiser, Renamed, find

NOW = 1_800_000_000.0
SECONDS = 0.25
DONE = replies.text("It is done.")
FIND = replies.tool_use("find", {"number": "1"})
REFUND = replies.tool_use("refund", {"number": "7"})
THREE = replies.tool_uses(*(("find", {"number": str(n)}) for n in (1, 2, 3)))


class Clock:
    """A quarter of a second passes whenever it is looked at."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        self.now += SECONDS
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def play(
    workflow: type[Workflow], script: Sequence[Reply], *, given: str = "Please help.", **options: Any
) -> MemoryStore:
    """One run, with nothing left to chance."""
    random.seed(7)
    store, clock = MemoryStore(), Clock()
    with Emulator(script).client() as client:
        run(workflow, given, client=client, journal=store, run_id="run", clock=clock, sleep=clock.sleep, **options)
    return store


def gone_on(store: MemoryStore, workflow: type[Workflow], script: Sequence[Reply], **options: Any) -> MemoryStore:
    """The run goes on, with new ids."""
    clock = Clock(NOW + 100)
    with Emulator(script, seed=1).client() as client:
        resume(workflow, "run", client=client, journal=store, clock=clock, sleep=clock.sleep, **options)
    return store


def crashed(store: MemoryStore, kind: str) -> MemoryStore:
    """The journal as it was when the process died behind the newest record of this kind."""
    found = list(store.read("run"))
    last = max(record.seq for record in found if record.kind == kind)
    left = MemoryStore()
    left.append("run", found[: last + 1])
    return left


def forked(store: MemoryStore) -> MemoryStore:
    """The journal of a fork."""
    at = next(record.seq for record in store.read("run") if record.kind == "reply")
    fork(Desk, "run", at=at, journal=store, new_id="fork", say="Be brief.", clock=Clock())
    left = MemoryStore()
    left.append("run", list(store.read("fork")))
    return left


def cancelled() -> MemoryStore:
    store = play(Desk, [REFUND])
    cancel(Desk, "run", journal=store, clock=Clock(NOW + 100))
    return store


def migrated() -> MemoryStore:
    """Begun when `chatting` was called `talking`."""
    former = Workflow.from_transitions(
        name="Renamed",
        states={
            "talking": Claude(model="claude-sonnet-5", max_tokens=100, tools=[find]),
            "calling": Tools(),
            "waiting": Human(),
            "bye": Final(),
        },
        transitions=[
            ["tool_use", "talking", "calling"],
            ["end_turn", "talking", "waiting"],
            ["tool_results", "calling", "talking"],
            {"trigger": "said", "source": "waiting", "dest": "bye", "conditions": [said_is("/quit")]},
            ["said", "waiting", "talking"],
        ],
    )
    return gone_on(play(former, [FIND, DONE]), Renamed, [DONE], answer="And now?")


def words(*said: str) -> Callable[[Question], str]:
    left = iter(said)
    return lambda question: next(left)


PAUSE = replies.pause()
OVERLOADED = replies.overloaded(retry_after=2)
GOOD = [replies.text("A good long draft."), replies.structured({"text": "Polished."})]

SCENARIOS: dict[str, Callable[[], MemoryStore]] = {
    "text": lambda: play(Desk, [DONE]),
    "one_tool": lambda: play(Desk, [FIND, DONE]),
    "three_parallel_tools": lambda: play(Desk, [THREE, DONE]),
    "five_turns": lambda: play(Desk, [replies.tool_use("find", {"number": str(n)}) for n in range(5)] + [DONE]),
    "refusal": lambda: play(Desk, [replies.refusal("cyber")]),
    "refusal_and_on": lambda: play(Chat, [replies.refusal(), DONE], ask=words("Something else.", "/quit")),
    "pause_twice": lambda: play(Desk, [PAUSE, PAUSE, DONE]),
    "max_tokens_in_text": lambda: play(Desk, [replies.max_tokens("It is"), DONE]),
    "max_tokens_in_tool": lambda: play(Desk, [replies.max_tokens(tool=("find", {"number": "1"})), FIND, DONE]),
    "compaction": lambda: play(Chat, [DONE, replies.compaction(), DONE], ask=words("/compact", "/quit")),
    "rate_limit_then_ok": lambda: play(Desk, [replies.rate_limited(retry_after=3), DONE]),
    "cut_then_ok": lambda: play(Desk, [replies.cut(DONE, after=3), DONE], stream=True),
    "cancelled": cancelled,
    "parked_at_the_api": lambda: play(Desk, [OVERLOADED] * 7),
    "parked_at_a_person": lambda: play(Desk, [REFUND], tags={"tenant": "a"}),
    "approved": lambda: gone_on(play(Desk, [REFUND]), Desk, [DONE], answer=approve()),
    "edited": lambda: gone_on(play(Desk, [REFUND]), Desk, [DONE], answer=edit({"number": "8"})),
    "denied": lambda: gone_on(play(Desk, [REFUND]), Desk, [DONE], answer=deny("Not today.")),
    "chat": lambda: play(Chat, [DONE, FIND, DONE], ask=words("And number 1?", "/quit")),
    "code": lambda: play(Optimiser, [replies.text("Short."), *GOOD]),
    "request_outstanding": lambda: crashed(play(Desk, [FIND, DONE]), "request"),
    "outcome_unknown": lambda: gone_on(crashed(play(Desk, [THREE, DONE]), "tool.begin"), Desk, [DONE]),
    "thinking": lambda: play(Desk, [replies.thinking("Let me see.", then=FIND), DONE]),
    "malformed": lambda: play(Desk, [replies.body({"type": "message"})]),
    "migrated": migrated,
    "fork": lambda: forked(play(Desk, [FIND, DONE])),
}


def without_chance(record: Record) -> Record:
    """What a stopwatch measured is a quarter of a second."""
    data = json.loads(json.dumps(dict(record.data)))
    if record.kind == "tool.end":
        data["ends"] = [[*end[:3], SECONDS] for end in data["ends"]]
    if data.get("seconds"):
        data["seconds"] = SECONDS
    return evolve(record, data=data)


def main() -> None:
    """Write the journals, what they must fold to, and their hashes."""
    folder = HERE / __version__
    if folder.exists():
        raise SystemExit(f"{folder} is there, and is never written again: raise the version first")
    folder.mkdir()
    expected = {}
    for name, make in SCENARIOS.items():
        lines = []
        for record in map(without_chance, make().read("run")):
            fields = {"seq": record.seq, "kind": record.kind, "at": record.at, "data": record.data}
            lines.append(json.dumps(fields, ensure_ascii=False) + "\n")
        file = folder / f"{name}.jsonl"
        file.write_text("".join(lines), "utf-8")
        records = records_in(file)
        expected[name] = standing(WORKFLOWS[records[0].data["workflow"]], records)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")
    hashes = HERE / "hashes.json"
    known = json.loads(hashes.read_text("utf-8")) if hashes.exists() else {}
    known.update({file.relative_to(HERE).as_posix(): digest(file) for file in sorted(folder.iterdir())})
    hashes.write_text(json.dumps(known, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
