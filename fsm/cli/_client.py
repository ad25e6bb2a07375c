"""A client with a key, or one line that says how to get one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsm._errors import UsageError

from ._errors import CommandError

HOW = "set it with  export ANTHROPIC_API_KEY=sk-ant-...  (made at https://platform.claude.com/settings/keys)"


def live_client(instead: str) -> Any:
    """A client that talks to Claude.

    Params: `instead` says what to do without a key.

    Raises:
        CommandError: there is no key.
    """
    from fsm import _sdk

    try:
        return _sdk.default_client()
    except UsageError as error:
        raise CommandError(f"no API key: {HOW}, or {instead}") from error


@contextmanager
def stops_at_a_step() -> Iterator[None]:
    """SIGTERM lets the running step end and parks the run; Ctrl-C parks it at once, as ever."""
    from fsm import draining

    with draining(signals=(signal.SIGTERM,)):
        yield
