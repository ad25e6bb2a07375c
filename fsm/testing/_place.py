"""What `check_store` works with: two handles on one journal, records to put in, and what is said of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import frozen

from fsm._records import Record
from fsm._summary import Query, RunSummary
from fsm.journal import Store

SECRET = "canary \u00e9\u4e2d\U0001f980 \x00 \\ ' \" \u2028"  # noqa: S105 - what was said, as awkward as text gets


@frozen
class Place:
    """Two handles on one journal, and how the names of our runs in it begin."""

    store: Store
    other: Store
    prefix: str

    @property
    def keeper(self) -> Any:
        """The first handle, with the methods of `Keeper`."""
        return self.store

    def begun(self, name: str, **data: Any) -> str:
        """A run of one record."""
        run_id = self.prefix + name
        self.store.append(run_id, [opened(**data)])
        return run_id

    def ended(self, name: str, **data: Any) -> str:
        """A run that is over."""
        run_id = self.prefix + name
        self.store.append(run_id, whole(**data))
        return run_id

    def found(self, query: Query) -> list[RunSummary]:
        """Our runs among those that a query means."""
        return [run for run in self.other.runs(query) if run.run_id.startswith(self.prefix)]


def expect(seen: object, due: object, what: str) -> None:
    if seen != due:
        raise AssertionError(f"{what}: expected {_short(due)}, got {_short(seen)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}… ({len(text)} characters)"  # noqa: PLR2004


def refuses(error: type[Exception] | tuple[type[Exception], ...], act: Callable[[], Any], what: str) -> None:
    try:
        act()
    except error:
        return
    names = " or ".join(each.__name__ for each in (error if isinstance(error, tuple) else (error,)))
    raise AssertionError(f"{what}: expected {names}, and nothing was raised")


def reads(place: Place, run_id: str, due: Iterable[Record], what: str) -> None:
    for store in (place.store, place.other):
        expect(list(store.read(run_id)), list(due), what)


# ── records ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def opened(at: float = 100.25, workflow: str = "W", state: str = "asking", tags: Mapping[str, str] = {}) -> Record:
    data = {"workflow": workflow, "state": state, "messages": [f'"{at}"'], "tags": dict(tags), "systems": {}}
    return Record(0, "open", at, {**data, "heads": {}, "carried": {}, "limits": {}, "fingerprint": "f1"})


def said(seq: int, text: str = "x", at: float = 101.5) -> Record:
    return Record(seq, "say", at, {"history": "main", "messages": [text]})


def move(seq: int, effects: list[Any], dest: str = "calling") -> Record:
    data = {"source": "asking", "event": "tool_use", "dest": dest, "index": 0, "guard": None}
    return Record(seq, "move", 105.5, {**data, "effects": effects, "implied": False})


def asked(seq: int, **data: Any) -> Record:
    return Record(seq, "asked", 106.5, {"state": "asking", "prompt": SECRET, **data})


def whole(**data: Any) -> list[Record]:
    """A run with a record of nearly every kind; all that was said in it holds `SECRET`."""
    usage = {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 2, "cache_creation_input_tokens": None}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use"}
    reply = {"event": "tool_use", "message": {**message, "stop_sequence": None, "usage": usage}, "price": 0.125}
    content = '[{"type":"text","text":"canary  \\u00e9 é"}, {"type": "tool_use","id":"t1"}]'  # as it came, byte by byte
    kinds: list[tuple[str, Any]] = [
        ("say", {"history": "main", "messages": [SECRET]}),
        ("request", {"n": 1, "state": "asking", "history": "main", "hash": "ab" * 32, "attempt": 1}),
        ("error", {"event": "api_failed", "message": SECRET, "status": 500, "retry_after": None, "seconds": 0.5}),
        ("reply", {**reply, "content": content, "request_id": "req_1", "seconds": 1.5}),
        ("move", move(0, [["wait", {"wait": 60}]]).data),
        ("tool.begin", {"ids": ["t1"]}),
        ("tool.end", {"ends": [["t1", SECRET, False, 0.25]]}),
        ("asked", {"state": "asking", "prompt": SECRET, "expires_at": 900.5}),
        ("answer", {"said": SECRET}),
        ("code.begin", {"state": "counting"}),
        ("code.end", {"outcome": "done", "value": {"text": SECRET, "n": [1, 2.5, None]}, "error": None}),
        ("park", {"reason": "waiting_api"}),
        ("resume", {}),
        ("close", {"state": "answered", "ok": True, "reason": "end_turn", "evidence": {"text": SECRET}}),
    ]
    return [opened(**data), *(Record(n, kind, 100 + n / 3, each) for n, (kind, each) in enumerate(kinds, 1))]
