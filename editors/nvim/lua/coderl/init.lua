-- CodeRL for Neovim: what a user calls. The server decides; this plugin says what became of its suggestions.

local api = vim.api
local config = require('coderl.config')

local M = {}

M.NEEDS = 'Neovim 0.12 or newer is needed: this one has no inline completion.'

---@param text string
---@param level? integer
function M.say(text, level)
  vim.notify('CodeRL: ' .. text, level or vim.log.levels.INFO)
end

---@return boolean
local function usable()
  return vim.fn.has('nvim-0.12') == 1
end

--- The running server, that of the current buffer first.
---@return vim.lsp.Client?
function M.client()
  return vim.lsp.get_clients({ name = 'coderl', bufnr = 0 })[1] or vim.lsp.get_clients({ name = 'coderl' })[1]
end

-- -- outcomes ---------------------------------------------------------------------------------------------------------------

---@param item coderl.Item
---@param method string
---@param params table
local function tell(item, method, params)
  local client = vim.lsp.get_client_by_id(item.client_id)
  if client and config.current.report and item.id ~= '' then
    client:notify(method, params)
  end
end

---@param item coderl.Item
local function as_lsp(item)
  return { command = { arguments = { item.id } } }
end

---@type coderl.Events
local events = {
  asked = function(bufnr)
    require('coderl.status').set(bufnr, 'asking')
  end,
  silent = function(client_id, bufnr)
    require('coderl.status').silent(client_id, bufnr)
  end,
  shown = function(item)
    require('coderl.status').set(item.bufnr, 'shown')
    tell(item, 'textDocument/didShowCompletion', { item = as_lsp(item) })
  end,
  gone = function(item, why)
    require('coderl.status').set(item.bufnr, 'ready')
    if why then
      tell(item, 'coderl/outcome', { id = item.id, kind = why })
    end
  end,
  taken = function(item, text)
    local units = require('coderl.parts').units(text)
    tell(item, 'textDocument/didPartiallyAcceptCompletion', { item = as_lsp(item), acceptedLength = units })
  end,
}

--- The server attached to a buffer.
---@param client vim.lsp.Client
---@param bufnr integer
function M.attached(client, bufnr)
  local ghost = require('coderl.ghost')
  require('coderl.restart').began(client.id)
  require('coderl.status').set(bufnr, 'ready')
  if not ghost.hook(events) then
    return
  end
  local group = api.nvim_create_augroup('coderl.buffer.' .. bufnr, {})
  api.nvim_create_autocmd('BufEnter', {
    group = group,
    buffer = bufnr,
    callback = function()
      client:notify('textDocument/didFocus', { textDocument = { uri = vim.uri_from_bufnr(bufnr) } })
    end,
  })
  api.nvim_create_autocmd('BufLeave', {
    group = group,
    buffer = bufnr,
    callback = function()
      ghost.leave(bufnr)
    end,
  })
  api.nvim_create_autocmd('ModeChanged', {
    group = group,
    buffer = bufnr,
    callback = function()
      local old, new = vim.v.event.old_mode, vim.v.event.new_mode
      if vim.startswith(new, 'i') then
        ghost.block(bufnr, old == '\22')
      elseif vim.startswith(new, 'n') then
        ghost.leave(bufnr) -- CTRL-C leaves without InsertLeave
      end
    end,
  })
  api.nvim_create_autocmd('LspDetach', {
    group = group,
    buffer = bufnr,
    callback = function(event)
      if event.data.client_id == client.id then
        api.nvim_del_augroup_by_id(group)
        require('coderl.status').set(bufnr, 'off')
      end
    end,
  })
end

-- -- set up -----------------------------------------------------------------------------------------------------------------

--- Start CodeRL. A mistake in the options is named in a message; the rest applies.
---@param options? coderl.Options
function M.setup(options)
  if not usable() then
    vim.notify_once('CodeRL: ' .. M.NEEDS, vim.log.levels.WARN)
    return
  end
  local problems
  config.current, problems = config.resolve(options)
  for _, problem in ipairs(problems) do
    M.say(problem, vim.log.levels.ERROR)
  end
  local current = config.current
  vim.lsp.config('coderl', {
    cmd = current.cmd,
    init_options = {
      coderl = vim.empty_dict(),
      editorInfo = { name = 'Neovim', version = tostring(vim.version()) },
    },
    handlers = {
      didChangeStatus = function(_, status)
        require('coderl.status').told(status)
      end,
    },
    on_exit = function(code, signal, client_id)
      require('coderl.restart').ended(code, signal, client_id)
    end,
  })
  vim.lsp.config('coderl', { init_options = { coderl = current.settings } })
  M.set_highlight()
  for name, key in pairs(current.keys) do
    M.map(name, key)
  end
  if current.enable then
    vim.lsp.enable('coderl')
    vim.lsp.inline_completion.enable()
  end
