"""Whether the server says how it does, for all of its workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coderl_server.team.metrics import Metrics

from .conftest import NDJSON, Team, lines, some_records

pytestmark = pytest.mark.usefixtures("either_database")


async def test_it_is_ready_while_database_and_spool_work(running: Team) -> None:
    async with running.client() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"ready": True, "database": "ok", "spool": "ok"}
        with running.parts.database.repository.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        running.clock.advance_to(running.clock.now_s() + 2)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]) == (503, "outdated")


async def test_a_spool_that_cannot_be_written_is_noticed(running: Team) -> None:
    spool = running.parts.home / "spool"
    if spool.exists():
        spool.rename(spool.with_name("away"))
    spool.write_text("in the way")
    async with running.client() as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["spool"]) == (503, "unwritable")


async def test_figures_are_in_the_text_format(running: Team) -> None:
    async with running.client() as client:
        await client.post("/v1/records", content=lines(some_records(4)) + b"x", headers={"Content-Type": NDJSON})
        assert running.parts.log.flush(120)
        figures = (await client.get("/metrics")).text.splitlines()
    assert 'coderl_records_total{outcome="accepted"} 4' in figures
    assert 'coderl_records_total{outcome="rejected"} 1' in figures
    assert 'coderl_requests_total{method="POST",route="/v1/records",status="200"} 1' in figures
    assert 'coderl_request_seconds_count{route="/v1/records"} 1' in figures
    assert "coderl_committed_total 4" in figures
    assert "coderl_spool_pending 0" in figures


def test_workers_are_added_up_and_the_dead_are_remembered(tmp_path: Path) -> None:
    dead = 2**22 + 1  # above the largest process id
    workers = [Metrics(tmp_path, process_id) for process_id in (os.getpid(), os.getppid(), dead)]
    for worker in workers:
        worker.count("coderl_records_total", 2, outcome="accepted")
        worker.set("coderl_spool_pending", 10)
        worker.observe("coderl_request_seconds", 0.02, route="/a")
        worker.publish()
    workers[0].count("coderl_records_total", outcome="accepted")
    text = workers[0].text()
    assert 'coderl_records_total{outcome="accepted"} 7\n' in text
    assert "coderl_spool_pending 20\n" in text
    assert 'coderl_request_seconds_bucket{route="/a",le="0.01"} 0\n' in text
    assert 'coderl_request_seconds_bucket{route="/a",le="0.025"} 3\n' in text
    assert 'coderl_request_seconds_bucket{route="/a",le="+Inf"} 3\n' in text
    assert 'coderl_request_seconds_count{route="/a"} 3\n' in text


def test_labels_are_escaped_and_kinds_kept() -> None:
    metrics = Metrics()
    metrics.count("coderl_records_total", outcome='a"b\\c\nd')
    assert r'coderl_records_total{outcome="a\"b\\c\nd"} 1' in metrics.text()
    with pytest.raises(ValueError, match="is a counter"):
        metrics.observe("coderl_records_total", 1.0)
