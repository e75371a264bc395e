"""Starts the real Neovim, types into it and asks it questions.

The program is that of the environment variable CODERL_NVIM, else what `tests/editors/install/neovim.sh` has installed.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .neovim_rpc import Connection, NeovimError

EDITOR = Path(__file__).parents[2] / "editors" / "nvim"
_EDITORS = Path(os.environ.get("CODERL_EDITORS") or Path.home() / ".cache" / "coderl-editors")
# Read before `own_home` hides the variables.
PROGRAM = os.environ.get("CODERL_NVIM") or str(_EDITORS / "nvim" / "nvim")
WAIT_S = 30.0
STEP_S = 0.01
T = TypeVar("T")

ALWAYS = {"rule": "always_show"}

GHOST = """
local ns, found = vim.api.nvim_create_namespace('nvim.lsp.inline_completion'), {}
for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true })) do
  local lines = { mark[4].virt_text and mark[4].virt_text[1][1] or '' }
  for _, line in ipairs(mark[4].virt_lines or {}) do lines[#lines + 1] = line[1][1] end
  found[#found + 1] = { row = mark[2], col = mark[3], text = table.concat(lines, '\\n'), how = mark[4].virt_text_pos }
end
return found
"""


class Neovim:
    """One running Neovim with one server."""

    def __init__(self, connection: Connection, process: subprocess.Popen[bytes], log: Path) -> None:
        self.connection = connection
        self.process = process
        self.log = log

    def keys(self, keys: str) -> None:
        """Type, in the notation of mappings (`<Esc>`, `<lt>`)."""
        self.connection.call("nvim_input", keys)

    def lua(self, body: str, *arguments: Any) -> Any:
        """What a Lua function body returns in that Neovim; the arguments are its `...`."""
        return self.connection.call("nvim_exec_lua", body, list(arguments))

    def command(self, line: str) -> str:
        """Run an Ex command; what it printed."""
        return str(self.connection.call("nvim_exec2", line, {"output": True})["output"])

    def ghost(self) -> dict[str, Any] | None:
        """The one ghost text on screen."""
        found = self.lua(GHOST)
        assert len(found) <= 1, found
        return dict(found[0]) if found else None

    def line(self) -> str:
        return str(self.connection.call("nvim_get_current_line"))

    def lines(self) -> list[str]:
        return list(self.connection.call("nvim_buf_get_lines", 0, 0, -1, False))

    def cursor(self) -> list[int]:
        return list(self.connection.call("nvim_win_get_cursor", 0))

    def wait(self, what: str, probe: Callable[[], T]) -> T:
        """Ask until the answer is not empty."""
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            if value := probe():
                return value
            time.sleep(STEP_S)
        seen = f"line: {self.line()!r}; ghost: {self.ghost()!r}; messages: {self.messages()!r}; log: {self.log_text()!r}"
        pytest.fail(f"{what}: not within {WAIT_S:.0f} s; {seen}")

    def wait_ghost(self, text: str) -> dict[str, Any]:
        def probe() -> dict[str, Any] | None:
            ghost = self.ghost()
            return ghost if ghost is not None and ghost["text"] == text else None

        found = self.wait(f"ghost text {text!r}", probe)
        assert found is not None
        return found

    def wait_no_ghost(self) -> None:
        self.wait("no ghost text", lambda: self.ghost() is None)

    def wait_line(self, text: str) -> None:
        self.wait(f"the line {text!r}", lambda: self.line() == text)

    def wait_mode(self, mode: str) -> None:
        self.wait(f"mode {mode}", lambda: self.connection.call("nvim_get_mode")["mode"] == mode)

    def wait_attached(self) -> None:
        body = """local completion = require('vim.lsp._capability').all.inline_completion.active[vim.api.nvim_get_current_buf()]
          local client = vim.lsp.get_clients({ bufnr = 0, method = 'textDocument/inlineCompletion' })[1]
          return client ~= nil and completion ~= nil and completion.client_state[client.id] ~= nil"""
        self.wait("the server", lambda: self.lua(body))

    def wait_pending(self) -> None:
        """Wait until an inline-completion request is under way."""
        body = """for _, r in pairs(vim.lsp.get_clients({ name = 'coderl' })[1].requests) do
          if r.method == 'textDocument/inlineCompletion' and r.type == 'pending' then return true end end return false"""
        self.wait("a pending request", lambda: self.lua(body))

    def request(self, method: str, params: dict[str, Any] | None = None) -> Any:
        body = """local method, params = ...
          return vim.lsp.get_clients({ name = 'coderl' })[1]:request_sync(method, params, 40000, 0).result"""
        return self.lua(body, method, params or {})

    def decided(self) -> list[str]:
        """The reasons of the session's decisions, in order."""
        return [json.loads(line)["fields"]["reason"] for line in self.request("coderl/decisions")["decisions"]]

    def wait_decided(self, reason: str) -> None:
        self.wait(f"the decision {reason}", lambda: reason in self.decided())

    def messages(self) -> str:
        return self.command("messages")

    def log_text(self) -> str:
        return self.log.read_text() if self.log.is_file() else ""

    def assert_undisturbed(self) -> None:
        """No message on screen, nothing but the log's own beginning in the LSP log."""
        assert self.messages() == ""
        assert [line for line in self.log_text().splitlines() if not line.startswith("[START]")] == []

    def quit(self) -> None:
        """A polite end: Neovim shuts its server down. Where it hangs, it is ended and the test fails."""
        try:
            if self.process.poll() is None:
                self.keys("<C-\\><C-N>:qa!<CR>")
            self.process.wait(20)
        except (subprocess.TimeoutExpired, OSError, EOFError):
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.connection.close()


def skip_without_neovim() -> None:
    if shutil.which(PROGRAM) is None:
        pytest.skip("no Neovim: name it in CODERL_NVIM, or run tests/editors/install/neovim.sh")
    check = [PROGRAM, "--clean", "--headless", "-c", "lua io.stdout:write(vim.fn.has('nvim-0.12'))", "-c", "qa!"]
    if subprocess.run(check, capture_output=True, text=True, timeout=WAIT_S, check=False).stdout.strip() != "1":
        pytest.skip(f"{PROGRAM} is not a Neovim 0.12 or newer")


Start = Callable[..., Neovim]
"""`start(init, name="source.py", text="import sys\\n")`: Neovim with this init.lua and an open file."""


@contextmanager
def neovims(tmp_path: Path) -> Iterator[Start]:
    """Starts any number of Neovims; all are ended afterwards."""
    skip_without_neovim()
    folder = Path(tempfile.mkdtemp(prefix="nvim-"))  # paths of sockets must be short
    running: list[Neovim] = []

    def start(init: str, name: str = "source.py", text: str | bytes = "import sys\n", attach: bool = True) -> Neovim:
        number = len(running)
        place = tmp_path / f"nvim-{number}"
        place.mkdir()
        environment = {**os.environ, **{f"XDG_{part}_HOME": str(place / part) for part in ("STATE", "DATA", "CACHE", "CONFIG")}}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
        (place / "init.lua").write_text(f"vim.o.swapfile = false\n{init}", encoding="utf-8")
        source = place / name
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        socket = folder / str(number)
        command = [PROGRAM, "--headless", "--clean", "-u", str(place / "init.lua"), "--listen", str(socket), str(source)]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        connection = connected(socket, process)
        neovim = Neovim(connection, process, place / "STATE" / "nvim" / "lsp.log")
        running.append(neovim)
        neovim.wait("the end of the start", lambda: neovim.lua("return vim.v.vim_did_enter == 1"))
        if attach:
            neovim.wait_attached()
        return neovim

    try:
        yield start
    finally:
        for neovim in running:
            neovim.quit()
        shutil.rmtree(folder)


def connected(socket: Path, process: subprocess.Popen[bytes]) -> Connection:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            return Connection(socket, WAIT_S)
        except OSError:
            time.sleep(STEP_S)
    process.kill()
    process.wait()
    pytest.fail(f"Neovim does not listen on its socket (exit code {process.returncode})")


# -- the server with a scripted generator -------------------------------------------------------------------------------------


def scripted_command(tmp_path: Path, script: dict[str, Any]) -> list[str]:
    """The command of a server whose generator says what a script says."""
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script), encoding="utf-8")
    return [sys.executable, "-m", "coderl_server", "lsp", "--backend", "scripted", "--script", str(path), "--seed", "1"]


