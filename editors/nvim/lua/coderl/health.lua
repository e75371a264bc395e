-- `:checkhealth coderl`: what works here and what does not, each with its cure.

local health = vim.health
local M = {}

local DOCTOR_MS = 30000
local ANSWER_MS = 2000

---@return boolean
local function check_neovim()
  if vim.fn.has('nvim-0.12') == 0 then
    health.error(require('coderl').NEEDS, { 'Install Neovim 0.12 or newer.' })
    return false
  end
  health.ok('Neovim ' .. tostring(vim.version()))
  if require('coderl.ghost').class() then
    health.ok('This Neovim says what is on screen, so outcomes are reported.')
  else
    health.warn('This Neovim shows ghost text in a way the plugin does not know: outcomes are read from the text.', {
      'Update the plugin.',
    })
  end
  return true
end

--- The command of the server with `doctor --json` in place of `lsp` and what follows it.
---@param cmd string[]
---@return string[]
local function doctor_of(cmd)
  local doctor = {}
  for _, word in ipairs(cmd) do
    if word == 'lsp' then
      break
    end
    table.insert(doctor, word)
  end
  return vim.list_extend(doctor, { 'doctor', '--json' })
end

---@param cmd string[]
local function ask_doctor(cmd)
  local command = doctor_of(cmd)
  local run = vim.system(command, { text = true, timeout = DOCTOR_MS }):wait()
  local ok, told = pcall(vim.json.decode, run.stdout or '')
  if not ok or type(told) ~= 'table' or type(told.findings) ~= 'table' then
    health.warn(('`%s` gave no answer.'):format(table.concat(command, ' ')), { vim.trim(run.stderr or '') })
    return
  end
  for _, finding in ipairs(told.findings) do
    local text = ('%s: %s'):format(finding.name, finding.text)
    local cure = finding.cure ~= '' and finding.cure or nil
    if finding.state == 'works' then
      health.ok(text)
    elseif finding.state == 'fails' then
      health.error(text, { cure })
    else
      health.info(cure and ('%s. %s'):format(text, cure) or text)
    end
  end
end

local function check_program()
  local settings = vim.lsp.config.coderl
  local cmd = settings and settings.cmd
  if type(cmd) ~= 'table' or not cmd[1] then
    health.info('The server is not started as a program.')
  elseif vim.fn.executable(cmd[1]) == 0 then
    health.error(('%s cannot be started.'):format(cmd[1]), {
      "Install CodeRL and put it on the PATH, or name it: require('coderl').setup({ cmd = { '/path/to/coderl', 'lsp' } })",
    })
  else
    health.ok(('The server is %s.'):format(vim.fn.exepath(cmd[1])))
    ask_doctor(cmd)
  end
end

local function check_client()
  local client = require('coderl').client()
  if not client then
    health.warn('The server does not run in this Neovim.', {
      "Call require('coderl').setup() and open a file.",
      '`:CodeRL restart` starts it again; `:CodeRL log` says what went wrong.',
    })
    return
  end
  local answer = client:request_sync('coderl/status', vim.empty_dict(), ANSWER_MS, 0)
  local status = answer and answer.result
  if type(status) ~= 'table' then
    health.error(('The server did not answer within %d s.'):format(ANSWER_MS / 1000), { ':CodeRL restart' })
  elseif status.kind == 'Warning' then
    health.warn(status.message)
  else
    health.ok(('%s Generator %s, gate %s, log level %s.'):format(status.message, status.generator, status.gate, status.privacy))
  end
  if not vim.lsp.inline_completion.is_enabled() then
    health.warn('Ghost text is switched off.', { ':lua vim.lsp.inline_completion.enable()' })
  end
end

local function check_keys()
  local keys = require('coderl.config').current.keys
  if next(keys) then
    for name, key in vim.spairs(keys) do
      health.ok(('%s: %s'):format(key, name))
    end
  else
    health.info("The plugin maps no key: `keys = { accept = '<Tab>' }` in setup() does, or map `<Plug>(coderl-accept)`.")
  end
end

function M.check()
  health.start('Neovim')
  if not check_neovim() then
    return
  end
  health.start('Server in this Neovim')
  check_client()
  health.start('Keys')
  check_keys()
  health.start('Program')
  check_program()
end

return M
