"""The rate-limit headers of an answer (E26): token buckets that refill all the time and refuse nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_MINUTE = 60.0
_LIMITS = {"requests": 4_000, "input-tokens": 2_000_000, "output-tokens": 400_000}  # a minute
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)  # the clock only tells how much time has passed


class Limits:
    """The buckets of one emulator; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = self._at = clock()
        self._used = dict.fromkeys(_LIMITS, 0.0)

    def headers(self, *, input_tokens: int = 0, output_tokens: int = 0) -> dict[str, str]:
        """Take one request out of the buckets; what is left, and when each will be full again (RFC 3339)."""
        now = self._clock()
        passed, self._at = max(0.0, now - self._at), now
        spent = {"requests": 1, "input-tokens": input_tokens, "output-tokens": output_tokens}
        found: dict[str, str] = {}
        left, limit, last = 0, 0, 0.0
        for name, most in _LIMITS.items():
            refilled = passed * most / _MINUTE
            self._used[name] = min(float(most), max(0.0, self._used[name] - refilled) + spent[name])
            remaining, seconds = int(most - self._used[name]), self._used[name] * _MINUTE / most
            found |= self._of(name, most, remaining, seconds)
            if name != "requests":
                left, limit, last = left + remaining, limit + most, max(last, seconds)
        return found | self._of("tokens", limit, left, last)

    def _of(self, name: str, limit: int, remaining: int, seconds: float) -> dict[str, str]:
        reset = _EPOCH + timedelta(seconds=round(self._at - self._begun + seconds))
        start = f"anthropic-ratelimit-{name}"
        return {
            f"{start}-limit": str(limit),
            f"{start}-remaining": str(remaining),
            f"{start}-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
