"""A team server in a process of its own, for benchmarks, tests and pictures of its pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

PAGES = ("", "honest", "silent", "what-if", "models", "training", "health", "my-data")
"""The last part of each page's address."""
LOOK_S = 0.5


@dataclass
class Served:
    """A running server."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def coderl(self, *arguments: str) -> str:
        """The command line, on the server's data folder."""
        command = [sys.executable, "-m", "coderl_server", *arguments]
        return subprocess.run(
            command, env=_environment(self.home), capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def token(self, role: str, user: str) -> str:
        """A new token of this role."""
        found = re.search(r"coderl_[0-9a-f]{16}_[\w-]{43}", self.coderl("token", "create", "--role", role, "--user", user))
        assert found is not None
        return found[0]

    def wait_for_sums(self, limit_s: float) -> float:
        """Return once every day of an open server's log is summed, and the figures are made; how long that took, in seconds."""
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < limit_s:
            honest, worth = (httpx.get(f"{self.url}/dashboard/{page}", timeout=60).text for page in ("honest", ""))
            if "no figures yet" not in honest and "Sums of" not in worth:
                return time.monotonic() - begun_s
            time.sleep(LOOK_S)
        raise TimeoutError(f"The sums of the log were not made within {limit_s:g} s.")

    def stop(self) -> None:
        """End it, as its supervisor would."""
        self.process.terminate()
        self.process.wait(30)
        if self.process.stderr is not None:
            self.process.stderr.close()


def serve(home: Path, *arguments: str) -> Served:
    """A server on the data folder; it listens when this returns."""
    command = [sys.executable, "-m", "coderl_server", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, env=_environment(home), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://[^ ]+", line)
    if found is None:
        raise RuntimeError(line + process.stderr.read())
    return Served(found[0], home, process)


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "CODERL_HOME": str(home)}
