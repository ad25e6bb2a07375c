"""X7: keys, tokens and credentials are found in no artefact; X8: nothing that is shown steers a terminal; X5, X11."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from _driving import MODEL, Clock, Plain
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import fsm
from fsm import (
    Claude,
    Context,
    Final,
    FsmError,
    JournalError,
    MemoryStore,
    SecretsFilter,
    Tools,
    UsageError,
    Workflow,
    arun,
    redact_secrets,
    run,
    tool,
)
from fsm._terminal import clean, one_line, visible
from fsm._wire import clean as clean_error
from fsm.cli import main
from fsm.diagram._text import clean as clean_label
from fsm.drivers._pump import one_line as logged
from fsm.stores import open_store
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

VERBS = [pytest.param(False, id="run"), pytest.param(True, id="arun")]
CANARIES = {
    "environment": "env-canary-1f7a",
    "key": "sk-ant-canary-2b8c",
    "header": "header-canary-3c9d",
    "bearer": "Bearer canary-4d0e-token",
    "deps": "deps-canary-5e1f",
    "local": "local-canary-6f2a",
    "raised": "sk-ant-raised-7a3b",
    "credit": "credit-canary-8b4c",
}
CONTAINER = "container_canary9c5d"


class Vault:
    """Deps that say what they hold when they are printed, as dataclasses do."""

    def __repr__(self) -> str:
        return f"Vault({CANARIES['deps']})"


@tool
def fails(ctx: Context[Vault], number: str) -> str:
    """Fail, with secrets around."""
    password = CANARIES["local"]
    raise PermissionError(f"401 for {CANARIES['raised']} in {ctx!r}{password[:0]}")


class Guarded(Workflow):
    """Meets everything that holds a secret."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[fails])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def _script() -> list[Reply]:
    from attrs import evolve

    details = {"type": "refusal", "category": None, "explanation": "no", "fallback_credit_token": CANARIES["credit"]}
    return [
        replies.tool_use("fails", {"number": "1"}),
        replies.overloaded(),
        evolve(replies.refusal(), stop_details=details),
    ]


def _drive(workflow: type[Workflow], script: Any, *, is_async: bool, **options: Any) -> Any:
    emulator = Emulator(script)
    headers = {"X-Secret": CANARIES["header"], "X-Gateway": CANARIES["bearer"]}
    given: dict[str, Any] = {"api_key": CANARIES["key"], "default_headers": headers}
    if not is_async:
        with emulator.client(**given) as client:
            return run(workflow, "Hi.", client=client, **options)

    async def main() -> Any:
        async with emulator.async_client(**given) as client:
            return await arun(workflow, "Hi.", client=client, **options)

    return asyncio.run(main())


def _leaks(artefacts: dict[str, str], secrets: Any = None) -> list[str]:
    found = CANARIES.values() if secrets is None else secrets
    return [f"{name}: {secret}" for name, text in artefacts.items() for secret in found if secret in text]


@pytest.mark.parametrize("is_async", VERBS)
def test_no_secret_is_in_any_artefact(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    *,
    is_async: bool,
) -> None:
    """I9: files, records, logs at DEBUG with their tracebacks, what the commands print, pictures, reprs and spans."""
    monkeypatch.setenv("MY_SECRET", CANARIES["environment"])
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    path, clock = tmp_path / "runs.db", Clock()
    store = SqliteStore(path)
    options: dict[str, Any] = {"journal": store, "run_id": "r", "clock": clock, "sleep": clock.sleep, "deps": Vault()}
    with caplog.at_level(logging.DEBUG, logger="fsm"):
        result = _drive(Guarded, _script(), is_async=is_async, **options)
    assert result.state == "refused"
    files = {each.name: each.read_bytes().decode("latin-1") for each in tmp_path.iterdir()}
    assert {"runs.db", "runs.db-wal"} <= set(files), "the log of the file is looked at, too"
    for command in (["show", "r", "--messages"], ["ls"], ["verify", "r"]):
        assert main(["runs", *command, "-j", str(path)]) == 0
    artefacts = {
        **files,
        "log": caplog.text,
        "log records": "".join(str(vars(each)) for each in caplog.records if each.name.startswith("fsm")),
        "printed": "".join(capfd.readouterr()),
        "verdict": f"{result.verdict} {result.verdict!r}",
        "reprs": f"{result!r} {store!r} {result.reply!r} {result.moves!r} {Guarded!r}",
        "records": repr(result.records) + json.dumps([dict(record.data) for record in result.records]),
        "context": repr(Context(Vault(), "r", {}, None)),
        "pictures": result.diagram("mermaid") + result.diagram("dot") + result.diagram("svg"),
        "spans": "".join(span.to_json() for span in exporter.get_finished_spans()),
    }
    store.close()
    assert "asking" in artefacts["printed"]
    assert len(artefacts["spans"]) > 1000
    assert "PermissionError: 401 for [redacted]" in artefacts["log"]
    artefacts["log records"] = re.sub(r"'exc_info': \(.*?<traceback[^>]*>\)", "", artefacts["log records"])
    assert _leaks(artefacts) == []


