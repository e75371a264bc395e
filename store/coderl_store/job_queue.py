"""Jobs in the database: one at a time, and each once, however many workers and servers look at it.

Whoever claims a job is its owner and says every few seconds that it lives (`beat`). Claiming is one write transaction: on
SQLite it has the write lock from its beginning, on PostgreSQL it holds an advisory lock, so two never claim at once. A lease
in the row, not a lock held for hours, says that a job runs: it survives a cut connection and a restart of the database, and a
killed worker's job becomes `lost` after `LEASE_S` instead of never. It is not begun again by itself: it may be what killed it.

Not covered: servers whose clocks differ by more than `LEASE_S`, and a worker that is stopped (SIGSTOP) for longer than that and
then goes on: its job is lost and another may run beside its last step; what it then writes here is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, text, update

from .codec import from_plain
from .dialect import PATIENT_TIMEOUT_S, insert_new, read_only, writing
from .jobs import Job, JobState
from .members import Audit
from .tables import AUDITS, JOBS, to_row

LEASE_S = 120.0
_LOCK = 0x0C0DE42
"""Any number, as long as nobody else uses it in the same PostgreSQL database; the neighbour of `schema`'s."""
_ACTIVE = (JobState.RUNNING.value, JobState.STOPPING.value)


class JobQueue:
    """Safe to use from several threads and processes. Each call is one short transaction; raises `DatabaseError`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, job: Job, audit: Audit | None = None) -> bool:
        """Commit a queued job with its audit row; False where there is one with its id already."""
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            added = insert_new(connection, JOBS, [to_row(job)]) == 1
            if added and audit is not None:
                connection.execute(insert(AUDITS).values(**to_row(audit)))
        return added

    def job(self, job_id: str) -> Job | None:
        """The job with this id; None where there is none."""
        with read_only(self._engine) as connection:
            return _one(connection, job_id)

    def jobs(self, limit: int = 100) -> list[Job]:
        """The last jobs, the latest first."""
        query = select(JOBS).order_by(JOBS.c.at.desc(), JOBS.c.id.desc()).limit(limit)
        with read_only(self._engine) as connection:
            return [from_plain(Job, dict(row)) for row in connection.execute(query).mappings()]

    def claim(self, owner: str, now: datetime) -> Job | None:
        """Begin the oldest queued job, unless another one runs anywhere; None where there is nothing to begin."""
        with read_only(self._engine) as connection:  # most looks find nothing, and need no write lock to see it
            if not _waiting(connection):
                return None
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            silent = JOBS.c.state.in_(_ACTIVE) & (JOBS.c.beat_at < now - timedelta(seconds=LEASE_S))
            detail = f"Its worker was not heard of for {LEASE_S:.0f} s."
            connection.execute(update(JOBS).where(silent).values(state=JobState.LOST.value, ended_at=now, detail=detail))
            if connection.execute(select(JOBS.c.id).where(JOBS.c.state.in_(_ACTIVE)).limit(1)).first() is not None:
                return None
            waiting = _waiting(connection)
            if not waiting:
                return None
            begun = {"state": JobState.RUNNING.value, "owner": owner, "started_at": now, "beat_at": now}
            connection.execute(update(JOBS).where(JOBS.c.id == waiting[0]).values(**begun))
            return _one(connection, waiting[0])

    def beat(self, job_id: str, owner: str, now: datetime, done: int, total: int) -> bool:
        """Its owner lives and has got so far; False where the job is to end."""
        mine = (JOBS.c.id == job_id) & (JOBS.c.owner == owner)
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            active = mine & JOBS.c.state.in_(_ACTIVE)
            connection.execute(update(JOBS).where(active).values(beat_at=now, done=done, total=total))
            state = connection.execute(select(JOBS.c.state).where(mine)).scalar()
        return state == JobState.RUNNING.value

    def finish(self, job_id: str, owner: str, now: datetime, state: JobState, *, result: str | None, detail: str) -> bool:
        """The end of a job, told by its owner; False where it was not the owner's any more."""
        mine = (JOBS.c.id == job_id) & (JOBS.c.owner == owner) & JOBS.c.state.in_(_ACTIVE)
        end: dict[str, Any] = {"state": state.value, "ended_at": now, "result": result, "detail": detail}
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            return connection.execute(update(JOBS).where(mine).values(**end)).rowcount == 1

    def cancel(self, job_id: str, now: datetime, audit: Audit) -> Job | None:
        """A queued job ends at once, a running one when its worker hears of it. The job then; None where there is none."""
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            this = JOBS.c.id == job_id
            ended = {"state": JobState.CANCELLED.value, "ended_at": now, "detail": "Cancelled before it began."}
            changed = connection.execute(
                update(JOBS).where(this & (JOBS.c.state == JobState.QUEUED.value)).values(**ended)
            ).rowcount
            stopping = this & (JOBS.c.state == JobState.RUNNING.value)
            changed += connection.execute(update(JOBS).where(stopping).values(state=JobState.STOPPING.value)).rowcount
            if changed:
                connection.execute(insert(AUDITS).values(**to_row(audit)))
            return _one(connection, job_id)


def _one(connection: Connection, job_id: str) -> Job | None:
    row = connection.execute(select(JOBS).where(JOBS.c.id == job_id)).mappings().first()
    return None if row is None else from_plain(Job, dict(row))


def _waiting(connection: Connection) -> Sequence[str]:
    """The id of the oldest queued job, if any."""
    queued = select(JOBS.c.id).where(JOBS.c.state == JobState.QUEUED.value).order_by(JOBS.c.at, JOBS.c.id).limit(1)
    return connection.execute(queued).scalars().all()
