-- The seam to Neovim's own inline completion (`vim.lsp.inline_completion`): what is on screen, and what 0.12 gets wrong there.
--
-- Neovim 0.12 tells nobody that ghost text was shown or taken away, so methods of its class `Completor` are wrapped. They are
-- private. Where a later Neovim has none of them, `M.hook` says so, and the server reads outcomes from the text, as it does for
-- every bare client.
--
-- Mended for suggestions of CodeRL; those of other servers pass through as they are:
--   * an answer of `null` leaves old ghost text on screen: it counts as an empty list;
--   * a late answer to an older request replaces newer ghost text: it is dropped, unless it still fits what was typed since;
--   * ghost text that disagrees with what was typed stays until the next answer: it goes at once;
--   * accepting between a key and the next answer doubles that key: the range grows up to the cursor.

local api = vim.api

local M = {}

local NAME = 'coderl'
local WRAPPED = { 'accept', 'abort', 'handler', 'on_detach', 'request', 'show' }

---@type coderl.Events
local events
---@type table<integer, coderl.Item?> What is on screen, by buffer.
local visible = {}
---@type table<integer, true?> Buffers where a block insert is under way: one text for many lines.
local in_block = {}

---@return boolean
local function inserting()
  return vim.startswith(api.nvim_get_mode().mode, 'i')
end

---@param client_id integer
---@return vim.lsp.Client?
local function our_client(client_id)
  local client = vim.lsp.get_client_by_id(client_id)
  return client and client.name == NAME and client or nil
end

---@param item? vim.lsp.inline_completion.Item
---@return boolean
local function is_ours(item)
  return item ~= nil and type(item.insert_text) == 'string' and item.range ~= nil and our_client(item.client_id) ~= nil
end

---@param bufnr integer
---@param item vim.lsp.inline_completion.Item
---@return coderl.Item
local function named(bufnr, item)
  local id = item.command and item.command.arguments and item.command.arguments[1] or ''
  return { id = id, bufnr = bufnr, client_id = item.client_id }
end

--- How much of `text`, which begins at (`row`, `col`), stands before the cursor already. nil where it does not fit there.
---@param bufnr integer
---@param text string
---@param row integer
---@param col integer
---@param end_col integer End of the range that was to be replaced.
---@return string?
local function typed_of(bufnr, text, row, col, end_col)
  local cursor = api.nvim_win_get_cursor(0)
  if api.nvim_get_current_buf() ~= bufnr or cursor[1] - 1 ~= row or cursor[2] < end_col then
    return nil
  end
  local typed = api.nvim_get_current_line():sub(col + 1, cursor[2])
  return #typed < #text and vim.startswith(text, typed) and typed or nil
end

---@param bufnr integer
---@param item vim.lsp.inline_completion.Item
---@return string?
local function typed_of_item(bufnr, item)
  local row, col, _, end_col = item.range:to_extmark()
  return typed_of(bufnr, item.insert_text --[[@as string]], row, col, end_col)
end

---@param bufnr integer
---@param item? coderl.Item
---@param why? 'dismissed'|'moved_on'
local function now_visible(bufnr, item, why)
  local before = visible[bufnr]
  visible[bufnr] = item
  if before and not (item and item.id == before.id) then
    events.gone(before, why)
    before = nil
  end
  if item and not before then
    events.shown(item)
  end
end

--- Neovim's private class, nil where this Neovim has none like it.
---@return table?
function M.class()
  if vim.fn.has('nvim-0.12') == 0 or not vim.lsp.inline_completion then
    return nil
  end
  local ok, capability = pcall(require, 'vim.lsp._capability')
  local class = ok and type(capability) == 'table' and type(capability.all) == 'table' and capability.all.inline_completion
  if not class or type(class.active) ~= 'table' then
    return nil
  end
  for _, method in ipairs(WRAPPED) do
    if type(class[method]) ~= 'function' then
      return nil
    end
  end
  return class
end

