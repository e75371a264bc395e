"""A team server in this process, its clients, and records to send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from coderl_server.team.access import Access
from coderl_server.team.afterwards import Afterwards, Drain
from coderl_server.team.app import create_app
from coderl_server.team.database import Database
from coderl_server.team.metrics import Metrics
from coderl_server.team.parts import TeamParts
from coderl_server.team.rights import Minted, local_caller
from coderl_server.team.settings import TeamSettings
from coderl_server.team.tokens import Tokens
from coderl_store.clock import VirtualClock, utc
from coderl_store.codec import encode
from coderl_store.home import StoreSettings, hashed, home, salt
from coderl_store.ids import IdSource
from coderl_store.log import Log
from coderl_store.members import Role
from coderl_store.records import Incident, Origin, Record, Session, Severity
from coderl_store.sink import RecordSink

NDJSON = "application/x-ndjson"


@dataclass
class Team:
    """One server with its parts, and tokens for it."""

    parts: TeamParts
    application: FastAPI
    clock: VirtualClock

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.parts.database.register, self.parts.home, self.clock)

    def mint(self, role: Role, name: str) -> Minted:
        return self.tokens.create(role, name)

    def key_of(self, name: str) -> str:
        return hashed(salt(self.parts.home), name)

    def client(self, text: str | None = None, **headers: str) -> httpx.AsyncClient:
        """A client without a token, or with this one."""
        if text is not None:
            headers["Authorization"] = f"Bearer {text}"
        transport = httpx.ASGITransport(self.application, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.application.router.lifespan_context(self.application):
            yield


def built(folder: Path, settings: TeamSettings, log: RecordSink | None = None) -> Team:
    """A server on the data folder; `log` in place of the durable one."""
    clock = VirtualClock()
    store = StoreSettings.from_environment()
    database = Database(store.database_url)
    local = local_caller("me", hashed(salt(folder), "me"))
    parts = TeamParts(
        settings=settings,
        home=store.home,
        privacy=store.privacy,
        log=log or Log(store, clock=clock),
        database=database,
        access=Access(database, clock, settings, local),
        metrics=Metrics(),
        clock=clock,
        ids=IdSource(clock),
        drain=Drain(),
        afterwards=Afterwards(),
    )
    return Team(parts, create_app(parts), clock)


@pytest.fixture
def settings() -> TeamSettings:
    return TeamSettings()


@pytest.fixture
def team(settings: TeamSettings) -> Iterator[Team]:
    made = built(home(), settings)
    yield made
    made.parts.database.close()


@pytest.fixture
async def running(team: Team) -> AsyncIterator[Team]:
    """The server, started."""
    async with team.running():
        yield team


def some_records(count: int, user_key: str = "whoever", secret: str = "m") -> list[Record]:
    """A session and `count - 1` incidents of it."""
    clock = VirtualClock()
    ids = IdSource(clock)
    session = Session(ids.new(), utc(clock.now_s()), Origin.EDITOR, user_key)
    first = Incident(ids.new(), session.at, session.id, Severity.INFO, "c", secret)
    return [session, *(replace(first, id=ids.new()) for _ in range(count - 1))]


def lines(records: Sequence[Record]) -> bytes:
    return "".join(encode(record) + "\n" for record in records).encode()
