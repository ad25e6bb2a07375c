"""`assert_legal`: what the emulator asks of a request, as an assertion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fsm import _legality
from fsm.testing._requests import RecordedRequest


def assert_legal(
    request: Mapping[str, Any] | Sequence[Mapping[str, Any]] | RecordedRequest, *, model: str | None = None
) -> None:
    """Assert that the API would accept a request, by the rules that the emulator and our own sends go by (V10).

    Params:
        request: a request body, or only its messages, or what an emulator has recorded (a thread is judged whole).
        model: judges as for this model; by default the one that the body names, else for no model in particular.

    Raises:
        AssertionError: names each broken rule, where, the API's words, and what to change.
        TypeError: it is none of these.
    """
    body: Mapping[str, Any]
    required: tuple[str, ...] = _legality.REQUIRED
    paused = isinstance(request, RecordedRequest) and request.paused
    if isinstance(request, RecordedRequest):
        given = request.conversation or request.body
        if given is None:
            raise AssertionError(f"R4: the body is no JSON object: {request.error}")
        body = given
        if request.path.partition("?")[0].endswith("/count_tokens"):
            required = ("model", "messages")
    elif isinstance(request, Mapping):
        body = request
    elif isinstance(request, Sequence) and not isinstance(request, str | bytes):
        _raise(_of_messages(request, model))
        return
    else:
        raise TypeError(f"assert_legal takes a body, a list of messages or a recorded request, not {request!r}")
    named = model or body.get("model")
    profile = _legality.profile_of(named, strict=True) if isinstance(named, str) else _legality.STRICT
    _raise(_legality.violations(body, profile, required=required, paused=paused))


def _of_messages(messages: Sequence[Mapping[str, Any]], model: str | None) -> list[_legality.Violation]:
    """What is wrong with messages whatever stands around them."""
    profile = _legality.STRICT if model is None else _legality.profile_of(model, strict=True)
    state = _legality.Legality.start(profile)
    found: list[_legality.Violation] = []
    for message in messages:
        state, new = state.step(message)
        found += new
    return [*found, *state.finish()]


def _raise(found: Sequence[_legality.Violation]) -> None:
    if found:
        lines = [f"{each.rule} at {each.path or 'the body'}: {each.message} — {each.repair}" for each in found]
        raise AssertionError("the API would refuse this request:\n" + "\n".join(f"  {line}" for line in lines))
