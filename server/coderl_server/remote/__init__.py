"""The editor's end of a team server: `coderl lsp --server URL`."""
