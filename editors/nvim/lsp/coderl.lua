-- CodeRL for Neovim 0.12 or newer, without a plugin: put this folder's parent on the 'runtimepath' (or copy the file into
-- ~/.config/nvim/lsp/) and call `vim.lsp.enable('coderl')` and `vim.lsp.inline_completion.enable()`.
--
-- No `filetypes`: the server attaches to every file and knows itself where to be silent (docs/settings.md, `languages`).
-- No `root_markers`: one server, with one language model in memory, serves all projects of this Neovim.
---@type vim.lsp.Config
return {
  cmd = { 'coderl', 'lsp' },
  get_language_id = function(_, filetype)
    return filetype == 'text' and 'plaintext' or filetype
  end,
}
