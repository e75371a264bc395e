"""A team's PostgreSQL that goes away and comes back: every client is answered, nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio

import pytest
from tests.postgres import PostgresServer

from coderl_server.team.access import FRESH_S
from coderl_server.team.settings import TeamSettings
from coderl_store.home import home
from coderl_store.members import Role
from coderl_store.records import Incident, Record, Session

from .conftest import NDJSON, built, lines, some_records


@pytest.mark.slow
async def test_batches_are_taken_while_the_database_is_stopped(
    postgres_server: PostgresServer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODERL_DATABASE_URL", postgres_server.url(postgres_database))
    team = built(home(), TeamSettings())
    token = team.mint(Role.INGEST, "ada")
    sent: list[Record] = []

    async def send(count: int) -> None:
        batch = some_records(count)
        sent.extend(batch)
        for _ in range(2):  # the client heard nothing, and sends it again
            answer = await client.post("/v1/records", content=lines(batch), headers={"Content-Type": NDJSON})
            assert (answer.status_code, answer.json()) == (200, {"accepted": count, "rejected": []})
        team.clock.advance_to(team.clock.now_s() + FRESH_S + 1)  # the token has to be looked up again

    async with team.running(), team.client(token.text) as client:
        await send(40)
        await asyncio.to_thread(postgres_server.stop)
        for _ in range(8):
            await send(40)
            await asyncio.sleep(0.3)
        assert (await client.get("/readyz")).json() == {"ready": False, "database": "unreachable", "spool": "ok"}
        answer = await client.delete("/v1/me/records")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        await asyncio.to_thread(postgres_server.start)
        await send(40)
        assert await asyncio.to_thread(team.parts.log.flush, 120)
        assert (await client.get("/readyz")).json()["ready"]
        repository = team.parts.database.repository
        stored = [record.id for kind in (Session, Incident) for record in repository.stream(kind)]
        assert sorted(stored) == sorted(record.id for record in sent)
        assert len((await client.get("/v1/me/records")).text.splitlines()) == len(sent)
        assert (await client.delete("/v1/me/records")).json() == {"rows": len(sent)}
