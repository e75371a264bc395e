"""A team's server as a process, and PostgreSQL for it, for the benchmarks of the team server."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import postgres

NDJSON = "application/x-ndjson"
DURABLE: Mapping[str, str] = MappingProxyType(
    {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
)
"""PostgreSQL as a team runs it: the tests switch its promises off."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Served:
    """One running server."""

    process: subprocess.Popen[str]
    port: int

    def cpu_s(self) -> float:
        """Processor time of the process so far, all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def connection(self) -> HTTPConnection:
        """A connection that stays open."""
        return HTTPConnection("127.0.0.1", self.port, timeout=120)

    def figure(self, name: str) -> float:
        """One figure of `/metrics` without labels; 0 where it is not there yet."""
        connection = self.connection()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_for(self, name: str, value: float, longest_s: float = 300.0) -> None:
        """Until a figure has reached a value. RuntimeError where it does not."""
        give_up_s = time.monotonic() + longest_s
        while self.figure(name) < value:
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"{name} is {self.figure(name):.0f} after {longest_s:.0f} s, not {value:.0f}.")
            time.sleep(0.05)


@contextlib.contextmanager
def serving(folder: Path, database_url: str | None = None, *options: str) -> Iterator[Served]:
    """`coderl serve` on a free port, with a data folder of its own. RuntimeError where it does not start."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CODERL_")}
    environment["CODERL_HOME"] = str(folder)
    if database_url is not None:
        environment["CODERL_DATABASE_URL"] = database_url
    command = [sys.executable, "-m", "coderl_server", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+:(\d+) ", line)
        if found is None:
            raise RuntimeError(f"coderl serve did not start: {line}")
        yield Served(process, int(found[1]))
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def either(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database: `sqlite` in the folder, or `postgresql` on a server of its own that syncs."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'coderl.db'}"
        return
    with postgres.running(DURABLE) as server:
        yield server.url(server.add_database())


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """On a real disk where the machine's temporary folder is in memory: there `fsync` costs nothing."""
    return tempfile.TemporaryDirectory(prefix="coderl-bench-", dir=os.environ.get("BENCH_FOLDER"))
