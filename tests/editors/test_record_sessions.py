"""The fixtures of tests/e2e/test_sessions.py can be made anew: a session recorded now ends as the fixture says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .record_sessions import CLIENTS, OUT, record


def header(path: Path) -> dict[str, Any]:
    first: dict[str, Any] = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    return first


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "vscode"])  # VS Code takes too long to start once more
def test_a_session_recorded_anew_ends_the_same(tmp_path: Path, own_home: Path, name: str) -> None:
    fresh = tmp_path / f"{name}.jsonl"
    said = record(CLIENTS[name], fresh)
    now, then = header(fresh), header(OUT / fresh.name)
    assert now["script"] == then["script"], "the script has changed: record the sessions anew"
    assert now["outcomes"] == then["outcomes"], said
