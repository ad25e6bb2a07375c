"""What is known of models: one table beside what the SDK and the price list know, and what is done with it (W14)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from _driving import both
from anthropic import _constants as constants
from anthropic.resources.messages.messages import DEPRECATED_MODELS, MODELS_TO_WARN_WITH_THINKING_ENABLED
from anthropic.types.model import Model
from genai_prices.data import providers

from fsm import Claude, Final, Tools, Workflow, WorkflowError, tool
from fsm._legality import profile_of, violations
from fsm._models import _KNOWN, model_facts
from fsm._notes import model_notes, retirement_dates
from fsm._prices import price_of, window_of
from fsm.cli import main
from fsm.testing import replies

OF_THE_SDK: tuple[str, ...] = get_args(get_args(Model)[0])
EXCHANGES = Path(__file__).resolve().parent.parent.parent / "shared" / "corpus" / "exchanges"


def listed() -> dict[str, Any]:
    (anthropic,) = [provider for provider in providers if provider.id == "anthropic"]
    return {model.id: model for model in anthropic.models}


# ── the table and its neighbours ────────────────────────────────────────────────────────────────────────────────────


def test_every_model_of_the_sdk_is_in_the_table() -> None:
    """A model that the next SDK adds fails here before it surprises a user."""
    assert [name for name in OF_THE_SDK if not model_facts(name).is_known] == []


def test_every_model_of_the_table_is_known_elsewhere() -> None:
    """No name is our own invention."""
    known = {model_facts(name).name for name in (*OF_THE_SDK, *DEPRECATED_MODELS, *listed())}
    assert set(_KNOWN) <= known


def test_the_newer_models_of_the_price_list_are_in_the_table() -> None:
    names = [name for name in listed() if name.split("-")[1] in {"opus", "sonnet", "haiku", "fable", "mythos"}]
    assert len(names) > 15
    assert [name for name in names if not model_facts(name).is_known] == []


def test_the_caps_of_the_sdk_are_within_ours() -> None:
    """The SDK knows what may be asked for without a stream; a model gives at least that (R46)."""
    for name, cap in constants.MODEL_NONSTREAMING_TOKENS.items():
        facts = model_facts(name)
        if "claude-4-opus" not in name:  # an old spelling, which the API took for a while
            assert facts.is_known, name
            assert facts.max_output is not None
            assert facts.max_output >= cap


def test_a_model_that_the_sdk_warns_of_with_manual_thinking_takes_it() -> None:
    """R34: deprecated there is not refused."""
    for name in MODELS_TO_WARN_WITH_THINKING_ENABLED:
        assert "enabled" in (model_facts(name).thinking or ())


def test_a_window_is_wider_than_a_reply() -> None:
    known = {name: window_of(name) for name in _KNOWN}
    assert sum(window is not None for window in known.values()) >= len(known) - 3
    for name, window in known.items():
        assert window is None or window > (model_facts(name).max_output or 0), name
    assert window_of("claude-opus-5") == 1_000_000
    assert window_of("claude-haiku-4-5") == 200_000
    assert window_of("claude-foo-9") is None


def test_the_dates_of_retirement_are_those_of_the_sdk() -> None:
    """They are read from its source, without importing it."""
    assert dict(retirement_dates()) == DEPRECATED_MODELS


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("claude-opus-5", "claude-opus-5"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-opus-4-0", "claude-opus-4"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),  # Vertex
        ("claude-opus-4-6@default", "claude-opus-4-6"),
        ("anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),  # Bedrock
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("global.anthropic.claude-opus-5", "claude-opus-5"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-5-5", "claude-opus-5-5"),
    ],
)
def test_a_model_is_known_by_every_spelling(spelt: str, name: str) -> None:
    assert model_facts(spelt).name == name
    assert model_facts(spelt).is_known
    assert window_of(spelt) == window_of(name)
    assert profile_of(spelt).max_output == profile_of(name).max_output


@pytest.mark.parametrize("name", ["", "claude", "claude-opus", "claude-opus-5-50", "gpt-5", "anthropic.", "claude-5-5"])
def test_a_model_that_is_none_of_those_has_no_facts(name: str) -> None:
    facts = model_facts(name)
    assert not facts.is_known
    assert {facts.max_output, facts.binds, facts.prefill, facts.system_role, facts.forced_choice} == {None}


@pytest.mark.skipif(not EXCHANGES.is_dir(), reason="the recorded exchanges are not here")
def test_no_recorded_request_that_was_answered_is_refused_by_a_fact() -> None:
    """R8, R25, R34, R36, R46: what a model took is not what it refuses."""
    judged, wrong = set(), []
    for body in _answered():
        model = body["model"]
        if model_facts(model).is_known:
            judged.add(model_facts(model).name)
            found = violations(body, profile_of(model))
            wrong += [(model, v.rule, v.message) for v in found if v.rule in {"R8", "R25", "R34", "R36", "R46"}]
    assert wrong == []
    assert len(judged) >= 5


def _answered() -> Iterator[Mapping[str, Any]]:
    for file in sorted(EXCHANGES.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                exchange = json.loads(line)
                body = exchange.get("request")
                is_message = str(exchange.get("url")).split("?")[0].endswith("/v1/messages")
                if is_message and exchange.get("status") == 200 and isinstance(body, dict) and "model" in body:
                    yield body


# ── used where it is declared ───────────────────────────────────────────────────────────────────────────────────────


@tool
def find(number: str) -> str:
    """Find it."""
    return number


def declared(**given: Any) -> type[Workflow]:
    state = Claude(**{"max_tokens": 2000, **given})

    class Asked(Workflow):
        asking = state
        calling = Tools()
        done = Final()
        asking.on(end_turn=done, tool_use=calling, stop_sequence=done)
        calling.on(tool_results=asking)

    return Asked


def shown(value: Any) -> str:
    return value if isinstance(value, str) else " ".join([value["model"], *sorted(set(value) - {"model"})])


FORCED = {"tools": [find], "tool_choice": {"type": "any"}}
MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("given", "rule", "remedy"),
    [
        ({"model": "claude-haiku-4-5", "max_tokens": 64_001}, "R46", "at most 64000"),
        ({"model": "us.anthropic.claude-opus-4-6-v1", "max_tokens": 128_001}, "R46", "at most 128000"),
        ({"model": "claude-opus-5-5", "thinking": {"type": "disabled"}}, "R34", "adaptive"),
        ({"model": "claude-sonnet-5-5", "thinking": {"type": "disabled"}}, "R34", "between_tools"),
        ({"model": "claude-opus-4-7", "thinking": {"type": "enabled", "budget_tokens": 1024}}, "R34", "adaptive"),
        ({"model": "claude-opus-4-5", "thinking": {"type": "adaptive"}}, "R34", "enabled"),
        ({"model": "claude-fable-5-1", **FORCED}, "R36", "auto"),
        ({"model": "claude-opus-5-5", **FORCED}, "R36", "auto"),
        ({"model": "claude-opus-4-5", **FORCED, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "R36", "auto"),
        ({"model": "claude-opus-4-5", "thinking": {"type": "enabled", "budget_tokens": 1023}}, "R30", "1024"),
        ({"model": "claude-opus-4-5", "thinking": {"type": "enabled", "budget_tokens": 2000}}, "R30", "max_tokens"),
        ({"model": "claude-sonnet-5", "extra_body": {"temperature": 0.5}}, "R4a", "temperature"),
        ({"model": "claude-sonnet-5", "stop_sequences": [" "]}, "R51", "blank"),
        (
            {"model": "claude-foo-9", "system": [{"type": "text", "text": str(n), **MARK} for n in range(5)]},
            "R48",
            "marks",
        ),
    ],
    ids=shown,
)
def test_a_state_that_the_api_would_refuse_is_refused_at_declaration(
    given: dict[str, Any], rule: str, remedy: str
) -> None:
    """W14: by the rules of `_legality`, with their words and their repair."""
    with pytest.raises(WorkflowError) as refused:
        _ = declared(**given).plan
    (finding,) = [f for f in refused.value.findings if f.is_error]
    assert (finding.id, finding.state, finding.title) == ("W14", "asking", "lawful")
    assert f"({rule})" in finding.problem
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "given",
    [
        {"model": "claude-haiku-4-5", "max_tokens": 64_000},
        {"model": "claude-haiku-5-5", "max_tokens": 128_000, "thinking": {"type": "disabled"}},
        {"model": "claude-foo-9", "max_tokens": 10_000_000, "thinking": {"type": "disabled"}, **FORCED},
        {"model": "claude-opus-5-5", "thinking": {"type": "adaptive"}},
        {"model": "claude-sonnet-5-5", "thinking": {"type": "between_tools"}},
        {"model": "claude-opus-4-6", "thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"model": "claude-opus-4-5", **FORCED},
        {"model": "claude-opus-5", **FORCED, "thinking": {"type": "adaptive"}},
        {"model": "claude-sonnet-5", "output": {"type": "object", "properties": {}, "additionalProperties": False}},
        {"model": "claude-sonnet-5", "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"model": "claude-sonnet-5", "system": lambda deps: "Be brief."},
        {"model": "claude-foo-9", "system": [{"type": "text", "text": str(n), **MARK} for n in range(4)]},
    ],
    ids=shown,
)
def test_a_state_that_the_api_would_take_is_none_of_them(given: dict[str, Any]) -> None:
    assert [str(f) for f in declared(**given).check() if f.id == "W14"] == []


# ── an unknown model ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_model_works_and_is_noted_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    unheard = declared(model="claude-unheard-of-7", max_tokens=500_000)
    with caplog.at_level(logging.WARNING, "fsm"):
        for _ in range(2):
            result, emulator = both(unheard, "Hi.", [replies.text("Hello.")], is_async=False)
            assert result.text == "Hello."
    assert emulator.requests[0].body["max_tokens"] == 500_000
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("claude-unheard-of-7 is not in this version's table: no output cap is assumed")
    assert price_of("claude-unheard-of-7", {"input_tokens": 1}) is None


def test_an_unknown_model_is_taken_for_one_that_binds() -> None:
    """R35, W11: two states of one history that differ are refused."""

    class Two(Workflow, check=False):
        first = Claude(model="claude-foo-9", max_tokens=9, system="A")
        second = Claude(model="claude-foo-9", max_tokens=9, system="B", prompt="Go on.")
        done = Final()
        first.on(end_turn=second)
        second.on(end_turn=done)

    (finding,) = [f for f in Two.check() if f.id == "W11"]
    assert finding.is_error
    assert "claude-foo-9 may bind its thinking" in finding.problem


def test_notes_are_given_once_a_model() -> None:
    assert model_notes(["claude-opus-5", "claude-sonnet-5-5"]) == ()
    assert len(model_notes(["claude-foo-9", "claude-foo-9", "claude-opus-5"])) == 1
    (note,) = model_notes(["claude-sonnet-4-5"])
    assert f"is retired on {DEPRECATED_MODELS['claude-sonnet-4-5']}" in note


def test_check_shows_the_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "noted.py").write_text(
        "from fsm import Claude, Final, Workflow\n"
        "class Noted(Workflow):\n"
        "    asking = Claude(model='claude-foo-9', max_tokens=9)\n"
        "    again = Claude(model='claude-sonnet-4-5', max_tokens=9, history='b', prompt='And?')\n"
        "    done = Final()\n"
        "    asking.on(end_turn=again)\n"
        "    again.on(end_turn=done)\n",
        "utf-8",
    )
    monkeypatch.chdir(tmp_path)
    assert main(["check", "noted.py"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "note claude-foo-9 is not in this version's table" in out
    assert "note model claude-sonnet-4-5 is retired on November 30th, 2026" in out
