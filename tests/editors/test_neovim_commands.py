"""`:CodeRL`, `:checkhealth coderl`, the status line, the help page, options with mistakes, and a Neovim that is too old."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coderl_server.settings import Settings

from .neovim_driver import ALWAYS, EDITOR, Neovim, Start, as_lua, neovims, plugin_init, scripted_command

SCRIPT = {"rules": [{"pattern": r"alp\Z", "text": "habet + 1"}]}
WORDS = ["eagerness", "log", "restart", "snooze", "status", "toggle", "trigger", "why"]


@pytest.fixture
def start(tmp_path: Path, own_home: Path) -> Iterator[Start]:
    with neovims(tmp_path) as start:
        yield start


@pytest.fixture
def neovim(start: Start, tmp_path: Path) -> Neovim:
    return start(plugin_init({"cmd": scripted_command(tmp_path, SCRIPT), "settings": ALWAYS}))


def said(neovim: Neovim, command: str) -> str:
    """The last line that a command prints, which may come later. Typed, as a user does: called by the API it would raise."""
    neovim.command("messages clear")
    neovim.keys(f":{command}<CR>")
    return neovim.wait(f"what :{command} says", lambda: neovim.messages()).splitlines()[-1]


def test_the_words_of_the_command(neovim: Neovim) -> None:
    def completed(line: str) -> list[str]:
        return list(neovim.lua("return vim.fn.getcompletion(..., 'cmdline')", line))

    assert completed("CodeRL ") == WORDS
    assert completed("CodeRL t") == ["toggle", "trigger"]
    assert completed("CodeRL toggle ") == ["everywhere", "here", "language"]
    assert completed("CodeRL toggle h") == ["here"]
    assert completed("CodeRL why ") == []
    assert said(neovim, "CodeRL eagernes") == f"CodeRL: there is no command eagernes; there are: {', '.join(WORDS)}."
    assert said(neovim, "CodeRL eagerness 2") == "CodeRL: eagerness takes a number from -1 to 1."
    assert said(neovim, "CodeRL snooze nan") == "CodeRL: snooze takes minutes, 0 to 1440; 0 ends it."
    assert said(neovim, "CodeRL toggle me") == "CodeRL: toggle takes everywhere, here or language."
    assert said(neovim, "CodeRL why not") == "CodeRL: why takes nothing behind it."
    assert said(neovim, "CodeRL trigger") == "CodeRL: suggestions come in insert mode."
    assert said(neovim, "CodeRL why")
    neovim.command("CodeRL log")
    assert neovim.lua("return vim.api.nvim_buf_get_name(0)").endswith("lsp.log")


def test_the_switches(neovim: Neovim) -> None:
    assert said(neovim, "CodeRL").startswith("CodeRL: Ready. Generator scripted")
    assert said(neovim, "CodeRL eagerness") == "CodeRL: eagerness is 0."
    assert said(neovim, "CodeRL eagerness -0.5") == "CodeRL: eagerness is -0.5."
    assert said(neovim, "CodeRL snooze").startswith("CodeRL: Suggestions are snoozed. For 10 more minutes.")
    assert said(neovim, "CodeRL snooze 0").startswith("CodeRL: Ready.")

    for scope, where, reason in (("everywhere", "everywhere", "disabled"), ("language", "in python", "disabled")):
        assert said(neovim, f"CodeRL toggle {scope}") == f"CodeRL: suggestions are off {where}."
        neovim.keys("Goalp")
        neovim.wait("the reason", lambda wanted=reason: neovim.decided()[-1:] == [wanted])
        neovim.keys("<Esc>")
        neovim.wait_mode("n")
        assert said(neovim, f"CodeRL toggle {scope}") == f"CodeRL: suggestions are on {where}."
    assert said(neovim, "CodeRL toggle here") == "CodeRL: suggestions are off in this buffer."
    assert said(neovim, "CodeRL toggle here") == "CodeRL: suggestions are on in this buffer."
    neovim.keys("Goalp")
    neovim.wait_ghost("habet + 1")


def test_the_status_line(neovim: Neovim) -> None:
    def status() -> tuple[str, str]:
        found = neovim.lua("local s = require('coderl.status') return { s.line(), s.get().why }")
        return found[0], found[1]

    assert status() == ("CodeRL", "")
    neovim.keys("Goalp")
    neovim.wait_ghost("habet + 1")
    assert status() == ("CodeRL ✓", "")
    neovim.keys("<C-w>nothing")
    neovim.wait("the reason", lambda: status()[1].startswith("The generator had nothing to say here."))
    assert status()[0] == "CodeRL ·"
    neovim.keys("<Esc>")
    drawn = neovim.lua("return vim.api.nvim_eval_statusline([[%{v:lua.require'coderl.status'.line()}]], {}).str")
    assert drawn == "CodeRL ·"
    neovim.command("enew")
    assert status() == ("", "")


def test_a_server_without_a_model_warns_in_the_status_line_and_on_the_health_page(start: Start) -> None:
    neovim = start(plugin_init({"cmd": [sys.executable, "-m", "coderl_server", "lsp"]}))
    line = "return require('coderl.status').line()"
    neovim.wait("the warning", lambda: neovim.lua(line) == "CodeRL !")
    assert "coderl models install" in neovim.lua("return require('coderl.status').get().why")
    neovim.command("checkhealth coderl")
    page = "\n".join(neovim.lines())
    assert re.search(r"WARNING .*coderl models install", page), page
    assert "ERROR Embedded model" in page


def test_trigger_asks_by_hand(start: Start, tmp_path: Path) -> None:
    settings = {**ALWAYS, "manualOnly": True}
    keys = {"trigger": "<M-t>"}
    neovim = start(plugin_init({"cmd": scripted_command(tmp_path, SCRIPT), "settings": settings, "keys": keys}))
    neovim.keys("Goalp")
    neovim.wait_decided("manual_only")
    neovim.keys("<M-t>")
    neovim.wait_ghost("habet + 1")
    assert neovim.decided()[-1] in ("asked_for", "always_shown")


def test_the_health_page(neovim: Neovim) -> None:
    neovim.command("checkhealth coderl")
    page = "\n".join(neovim.lines())
    assert "ERROR Embedded model" in page or "OK Embedded model" in page
    for line in ("OK Neovim 0.", "OK This Neovim says what is on screen", "OK Ready. Generator scripted", "OK Python: 3."):
        assert line in page, page


def test_the_health_page_without_a_server(start: Start) -> None:
    neovim = start(plugin_init({"cmd": ["no-such-program", "lsp"]}), attach=False)
    neovim.command("checkhealth coderl")
    page = "\n".join(neovim.lines())
    assert "ERROR no-such-program cannot be started" in page
    assert "WARNING The server does not run in this Neovim" in page


def test_mistakes_in_the_options_are_named_and_the_rest_applies(start: Start, tmp_path: Path) -> None:
    options = {
        "cmd": scripted_command(tmp_path, SCRIPT), "settings": {**ALWAYS, "eagernes": 1}, "kees": {}, "report": "no",
        "keys": {"accept": "<Tab>", "swallow": "x", "dismiss": ""},
    }  # fmt: skip
    neovim = start(plugin_init(options))
    neovim.keys("Goalp")
    neovim.wait_ghost("habet + 1")
    neovim.keys("<Tab>")
    neovim.wait_line("alphabet + 1")
    messages = neovim.messages().splitlines()
    assert [line for line in messages if "option" in line or "key" in line] == [
        "CodeRL: there is no option kees; there are: cmd, enable, highlight, keys, report, restart, settings.",
        "CodeRL: option report must be a boolean, not a string.",
        'CodeRL: key dismiss must be a text such as "<M-l>".',
        "CodeRL: there is no key swallow; there are: accept, accept_line, accept_word, dismiss, next, trigger.",
    ]
    assert "Unknown setting coderl.eagernes" in neovim.messages()
    assert "stack traceback" not in neovim.messages()


def test_a_neovim_that_is_too_old_gets_a_sentence(start: Start) -> None:
    old = """
      local has = vim.fn.has
      vim.fn.has = function(what) return what == 'nvim-0.12' and 0 or has(what) end
      vim.lsp.inline_completion = nil
    """
    neovim = start(old + plugin_init({"keys": {"accept": "<Tab>"}}), attach=False)
    needed = "CodeRL: Neovim 0.12 or newer is needed: this one has no inline completion."
    assert neovim.messages() == needed
    assert said(neovim, "CodeRL why") == needed
    assert neovim.lua("return require('coderl').accept()") is False
    neovim.command("checkhealth coderl")
    assert "ERROR Neovim 0.12 or newer is needed" in "\n".join(neovim.lines())


def test_the_highlight_outlives_a_colour_scheme(start: Start) -> None:
    neovim = start(plugin_init({"enable": False, "highlight": "Title"}), attach=False)
    linked = "return vim.api.nvim_get_hl(0, { name = 'ComplHint' }).link"
    assert neovim.lua(linked) == "Title"
    neovim.command("colorscheme blue")
    assert neovim.lua(linked) == "Title"


def test_the_help_page_has_its_tags(start: Start, tmp_path: Path) -> None:
    neovim = start("", attach=False)
    page = (EDITOR / "doc" / "coderl.txt").read_text(encoding="utf-8")
    folder = tmp_path / "doc"
    folder.mkdir()
    (folder / "coderl.txt").write_text(page, encoding="utf-8")
    neovim.command(f"helptags {folder}")
    tags = {line.split("\t")[0] for line in (folder / "tags").read_text().splitlines()}
    assert {"coderl", "coderl.txt", ":CodeRL", "coderl.setup()"} <= tags
    assert set(re.findall(r"(?<!\w)\|([^|\s]+)\|", page)) - tags <= {":checkhealth", "lsp-inline_completion", "hl-ComplHint"}
    assert max(len(line) for line in page.splitlines()) <= 78
    for word in WORDS:
        assert f"*:CodeRL-{word}*" in page
    keys = neovim.lua(f"vim.opt.runtimepath:prepend({as_lua(str(EDITOR))}) return require('coderl.config').KEYS")
    assert not [key for key in keys if f"`{key}`" not in page]


def test_the_languages_left_alone_are_those_of_the_server(start: Start) -> None:
    neovim = start("", attach=False)
    off = neovim.lua(f"vim.opt.runtimepath:prepend({as_lua(str(EDITOR))}) return require('coderl.config').OFF")
    assert sorted(off) == sorted(name for name, on in Settings().languages.items() if not on)
    assert json.loads((EDITOR / ".luarc.json").read_text(encoding="utf-8"))


def test_the_options_in_the_readme_and_the_help_page_are_right(start: Start) -> None:
    neovim = start(plugin_init({"enable": False}), attach=False)
    blocks = re.findall(r"```lua\n(.*?)```", (EDITOR / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    [spec] = [block for block in blocks if block.startswith("{")]
    problems = (
        "local options = load('return ' .. ...)() return select(2, require('coderl.config').resolve(options.opts or options))"
    )
    assert neovim.lua(problems, spec) == []
    page = (EDITOR / "doc" / "coderl.txt").read_text(encoding="utf-8")
    example = re.search(r"setup\((\{.*?\n    \})\)", page, re.DOTALL)
    assert example is not None
    assert neovim.lua(problems, example[1]) == []
