"""A team server with a made-up log, in a process of its own, and a real Chromium that looks at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from benchmarks.dashboard_server import Served, serve
from benchmarks.team_log import generate

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: make test-dashboard installs it")

DECISIONS, USERS = 6000, 12
SUMS_S = 240.0
CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic")


@dataclass
class Look:
    """A page of a browser, and what it complained about."""

    page: Any
    url: str
    complaints: list[str] = field(default_factory=list)

    def open(self, place: str) -> Any:
        """Go to one of the dashboard's pages; its answer."""
        return self.page.goto(f"{self.url}/dashboard/{place}")


@pytest.fixture(scope="session")
def log_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose log is made up."""
    home = tmp_path_factory.mktemp("dashboard") / "home"
    home.mkdir()
    generate(home / "coderl.db", DECISIONS, USERS, days=40)
    return home


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium: run tests/dashboard/install/chromium.sh")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def open_server(log_home: Path) -> Iterator[Served]:
    """Without tokens; its sums are made."""
    served = serve(log_home)
    try:
        served.wait_for_sums(SUMS_S)
        yield served
    finally:
        served.stop()


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Look]]:
    """New visits, each with cookies of its own."""
    contexts = []

    def visit(url: str, **options: Any) -> Look:
        contexts.append(browser.new_context(**{"viewport": {"width": 1180, "height": 820}, **options}))
        page = contexts[-1].new_page()
        looking = Look(page, url)
        page.on("console", lambda said: looking.complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: looking.complaints.append(str(error)))
        return looking

    yield visit
    for context in contexts:
        context.close()