--- The suggestion on screen in a buffer, and how much of it is typed already.
---@param bufnr integer
---@return table? completor
---@return vim.lsp.inline_completion.Item? item
---@return string? typed
function M.current(bufnr)
  local class = M.class()
  local completor = class and class.active[bufnr]
  local item = completor and completor.current
  if not completor or not is_ours(item) then
    return nil
  end
  local typed = typed_of_item(bufnr, item)
  if typed then
    return completor, item, typed
  end
end

---@param class table
local function wrap_show(class)
  local show = class.show
  function class.show(self, ...)
    if is_ours(self.current) and not typed_of_item(self.bufnr, self.current) then
      self.current = nil
    end
    show(self, ...)
    now_visible(self.bufnr, is_ours(self.current) and named(self.bufnr, self.current) or nil)
  end
end

--- The items of an answer that fit where the cursor is now. Late ones only where something was typed that they agree with.
---@param bufnr integer
---@param client vim.lsp.Client
---@param items lsp.InlineCompletionItem[]
---@param late boolean
---@return lsp.InlineCompletionItem[]
local function fitting(bufnr, client, items, late)
  return vim.tbl_filter(function(item)
    local range, text = item.range, item.insertText
    if type(text) ~= 'string' or not range then
      return not late
    end
    local line = api.nvim_buf_get_lines(bufnr, range.start.line, range.start.line + 1, false)[1]
    if not line then
      return false
    end
    local function column(position)
      return vim.str_byteindex(line, client.offset_encoding, position.character, false)
    end
    local typed = typed_of(bufnr, text, range.start.line, column(range.start), column(range['end']))
    return typed ~= nil and not (late and typed == '')
  end, items)
end

---@param class table
local function wrap_handler(class)
  local handler = class.handler
  function class.handler(self, err, result, ctx)
    local client, state = our_client(ctx.client_id), self.client_state[ctx.client_id]
    if not client or err then
      return handler(self, err, result, ctx)
    end
    if not state or not inserting() or api.nvim_get_current_buf() ~= self.bufnr then
      return
    end
    local request = ctx.request_id or math.huge
    if request < (state.coderl_answered or 0) then
      return -- a newer request was answered before
    end
    local here = vim.lsp.util.make_position_params(0, client.offset_encoding).position
    local asked = ctx.params and ctx.params.position
    local late = not vim.deep_equal(here, asked) or ctx.version ~= vim.lsp.util.buf_versions[self.bufnr]
    local all = type(result) == 'table' and (result.items or result) or {}
    local items = fitting(self.bufnr, client, all, late)
    if late and #items == 0 then
      return
    end
    state.coderl_answered = request
    if #items == 0 then
      events.silent(ctx.client_id, self.bufnr)
    end
    handler(self, nil, { items = items }, ctx)
  end
end

--- Why a suggestion may not be asked for in a buffer, nil where nothing speaks against it.
---@param bufnr integer
---@param by_hand? boolean
---@return string?
function M.objection(bufnr, by_hand)
  if api.nvim_get_current_buf() ~= bufnr or not inserting() then
    return 'suggestions come in insert mode'
  elseif not vim.bo[bufnr].modifiable or vim.bo[bufnr].readonly then
    return 'this buffer is read-only'
  elseif by_hand then
    return nil
  elseif vim.b[bufnr].coderl == false then
    return 'suggestions are off in this buffer'
  elseif vim.wo.diff then
    return 'this window shows differences'
  elseif in_block[bufnr] then
    return 'the text goes into several lines'
  end
end

---@param class table
local function wrap_request(class)
  local request = class.request
  function class.request(self, kind)
    local by_hand = kind == vim.lsp.protocol.InlineCompletionTriggerKind.Invoked
    local objection = M.objection(self.bufnr, by_hand)
    local everyone, others, ours = self.client_state, {}, false
    for client_id, state in pairs(everyone) do
      if our_client(client_id) then
        ours = true
      else
        others[client_id] = state
      end
    end
    if ours and objection then
      -- The original asks every server it finds here.
      self.client_state = others
    end
    local ok, message = pcall(request, self, kind)
    self.client_state = everyone
    if not ok then
      error(message, 0)
    end
    if ours and not objection then
      events.asked(self.bufnr)
    end
  end
end

