"""What `Keeper` promises, for `check_store`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fsm._errors import ConcurrentWriter, JournalError, RunError
from fsm._summary import Query
from fsm.testing._place import Place, expect, move, opened, reads, refuses, said, whole

_REFUSED = (ConcurrentWriter, JournalError)


def _outlines(place: Place) -> None:
    run_id, due = place.ended("outline"), whole()
    seen = list(place.keeper.outline(run_id))
    facts = [(record.seq, record.kind, record.at) for record in due]
    expect([(record.seq, record.kind, record.at) for record in seen], facts, "the outline's records")
    expect([r.kind for r in seen if "canary" in repr(r)], [], "the outline's records that hold what was said")
    expect(list(place.keeper.outline(run_id, 3)), seen[3:], "the outline from record 3 on")


def _verifies(place: Place) -> None:
    run_id = place.begun("verify")
    for store, seq in ((place.store, 1), (place.other, 2), (place.store, 3)):
        store.append(run_id, [said(seq)])
        expect(place.keeper.verify(run_id), None, "verify of a run that nobody changed")
    waits = place.begun("verify a wait")
    for record in (*whole()[1:], move(15, [["wait", {"wait": 60}]])):
        place.store.append(waits, [record])
        expect(place.keeper.verify(waits), None, f"verify after record {record.seq} ({record.kind})")
    nobody = place.prefix + "nobody"
    keeper = place.keeper
    for each in (keeper.verify, keeper.erase, keeper.delete, lambda name: list(keeper.outline(name))):
        refuses(RunError, lambda act=each: act(nobody), "a run that is not there")  # type: ignore[misc]


def _says_who_drives(place: Place) -> None:
    run_id = place.begun("driven")
    for store in (place.store, place.other):
        expect(place.keeper.is_claimed(run_id), due=False, what="is_claimed before a claim")
        store.claim(run_id)
        try:
            expect(place.keeper.is_claimed(run_id), due=True, what="is_claimed after a claim")
        finally:
            store.release(run_id)
    expect(place.keeper.is_claimed(run_id), due=False, what="is_claimed after release")


def _erases(place: Place) -> None:
    run_id, keeper = place.ended("erase"), place.keeper
    outline, summary = list(keeper.outline(run_id)), keeper.summary(run_id)
    keeper.erase(run_id)
    refuses(JournalError, lambda: list(place.other.read(run_id)), "read of an erased run")
    expect(keeper.verify(run_id), None, "verify of an erased run")
    expect(list(keeper.outline(run_id)), outline, "the outline of an erased run")
    expect(place.other.summary(run_id), summary, "the summary of an erased run")
    keeper.erase(run_id)  # again: nothing is left to be done
    expect(keeper.verify(run_id), None, "verify of a run that was erased twice")


def _deletes(place: Place) -> None:
    run_id, keeper = place.begun("delete"), place.keeper
    neighbour = place.ended("neighbour")
    place.other.append(run_id, [said(1)])
    keeper.delete(run_id, unfinished=True)
    for store in (place.store, place.other):
        refuses(RunError, lambda s=store: s.summary(run_id), "summary of a deleted run")  # type: ignore[misc]
        refuses(_REFUSED, lambda s=store: s.append(run_id, [said(2)]), "append to a deleted run")  # type: ignore[misc]
    refuses(RunError, lambda: list(keeper.read(run_id)), "read of a deleted run")
    reads(place, neighbour, whole(), "read of another run")
    place.begun("delete")
    reads(place, run_id, [opened()], "read of a run begun anew under the id of a deleted one")


def _keeps_what_goes_on(place: Place) -> None:
    keeper, due = place.keeper, [opened()]
    run_id, claimed = place.begun("going on"), place.ended("claimed and ended")
    for act, name in ((keeper.erase, "erase"), (keeper.delete, "delete")):
        refuses(RunError, lambda a=act: a(run_id), f"{name} of a run that has not ended")  # type: ignore[misc]
        place.other.claim(claimed)
        try:
            refuses(ConcurrentWriter, lambda a=act: a(claimed), f"{name} of a run that is driven")  # type: ignore[misc]
        finally:
            place.other.release(claimed)
    reads(place, run_id, due, "read of the run that was not forgotten")
    reads(place, claimed, whole(), "read of the driven run")
    keeper.erase(run_id, unfinished=True)
    refuses(JournalError, lambda: list(keeper.read(run_id)), "read of a run erased with unfinished=True")


def _purges(place: Place) -> None:
    keeper, tag = place.keeper, {"purge": place.prefix}
    ended, driven = place.ended("purge 1", tags=tag), place.ended("purge 2", tags=tag)
    going, spared = place.begun("purge 3", tags=tag), place.ended("purge 4")
    query = Query(tags=tag)
    place.other.claim(driven)
    try:
        expect(keeper.purge(query, erase=True), (ended,), "the runs erased by a purge")
        refuses(JournalError, lambda: list(keeper.read(ended)), "read of a run erased by a purge")
        now = place.store.summary(ended).records
        expect(keeper.purge(Query(only={ended: now - 1})), (), "the runs deleted of those that went on since")
        expect(keeper.purge(Query(only={ended: now})), (ended,), "the runs deleted by a purge of only these")
        ended = place.ended("purge 5", tags=tag)
        expect(keeper.purge(query), (ended,), "the runs deleted by a purge")
        expect([run.run_id for run in place.found(query)], [driven, going], "the runs that are left")
        expect(keeper.purge(query, unfinished=True), (going,), "the runs deleted with unfinished=True")
    finally:
        place.other.release(driven)
    reads(place, driven, whole(tags=tag), "read of a driven run after a purge")
    reads(place, spared, whole(), "read of a run that was not meant")


KEEPER: Mapping[str, Callable[[Place], None]] = {
    "`outline` gives what happened without what was said": _outlines,
    "`verify` finds nothing wrong with a run that is whole": _verifies,
    "`is_claimed` says whether somebody drives a run": _says_who_drives,
    "`erase` takes away what was said, and `verify` still holds": _erases,
    "`delete` takes a run away for good": _deletes,
    "a run that has not ended or is driven is neither erased nor deleted": _keeps_what_goes_on,
    "`purge` forgets the ended runs that a query means": _purges,
}
