"""`fsm demo`: a workflow moves through its states, and two hand-written loops are caught."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from attrs import define, field

from ._client import live_client
from ._load import examples_folder, load_module
from ._pictures import HOW_SVG, write_picture
from ._show import BAD, DIM, GOOD, HEAD, WARN, Screen

if TYPE_CHECKING:
    from fsm import Question, Result
    from fsm._stuck import Finding
    from fsm.testing import Reply

    from ._live import Narrator

FOLDER = Path("fsm-demo")
QUESTION = "My espresso machine arrived broken. It is order 7 or order 8, please refund it."
_PACE = 0.35  # seconds that the emulator takes for a reply, so that a person can follow; nothing without a terminal


def demo(
    live: Annotated[bool, typer.Option("--live", help="Run the first part with your key against Claude.")] = False,
) -> int:
    """Show it all: a conversation moves through its states, and two stuck loops are caught. No key, no network.

    The real SDK talks HTTP to an emulator on this machine. The pictures are written to fsm-demo/ in the current
    directory.
    """
    screen = Screen()
    if live:
        client = live_client("leave --live out: the demo itself needs no key")
        with client:
            shown = _support(screen, client, "Claude itself")
        return _summary(screen, [shown])
    return _summary(screen, [*_scripted(screen)])


@define
class Shown:
    """What the last table says about one part of the demo."""

    name: str
    mark: str
    style: str
    verdict: str
    requests: int
    tokens: int
    price: float | None
    as_expected: bool
    pictures: list[Path] = field(factory=list)


# ── 1: a workflow ───────────────────────────────────────────────────────────────────────────────────────────────────


def _scripted(screen: Screen) -> Iterator[Shown]:
    from fsm.testing import Emulator, serve

    from . import _loops

    pace = _PACE if screen.is_terminal else 0.0
    screen.busy("loading the SDK …")
    with serve(Emulator(_support_replies(), latency=pace)) as server, server.client() as client:
        yield _support(screen, client, f"an emulator of the API on {server.url}, no key, no network")
    call = {"number": "7"}
    yield _loop(
        screen,
        "2  A loop written by hand that forgets the tool_result",
        _loops.forgets_the_result,
        "What is order 7?",
        (_calls("find_order", call, "Let me look that up."),),
    )
    yield _loop(
        screen,
        "3  A loop written by hand that never gives up",
        _loops.never_gives_up,
        "Where is my parcel? Order 7.",
        lambda body: _calls("track_parcel", call, None if len(body["messages"]) > 1 else "I ask where it is."),
        stop=True,
    )


def _support_replies() -> tuple[Reply, ...]:
    """Everything that goes wrong on a normal day: an overloaded API, a reply that is cut in the middle of a call."""
    from fsm.testing import replies

    refund = {"number": "7", "euros": 249.0}
    return (
        replies.tool_uses(
            ("find_order", {"number": "7"}), ("find_order", {"number": "8"}), text="I look at both orders."
        ),
        replies.overloaded(),
        replies.max_tokens("Order 7 is the espresso machine.", tool=("refund", refund)),
        replies.tool_use("refund", refund, text="Order 7 is the espresso machine. I ask for the refund."),
        replies.text("Done: 249.00 euros for your espresso machine, order 7, are on their way back to you."),
    )


def _calls(name: str, given: dict[str, Any], text: str | None) -> Reply:
    from fsm.testing import replies

    return replies.tool_use(name, given, text=text)


def _support(screen: Screen, client: Any, to_whom: str) -> Shown:
    from fsm import run

    from ._live import LiveJournal, Narrator, show_result

    path = examples_folder() / "support.py"
    module: Any = load_module(str(path))
    screen.stop()
    screen.title("1  A workflow: examples/support.py")
    _code(screen, module.Support)
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
        ask=lambda question: _approves(narrator, question),
    )
    show_result(screen, result)
    picture = _drawn(screen, "support", result)
    usage = result.verdict.usage
    mark, style = ("✓", GOOD) if result.ok else ("✗", BAD)
    return Shown(
        "Support", mark, style, f"{result.state}: {result.verdict.reason}",
        sum(r.kind == "request" for r in result.records), usage.total, result.verdict.price, result.ok, [picture],
    )  # fmt: skip


def _drawn(screen: Screen, stem: str, result: Result) -> Path:
    from fsm.diagram import Overlay

    screen.busy("drawing …")
    overlay = Overlay(result.moves, current=result.state)
    picture = write_picture(FOLDER, stem, result.workflow.graph, overlay=overlay)
    screen.stop()
    return picture


def _approves(narrator: Narrator, question: Question) -> Any:
    """The person of the demo: shows what is asked, and approves it."""
    from fsm import approve
    from fsm._terminal import shown_call

    for call in question.calls:
        narrator.fact("fsm", "", "asks a person: ", (shown_call(call.name, call.input), HEAD), " ?")
    narrator.fact("", "", ("(you would be asked here; in the demo the answer is: approve)", DIM))
    return approve()


# ── 2 and 3: loops that somebody else wrote ─────────────────────────────────────────────────────────────────────────


def _loop(
    screen: Screen,
    title: str,
    loop: Callable[[Any, str, list[Any]], Any],
    question: str,
    script: Sequence[Reply] | Callable[[dict[str, Any]], Reply],
    *,
    stop: bool = False,
) -> Shown:
    from fsm import LoopFinding, watch
    from fsm._alphabet import FINAL_NAMES
    from fsm._records import Move
    from fsm.testing import Emulator, serve

    from ._live import Narrator
    from ._loops import Loop

    screen.title(title)
    _code(screen, loop)
    screen.line()
    line = 'client = watch(client, on_finding="raise")' if stop else "client = watch(client)"
    screen.line("One line is added to the program:  ", (line, HEAD), indent=2)
    screen.line()
    narrator = Narrator(screen, Loop.graph)
    found: list[Finding] = []
    moves: list[Move] = []
    bill: list[Any] = []

    def on_move(move: Move) -> None:
        if not moves or moves[-1].dest not in FINAL_NAMES:  # the machine has ended, whatever the program does next
            moves.append(move)
            narrator.move(move)

    def on_finding(finding: Finding) -> None:
        found.append(finding)
        _finding(narrator, finding)
        if stop:
            raise LoopFinding(finding)

    emulator = Emulator(script, latency=_PACE / 2 if screen.is_terminal else 0.0)
    with serve(emulator) as server, server.client() as plain:
        client = watch(plain, Loop, on_move=on_move, on_finding=on_finding)
        narrator.fact("you", "Human", question)
        died = _run_program(narrator, lambda: loop(client, question, bill))
    _fate(narrator, died)
    screen.line()
    state = moves[-1].dest if moves else Loop.graph.initial
    kinds = ", ".join(finding.kind for finding in found) or "nothing"
    screen.line(("✗ caught", WARN), f" · {kinds}", indent=2)
    tokens, price = _bill(bill)
    screen.line((_spent(len(emulator.requests), tokens, price), DIM), indent=4)
    from fsm.diagram import Overlay

    picture = write_picture(
        FOLDER, loop.__name__, Loop.graph, overlay=Overlay(tuple(moves), current=state), detail="simple"
    )
    return Shown(
        loop.__name__, "✗", WARN, f"caught: {kinds}", len(emulator.requests), tokens, price, bool(found), [picture]
    )


def _run_program(narrator: Narrator, program: Callable[[], Any]) -> Exception | None:
    """Run a foreign program: what it prints is shown as its own, what it raises is returned."""
    try:
        with contextlib.redirect_stdout(_Lines(lambda line: narrator.fact("program", "Code", line))):
            program()
    except Exception as error:  # noqa: BLE001 - the program is not ours: whatever ends it is what there is to see
        return error
    return None


class _Lines(io.TextIOBase):
    """A file that hands on each line that is written to it."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._rest = show, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._show(line)
        return len(text)


