"""The same machines drawn by others: `transitions`' GraphMachine, python-statemachine and LangGraph.

Each is built from `Workflow.table` by the code below, drawn with the options that show the most, and written into
diagrams/peers/ with the versions and the rows, from which `make diagrams` makes diagrams/peers.md. It needs, beside
claude-fsm: Graphviz's `dot`, Chromium, the Mermaid of tests/mermaid (`.ci/mermaid install`), and

    pip install 'transitions[diagrams]' 'python-statemachine[diagrams]' langgraph playwright
    python benchmarks/pictures.py
"""

import json
import operator
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from playwright.sync_api import Page, sync_playwright
from statemachine import Event, State, StateChart
from statemachine.contrib.diagram import DotGraphMachine
from transitions.extensions import GraphMachine
from transitions.extensions.states import Tags, add_state_features

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from examples.optimiser import Optimiser  # noqa: E402 - found beside this folder
from examples.support import Support  # noqa: E402
from fsm import Workflow  # noqa: E402
from fsm.cli._gallery._peers import FILE, rows_of  # noqa: E402

FOLDER = ROOT / "diagrams" / "peers"
MERMAID = ROOT / ".venv" / "mermaid" / "node_modules" / "mermaid"

Row = Mapping[str, Any]


class Machine:
    """A workflow, or its own rows only: what all pictures are made from."""

    def __init__(self, workflow: type[Workflow], stem: str, *, detail: str, about: str) -> None:
        self.workflow, self.stem, self.detail, self.about = workflow, stem, detail, about
        self.name, self.initial = workflow.name, workflow.graph.initial
        self.rows: list[Row] = [row for row in workflow.table if detail != "simple" or not row["implied"]]
        used = {row[end] for row in self.rows for end in ("source", "dest")}
        self.states = [node for node in workflow.graph.nodes if node.name in used]

    def described(self) -> dict[str, Any]:
        """For peers.json."""
        which = "its own rows" if self.detail == "simple" else "every row"
        return {
            "stem": self.stem,
            "title": f"{self.name}, {which}",
            "about": self.about,
            "example": self.workflow.name.lower(),
            "detail": self.detail,
            "rows": rows_of(self.workflow, self.detail),
        }


def label(row: Row) -> str:
    """`event [guard] / effects`, for a library whose edges have one text."""
    guard = "".join(f" [{guard}]" for guard in row["conditions"])
    effects = f" / {', '.join(map(str, row['effects']))}" if row["effects"] else ""
    return f"{row['trigger']}{guard}{effects}"


@add_state_features(Tags)
class Tagged(GraphMachine):
    """Its states can say what kind they are."""


def by_transitions(machine: Machine) -> str:
    """GraphMachine, with conditions and attributes of states."""
    states = [{"name": node.name, "final": node.is_final, "tags": [node.kind]} for node in machine.states]
    rows = [
        {
            "trigger": row["trigger"],
            "source": row["source"],
            "dest": row["dest"],
            "conditions": [str(guard) for guard in row["conditions"]],
        }
        for row in machine.rows
    ]
    drawn = Tagged(
        states=states,
        transitions=rows,
        initial=machine.initial,
        auto_transitions=False,
        show_conditions=True,
        show_state_attributes=True,
        title=machine.name,
    )
    return drawn.get_graph().draw(None, format="svg", prog="dot").decode()


def by_statemachine(machine: Machine) -> str:
    """A class made with `type`, as one would write it, drawn by DotGraphMachine."""
    states = {node.name: State(initial=node.name == machine.initial, final=node.is_final) for node in machine.states}
    moves: dict[str, Any] = {}
    for row in machine.rows:
        options = {
            "cond": [named(guard) for guard in row["conditions"]],
            "on": [named(each) for each in row["effects"]],
        }
        moved = states[row["source"]].to(states[row["dest"]], **options)
        moves[row["trigger"]] = moves[row["trigger"]] | moved if row["trigger"] in moves else moved
    # Some states are called as events are.
    events = {f"event_{name}": Event(moved, id=name, name=name) for name, moved in moves.items()}
    body: dict[str, Any] = {**states, **events}
    graph = DotGraphMachine(type(StateChart)(machine.name, (StateChart,), body))()
    return graph.create_svg().decode()


def named(part: object) -> Any:
    """A function that is called as a guard or an effect is: that is what the picture shows."""

    def function() -> bool:
        return True

    function.__name__ = function.__qualname__ = str(part)
    return function


class Words(TypedDict):
    """What the graph works on."""

    messages: Annotated[list[str], operator.add]


