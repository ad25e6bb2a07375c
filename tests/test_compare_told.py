"""`compare` says what differs where two runs part, and takes migrations for what they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _driving import Clock
from test_runs_cli import _own_folder, desk, refund, said, support
from test_verify_versions import Renamed, moved

from fsm import MemoryStore, compare, fork
from fsm._records import Record
from fsm.testing import replies

__all__ = ["_own_folder", "desk", "said", "support"]


def test_a_fork_of_a_run_that_was_moved_is_like_it() -> None:
    store = MemoryStore()
    moved(store)
    length = store.summary("r").records
    made = fork(Renamed, "r", at=length, journal=store, new_id="f", clock=Clock())
    found = compare(store.read("r"), store.read(made))
    assert (found.record, found.move) == (None, None), str(found)


def changed(found: list[Record], kind: str, **fields: Any) -> list[Record]:
    data = json.loads(json.dumps([dict(record.data) for record in found]))
    at = next(number for number, record in enumerate(found) if record.kind == kind)
    data[at].update(fields)
    return [Record(r.seq, r.kind, r.at, each) for r, each in zip(found, data, strict=True)]


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("move", {"dest": "else"}, ("move.dest", '"calling"', '"else"')),
        ("answer", {"decisions": {"x": ["deny", None, "No."]}}, ("answer.decisions", "", "")),
        ("tool.end", {"ends": [["x", "lost", True, 0.0]]}, ("tool.end.ends[0][0]", "", '"x"')),
        ("request", {"hash": "00" * 32}, ("request.hash", "", '"0000')),
        ("open", {"messages": [{"role": "user", "content": "Ho."}]}, ("open.messages[0].content", "", '"Ho."')),
    ],
)
def test_the_field_and_both_values_are_named(kind: str, fields: Any, told: tuple[str, str, str]) -> None:
    store = MemoryStore()
    moved(store)
    mine = list(store.read("r"))
    found = compare(mine, changed(mine, kind, **fields))
    assert found.differs
    name, left, right = found.differs[0]
    assert name.startswith(told[0])
    assert told[1] in left
    assert told[2] in right
    assert all(len(each) <= 200 for pair in found.differs for each in pair), "shortened"
    assert f"{name}: {left} ≠ {right}" in str(found)


def test_another_kind_of_record_and_none_are_named_too() -> None:
    store = MemoryStore()
    moved(store)
    mine = list(store.read("r"))
    (pair,) = compare(mine, mine[:-1]).differs
    assert pair == ("record", "a close in 'answered'", "nothing")
    other = [*mine[:3], Record(3, "error", 0.0, {"event": "overloaded_error", "message": "x", "status": 529})]
    assert compare(mine, other).differs[0][::2] == ("record", "an error")
    assert compare(mine, mine).differs == ()


def test_what_claude_said_differs_is_said_before_ids(desk: Any, said: Any) -> None:
    desk([replies.text("It is here.")], run_id="a")
    desk([replies.text("It is there.")], run_id="b")
    code, out, _ = said("compare", "a", "b")
    words = " ".join(out.split())
    assert code == 1
    assert 'reply.content[0].text: "It is here." ≠ "It is there."' in words
    assert "what was said, decided or asked for differs" not in words
    (first, *_) = json.loads(said("compare", "a", "b", "--json")[1])["differs"]
    assert first == ["reply.content[0].text", '"It is here."', '"It is there."']
    desk([refund(euros=10.0)], run_id="c")
    desk([refund(euros=20.0)], run_id="d")
    assert "reply.content[1].input.euros: 10.0 ≠ 20.0" in " ".join(said("compare", "c", "d")[1].split())