def _finding(narrator: Narrator, finding: Finding) -> None:
    from fsm._terminal import one_line, shown_call

    narrator.fact("watch", "Failed", (f"{finding.kind}", BAD), f" ({finding.rule}), fault of the {finding.fault}")
    rows = [("why", finding.why)]
    if finding.call is not None:
        rows.append(("call", shown_call(str(finding.call["name"]), finding.call["input"])))
    rows += [("ids", ", ".join(finding.ids)), ("replies", ", ".join(map(str, finding.turns))), ("do", finding.todo)]
    for key, value in rows:
        if value:
            narrator.detail(key, one_line(value, 500))


def _fate(narrator: Narrator, died: Exception | None) -> None:
    from fsm import LoopFinding
    from fsm._terminal import one_line

    if isinstance(died, LoopFinding):
        narrator.fact("program", "Code", "stopped by LoopFinding, before the next request left")
    elif died is not None:
        body: Any = getattr(died, "body", None)
        error = body.get("error", {}) if isinstance(body, dict) else {}
        status = getattr(died, "status_code", "")
        words = f"{status} {error.get('type', type(died).__name__)}: {error.get('message', died)}"
        narrator.fact("API", "Failed", one_line(words, 500))
        narrator.fact("program", "Code", f"died of anthropic.{type(died).__name__}")


