"""Runs of a kind: those that were interrupted, and those whose time to answer is over, are listed and taken up."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from test_runs_cli import _own_folder, api, chat, desk, listed, refund, said, support

from fsm.stores.sqlite import SqliteStore
from fsm.testing import replies

__all__ = ["_own_folder", "api", "chat", "desk", "said", "support"]


def interrupted(desk: Any, run_id: str) -> None:
    """A run that Ctrl-C stopped before its second request."""

    def stop(move: Any) -> None:
        if move.event == "tool_results":
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        desk([replies.tool_use("find_order", {"number": "7"})], run_id=run_id, on_move=stop)


def die(run_id: str) -> None:
    """The run as it would stand, had its process died before it parked."""
    with SqliteStore("runs.db") as store:
        records = list(store.read("cut"))[:-1]
        first = records[0]
        store.append(run_id, [type(first)(0, "open", first.at, {**first.data, "run_id": run_id}), *records[1:]])


@pytest.fixture
def all_kinds(desk: Any) -> None:
    interrupted(desk, "cut")
    die("dead")
    desk([refund()], run_id="asks")
    desk([refund()], run_id="late", clock=lambda: time.time() - 2 * 86400)
    desk(lambda body: replies.overloaded(), run_id="away")


def test_ls_tells_them_apart_and_lists_one_kind(all_kinds: None, said: Any) -> None:
    lines = {line.split()[0]: line for line in said("ls")[1].splitlines()[1:]}
    assert "interrupted" in lines["cut"]
    assert "expired" in lines["late"]
    assert "asks person" in lines["asks"]
    for word, names in (
        ("interrupted", ["cut"]),
        ("expired", ["late"]),
        ("person", ["asks", "late"]),
        ("api", ["away"]),
    ):
        assert sorted(listed(said("ls", "--waiting", word)[1])) == names, word
        assert sorted(each["run_id"] for each in json.loads(said("ls", "--waiting", word, "--json")[1])) == names
    assert "--waiting is one of person, expired, api, interrupted, wait" in said("ls", "--waiting", "x")[2]
    assert "leave --status ended out" in said("ls", "--waiting", "interrupted", "--status", "ended")[2]
    help_text = " ".join(said("ls", "--help")[1].split())
    assert "wait (running, before a retry)" in help_text


KINDS = {
    "--waiting interrupted": ["cut"],
    "--stopped": ["cut", "dead"],
    "--expired": ["late"],
    "--stopped --expired": ["cut", "dead", "late"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_resume_takes_up_all_of_a_kind(all_kinds: None, said: Any, support: str, api: Any, kind: str) -> None:
    options, names = kind.split(), KINDS[kind]
    api([replies.text("Fine.")] * len(names))
    code, out, _ = said("resume", *options, "-w", support)
    assert code == 0
    assert f"{len(names)} of {len(names)} ended well" in out
    ended = {each["run_id"] for each in json.loads(said("ls", "--json")[1]) if each["status"] == "ended"}
    assert ended == set(names)


def test_resume_says_what_it_takes(said: Any, all_kinds: None) -> None:
    assert (
        "--waiting takes api or interrupted here, not 'person': --expired" in said("resume", "--waiting", "person")[2]
    )
    assert "not both" in said("resume", "cut", "--expired")[2]
    assert "--waiting interrupted, --stopped, --expired" in said("resume")[2]
