-- `:CodeRL`: one command, its words completed.

local M = {}

---@param text string
---@param level? integer
local function say(text, level)
  require('coderl').say(text, level)
end

---@param text string
local function refuse(text)
  say(text, vim.log.levels.ERROR)
end

--- Ask the running server; says a sentence where there is none.
---@param method string
---@param params table
---@param answered fun(result: table)
local function ask(method, params, answered)
  local client = require('coderl').client()
  if not client then
    say('the server does not run here; `:checkhealth coderl` says why.', vim.log.levels.WARN)
    return
  end
  client:request(method, params, function(err, result)
    if err then
      refuse(err.message)
    elseif type(result) == 'table' then
      answered(result)
    end
  end)
end

---@param status table
---@return string
local function in_words(status)
  local snoozed = (status.snoozed_s or 0) > 0 and (' For %d more minutes.'):format(math.ceil(status.snoozed_s / 60)) or ''
  return ('%s%s Generator %s, gate %s, log level %s.'):format(
    status.message, snoozed, status.generator, status.gate, status.privacy
  )
end

---@type table<string, coderl.Command>
local COMMANDS = {
  eagerness = {
    values = { '-1', '-0.5', '0', '0.5', '1' },
    run = function(value)
      if value then
        local number = tonumber(value)
        if not number or not (number >= -1 and number <= 1) then
          refuse('eagerness takes a number from -1 to 1.')
          return
        end
        require('coderl').change({ eagerness = number })
      end
      say(('eagerness is %g.'):format(require('coderl').settings().eagerness or 0))
    end,
  },
  log = {
    run = function()
      vim.cmd.tabnew({ args = { vim.lsp.log.get_filename() }, magic = { file = false } })
    end,
  },
  restart = {
    run = function()
      require('coderl.restart').now()
    end,
  },
  snooze = {
    values = { '10', '30', '60', '0' },
    run = function(value)
      local minutes = tonumber(value or '10')
      if not minutes or not (minutes >= 0 and minutes <= 1440) then
        refuse('snooze takes minutes, 0 to 1440; 0 ends it.')
        return
      end
      ask('coderl/snooze', { minutes = minutes }, function(status)
        say(in_words(status))
      end)
    end,
  },
  status = {
    run = function()
      ask('coderl/status', vim.empty_dict(), function(status)
        say(in_words(status))
      end)
    end,
  },
  toggle = {
    values = { 'everywhere', 'here', 'language' },
    run = function(value)
      local scope = value or 'everywhere'
      if not vim.list_contains({ 'everywhere', 'here', 'language' }, scope) then
        refuse('toggle takes everywhere, here or language.')
        return
      end
      local coderl = require('coderl')
      local on = coderl.toggle(scope --[[@as 'here'|'language'|'everywhere']])
      local where = ({ language = 'in ' .. coderl.language(), here = 'in this buffer' })[scope] or scope
      say(('suggestions are %s %s.'):format(on and 'on' or 'off', where))
    end,
  },
  trigger = {
    run = function()
      require('coderl').trigger()
    end,
  },
  why = {
    run = function()
      ask('coderl/why', { textDocument = vim.lsp.util.make_text_document_params() }, function(why)
        say(why.text)
      end)
    end,
  },
}

---@return string[]
local function names()
  local all = vim.tbl_keys(COMMANDS)
  table.sort(all)
  return all
end

---@param words string[]
function M.run(words)
  if vim.fn.has('nvim-0.12') == 0 then
    refuse(require('coderl').NEEDS)
    return
  end
  local command = COMMANDS[words[1] or 'status']
  if not command then
    refuse(('there is no command %s; there are: %s.'):format(words[1], table.concat(names(), ', ')))
  elseif #words > (command.values and 2 or 1) then
    refuse(('%s takes %s.'):format(words[1], command.values and 'one value' or 'nothing behind it'))
  else
    command.run(words[2])
  end
end

--- Completion of the command line.
---@param lead string
---@param line string
---@param position integer
---@return string[]
function M.complete(lead, line, position)
  local before = vim.split(line:sub(1, position - #lead), '%s+', { trimempty = true })
  local choices = #before == 1 and names() or #before == 2 and (COMMANDS[before[2]] or {}).values or {}
  return vim.tbl_filter(function(choice)
    return vim.startswith(choice, lead)
  end, choices)
end

return M
