"""The same where the host opens `inlineCompletionsAdditions`: the editor's own events instead of our approximations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .vscode_case import Editor, running


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    with running("code-server-open", tmp_path_factory.mktemp("proposed")) as started:
        yield started


def test_the_editors_own_events_become_outcomes(editor: Editor) -> None:
    window = editor.clean("first")
    file = window.open("accept.py")
    window.suggest("result = alp", "habet + 1")
    window.press("Tab")
    window.saved(file, "import sys\nresult = alphabet + 1")
    window.outcomes(("accepted", "command", "", 9))

    window = editor.clean("first")
    file = window.open("escape.py")
    window.suggest("result = alp", "habet + 1")
    window.press("Escape")
    window.wait_no_ghost()
    window.outcomes(("dismissed", "notification", "", 0))

    window = editor.clean("first")
    file = window.open("word.py")
    window.suggest("total = ", "first + second")
    window.press("Control+ArrowRight")
    window.wait_read(" + second")
    window.press("Escape")
    window.wait_no_ghost()
    window.saved(file, "import sys\ntotal = first")
    window.outcomes(("partially_accepted", "notification", "dismissed", 5))

    window = editor.clean("first")
    window.open("against.py")
    window.suggest("result = alp", "habet + 1")
    window.type("Z")
    window.wait_no_ghost()
    window.outcomes(("disagreed", "inferred", "", 0))
