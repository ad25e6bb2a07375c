"""A script of replies as JSON: a list of texts, and of builders of `fsm.testing.replies` with their arguments."""

from __future__ import annotations

import difflib
import inspect
import json
from pathlib import Path
from typing import Any

from fsm._terminal import one_line
from fsm.testing import Reply, replies

from ._errors import CommandError

_BUILDERS = tuple(
    name
    for name in replies.__all__
    if inspect.isfunction(build := getattr(replies, name))
    and inspect.signature(build).return_annotation == Reply.__name__  # others make blocks
    and name != "raw"
)
_NESTED = frozenset({"then", "reply"})  # arguments that are replies themselves


def read_script(path: Path) -> list[Reply]:
    """The replies of a file.

    Raises:
        CommandError: no such file, no JSON, or an entry that no builder takes; the message names the entry.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"the script {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"the script {path} is no JSON: {error}") from error
    if not isinstance(value, list):
        raise CommandError(f'the script {path} is no list: write ["Hello", {{"overloaded": {{}}}}]')
    return [_reply(entry, f"{path}, reply {number}") for number, entry in enumerate(value, 1)]


def _reply(entry: Any, where: str) -> Reply:
    if isinstance(entry, str):
        return _built("text", entry, where)
    if not isinstance(entry, dict) or len(entry) != 1:
        shown = one_line(json.dumps(entry, ensure_ascii=False), 80)
        raise CommandError(f'{where}: {shown} is neither a text nor of the form {{"tool_use": {{...}}}}')
    name, given = next(iter(entry.items()))
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_BUILDERS)}"
        raise CommandError(f"{where}: there is no reply {one_line(name, 40)!r}: {hint}")
    return _built(name, given, where)


def _built(name: str, given: Any, where: str) -> Reply:
    build = getattr(replies, name)
    keywords = dict(given) if isinstance(given, dict) else {}
    plain = [] if isinstance(given, dict) or given is None else [given]
    parameters = inspect.signature(build).parameters
    for key in _NESTED & set(keywords):
        keywords[key] = _reply(keywords[key], where)
    if name == "cut" and plain:
        raise CommandError(f'{where}: cut takes {{"reply": ..., "after": N}}')
    if "calls" in parameters:  # they are positional: pairs of name and input
        before = [keywords.pop(key) for key in ("toolset",) if key in keywords]
        plain = [*before, *(tuple(call) for call in keywords.pop("calls", plain[0] if plain else []))]
    try:
        reply = build(*plain, **keywords)
    except (TypeError, ValueError) as error:
        words = str(error).replace(f"{name}()", name).partition(". Did you mean")[0]  # what it takes is said next
        raise CommandError(f"{where}: {one_line(words, 200)}; {name} takes {', '.join(parameters)}") from error
    assert isinstance(reply, Reply)  # noqa: S101 - every builder makes one
    return reply
