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
from typing import Any

from attrs import asdict, evolve, fields, frozen

from fsm._encoded import encode
from fsm._errors import JournalError
from fsm._records import Record
from fsm._spoken import CHANGED, joined, redacted, split
from fsm._summary import RunSummary

Seal = Callable[[bytes], bytes]
Redact = Callable[[str], str]


@frozen
class Row:
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
    rows[-1] = evolve(rows[-1], hash=chain.digest())
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
            raise JournalError(msg)
        if digest_of(row.body) != row.body_hash:
            msg = f"{where}: record {row.seq} is damaged: its body does not fit its hash; {_RESTORE}"
            raise JournalError(msg)
        try:
            spoken = _spoken(decrypt(row.body) if decrypt is not None else row.body, is_sealed=decrypt is not None)
        except Exception as error:
            why = type(error).__name__
            msg = f"{where}: the body of record {row.seq} cannot be read ({why}): pass the decrypt= that it needs"
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


class Damaged(JournalError):  # noqa: N818 - states a fact
    """The rows of a run are not what was written."""


def checked(rows: Iterable[Row], start: int, count: int) -> Iterator[Row]:
    """The rows of a run from number `start` on, each looked at as it comes; `count` is how many the run has at least.

    From 0 on the chain is followed: a row of a commit that was changed may be given, but not the end of its commit.

    Raises:
        Damaged: gaps, changed rows or bodies, a commit that is not whole, a lost end.
    """
    chain, due = hashlib.sha256(b""), start
    is_open = False
    for row in rows:
        if row.seq != due:
            raise Damaged(f"record {due} is missing")
        due += 1
        if row.body is not None and digest_of(row.body) != row.body_hash:
            raise Damaged(f"the body of record {row.seq} was changed")
        _add(chain, row)
        is_open = row.hash is None
        if row.hash is not None:
            if start == 0 and chain.digest() != row.hash:
                raise Damaged(f"the commit that ends with record {row.seq} was changed")
            chain = hashlib.sha256(row.hash)
        yield row
    if is_open:
        raise Damaged(f"the commit of record {due - 1} is not whole")
    if due < count or count < 1:
        raise Damaged("records at the end are missing")


def problem_of(rows: Iterable[Row], head: bytes, *, count: int = 1, is_erased: bool = True) -> str | None:
    """What is wrong with the chain of a run, or None: gaps, changed rows or bodies, a lost end."""
    last = b""
    try:
        for row in checked(rows, 0, count):
            if row.body is None and row.body_hash is not None and not is_erased:
                return f"the body of record {row.seq} is missing"
            last = row.hash or last
    except Damaged as error:
        return str(error)
    return None if last == head else "records at the end are missing"


COLUMNS = tuple(each.name for each in fields(RunSummary))
"""The columns of the table `runs`, in the order of `values_of`."""


def values_of(summary: RunSummary) -> tuple[Any, ...]:
    """A summary as one row."""
    return tuple(
        json.dumps(dict(value)) if isinstance(value, Mapping) else value
        for value in asdict(summary, recurse=False).values()
    )


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(COLUMNS, (str,)),
    **dict.fromkeys(("records", "moves", "turns", "tokens"), (int,)),
    **dict.fromkeys(("started", "updated"), (int, float)),
    **dict.fromkeys(("until", "price"), (int, float, type(None))),
    "waits_for": (str, type(None)),
}


def summary_of(values: Sequence[Any]) -> RunSummary:
    """The summary that a row holds.

    Raises:
        Damaged: no summary was ever stored like that.
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
        raise Damaged(msg)
    return RunSummary(**{**given, "tags": tags})
