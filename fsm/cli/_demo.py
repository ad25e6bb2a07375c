"""`fsm demo`: a workflow moves through its states, and two hand-written loops are caught."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._client import live_client
from ._gallery._runs import QUESTION, support_replies
from ._load import examples_folder, load_module
from ._part import FOLDER, Part, dollars, pace, show_code
from ._pictures import HOW_SVG, write_picture
from ._show import BAD, DIM, GOOD, HEAD, Screen

if TYPE_CHECKING:
    from fsm import Question

    from ._telling import Narrator

SCRIPTED = ("tool_use", "tool_results", "overloaded_error", "max_tokens", "tool_use", "approval_needed", "approved",
            "tool_results", "end_turn")  # fmt: skip
"""The moves of the first part when everything works."""


def demo(
    *,
    live: Annotated[bool, typer.Option("--live", help="Run the first part with your key against Claude.")] = False,
) -> int:
    """Show it all: a conversation moves through its states, and two stuck loops are caught. No key, no network.

    The real SDK talks HTTP to an emulator on this machine. The pictures are written to fsm-demo/ in the current
    directory.
    """
    screen = Screen()
    return _summary(screen, [_live(screen)] if live else [*_scripted(screen)])


def _live(screen: Screen) -> Part:
    with live_client("leave --live out: the demo itself needs no key") as client:
        return _support(screen, client, "Claude, with your key")


def _scripted(screen: Screen) -> Iterator[Part]:
    screen.busy("loading the SDK …")
    from fsm.testing import Emulator, serve

    from ._watched import endless, forgetful

    with serve(Emulator(support_replies(), latency=pace(screen))) as server, server.client() as client:
        yield _support(screen, client, f"an emulator of the API on {server.url}: no key, no network", SCRIPTED)
    yield forgetful(screen)
    yield endless(screen)


def _support(screen: Screen, client: Any, to_whom: str, expected: tuple[str, ...] = ()) -> Part:
    from fsm import run
    from fsm.diagram import Overlay

    from ._live import LiveJournal, show_result
    from ._telling import Narrator

    module: Any = load_module(str(examples_folder() / "support.py"))
    screen.stop()
    screen.title("1  A workflow: examples/support.py")
    show_code(screen, module.Support)
    screen.line()
    screen.line((f"The anthropic SDK talks to {to_whom}.", DIM), indent=2)
    screen.line()
    narrator = Narrator(screen, module.Support.graph)
    result = run(
        module.Support,
        QUESTION,
        deps=module.Shop(),
        client=client,
        journal=LiveJournal(narrator),
        ask=_asker(narrator, scripted=bool(expected)),
    )
    show_result(screen, result)
    screen.busy("drawing …")
    overlay = Overlay.of(result.records)
    picture = write_picture(FOLDER, "support", module.Support.graph, overlay=overlay)
    screen.stop()
    verdict = result.verdict
    mark, style = ("✓", GOOD) if result.ok else ("✗", BAD)
    requests = sum(record.kind == "request" for record in result.records)
    as_expected = result.ok and expected in {(), tuple(move.event for move in result.moves)}
    words = f"{mark} {result.state}: {verdict.reason}"
    return Part("Support", words, style, requests, verdict.usage.total, verdict.price, as_expected, picture)


def _asker(narrator: Narrator, *, scripted: bool) -> Any:
    """The person of the demo, who approves; with --live on a terminal it is you."""
    from fsm import approve
    from fsm._terminal import ask, shown_call

    def approves(question: Question) -> Any:
        for call in question.calls:
            narrator.fact("fsm", "", "asks a person: ", (shown_call(call.name, call.input), HEAD), " ?")
        narrator.fact("", "", ("(here you would be asked; the demo answers by itself: approve)", DIM))
        return approve()

    return ask if not scripted and sys.stdin.isatty() and narrator.screen.is_terminal else approves


def _summary(screen: Screen, parts: list[Part]) -> int:
    screen.title("What came of it")
    rows = [
        (
            (each.name, HEAD),
            (each.verdict, each.style),
            str(each.requests),
            f"{each.tokens:,}",
            dollars(each.price),
        )
        for each in parts
    ]
    screen.table(
        ("", "verdict", "requests", "tokens", "price"), [[screen.text(c) for c in row] for row in rows], right=(2, 3, 4)
    )
    screen.line()
    pictures = [each.picture for each in parts]
    for number, picture in enumerate(pictures):
        screen.line(("          " if number else "pictures  ", DIM), str(picture), indent=2)
    if any(picture.suffix != ".svg" for picture in pictures):
        screen.line((f"Mermaid text: GitHub draws it. For SVG: {HOW_SVG}", DIM), indent=12)
    example, fsm = _near(examples_folder() / "support.py"), _command()
    for key, words in (
        ("look at   ", f"{fsm} check {example}:Support"),
        ("          ", f"{fsm} diagram {example}:Support -o support.svg"),
        ("run it    ", f"{fsm} run {example}:Support --emulate"),
    ):
        screen.line((key, DIM), words, indent=2)
    return 0 if all(each.as_expected for each in parts) else 1


def _command() -> str:
    """The command as one would type it here: as it was called, for it need not be on the PATH."""
    called = Path(sys.argv[0])
    if called.stem == "__main__":
        return f"{Path(sys.executable).name} -m fsm.cli"
    return str(called) if called.stem == "fsm" and called.parent != Path() and not _is_on_path(called) else "fsm"


def _is_on_path(command: Path) -> bool:
    found = shutil.which(command.name)
    return found is not None and Path(found).resolve() == command.resolve()


def _near(path: Path) -> str:
    """The path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
