"""Long pieces of work that a team's server does beside its requests: what they are and how they stand. Facts beside the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class JobKind(StrEnum):
    """What is to be done."""

    CALIBRATION = "calibration"
    """`gate-calibrate` on the log."""
    REPLAY = "replay"
    """`coderl replay` of the log under another policy."""
    RETENTION = "retention"
    """What is older than the server keeps is deleted; once a day, by itself."""


class JobState(StrEnum):
    """How it stands. The last four are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    """Somebody asked for its end; its worker has not said yet that it came."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Somebody asked for its end, or its server was stopped."""
    LOST = "lost"
    """Its worker has not been heard of for `job_queue.LEASE_S`: killed, or without the database for so long."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Holds no code: a calibration's or a replay's result is figures."""

    id: str
    at: datetime
    """When it was asked for."""
    kind: JobKind
    state: JobState
    actor: str
    """As in an audit row: a token's id, `local`, or `server`."""
    options: str
    """One JSON object."""
    owner: str = ""
    """The worker that does it."""
    started_at: datetime | None = None
    beat_at: datetime | None = None
    """When its worker was last heard of."""
    ended_at: datetime | None = None
    done: int = 0
    """Steps, of `total`."""
    total: int = 0
    """0 = not known yet."""
    result: str | None = None
    """One JSON object."""
    detail: str = ""
    """Why it failed or ended, for people."""
