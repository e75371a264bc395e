-- For luacheck: the language of Neovim's Lua, and its one global table.
std = 'luajit'
globals = { 'vim' }
max_line_length = 128
