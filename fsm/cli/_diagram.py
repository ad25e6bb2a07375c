"""`fsm diagram`: pictures of workflows, and the folder of pictures that is committed and compared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._errors import MissingExtra, UsageError
from fsm._terminal import clean, one_line

from ._errors import CommandError
from ._load import load_workflow, load_workflows
from ._pictures import HOW_SVG, SUFFIXES, format_of, write_file
from ._runs._open import found, opened

if TYPE_CHECKING:
    from fsm import Workflow
    from fsm._difference import Difference

FORMATS = ("svg", "png", "pdf", "html", "mermaid", "state", "dot", "table", "json")
DETAILS = ("simple", "default", "full")
THEMES = ("light", "dark", "auto")
_BINARY = frozenset({"png", "pdf"})
_MERMAID = frozenset({"mermaid", "state"})
_SINGLE = _BINARY | {"svg", "html", "json"}  # a file of these holds one picture
_WIDE = 1_000  # characters of one line that a difference tells


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
        typer.Option("--format", metavar="FORMAT", help=f"{', '.join(FORMATS)}. Default: what FILE ends in; mermaid."),
    ] = None,
    simple: Annotated[bool, typer.Option("--simple", help="Draw only the workflow's own rows.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Draw every row by itself, standard rows too.")] = False,
    detail: Annotated[
        str | None,
        typer.Option("--detail", metavar="DETAIL", help="simple, full, or default, which sums standard rows up."),
    ] = None,
    theme: Annotated[
        str | None,
        typer.Option("--theme", metavar="THEME", help="light, dark, or auto (SVG, HTML), which follows the reader's."),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--groups",
            metavar="NAME=STATE,...",
            help="Draw a frame around these states; may be repeated. Or: history, prefix.",
        ),
    ] = None,
    fold: Annotated[
        list[str] | None,
        typer.Option("--fold", metavar="NAME", help="Draw this group as one box, `all`: each; may be repeated."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Draw what this run did; it is in the journal.")
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(
            "--journal", "-j", envvar="FSM_JOURNAL", metavar="WHERE", help="Of --run: a file, or postgresql://..."
        ),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option("--runs", metavar="WHERE", help="Draw what all runs of the workflow in this journal did."),
    ] = None,
    bodies: Annotated[
        bool, typer.Option("--bodies/--no-bodies", help="HTML of a run: what was said in it, or not.")
    ] = True,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OLD",
            help="Draw what changed since OLD: a TARGET, or a file that --format json wrote.",
        ),
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write the pictures of all examples, and index.md.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option("--check", metavar="DIR", help="Name what of the pictures in DIR differs; exit 1 if any does."),
    ] = None,
) -> int:
    """Draw workflows: the table that runs, what runs did on it, what a version changed.

    GitHub draws Mermaid (and state, its plainer form). SVG needs no program, PNG and PDF need Graphviz's dot.
    """
    _known("--format", format, FORMATS)
    _known("--detail", detail, DETAILS)
    _known("--theme", theme, THEMES)
    if write is not None or compare is not None:
        if targets or output is not None or (write is not None and compare is not None):
            raise CommandError("--write DIR and --check DIR draw all examples: give one of them, and no TARGET")
        from ._gallery import compare_gallery, write_gallery

        return write_gallery(write) if write is not None else compare_gallery(compare or Path())
    if not targets:
        raise CommandError("nothing to draw: name a workflow as file.py:Class or module:Class, or give --write DIR")
    workflows = [workflow for target in targets for workflow in load_workflows(target)]
    chosen = _format(format, output)
    _refuse_several(workflows, chosen, output, named=run is not None or against is not None)
    if chosen in _BINARY and output is None and sys.stdout.isatty():
        name = workflows[0].name.lower()
        raise CommandError(f"{chosen} is binary and would garble the terminal: write it with -o {name}.{chosen}")
    from fsm.diagram._embedding import groups_from
    from fsm.diagram._texts._mermaid import undrawable

    options = {
        "detail": _detail(detail, simple=simple, full=full),
        "theme": theme,
        "groups": groups_from(groups or [], "--groups"),
        "bodies": bodies,
    }
    for workflow in workflows:
        options["folded"] = _folded(fold or [], options["groups"], workflow)
        more = _overlay(workflow, run, journal, runs)
        if against is not None:
            more["difference"] = _difference(against, workflow)
        drawn = _drawn(workflow, chosen, {**options, **more})
        _deliver(workflow, drawn, output)
        if isinstance(drawn, str) and chosen in _MERMAID and (why := undrawable(drawn)):
            typer.echo(
                f"fsm: {one_line(workflow.name)}: {why.replace('groups=, folded=', '--groups, --fold')}", err=True
            )
        if against is not None and output is not None:
            lines = str(more["difference"]).split("\n")
            typer.echo("\n".join(f"    {one_line(line, _WIDE)}" for line in lines))  # names in it are data (X8)
    return 0


# ── what is asked for ───────────────────────────────────────────────────────────────────────────────────────────────


def _known(option: str, value: str | None, choices: Sequence[str]) -> None:
    if value is not None and value not in choices:
        raise CommandError(f"{option} is one of {', '.join(choices)}, not {value!r}")


def _format(format: str | None, output: Path | None) -> str:
    if format is None:
        return "mermaid" if output is None else format_of(output)
    says = SUFFIXES.get(output.suffix.lower()) if output is not None else None
    if says not in {None, format} and (says, format) != ("mermaid", "state"):
        raise CommandError(f"{output} is named as {says}, and --format says {format}: leave one of the two out")
    return format


def _refuse_several(workflows: Sequence[type[Workflow]], format: str, output: Path | None, *, named: bool) -> None:
    """What holds, or is about, one workflow cannot be made of several."""
    if len(workflows) == 1:
        return
    names = ", ".join(workflow.name for workflow in workflows)
    if output is not None:
        raise CommandError(f"-o takes one picture and {len(workflows)} are named ({names}): run it once for each")
    if format in _SINGLE:
        raise CommandError(f"{format} holds one picture and {len(workflows)} are named ({names}): run it once for each")
    if named:
        raise CommandError(f"--run and --against are about one workflow, and {len(workflows)} are named ({names})")


def _detail(detail: str | None, *, simple: bool, full: bool) -> str:
    given = {word for word, is_given in (("simple", simple), ("full", full)) if is_given}
    given |= {detail} if detail is not None else set()
    if len(given) > 1:
        raise CommandError("--simple, --full and --detail say the same thing: give one of them")
    return given.pop() if given else "default"


def _folded(fold: Sequence[str], groups: Any, workflow: type[Workflow]) -> Any:
    from fsm.diagram._embedding import folded_from

    if fold and groups is None and not any(node.group for node in workflow.graph.nodes):
        raise CommandError(f"--fold draws a group as one box, and {workflow.name} has none: give --groups too")
    return folded_from(fold)


def _overlay(workflow: type[Workflow], run: str | None, journal: str | None, runs: str | None) -> dict[str, Any]:
    """What runs did, for `render`."""
    if run is not None and runs is not None:
        raise CommandError("--run draws one run and --runs all of them: give one of the two")
    if run is not None:
        from fsm._drawing import readable

        with opened(journal) as place:
            summary = found(place, run)
            if summary.workflow != workflow.name:
                raise CommandError(f"run {summary.run_id} is a run of {summary.workflow}, not of {workflow.name}")
            return {"records": tuple(readable(place.store, summary.run_id)), "renamed": workflow.renamed}
    if runs is not None:
        from fsm._drawing import overlay_of

        with opened(runs) as place:
            overlay = overlay_of(place.store, workflow.graph, workflow.renamed)
        if not overlay.runs:
            raise CommandError(f"{place.name} has no run of {workflow.name}: `fsm runs ls{place.options}` lists them")
        return {"overlay": overlay}
    return {}


def _difference(old: str, workflow: type[Workflow]) -> Difference:
    from fsm._difference import difference

    if not old.lower().endswith(".json"):
        older = load_workflow(old)
        limits = (older.limits, workflow.limits)
        return difference(older.graph, workflow.graph, renamed=workflow.renamed, limits=limits)
    from fsm.diagram import from_json

    try:
        before = from_json(Path(old).read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"{old} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{old} is no text in UTF-8, so no graph as JSON: {error}") from error
    except UsageError as error:
        raise CommandError(f"{old}: {error}") from error
    # JSON has the names of effects and not what they say, so the graph of today is compared by names, too.
    return difference(before, from_json(workflow.diagram("json")), renamed=workflow.renamed)


# ── what comes of it ────────────────────────────────────────────────────────────────────────────────────────────────


def _drawn(workflow: type[Workflow], format: Any, options: dict[str, Any]) -> str | bytes:
    options["findings"] = workflow.check()
    try:
        drawn: str | bytes = workflow.diagram(format, **options)
    except MissingExtra as error:
        typer.echo(workflow.diagram("mermaid", **options), nl=False)
        raise CommandError(
            f"{format} cannot be drawn here, so Mermaid was printed instead. For {format}: {HOW_SVG}, or install "
            "Graphviz (apt install graphviz, brew install graphviz)"
        ) from error
    return drawn


def _deliver(workflow: type[Workflow], drawn: str | bytes, output: Path | None) -> None:
    if output is not None:
        typer.echo(f"{one_line(workflow.name)}: {clean(write_file(output, drawn))}")
    elif isinstance(drawn, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(drawn)
    else:
        typer.echo(drawn, nl=not drawn.endswith("\n"))
