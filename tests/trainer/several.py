"""Starting several processes that know each other, without a launcher, each with its own output."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ENDS_WITHIN_S = 500
"""However busy the machine is; the waits that are tested are of seconds."""


@contextmanager
def started(script: Path, arguments: Sequence[str], count: int = 2) -> Iterator[list[subprocess.Popen[str]]]:
    """`count` processes of one script; what is left of them is killed at the end."""
    children = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **_environment(rank, count, port)},
        )
        for port in [free_port()]
        for rank in range(count)
    ]
    try:
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate(timeout=ENDS_WITHIN_S)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
