"""`fsm diagram`: pictures of workflows, and the folder of pictures that is committed and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fsm._errors import MissingExtra

from ._errors import CommandError
from ._load import load_workflows
from ._pictures import HOW_SVG, format_of, write_text

FORMATS = ("svg", "dot", "mermaid", "table")
DETAILS = ("simple", "default", "full")


def diagram(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="file.py:Class or module:Class", show_default=False)
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there; without, it is printed.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(FORMATS), help="Default: what FILE ends in; printed, mermaid."),
    ] = None,
    detail: Annotated[
        str,
        typer.Option("--detail", metavar="|".join(DETAILS), help="How much of the standard rows is drawn."),
    ] = "default",
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write the pictures of all examples, and index.md.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--check", metavar="DIR", help="Compare the pictures in DIR with the examples; exit 1 if they differ."
        ),
    ] = None,
) -> int:
    """Draw workflows: SVG, Graphviz, Mermaid (GitHub draws it) or a Markdown table."""
    _known("--format", format, FORMATS)
    _known("--detail", detail, DETAILS)
    if write is not None or compare is not None:
        if targets or output is not None or (write is not None and compare is not None):
            raise CommandError("--write DIR and --check DIR draw all examples: give one of them, and no TARGET")
        from ._gallery import compare_gallery, write_gallery

        return write_gallery(write) if write is not None else compare_gallery(compare or Path())
    if not targets:
        raise CommandError("nothing to draw: name a workflow as file.py:Class or module:Class, or give --write DIR")
    workflows = [workflow for target in targets for workflow in load_workflows(target)]
    if output is not None and len(workflows) != 1:
        names = ", ".join(workflow.name for workflow in workflows)
        raise CommandError(f"-o takes one picture and {len(workflows)} are named ({names}): run it once for each")
    chosen: Any = format or (format_of(output) if output is not None else "mermaid")
    for workflow in workflows:
        try:
            text = workflow.diagram(chosen, detail=detail, findings=workflow.check())
        except MissingExtra as error:
            typer.echo(workflow.diagram("mermaid", detail=detail, findings=workflow.check()), nl=False)
            raise CommandError(
                f"SVG cannot be drawn here, so Mermaid was printed instead. For SVG: {HOW_SVG}, or install Graphviz"
            ) from error
        if output is None:
            typer.echo(text, nl=not text.endswith("\n"))
        else:
            typer.echo(f"{workflow.name}: {write_text(output, text)}")
    return 0


def _known(option: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise CommandError(f"{option} is one of {', '.join(choices)}, not {value!r}")
