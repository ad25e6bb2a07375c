"""What the tests of pictures share."""

from __future__ import annotations

from attrs import frozen


@frozen
class Problem:
    """What a picture reads of a finding, and nothing else."""

    id: str
    state: str
    event: str | None
    edge: object
    problem: str
    remedy: str = ""