def by_langgraph(machine: Machine, page: Page) -> str:
    """A StateGraph with a conditional edge for each row, drawn by its own `draw_mermaid` and the real Mermaid."""
    graph = StateGraph(Words)
    for node in machine.states:
        graph.add_node(node.name, lambda _: {})
        rows = [row for row in machine.rows if row["source"] == node.name]
        if node.is_final:
            graph.add_edge(node.name, END)
        elif rows:
            graph.add_conditional_edges(node.name, lambda _: "", {label(row): row["dest"] for row in rows})
    graph.add_edge(START, machine.initial)
    text = graph.compile().get_graph().draw_mermaid()
    return page.evaluate(
        """async (text) => {
            mermaid.initialize({startOnLoad: false, deterministicIds: true, deterministicIDSeed: "peer"});
            const {svg} = await mermaid.render("drawn", text);
            const holder = document.createElement("div");
            holder.innerHTML = svg;
            const root = holder.firstElementChild, box = root.viewBox.baseVal;
            root.setAttribute("width", box.width);
            root.setAttribute("height", box.height);
            root.setAttribute("style", "background: white");
            return new XMLSerializer().serializeToString(root);
        }""",
        text,
    )


PEERS = (
    {
        "stem": "transitions",
        "name": "transitions GraphMachine",
        "shows": "Events with their conditions, rows between the same two states on one arrow, tags of a state in "
        "brackets, and in colour where a model stands: it follows a machine that is at work.",
        "lacks": "Effects are not drawn, and of the states one cannot see which are final and where it starts.",
    },
    {
        "stem": "statemachine",
        "name": "python-statemachine",
        "shows": "UML as it is taught: a dot where it starts, a ring where it ends, guards in brackets. Of the four it "
        "takes the least ink for a small machine, and it draws compound, parallel and history states, which fsm does "
        "not have.",
        "lacks": "States look alike, whoever acts in them; each row is an arrow of its own, and what happens on an "
        "arrow is not drawn.",
    },
    {
        "stem": "langgraph",
        "name": "LangGraph",
        "shows": "Steps and the branches between them, in few words, which stays easy to take in with every row; as "
        "Mermaid it can be pasted wherever that is drawn.",
        "lacks": "A branch has a name only, so event, guard and effect are one text that was composed for this; of "
        "several branches between the same two steps one is drawn (`expired` is missing in the first picture, and most "
        "rows in the last).",
    },
)
OURS = (
    "Who acts, by shape, colour and word; guards and effects on the arrows; where it starts and how it can end. "
    "Rows that nobody wrote are summed up in a panel. It takes more room than the others for a small machine, and "
    "has neither compound nor parallel states."
)


def made(stem: str, svg: str) -> str:
    """Which versions drew it, and when."""
    graphviz = re.search(r"graphviz version (\S+)", svg)
    mermaid = json.loads((MERMAID / "package.json").read_text("utf-8"))["version"]
    package, drawn_by = {
        "transitions": ("transitions", f"Graphviz {graphviz[1] if graphviz else ''}"),
        "statemachine": ("python-statemachine", f"Graphviz {graphviz[1] if graphviz else ''}"),
        "langgraph": ("langgraph", f"Mermaid {mermaid}"),
    }[stem]
    return f"{package} {version(package)}, {drawn_by}, {datetime.now(UTC):%Y-%m-%d}"


def machines() -> Iterator[Machine]:
    """What is drawn: a small machine, one with guards and effects, and a small one with all that it runs by."""
    rows = len(rows_of(Support, "simple"))
    yield Machine(Support, "support", detail="simple", about=f"The {rows} rows that the class declares.")
    guards = "Guards choose between three rows of one event; effects say what is kept and what is said."
    yield Machine(Optimiser, "optimiser", detail="simple", about=guards)
    every = f"All {len(Support.table)} rows that it runs by, with those that every Claude loop needs and nobody writes."
    yield Machine(Support, "support-all", detail="default", about=every)


def main() -> None:
    """Draw everything anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    chosen = list(machines())
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=str(MERMAID / "dist" / "mermaid.min.js"))
        for machine in chosen:
            pictures = {
                "transitions": by_transitions(machine),
                "statemachine": by_statemachine(machine),
                "langgraph": by_langgraph(machine, page),
            }
            for stem, svg in pictures.items():
                write(f"{machine.stem}-{stem}", svg)
        browser.close()
    about = {
        "about": "Each picture is made from the same rows (`Workflow.table`), with the options that show the most.",
        "ours": OURS,
        "peers": [{**peer, "made": made(peer["stem"], pictures[peer["stem"]])} for peer in PEERS],
        "machines": [machine.described() for machine in chosen],
    }
    (FOLDER / FILE).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write(stem: str, svg: str) -> None:
    """A picture as a file."""
    svg = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", svg)  # nobody sees more
    (FOLDER / f"{stem}.svg").write_text(svg.rstrip() + "\n", "utf-8")
    print(f"{stem}.svg {len(svg):,} bytes")


if __name__ == "__main__":
    main()
