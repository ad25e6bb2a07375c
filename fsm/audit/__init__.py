"""`audit`: recorded traffic of the Messages API through the same rules that our own loops obey.

lines       paths → files → lines, whatever they hold
exchange    one recorded line → endpoint, request, and what came back, through the wire reader
turns       which recorded reply a request goes on from, and what became of its calls
judge       one exchange through legality rules, one-state machine, ledger and detector
transcript  transcripts of Claude Code, by their blocks
tally       the account while it is being made
report      the account: a value
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fsm._wire import clean
from fsm._wire._rawjson import parse

from ._exchange import Unread, exchange_of, is_exchange
from ._judge import Judge
from ._lines import BadLine, BadPath, Line, files_of, lines_of
from ._report import FINDINGS_KEPT, HEADINGS, KINDS, Found, Report, Row, Unreadable, UnreadPath
from ._tally import Tally
from ._transcript import UNRECORDED, Transcript, is_event

__all__ = [
    "FINDINGS_KEPT",
    "HEADINGS",
    "KINDS",
    "Found",
    "Report",
    "Row",
    "UnreadPath",
    "Unreadable",
    "audit",
]

_NO_FORM = "a JSON object of no known form: neither an exchange nor an event of a transcript"


def audit(paths: Iterable[Path | str]) -> Report:
    """Push recorded exchanges and transcripts through the wire reader, the legality rules and a one-state machine.

    Params:
        paths: files of JSON lines, plain or gzip, and folders of them. See `docs/audit.md` for what a line may hold.

    Returns:
        The account of every line, and what was found. Nothing that a file holds raises: what cannot be read is in the
        report with its reason. Memory does not depend on the size of the files.
    """
    tally = Tally()
    judge = Judge(tally)
    for file in files_of(paths):
        if isinstance(file, BadPath):
            tally.bad_path(file.path, file.reason)
            continue
        transcript = Transcript(tally)
        source = clean(_stem(file), 60) or "?"
        for line in lines_of(file):
            if isinstance(line, BadPath):
                tally.bad_path(line.path, line.reason)
                continue
            tally.lines += 1
            tally.size += line.size
            if isinstance(line, BadLine):
                tally.bad(source, line.reason, line.where, line.detail)
            else:
                _take(line, source, judge, transcript)
        transcript.end()
    return tally.report()


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".ndjson")


def _take(line: Line, source: str, judge: Judge, transcript: Transcript) -> None:
    """Put one line into its cell."""
    tally, text = judge.tally, line.text
    if not text or text.isspace():
        tally.row(source, "blank", "blank line")
        return
    try:
        value = parse(text)
    except ValueError as error:
        tally.bad(source, "no JSON", line.where, str(error))
        return
    if not isinstance(value, dict):
        tally.bad(source, "JSON, but no object", line.where, type(value).__name__)
        return
    if isinstance(named := value.get("source"), str):
        source = clean(named, 60) or source
    if isinstance(events := value.get("events"), list) and not is_exchange(value):
        _wrapped(events, source, line, tally)
    elif is_event(value):
        _native(value, source, line, transcript)
    elif is_exchange(value):
        exchange = exchange_of(text, value)
        if isinstance(exchange, Unread):
            tally.bad(source, exchange.reason, line.where, exchange.detail)
        else:
            judge.exchange(exchange, source, line.where, line.size)
    else:
        tally.bad(source, _NO_FORM, line.where, clean(f"keys {', '.join(list(value)[:5])}", 200))


def _native(value: Mapping[str, Any], source: str, line: Line, transcript: Transcript) -> None:
    """One event of a transcript is one line."""
    heard = transcript.event(value, line.where)
    if heard is None:
        transcript.tally.bad(source, "an event of a transcript without a message", line.where)
    else:
        transcript.tally.row(source, "transcript", f"transcript: {heard.outcome}", replies=int(heard.begins))


def _wrapped(events: list[Any], source: str, line: Line, tally: Tally) -> None:
    """A whole transcript is one line."""
    transcript = Transcript(tally)
    outcomes: dict[str, None] = {}
    replies = 0
    where = line.where
    for number, event in enumerate(events, 1):
        heard = transcript.event(event, f"{where} event {number}")
        if heard is None:
            tally.bad_part(source, "an event of a transcript without a message", f"{line.where} event {number}")
        elif heard.outcome not in {"user message", "no message"}:
            outcomes[heard.outcome] = None
            replies += heard.begins
    transcript.end()
    ended = [each for each in outcomes if each != UNRECORDED] + [each for each in outcomes if each == UNRECORDED]
    tally.row(source, "transcript", f"transcript: {' + '.join(ended) or 'no reply'}", replies=replies)
