"""The real Emacs with eglot, in batch, with the real server: what is in the buffer, and what is in the database.

Eglot speaks no inline completion by itself; `emacs_driver.el` asks and accepts through jsonrpc. It is the one client here that
counts positions in code points (utf-32).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from .emacs_driver import Emacs, emacs, lisp
from .logged import ALWAYS, Outcome, last_place, outcomes, rows, scripted, wait_outcomes

RULES = [
    {"pattern": r"slow\Z", "text": "_answer", "first_delay_ms": 20_000},
    {"pattern": r"alp\Z", "text": "habet + 1"},
    {"pattern": r"def add\(a, b\):\s*\Z", "text": "\n    c = a + b\n    return c"},
]
SEEN_S = 0.3
"""Less than 250 ms on screen counts as not seen."""
TAKEN: Outcome = ("accepted", "command", "", len("habet + 1"))

Open = Callable[..., AbstractContextManager[Emacs]]


@pytest.fixture
def open_emacs(tmp_path: Path) -> Open:
    """`open_emacs(text=…)`: a context with a running Emacs and server."""
    return partial(emacs, tmp_path / "emacs", scripted(tmp_path, RULES), ALWAYS)


@pytest.fixture
def editor(open_emacs: Open) -> Iterator[Emacs]:
    with open_emacs() as running:
        yield running
        running.stop()
        assert "rror" not in running.said(), running.said()


def flush(editor: Emacs) -> Callable[[], object]:
    return lambda: editor.request("coderl/flush")


# -- life cycle ---------------------------------------------------------------------------------------------------------------


def test_what_is_agreed_on_at_the_start(editor: Emacs, own_home: Path) -> None:
    told = editor.call("driver-server")
    assert (told["encoding"], told["inline"], told["name"]) == ("utf-32", True, "coderl")
    assert editor.ask() == []
    assert editor.request("coderl/flush")["committed"]
    [(name, version)] = rows(own_home, "SELECT client_name, client_version FROM sessions")
    assert (name, version) == ("Eglot", told["version"])


def test_a_file_closed_and_opened_again(editor: Emacs, own_home: Path) -> None:
    editor.type("result = alp")
    editor.suggestion()
    time.sleep(SEEN_S)
    editor.eval("(let ((file buffer-file-name)) (set-buffer-modified-p nil) (kill-buffer) (find-file file) nil)")
    editor.eval("(eglot--maybe-activate-editing-mode)")
    editor.eval("(goto-char (point-max))")
    editor.type("x = alp")
    editor.accept(editor.suggestion())
    assert editor.text() == "import sys\nx = alphabet + 1"
    wait_outcomes(own_home, flush(editor), [("moved_on", "inferred", "closed", 0), TAKEN])


def test_the_shutdown_of_eglot_loses_nothing(open_emacs: Open, tmp_path: Path, own_home: Path) -> None:
    """Eglot kills a server that has not ended 0.1 s after `exit`. What was logged is safe by then; the next server has it."""
    with open_emacs() as running:
        running.type("result = alp")
        running.accept(running.suggestion())
        running.type("\nother = alp")
        running.suggestion()
        time.sleep(SEEN_S)
        running.eval("(progn (set-buffer-modified-p nil) (eglot-shutdown (eglot-current-server)))")
    with emacs(tmp_path / "next", scripted(tmp_path, RULES), ALWAYS) as running:
        wait_outcomes(own_home, flush(running), [TAKEN, ("moved_on", "inferred", "session_end", 0)])
        running.stop()
    assert rows(own_home, "SELECT count(*) FROM sessions") == [(2,)]


# -- text and positions -------------------------------------------------------------------------------------------------------

EDITS = {
    "typed": ("type", "def größe(名前):\n    return '😀'\n"),
    "in the middle": ("eval", '(progn (goto-char 3) (insert "\\U0001f642\\n\\U0001d54f"))'),
    "a character outside the basic plane removed": ("eval", "(progn (goto-char 4) (delete-char -1))"),
    "lines removed": ("eval", "(delete-region 2 (- (point-max) 6))"),
    "undone": ("eval", "(progn (primitive-undo 1 buffer-undo-list) nil)"),
    "replaced everywhere": ("eval", '(progn (goto-char 1) (while (search-forward "r" nil t) (replace-match "RR\\n")))'),
    "moved": ("eval", "(progn (goto-char 1) (transpose-lines 1) nil)"),
    "joined to a family": ("eval", '(insert "\\U0001f469\\u200d\\U0001f467 e\\u0301 \\u2028 \\t")'),
    "all at once": ("eval", '(progn (erase-buffer) (insert "\\r\\nnew\\r\\n\\U0001f642"))'),
}


def test_the_server_sees_the_text_that_emacs_has(editor: Emacs, own_home: Path) -> None:
    for name, (how, what) in EDITS.items():
        editor.type(what) if how == "type" else editor.eval(what)
        editor.ask()
        assert editor.request("coderl/flush")["committed"]
        line, character, before, behind = last_place(own_home)
        text, point = editor.text(), int(editor.eval("(point)")) - 1
        assert (before, behind) == (text[:point], text[point:]), name
        assert character == len(text[:point].rsplit("\n", 1)[-1]), name
        assert line == text[:point].count("\n"), name


PLACES = {
    "end of the line": ("result = alp", "", "result = alphabet + 1"),
    "mid-line": ("print(alp", ", 2)", "print(alphabet + 1, 2)"),
    "emoji": ("x['🙂👩‍👧𝕏'] = alp", "", "x['🙂👩‍👧𝕏'] = alphabet + 1"),
    "CJK": ("名前 = '値' # 数 alp", "", "名前 = '値' # 数 alphabet + 1"),
    "emoji before, text behind": ("f('🙂𝕏', alp", ", '🙂')", "f('🙂𝕏', alphabet + 1, '🙂')"),
    "several lines": ("def add(a, b):\n    ", "", "def add(a, b):\n    c = a + b\n    return c"),
}


def test_accepting_in_all_kinds_of_places(editor: Emacs, own_home: Path) -> None:
    for name, (before, behind, after) in PLACES.items():
        editor.eval(f"(progn (erase-buffer) (insert {lisp(before + behind)}) (backward-char {len(behind)}))")
        item = editor.suggestion()
        assert item["range"]["end"]["character"] == len(before.rsplit("\n", 1)[-1]), name
        editor.accept(item)
        assert editor.text() == after, name
    wait_outcomes(own_home, flush(editor), [TAKEN] * (len(PLACES) - 1) + [(*TAKEN[:3], len("c = a + b\n    return c"))])


# -- outcomes -----------------------------------------------------------------------------------------------------------------


def test_accepting_runs_the_command(editor: Emacs, own_home: Path) -> None:
    editor.type("result = alp")
    editor.accept(editor.suggestion())
    assert editor.text() == "import sys\nresult = alphabet + 1"
    wait_outcomes(own_home, flush(editor), [TAKEN])
    [(action, kept)] = rows(
        own_home, "SELECT d.action, o.kind FROM outcomes o JOIN decisions d ON d.id = o.decision_id WHERE o.kind = 'accepted'"
    )
    assert (action, kept) == ("show", "accepted")


INFERRED: dict[str, tuple[str, Outcome]] = {
    # What the programmer does once the suggestion `habet + 1` is there; {item} is that item.
    "the text comes in one piece, without the command": ("(driver-insert {item})", ("accepted", "inferred", "", 9)),
    "typed through, key by key": (
        '(mapc (lambda (key) (driver-type (string key)) (eglot--signal-textDocument/didChange)) "habet + 1")',
        ("typed_through", "inferred", "", 0),
    ),
    # Eglot waits for half a second without a key and then sends what was typed as one change.
    "typed through, faster than eglot tells": ('(driver-type "habet + 1")', ("accepted", "inferred", "", 9)),
    "something else is typed": ('(driver-type "Z")', ("disagreed", "inferred", "", 0)),
    "a key is taken back": ("(delete-char -1)", ("deleted", "inferred", "", 0)),
    "the first word comes in one piece": (
        '(progn (insert "habet") (eglot--signal-textDocument/didChange) (driver-type "Z"))',
        ("partially_accepted", "inferred", "disagreed", 5),
    ),
    "asked elsewhere": ("(progn (goto-char 1) (driver-ask))", ("moved_on", "inferred", "requested_elsewhere", 0)),
}


def test_what_eglot_does_not_say_is_inferred(editor: Emacs, own_home: Path) -> None:
    expected: list[Outcome] = []
    for number, (form, outcome) in enumerate(INFERRED.values()):
        editor.eval("(goto-char (point-max))")
        editor.type(f"\nresult_{number} = alp")  # a name of its own, or it would repeat the line above
        item = editor.suggestion()
        time.sleep(SEEN_S)
        editor.eval(form.format(item=lisp(item)))
        editor.eval("(eglot--signal-textDocument/didChange)")
        expected.append(outcome)
        wait_outcomes(own_home, flush(editor), expected)


def test_a_glimpse_is_not_seen(editor: Emacs, own_home: Path) -> None:
    editor.type("result = alp")
    editor.eval('(progn (driver-ask) (driver-type "Z") (eglot--signal-textDocument/didChange))')
    wait_outcomes(own_home, flush(editor), [("not_seen", "inferred", "too_short", 0)])


def test_a_newer_request_ends_the_older_one(editor: Emacs, own_home: Path) -> None:
    editor.type("x = slow")
    editor.call("driver-ask-later")
    editor.type("\ny = alp")
    item = editor.suggestion()
    assert editor.eval("(progn (while (not driver-late) (accept-process-output nil 0.1)) driver-late)") == -32800
    editor.accept(item)
    assert editor.text() == "import sys\nx = slow\ny = alphabet + 1"
    wait_outcomes(own_home, flush(editor), [TAKEN])
    assert outcomes(own_home) == [TAKEN]
