"""The plan's programmer in a real Neovim: with our plugin, or with nothing but `vim.lsp.inline_completion` and a key for it."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ..neovim_driver import WAIT_S, Neovim, Start, as_lua, plugin_init, scripted_command
from .plan import SETTINGS, Act, Client, Interaction, Onwards, Step, script
from .score import Report, read_all, score

KEYS = {"accept": "<Tab>", "accept_word": "<M-w>", "accept_line": "<M-l>", "dismiss": "<M-x>"}

BARE_INIT = """
vim.lsp.config('coderl', {{ cmd = {command}, init_options = {{ coderl = {settings} }} }})
vim.lsp.enable('coderl')
vim.lsp.inline_completion.enable()
vim.keymap.set('i', '<Tab>', function()
  if not vim.lsp.inline_completion.get() then return '<Tab>' end
end, {{ expr = true }})
"""

PRESS_AT_ONCE = """
local key = ...
local ns = vim.api.nvim_create_namespace('nvim.lsp.inline_completion')
local answered, before
_G.glimpse_ms = nil
vim.api.nvim_create_autocmd('LspRequest', { callback = function(event)
  local request = event.data.request
  if request.method == 'textDocument/inlineCompletion' and request.type == 'complete' then answered = vim.uv.hrtime() end
  return _G.glimpse_ms ~= nil
end })
local timer = assert(vim.uv.new_timer())
timer:start(0, 2, vim.schedule_wrap(function()
  if timer:is_closing() or #vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {}) == 0 then return end
  timer:close()
  before = vim.b.changedtick
  vim.api.nvim_create_autocmd('TextChangedI', { once = true, callback = function()
    _G.glimpse_ms = (vim.uv.hrtime() - answered) / 1e6
  end })
  vim.api.nvim_feedkeys(key, 'n', false)
end))
"""
UP_TO_CURSOR = """
local current = require('vim.lsp._capability').all.inline_completion.active[vim.api.nvim_get_current_buf()].current
if not current then return false end
local _, _, _, col = current.range:to_extmark()
return col == vim.api.nvim_win_get_cursor(0)[2]
"""
"""Whether what was typed is known: without a plugin, Neovim 0.12 doubles it if it is accepted before."""
GLIMPSE_MS = 200
"""A glimpse that the machine made longer than this is none for sure: it is tried again in another document."""
TRIES = 5
BAD = re.compile(r"\bE\d+:|[Ee]rror|CodeRL")
"""In a message that Neovim shows."""


class Void(Exception):
    """What the plan says did not happen: this interaction tells nothing."""


class Programmer:
    """Goes through interactions in one Neovim."""

    def __init__(self, neovim: Neovim, folder: Path, plugin: bool) -> None:
        self.neovim = neovim
        self.folder = folder
        self.plugin = plugin
        self.documents: dict[int, str] = {}
        """The URI of each interaction's document."""

    def do(self, one: Interaction) -> None:
        """One interaction, again where it was void. Raises Void where it always is."""
        for number in range(TRIES):
            path = self.folder / f"{number}_{one.name}"
            self.documents[one.number] = path.as_uri()
            try:
                self._open(one, path)
                self._steps(one)
                self._onwards(one)
                return
            except Void:
                if number == TRIES - 1:
                    raise
            finally:
                self.neovim.keys("<Esc>")
                self.neovim.wait_mode("n")

    def _open(self, one: Interaction, path: Path) -> None:
        path.write_bytes((one.given + one.after).replace("\n", one.newline).encode())
        self.neovim.lua("vim.cmd.edit(...)", str(path))
        self.neovim.wait_attached()
        lines = one.given.split("\n")
        self.neovim.keys("i")
        self.neovim.wait_mode("i")
        self.neovim.lua("vim.api.nvim_win_set_cursor(0, { ... })", len(lines), len(lines[-1].encode()))
        if one.glimpse:
            self.neovim.lua(PRESS_AT_ONCE, one.steps[0].text)
        self.neovim.keys(typed(one.key))
        if not one.glimpse:
            self.neovim.wait_ghost(one.text)

    def _steps(self, one: Interaction) -> None:
        written = ""
        for step in one.steps:
            time.sleep(step.pause_ms / 1000)
            if one.glimpse:
                self.neovim.wait("the glimpse", lambda: self.neovim.lua("return _G.glimpse_ms ~= nil"))
                if self.neovim.lua("return _G.glimpse_ms") > GLIMPSE_MS:
                    raise Void
            else:
                self._act(one, step)
            written += step.text
            if step.act in (Act.TYPE, Act.ACCEPT, Act.WORD, Act.LINE):
                self._wait_text(one.before + written + one.after)
            if step.rest:
                self.neovim.wait_ghost(step.rest)
                self.neovim.wait("a range up to the cursor", lambda: self.plugin or self.neovim.lua(UP_TO_CURSOR))

    def _act(self, one: Interaction, step: Step) -> None:
        match step.act:
            case Act.TYPE:
                self._type(step.text, one.pace_ms)
            case Act.ENTER:
                row = self.neovim.cursor()[0]
                self.neovim.keys("<CR>")
                self.neovim.wait("the new line", lambda: self.neovim.cursor()[0] > row)
                self._type(step.text, one.pace_ms)
            case Act.UNDO:
                self.neovim.keys("<Esc>u")
                self.neovim.wait_mode("n")
            case Act.ESCAPE:
                self.neovim.keys("<Esc>")
                self.neovim.wait_mode("n")
            case act:
                keys = {
                    Act.ACCEPT: KEYS["accept"], Act.WORD: KEYS["accept_word"], Act.LINE: KEYS["accept_line"],
                    Act.DISMISS: KEYS["dismiss"], Act.UP: "<Up>", Act.BACKSPACE: "<BS>",
                }  # fmt: skip
                self.neovim.keys(keys[act])

    def _type(self, text: str, pace_ms: int) -> None:
        """Key by key; of an indentation only what Neovim has not made by itself."""
        made = 0
        for at, char in enumerate(text):
            if made:
                made -= 1
                continue
            if at:
                time.sleep(pace_ms / 1000)
            row = self.neovim.cursor()[0] if char == "\n" else 0
            self.neovim.keys(typed(char))
            if char == "\n":
                self.neovim.wait("the new line", lambda row=row: self.neovim.cursor()[0] > row)
                made = self.neovim.cursor()[1]
                assert text[at + 1 :].startswith(" " * made), f"Neovim indents by {made} where the plan types {text!r}"

    def _wait_text(self, wanted: str) -> None:
        lines = wanted.removesuffix("\n").split("\n")
        self.neovim.wait(f"the text {wanted!r}", lambda: self.neovim.lines() == lines)

    def _onwards(self, one: Interaction) -> None:
        match one.onwards:
            case Onwards.TYPE_ON:
                self._type("  # so", one.pace_ms)
            case Onwards.BELOW:
                self.neovim.keys("<Esc>o")
                self.neovim.wait_mode("i")
                self._type("y = 1", one.pace_ms)
            case Onwards.TOP:
                self.neovim.keys("<Esc>ggA")
                self.neovim.wait_mode("i")
                self._type("  # so", one.pace_ms)


