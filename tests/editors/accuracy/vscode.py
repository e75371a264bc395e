"""The plan's programmer in a real VS Code with our extension: with the proposed APIs shut, as everybody has it, or open.

Run it as `python -m tests.editors.accuracy.vscode [--proposed] [--count N] [--seed N] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ..vscode_case import SETTINGS, running
from ..vscode_editor import GHOST, WAIT_S, Browser, Window, wait
from .plan import Act, Client, Interaction, Move, Onwards, plan, script
from .score import Logged, Report, read, row, score

_WORD = re.compile(r"-?\d*\.\d\w*|[^`~!@#$%^&*()\-=+\[{\]}\\|;:'\",.<>/?\s]+", re.ASCII)
"""What VS Code calls a word in a language that does not say it."""


def next_word(text: str) -> int:
    """Characters of the next word, as `editor.action.inlineSuggest.acceptNextWord` counts them: signs and blanks go singly."""
    found = _WORD.search(text)
    end = len(text) if found is None else found.start() or found.end()
    blanks = re.search(r"\s+", text)
    return min(end, blanks.end()) if blanks else end


def next_line(text: str) -> int:
    """Up to and with the next line end (`editor.action.inlineSuggest.acceptNextLine`)."""
    return text.find("\n") + 1 or len(text)


MOVES = tuple(move for move in Move if move not in (Move.ESCAPE, Move.TYPE_THEN_ESCAPE))
"""There is no insert mode to leave: Escape waves away what is shown, or ends what was begun."""
VSCODE = Client("VS Code, our extension, stable API", True, MOVES, next_word, next_line, brackets=False)
VSCODE_PROPOSED = replace(VSCODE, name="VS Code, our extension, proposed API")

KEYS = {
    Act.ACCEPT: "Tab",
    Act.WORD: "Control+ArrowRight",
    Act.LINE: "Control+Alt+l",
    Act.DISMISS: "Escape",
    Act.ESCAPE: "Escape",
    Act.UP: "ArrowUp",
    Act.BACKSPACE: "Backspace",
    Act.UNDO: "Control+z",
}
ACCEPT_INDENTED = "Control+Alt+a"
"""Where the suggestion begins with an indentation, Tab indents."""
GLIMPSE_MS = 150
"""A glimpse that the machine made longer than this may be none: it is tried again in another document."""
TRIES = 5


class Void(Exception):
    """What the plan says did not happen: this interaction tells nothing."""


class Programmer:
    """Goes through interactions in one window."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.documents: dict[int, str] = {}
        """The URI of each interaction's document."""

    def do(self, one: Interaction) -> None:
        """One interaction, again where it was void. Raises Void where it always is."""
        for number in range(TRIES):
            file = self._open(one, f"{number}_{one.name}")
            self.documents[one.number] = file.as_uri()
            try:
                self._steps(one, file)
                self._onwards(one, file)
                return
            except Void:
                if number == TRIES - 1:
                    raise
            finally:
                self._close()

    def _open(self, one: Interaction, name: str) -> Path:
        file = self.window.open(name, (one.given + one.after).replace("\n", one.newline))
        self.window.press(*["ArrowLeft"] * len(one.after))
        return file

    def _close(self) -> None:
        """What is saved is closed without a change of its text."""
        self.window.close()

    def _steps(self, one: Interaction, file: Path) -> None:
        if one.glimpse:
            self._glimpse(one)
        else:
            self.window.type(one.key)
            self.window.wait_ghost(one.text)
            for step in one.steps:
                time.sleep(step.pause_ms / 1000)
                if step.act in (Act.TYPE, Act.ENTER):
                    self._type(("\n" if step.act is Act.ENTER else "") + step.text, one, before=self._so_far(one, step))
                else:
                    indented = step.act is Act.ACCEPT and step.text.startswith("    ")
                    self.window.press(ACCEPT_INDENTED if indented else KEYS[step.act])
                if step.rest:
                    self.window.wait_ghost(step.rest)
        self._saved(file, one)

    def _glimpse(self, one: Interaction) -> None:
        told = {"key": one.key, "expression": GHOST, "against": one.steps[0].text}
        if self.window.browser.do("glimpse", self.window.name, **told) > GLIMPSE_MS:
            raise Void

    def _so_far(self, one: Interaction, until: object) -> str:
        """The line of the cursor before a step."""
        steps = one.steps[: next(at for at, step in enumerate(one.steps) if step is until)]
        return (one.before + "".join(step.text for step in steps)).split("\n")[-1]

    def _type(self, text: str, one: Interaction, before: str) -> None:
        """Key by key; of an indentation only what the editor does not make by itself."""
        line, *more = text.split("\n")
        self.window.type(line, one.pace_ms)
        for follows in more:
            before += line
            made = re.match(r" *", before).group() + ("    " if before.endswith(":") else "")  # type: ignore[union-attr]
            time.sleep(one.pace_ms / 1000)
            self.window.press("Enter")
            time.sleep(one.pace_ms / 1000)
            self.window.type(follows.removeprefix(made), one.pace_ms)
            before, line = "", follows

    def _saved(self, file: Path, one: Interaction) -> None:
        """Save, and wait until the text of the plan is on the disk."""
        wanted = expected(one)
        self.window.press("Control+s")
        wait(f"{one.move}, {one.place}: {wanted!r} on the disk", lambda: told(file) == wanted, file.read_bytes)

    def _onwards(self, one: Interaction, file: Path) -> None:
        before = file.read_bytes()
        match one.onwards:
            case Onwards.NOTHING:
                return
            case Onwards.TYPE_ON:
                text = "  # so"
            case Onwards.BELOW:
                self.window.press("End", "Enter")
                text = "y = 1"
            case Onwards.TOP:
                self.window.press("Control+Home", "End")
                text = "  # so"
        self.window.type(text, one.pace_ms)
        self.window.press("Control+s")
        wait("what came onwards on the disk", lambda: file.read_bytes() != before)


