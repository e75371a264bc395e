"""`POST /v1/records`: a batch of records, safe on this server's disk before it is answered.

Safe means fsynced in the spool, not committed: the spool takes batches in groups at the speed of the disk, and goes on while
the database is away; a writer thread brings them there, once each, because ids are unique (`coderl_store.log` lists the crash
windows). A client that got no answer sends the same batch again.

Whose the rows are says the token, not the client: the `user_key` of a session becomes that of the caller. The server's privacy
level is applied before anything is written. A row of somebody else's session is refused (`ownership` says what that covers).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from coderl_store.codec import decode
from coderl_store.errors import RecordError
from coderl_store.records import Record, Session

from .access import needs
from .ownership import Ownership, session_of
from .parts import TeamParts
from .problems import Problem, responses
from .rights import Caller, Right
from .unpacking import lines_of

MEDIA_TYPE = "application/x-ndjson"
LONGEST_ID = 64
"""Characters of an id; a UUID has 36."""


class Rejected(BaseModel):
    """One line that was not taken. Sending it again unchanged does not help."""

    index: int = Field(description="Which line of the batch, from 0.")
    code: str = Field(description="`not_a_record`, `too_large`, or `not_yours` for a session of somebody else.")
    detail: str = Field(description="Why, without what the line holds.")


class Ingested(BaseModel):
    """What became of a batch."""

    accepted: int = Field(description="Records that are safe here, those sent before included.")
    rejected: list[Rejected] = Field(description="The others; the good ones are safe all the same.")


@dataclass(frozen=True, slots=True)
class Batch:
    """The lines of a batch, read."""

    records: Sequence[Record]
    indexes: Sequence[int]
    """The line of each record."""
    rejected: Sequence[Rejected]

    def without(self, sessions: Collection[str]) -> Batch:
        """The same, but that rows of these sessions, which are somebody else's, are rejected."""
        if not sessions:
            return self
        pairs = list(zip(self.indexes, self.records, strict=True))
        good = [(index, record) for index, record in pairs if session_of(record) not in sessions]
        bad = [
            Rejected(index=index, code="not_yours", detail="The session is somebody else's: begin one of your own.")
            for index, record in pairs
            if session_of(record) in sessions
        ]
        rejected = sorted([*self.rejected, *bad], key=lambda one: one.index)
        return Batch([record for _, record in good], [index for index, _ in good], rejected)


def read(lines: Sequence[bytes], user_key: str, most_bytes: int) -> Batch:
    """Decode each line alone; sessions become the caller's."""
    records: list[Record] = []
    indexes: list[int] = []
    rejected: list[Rejected] = []
    for index, line in enumerate(lines):
        if len(line) > most_bytes:
            detail = f"A record has at most {most_bytes} bytes."
            rejected.append(Rejected(index=index, code="too_large", detail=detail))
            continue
        try:
            records.append(_owned(_record(line), user_key))
            indexes.append(index)
        except RecordError as error:
            rejected.append(Rejected(index=index, code="not_a_record", detail=str(error)))
    return Batch(records, indexes, rejected)


def _record(line: bytes) -> Record:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise RecordError("The line is not UTF-8.") from error
    record = decode(text)
    for name in (record.id, getattr(record, "session_id", record.id)):
        if not 0 < len(name) <= LONGEST_ID:
            raise RecordError(f"An id has 1 to {LONGEST_ID} characters.")
    return record


def _owned(record: Record, user_key: str) -> Record:
    return replace(record, user_key=user_key) if isinstance(record, Session) else record


def _body() -> dict[str, Any]:
    """The body as OpenAPI describes it; FastAPI does not read it for us."""
    sentence = "One record per line, as `coderl_store.codec` writes it and as it stands in the spool."
    return {"requestBody": {"required": True, "description": sentence, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}}


def router(parts: TeamParts) -> APIRouter:
    """The room's routes."""
    room = APIRouter(tags=["records"])
    limits = parts.settings.limits
    ownership = Ownership(parts.database)

    @room.post("/v1/records", openapi_extra=_body(), responses=responses(415))
    async def ingest(request: Request, caller: Annotated[Caller, Depends(needs(Right.WRITE))]) -> Ingested:
        """Take a batch of records.

        Answered once all accepted records are on disk. Records that were sent before are taken again without being doubled:
        where an answer was lost, send the batch again. `Content-Encoding: gzip` is understood.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
            raise Problem(415, "media_type", f"Send one record per line as {MEDIA_TYPE}.")
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("gzip", "identity"):
            raise Problem(415, "coding", "Content-Encoding is gzip, or is left out.", headers={"Accept-Encoding": "gzip"})
        lines = await lines_of(request.stream(), gzip=coding == "gzip", limits=limits)
        batch = await asyncio.to_thread(read, lines, caller.user_key, limits.line_bytes)
        batch = batch.without(await ownership.foreign({session_of(record) for record in batch.records}, caller.user_key))
        if batch.records:
            await asyncio.wrap_future(await asyncio.to_thread(parts.log.submit, *batch.records))
        parts.metrics.count("coderl_records_total", len(batch.records), outcome="accepted")
        parts.metrics.count("coderl_records_total", len(batch.rejected), outcome="rejected")
        return Ingested(accepted=len(batch.records), rejected=list(batch.rejected))

    return room
