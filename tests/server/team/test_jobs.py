"""Jobs through the API: the real commands, in real processes, on a log of made-up programmers whose behaviour is known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing
from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.clock import utc
from coderl_store.home import home
from coderl_store.job_queue import JobQueue
from coderl_store.members import Role
from coderl_store.records import Context, Decision, Incident, Origin, Record, Session, Severity
from coderl_store.repository import Repository

from .conftest import Team, built

pytestmark = [pytest.mark.usefixtures("either_database"), pytest.mark.timeout(1200)]
ENDS = ("done", "failed", "cancelled", "lost")
OFTEN = Limits(requests_per_s=1e6, burst=10**6)
"""The tests ask again and again, on a clock that stands still."""


def fill(repository: Repository, users: int = 6, per_user: int = 40) -> int:
    """A log that can be calibrated on; how many decisions."""
    records: dict[str, Record] = {}
    for request in World(users=users, requests_per_user=per_user).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)):
        parts = (request.session, request.context, request.decision, request.suggestion, request.outcome, *request.survival)
        records |= {f"{type(one).__name__} {one.id}": one for one in parts if one is not None}
    repository.append(records.values())
    return repository.count(Decision)


@pytest.fixture
def settings() -> TeamSettings:
    return TeamSettings(limits=OFTEN)


async def ended(team: Team, job_id: str) -> dict[str, Any]:
    """The job once it has ended; its progress never goes back."""
    done = 0
    async with team.client() as client:
        while True:
            answer = await client.get(f"/v1/jobs/{job_id}")
            if answer.status_code == 404 and not done:  # what the server plans by itself
                await asyncio.sleep(0.2)
                continue
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            assert found["done"] >= done
            done = found["done"]
            if found["state"] in ENDS:
                return found
            await asyncio.sleep(0.2)


async def asked(team: Team, **order: Any) -> str:
    async with team.client() as client:
        answer = await client.post("/v1/jobs", json=order)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "queued"
    return str(answer.json()["id"])


@pytest.mark.slow
async def test_calibration_and_replay_find_what_the_commands_find(running: Team) -> None:
    decisions = fill(running.parts.database.repository)
    calibration, replay = await asked(running, kind="calibration"), await asked(running, kind="replay", eagerness=0.25)
    made, replayed = await ended(running, calibration), await ended(running, replay)
    assert (made["state"], made["detail"], made["total"], made["done"]) == ("done", "", made["total"], made["total"])
    assert made["total"] > 0
    assert made["result"]["decisions"] == decisions
    assert (replayed["state"], replayed["detail"]) == ("done", "")
    assert replayed["result"]["n"] == decisions
    assert replayed["result"]["policy"]["eagerness"] == 0.25
    assert replayed["started_at"] >= made["started_at"]
    async with running.client() as client:
        assert "result" not in (await client.get("/v1/jobs")).json()[0]
        audits = (await client.get("/v1/audit")).json()
        figures = (await client.get("/metrics")).text
    assert sorted((row["action"], row["subject"]) for row in audits) == sorted(
        ("job.started", job) for job in (calibration, replay)
    )
    assert 'coderl_jobs_total{kind="replay",state="done"} 1' in figures


async def test_what_cannot_be_done_is_said_in_the_commands_own_sentence(running: Team) -> None:
    failed = await ended(running, await asked(running, kind="replay", origins=["imported"]))
    assert (failed["state"], failed["result"]) == ("failed", None)
    assert failed["detail"].startswith("The log holds no request that a gate decided")


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"kind": "retention"},
        {"kind": "replay", "gate": "/etc"},
        {"kind": "replay", "rule": "--help"},
        {"kind": "replay", "eagerness": 2},
        {"kind": "replay", "origins": []},
        {"kind": "replay", "since": "2026-01-01T00:00:00"},
        {"kind": "calibration", "write_default": True},
        {"kind": "calibration", "budget_s": "-1"},
    ],
)
async def test_an_order_that_is_none_is_refused(running: Team, order: dict[str, Any]) -> None:
    async with running.client() as client:
        answer = await client.post("/v1/jobs", json=order)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert (await client.get("/v1/jobs")).json() == []
        assert (await client.get("/v1/jobs/nothing")).status_code == 404
        assert (await client.delete("/v1/jobs/nothing")).status_code == 404


async def running_now(team: Team, job_id: str) -> None:
    async with team.client() as client:
        while True:
            if (await client.get(f"/v1/jobs/{job_id}")).json()["state"] != "queued":
                return
            await asyncio.sleep(0.05)


async def test_a_job_is_ended_when_asked_and_the_next_one_begins(running: Team) -> None:
    fill(running.parts.database.repository)
    first, second = await asked(running, kind="calibration"), await asked(running, kind="replay")
    await running_now(running, first)
    async with running.client() as client:
        assert (await client.delete(f"/v1/jobs/{first}")).json()["state"] in ("stopping", "done")
    assert (await ended(running, first))["state"] in ("cancelled", "done")
    assert (await ended(running, second))["state"] == "done"


async def test_a_server_that_leaves_says_so_in_its_job(team: Team) -> None:
    fill(team.parts.database.repository)
    async with team.running():
        job_id = await asked(team, kind="calibration")
        await running_now(team, job_id)
    found = JobQueue(team.parts.database.repository.engine).job(job_id)
    assert found is not None
    assert (found.state.value, found.detail) == ("cancelled", "The server was stopped: ask for it again.")


async def test_two_servers_do_a_job_once(team: Team) -> None:
    other = built(home(), team.parts.settings)
    fill(team.parts.database.repository)
    async with team.running(), other.running():
        jobs = [await asked(server, kind="replay") for server in (team, other, team)]
        found = [await ended(other, job) for job in jobs]
        assert [job["state"] for job in found] == ["done"] * 3
        begun = sorted((job["started_at"], job["ended_at"]) for job in found)
        assert all(end <= start for (_, end), (start, _) in pairwise(begun))


@pytest.fixture
def aged(team: Team) -> Iterator[Repository]:
    """A log with a session of ten days ago and one of today."""
    now = utc(team.clock.now_s())
    repository = team.parts.database.repository
    for name, at in (("old", now - timedelta(days=10)), ("new", now)):
        session = Session(name, at, Origin.EDITOR, "u")
        repository.append([session, Incident(f"{name}-1", at, name, Severity.INFO, "c", "m")])
    yield repository
    repository.close()


@pytest.mark.parametrize("settings", [TeamSettings(keep_days=7, limits=OFTEN)])
async def test_what_is_older_than_the_server_keeps_goes_once_a_day(team: Team, aged: Repository) -> None:
    other = built(home(), team.parts.settings)
    today = utc(team.clock.now_s()).date()
    async with team.running(), other.running(), team.client() as client:
        assert (await ended(team, f"retention-{today}"))["result"] == {"rows": 2}
        assert [one.id for one in aged.stream(Session)] == ["new"]
        for server in (team, other):
            server.clock.advance_to(server.clock.now_s() + 86_400 * 8)
        later = today + timedelta(days=8)
        assert (await ended(team, f"retention-{later}"))["result"] == {"rows": 2}
        audits = [row for row in (await client.get("/v1/audit")).json() if row["action"] == "records.purged"]
    assert [(row["actor"], row["rows"]) for row in audits] == [("server", 2)] * 2
    assert [*aged.stream(Session), *aged.stream(Context)] == []


async def test_without_a_limit_everything_is_kept(running: Team, aged: Repository) -> None:
    assert (await ended(running, await asked(running, kind="replay")))["state"] == "failed"  # the runner has looked
    async with running.client() as client:
        assert [job["kind"] for job in (await client.get("/v1/jobs")).json()] == ["replay"]
    assert len(list(aged.stream(Session))) == 2


async def test_only_who_manages_starts_jobs(running: Team) -> None:
    async with running.client(running.mint(Role.READ, "lead").text) as client:
        assert (await client.post("/v1/jobs", json={"kind": "replay"})).status_code == 403
