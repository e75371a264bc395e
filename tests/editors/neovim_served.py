"""A language server that is a Lua table inside Neovim: it answers what a test says, when the test says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .neovim_driver import EDITOR, Neovim, as_lua

SERVER = """
_G.asked, _G.told = {}, {}
local CAPABILITIES = {
  positionEncoding = 'utf-8',
  textDocumentSync = { openClose = true, change = 2 },
  inlineCompletionProvider = vim.empty_dict(),
  executeCommandProvider = { commands = { 'accept' } },
}
vim.lsp.config('coderl', {
  cmd = function()
    local number = 0
    return {
      request = function(method, params, callback, answered)
        number = number + 1
        local id = number
        local function answer(result)
          vim.schedule(function()
            if answered then answered(id) end
            callback(nil, result, id)
          end)
        end
        if method == 'initialize' then
          answer({ capabilities = CAPABILITIES })
        elseif method == 'textDocument/inlineCompletion' then
          table.insert(_G.asked, { params = params, answer = answer })
          if _G.on_asked then _G.on_asked(params, answer) end
        else
          table.insert(_G.told, { method = method, params = params })
          answer(vim.NIL)
        end
        return true, id
      end,
      notify = function(method, params)
        table.insert(_G.told, { method = method, params = params })
        return true
      end,
      is_closing = function() return false end,
      terminate = function() end,
    }
  end,
})
vim.lsp.enable('coderl')
vim.lsp.inline_completion.enable()
vim.keymap.set('i', '<Tab>', function()
  if not vim.lsp.inline_completion.get() then return '<Tab>' end
end, { expr = true })
"""
WITH_PLUGIN = f"vim.opt.runtimepath:prepend({as_lua(str(EDITOR))})\n{SERVER}"


TIMER_IS_OVER = """
local class = require('vim.lsp._capability').all.inline_completion
local timer = class.active[vim.api.nvim_get_current_buf()].timer
return timer == nil or timer:is_closing() or not timer:is_active()
"""


class Served:
    """A Neovim and its server, which this class is."""

    def __init__(self, neovim: Neovim) -> None:
        self.neovim = neovim

    def type(self, keys: str) -> None:
        """Type in a way that makes Neovim ask, and wait until it has."""
        before = self.asked()
        self.neovim.keys(keys)
        self.neovim.wait("a request", lambda: self.asked() > before)

    def asked(self) -> int:
        return int(self.neovim.lua("return #_G.asked"))

    def answer(self, request: int, *texts: str, start: int = 0) -> None:
        """Answer a request (1 is the first) with texts in place of `start` to the place it was asked for."""
        body = """local request, texts, start = ...
          local asked = _G.asked[request]
          local at = asked.params.position
          local items = {}
          for number, text in ipairs(texts) do
            items[number] = {
              insertText = text,
              filterText = text,
              range = { start = { line = at.line, character = start }, ['end'] = at },
              command = { title = '', command = 'accept', arguments = { ('%d.%d'):format(request, number) } },
            }
          end
          asked.answer({ items = items })"""
        self.neovim.lua(body, request, list(texts), start)
        self.settle()

    def answer_null(self, request: int) -> None:
        self.neovim.lua("_G.asked[...].answer(vim.NIL)", request)
        self.settle()

    def settle(self) -> None:
        """Let Neovim take in what it was answered: a turn of its event loop."""
        self.neovim.lua("_G.turned = false vim.schedule(function() _G.turned = true end)")
        self.neovim.wait("a turn of the event loop", lambda: self.neovim.lua("return _G.turned"))

    def told(self) -> list[tuple[Any, ...]]:
        """What the client said of suggestions."""
        words: dict[str, Callable[[Any], tuple[Any, ...]]] = {
            "textDocument/didShowCompletion": lambda p: ("shown", p["item"]["command"]["arguments"][0]),
            "textDocument/didPartiallyAcceptCompletion": lambda p: (
                "part", p["item"]["command"]["arguments"][0], p["acceptedLength"],
            ),
            "coderl/outcome": lambda p: (p["kind"], p["id"]),
            "workspace/executeCommand": lambda p: ("accepted", p["arguments"][0]),
        }  # fmt: skip
        told = self.neovim.lua("return _G.told")
        return [words[one["method"]](one["params"]) for one in told if one["method"] in words]
