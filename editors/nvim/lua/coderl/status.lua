-- What a status line may show: a sign, and the reason of the last silence in words.

local M = {}

--- Until the reason is asked for after an empty answer: while somebody types, nobody reads it.
local PAUSE_MS = 300

---@type table<integer, coderl.Status?>
local by_buffer = {}
---@type table<integer, uv.uv_timer_t?>
local timers = {}
--- What is wrong with the server, in words.
---@type string?
local warning

local SIGNS = {
  off = '',
  ready = 'CodeRL',
  asking = 'CodeRL …',
  shown = 'CodeRL ✓',
  silent = 'CodeRL ·',
  warning = 'CodeRL !',
}

---@param bufnr integer
---@param state coderl.State
---@param why? string
function M.set(bufnr, state, why)
  local before = by_buffer[bufnr]
  why = why or (state == 'asking' or state == 'silent') and before and before.why or ''
  by_buffer[bufnr] = state ~= 'off' and { state = state, why = why } or nil
  if (before and before.state or 'off') ~= state then
    vim.cmd.redrawstatus()
  end
end

--- Nothing came: ask why, once the typing pauses.
---@param client_id integer
---@param bufnr integer
function M.silent(client_id, bufnr)
  M.set(bufnr, 'silent')
  local waiting = timers[bufnr]
  if waiting and not waiting:is_closing() then
    waiting:stop()
    waiting:close()
  end
  timers[bufnr] = vim.defer_fn(function()
    timers[bufnr] = nil
    local client = vim.lsp.get_client_by_id(client_id)
    local now = by_buffer[bufnr]
    if not client or not vim.api.nvim_buf_is_valid(bufnr) or not now or now.state ~= 'silent' then
      return
    end
    client:request('coderl/why', { textDocument = { uri = vim.uri_from_bufnr(bufnr) } }, function(err, answer)
      local still = by_buffer[bufnr]
      if not err and type(answer) == 'table' and type(answer.text) == 'string' and still and still.state == 'silent' then
        M.set(bufnr, 'silent', answer.text)
      end
    end, bufnr)
  end, PAUSE_MS)
end

--- The server says how it is.
---@param status { kind: string, message: string }
function M.told(status)
  warning = type(status) == 'table' and status.kind == 'Warning' and status.message or nil
  vim.cmd.redrawstatus()
end

--- State of a buffer, of the current one by default.
---@param bufnr? integer
---@return coderl.Status
function M.get(bufnr)
  local status = by_buffer[bufnr or vim.api.nvim_get_current_buf()]
  if not status then
    return { state = 'off', why = '' }
  elseif warning and status.state ~= 'shown' then
    return { state = 'warning', why = warning }
  end
  return vim.deepcopy(status)
end

--- A component for a status line: `%{v:lua.require'coderl.status'.line()}`. Empty where CodeRL is not attached.
---@return string
function M.line()
  return SIGNS[M.get().state]
end

return M
