"""The plugin of editors/nvim in the real Neovim, with the real server: what is in the buffer, and what is in the database.

The generator is scripted, and everything is shown; so what a test types decides what comes. Numbers of outcomes are exact.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .neovim_driver import ALWAYS, Neovim, Start, neovims, outcomes, plugin_init, rows, scripted_command, wait_outcomes

SCRIPT = {
    # The last blank before the place is no part of the prompt: the texts begin with it.
    "rules": [
        {"pattern": r"slow\Z", "text": "_answer", "first_delay_ms": 2500},
        {"pattern": r"alp\Z", "text": "habet + 1"},
        {"pattern": r"def add\(a, b\):\s*\Z", "text": " c = a + b\n    return c"},
        {"pattern": r"\tif ready:\s*\Z", "text": "\tgo()\n\t\tstop()"},
    ]
}
KEYS = {"accept": "<Tab>", "accept_word": "<M-w>", "accept_line": "<M-l>", "dismiss": "<M-x>"}
SEEN_S = 0.3
"""Less than 250 ms on screen counts as not seen."""


def options(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    # Without cooldown and memory of rejections, which would make one case depend on the one before it.
    quiet = {"cooldownS": 0, "rememberRejections": 0}
    return {"cmd": scripted_command(tmp_path, SCRIPT), "settings": {**ALWAYS, **quiet, **settings}, "keys": KEYS}


@pytest.fixture
def start(tmp_path: Path, own_home: Path) -> Iterator[Start]:
    with neovims(tmp_path) as start:
        yield start


@pytest.fixture
def neovim(start: Start, tmp_path: Path) -> Neovim:
    return start(plugin_init(options(tmp_path)))


def shown_id(neovim: Neovim) -> str:
    """The id of the suggestion on screen."""
    body = """local _, item = require('coderl.ghost').current(vim.api.nvim_get_current_buf())
      return item and item.command.arguments[1] or ''"""
    return str(neovim.lua(body))


def suggest(neovim: Neovim, keys: str = "Goresult = alp", ghost: str = "habet + 1") -> str:
    """Type, and wait for the suggestion; its id."""
    neovim.keys(keys)
    neovim.wait_ghost(ghost)
    return shown_id(neovim)


# -- accepting ----------------------------------------------------------------------------------------------------------------

PLACES = {
    "end of the line": ("oresult = alp", "habet + 1", ["result = alphabet + 1"]),
    "mid-line": ("oprint(, 2)<C-o>F,alp", "habet + 1", ["print(alphabet + 1, 2)"]),
    "several lines": ("odef add(a, b):<CR>", "c = a + b\n    return c", ["def add(a, b):", "    c = a + b", "    return c"]),
    "tabs": (
        "<Esc>:setlocal noexpandtab<CR>o\tif ready:<CR><C-u>\t\t",
        "go()\n\t\tstop()",
        ["\tif ready:", "\t\tgo()", "\t\tstop()"],
    ),
    "emoji": ("ox['🙂👩‍👧𝕏'] = alp", "habet + 1", ["x['🙂👩‍👧𝕏'] = alphabet + 1"]),
    "CJK": ("o名前 = '値' # 数alp", "habet + 1", ["名前 = '値' # 数alphabet + 1"]),
    "emoji before, text behind": ("of('🙂', )<Left>alp", "habet + 1", ["f('🙂', alphabet + 1)"]),
    "auto-closed bracket": ("<Esc>:inoremap <lt>buffer> ( ()<lt>Left><CR>oprint(alp", "habet + 1", ["print(alphabet + 1)"]),
}


def test_accepting_in_all_kinds_of_places(neovim: Neovim, own_home: Path) -> None:
    for name, (keys, ghost, after) in PLACES.items():
        neovim.lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'import sys' })")
        neovim.keys(keys)
        neovim.wait_ghost(ghost)
        neovim.keys("<Tab>")
        neovim.wait(f"{name}: the accept", lambda wanted=after: neovim.lines() == ["import sys", *wanted])
        assert neovim.ghost() is None, name
        neovim.keys("<Esc>")
        neovim.wait_mode("n")
    wait_outcomes(neovim, own_home, [("accepted", "command", "")] * len(PLACES))
    neovim.assert_undisturbed()


def test_accepting_in_a_file_with_line_ends_of_dos(start: Start, tmp_path: Path, own_home: Path) -> None:
    neovim = start(plugin_init(options(tmp_path)), text=b"import sys\r\n")
    assert neovim.lua("return vim.bo.fileformat") == "dos"
    suggest(neovim, "Godef add(a, b):<CR>", "c = a + b\n    return c")
    neovim.keys("<M-l>")
    neovim.wait_line("    c = a + b")
    neovim.wait_ghost("\n    return c")
    neovim.keys("<Tab><Esc>:write<CR>")
    neovim.wait_mode("n")
    written = (tmp_path / "nvim-0" / "source.py").read_bytes()
    assert written == b"import sys\r\ndef add(a, b):\r\n    c = a + b\r\n    return c\r\n"
    wait_outcomes(neovim, own_home, [("accepted", "command", "")])


def test_undo_takes_back_the_accepted_text_alone(neovim: Neovim, own_home: Path) -> None:
    suggest(neovim)
    neovim.keys("<Tab><Esc>")
    neovim.wait_line("result = alphabet + 1")
    neovim.keys("u")
    neovim.wait_line("result = alp")
    neovim.keys("u")
    neovim.wait_line("import sys")
    wait_outcomes(neovim, own_home, [("accepted", "command", "")])


def test_tab_is_what_it_was_where_nothing_is_shown(start: Start, tmp_path: Path) -> None:
    before = "vim.keymap.set('i', '<Tab>', '[tab]')\n"
    neovim = start(before + plugin_init(options(tmp_path)))
    neovim.keys("Gox<Tab>y")
    neovim.wait_line("x[tab]y")
    neovim.keys("<Esc>")
    suggest(neovim)
    neovim.keys("<Tab>;<Tab>")
    neovim.wait_line("result = alphabet + 1;[tab]")


# -- taking a part ------------------------------------------------------------------------------------------------------------


def test_a_word_is_taken_and_the_rest_left(neovim: Neovim, own_home: Path) -> None:
    suggest(neovim)
    neovim.keys("<M-w><Esc>")
    neovim.wait_line("result = alphabet")
    wait_outcomes(neovim, own_home, [("partially_accepted", "notification", "moved_on")])
    assert rows(own_home, "SELECT accepted_chars FROM outcomes") == [(len("habet"),)]


def test_a_word_is_taken_and_then_the_rest(neovim: Neovim, own_home: Path) -> None:
    first = suggest(neovim)
    neovim.keys("<M-w>")
    neovim.wait_ghost(" + 1")
    neovim.wait("the rest as a suggestion of its own", lambda: shown_id(neovim) not in ("", first))
    neovim.keys("<M-w>")
    neovim.wait_line("result = alphabet +")
    neovim.keys("<Tab>")
    neovim.wait_line("result = alphabet + 1")
    wait_outcomes(neovim, own_home, [("accepted", "command", ""), ("not_seen", "inferred", "reserved")])
    accepted = "SELECT accepted_chars FROM outcomes WHERE kind = 'accepted'"
    assert rows(own_home, accepted) == [(len("habet + 1"),)]


def test_a_line_is_taken_and_the_rest_left(neovim: Neovim, own_home: Path) -> None:
    suggest(neovim, "Godef add(a, b):<CR>", "c = a + b\n    return c")
    neovim.keys("<M-l><Esc>")
    neovim.wait_line("    c = a + b")
    wait_outcomes(neovim, own_home, [("partially_accepted", "notification", "moved_on")])
    assert rows(own_home, "SELECT accepted_chars FROM outcomes") == [(len("c = a + b"),)]


# -- not taking it ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "outcome"),
    [
        ("<M-x>", ("dismissed", "notification", "")),
        ("<Esc>", ("moved_on", "notification", "")),
        ("<C-c>", ("moved_on", "notification", "")),
        ("Z", ("disagreed", "inferred", "")),
        ("habet + 1", ("typed_through", "inferred", "")),
        ("<BS>", ("deleted", "inferred", "")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_suggestion_is_seen_and_not_taken(neovim: Neovim, own_home: Path, keys: str, outcome: tuple[str, str, str]) -> None:
    suggest(neovim)
    time.sleep(SEEN_S)
    neovim.keys(keys)
    neovim.wait_no_ghost()
    wait_outcomes(neovim, own_home, [outcome])
    neovim.assert_undisturbed()


def test_an_indentation_that_goes_with_insert_mode_was_not_deleted_by_the_programmer(neovim: Neovim, own_home: Path) -> None:
    suggest(neovim, "Godef add(a, b):<CR>", "c = a + b\n    return c")
    assert neovim.line() == "    "
    time.sleep(SEEN_S)
    neovim.keys("<Esc>")
    neovim.wait_line("")
    wait_outcomes(neovim, own_home, [("moved_on", "notification", "")])


def test_a_glimpse_is_not_seen(start: Start, tmp_path: Path, own_home: Path) -> None:
    neovim = start(plugin_init(options(tmp_path)))
    # By Neovim itself: a key through the driver may come too late.
    neovim.lua("""vim.api.nvim_create_autocmd('LspNotify', { callback = function(event)
      if event.data.method == 'textDocument/didShowCompletion' then require('coderl').dismiss() end
    end })""")
    neovim.keys("Goresult = alp")
    wait_outcomes(neovim, own_home, [("not_seen", "notification", "too_short")])


def test_typing_through_keeps_it_on_screen(neovim: Neovim, own_home: Path) -> None:
    first = suggest(neovim)
    neovim.keys("ha")
    neovim.wait_ghost("bet + 1")
    neovim.wait("the rest under another name", lambda: shown_id(neovim) not in ("", first))
    neovim.keys("<Tab>")
    neovim.wait_line("result = alphabet + 1")
    wait_outcomes(neovim, own_home, [("accepted", "command", "")])


# -- slow, killed, restarted --------------------------------------------------------------------------------------------------


def test_fast_typing_while_a_slow_answer_is_under_way(neovim: Neovim, own_home: Path) -> None:
    neovim.keys("Goresult = slow")
    neovim.wait_pending()
    suggest(neovim, "<C-w>alp")
    neovim.wait_decided("superseded")
    neovim.keys("h<Tab>")
    neovim.wait_line("result = alphabet + 1")
    wait_outcomes(neovim, own_home, [("accepted", "command", "")])
    neovim.assert_undisturbed()


def server_pid(neovim: Neovim) -> int:
    children = Path(f"/proc/{neovim.process.pid}/task/{neovim.process.pid}/children").read_text().split()
    servers = [int(pid) for pid in children if b"coderl_server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(servers) == 1, servers
    return servers[0]


def test_a_killed_server_is_started_again_and_that_is_told_once(neovim: Neovim, own_home: Path) -> None:
    neovim.keys("Goresult = slow")
    neovim.wait_pending()
    for _ in range(2):
        before = server_pid(neovim)
        os.kill(before, signal.SIGKILL)
        neovim.wait("the end of the server", lambda: neovim.lua("return #vim.lsp.get_clients({ name = 'coderl' }) == 0"))
        neovim.wait_attached()
        assert server_pid(neovim) != before
    suggest(neovim, "<C-w>alp")
    neovim.keys("<Tab>")
    neovim.wait_line("result = alphabet + 1")
    wait_outcomes(neovim, own_home, [("accepted", "command", "")])
    said = [line for line in neovim.messages().splitlines() if line.startswith("CodeRL:")]
    assert said == ["CodeRL: the server ended unexpectedly and is started again; `:CodeRL log` says more."]


QUICK = """
local later = vim.defer_fn
_G.waits = {}
vim.defer_fn = function(act, ms)
  if ms >= 1000 then table.insert(_G.waits, ms) end
  return later(act, ms / 50)
