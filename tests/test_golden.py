"""Golden journals (spec K9, §3.2): what a released version wrote, every later one folds to the same, byte for byte.

A failure here means that runs of people who upgrade would go on otherwise, or not at all. Mend the library, not the
file: `tests/golden/make.py` adds those of a new version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden.make import SCENARIOS
from golden.standing import HERE, digest, records_in, standing
from golden.workflows import WORKFLOWS

from fsm import MemoryStore, Workflow
from fsm._conversation._fold import _APPLY
from fsm._versions import standings
from fsm.stores.sqlite import SqliteStore

FILES = sorted(HERE.glob("*/*.jsonl"))


def workflow_of(file: Path) -> type[Workflow]:
    return WORKFLOWS[records_in(file)[0].data["workflow"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_golden_journal_folds_to_the_same_state_and_the_same_next_bytes(file: Path) -> None:
    expected: dict[str, Any] = json.loads((file.parent / "expected.json").read_text("utf-8"))[file.stem]
    assert standing(workflow_of(file), records_in(file)) == expected


def test_none_of_them_is_stranded() -> None:
    """Where the library itself is newer, a run that waits goes on."""
    for file in FILES:
        store = MemoryStore()
        store.append("run", records_in(file))
        assert [strand for found in standings(workflow_of(file), store) for strand in found.strands] == []


def test_they_come_back_from_a_file_as_they_are(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        for file in FILES:
            records = records_in(file)
            run_id = records[0].data["run_id"]
            store.append(run_id, records)
            assert list(store.read(run_id)) == records
            assert store.verify(run_id) is None
            store.delete(run_id, unfinished=True)


def test_no_golden_file_was_changed_removed_or_added_by_hand() -> None:
    """`python -m golden.make` adds a version; nothing ever changes one that is there."""
    known = json.loads((HERE / "hashes.json").read_text("utf-8"))
    there = {file.relative_to(HERE).as_posix(): digest(file) for file in sorted(HERE.glob("*/*.json*"))}
    assert there == known


def test_the_golden_journals_hold_every_kind_of_record() -> None:
    kinds = {record.kind for file in FILES for record in records_in(file)}
    assert kinds == set(_APPLY)
    assert {file.stem for file in FILES} == set(SCENARIOS)