end

--- Neovim draws ghost text in the group `ComplHint`. A colour scheme may clear it: this is called again then.
function M.set_highlight()
  local highlight = config.current.highlight
  if highlight then
    local value = type(highlight) == 'string' and { link = highlight } or highlight --[[@as vim.api.keyset.highlight]]
    api.nvim_set_hl(0, 'ComplHint', value)
  end
end

--- Map an insert-mode key. Where there is nothing to act on, the key does what it did before.
---@param name string One of the functions below.
---@param key string
function M.map(name, key)
  local before, fallback = vim.fn.maparg(key, 'i', false, true), nil
  if before.desc and vim.startswith(before.desc, 'CodeRL: ') then
    vim.keymap.del('i', key, { buffer = before.buffer == 1 and 0 or nil })
    before = {}
  end
  if next(before) and before.buffer == 0 then
    fallback = ('<Plug>(coderl-before-%s)'):format(name)
    before.lhs, before.lhsraw, before.lhsrawalt = fallback, vim.keycode(fallback), nil
    vim.fn.mapset(before)
  end
  vim.keymap.set('i', key, function()
    -- Not an <expr> mapping: those act after the keys that were typed behind them.
    if not M[name]() then
      api.nvim_feedkeys(vim.keycode(fallback or key), fallback and 'mi' or 'ni', false)
    end
  end, { desc = 'CodeRL: ' .. name })
end

-- -- what keys do: each returns whether there was something to act on ---------------------------------------------------------

---@param act fun(ghost: table, bufnr: integer): boolean
---@return boolean
local function act_here(act)
  return usable() and act(require('coderl.ghost'), api.nvim_get_current_buf())
end

--- Accept the whole suggestion.
---@return boolean
function M.accept()
  return act_here(function(ghost, bufnr)
    return ghost.take(bufnr, function(rest)
      return #rest
    end)
  end)
end

--- Accept the next word.
---@return boolean
function M.accept_word()
  return act_here(function(ghost, bufnr)
    return ghost.take(bufnr, require('coderl.parts').word)
  end)
end

--- Accept up to the end of the line.
---@return boolean
function M.accept_line()
  return act_here(function(ghost, bufnr)
    return ghost.take(bufnr, require('coderl.parts').line)
  end)
end

--- Take the suggestion off the screen and tell the server that it is not wanted.
---@return boolean
function M.dismiss()
  return act_here(function(ghost, bufnr)
    return ghost.dismiss(bufnr)
  end)
end

--- Go to the next of several candidates.
---@return boolean
function M.next()
  return act_here(function(ghost, bufnr)
    local shown = ghost.current(bufnr) ~= nil
    if shown then
      vim.lsp.inline_completion.select({ count = 1 })
    end
    return shown
  end)
end

--- Ask for a suggestion now. Says why where that cannot be.
---@return boolean
function M.trigger()
  if not usable() then
    M.say(M.NEEDS, vim.log.levels.ERROR)
    return true
  end
  local objection = require('coderl.ghost').trigger(api.nvim_get_current_buf())
  if objection then
    M.say(objection .. '.', vim.log.levels.WARN)
  end
  return true
end

-- -- switches ---------------------------------------------------------------------------------------------------------------

--- The server's settings as far as they were given here.
---@return table<string, any>
function M.settings()
  return vim.tbl_get(vim.lsp.config.coderl or {}, 'init_options', 'coderl') or {}
end

--- Change the server's settings, now and for servers started later.
---@param settings table<string, any>
function M.change(settings)
  local options = { init_options = { coderl = settings } }
  vim.lsp.config('coderl', options)
  for _, client in ipairs(vim.lsp.get_clients({ name = 'coderl' })) do
    client.config = vim.tbl_deep_extend('force', client.config, options)
    client:notify('workspace/didChangeConfiguration', { settings = { coderl = settings } })
  end
end

--- What the server calls the language of the current buffer.
---@return string
function M.language()
  local client = M.client()
  local filetype = vim.bo.filetype
  return client and client.get_language_id(api.nvim_get_current_buf(), filetype) or filetype
end

--- Suggestions on or off.
---@param scope 'here'|'language'|'everywhere'
---@return boolean on What holds now.
function M.toggle(scope)
  local settings = M.settings()
  if scope == 'here' then
    local on = vim.b.coderl == false
    vim.b.coderl = on
    if not on then
      require('coderl.ghost').leave(api.nvim_get_current_buf())
    end
    return on
  elseif scope == 'language' then
    local language = M.language()
    local on = (settings.languages or {})[language]
    if on == nil then
      on = not vim.list_contains(config.OFF, language)
    end
    M.change({ languages = { [language] = not on } })
    return not on
  end
  local on = settings.enabled == false
  M.change({ enabled = on })
  return on
end

return M
