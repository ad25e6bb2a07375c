"""What a type checker says to a user: nothing to what is right, and the right thing where a word is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = '''
from __future__ import annotations

from contextlib import aclosing, closing
from typing import Literal

from fsm import (
    Approval, Claude, Code, Context, Facts, Final, Human, Limits, Move, Outcome, Tools, Workflow,
    aiterate, attempts_left, calls, effect, exits, guard, iterate, output, rounds_left, said_is, say, tool,
)


class Shop:
    orders: dict[str, str]


@tool
def find_order(ctx: Context[Shop], number: str) -> str:
    """Look an order up by its number."""
    return ctx.deps.orders[number]


@tool(needs_approval=True, timeout=5.0)
async def refund(number: str, euros: float) -> str:
    """Pay an order back."""
    return f"{number}: {euros}"


def plain(city: str) -> str:
    """A plain function is a tool as well."""
    return city


def followed(workflow: type[Workflow]) -> str:
    with closing(iterate(workflow, "Hi.", deltas=True)) as moves:
        for item in moves:
            print(item.event if isinstance(item, Move) else item.text)
    return moves.result.state


async def followed_async(workflow: type[Workflow]) -> str:
    async with aclosing(aiterate(workflow, "Hi.")) as moves:
        async for item in moves:
            print(item)
    return moves.result.state


@guard
def is_long(facts: Facts) -> bool:
    return len(facts.text) > 100


@guard(bound=True)
def still_early(facts: Facts) -> bool:
    return facts.turns < 3


@effect(changes="max_tokens")
def a_little_more(facts: Facts) -> int:
    return facts.max_tokens + 100


def gate(facts: Facts) -> Literal["ok", "thin"]:
    return "ok" if is_long(facts) else "thin"


async def score(facts: Facts, ctx: Context[Shop]) -> Outcome[Literal["high", "low"]]:
    return Outcome("high", value=len(ctx.deps.orders))


class Support(Workflow, limits=Limits(turns=30)):
    """Finds orders and refunds them."""

    asking = Claude(
        model="claude-sonnet-5",
        max_tokens=1024,
        tools=[find_order, refund, plain, {"type": "web_search_20250305", "name": "web_search"}],
        thinking={"type": "adaptive"},
        stop_sequences=["</stop>"],
        prompt=lambda facts: facts.text,
        extra_body={"brand_new": True},
    )
    calling = Tools()
    approving = Approval(within="1d")
    gating = Code(gate)
    scoring = Code(score)
    listening = Human(within=60.0)
    answered = Final()

    asking.on(tool_use=calling, stop_sequence=answered)
    asking.on(end_turn=[answered.when(output("grade", "good")), gating.when(is_long & rounds_left(3)), exits.failed])
    asking.on(max_tokens=[asking.when(attempts_left(2) | still_early).then(a_little_more), exits.truncated])
    calling.on(tool_results=[answered.when(calls("refund")), asking], approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)
    gating.on("ok", scoring).on("thin", asking.then(say("Longer, please."), say(str))).on(raised=exits.failed)
    scoring.on("high", answered).on("low", listening, cancel=exits.cancelled)
    listening.on(said=[answered.when(said_is("/quit")), asking], expired=answered)


class Quicker(Support):
    approving = Support.approving.replace(expired=Support.answered)


Same = Workflow.from_transitions(
    name="Same",
    states={"asking": Claude(model="claude-sonnet-5", max_tokens=10), "done": Final(ok=False)},
    transitions=[{"trigger": "end_turn", "source": "asking", "dest": "done"}, ["refusal", "asking", "done"]],
    guards={"is_long": is_long},
)
names: tuple[str, ...] = tuple(Support.states)
finding = Support.check()
'''

BAD = """
from __future__ import annotations

from typing import Literal

from fsm import Approval, Claude, Code, Context, Facts, Final, Human, Outcome, Tools, Workflow, effect, guard, run, say


def gate(facts: Facts) -> Literal["ok", "thin"]:
    return "ok"


