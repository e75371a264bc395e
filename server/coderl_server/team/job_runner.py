"""The part of a worker that does jobs: looks for one, does it in a process of its own, says how far it is, keeps its result.

Each worker of each server looks about once a second; the database gives a job to one of them (`coderl_store.job_queue`).
When the server is told to leave, the process is ended and the job is `cancelled`, which says so.

Not covered: a worker killed with SIGKILL leaves its process behind; that ends at its next step, because nobody reads what
it says, and the job becomes `lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from coderl_store.clock import utc
from coderl_store.errors import StoreError
from coderl_store.job_queue import JobQueue
from coderl_store.jobs import Job, JobKind, JobState
from coderl_store.members import Audit

from .job_orders import SPEAKS, command_of
from .parts import TeamParts

LOOK_S = 1.0
BEAT_S = 2.0
"""How often a running job's progress is written, and looked whether it is still wanted."""
LONGEST_S = 6 * 3600.0
"""A job that takes longer is ended."""
LEAVES_S = 10.0
"""What a process gets to end after SIGTERM."""
RESULT_BYTES = 4 * 1024 * 1024
DETAIL_CHARS = 1000
SERVER = "server"
"""Who acts in the audit rows of what the server does by itself."""
_NICENESS = 10
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class _End:
    state: JobState
    result: str | None = None
    detail: str = ""


class JobRunner:
    """Of one worker; used on its event loop."""

    def __init__(self, parts: TeamParts) -> None:
        self._parts = parts
        self._owner = parts.ids.new()
        self._purged_on: str | None = None

    @property
    def queue(self) -> JobQueue:
        """The jobs of the database; may block, and raises `DatabaseError`."""
        return JobQueue(self._parts.database.repository.engine)

    async def run(self) -> None:
        """Until the server is told to leave."""
        while not self._parts.drain.begun:
            try:
                await asyncio.to_thread(self._plan_retention)
                job = await asyncio.to_thread(lambda: self.queue.claim(self._owner, self._now()))
                if job is not None:
                    await self._do(job)
                    continue
            except StoreError as error:
                logger.warning("No job can be done now: %s", error)
            await self._pause(LOOK_S)

    def _now(self) -> datetime:
        return utc(self._parts.clock.now_s())

    async def _pause(self, seconds: float) -> None:
        """So long, unless the server leaves before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._parts.drain.wait(), seconds)

    def _plan_retention(self) -> None:
        """The first look of a day, by whichever worker, queues its retention: the day is the job's id."""
        days, now = self._parts.settings.keep_days, self._now()
        today = now.date().isoformat()
        if days is None or self._purged_on == today:
            return
        options = json.dumps({"before": (now - timedelta(days=days)).isoformat()})
        self.queue.add(Job(f"retention-{today}", now, JobKind.RETENTION, JobState.QUEUED, SERVER, options))
        self._purged_on = today

    async def _do(self, job: Job) -> None:
        progress = _Progress()
        if job.kind is JobKind.RETENTION:
            end = await self._watched(job, progress, lambda: self._purge(job), stops=False)
        else:
            end = await self._watched(job, progress, lambda: self._command(job, progress), stops=True)
        await self._tell_end(job, progress, end)
        self._parts.metrics.count("coderl_jobs_total", kind=job.kind.value, state=end.state.value)

    async def _watched(self, job: Job, progress: _Progress, work: Callable[[], Awaitable[_End]], *, stops: bool) -> _End:
        """Do the work while saying that it lives. Where it `stops`, it is ended when nobody wants it any more."""
        task = asyncio.ensure_future(work())
        leaving = asyncio.ensure_future(self._parts.drain.wait())
        ended = _End(JobState.CANCELLED, detail="The server was stopped: ask for it again.")
        try:
            async with asyncio.timeout(LONGEST_S):
                while not task.done():
                    await asyncio.wait(
                        {task, leaving} if stops else {task}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    wanted = task.done() or await self._beat(job, progress)
                    if stops and not task.done() and (leaving.done() or not wanted):
                        ended = ended if leaving.done() else _End(JobState.CANCELLED, detail="Cancelled.")
                        break
        except TimeoutError:
            ended = _End(JobState.FAILED, detail=f"It took longer than {LONGEST_S / 3600:.0f} hours.")
        finally:
            leaving.cancel()
            if not task.done():
                task.cancel()
            await asyncio.wait({task})
        if task.cancelled():
            return ended
        error = task.exception()
        if error is None:
            return task.result()
        logger.error("Job %s failed with %s.", job.id, type(error).__name__)
        known = isinstance(error, StoreError)
        return _End(JobState.FAILED, detail=str(error) if known else "It failed in a way that is not known.")

    async def _beat(self, job: Job, progress: _Progress) -> bool:
        try:
            return await asyncio.to_thread(
                lambda: self.queue.beat(job.id, self._owner, self._now(), progress.done, progress.total)
            )
        except StoreError as error:  # it goes on; where this lasts, the job is called lost, and a later beat hears of it
            logger.warning("The progress of job %s cannot be written: %s", job.id, error)
            return True

    async def _tell_end(self, job: Job, progress: _Progress, end: _End) -> None:
        """Write the end down, again and again while the database is away, as long as the server stays."""
        while True:
            try:
                await asyncio.to_thread(
                    lambda: (
                        self.queue.beat(job.id, self._owner, self._now(), progress.done, progress.total),
                        self.queue.finish(
                            job.id, self._owner, self._now(), end.state, result=end.result, detail=end.detail[:DETAIL_CHARS]
                        ),
                    )
                )
                return
            except StoreError as error:
                logger.warning("The end of job %s cannot be written: %s", job.id, error)
                if self._parts.drain.begun:
                    return
            await self._pause(BEAT_S)

    async def _purge(self, job: Job) -> _End:
        before = datetime.fromisoformat(json.loads(job.options)["before"])
        rows = await asyncio.to_thread(lambda: self._parts.database.repository.purge_before(before))
        audit = Audit(self._parts.ids.new(), self._now(), SERVER, "records.purged", before.isoformat(), rows)
        await asyncio.to_thread(lambda: self._parts.database.register.add_audit(audit))
        return _End(JobState.DONE, json.dumps({"rows": rows}))

    async def _command(self, job: Job, progress: _Progress) -> _End:
        """Run the job's command. Cancelled, it ends the process first."""
        environment = {**os.environ, "CODERL_HOME": str(self._parts.home), "CODERL_DATABASE_URL": self._parts.database.url}
        process = await asyncio.create_subprocess_exec(
            *command_of(job.kind, json.loads(job.options)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # its own children go with it, and Ctrl-C at the server reaches it through us alone
        )
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)  # requests come first
        try:
            said, result, code = await asyncio.gather(
                _followed(process.stderr, SPEAKS[job.kind], progress), _limited(process.stdout), process.wait()
            )
        finally:
            await _ended(process)
        if code != 0:
            return _End(JobState.FAILED, result, said or f"It failed in a way it does not know (exit status {code}).")
        if result is None:
            return _End(JobState.FAILED, detail="Its result is no JSON of the expected size.")
        return _End(JobState.DONE, result)


async def _followed(stream: asyncio.StreamReader | None, speaks: str, progress: _Progress) -> str:
    """Take progress from the lines as they come; the last sentence of the command's own."""
    assert stream is not None
    said = ""
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than the reader holds: nothing that was written for us
            continue
        if not line:
            return said
        text = line.decode(errors="replace").strip()
        if text.startswith(speaks):
            said = text.removeprefix(speaks)
        elif text.startswith('{"done"'):
            step = json.loads(text)
            progress.done, progress.total = int(step["done"]), int(step["total"])


async def _limited(stream: asyncio.StreamReader | None) -> str | None:
    """The JSON object on standard output, null for what is no number; None where it is something else or too large."""
    assert stream is not None
    data = bytearray()
    while piece := await stream.read(65536):
        if len(data) <= RESULT_BYTES:
            data += piece
    try:
        found: Any = json.loads(data, parse_constant=lambda name: None) if len(data) <= RESULT_BYTES else None
    except ValueError:
        return None
    return json.dumps(found) if isinstance(found, dict) else None


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a process that still runs, with its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LEAVES_S)
