"""Where the arrows lead, whatever is said on the way: reachable, live, halting (W3, W4, W5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from fsm._alphabet import ALPHABET, Group
from fsm._graph import Edge, Graph
from fsm._guards import bounds, required_of, untried_model

from ._findings import Finding
from ._flow import live_edges

Links = Mapping[str, Collection[str]]

_PEOPLE = frozenset({"Approval", "Human"})
# The loop detector reads tool calls and finished turns (TURN); every other event of a Claude state passes it by.
_SEEN = frozenset({Group.TURN})


def reach(start: Iterable[str], links: Links) -> set[str]:
    """Everything that can be reached from these, themselves included."""
    todo = list(start)
    seen = set(todo)
    while todo:
        new = set(links.get(todo.pop(), ())) - seen
        seen |= new
        todo.extend(new)
    return seen


def links_of(edges: Iterable[Edge], *, back: bool = False) -> dict[str, set[str]]:
    """Edges as an adjacency, forwards or backwards."""
    links: dict[str, set[str]] = {}
    for edge in edges:
        source, dest = (edge.dest, edge.source) if back else (edge.source, edge.dest)
        links.setdefault(source, set()).add(dest)
    return links


def components(names: Iterable[str], links: Links) -> list[tuple[str, ...]]:
    """The strongly connected components, each in the order of the names, and so the list (Kosaraju's way)."""
    place = {name: i for i, name in enumerate(names)}
    back: dict[str, list[str]] = {}
    for source in place:
        for dest in links.get(source, ()):
            back.setdefault(dest, []).append(source)
    found: list[tuple[str, ...]] = []
    taken: set[str] = set()
    for name in reversed(_finished(place, links)):
        group, todo = [], [name]
        while todo:
            here = todo.pop()
            if here in place and here not in taken:
                taken.add(here)
                group.append(here)
                todo.extend(back.get(here, ()))
        if group:
            found.append(tuple(sorted(group, key=place.__getitem__)))
    return sorted(found, key=lambda group: place[group[0]])


def _finished(names: Collection[str], links: Links) -> list[str]:
    """The names in the order in which a depth-first walk leaves them. Not recursive: chains can be long."""
    order: list[str] = []
    seen: set[str] = set()
    todo = [(name, False) for name in reversed(list(names))]
    while todo:
        name, is_done = todo.pop()
        if is_done:
            order.append(name)
        elif name not in seen:
            seen.add(name)
            todo.append((name, True))
            todo.extend((n, False) for n in links.get(name, ()) if n in names and n not in seen)
    return order


def check_paths(graph: Graph, incomplete: Collection[str], blamed: Collection[tuple[str, str, int]]) -> list[Finding]:
    """W3, W4 and W5.

    Args:
        graph: the declaration; it has an initial state.
        incomplete: states that lack a row or a target; what they lack may be what makes others live.
        blamed: edges that have a finding already; a cycle through one is not reported again.
    """
    links = links_of(graph.edges)
    reached = reach([graph.initial], links)
    return [
        *_unreachable(graph, reached, links),
        *_dead_ends(graph, reached, incomplete),
        *_endless(graph, reached, blamed),
    ]


def _unreachable(graph: Graph, reached: set[str], links: Links) -> Iterator[Finding]:
    lost = [n.name for n in graph.nodes if n.name not in reached and not n.is_exit]
    if lost and graph.by_name[graph.initial].is_final:
        first = graph.by_name[graph.initial]
        yield Finding(
            "W3",
            graph.name,
            first.name,
            None,
            first.where,
            f"'{graph.name}' starts in its final state '{first.name}', so nothing else is ever reached",
            "Declare the state that begins first, or give it initial=True.",
        )
        return
    groups = components(lost, links)
    for group in groups:
        others = [n for n in lost if n not in group]
        if reach(others, links) & set(group):
            continue  # it hangs behind another one, which is reported
        node = graph.by_name[group[0]]
        behind = [n for n in lost if n in reach(group, links) and n != node.name]
        also = f" (and so {', '.join(map(repr, behind))})" if behind else ""
        yield Finding(
            "W3",
            graph.name,
            node.name,
            None,
            node.where,
            f"'{graph.name}.{node.name}' cannot be reached from '{graph.initial}'{also}",
            f"Lead an event to it, e.g. {graph.initial}.on(...={node.name}), or remove it.",
        )


def _dead_ends(graph: Graph, reached: set[str], incomplete: Collection[str]) -> Iterator[Finding]:
    used = graph.used_exits()
    ends = [n.name for n in graph.nodes if n.kind in _PEOPLE or n.name in used or (n.is_final and not n.is_exit)]
    live = reach(ends, links_of(graph.edges, back=True))
    dead = [n.name for n in graph.nodes if n.name in reached and n.name not in live and not n.is_exit]
    links = links_of(e for e in graph.edges if e.source in dead and e.dest in dead)
    for group in components(dead, links):
        if reach(group, links) - set(group) or set(group) & set(incomplete):
            continue  # what it leads to is reported, or the row that it lacks
        node = graph.by_name[group[0]]
        among = "" if len(group) == 1 else f" (nor from {', '.join(map(repr, group[1:]))})"
        yield Finding(
            "W4",
            graph.name,
            node.name,
            None,
            node.where,
            f"from '{graph.name}.{node.name}'{among} no final state of its own and no person can be reached",
            f"Lead an event of {' or '.join(map(repr, group))} to a Final, to an exit, or to an Approval or Human.",
        )


def _endless(graph: Graph, reached: set[str], blamed: Collection[tuple[str, str, int]]) -> Iterator[Finding]:
    kinds = {node.name: node.kind for node in graph.nodes}
    edges = [edge for name in reached for edge in live_edges(graph, name) if _goes_on(edge, kinds)]
    unwatched = _unbounded([e for e in edges if "Claude" not in {kinds[e.source], kinds[e.dest]}], kinds)
    yield from _cycles(
        graph,
        unwatched,
        blamed,
        lambda walk: (
            f"{walk} goes round without Claude, without a person and without a bound",
            "Put a guard that stops being true on one of these arrows: rounds_left(n), or @guard(bound=True).",
        ),
    )
    unseen = [e for e in edges if kinds[e.source] == "Code" or (kinds[e.source] == "Claude" and _is_unseen(e.event))]
    unseen = _unbounded(unseen, kinds)
    yield from _cycles(
        graph,
        unseen,
        blamed,
        lambda walk: (
            f"{walk} goes round for ever, since the loop detector sees no progress in such replies and no lack of it",
            "Bound it: [target.when(attempts_left(n)), <somewhere else>].",
        ),
        need="Claude",
    )


def _goes_on(edge: Edge, kinds: Mapping[str, str]) -> bool:
    """Whether a cycle through this edge can turn for ever. The standard rows are bounded by construction.

    `outcome_unknown` needs a crash each time.
    """
    is_bound = edge.guard is not None and bounds(edge.guard, kinds[edge.source], edge.event, but_attempts=True)
    is_bound = is_bound or _tries_once(edge)
    is_parked = any(effect.change == "park" for effect in edge.effects)
    has_person = bool({kinds[edge.source], kinds[edge.dest]} & _PEOPLE)
    return not (edge.implied or is_bound or is_parked or has_person or edge.event == "outcome_unknown")


def _tries_once(edge: Edge) -> bool:
    """S14: another model is asked after a refusal, unless it refused before."""
    untried = {untried_model(leaf) for leaf in (required_of(edge.guard) if edge.guard is not None else ())}
    return edge.event == "refusal" and any(
        effect.model is not None and effect.model in untried for effect in edge.effects
    )


def _unbounded(edges: list[Edge], kinds: Mapping[str, str]) -> list[Edge]:
    """Without the edges that attempts bound: those whose counter no other event that goes round sets back."""
    while True:
        links = links_of(edges)
        place = {name: i for i, group in enumerate(components(links, links)) for name in group}
        inside = [e for e in edges if place[e.source] == place.get(e.dest)]
        events: dict[str, set[str]] = {}
        for edge in inside:
            events.setdefault(edge.source, set()).add(edge.event)
        bounded = [
            e
            for e in inside
            if e.guard is not None and bounds(e.guard, kinds[e.source], e.event) and len(events[e.source]) == 1
        ]
        if not bounded:
            return edges
        gone = {e.key for e in bounded}
        edges = [e for e in edges if e.key not in gone]


def _is_unseen(event: str) -> bool:
    return event in ALPHABET and ALPHABET[event].group not in _SEEN


def _cycles(
    graph: Graph,
    edges: list[Edge],
    blamed: Collection[tuple[str, str, int]],
    texts: Callable[[str], tuple[str, str]],
    *,
    need: str = "",
) -> Iterator[Finding]:
    links = links_of(edges)
    names = [n.name for n in graph.nodes if n.name in links]
    for group in components(names, links):
        inside = [e for e in edges if e.source in group and e.dest in group]
        lacks = bool(need) and all(graph.by_name[n].kind != need for n in group)
        if not inside or lacks or any(e.key in blamed for e in inside):
            continue
        walked = _around(group[0], inside)
        states = (group[0], *(e.dest for e in walked))
        shown = " → ".join(states)
        problem, remedy = texts(f"'{graph.name}': {shown} (on {', '.join(e.event for e in walked)})")
        first = walked[0]
        yield Finding(
            "W5",
            graph.name,
            first.source,
            first.event,
            first.where or graph.by_name[first.source].where,
            problem,
            remedy,
            edge=first.key,
        )


def _around(start: str, edges: list[Edge]) -> list[Edge]:
    """A shortest way from a state of a cycle back to itself."""
    came: dict[str, list[Edge]] = {}
    todo: list[tuple[str, list[Edge]]] = [(start, [])]
    for name, walked in todo:
        for edge in edges:
            if edge.source == name and edge.dest not in came:
                came[edge.dest] = [*walked, edge]
                if edge.dest == start:
                    return came[start]
                todo.append((edge.dest, came[edge.dest]))
    msg = f"no cycle through {start!r}"
    raise AssertionError(msg)
