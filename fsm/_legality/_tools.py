"""The tools of a request and the choice among them (R40–R45)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _findings as findings
from ._asked import named, tags
from ._findings import Violation, said
from ._schemas import is_circular, is_schema, objects_of

if TYPE_CHECKING:
    from ._asked import Asked

__all__ = ["check_tool_choice", "check_tools", "forced"]

_NAME = r"^[a-zA-Z0-9_-]{1,128}$"
_NAMED = re.compile(_NAME)
_CHOICES = ("auto", "any", "tool", "none")
_UNIONS = ("oneOf", "allOf", "anyOf")
_INVALID_SCHEMA = (
    "JSON schema is invalid. It must match JSON Schema draft 2020-12 (https://json-schema.org/draft/2020-12). "
    "Learn more about tool use at https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview."
)
_TOO_COMPLEX = "Schema is too complex for compilation."
# R43: what all strict tools of one request may have together.
_MOST_STRICT, _MOST_OPTIONAL, _MOST_UNIONS = 20, 24, 16
_REGEX = re.compile(r"\(\?[=!<]|\\[bB1-9]")


def forced(request: Mapping[str, Any]) -> bool:
    """Whether `tool_choice` makes the model call a tool (R36)."""
    choice = request.get("tool_choice")
    return isinstance(choice, Mapping) and choice.get("type") in ("any", "tool")


def check_tool_choice(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    """R44: its shape and tag, and that there is what it chooses."""
    if not asked.given(request, "tool_choice"):
        return
    choice = request["tool_choice"]
    if not isinstance(choice, Mapping):
        yield findings.wrong_type("tool_choice", "an object", "R44")
    elif "type" not in choice:
        yield findings.missing("tool_choice.type", "R44")
    elif choice["type"] not in _CHOICES:
        text = (
            f"Input tag '{choice['type']}' found using 'type' does not match any of the expected tags: {tags(_CHOICES)}"
        )
        yield said("R44", "tool_choice", text, "Choose one of the expected tags.")
    elif choice["type"] == "tool" and not isinstance(choice.get("name"), str):
        yield findings.missing("tool_choice.tool.name", "R44")
    elif asked.strict and "thread" not in request:
        if choice["type"] != "none" and not request.get("tools"):
            text = "may only be specified while providing `tools`"
            yield said("R44", "tool_choice", text, "Send `tools`, or leave `tool_choice` out.")
        elif choice["type"] == "tool" and choice["name"] not in named(request.get("tools")):
            text = f"tool '{choice['name']}' not found in provided tools"
            yield said("R44", "tool_choice", text, "Choose a tool that is in `tools`.")


def check_tools(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    """R40–R43, R45: names, schemas, what strict tools may be, deferred loading."""
    if not asked.given(request, "tools"):
        return
    tools = request["tools"]
    if not isinstance(tools, list | tuple):
        yield findings.wrong_type("tools", "a valid array")
        return
    for index, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            yield findings.wrong_type(f"tools.{index}", "an object")
        elif tool.get("type") in (None, "custom"):
            yield from _custom(tool, f"tools.{index}.custom", asked)
    names = named(tools)
    if len(set(names)) < len(names):
        yield Violation("R41", "tools", "tools: Tool names must be unique.", "Give each tool a name of its own.")
    if tools and all(isinstance(tool, Mapping) and tool.get("defer_loading") is True for tool in tools):
        text = "All tools have defer_loading: true"
        yield Violation("R45", "tools", text, "Load at least one tool at once, such as the tool search.")
    if asked.strict:
        yield from _complexity(tools)


def _custom(tool: Mapping[str, Any], at: str, asked: Asked) -> Iterator[Violation]:
    name = tool.get("name")
    if "name" not in tool:
        yield findings.missing(f"{at}.name", "R40")
    elif not isinstance(name, str):
        yield findings.wrong_type(f"{at}.name", "a valid string", "R40")
    elif _NAMED.fullmatch(name) is None:
        text = f"String should match pattern '{_NAME}'"
        yield said("R40", f"{at}.name", text, "Use at most 64 letters, digits, `_` and `-` in a tool's name.")
    if "input_schema" not in tool:
        yield findings.missing(f"{at}.input_schema", "R42")
    elif not isinstance(tool["input_schema"], Mapping):
        yield findings.wrong_type(f"{at}.input_schema", "a valid dictionary", "R42")
    else:
        yield from _schema(tool, tool["input_schema"], at)
    examples = tool.get("input_examples")
    for index, example in enumerate(examples if isinstance(examples, list | tuple) else ()):
        if not isinstance(example, Mapping):
            yield findings.wrong_type(f"{at}.input_examples.{index}", "a valid dictionary", "R45")
    if asked.strict and not isinstance(tool.get("description", ""), str):
        yield findings.wrong_type(f"{at}.description", "a valid string")


def _schema(tool: Mapping[str, Any], schema: Mapping[str, Any], at: str) -> Iterator[Violation]:
    where = f"{at}.input_schema"
    if any(key in schema for key in _UNIONS):
        text = "input_schema does not support oneOf, allOf, or anyOf at the top level"
        yield said("R42", where, text, "Make the schema an object, and the union one of its properties.")
    elif "type" not in schema:
        yield findings.missing(f"{where}.type", "R42")
    elif schema["type"] != "object":
        yield findings.wrong_type(f"{where}.type", "'object'", "R42")
    elif not is_schema(schema):
        yield said("R42", where, _INVALID_SCHEMA, "Correct the schema; another draft spells some keywords otherwise.")
    if tool.get("strict") is True:
        yield from _strict(schema, at)
    callers = tool.get("allowed_callers")
    is_coded = isinstance(callers, list | tuple) and any(str(caller).startswith("code_execution") for caller in callers)
    if is_coded and is_circular(schema):
        text = "Circular $ref detected"
        yield said("R45", where, text, "Unroll the recursion, or leave `allowed_callers` out.")


def _strict(schema: Mapping[str, Any], at: str) -> Iterator[Violation]:
    """R43: what a schema must be to be compiled."""
    for part in objects_of(schema):
        if part.get("type") == "object" and part.get("additionalProperties") is not False:
            text = "For 'object' type, 'additionalProperties' must be explicitly set to false"
            yield said("R43", at, text, "Add `additionalProperties: false` to each object of the schema.")
            return
        pattern = part.get("pattern")
        if isinstance(pattern, str) and _REGEX.search(pattern):
            text = f"Unsupported regex feature in pattern field: {pattern}"
            yield said("R43", at, text, "Write the pattern without lookarounds, backreferences and boundaries.")
            return


def _complexity(tools: list[Any] | tuple[Any, ...]) -> Iterator[Violation]:
    """R43: the documented limits of what is compiled for one request."""
    schemas = [
        tool["input_schema"]
        for tool in tools
        if isinstance(tool, Mapping) and tool.get("strict") is True and isinstance(tool.get("input_schema"), Mapping)
    ]
    optional = unions = 0
    for part in (part for schema in schemas for part in objects_of(schema)):
        properties, required = part.get("properties"), part.get("required")
        if isinstance(properties, Mapping):
            wanted = {name for name in required if isinstance(name, str)} if isinstance(required, list | tuple) else ()
            optional += sum(name not in wanted for name in properties)
        unions += "anyOf" in part or isinstance(part.get("type"), list | tuple)
    if len(schemas) > _MOST_STRICT:
        text = f"at most {_MOST_STRICT} tools can be strict. Found {len(schemas)}"
        yield said("R43", "tools", text, "Make fewer tools strict.")
    if optional > _MOST_OPTIONAL or unions > _MOST_UNIONS:
        yield Violation("R43", "tools", _TOO_COMPLEX, "Use fewer optional parameters and unions in strict tools.")
