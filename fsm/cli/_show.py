"""What the commands print: lines in the terminal's width with colours, or plain lines where there is no terminal.

Foreign text goes in as plain strings, through `clean`, and never as markup (X8).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO, TypeAlias

from fsm._terminal import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

Part: TypeAlias = "str | tuple[str, str] | Text"
"""A piece of a line: text, text and a style, or a text that is clean already."""

GUTTER = "  "
_UNBOUNDED = 100_000  # columns: a file or a pipe has no edge to break lines at
_WIDEST = 140

# What another encoding than UTF-8 may not have.
_ASCII = str.maketrans(
    {
        "─": "-",
        "→": "->",
        "·": "-",
        "✓": "ok",
        "✗": "x",
        "‖": "||",
        "×": "x",
        "…": "...",
        "│": "|",
        "▶": ">",
        "’": "'",
        "≠": "!=",
    }
)

_WORDS = re.compile(r"\n|[^\S\n]+|\S+")

# Who acts: the colours of the pictures, as far as a terminal has them.
STYLES = {
    "Claude": "dark_orange3",
    "Tools": "dodger_blue2",
    "Approval": "dark_goldenrod",
    "Human": "medium_purple3",
    "Code": "dark_cyan",
    "Child": "slate_blue3",
    "Final": "green",
    "Failed": "red",
}
DIM, GOOD, BAD, WARN, HEAD = "dim", "bold green", "bold red", "bold yellow", "bold"


class Screen:
    """Prints for people. `is_terminal` says whether colours and a moving line make sense."""

    def __init__(self, file: TextIO | None = None) -> None:
        from rich.console import Console

        file = file or sys.stdout
        self.console: Console = Console(
            file=file, highlight=False, markup=False, emoji=False, soft_wrap=False, legacy_windows=False
        )
        self.console.on_broken_pipe = _reader_gone  # type: ignore[method-assign]  # rich would exit with 1
        # FORCE_COLOR may ask for colours in a file; a moving line needs a terminal that is one.
        self.is_terminal = file.isatty() and not self.console.is_dumb_terminal
        self.width = min(self.console.width, _WIDEST) if self.is_terminal else _UNBOUNDED
        self.console.width = self.width
        self._narrow = not (file.encoding or "utf-8").lower().replace("-", "").startswith("utf")
        self._status: Status | None = None

    def line(self, *parts: Part, indent: int = 0, hang: int | None = None) -> None:
        """One line; where it is too long for the terminal it is broken at words and goes on at column `hang`."""
        after = indent if hang is None else hang
        rows = self._rows(self.text(*parts), after)
        for number, row in enumerate(rows):
            self._print(self.text(" " * (after if number else indent)), row)

    def entry(self, label: Text, *parts: Part, column: int, hang: int = 0) -> None:
        """A label, and at `column` a text; where it is broken it goes on there, or `hang` columns further right."""
        head = label.copy()
        head.pad_right(column - head.cell_len if head.cell_len <= column else 1)
        text = self.text(*parts)
        rows = self._rows(text, column if text.cell_len <= self.width - column else column + hang)
        for number, row in enumerate(rows):
            self._print(self.text(" " * (column + hang)) if number else head, row)

    def _rows(self, text: Text, column: int) -> list[Text]:
        width = max(self.width - column, 20)
        rows: list[Text] = []
        for piece in text.split("\n", allow_blank=True):
            rows += piece.wrap(self.console, width) or [piece]
        return rows

    def text(self, *parts: Part) -> Text:
        """Pieces as one text, cleaned of everything that a terminal would act upon."""
        from rich.text import Text

        made = Text()
        for part in parts:
            if isinstance(part, Text):
                made.append_text(part)
            else:
                words, style = part if isinstance(part, tuple) else (part, "")
                made.append(self._fit(clean(words)), style=style)
        return made

    def _fit(self, words: str) -> str:
        return words.translate(_ASCII) if self._narrow else words

    def title(self, words: str) -> None:
        """A headline with a rule to the right."""
        text = self.text(("── ", DIM), (words, HEAD), " ")
        width = min(self.width, 100) if self.is_terminal else 80
        text.append(self._fit("─" * max(width - text.cell_len, 2)), style=DIM)
        self.line()
        self._print(text)
        self.line()

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[str | Text]],
        *,
        style: str = "",
        indent: int = 2,
        widest: int | None = None,
        whole: Sequence[int] = (),
        right: Sequence[int] = (),
    ) -> None:
        """Columns without lines; on a terminal, cells are broken to fit it.

        Params:
            head: names of the columns; none, no head.
            widest: where the cells of the first column are broken, without a terminal too.
            whole: columns that are not broken. right: columns that are aligned right.
        """
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), header_style=DIM, pad_edge=False, show_header=bool(head))
        for number in range(len(rows[0]) if rows else 0):
            is_whole = number in whole or (not self.is_terminal and (number or widest is None))
            table.add_column(
                head[number] if head else "",
                overflow="fold",
                no_wrap=bool(is_whole),
                max_width=None if number else widest,
                justify="right" if number in right else "left",
            )
        for row in rows:
            table.add_row(*(self.text(cell) for cell in row), style=style)
        with self.console.capture() as got:
            self.console.print(table, width=self.width - indent)
        for line in got.get().splitlines():  # rows are padded to the width of the table
            self._write(" " * indent + line.rstrip() + "\n")

    def _print(self, *parts: Text) -> None:
        line = self.text(*parts)
        line.rstrip()
        self.console.print(line, soft_wrap=True)

    def _write(self, text: str) -> None:
        self.console.file.write(text)

    def stream(self, words: str, column: int, *, at: int | None) -> int:
        """A piece of a text, at once; lines are broken before words and go on at `column`.

        Params: `at` is the column where the piece before ended, None to begin at `column` of the present line.
        Returns the column where this one ends.
        """
        here = column if at is None else at
        for piece in _WORDS.findall(clean(words)):
            if piece == "\n" or (not piece.isspace() and here > column and here + len(piece) > self.width):
                self._write("\n" + " " * column)
                here = column
            if piece != "\n" and not (piece.isspace() and here == column and at is not None):
                self._write(self._fit(piece))
                here += len(piece)
        self.console.file.flush()
        return here

    def begin(self, label: Text, column: int) -> None:
        """A label; the text that belongs to it is streamed behind it."""
        head = label.copy()
        head.pad_right(column - head.cell_len)
        self.console.print(head, end="", soft_wrap=True)

    def end_line(self) -> None:
        """End a line that was streamed."""
        self._write("\n")

    def busy(self, words: str) -> None:
        """A moving line while something is waited for; nothing without a terminal."""
        self.stop()
        if self.is_terminal:
            self._status = self.console.status(self.text((words, DIM)), spinner_style=DIM)
            self._status.start()

    def stop(self) -> None:
        """No moving line from here on."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def _reader_gone() -> None:
    raise BrokenPipeError


def style_of(kind: str, *, ok: bool = True) -> str:
    """The style of a state by who acts in it."""
    return STYLES["Failed"] if kind == "Final" and not ok else STYLES.get(kind, "")
