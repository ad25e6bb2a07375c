"""The audit: every line of a recording is accounted for, and what is wrong with an exchange is found."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsm._ledger import Ledger, Standing
from fsm._legality import Legality
from fsm._wire import Wire
from fsm._wire._rawjson import raw_member
from fsm.audit import KINDS, Report, _lines, _turns, audit
from fsm.audit._exchange import Exchange, exchange_of

# ── what files are made of ───────────────────────────────────────────────────────────────────────────────────────────


def text(words: str = "Hello.") -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "look", "input": given}


def result(name: str, said: str = "found", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, "content": said, **more}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def message(*content: Any, stop: Any = "end_turn") -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5"}
    return {**head, "content": list(content), "stop_reason": stop, "stop_sequence": None, "usage": usage}


def refused(said: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": said}}


def request(*messages: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "max_tokens": 100, "messages": list(messages or [user(text("Hi."))])}


def exchange(response: Any = None, asked: Any = None, status: Any = 200, **more: Any) -> dict[str, Any]:
    base = {"source": "app", "method": "POST", "url": "https://api.anthropic.com/v1/messages", "headers": {}}
    return {**base, "request": request() if asked is None else asked, "status": status, "response": response, **more}


def events(*content: str, stop: str | None = "end_turn", ended: bool = True) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"type": "message_start", "message": {**message(), "stop_reason": None}}]
    for index, words in enumerate(content):
        made += [
            {"type": "content_block_start", "index": index, "content_block": text("")},
            {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": words}},
            {"type": "content_block_stop", "index": index},
        ]
    made.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 3}})
    made += [{"type": "message_stop"}] if ended else []
    return [{"event": event["type"], "data": event} for event in made]


def write(folder: Path, *lines: Any, name: str = "run.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def judged(folder: Path, *lines: Any) -> Report:
    report = audit([write(folder, *lines)])
    assert report.lines == len(lines)
    assert report.accounted
    return report


def outcomes(report: Report) -> dict[str, int]:
    return {row.outcome: row.lines for row in report.rows}


# ── the shared corpus ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def of_corpus(corpus: Path) -> Report:
    return audit([corpus / "exchanges", corpus / "transcripts"])


def recorded(files: Iterable[Path]) -> Iterable[tuple[str, dict[str, Any], Exchange]]:
    """Each line of the corpus that is an exchange: its text, its object, and what the reader makes of it."""
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            value = json.loads(line)
            read = exchange_of(line, value)
            if isinstance(read, Exchange):
                yield line, value, read


def streams_of(value: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The streams of a line, by a reading of its own: a new one begins with each message_start."""
    streams: list[list[dict[str, Any]]] = []
    for event in value["sse_events"]:
        if event["data"].get("type") == "message_start":
            streams.append([])
        streams[-1].append(event["data"])
    return streams


def recorded_content(stream: list[dict[str, Any]]) -> list[Any]:
    """The content of a stream, put together without the reader."""
    start = next(e for e in stream if e["type"] == "message_start")
    blocks: list[Any] = list(start["message"]["content"])
    parts: dict[int, str] = {}
    blocks += [dict(event["content_block"]) for event in stream if event["type"] == "content_block_start"]
    for event in (event for event in stream if event["type"] == "content_block_delta"):
        block, delta = blocks[event["index"]], event["delta"]
        kind = delta["type"].removesuffix("_delta")
        if kind in {"text", "thinking", "signature"}:
            block[kind] = block.get(kind, "") + delta[kind]
        if kind == "input_json":
            parts[event["index"]] = parts.get(event["index"], "") + delta["partial_json"]
        if kind == "compaction":
            block |= {key: part for key, part in delta.items() if key != "type"}
        if kind == "citations":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
    for index, part in parts.items():
        if part:
            blocks[index]["input"] = json.loads(part)
    return blocks


