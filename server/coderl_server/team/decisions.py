"""`POST /v1/decisions`: whether a suggestion is worth showing at a place, and which, for clients that are not LSP clients."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ..asked import Answer
from .access import needs
from .attended import Ending, attended
from .deciding import Deciders, Pending
from .decision_wire import DecisionAnswer, DecisionRequest
from .generator_problems import LEAVING, grace, serving
from .parts import TeamParts
from .problems import responses
from .rights import Caller, Right


class Decided(Response):
    """The answer to one request: it is decided, logged and sent while it is sent; a client that leaves ends it."""

    def __init__(self, parts: TeamParts, pending: Pending) -> None:
        super().__init__()
        self._parts = parts
        self._pending = pending
        self._answer: Answer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ending = await attended(self._decide(), receive, grace(self._parts))
        answer = self._answer
        if answer is None:
            answer = self._pending.superseded()
        rows = self._pending.rows(answer)
        if rows:
            await asyncio.wrap_future(await asyncio.to_thread(self._parts.log.submit, *rows))
        self._parts.metrics.count("coderl_decisions_total", action=answer.decision.action.value)
        if ending is Ending.LEAVING:
            raise LEAVING
        if ending is Ending.DONE:
            body = _body(self._pending, answer).model_dump(mode="json")
            await JSONResponse(body)(scope, receive, send)

    async def _decide(self) -> None:
        self._answer = await self._pending.decided()


def _body(pending: Pending, answer: Answer) -> DecisionAnswer:
    decision = answer.decision
    return DecisionAnswer(
        decision_id=decision.id,
        session_id=decision.session_id,
        suggestion_id=answer.suggestion.id if answer.shown and answer.suggestion is not None else None,
        action=decision.action,
        text=answer.text,
        reason=decision.reason,
        sentence=decision.reason.sentence,
        route=decision.route,
        stage=decision.stage,
        p1=decision.p1,
        tau_before=decision.tau_before,
        p2=decision.p2,
        tau=decision.tau,
        propensity=decision.propensity,
        generator_id=decision.generator_id,
        gate_id=decision.gate_id,
        problems=list(pending.problems),
    )


def router(parts: TeamParts) -> APIRouter:
    """The room's routes."""
    room = APIRouter(tags=["generation"])
    deciders = None if parts.generation is None else Deciders(parts, parts.generation)

    @room.post("/v1/decisions", response_model=DecisionAnswer, responses=responses())
    async def decisions(request: DecisionRequest, caller: Annotated[Caller, Depends(needs(Right.WRITE))]) -> Response:
        """Show or withhold, and why; the text if it is to be shown.

        The decision is logged as a language server's is, at the privacy level of the server or a lower one, and is on disk
        before it is answered. Send what became of a shown text as an `outcome` record with its `suggestion_id`. Leave and it
        is given up. A failure of the model is an answer too: withheld, with its reason.
        """
        serving(parts)
        assert deciders is not None  # `serving` would have raised
        return Decided(parts, await deciders.read(request, caller))

    return room
