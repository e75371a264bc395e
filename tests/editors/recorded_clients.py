"""What each client does in the session that is recorded of it (`record_sessions.py`).

Every session takes what its client can do: accept, accept a part, type along, type against, leave, and a request that is
overtaken. A session is over when everything that was shown has its outcome.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import time
from pathlib import Path

from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient

from .emacs_driver import Emacs, emacs, lisp
from .helix_driver import helix
from .logged import ALWAYS
from .neovim_driver import EDITOR, Neovim, as_lua, neovims, plugin_init
from .vscode_case import SETTINGS, package
from .vscode_editor import EDITORS, Browser, Window
from .vscode_log import Log
from .vscode_server import CodeServer

RULES = [
    {"pattern": r"slow\Z", "text": "_answer", "first_delay_ms": 2500},
    {"pattern": r"alp\Z", "text": "habet + 1"},
    {"pattern": r"def add\(a, b\):\s*\Z", "text": "\n    c = a + b\n    return c"},
]
TEXT = "# 名前 🙂\nimport sys\n"
SEEN_S = 0.4
"""Less than 250 ms on screen counts as not seen."""


# -- Neovim -------------------------------------------------------------------------------------------------------------------


def neovim(folder: Path, command: list[str]) -> None:
    """The bare configuration of editors/nvim."""
    (folder / "bare" / "lsp").mkdir(parents=True)
    shutil.copy(EDITOR / "lsp" / "coderl.lua", folder / "bare" / "lsp")
    init = (
        f"vim.opt.runtimepath:prepend({as_lua(str(folder / 'bare'))})\n"
        f"vim.lsp.config('coderl', {{ cmd = {as_lua(command)}, init_options = {as_lua({'coderl': ALWAYS})} }})\n"
        "vim.lsp.enable('coderl')\nvim.lsp.inline_completion.enable()\n"
        "vim.keymap.set('i', '<Tab>', function()\n"
        "  if not vim.lsp.inline_completion.get() then return '<Tab>' end\nend, { expr = true })\n"
    )
    with neovims(folder) as start:
        _neovim_story(start(init, text=TEXT))


def neovim_plugin(folder: Path, command: list[str]) -> None:
    """The plugin of editors/nvim; besides, a word taken and a dismissal."""
    keys = {"accept": "<Tab>", "accept_word": "<M-w>", "dismiss": "<M-x>"}
    with neovims(folder) as start:
        editor = start(plugin_init({"cmd": command, "settings": ALWAYS, "keys": keys}), text=TEXT)
        _neovim_story(editor)
        _suggest(editor, "Goword = alp", "habet + 1")
        editor.keys("<M-w><Esc>")
        editor.wait_line("word = alphabet")
        _suggest(editor, "Goalso = alp", "habet + 1")
        editor.keys("<M-x>")
        editor.wait_no_ghost()
        editor.keys("<Esc>")
        editor.wait_mode("n")


def _suggest(editor: Neovim, keys: str, ghost: str) -> None:
    editor.keys(keys)
    editor.wait_ghost(ghost)
    time.sleep(SEEN_S)


def _accept(editor: Neovim, line: str) -> None:
    editor.keys("<Tab>")
    editor.wait_line(line)  # leaving insert mode at once would undo it: Neovim accepts in a later turn of its loop
    editor.keys("<Esc>")
    editor.wait_mode("n")


def _neovim_story(editor: Neovim) -> None:
    _suggest(editor, "Gox['🙂名'] = alp", "habet + 1")
    _accept(editor, "x['🙂名'] = alphabet + 1")
    _suggest(editor, "Godef add(a, b):<CR>", "c = a + b\n    return c")
    _accept(editor, "    return c")
    _suggest(editor, "Goresult = alp", "habet + 1")
    editor.keys("Z")
    editor.wait_no_ghost()
    editor.keys("<C-w>slow")
    editor.wait_pending()
    _suggest(editor, "<C-w>alp", "habet + 1")
    editor.keys("<Esc>")
    editor.wait_no_ghost()


# -- VS Code ------------------------------------------------------------------------------------------------------------------


def vscode(folder: Path, command: list[str]) -> None:
    """Our extension, the proposed APIs shut."""
    vsix = package(folder)
    split = command.index("--") + 1
    server = command.index("lsp", split)
    launcher = folder / "coderl"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join(command[:server])} "$@"\n')
    launcher.chmod(0o755)
    machine = {"coderl.path": str(launcher), "coderl.arguments": command[server + 1 :]}
    code = CodeServer(EDITORS / "bin" / "code-server", folder / "editor", folder / "home")
    browser = Browser()
    try:
        code.start(vsix, SETTINGS, machine)
        window = code.window(browser, "first", Log(folder / "home"))
        code.warm_up(window, "alp")
        window.open("story.py", TEXT)
        _vscode_suggest(window, "x = '名', alp")
        window.press("Tab", "Enter")
        window.wait_no_ghost()
        _vscode_suggest(window, "word = alp")
        window.press("Control+ArrowRight")
        window.wait_ghost(" + 1")
        window.read()
        window.press("Escape")
        window.wait_no_ghost()
        _vscode_suggest(window, "\nalso = alp")
        window.press("Escape")
        window.wait_no_ghost()
        _vscode_suggest(window, "\nresult = alp")
        window.press("z")
        window.wait_no_ghost()
        window.press("Enter")
        window.type("def add(a, b):\n")
        window.wait_ghost("c = a + b\n    return c")
        window.read()
        window.press("Tab")
        window.wait_no_ghost()
        window.press("Control+Alt+w")
        window.wait("every outcome", lambda: window.log.shown() == len(window.log.outcomes()))
    finally:
        try:
            browser.close()
        finally:
            code.stop()


def _vscode_suggest(window: Window, text: str) -> None:
    window.type(text)
    window.wait_ghost("habet + 1")
    window.read()


# -- Emacs, Helix -------------------------------------------------------------------------------------------------------------


def emacs_session(folder: Path, command: list[str]) -> None:
    """Eglot; the requests go through jsonrpc."""
    with emacs(folder / "emacs", command, ALWAYS, TEXT) as editor:
        editor.type("x['🙂名'] = alp")
        editor.accept(_item(editor))
        editor.type("\ndef add(a, b):\n    ")
        editor.accept(_item(editor))
        editor.type("\nplain = alp")
        editor.call("driver-insert", _item(editor))
        editor.type("\nresult = alp")
        _item(editor)
        editor.type("Z")
        editor.ask()
        editor.type("\ny = slow")
        editor.call("driver-ask-later")
        editor.type("\nz = alp")
        _item(editor)
        editor.eval("(progn (goto-char 1) (driver-ask))")
        editor.eval(f"(progn (while (not driver-late) (accept-process-output nil 0.1)) {lisp('')})")
        time.sleep(1.5)  # what edits say of an accept is held back for a second
        editor.request("coderl/flush")
        editor.call("driver-stop")


def _item(editor: Emacs) -> dict[str, object]:
    item = editor.suggestion()
    time.sleep(SEEN_S)
    return item


def helix_session(folder: Path, command: list[str]) -> None:
    """Life cycle and text only."""
    with helix(folder / "helix", command, ALWAYS, TEXT) as editor:
        editor.wait_open(editor.file.as_uri())
        editor.insert("o", "x['🙂名'] = alp\ndef größe(𝕏):")
        editor.keys("g", "g", "C")
        editor.insert("A", " # 🙂")
        editor.keys("u", "x", "d")
        editor.command("write!")
        editor.command("open other.py")
        other = editor.file.with_name("other.py").as_uri()
        editor.wait_open(other)
        editor.insert("i", "other")
        editor.command("buffer-close!")
        closed = "textDocument/didClose"
        editor.wait("the second file closed", lambda: closed in [one["method"] for one in editor.sent()])


# -- pytest-lsp ---------------------------------------------------------------------------------------------------------------


def pytest_lsp_session(folder: Path, command: list[str]) -> None:
    """A client that knows the methods and nothing more."""
    asyncio.run(_pytest_lsp_story(folder, command))


async def _pytest_lsp_story(folder: Path, command: list[str]) -> None:
    client = await ClientServerConfig(command, server_env=dict(os.environ)).start()
    assert isinstance(client, LanguageClient)
    uri = (folder / "source.py").as_uri()
    capabilities = types.ClientCapabilities(
        general=types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf16])
    )
    await client.initialize_session(
        types.InitializeParams(
            capabilities, process_id=None, root_uri=folder.as_uri(), initialization_options={"coderl": ALWAYS},
            client_info=types.ClientInfo("pytest-lsp", "1"),
        )
    )  # fmt: skip
    client.text_document_did_open(types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "python", 1, "名 = '🙂', alp")))
    item = await _ask(client, uri, 0, 13)
    _change(client, uri, 2, (0, 10), (0, 13), str(item.insert_text))
    assert item.command is not None
    await client.workspace_execute_command_async(types.ExecuteCommandParams(item.command.command, item.command.arguments))
    _change(client, uri, 3, (0, 22), (0, 22), "\nx = alp")
    await _ask(client, uri, 1, 7)
    _change(client, uri, 4, (1, 7), (1, 7), "Z")
    _change(client, uri, 5, (1, 8), (1, 8), "\ny = alp")
    await _ask(client, uri, 2, 7)
    for number, key in enumerate("habet + 1"):
        _change(client, uri, 6 + number, (2, 7 + number), (2, 7 + number), key)
    client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri)))
    await client.shutdown_session()
    await client.stop()


async def _ask(client: LanguageClient, uri: str, line: int, character: int) -> types.InlineCompletionItem:
    answer = await client.text_document_inline_completion_async(
        types.InlineCompletionParams(
            types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
            types.TextDocumentIdentifier(uri), types.Position(line, character),
        )
    )  # fmt: skip
    assert isinstance(answer, types.InlineCompletionList)
    await asyncio.sleep(SEEN_S)
    return answer.items[0]


def _change(client: LanguageClient, uri: str, version: int, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
    where = types.Range(types.Position(*start), types.Position(*end))
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            types.VersionedTextDocumentIdentifier(version, uri), [types.TextDocumentContentChangePartial(where, text)]
        )
    )