def _bill(bill: list[Any]) -> tuple[int, float | None]:
    """Tokens and price of what the loop was answered."""
    from fsm._facts import Usage
    from fsm._prices import price_of

    from ._loops import MODEL

    total = Usage()
    for usage in bill:
        total = total.plus(usage.to_dict())
    prices = [price_of(MODEL, usage.to_dict()) for usage in bill]
    known = [price for price in prices if price is not None]
    return total.total, sum(known) if len(known) == len(prices) else None


def _spent(requests: int, tokens: int, price: float | None) -> str:
    return f"{requests} requests · {tokens:,} tokens · {_dollars(price)}"


def _dollars(price: float | None) -> str:
    return "unknown" if price is None else f"${price:.4f}"


# ── around them ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _code(screen: Screen, thing: Any) -> None:
    """The source of a class or function, with its line numbers; a remark `# <-` stands out."""
    from rich.syntax import Syntax

    lines, first = inspect.getsourcelines(thing)
    plain = screen.text("".join(lines).rstrip())
    text = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(plain.plain)
    text.rstrip()
    text.highlight_regex(r"# <-.*", WARN)
    for number, row in enumerate(text.split("\n", allow_blank=True), first):
        indent = len(row.plain) - len(row.plain.lstrip())
        screen.entry(screen.text((f"{number:>6} ", DIM)), row, column=8, hang=indent + 4)


def _summary(screen: Screen, shown: list[Shown]) -> int:
    screen.title("What came of it")
    rows = [
        ((each.name, HEAD), (f"{each.mark} {each.verdict}", each.style), str(each.requests), f"{each.tokens:,}", _dollars(each.price))
        for each in shown
    ]
    screen.table(("", "verdict", "requests", "tokens", "price"), [[screen.text(c) for c in row] for row in rows], right=(2, 3, 4))
    screen.line()
    pictures = [picture for each in shown for picture in each.pictures]
    screen.line(("pictures  ", DIM), *_between(str(picture) for picture in pictures), indent=2, hang=12)
    if any(picture.suffix != ".svg" for picture in pictures):
        screen.line((f"Mermaid text: GitHub draws it. For SVG: {HOW_SVG}", DIM), indent=12)
    example = _near(examples_folder() / "support.py")
    for key, words in (
        ("look at   ", f"fsm check {example}:Support"),
        ("          ", f"fsm diagram {example}:Support -o support.svg"),
        ("run it    ", f"fsm run {example}:Support --emulate"),
    ):
        screen.line((key, DIM), words, indent=2)
    return 0 if all(each.as_expected for each in shown) else 1


def _between(words: Any) -> Iterator[str]:
    for number, word in enumerate(words):
        yield f"\n{word}" if number else word


def _near(path: Path) -> str:
    """The path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
