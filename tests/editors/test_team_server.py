"""A real Neovim and a real VS Code, each with its own token, report to one team server: docs/operations.md, steps 3 to 6."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import httpx
import pytest

from coderl_store.home import StoreSettings, home
from coderl_store.records import Outcome, OutcomeKind, Session
from coderl_store.repository import Repository

from ..e2e.test_serve import Server, run, serving
from .neovim_driver import ALWAYS, neovims, plugin_init
from .vscode_case import WARM_UP, running
from .vscode_editor import wait

pytestmark = pytest.mark.timeout(600)
REPORTED_S = 60.0
"""The log leaves an editor's machine every few seconds."""


def token_of(name: str, folder: Path) -> tuple[str, Path]:
    """(The token, a file that holds it)."""
    text = json.loads(run("token", "create", "--role", "ingest", "--user", name, "--json").stdout)["token"]
    file = folder / f"{name}.token"
    file.write_text(f"{text}\n")
    file.chmod(0o600)
    return text, file


def accepted_by() -> dict[str, int]:
    """Programmer → accepted suggestions in the server's log."""
    repository = Repository(StoreSettings.from_environment().database_url)
    try:
        whose = {one.id: one.user_key for one in repository.stream(Session)}
        found: dict[str, int] = {}
        for outcome in repository.stream(Outcome):
            if outcome.kind is OutcomeKind.ACCEPTED:
                found[whose[outcome.session_id]] = found.get(whose[outcome.session_id], 0) + 1
        return found
    finally:
        repository.close()


def page(server: Server, token: str, path: str) -> str:
    """A page of the dashboard, as somebody who signs in sees it."""
    origin = f"http://127.0.0.1:{server.port}"
    with httpx.Client(base_url=origin, timeout=60, follow_redirects=True) as browser:
        signed_in = browser.post("/dashboard/sign-in", headers={"Origin": origin}, data={"token": token})
        assert signed_in.status_code == 200, signed_in.text
        answer = browser.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text


def test_two_real_editors_report_into_one_dashboard(tmp_path: Path, own_home: Path) -> None:
    script = tmp_path / "team.json"
    script.write_text(json.dumps({"rules": WARM_UP}))
    (ada, adas_file), (bob, bobs_file) = (token_of(name, tmp_path) for name in ("ada", "bob"))
    began_s = time.monotonic()
    with serving("--backend", "scripted", "--script", str(script), "--min-group", "2") as server:
        url = f"http://127.0.0.1:{server.port}"
        there = ["lsp", "--server", url, "--token-file", str(adas_file)]
        command = ["env", f"CODERL_HOME={tmp_path / 'adas-home'}", sys.executable, "-m", "coderl_server", *there]
        settings = {**ALWAYS, "cooldownS": 0, "rememberRejections": 0}
        with neovims(tmp_path) as start:
            neovim = start(plugin_init({"cmd": command, "settings": settings, "keys": {"accept": "<Tab>"}}))
            neovim.keys("Goresult = alp")
            neovim.wait_ghost("habet + 1")
            time.sleep(0.3)
            neovim.keys("<Tab>")
            neovim.wait_line("result = alphabet + 1")
            place = tmp_path / "vscode"
            place.mkdir()
            with running("code-server", place, arguments=("--server", url, "--token-file", str(bobs_file))) as editor:
                window = editor.window
                file = window.open("team.py")
                window.suggest("result = alp", "habet + 1")
                window.press("Tab")
                window.saved(file, "import sys\nresult = alphabet + 1")
                wait("both editors' outcomes on the server", lambda: len(accepted_by()) == 2, accepted_by, REPORTED_S)
        print(f"Two editors reported within {time.monotonic() - began_s:.0f} s.")
        assert home() == own_home
        assert set(accepted_by().values()) == {1}
        for token in (ada, bob):
            own = httpx.get(f"{url}/v1/me/records", headers={"Authorization": f"Bearer {token}"}, timeout=60).text
            assert own.count('"record":"session"') == 1
            assert own.count('"kind":"accepted"') == 1
            assert '<td class="text">accepted</td>' in page(server, token, "/dashboard/silent?action=show")
