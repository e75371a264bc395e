"""What running editors take: the active gate, and which generator is the active one. Both with a strong ETag."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, Field
from starlette.responses import Response

from coderl_gate.bundle import MEDIA_TYPE, pack
from coderl_gate.gate import active_file
from coderl_generator.models import EMBEDDED
from coderl_generator.promotion import active
from coderl_store.errors import DatabaseError

from ..gates import chosen_artifact
from .access import needs
from .parts import TeamParts
from .problems import responses
from .rights import Caller, Right

Editor = Annotated[Caller, Depends(needs(Right.MODELS))]
IfNoneMatch = Annotated[str | None, Header(description="The ETag of what the editor has.")]


class GeneratorFacts(BaseModel):
    """The active generator."""

    id: str = Field(description="As it stands in the log's rows; of an adapter `name@version`.")
    kind: str = Field(description="model, adapter, or embedded where nothing was promoted.")
    base: str = Field(description="The generator it was made from; empty where its file does not say it.")
    trained: str = Field(description="`name@version` of what was trained; empty where its file does not say it.")
    sha256: str = Field(description="Of the file that was promoted; empty where that is not known.")
    promoted_at: str | None = Field(description="ISO 8601; null where that is not known.")


@dataclass(frozen=True, slots=True)
class Sent:
    """Some bytes and the ETag that stands for them."""

    data: bytes
    etag: str

    @classmethod
    def of(cls, data: bytes) -> Sent:
        """With the hash of the bytes as ETag."""
        return cls(data, f'"{hashlib.sha256(data).hexdigest()}"')

    def response(self, if_none_match: str | None, media_type: str) -> Response:
        """The bytes, or 304 where the caller has them (RFC 9110 §13.1.2)."""
        headers = {"ETag": self.etag, "Cache-Control": "private, no-cache"}
        known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
        if self.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.data, media_type=media_type, headers=headers)


class ActiveGate:
    """The bytes of the active gate, made again when another one is promoted."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._version: tuple[int, ...] | None = None
        self._sent: Sent | None = None

    def sent(self) -> Sent:
        """The active artifact, or the shipped one where the active one cannot be used. May block for some 100 ms."""
        with self._lock:
            version = self._now()
            if self._sent is None or version != self._version:
                artifact, _ = chosen_artifact(None, self._home)
                self._sent, self._version = Sent.of(pack(artifact)), version
            return self._sent

    def _now(self) -> tuple[int, ...]:
        try:
            status = active_file(self._home).stat()
        except FileNotFoundError:
            return ()
        return (status.st_ino, status.st_mtime_ns, status.st_size)


def router(parts: TeamParts) -> APIRouter:
    """The room's routes."""
    room = APIRouter(tags=["models"])
    active_gate = ActiveGate(parts.home)

    @room.get("/v1/gate", response_class=Response, responses=_responses(MEDIA_TYPE))
    def gate(caller: Editor, if_none_match: IfNoneMatch = None) -> Response:
        """The active gate artifact in one piece: name of each of its files → text (`coderl_gate.bundle`)."""
        return active_gate.sent().response(if_none_match, MEDIA_TYPE)

    @room.get("/v1/generator", response_model=GeneratorFacts, responses={**responses(), 304: {"description": "The same."}})
    def generator(caller: Editor, if_none_match: IfNoneMatch = None) -> Response:
        """Which generator is the active one on the server."""
        data = _facts(parts).model_dump_json().encode()
        return Sent.of(data).response(if_none_match, "application/json")

    return room


def _responses(media_type: str) -> dict[int | str, dict[str, object]]:
    content = {media_type: {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}}
    return {**responses(), 200: {"content": content}, 304: {"description": "The caller has it."}}


def _facts(parts: TeamParts) -> GeneratorFacts:
    """Of the data folder, and of the log's history as far as the database can be reached."""
    one = active(parts.home)
    generator_id = EMBEDDED.name if one is None else one.id
    try:
        known = [version for version in parts.database.repository.versions() if version.generator_id == generator_id]
    except DatabaseError:
        known = []
    return GeneratorFacts(
        id=generator_id,
        kind="embedded" if one is None else one.kind.value,
        base="" if one is None else one.base,
        trained="" if one is None else one.trained,
        sha256=known[-1].sha256 if known else "",
        promoted_at=known[-1].at.isoformat() if known else None,
    )
