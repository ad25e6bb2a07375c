"""The pictures that other libraries draw of the same machines; benchmarks/pictures.py makes them, since we need none.

`peers/peers.json` says what was drawn, by which versions, and from which rows: rows that changed since are a drift.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from fsm import Workflow
from fsm.cli._errors import CommandError

FOLDER, FILE = "peers", "peers.json"


@frozen
class Peer:
    """A library that draws: what one sees in its pictures and what one does not; `made` names versions and the date."""

    stem: str
    name: str
    made: str
    shows: str
    lacks: str


@frozen
class Machine:
    """What was drawn: an example, its own rows (`simple`) or every row; `rows` is what all pictures were made from."""

    stem: str
    title: str
    about: str
    example: str
    detail: Literal["simple", "default"]
    rows: tuple[tuple[str, ...], ...]

    @property
    def ours(self) -> str:
        """Our own picture, without suffix."""
        return f"{FOLDER}/{self.stem}-fsm" if self.detail == "simple" else self.example


@frozen
class Peers:
    """All that `peers.json` says, and where it is."""

    folder: Path
    about: str
    ours: str
    peers: tuple[Peer, ...]
    machines: tuple[Machine, ...]

    @property
    def names(self) -> list[str]:
        """What the libraries are called."""
        return [peer.name for peer in self.peers]

    def file(self, machine: Machine, peer: Peer) -> Path:
        """The picture of a machine by a peer."""
        return self.folder / FOLDER / f"{machine.stem}-{peer.stem}.svg"


def rows_of(workflow: type[Workflow], detail: str) -> list[list[str]]:
    """Source, event, guard and target of each row, of its own rows only where `detail` is `simple`."""
    return [
        [edge.source, edge.event, str(edge.guard or ""), edge.dest]
        for edge in workflow.graph.edges
        if detail != "simple" or not edge.implied
    ]


def peers_in(folder: Path) -> Peers | None:
    """What there is in a folder of pictures; None without the file.

    Raises:
        CommandError: the file is not what benchmarks/pictures.py writes.
    """
    path = folder / FOLDER / FILE
    if not path.is_file():
        return None
    try:
        data: Any = json.loads(path.read_text("utf-8"))
        machines = [{**each, "rows": tuple(tuple(row) for row in each["rows"])} for each in data["machines"]]
        return Peers(
            folder,
            data["about"],
            data["ours"],
            tuple(Peer(**each) for each in data["peers"]),
            tuple(Machine(**each) for each in machines),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise CommandError(f"{path} is not what benchmarks/pictures.py writes: make it anew with it") from error


def peers_drift(peers: Peers, workflows: Mapping[str, type[Workflow]]) -> Iterator[str]:
    """What differs between the rows that were drawn and those of the examples, and the pictures that are missing."""
    path = peers.folder / FOLDER / FILE
    for machine in peers.machines:
        workflow = workflows.get(machine.example)
        now = {tuple(row) for row in rows_of(workflow, machine.detail)} if workflow else set()
        changed = sorted(
            (*(("-", row) for row in {*machine.rows} - now), *(("+", row) for row in now - {*machine.rows}))
        )
        if changed:
            yield f"{path}: the pictures of {machine.title} were made from other rows: run benchmarks/pictures.py"
        for mark, (source, event, guard, dest) in changed:
            yield f"    {mark} {source} --{event}{f' [{guard}]' if guard else ''}--> {dest}"
        for peer in peers.peers:
            if not (missing := peers.file(machine, peer)).is_file():
                yield f"{missing} is missing: run benchmarks/pictures.py"
