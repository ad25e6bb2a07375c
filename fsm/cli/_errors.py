"""What ends a command early."""

from __future__ import annotations

from fsm._errors import UsageError


class CommandError(UsageError):
    """A command cannot do what was asked; the message is one line and names the remedy. Exit code 2."""
