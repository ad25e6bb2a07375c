"""The test kit: the Messages API in one object, and scripted replies for it.

Importing it imports neither the SDK nor an HTTP client; those come with the first client or transport.
"""

from __future__ import annotations

from fsm.testing import replies
from fsm.testing._reply import Reply
from fsm.testing._requests import RecordedRequest
from fsm.testing.emulator import Emulator
from fsm.testing.server import Server, serve

__all__ = ["Emulator", "RecordedRequest", "Reply", "Server", "replies", "serve"]
