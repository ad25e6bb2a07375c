"""The graph as JSON: what the picture is drawn from, unshortened, for other programs and for comparing two versions.

The form is `fsm-graph/1`. A reader ignores members that it does not know; a member that is removed, or means something
else, makes the number larger.

    format         "fsm-graph/1"
    name, doc      of the workflow; doc is its docstring
    strict         true: no standard rows are implied
    states         in the order of declaration, the standard exits last. Each has
      name, kind   kind is Claude, Tools, Approval, Human, Code, Child or Final
      initial, final, ok, exit      ok is false for finals that are no success; exit: one of the standard exits
      history      of a Claude state, else null
      group        path of the group that it stands in, as outer/inner; empty at the top
      where        file:line of the declaration (the file's name alone); empty for exits
      model, max_tokens, tools, server_tools, output      of Claude: as declared; names of the tools that are run here,
                   and of those that the API runs; whether it answers as JSON
      tools        of Tools: the names of those that can be asked for here
      within       of Approval and Human: seconds until `expired`, or null
      function     of Code: its name
    transitions    by source, then in the order of events, then of alternatives. Each has
      source, event, index          what names it; index is its place among the alternatives of its event
      guard, guard_doc              name and docstring, or null; the alternative without a guard is the last one
      effects      names, in order
      dest
      implied      true for the rows that the standard table adds
      where        file:line of the row; empty where it is implied

With a run (or several) there are also

    run            current (state or null), runs (how many), path (sequence number, source, event, index, dest of each
                   move, of one run), strays (moves that this graph has no row for)
    states, transitions     each has count, seconds, tokens, price (US dollars; null: unknown), failures as far as they
                            were counted; transitions have seqs, the numbers of the moves, and stuck (true: of the cycle
                            that ended the run)

and with findings

    findings       id, state, event, problem, remedy

and where two versions are compared

    difference     of the workflow: workflow, what, was, is; of states: state, change (added, removed, changed), kind,
                   traits (what, was, is; of what may be a credential only that it differs); of transitions:
                   source, event, change (added, removed, rerouted, changed, moved), was and is (as in transitions; null
                   where there is none)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fsm._difference import ChangedEdge, ChangedState, Difference
from fsm._graph import Edge, Graph, Node
from fsm._records import Move
from fsm._states import Approval, Claude, Code, Human
from fsm.diagram._model import Detail
from fsm.diagram._overlay import Key, Overlay, Tally

FORMAT = "fsm-graph/1"


def to_json(
    graph: Graph,
    *,
    overlay: Overlay | None = None,
    difference: Difference | None = None,
    detail: Detail = "default",
    findings: Iterable[Any] = (),
) -> str:
    """The graph as JSON text in ASCII, one state or transition a line, so that `diff` shows what differs.

    `detail="simple"` leaves out the implied rows and the exits that only these lead to.
    """
    edges = [edge for edge in graph.edges if detail != "simple" or not edge.implied]
    used = {edge.dest for edge in edges}
    nodes = [node for node in graph.nodes if detail != "simple" or not node.is_exit or node.name in used]
    seqs: dict[Key, list[int]] = {}
    for move in overlay.moves if overlay else ():
        seqs.setdefault(_key(move), []).append(move.seq)
    whole: dict[str, Any] = {"format": FORMAT, "name": graph.name, "doc": graph.doc.strip(), "strict": graph.strict}
    if overlay is not None:
        whole["run"] = _run(graph, overlay)
    if found := [_finding(finding) for finding in findings]:
        whole["findings"] = found
    if difference is not None:
        changed = [_changed_state(each) for each in difference.states]
        of_whole = [
            {"workflow": graph.name, "what": what, "was": was, "is": now} for what, was, now in difference.whole
        ]
        whole["difference"] = of_whole + changed + [_changed_edge(each) for each in difference.edges]
    whole["states"] = [_state(graph, node, overlay) for node in nodes]
    whole["transitions"] = [_transition(edge, overlay, seqs) for edge in edges]
    return _laid_out(whole)


def _key(move: Move) -> Key:
    return (move.source, move.event, move.index)


def _laid_out(whole: Mapping[str, Any]) -> str:
    """Valid JSON whose long lists have a line for each member; ASCII, so that nothing hides in it (X1, X8)."""
    members = []
    for name, value in whole.items():
        if isinstance(value, list) and value:
            rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in value)
            members.append(f" {json.dumps(name)}: [\n{rows}\n ]")
        else:
            members.append(f" {json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(members) + "\n}\n"


def _state(graph: Graph, node: Node, overlay: Overlay | None) -> dict[str, Any]:
    found = {
        "name": node.name,
        "kind": node.kind,
        "initial": node.initial,
        "final": node.is_final,
        "ok": node.ok,
        "exit": node.is_exit,
        "history": node.history,
        "group": node.group,
        "where": node.where,
        **_of_kind(graph, node),
    }
    if overlay is not None and node.name in overlay.states:
        found |= _tally(overlay.states[node.name])
    return found


def _of_kind(graph: Graph, node: Node) -> dict[str, Any]:
    state = node.state
    if isinstance(state, Claude):
        return {
            "model": state.model,
            "max_tokens": state.max_tokens,
            "tools": [tool.name for tool in state.tools if tool.is_client],
            "server_tools": [tool.name for tool in state.tools if not tool.is_client],
            "output": state.output is not None,
        }
    if node.kind == "Tools":
        asked = (tool.name for caller in graph.callers(node.name) for tool in caller.client_tools)
        return {"tools": list(dict.fromkeys(asked))}
    if isinstance(state, (Approval, Human)):
        return {"within": state.within}
    if isinstance(state, Code):
        return {"function": str(getattr(state.fn, "__name__", "function"))}
    return {}


def _transition(edge: Edge, overlay: Overlay | None, seqs: Mapping[Key, list[int]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "source": edge.source,
        "event": edge.event,
        "index": edge.index,
        "guard": None if edge.guard is None else str(edge.guard),
        "guard_doc": None if edge.guard is None else edge.guard.doc.strip(),
        "effects": [str(effect) for effect in edge.effects],
        "dest": edge.dest,
        "implied": edge.implied,
        "where": edge.where,
    }
    if overlay is None:
        return found
    taken = sorted(seqs.get(edge.key, ()))
    tally = overlay.edges.get(edge.key)
    found |= _tally(tally) if tally is not None else {"count": len(taken)}
    return found | {"seqs": taken, "stuck": edge.key in overlay.stuck}


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "count": tally.count,
        "seconds": tally.seconds,
        "tokens": tally.tokens,
        "price": tally.price,
        "failures": tally.failures,
    }


def _run(graph: Graph, overlay: Overlay) -> dict[str, Any]:
    known = {edge.key: edge.dest for edge in graph.edges}
    path = [[move.seq, *_key(move), move.dest] for move in overlay.moves]
    strays = [str(move) for move in overlay.moves if known.get(_key(move)) != move.dest]
    strays += [f"{source} --{event}--> {dest}" for source, event, _, dest in overlay.strays if not overlay.moves]
    return {"current": overlay.current, "runs": overlay.runs, "path": path, "strays": strays}


def _changed_state(each: ChangedState) -> dict[str, Any]:
    traits = [{"what": what, "was": was, "is": now} for what, was, now in each.traits]
    return {"state": each.name, "change": each.change, "kind": each.kind, "traits": traits}


def _changed_edge(each: ChangedEdge) -> dict[str, Any]:
    rows = {"was": each.old, "is": each.new}
    found = {name: None if edge is None else _transition(edge, None, {}) for name, edge in rows.items()}
    return {"source": each.edge.source, "event": each.edge.event, "change": each.change, **found}


def _finding(finding: Any) -> dict[str, Any]:
    remedy = getattr(finding, "remedy", "")
    return {
        "id": str(finding.id),
        "state": finding.state,
        "event": finding.event,
        "problem": str(finding.problem),
        "remedy": str(remedy),
    }
