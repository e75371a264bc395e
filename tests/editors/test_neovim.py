"""The real Neovim with the bare configuration of editors/nvim, no plugin: keys in, ghost text, buffer and log out.

Needs Neovim 0.12 or newer (`neovim_driver`).
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .neovim_driver import ALWAYS, EDITOR, Neovim, Start, as_lua, neovims, outcomes, rows, scripted_command

SCRIPT = {
    "rules": [
        {"pattern": r"slow\Z", "text": "_answer", "first_delay_ms": 2500},
        {"pattern": r"alp\Z", "text": "habet + 1"},
        {"pattern": r"alph\Z", "text": "abet + 1"},
        {"pattern": r"def add\(a, b\):\s*\Z", "text": " c = a + b\n    return c"},
    ]
}
"""What the generator says; at every other place nothing."""


INIT_OPTIONS = f"init_options = {as_lua({'coderl': ALWAYS})}"


@pytest.fixture
def start(tmp_path: Path, own_home: Path) -> Iterator[Start]:
    with neovims(tmp_path) as start:
        yield start


@pytest.fixture
def scripted(start: Start, tmp_path: Path) -> Neovim:
    """Neovim with the file lsp/coderl.lua alone on its runtimepath, and the scripted generator in the server."""
    (tmp_path / "bare" / "lsp").mkdir(parents=True)
    shutil.copy(EDITOR / "lsp" / "coderl.lua", tmp_path / "bare" / "lsp")
    return start(
        f"vim.opt.runtimepath:prepend({as_lua(str(tmp_path / 'bare'))})\n"
        "assert(vim.deep_equal(vim.lsp.config.coderl.cmd, { 'coderl', 'lsp' }))\n"
        f"vim.lsp.config('coderl', {{ cmd = {as_lua(scripted_command(tmp_path, SCRIPT))}, {INIT_OPTIONS} }})\n"
        "vim.lsp.enable('coderl')\nvim.lsp.inline_completion.enable()\n"
        "vim.keymap.set('i', '<Tab>', function()\n"
        "  if not vim.lsp.inline_completion.get() then return '<Tab>' end\nend, { expr = true })\n"
    )


@pytest.mark.model
def test_the_lines_of_the_readme_give_suggestions_of_the_embedded_model(
    embedded_model: Path, start: Start, own_home: Path
) -> None:
    own_home.mkdir()
    (own_home / "models").symlink_to(embedded_model.parent)
    # The page of the editor has the same lines: tests/test_docs.py.
    lines = re.search(r"```lua\n(.*?)```", (EDITOR.parents[1] / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert lines is not None
    neovim = start(f"{lines[1]}\nvim.lsp.config('coderl', {{ {INIT_OPTIONS} }})\n")
    neovim.keys("Goif __name__ ==")
    ghost = neovim.wait("ghost text", neovim.ghost)
    assert ghost is not None
    assert ghost["text"].strip()
    neovim.keys("<Tab>")
    neovim.wait("the accept", lambda: neovim.line() != "if __name__ ==")
    assert neovim.line() == "if __name__ ==" + ghost["text"]
    neovim.assert_undisturbed()

    neovim.wait("the outcome", lambda: neovim.request("coderl/flush")["committed"] and outcomes(own_home))
    query = (
        "SELECT d.action, s.chars, o.kind, o.evidence, o.accepted_chars FROM outcomes o"
        " JOIN suggestions s ON s.id = o.suggestion_id JOIN decisions d ON d.id = o.decision_id WHERE o.kind = 'accepted'"
    )
    chars = len(ghost["text"])
    assert rows(own_home, query) == [("show", chars, "accepted", "command", chars)]
    [(client, generator)] = rows(own_home, "SELECT client_name, generator_id FROM sessions")
    assert (client, generator.startswith("smollm2-135m")) == ("Neovim", True)


def test_tab_accepts_and_is_a_tab_where_nothing_is_shown(scripted: Neovim, own_home: Path) -> None:
    scripted.keys("Goresult = alp")
    assert scripted.wait_ghost("habet + 1")["how"] in ("inline", "overlay")
    scripted.keys("<Tab>")
    scripted.wait("the accept", lambda: scripted.line() == "result = alphabet + 1")
    scripted.wait("no ghost text", lambda: scripted.ghost() is None)
    scripted.keys("<Tab>")
    # Neovim's settings for Python make blanks of it.
    scripted.wait("an indentation", lambda: re.fullmatch(r"result = alphabet \+ 1[ \t]+", scripted.line()))
    scripted.keys("<Esc>")
    scripted.wait("the outcome", lambda: scripted.request("coderl/flush")["committed"] and outcomes(own_home))
    assert outcomes(own_home) == [("accepted", "command", "")]
    scripted.assert_undisturbed()


def test_several_lines_come_as_lines_below(scripted: Neovim) -> None:
    scripted.keys("Godef add(a, b):<CR>")
    scripted.wait_ghost("c = a + b\n    return c")
    scripted.keys("<Tab>")
    scripted.wait("the accept", lambda: scripted.line() == "    return c")
    body = ["def add(a, b):", "    c = a + b", "    return c"]
    assert scripted.lua("return vim.api.nvim_buf_get_lines(0, 1, -1, false)") == body
    assert scripted.lua("return vim.api.nvim_win_get_cursor(0)") == [4, 12]


def test_the_text_behind_the_cursor_stays(scripted: Neovim) -> None:
    scripted.keys("Goprint('größer 𝕏', )<Left>alp")
    ghost = scripted.wait_ghost("habet + 1")
    assert ghost["how"] == "inline"
    scripted.keys("<Tab>")
    scripted.wait("the accept", lambda: scripted.line() == "print('größer 𝕏', alphabet + 1)")


def test_typing_through_keeps_the_suggestion_and_typing_away_ends_it(scripted: Neovim, own_home: Path) -> None:
    scripted.keys("Goresult = alp")
    scripted.wait_ghost("habet + 1")
    scripted.keys("h")
    scripted.wait_ghost("abet + 1")
    time.sleep(0.3)  # seen: less than 250 ms on screen would count as not seen
    scripted.keys("Z")
    scripted.wait("the empty answer", lambda: scripted.ghost() is None)
    scripted.keys("<Esc>")
    scripted.wait("the outcome", lambda: scripted.request("coderl/flush")["committed"] and outcomes(own_home))
    assert outcomes(own_home) == [("disagreed", "inferred", "")]
    scripted.assert_undisturbed()


def test_escape_hides_the_suggestion(scripted: Neovim) -> None:
    scripted.keys("Goresult = alp")
    scripted.wait_ghost("habet + 1")
    scripted.keys("<Esc>")
    scripted.wait("no ghost text", lambda: scripted.ghost() is None)
    assert scripted.line() == "result = alp"
    scripted.assert_undisturbed()


def test_a_late_answer_does_not_replace_the_newer_one(scripted: Neovim) -> None:
    # Neovim does not cancel a request when typing goes on; the server ends the older one.
    scripted.keys("Goresult = slow")
    scripted.wait_pending()
    scripted.keys("<C-w>alp")
    scripted.wait_ghost("habet + 1")
    time.sleep(3.0)  # the older answer would be here by now
    scripted.wait_ghost("habet + 1")
    assert "superseded" in scripted.decided()
    scripted.assert_undisturbed()


def test_leaving_insert_mode_ends_a_pending_request(scripted: Neovim) -> None:
    scripted.keys("Goresult = slow")
    scripted.wait_pending()
    scripted.keys("<Esc>")
    scripted.wait("the cancelled request", lambda: "superseded" in scripted.decided())
    time.sleep(3.0)
    assert scripted.ghost() is None
    scripted.assert_undisturbed()
