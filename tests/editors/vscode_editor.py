"""A real VS Code for tests: code-server on this machine, one headless Chromium, and the log of the language server.

`install/vscode.sh` puts the programs into the folder that `CODERL_EDITORS` names. Nothing here judges; the tests do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .vscode_log import Log

EDITORS = Path(os.environ.get("CODERL_EDITORS") or Path.home() / ".cache" / "coderl-editors") / "vscode"
"""Read before `own_home` hides the variable."""
EXTENSION = Path(__file__).parents[2] / "editors" / "vscode"
WAIT_S = 30.0
LOOK_S = 0.03
AGAIN_S = 2.0
READ_S = 0.3
"""What a reader takes at least: less than 250 ms on screen counts as not seen."""
T = TypeVar("T")

KEYS = {
    "ctrl+alt+l": "coderl.acceptLine",
    "ctrl+alt+j": "editor.action.insertCursorBelow",
    "ctrl+alt+d": "workbench.files.action.compareWithSaved",
    "ctrl+alt+w": "workbench.action.revertAndCloseActiveEditor",
    "ctrl+alt+n": "notifications.clearAll",
}
"""Bound for the tests; none is one of the editor's own."""

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

GHOST = """(() => {
  const plain = (one) => one.textContent.replaceAll('\\u00a0', ' ').replaceAll('\\u200b', '');
  const all = (selector) => [...document.querySelectorAll('.editor-instance ' + selector)];
  const first = all('.view-lines .ghost-text-decoration, .view-lines .ghost-text-decoration-preview').map(plain).join('');
  const below = all('.view-zones .suggest-preview-text .view-line').map(plain);
  return [first, ...below].join('\\n');
})()"""
STATUS = "document.querySelector('.statusbar-item[id*=\"coderl.status\"] a')?.getAttribute('aria-label') ?? ''"
TOASTS = "[...document.querySelectorAll('.notification-toast .notification-list-item-message')].map((one) => one.textContent)"
ACTIVE = "document.querySelector('.editor-group-container.active .tab.active')?.getAttribute('data-resource-name') ?? ''"
FOCUS = "document.activeElement?.closest('.editor-instance .monaco-editor') !== null"


def wait(what: str, probe: Callable[[], T], told: Callable[[], object] = lambda: "", limit_s: float = WAIT_S) -> T:
    """Ask until the answer is not empty; `told` says more where it stays so."""
    end_s = time.monotonic() + limit_s
    while True:
        if value := probe():
            return value
        if time.monotonic() > end_s:
            pytest.fail(f"{what}: not within {limit_s:.0f} s; {told()}")
        time.sleep(LOOK_S)


class Browser:
    """The process that drives Chromium."""

    def __init__(self) -> None:
        driver = Path(__file__).with_name("vscode_driver.mjs")
        chromium = shutil.which("chromium")
        assert chromium is not None
        command = [str(EDITORS / "bin" / "node"), str(driver), str(EDITORS / "playwright"), chromium]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._answer()

    def do(self, name: str, page: str, **told: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, "page": page, **told}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver of the browser has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()


