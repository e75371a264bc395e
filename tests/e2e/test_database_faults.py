"""A database that is locked, read-only, missing, full or no database: typing goes on, records wait and arrive later."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coderl_store.records import Decision, Incident, Outcome, Suggestion
from coderl_store.repository import Repository

SCRIPT = {"default": {"text": "values)\n"}}
SETTINGS = {"rule": "always_show", "privacy": "code", "cooldownS": 0}
URI = "file:///module.py"
MOST_S = 2.0
"""A request that takes longer waited for the database. (It has a second and more of slack: this machine may be busy.)"""


def type_on(server: Any, times: int = 5) -> None:
    """Requests are served as if nothing had happened."""
    for _ in range(times):
        started_s = time.monotonic()
        assert len(server.complete(URI, 0, 4)) == 1
        assert time.monotonic() - started_s < MOST_S


def ready(server: Any) -> Any:
    server.initialize(SETTINGS)
    server.open(URI, "sum(")
    return server


def wait_for(found: Callable[[], Any], timeout_s: float = 25.0) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def waits(server: Any) -> None:
    """The status says that records wait, and why; the user was told once."""
    wait_for(lambda: server.request("coderl/status")["kind"] == "Warning")
    status = server.request("coderl/status")
    assert status["pending"] > 0
    assert status["message"].startswith("The log waits: ")
    wait_for(server.told)


def all_arrives(server: Any, decisions: int) -> None:
    """After the cure, without a restart."""
    wait_for(lambda: server.request("coderl/flush")["committed"])
    assert server.request("coderl/status")["kind"] == "Normal"
    assert server.stop() == 0
    assert "Traceback" not in server.stderr, server.stderr
    repository = Repository(f"sqlite:///{server.home / 'coderl.db'}")
    rows = {kind: list(repository.stream(kind)) for kind in (Decision, Suggestion, Outcome, Incident)}
    repository.close()
    assert len(rows[Decision]) == len(rows[Suggestion]) == len(rows[Outcome]) == decisions
    assert {row.code for row in rows[Incident]} == {"database_failed", "database_recovered"}
    recorded = server.recorded()
    assert {row.id for row in rows[Decision]} <= set(recorded)
    assert len(server.told("Suggestions go on")) == 1


@pytest.mark.slow
def test_a_locked_database_delays_nobody(start: Callable[..., Any]) -> None:
    server = ready(start(SCRIPT))
    type_on(server)
    server.flush()
    other = sqlite3.connect(server.home / "coderl.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        type_on(server)
        waits(server)
        type_on(server)
    finally:
        other.execute("ROLLBACK")
        other.close()
    all_arrives(server, 15)


def test_leaving_while_the_database_is_locked_takes_no_longer_than_promised(start: Callable[..., Any]) -> None:
    server = ready(start(SCRIPT))
    type_on(server)
    server.flush()
    other = sqlite3.connect(server.home / "coderl.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        type_on(server, 3)
        server.start("coderl/flush")  # somebody waits for what cannot come
        started_s = time.monotonic()
        assert server.request("shutdown") is None
        server.notify("exit")
        assert server.wait() == 0
        assert time.monotonic() - started_s < 15
    finally:
        other.execute("ROLLBACK")
        other.close()
    again = ready(start(SCRIPT, home=server.home))
    again.flush()
    assert again.stop() == 0
    repository = Repository(f"sqlite:///{server.home / 'coderl.db'}")
    assert repository.count(Outcome) == 8
    repository.close()


def test_a_file_that_is_no_database_is_said_and_its_place_can_be_cleared(start: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = home / "coderl.db"
    file.write_bytes(b"This is a letter to my grandmother.\n" * 1000)
    server = ready(start(SCRIPT, home=home))
    type_on(server)
    waits(server)
    assert len(server.told("is not a database")) == 1
    file.rename(tmp_path / "letter")
    all_arrives(server, 5)


def test_a_directory_in_the_place_of_the_database(start: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "coderl.db").mkdir(parents=True)
    server = ready(start(SCRIPT, home=home))
    type_on(server)
    waits(server)
    (home / "coderl.db").rmdir()
    all_arrives(server, 5)


def test_a_missing_folder_that_comes_back(start: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "network" / "drive"
    server = ready(start(SCRIPT, ("--database", f"sqlite:///{folder / 'log.db'}")))
    type_on(server)
    waits(server)
    folder.mkdir(parents=True)
    wait_for(lambda: server.request("coderl/flush")["committed"])
    assert server.stop() == 0
    repository = Repository(f"sqlite:///{folder / 'log.db'}")
    assert repository.count(Outcome) == 5
    repository.close()


def test_a_database_that_is_deleted_while_in_use_is_made_again(start: Callable[..., Any]) -> None:
    server = ready(start(SCRIPT))
    type_on(server, 2)
    server.flush()
    for file in server.home.glob("coderl.db*"):
        file.unlink()
    type_on(server)
    wait_for(lambda: server.request("coderl/flush")["committed"])
    assert server.stop() == 0
    repository = Repository(f"sqlite:///{server.home / 'coderl.db'}")
    assert repository.count(Decision) >= 5, "what came after the deletion is there"
    repository.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only files")
def test_a_read_only_database(start: Callable[..., Any]) -> None:
    server = ready(start(SCRIPT))
    type_on(server)
    server.flush()
    file = server.home / "coderl.db"
    file.chmod(0o400)
    try:
        type_on(server)
    finally:
        file.chmod(0o600)
    wait_for(lambda: server.request("coderl/flush")["committed"])
    assert server.stop() == 0


def test_a_database_on_a_disk_that_is_read_only_or_full(start: Callable[..., Any], tmp_path: Path) -> None:
    """On a file system of its own, in memory: full first, read-only then, well in the end."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        filler = disk / "filler"
        server = ready(start(SCRIPT, ("--database", f"sqlite:///{disk / 'log.db'}")))
        type_on(server, 2)
        server.flush()
        filler.write_bytes(b"x" * (shutil.disk_usage(disk).free))
        type_on(server, 40)
        waits(server)
        filler.unlink()
        wait_for(lambda: server.request("coderl/flush")["committed"])
        assert server.stop() == 0
        assert len(server.told("full")) == 1
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
        server = ready(start(SCRIPT, ("--database", f"sqlite:///{disk / 'log.db'}")))
        type_on(server, 3)
        waits(server)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, capture_output=True)
        wait_for(lambda: server.request("coderl/flush")["committed"])
        assert server.stop() == 0
        assert len(server.told("Suggestions go on")) == 1
        repository = Repository(f"sqlite:///{disk / 'log.db'}")
        assert repository.count(Outcome) == 45
        repository.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)


def test_a_spool_that_cannot_be_written_is_said_once_and_typing_goes_on(start: Callable[..., Any], tmp_path: Path) -> None:
    """Where even the spool fails, records are lost, not typing; nothing is acknowledged that is not safe."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "spool").write_text("in the way")
    server = ready(start(SCRIPT, home=home))
    type_on(server)
    wait_for(server.told)
    time.sleep(0.2)
    assert server.recorded() == []
    assert len(server.told()) <= 2
    (home / "spool").unlink()
    type_on(server)
    wait_for(server.recorded)
    wait_for(lambda: server.request("coderl/flush")["committed"])
    assert server.stop() == 0
    assert "Traceback" not in server.stderr, server.stderr
    repository = Repository(f"sqlite:///{home / 'coderl.db'}")
    found = {row.id for kind in (Decision, Suggestion, Outcome) for row in repository.stream(kind)}
    repository.close()
    assert found <= set(server.recorded())
    assert len(found) >= 10
