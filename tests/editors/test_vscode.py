"""The extension of editors/vscode in a real VS Code whose proposed APIs are shut: keys in, ghost text, files and log out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from .vscode_case import SLOW_MS, Editor, keep_picture, nothing_was_logged, running
from .vscode_editor import Window, wait

ACCEPTED = ("accepted", "command", "")
BODY = "    c = a + b\n    return c"


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    with running("code-server", tmp_path_factory.mktemp("vscode")) as started:
        yield started


@pytest.fixture
def window(editor: Editor) -> Window:
    return editor.clean("first")


def test_ghost_text_appears_and_tab_accepts_it(window: Window) -> None:
    file = window.open("plain.py")
    window.suggest("result = alp", "habet + 1")
    window.wait_status("a suggestion is shown")
    picture = keep_picture(window, "vscode-ghost-text.png")
    assert picture.stat().st_size > 10_000
    window.press("Tab")
    window.wait_no_ghost()
    window.saved(file, "import sys\nresult = alphabet + 1")
    window.outcomes((*ACCEPTED, 9))


def test_tab_is_a_tab_where_nothing_is_shown(window: Window) -> None:
    file = window.open("tab.py", "if True:\n")
    window.press("Tab")
    window.type("pass")
    window.saved(file, "if True:\n    pass")
    window.outcomes()


def test_text_behind_the_cursor_stays(window: Window) -> None:
    file = window.open("middle.py", "print('größer', )")
    window.press("ArrowLeft")
    window.suggest("alp", "habet + 1")
    window.press("Tab")
    window.saved(file, "print('größer', alphabet + 1)")
    window.outcomes((*ACCEPTED, 9))


def test_several_lines(window: Window) -> None:
    file = window.open("lines.py")
    window.suggest("def add(a, b):\n", "c = a + b\n    return c")
    keep_picture(window, "vscode-several-lines.png")
    window.press("Tab")
    window.saved(file, f"import sys\ndef add(a, b):\n{BODY}")
    window.outcomes((*ACCEPTED, 22))


def test_a_file_with_crlf_keeps_its_line_ends(window: Window) -> None:
    file = window.open("crlf.py", "import sys\r\nimport os\r\n")
    window.suggest("def add(a, b):\n", "c = a + b\n    return c")
    window.press("Tab")
    window.saved(file, f"import sys\r\nimport os\r\ndef add(a, b):\r\n{BODY}".replace("b\n", "b\r\n"))
    window.outcomes((*ACCEPTED, 22))


def test_tabs_as_indentation(window: Window) -> None:
    file = window.open("tabs.py", "class A:\n\tx = 1\n\ty = 2\n\n\tdef sub(a, b):")
    window.suggest("\n", "c = a - b\n\t\treturn c".replace("\t", " " * 4))
    window.press("Tab")
    window.saved(file, "class A:\n\tx = 1\n\ty = 2\n\n\tdef sub(a, b):\n\t\tc = a - b\n\t\treturn c")
    window.outcomes((*ACCEPTED, 20))


@pytest.mark.parametrize("before", ["'日本語 😀'", "'👩‍👩‍👧 größer'"], ids=["cjk", "emoji"])
def test_wide_characters_before_the_cursor(window: Window, before: str) -> None:
    file = window.open(f"wide{len(before)}.py", f"x = {before}, ")
    window.suggest("alp", "habet + 1")
    window.press("Tab")
    window.saved(file, f"x = {before}, alphabet + 1")
    window.outcomes((*ACCEPTED, 9))


def test_a_bracket_that_the_editor_has_closed_is_not_doubled(window: Window) -> None:
    file = window.open("bracket.py")
    window.type("print(")
    window.wait("ghost text", lambda: window.ghost().startswith("alpha, beta"))
    window.read()
    window.press("Tab")
    window.saved(file, "import sys\nprint(alpha, beta)")
    window.outcomes((*ACCEPTED, 11))


def test_two_cursors_send_nothing(window: Window) -> None:
    file = window.open("cursors.py", "a = \nb = \n")
    window.press("Control+Home", "End", "Control+Alt+j")
    window.type("alp")
    window.wait_status("Several cursors are active")
    assert window.ghost() == ""
    window.saved(file, "a = alp\nb = alp\n")
    nothing_was_logged(window, file)


def test_a_read_only_editor_sends_nothing(window: Window) -> None:
    file = window.open("readonly_file.py", "x = alp")
    window.type("alp")
    window.command("CodeRL: Suggest Now")
    nothing_was_logged(window, file)


def test_a_comparison_sends_nothing(window: Window) -> None:
    file = window.open("compared.py")
    window.press("Control+Alt+d")
    window.wait("the comparison", lambda: window.see("document.querySelector('.monaco-diff-editor') !== null"))
    window.browser.do("click", window.name, selector=".monaco-diff-editor .editor.modified .view-lines")
    window.press("Control+End")
    window.type_until("the reason", "y = alp", lambda: "This is a comparison" in window.status())
    assert window.see("document.querySelectorAll('.ghost-text-decoration').length") == 0
    window.press("Control+s")
    wait("the saved file", lambda: file.read_text().startswith("import sys\n\ny = alp"), file.read_text)
    nothing_was_logged(window, file)


def test_accepting_word_by_word(window: Window) -> None:
    file = window.open("word.py")
    window.suggest("total = ", "first + second")
    window.press("Control+ArrowRight")
    window.wait_read(" + second")
    window.press("Escape")
    window.wait_no_ghost()
    window.saved(file, "import sys\ntotal = first")
    window.outcomes(("partially_accepted", "notification", "dismissed", 5))


def test_the_last_word_is_an_accept(window: Window) -> None:
    file = window.open("words.py")
    window.suggest("total = ", "first + second")
    while rest := window.ghost():
        window.press("Control+ArrowRight")
        window.wait("a shorter rest", lambda rest=rest: window.ghost() != rest)
    window.saved(file, "import sys\ntotal = first + second")
    window.press("Control+Alt+w")
    window.wait("the outcome", lambda: [one[:3] for one in window.log.outcomes() if one[2] != "reserved"] == [ACCEPTED])
    # A bite that is a single blank reads like a key.
    assert window.log.outcomes()[-1][3] in (13, 14)


def test_accepting_a_line(window: Window) -> None:
    file = window.open("line.py")
    window.suggest("def add(a, b):\n", "c = a + b\n    return c")
    window.press("Control+Alt+l")
    window.wait("the first line only", lambda: "return c" in window.ghost() and "a + b" not in window.ghost())
    window.read()
    window.press("Escape")
    window.wait_no_ghost()
    window.saved(file, "import sys\ndef add(a, b):\n    c = a + b\n")
    window.outcomes(("partially_accepted", "notification", "dismissed", 10))


def test_escape_dismisses(window: Window) -> None:
    file = window.open("escape.py")
    window.suggest("result = alp", "habet + 1")
    window.press("Escape")
    window.wait_no_ghost()
    window.saved(file, "import sys\nresult = alp")
    window.outcomes(("dismissed", "notification", "", 0))


def test_typing_through_keeps_the_suggestion(window: Window) -> None:
    file = window.open("through.py")
    window.type("result = alp")
    window.wait_ghost("habet + 1")
    for rest in ("abet + 1", "bet + 1", "et + 1"):
        window.suggest("habet"["habet + 1".index(rest) - 1], rest)
    window.press("Tab")
    window.saved(file, "import sys\nresult = alphabet + 1")
    window.outcomes((*ACCEPTED, 6))


def test_typing_against_ends_it(window: Window) -> None:
    file = window.open("against.py")
    window.suggest("result = alp", "habet + 1")
    window.type("Z")
    window.wait_no_ghost()
    window.saved(file, "import sys\nresult = alpZ")
    window.outcomes(("disagreed", "inferred", "", 0))


def test_undo_after_an_accept(window: Window) -> None:
    file = window.open("undo.py")
    window.suggest("result = alp", "habet + 1")
    window.press("Tab")
    window.saved(file, "import sys\nresult = alphabet + 1")
    window.press("Control+z")
    window.saved(file, "import sys\nresult = alp")
    window.outcomes((*ACCEPTED, 9))


def test_a_late_answer_does_not_disturb_fast_typing(window: Window) -> None:
    file = window.open("late.py")
    window.type("slow")
    window.wait_status("thinking")
    window.type(" = alp")
    window.wait_ghost("habet + 1")
    # The older answer would come in this time.
    with pytest.raises(pytest.fail.Exception):
        wait("another ghost text", lambda: window.ghost() != "habet + 1", limit_s=SLOW_MS / 1000)
    window.press("Tab")
    window.saved(file, "import sys\nslow = alphabet + 1")
    window.outcomes((*ACCEPTED, 9))
    assert "superseded" in window.log.reasons()


def test_a_secrets_file_stays_silent(window: Window) -> None:
    window.open("prod.env", "KEY=1\n")
    window.type("KEY=alp")
    window.wait_status("looks as if it holds secrets")
    assert window.ghost() == ""
    assert window.log.shown() == 0


def test_settings_apply_at_once(editor: Editor, window: Window) -> None:
    window.open("settings.py")
    editor.server.set(**{"coderl.enabled": False})
    window.type_until("silence", "x = alp", lambda: "suggestions are off here" in window.status())
    window.wait_no_ghost()
    editor.server.set(**{"coderl.enabled": None})
    window.type_until("ghost text", "y = alp", lambda: window.ghost() == "habet + 1")


def test_a_killed_server_comes_back_and_it_is_said_once(editor: Editor, window: Window) -> None:
    window.open("killed.py")
    [server] = editor.server.servers()
    window.type("slow")
    window.wait_status("thinking")
    os.kill(server, signal.SIGKILL)
    window.wait("one message", lambda: len(window.toasts()) == 1)
    assert "the server has ended by itself and is started again in 1 s" in window.toasts()[0]
    window.wait("a new server", lambda: editor.server.servers() not in ([server], []))
    window.wait_status("ready")
    window.suggest("er = alp", "habet + 1")
    window.press("Escape")
    window.wait("an outcome from the new server", lambda: ("dismissed", "notification", "", 0) in window.log.outcomes())
    window.press("Control+Alt+n")
    [second] = editor.server.servers()
    os.kill(second, signal.SIGKILL)
    window.wait_status("the server has ended and is started again in 2 s")
    window.wait("a new server", lambda: editor.server.servers() not in ([second], []))
    window.wait_status("ready")
    assert window.toasts() == []


def test_two_windows_do_not_collide(editor: Editor, window: Window) -> None:
    second = editor.server.window(editor.browser, "second", editor.log)
    editor.server.warm_up(second, "alp")
    editor.log.begin()
    files = []
    for one in (window, second):
        one.browser.do("front", one.name)
        files.append(one.open("two.py"))
        one.suggest("result = alp", "habet + 1")
    assert len(editor.server.servers()) == 2
    for one, file in zip((window, second), files, strict=True):
        one.browser.do("front", one.name)
        one.press("Tab")
        one.saved(file, "import sys\nresult = alphabet + 1")
    window.wait("two outcomes", lambda: editor.log.outcomes() == [(*ACCEPTED, 9)] * 2)
    editor.browser.do("close", "second")
    editor.browser.do("front", "first")
