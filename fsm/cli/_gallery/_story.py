"""A run in few words: what was asked, and for each move what led to it."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from fsm._terminal import one_line
from fsm.diagram._page._steps import Fact, Step, Steps, steps_of

from ._examples import Example

_WIDE = 110  # characters of what was said


@frozen
class Told:
    """A move: its number, the step itself, and what happened in the state that it left, as (who, words) each."""

    step: Step
    facts: tuple[tuple[str, str], ...]


def steps(example: Example) -> Steps:
    """The scripted run, step by step."""
    return steps_of(example.records, example.workflow.graph)


def question_of(example: Example) -> str:
    """What the run was asked."""
    facts = steps(example).steps[0].facts
    return one_line(facts[0].text, _WIDE) if facts else ""


def moves_of(example: Example) -> list[str]:
    """The events of the run, in order."""
    return [step.event for step in steps(example).steps[1:]]


def story_of(example: Example) -> Iterator[Told]:
    """The moves of the run."""
    for step in steps(example).steps[1:]:
        facts = tuple((fact.who, words) for fact in step.facts if (words := _words(fact)))
        changes = tuple(("fsm", change) for change in step.changes)
        yield Told(step, (*facts, *changes))


def _words(fact: Fact) -> str:
    said = one_line(fact.text, _WIDE)
    return f"{fact.what}: {said}" if fact.what and said else fact.what or said
