"""A graph, with a run and findings where wanted, as a picture: SVG, DOT, Mermaid, or a Markdown table.

Graph → `Picture` (sorted, generated ids, merged arrows) → one renderer a format. The only package that uses Graphviz.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

from fsm._errors import UsageError
from fsm._graph import Graph

from ._dot import to_dot
from ._extract import make_picture
from ._mermaid import to_mermaid
from ._model import Detail
from ._overlay import Overlay
from ._svg import to_svg
from ._table import to_table

__all__ = ["Detail", "Format", "Overlay", "render"]

Format = Literal["dot", "mermaid", "svg", "table"]


def render(
    graph: Graph,
    format: Format = "svg",
    *,
    overlay: Overlay | None = None,
    detail: Detail = "default",
    findings: Iterable[Any] = (),
) -> str:
    """A graph as a picture; equal graphs give equal text.

    Args:
        graph: the declared workflow.
        format: `svg` (self-contained), `dot`, `mermaid` (a flowchart that GitHub draws) or `table` (Markdown).
        overlay: a run: its moves are numbered on the arrows, the state it is in is marked.
        detail: `simple` draws the workflow's own rows, `default` sums the standard rows up beside them, `full` draws
            every row by itself. A standard row that was taken, or that has a finding, is always drawn.
        findings: objects with `id`, `state`, `event`, `edge` (or None) and `problem`; what they are about is red.

    Raises:
        UsageError: an unknown format or detail.
        MissingExtra: SVG without `dot` on PATH and without the extra `svg`; install one, or take another format.
    """
    _known("format", format, Format)
    _known("detail", detail, Detail)
    picture = make_picture(graph, overlay=overlay, detail=detail, findings=findings, merged=format != "table")
    renderers = {"svg": to_svg, "dot": to_dot, "mermaid": to_mermaid, "table": to_table}
    return renderers[format](picture)


def _known(option: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise UsageError(f"{option}={value!r} is not one of {', '.join(map(repr, get_args(choices)))}")
