"""What is answered where something is refused or failed: RFC 9457 `application/problem+json`, one form for all of it.

A problem says what is wrong and what to do, in sentences that are written here. It never quotes what was sent, and never holds
a traceback: both may be code. `instance` names the request; the server's own log names it too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from coderl_store.errors import DatabaseError, RecordError, SpoolError

MEDIA_TYPE = "application/problem+json"
RETRY_S = 2
"""What a client is told to wait where something is down for the moment."""
logger = logging.getLogger(__name__)


class ProblemBody(BaseModel):
    """A refusal or a failure (RFC 9457)."""

    type: str = Field(description="`urn:coderl:problem:` and the code; the code is what programs test.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong and what to do, for people.")
    code: str = Field(description="Short and stable, such as `too_large`.")
    instance: str | None = Field(default=None, description="The request, as `urn:uuid:…`; it stands in the server's log too.")
    fields: list[str] = Field(default_factory=list, description="Parameters that could not be used, by their place.")


class Problem(HTTPException):
    """Raised anywhere below a route. An `HTTPException`, because those pass through FastAPI's reading of bodies."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, fields: Sequence[str] = ()
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code
        self.fields = tuple(fields)


def unavailable(what: str) -> Problem:
    """Something is down for the moment; the same request may work later."""
    return Problem(503, "unavailable", f"{what} Try again in some seconds.", headers={"Retry-After": str(RETRY_S)})


def response(problem: Problem, instance: str | None = None) -> Response:
    """The answer for a problem."""
    body = ProblemBody(
        type=f"urn:coderl:problem:{problem.code}",
        title=HTTPStatus(problem.status_code).phrase,
        status=problem.status_code,
        detail=problem.detail,
        code=problem.code,
        instance=None if instance is None else f"urn:uuid:{instance}",
        fields=list(problem.fields),
    )
    return JSONResponse(body.model_dump(), problem.status_code, dict(problem.headers or {}), MEDIA_TYPE)


def instance_of(request: Request) -> str | None:
    """The id that `Guards` gave to a request."""
    found = request.scope.get("coderl.request_id")
    return None if found is None else str(found)


def install(application: FastAPI) -> None:
    """Every error of a route becomes a problem; what nobody expected is logged by its kind and place and becomes a 500."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return response(error, instance_of(request))

    async def http(request: Request, error: Exception) -> Response:
        """What Starlette itself refuses: unknown paths and methods."""
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        sentence = {404: "There is nothing at this path.", 405: "The path does not have this method."}
        detail = sentence.get(error.status_code, "The request cannot be served as it is.")
        return response(Problem(error.status_code, code, detail, headers=error.headers), instance_of(request))

    async def invalid(request: Request, error: Exception) -> Response:
        """FastAPI would answer with the input itself."""
        assert isinstance(error, RequestValidationError)
        fields = sorted({".".join(str(part) for part in one["loc"][:2]) for one in error.errors()})
        detail = "Parameters are missing or of the wrong form: see `fields` and /v1/openapi.json."
        return response(Problem(422, "invalid", detail, fields=fields[:20]), instance_of(request))

    async def database(request: Request, error: Exception) -> Response:
        """The sentence of the error is for the server's log: it names hosts and files."""
        logger.warning("Request %s: %s", instance_of(request), error)
        return response(unavailable("The database cannot be used now."), instance_of(request))

    async def spool(request: Request, error: Exception) -> Response:
        logger.error("Request %s: %s", instance_of(request), error)
        return response(unavailable("Nothing can be recorded now: the spool cannot be written."), instance_of(request))

    async def content(request: Request, error: Exception) -> Response:
        """A database that cannot hold what was asked for, such as NUL on PostgreSQL."""
        logger.warning("Request %s: the database refused a value.", instance_of(request))
        return response(Problem(422, "invalid", "A parameter holds what no database can."), instance_of(request))

    application.add_exception_handler(Problem, problem)
    application.add_exception_handler(RecordError, content)
    application.add_exception_handler(HTTPException, http)
    application.add_exception_handler(RequestValidationError, invalid)
    application.add_exception_handler(DatabaseError, database)
    application.add_exception_handler(SpoolError, spool)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: those of the statuses, and those that every route may answer."""
    return {status: {"model": ProblemBody, "content": {MEDIA_TYPE: {}}} for status in sorted({*statuses, *_ANYWHERE})}


_ANYWHERE = (400, 401, 403, 408, 413, 421, 422, 429, 500, 503)
