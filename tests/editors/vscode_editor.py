"""A real VS Code for tests: code-server on this machine, one headless Chromium, and the log of the language server.

`install/vscode.sh` puts the programs into the folder that `CODERL_EDITORS` names. Nothing here judges; the tests do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
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
LAST = 12
"""So many outcomes and reasons are told where a wait failed."""
T = TypeVar("T")

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
TABS = "document.querySelectorAll('.editor-group-container.active .tab').length"
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

    def choose(self, button: str) -> None:
        """Press a button of a message."""
        self.browser.do("click", self.name, selector=f".notification-toast .monaco-button:has-text('{button}')")

    def toasts(self) -> list[str]:
        return [text for text in self.see(TOASTS) if "CodeRL" in text]

    def told(self) -> str:
        """For the message of a wait that failed; leaves a picture."""
        picture = self.folder.parent / f"failed-{self.name}.png"
        self.browser.do("screenshot", self.name, file=str(picture))
        seen = {
            "ghost": self.ghost(),
            "status": self.status(),
            "toasts": self.toasts(),
            "outcomes": self.log.outcomes()[-LAST:],
        }
        return f"{seen}; reasons: {self.log.reasons()[-LAST:]}; picture: {picture}"

    def wait(self, what: str, probe: Callable[[], T]) -> T:
        return wait(what, probe, self.told)

    def wait_ghost(self, text: str) -> None:
        self.wait(f"ghost text {text!r}", lambda: self.ghost() == text)

    def wait_read(self, text: str) -> None:
        """Wait for exactly this ghost text, then read it."""
        self.wait_ghost(text)
        self.read()

    def suggest(self, keys: str, text: str) -> None:
        """Type, wait for exactly this ghost text, and read it."""
        self.type(keys)
        self.wait_read(text)

    def wait_no_ghost(self) -> None:
        self.wait("no ghost text", lambda: self.ghost() == "")

    def wait_status(self, part: str) -> None:
        self.wait(f"{part!r} in the status bar", lambda: part in self.status())

    def open(self, name: str, text: str = "import sys\n") -> Path:
        """Write a file, open it and go to its end."""
        file = self.folder / name
        file.write_bytes(text.encode())
        self.log.watch(file)
        self.pick("Control+p", str(file), *Path(name).parts)
        self.wait(f"{file.name} in the editor", lambda: self.see(ACTIVE) == file.name and self.see(FOCUS))
        self.press("Control+End")
        return file

    def pick(self, key: str, wanted: str, *label: str) -> None:
        """Choose from the list that a key brings up."""
        self.press(key)
        self.choose_listed("", wanted, *label)

    def choose_listed(self, title: str, wanted: str, *label: str) -> None:
        """Choose from the list of that title, which comes up, by what one writes into its field; `label`: parts of it."""
        self.wait(f"{label!r} in the list", lambda: all(part in self.listed(title, wanted) for part in label))
        self.press("Enter")

    def listed(self, title: str, wanted: str) -> str:
        """The entry of the list of that title, which comes up, that is found by what one writes into its field."""
        told = "document.querySelector('.quick-input-widget .quick-input-title')?.textContent ?? ''"
        self.wait(f"the list {title!r}", lambda: title in self.see(told))
        self.wait("the list", lambda: self.see("document.querySelector('.quick-input-widget input')?.offsetParent !== null"))
        self.press("Control+a")
        self.browser.do("insert", self.name, text=wanted)
        first = "document.querySelector('.quick-input-list .monaco-list-row.focused')?.getAttribute('aria-label') ?? ''"
        self.wait("an entry in the list", lambda: self.see(first) != "")
        return str(self.see(first))

    def close(self) -> None:
        """Close the file, and what is not saved in it is lost."""
        before = self.see(TABS)
        self.press("Control+Alt+w")
        self.wait("a closed file", lambda: self.see(TABS) < before)

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
        self.close()

        def ended() -> bool:
            logged = self.log.outcomes()
            time.sleep(LOOK_S)
            return self.log.shown() == len(logged) and [one for one in logged if one[2] != "reserved"] == list(expected)

        self.wait(f"the outcomes {expected}", ended)
