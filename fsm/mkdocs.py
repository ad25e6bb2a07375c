"""A MkDocs plugin, and a hook, that draws workflows of your code into your pages.

    # mkdocs.yml
    plugins:
      - search
      - fsm

A fence says which workflow, and what of it:

    ```fsm shop/support.py:Support
    detail: full
    caption: How the support desk works
    groups: talk=asking,answered; money=approving
    folded: money
    ```

It stands by itself: in no list, quotation or admonition, since Markdown would take the picture apart there.
The picture is drawn when the page is built, from the class that runs: SVG inside of the page, so that hovering shows
where each row is declared, in the colours of the reader's scheme. Files are named relative to `mkdocs.yml`, modules as
Python finds them. As a hook, it is a file with the one line `from fsm.mkdocs import on_page_markdown`.

Source: https://www.mkdocs.org/dev-guide/plugins/
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mkdocs.config.base import Config
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin

from fsm._errors import FsmError, MissingExtra, UsageError
from fsm.cli._load import load_workflow
from fsm.diagram import Detail, Theme
from fsm.diagram._embedding import embedded, folded_from, groups_from

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_FENCE = re.compile(r"(?P<before>(?:[ \t>]|[-*+][ \t]|\d+[.)][ \t])*)(?P<marks>`{3,}|~{3,})\s*(?P<info>[^`]*)$")
_DEEPEST = 3  # spaces before a fence; with more it belongs to a list, an admonition or an indented block
_OPTIONS: dict[str, tuple[str, ...] | None] = {"detail": get_args(Detail), "theme": get_args(Theme)}
_OPTIONS |= dict.fromkeys(("caption", "alt", "groups", "folded"))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """What MkDocs calls with the text of every page.

    Raises:
        PluginError: a fence that names no workflow or has an unknown option; with page and line.
    """
    del files
    folder = Path(config.config_file_path or "mkdocs.yml").resolve().parent
    return "\n".join(_replaced(markdown.split("\n"), folder, page.file.src_uri, _lines_before(markdown, page)))


class _NoOptions(Config):  # type: ignore[no-untyped-call]  # the base has no annotations
    """The plugin has none; what is drawn, the fences say."""


class FsmPlugin(BasePlugin[_NoOptions]):  # type: ignore[no-untyped-call]  # as above
    """`plugins: [fsm]`."""

    def on_page_markdown(self, markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Draw the fences of the page."""
        return on_page_markdown(markdown, page=page, config=config, files=files)


def _lines_before(markdown: str, page: Page) -> int:
    """How many lines of the file stand before its text: those of the front matter."""
    path = page.file.abs_src_path
    whole = Path(path).read_text("utf-8-sig") if path is not None and Path(path).is_file() else ""
    return whole.count("\n") - markdown.count("\n") if whole.endswith(markdown) else 0


def _replaced(lines: list[str], folder: Path, page: str, before: int) -> Iterator[str]:
    """The lines, with a figure for each fence of ours; one inside of another fence is an example, and stays."""
    place = 0
    while place < len(lines):
        opened = _FENCE.match(lines[place])
        if opened is None:
            yield lines[place]
            place += 1
            continue
        end = _end(lines, place, opened["marks"], len(lines) - 1 if _is_alone(opened["before"]) else place)
        words = opened["info"].split()
        if words[:1] == ["fsm"]:
            try:
                yield _figure(words[1:], lines[place + 1 : end], folder, opened["before"])
            except FsmError as error:
                raise PluginError(f"{page}: the fsm fence in line {before + place + 1}: {error}") from error
        else:
            yield from lines[place : end + 1]
        place = end + 1


def _is_alone(before: str) -> bool:
    """Whether what stands before a fence leaves it a block of the page, and no part of a list or a quotation."""
    return not before.strip(" ") and len(before) <= _DEEPEST


def _end(lines: list[str], start: int, marks: str, otherwise: int) -> int:
    """The line that closes a fence."""
    for place in range(start + 1, len(lines)):
        found = lines[place].strip(" \t>")
        if found.startswith(marks) and not found.strip(marks[0]):
            return place
    return otherwise


def _figure(target: list[str], rows: list[str], folder: Path, before: str) -> str:
    if not _is_alone(before):
        raise UsageError(
            "a picture cannot be drawn in a list, a quotation, an admonition or an indented block: begin its fence at "
            "the margin. One that is an example stands in a fence of its own, of four backticks"
        )
    if len(target) != 1:
        raise UsageError("name one workflow behind `fsm`: file.py:Class or module:Class")
    options: dict[str, Any] = dict(_option(row) for row in rows if row.strip())
    caption, alt = options.pop("caption", ""), options.pop("alt", "")
    options["groups"] = groups_from(options.get("groups", "").split(";"))
    options["folded"] = folded_from(options.get("folded", "").split(","))
    source, colon, name = target[0].rpartition(":") if ":" in target[0] else (target[0], "", "")
    workflow = load_workflow(f"{folder / source}{colon}{name}" if source.endswith(".py") else target[0])
    below = f"\n<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    try:
        drawn: Any = workflow.diagram("svg", **{"theme": "auto", **options})
    except MissingExtra as error:
        raise UsageError(f"{error}, or install Graphviz") from error
    return f'<figure class="fsm-diagram">\n{embedded(drawn, alt)}{below}\n</figure>'


def _option(row: str) -> tuple[str, str]:
    name, _, value = (part.strip() for part in row.partition(":"))
    if name not in _OPTIONS:
        raise UsageError(f"{name!r} is no option; there are {', '.join(_OPTIONS)}, written as `detail: full`")
    known = _OPTIONS[name]
    if known is not None and value not in known:
        raise UsageError(f"{name}: {value!r} is not one of {', '.join(known)}")
    return (name, value)
