"""Prices: what the price list's own calculation says, and None where it says nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from _driving import MODEL, Plain, both
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from fsm import Claude, Final, Limits, Tools, Workflow, tool
from fsm._prices import _rates, price_of
from fsm.testing import replies

FLAT = (
    "claude-sonnet-5",
    "claude-opus-5",
    "claude-haiku-4-5",
    "claude-3-5-haiku-20241022",
    "claude-opus-4-1",
    "claude-sonnet-4-20250514",
)
TIERED = ("claude-sonnet-4-5",)
UNKNOWN = ("", "claude", "claude-unheard-of", "gpt-5", "claude-sonnet-99-unheard", "🙂")


def by_the_list(model: str, usage: dict[str, Any]) -> float:
    """The same by the library's own calculation, from the same counters."""
    plain, read = usage.get("input_tokens") or 0, usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
    counted = Usage(
        input_tokens=plain + read + written,
        output_tokens=usage.get("output_tokens") or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
    )
    return float(calc_price(counted, model, provider_id="anthropic").total_price)


def usage_of(plain: int = 0, output: int = 0, read: int = 0, *, five: int = 0, hour: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": plain,
        "output_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
    }


COUNTS = st.integers(min_value=0, max_value=400_000)


@pytest.mark.parametrize("model", [*FLAT, *TIERED])
@given(plain=COUNTS, output=COUNTS, read=COUNTS, five=COUNTS, hour=COUNTS)
def test_the_price_is_the_list_s_own(model: str, *, plain: int, output: int, read: int, five: int, hour: int) -> None:
    usage = usage_of(plain, output, read, five=five, hour=hour)
    assert price_of(model, usage) == pytest.approx(by_the_list(model, usage), rel=1e-9, abs=1e-12)


def test_there_are_flat_and_tiered_models_among_them() -> None:
    """Else the test above would look at one of the two calculations only."""
    assert all(isinstance(_rates(model), dict) for model in FLAT)
    assert all(_rates(model) is True for model in TIERED)


@pytest.mark.parametrize("model", TIERED)
def test_a_long_context_costs_more_a_token(model: str) -> None:
    short, long = price_of(model, {"input_tokens": 100_000}), price_of(model, {"input_tokens": 400_000})
    assert short is not None
    assert long is not None
    assert long > 4.1 * short


def test_what_the_cache_gives_is_cheaper_and_what_it_keeps_is_dearer() -> None:
    n = 10_000
    plain = price_of(MODEL, usage_of(n))
    read = price_of(MODEL, usage_of(read=n))
    five = price_of(MODEL, usage_of(five=n))
    hour = price_of(MODEL, usage_of(hour=n))
    assert read < plain < five < hour  # type: ignore[operator] # none is None


@pytest.mark.parametrize("model", UNKNOWN)
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert price_of(model, {"input_tokens": 10, "output_tokens": 10}) is None


@pytest.mark.parametrize("model", [MODEL, *TIERED])
def test_no_tokens_cost_nothing(model: str) -> None:
    assert price_of(model, {}) == 0.0
    assert price_of(model, {"input_tokens": None, "cache_creation": None}) == 0.0


@pytest.mark.parametrize(
    "usage", [{"input_tokens": "9"}, {"input_tokens": -3}, {"cache_creation": 7}, {"output_tokens": True}]
)
@pytest.mark.parametrize("model", [MODEL, *TIERED, "unknown"])
def test_counters_that_are_none_raise_nothing(model: str, usage: dict[str, Any]) -> None:
    assert price_of(model, usage) in {0.0, None}


@tool
def find(number: str) -> str:
    """Find it."""
    return number


class Loop(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def test_a_run_costs_the_sum_of_its_replies() -> None:
    usage = {"input_tokens": 1000, "output_tokens": 200, "cache_read_input_tokens": 5000}
    script = [replies.tool_use("find", {"number": "1"}, usage=usage), replies.text("done", usage=usage)]
    result, _ = both(Loop, "Hi.", script, is_async=False)
    assert result.verdict.price == pytest.approx(2 * (price_of(MODEL, usage) or 0))
    assert result.verdict.usage.total == 2 * 6200


def test_one_reply_of_unknown_price_makes_the_sum_unknown() -> None:
    strange = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-unheard-of", "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "done"}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    result, _ = both(Loop, "Hi.", [replies.tool_use("find", {"number": "1"}), replies.body(strange)], is_async=False)
    assert result.text == "done"
    assert result.verdict.price is None


def test_a_limit_of_money_holds() -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0}
    script = [replies.tool_use("find", {"number": str(n)}, usage=usage) for n in range(5)]
    each = price_of(MODEL, usage) or 0
    result, emulator = both(Loop, "Hi.", script, is_async=False, limits=Limits(money=each * 2.5))
    assert (result.state, len(emulator.requests)) == ("over_limit", 3)


def test_what_was_not_answered_costs_nothing() -> None:
    result, _ = both(Plain, "Hi.", [replies.error(400, "invalid_request_error", "no")], is_async=False)
    assert result.verdict.price == 0.0


WITHOUT_DESCRIPTORS = """
import json, os, resource, sys
import anthropic, httpx2
from fsm import Claude, Final, Workflow, run

class Plain(Workflow):
    asking = Claude(model="claude-sonnet-5", max_tokens=100)
    answered = Final()
    asking.on(end_turn=answered)

refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
reply = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "done"}],
    "usage": {"input_tokens": 10, "output_tokens": 10},
}
answers = [(400, refusal), (200, reply), (200, reply)]
transport = httpx2.MockTransport(lambda request: httpx2.Response(answers[0][0], json=answers.pop(0)[1]))
client = anthropic.Anthropic(api_key="k", max_retries=0, http_client=httpx2.Client(transport=transport))
run(Plain, "Hi.", client=client)  # everything but the price list is imported now
told = {"imported": "genai_prices" in sys.modules}
free = os.open(os.devnull, os.O_RDONLY)
os.close(free)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
for name in ("without", "with"):
    result = run(Plain, "Hi.", client=client)
    told[name] = [result.state, result.verdict.price]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(json.dumps(told))
"""


@pytest.mark.skipif(os.name != "posix", reason="limits are those of POSIX")
def test_a_price_list_that_cannot_be_loaded_makes_the_price_unknown_and_ends_no_run() -> None:
    """It is imported when the first reply comes, and then there may be no descriptor left to read it with."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert not told["imported"]
    assert told["without"] == ["answered", None]
    assert told["with"] == ["answered", price_of(MODEL, {"input_tokens": 10, "output_tokens": 10})]