def test_every_line_of_the_corpus_is_accounted_for(corpus: Path, of_corpus: Report) -> None:
    files = [*(corpus / "exchanges").glob("*.jsonl"), *(corpus / "transcripts").glob("*.jsonl")]
    assert of_corpus.lines == sum(file.read_bytes().count(b"\n") for file in files)
    assert of_corpus.bytes == sum(file.stat().st_size for file in files)
    assert of_corpus.lines == sum(cell[3] for cell in of_corpus.table())
    assert of_corpus.accounted
    assert of_corpus.exit_code() == 0
    assert all(each.reason and each.example for each in of_corpus.unreadable)
    assert sum(each.lines for each in of_corpus.unreadable) == 3  # two broken streams, one reply of an API long gone


def test_no_exchange_that_the_api_accepted_is_called_illegal(exchanges: list[Path], of_corpus: Report) -> None:
    accepted = [read for _, _, read in recorded(exchanges) if read.is_accepted and read.request is not None]
    assert len(accepted) > 190
    assert "illegal_accepted" not in of_corpus.counts
    assert "illegal_move" not in of_corpus.counts


def test_recorded_stop_reasons_are_reproduced(exchanges: list[Path], of_corpus: Report) -> None:
    seen: Counter[str] = Counter()
    for _, value, read in recorded(exchanges):
        wires = [came for came in read.came if isinstance(came, Wire)]
        if not wires or len(wires) != len(read.came):
            continue
        if "sse_events" in value:
            ends = [
                [e["delta"]["stop_reason"] for e in stream if e["type"] == "message_delta"]
                for stream in streams_of(value)
            ]
            starts = [stream[0]["message"]["stop_reason"] for stream in streams_of(value)]
            stops = [end[-1] if end else start for end, start in zip(ends, starts, strict=True)]
        elif "response_lines" in value:
            stops = [each["message"]["stop_reason"] for each in value["response_lines"]]
        else:
            stops = [value["response"]["stop_reason"]]
        assert [wire.message["stop_reason"] for wire in wires] == stops
        seen.update(set(stops))
    assert {"end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal"} == seen.keys()
    table: Counter[str] = Counter()
    for row in of_corpus.rows:
        if row.kind == "reply":
            stops = row.outcome.removeprefix("malformed (").removesuffix(")").split(" + ")
            table.update(dict.fromkeys(stops, row.lines))
    assert table == seen


def test_no_recorded_content_is_altered_when_it_is_echoed(exchanges: list[Path], of_corpus: Report) -> None:
    assert "altered_echo" not in of_corpus.counts
    assert of_corpus.echoed > 250
    compared = Counter[str]()
    for line, value, read in recorded(exchanges):
        if any(not isinstance(came, Wire) for came in read.came):
            continue
        wires = [came for came in read.came if isinstance(came, Wire)]
        if "sse_events" in value:
            expected = [recorded_content(stream) for stream in streams_of(value)]
        elif "response_lines" in value:
            expected = [each["message"]["content"] for each in value["response_lines"]]
        else:
            expected = [value["response"]["content"]] if wires else []
            for wire in wires:
                assert wire.content_json == raw_member(line, "response", "content")
                assert wire.content_json in line
        for wire, content in zip(wires, expected, strict=True):
            sent = (
                Ledger(legality=Legality.start(continued=True))
                .append_reply(content, wire.content_json, Standing.SPOKEN)
                .encoded()[0]
            )
            echoed = json.loads(sent)["content"]
            assert echoed == content
            compared["stream" if "sse_events" in value else "body"] += 1
    assert compared["stream"] > 100
    assert compared["body"] > 100


def test_linked_exchanges_of_the_corpus_answer_their_calls(of_corpus: Report) -> None:
    assert of_corpus.linked > 30
    loops = {"lost_result", "repeated_id", "truncated_call", "no_progress"}
    assert not loops & of_corpus.counts.keys()


def test_transcripts_of_the_corpus_are_judged_by_their_blocks(of_corpus: Report) -> None:
    rows = [row for row in of_corpus.rows if row.kind == "transcript"]
    assert sum(row.lines for row in rows) == 7
    assert any("stop reason not recorded" in row.outcome for row in rows)
    parts = [each for each in of_corpus.unreadable if each.parts]
    assert [(each.source, each.lines) for each in parts] == [("claude-code-log", 0)]


