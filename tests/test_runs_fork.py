"""`fsm runs fork`: where it is cut, what is said there, what a fork says of itself."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from test_runs_cli import _own_folder, api, desk, refund, said, support

from fsm.stores.sqlite import SqliteStore
from fsm.testing import replies

__all__ = ["_own_folder", "api", "desk", "said", "support"]


def test_the_numbers_that_at_takes_are_listed(desk: Any, said: Any) -> None:
    desk([refund()], run_id="r")
    code, out, _ = said("show", "r", "--records")
    assert code == 0
    with SqliteStore("runs.db") as store:
        kinds = [(str(record.seq), record.kind) for record in store.read("r")]
        assert [(row[0], row[1]) for row in re.findall(r"^ +(\d+) .* UTC +(\S+)", out, re.MULTILINE)] == kinds
        shown = json.loads(said("show", "r", "--records", "--json")[1])
        assert [(str(each["seq"]), each["kind"]) for each in shown["records"]] == kinds
        assert "asking --tool_use--> calling" in out
        store.erase("r", unfinished=True)
    assert "asking --tool_use--> calling" in said("show", "r", "--records")[1]
    assert "--records" in " ".join(said("fork", "--help")[1].split())


@pytest.mark.parametrize("at", [1, 2, 3])
def test_say_has_one_meaning_wherever_the_cut_lies(desk: Any, said: Any, support: str, api: Any, at: int) -> None:
    """It stands for the words that no copied request has sent."""
    desk([replies.text("ok")], "Where is order 7?", run_id="r")
    assert said("fork", "r", "--at", str(at), "--say", "Where is order 8?", "--id", "f", "-w", support)[0] == 0
    emulator = api([replies.text("Here.")])
    assert said("resume", "f", "-w", support)[0] == 0
    (message,) = emulator.requests[0].body["messages"]
    sent = json.dumps(message)
    assert "Where is order 8?" in sent
    assert "Where is order 7?" not in sent


def test_errors_name_options(desk: Any, said: Any, support: str) -> None:
    desk([refund()], run_id="r")
    for options, words in (
        (["--at", "1", "--id", "r"], "has a run 'r' already: choose another --id"),
        (["--at", "99"], "--at is the number of the first one not to copy, 1 to"),
        (["--move", "2", "--say", "x"], "leave --say out, and answer the fork with `fsm runs answer`"),
        (["--at", "1", "--say", ""], "--say is text or content blocks"),
        (["--at", "1", "--id", ""], "--id takes a name"),
    ):
        code, _, err = said("fork", "r", *options, "-w", support)
        assert (code, words in err) == (2, True), err
        assert not re.search(r"\b(at|say|new_id)=|\bnew_id\b|\w\(\)", err)


def test_a_fork_says_that_it_is_one(desk: Any, said: Any, support: str) -> None:
    desk([refund()], run_id="origin", clock=lambda: 1_700_000_000.0)
    assert said("fork", "origin", "--move", "2", "--id", "other", "-w", support)[0] == 0
    out = said("show", "other")[1]
    with SqliteStore("runs.db") as store:
        at = next(store.read("other")).data["forked"]["at"]
        own = next(record for record in store.read("other", at))
    assert f"of origin, at record {at}" in out
    assert not re.search(r"began +2023", out), "that is when the origin began"
    shown = json.loads(said("show", "other", "--json")[1])["forked"]
    assert (shown["run_id"], shown["at"], shown["began"]) == ("origin", at, own.at)
    assert "forked" not in json.loads(said("show", "origin", "--json")[1])
    assert re.search(r"began +2023", said("show", "origin")[1])