---@param class table
local function wrap_rest(class)
  local abort, accept, on_detach = class.abort, class.accept, class.on_detach

  function class.abort(self)
    abort(self)
    now_visible(self.bufnr, nil, not inserting() and 'moved_on' or nil)
  end

  function class.accept(self, item)
    if not is_ours(item) then
      return accept(self, item)
    end
    local typed = typed_of_item(self.bufnr, item)
    if not typed then
      return -- something else was typed meanwhile
    end
    local row, col = item.range:to_extmark()
    local range = vim.range.extmark(self.bufnr, row, col, row, col + #typed)
    -- What was typed and what was accepted are undone one by one.
    vim.bo[self.bufnr].undolevels = vim.bo[self.bufnr].undolevels
    accept(self, vim.tbl_extend('force', item, { range = range }))
  end

  function class.on_detach(self, client_id)
    if our_client(client_id) or not vim.lsp.get_client_by_id(client_id) then
      if self.current and self.current.client_id == client_id then
        self.current = nil
        self:hide()
      end
      now_visible(self.bufnr, nil)
    end
    on_detach(self, client_id)
  end
end

local hooked = false

--- Follow what is on screen from now on. Returns whether this Neovim lets us.
---@param told coderl.Events
---@return boolean
function M.hook(told)
  local class = M.class()
  if class and not hooked then
    hooked, events = true, told
    wrap_show(class)
    wrap_handler(class)
    wrap_request(class)
    wrap_rest(class)
  end
  return class ~= nil
end

--- A block insert begins or ends in a buffer.
---@param bufnr integer
---@param begins boolean
function M.block(bufnr, begins)
  in_block[bufnr] = begins or nil
end

--- The cursor goes to another buffer: take ghost text away.
---@param bufnr integer
function M.leave(bufnr)
  local class = M.class()
  local completor = class and class.active[bufnr]
  if completor and visible[bufnr] then
    now_visible(bufnr, nil, 'moved_on')
    completor:abort()
  end
end

--- Take ghost text away because the programmer said so. Returns whether there was any.
---@param bufnr integer
---@return boolean
function M.dismiss(bufnr)
  local completor = M.current(bufnr)
  if not completor then
    return false
  end
  now_visible(bufnr, nil, 'dismissed')
  completor:abort()
  return true
end

--- Put a part of what remains before the cursor; the rest stays on screen. Returns whether there was a suggestion.
---@param bufnr integer
---@param part fun(rest: string): integer How many bytes of what remains.
---@return boolean
function M.take(bufnr, part)
  local completor, item, typed = M.current(bufnr)
  if not completor or not item or not typed then
    return false
  end
  local text = item.insert_text --[[@as string]]
  local cut = #typed + part(text:sub(#typed + 1))
  if cut >= #text then
    completor:abort()
    completor:accept(item)
    return true
  end
  local lines = vim.split(text:sub(#typed + 1, cut), '\n', { plain = true })
  local row, col = unpack(api.nvim_win_get_cursor(0))
  vim.bo[bufnr].undolevels = vim.bo[bufnr].undolevels
  api.nvim_buf_set_text(bufnr, row - 1, col, row - 1, col, lines)
  row, col = row + #lines - 1, (#lines == 1 and col or 0) + #lines[#lines]
  api.nvim_win_set_cursor(0, { row, col })
  local taken = (item.coderl_before or '') .. text:sub(1, cut)
  events.taken(named(bufnr, item), taken)
  if #lines > 1 then
    -- The rest begins on another line than its range.
    completor.current = vim.tbl_extend('force', item, {
      coderl_before = taken,
      insert_text = text:sub(cut + 1),
      range = vim.range.extmark(bufnr, row - 1, col, row - 1, col),
    })
  end
  completor:show()
  return true
end

--- Ask by hand. Returns why not, where it cannot be done.
---@param bufnr integer
---@return string?
function M.trigger(bufnr)
  local class = M.class()
  local completor = class and class.active[bufnr]
  if not completor then
    return 'no server answers in this buffer; `:checkhealth coderl` says why'
  end
  local objection = M.objection(bufnr, true)
  if not objection then
    completor:request(vim.lsp.protocol.InlineCompletionTriggerKind.Invoked)
  end
  return objection
end

return M
