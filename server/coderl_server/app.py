"""The composition root of `coderl lsp`: builds clock, log, gate, backend, service and protocol, and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from coderl_gate.errors import GateError
from coderl_generator.backend import Backend
from coderl_generator.errors import GeneratorError
from coderl_generator.hot_swap import HotSwap
from coderl_generator.promotion import ACTIVE
from coderl_store.clock import Clock, SystemClock, VirtualClock, utc
from coderl_store.errors import StoreError
from coderl_store.home import StoreSettings, hashed, salt
from coderl_store.ids import IdSource
from coderl_store.log import Log, RecordStore
from coderl_store.records import Origin, Privacy

from .backends import GeneratorOptions
from .errors import InputError
from .following import Followed, Follower
from .generators import Generators
from .intervene import Intervener
from .lsp import LspServer
from .remote.address import TeamServer
from .service import LanguageService
from .session import Identity
from .settings import Settings
from .sources import Sources
from .whoami import user_name

if TYPE_CHECKING:
    from .remote.link import Link

logger = logging.getLogger(__name__)

FIRST_LOOK_S, LOOK_EVERY_S = 60.0, 6 * 3600.0
"""When the log is looked through for drift: not while the editor starts, and rarely."""
TURN_S = 0.001
"""Longest that another thread (the log's, the database's) keeps the event loop from running; Python's own is 0.005. Halves the
99th percentile of answers that need no generation (docs/log.md, 2026-11-25)."""


class ClockKind(StrEnum):
    """Which clock drives behaviour."""

    SYSTEM = "system"
    CLIENT = "client"
    """The client moves the time by `coderl/clock`; sessions can be played again exactly."""


@dataclass(frozen=True, slots=True)
class LspOptions:
    """What the command line of `coderl lsp` says."""

    backend: str = "llamacpp"
    model: str = ACTIVE
    endpoint: str = ""
    api_key_env: str = ""
    template: str = ""
    script: Path | None = None
    gate: Path | None = None
    clock: ClockKind = ClockKind.SYSTEM
    seed: int | None = None
    session_id: str | None = None
    """A UUID of the caller's; the ids of the session's rows follow from it. None = a new one."""
    origin: Origin = Origin.EDITOR
    database_url: str | None = None
    privacy: Privacy | None = None
    threads: int | None = None
    tcp: tuple[str, int] | None = None
    server: TeamServer | None = None
    """Where generation and log go; what is said of the generator is then this machine's own, while the server is away."""

    @property
    def generator(self) -> GeneratorOptions:
        """What is said of the generator."""
        return GeneratorOptions(
            self.backend,
            self.model,
            self.endpoint,
            self.api_key_env,
            self.script,
            self.threads,
            repeatable=self.clock is ClockKind.CLIENT,
        )


@dataclass(frozen=True, slots=True)
class Application:
    """Everything one server process holds."""

    clock: Clock
    log: Log
    backend: Backend | None
    service: LanguageService
    lsp: LspServer
    follower: Follower
    link: Link | None
    database_url: str


def build(options: LspOptions) -> Application:
    """Build the server's objects. Raises the packages' own errors for unusable settings; a missing model is not one."""
    if options.server is not None and options.clock is ClockKind.CLIENT:
        raise InputError("--server needs the system's clock: sessions on --clock client are played on one machine.")
    store = StoreSettings.from_environment(options.database_url, options.privacy)
    clock: SystemClock | VirtualClock = VirtualClock() if options.clock is ClockKind.CLIENT else SystemClock()
    rng = random.Random(options.seed if options.seed is not None else secrets.randbits(64))
    ids = IdSource(clock, rng if options.session_id is None else random.Random(options.session_id))
    sources = Sources(options.generator, options.template, options.gate, store.home, clock, options.server)
    template, template_warning = sources.template_for(sources.first_model)
    backend = None if sources.first is None else HotSwap(sources.first)
    key = salt(store.home)
    user_key = sources.user_key or hashed(key, user_name())
    gate_for = partial(sources.gate_for, user_key=user_key, rng=rng)
    gate, gate_warning = gate_for("" if backend is None else backend.generator_id)
    # Said on the command line or in the environment, the level is a ceiling; else the editor's setting decides alone.
    explicit = options.privacy is not None or "CODERL_PRIVACY" in os.environ
    ceiling = store.privacy if explicit else Privacy.CODE

    def on_incident(code: str, sentence: str) -> None:
        lsp.later(service.log_trouble, code, sentence)

    log = _log(options, replace(store, privacy=ceiling), clock, on_incident)
    identity = Identity(
        session_id=options.session_id or ids.new(),
        user_key=user_key,
        salt=key,
        origin=options.origin,
        seed=options.seed,
    )
    intervener = Intervener(gate, backend, clock, ids, template, patient=options.clock is ClockKind.CLIENT)
    service = LanguageService(
        identity=identity,
        intervener=intervener,
        log=log,
        clock=clock,
        ids=ids,
        rng=rng,
        settings=Settings(privacy=store.privacy),
        privacy_ceiling=ceiling,
        backend=backend,
        warnings={"no_model": sources.warning, "gate": gate_warning, "template": template_warning},
    )
    lsp = LspServer(service, clock)

    generators = Generators(backend, intervener, sources.build, gate_for, sources.template_for, service.noticed)
    lsp.change_generator = generators.use
    if (link := sources.link) is not None:
        link.connect(generators.use, generators.gate_changed, service.noticed)
    followed = Followed(options.generator.followed, gate=options.gate is None)
    follower = Follower(store.home, followed, lsp.generator, generators.gate_changed, service.noticed)
    return Application(clock, log, backend, service, lsp, follower, link, store.database_url)