end
"""
"""A clock for the pauses that runs fifty times as fast."""


def test_a_server_that_ends_again_and_again_is_given_up_and_that_is_told_once(start: Start, tmp_path: Path) -> None:
    neovim = start(QUICK + plugin_init(options(tmp_path)))
    for _ in range(6):
        neovim.wait_attached()
        os.kill(server_pid(neovim), signal.SIGKILL)
        neovim.wait("the end of the server", lambda: neovim.lua("return #vim.lsp.get_clients({ name = 'coderl' }) == 0"))
    neovim.wait("the last word", lambda: "in a row" in neovim.messages())
    assert neovim.lua("return _G.waits") == [1000, 2000, 4000, 8000, 16000]
    said = [line for line in neovim.messages().splitlines() if line.startswith("CodeRL:")]
    assert said == [
        "CodeRL: the server ended unexpectedly and is started again; `:CodeRL log` says more.",
        "CodeRL: the server ended 6 times in a row; `:CodeRL restart` tries again, `:CodeRL log` says more.",
    ]
    neovim.keys("Goresult = alp")
    neovim.wait_line("result = alp")
    assert neovim.lua("return #vim.lsp.get_clients({ name = 'coderl' })") == 0
    neovim.command("CodeRL restart")
    neovim.wait_attached()
    suggest(neovim, "<C-w>alp")
    assert neovim.lua("return #_G.waits") == 5


@pytest.mark.parametrize("command", ["CodeRL restart", "lsp restart coderl"])
def test_a_restart_by_hand(neovim: Neovim, own_home: Path, command: str) -> None:
    suggest(neovim)
    time.sleep(SEEN_S)
    before = server_pid(neovim)
    neovim.lua("vim.cmd(...)", command)
    new = "local client = vim.lsp.get_clients({ name = 'coderl' })[1] return client and client.id > 1 or false"
    neovim.wait("a new client", lambda: neovim.lua(new))
    neovim.wait_attached()
    assert server_pid(neovim) != before
    suggest(neovim, "<C-w>alp")
    neovim.keys("<Tab>")
    neovim.wait_line("result = alphabet + 1")
    # The first server wrote down what its end did to the suggestion on screen.
    wait_outcomes(neovim, own_home, [("accepted", "command", ""), ("moved_on", "inferred", "session_end")])
    assert neovim.messages() == ""


# -- settings, secrets, company -----------------------------------------------------------------------------------------------


def test_settings_are_changed_while_it_runs(neovim: Neovim) -> None:
    neovim.keys("Goresult = alp")
    neovim.wait_ghost("habet + 1")
    neovim.lua("require('coderl').change({ rule = 'never_show' })")
    neovim.keys("<C-w>alp")
    neovim.wait_decided("never_shown")
    neovim.wait_no_ghost()
    neovim.lua("require('coderl').change({ rule = 'always_show' })")
    neovim.keys("<C-w>alp")
    neovim.wait_ghost("habet + 1")


@pytest.mark.parametrize("name", [".env", "server.pem"])
def test_a_file_with_secrets_stays_silent(start: Start, tmp_path: Path, own_home: Path, name: str) -> None:
    neovim = start(plugin_init(options(tmp_path, privacy="code")), name=name, text="KEY=hunter2\n")
    neovim.keys("Goresult = alp")
    neovim.wait_decided("secret_file")
    assert neovim.ghost() is None
    assert neovim.request("coderl/flush")["committed"]
    assert outcomes(own_home) == []
    everything = b"".join(path.read_bytes() for path in own_home.rglob("*") if path.is_file())
    assert b"hunter2" not in everything
    assert b"result = alp" not in everything


def test_two_neovims_at_once(start: Start, tmp_path: Path, own_home: Path) -> None:
    both = [start(plugin_init(options(tmp_path))) for _ in range(2)]
    for neovim in both:
        neovim.keys("Goresult = alp")
    for neovim in both:
        neovim.wait_ghost("habet + 1")
        neovim.keys("<Tab>")
    for neovim in both:
        neovim.wait_line("result = alphabet + 1")
        assert neovim.request("coderl/flush")["committed"]
    wait_outcomes(both[0], own_home, [("accepted", "command", "")] * 2)
    assert rows(own_home, "SELECT count(DISTINCT session_id) FROM outcomes") == [(2,)]
    for neovim in both:
        neovim.assert_undisturbed()
