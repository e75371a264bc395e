"""What the team server is told: where it listens, and how much it takes from whom."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How large, how long and how often. All are per worker process."""

    body_bytes: int = 4 * MIB
    """Of a request's body as it travels."""
    unpacked_bytes: int = 16 * MIB
    """Of a batch once gzip is undone."""
    line_bytes: int = 1 * MIB
    """Of one record; two windows of text at privacy level `code` fit many times."""
    records: int = 5000
    """In one batch."""
    head_s: float = 10.0
    """Until the head of a request has arrived."""
    body_s: float = 30.0
    """Until its body has arrived."""
    requests_per_s: float = 50.0
    """Of one token, in the long run."""
    burst: int = 200
    """Requests that a token may make at once after a pause."""
    refused_per_s: float = 5.0
    """Attempts without a valid token from one address, in the long run; their burst is four seconds of it."""
    generations_waiting: int = 64
    """That wait for the model; further ones are refused."""
    generations_per_caller: int = 8
    """Waiting and at the model, of one token."""
    generation_wait_s: float = 10.0
    """Longest wait for the model: an editor's programmer has typed on by then."""
    generation_s: float = 60.0
    """Longest generation."""
    drain_s: float = 20.0
    """What requests in progress get to end after SIGTERM."""


@dataclass(frozen=True, slots=True)
class TeamSettings:
    """Of one `coderl serve`."""

    host: str = "127.0.0.1"
    port: int = 8766
    """0 = any free one."""
    workers: int = 1
    names: tuple[str, ...] = ()
    """Further names under which clients reach the server, as in the `Host` header without a port."""
    min_group: int = 5
    """Programmers in the smallest group of which aggregates are shown, unless all of the group agreed to be seen."""
    keep_days: int | None = None
    """Records older than this are deleted, once a day; None = all are kept."""
    runs: Path = Path("runs")
    """The folder whose trainings the dashboard shows."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.workers < 1 or not 0 <= self.port <= 65535 or self.min_group < 1:
            raise InputError("A server needs at least one worker, a port from 0 to 65535, and groups of at least one.")

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine reach the server."""
        return is_loopback(self.host)

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """What may stand in the `Host` header, without the port. A page that had its own name point here (DNS rebinding) still
        sends its own name."""
        local = ("localhost", "127.0.0.1", "::1")
        return frozenset(name.lower() for name in (*local, self.host, *self.names) if name not in ("0.0.0.0", "::", ""))


def is_loopback(host: str) -> bool:
    """Whether an address, or the name `localhost`, is this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