def as_lua(value: Any) -> str:
    """A value in the text of an init.lua."""
    return f"vim.json.decode([==[{json.dumps(value)}]==])"


def plugin_init(options: dict[str, Any]) -> str:
    """An init.lua with the plugin of editors/nvim."""
    return (
        f"vim.opt.runtimepath:prepend({json.dumps(str(EDITOR))})\n"
        f"require('coderl').setup({as_lua(options)})\n"
    )  # fmt: skip


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "coderl.db") as database:
        return database.execute(query).fetchall()


def outcomes(home: Path) -> list[tuple[str, str, str]]:
    """Kind, evidence and detail of every outcome."""
    return rows(home, "SELECT kind, evidence, detail FROM outcomes ORDER BY kind")


def wait_outcomes(neovim: Neovim, home: Path, expected: list[tuple[str, str, str]]) -> None:
    """Wait until as many outcomes are in the database as are expected, and compare."""

    def probe() -> bool:
        return bool(neovim.request("coderl/flush")["committed"]) and len(outcomes(home)) >= len(expected)

    end_s = time.monotonic() + WAIT_S
    while not probe() and time.monotonic() < end_s:
        time.sleep(0.1)
    assert outcomes(home) == sorted(expected), outcomes(home)


__all__ = [
    "ALWAYS", "EDITOR", "PROGRAM", "Neovim", "NeovimError", "Start", "as_lua", "neovims", "outcomes", "plugin_init", "rows",
    "scripted_command", "skip_without_neovim", "wait_outcomes",
]  # fmt: skip
