"""A Sphinx directive that draws a workflow of your code into your documentation.

    # conf.py
    extensions = ["fsm.sphinx"]

    .. fsm-diagram:: shop.support:Support
       :detail: full
       :caption: How the support desk works
       :groups: talk=asking,answered; money=approving
       :folded: money

The picture is drawn when the page is built, from the class that runs, and drawn again when its file changes. HTML gets
SVG inside of the page, so that hovering shows where each row is declared; builders of paper get PDF or PNG where
Graphviz is installed, and all others the table of rows.

Source: https://www.sphinx-doc.org/en/master/extdev/markupapi.html
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from fsm._errors import FsmError, MissingExtra, MissingProgram, UsageError
from fsm._version import __version__
from fsm.cli._load import load_workflow
from fsm.diagram import Detail, ImageFormat, Theme
from fsm.diagram._embedding import embedded, folded_from, groups_from
from fsm.diagram._svg._image import to_image

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

    from fsm import Workflow

_IMAGES: dict[str, ImageFormat] = {"application/pdf": "pdf", "image/png": "png"}


class fsm_diagram(nodes.General, nodes.Element):  # noqa: N801 - docutils names nodes like this
    """The place of a picture, until the builder is known that it is drawn for."""


def _one_of(kind: Any) -> Any:
    return lambda argument: directives.choice(argument, get_args(kind))


class FsmDiagram(SphinxDirective):
    """`.. fsm-diagram:: module:Class`, or `path/to/file.py:Class` with the path relative to the source directory."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any] | None] = {
        "detail": _one_of(Detail),
        "theme": _one_of(Theme),
        "groups": directives.unchanged_required,
        "folded": directives.unchanged_required,
        "alt": directives.unchanged,
        "caption": directives.unchanged,
        "class": directives.class_option,
        "name": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """A figure with the place of the picture; a workflow that is not there is an error of the page."""
        target = self._target()
        try:
            workflow = load_workflow(target)
        except FsmError as error:
            raise self.error(f"fsm-diagram: {error}") from error
        if (file := inspect.getsourcefile(workflow)) is not None:
            self.env.note_dependency(file)
        alt = self.options.get("alt", f"The states of {workflow.name}")
        drawn = {"theme": self.options.get("theme", "auto"), **self._drawn()}
        place = fsm_diagram("", target=target, alt=alt, drawn=drawn)
        figure = nodes.figure("", place, classes=["fsm-diagram", *self.options.get("class", [])])
        self.set_source_info(place)
        self.set_source_info(figure)
        if "caption" in self.options:
            words, problems = self.parse_inline(self.options["caption"])
            figure += [nodes.caption(self.options["caption"], "", *words), *problems]
        self.add_name(figure)
        return [figure]

    def _drawn(self) -> dict[str, Any]:
        """The options that say what is drawn."""
        given = self.options
        try:
            groups = groups_from(given.get("groups", "").split(";"))
        except UsageError as error:
            raise self.error(f"fsm-diagram: {error}") from error
        found = {
            "detail": given.get("detail"),
            "groups": groups,
            "folded": folded_from(given.get("folded", "").split(",")),
        }
        return {name: value for name, value in found.items() if value}

    def _target(self) -> str:
        """The argument, with the path to a file made one from the source directory."""
        source, colon, name = self.arguments[0].rpartition(":")
        if not source:
            source, colon, name = name, "", ""
        return f"{self.env.srcdir / source}{colon}{name}" if source.endswith(".py") else self.arguments[0]


class DrawDiagrams(SphinxPostTransform):
    """Draws each place in the form that its builder can show."""

    default_priority = 100  # before images are converted and collected

    def run(self, **kwargs: Any) -> None:
        """Replace the places of this document."""
        del kwargs
        for place in list(self.document.findall(fsm_diagram)):
            place.replace_self(self._drawn(place, load_workflow(place["target"])))

    def _drawn(self, place: fsm_diagram, workflow: type[Workflow]) -> nodes.Node:
        options = place["drawn"]
        builder = self.env.app.builder
        if builder.format == "html":
            try:
                return nodes.raw("", embedded(workflow.diagram("svg", **options), place["alt"]), format="html")
            except MissingExtra as error:
                self._warn(place, error)
        format = next((_IMAGES[mime] for mime in builder.supported_image_types if mime in _IMAGES), None)
        if format is not None and builder.format != "html":
            try:
                return self._image(place, workflow.diagram("svg", **_on_paper(options)), format)
            except (MissingExtra, MissingProgram) as error:
                self._warn(place, error)
        table = workflow.diagram("table", **options)
        return nodes.literal_block(table, table)

    def _warn(self, place: fsm_diagram, error: FsmError) -> None:
        from sphinx.util import logging

        words = f"fsm-diagram: the table of rows stands where a picture would: {error}"
        logging.getLogger(__name__).warning(words, location=place, type="fsm", subtype="diagram")

    def _image(self, place: fsm_diagram, svg: str, format: ImageFormat) -> nodes.Node:
        folder = Path(self.env.doctreedir) / "fsm"
        folder.mkdir(parents=True, exist_ok=True)
        # Named by what it shows, so that its name stays where another version of Graphviz draws it.
        path = folder / f"{hashlib.sha256(svg.encode()).hexdigest()[:16]}.{format}"
        path.write_bytes(to_image(svg, format))
        self.env.images.add_file(self.env.current_document.docname, str(path))
        return nodes.image(uri=str(path), alt=place["alt"], candidates={"*": str(path)})


def _on_paper(options: dict[str, Any]) -> dict[str, Any]:
    """Paper has no scheme to follow."""
    return {**options, "theme": "dark" if options["theme"] == "dark" else "light"}


def setup(app: Sphinx) -> ExtensionMetadata:
    """What Sphinx calls for an extension."""
    app.add_node(fsm_diagram)
    app.add_directive("fsm-diagram", FsmDiagram)
    app.add_post_transform(DrawDiagrams)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
