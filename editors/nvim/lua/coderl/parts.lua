-- How much of a suggestion a word and a line are. Pure.

local M = {}

--- Bytes of the first word, with the blanks before it; a line break is a word of its own, with the indentation after it.
---@param text string
---@return integer
function M.word(text)
  local _, break_end = text:find('^\r?\n[ \t]*')
  if break_end then
    return break_end
  end
  local _, blank_end = text:find('^[ \t]*')
  local rest = text:sub(blank_end + 1)
  -- Letters, digits, underscores, and every byte of a character beyond ASCII; else one run of signs.
  local _, word_end = rest:find('^[%w_\128-\255]+')
  if not word_end then
    _, word_end = rest:find('^[^%w_%s\128-\255]+')
  end
  return blank_end + (word_end or 0)
end

--- Bytes up to the end of the first line; of a suggestion that begins with a line break, up to the end of the next one.
---@param text string
---@return integer
function M.line(text)
  local from = text:find('^\r?\n') and text:find('\n', 1, true) + 1 or 1
  local at = text:find('\r?\n', from)
  return at and at - 1 or #text
end

--- Length in UTF-16 units.
---@param text string
---@return integer
function M.units(text)
  return vim.str_utfindex(text, 'utf-16')
end

return M