def test_the_debug_log_of_the_client_has_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """The client logs its options at DEBUG; the headers of a run are in its own list of what to hide, or not there."""
    with caplog.at_level(logging.DEBUG):
        _drive(Plain, [replies.text("Hello.")], is_async=False)
    assert any(record.name.startswith("anthropic") for record in caplog.records)
    assert _leaks({"log": caplog.text}, [CANARIES["key"]]) == []


class Broken(MemoryStore):
    """Fails after a reply."""

    def append(self, run_id: str, records: Any) -> None:
        """See `Store`."""
        if any(record.kind == "reply" for record in records):
            raise JournalError("the disk is full")
        super().append(run_id, records)


@pytest.mark.parametrize("is_async", VERBS)
def test_no_secret_is_in_a_traceback_that_shows_the_frames_of_the_package(*, is_async: bool) -> None:
    """Error reporters print what is local to each frame: of ours none shows deps, keys or headers."""
    with pytest.raises(JournalError) as caught:
        _drive(Plain, [replies.text("Hello.")], is_async=is_async, journal=Broken(), deps=Vault())
    ours = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = str(Path(fsm.__file__).parent / "drivers")
    ours.stack = traceback.StackSummary.from_list([frame for frame in ours.stack if frame.filename.startswith(inside)])
    assert len(ours.stack) > 1
    text = "".join(ours.format())
    assert "session = " in text
    assert _leaks({"locals": text, "plain": "".join(traceback.format_exception(caught.value))}) == []


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_the_password_of_a_journal_is_in_no_error(scheme: str) -> None:
    if scheme == "postgresql":
        pytest.importorskip("psycopg")
    password = f"pw-canary-{7}7"  # a traceback shows this line
    with pytest.raises(FsmError) as caught:
        open_store(f"{scheme}://user:{password}@127.0.0.1:1/runs?connect_timeout=1")
    shown = [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
    assert not [text for text in shown if password in text]


def test_the_container_is_in_the_journal_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """S6.8: a run that is taken up needs it; a person does not."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)

    @tool(allowed_callers=["code_execution_20260120"])
    def find(number: str) -> str:
        """Find an order."""
        return "order 7"

    class Coded(Workflow):
        asking = Claude(
            model=MODEL,
            max_tokens=100,
            tools=[find, {"type": "code_execution_20260120", "name": "code_execution"}],
        )
        calling = Tools()
        answered = Final()

        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    path = tmp_path / "runs.db"
    script = [replies.programmatic("find", {"number": "7"}, container=CONTAINER), replies.text("done")]
    with SqliteStore(path) as store, caplog.at_level(logging.DEBUG, logger="fsm"):
        result = _drive(Coded, script, is_async=False, journal=store, run_id="r")
        assert CONTAINER in json.dumps([dict(record.data) for record in result.records])
    for arguments in (["ls"], ["show", "r", "--messages"]):
        assert main(["runs", *arguments, "-j", str(path)]) == 0
    artefacts = {
        "log": caplog.text,
        "printed": "".join(capfd.readouterr()),
        "verdict": f"{result.verdict} {result.verdict!r} {result!r}",
        "pictures": result.diagram("mermaid") + result.diagram("dot"),
        "spans": "".join(span.to_json() for span in exporter.get_finished_spans()),
    }
    assert _leaks(artefacts, [CONTAINER]) == []


# ── by their form ───────────────────────────────────────────────────────────────────────────────────────────────────

PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
PEM += "DEK-Info: AES-128-CBC\n\nMIIEow==\n-----END RSA PRIVATE KEY-----"
FORMS = {
    "anthropic": ("key sk-ant-api03-abc_DEF-123.", "key [redacted]."),
    "other sk": ("sk-proj-A1b2C3d4E5f6G7h8I9j0", "[redacted]"),
    "bearer": ("Authorization: Bearer abc.def-ghi==", "Authorization: [redacted]"),
    "basic": ("Basic dXNlcjpwYXNz", "[redacted]"),
    "aws id": ("id AKIAIOSFODNN7EXAMPLE end", "id [redacted] end"),
    "aws key": ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [redacted]"),
    "jwt": ("t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln_x-y ok", "t=[redacted] ok"),
    "github": ("ghp_abcdefghijklmnopqrstuvwxyz012345", "[redacted]"),
    "slack": ("xoxb-1234567890-abcdef", "[redacted]"),
    "private key": (f"a {PEM} b", "a [redacted] b"),
    "private key in JSON": (json.dumps({"k": PEM}), '{"k": "[redacted]"}'),
    "url": ("postgresql://me:p%40ss@db.example/runs", "postgresql://[redacted]@db.example/runs"),
    "named": ('{"fallback_credit_token": "fct_01abc"}', '{"fallback_credit_token": "[redacted]"}'),
    "named, as text": ("password=hunter22 next", "password=[redacted] next"),
}
INNOCENT = (
    "risk-management and sk-learn-compatible code",
    "The password: please choose one. The bearer of bad news. Basic English.",
    "https://docs.example:8080/path?x=1@y and user@example.com",
    "invalid x-api-key: required; access_token: expired",
    "eyJust a word. akia. -----BEGIN CERTIFICATE-----",
    "",
)


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_known_by_its_form(form: str) -> None:
    text, expected = FORMS[form]
    assert redact_secrets(text) == expected
    assert redact_secrets(expected) == expected
    assert redact_secrets(f"\x1b{text}") == f"\x1b{expected}"


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_none_stays_the_same_object(text: str) -> None:
    assert redact_secrets(text) is text or redact_secrets(text) == text


UNITS = (
    "sk-", "sk-a", "sk-ant-", "Bearer ", "Basic  ", "AKIA", "eyJ", "eyJ-", "eyJaaaaa.", "aws_secret", "gho_", "xoxb-",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "://", "://a:", ":a://", "api_key", "api_key=", 'key"', "password: ",
    "a", " ", "\n", '\\"',
)  # fmt: skip


def test_hostile_text_costs_what_honest_text_costs() -> None:
    """X9: a pattern that goes back over what it has read would not end within the patience of anybody."""
    for unit in UNITS:
        redact_secrets((unit * 300_000)[:300_000])


def test_it_is_what_a_store_takes(tmp_path: Path) -> None:
    secret = "sk-ant-api03-in-the-prompt"
    path = tmp_path / "runs.db"
    with (
        SqliteStore(path, redact=redact_secrets) as store,
        Emulator([replies.text(f"You sent {secret}.")]).client() as c,
    ):
        result = run(Plain, f"My key is {secret}.", client=c, journal=store, run_id="r")
        assert result.text == f"You sent {secret}.", "what is kept is redacted, not what is said"
        files = [each.read_bytes() for each in tmp_path.iterdir()]
        assert not [data for data in files if secret.encode() in data]
        assert "[redacted]" in json.dumps([dict(record.data) for record in store.read("r")])


def test_it_is_what_a_log_takes() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SecretsFilter())
    log = logging.getLogger("of.the.user")
    log.propagate = False
    log.addHandler(handler)
    try:
        raise ValueError("sk-ant-raised-1 \x1b[31mred\x1b]0;title\x07 \u202eturned")  # noqa: TRY301 - the log shows it
    except ValueError:
        log.exception("failed with %s of %d", "Bearer abcdefgh", 7)
    said = stream.getvalue()
    assert said.startswith("failed with [redacted] of 7\nTraceback")
    assert "ValueError: [redacted]" in said
    assert not [char for char in "\x1b\x07\u202e" if char in said]


# ── X8: nothing steers a terminal ───────────────────────────────────────────────────────────────────────────────────

_ESC, _ST = "\x1b", "\x1b\\"
PAYLOADS = (
    *(f"a{chr(code)}b" for code in (0, 1, 5, 7, 8, 11, 12, 14, 15, 24, 26, 27, 127)),
    *(f"a{chr(code)}b" for code in (0x80, 0x84, 0x85, 0x8D, 0x90, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F)),
    f"{_ESC}[31mred{_ESC}[0m", f"{_ESC}[2J{_ESC}[H", f"{_ESC}[?1049h", f"{_ESC}[6n", "\x9b31mred",
    f"{_ESC}]0;title\x07", f"{_ESC}]0;title{_ST}", f"{_ESC}]8;;https://evil.example{_ST}link{_ESC}]8;;{_ST}",
    f"{_ESC}]52;c;ZXZpbA==\x07", "\x9d52;c;ZXZpbA==\x9c", f"{_ESC}Pq#0{_ST}", f"{_ESC}_G{_ST}", f"{_ESC}c", f"{_ESC}(0",
    "a\u061cb", "a\u200eb", "a\u200fb", "a\u202eb", "a\u202a\u202c", "a\u2066b\u2069", "a\u2028b", "a\u2029b",
    "a\rb", "a\udc9bb",
)  # fmt: skip
STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|evil\\.example|ZXZpbA"
)
ACTS = re.compile(STEERS.pattern.partition("|evil")[0])


def test_each_payload_steers() -> None:
    assert len(PAYLOADS) >= 40
    assert all(ACTS.search(payload) for payload in PAYLOADS)


def test_nothing_that_is_shown_steers_a_terminal() -> None:
    """Each of the functions that text goes through: people's terminal, errors and audits, the log, the pictures."""
    ways = {
        "terminal": clean,
        "one line": one_line,
        "inputs": visible,
        "errors": clean_error,
        "log": logged,
        "pictures": clean_label,
    }
    left = [(name, payload) for name, way in ways.items() for payload in PAYLOADS if ACTS.search(way(payload))]
    assert left == []
    hidden = [p for p in PAYLOADS if "evil.example" in clean(p) or "ZXZpbA" in clean(p)]
    assert hidden == [], "a link or a clipboard is taken out as a whole"


def test_no_command_prints_what_steers_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Hostile words of a model, a tool and a person, in every command that shows a run or a recorded exchange."""
    text = " ".join(payload.encode("utf-8", "replace").decode() for payload in PAYLOADS)

    @tool
    def shout(words: str) -> str:
        """Shout."""
        return text

    class Hostile(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[shout])
        calling = Tools()
        answered = Final()

        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    path, log = tmp_path / "runs.db", tmp_path / "log.jsonl"
    emulator = Emulator([replies.tool_use("shout", {"words": text}, text=text), replies.text(text)])
    with SqliteStore(path) as store, emulator.client() as client:
        run(Hostile, text, client=client, journal=store, run_id="r", tags={"who": text})
    reply = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": text,
        "content": [{"type": "text", "text": text}],
    }
    reply |= {"stop_reason": text, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    log.write_text(json.dumps({"request": {"model": MODEL, "max_tokens": 1, "messages": []}, "response": reply}) + "\n")
    one = tmp_path / "reply.json"
    one.write_text(json.dumps(reply))
    commands = (
        ["runs", "ls", "-j", str(path)],
        ["runs", "show", "r", "-j", str(path)],
        ["runs", "show", "r", "--messages", "--full", "-j", str(path)],
        ["runs", "verify", "r", "-j", str(path)],
        ["audit", str(log)],
        ["classify", str(one)],
        ["check", str(tmp_path / f"{'x' * 9}\x1b[31m.py:Y")],
        ["runs", "show", f"no{text[:40]}".replace("\x00", ""), "-j", str(path)],
        ["--debug", "audit", f"{tmp_path}/\x1b]0;title\x07"],
    )
    for command in commands:
        main(command)
        shown = "".join(capfd.readouterr())
        assert shown, command
        assert ACTS.search(shown) is None, (command, shown[max(0, ACTS.search(shown).start() - 60) :][:120])  # type: ignore[union-attr]


# ── X5, X11 ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_journal_is_written_and_read_without_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """X5: the hook of the interpreter sees every use, also one that a library makes."""
    used: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and (event in {"pickle.find_class", "marshal.dumps"} or event.startswith("shelve")):
            used.append(event)

    import pickle

    for name in ("dumps", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, name=name, **__: used.append(name))
    sys.addaudithook(hook)
    try:
        with SqliteStore(tmp_path / "runs.db") as store, Emulator([replies.text("Hello.")]).client() as client:
            run(Plain, "Hi.", client=client, journal=store, run_id="r")
            assert len(tuple(store.read("r"))) > 3
    finally:
        watching.clear()
    assert used == []


@pytest.mark.parametrize("is_async", VERBS)
def test_without_a_key_and_a_client_nothing_is_connected_to(monkeypatch: pytest.MonkeyPatch, *, is_async: bool) -> None:
    """X11: no request leaves, not even a look-up of a name."""
    reached: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: reached.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: reached.append(given) or [])
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(UsageError, match="no API key"):
        asyncio.run(arun(Plain, "Hi.")) if is_async else run(Plain, "Hi.")
    assert [address for address in reached if isinstance(address, tuple) and address[0] != "127.0.0.1"] == []
