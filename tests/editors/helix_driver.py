"""Starts the real Helix in tmux, types into it and reads its screen.

The program is that of the environment variable CODERL_HELIX, else what `tests/editors/install/helix.sh` has installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

_EDITORS = Path(os.environ.get("CODERL_EDITORS") or Path.home() / ".cache" / "coderl-editors")
# Read before `own_home` hides the variables.
PROGRAM = os.environ.get("CODERL_HELIX") or str(_EDITORS / "helix" / "hx")
WAIT_S = 30.0
STEP_S = 0.05
SENT = " coderl -> "
COLUMNS, LINES = 100, 24
T = TypeVar("T")

CONFIG = """
theme = "base16_default"
[editor]
auto-completion = false
auto-pairs = false
auto-format = false
lsp.display-messages = true
"""
"""Messages of the server are shown: there should be none."""

LANGUAGES = """
[language-server.coderl]
command = {command}
args = {arguments}
config = {{ coderl = {settings} }}

[[language]]
name = "python"
language-servers = ["coderl"]
indent = {{ tab-width = 4, unit = "    " }}
"""


class Helix:
    """One running Helix with one open file."""

    def __init__(self, tmux: list[str], file: Path, log: Path) -> None:
        self._tmux = tmux
        self.file = file
        self._log = log

    def _do(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == 0, f"tmux {words}: {done.stderr}"
        return done.stdout

    def keys(self, *names: str) -> None:
        """Keys by tmux's names (`Escape`, `Enter`, `C-w`)."""
        self._do("send-keys", *names)

    def insert(self, key: str, text: str) -> None:
        """Enter insert mode by this key, type a text line by line, and leave insert mode.

        Each step is waited for: Escape and a key that come together are read as that key with Alt.
        """
        self.keys(key)
        self._wait_mode("INS")
        for number, line in enumerate(text.split("\n")):
            if number:
                self.keys("Enter")
            if line:
                self._do("send-keys", "-l", line)
        self.keys("Escape")
        self._wait_mode("NOR")

    def _wait_mode(self, mode: str) -> None:
        self.wait(f"mode {mode}", lambda: any(line.startswith(f" {mode} ") for line in self.screen()))

    def command(self, line: str) -> None:
        self.keys(":")
        self._do("send-keys", "-l", line)
        self.keys("Enter")

    def screen(self) -> list[str]:
        return self._do("capture-pane", "-p").rstrip("\n").split("\n")

    def log(self) -> str:
        """Helix's own log; what the server writes on its standard error is there too."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.is_file() else ""

    def sent(self) -> list[dict[str, Any]]:
        """The messages to the server so far, in order, as Helix logs them."""
        lines = [
            line.split(SENT, 1)[1] for line in self.log().splitlines(keepends=True) if SENT in line and line.endswith("\n")
        ]
        return [json.loads(line) for line in lines]

    def problems(self) -> list[str]:
        """Lines of Helix's log that warn or complain; what the server says on its standard error is among them."""
        return [line for line in self.log().splitlines() if "[ERROR]" in line or "[WARN]" in line]

    def wait(self, what: str, probe: Callable[[], T]) -> T:
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            if value := probe():
                return value
            time.sleep(STEP_S)
        pytest.fail(f"{what}: not within {WAIT_S:.0f} s; screen: {self.screen()}; log: {self.problems()}")

    def wait_screen(self, part: str) -> None:
        self.wait(f"{part!r} on the screen", lambda: any(part in line for line in self.screen()))

    def saved(self, text: str) -> None:
        """Save, and wait for exactly this text on the disk."""
        # Where two saves follow each other fast, Helix takes its own first one for another program's: so with a `!`.
        self.command("write!")
        self.wait(f"{text!r} on the disk", lambda: self._on_disk() == text.encode())

    def _on_disk(self) -> bytes | None:
        """What the file holds; nothing while Helix, which moves the old one away before it writes, has no file there."""
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None

    def servers(self) -> list[int]:
        """The ids of the children that are language servers."""
        pid = int(self._do("display-message", "-p", "#{pane_pid}"))
        children = Path(f"/proc/{pid}/task").glob("*/children")
        found = [int(child) for tasks in children for child in tasks.read_text().split()]
        return [child for child in found if b"\0lsp\0" in _command(child)]

    def wait_open(self, uri: str) -> int:
        """Wait until Helix has told its server about a document; the server's id."""
        told = "textDocument/didOpen"
        self.wait(
            told, lambda: any(one["method"] == told and one["params"]["textDocument"]["uri"] == uri for one in self.sent())
        )
        return self.wait("the server", self.servers)[-1]

    def runs(self) -> bool:
        done = subprocess.run([*self._tmux, "has-session"], capture_output=True, timeout=WAIT_S, check=False)
        return done.returncode == 0

    def quit(self) -> None:
        """A polite end; Helix shuts its server down."""
        self.command("quit!")
        end_s = time.monotonic() + WAIT_S
        while self.runs():
            if time.monotonic() > end_s:
                pytest.fail(f"the end of Helix: not within {WAIT_S:.0f} s; screen: {self.screen()}")
            time.sleep(STEP_S)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def skip_without_helix() -> None:
    if shutil.which(PROGRAM) is None:
        pytest.skip("no Helix: name it in CODERL_HELIX, or run tests/editors/install/helix.sh")
    if shutil.which("tmux") is None:
        pytest.skip("no tmux, in which Helix runs")


@contextmanager
def helix(
    folder: Path, command: Sequence[str], settings: dict[str, Any], text: str = "import sys\n", name: str = "source.py"
) -> Iterator[Helix]:
    """A Helix with an open file of this text and a server; it is ended afterwards, the hard way where the test failed."""
    skip_without_helix()
    project, home = folder / "project", folder / "helix-home"
    config = home / "config" / "helix"
    for one in (project, config):
        one.mkdir(parents=True)
    (config / "config.toml").write_text(CONFIG, encoding="utf-8")
    languages = LANGUAGES.format(
        command=json.dumps(command[0]), arguments=json.dumps(list(command[1:])), settings=_inline(settings)
    )
    (config / "languages.toml").write_text(languages, encoding="utf-8")
    file = project / name
    file.write_bytes(text.encode())
    log = folder / "helix.log"
    place = tempfile.mkdtemp(prefix="hx-")  # paths of sockets must be short
    tmux = ["tmux", "-S", f"{place}/s", "-f", "/dev/null", "-u"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
    environment |= {f"XDG_{part}_HOME": str(home / part.lower()) for part in ("CONFIG", "CACHE", "DATA", "STATE")}
    start = ["new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), PROGRAM, "-v", "--log", str(log), str(file)]
    subprocess.run([*tmux, *start], cwd=project, env=environment, check=True, timeout=WAIT_S)
    running = Helix(tmux, file, log)
    try:
        running.wait_screen(name)
        yield running
        if running.runs():
            running.quit()
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, timeout=WAIT_S, check=False)
        shutil.rmtree(place)


def _inline(settings: dict[str, Any]) -> str:
    """A mapping of names to numbers, text and truth values, as TOML's inline table."""
    return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items()) + " }"
