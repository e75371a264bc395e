"""What the extension's commands and settings do, in a real VS Code: the palette, the messages, privacy, several folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .vscode_case import Editor, nothing_was_logged, running
from .vscode_editor import Window

DIAL = "CodeRL: how much it speaks"
OFF = "Suggestions are switched off here"
HIDDEN = {"coderl.showStatus": False}
ITEM = '.statusbar-item[id*="coderl.status"] a'


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    with running("code-server", tmp_path_factory.mktemp("commands")) as started:
        yield started


@pytest.fixture
def window(editor: Editor) -> Iterator[Window]:
    own = editor.window.folder / ".vscode" / "settings.json"
    own.unlink(missing_ok=True)
    yield editor.clean("first")
    own.unlink(missing_ok=True)


def settings(file: Path) -> dict[str, object]:
    """What stands in a settings file; the editor may be at work on it."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return dict(found)


def of_the_user(editor: Editor) -> dict[str, object]:
    return settings(editor.server.folder / "data" / "User" / "settings.json")


def own(window: Window, privacy: str, **seen: bool) -> None:
    """The folder brings settings of its own, as a repository may."""
    folder = window.folder / ".vscode"
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({"coderl.privacy": privacy, **seen}))


def arrived(window: Window) -> None:
    """The settings that hide our item in the status bar hold, and so do those that came with them."""
    window.wait("the settings", lambda: window.status() == "")


@pytest.mark.parametrize(
    ("title", "where"),
    [
        ("Toggle Suggestions Everywhere", "everywhere"),
        ("Toggle Suggestions for This Language", "in python"),
        ("Toggle Suggestions in This File", "in first/toggled.py"),
    ],
)
def test_switched_off_and_on_again(window: Window, title: str, where: str) -> None:
    window.open("toggled.py")
    window.command(f"CodeRL: {title}")
    window.wait("the message", lambda: f"CodeRL: suggestions are off {where}." in window.toasts())
    window.type("x = alp")
    window.wait_status(OFF)
    assert window.ghost() == ""
    window.press("Control+Alt+n")
    if where != "everywhere":
        window.open("other.py" if "toggled" in where else "other.js", "\n")
        window.suggest("x = alp", "habet + 1")
        window.close()
    window.command(f"CodeRL: {title}")
    window.wait("the message", lambda: f"CodeRL: suggestions are on {where}." in window.toasts())
    window.press("Enter")
    window.suggest("x = alp", "habet + 1")


def test_a_snooze_and_its_end(window: Window) -> None:
    window.open("snooze.py")
    window.command("CodeRL: Snooze 10 Minutes")
    window.wait_status("suggestions are snoozed")
    window.wait("the message", lambda: "CodeRL: snoozed for 10 minutes." in window.toasts())
    window.type("x = alp")
    window.wait_status("Suggestions are snoozed.")
    window.choose("Wake Up")
    window.wait("the message", lambda: "CodeRL: the snooze is over." in window.toasts())
    window.wait_status("ready")
    window.press("Enter")
    window.suggest("x = alp", "habet + 1")
    window.press("Escape", "Control+Alt+z")
    window.wait_status("suggestions are snoozed")
    window.wait_status("ready")
    window.press("Enter")
    window.suggest("x = alp", "habet + 1")


def speaks_most_now(window: Window) -> bool:
    """The list is made when it comes up: what was just set may not have arrived in the editor by then, so it comes up again."""
    window.command("CodeRL: How Much It Speaks")
    said = window.listed(DIAL, "most")
    window.press("Escape")
    return "1, speaks most (now)" in said


def test_how_much_it_speaks(editor: Editor, window: Window) -> None:
    window.open("dial.py")
    window.command("CodeRL: How Much It Speaks")
    window.choose_listed(DIAL, "most", "1, speaks most")
    window.wait("the setting", lambda: of_the_user(editor).get("coderl.eagerness") == 1)
    window.wait("the new setting in the list", lambda: speaks_most_now(window))
    window.command("CodeRL: How Much It Speaks")
    window.choose_listed(DIAL, "judgement", "0, the gate's own judgement")
    window.wait("the setting", lambda: of_the_user(editor).get("coderl.eagerness") == 0)


