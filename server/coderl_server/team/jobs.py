"""Jobs over HTTP: start a calibration or a replay, see how far it is, take its result, end it. Each leaves an audit row."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query
from pydantic import BaseModel, Field

from coderl_store.clock import utc
from coderl_store.jobs import Job, JobKind, JobState
from coderl_store.members import Audit

from .access import needs
from .ingest import LONGEST_ID
from .job_orders import Order
from .job_runner import JobRunner
from .parts import TeamParts
from .problems import Problem, responses
from .rights import Caller, Right

Manager = Annotated[Caller, Depends(needs(Right.MANAGE))]
JobId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, pattern=r"^[\x21-\x7e]+$")]


class JobFacts(BaseModel):
    """How a job stands."""

    id: str
    kind: str = Field(description="calibration, replay or retention.")
    state: str = Field(description="queued, running, stopping; at the end done, failed, cancelled or lost.")
    actor: str = Field(description="Id of the token that asked; `local` without tokens; `server` for what it does by itself.")
    at: str = Field(description="When it was asked for.")
    started_at: str | None
    ended_at: str | None
    done: int = Field(description="Steps done.")
    total: int = Field(description="Of so many; 0 while that is not known.")
    options: dict[str, Any]
    detail: str = Field(description="Why it failed or ended.")


class JobResult(JobFacts):
    """The same, with what was found."""

    result: dict[str, Any] | None = Field(description="What the command prints with --json; null where there is none.")


def router(parts: TeamParts) -> APIRouter:
    """The room's routes, and while the application runs the worker's own runner."""
    runner = JobRunner(parts)

    @contextlib.asynccontextmanager
    async def running(application: FastAPI) -> AsyncIterator[None]:
        task = asyncio.ensure_future(runner.run())
        try:
            yield
        finally:
            parts.drain.begin()
            await task

    room = APIRouter(tags=["jobs"], lifespan=running)

    @room.post("/v1/jobs", status_code=202, responses=responses())
    def start(caller: Manager, order: Annotated[Order, Body()]) -> JobFacts:
        """Queue a job. One runs at a time, over all workers and servers of the database; `GET /v1/jobs/{job_id}` follows it."""
        now = utc(parts.clock.now_s())
        options = order.model_dump_json(exclude_defaults=True)
        job = Job(parts.ids.new(), now, JobKind(order.kind), JobState.QUEUED, caller.id, options)
        runner.queue.add(job, Audit(parts.ids.new(), now, caller.id, "job.started", job.id))
        return _facts(job)

    @room.get("/v1/jobs", responses=responses())
    def jobs(caller: Manager, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[JobFacts]:
        """The last jobs, the latest first, without their results."""
        return [_facts(job) for job in runner.queue.jobs(limit)]

    @room.get("/v1/jobs/{job_id}", responses=responses(404))
    def one(caller: Manager, job_id: JobId) -> JobResult:
        """How a job stands, and its result once it is done."""
        return _result(runner.queue.job(job_id))

    @room.delete("/v1/jobs/{job_id}", responses=responses(404))
    def cancel(caller: Manager, job_id: JobId) -> JobResult:
        """End a job: at once where it only waits, within seconds where it runs. An ended job stays as it is."""
        now = utc(parts.clock.now_s())
        return _result(runner.queue.cancel(job_id, now, Audit(parts.ids.new(), now, caller.id, "job.cancelled", job_id)))

    return room


def _facts(job: Job) -> JobFacts:
    return JobFacts(**_fields(job))


def _result(job: Job | None) -> JobResult:
    if job is None:
        raise Problem(404, "not_found", "There is no job with this id: `GET /v1/jobs` lists them.")
    return JobResult(**_fields(job), result=None if job.result is None else json.loads(job.result))


def _fields(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind.value,
        "state": job.state.value,
        "actor": job.actor,
        "at": job.at.isoformat(),
        "started_at": None if job.started_at is None else job.started_at.isoformat(),
        "ended_at": None if job.ended_at is None else job.ended_at.isoformat(),
        "done": job.done,
        "total": job.total,
        "options": json.loads(job.options),
        "detail": job.detail,
    }
