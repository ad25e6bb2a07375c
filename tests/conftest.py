"""What every test may ask for: the repository, the shared corpus, and a world without a key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# A deadline per example measures the machine, not the code: tests run in parallel on shared cores. Under CI hypothesis
# chooses its own profile, which has none either.
if not os.environ.get("CI"):
    settings.register_profile("here", deadline=None)
    settings.load_profile("here")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many `-n auto` are: a quarter of the time the tests wait for other programs, so one more than cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder with recorded traffic, which is not part of the repository; skips where it is absent."""
    named = os.environ.get("FSM_CORPUS")
    folder = Path(named) if named else ROOT.parent / "shared" / "corpus"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"FSM_CORPUS names {named!r}, which is no folder: correct it, or unset it to skip these tests.")
    pytest.skip("the recorded corpus is not here: set FSM_CORPUS to its folder")


@pytest.fixture(scope="session")
def exchanges(corpus: Path) -> list[Path]:
    """The corpus files that hold recorded exchanges, one JSON object a line."""
    files = sorted((corpus / "exchanges").glob("*.jsonl"))
    if not files:
        pytest.fail(f"{corpus} has no exchanges/*.jsonl: is it the right folder?")
    return files


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can reach the real API by accident: a client that should talk to the emulator names it."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
