"""Named changes on an arrow: what is said, raised, dropped or waited for when it is taken.

An effect is pure: it reads `Facts` and returns a value. The value is recorded with the move and applied by folding,
on a copy that is swapped in last, so an effect that raises changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

from attrs import field, frozen

from ._encoded import plain
from ._errors import DeclarationError
from ._facts import Facts
from ._guards import named, pure_function

Change = Literal["say", "max_tokens", "model", "wait", "discard", "compact", "park", "value"]
Changes = Literal["max_tokens", "model", "history"]

_MOST_DOUBLED = 16  # far beyond the longest wait, far below what a float holds
_BASE_WAIT, _MAX_WAIT = 1.0, 60.0  # E21: our own policy, the SDK's retries are off


@frozen
class Effect:
    """A named effect.

    `change` says what its value does when it is applied:

    `say` text or blocks to say in the target, `max_tokens` and `model` of the target's requests, `wait` seconds,
    `discard` the reply, `compact` the history, `park` the run, `value` an entry of `facts.values` under its name.
    """

    name: str
    change: Change
    decide: Callable[[Facts], Any] = field(repr=False)
    doc: str = field(default="", kw_only=True, repr=False, eq=False)

    @property
    def says(self) -> bool:
        """Whether it says something in the target's history."""
        return self.change == "say"

    @property
    def changes_request(self) -> bool:
        """Whether the next request differs because of it."""
        return self.change in {"say", "max_tokens", "model", "compact"}

    @property
    def grows(self) -> bool:
        """Whether it raises the `max_tokens` of the state that is left."""
        return self.decide is _grown

    @property
    def model(self) -> str | None:
        """The model that it switches to, where that is known before it is taken."""
        return self.decide.model if isinstance(self.decide, _Switched) else None

    @property
    def asks(self) -> bool:
        """Whether it says, changes or delays what a Claude state is asked, and so means nothing on other arrows."""
        return self.change in {"say", "max_tokens", "model", "wait", "compact", "park"}

    def __call__(self, facts: Facts) -> Any:
        """The value to record."""
        return self.decide(facts)

    def __str__(self) -> str:
        return self.name


@overload
def effect(fn: Callable[[Facts], Any]) -> Effect: ...
@overload
def effect(
    *, name: str | None = None, changes: Changes | None = None
) -> Callable[[Callable[[Facts], Any]], Effect]: ...
def effect(
    fn: Callable[[Facts], Any] | None = None, *, name: str | None = None, changes: Changes | None = None
) -> Effect | Callable[[Callable[[Facts], Any]], Effect]:
    """Make a pure function of `Facts` an effect.

    `changes` says what of the request its value is: `max_tokens` (an int), `model` (a name), `history` (text or content
    blocks to say). Without it the value is recorded as `facts.values[name]`.
    """
    if changes not in {None, "max_tokens", "model", "history"}:
        msg = f"@effect(changes=...) takes 'max_tokens', 'model' or 'history', not {changes!r}"
        raise DeclarationError(msg)
    change: Change = "value" if changes is None else "say" if changes == "history" else changes

    def make(decide: Callable[[Facts], Any]) -> Effect:
        pure_function(decide, "effect")
        known = named(str(name or getattr(decide, "__name__", "")), "effect")
        return Effect(known, change, decide, doc=(decide.__doc__ or "").strip())

    return make(fn) if fn is not None else make


def as_effect(thing: Any) -> Effect:
    """An effect, or an error that names the remedy.

    Raises:
        DeclarationError: it is none; a bare function does not say what it changes.
    """
    if isinstance(thing, Effect):
        return thing
    msg = f".then() takes effects, not {thing!r}: decorate a function of Facts with @effect, or use say(...)"
    raise DeclarationError(msg)


# --- built in ------------------------------------------------------------------------------------------------------


@frozen
class _Constant:
    value: Any

    def __call__(self, facts: Facts) -> Any:
        del facts
        return self.value


def say(words: str | Callable[[Facts], Any], *, name: str | None = None) -> Effect:
    """Say this to Claude when the arrow is taken: text, or a function of `Facts` that gives text or content blocks."""
    if isinstance(words, str):
        if not words.strip():
            msg = "say() needs words: the API refuses empty text blocks (R20)"
            raise DeclarationError(msg)
        shown = words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
        return Effect(name or f"say({shown!r})", "say", _Constant(words), doc=words)
    if not callable(words):
        msg = f"say() takes text or a function of Facts, not {words!r}"
        raise DeclarationError(msg)
    pure_function(words, "say() function")
    known = str(name or getattr(words, "__name__", "words"))
    return Effect(f"say({known.strip('<>')})", "say", words, doc=(words.__doc__ or "").strip())


_SHOWN = 24


def _grown(facts: Facts) -> int:
    doubled = facts.max_tokens * 2
    return doubled if facts.max_tokens_cap is None else min(doubled, facts.max_tokens_cap)


grow = Effect("grow", "max_tokens", _grown, doc="Double max_tokens, up to the model's cap.")


@frozen
class _Switched:
    model: str

    def __call__(self, facts: Facts) -> str:
        del facts
        return self.model


def switch_model(model: str) -> Effect:
    """Ask this model from here on, in the state that the arrow leads to: after a refusal, the same turn again (S8.3).

    Within one history only where neither model binds its thinking to what came before (R35); else lead the arrow to a
    state of the other model with `history="other", continues="main"`. Guard it with `untried(model)`.

    Args:
        model: model name, as the API takes it.

    Raises:
        DeclarationError: it is no name.
    """
    if not isinstance(model, str) or not model.strip():
        msg = f"switch_model() takes the name of a model, not {model!r}"
        raise DeclarationError(msg)
    return Effect(f"switch_model({model})", "model", _Switched(model), doc=f"Ask {model} from here on.")


def _delay(facts: Facts) -> float:
    failure = facts.failure
    if failure is not None and failure.retry_after is not None:
        return failure.retry_after
    draw = failure.draw if failure is not None else 0.5
    return float(draw * min(_MAX_WAIT, _BASE_WAIT * 2 ** min(facts.attempts, _MOST_DOUBLED)))


back_off = Effect(
    "back_off", "wait", _delay, doc="Wait as long as retry-after says, else with full jitter, at most 60 seconds."
)
discard = Effect("discard", "discard", _Constant(value=True), doc="Do not append the reply to the history.")
compact = Effect(
    "compact",
    "compact",
    _Constant(value=True),
    doc="Let the API summarise the history first (S10.2): at its next finished reply, or at once where it is too long.",
)
park = Effect("park", "park", _Constant("waiting_api"), doc="Stop here, resumable: the API stays away.")


def _sayable(words: Any) -> Any:
    try:
        return plain(words)
    except (TypeError, ValueError) as error:
        msg = f"what is said cannot be sent as JSON (R26): {error}"
        raise DeclarationError(msg) from error


def as_blocks(words: Any) -> list[Mapping[str, Any]]:
    """Text or content blocks as content blocks.

    Raises:
        DeclarationError: neither, or nothing to say.
    """
    if isinstance(words, str):
        if not words:
            msg = "there is nothing to say: the text is empty (R20)"
            raise DeclarationError(msg)
        _sayable(words)
        return [{"type": "text", "text": words}]
    if isinstance(words, (list, tuple)) and words and all(isinstance(b, Mapping) for b in words):
        blocks: list[Mapping[str, Any]] = _sayable(words)
        return blocks
    msg = f"text or a list of content blocks is said, not {words!r}"
    raise DeclarationError(msg)
