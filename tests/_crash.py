"""Processes that are killed: K1's scripts, a child that drives one and dies at a point, and who starts the children.

    parent (pytest)  ──lines of JSON──>  zygote  ──fork──>  child: drives a run, and is killed with SIGKILL
          └── emulator on loopback  <───────── requests ─────────┘

A zygote has imported everything, so a child costs a fork. It has one thread, so forking is safe. The points (K2) lie
around each commit: `before` it, `written` (all rows, not committed), `committed` (durable, the driver does not know
yet), `acting` (during the next thing that is done outside: a tool after its effect, a request that left).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import anthropic
import httpx2
from attrs import evolve, field, frozen

from fsm import (
    Approval,
    Claude,
    Code,
    ConcurrentWriter,
    Context,
    Facts,
    Final,
    Human,
    Record,
    Result,
    Tools,
    Workflow,
    approve,
    aresume,
    arun,
    cancel,
    deny,
    edit,
    resume,
    run,
    said_is,
    tool,
)
from fsm._prices import price_of
from fsm._summary import RunSummary
from fsm.journal import has_run
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, Fault, Reply, faults, replies

MODEL = "claude-sonnet-5"
PHASES = ("before", "written", "committed", "acting")
JOURNAL, EFFECTS = "runs.db", "effects"


# --- what is counted -------------------------------------------------------------------------------------------------


class Trap:
    """Kills this process at its n-th commit, in a phase of it. `commits` counts them."""

    def __init__(self, number: int | None = None, phase: str = "") -> None:
        self.number, self.phase = number, phase
        self.commits = 0

    def at(self, phase: str) -> None:
        if self.commits == self.number and self.phase == phase:
            os.kill(os.getpid(), signal.SIGKILL)


@frozen
class World:
    """What tools and functions touch: a file that keeps every effect, whatever happens to the process."""

    folder: Path
    trap: Trap = field(factory=Trap)

    def effect(self, kind: str, key: str | None) -> None:
        file = os.open(self.folder / EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, f"{kind} {key} {os.getpid()}\n".encode())
        os.fsync(file)
        os.close(file)
        self.trap.at("acting")


def effects(folder: Path) -> list[tuple[str, str, int]]:
    """Each effect there was: what, the id of its call, which process."""
    file = folder / EFFECTS
    lines = file.read_text().splitlines() if file.exists() else []
    return [(kind, key, int(pid)) for kind, key, pid in map(str.split, lines)]


class TrappedStore:
    """An SQLite journal that counts commits and springs the trap around them."""

    def __init__(self, path: Path, trap: Trap | None = None, *, claims: bool = True) -> None:
        self.inner, self.trap, self.claims = SqliteStore(path), trap or Trap(), claims
        self.inner._db.set_trace_callback(self._traced)

    def _traced(self, statement: str) -> None:
        if statement == "COMMIT":
            self.trap.at("written")

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        self.trap.commits += 1
        self.trap.at("before")
        self.inner.append(run_id, records)
        self.trap.at("committed")

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        return self.inner.read(run_id, start)

    def claim(self, run_id: str) -> None:
        if self.claims:
            self.inner.claim(run_id)

    def release(self, run_id: str) -> None:
        if self.claims:
            self.inner.release(run_id)

    def summary(self, run_id: str) -> RunSummary:
        return self.inner.summary(run_id)

    def runs(self, *query: Any) -> Iterator[RunSummary]:
        return self.inner.runs(*query)


class TrappedTransport(httpx2.HTTPTransport):
    """A request that left, and whose answer this process does not live to see."""

    def __init__(self, trap: Trap) -> None:
        super().__init__(verify=False)
        self.trap = trap

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        self.trap.at("acting")
        return response


class AsyncTrappedTransport(httpx2.AsyncHTTPTransport):
    """The same, awaited."""

    def __init__(self, trap: Trap) -> None:
        super().__init__(verify=False)
        self.trap = trap

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        self.trap.at("acting")
        return response


def client_of(url: str, trap: Trap | None = None) -> anthropic.Anthropic:
    http = httpx2.Client(transport=TrappedTransport(trap or Trap()), trust_env=False)
    return anthropic.Anthropic(api_key="k", base_url=url, max_retries=0, http_client=http)


# --- the scripts -----------------------------------------------------------------------------------------------------


@tool
def charge(ctx: Context[World], number: int) -> str:
    """Charge."""
    ctx.deps.effect("charge", ctx.tool_use_id)
    return f"charged {number}"


@tool(idempotent=True)
def look(ctx: Context[World], number: int) -> str:
    """Look."""
    ctx.deps.effect("look", ctx.tool_use_id)
    return f"looked {number}"


@tool(needs_approval=True)
def refund(ctx: Context[World], number: int) -> str:
    """Pay back."""
    ctx.deps.effect("refund", ctx.tool_use_id)
    return f"paid {number}"


def grade(facts: Facts, ctx: Context[World]) -> Literal["fine"]:
    """Grade it."""
    ctx.deps.effect("grade", "grading")
    return "fine"


class Plain(Workflow):
    asking = Claude(model=MODEL, max_tokens=100)
    answered = Final()
    asking.on(end_turn=answered)


class Loop(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[charge, look])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Compacting(Workflow):
    asking = Claude(
        model=MODEL,
        max_tokens=100,
        tools=[charge, look],
        extra_body={"context_management": {"edits": [{"type": "compact_20260112", "pause_after_compaction": True}]}},
    )
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Desk(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[look, refund])
    calling = Tools()
    approving = Approval(within="1d")
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


class Careful(Workflow):
    """An unknown outcome is put to a person."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[charge, look])
    calling = Tools()
    checking = Approval()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, outcome_unknown=checking)
    checking.on(approved=calling, denied=asking)


