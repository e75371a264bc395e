"""A team server with a made-up log, in a process of its own, and a real Chromium that looks at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from benchmarks.team_log import generate

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: make test-dashboard installs it")

DECISIONS, USERS = 6000, 12
START_S, SUMS_S = 60.0, 120.0
PAGES = ("", "honest", "silent", "what-if", "models", "training", "health", "my-data")
CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic")


@dataclass
class Served:
    """A running server."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def coderl(self, *arguments: str) -> str:
        """The command line, on the server's data folder."""
        command = [sys.executable, "-m", "coderl_server", *arguments]
        environment = {**os.environ, "CODERL_HOME": str(self.home)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    def token(self, role: str, user: str) -> str:
        """A new token of this role."""
        found = re.search(r"coderl_[0-9a-f]{16}_[\w-]{43}", self.coderl("token", "create", "--role", role, "--user", user))
        assert found is not None
        return found[0]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        if self.process.stderr is not None:
            self.process.stderr.close()


def serve(home: Path, *arguments: str) -> Served:
    """A server on the data folder, ready when this returns."""
    environment = {**os.environ, "CODERL_HOME": str(home)}
    command = [sys.executable, "-m", "coderl_server", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://[^ ]+", line)
    assert found is not None, line + process.stderr.read()
    return Served(found[0], home, process)


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
def open_server(log_home: Path, browser: Any) -> Iterator[Served]:
    """Without tokens; its sums are made."""
    served = serve(log_home)
    try:
        page = browser.new_page()
        until_s = time.monotonic() + SUMS_S
        while True:
            page.goto(f"{served.url}/dashboard/honest")
            made = page.locator(".chart").count()
            page.goto(f"{served.url}/dashboard/")
            if made and not page.locator("text=Sums of").count():
                break
            assert time.monotonic() < until_s, "the sums were not made"
            time.sleep(0.5)
        page.close()
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
