"""`fsm runs`: its commands. What each does stands in the `_runs_*` files beside this one."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ._answer import answer
from ._drive import cancel, resume
from ._fork import compare, fork
from ._keep import purge, rm, verify
from ._ls import ls, show
from ._tail import tail

runs = typer.Typer(
    help="Look at the runs in a journal, answer them, go on with them.",
    epilog="The journal is named with --journal or FSM_JOURNAL; what drives a run with --workflow or FSM_WORKFLOW, for "
    "a journal holds no code and none is loaded by what it says. "
    "Exit codes: 0 done, or the run ended well; 1 something is wrong, or it ended otherwise; 2 the command could not "
    "be done; 3 it waits for a person or the API; 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

COMMANDS: tuple[tuple[str, Callable[..., int]], ...] = (
    ("List runs.", ls),
    ("Show one run.", show),
    ("Follow a run that another process drives.", tail),
    ("Answer a run that waits for a person.", answer),
    ("Go on with a run, or with all after an outage.", resume),
    ("End a run that is parked.", cancel),
    ("Begin a new run with a copy of another.", fork),
    ("Show two runs side by side.", compare),
    ("Check that runs are as they were written.", verify),
    ("Delete runs.", rm),
    ("Delete or erase old runs.", purge),
)
