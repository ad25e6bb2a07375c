"""Transition tests out of the declaration: a way to every row of a workflow, found and then played for real.

    @pytest.mark.parametrize("path", paths(Support))
    def test_support(path):
        assert_path(path.run(), path)

A path holds everything that the outside world does: the replies of the API, the answers of people, the outcomes of
`Code` functions. Playing it uses the real driver and the real client against the emulator. Tools and `Code` functions
are stood in for, so that nothing happens in the world and no deps are needed; their own tests are yours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fsm._alphabet import ALPHABET, Group
from fsm._errors import UsageError
from fsm._graph import Edge, Graph
from fsm._workflow import Workflow, WorkflowType
from fsm.testing._path import Path, Paths, Uncovered, assert_path
from fsm.testing._reply import Reply
from fsm.testing._search import Search, Wanted, is_over, nothing_wrong, or_parks
from fsm.testing._steps import Step, Steps
from fsm.testing._world import Key, Node, World, script_of

__all__ = ["Path", "Paths", "Uncovered", "assert_path", "happy_path", "paths"]

INPUT = "Hello, can you help me?"
"""What a path says first."""

Cover = Literal["transitions", "declared", "states"]

_LONGEST = 16  # steps of a happy path, its way to the end apart
_STORIES = frozenset({Group.CUT})  # a happy path goes through these where rows are declared for them
_AHEAD = 5  # steps it looks ahead for a row that it has not taken yet


def paths(
    workflow: type[Workflow],
    cover: Cover = "transitions",
    *,
    input: str = INPUT,
    replies: Mapping[str, Sequence[Reply]] | None = None,
    said: Sequence[str] = (),
    values: Mapping[str, Sequence[Any]] | None = None,
) -> Paths:
    """For every row a shortest path from the start through it, on to where the run ends: a final state, or parked.

    The rows are found by trying: replies of every kind, tool inputs and structured outputs made from their schemas,
    what the built-in guards ask for, every decision of a person, every outcome. A guard of your own that none of these
    satisfies needs `replies`, `said` or `values`.

    Params:
        workflow: the class.
        cover: "transitions" for every row, "declared" without those of the standard table, "states" for every state.
        input: the text that a run begins with.
        replies: more replies to try, by `Claude` state, from `fsm.testing.replies`.
        said: more texts that a person may say.
        values: by `Code` state, the values that its outcomes carry.

    Returns:
        The paths in the order of the rows, a list. Its `uncovered` holds each row that none was found to, with the
        reason: look at it, a row that cannot happen is a row too many.

    Raises:
        UsageError: `cover` is none of these; a state in `replies` or `values` that does not exist.
    """
    search = _search(workflow, input, replies or {}, said, values or {})
    search.run()
    graph = workflow.graph
    wanted = [edge for edge in graph.edges if cover == "transitions" or not edge.implied]
    if cover == "states":
        wanted = _into_each_state(graph, search)
    elif cover not in {"transitions", "declared"}:
        msg = f"paths(cover=...) takes 'transitions', 'declared' or 'states', not {cover!r}"
        raise UsageError(msg)
    made = Paths(_path(search, edge, search.found[edge.key]) for edge in wanted if edge.key in search.found)
    if cover == "states":
        made = _without_superfluous(made)
    made.uncovered = tuple(Uncovered(e, _why_not(search, e)) for e in wanted if e.key not in search.found)
    return made


def happy_path(
    workflow: type[Workflow],
    *,
    input: str = INPUT,
    replies: Mapping[str, Sequence[Reply]] | None = None,
    said: Sequence[str] = (),
    values: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """A path to success on which nothing goes wrong and which takes as many of the declared rows as one run can.

    Params: as in `paths`.

    Raises:
        UsageError: no run was found that ends or parks without something going wrong.
    """
    search = _search(workflow, input, replies or {}, said, values or {})
    node = search.world.begin(workflow.limits.given())
    if search.first_of(node, is_over, or_parks) is None:
        problems = "".join(f"; in '{state}': {text}" for state, text in search.problems.items())
        msg = f"'{workflow.name}': no run was found that comes to an end{problems}"
        raise UsageError(msg)
    # A chat may have no final state: then a person who stays away is its end.
    good_end = search.is_success if search.first_of(node, search.is_success, nothing_wrong) is not None else is_over
    own = {edge.key for edge in workflow.graph.edges if not edge.implied}
    done: set[Key] = set()
    while node.depth < _LONGEST and (longer := _with_something_new(search, node, own - done, good_end)) is not None:
        done.update(key for found in longer.line() for key in found.taken)
        node = longer
    return _path(search, None, node)


def _with_something_new(search: Search, node: Node, new: set[Key], good_end: Wanted) -> Node | None:
    """The nearest node behind a row that was not taken yet and from which the run can still come to a good end."""

    def wanted(after: Node) -> bool:
        if after.is_over or new.isdisjoint(after.taken):
            return False
        return search.first_of(after, good_end, or_parks) is not None

    def as_declared(before: Node, step: Step) -> bool:
        """Nothing goes wrong, or it does and the workflow says itself how to go on."""
        rows = search.graph.row(before.run.state, step.event)
        is_story = step.event in ALPHABET and ALPHABET[step.event].group in _STORIES
        return step.is_proper or (is_story and any(not row.implied for row in rows))

    return search.first_of(node, wanted, as_declared, within=_AHEAD)


def _search(
    workflow: type[Workflow],
    text: str,
    replies: Mapping[str, Sequence[Reply]],
    said: Sequence[str],
    values: Mapping[str, Sequence[Any]],
) -> Search:
    if not isinstance(workflow, WorkflowType):
        msg = f"paths are found for a Workflow class, not for {workflow!r}"
        raise UsageError(msg)
    for kind, names in (("Claude", replies), ("Code", values)):
        for name in names:
            if name not in workflow.graph.by_name or workflow.graph.by_name[name].kind != kind:
                known = ", ".join(node.name for node in workflow.graph.nodes if node.kind == kind)
                msg = f"'{workflow.name}' has no {kind} state {name!r}; it has {known or 'none'}"
                raise UsageError(msg)
    steps = Steps(workflow.graph, workflow.toolbox, replies=replies, said=said, values=values)
    return Search(World(workflow, text), steps)


def _into_each_state(graph: Graph, search: Search) -> list[Edge]:
    """For each state the row that enters it by the shortest way; where no run enters it, its first row."""

    def length(edge: Edge) -> float:
        return search.found[edge.key].depth if edge.key in search.found else float("inf")

    into = [[edge for edge in graph.edges if edge.dest == node.name] for node in graph.nodes if not node.initial]
    return [min(rows, key=length) for rows in into if rows]


def _without_superfluous(made: Paths) -> Paths:
    """The longest paths, and of the others those that enter a state which is in none of them."""
    seen: set[str] = set()
    kept = []
    for path in sorted(made, key=lambda path: -len(set(path.states))):
        if not seen.issuperset(path.states):
            seen.update(path.states)
            kept.append(path)
    return Paths(path for path in made if path in kept)


def _path(search: Search, edge: Edge | None, node: Node) -> Path:
    end = search.to_an_end(node)
    by_key = {e.key: e for e in search.graph.edges}
    rows = tuple(by_key[key] for found in end.line() for key in found.taken)
    return Path(
        "happy" if edge is None else _id(search.graph, edge),
        search.graph.name,
        edge,
        rows,
        (search.graph.initial, *(row.dest for row in rows)),
        script_of(search.world, end),
        parked=end.run.parked is not None,
        declared=search.world.workflow,  # type: ignore[arg-type]  # a WorkflowType is a type[Workflow]
    )


def _id(graph: Graph, edge: Edge) -> str:
    """`asking-tool_use-calling`, with the number of the alternative where there are several."""
    number = f"-{edge.index + 1}" if len(graph.row(edge.source, edge.event)) > 1 else ""
    return f"{edge.source}-{edge.event}{number}-{edge.dest}"


def _why_not(search: Search, edge: Edge) -> str:
    """What is known about a row that was not reached."""
    source = search.graph.by_name[edge.source]
    entered = {row.dest for row in search.graph.edges if row.key in search.found} | {search.graph.initial}
    if edge.source not in entered:
        return f"no run was found that enters '{edge.source}'"
    if edge.event == "expired":
        return f"it cannot happen: '{edge.source}' has no within="
    if edge.event == "invalid_output":
        return f"it cannot happen: '{edge.source}' has no output="
    if edge.source in search.problems:
        return search.problems[edge.source]
    if source.kind == "Claude" and edge.event not in {*search.steps.events(edge.source), "over_limit"}:
        return f"no reply is known that comes to {edge.event}: give one in replies={{{edge.source!r}: [...]}}"
    if edge.guard is not None:
        return f"nothing that was tried made [{edge.guard}] hold: give replies=, said= or values= that do"
    before = [str(row.guard) for row in search.graph.row(edge.source, edge.event)[: edge.index]]
    return f"[{'] or ['.join(before)}] held in every run that was tried" if before else "no run was found that takes it"