async def score(facts: Facts) -> Outcome[Literal["high", "low"]]:
    return Outcome("high")


def of_a_number(number: int) -> Literal["ok"]:
    return "ok"


def a_number(facts: Facts) -> int:
    return 1


def of_nothing() -> bool:
    return True


def wordy(number: int) -> str:
    return ""


asking = Claude(model="claude-sonnet-5", max_tokens=10)
calling, approving, listening, done = Tools(), Approval(), Human(), Final()
gating, scoring = Code(gate), Code(score)

asking.on(tool_used=calling)  #: did you mean "tool_use"
asking.on(tool_results=asking)  #: Unexpected keyword argument "tool_results"
calling.on(end_turn=done)  #: Unexpected keyword argument "end_turn"
approving.on(said=asking)  #: Unexpected keyword argument "said"
listening.on(approved=asking)  #: Unexpected keyword argument "approved"
done.on(end_turn=asking)  #: "Final" has no attribute "on"
asking.on(end_turn="answered")  #: incompatible type "str"
asking.on(end_turn=[done, "answered"])  #: incompatible type
asking.on(end_turn=None)  #: incompatible type "None"
asking.on(end_turn=Final)  #: incompatible type "type[Final]"
asking.on(end_turn=done.then(of_nothing))  #: expected "Effect"
Claude(model="claude-sonnet-5", max_token=10, max_tokens=10)  #: did you mean "max_tokens"
Claude(model="claude-sonnet-5", max_tokens="10")  #: incompatible type "str"; expected "int"
Claude(model="claude-sonnet-5", max_tokens=10, stop_sequences=5)  #: incompatible type "int"
Claude(max_tokens=10)  #: Missing named argument "model"
Approval(withn="1d")  #: did you mean "within"
Code(of_a_number)  #: incompatible type
Code(a_number)  #: incompatible type
gating.on("okay", done)  #: incompatible type "Literal['okay']"
scoring.on("ok", done)  #: incompatible type "Literal['ok']"
gating.on(raisd=done)  #: did you mean "raised"
done.when(of_nothing)  #: incompatible type
done.when(wordy)  #: incompatible type
done.when(True)  #: incompatible type "bool"
guard(wordy)  #: incompatible type
effect(changes="colour")  #: overload
say(5)  #: incompatible type "int"
"""

MARKED = [
    (number, line.partition("#: ")[2], line.partition("  #: ")[0])
    for number, line in enumerate(BAD.splitlines(), start=1)
    if "#: " in line
]
ERROR = re.compile(r"^(?:.*[/\\])?(good|bad)\.py:(\d+): error: (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, dict[int, str]]:
    """What mypy says, by file and line. One run reads both files: most of its time goes into reading our own."""
    folder = tmp_path_factory.mktemp("typing")
    for name, source in (("good.py", GOOD), ("bad.py", BAD)):
        (folder / name).write_text(source, "utf-8")
    command = [
        sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "--no-error-summary",
        "--cache-dir", str(folder / "cache"), "good.py", "bad.py",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env={"MYPYPATH": str(root), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    found: dict[str, dict[int, str]] = {"good": {}, "bad": {}}
    for name, line, text in ERROR.findall(done.stdout):
        found[name][int(line)] = f"{found[name].get(int(line), '')} {text}"
    return found


def test_what_is_right_passes(complaints: dict[str, dict[int, str]]) -> None:
    assert complaints["good"] == {}


@pytest.mark.parametrize(("line", "expected"), [m[:2] for m in MARKED], ids=[m[2] for m in MARKED])
def test_what_is_wrong_is_said_on_its_line(complaints: dict[str, dict[int, str]], line: int, expected: str) -> None:
    assert expected in complaints["bad"].get(line, "nothing")


def test_nothing_else_is_said(complaints: dict[str, dict[int, str]]) -> None:
    assert set(complaints["bad"]) == {line for line, _, _ in MARKED}


def test_what_is_right_also_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GOOD], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
