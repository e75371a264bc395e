"""The server side of a real VS Code for tests: code-server with our extension, started, given settings, and ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .vscode_editor import WAIT_S, Browser, Window, wait
from .vscode_log import Log

KEYS = {
    "ctrl+alt+l": "coderl.acceptLine",
    "ctrl+alt+a": "editor.action.inlineSuggest.commit",
    "ctrl+alt+j": "editor.action.insertCursorBelow",
    "ctrl+alt+d": "workbench.files.action.compareWithSaved",
    "ctrl+alt+w": "workbench.action.revertAndCloseActiveEditor",
    "ctrl+alt+n": "notifications.clearAll",
}
"""Bound for the tests; none is one of the editor's own."""
SNOOZE_S = 4
SHORT_SNOOZE = {"key": "ctrl+alt+z", "command": "coderl.snooze", "args": SNOOZE_S / 60}
"""Nobody waits ten minutes for the end of a snooze here."""

QUIET: Mapping[str, Any] = {
    "workbench.startupEditor": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.enableExperiments": False,
    "workbench.tips.enabled": False,
    "telemetry.telemetryLevel": "off",
    "security.workspace.trust.enabled": False,
    "chat.disableAIFeatures": True,
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.suggestOnTriggerCharacters": False,
    "editor.parameterHints.enabled": False,
    "editor.accessibilitySupport": "off",
    "extensions.autoUpdate": False,
    "extensions.autoCheckUpdates": False,
    "extensions.ignoreRecommendations": True,
    "files.autoSave": "off",
    "files.readonlyInclude": {"**/readonly_*": True},
    "files.eol": "\n",
    "git.enabled": False,
    "update.showReleaseNotes": False,
}


@dataclass
class CodeServer:
    """The server side of VS Code with our extension, in a process group of its own."""

    program: Path
    folder: Path
    home: Path
    _process: subprocess.Popen[bytes] | None = None
    _port: int = 0
    _machine: dict[str, Any] = field(default_factory=dict)

    @property
    def _places(self) -> list[str]:
        data, extensions = self.folder / "data", self.folder / "extensions"
        return ["--config", f"{self.folder}/config.yaml", "--user-data-dir", str(data), "--extensions-dir", str(extensions)]

    def start(self, vsix: Path, settings: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
        """Install the extension and start. `machine`: settings that name programs, which count only there."""
        for folder in ("User", "Machine"):
            (self.folder / "data" / folder).mkdir(parents=True)
        (self.folder / "config.yaml").write_text("auth: none\n")
        (self.folder / "data" / "User" / "settings.json").write_text(json.dumps({**QUIET, **settings}))
        self.set(**machine)
        bound = [SHORT_SNOOZE, *({"key": key, "command": command} for key, command in KEYS.items())]
        (self.folder / "data" / "User" / "keybindings.json").write_text(json.dumps(bound))
        install = [str(self.program), *self._places, "--install-extension", str(vsix)]
        subprocess.run(install, check=True, capture_output=True, timeout=WAIT_S)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        switches = [f"--disable-{name}" for name in ("telemetry", "update-check", "workspace-trust", "proxy")]
        # Where the tests are killed, nobody is left to end the group: it ends by itself.
        switches += ["--idle-timeout-seconds", "120", "--reconnection-grace-time", "30"]
        switches += ["--disable-getting-started-override", "--auth", "none", "--bind-addr", f"127.0.0.1:{self._port}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CODERL_", "VSCODE_"))}
        environment |= {"CODERL_HOME": str(self.home), "CODERL_EDITOR_TEST": str(self.folder)}
        with (self.folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                [str(self.program), *self._places, *switches], env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        wait("code-server", self._is_up, (self.folder / "output.txt").read_text)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output.txt").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def set(self, **changed: Any) -> None:
        """Change the user's settings on this machine (None: take out), which go before those of the user everywhere.

        The editor, when it runs on another machine than its window, does not always notice a change of the other file.
        """
        self._machine |= changed
        known = {name: value for name, value in self._machine.items() if value is not None}
        (self.folder / "data" / "Machine" / "settings.json").write_text(json.dumps(known))

    def window(
        self, browser: Browser, name: str, log: Log, *, width: int = 1000, height: int = 520, scale: float = 1.0
    ) -> Window:
        """Open a window on a folder of that name; waits for the extension. `width` and `height` in CSS pixels."""
        folder = self.folder / name
        folder.mkdir()
        looks = {"width": width, "height": height, "scale": scale}
        return self._opened(Window(browser, name, folder, log), f"folder={urllib.parse.quote(str(folder))}", **looks)

    def workspace(self, browser: Browser, name: str, folders: Sequence[str], log: Log) -> Window:
        """Open a window on a workspace of several folders, which are made; the window's own is the one around them."""
        around = self.folder / name
        for one in folders:
            (around / one).mkdir(parents=True)
        file = around / f"{name}.code-workspace"
        file.write_text(json.dumps({"folders": [{"path": one} for one in folders]}))
        return self._opened(Window(browser, name, around, log), f"workspace={urllib.parse.quote(str(file))}")

    def _opened(self, window: Window, what: str, width: int = 1000, height: int = 520, scale: float = 1.0) -> Window:
        url = f"http://127.0.0.1:{self._port}/?{what}"
        window.browser.do("open", window.name, url=url, width=width, height=height, scale=scale)
        wait("our item in the status bar", lambda: "CodeRL: ready" in window.status(), lambda: self.said(window))
        return window

    def warm_up(self, window: Window, text: str) -> None:
        """Type until there is ghost text: the editor makes the part that asks for it when it has nothing else to do."""
        window.open("warm.py")
        window.type_until("ghost text", text, lambda: window.ghost() != "")
        window.close()

    def said(self, window: Window) -> str:
        picture = self.folder / f"failed-{window.name}.png"
        window.browser.do("screenshot", window.name, file=str(picture))
        logs = [*self.folder.glob("data/logs/*/exthost*/**/*.log"), *self.folder.glob("data/logs/*/**/*CodeRL*.log")]
        texts = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-3000:]}" for log in logs)
        return f"status {window.status()!r}, picture {picture}, logs {texts}"

    def servers(self) -> Sequence[int]:
        """The ids of the language servers that run below this editor, the oldest first."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and _is_ours(folder, str(self.folder)):
                command = (folder / "cmdline").read_bytes() if (folder / "cmdline").exists() else b""
                if b"\0lsp\0" in command:
                    found.append(int(folder.name))
        return sorted(found)

    def stop(self) -> None:
        """End the group that was started here, and what its processes have left behind."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        left = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit() and _is_ours(one, str(self.folder))]
        for process in left:
            _end(process)
        wait("the end of all processes", lambda: not any(_is_ours(Path(f"/proc/{one}"), str(self.folder)) for one in left))


def _is_ours(process: Path, folder: str) -> bool:
    """Whether a process carries the mark in its environment that `CodeServer.start` has set."""
    try:
        return f"CODERL_EDITOR_TEST={folder}\0".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def _end(process: int) -> None:
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        return