# ── the account ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_is_by_source_and_stop_reason(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        exchange(message(text())),
        exchange(message(text())),
        exchange(message(call("toolu_1"), stop="tool_use"), source="other"),
        exchange(refused("Overloaded", "overloaded_error"), status=529),
        exchange(sse_events=events("Hel", "lo.")),
    )
    assert [(r.source, r.kind, r.outcome, r.state, r.lines, r.replies) for r in report.rows] == [
        ("app", "reply", "end_turn", "answered", 3, 3),
        ("app", "error", "overloaded_error", "asking", 1, 1),
        ("other", "reply", "tool_use", "calling", 1, 1),
    ]
    assert (report.replies, report.echoed, report.moves) == (4, 4, 5)
    assert not report.counts


def test_several_replies_in_one_line_are_one_cell(tmp_path: Path) -> None:
    batch = [
        {"type": "succeeded", "message": message(text())},
        {"type": "errored", "error": refused("no", "api_error")},
        {"type": "expired"},
    ]
    report = judged(
        tmp_path,
        exchange(sse_events=[*events("One."), *events("Two.", stop="max_tokens")]),
        exchange(response_lines=batch, url="https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"),
    )
    assert [(row.outcome, row.replies) for row in report.rows] == [
        ("end_turn + api_error + batch result: expired", 3),
        ("end_turn + max_tokens", 2),
    ]


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (message(text()), "end_turn"),
        (refused("wait", "rate_limit_error"), "rate_limit_error"),
        ({"custom_id": "a", "result": {"type": "succeeded", "message": message(text())}}, "end_turn"),
        ({"custom_id": "a", "result": {"type": "canceled"}}, "batch result: canceled"),
        (exchange(json.dumps(message(text()))), "end_turn"),
        (exchange("<html>gateway</html>", status=502), "api_error"),
        (exchange(None, status=529), "overloaded_error"),
        (exchange("event: ping\ndata: {}\n\n", headers={"Content-Type": ["text/event-stream"]}), "cut_stream"),
        (exchange(sse_events=[]), "cut_stream"),
        (exchange(sse_events=events("Hel", ended=False)), "cut_stream"),
        (exchange(sse_events=[{"event": "error", "data": refused("busy", "overloaded_error")}]), "overloaded_error"),
        (exchange(message(text()), json.dumps(request())), "end_turn"),
        (exchange(message(text()), url="https://gateway.example/llm"), "end_turn"),
        (exchange(message(text()), url=None, status=None, asked={**request()}), "end_turn"),
        (
            exchange({"data": []}, url="https://api.anthropic.com/v1/files/file_011"),
            "not a Messages request: POST /v1/files/…",
        ),
        (
            exchange({"input_tokens": 3}, {"model": "m", "messages": [user(text())]}, url="/v1/messages/count_tokens"),
            "count_tokens",
        ),
        ("", "blank line"),
        (" \t ", "blank line"),
    ],
)
def test_forms_that_a_line_may_have(tmp_path: Path, line: Any, outcome: str) -> None:
    report = judged(tmp_path, line)
    assert outcomes(report) == {outcome: 1}
    assert not report.unreadable
    assert not report.counts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{nonsense", "no JSON"),
        ('{"a": NaN}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1, 2]", "JSON, but no object"),
        ("42", "JSON, but no object"),
        ('{"silly": "this"}', "a JSON object of no known form"),
        ({"type": "user", "message": "error", "uuid": "1"}, "an event of a transcript without a message"),
        (exchange(message(text()), status="200"), "the status is no number"),
        (exchange(message(text()), status=302), "the status is neither 2xx nor an error"),
        (exchange(message(text()), asked="{"), "the request is text that is no JSON"),
        (exchange(message(text()), asked=[1]), "the request is no JSON object"),
        (exchange(None), "no response was recorded"),
        (exchange("<html>", headers={"content-type": "text/html"}), "no message came"),
        (exchange([1]), "no message came"),
        (exchange(sse_events=[1, 2]), "a recorded event is no JSON object"),
        (exchange(sse_events=[*events("a")[:2], *events("b")]), "the stream breaks the grammar"),
        (exchange({"completion": "x"}, status=None, url=None), "a reply of the old Text Completions API"),
        (exchange({"ok": True}, status=None, url=None), "the response is no Messages reply"),
        (exchange(response_lines=[{"type": "new"}], url=None), "a batch result of an unknown type"),
    ],
)
def test_each_kind_of_unreadable_line_has_its_reason(tmp_path: Path, line: Any, reason: str) -> None:
    report = judged(tmp_path, line, exchange(message(text())))
    assert outcomes(report) == {"end_turn": 1}
    (bad,) = report.unreadable
    assert bad.reason.startswith(reason)
    assert bad.lines == 1
    assert "run.jsonl:1" in bad.example
    assert report.exit_code(strict=True) == 0
    assert bad.reason in report.render()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    good = json.dumps(exchange(message(text()))).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\x00\x01\x02\n\xff\xfe\n" + good)
    report = audit([path])
    assert (report.lines, report.bytes) == (4, path.stat().st_size)
    assert report.accounted
    assert outcomes(report) == {"end_turn": 2}
    assert {each.reason for each in report.unreadable} == {
        "binary data, or not UTF-8 (it holds NUL bytes)",
        "not UTF-8",
    }


