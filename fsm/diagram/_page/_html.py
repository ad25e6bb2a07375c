"""A run, or a workflow, as one HTML file that stands alone: our own SVG, the facts as JSON, one style and one script.

Nothing in it comes from elsewhere, and nothing leaves it: the policy in its head allows the one style and the one
script by their hashes and no request at all. What models and people wrote is data (X2): JSON in which no markup can
begin, shown as text nodes and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from string import Template
from typing import Any
from xml.etree import ElementTree as ET

from attrs import asdict, evolve

from fsm._graph import Graph
from fsm._records import Record, moment
from fsm.diagram._looks import css_colours
from fsm.diagram._model import Picture, Theme
from fsm.diagram._overlay import Key
from fsm.diagram._svg._drawing import to_svg

from ._cards import cards_of, places_of
from ._said import readable
from ._steps import End, Step, Steps, steps_of

_MARKED = frozenset({"taken", "current", "stuck", "heat", "warm"})  # what the page itself marks and tells
_ESCAPES = {code: f"\\u{code:04x}" for code in (*map(ord, "<>&\u2028\u2029"), *range(0xD800, 0xE000))}


def to_html(
    picture: Picture,
    graph: Graph,
    *,
    records: Iterable[Record] | None = None,
    bodies: bool = True,
    theme: Theme = "auto",
    renamed: Mapping[str, str] | None = None,
) -> str:
    """The page of a run, in which one steps from move to move; without records, that of the workflow.

    Args:
        picture: what is drawn; of a run, with every row that it took.
        graph: of the workflow, for what is told about a state.
        records: the journal of the run.
        bodies: False leaves out what people, models, tools and prompts said: a page to be shown around.
        theme: `auto` follows the reader's colour scheme.
        renamed: what states of older versions are called now.
    """
    run = None if records is None else steps_of(records, graph, bodies=bodies, renamed=renamed)
    data: dict[str, Any] = {"name": readable(graph.name), "states": cards_of(graph, picture, bodies=bodies)}
    if run is not None:
        data["run"] = _run(run, picture)
        picture = _blank(picture)
    svg = to_svg(picture, theme=theme)
    parts = {name: (files(__package__) / name).read_text("utf-8") for name in ("page.css", "page.js")}
    style, script = css_colours(theme) + parts["page.css"], parts["page.js"]
    page = Template((files(__package__) / "page.html").read_text("utf-8"))
    return page.substitute(
        policy=policy_of([style, *_styles(svg)], script),
        scheme={"auto": "light dark"}.get(theme, theme),
        title=_text(f"{graph.name}, run {run.run_id}" if run else graph.name),
        style=style,
        name=_text(graph.name),
        about=_text(picture.doc if run is None else f"run {run.run_id}, {moment(run.began)}"),
        picture=svg,
        moves=_moves(run) if run else "",
        data=as_data(data),
        script=script,
    )


def as_data(value: Any) -> str:
    """JSON that can stand in a `script` element: no markup can begin in it, and no line can end (X2)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def policy_of(styles: Iterable[str], script: str | None = None) -> str:
    """Only this style and this script, by their hashes; no request, no form, no other base, and no text as markup."""
    rules = {
        "default-src": "'none'",
        "style-src": " ".join(map(_hash, styles)),
        "script-src": _hash(script) if script is not None else "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _styles(svg: str) -> list[str]:
    """The style sheets that the picture carries."""
    return [each.text or "" for each in ET.fromstring(svg).iter() if each.tag.rpartition("}")[2] == "style"]  # noqa: S314 - our own


def _text(text: object) -> str:
    """Text as markup, serialised by the same means as the picture."""
    holder = ET.Element("x")
    holder.text = readable(text)
    return ET.tostring(holder, encoding="unicode").removeprefix("<x>").removesuffix("</x>").removesuffix("<x />")


def _blank(picture: Picture) -> Picture:
    """The picture to step in: the page marks where the run is, and tells what notes and numbers tell.

    What was taken stays so: those rows are drawn as arrows, and without a script they show the whole path.
    """
    boxes = tuple(evolve(box, current=False, faded=False, tally=None, heat=None) for box in picture.boxes)
    arrows = tuple(
        evolve(
            arrow,
            faded=False,
            heat=None,
            lines=tuple(evolve(line, seqs=(), tally=None, stuck=False) for line in arrow.lines),
        )
        for arrow in picture.arrows
    )
    notes = tuple(note for note in picture.notes if not note.standard)
    legend = tuple(entry for entry in picture.legend if entry[0] not in _MARKED)
    return evolve(picture, doc="", boxes=boxes, arrows=arrows, notes=notes, legend=legend, facts=())


# --- the run ---------------------------------------------------------------------------------------------------------


def _run(run: Steps, picture: Picture) -> dict[str, Any]:
    places = places_of(picture)
    boxes = {name: box.id for box in picture.boxes for name in box.states}
    return {
        "id": readable(run.run_id),
        "began": run.began,
        "tags": {readable(name): readable(value) for name, value in run.tags.items()},
        "steps": [_step(step, places, boxes) for step in run.steps],
        "end": _end(run.end, boxes),
    }


def _step(step: Step, places: Mapping[Key, tuple[str, int]], boxes: Mapping[str, str]) -> dict[str, Any]:
    place = places.get(step.key) if step.key is not None else None
    values = asdict(step, filter=lambda attribute, value: attribute.name != "key" and value != attribute.default)
    names: dict[str, Any] = {name: readable(getattr(step, name)) for name in ("source", "event", "dest")}
    return {**values, **names, "arrow": list(place or ()), "box": boxes.get(step.dest, "")}


def _end(end: End, boxes: Mapping[str, str]) -> dict[str, Any]:
    return {**asdict(end), "state": readable(end.state), "box": boxes.get(end.state, "")}


def _moves(run: Steps) -> str:
    """All moves as a table that is there without a script, and on paper."""
    table = ET.Element("table")
    head = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for word in ("", "time", "in", "event", "to"):
        ET.SubElement(head, "th", scope="col").text = word
    body = ET.SubElement(table, "tbody")
    for step in run.steps[1:]:
        row = ET.SubElement(body, "tr", {"data-step": str(step.number)})
        guard = f" [{step.guard}]" if step.guard else ""
        effects = f" / {', '.join(step.effects)}" if step.effects else ""
        time = moment(step.at).removesuffix(" UTC").rpartition(" ")[2]
        cells = (str(step.number), time, readable(step.source), readable(step.event), readable(step.dest))
        for cell in cells:
            ET.SubElement(row, "td").text = cell
        if guard or effects:
            ET.SubElement(row[3], "small").text = guard + effects
    return ET.tostring(table, encoding="unicode", method="html")