def expected(one: Interaction) -> str:
    """The document after the steps, without indentation."""
    text = one.before
    for step in one.steps:
        match step.act:
            case Act.UNDO:
                text = one.before
            case Act.BACKSPACE:
                text = text[:-1]
            case Act.ENTER:
                text += "\n" + step.text
            case _:
                text += step.text
    return flat((text + one.after).replace("\n", one.newline))


def told(file: Path) -> str:
    return flat(file.read_bytes().decode())


def flat(text: str) -> str:
    return re.sub(r"\n[ \t]+", "\n", text)


def run(client: Client, interactions: Sequence[Interaction], folder: Path) -> Report:
    """Everything in one editor, by two programmers, each in a window (and so with a server) of their own."""
    program = "code-server-open" if client is VSCODE_PROPOSED else "code-server"
    settings = {**SETTINGS, "coderl.mode": "block"}
    with running(program, folder, script(interactions), settings) as editor:
        waiting, documents = deque(interactions), dict[int, str]()

        def work(window: Window) -> None:
            programmer = Programmer(window)
            while waiting:
                programmer.do(waiting.popleft())
            documents.update(programmer.documents)

        browser = Browser()
        try:
            second = editor.server.window(browser, "second", editor.log)
            editor.server.warm_up(second, "alp")
            with ThreadPoolExecutor() as two:
                for done in [two.submit(work, window) for window in (editor.window, second)]:
                    done.result()
            return score(client, interactions, logged(editor.log.home, documents))
        finally:
            browser.close()


def logged(home: Path, documents: Mapping[int, str]) -> dict[int, tuple[Logged, ...]]:
    """What the log holds once it has something of every interaction, or after the usual patience."""
    end_s = time.monotonic() + WAIT_S
    while True:
        found = read(home, documents)
        if all(found.values()) or time.monotonic() > end_s:
            return found
        time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.editors.accuracy.vscode", description=__doc__)
    parser.add_argument("--proposed", action="store_true", help="with the proposed APIs open")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the report goes")
    asked = parser.parse_args()
    client = VSCODE_PROPOSED if asked.proposed else VSCODE
    try:
        with tempfile.TemporaryDirectory() as folder:
            report = run(client, plan(asked.seed, asked.count, client), Path(folder))
    except pytest.skip.Exception as reason:
        print(reason, file=sys.stderr)
        return 3
    print(row(report))
    for one in report.wrong():
        print(json.dumps(one.to_json(), ensure_ascii=False))
    if asked.json:
        asked.json.write_text(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
