"""The parts of the demo about loops that somebody else wrote: run as they are, and watched."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fsm import LoopFinding, Move, watch
from fsm._alphabet import FINAL_NAMES
from fsm._facts import Usage
from fsm._prices import price_of
from fsm._terminal import one_line, shown_call
from fsm.diagram import Overlay
from fsm.testing import Emulator, Reply, replies, serve

from . import _loops
from ._part import FOLDER, Part, dollars, pace, show_code
from ._pictures import write_picture
from ._show import BAD, DIM, HEAD, WARN, Screen
from ._telling import Narrator

if TYPE_CHECKING:
    from fsm._stuck import Finding

Script = Sequence[Reply] | Callable[[dict[str, Any]], Reply]


def forgetful(screen: Screen) -> Part:
    """A loop that forgets its tool_result: told before the request leaves, and the API agrees."""
    screen.title("2  A loop written by hand that forgets the tool_result")
    script = (replies.tool_use("find_order", {"number": "7"}),)
    return _part(screen, _loops.forgets_the_result, "What is order 7?", script, expected="lost_result")


def endless(screen: Screen) -> Part:
    """A loop that asks for the same for ever: the API never objects, and every turn costs more than the one before."""
    screen.title("3  A loop written by hand that never gives up")
    question = "Where is my parcel? Order 7."

    def script(body: dict[str, Any]) -> Reply:
        del body
        return replies.tool_use("track_parcel", {"number": "7"})

    return _part(screen, _loops.never_gives_up, question, script, expected="no_progress", stop=True)


def _part(
    screen: Screen,
    loop: Callable[[Any, str, list[Any]], Any],
    question: str,
    script: Script,
    *,
    expected: str,
    stop: bool = False,
) -> Part:
    show_code(screen, loop)
    screen.line()
    line = 'client = watch(client, on_finding="raise")' if stop else "client = watch(client)"
    screen.line("One line is added to the program:  ", (line, HEAD), indent=2)
    screen.line()
    seen = _Seen(Narrator(screen, _loops.Loop.graph), stop=stop)
    bill: list[Any] = []
    emulator = Emulator(script, latency=pace(screen) / 2)
    with serve(emulator) as server, server.client() as plain:
        client = watch(plain, _loops.Loop, on_move=seen.move, on_finding=seen.finding)
        seen.narrator.fact("you", "Human", question)
        died = _run_program(seen.narrator, lambda: loop(client, question, bill))
    _fate(seen.narrator, died, seen.findings)
    kinds = ", ".join(finding.kind for finding in seen.findings)
    tokens, price = _sum(bill)
    requests = len(emulator.requests)
    verdict, style = (f"✗ caught: {kinds}", WARN) if kinds else ("✗ nothing was found", BAD)
    screen.line()
    screen.line((verdict, style), indent=2)
    screen.line((f"{requests} requests · {tokens:,} tokens · {dollars(price)}", DIM), indent=4)
    overlay = Overlay(tuple(seen.moves), current=seen.state)
    picture = write_picture(FOLDER, loop.__name__, _loops.Loop.graph, overlay=overlay, detail="simple")
    return Part(loop.__name__, verdict, style, requests, tokens, price, kinds == expected, picture)


class _Seen:
    """What the watched client reports, printed as it comes."""

    def __init__(self, narrator: Narrator, *, stop: bool) -> None:
        self.narrator, self.stop = narrator, stop
        self.moves: list[Move] = []
        self.findings: list[Finding] = []

    @property
    def state(self) -> str:
        """Where the machine stands."""
        return self.moves[-1].dest if self.moves else _loops.Loop.graph.initial

    def move(self, move: Move) -> None:
        """A move; once the machine has ended, what the program goes on doing moves nothing."""
        if self.state not in FINAL_NAMES:
            self.moves.append(move)
            self.narrator.move(move)

    def finding(self, finding: Finding) -> None:
        """A finding, with its evidence; raised where the program is to stop."""
        self.findings.append(finding)
        head = f" ({finding.rule}), fault of the {finding.fault}"
        self.narrator.fact("watch", "Failed", (finding.kind, BAD), head)
        call = finding.call
        evidence = {
            "why": finding.why,
            "call": shown_call(str(call["name"]), call["input"]) if call is not None else "",
            "ids": ", ".join(finding.ids),
            "replies": ", ".join(map(str, finding.turns)),
            "do": finding.todo,
        }
        for key, value in evidence.items():
            if value:
                self.narrator.detail(key, one_line(value, 500))
        if self.stop:
            raise LoopFinding(finding)


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


def _fate(narrator: Narrator, died: Exception | None, findings: Sequence[Finding]) -> None:
    if died is None:
        return
    if isinstance(died, LoopFinding):
        narrator.fact("program", "Code", "stopped by LoopFinding, before the next request left")
        return
    body: Any = getattr(died, "body", None)
    error = body.get("error", {}) if isinstance(body, dict) else {}
    if error:
        said = str(error.get("message"))
        if said and any(said in finding.why for finding in findings):
            said = "the same sentence as above"
        words = f"{getattr(died, 'status_code', '')} {error.get('type')}: {said}"
        narrator.fact("API", "Failed", one_line(words, 500))
    narrator.fact("program", "Code", f"died of {type(died).__name__}" + ("" if error else f": {one_line(died, 300)}"))


def _sum(bill: list[Any]) -> tuple[int, float | None]:
    """Tokens and price of what the loop was answered."""
    total = Usage()
    for usage in bill:
        total = total.plus(usage.to_dict())
    prices = [price_of(_loops.MODEL, usage.to_dict()) for usage in bill]
    known = [price for price in prices if price is not None]
    return total.total, sum(known) if len(known) == len(prices) else None
