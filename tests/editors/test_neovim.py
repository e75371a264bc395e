"""The real Neovim with the configuration of editors/nvim: keys in, ghost text, buffer and log out.

Needs Neovim 0.12 or newer in the environment variable CODERL_NVIM. Neovim is its own driver: the one under test listens on a
socket, and further `nvim --server` processes send it keys and ask it questions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

_NVIM = os.environ.get("CODERL_NVIM")  # read before `own_home` hides it
EDITOR = Path(__file__).parents[2] / "editors" / "nvim"
WAIT_S = 60.0
T = TypeVar("T")

SCRIPT = {
    "rules": [
        {"pattern": r"slow\Z", "text": "_answer", "first_delay_ms": 2500},
        {"pattern": r"alp\Z", "text": "habet + 1"},
        {"pattern": r"alph\Z", "text": "abet + 1"},
        {"pattern": r"def add\(a, b\):\Z", "text": "\n    c = a + b\n    return c"},
    ]
}
"""What the generator says; at every other place nothing."""

GHOST = """
local ns, found = vim.api.nvim_create_namespace('nvim.lsp.inline_completion'), {}
for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true })) do
  local lines = { mark[4].virt_text and mark[4].virt_text[1][1] or '' }
  for _, line in ipairs(mark[4].virt_lines or {}) do lines[#lines + 1] = line[1][1] end
  found[#found + 1] = { row = mark[2], col = mark[3], text = table.concat(lines, '\\n'), how = mark[4].virt_text_pos }
end
return found
"""


@dataclass(frozen=True)
class Neovim:
    """One running Neovim."""

    program: str
    socket: str
    log: Path

    def keys(self, keys: str) -> None:
        """Type, in the notation of mappings (`<Esc>`, `<lt>`)."""
        command = [self.program, "--server", self.socket, "--remote-send", keys]
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)

    def lua(self, body: str) -> Any:
        """What a Lua function body returns in that Neovim."""
        quoted = body.replace("'", "''")
        expression = f"luaeval('vim.json.encode({{(function() {quoted} end)()}})')"
        command = [self.program, "--server", self.socket, "--remote-expr", expression]
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_S)
        assert run.returncode == 0, run.stderr
        answer = json.loads(run.stdout)
        return answer[0] if answer else None

    def ghost(self) -> dict[str, Any] | None:
        """The one ghost text on screen."""
        found = self.lua(GHOST)
        assert len(found) <= 1, found
        return dict(found[0]) if found else None

    def line(self) -> str:
        return str(self.lua("return vim.api.nvim_get_current_line()"))

    def wait(self, what: str, probe: Callable[[], T]) -> T:
        """Ask until the answer is not empty."""
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            if value := probe():
                return value
            time.sleep(0.03)
        pytest.fail(f"{what}: not within {WAIT_S:.0f} s; messages: {self.messages()!r}; log: {self.log_text()!r}")

    def wait_ghost(self, text: str) -> dict[str, Any]:
        def probe() -> dict[str, Any] | None:
            ghost = self.ghost()
            return ghost if ghost is not None and ghost["text"] == text else None

        found = self.wait(f"ghost text {text!r}", probe)
        assert found is not None
        return found

    def wait_pending(self) -> None:
        """Wait until an inline-completion request is under way."""
        body = """for _, r in pairs(vim.lsp.get_clients({ name = 'coderl' })[1].requests) do
          if r.method == 'textDocument/inlineCompletion' and r.type == 'pending' then return true end end return false"""
        self.wait("a pending request", lambda: self.lua(body))

    def request(self, method: str) -> Any:
        return self.lua(
            f"return vim.lsp.get_clients({{ name = 'coderl' }})[1]:request_sync('{method}', vim.empty_dict(), 40000, 0).result"
        )

    def decided(self) -> list[str]:
        """The reasons of the session's decisions, in order."""
        return [json.loads(line)["fields"]["reason"] for line in self.request("coderl/decisions")["decisions"]]

    def messages(self) -> str:
        return str(self.lua("return vim.api.nvim_exec2('messages', { output = true }).output"))

    def log_text(self) -> str:
        return self.log.read_text() if self.log.is_file() else ""

    def assert_undisturbed(self) -> None:
        """No message on screen, nothing but the log's own beginning in the LSP log."""
        assert self.messages() == ""
        assert [line for line in self.log_text().splitlines() if not line.startswith("[START]")] == []


Start = Callable[[str], Neovim]


@pytest.fixture
def start(tmp_path: Path, own_home: Path) -> Iterator[Start]:
    """Starts Neovim with an init.lua and an open Python file; waits until the server can be asked."""
    if not _NVIM:
        pytest.skip("CODERL_NVIM does not name a Neovim 0.12 or newer")
    check = [_NVIM, "--clean", "--headless", "-c", "lua io.stdout:write(vim.fn.has('nvim-0.12'))", "-c", "qa!"]
    if subprocess.run(check, capture_output=True, text=True, timeout=WAIT_S, check=False).stdout.strip() != "1":
        pytest.skip(f"{_NVIM} is not a Neovim 0.12 or newer")
    folder = tempfile.mkdtemp(prefix="nvim-")  # paths of sockets must be short
    running: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, **{f"XDG_{name}_HOME": str(tmp_path / name) for name in ("STATE", "DATA", "CACHE", "CONFIG")}}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"

    def started(init: str) -> Neovim:
        assert _NVIM is not None
        (tmp_path / "init.lua").write_text(f"vim.o.swapfile = false\n{init}")
        source = tmp_path / "source.py"
        source.write_text("import sys\n", encoding="utf-8")
        socket = f"{folder}/s"
        command = [_NVIM, "--headless", "--clean", "-u", str(tmp_path / "init.lua"), "--listen", socket, str(source)]
        running.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        neovim = Neovim(_NVIM, socket, tmp_path / "STATE" / "nvim" / "lsp.log")
        neovim.wait("the socket", lambda: Path(socket).exists())
        attached = "return #vim.lsp.get_clients({ bufnr = 0, method = 'textDocument/inlineCompletion' }) == 1"
        neovim.wait("the server", lambda: neovim.lua(attached))
        return neovim

    yield started
    for process in running:
        # A polite end: Neovim shuts its server down. Where it hangs, the process is ended.
        subprocess.run([str(_NVIM), "--server", f"{folder}/s", "--remote-send", "<C-\\><C-N>:qa!<CR>"], check=False)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    shutil.rmtree(folder)


@pytest.fixture
def scripted(start: Start, tmp_path: Path) -> Neovim:
    """Neovim with editors/nvim on its runtimepath and the scripted generator in the server."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps(SCRIPT))
    command = [sys.executable, "-m", "coderl_server", "lsp", "--backend", "scripted", "--script", str(script), "--seed", "1"]
    return start(
        f"vim.opt.runtimepath:prepend({json.dumps(str(EDITOR))})\n"
        "assert(vim.deep_equal(vim.lsp.config.coderl.cmd, { 'coderl', 'lsp' }))\n"
        f"vim.lsp.config('coderl', {{ cmd = vim.json.decode([==[{json.dumps(command)}]==]), {ALWAYS} }})\n"
        "vim.lsp.enable('coderl')\nvim.lsp.inline_completion.enable()\n"
        "vim.keymap.set('i', '<Tab>', function()\n"
        "  if not vim.lsp.inline_completion.get() then return '<Tab>' end\nend, { expr = true })\n"
    )


ALWAYS = "init_options = { coderl = { rule = 'always_show' } }"


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "coderl.db") as database:
        return database.execute(query).fetchall()


def outcomes(home: Path) -> list[tuple[str, str, str]]:
    """Kind, evidence and detail of every outcome."""
    return rows(home, "SELECT kind, evidence, detail FROM outcomes ORDER BY kind")


@pytest.mark.model
def test_the_lines_of_the_readme_give_suggestions_of_the_embedded_model(
    embedded_model: Path, start: Start, own_home: Path
) -> None:
    own_home.mkdir()
    (own_home / "models").symlink_to(embedded_model.parent)
    # The page of the editor has the same lines: tests/test_docs.py.
    lines = re.search(r"```lua\n(.*?)```", (EDITOR.parents[1] / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert lines is not None
    neovim = start(f"{lines[1]}\nvim.lsp.config('coderl', {{ {ALWAYS} }})\n")
    neovim.keys("Goif __name__ ==")
    ghost = neovim.wait("ghost text", neovim.ghost)
    assert ghost is not None
    assert ghost["text"].strip()
    neovim.keys("<Tab>")
    neovim.wait("the accept", lambda: neovim.line() != "if __name__ ==")
    assert neovim.line() == "if __name__ ==" + ghost["text"]
    neovim.assert_undisturbed()

    neovim.wait("the outcome", lambda: neovim.request("coderl/flush")["committed"] and outcomes(own_home))
    query = (
        "SELECT d.action, s.chars, o.kind, o.evidence, o.accepted_chars FROM outcomes o"
        " JOIN suggestions s ON s.id = o.suggestion_id JOIN decisions d ON d.id = o.decision_id WHERE o.kind = 'accepted'"
    )
    chars = len(ghost["text"])
    assert rows(own_home, query) == [("show", chars, "accepted", "command", chars)]
    [(client, generator)] = rows(own_home, "SELECT client_name, generator_id FROM sessions")
    assert (client, generator.startswith("smollm2-135m")) == ("Neovim", True)


def test_tab_accepts_and_is_a_tab_where_nothing_is_shown(scripted: Neovim, own_home: Path) -> None:
    scripted.keys("Goresult = alp")
    assert scripted.wait_ghost("habet + 1")["how"] in ("inline", "overlay")
    scripted.keys("<Tab>")
    scripted.wait("the accept", lambda: scripted.line() == "result = alphabet + 1")
    scripted.wait("no ghost text", lambda: scripted.ghost() is None)
    scripted.keys("<Tab>")
    # Neovim's settings for Python make blanks of it.
    scripted.wait("an indentation", lambda: re.fullmatch(r"result = alphabet \+ 1[ \t]+", scripted.line()))
    scripted.keys("<Esc>")
    scripted.wait("the outcome", lambda: scripted.request("coderl/flush")["committed"] and outcomes(own_home))
    assert outcomes(own_home) == [("accepted", "command", "")]
    scripted.assert_undisturbed()


def test_several_lines_come_as_lines_below(scripted: Neovim) -> None:
    scripted.keys("Godef add(a, b):<CR>")
    scripted.wait_ghost("c = a + b\n    return c")
    scripted.keys("<Tab>")
    scripted.wait("the accept", lambda: scripted.line() == "    return c")
    body = ["def add(a, b):", "    c = a + b", "    return c"]
    assert scripted.lua("return vim.api.nvim_buf_get_lines(0, 1, -1, false)") == body
    assert scripted.lua("return vim.api.nvim_win_get_cursor(0)") == [4, 12]


def test_the_text_behind_the_cursor_stays(scripted: Neovim) -> None:
    scripted.keys("Goprint('größer 𝕏', )<Left>alp")
    ghost = scripted.wait_ghost("habet + 1")
    assert ghost["how"] == "inline"
    scripted.keys("<Tab>")
    scripted.wait("the accept", lambda: scripted.line() == "print('größer 𝕏', alphabet + 1)")


def test_typing_through_keeps_the_suggestion_and_typing_away_ends_it(scripted: Neovim, own_home: Path) -> None:
    scripted.keys("Goresult = alp")
    scripted.wait_ghost("habet + 1")
    scripted.keys("h")
    scripted.wait_ghost("abet + 1")
    time.sleep(0.3)  # seen: less than 250 ms on screen would count as not seen
    scripted.keys("Z")
    scripted.wait("the empty answer", lambda: scripted.ghost() is None)
    scripted.keys("<Esc>")
    scripted.wait("the outcome", lambda: scripted.request("coderl/flush")["committed"] and outcomes(own_home))
    assert outcomes(own_home) == [("disagreed", "inferred", ""), ("not_seen", "inferred", "reserved")]
    scripted.assert_undisturbed()


def test_escape_hides_the_suggestion(scripted: Neovim) -> None:
    scripted.keys("Goresult = alp")
    scripted.wait_ghost("habet + 1")
    scripted.keys("<Esc>")
    scripted.wait("no ghost text", lambda: scripted.ghost() is None)
    assert scripted.line() == "result = alp"
    scripted.assert_undisturbed()


def test_a_late_answer_does_not_replace_the_newer_one(scripted: Neovim) -> None:
    # Neovim does not cancel a request when typing goes on; the server ends the older one.
    scripted.keys("Goresult = slow")
    scripted.wait_pending()
    scripted.keys("<C-w>alp")
    scripted.wait_ghost("habet + 1")
    time.sleep(3.0)  # the older answer would be here by now
    scripted.wait_ghost("habet + 1")
    assert "superseded" in scripted.decided()
    scripted.assert_undisturbed()


def test_leaving_insert_mode_ends_a_pending_request(scripted: Neovim) -> None:
    scripted.keys("Goresult = slow")
    scripted.wait_pending()
    scripted.keys("<Esc>")
    scripted.wait("the cancelled request", lambda: "superseded" in scripted.decided())
    time.sleep(3.0)
    assert scripted.ghost() is None
    scripted.assert_undisturbed()
