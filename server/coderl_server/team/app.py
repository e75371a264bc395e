"""The application of the team server: its rooms behind one door."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI

from . import dashboard, decisions, distribution, ingest, jobs, people, probes, relay
from .dashboard.keeper import Keeper
from .guards import Guards
from .parts import TeamParts
from .problems import install

CLOSE_S = 10.0
"""What the log gets to commit what is spooled; the rest is committed at the next start."""
PUBLISH_S = 1.0
_ROOMS = (
    ingest.router, distribution.router, people.router, jobs.router, probes.router, relay.router, decisions.router,
)  # fmt: skip
_DESCRIPTION = """\
One log for many editors. Every error is `application/problem+json` (RFC 9457) and never quotes what was sent.
Records are in the form of `coderl_store.codec`; times are ISO 8601 in UTC.
"""
logger = logging.getLogger(__name__)


def create_app(parts: TeamParts) -> FastAPI:
    """The application of one worker. It starts the log when it starts, and closes log and database when it ends."""
    keeper = Keeper(parts)
    application = FastAPI(
        title="CodeRL team server",
        version=version("coderl"),
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # the pages that FastAPI brings load their scripts from elsewhere
        redoc_url=None,
        lifespan=lambda application: _life(parts, keeper),
        redirect_slashes=False,
    )
    application.state.access = parts.access
    install(application)
    for room in _ROOMS:
        application.include_router(room(parts))
    application.include_router(dashboard.router(parts, keeper))
    application.add_middleware(Guards, settings=parts.settings, metrics=parts.metrics)
    return application


@contextlib.asynccontextmanager
async def _life(parts: TeamParts, keeper: Keeper) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(parts.drain.listening())
        if parts.generation is not None:
            await stack.enter_async_context(parts.generation.running())
        parts.log.start()
        publishing, keeping = asyncio.ensure_future(_publish(parts)), asyncio.ensure_future(keeper.run())
        try:
            yield
        finally:
            publishing.cancel()
            keeping.cancel()
            await asyncio.to_thread(keeper.close)
            await asyncio.to_thread(parts.log.close, CLOSE_S)
            await parts.afterwards.finish()
            await asyncio.to_thread(_publish_once, parts)
            parts.database.close()


async def _publish(parts: TeamParts) -> None:
    """Keep the figures for the other workers fresh, and leave when the process that supervises them is gone."""
    supervisor = multiprocessing.parent_process()  # not `os.getppid`: it may be gone before this worker gets so far
    while True:
        await asyncio.to_thread(_publish_once, parts)
        if supervisor is not None and os.getppid() != supervisor.pid and not parts.drain.begun:
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(PUBLISH_S)


def _publish_once(parts: TeamParts) -> None:
    try:
        probes.refresh(parts)
        parts.metrics.publish()
    except OSError as error:
        logger.warning("The figures of this worker cannot be written (%s).", error.strerror)
