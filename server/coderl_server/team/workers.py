"""`coderl serve` as processes: one listening socket, one or several uvicorn workers on it, and their end.

Several workers share the data folder: each has spool segments of its own (held by a lock that ends with its process), and rows
are unique by id, so nothing is counted twice, and what a killed worker had acknowledged is committed by the one that replaces
it.
"""

from __future__ import annotations

import logging
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors.multiprocess import Multiprocess

from coderl_store.clock import SystemClock, utc
from coderl_store.home import StoreSettings, hashed, salt
from coderl_store.ids import IdSource
from coderl_store.log import Log
from coderl_store.register import Register
from coderl_store.repository import Repository

from ..errors import InputError, ServerFailed
from ..whoami import user_name
from .access import Access
from .afterwards import Afterwards, Drain
from .app import create_app
from .connections import TimedConnection
from .dashboard.visit import ROOT
from .database import Database
from .generation import Served, available, generation_of
from .metrics import Metrics
from .parts import TeamParts
from .rights import local_caller
from .settings import TeamSettings

BACKLOG = 2048
HANGS_S = 60
"""A worker that does not answer its supervisor for so long is replaced."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """Makes the application of one worker; travels to its process."""

    settings: TeamSettings
    store: StoreSettings
    run_folder: Path
    """Where the workers of this run leave their figures."""
    log_level: int
    served: Served | None = None

    def __call__(self) -> FastAPI:
        """Called once, in the worker's process."""
        logging.basicConfig(stream=sys.stderr, level=self.log_level)
        return create_app(team_parts(self.settings, self.store, Metrics(self.run_folder), self.served))


def team_parts(settings: TeamSettings, store: StoreSettings, metrics: Metrics, served: Served | None = None) -> TeamParts:
    """The objects of one worker, none of them started, no file of the database touched. Called on the event loop."""
    clock = SystemClock()
    database = Database(store.database_url)
    name = user_name()
    access = Access(database, clock, settings, local_caller(name, hashed(salt(store.home), name)))
    return TeamParts(
        settings=settings,
        home=store.home,
        privacy=store.privacy,
        log=Log(store, clock=clock, on_incident=_on_incident),
        database=database,
        access=access,
        metrics=metrics,
        clock=clock,
        ids=IdSource(clock),
        drain=Drain(),
        afterwards=Afterwards(),
        generation=None if served is None else generation_of(served, store.home, clock, settings.limits, metrics),
    )


def serve(
    settings: TeamSettings,
    store: StoreSettings,
    told: Callable[[str], None],
    log_level: int,
    served: Served | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `told` hears one line once connections are accepted.

    Raises `InputError` where the address cannot be used or would need tokens, or the model is not there, `StoreError` where the
    database cannot be opened, `ServerFailed` where the workers do not start.
    """
    model = "none" if served is None else available(served, store.home).generator_id
    tokens, ever = _tokens(store)
    if not settings.loopback and not tokens:
        raise InputError(
            f"--host {settings.host} can be reached by other machines, and there is no token: make one with "
            "`coderl token create --role ingest --user NAME`, then start again."
        )
    listener = _listener(settings)
    with listener, tempfile.TemporaryDirectory(prefix="coderl-serve-") as folder:
        config = uvicorn.Config(
            Worker(settings, store, Path(folder), log_level, served),
            factory=True,
            workers=settings.workers,
            http=TimedConnection,
            lifespan="on",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=round(settings.limits.drain_s),
            timeout_worker_healthcheck=HANGS_S,
        )
        told(_line(settings, listener, tokens, ever, model))
        if settings.workers > 1:
            Multiprocess(config, [listener]).run()
            return
        server = uvicorn.Server(config)
        server.run([listener])
        if not server.started:
            raise ServerFailed("The server did not start; the lines above say why.")


def _tokens(store: StoreSettings) -> tuple[int, bool]:
    """How many tokens open something, and whether there ever was one. Migrates the database before any worker asks for it."""
    repository = Repository(store.database_url)
    try:
        tokens = Register(repository.engine).tokens()
    finally:
        repository.close()
    now = utc(SystemClock().now_s())
    return sum(token.live(now) for token in tokens), bool(tokens)


def _listener(settings: TeamSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InputError(f"--host {settings.host} --port {settings.port} cannot be listened on: {error}.") from error
    listener.set_inheritable(True)
    return listener


def _line(settings: TeamSettings, listener: socket.socket, tokens: int, ever: bool, model: str) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    door = f"{tokens} token{'' if tokens == 1 else 's'}" if ever else "no tokens: open to every program of this machine"
    url = f"http://{host}:{listener.getsockname()[1]}"
    return f"coderl serve listens on {url} ({workers}, {door}); model: {model}; pages: {url}{ROOT}"


def _on_incident(code: str, sentence: str) -> None:
    logger.log(logging.INFO if code == "database_recovered" else logging.ERROR, "%s: %s", code, sentence)