class Chat(Workflow):
    chatting = Claude(model=MODEL, max_tokens=100)
    waiting = Human()
    bye = Final()
    chatting.on(end_turn=waiting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting])


class Graded(Workflow):
    asking = Claude(model=MODEL, max_tokens=100)
    grading = Code(grade)
    done = Final()
    asking.on(end_turn=grading)
    grading.on("fine", done)


class GradedAgain(Workflow):
    asking = Claude(model=MODEL, max_tokens=100)
    grading = Code(grade, idempotent=True)
    done = Final()
    asking.on(end_turn=grading)
    grading.on("fine", done)


Body = dict[str, Any]


def _turns(body: Body) -> int:
    return sum(message["role"] == "assistant" for message in body["messages"])


def in_turn(*script: Reply) -> Callable[[Body], Reply]:
    """By what was said so far, so that a request that is sent again gets the same answer."""
    return lambda body: script[min(_turns(body), len(script) - 1)]


def _tight(body: Body) -> Reply:
    if _turns(body):
        return DONE
    whole = body["max_tokens"] > Loop.asking.max_tokens
    return replies.tool_use("charge", {"number": 1}) if whole else replies.max_tokens(tool=("charge", {"number": 1}))


def _compacted(body: Body) -> Reply:
    if "compaction" in json.dumps(body["messages"]):
        return DONE
    return replies.compaction("They greeted.") if _turns(body) else replies.tool_use("charge", {"number": 1})


def _decides(result: Result) -> Any:
    """Approve the first, edit the second, and only then, in another answer, deny the third with a reason."""
    question = result.question
    assert question is not None
    assert all(call.name == "refund" for call in question.calls)
    by_number = {call.input["number"]: call.id for call in question.calls}
    if 1 in by_number:
        return {by_number[1]: approve(), by_number[2]: edit({"number": 22})}
    return {by_number[3]: deny("it was paid already")}


def _checks(result: Result) -> Any:
    question = result.question
    assert question is not None
    assert "unknown after a restart" in question.why
    return deny("I looked: it is not known")


def _speaks(result: Result) -> Any:
    return "/quit" if result.text == "Fine." else "And now?"


DONE = replies.text("done")
REFUNDS = [("refund", {"number": number}) for number in (1, 2, 3)] + [("look", {"number": 4})]


@frozen(kw_only=True)
class Scenario:
    """A run: what Claude says, what goes wrong, what a person does. `ends` names the states it may end in."""

    workflow: type[Workflow]
    script: Callable[[Body], Reply]
    ends: tuple[str, ...] = ("answered",)
    faults: Mapping[int, Fault | Reply] = field(factory=dict)
    answer: Callable[[Result], Any] | None = None
    stream: bool = False
    cancels: bool = False
    is_async: bool = False


