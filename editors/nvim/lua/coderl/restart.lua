-- A server that ended by itself is started again: after 1 s, then 2 s, 4 s … and not a sixth time in a row. Said once.

local M = {}

local TRIES = 5
local STEADY_MS = 60000

local tries = 0
local told = false
---@type table<integer, integer> When each server was seen first (ms), by client.
local began = {}
---@type integer[] Buffers the last server was attached to.
local buffers = {}

local function now_ms()
  return vim.uv.now()
end

---@param text string
local function say_once(text)
  if not told then
    told = true
    require('coderl').say(text, vim.log.levels.WARN)
  end
end

---@param settings vim.lsp.ClientConfig
local function start_again(settings)
  if vim.v.exiting ~= vim.NIL or not vim.lsp.is_enabled('coderl') or #vim.lsp.get_clients({ name = 'coderl' }) > 0 then
    return
  end
  for _, bufnr in ipairs(buffers) do
    if vim.api.nvim_buf_is_loaded(bufnr) then
      vim.lsp.start(settings, { bufnr = bufnr })
    end
  end
end

--- A server runs.
---@param client_id integer
function M.began(client_id)
  began[client_id] = began[client_id] or now_ms()
end

--- A server has ended. Called from the event loop, where most of the API may not be used.
---@param code integer
---@param signal integer
---@param client_id integer
function M.ended(code, signal, client_id)
  local client = vim.lsp.get_client_by_id(client_id)
  if not client then
    return
  end
  local settings, attached = client.config, vim.tbl_keys(client.attached_buffers)
  local lasted_ms = began[client_id] and now_ms() - began[client_id] or 0
  began[client_id] = nil
  vim.schedule(function()
    if #attached > 0 then
      buffers = attached
    end
    local by_itself = code ~= 0 or (signal ~= 0 and signal ~= 15)
    if not by_itself or vim.v.exiting ~= vim.NIL or not require('coderl.config').current.restart then
      return
    end
    if lasted_ms >= STEADY_MS then
      tries, told = 0, false
    end
    if tries >= TRIES then
      told = false
      local sentence = 'the server ended %d times in a row; `:CodeRL restart` tries again, `:CodeRL log` says more.'
      say_once(sentence:format(tries + 1))
      return
    end
    say_once('the server ended unexpectedly and is started again; `:CodeRL log` says more.')
    vim.defer_fn(function()
      start_again(settings)
    end, 1000 * 2 ^ tries)
    tries = tries + 1
  end)
end

--- Start the server anew by hand.
function M.now()
  tries, told = 0, false
  if #vim.lsp.get_clients({ name = 'coderl' }) > 0 then
    vim.cmd.lsp({ 'restart', 'coderl' })
  elseif #buffers > 0 and vim.lsp.is_enabled('coderl') then
    start_again(vim.lsp.config.coderl)
  else
    vim.lsp.enable('coderl')
  end
end

return M
