"""The README is run: Python blocks through the real SDK over HTTP, what they print compared with the text blocks."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.support import Shop, Support
from fsm import run as start
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies, serve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(found[1], found[2]) for found in BLOCK.finditer(README)]
REFUND = replies.tool_use("refund", {"number": "7", "euros": 249.0})
DRAFT = replies.text("Rain on the tin roof.")


def answer(body: dict[str, Any]) -> replies.Reply:
    """What the model of the README says, by the newest words of the request."""
    messages = body["messages"]
    asked = str(messages[0]["content"])
    results = [b for b in messages[-1]["content"] if isinstance(b, dict) and b.get("type") == "tool_result"]
    if results:
        return replies.text("I paid 249 euros back." if not results[0].get("is_error") else "I am sorry.")
    if "refund" in asked.lower():
        return REFUND
    if "weather" in asked:
        return replies.tool_use("weather", {})
    if "Is this good" in asked:
        return replies.structured({"grade": "good"})
    return replies.text("The sea breathes.") if "tides" in asked else DRAFT


@contextlib.contextmanager
def _collector_as_it_was() -> Iterator[None]:
    """The README tunes the garbage collector of its process."""
    thresholds = gc.get_threshold()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Run all Python blocks in one namespace; give (expected, printed) for each text block."""
    pairs: list[tuple[str, str]] = []
    namespace: dict[str, Any] = {"__name__": "readme"}
    emulator = Emulator(answer)
    with serve(emulator) as server, pytest.MonkeyPatch.context() as patch, _collector_as_it_was():
        patch.setenv("ANTHROPIC_BASE_URL", server.url)
        patch.setenv("ANTHROPIC_API_KEY", "test-key")
        patch.syspath_prepend(str(ROOT))
        patch.chdir(tmp_path_factory.mktemp("readme"))  # its journal is written there
        said = ""
        for kind, text in BLOCKS:
            if kind == "python":
                heard = io.StringIO()
                with contextlib.redirect_stdout(heard):
                    exec(compile(text, "README.md", "exec"), namespace)  # noqa: S102 - our own README
                said = heard.getvalue()
            elif kind == "text":
                pairs.append((text, said))
        for value in namespace.values():
            if hasattr(value, "messages") and hasattr(value, "close"):
                value.close()
    return pairs


def test_python_blocks_print_what_the_readme_says(printed: list[tuple[str, str]]) -> None:
    assert printed
    for expected, said in printed:
        assert said == expected


def _commands() -> list[str]:
    lines = [line[2:].split("#")[0].strip() for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("command", [c for c in _commands() if c.startswith("fsm ")])
def test_every_command_of_the_readme_runs(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "demo":
        pytest.skip("the demo has tests of its own")
    if words[0] == "emulator":
        words = ["emulator", "--help"]  # it serves until it is stopped; its own test does that
    (tmp_path / "recorded.jsonl").write_text('{"status": 200, "response": {}}\n')
    result = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    with SqliteStore(tmp_path / "runs.db") as store:
        client = Emulator([replies.text("Hello.")]).client()
        start(Support, "Hi", run_id="order-7", journal=store, client=client, deps=Shop())
    for folder in ("examples", "diagrams"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    run = subprocess.run(
        [sys.executable, "-m", "fsm.cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        input="hello\n/quit\n",
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_make_targets_of_the_readme_exist() -> None:
    targets = [c.split()[1] for c in _commands() if c.startswith("make ")]
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
