"""`POST /v1/completions`: one model for many editors, in OpenAI's form (`completion_wire`).

The head of an answer waits for the first token, so what fails before it has its own status; what fails later ends the stream
with an event that says so. A client that leaves ends its decoding, or its waiting, at once. When the server is told to leave,
who waits is refused, and streams at work get most of the time of the drain; what is longer ends with an event too.

Nothing of a prompt or a text is logged; of a backend's error only its kind, because its words may be those of another server.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coderl_generator.backend import Token, forces_beginning
from coderl_generator.errors import GeneratorError

from .access import needs
from .attended import Ending, attended
from .completion_wire import DONE, Completion, CompletionRequest, error_event, event, generation_request
from .generation import Generation
from .generator_problems import LEAVING, grace, problem_of, serving
from .parts import TeamParts
from .problems import Problem, responses
from .rights import Caller, Right

HUNG_S = 10.0
"""How much longer than its deadline a backend may take before it is given up."""
STREAM_TYPE = "text/event-stream"
logger = logging.getLogger(__name__)


class Model(BaseModel):
    """The model that is served."""

    id: str = Field(description="As it stands in the log's rows.")
    object: str = "model"
    created: int = 0
    owned_by: str = "coderl"
    template: str = Field(description="CodeRL's own: the prompt template that fits it (docs/generation.md).")
    forces_beginning: bool = Field(description="CodeRL's own: whether it keeps `begins_with`.")


class Models(BaseModel):
    """OpenAI's list, with at most one."""

    object: str = "list"
    data: list[Model]


class Relayed(Response):
    """The answer to one request: it asks for its turn, decodes and sends, all while it is sent."""

    def __init__(self, parts: TeamParts, generation: Generation, caller: Caller, asked: CompletionRequest) -> None:
        super().__init__()
        self._parts = parts
        self._generation = generation
        self._caller = caller
        self._asked = asked
        self._begun = False
        """At the model."""
        self._sent = False
        """The head of the answer is on its way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = "failed"
        try:
            ending = await attended(self._relay(send), receive, self._leaving())
            outcome = {Ending.DONE: "finished", Ending.GONE: "cancelled", Ending.LEAVING: "cut"}[ending]
            if ending is Ending.LEAVING:
                await self._fail(LEAVING, send)
        except (GeneratorError, TimeoutError) as error:
            logger.warning("A completion failed with %s.", type(error).__name__)
            problem = problem_of(error)
            outcome = "refused" if problem.status_code < 500 or problem.code == "busy" else "failed"
            await self._fail(problem, send)
        except Problem:
            outcome = "refused"
            raise
        finally:
            self._parts.metrics.count("coderl_completions_total", outcome=outcome)

    async def _leaving(self) -> None:
        """Return when this request has to end because the server leaves."""
        await self._parts.drain.wait()
        if self._begun:
            await grace(self._parts)

    async def _fail(self, problem: Problem, send: Send) -> None:
        """Raise the problem, or where the stream has begun end it with an event."""
        if not self._sent:
            raise problem
        await _piece(send, error_event(problem.status_code, problem.code, problem.detail) + DONE, more=False)

    async def _relay(self, send: Send) -> None:
        limits = self._parts.settings.limits
        request = generation_request(self._asked, self._caller.id, limits.generation_s)
        started_s = time.perf_counter()
        async with self._generation.turns.turn(self._caller.id):
            self._begun = True
            async with asyncio.timeout((request.deadline_s or limits.generation_s) + HUNG_S):
                served = self._generation.generator_id
                self._check(served)
                answer = Completion(str(uuid.uuid4()), int(time.time()), served, logprobs=self._asked.logprobs is not None)
                tokens = self._timed(self._generation.backend.stream(request), started_s)
                async with aclosing(tokens):
                    await (self._stream if self._asked.stream else self._whole)(tokens, answer, send)

    def _check(self, served: str) -> None:
        """The model may have been changed while the request waited."""
        if self._asked.model not in (None, "", served):
            raise Problem(404, "model_not_served", "Another model is served here: `GET /v1/models` names it.")

    async def _timed(self, tokens: AsyncGenerator[Token, None], started_s: float) -> AsyncGenerator[Token, None]:
        count = 0
        try:
            async with aclosing(tokens):
                async for token in tokens:
                    if token.finish is None and not count:
                        self._parts.metrics.observe("coderl_first_token_seconds", time.perf_counter() - started_s)
                    count += token.finish is None
                    yield token
        finally:
            self._parts.metrics.count("coderl_generated_tokens_total", count)

    async def _stream(self, tokens: AsyncIterator[Token], answer: Completion, send: Send) -> None:
        async for token in tokens:
            if not self._sent:
                self._sent = True
                await send(_head(STREAM_TYPE))
            if token.finish is None:
                await _piece(send, event(answer.chunk([token])))
            else:
                await _piece(send, event(answer.chunk([], token.finish)) + DONE, more=False)

    async def _whole(self, tokens: AsyncIterator[Token], answer: Completion, send: Send) -> None:
        found = [token async for token in tokens]
        body = json.dumps(answer.chunk(found[:-1], found[-1].finish)).encode()
        self._sent = True
        await send(_head("application/json"))
        await _piece(send, body, more=False)


def _head(media_type: str) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", media_type.encode())]}


async def _piece(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def router(parts: TeamParts) -> APIRouter:
    """The room's routes."""
    room = APIRouter(tags=["generation"])
    text = {"content": {"application/json": {}, STREAM_TYPE: {}}, "description": "The text, whole or as events."}

    @room.post("/v1/completions", response_class=Response, responses={**responses(404, 502, 504), 200: text})
    async def completions(asked: CompletionRequest, caller: Annotated[Caller, Depends(needs(Right.WRITE))]) -> Response:
        """Continue a text, in OpenAI's form.

        Leave and the decoding stops. 429: too many requests of this caller at once. 503: no model is served here, it is busy,
        or it cannot be reached; `Retry-After` says when to come again.
        """
        return Relayed(parts, serving(parts), caller, asked)

    @room.get("/v1/models", responses=responses())
    async def models(caller: Annotated[Caller, Depends(needs(Right.MODELS))]) -> Models:
        """The model that is served, if any, in OpenAI's form."""
        made = parts.generation
        if made is None:
            return Models(data=[])
        forced = forces_beginning(made.backend)
        return Models(data=[Model(id=made.generator_id, template=made.template, forces_beginning=forced)])

    return room
