"""`fsm classify`: why Claude stopped, from whatever recorded it, with an exit code that a script can branch on."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm._alphabet import ERROR_TYPES, STOP_REASONS
from fsm.cli import main
from fsm.cli._outcomes import CODES, Outcome, worst
from fsm.cli._recorded import UnreadableError, outcomes
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

ROOT = Path(__file__).resolve().parent.parent
CI = ROOT / "examples" / "ci"
CORPUS = ROOT.parent / "shared" / "corpus" / "transcripts"
TEXT = {"type": "text", "text": "Hi."}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "write", "input": {"path": "/a"}}


def message(stop: str | None, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "stop_sequence": None}
    return {**base, "content": list(content), "stop_reason": stop, "usage": {"output_tokens": 3}, **more}


def error(kind: str, text: str = "No.", **details: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": text, "details": details}, "request_id": "req_1"}


def claude(subtype: str = "success", **more: Any) -> dict[str, Any]:
    base = {"type": "result", "subtype": subtype, "is_error": subtype != "success", "session_id": "s", "num_turns": 2}
    return {**base, "result": "Done.", "stop_reason": "end_turn", **more}


def judged(*values: Any, form: str = "auto", indent: int | None = None) -> list[Outcome]:
    text = "\n".join(value if isinstance(value, str) else json.dumps(value, indent=indent) for value in values)
    return list(outcomes(io.BytesIO(text.encode()), form))


def one(*values: Any, **options: Any) -> Outcome:
    (found,) = judged(*values, **options)
    return found


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Runs `fsm classify` on a file with this text; gives its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def say(text: str | bytes, *options: str) -> tuple[int, str, str]:
        Path("it").write_bytes(text if isinstance(text, bytes) else text.encode())
        code = main(["classify", "it", *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return say


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────

STOPS = {
    "end_turn": 0,
    "stop_sequence": 0,
    "tool_use": 10,
    "max_tokens": 11,
    "pause_turn": 12,
    "refusal": 13,
    "model_context_window_exceeded": 14,
    "compaction": 15,
}


def test_every_stop_reason_has_its_code() -> None:
    """S0: and only a finished reply exits with 0."""
    assert set(STOPS) == set(STOP_REASONS)
    for stop, code in STOPS.items():
        found = one(message(stop, CALL if stop == "tool_use" else TEXT))
        assert (found.outcome, found.code) == (stop, code)
        assert found.why
        assert found.todo


@pytest.mark.parametrize(
    ("reply", "outcome", "code"),
    [
        (message("end_turn"), "empty_turn", 16),
        (message("tool_use", TEXT), "malformed", 16),
        (message("end_turn", TEXT, CALL), "malformed", 16),
        (message("brand_new", TEXT), "unknown_stop", 16),
        (message(None, TEXT), "malformed", 16),
        ({"type": "message"}, "malformed", 16),
    ],
)
def test_a_reply_that_means_nothing_is_no_success(reply: dict[str, Any], outcome: str, code: int) -> None:
    """S3.3, S6.10, S11."""
    found = one(reply)
    assert found.code == code
    assert found.outcome in {outcome, "unknown_stop"}


@pytest.mark.parametrize("stop", ["max_tokens", "refusal", "model_context_window_exceeded"])
def test_a_call_in_a_cut_reply_is_warned_of(stop: str) -> None:
    """S5.3, S8.5, S9.2: it may look whole."""
    (note,) = one(message(stop, TEXT, CALL)).notes
    assert "never run its calls (write)" in note


def test_a_refusal_names_its_category() -> None:
    """S8.1."""
    found = one(message("refusal", stop_details={"type": "refusal", "category": "bio", "explanation": "Why."}))
    assert (found.details["category"], found.details["explanation"]) == ("bio", "Why.")


ERRORS = {
    "rate_limit_error": 20,
    "timeout_error": 20,
    "api_error": 20,
    "overloaded_error": 20,
    "conflict_error": 20,
    "invalid_request_error": 21,
    "not_found_error": 21,
    "request_too_large": 21,
    "authentication_error": 22,
    "billing_error": 22,
    "permission_error": 22,
}


def test_every_error_has_its_code() -> None:
    """E0-E18: what may pass, what stays, and what a person must mend are told apart."""
    assert set(ERRORS) == set(ERROR_TYPES)
    for kind, code in ERRORS.items():
        found = one(error(kind))
        assert (found.outcome, found.code, found.details["request_id"]) == (kind, code, "req_1")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (error("rate_limit_error", error_code="enforced_spend_limit_reached"), 22),
        (error("rate_limit_error", error_code="ramp_limit_exceeded"), 20),
        (error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), 22),
        (error("invalid_request_error", "You have reached your specified API usage limits. …"), 22),
        (error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), 14),
        ({"error": {"type": "something_new", "message": "No."}}, 21),
    ],
)
def test_an_error_that_waiting_cannot_mend_is_not_called_passing(body: dict[str, Any], code: int) -> None:
    """E1a, E11, E12, R60."""
    assert one(body).code == code


def recorded(reply: Reply, *, stream: bool) -> bytes:
    """The bytes of a reply as the SDK receives them from the emulator."""
    with Emulator([reply]).client() as client:
        create = client.with_options(max_retries=0).messages.with_streaming_response.create
        asked: dict[str, Any] = {
            "model": "claude-sonnet-5",
            "max_tokens": 99,
            "messages": [{"role": "user", "content": "?"}],
        }
        try:
            with create(**asked, stream=stream) as response:  # type: ignore[call-overload]
                return b"".join(response.iter_bytes())
        except anthropic.APIStatusError as failed:
            return failed.response.content


SCRIPT = {
    "end_turn": replies.text("Hi. ü"),
    "max_tokens": replies.max_tokens("Once"),
    "refusal": replies.refusal("cyber"),
    "pause_turn": replies.pause(TEXT),
    "overloaded_error": replies.sse_error("overloaded_error"),
    "unknown_stop": replies.unknown_stop("new"),
}


@pytest.mark.parametrize("ending", ["\n\n", "\n", "", "\n\n\n"])
def test_a_recorded_stream_says_the_same_as_the_reply(ending: str) -> None:
    """G1-G20; and the last event may lack its blank line."""
    for outcome, reply in SCRIPT.items():
        wire = recorded(reply, stream=True).rstrip() + ending.encode()
        (found,) = outcomes(io.BytesIO(wire))
        assert found.outcome == outcome
        if outcome != "overloaded_error":
            assert one(recorded(reply, stream=False).decode()).code == found.code


def test_a_stream_cut_anywhere_is_never_finished() -> None:
    """G20: whatever was seen before."""
    wire = recorded(replies.text("Hello there."), stream=True)
    lines = wire.splitlines(keepends=True)
    last = next(n for n, line in enumerate(lines) if line.startswith(b"event: message_stop"))
    for end in range(1, last + 1):
        (found,) = outcomes(io.BytesIO(b"".join(lines[:end])))
        assert found.code in {16, 20}, lines[end - 1]
    (found,) = outcomes(io.BytesIO(b"".join(lines[:last])))
    assert (found.outcome, found.code) == ("cut_stream", 20)


def test_streams_that_were_recorded_one_after_the_other() -> None:
    wires = [recorded(SCRIPT[name], stream=True) for name in ("overloaded_error", "max_tokens", "end_turn")]
    found = list(outcomes(io.BytesIO(b"".join([b": a comment\n\n", *wires]))))
    # An error may come before any message_start; the retry then begins where it ended.
    assert [o.outcome for o in found][-2:] == ["max_tokens", "end_turn"]
    assert worst([o.code for o in found]) >= 11


# ── claude -p ───────────────────────────────────────────────────────────────────────────────────────────────────────

OVERLOADED = 'API Error: 529 {"type":"error","error":{"type":"overloaded_error","message":"Busy"},"request_id":"req_7"}'


@pytest.mark.parametrize(
    ("result", "outcome", "code"),
    [
        (claude(), "end_turn", 0),
        (claude(stop_reason=None), "end_turn", 0),
        (claude(stop_reason="stop_sequence"), "stop_sequence", 0),
        (claude(stop_reason="tool_use", structured_output={"a": 1}), "end_turn", 0),
        (claude(stop_reason="tool_use"), "tool_use", 10),
        (claude(deferred_tool_use={"id": "t", "name": "Bash", "input": {}}), "tool_use", 10),
        (claude(stop_reason="max_tokens"), "max_tokens", 11),
        (claude(stop_reason="max_tokens", terminal_reason="completed"), "max_tokens", 11),
        (claude(stop_reason="refusal"), "refusal", 13),
        (claude(stop_reason="refusal", is_error=True, result="API Error: unable to respond"), "refusal", 13),
        (claude(stop_reason="model_context_window_exceeded"), "model_context_window_exceeded", 14),
        (claude(stop_reason="brand_new"), "unknown_stop", 16),
        (claude(stop_reason=7), "unknown_stop", 16),
        (claude("error_max_turns"), "max_turns", 17),
        (claude("error_max_budget_usd"), "max_budget", 17),
        (claude("error_max_structured_output_retries"), "invalid_output", 16),
        (claude("error_during_execution", terminal_reason="aborted_tools"), "aborted", 18),
        (claude(terminal_reason="aborted_streaming"), "aborted", 18),
        (claude(terminal_reason="max_turns"), "max_turns", 17),
        (claude(terminal_reason="prompt_too_long"), "invalid_request_error", 14),
        (claude(terminal_reason="stop_hook_prevented"), "hook_stopped", 18),
        (claude("error_during_execution", errors=["TypeError: x"]), "failed", 21),
        (claude("error_of_next_year"), "failed", 21),
        (claude(is_error=True, api_error_status=529, result=OVERLOADED), "overloaded_error", 20),
        (claude(is_error=True, result=OVERLOADED), "overloaded_error", 20),
        (claude(is_error=True, api_error_status=429, result="API Error: busy"), "rate_limit_error", 20),
        (claude(is_error=True, api_error_status=401, result="no"), "authentication_error", 22),
        (claude(is_error=True, result="Invalid API key · Please run /login"), "authentication_error", 22),
        (claude(is_error=True, result="Credit balance is too low"), "billing_error", 22),
        (claude(is_error=True, result="Prompt is too long"), "invalid_request_error", 14),
        (claude(is_error=True, result="who knows"), "failed", 21),
        ({"type": "result", "result": "Done.", "total_cost_usd": 0.03}, "end_turn", 0),  # of an old version
        ({"type": "result"}, "no_answer", 16),
        ({"type": "result", "subtype": "success", "is_error": False, "result": ""}, "no_answer", 16),
        (claude(result=" \n"), "no_answer", 16),
        (claude(result=None), "no_answer", 16),
        (claude(result="", structured_output={"a": 1}), "end_turn", 0),
        (claude(is_error=True, result="API Error: Repeated 529 Overloaded errors"), "overloaded_error", 20),
        (
            claude(is_error=True, result="API Error: Claude's response exceeded the 32000 output token maximum."),
            "max_tokens",
            11,
        ),
        (claude(is_error=True, result="API Error: Request was aborted."), "aborted", 18),
        (claude(is_error=True, result="5-hour limit reached ∙ resets 3am"), "subscription_limit", 22),
        (claude(is_error=True, result="Claude AI usage limit reached|1760000400"), "subscription_limit", 22),
        (claude(is_error=True, result="You've hit your limit · resets 3am"), "subscription_limit", 22),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else str(value),
)
def test_a_result_of_claude(result: dict[str, Any], outcome: str, code: int) -> None:
    """What speaks against success wins over the word "success"."""
    found = one(result)
    assert (found.outcome, found.code) == (outcome, code)
    assert one(result, indent=2).code == code, "pretty-printed"


def test_what_claude_quotes_of_the_api_is_told() -> None:
    found = one(claude(is_error=True, result=OVERLOADED))
    assert (found.details["message"], found.details["request_id"]) == ("Busy", "req_7")


def test_denied_tools_are_told_though_claude_finished() -> None:
    found = one(claude(permission_denials=[{"tool_name": "Bash"}, {"tool_name": "Bash"}, "x"]))
    assert found.code == 0
    assert found.notes == ("claude was denied the use of: Bash (--allowedTools grants it)",)


def line(stop: str | None, **more: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": message(stop, TEXT), "session_id": "s", "parent_tool_use_id": None, **more}


INIT = {"type": "system", "subtype": "init", "session_id": "s", "tools": []}


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([INIT, line("end_turn"), claude()], [0]),
        ([INIT, line("max_tokens"), claude(stop_reason=None)], [11]),
        ([INIT, line("refusal"), claude(stop_reason=None)], [13]),
        ([INIT, line("max_tokens", parent_tool_use_id="toolu_9"), line("end_turn"), claude(stop_reason=None)], [0]),
        ([INIT, line("end_turn"), line("max_tokens", parent_tool_use_id="t"), claude(stop_reason=None)], [0]),
        ([INIT, line(None, error="rate_limit"), claude(is_error=True, result="?", stop_reason=None)], [20]),
        ([INIT, line(None, error="billing_error"), claude(is_error=True, result="?", stop_reason=None)], [22]),
        ([INIT, line("end_turn"), claude(), line("max_tokens"), claude(stop_reason=None)], [0, 11]),
        ([INIT, line("tool_use")], [18]),
        ([INIT], [18]),
    ],
)
def test_the_lines_of_stream_json(lines: list[dict[str, Any]], codes: list[int]) -> None:
    """The last reply of the run itself says why, where its result does not; without a result nothing is finished."""
    assert [o.code for o in judged(*lines)] == codes
    assert [o.code for o in judged(lines)] == codes, "as --verbose writes them: one array"
    assert [o.code for o in judged(*lines, form="stream-json" if lines[-1]["type"] != "result" else "auto")] == codes


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the recorded transcripts are not here")
def test_recorded_transcripts_are_read() -> None:
    """Those of claude-code-action hold a result; session files hold none, so they are not called finished."""
    found = {}
    for file in sorted(CORPUS.glob("*.jsonl")):
        for number, text in enumerate(file.read_text("utf-8").splitlines()):
            events = [e for e in json.loads(text)["events"] if isinstance(e, dict) and e.get("type") != "summary"]
            found[file.stem, number] = [o.outcome for o in judged(*(e for e in events if "type" in e))]
    assert found
    for (stem, _), seen in found.items():
        assert seen == (["end_turn"] if stem == "claude-code-action" else ["no_result"])


# ── batches, and several at once ────────────────────────────────────────────────────────────────────────────────────


def item(name: str, **result: Any) -> dict[str, Any]:
    return {"custom_id": name, "result": result}


BATCH = [
    item("a", type="succeeded", message=message("end_turn", TEXT)),
    item("b", type="succeeded", message=message("refusal")),
    item("c", type="errored", error=error("invalid_request_error")),
    item("d", type="expired"),
    item("e", type="canceled"),
    item("f", type="something"),
    item("g"),
]


def test_batch_results() -> None:
    """S13: a refusal is `succeeded`; results come in any order and are named by their custom_id."""
    found = judged(*BATCH)
    assert [(o.name, o.code) for o in found] == [
        ("a", 0), ("b", 13), ("c", 21), ("d", 20), ("e", 18), ("f", 16), ("g", 16),
    ]  # fmt: skip


@given(codes=st.lists(st.sampled_from(sorted(set(CODES) - {2})), min_size=1))
def test_of_several_the_highest_counts_and_unreadable_before_all(codes: list[int]) -> None:
    assert worst(codes) == (3 if 3 in codes else max(codes))


def test_many_results_are_counted_and_the_unfinished_listed(said) -> None:
    text = "\n".join(json.dumps(item(f"n{n}", type="expired")) for n in range(30)) + "\n" + json.dumps(BATCH[0])
    code, out, err = said(text)
    assert (code, err) == (20, "")
    assert out.startswith("31 results  exit 20\n")
    assert "n19" in out
    assert "n20" not in out
    assert "and 10 more; --json has all" in out
    code, out, _ = said(text, "--json")
    told = json.loads(out)
    assert (code, told["exit"], told["counts"]) == (20, 20, {"expired": 30, "end_turn": 1})
    assert len(told["results"]) == 31


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_help_names_every_code_and_fits_80_columns(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["classify", "--help"]) == 0
    out = capsys.readouterr().out
    for code, words in CODES.items():
        assert re.search(rf"^ +{code}  {re.escape(words)}$", out, re.MULTILINE), code
    assert max(map(len, out.splitlines())) <= 80


def test_one_result_is_shown_with_why_and_what_to_do(said) -> None:
    hostile = "No\x1b[31m red\x07,\u202e\nand no second line."
    reply = message("refusal", stop_details={"type": "refusal", "category": "cyber", "explanation": hostile})
    code, out, err = said(json.dumps(reply))
    assert (code, err) == (13, "")
    assert out.splitlines()[0] == "✗ refusal  exit 13"
    assert "Claude declined" in out
    assert "No red, and no second line." in out
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", out)
    code, out, _ = said(json.dumps(reply), "--json")
    assert json.loads(out)["results"][0]["explanation"] == hostile
    assert "\x1b" not in out
    assert said(json.dumps(reply), "--quiet") == (13, "", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("Hello.", "line 1, column 1: no JSON"),
        ('{"type": "message",\n "oops"\n}', "line 3, column 1: no JSON"),
        (json.dumps(BATCH[3]) + '\n\n{"oops\n', "line 3, column 7: no JSON"),
        ("[]", "there is no result in it"),
        ('{"a": 1}', "has the type None, which cannot be judged"),
        ("7", "is no object"),
        ("[[[[" + "[" * 200_000, "no JSON"),
        ("9" * 5000, "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
    ],
)
def test_what_cannot_be_read_names_the_line_and_exits_with_3(said, text: str | bytes, words: str) -> None:
    code, _, err = said(text)
    assert code == 3
    assert err.startswith("fsm: it: ")
    assert words in err
    assert err.count("\n") == 1


def test_what_was_read_before_a_bad_line_is_shown(said) -> None:
    code, out, err = said(json.dumps(BATCH[1]) + "\n{")
    assert (code, out.splitlines()[0]) == (3, "✗ refusal  exit 13")
    assert "line 2" in err
    told = json.loads(said(json.dumps(BATCH[1]) + "\n{", "--json")[1])
    assert told["exit"] == 3
    assert "line 2" in told["error"]


@pytest.mark.parametrize("name", ["nowhere.json", ".", "a\0b"])
def test_no_such_file_is_unreadable(tmp_path, monkeypatch, capsys, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["classify", name]) == 3
    assert capsys.readouterr().err.startswith("fsm: ")


def test_a_format_can_be_asked_for(said) -> None:
    reply = json.dumps(message("end_turn", TEXT))
    assert said(reply, "--format", "message")[0] == 0
    assert said(reply, "--format", "claude")[0] == 3
    assert said(reply, "--format", "sse")[0] == 3
    assert said(recorded(SCRIPT["end_turn"], stream=True), "--format", "sse")[0] == 0
    assert said(json.dumps(claude()), "--format", "claude")[0] == 0
    assert said(json.dumps(BATCH[0]), "--format", "batch")[0] == 0
    assert said(reply, "--format", "xml")[0] == 2


def test_it_reads_standard_input(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fsm.cli", "classify", "-"],
        input=json.dumps(error("overloaded_error")), capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (20, "")
    assert done.stdout.startswith("✗ overloaded_error  exit 20\n")


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [json.dumps(v).encode() for v in (*BATCH, INIT, line("max_tokens"), claude(), error("x"), message(None))]
    ),
    st.sampled_from(
        [
            b"event: message_start\ndata: {}\n",
            b"data: ",
            b"\n",
            b"[",
            b"{",
            b'{"type":"result","result":',
            b"\xef\xbb\xbf",
        ]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "stop_reason",
    "is_error",
    "subtype",
    "terminal_reason",
    "result",
    "errors",
    "api_error_status",
    "structured_output",
    "permission_denials",
    "content",
    "stop_details",
    "error",
    "custom_id",
    "message",
    "usage",
    "total_cost_usd",
    "session_id",
]


@given(pieces=st.lists(PIECES, max_size=6))
def test_any_bytes_give_outcomes_or_a_reason(pieces: list[bytes]) -> None:
    """Nothing is trusted: whatever it is, no other exception, and each code is one that --help documents."""
    try:
        found = list(outcomes(io.BytesIO(b"\n".join(pieces))))
    except UnreadableError:
        return
    assert all(o.code in CODES for o in found)


@given(
    kind=st.sampled_from(["result", "message", "error", "assistant", None]),
    fields=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6),
)
def test_any_fields_give_an_outcome_and_a_cut_is_never_finished(kind: str | None, fields: dict[str, Any]) -> None:
    for stop in (None, "max_tokens", "refusal"):
        value = {"type": kind, **fields} if stop is None else {"type": kind, **fields, "stop_reason": stop}
        try:
            found = judged(value)
        except UnreadableError:
            continue
        assert all(json.dumps(o.as_json(), allow_nan=False) and o.code in CODES for o in found)
        if stop is not None:
            assert not any(o.code == 0 for o in found)


# ── a CI job ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def job(tmp_path) -> Any:
    """Runs the script of examples/ci with a `claude` that writes one recorded result after the other."""
    tools = tmp_path / "bin"
    tools.mkdir()

    def program(name: str, text: str) -> None:
        (tools / name).write_text(textwrap.dedent(text), "utf-8")
        (tools / name).chmod(0o755)

    program("fsm", f'#!/bin/sh\nexec "{sys.executable}" -m fsm.cli "$@"\n')
    program("sleep", f'#!/bin/sh\necho "$1" >> "{tmp_path}/slept"\n')
    program(
        "claude",
        f"""\
        #!/bin/sh
        echo "$@" >> "{tmp_path}/asked"
        n=$(wc -l < "{tmp_path}/asked")
        cat "{tmp_path}/result.$n" 2> /dev/null || cat "{tmp_path}/result.1"
        test ! -e "{tmp_path}/exit.$n" || exit "$(cat "{tmp_path}/exit.$n")"
        """,
    )

    def run(*results: Any, exits: tuple[int, ...] = (), arguments: tuple[str, ...] = ("Say hi.",)) -> Any:
        for number, result in enumerate(results, 1):
            text = result if isinstance(result, str) else json.dumps(result)
            (tmp_path / f"result.{number}").write_text(text, "utf-8")
        for number, code in enumerate(exits, 1):
            (tmp_path / f"exit.{number}").write_text(str(code), "utf-8")
        path = f"{tools}:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", str(CI / "ask-claude.sh"), *arguments],
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TMPDIR": str(tmp_path)},
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        lines = [(tmp_path / n).read_text().splitlines() if (tmp_path / n).exists() else [] for n in ("asked", "slept")]
        assert not list(tmp_path.glob("tmp.*")), "it leaves nothing behind"
        return done, *lines

    return run


BUSY = claude(is_error=True, api_error_status=529, result=OVERLOADED)


def test_the_job_goes_on_when_claude_finished(job) -> None:
    done, asked, slept = job(claude(result="Fine. ü"), arguments=("Say hi.", "--max-turns", "3"))
    assert (done.returncode, done.stdout) == (0, "Fine. ü\n")
    assert asked == ["-p Say hi. --max-turns 3 --output-format json"]
    assert slept == []


def test_the_job_waits_longer_each_time_and_tries_again(job) -> None:
    done, asked, slept = job(BUSY, BUSY, claude(result="At last."), exits=(1, 1))
    assert (done.returncode, done.stdout) == (0, "At last.\n")
    assert len(asked) == 3
    assert slept == ["30", "60"]


def test_the_job_gives_up_in_the_end(job) -> None:
    done, asked, slept = job(BUSY, exits=(1, 1, 1))
    assert (done.returncode, done.stdout, len(asked), len(slept)) == (20, "", 3, 2)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (claude(stop_reason="refusal"), 13),
        (claude(stop_reason="max_tokens"), 11),
        (claude("error_max_turns"), 17),
        (claude(is_error=True, result="Invalid API key · Please run /login"), 22),
        (claude("error_during_execution", errors=["x"]), 21),
        ("claude: command crashed", 3),
        ("", 3),
    ],
    ids=["refusal", "max_tokens", "max_turns", "key", "failed", "no JSON", "nothing"],
)
def test_the_job_does_not_repeat_what_would_fail_again(job, result: Any, code: int) -> None:
    done, asked, _ = job(result, exits=(1,))
    assert (done.returncode, done.stdout, len(asked)) == (code, "", 1)


@pytest.mark.parametrize(
    ("result", "printed"),
    [
        ([INIT, line("end_turn"), claude(result="Fine.")], "Fine.\n"),  # --verbose
        ("\n".join(map(json.dumps, (INIT, line("end_turn"), claude(result="Fine.")))), "Fine.\n"),
        (claude(result="", structured_output={"ok": True}), '{"ok": true}\n'),
    ],
    ids=["verbose", "stream-json", "structured"],
)
def test_the_job_prints_the_answer_in_every_form(job, result: Any, printed: str) -> None:
    done, *_ = job(result)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, printed, False)


@pytest.mark.parametrize(
    "result",
    [claude(result=None), claude(result=""), {"type": "result"}],
    ids=["null", "empty", "nothing"],
)
def test_the_job_never_exits_with_0_without_an_answer(job, result: Any) -> None:
    done, *_ = job(result)
    assert (done.returncode, done.stdout) == (16, "")


def test_what_to_do_is_said_to_whoever_writes_a_script() -> None:
    """A command line is not told to declare rows or to pass a client."""
    found = [
        *(one(message(stop, CALL if stop == "tool_use" else TEXT)) for stop in (*STOPS, "brand_new")),
        *(one(error(kind)) for kind in ERRORS),
        *(one(claude(subtype)) for subtype in ("success", "error_max_structured_output_retries")),
    ]
    for outcome in found:
        assert not re.search(r"declare|matched\(|client=|\brow\b|after=", outcome.todo), outcome


def test_the_job_fails_where_claude_says_two_things(job) -> None:
    """A result that looks finished beside an exit code that says otherwise."""
    done, _, _ = job(claude(), exits=(7,))
    assert (done.returncode, done.stdout) == (7, "")


def test_the_job_says_how_it_is_used(job) -> None:
    done, asked, _ = job(claude(), arguments=())
    assert (done.returncode, asked) == (2, [])
    assert done.stderr.startswith("usage: ")


def test_the_workflow_is_one_and_branches_on_codes_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    text = (CI / "review.yml").read_text("utf-8")
    told = yaml.safe_load(text)
    steps = told["jobs"]["review"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    conditions = [str(step["if"]) for step in steps if "if" in step]
    codes = {int(code) for condition in conditions for code in re.findall(r"""["'](\d+)["']""", condition)}
    assert codes
    assert codes <= set(CODES)
    assert any("ask-claude.sh" in step.get("run", "") for step in steps)
    # What somebody else wrote never stands in a script as text (script injection).
    assert not any(re.search(r"\$\{\{\s*github\.event", step.get("run", "")) for step in steps)
