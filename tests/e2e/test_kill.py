"""`kill -9` at any moment: what was acknowledged is in the database after the next start, and nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coderl_store.records import Context, Decision, Incident, Outcome, Session, Suggestion, Survival
from coderl_store.repository import Repository
from coderl_store.shadow import Shadow

SEED = int(os.environ.get("CODERL_KILL_SEED", "20261120"))
LIVES = 200
AT_ONCE = 2
"""Servers that share the home folder at any time: each also replays what the other's last victim left behind."""
SCRIPT = {"rules": [{"pattern": r"slow\(\Z", "text": "one two three", "delay_ms": 3}], "default": {"text": "values)\n"}}
SETTINGS = {"rule": "always_show", "privacy": "code", "cooldownS": 0}
URI = "file:///module.py"


def life(server: Any, kill_at_s: float) -> tuple[list[str], list[str]]:
    """Work until the moment comes. Returns the ids that were acknowledged, and the suggestions that were shown."""
    give_up_s = time.monotonic() + kill_at_s
    shown: list[str] = []
    server.open(URI, "sum(\nslow(\n")
    number = 0
    while time.monotonic() < give_up_s:
        number += 1
        line = number % 2
        message, pending = server.ask("textDocument/inlineCompletion", server.completion(URI, line, 4 + line))
        server.send(message)
        if pending.done.wait(max(0.0, give_up_s - time.monotonic())) and pending.result()["items"]:
            (item,) = pending.result()["items"]
            shown.append(item["command"]["arguments"][0])
            if number % 3 == 0:
                server.start("workspace/executeCommand", {"command": server.command, "arguments": [shown[-1]]})
    os.kill(server.process.pid, signal.SIGKILL)
    assert server.process.wait(30) == -signal.SIGKILL
    server._reader.join(30)
    recorded = server.recorded()
    server.wait()
    assert len(server.impure) <= 1, "only the last message may be cut"
    return recorded, shown


def all_rows(home: Path) -> list[Any]:
    repository = Repository(f"sqlite:///{home / 'coderl.db'}")
    try:
        kinds = (Session, Context, Decision, Suggestion, Outcome, Survival, Shadow, Incident)
        return [row for kind in kinds for row in repository.stream(kind)]
    finally:
        repository.close()


@pytest.mark.slow
@pytest.mark.timeout(900)  # two hundred starts of Python: two minutes on two cores
def test_two_hundred_deaths_lose_nothing_and_double_nothing(start: Callable[..., Any], tmp_path: Path) -> None:
    print(f"CODERL_KILL_SEED={SEED}")
    rng = random.Random(SEED)
    home = tmp_path / "home"
    recorded: list[str] = []
    shown: list[str] = []
    # Many die within the first commits and the opening of the database, some live long enough to settle whole segments.
    moments = [rng.choice((rng.uniform(0.0, 0.05), rng.uniform(0.0, 0.3), rng.uniform(0.3, 0.8))) for _ in range(LIVES)]

    def one(moment: float) -> tuple[list[str], list[str]]:
        server = start(SCRIPT, home=home)
        server.initialize(SETTINGS)
        return life(server, moment)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for ids, suggestions in pool.map(one, moments):
            recorded += ids
            shown += suggestions
    assert len(recorded) > LIVES, "the lives were too short to prove anything"

    last = start(SCRIPT, home=home)
    last.initialize(SETTINGS)
    last.flush()
    assert last.request("coderl/status")["kind"] == "Normal"
    assert last.stop() == 0
    rows = all_rows(home)
    found = Counter((type(row), row.id) for row in rows)
    assert set(recorded) <= {row.id for row in rows}, f"seed {SEED}"
    assert set(found.values()) == {1}, f"seed {SEED}"
    outcomes = Counter(row.suggestion_id for row in rows if isinstance(row, Outcome))
    assert set(outcomes.values()) <= {1}, f"seed {SEED}: a suggestion with two outcomes"
    # A segment that was being created has no line yet; its draft is cleared away after a day.
    left = [file for file in (home / "spool").iterdir() if file.suffix != ".new" or file.stat().st_size > 0]
    assert left == [], "everything is settled, nothing was damaged"
    # The history holds together: no decision without its context, no suggestion or outcome without its decision.
    decisions = {row.id for row in rows if isinstance(row, Decision)}
    assert {row.id for row in rows if isinstance(row, Context)} >= decisions
    assert {row.decision_id for row in rows if isinstance(row, Suggestion | Outcome)} <= decisions
    print(f"{len(recorded)} acknowledged, {len(rows)} rows, {len(shown)} shown, {len(outcomes)} with an outcome")