def test_why_it_was_silent_in_words(window: Window) -> None:
    window.open("why.py")
    window.type("x = 1")
    window.wait_status("The generator had nothing to say here.")
    window.command("CodeRL: Why Was It Silent?")
    window.wait("why", lambda: any("CodeRL: The generator had nothing to say here." in one for one in window.toasts()))
    window.choose("Speak Less or More")
    window.choose_listed(DIAL, "judgement", "0, the gate's own judgement")
    window.press("Control+Alt+n")
    window.browser.do("click", window.name, selector=ITEM)
    window.wait("why, on a click", lambda: any("had nothing to say here" in one for one in window.toasts()))


def test_a_restart_when_asked(editor: Editor, window: Window) -> None:
    window.open("restart.py")
    before = editor.server.servers()
    window.command("CodeRL: Restart Server")
    window.wait("another server", lambda: len(now := editor.server.servers()) == 1 and now != before)
    window.wait_status("ready")
    window.suggest("x = alp", "habet + 1")


def test_telemetry_is_off_so_a_folder_cannot_have_code_logged(editor: Editor, window: Window) -> None:
    """What is logged is at most what the user's own settings say."""
    editor.server.set(**{"coderl.privacy": "code"})
    window.open("code.py")
    window.type_until("text in the log", "x = alp", lambda: "alp" in str(window.log.texts()))
    editor.server.set(**{"coderl.privacy": "metrics"})
    own(window, "code", **HIDDEN)
    arrived(window)
    window.open("metrics.py")
    window.type_until("a row without text", "x = alp", lambda: window.log.texts()[-1] is None)


@pytest.mark.parametrize("whose", ["user", "folder"])
def test_off_logs_nothing(editor: Editor, window: Window, whose: str) -> None:
    if whose == "user":
        own(window, "metrics")
        editor.server.set(**{"coderl.privacy": "off", **HIDDEN})
    else:
        own(window, "off", **HIDDEN)
    arrived(window)
    file = window.open(f"off_{whose}.py")
    # The settings arrive while it is typed; what was asked for before that is asked for again with the next keys.
    window.type_until("ghost text", "x = alp", lambda: window.ghost() != "")
    window.press("Tab", "Control+s")
    window.wait("the accepted text on the disk", lambda: file.read_text().endswith("x = alphabet + 1"))
    (window.folder / ".vscode" / "settings.json").unlink()
    editor.server.set(**{"coderl.privacy": None, "coderl.showStatus": None})
    window.wait_status("CodeRL")
    nothing_was_logged(window, file)


def test_two_folders_in_one_workspace(editor: Editor) -> None:
    window = editor.server.workspace(editor.browser, "both", ["left", "right"], editor.log)
    editor.server.warm_up(window, "alp")
    assert len(editor.server.servers()) == 2, "one server for each window, not for each folder"
    window.open("left/same.py")
    window.command("CodeRL: Toggle Suggestions in This File")
    wanted = {"coderl.disableGlobs": ["left/same.py"]}
    window.wait("the setting", lambda: settings(window.folder / "both.code-workspace").get("settings") == wanted)
    # Now and then the page loads anew when the workspace's file changes: the message is gone then, and keys are lost.
    window.type_until("a file that is switched off", "x = alp", lambda: OFF in window.status())
    window.close()
    editor.log.begin()
    file = window.open("right/same.py")
    window.suggest("x = alp", "habet + 1")
    window.press("Tab")
    window.saved(file, "import sys\nx = alphabet + 1")
    window.outcomes(("accepted", "command", "", 9))
    editor.browser.do("close", "both")
    editor.browser.do("front", "first")
