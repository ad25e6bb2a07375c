"""`check_store`: what a journal promises, asked of a real one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

from fsm._errors import ConcurrentWriter, JournalError, RunError
from fsm._summary import Query, RunSummary
from fsm.journal import Keeper, Store
from fsm.testing._keeping import KEEPER
from fsm.testing._place import SECRET, Place, asked, expect, move, opened, reads, refuses, said, whole

_ROUNDS = 20
_MANY = 1200  # records: more than a store reads at a time
_REFUSED = (ConcurrentWriter, JournalError)


def check_store(make: Callable[[], Store]) -> None:
    """Check that a store keeps what `fsm.journal.Store` promises, and `Keeper` where it has those methods.

    It writes runs of its own (their ids start with "check-") and leaves some of them: give it a place to throw away.

    Params:
        make: opens the store, on the SAME place each time it is called: two handles are used at once. A store that
            lives in one object gives that object each time. Handles that have `close` are closed at the end.

    Raises:
        AssertionError: names the promise that is broken, and what was seen.
    """
    handles = [make(), make()]
    try:
        place = Place(handles[0], handles[1], f"check-{secrets.token_hex(4)}-")
        promises = {**_STORE, **(KEEPER if isinstance(place.store, Keeper) else {})}
        for promise, check in promises.items():
            try:
                check(place)
            except Exception as error:
                seen = error if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
                msg = f"{type(place.store).__name__} does not keep this promise: {promise}. {seen}"
                raise AssertionError(msg) from error
    finally:
        for handle in handles:
            close = getattr(handle, "close", None)
            if close is not None:
                close()


def _gives_back(place: Place) -> None:
    run_id, due = place.prefix + "whole é'\"%", whole(tags={"a": "b"})
    for first, last in ((0, 1), (1, 2), (2, 9), (9, len(due))):
        place.store.append(run_id, due[first:last])
        reads(place, run_id, due[:last], f"read after records {first} to {last - 1} were appended")
    for start in (1, len(due) - 1, len(due), len(due) + 5):
        expect(list(place.store.read(run_id, start)), due[start:], f"read from record {start} on")
    empty = place.prefix + "empty"
    place.store.append(empty, [])
    refuses(RunError, lambda: place.store.summary(empty), "summary of a run to which no record was appended")


def _gives_back_long(place: Place) -> None:
    run_id = place.begun("long")
    due = [opened(), *(said(n, f"{n}") for n in range(1, _MANY))]
    place.store.append(run_id, due[1:])
    place.other.append(run_id, [large := said(_MANY, SECRET + "é\x00" * (1 << 19))])
    reads(place, run_id, [*due, large], f"read of {_MANY} records, and one of a megabyte")


def _whole_or_none(place: Place) -> None:
    run_id = place.begun("commit")
    due = [opened(), said(1)]
    place.store.append(run_id, due[1:])
    overlapping = [said(1, "again"), said(2, "new"), said(3, "new")]
    refuses(ConcurrentWriter, lambda: place.store.append(run_id, overlapping), "append of 1 to 3 where 1 exists")
    reads(place, run_id, due, "read after a commit was refused")
    odd = [said(2), said(3, "\ud800")]  # no text that UTF-8 knows: refused, or kept, and never half of it
    with suppress(JournalError):
        place.store.append(run_id, odd)
        due += odd
    reads(place, run_id, due, "read after a commit with a lone surrogate")
    place.store.append(run_id, [after := said(len(due))])
    reads(place, run_id, [*due, after], "read after the next commit")


def _fence(place: Place) -> None:
    run_id = place.begun("fence")
    due = [opened(), said(1, "theirs")]
    place.other.append(run_id, due[1:])
    for seq in (0, 1):
        zombie = [said(seq, "zombie")]
        for store in (place.store, place.other):
            refuses(ConcurrentWriter, lambda s=store, z=zombie: s.append(run_id, z), f"append of {seq} again")  # type: ignore[misc]
    refuses(JournalError, lambda: place.store.append(run_id, [said(3)]), "append of record 3 after record 1")
    new = place.prefix + "gap"
    refuses(JournalError, lambda: place.store.append(new, [said(1)]), "append of record 1 to a run that has none")
    reads(place, run_id, due, "read after all those were refused")
    refuses(RunError, lambda: place.other.summary(new), "summary of a run whose only commit was refused")


def _race(place: Place) -> None:
    run_id = place.begun("race")

    def contend(store: Store, name: str) -> set[int]:
        won = set()
        for seq in range(1, _ROUNDS + 1):
            with suppress(ConcurrentWriter):
                store.append(run_id, [said(seq, name)])
                won.add(seq)
        return won

    with ThreadPoolExecutor(2) as threads:
        ours, theirs = threads.map(contend, (place.store, place.other), ("ours", "theirs"))
    winners = [("ours" if seq in ours else "theirs") for seq in range(1, _ROUNDS + 1)]
    expect((ours | theirs, ours & theirs), (set(range(1, _ROUNDS + 1)), set()), "the records that each thread won")
    reads(place, run_id, [opened(), *(said(n, name) for n, name in enumerate(winners, 1))], "read after the race")


def _threads(place: Place) -> None:
    runs = [place.begun(f"thread {n}") for n in range(4)]

    def go_on(run_id: str) -> None:
        for seq in range(1, _ROUNDS):
            place.store.append(run_id, [said(seq, run_id)])

    with ThreadPoolExecutor(len(runs)) as threads:
        list(threads.map(go_on, runs))
    for run_id in runs:
        due = [opened(), *(said(n, run_id) for n in range(1, _ROUNDS))]
        reads(place, run_id, due, "read of one of the runs that went on at once")


def _reading(place: Place) -> None:
    run_id = place.begun("reading")
    due = [opened(), *(said(n) for n in range(1, _MANY))]
    place.store.append(run_id, due[1:])
    given = place.store.read(run_id)
    seen = list(islice(given, 3))
    for seq, store in enumerate((place.store, place.other), _MANY):
        store.append(run_id, [said(seq)])
        due.append(said(seq))
    seen += given
    expect(seen, due[: max(len(seen), _MANY)], "read while two records were appended")


def _claims(place: Place) -> None:
    store, run_id, another = place.store, place.prefix + "claimed", place.prefix + "free"
    store.claim(run_id)
    try:
        for each in (store, place.other):
            refuses(ConcurrentWriter, lambda s=each: s.claim(run_id), "a second claim")  # type: ignore[misc]
        place.other.claim(another)
        place.other.release(another)
    finally:
        store.release(run_id)
    place.other.claim(run_id)
    place.other.release(run_id)
    store.release(run_id)  # nobody holds it: nothing happens
    refuses(RunError, lambda: store.summary(run_id), "summary of a run that was claimed and never begun")


def _summary(place: Place) -> None:
    run_id, due = place.prefix + "summary", RunSummary(place.prefix + "summary")
    for record in whole(tags={"é": "'\""}):
        place.store.append(run_id, [record])
        due.add([record])
        for store in (place.store, place.other):
            expect(store.summary(run_id), due, f"summary after record {record.seq} ({record.kind})")
    place.store.summary(run_id).state = "changed"
    expect(place.store.summary(run_id), due, "summary after a caller changed the one it was given")


def _listing(place: Place) -> None:
    tag = {"of": place.prefix}
    made = [
        place.begun("list 1", at=10.0, tags=tag),
        place.ended("list 2", at=20.0, workflow="V", tags={**tag, "é": "'%\""}),
        place.begun("list 3", at=30.0, tags={**tag, "é": "other"}),
        place.begun("list 4", at=40.0, state="resting", tags=tag),
        place.begun("list 5", at=50.0, tags={**tag, "a.b": "1"}),
    ]
    more = [[asked(1)], [], [move(1, [["wait", {"wait": 60}]])], [move(1, [["park", {"park": "waiting_api"}]])]]
    for run_id, records in zip((made[0], *made[2:]), more, strict=True):
        place.store.append(run_id, records)
    ours = [place.store.summary(run_id) for run_id in made]
    expect([run.run_id for run in place.found(Query(tags=tag))], made, "the runs with a tag, oldest first")
    times = sorted({run.updated for run in ours})
    queries = [Query(), *(Query(before=at) for at in times), *(Query(after=at) for at in times)]
    queries += [Query(state=each) for each in ("asking", "calling", "resting", "answered", "nowhere")]
    queries += [Query(status=status) for status in ("running", "parked", "ended")]
    queries += [Query(waits_for=whom) for whom in ("person", "api", "wait")]
    queries += [Query(workflow=each) for each in ("W", "V", "v", "U")]
    queries += [Query(tags=each) for each in ({"é": "'%\""}, {"é": "x"}, {"a.b": "1", **tag}, {"é": "other", "a": ""})]
    queries.append(Query(status="running", workflow="W", state="calling", waits_for="wait", after=50.0, tags=tag))
    for query in queries:
        seen = [run for run in place.found(query) if run.run_id in made]
        expect(seen, [run for run in ours if query.matches(run)], f"the runs that {query} means")


def _unknown(place: Place) -> None:
    run_id = place.prefix + "nobody"
    refuses(RunError, lambda: list(place.store.read(run_id)), "read of a run that is not there")
    refuses(RunError, lambda: place.store.summary(run_id), "summary of a run that is not there")


_STORE: Mapping[str, Callable[[Place], None]] = {
    "`read` gives back what was appended, in order, from any number on": _gives_back,
    "`read` gives back long runs and large bodies whole": _gives_back_long,
    "`append` is one commit, all of it or nothing": _whole_or_none,
    "a number that exists is ConcurrentWriter, a gap JournalError, and nothing is written": _fence,
    "of two writers that race, one wins each record": _race,
    "threads may append to different runs at once": _threads,
    "a run may be read while it is appended to": _reading,
    "one claim at a time on a run, until it is released": _claims,
    "`summary` is what the records add up to": _summary,
    "`runs` gives the runs that a query means, oldest first": _listing,
    "a run that is not there is RunError": _unknown,
}
