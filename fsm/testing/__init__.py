"""The test kit: the Messages API in one object, scripted replies and faults for it, a path to every row of a workflow.

Importing it imports neither the SDK nor an HTTP client; those come with the first client or transport.
"""

from __future__ import annotations

from fsm.testing import faults, replies
from fsm.testing._asserting import assert_legal
from fsm.testing._faults import Fault
from fsm.testing._path import Path, Paths, Uncovered, assert_path
from fsm.testing._plan import FaultPlan
from fsm.testing._reply import Reply
from fsm.testing._requests import RecordedRequest
from fsm.testing._store import check_store
from fsm.testing.emulator import Emulator
from fsm.testing.paths import happy_path, paths
from fsm.testing.server import Server, serve

__all__ = [
    "Emulator",
    "Fault",
    "FaultPlan",
    "Path",
    "Paths",
    "RecordedRequest",
    "Reply",
    "Server",
    "Uncovered",
    "assert_legal",
    "assert_path",
    "check_store",
    "faults",
    "happy_path",
    "paths",
    "replies",
    "serve",
]
