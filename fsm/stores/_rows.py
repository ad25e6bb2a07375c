"""Records as rows of a table, the same for every database: what is stored, and the chain of hashes over it.

The hash of a commit is that of the commit before it and of every row in it; a row counts with the hash of its body, as
it was stored. So a chain can be checked without the key that opens the bodies, and after bodies were erased.

What the chain proves: no row or body of the run was changed, left out, added or put in another order since it was
written, by accident or by somebody who did not compute the hashes anew. What it does not: who wrote it, that the last
commits were not cut off together with the run's head, or that whoever can write the file did not write all of it anew.
Keep the head of a run elsewhere (`SqliteStore.head`) to know that, too.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product, takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from attrs import fields

from fsm._encoded import encode
from fsm._errors import JournalError
from fsm._records import Record
from fsm._spoken import CHANGED, TextsGone, joined, redacted, split
from fsm._summary import RunSummary
from fsm.journal import DamagedRuns

Seal = Callable[[bytes], bytes]
Redact = Callable[[str], str]


class Row(NamedTuple):  # made for each record that is written or read, at a third of what a frozen class costs
    """One record as it is stored. `hash` stands in the last row of each commit, `body_hash` where there is a body."""

    seq: int
    kind: str
    at: float
    data: str
    body: bytes | None = None
    body_hash: bytes | None = None
    hash: bytes | None = None


def rows_of(records: Sequence[Record], before: bytes, encrypt: Seal | None, redact: Redact | None = None) -> list[Row]:
    """The rows of one commit; `before` is the hash of the commit before it, empty for the first."""
    return chained(unchained(records, encrypt, redact), before)


def unchained(records: Sequence[Record], encrypt: Seal | None, redact: Redact | None) -> list[Row]:
    """The rows of one commit before its place in the chain is known: what takes time, and needs no lock.

    Raises:
        JournalError: a record is no JSON (R26), or a hook failed; the message names it.
    """
    rows = []
    for record in records:
        try:
            rows.append(_row(record, encrypt, redact))
        except (ValueError, TypeError, RecursionError) as error:
            msg = f"record {record.seq} ({record.kind}) cannot be stored: {error}; nothing was written"
            raise JournalError(msg) from error
    return rows


def chained(rows: list[Row], before: bytes) -> list[Row]:
    """The same rows with the hash of their commit in the last one."""
    chain = hashlib.sha256(before)
    for row in rows:
        _add(chain, row)
    rows[-1] = rows[-1]._replace(hash=chain.digest())
    return rows


def _row(record: Record, encrypt: Seal | None, redact: Redact | None) -> Row:
    rest, spoken = split(record)
    if spoken and redact is not None:
        kept = redacted(record.kind, spoken, redact)
        if kept != spoken:
            rest[CHANGED], spoken = True, dict(kept)
    data = encode(rest).decode() if rest else "{}"
    if not spoken:
        return Row(record.seq, record.kind, record.at, data)
    body = _body(spoken)
    if encrypt is not None:
        body = encrypt(body)
    return Row(record.seq, record.kind, record.at, data, body, digest_of(body))


def digest_of(body: bytes) -> bytes:
    """The hash of a body: half a SHA-256, which nobody can find another body for, in half the room."""
    return hashlib.sha256(body).digest()[:16]


def _body(spoken: Mapping[str, Any]) -> bytes:
    """JSON, but for the content of a reply: that is JSON already, and stays as it came (V-echo2)."""
    content = spoken.get("content")
    if len(spoken) == 1 and isinstance(content, str) and content.startswith("["):
        return content.encode()
    return encode(spoken)


def _spoken(body: bytes, *, is_sealed: bool) -> Any:
    if not body.startswith(b"["):
        return json.loads(body)
    if is_sealed:
        json.loads(body)  # what a wrong key makes of it may begin with anything
    return {"content": body.decode()}


def _add(chain: Any, row: Row) -> None:
    text = row.data.encode()
    chain.update(
        struct.pack("<QdI", row.seq, row.at, len(text)) + text + row.kind.encode() + b"\0" + (row.body_hash or b"")
    )


def record_of(row: Row, decrypt: Seal | None, where: str) -> Record:
    """The record that a row holds.

    Raises:
        JournalError: its body was erased, cannot be decrypted, or is not what was stored.
    """
    spoken: Any = {}
    if row.body_hash is not None:
        if row.body is None:
            msg = f"{where}: the body of record {row.seq} was erased, so the run can be shown and verified, not resumed"
            raise TextsGone(msg)
        if digest_of(row.body) != row.body_hash:
            msg = f"{where}: record {row.seq} is damaged: its body does not fit its hash; {_RESTORE}"
            raise JournalError(msg)
        try:
            spoken = _spoken(decrypt(row.body) if decrypt is not None else row.body, is_sealed=decrypt is not None)
        except Exception as error:
            why = type(error).__name__
            msg = (
                f"{where}: the body of record {row.seq} cannot be read ({why}): pass the decrypt= that it needs; "
                "on the command line, --journal file.py:NAME names a function that opens the journal with it"
            )
            raise JournalError(msg) from error
    return _joined(row, spoken, where)


def outline_of(row: Row, where: str) -> Record:
    """The record that a row holds, without its body: what happened, and not what was said.

    Raises:
        JournalError: it is damaged.
    """
    return _joined(row, {}, where)


def _joined(row: Row, spoken: Mapping[str, Any], where: str) -> Record:
    try:
        return Record(row.seq, row.kind, row.at, joined(row.kind, json.loads(row.data), spoken))
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"{where}: record {row.seq} is damaged: {error}; {_RESTORE}"
        raise JournalError(msg) from error


_RESTORE = "restore the journal from a backup"
NO_HEAD = "its newest commit is not the one that its line names"


class Damaged(JournalError):  # noqa: N818 - states a fact
    """The rows of a run are not what was written."""


_FORM: dict[str, tuple[type, ...]] = {
    "kind": (str,), "at": (float, int), "data": (str,), "body": (bytes, type(None)), "body_hash": (bytes, type(None)),
    "hash": (bytes, type(None)),
}  # fmt: skip
_LOOKED_AT = attrgetter(*_FORM)
_WHOLE = frozenset(product((int,), *_FORM.values()))  # the types of every row that is whole, at one look


def _check_form(row: Row) -> None:
    if tuple(map(type, row)) in _WHOLE:
        return
    for value, (name, types) in zip(_LOOKED_AT(row), _FORM.items(), strict=True):
        if not isinstance(value, types):
            raise Damaged(f"record {row.seq} was changed: its `{name}` is of type {type(value).__name__}")


_ROW = 400  # bytes that a row takes beside its texts
_HELD = 1 << 20  # bytes of a commit that are kept until its end was seen


def _below(end: int, rows: Iterable[Row]) -> Iterator[Row]:
    return takewhile(lambda row: row.seq < end, rows)


def checked(read: Callable[[int], Iterable[Row]], start: int, count: int, head: bytes | None = None) -> Iterator[Row]:
    """The rows of a run from number `start` on, given a commit at a time, once the whole of it was looked at.

    Of the commit that `start` is in the middle of nobody knows the chain before.

    Params:
        read: gives the rows from a number on; called again for a commit that is too large to be kept.
        count: how many records the run has at least.
        head: the hash of the last of those, where it is to be looked at.

    Raises:
        Damaged: gaps, changed rows or bodies, a commit that is not whole, a lost end.
    """
    chain, due, is_followed = hashlib.sha256(b""), start, start == 0
    commit: list[Row] = []
    first, held = start, 0
    for row in read(start):
        if row.seq != due:
            raise Damaged(f"record {due} is missing")
        due += 1
        _check_form(row)
        if row.body is not None and digest_of(row.body) != row.body_hash:
            raise Damaged(f"the body of record {row.seq} was changed")
        _add(chain, row)
        held += _ROW + len(row.data) + len(row.body or b"")
        if held <= _HELD:
            commit.append(row)
        else:
            commit.clear()
        if row.seq == count - 1 and head is not None and row.hash != head:
            raise Damaged(NO_HEAD)
        if row.hash is not None:
            if is_followed and chain.digest() != row.hash:
                raise Damaged(f"the commit that ends with record {row.seq} was changed")
            chain, is_followed = hashlib.sha256(row.hash), True
            yield from commit if held <= _HELD else _below(due, read(first))
            commit.clear()
            first, held = due, 0
    if held:
        raise Damaged(f"the commit of record {due - 1} is not whole")
    if due < count or count < 1:
        raise Damaged("records at the end are missing")


def problem_of(
    read: Callable[[int], Iterable[Row]],
    head: bytes,
    *,
    count: int,
    is_erased: bool = True,
    take: Callable[[Row], None] | None = None,
) -> str | None:
    """What is wrong with the chain of a run, or None: gaps, changed rows or bodies, a lost end.

    Looked at are the `count` rows that `head` is the hash of: the run may be gone on with while they are read. Each row
    of a whole commit is given to `take`, which may raise `Damaged`, too.
    """
    last = b""
    try:
        for row in checked(lambda first: _below(count, read(first)), 0, count):
            if row.body is None and row.body_hash is not None and not is_erased:
                return f"the body of record {row.seq} is missing"
            last = row.hash or last
            if take is not None:
                take(row)
    except Damaged as error:
        return str(error)
    return None if last == head else "records at the end are missing"


def is_text(run_id: str) -> bool:
    """Whether a database can keep such a name; no run has another one."""
    try:
        run_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def decoded(raw: bytes) -> str | bytes:
    """The text that a database gives, or the bytes where they are none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


