"""What is kept about a programmer: shown, exported, erased; by themselves, or by whoever manages, which leaves an audit row.

An erasure removes what is in the database and what this worker's spool held. Records that lie in the spool of another worker at
that moment arrive within seconds; so the erasure is done again after `AGAIN_S`. Not covered: a worker killed within that time,
backups, lines set aside as damaged, and rows of a session that goes on after its erasure (its editor begins a new one).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from coderl_store.clock import utc
from coderl_store.codec import encode
from coderl_store.members import Audit
from coderl_store.records import RECORD_TYPES

from .access import needs
from .ingest import LONGEST_ID, MEDIA_TYPE
from .parts import TeamParts
from .problems import responses
from .rights import Caller, Right

AGAIN_S = 15.0
_FLUSH_S = 5.0
Own = Annotated[Caller, Depends(needs(Right.OWN))]
Manager = Annotated[Caller, Depends(needs(Right.MANAGE))]
UserKey = Annotated[
    str, Path(min_length=1, max_length=LONGEST_ID, pattern=r"^[\x21-\x7e]+$", description="As `coderl token list` shows it.")
]


class Me(BaseModel):
    """Who the server takes the caller for."""

    id: str = Field(description="The token's public id; `local` on a server without tokens.")
    name: str
    user_key: str = Field(description="What the caller's sessions bear; an editor uses it for its own gate too.")
    rights: list[str]
    privacy: str = Field(description="The most that this server records: metrics or code.")
    agreed: bool = Field(description="Whether the caller may be seen in groups below the minimum size.")
    min_group: int


class Erased(BaseModel):
    """What an erasure removed."""

    rows: int


class AuditRow(BaseModel):
    """One action of somebody who manages."""

    at: str
    actor: str
    action: str
    subject: str
    rows: int | None


def router(parts: TeamParts) -> APIRouter:
    """The room's routes."""
    room = APIRouter(tags=["people"])

    @room.get("/v1/me", responses=responses())
    def me(caller: Own) -> Me:
        """Who I am here, and what I may do."""
        return Me(
            id=caller.id,
            name=caller.name,
            user_key=caller.user_key,
            rights=sorted(right.value for right in caller.rights),
            privacy=parts.privacy.value,
            agreed=caller.user_key in parts.database.register.agreed(),
            min_group=parts.settings.min_group,
        )

    @room.put("/v1/me/agreement", status_code=204, responses=responses())
    def agree(caller: Own) -> None:
        """Agree to be seen in groups below the minimum size."""
        parts.database.register.agree(caller.user_key, utc(parts.clock.now_s()))

    @room.delete("/v1/me/agreement", status_code=204, responses=responses())
    def disagree(caller: Own) -> None:
        """Take the agreement back."""
        parts.database.register.disagree(caller.user_key)

    @room.get("/v1/me/records", response_class=StreamingResponse, responses=_export_responses())
    def export_own(caller: Own) -> StreamingResponse:
        """All my records, one per line, in the form of `POST /v1/records`. A stream without its end is not the whole."""
        return exported(parts, caller.user_key)

    @room.delete("/v1/me/records", responses=responses())
    async def erase_own(caller: Own) -> Erased:
        """Erase all my records, for good."""
        return await erase_all(parts, caller, caller.user_key)

    @room.get("/v1/users/{user_key}/records", response_class=StreamingResponse, responses=_export_responses())
    def export(caller: Manager, user_key: UserKey) -> StreamingResponse:
        """All records of a user. Leaves an audit row."""
        parts.database.register.add_audit(audit_row(parts, caller, "records.exported", user_key))
        return exported(parts, user_key)

    @room.delete("/v1/users/{user_key}/records", responses=responses())
    async def erase(caller: Manager, user_key: UserKey) -> Erased:
        """Erase all records of a user, for good. Leaves an audit row."""
        return await erase_all(parts, caller, user_key)

    @room.get("/v1/audit", responses=responses())
    def audit(caller: Manager, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[AuditRow]:
        """The last audit rows, the latest first."""
        return [
            AuditRow(at=one.at.isoformat(), actor=one.actor, action=one.action, subject=one.subject, rows=one.rows)
            for one in parts.database.register.audits(limit)
        ]

    return room


def _export_responses() -> dict[int | str, dict[str, object]]:
    return {**responses(), 200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}}


def exported(parts: TeamParts, user_key: str) -> StreamingResponse:
    """All records of a user as a stream of lines."""
    repository = parts.database.repository

    def lines() -> Iterator[str]:
        for kind in RECORD_TYPES:
            for record in repository.stream(kind, user_key=user_key):
                yield encode(record) + "\n"

    headers = {"Content-Disposition": "attachment; filename=coderl-records.jsonl"}
    return StreamingResponse(lines(), media_type=MEDIA_TYPE, headers=headers)


async def erase_all(parts: TeamParts, caller: Caller, user_key: str) -> Erased:
    """Erase all records of a user, now and again after `AGAIN_S`, with an audit row."""
    repository = parts.database.repository
    await asyncio.to_thread(parts.log.flush, _FLUSH_S)
    rows = await asyncio.to_thread(repository.erase, user_key)
    audit = audit_row(parts, caller, "records.erased", user_key, rows)
    await asyncio.to_thread(parts.database.register.add_audit, audit)
    parts.later(AGAIN_S, lambda: parts.database.repository.erase(user_key))
    return Erased(rows=rows)


def audit_row(parts: TeamParts, caller: Caller, action: str, subject: str, rows: int | None = None) -> Audit:
    """What somebody did, now."""
    return Audit(parts.ids.new(), utc(parts.clock.now_s()), caller.id, action, subject, rows)
