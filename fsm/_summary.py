"""`RunSummary`: what one line says about a run.

It is kept up to date commit by commit, so that nobody has to read a journal to list its runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Literal

from attrs import define, field, fields, frozen

from ._facts import count_of
from ._records import Record

Status = Literal["running", "parked", "ended"]
Waits = Literal["person", "api", "wait"]


@define
class RunSummary:
    """One run. `waits_for` is who it waits for, `until` the time (epoch seconds) that ends the wait by itself, if any.

    `ok` is whether it ended well, as the final state was declared: None while it has not ended.
    `question` is the number of what a person is asked, `migrations` how often it was moved to another version.
    `updated` is when something happened in it last, which being moved to another version is not.
    `status` is "running" also for a run whose process died: whether somebody drives it is known by its claim.
    """

    run_id: str
    workflow: str = ""
    fingerprint: str = ""
    state: str = ""
    status: Status = "running"
    ok: bool | None = None
    reason: str = ""
    waits_for: Waits | None = None
    until: float | None = None
    question: int | None = None
    tags: Mapping[str, str] = field(factory=dict)
    started: float = 0.0
    updated: float = 0.0
    records: int = 0
    migrations: int = 0
    moves: int = 0
    turns: int = 0
    tokens: int = 0
    price: float | None = 0.0

    def copy(self) -> RunSummary:
        """The same facts in a new object."""
        return RunSummary(*_facts(self))

    def add(self, records: Iterable[Record]) -> None:
        """Take in the records of a commit."""
        for record in records:
            self.records = record.seq + 1
            if record.kind != "migrate":  # nothing happened in the run: a deployment makes no old run a new one
                self.updated = record.at
            step = _STEPS.get(record.kind)
            if step is not None:
                step(self, record.data)


_facts = attrgetter(*(each.name for each in fields(RunSummary)))


@frozen
class Query:
    """Which runs are meant: those that fit everything that is given; all of them where nothing is.

    Args:
        state: name of the state a run is in, or ended in.
        status: "running", "parked" or "ended".
        waits_for: "person", "api" or "wait".
        workflow: name of the workflow.
        before: last written before this time, in seconds since the epoch.
        after: last written at this time or later.
        tags: each of these names has this value.
        only: one of these ids, with so many records as it had when somebody looked.
    """

    state: str | None = field(default=None, kw_only=True)
    status: Status | None = field(default=None, kw_only=True)
    waits_for: Waits | None = field(default=None, kw_only=True)
    workflow: str | None = field(default=None, kw_only=True)
    before: float | None = field(default=None, kw_only=True)
    after: float | None = field(default=None, kw_only=True)
    tags: Mapping[str, str] = field(factory=dict, kw_only=True)
    only: Mapping[str, int] | None = field(default=None, kw_only=True)

    def matches(self, run: RunSummary) -> bool:
        """Whether this run is meant."""
        return (
            self.state in {None, run.state}
            and self.status in {None, run.status}
            and self.waits_for in {None, run.waits_for}
            and self.workflow in {None, run.workflow}
            and (self.before is None or run.updated < self.before)
            and (self.after is None or run.updated >= self.after)
            and all(run.tags.get(name) == value for name, value in self.tags.items())
            and (self.only is None or run.records == self.only.get(run.run_id))
        )


def _open(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.started = run.updated
    run.workflow, run.tags = data["workflow"], data["tags"]
    run.fingerprint = data.get("fingerprint") or ""
    run.state = data["state"]


_COUNTERS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _reply(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.turns += 1
    usage = data["message"].get("usage")
    run.tokens += sum(count_of(usage, name) for name in _COUNTERS)
    price = data.get("price")
    run.price = None if price is None or run.price is None else run.price + price


def _move(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.moves += 1
    run.state, run.reason = data["dest"], data["event"]
    run.waits_for = run.until = run.question = None
    for _, change in data["effects"]:
        if "wait" in change:
            run.waits_for, run.until = "wait", run.updated + change["wait"]
        if "park" in change:
            run.status, run.reason, run.waits_for = "parked", change["park"], "api"


def _request(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.state = data["state"]
    run.waits_for = run.until = None


def _asked(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.waits_for, run.until, run.question = "person", data.get("expires_at"), run.records - 1


def _answer(run: RunSummary, data: Mapping[str, Any]) -> None:
    del data
    run.status = "running"


def _park(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.status, run.reason = "parked", data["reason"]


def _resume(run: RunSummary, data: Mapping[str, Any]) -> None:
    del data
    run.status = "running"


def _migrate(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.fingerprint, run.state = data["to"], data["renamed"].get(run.state, run.state)
    run.migrations += 1


def _close(run: RunSummary, data: Mapping[str, Any]) -> None:
    run.status, run.state, run.reason, run.ok = "ended", data["state"], data["reason"], data["ok"]
    run.waits_for = run.until = None


_STEPS = {
    "open": _open, "reply": _reply, "move": _move, "request": _request, "asked": _asked, "answer": _answer,
    "park": _park, "resume": _resume, "migrate": _migrate, "close": _close,
}  # fmt: skip
