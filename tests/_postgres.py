"""A PostgreSQL server for tests: the one that `FSM_POSTGRES_URL` names, or a throw-away one (.ci/postgres)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "postgres"


class Cluster:
    """A server of our own, which may be crashed; skips where there is no PostgreSQL."""

    def __init__(self) -> None:
        done = subprocess.run([SCRIPT, "start"], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            pytest.skip(f"no PostgreSQL server can be started here: {done.stderr.strip()}")
        self.folder = done.stdout.strip()
        self.url = f"postgresql://fsm@/postgres?host={self.folder}"

    def do(self, verb: str) -> None:
        """`crash` it, start it `again`, `stop` or `remove` it."""
        subprocess.run([SCRIPT, verb, self.folder], check=True, capture_output=True, timeout=120)
