"""`fsm audit`: recorded exchanges against the rules; a thin face on `fsm.audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm._terminal import clean

from ._errors import CommandError
from ._show import Screen


def audit(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files of JSON lines, plain or gzip, and folders.", show_default=False),
    ],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where there are findings.")] = False,
    findings: Annotated[int, typer.Option("--findings", metavar="N", min=0, help="Show N findings of each kind.")] = 20,
) -> int:
    """Push recorded exchanges and transcripts through the wire reader, the legality rules and the machine.

    Exits with 0 when every line is accounted for, 2 when not or when it was given no text at all; with --strict, 1
    where there are findings.
    """
    from fsm.audit import audit as account

    screen = Screen()
    screen.busy("reading …")
    try:
        report = account(paths)
    finally:
        screen.stop()
    # It quotes what others recorded; line breaks of its own are all that stays.
    typer.echo("\n".join(clean(line) for line in report.render(findings=findings).split("\n")))
    if not report.rows and any("UTF-8" in each.reason for each in report.unreadable):
        raise CommandError("no line could be read, and it is no text: audit takes files of JSON lines, plain or gzip")
    return report.exit_code(strict=strict)
