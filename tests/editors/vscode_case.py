"""What the tests of VS Code share: the script of the generator, the packaged extension, and a running editor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import pytest

from .vscode_editor import EDITORS, EXTENSION, TABS, Browser, Window
from .vscode_log import Log
from .vscode_server import CodeServer

_PICTURES = os.environ.get("CODERL_PICTURES")
SLOW_MS = 2500
WARM_UP: list[dict[str, Any]] = [{"pattern": r"alp\Z", "text": "habet + 1"}]
SCRIPT: dict[str, Any] = {
    "rules": [
        {"pattern": r"slow\Z", "text": "_answer", "first_delay_ms": SLOW_MS},
        {"pattern": r"alph\Z", "text": "abet + 1"},
        {"pattern": r"total =\s*\Z", "text": " first + second"},
        {"pattern": r"print\(\Z", "text": "alpha, beta)"},
        {"pattern": r"def add\(a, b\):\s*\Z", "text": "\n    c = a + b\n    return c"},
        {"pattern": r"c = a \+ b\Z", "text": "\n    return c"},
        {"pattern": r"def sub\(a, b\):\s*\Z", "text": "\n\t\tc = a - b\n\t\treturn c"},
    ]
}
"""What the generator says besides, at prompts without their last blanks; at every other place nothing."""

SETTINGS = {
    "coderl.rule": "always_show",
    "coderl.maxDebounceMs": 0,
    "coderl.cooldownS": 0,
    "coderl.rememberRejections": 0,
}
"""Every suggestion is shown, at once: the editor is under test, not the gate."""


def package(folder: Path) -> Path:
    """The .vsix of the sources as they are now, whose own tests pass."""
    if not (EDITORS / ".installed").is_file():
        pytest.skip("no VS Code here: run tests/editors/install/vscode.sh")
    environment = {**os.environ, "PATH": f"{EDITORS / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    vsix = folder / "coderl.vsix"
    installed = EXTENSION / "node_modules" / ".package-lock.json"
    commands = [["test"], ["run", "-s", "package", "--", "--out", str(vsix)]]
    if not installed.exists() or installed.stat().st_mtime < (EXTENSION / "package-lock.json").stat().st_mtime:
        commands.insert(0, ["ci"])
    with (EXTENSION / "package.json").open() as alone:
        # Tests that run beside these build into the same folder.
        flock(alone, LOCK_EX)
        for command in commands:
            run = subprocess.run(
                [str(EDITORS / "bin" / "npm"), *command],
                cwd=EXTENSION, env=environment, capture_output=True, text=True, timeout=240, check=False,
            )  # fmt: skip
            assert run.returncode == 0, run.stdout + run.stderr
    return vsix


def launcher(folder: Path) -> Path:
    """A program `coderl` that runs this checkout's."""
    program = folder / "coderl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m coderl_server "$@"\n')
    program.chmod(0o755)
    return program


_CHANGED = ("coderl.enabled", "coderl.privacy", "coderl.showStatus")
"""What tests change from outside."""


@dataclass(frozen=True)
class Editor:
    """One code-server, one browser, one window on them, for all tests of a module."""

    server: CodeServer
    browser: Browser
    window: Window
    log: Log

    def clean(self, name: str) -> Window:
        """The window as a test wants to find it: no file open, no message, the settings of the start (what a test changed by a
        command it changes back by one)."""
        self.server.set(**dict.fromkeys(_CHANGED))
        self.window.press("Escape", "Control+Alt+n")
        while self.window.see(TABS) > 0:
            self.window.close()
        self.log.begin()
        return self.window


@contextmanager
def running(
    program: str,
    folder: Path,
    said: Mapping[str, Any] = SCRIPT,
    settings: Mapping[str, Any] = SETTINGS,
    arguments: Sequence[str] | None = None,
) -> Iterator[Editor]:
    """`program`: `code-server` (proposed APIs shut, as in VS Code) or `code-server-open`. `said`: the generator's script.
    `arguments`: of the language server, where it has another generator."""
    vsix = package(folder)
    home, script = folder / "home", folder / "script.json"
    script.write_text(json.dumps({"rules": [*WARM_UP, *said["rules"]]}))
    machine = {
        "coderl.path": str(launcher(folder)),
        "coderl.arguments": list(arguments or ("--backend", "scripted", "--script", str(script), "--seed", "1")),
    }
    server = CodeServer(EDITORS / "bin" / program, folder / "editor", home)
    browser = Browser()
    try:
        server.start(vsix, settings, machine)
        log = Log(home)
        window = server.window(browser, "first", log)
        server.warm_up(window, "alp")
        yield Editor(server, browser, window, log)
    finally:
        try:
            browser.close()
        finally:
            server.stop()


def keep_picture(window: Window, name: str) -> Path:
    """A picture of the window; copied into the folder that CODERL_PICTURES names, if it does."""
    picture = window.folder.parent / name
    window.browser.do("screenshot", window.name, file=str(picture))
    if _PICTURES:
        Path(_PICTURES).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, Path(_PICTURES) / name)
    return picture


def nothing_was_logged(window: Window, file: Path) -> None:
    """Once the log holds what came later in another file, it holds all there is about this one."""
    window.close()
    window.open(f"after_{file.name}")
    window.type("x = alp")
    window.wait_ghost("habet + 1")
    window.wait("the decision", lambda: window.log.shown() > 0)
    window.log.begin()
    window.log.watch(file)
    assert window.log.decisions() == []
