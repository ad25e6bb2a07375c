"""`fsm classify`: why Claude stopped and what to do, with an exit code that a script can branch on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from fsm._terminal import clean, one_line

from ._outcomes import CODES, FINISHED, UNREADABLE, Outcome, worst
from ._recorded import FORMATS, UnreadableError, outcomes
from ._show import BAD, DIM, GOOD, HEAD, WARN, Screen

_SHOWN = 20


def classify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What was recorded; - is standard input.")],
    *,
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help=f"{', '.join(FORMATS)}: what it is, if not to be seen.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; the exit code says it.")] = False,
) -> int:
    if form not in FORMATS:
        msg = f"--format is one of {', '.join(FORMATS)}, not {form!r}"
        raise typer.BadParameter(msg)
    found, error = _read(file, form)
    code = worst([outcome.code for outcome in found] + ([UNREADABLE] if error else []))
    if quiet:
        return code
    if as_json:
        typer.echo(json.dumps(_for_machines(found, code, error), indent=2))
        return code
    screen = Screen()
    if len(found) == 1:
        _show_one(screen, found[0])
    elif found:
        _show_many(screen, found, code)
    if error:
        print(f"fsm: {clean(error)}", file=sys.stderr)  # noqa: T201 - the terminal is where a command answers
    return code


# \b keeps the lines of a paragraph as they are.
_TABLE = "\n".join(f"      {code:>2}  {words}" for code, words in CODES.items())
classify.__doc__ = f"""Say why Claude stopped and what to do, and exit with a code for it.

    FILE is a Messages response or error body (JSON), a recorded SSE stream, what claude -p wrote with --output-format
    json or stream-json, or the results of a Message Batch.

    \b
    Exit codes:
{_TABLE}

    Of several results the highest code counts, and 3 before all.

    \b
    In a script:
      claude -p "..." --output-format json > result.json
      fsm classify result.json
    """


def _read(file: str, form: str) -> tuple[list[Outcome], str]:
    """What could be read, and why not the rest."""
    found: list[Outcome] = []
    shown = "standard input" if file == "-" else one_line(file)
    try:
        if file == "-":
            found.extend(outcomes(sys.stdin.buffer, form))
        else:
            with Path(file).open("rb") as stream:
                found.extend(outcomes(stream, form))
    except UnreadableError as error:
        return found, f"{shown}: {error}"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        return found, f"{shown}: {error.strerror if isinstance(error, OSError) and error.strerror else error}"
    return found, "" if found else f"{shown}: there is no result in it"


def _for_machines(found: Iterable[Outcome], code: int, error: str) -> dict[str, Any]:
    results = [outcome.as_json() for outcome in found]
    return {
        "exit": code,
        "counts": dict(Counter(result["outcome"] for result in results)),
        "results": results,
        "error": error or None,
    }


def _style(code: int) -> str:
    return GOOD if code == FINISHED else WARN if code in {10, 12, 15, 20} else BAD


def _show_one(screen: Screen, outcome: Outcome) -> None:
    mark = "✓ " if outcome.code == FINISHED else "✗ "
    screen.line((mark, _style(outcome.code)), (outcome.outcome, HEAD), (f"  exit {outcome.code}", DIM))
    lines = {"why": outcome.why, "to do": outcome.todo, **{k.replace("_", " "): v for k, v in outcome.details.items()}}
    column = max(len(label) for label in lines) + 4
    for label, value in lines.items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        screen.entry(screen.text("  ", (label, DIM)), one_line(words, 1000), column=column)
    for note in outcome.notes:
        screen.entry(screen.text("  ", ("note", WARN)), one_line(note, 1000), column=column)


def _show_many(screen: Screen, found: list[Outcome], code: int) -> None:
    counts = Counter((outcome.code, outcome.outcome) for outcome in found)
    screen.line((f"{len(found)} results", HEAD), (f"  exit {code}", DIM))
    screen.line()
    why = {(outcome.code, outcome.outcome): outcome for outcome in found}
    rows = [
        (str(number), screen.text((name, _style(exit_code))), str(exit_code), why[exit_code, name].todo)
        for (exit_code, name), number in sorted(counts.items())
    ]
    screen.table(("number", "outcome", "exit", "to do"), rows, whole=(0, 1, 2), right=(0, 2))
    unfinished = [outcome for outcome in found if outcome.code != FINISHED]
    if not unfinished:
        return
    screen.line()
    named = [(one_line(o.name, 64), screen.text((o.outcome, _style(o.code))), _told(o)) for o in unfinished[:_SHOWN]]
    screen.table(("not finished", "outcome", "says"), named, whole=(1,))
    if len(unfinished) > _SHOWN:
        screen.line((f"… and {len(unfinished) - _SHOWN} more; --json has all", DIM), indent=2)


def _told(outcome: Outcome) -> str:
    names = ("error_code", "category", "message", "detail", "calls", "request_id")
    said = [outcome.details[name] for name in names if name in outcome.details]
    return one_line("; ".join(", ".join(map(str, s)) if isinstance(s, list) else str(s) for s in said), 300)
