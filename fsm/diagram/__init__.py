"""A graph, with a run and findings where wanted, as a picture: SVG, PNG, PDF, DOT, Mermaid, a table, or JSON.

Graph → `Picture` (sorted, generated ids, merged arrows) → one renderer a format. The only package that uses Graphviz.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

from fsm._difference import Difference
from fsm._errors import UsageError
from fsm._graph import Graph
from fsm._records import Record

from ._extract import make_picture
from ._faces import formatted, mime_bundle
from ._folding import Folded
from ._groups import Groups, grouped
from ._model import Detail, Picture, Theme
from ._overlay import Counts, Overlay
from ._page._html import to_html
from ._svg._drawing import to_svg
from ._svg._image import ImageFormat, to_image
from ._texts._dot import to_dot
from ._texts._from_json import from_json
from ._texts._json import to_json
from ._texts._mermaid import to_mermaid
from ._texts._state_diagram import to_state_diagram
from ._texts._table import to_table

__all__ = [
    "Counts",
    "Detail",
    "Format",
    "ImageFormat",
    "Options",
    "Overlay",
    "TextFormat",
    "Theme",
    "formatted",
    "from_json",
    "known_options",
    "mime_bundle",
    "render",
]

TextFormat = Literal["svg", "dot", "mermaid", "state", "table", "json", "html"]
Format = Literal[TextFormat, ImageFormat]


class Options(TypedDict, total=False):
    """What `render` takes besides the graph and the format; its docstring says what each means."""

    overlay: Overlay | None
    difference: Difference | None
    detail: Detail
    findings: Iterable[Any]
    theme: Theme | None
    groups: Groups | None
    folded: Folded
    records: Iterable[Record] | None
    bodies: bool
    renamed: Mapping[str, str]


@overload
def render(graph: Graph, format: TextFormat = "svg", **options: Unpack[Options]) -> str: ...


@overload
def render(graph: Graph, format: ImageFormat, **options: Unpack[Options]) -> bytes: ...


@overload
def render(graph: Graph, format: Format, **options: Unpack[Options]) -> str | bytes: ...


def render(
    graph: Graph,
    format: Format = "svg",
    *,
    overlay: Overlay | None = None,
    difference: Difference | None = None,
    detail: Detail = "default",
    findings: Iterable[Any] = (),
    theme: Theme | None = None,
    groups: Groups | None = None,
    folded: Folded = False,
    records: Iterable[Record] | None = None,
    bodies: bool = True,
    renamed: Mapping[str, str] | None = None,
) -> str | bytes:
    """A graph as a picture; equal graphs give equal text.

    Args:
        graph: the declared workflow.
        format: `svg` (self-contained), `png` or `pdf` (bytes), `dot`, `mermaid` (a flowchart that GitHub draws),
            `state` (Mermaid's state diagram), `table` (Markdown), `json` (the whole graph, see `_json`) or
            `html` (a page that stands alone: a run to step through, or the workflow to look at).
        overlay: what runs did (`Overlay.of`, `of_runs`, `of_counts`): the moves of one are numbered on the arrows and
            the state it is in is marked; many make a heat map.
        difference: what this version changed of another one (`fsm._difference.difference(older, graph)`).
        detail: `simple` draws the workflow's own rows, `default` sums the standard rows up beside them, `full` draws
            every row by itself. A standard row that was taken, or that has a finding, is always drawn.
        findings: objects with `id`, `state`, `event`, `edge` (or None) and `problem`; what they are about is red.
        theme: of SVG (without: `light`) and HTML (without: `auto`): `light`, `dark`, or `auto`, which follows the
            reader's colour scheme.
        groups: frames around states: names of groups (`outer/inner` for one in another) and the states in each, or
            `history` (Claude states of one history, and what serves only these), or `prefix` (names up to the first
            `_`). Without, the groups that the workflow has.
        folded: draws groups as one box each: True for all, or their names.
        records: the journal of a run, instead of `overlay`; HTML steps through it.
        bodies: of HTML: False leaves out what people, models, tools and prompts said: a page to be shown around.
        renamed: of HTML with records: what states of older versions are called now (`Workflow.renamed`).

    Raises:
        UsageError: an unknown format, detail, theme, group or state.
        MissingExtra: SVG without `dot` on PATH and without the extra `svg`; install one, or take another format.
        MissingProgram: PNG or PDF without Graphviz's `dot` on PATH; install it, or take SVG.
    """
    _known("format", format, Format)
    _known("detail", detail, Detail)
    if theme is None:
        theme = "auto" if format == "html" else "light"
    _known("theme", theme, Theme)
    graph = grouped(graph, groups)
    if records is not None:
        records = tuple(records)
        overlay = Overlay.of(records, renamed=renamed)
        if format == "html":
            # The page itself tells where the run is, and what each move cost.
            overlay = Overlay(overlay.moves, workflows=overlay.workflows)
    if format == "json":
        overlay = overlay.on(graph) if overlay is not None else None
        return to_json(graph, overlay=overlay, difference=difference, detail=detail, findings=findings)
    picture = make_picture(
        graph,
        overlay=overlay,
        difference=difference,
        detail=detail,
        findings=findings,
        merged=format != "table",
        folded=folded,
    )
    if format == "png" or format == "pdf":  # noqa: PLR1714 - mypy narrows a literal by comparing, not by `in`
        return to_image(to_svg(picture, theme="dark" if theme == "dark" else "light"), format)
    if format == "svg":
        return to_svg(picture, theme=theme)
    if format == "html":
        return to_html(picture, graph, records=records, bodies=bodies, theme=theme, renamed=renamed)
    return _RENDERERS[format](picture)


_RENDERERS: Mapping[str, Callable[[Picture], str]] = {
    "dot": to_dot,
    "mermaid": to_mermaid,
    "state": to_state_diagram,
    "table": to_table,
}


def known_options(given: Iterable[str], *own: str) -> None:
    """Whether everything is an option of `render`, or one of the caller's own.

    Raises:
        UsageError: it is none; the message names the nearest.
    """
    known = ("format", *own, *Options.__annotations__)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}=?" if near else f"it has {', '.join(known)}"
            raise UsageError(f"diagram() has no option {name}=: {hint}")


def _known(option: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise UsageError(f"{option}={value!r} is not one of {', '.join(map(repr, get_args(choices)))}")
