"""The records of a run as steps: each move, what led to it, and what it had cost by then.

A step is a move and what happened in the state that it left. Nothing is loaded or run for it; what lacks its body (an
outline, a run that was erased) still gives all of its steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from fsm._facts import Usage
from fsm._graph import Graph
from fsm._records import Record, moment
from fsm.diagram._overlay import Key

from ._said import blocks_of, change_of, json_of, readable, seconds_of, told_of, words_of

_VERBS = {"approve": "approves", "edit": "changes and approves", "deny": "denies"}


@frozen
class Fact:
    """Something that happened in a state: `who` did it, `what` in a word, and the words that were said.

    `kind` is the kind of state whose colour it has; `seconds` how long it took, where that was recorded.
    """

    who: str
    kind: str
    text: str = ""
    what: str = field(default="", kw_only=True)
    is_code: bool = field(default=False, kw_only=True)  # JSON, to be set in one width
    is_bad: bool = field(default=False, kw_only=True)
    seconds: float | None = field(default=None, kw_only=True)


@frozen
class Spent:
    """Requests, tokens, price (US dollars, None: unknown) and seconds of recorded work."""

    requests: int = 0
    given: int = 0  # tokens in, cached ones included
    cached: int = 0
    output: int = 0
    price: float | None = 0.0
    seconds: float = 0.0

    def plus(self, other: Spent) -> Spent:
        """The sum."""
        unknown = self.price is None or other.price is None
        return Spent(
            self.requests + other.requests,
            self.given + other.given,
            self.cached + other.cached,
            self.output + other.output,
            None if unknown else (self.price or 0.0) + (other.price or 0.0),
            self.seconds + other.seconds,
        )


@frozen
class Step:
    """A move, the facts of the state that it left, and those (`effects` at work) that came with it.

    The step with number 0 is the beginning: it has no event, and leads into the first state.
    """

    number: int
    at: float
    source: str
    event: str
    dest: str
    key: Key | None = None
    guard: str = field(default="", kw_only=True)
    effects: tuple[str, ...] = field(default=(), kw_only=True)
    implied: bool = field(default=False, kw_only=True)
    facts: tuple[Fact, ...] = field(default=(), kw_only=True)
    changes: tuple[str, ...] = field(default=(), kw_only=True)
    spent: Spent = field(factory=Spent, kw_only=True)
    total: Spent = field(factory=Spent, kw_only=True)
    stuck: bool = field(default=False, kw_only=True)  # belongs to the cycle that ended the run


@frozen
class End:
    """Where the run ended, or stands: `facts` are what happened since the last move, `told` what the verdict says."""

    state: str
    reason: str
    is_over: bool
    is_ok: bool
    facts: tuple[Fact, ...] = ()
    told: tuple[tuple[str, str], ...] = ()
    evidence: str = ""  # all of it, as JSON
    total: Spent = field(factory=Spent)


@frozen
class Steps:
    """A run to step through. `began` is seconds since the epoch."""

    run_id: str
    began: float
    steps: tuple[Step, ...]
    end: End
    tags: Mapping[str, str] = field(factory=dict)


def steps_of(
    records: Iterable[Record], graph: Graph, *, bodies: bool = True, renamed: Mapping[str, str] | None = None
) -> Steps:
    """The steps of one run.

    Args:
        records: the journal of the run, or as much of it as there is.
        graph: of its workflow; says which final states are good ones.
        bodies: False leaves out everything that somebody said: what people, models and tools wrote, and the evidence.
        renamed: what states of older versions are called now (`Workflow.renamed`).
    """
    reader = _Reader(graph, bodies=bodies, renamed=dict(renamed or {}))
    for record in records:
        reader.take(record)
    return reader.steps()


@define
class _Reader:
    graph: Graph
    bodies: bool = field(kw_only=True)
    renamed: dict[str, str] = field(kw_only=True)
    run_id: str = ""
    tags: Mapping[str, str] = field(factory=dict)
    made: list[Step] = field(factory=list)
    facts: list[Fact] = field(factory=list)
    spent: Spent = field(factory=Spent)
    total: Spent = field(factory=Spent)
    names: dict[str, str] = field(factory=dict)  # of the calls, by id
    inputs: dict[str, str] = field(factory=dict)
    replies: list[int] = field(factory=list)  # in which step each came, in order
    state: str = ""
    reason: str = "running"
    is_over: bool = False
    evidence: Mapping[str, Any] = field(factory=dict)
    asked: Mapping[str, Any] | None = None

    def take(self, record: Record) -> None:
        tellers = {
            "open": self._open,
            "request": self._request,
            "reply": self._reply,
            "error": self._error,
            "move": self._move,
            "say": self._say,
            "tool.end": self._tool_end,
            "asked": self._ask,
            "answer": self._answer,
            "code.end": self._code_end,
            "park": self._park,
            "resume": self._resume,
            "migrate": self._migrate,
            "close": self._close,
        }
        if record.kind in tellers:
            tellers[record.kind](record)

    def steps(self) -> Steps:
        state = self.renamed.get(self.state, self.state)
        node = self.graph.by_name.get(state)
        told = tuple(told_of(self.reason, self.evidence)) if self.bodies else ()
        evidence = readable(json_of(self.evidence)) if self.evidence and self.bodies else ""
        ok = self.is_over and node is not None and node.ok
        end = End(state, readable(self.reason), self.is_over, ok, tuple(self.facts), told, evidence, self._sum())
        began = self.made[0].at if self.made else 0.0
        return Steps(self.run_id, began, tuple(map(self._named, self.made)), end, self.tags if self.bodies else {})

    def _named(self, step: Step) -> Step:
        """The step with the names that its states have now."""
        if not self.renamed:
            return step
        source, dest = (self.renamed.get(name, name) for name in (step.source, step.dest))
        key = None if step.key is None else (source, *step.key[1:])
        return evolve(step, source=source, dest=dest, key=key)

    def _mark(self) -> None:
        """The steps from the first reply that the evidence names up to here: the cycle (`Finding.turns`)."""
        turns = [turn for turn in self.evidence.get("turns") or () if isinstance(turn, int) and turn > 0]
        if turns and min(turns) <= len(self.replies):
            first = self.replies[min(turns) - 1]
            self.made[first:-1] = [evolve(step, stuck=True) for step in self.made[first:-1]]

    def _sum(self) -> Spent:
        return self.total.plus(self.spent)

    def _fact(self, who: str, kind: str, text: object = "", **more: Any) -> None:
        said = readable(text) if self.bodies else ""
        more["what"] = readable(more.get("what", ""))
        self.facts.append(Fact(who, kind, said, **more))

    def _cost(self, spent: Spent) -> None:
        self.spent = self.spent.plus(spent)

    # --- records -----------------------------------------------------------------------------------------------------

    def _open(self, record: Record) -> None:
        data = record.data
        self.run_id, self.state, self.tags = data.get("run_id", ""), data["state"], data.get("tags") or {}
        if forked := data.get("forked"):
            self._fact("fsm", "", what=f"goes on as a copy of run {forked.get('run_id')}")
        for message in data.get("messages") or ():
            who, kind = ("Claude", "Claude") if message.get("role") == "assistant" else ("you", "Human")
            self._fact(who, kind, words_of(message.get("content")))
        self.made.append(Step(0, record.at, "", "", self.state, facts=tuple(self.facts)))
        self.facts.clear()

    def _request(self, record: Record) -> None:
        self._cost(Spent(requests=1))
        if record.data.get("compact"):
            self._fact("fsm", "", what="has the history summarised")

    def _reply(self, record: Record) -> None:
        data = record.data
        usage = Usage().plus(data.get("message", {}).get("usage") or {})
        price, seconds = data.get("price"), seconds_of(data.get("seconds"))
        cached = usage.cache_read_input_tokens
        self._cost(Spent(0, usage.total - usage.output_tokens, cached, usage.output_tokens, price, seconds))
        self.replies.append(len(self.made))
        blocks = blocks_of(data.get("content"))
        for block in blocks or ():
            self._block(block)
        if blocks == []:
            self._fact("Claude", "Claude", what="says nothing")

    def _block(self, block: Mapping[str, Any]) -> None:
        match block.get("type"):
            case "text":
                self._fact("Claude", "Claude", block.get("text", ""))
            case "thinking":
                self._fact("Claude", "Claude", block.get("thinking", ""), what="thinks")
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                name = str(block.get("name", ""))
                ident, given = str(block.get("id")), json_of(block.get("input"))
                self.names[ident], self.inputs[ident] = name, given
                self._fact("Claude", "Claude", given, what=f"calls {self._tool(name)}", is_code=True)
            case other if str(other).endswith("_tool_result"):
                self._fact("API", "Tools", json_of(block.get("content")), what=str(other), is_code=True)
            case other:
                self._fact("Claude", "Claude", what=str(other))

    def _tool(self, name: str) -> str:
        """The name of a tool; one that nobody declared is a model's word."""
        is_known = self.bodies or any(name == known for _, known in self.graph.tools)
        return name if is_known else "a tool"

    def _error(self, record: Record) -> None:
        data = record.data
        seconds = seconds_of(data.get("seconds"))
        self._cost(Spent(seconds=seconds))
        what = " ".join(str(part) for part in (data.get("status"), data.get("type") or data.get("event")) if part)
        self._fact("API", "Failed", data.get("message", ""), what=what, is_bad=True, seconds=seconds)

    def _move(self, record: Record) -> None:
        data = record.data
        effects = data.get("effects") or ()
        changes = [change_of(what, value) for _, change in effects for what, value in change.items()]
        step = Step(
            len(self.made),
            record.at,
            data["source"],
            data["event"],
            data["dest"],
            (data["source"], data["event"], data.get("index", 0)),
            guard=readable(data.get("guard") or ""),
            effects=tuple(readable(name) for name, _ in effects),
            implied=bool(data.get("implied")),
            facts=tuple(self.facts),
            changes=tuple(readable(told) for told in changes if told) if self.bodies else (),
            spent=self.spent,
            total=self._sum(),
        )
        self.made.append(step)
        self.total, self.spent, self.asked = step.total, Spent(), None
        self.facts.clear()
        self.state, self.evidence = data["dest"], data.get("evidence") or {}
        self.reason, self.is_over = "running", False
        if data["event"] == "stuck":
            self._mark()

    def _say(self, record: Record) -> None:
        if not record.data.get("words"):  # else it stands where it was said
            for message in record.data.get("messages") or ():
                self._fact("prompt", "", words_of(message.get("content")))

    def _tool_end(self, record: Record) -> None:
        ends = record.data.get("ends") or ()
        self._cost(Spent(seconds=max((seconds_of(end[3]) for end in ends), default=0.0)))  # they ran beside each other
        for call_id, content, is_error, seconds in ends:
            name = self._tool(self.names.get(call_id, call_id))
            tail = " fails" if is_error else ""
            words = words_of(content)
            self._fact("tool", "Tools", words, what=f"{name}{tail}", is_bad=bool(is_error), seconds=seconds_of(seconds))

    def _ask(self, record: Record) -> None:
        self.asked = record.data
        until = moment(record.data.get("expires_at"))
        calls = [self._tool(self.names.get(each, each)) for each in record.data.get("calls") or ()]
        what = f"asks a person about {', '.join(calls)}" if calls else "asks a person for words"
        inputs = [self.inputs.get(each, "") for each in record.data.get("calls") or ()]
        words = "\n".join(filter(None, inputs))
        self._fact("fsm", "Approval", words, what=what + (f", until {until}" if until else ""), is_code=True)

    def _answer(self, record: Record) -> None:
        if "said" in record.data:
            self._fact("you", "Human", words_of(record.data["said"]))
        for call_id, (verb, given, reason) in (record.data.get("decisions") or {}).items():
            what = f"{_VERBS.get(verb, verb)} {self._tool(self.names.get(call_id, call_id))}"
            is_edit = verb == "edit" and given is not None
            words = json_of(given) if is_edit else reason or ""
            self._fact("person", "Approval", words, what=what, is_code=is_edit, is_bad=verb == "deny")

    def _code_end(self, record: Record) -> None:
        data = record.data
        seconds = seconds_of(data.get("seconds"))
        self._cost(Spent(seconds=seconds))
        if data.get("error"):
            self._fact("code", "Code", data["error"], what="raises", is_bad=True, seconds=seconds)
        else:
            value = data.get("value")
            words = json_of(value) if value is not None and value != data.get("outcome") else ""
            self._fact("code", "Code", words, what=f"says {data.get('outcome')}", is_code=True, seconds=seconds)

    def _park(self, record: Record) -> None:
        self.reason = record.data.get("reason", "")
        self._fact("fsm", "", what=f"parks the run: {self.reason.replace('_', ' ')}")

    def _resume(self, record: Record) -> None:
        del record
        self.reason = "running"
        self._fact("fsm", "", what="goes on with the run")

    def _migrate(self, record: Record) -> None:
        names: Mapping[str, str] = record.data.get("renamed") or {}
        self.renamed = {**{old: names.get(new, new) for old, new in self.renamed.items()}, **names}
        self._fact("fsm", "", what="goes on with another version of the workflow")

    def _close(self, record: Record) -> None:
        data = record.data
        self.state, self.reason, self.is_over = data["state"], data.get("reason", ""), True
        self.evidence = data.get("evidence") or self.evidence