def test_a_line_that_never_ends_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lines, "MAX_LINE", 1 << 20)
    path = tmp_path / "long.jsonl"
    good = json.dumps(exchange(message(text())))
    path.write_text("x" * 3_500_000 + "\n" + good + "\n" + "y" * 2_000_000)
    report = audit([path])
    assert (report.lines, report.bytes) == (3, path.stat().st_size)
    assert outcomes(report) == {"end_turn": 1}
    assert [(each.reason, each.lines) for each in report.unreadable] == [("the line is longer than 1 MB", 2)]


def test_gzip_folders_and_files_named_twice(tmp_path: Path) -> None:
    line = json.dumps(exchange(message(text()))) + "\n"
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "plain.jsonl").write_text(line)
    (inner / "notes.txt").write_text("not looked at")
    with gzip.open(tmp_path / "a" / "packed.jsonl.gz", "wt") as file:
        file.write(line * 3)
    report = audit([tmp_path, tmp_path / "a", str(inner / "plain.jsonl")])
    assert report.lines == 4
    assert report.bytes == 4 * len(line)
    assert report.accounted
    assert outcomes(report) == {"end_turn": 4}


def test_paths_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    packed = gzip.compress((json.dumps(exchange(message(text()))) + "\n").encode() * 5000)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-300])
    names = ["missing.jsonl", "empty", "pipe.jsonl", "cut.jsonl.gz", "nul\0.jsonl"]
    report = audit([tmp_path / name for name in names])
    assert [Path(each.path).name for each in report.unread_paths] == [
        "missing.jsonl",
        "empty",
        "pipe.jsonl",
        "cut.jsonl.gz",
        "nul.jsonl",
    ]
    reasons = [each.reason for each in report.unread_paths]
    for reason, expected in zip(
        reasons, ["no such file", "no .jsonl file", "no regular file", "damaged", "null byte"], strict=True
    ):
        assert expected in reason
    assert report.lines == sum(cell[3] for cell in report.table())
    assert not report.accounted
    assert report.exit_code() == report.exit_code(strict=True) == 2
    assert "missing.jsonl: there is no such file or folder" in report.render()


def test_nothing_at_all(tmp_path: Path) -> None:
    for report in (audit([]), audit([write(tmp_path)])):
        assert (report.lines, report.bytes, report.rows) == (0, 0, ())
        assert report.accounted
        assert report.exit_code(strict=True) == 0
        assert "0 lines" in report.render()