_SYNC: Mapping[str, Scenario] = {
    "text": Scenario(workflow=Plain, script=in_turn(DONE)),
    "one tool": Scenario(workflow=Loop, script=in_turn(replies.tool_use("charge", {"number": 1}), DONE)),
    "three tools": Scenario(
        workflow=Loop,
        script=in_turn(
            replies.tool_uses(("charge", {"number": 1}), ("look", {"number": 2}), ("charge", {"number": 3})), DONE
        ),
    ),
    "five turns": Scenario(
        workflow=Loop, script=in_turn(*(replies.tool_use("charge", {"number": n}) for n in range(5)), DONE)
    ),
    "refusal": Scenario(workflow=Plain, script=in_turn(replies.refusal("cyber")), ends=("refused",)),
    "two pauses": Scenario(workflow=Plain, script=in_turn(replies.pause(), replies.pause(), DONE)),
    "cut text": Scenario(workflow=Plain, script=in_turn(replies.max_tokens("so far"), DONE)),
    "cut call": Scenario(workflow=Loop, script=_tight),
    "compaction": Scenario(workflow=Compacting, script=_compacted),
    "rate limit": Scenario(workflow=Plain, script=in_turn(DONE), faults={1: replies.rate_limited(retry_after=1)}),
    "cut stream": Scenario(workflow=Plain, script=in_turn(DONE), faults={1: faults.cut(events=4)}, stream=True),
    "cancel": Scenario(workflow=Chat, script=in_turn(replies.text("Hello.")), ends=("cancelled",), cancels=True),
    "approval": Scenario(workflow=Desk, script=in_turn(replies.tool_uses(*REFUNDS), DONE), answer=_decides),
    "human": Scenario(
        workflow=Chat, script=in_turn(replies.text("Hello."), replies.text("Fine.")), ends=("bye",), answer=_speaks
    ),
    "unknown to a person": Scenario(
        workflow=Careful,
        script=in_turn(replies.tool_uses(("charge", {"number": 1}), ("look", {"number": 2})), DONE),
        answer=_checks,
    ),
    "code": Scenario(workflow=Graded, script=in_turn(DONE), ends=("done", "failed")),
    "code again": Scenario(workflow=GradedAgain, script=in_turn(DONE), ends=("done",)),
}
SCENARIOS: Mapping[str, Scenario] = {
    **_SYNC,
    **{
        f"async {name}": evolve(_SYNC[name], is_async=True)
        for name in ("three tools", "cut stream", "approval", "code")
    },
}


# --- the child -------------------------------------------------------------------------------------------------------


def advance(scenario: Scenario, store: TrappedStore, url: str, world: World) -> Result:
    """Begin the run, or go on with it wherever it stands, to its end; as a program does that is started again."""
    options: dict[str, Any] = {
        "journal": store,
        "deps": world,
        "stream": scenario.stream,
        "sleep": _no_time if scenario.is_async else lambda seconds: None,
    }

    def does(verb: Any, twin: Any, *given: Any, **more: Any) -> Result:
        if scenario.is_async and twin is not None:
            result: Result = asyncio.run(_awaited(twin, url, world.trap, scenario.workflow, *given, **options, **more))
        else:
            with client_of(url, world.trap) as client:
                result = verb(scenario.workflow, *given, client=client, **options, **more)
        world.trap.at("acting")
        return result

    result = does(resume, aresume, "r") if has_run(store, "r") else does(run, arun, "Hi.", run_id="r")
    while result.verdict.resumable:
        if scenario.cancels:
            result = does(cancel, None, "r")
        else:
            assert scenario.answer is not None, result.verdict
            result = does(resume, aresume, "r", answer=scenario.answer(result))
    return result


async def _awaited(verb: Any, url: str, trap: Trap, *given: Any, **options: Any) -> Result:
    http = httpx2.AsyncClient(transport=AsyncTrappedTransport(trap), trust_env=False)
    async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0, http_client=http) as client:
        result: Result = await verb(*given, client=client, **options)
        return result


async def _no_time(seconds: float) -> None:
    del seconds


def drive(name: str, folder: str, url: str, *, number: int | None = None, phase: str = "") -> dict[str, Any]:
    """Drive a scenario to its end, or die at the point given; says how many commits it made."""
    trap = Trap(number, phase)
    where = Path(folder)
    store = TrappedStore(where / JOURNAL, trap)
    result = advance(SCENARIOS[name], store, url, World(where, trap))
    store.inner.close()
    return {"state": result.state, "commits": trap.commits}


def answer_here(folder: str, url: str, run_id: str, words: str, *, claims: bool = True) -> dict[str, Any]:
    """Answer a run that waits for words, from this process."""
    where = Path(folder)
    meet = None if claims else lambda: _meet(where, run_id, words)
    store = TrappedStore(where / JOURNAL, claims=claims)
    with client_of(url) as client:
        said = race(store, client, World(where), run_id, words, meet=meet)
    store.inner.close()
    return said


