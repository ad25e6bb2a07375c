"""The command `fsm`. Everything that takes time to import is imported by the command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

OK, BAD, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Params: `arguments` without the program's name; those of the process when they are missing.
    Returns the exit code: 0 done, 1 it found something wrong, 2 it could not be done, 130 interrupted.
    """
    from ._app import run

    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows a question mark; the command goes on.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    return run(given)
