"""What one home folder's database holds after a session, and the command of the server that writes there."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ALWAYS = {"rule": "always_show", "privacy": "code", "maxDebounceMs": 0, "cooldownS": 0, "rememberRejections": 0}
"""Every suggestion is shown, at once, and texts are logged: the client is under test, not the gate."""

STEP_S = 0.05

Outcome = tuple[str, str, str, int]
"""Kind, evidence, detail, accepted characters."""


def scripted(folder: Path, rules: list[dict[str, Any]]) -> list[str]:
    """The command of a server whose generator says what these rules say, else nothing."""
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": rules}), encoding="utf-8")
    return [sys.executable, "-m", "coderl_server", "lsp", "--backend", "scripted", "--script", str(script), "--seed", "1"]


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    # Read-only: the server that writes must never wait for a test.
    database = sqlite3.connect(f"file:{home / 'coderl.db'}?mode=ro", uri=True)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def outcomes(home: Path) -> list[Outcome]:
    """Of all suggestions, in the order they were logged in."""
    return rows(home, "SELECT kind, evidence, detail, accepted_chars FROM outcomes ORDER BY rowid")  # type: ignore[return-value]


def last_place(home: Path) -> tuple[int, int, str, str]:
    """Line, character (code points), text before and text behind of the last request."""
    query = "SELECT line, character, prefix, suffix FROM contexts ORDER BY rowid DESC LIMIT 1"
    (place,) = rows(home, query)
    return place  # type: ignore[return-value]


def wait_outcomes(home: Path, flush: Callable[[], Any], expected: list[Outcome], limit_s: float = 30.0) -> None:
    """Wait until as many outcomes are logged as are expected, and compare. `flush` has the server write down what it knows."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        assert flush()["committed"]
        if len(outcomes(home)) >= len(expected):
            break
        time.sleep(STEP_S)
    found = outcomes(home)
    assert found == expected, f"{found} instead of {expected}"
