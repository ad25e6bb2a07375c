"""The examples: their files, what these say about themselves, the class as it stands there, and one run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from attrs import define

from fsm import Workflow
from fsm._records import Record
from fsm.cli._load import examples_folder, load_module, workflows_of
from fsm.diagram import Format, render

from ._runs import place_of, run_of

_LONG = 15  # lines; of a longer class, the parameters that take several lines are left out


@define(slots=False)
class Example:
    """A workflow of the examples.

    `stem` is what its pictures are called, `source` its file, as it is named in the repository.
    """

    stem: str
    source: str
    text: str
    workflow: type[Workflow]

    @cached_property
    def about(self) -> str:
        """The first paragraph of the class's docstring."""
        return " ".join(self.workflow.graph.doc.split("\n\n")[0].split())

    @cached_property
    def use(self) -> str:
        """What the file says about when to use it: its second paragraph, without what leads on to a command."""
        paragraphs = (ast.get_docstring(ast.parse(self.text)) or "").split("\n\n")[1:]
        words = " ".join(paragraphs[0].split()) if paragraphs else ""
        return words if not words.endswith(":") else words[: words.rfind(". ") + 1]

    @cached_property
    def code(self) -> str:
        """The class as it stands in the file; of a long one, `...` for parameters that take several lines."""
        node = self._class
        lines = self.text.splitlines()
        kept: list[str] = []
        line = node.lineno
        is_long = node.end_lineno is not None and node.end_lineno - node.lineno >= _LONG
        for statement in node.body if is_long else ():
            if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)):
                continue
            first, last = statement.lineno, statement.end_lineno or statement.lineno
            if last > first and lines[first - 1].endswith("("):
                kept += [*lines[line - 1 : first - 1], lines[first - 1] + "...)"]
                line = last + 1
        return "\n".join([*kept, *lines[line - 1 : node.end_lineno]])

    @cached_property
    def lines(self) -> tuple[int, int]:
        """The first and the last line of the class, from 1."""
        return (self._class.lineno, self._class.end_lineno or self._class.lineno)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """One run of it."""
        return run_of(self.stem, self.workflow, sys.modules[self.workflow.__module__])

    def drawn(self, **options: Any) -> str:
        """The picture as SVG."""
        drawn: str = render(self.workflow.graph, "svg", **options)
        return drawn

    def ran(self, format: Format, **options: Any) -> str:
        """The run on the picture, or as a page to step through."""
        drawn = render(
            self.workflow.graph, format, records=self.records, renamed=dict(self.workflow.renamed), **options
        )
        return drawn if isinstance(drawn, str) else ""

    @cached_property
    def _class(self) -> ast.ClassDef:
        for node in _classes(self.text):
            if node.name == self.workflow.__name__:
                return node
        raise AssertionError(self.workflow.__name__)


def examples() -> list[Example]:
    """Every workflow that a file of the examples declares, the support desk first."""
    return sorted(_found(), key=lambda example: (place_of(example.stem), example.source, example.lines))


def _found() -> Iterator[Example]:
    folder = examples_folder()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text("utf-8")
        declared = {node.name for node in _classes(text)}
        if not declared:
            continue  # it uses the workflow of another file, or none
        module = load_module(str(path))
        found = {name: each for name, each in workflows_of(module).items() if each.__name__ in declared}
        for name, workflow in found.items():
            stem = path.stem if len(found) == 1 else f"{path.stem}-{name.lower()}"
            yield Example(stem, f"examples/{path.relative_to(folder).as_posix()}", text, workflow)


def _classes(text: str) -> Iterator[ast.ClassDef]:
    """The classes that are declared as workflows."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Workflow" for b in node.bases):
            yield node
