"""A MkDocs plugin, and a hook, that draws workflows of your code into your pages.

    # mkdocs.yml
    plugins:
      - search
      - fsm

A fence says which workflow, and what of it:

    ```fsm shop/support.py:Support
    detail: full
    caption: How the support desk works
    ```

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

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_FENCE = re.compile(r" {0,3}(?P<marks>`{3,}|~{3,})\s*(?P<info>[^`]*)$")
_OPTIONS: dict[str, tuple[str, ...] | None] = {"detail": get_args(Detail), "theme": get_args(Theme), "caption": None}


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """What MkDocs calls with the text of every page.

    Raises:
        PluginError: a fence that names no workflow or has an unknown option; with page and line.
    """
    del files
    folder = Path(config.config_file_path or "mkdocs.yml").resolve().parent
    return "\n".join(_replaced(markdown.split("\n"), folder, page.file.src_uri))


class _NoOptions(Config):  # type: ignore[no-untyped-call]  # the base has no annotations
    """The plugin has none; what is drawn, the fences say."""


class FsmPlugin(BasePlugin[_NoOptions]):  # type: ignore[no-untyped-call]  # as above
    """`plugins: [fsm]`."""

    def on_page_markdown(self, markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Draw the fences of the page."""
        return on_page_markdown(markdown, page=page, config=config, files=files)


def _replaced(lines: list[str], folder: Path, page: str) -> Iterator[str]:
    """The lines, with a figure for each fence of ours; one inside of another fence is an example, and stays."""
    place = 0
    while place < len(lines):
        opened = _FENCE.match(lines[place])
        if opened is None:
            yield lines[place]
            place += 1
            continue
        end = _end(lines, place, opened["marks"])
        words = opened["info"].split()
        if words[:1] == ["fsm"]:
            try:
                yield _figure(words[1:], lines[place + 1 : end], folder)
            except FsmError as error:
                raise PluginError(f"{page}: the fsm fence in line {place + 1} of its text: {error}") from error
        else:
            yield from lines[place : end + 1]
        place = end + 1


def _end(lines: list[str], start: int, marks: str) -> int:
    """The line that closes a fence; the last one where none does."""
    for place in range(start + 1, len(lines)):
        found = lines[place].strip()
        if found.startswith(marks) and not found.strip(marks[0]):
            return place
    return len(lines) - 1


def _figure(target: list[str], rows: list[str], folder: Path) -> str:
    if len(target) != 1:
        raise UsageError("name one workflow behind `fsm`: file.py:Class or module:Class")
    options: dict[str, Any] = dict(_option(row) for row in rows if row.strip())
    caption = options.pop("caption", "")
    source, colon, name = target[0].rpartition(":") if ":" in target[0] else (target[0], "", "")
    workflow = load_workflow(f"{folder / source}{colon}{name}" if source.endswith(".py") else target[0])
    below = f"\n<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    try:
        drawn: Any = workflow.diagram("svg", **{"theme": "auto", **options})
    except MissingExtra as error:
        raise UsageError(f"{error}, or install Graphviz") from error
    return f'<figure class="fsm-diagram">\n{drawn.strip()}{below}\n</figure>'


def _option(row: str) -> tuple[str, str]:
    name, _, value = (part.strip() for part in row.partition(":"))
    if name not in _OPTIONS:
        raise UsageError(f"{name!r} is no option; there are {', '.join(_OPTIONS)}, written as `detail: full`")
    known = _OPTIONS[name]
    if known is not None and value not in known:
        raise UsageError(f"{name}: {value!r} is not one of {', '.join(known)}")
    return (name, value)
