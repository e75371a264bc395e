"""The spool forwards to a team's server: what is refused, what is tried again, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.team.conftest import Team, built, some_records

from coderl_server.remote.address import TeamServer
from coderl_server.remote.sending import SendingStore
from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.clock import SystemClock
from coderl_store.errors import DatabaseError, RecordError
from coderl_store.home import StoreSettings, home
from coderl_store.log import Log
from coderl_store.memory import MemoryLog
from coderl_store.records import Privacy


@pytest.fixture
def kept() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def team(kept: MemoryLog) -> AsyncIterator[Team]:
    made = built(home(), TeamSettings(limits=Limits(line_bytes=2000)), kept)
    yield made
    made.parts.database.close()


def forwarding(folder: Path, url: str) -> Log:
    server = TeamServer.at(url)
    store = StoreSettings(folder, "sqlite:////unused.db", Privacy.METRICS)
    return Log(store, clock=SystemClock(), open_store=lambda _: SendingStore(server))


async def test_what_is_refused_is_set_aside_and_the_rest_arrives(team: Team, kept: MemoryLog, tmp_path: Path) -> None:
    good, (_, bad) = some_records(300), some_records(2, secret="x" * 3000)
    async with team.on_port() as url:
        log = forwarding(tmp_path, url)
        log.start()
        log.append(*good[:100], bad, *good[100:])
        assert await asyncio.to_thread(log.flush, 60)
        health = log.health()
        await asyncio.to_thread(log.close, 10)
    assert sorted(record.id for record in kept.records) == sorted(record.id for record in good)
    assert (health.pending, health.damaged) == (0, 1)
    assert len(list((tmp_path / "spool" / "damaged").iterdir())) == 1


async def test_what_cannot_be_taken_now_waits_for_the_next_process(team: Team, kept: MemoryLog, tmp_path: Path) -> None:
    records = some_records(10)
    async with team.on_port() as url:
        kept.failing = True
        first = forwarding(tmp_path, url)
        first.start()
        first.append(*records)
        while (error := first.health().last_error) is None:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.01)
        assert "HTTP 503" in error
        assert first.health().pending == len(records)
        await asyncio.to_thread(first.close, 0.2)
        kept.failing = False
        while not kept.records:  # the first may hold its spool a moment longer
            second = forwarding(tmp_path, url)
            second.start()
            assert await asyncio.to_thread(second.flush, 60)
            await asyncio.to_thread(second.close, 10)
    assert sorted(record.id for record in kept.records) == sorted(record.id for record in records)


async def test_a_refused_token_is_said(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODERL_TOKEN", "coderl_0000000000000000_" + "x" * 43)
    async with team.on_port() as url:
        store = SendingStore(TeamServer.at(url))
        with pytest.raises(DatabaseError, match="refuses the token") as refused:
            await asyncio.to_thread(store.append, some_records(1))
        store.close()
    assert "xxx" not in str(refused.value)


async def test_a_batch_that_is_too_large_is_halved(kept: MemoryLog, tmp_path: Path) -> None:
    team = built(home(), TeamSettings(limits=Limits(unpacked_bytes=20_000)), kept)
    records = some_records(200)
    async with team.on_port() as url:
        store = SendingStore(TeamServer.at(url))
        with pytest.raises(RecordError):
            await asyncio.to_thread(store.append, records)
        store.close()
        log = forwarding(tmp_path, url)
        log.start()
        log.append(*records)
        assert await asyncio.to_thread(log.flush, 60)
        await asyncio.to_thread(log.close, 10)
    assert len(kept.records) == 200
    team.parts.database.close()


async def test_what_is_no_team_server_takes_nothing(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    store = SendingStore(TeamServer.at(f"http://127.0.0.1:{port}"))
    with pytest.raises(DatabaseError, match="no team server"):
        await asyncio.to_thread(store.append, some_records(1))
    other.close()
    await other.wait_closed()
    with pytest.raises(DatabaseError, match="cannot be reached"):
        await asyncio.to_thread(store.append, some_records(1))
    store.close()
