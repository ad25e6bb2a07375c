"""Rows of a run and their chain, apart from any database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fsm import Record
from fsm.stores._rows import Damaged, Row, checked, problem_of, rows_of


def commit(first: int, before: bytes) -> list[Row]:
    """Two records of one commit."""
    say = {"history": "main", "messages": [{"role": "user", "content": "Hi."}], "words": False}
    return rows_of([Record(first, "say", 1.0, say), Record(first + 1, "wake", 2.0, {})], before, None)


def from_number(rows: list[Row]) -> Callable[[int], list[Row]]:
    """As a store gives them."""
    return lambda first: [row for row in rows if row.seq >= first]


ONE = commit(0, b"")
HEAD = ONE[-1].hash or b""
TWO = commit(2, HEAD)


@pytest.mark.parametrize(
    "beyond", [TWO, TWO[:1], [TWO[0]._replace(kind="no such kind"), TWO[1]], TWO[1:], [TWO[0]._replace(seq=9)]]
)
def test_rows_beyond_the_head_are_another_commit_that_is_not_judged(beyond: list[Row]) -> None:
    """A head is read before its rows, and the run may be gone on with in between."""
    assert problem_of(from_number([*ONE, *beyond]), HEAD, count=2) is None


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([*ONE[:1], *TWO], "the commit of record 0 is not whole"),
        (TWO, "records at the end are missing"),
        ([ONE[0]._replace(body=b"[]"), ONE[1], *TWO], "the body of record 0 was changed"),
        ([ONE[0], ONE[1]._replace(at=3.0), *TWO], "the commit that ends with record 1 was changed"),
        ([ONE[0], ONE[1]._replace(hash=None), *TWO], "the commit of record 1 is not whole"),
    ],
)
def test_rows_beyond_the_head_hide_nothing_below_it(rows: list[Row], why: str) -> None:
    assert problem_of(from_number(rows), HEAD, count=2) == why


def test_the_head_of_an_earlier_commit_is_not_that_of_the_last_one() -> None:
    assert problem_of(from_number([*ONE, *TWO]), HEAD, count=4) == "records at the end are missing"
    assert problem_of(from_number([*ONE, *TWO]), TWO[-1].hash or b"", count=4) is None


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["kept", "read again"])
def test_a_commit_is_given_when_the_whole_of_it_was_looked_at(size: int) -> None:
    """Also one that is too large to be kept: it is read again."""
    more = [Record(seq, "say", 1.0, {"messages": ["x" * (size // 4)]}) for seq in range(2, 6)]
    rows = [*ONE, *rows_of(more, HEAD, None), *commit(6, b"another")]
    given: list[Row] = []
    with pytest.raises(Damaged, match="the commit that ends with record 7 was changed"):
        given.extend(checked(from_number(rows), 0, 8))
    assert given == rows[:6]
    rows[3] = rows[3]._replace(at=7.0)
    given.clear()
    with pytest.raises(Damaged, match="the commit that ends with record 5 was changed"):
        given.extend(checked(from_number(rows), 0, 8))
    assert given == rows[:2]