def test_what_a_terminal_would_act_upon_is_not_shown(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\x07\u202e\ud800"
    report = judged(
        tmp_path,
        exchange(message(text()), source=hostile),
        exchange(message(text(), stop=hostile)),
        exchange(refused(hostile), status=400),
        {hostile: 1, "source": hostile},
        {"type": "assistant", "message": {"id": hostile, "content": [call(hostile)], "stop_reason": hostile}},
    )
    shown = report.render() + "".join(map(str, report.findings)) + str(report.table())
    assert shown.isascii() or shown.encode()
    assert not {"\x1b", "\x07", "\u202e", "\ud800"} & set(shown)


def test_the_rendered_table_adds_up(tmp_path: Path) -> None:
    report = judged(tmp_path, *[exchange(message(text()))] * 7, exchange(message(text(), call("t")), source="x"), "{")
    head, rule, *rows = report.render().split("\n\n")[0].splitlines()
    assert head.split()[-2:] == ["lines", "replies"]
    assert set(rule) <= {"-", " "}
    assert sum(int(row.split()[-2]) for row in rows) == report.lines == 9
    assert report.render().endswith("1 finding.")
    assert "8 read, 1 not readable; every line is accounted for" in report.summary()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ids never repeat, so whatever is kept for each of them would show."""
    peaks = []
    for name, count in (("small", 300), ("large", 3000)):
        path = tmp_path / f"{name}.jsonl"
        with path.open("w") as file:
            for number in range(count):
                asked = request(
                    user(text("Hi.")), assistant(call(f"toolu_{number - 1}")), user(result(f"toolu_{number - 1}"))
                )
                reply = message(text("x" * 5000), call(f"toolu_{number}"), stop="tool_use")
                file.write(json.dumps(exchange(reply, asked)) + "\n")
        audit([path]) if name == "small" else None  # what is loaded and cached once does not count
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_turns, "_WEIGHT", 200_000)
            patch.setattr(_turns, "_CHAIN", 20)
            tracemalloc.start()
            report = audit([path])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert report.linked == count - 1
    assert peaks[1] < 1.3 * peaks[0]


# ── findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def kinds(report: Report) -> dict[str, int]:
    assert set(report.counts) <= set(KINDS)
    assert sum(report.counts.values()) == len(report.findings)
    return dict(report.counts)


LOST = request(user(text("Hi.")), assistant(call("toolu_1")), user(text("Go on.")))


def test_an_illegal_request_that_was_accepted_is_a_finding_about_our_rules(tmp_path: Path) -> None:
    report = judged(tmp_path, exchange(message(text()), LOST))
    assert kinds(report) == {"illegal_accepted": 1}
    assert report.findings[0].rule == "R10"
    assert report.findings[0].ids == ("toolu_1",)
    assert (report.exit_code(), report.exit_code(strict=True)) == (0, 1)


def test_a_refusal_is_explained_by_a_rule_or_counted_apart(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        exchange(refused("messages.1: `tool_use` ids were found without"), LOST, status=400),
        exchange(refused("output_format.schema: Field required"), status=400),
        exchange(refused("Your credit balance is too low to access the Anthropic API."), status=400),
    )
    assert kinds(report) == {"illegal_request": 1, "unexplained_400": 1}
    assert [(found.kind, found.rule) for found in report.findings] == [
        ("illegal_request", "R10"),
        ("unexplained_400", ""),
    ]
    assert outcomes(report) == {"invalid_request_error": 3}


def test_counting_tokens_needs_no_max_tokens(tmp_path: Path) -> None:
    url = "https://api.anthropic.com/v1/messages/count_tokens?beta=true"
    asked = {"model": "m", "messages": [user(text())]}
    report = judged(
        tmp_path,
        exchange({"input_tokens": 3}, asked, url=url),
        exchange({"input_tokens": 3}, {"model": "m"}, url=url),
        exchange(message(text()), asked),
    )
    assert [(found.kind, found.where.rpartition(":")[2]) for found in report.findings] == [
        ("illegal_accepted", "2"),
        ("illegal_accepted", "3"),
    ]


def test_stop_reason_and_content_that_contradict_each_other(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        exchange(message(text(), call("toolu_1"))),
        exchange(message(text(), stop="tool_use")),
        exchange(message(text(), stop="nap_time")),
        exchange({}),
    )
    assert kinds(report) == {"contradiction": 3, "unknown_stop": 1}
    assert outcomes(report) == {
        "malformed": 1,
        "malformed (end_turn)": 1,
        "malformed (tool_use)": 1,
        "unknown_stop": 1,
    }
    assert report.echoed == 0  # nothing of these would be sent back


def conversation(*steps: tuple[list[Any], list[Any]], stop: str = "tool_use") -> list[dict[str, Any]]:
    """Exchanges of one conversation: each step is the content of a reply, and of the user message that answers it."""
    made, messages = [], [user(text("Hi."))]
    for content, answer in steps:
        made.append(exchange(message(*content, stop=stop), request(*messages)))
        messages = [*messages, assistant(*content), user(*answer)]
    return [*made, exchange(message(text("Done.")), request(*messages))]


def test_a_conversation_that_answers_its_calls(tmp_path: Path) -> None:
    report = judged(tmp_path, *conversation(*[([call(f"t{n}", page=n)], [result(f"t{n}")]) for n in range(8)]))
    assert kinds(report) == {}
    assert report.linked == 8
    assert report.moves == 17  # nine replies, eight times results


def test_a_call_that_the_next_request_leaves_out(tmp_path: Path) -> None:
    first, second = conversation(([call("t1"), call("t2")], [result("t1")]))
    second["request"]["messages"][1]["content"].pop()  # so that the request is legal
    report = judged(tmp_path, first, second)
    assert kinds(report) == {"lost_result": 1}
    assert report.findings[0].ids == ("t2",)
    assert ":1" in report.findings[0].why


def test_an_id_that_comes_again(tmp_path: Path) -> None:
    first, second = conversation(([call("t1")], [result("t1")]))
    second["response"] = message(call("t1"), stop="tool_use")
    assert kinds(judged(tmp_path, first, second)) == {"repeated_id": 1}
    assert kinds(judged(tmp_path, second)) == {"repeated_id": 1}  # the request alone shows it
    assert kinds(judged(tmp_path, first, first)) == {}  # a recording that was made twice


def test_the_same_call_again_and_again(tmp_path: Path) -> None:
    report = judged(tmp_path, *conversation(*[([call(f"t{n}", page=1)], [result(f"t{n}")]) for n in range(6)]))
    assert kinds(report) == {"no_progress": 1}


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded", "refusal"])
def test_a_cut_call_that_was_run(tmp_path: Path, stop: str) -> None:
    report = judged(tmp_path, *conversation(([call("t1")], [result("t1")]), stop=stop))
    assert kinds(report) == {"truncated_call": 1}
    denied = conversation(([call("t1")], [result("t1", "The call was cut.", is_error=True)]), stop=stop)
    assert kinds(judged(tmp_path, *denied)) == {}


def test_sources_are_not_linked_with_each_other(tmp_path: Path) -> None:
    first, second = conversation(([call("t1")], [result("t1")]))
    assert judged(tmp_path, first, {**second, "source": "elsewhere"}).linked == 0


def test_findings_are_all_counted_and_the_first_ones_kept(tmp_path: Path) -> None:
    report = judged(tmp_path, *[exchange(message(text(), call("toolu_1")))] * 1100)
    assert (len(report.findings), report.counts["contradiction"]) == (1000, 1100)
    assert "… and 1095 more" in report.render(findings=5)


# ── transcripts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def said(kind: str, *content: Any, name: str = "", stop: Any = None, **more: Any) -> dict[str, Any]:
    inner: dict[str, Any] = {"role": kind, "content": list(content)}
    if kind == "assistant":
        inner |= {"id": name, "stop_reason": stop}
    return {"type": kind, "sessionId": "s", "uuid": "u", "message": inner, **more}


def both(folder: Path, *told: Any) -> Report:
    """The report on a transcript, which is the same for its lines and for all of them in one line."""
    lines = judged(folder, *told)
    whole = judged(folder, {"source": "run", "format": "jsonl", "events": list(told)})
    assert kinds(lines) == kinds(whole)
    assert lines.replies == whole.replies
    return lines


def test_a_transcript_is_judged_by_its_blocks(tmp_path: Path) -> None:
    report = both(
        tmp_path,
        {"type": "summary", "summary": "Tests", "leafUuid": "x"},
        said("user", text("Look.")),
        said("assistant", text("I look."), name="m1"),
        said("assistant", call("t1"), name="m1"),
        said("user", result("t1")),
        said("assistant", text("Done."), name="m2", stop="end_turn"),
    )
    assert outcomes(report) == {
        "transcript: no message": 1,
        "transcript: user message": 2,
        "transcript: stop reason not recorded": 2,
        "transcript: end_turn": 1,
    }
    assert report.replies == 2
    assert kinds(report) == {}


def test_a_reply_spread_over_lines_with_others_between_them(tmp_path: Path) -> None:
    report = both(
        tmp_path,
        said("assistant", call("t1"), name="m1"),
        said("assistant", call("t9"), name="m9", isSidechain=True),
        said("assistant", text("Meanwhile."), name="m2"),
        said("user", result("t1")),
        said("assistant", call("t2"), name="m1"),
        said("assistant", call("t2"), name="m1"),
        said("user", result("t9"), isSidechain=True),
        said("user", result("t2")),
        said("assistant", text("Done."), name="m3"),
    )
    assert kinds(report) == {}
    assert report.replies == 4


def test_calls_of_a_transcript_without_result_and_with_an_id_again(tmp_path: Path) -> None:
    lost = [
        said("assistant", call("t1"), name="m1"),
        said("user", text("Hm?")),
        said("assistant", text("Oh."), name="m2"),
    ]
    report = both(tmp_path, *lost)
    assert kinds(report) == {"lost_result": 1}
    assert "stop reason was not recorded" in report.findings[0].why
    assert kinds(both(tmp_path, *lost[:2])) == {}  # the transcript ends there
    again = [
        said("assistant", call("t1"), name="m1"),
        said("user", result("t1")),
        said("assistant", call("t1"), name="m2"),
    ]
    assert kinds(both(tmp_path, *again)) == {"repeated_id": 1}


def test_a_stuck_loop_and_a_cut_call_in_a_transcript(tmp_path: Path) -> None:
    steps = [[said("assistant", call(f"t{n}", page=1), name=f"m{n}"), said("user", result(f"t{n}"))] for n in range(6)]
    flat = [event for step in steps for event in step]
    assert kinds(both(tmp_path, *flat)) == {"no_progress": 1}
    spoken = [*flat[:8], said("user", text("Go on.")), *flat[8:]]
    assert kinds(both(tmp_path, *spoken)) == {}  # a person spoke
    cut = [said("assistant", call("t1"), name="m1", stop="max_tokens"), said("user", result("t1"))]
    assert kinds(both(tmp_path, *cut)) == {"truncated_call": 1}
    wrong = said("assistant", text(), call("t1"), name="m1", stop="end_turn")
    assert kinds(both(tmp_path, wrong)) == {"contradiction": 1}


def test_parts_of_a_transcript_that_cannot_be_read(tmp_path: Path) -> None:
    told = [said("user", text()), "massive error", 42, [1], {"silly": 1}, said("assistant", text(), name="m")]
    report = judged(tmp_path, {"source": "notes", "events": told})
    (bad,) = report.unreadable
    assert (bad.lines, bad.parts) == (0, 4)
    assert "event 2" in bad.example
    assert "4 parts of readable lines" in report.render()
    assert len(report.table()) == 1


# ── the guide ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_of_the_guide_is_what_the_audit_says(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lost = "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1."
    cut = conversation(([call("toolu_02A")], [result("toolu_02A")]), stop="max_tokens")
    write(
        tmp_path,
        *conversation(([call("toolu_01A", page=1)], [result("toolu_01A")])),
        *({**each, "source": "nightly"} for each in cut),
        exchange(refused(lost), LOST, status=400, source="nightly"),
        exchange(refused("Overloaded", "overloaded_error"), status=529),
        '{"request": {"model": ',
        exchange(sse_events=events("Hel", ended=False), source="nightly"),
        name="traffic.jsonl",
    )
    guide = (root / "docs" / "audit.md").read_text("utf-8")
    assert f"$ fsm audit traffic.jsonl\n{audit(['traffic.jsonl']).render()}\n```" in guide


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_SAMPLES = [
    *conversation(([text(), call("t1")], [result("t1")])),
    exchange(sse_events=events("Hel", "lo.")),
    exchange(refused("no"), status=400),
    exchange(
        response_lines=[{"type": "succeeded", "message": message(text())}, {"type": "errored", "error": refused("")}]
    ),
    {"custom_id": "a", "result": {"type": "succeeded", "message": message(text())}},
    said("assistant", text(), call("t1"), name="m1"),
    said("user", result("t1")),
    {"source": "x", "events": [said("assistant", call("t1"), name="m1"), said("user", result("t1"))]},
]
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "id", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, child in inner for each in _paths(child, (*path, key)))]


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(copy[path[0]], path[1:], new)
    return copy


@st.composite
def _lines_of_anything(draw: st.DrawFn) -> Any:
    line = draw(st.sampled_from(_SAMPLES))
    for _ in range(draw(st.integers(1, 3))):
        line = _changed(line, draw(st.sampled_from(_paths(line))), draw(_json))
    return line


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(_lines_of_anything(), min_size=1, max_size=4))
def test_whatever_a_line_holds_it_is_accounted_for(tmp_path: Path, lines: list[Any]) -> None:
    report = judged(tmp_path, *_SAMPLES, *lines)
    assert report.lines == sum(cell[3] for cell in report.table())
    report.render().encode()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_whatever_a_file_holds_it_is_accounted_for(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes(data)
    report = audit([path])
    assert report.lines == sum(cell[3] for cell in report.table())
    if not data.startswith(b"\x1f\x8b"):
        assert report.bytes == len(data)
        assert report.lines == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


# ── a paused turn goes back as it is ─────────────────────────────────────────────────────────────────────────────────


SEARCH = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    text("I will look further "),
]
FURTHER = [{**SEARCH[0], "id": "srvtoolu_2"}, {**SEARCH[1], "tool_use_id": "srvtoolu_2"}, text("And on")]


def asked_with_thinking(*messages: Any) -> dict[str, Any]:
    return {
        **request(user(text("Hi.")), *messages),
        "max_tokens": 2000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
    }


def pauses(*ends: Any, stop: str = "pause_turn", **more: Any) -> list[dict[str, Any]]:
    """A turn that stops twice, then a request with these messages."""
    return [
        exchange(message(*SEARCH, stop=stop), asked_with_thinking(), **more),
        exchange(message(*FURTHER, stop=stop), asked_with_thinking(assistant(*SEARCH)), **more),
        exchange(message(text("Found.")), asked_with_thinking(*ends), **more),
    ]


CACHED = [*SEARCH, *FURTHER[:2], {**FURTHER[2], "citations": None, "cache_control": {"type": "ephemeral"}}]


@pytest.mark.parametrize(
    "ends",
    [[assistant(*SEARCH), assistant(*FURTHER)], [assistant(*SEARCH, *FURTHER)], [assistant(*CACHED)]],
    ids=["each", "as one", "with another mark"],
)
@pytest.mark.parametrize("status", [200, None])
def test_s7_2_a_paused_turn_that_is_sent_back_as_it_is_is_lawful(tmp_path: Path, ends: Any, status: Any) -> None:
    """R24, R25, R38 and R57 are of words that the model is to go on with, and a pause is none of them."""
    found = judged(tmp_path, *pauses(*ends, status=status))
    assert found.findings == ()
    assert found.replies == 3


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        (pauses(assistant(*SEARCH), assistant(*FURTHER), stop="end_turn", status=None), 2),
        (pauses(assistant(*SEARCH), assistant(*FURTHER[:2], text("Something else")), status=None), 1),
        (pauses(assistant(*SEARCH), assistant(*FURTHER), assistant(text("So")), status=None), 1),
        (pauses(assistant(*SEARCH), assistant(*FURTHER), status=None)[2:], 1),
        ([{**line, "source": str(n)} for n, line in enumerate(pauses(assistant(*FURTHER), status=None))], 2),
    ],
    ids=["not paused", "altered", "with words after it", "not recorded", "of another program"],
)
def test_r38_what_is_not_known_to_be_a_paused_turn_is_still_found(tmp_path: Path, lines: Any, count: int) -> None:
    assert [found.rule for found in judged(tmp_path, *lines).findings] == ["R38"] * count
