"""Records a session of each client as a fixture of tests/e2e/test_sessions.py.

    python -m tests.editors.record_sessions [--out DIR] [client …]      from the root; all clients where none is named

Clients: neovim, neovim_plugin, vscode, emacs, helix, pytest_lsp. The editors are those of `make test-editors`. The recorder is
`coderl record`, which stands between the editor and the server; the server's time is then part of the recording, so that a
playback needs no waiting and ends up with the same outcomes.

A fixture is a recording in the form of `coderl_server.recording.format` without its footer, and its header holds more: `script`
(what the generator says), `outcomes` (what the database held in the end: kind, evidence, detail, accepted characters, sorted).
The session's folder is written as FOLDER, the editor's process id as 0. Clock events that follow each other are one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from . import recorded_clients as clients
from .logged import outcomes

OUT = Path(__file__).parents[1] / "e2e" / "sessions"
WAIT_S = 30.0
STEP_S = 0.05
FOLDER = "${FOLDER}"
CLIENTS = MappingProxyType(
    {
        "neovim": clients.neovim,
        "neovim_plugin": clients.neovim_plugin,
        "vscode": clients.vscode,
        "emacs": clients.emacs_session,
        "helix": clients.helix_session,
        "pytest_lsp": clients.pytest_lsp_session,
    }
)


def record(client: Callable[[Path, list[str]], None], out: Path) -> str:
    """Run a client's session in a fresh folder and write the fixture; what came of it, in a sentence."""
    with tempfile.TemporaryDirectory(prefix="session-") as place:
        folder = Path(place)
        home, raw, script = folder / "home", folder / "raw.jsonl", folder / "script.json"
        os.environ["CODERL_HOME"] = str(home)
        script.write_text(json.dumps({"rules": clients.RULES}), encoding="utf-8")
        server = ["lsp", "--backend", "scripted", "--script", str(script), "--seed", "1"]
        python = [sys.executable, "-m", "coderl_server"]
        client(folder, [*python, "record", "--grace-ms", "20000", str(raw), "--", *python, *server])
        wait_gone(folder)
        found = sorted(outcomes(home)) if (home / "coderl.db").exists() else []
        lines = anonymous(raw.read_text(encoding="utf-8"), folder, server, found)
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"{out.name}: {len(lines)} lines, {out.stat().st_size} bytes, outcomes {found}"


def wait_gone(folder: Path) -> None:
    """Wait until the recorder and the server have ended; an editor may leave the server with its log still to write."""
    end_s = time.monotonic() + WAIT_S
    while any(str(folder).encode() in command for command in _commands()):
        if time.monotonic() > end_s:
            pytest.fail(f"the end of the server: not within {WAIT_S:.0f} s")
        time.sleep(STEP_S)


def _commands() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_bytes()
        except OSError:
            continue


def anonymous(raw: str, folder: Path, server: list[str], found: list[Any]) -> list[str]:
    """The lines of the fixture."""
    events = [json.loads(line) for line in raw.replace(str(folder), FOLDER).splitlines()]
    header, events = events[0], [event for event in events[1:] if event["dir"] != "footer"]
    header["command"] = ["coderl", *(word.replace(str(folder), FOLDER) for word in server), "--clock", "client"]
    header |= {"script": {"rules": clients.RULES}, "outcomes": found}
    kept = [header]
    for event in events:
        if event["dir"] == "clock" and kept[-1]["dir"] == "clock":
            kept.pop()
        if event["dir"] == "client" and "processId" in (event["msg"].get("params") or ()):
            event["msg"]["params"]["processId"] = 0
        kept.append(event)
    return [json.dumps(event, separators=(",", ":")) for event in kept]


def main() -> int:
    parser = argparse.ArgumentParser(description="Record a session of each client as a fixture.")
    parser.add_argument("clients", nargs="*", metavar="client", help=", ".join(CLIENTS))
    parser.add_argument("--out", type=Path, default=OUT, help="where the fixtures go")
    told = parser.parse_args()
    if unknown := set(told.clients) - set(CLIENTS):
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    for name in told.clients or CLIENTS:
        try:
            print(record(CLIENTS[name], told.out / f"{name}.jsonl"))
        except (pytest.skip.Exception, pytest.fail.Exception) as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
