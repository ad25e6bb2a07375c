"""The test kit: the Messages API in one object, scripted replies for it, and a path to every row of a workflow.

Importing it imports neither the SDK nor an HTTP client; those come with the first client or transport.
"""

from __future__ import annotations

from fsm.testing import replies
from fsm.testing._path import Path, Paths, Uncovered, assert_path
from fsm.testing._reply import Reply
from fsm.testing._requests import RecordedRequest
from fsm.testing.emulator import Emulator
from fsm.testing.paths import happy_path, paths
from fsm.testing.server import Server, serve

__all__ = [
    "Emulator",
    "Path",
    "Paths",
    "RecordedRequest",
    "Reply",
    "Server",
    "Uncovered",
    "assert_path",
    "happy_path",
    "paths",
    "replies",
    "serve",
]
