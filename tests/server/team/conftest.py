"""A team server in this process, its clients, and records to send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from coderl_gate.artifact import default_artifact
from coderl_generator.hot_swap import HotSwap
from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_server.team.access import Access
from coderl_server.team.afterwards import Afterwards, Drain
from coderl_server.team.app import create_app
from coderl_server.team.connections import TimedConnection
from coderl_server.team.database import Database
from coderl_server.team.generation import Generation
from coderl_server.team.metrics import Metrics
from coderl_server.team.parts import TeamParts
from coderl_server.team.rights import Minted, local_caller
from coderl_server.team.settings import TeamSettings
from coderl_server.team.tokens import Tokens
from coderl_server.team.turns import Turns
from coderl_store.clock import SystemClock, VirtualClock, utc
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
    model: ScriptedBackend

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

    @asynccontextmanager
    async def on_port(self) -> AsyncIterator[str]:
        """The server behind a real socket of loopback, as `coderl serve` runs it; its URL."""
        config = uvicorn.Config(
            self.application, http=TimedConnection, lifespan="on", log_level="warning", timeout_graceful_shutdown=60
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.ensure_future(server.serve([listener]))
            while not server.started:
                assert not serving.done()
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            await serving


WORDS = Script(default=Rule(text="one two three"))


def built(
    folder: Path, settings: TeamSettings, log: RecordSink | None = None, script: Script = WORDS, at_once: int = 8
) -> Team:
    """A server on the data folder, with a model that says what a script says; `log` in place of the durable one."""
    clock = VirtualClock()
    store = StoreSettings.from_environment()
    database = Database(store.database_url)
    local = local_caller("me", hashed(salt(folder), "me"))
    metrics = Metrics()
    model = ScriptedBackend(SystemClock(), script, max_prompt_chars=20_000)
    swap = HotSwap(model)
    turns = Turns(swap, at_once, settings.limits, metrics)
    parts = TeamParts(
        settings=settings,
        home=store.home,
        privacy=store.privacy,
        log=log or Log(store, clock=clock),
        database=database,
        access=Access(database, clock, settings, local),
        metrics=metrics,
        clock=clock,
        ids=IdSource(clock),
        drain=Drain(),
        afterwards=Afterwards(),
        generation=Generation(swap, "plain", default_artifact(), turns, None),
    )
    return Team(parts, create_app(parts), clock, model)


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
