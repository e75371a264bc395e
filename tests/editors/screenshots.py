"""Takes the pictures of the README from a real VS Code, with the embedded model and the settings everybody starts with.

Run it as `python -m tests.editors.screenshots FOLDER` (`make screenshots`). It writes `vscode-ghost-text.png` (a suggestion
in a file) and `vscode-status.png` (the item in the status bar and why nothing came). Ends with 3 and one sentence where
the editor or the model is not installed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_data_dir

from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model

from .vscode_case import launcher, package
from .vscode_editor import EDITORS, Browser, Window
from .vscode_log import Log
from .vscode_server import CodeServer

WIDTH, HEIGHT, SCALE = 760, 320, 2.0
"""Of the window in CSS pixels, and how many pixels of the picture each is on a side."""
LOOKS: dict[str, Any] = {
    "workbench.colorTheme": "Default Dark Modern",
    "workbench.activityBar.location": "hidden",
    "workbench.statusBar.visible": True,
    "workbench.layoutControl.enabled": False,
    "workbench.editor.editorActionsLocation": "hidden",
    "window.menuBarVisibility": "hidden",
    "window.commandCenter": False,
    "window.title": "",
    "breadcrumbs.enabled": False,
    "editor.fontFamily": "DejaVu Sans Mono",
    "editor.fontSize": 15,
    "editor.lineHeight": 24,
    "editor.minimap.enabled": False,
    "editor.overviewRulerBorder": False,
    "editor.scrollbar.vertical": "hidden",
    "editor.cursorBlinking": "solid",
    "editor.renderLineHighlight": "none",
    "editor.guides.indentation": False,
    "editor.matchBrackets": "never",
    "editor.showFoldingControls": "never",
    "editor.hideCursorInOverviewRuler": True,
}
COUNT = """def count_words(text):
    counts = {}
"""
ITEM = '.statusbar-item[id*="coderl.status"]'
PRICES = """PRICES = {
    "apple": 120,
    "banana": 35,

}"""
HOVER = """(() => {
  const hover = document.querySelector('.workbench-hover');
  return hover && getComputedStyle(hover).opacity === '1' ? hover.textContent : '';
})()"""
"""What a tooltip says once it is drawn in full."""


@contextmanager
def embedded(folder: Path, model: Path) -> Iterator[Window]:
    """A window on a server with the embedded model."""
    server = CodeServer(EDITORS / "bin" / "code-server", folder / "editor", folder / "home")
    browser = Browser()
    try:
        machine = {"coderl.path": str(launcher(folder)), "coderl.arguments": ["--model", str(model), "--seed", "1"]}
        server.start(package(folder), LOOKS, machine)
        log = Log(folder / "home")
        window = server.window(browser, "shop", log, width=WIDTH, height=HEIGHT, scale=SCALE)
        window.press("Control+b")
        window.open("warm.py")
        window.type_until("an answer", "x = ", lambda: "ready" not in window.status())
        window.close()
        yield window
    finally:
        try:
            browser.close()
        finally:
            server.stop()


def picture(window: Window, file: Path, height: int = HEIGHT) -> None:
    """The lowest `height` pixels of the window."""
    clip = {"x": 0, "y": HEIGHT - height, "width": WIDTH, "height": height}
    window.browser.do("screenshot", window.name, file=str(file), clip=clip)


def ghost_text(window: Window, file: Path) -> None:
    window.open("words.py", COUNT)
    window.type("    for word in text.split():\n")
    window.wait("ghost text of several lines", lambda: window.ghost().count("\n") == 3)
    picture(window, file)


def silence(window: Window, file: Path) -> None:
    window.open("prices.py", PRICES)
    window.press("ArrowUp", "End")
    window.type('    "cherry": ')
    window.wait_status("it would probably have cost more time than it saves")
    window.browser.do("hover", window.name, selector=f"{ITEM} a")
    window.wait("the tooltip", lambda: "cost more time" in window.see(HOVER))
    picture(window, file)
    window.browser.do("hover", window.name, selector=".editor-instance .margin")
    window.close()


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m tests.editors.screenshots FOLDER", file=sys.stderr)
        return 2
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    try:
        model = find_model(Path(user_data_dir("coderl", appauthor=False)))
        with tempfile.TemporaryDirectory() as made, embedded(Path(made), model) as window:
            silence(window, target / "vscode-status.png")
            ghost_text(window, target / "vscode-ghost-text.png")
    except (ModelMissing, pytest.skip.Exception) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