def typed(text: str) -> str:
    return text.replace("<", "<lt>").replace("\n", "<CR>")


def init(client: Client, command: list[str]) -> str:
    """The init.lua of a client."""
    if client.plugin:
        return plugin_init({"cmd": command, "settings": dict(SETTINGS), "keys": KEYS})
    return BARE_INIT.format(command=as_lua(command), settings=as_lua(dict(SETTINGS)))


def run(client: Client, interactions: tuple[Interaction, ...], start: Start, folder: Path, home: Path) -> Report:
    """Everything in one Neovim; `home` is the server's data folder (CODERL_HOME). The log is read when Neovim has ended."""
    documents = folder / "documents"
    documents.mkdir()
    neovim = start(init(client, scripted_command(folder, script(interactions))))
    programmer = Programmer(neovim, documents, client.plugin)
    for one in interactions:
        programmer.do(one)
    bad = [line for line in neovim.messages().splitlines() if BAD.search(line)]
    assert not bad, bad
    pid = neovim.process.pid
    servers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    neovim.quit()
    end_s = time.monotonic() + WAIT_S
    while left := [server for server in servers if Path("/proc", server).exists()]:
        assert time.monotonic() < end_s, f"the servers {left} have not ended within {WAIT_S:.0f} s"
        time.sleep(0.05)
    return score(client, interactions, read_all(home, programmer.documents))