def race(
    store: TrappedStore,
    client: anthropic.Anthropic,
    world: World,
    run_id: str,
    words: str,
    *,
    meet: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """Answer a run that waits for words; says whether it was this one who did. `meet` is called before the commit."""
    mine = Meeting(store, meet)
    try:
        result = resume(Racing, run_id, answer=words, journal=mine, client=client, deps=world)
    except ConcurrentWriter as error:
        return {"lost": str(error), "words": words}
    return {"state": result.state, "words": words}


class Meeting(TrappedStore):
    """The same store; its first commit waits for that of the other driver, so that both have read the same journal."""

    def __init__(self, store: TrappedStore, meet: Callable[[], Any] | None) -> None:
        self.inner, self.trap, self.claims, self.meet = store.inner, store.trap, store.claims, meet

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        meet, self.meet = self.meet, None
        if meet is not None:
            meet()
        super().append(run_id, records)


def _meet(folder: Path, run_id: str, words: str) -> None:
    """Wait until the other process, if there is one, is as far; a zombie of another test meets nobody."""
    (folder / f"{run_id}.{words}").touch()
    while words != "zombie" and len(list(folder.glob(f"{run_id}.*"))) < len(("one", "two")):
        time.sleep(0.0005)


class Racing(Workflow):
    """Hears a word, calls a tool, ends."""

    waiting = Human(initial=True)
    asking = Claude(model=MODEL, max_tokens=100, tools=[charge])
    calling = Tools()
    answered = Final()
    waiting.on(said=asking)
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


JOBS: Mapping[str, Callable[..., dict[str, Any]]] = {"drive": drive, "answer": answer_here}


# --- the zygote ------------------------------------------------------------------------------------------------------


def zygote() -> None:
    """Take jobs, one a line: do each in a fork, or here where it says so; answer with what came of it."""
    _warm_up()
    _say({"ready": True})
    dead = 0
    for line in sys.stdin:
        if dead:
            os.waitpid(dead, 0)  # until now its number was nobody else's, so the parent could kill it safely
            dead = 0
        job = json.loads(line)
        here = job.pop("here")
        work = JOBS[job.pop("job")]
        if here:
            _say(_done(work, job))
            continue
        may_begin, begin = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(may_begin, 1)  # what it says comes after its process id
            _say(_done(work, job))
            os._exit(0)
        _say({"pid": pid})
        os.write(begin, b"!")
        os.close(begin)
        os.close(may_begin)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        dead = pid
        _say({"exit": ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status})


def _warm_up() -> None:
    """What is imported late, or made once, is there before the first fork. No thread is left by this."""
    price_of(MODEL, {"input_tokens": 1, "output_tokens": 1})
    with TemporaryDirectory() as folder, SqliteStore(Path(folder) / JOURNAL) as store:
        with Emulator([DONE]).client() as client:
            run(Plain, "Hi.", client=client, journal=store)
        with client_of("http://127.0.0.1:9") as client, suppress(anthropic.APIConnectionError):
            client.messages.create(model=MODEL, max_tokens=1, messages=[{"role": "user", "content": "Hi."}])
        with suppress(anthropic.APIConnectionError):
            asyncio.run(_awaited(_asked, "http://127.0.0.1:9", Trap()))
    for scenario in SCENARIOS.values():
        assert scenario.workflow.plan
        assert scenario.workflow.toolbox


async def _asked(client: anthropic.AsyncAnthropic) -> Any:
    return await client.messages.create(model=MODEL, max_tokens=1, messages=[{"role": "user", "content": "Hi."}])


def _done(work: Callable[..., dict[str, Any]], job: dict[str, Any]) -> dict[str, Any]:
    try:
        return work(**job)
    except BaseException:  # noqa: BLE001 - told to the parent
        return {"error": traceback.format_exc()}


def _say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")  # one write: a child that is killed leaves no half line


class Zygote:
    """The parent's end. One job at a time: `start` one, then `wait` for what came of it."""

    def __init__(self) -> None:
        here = Path(__file__)
        paths = os.pathsep.join([str(here.parent.parent), str(here.parent)])
        self.process = subprocess.Popen(
            [sys.executable, str(here)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
            text=True,
            bufsize=1,
        )
        self._ready = False

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the zygote ended with {self.process.wait()}"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def start(self, job: str, *, here: bool = False, **given: Any) -> int:
        """Start a job in a fork (or `here`), and give its process id."""
        if not self._ready:
            self._ready = bool(self._heard())
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"job": job, "here": here, **given}) + "\n")
        return self.process.pid if here else int(self._heard()["pid"])

    def wait(self, *, here: bool = False) -> tuple[int, dict[str, Any]]:
        """The exit code (negative: the signal), and what the job said if it came to that."""
        heard = self._heard()
        if here or "exit" in heard:
            return heard.get("exit", 0), {} if "exit" in heard else heard
        return self._heard()["exit"], heard

    def done(self, job: str, **given: Any) -> tuple[int, dict[str, Any]]:
        self.start(job, **given)
        return self.wait(here=bool(given.get("here")))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


if __name__ == "__main__":
    import _crash  # so that the classes are those of the module, not of `__main__`

    _crash.zygote()
