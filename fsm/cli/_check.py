"""`fsm check`: what the checks find in a workflow, or its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._errors import CommandError
from ._load import load_workflows
from ._pictures import format_of, write_file
from ._show import BAD, DIM, GOOD, HEAD, WARN, Screen, style_of

if TYPE_CHECKING:
    from fsm import Workflow
    from fsm._check import Finding
    from fsm._graph import Edge, Graph


def check(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="file.py:Class or module:Class", show_default=False)
    ] = None,
    *,
    sdk: Annotated[
        bool, typer.Option("--sdk", help="Compare the alphabet with the installed anthropic SDK, too (W13).")
    ] = False,
    own: Annotated[bool, typer.Option("--own", help="Leave the standard rows out.")] = False,
    draw: Annotated[
        Path | None,
        typer.Option("--draw", metavar="FILE", help="Draw it with its findings in red (.svg, .dot, .mmd or .md)."),
    ] = None,
) -> int:
    """Print every finding on a workflow, or its rows and the standard rows that are implied.

    Exits with 1 where there are errors; warnings do not count.
    """
    screen = Screen()
    if not targets and not sdk:
        raise CommandError("nothing to check: name a workflow as file.py:Class or module:Class, or give --sdk")
    if sdk:
        screen.busy("loading the SDK …")
    gaps = _gaps() if sdk else ()
    screen.stop()
    if sdk:
        _show_gaps(screen, gaps)
    workflows = [workflow for target in targets or () for workflow in load_workflows(target)]
    if draw is not None and len(workflows) != 1:
        raise CommandError(f"--draw draws one workflow, {len(workflows)} are named: run it once for each")
    wrong = bool(gaps)
    for number, workflow in enumerate(workflows):
        if number or sdk:
            screen.line()
        findings = workflow.check()
        wrong |= any(finding.is_error for finding in findings)
        show_findings(screen, workflow, findings)
        show_notes(screen, workflow.graph)
        if not any(finding.is_error for finding in findings):
            show_rows(screen, workflow.graph, own_only=own)
        if draw is not None:
            from fsm.diagram import render

            text = render(workflow.graph, format_of(draw), findings=findings)
            screen.line()
            screen.line("drawn: ", str(write_file(draw, text)), indent=2)
    return 1 if wrong else 0


def _gaps() -> Sequence[str]:
    from fsm import _sdk

    return _sdk.alphabet_gaps()


def _show_gaps(screen: Screen, gaps: Sequence[str]) -> None:
    from importlib.metadata import version

    name = f"anthropic {version('anthropic')}"
    if not gaps:
        screen.line(("✓ ", GOOD), f"W13 alphabet: every stop reason and error type of {name} is known")
        return
    screen.line(
        ("✗ ", BAD), f"W13 alphabet: {name} knows what this fsm does not; they arrive as unknown_stop or by status"
    )
    for gap in gaps:
        screen.line(gap, indent=4)
    screen.line(("→ ", DIM), "Update claude-fsm, or pin anthropic to a version that it was tested with.", indent=4)


def show_findings(screen: Screen, workflow: type[Workflow], findings: Sequence[Finding]) -> None:
    """The head line and every finding: what, where, what to do."""
    errors = sum(finding.is_error for finding in findings)
    warnings = len(findings) - errors
    counts = ", ".join(_count(n, word) for n, word in ((errors, "error"), (warnings, "warning")) if n)
    if errors:
        screen.line(("✗ ", BAD), (workflow.name, HEAD), f" is refused: {counts}", hang=2)
    else:
        own = [edge for edge in workflow.graph.edges if not edge.implied]
        more = f", {counts}" if counts else ""
        size = f"{_count(len(workflow.states), 'state')}, {_count(len(own), 'row')} of its own{more}"
        screen.line(("✓ ", GOOD), (workflow.name, HEAD), f" is ok: {size}", hang=2)
    for finding in findings:
        screen.line()
        style = BAD if finding.is_error else WARN
        column = 17
        label = screen.text("  ", (f"{finding.id:<4}", style), (finding.title, style))
        screen.entry(label, finding.problem, column=column)
        for mark, words in (("", finding.where), ("", _path(finding)), ("→ ", finding.remedy)):
            if words:
                screen.entry(
                    screen.text(" " * column, (mark, style)), (words, "" if mark else DIM), column=column + len(mark)
                )


def show_notes(screen: Screen, graph: Graph) -> None:
    """What is to know about the models; no fault of the workflow."""
    from fsm._notes import model_notes
    from fsm._states import Claude

    for note in model_notes(node.state.model for node in graph.nodes if isinstance(node.state, Claude)):
        screen.line()
        screen.line(("  note  ", WARN), note, hang=8)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _path(finding: Finding) -> str:
    return f"on the path {' → '.join(finding.path)}" if finding.path else ""


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_EVENTS = 30  # columns for the events of a standard row
_HEAD = ("state", "event", "guard", "effects", "next")


def show_rows(screen: Screen, graph: Graph, *, own_only: bool = False) -> None:
    """The workflow's own rows; below, lighter, the standard rows, those that are alike as one."""
    own = [edge for edge in graph.edges if not edge.implied]
    screen.line()
    screen.table(_HEAD, [_cells(screen, graph, edge) for edge in own], whole=(0, 1, 4))
    if own_only:
        return
    standard = _merged(graph)
    if standard:
        screen.line()
        screen.line(("standard rows, for what the states do not mention:", DIM), indent=2)
    for states, rows in standard.items():
        screen.line()
        screen.line((", ".join(states), DIM), indent=2)
        screen.table((), rows, style=DIM, indent=4, widest=_EVENTS)
    if graph.strict:
        screen.line()
        screen.line(("no standard rows: the workflow is strict", DIM), indent=2)


def _cells(screen: Screen, graph: Graph, edge: Edge) -> list[Any]:
    source, dest = graph.by_name[edge.source], graph.by_name[edge.dest]
    first = edge.index == 0
    return [
        screen.text((source.name, style_of(source.kind))) if first else "",
        screen.text((edge.event, HEAD)) if first else "",
        _guard(edge),
        ", ".join(map(str, edge.effects)),
        screen.text((dest.name, style_of(dest.kind, ok=dest.ok))),
    ]


def _guard(edge: Edge) -> str:
    return str(edge.guard) if edge.guard is not None else "else" if edge.index else ""


def _merged(graph: Graph) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """Implied rows by the states that have them; events with the same alternatives are one row."""
    alternatives: dict[tuple[str, str], list[str]] = {}
    for edge in graph.edges:
        if edge.implied:
            guard = f"[{_guard(edge)}] " if _guard(edge) else ""
            effects = f"/ {', '.join(map(str, edge.effects))} " if edge.effects else ""
            dest = "itself" if edge.dest == edge.source else edge.dest
            alternatives.setdefault((edge.source, edge.event), []).append(f"{guard}{effects}→ {dest}")
    events: dict[tuple[str, str], list[str]] = {}
    for (source, event), lines in alternatives.items():
        events.setdefault((source, "\n".join(lines)), []).append(event)
    states: dict[tuple[str, str], list[str]] = {}
    for (source, row), names in events.items():
        states.setdefault((", ".join(names), row), []).append(source)
    rows: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for cells, sources in states.items():
        rows.setdefault(tuple(sources), []).append(cells)
    return rows