@dataclass(frozen=True)
class Window:
    """One window of the editor, looked at and typed into."""

    browser: Browser
    name: str
    folder: Path
    log: Log

    def press(self, *keys: str) -> None:
        for key in keys:
            self.browser.do("press", self.name, key=key)

    def type(self, text: str, delay_ms: int = 0) -> None:
        self.browser.do("type", self.name, text=text, delay=delay_ms)

    def type_until(self, what: str, text: str, probe: Callable[[], bool]) -> None:
        """Type it on a line of its own, again and again."""
        end_s = time.monotonic() + WAIT_S
        while not probe():
            assert time.monotonic() < end_s, f"{what}: not within {WAIT_S:.0f} s; {self.told()}"
            self.press("Enter")
            self.type(text)
            patience_s = time.monotonic() + AGAIN_S
            while not probe() and time.monotonic() < patience_s:
                time.sleep(LOOK_S)

    def see(self, expression: str) -> Any:
        return self.browser.do("evaluate", self.name, expression=expression)

    def ghost(self) -> str:
        """The ghost text on screen, its lines as lines."""
        return str(self.see(GHOST))

    def status(self) -> str:
        """What a screen reader says of our item in the status bar."""
        return str(self.see(STATUS))

    def toasts(self) -> list[str]:
        return [text for text in self.see(TOASTS) if "CodeRL" in text]

    def told(self) -> str:
        """For the message of a wait that failed; leaves a picture."""
        picture = self.folder.parent / f"failed-{self.name}.png"
        self.browser.do("screenshot", self.name, file=str(picture))
        seen = {"ghost": self.ghost(), "status": self.status(), "toasts": self.toasts(), "outcomes": self.log.outcomes()}
        return f"{seen}; reasons: {self.log.reasons()}; picture: {picture}"

    def wait(self, what: str, probe: Callable[[], T]) -> T:
        return wait(what, probe, self.told)

    def wait_ghost(self, text: str) -> None:
        self.wait(f"ghost text {text!r}", lambda: self.ghost() == text)

    def wait_no_ghost(self) -> None:
        self.wait("no ghost text", lambda: self.ghost() == "")

    def wait_status(self, part: str) -> None:
        self.wait(f"{part!r} in the status bar", lambda: part in self.status())

    def open(self, name: str, text: str = "import sys\n") -> Path:
        """Write a file, open it and go to its end."""
        file = self.folder / name
        file.write_bytes(text.encode())
        self.log.watch(file)
        self.pick("Control+p", str(file), name)
        self.wait(f"{name} in the editor", lambda: self.see(ACTIVE) == name and self.see(FOCUS))
        self.press("Control+End")
        return file

    def pick(self, key: str, wanted: str, label: str) -> None:
        """Choose from the list that a key brings up."""
        self.press(key)
        self.wait("the list", lambda: self.see("document.querySelector('.quick-input-widget input')?.offsetParent !== null"))
        self.press("Control+a")
        self.browser.do("insert", self.name, text=wanted)
        first = "document.querySelector('.quick-input-list .monaco-list-row.focused')?.getAttribute('aria-label') ?? ''"
        self.wait(f"{label!r} in the list", lambda: label in self.see(first))
        self.press("Enter")

    def command(self, title: str) -> None:
        self.pick("F1", f">{title}", title)

    def read(self) -> None:
        """As long as it takes to read a suggestion."""
        time.sleep(READ_S)

    def saved(self, file: Path, expected: str) -> None:
        """Save, and wait for exactly this text on the disk."""
        self.press("Control+s")
        wait(f"{expected!r} on the disk", lambda: file.read_bytes() == expected.encode(), file.read_bytes)

    def outcomes(self, *expected: tuple[str, str, str, int]) -> None:
        """Close the file without saving; everything shown since `begin` has its one outcome, and they are these.

        What was only served again under the same idea is left out: how often that is follows from the rhythm of the keys.
        """
        self.press("Control+Alt+w")
        self.wait("a closed file", lambda: not self.see(ACTIVE))

        def ended() -> bool:
            logged = self.log.outcomes()
            time.sleep(LOOK_S)
            return self.log.shown() == len(logged) and [one for one in logged if one[2] != "reserved"] == list(expected)

        self.wait(f"the outcomes {expected}", ended)


@dataclass
class CodeServer:
    """The server side of VS Code with our extension, in a process group of its own."""

    program: Path
    folder: Path
    home: Path
    _process: subprocess.Popen[bytes] | None = None
    _port: int = 0
    _settings: dict[str, Any] = field(default_factory=dict)

    @property
    def _places(self) -> list[str]:
        data, extensions = self.folder / "data", self.folder / "extensions"
        return ["--config", f"{self.folder}/config.yaml", "--user-data-dir", str(data), "--extensions-dir", str(extensions)]

    def start(self, vsix: Path, settings: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
        """Install the extension and start. `machine`: settings that name programs, which count only there."""
        for folder in ("User", "Machine"):
            (self.folder / "data" / folder).mkdir(parents=True)
        (self.folder / "config.yaml").write_text("auth: none\n")
        self.set(**QUIET, **settings)
        (self.folder / "data" / "Machine" / "settings.json").write_text(json.dumps(machine))
        bound = [{"key": key, "command": command} for key, command in KEYS.items()]
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
        """Change the user's settings (None: take out), as their editor of the file would."""
        self._settings |= changed
        known = {name: value for name, value in self._settings.items() if value is not None}
        (self.folder / "data" / "User" / "settings.json").write_text(json.dumps(known))

    def window(self, browser: Browser, name: str, log: Log) -> Window:
        """Open a window on a folder of that name; waits for the extension."""
        folder = self.folder / name
        folder.mkdir()
        url = f"http://127.0.0.1:{self._port}/?folder={urllib.parse.quote(str(folder))}"
        browser.do("open", name, url=url, width=1000, height=520)
        window = Window(browser, name, folder, log)
        wait("our item in the status bar", lambda: "CodeRL: ready" in window.status(), lambda: self.said(window))
        return window

    def warm_up(self, window: Window, text: str) -> None:
        """Type until there is ghost text: the editor makes the part that asks for it when it has nothing else to do."""
        window.open("warm.py")
        window.type_until("ghost text", text, lambda: window.ghost() != "")
        window.press("Control+Alt+w")

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
