"""What a reply cost in US dollars, and how much a model can read, from the offline list of `genai-prices`.

Unknown is None, never 0.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from ._facts import count_of
from ._models import model_facts

log = logging.getLogger("fsm")

_MILLION = 1_000_000


def price_of(model: str, usage: Mapping[str, Any]) -> float | None:
    """The price of one reply by its `usage` object; None where the list does not know the model, or cannot be read."""
    try:
        return _price(model, usage)
    except Exception as error:  # noqa: BLE001 - say, no descriptor is left to import it with; no price ends a run
        log.warning("what a reply cost is unknown, for the price list cannot be read: %r", error)
        return None


def _price(model: str, usage: Mapping[str, Any]) -> float | None:
    plain = count_of(usage, "input_tokens")
    read = count_of(usage, "cache_read_input_tokens")
    written = count_of(usage, "cache_creation_input_tokens")
    hour = min(written, count_of(usage.get("cache_creation"), "ephemeral_1h_input_tokens"))
    output = count_of(usage, "output_tokens")
    rates = _rates(model)
    if rates is None:
        return None
    if isinstance(rates, dict):
        total = plain * rates["input_mtok"] + output * rates["output_mtok"] + read * rates["cache_read_mtok"]
        return (total + (written - hour) * rates["cache_write_mtok"] + hour * rates["cache_write_1h_mtok"]) / _MILLION
    return _exact(model, entire=plain + read + written, output=output, read=read, written=written - hour, hour=hour)


@lru_cache(maxsize=64)
def window_of(model: str) -> int | None:
    """The context window of a model in tokens, by any spelling of its id; None where the list does not know it."""
    from genai_prices import Usage, calc_price

    for name in dict.fromkeys((model_facts(model).name, model)):
        try:
            return calc_price(Usage(), name, provider_id="anthropic").model.context_window
        except LookupError:
            continue
    return None


@lru_cache(maxsize=64)
def _rates(model: str) -> dict[str, float] | bool | None:
    """Dollars a million tokens where the model has flat rates; True where it has tiers; None where it is unknown.

    Flat rates are multiplied here: asking the library for each reply would cost 100 µs, a third of a turn.
    """
    from genai_prices import Usage, calc_price

    try:
        found = calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_id="anthropic").model_price
    except LookupError:
        return None
    names = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
    rates = {name: getattr(found, name, None) for name in names}
    if any(not isinstance(rate, Decimal) for rate in rates.values()):
        return True
    return {name: float(rate) for name, rate in rates.items() if rate is not None}


def _exact(model: str, *, entire: int, output: int, read: int, written: int, hour: int) -> float:
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=entire,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written + hour,
        cache_write_1h_tokens=hour,
    )
    return float(calc_price(usage, model, provider_id="anthropic").total_price)
