"""A real browser for tests: Chromium without a window, with a new profile that is gone afterwards.

Whatever page a test looks at is watched: it may ask for nothing but its own file, and nothing may go wrong in it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def found() -> str | None:
    """The program: that of the environment variable FSM_CHROMIUM, else the first on PATH."""
    return os.environ.get("FSM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched() -> Iterator[Any]:
    """A browser, for as long as the block lasts; without one the tests are skipped, but never in CI."""
    program, missing = found(), ""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed: pip install 'claude-fsm[test]'"
    if program is None:
        missing = "there is no Chromium: run .ci/browser, or name one in FSM_CHROMIUM"
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Any, html: str, folder: Path, *, step: str = "", wide: int = 1200, high: int = 800, **context: Any
) -> Iterator[Any]:
    """The page of a text, from a file. At the end of the block it must have asked for nothing else, and complained of
    nothing (what its policy stopped is no request, but a complaint)."""
    file = folder / "page.html"
    file.write_text(html, "utf-8")
    asked, wrong = [], []
    with browser.new_context(viewport={"width": wide, "height": high}, **context) as profile:
        page = profile.new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        page.on("requestfailed", lambda request: request.failure == "csp" and asked.remove(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(file.as_uri() + step)
        page.complaints = wrong
        yield page
        assert asked == [file.as_uri()]
        assert wrong == []
