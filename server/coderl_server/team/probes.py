"""Whether the server lives, whether it can do its work, and how it does: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from coderl_store.errors import DatabaseError, LogOutdated
from coderl_store.schema import require_current

from .access import needs
from .metrics import MEDIA_TYPE
from .parts import TeamParts
from .problems import responses
from .rights import Caller, Right

EXAMINED_S = 1.0
"""How long an examination counts: the routes are open, and each examination writes to the disk."""


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


class Ready(BaseModel):
    """What a worker needs."""

    ready: bool
    database: str = Field(description="ok, unreachable or outdated.")
    spool: str = Field(description="ok or unwritable.")


class Examination:
    """Looks at database and spool, at most once in `EXAMINED_S`. May block."""

    def __init__(self, parts: TeamParts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._at_s = float("-inf")
        self._found = Ready(ready=False, database="unreachable", spool="unwritable")

    def now(self) -> Ready:
        """How it stands."""
        with self._lock:
            now_s = self._parts.clock.now_s()
            if now_s - self._at_s > EXAMINED_S:
                database, spool = _database(self._parts), _spool(self._parts.home / "spool")
                self._found = Ready(ready=database == spool == "ok", database=database, spool=spool)
                self._at_s = now_s
            return self._found


def router(parts: TeamParts) -> APIRouter:
    """The room's routes."""
    room = APIRouter(tags=["operations"])
    examination = Examination(parts)

    @room.get("/healthz")
    async def healthz() -> Alive:
        """The process answers. Needs no token."""
        return Alive()

    @room.get("/readyz", response_model=Ready, responses={503: {"model": Ready}})
    def readyz() -> Response:
        """Whether the database can be reached with its migrations, and the spool be written. Needs no token.

        A server that is not ready for its database still takes records, as long as its spool can be written.
        """
        found = examination.now()
        return JSONResponse(found.model_dump(), 200 if found.ready else 503)

    @room.get("/metrics", response_class=Response, responses=_text_responses())
    def metrics(caller: Annotated[Caller, Depends(needs(Right.METRICS))]) -> Response:
        """Figures of all workers, in the text format of Prometheus."""
        refresh(parts)
        return Response(parts.metrics.text(), media_type=MEDIA_TYPE)

    return room


def refresh(parts: TeamParts) -> None:
    """Take over what the log counts itself."""
    health = parts.log.health()
    parts.metrics.set("coderl_spool_pending", health.pending)
    parts.metrics.set("coderl_committed_total", health.committed)
    parts.metrics.set("coderl_duplicates_total", health.duplicates)
    parts.metrics.set("coderl_damaged_total", health.damaged)
    parts.metrics.set("coderl_workers", 1)


def _text_responses() -> dict[int | str, dict[str, object]]:
    return {**responses(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


def _database(parts: TeamParts) -> str:
    try:
        require_current(parts.database.repository.engine)
    except LogOutdated:
        return "outdated"
    except DatabaseError:
        return "unreachable"
    return "ok"


def _spool(folder: Path) -> str:
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(b"probe")
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError:
        return "unwritable"
    return "ok"