def _log(options: LspOptions, store: StoreSettings, clock: Clock, on_incident: Callable[[str, str], None]) -> Log:
    """The log of this machine, or the way to that of the team's server, which has a spool of its own."""
    if options.server is None:
        return Log(store, clock=clock, on_incident=on_incident)
    server = options.server

    def sending(_: str) -> RecordStore:
        from .remote.sending import SendingStore

        return SendingStore(server)

    return Log(replace(store, home=server.folder(store.home)), clock=clock, on_incident=on_incident, open_store=sending)


async def run(options: LspOptions) -> int:
    """Serve one client until it leaves. Returns the process's exit code."""
    from .transport import take_stdio

    sys.setswitchinterval(TURN_S)
    stdio = take_stdio() if options.tcp is None else None
    application = build(options)
    # What is there now stays: the collector need not look through it again, which takes tens of milliseconds each time.
    gc.freeze()
    stop = asyncio.Event()
    application.lsp.stop, application.lsp.loop = stop, asyncio.get_running_loop()
    application.log.start()
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    background: set[asyncio.Task[None]] = set()

    def ended(task: asyncio.Task[None]) -> None:
        background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Something that ran in the background failed.", exc_info=error)

    def spawn(work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        background.add(task)
        task.add_done_callback(ended)

    application.lsp.spawn = spawn
    if application.link is not None:
        spawn(application.link.follow())
    elif options.clock is ClockKind.SYSTEM and options.origin is Origin.EDITOR:
        spawn(watch_for_drift(application, stop))
        spawn(application.follower.follow())
    try:
        await _serve(application, options, stdio, stop)
    finally:
        await application.lsp.give_up()
        application.service.close()
        for task in tuple(background):
            task.cancel()
        if application.backend is not None:
            with contextlib.suppress(GeneratorError):
                await application.backend.aclose()
        await asyncio.to_thread(application.log.close, 5.0)
    return application.lsp.exit_code


async def watch_for_drift(
    application: Application, stop: asyncio.Event, first_s: float = FIRST_LOOK_S, every_s: float = LOOK_EVERY_S
) -> None:
    """Look through the log for drift now and then, on a thread of its own; what it finds is said and logged once, and stands in
    the status until a later look finds nothing. Ends when it is cancelled.

    Not under a clock that the client moves: what an earlier log says would make played sessions differ.
    """
    pause_s = first_s
    while True:
        await asyncio.sleep(pause_s)
        try:
            now = utc(application.clock.now_s())
            found = await asyncio.to_thread(_alarms, application.database_url, now, stop)
            application.service.noticed("drift", " ".join([*found, "Run `gate-calibrate --promote`."]) if found else "")
        except (StoreError, GateError) as error:
            logger.warning("The log could not be looked through for drift: %s", error)
        pause_s = every_s


def _alarms(database_url: str, now: datetime, stop: asyncio.Event) -> list[str]:
    """In a thread, the import too: it brings SQLAlchemy, which the editor must not wait for."""
    from .drifting import alarms

    return alarms(database_url, now, stop.is_set)


async def _serve(
    application: Application, options: LspOptions, stdio: tuple[BinaryIO, int] | None, stop: asyncio.Event
) -> None:
    from .transport import serve_stdio, serve_tcp

    protocol = application.lsp.server.protocol
    on_malformed: Callable[[str], None] = application.service.malformed
    if stdio is not None:
        await serve_stdio(protocol, stdio, on_malformed, stop)
    elif options.tcp is not None:
        host, port = options.tcp
        await serve_tcp(protocol, host, port, on_malformed, stop)
