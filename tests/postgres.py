"""A real PostgreSQL for the tests: a server of its own in a temporary folder, from whatever binaries this machine has.

It listens on a Unix socket in that folder alone, so no port can be taken, and does not sync, because nothing of it is kept.
PostgreSQL refuses to run as root: there it runs as another user, who owns the folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For a test about what SQLite alone does, where the others run on both."""
USER = "coderl"
DEBIAN = Path("/usr/lib/postgresql")
WHEELS = ("pgserver",)
"""Packages from the index that hold the binaries."""
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "deadlock_timeout": "100ms",
}
ANSWERS_S = 120.0
"""How long a start or an end may take on a busy machine."""


def missing() -> str | None:
    """Why no server can be had here, and what to install; None where one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "needs psycopg: pip install 'coderl[postgres]'"
    if binaries() is None:
        return "needs a PostgreSQL server: apt install postgresql (or your system's package), or pip install pgserver"
    return None


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: on PATH, else Debian's newest, else a wheel's; None where there is none."""
    on_path = shutil.which("initdb")
    candidates = [] if on_path is None else [Path(on_path).resolve().parent]
    candidates += sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    for name in WHEELS:
        spec = importlib.util.find_spec(name)
        for package in (spec.submodule_search_locations or ()) if spec else ():
            candidates += [initdb.parent for initdb in Path(package).glob("**/bin/initdb")]
    return next((folder for folder in candidates if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextlib.contextmanager
def running(changes: Mapping[str, str] = MappingProxyType({})) -> Iterator[PostgresServer]:
    """A new server, stopped and removed at the end; `changes` count before `SETTINGS`."""
    found = binaries()
    assert found is not None, missing()
    folder = Path(
        tempfile.mkdtemp(prefix="coderl-pg-")
    )  # not under pytest's folder: others may not enter it, and its path is long
    server = PostgresServer(found, folder, {**SETTINGS, **changes})
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


class PostgresServer:
    """One server. It can be stopped and started again with its databases."""

    def __init__(self, binaries: Path, folder: Path, settings: Mapping[str, str]) -> None:
        self._binaries = binaries
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def create(self) -> None:
        """Make the data folder."""
        identity = _identity()
        if identity:
            os.chown(self._folder, identity["user"], identity["group"])
        command = [self._binaries / "initdb", "--pgdata", self._data, "--username", USER]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, **identity)
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")

    def start(self) -> None:
        """Start it where it does not run; return when it answers."""
        if self._process is not None:
            return
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [self._binaries / "postgres", "-D", self._data, "-k", self._folder, *settings]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **_identity())
        self._wait()

    def stop(self) -> None:
        """End it as a restart of the service does: connections are cut, what was committed stays. Twice is once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(ANSWERS_S)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self._folder}"

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, outside of transactions; its rows."""
        with self._connected(database) as connection:
            cursor = connection.execute(statement)
            return [] if cursor.description is None else list(cursor.fetchall())

    def add_database(self) -> str:
        """Make an empty database; its name."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def cut(self, name: str) -> int:
        """End all connections to a database, as an administrator does; how many. They are gone when it returns."""
        found = f"FROM pg_stat_activity WHERE datname = '{name}'"
        pids = [str(row[0]) for row in self.run(f"SELECT pid, pg_terminate_backend(pid) {found}")]
        while pids and self.run(f"SELECT pid {found} AND pid IN ({', '.join(pids)})"):
            time.sleep(0.01)
        return len(pids)

    @property
    def folder(self) -> Path:
        """Where its socket is: the host, for the tools of PostgreSQL."""
        return self._folder

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _connected(self, database: str) -> Any:
        import psycopg

        return psycopg.connect(host=str(self._folder), user=USER, dbname=database, autocommit=True)

    def _wait(self) -> None:
        import psycopg

        assert self._process is not None
        give_up_s = time.monotonic() + ANSWERS_S
        while True:
            try:
                self.run("SELECT 1")
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > give_up_s:
                    raise RuntimeError(f"PostgreSQL does not answer: {self._log.read_text()}") from error
                time.sleep(0.05)
            else:
                return


def _identity() -> Mapping[str, Any]:
    """As whom `subprocess` starts the server: as us, unless we are root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
