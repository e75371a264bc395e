-- What a user may set, and how it becomes one table with nothing missing.

local M = {}

---@type coderl.Config
local DEFAULTS = { cmd = { 'coderl', 'lsp' }, settings = {}, enable = true, report = true, restart = true, keys = {} }

local TYPES = {
  cmd = { 'table' },
  settings = { 'table' },
  enable = { 'boolean' },
  report = { 'boolean' },
  restart = { 'boolean' },
  highlight = { 'string', 'table' },
  keys = { 'table' },
}

--- The functions of `require('coderl')` that a key may be given to.
M.KEYS = { 'accept', 'accept_line', 'accept_word', 'dismiss', 'next', 'trigger' }

--- Languages that the server leaves alone by itself (docs/settings.md, `languages`).
M.OFF = {
  'markdown', 'plaintext', 'yaml', 'help', 'gitcommit', 'git-commit', 'gitrebase', 'git-rebase', 'log',
}

---@type coderl.Config
M.current = vim.deepcopy(DEFAULTS)

---@param map table<string, any>
---@return string
local function listed(map)
  local names = vim.tbl_keys(map)
  table.sort(names)
  return table.concat(names, ', ')
end

--- Check and complete what a user gave. What cannot be used is left at its default and named in a sentence.
---@param options? coderl.Options
---@return coderl.Config
---@return string[] problems
function M.resolve(options)
  local config, problems = vim.deepcopy(DEFAULTS), {}
  if options ~= nil and type(options) ~= 'table' then
    return config, { ('setup takes a table, not a %s.'):format(type(options)) }
  end
  for name, value in vim.spairs(options or {}) do
    local types = TYPES[name]
    if not types then
      table.insert(problems, ('there is no option %s; there are: %s.'):format(name, listed(TYPES)))
    elseif not vim.list_contains(types, type(value)) then
      table.insert(problems, ('option %s must be a %s, not a %s.'):format(name, table.concat(types, ' or a '), type(value)))
    else
      config[name] = value
    end
  end
  local keys = {}
  for name, key in vim.spairs(config.keys) do
    if not vim.list_contains(M.KEYS, name) then
      table.insert(problems, ('there is no key %s; there are: %s.'):format(name, table.concat(M.KEYS, ', ')))
    elseif type(key) ~= 'string' or key == '' then
      table.insert(problems, ('key %s must be a text such as "<M-l>".'):format(name))
    else
      keys[name] = key
    end
  end
  config.keys = keys
  return config, problems
end

return M