COLUMNS = tuple(each.name for each in fields(RunSummary))
"""The columns of the table `runs`, in the order of `values_of`."""


facts_of: Callable[[RunSummary], tuple[Any, ...]] = attrgetter(*COLUMNS)
"""What a summary holds, in the order of the columns."""


def values_of(summary: RunSummary) -> tuple[Any, ...]:
    """A summary as one row."""
    return tuple(json.dumps(dict(value)) if isinstance(value, Mapping) else value for value in facts_of(summary))


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(COLUMNS, (str,)),
    **dict.fromkeys(("records", "migrations", "moves", "turns", "tokens"), (int,)),
    **dict.fromkeys(("started", "updated"), (int, float)),
    **dict.fromkeys(("until", "price"), (int, float, type(None))),
    "waits_for": (str, type(None)),
    "question": (int, type(None)),
    "ok": (int, type(None)),  # SQLite has no other type for a truth
}


def summary_of(values: Sequence[Any]) -> RunSummary:
    """The summary that a row holds.

    Raises:
        DamagedRuns: no summary was ever stored like that.
    """
    given = dict(zip(COLUMNS, values, strict=True))
    wrong = [name for name, value in given.items() if not isinstance(value, _TYPES[name])]
    if not wrong and int(given["records"]) < 1:
        wrong = ["records"]
    try:
        tags = None if wrong else json.loads(given["tags"])
    except ValueError:
        tags = None
    if not isinstance(tags, dict):
        name = wrong[0] if wrong else "tags"
        msg = f"the line of run {given['run_id']!r} is damaged: `{name}` holds {given[name]!r:.40}; {_RESTORE}"
        run_id = given["run_id"]
        raise DamagedRuns({run_id if isinstance(run_id, str) else repr(run_id): msg})
    ok = None if given["ok"] is None else bool(given["ok"])
    return RunSummary(**{**given, "tags": tags, "ok": ok})
