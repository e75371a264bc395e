---@meta
-- The tables of the plugin, for LuaLS. Nothing here runs.

---@class coderl.Options What `setup` takes; all of it is optional.
---@field cmd? string[] How the server is started; default `{ 'coderl', 'lsp' }`.
---@field settings? table<string, any> The server's settings (docs/settings.md), for example `{ eagerness = -0.5 }`.
---@field enable? boolean Start the server and show suggestions; default true.
---@field report? boolean Tell the server what became of suggestions; default true. Without it, the server reads the text.
---@field restart? boolean Start the server again when it has ended by itself; default true.
---@field highlight? string|vim.api.keyset.highlight How ghost text looks: the name of a group to link to, or a highlight.
---@field keys? coderl.Keys Insert-mode keys. None by default: what is not named is not mapped.

---@class coderl.Keys
---@field accept? string
---@field accept_word? string
---@field accept_line? string
---@field dismiss? string
---@field trigger? string Ask for a suggestion now.
---@field next? string The next of several candidates.

---@class coderl.Config Options with nothing missing.
---@field cmd string[]
---@field settings table<string, any>
---@field enable boolean
---@field report boolean
---@field restart boolean
---@field highlight? string|vim.api.keyset.highlight
---@field keys coderl.Keys

---@class coderl.Item One suggestion of ours, on screen.
---@field id string
---@field bufnr integer
---@field client_id integer

---@class coderl.Events What is told of suggestions.
---@field asked fun(bufnr: integer) A request was sent.
---@field silent fun(client_id: integer, bufnr: integer) The answer was empty.
---@field shown fun(item: coderl.Item) It came onto the screen.
---@field gone fun(item: coderl.Item, why?: 'dismissed'|'moved_on') It left the screen. No `why`: the text says it.
---@field taken fun(item: coderl.Item, text: string) A first part was taken; `text` counts from the start of the suggestion.

---@alias coderl.State 'off'|'ready'|'asking'|'shown'|'silent'|'warning'

---@class coderl.Status
---@field state coderl.State
---@field why string The reason of the last silence, or the warning, in words; else empty.

---@class coderl.Command One word of `:CodeRL`.
---@field values? string[] What may stand behind it.
---@field run fun(value?: string)
