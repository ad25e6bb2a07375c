"""A client with a key, or one line that says how to get one."""

from __future__ import annotations

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
