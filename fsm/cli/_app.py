"""The commands with their options, and what happens when one fails: one line with the remedy, exit code 2."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.exceptions

from fsm._errors import FsmError, WorkflowError
from fsm._redact import redact_secrets
from fsm._version import __version__

from ._audit import audit
from ._check import check
from ._classify import classify
from ._demo import demo
from ._diagram import diagram
from ._emulator import emulator
from ._migrate import migrate
from ._run import run as run_command
from ._runs import COMMANDS as RUNS
from ._runs import runs

USAGE, INTERRUPTED = 2, 130
_BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell reports of any command whose reader has gone

app = typer.Typer(
    name="fsm",
    help="Your Claude loop is a state machine. Declare it, see it, test it.",
    epilog="A workflow is named as file.py:Class or module:Class; without a class where there is only one. "
    "Exit codes: 0 done, 1 something is wrong with what was looked at, 2 the command could not be done, "
    "130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer calls it so
    if value:
        typer.echo(f"fsm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[  # its callback prints it
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[  # taken out of the arguments in `run`, so that it may stand anywhere
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    pass


class _InterruptedError(Exception):
    """Ctrl-C; typer would make an exit code of it that looks like a command's own."""


def _command(words: str, function: Callable[..., int], *, group: typer.Typer = app) -> None:
    @functools.wraps(function)
    def command(**given: Any) -> int:
        try:
            return function(**given)
        except KeyboardInterrupt:
            raise _InterruptedError from None

    group.command(function.__name__, short_help=words)(command)


_command("See it work: no key, no network.", demo)
_command("Check a workflow, or print its rows.", check)
_command("Draw workflows.", diagram)
_command("Run a workflow, or chat with it.", run_command)
_command("Audit recorded exchanges.", audit)
_command("Say why Claude stopped, for scripts.", classify)
_command("Serve the Messages API, emulated.", emulator)
_command("Say which runs a new version strands; move the others.", migrate)

app.add_typer(runs, name="runs", short_help="Look at runs in a journal, answer them, go on with them.")
for _short, _function in RUNS:
    _command(_short, _function, group=runs)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; errors are printed to stderr as one line."""
    given, debug = list(arguments), False
    end = given.index("--") if "--" in given else len(given)
    if "--debug" in given[:end]:
        debug = True
        given = [word for number, word in enumerate(given) if word != "--debug" or number > end]
    try:
        code = app(given, prog_name="fsm", standalone_mode=False)
        sys.stdout.flush()  # a pipe that is closed is noticed here, not at exit
    except typer.exceptions.TyperException as error:  # a wrong option or argument
        if not given:  # `fsm` alone: the message is the help
            typer.echo(error.format_message())
            return USAGE
        return _failed(_usage(error, given), debug=False)
    except (FsmError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            return _pipe_closed()
        return _failed(_words(error), debug=debug)
    except (KeyboardInterrupt, _InterruptedError, typer.Abort):
        print("fsm: interrupted", file=sys.stderr)  # noqa: T201 - the terminal is where a command answers
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a fault of ours is one line, too
        return _failed(f"this is a fault in fsm, please report it: {type(error).__name__}: {error}", debug=debug)
    return code if isinstance(code, int) else 0


def _usage(error: typer.exceptions.TyperException, given: Sequence[str]) -> str:
    """What is wrong with the options, and where they are explained; what is often meant is said."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fsm"
    words = error.format_message()
    takes_one = context is not None and (context.info_name == "runs" or context.params.get("journal", "") is None)
    files = [word for word in given if takes_one and word.endswith(".db") and Path(word).is_file()]
    meant = f" A journal is named with --journal {files[0]}." if files else ""
    return f"{words}{'' if words.endswith(('.', '?', '!')) else '.'}{meant} See: {command} --help"


def _words(error: BaseException) -> str:
    if isinstance(error, WorkflowError):
        return f"{error}\nCorrect what the findings say; `fsm check --draw` shows them in the picture."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _failed(words: str, *, debug: bool) -> int:
    from fsm._terminal import clean

    if debug:
        import traceback

        print(clean(redact_secrets(traceback.format_exc())), file=sys.stderr, end="")  # noqa: T201 - as above
    print(f"fsm: {clean(redact_secrets(words))}", file=sys.stderr)  # noqa: T201 - as above
    return USAGE


def _pipe_closed() -> int:
    # `fsm check … | head`: the reader has gone, and Python must not complain about it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE
