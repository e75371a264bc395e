"""One job at a time, each once, whoever asks: on both databases."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from coderl_store.job_queue import LEASE_S, JobQueue
from coderl_store.jobs import Job, JobKind, JobState
from coderl_store.members import Audit
from coderl_store.register import Register
from coderl_store.repository import Repository

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SOON = timedelta(seconds=1)


@pytest.fixture
def queue(repository: Repository) -> JobQueue:
    return JobQueue(repository.engine)


def job(name: str, at: datetime = NOW) -> Job:
    return Job(name, at, JobKind.REPLAY, JobState.QUEUED, "local", "{}")


def audit(name: str) -> Audit:
    return Audit(name, NOW, "local", "job.cancelled", "subject")


def test_the_oldest_is_begun_first_and_only_one_runs(queue: JobQueue) -> None:
    assert queue.claim("a", NOW) is None
    assert [queue.add(job("late", NOW + SOON)), queue.add(job("early")), queue.add(job("early"))] == [True, True, False]
    begun = queue.claim("a", NOW)
    assert begun is not None
    assert (begun.id, begun.state, begun.owner, begun.started_at) == ("early", JobState.RUNNING, "a", NOW)
    assert queue.claim("b", NOW) is None
    assert queue.beat("early", "a", NOW, 3, 7)
    assert queue.finish("early", "a", NOW, JobState.DONE, result='{"x": 1}', detail="")
    ended = queue.job("early")
    assert ended is not None
    assert (ended.state, ended.done, ended.total, ended.result) == (JobState.DONE, 3, 7, '{"x": 1}')
    following = queue.claim("b", NOW)
    assert following is not None
    assert following.id == "late"
    assert [one.id for one in queue.jobs()] == ["late", "early"]


def test_many_workers_begin_each_job_once(queue: JobQueue, database_url: str) -> None:
    names = [f"job-{index}" for index in range(12)]
    for name in names:
        queue.add(job(name))

    def work(owner: str) -> list[str]:
        repository = Repository(database_url)
        mine = JobQueue(repository.engine)
        taken: list[str] = []
        rng = random.Random(owner)
        while any(one.state in (JobState.QUEUED, JobState.RUNNING) for one in mine.jobs()):
            begun = mine.claim(owner, NOW)
            if begun is not None:
                taken.append(begun.id)
                running = [one.id for one in mine.jobs() if one.state is JobState.RUNNING]
                assert running == [begun.id]
                for _ in range(rng.randrange(3)):
                    assert mine.beat(begun.id, owner, NOW, 0, 1)
                assert mine.finish(begun.id, owner, NOW, JobState.DONE, result=None, detail="")
        repository.close()
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [name for names_of_one in pool.map(work, "abcd") for name in names_of_one]
    assert sorted(taken) == sorted(names)


def test_a_silent_worker_loses_its_job_and_may_not_end_it(queue: JobQueue) -> None:
    queue.add(job("one"))
    queue.add(job("two", NOW + SOON))
    assert queue.claim("dead", NOW) is not None
    within, after = NOW + timedelta(seconds=LEASE_S), NOW + timedelta(seconds=LEASE_S + 1)
    assert queue.claim("b", within) is None
    following = queue.claim("b", after)
    assert following is not None
    assert following.id == "two"
    lost = queue.job("one")
    assert lost is not None
    assert (lost.state, lost.ended_at) == (JobState.LOST, after)
    assert not queue.beat("one", "dead", after, 1, 1)
    assert not queue.finish("one", "dead", after, JobState.DONE, result="{}", detail="")
    assert queue.job("one") == lost


def test_cancelling(queue: JobQueue, repository: Repository) -> None:
    assert queue.cancel("nothing", NOW, audit("1")) is None
    queue.add(job("running"))
    queue.add(job("waiting", NOW + SOON))
    assert queue.claim("a", NOW) is not None
    states = [one.state for name in ("running", "waiting") if (one := queue.cancel(name, NOW, audit(name)))]
    assert states == [JobState.STOPPING, JobState.CANCELLED]
    assert not queue.beat("running", "a", NOW, 1, 2)  # that is how its worker hears of it
    assert queue.claim("b", NOW) is None
    assert queue.finish("running", "a", NOW, JobState.CANCELLED, result=None, detail="")
    again = queue.cancel("running", NOW, audit("again"))
    assert again is not None
    assert again.state is JobState.CANCELLED
    assert sorted(one.id for one in Register(repository.engine).audits()) == ["running", "waiting"]
