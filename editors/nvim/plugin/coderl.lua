-- Everything behind `require`: this file costs nothing until the first suggestion or command.
if vim.g.loaded_coderl then
  return
end
vim.g.loaded_coderl = true

vim.api.nvim_create_user_command('CodeRL', function(call)
  require('coderl.commands').run(call.fargs)
end, {
  nargs = '*',
  desc = 'CodeRL: its state, switches and reasons',
  complete = function(...)
    return require('coderl.commands').complete(...)
  end,
})

if vim.fn.has('nvim-0.12') == 0 then
  return -- `:CodeRL` and `:checkhealth coderl` say so
end

local group = vim.api.nvim_create_augroup('coderl', {})

vim.api.nvim_create_autocmd('LspAttach', {
  group = group,
  callback = function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client and client.name == 'coderl' then
      require('coderl').attached(client, event.buf)
    end
  end,
})

vim.api.nvim_create_autocmd('ColorScheme', {
  group = group,
  callback = function()
    require('coderl').set_highlight()
  end,
})

for name, what in pairs({
  accept = 'accept',
  ['accept-word'] = 'accept_word',
  ['accept-line'] = 'accept_line',
  dismiss = 'dismiss',
  next = 'next',
  trigger = 'trigger',
}) do
  vim.keymap.set('i', '<Plug>(coderl-' .. name .. ')', function()
    require('coderl')[what]()
  end, { desc = 'CodeRL: ' .. name })
end
