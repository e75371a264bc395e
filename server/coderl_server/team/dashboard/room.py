"""The routes of the dashboard: a page per question."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from coderl_store.clock import utc
from coderl_store.daily import Daily

from ..parts import TeamParts
from ..problems import Problem
from . import worth
from .keeper import Keeper
from .pages import STATIC, Pages, static
from .visit import ROOT, Looking, form, scope_of, signed_in, signed_out

DAYS = (7, 30, 90, 365)
Days = Annotated[int, Query(ge=1, le=365)]
Whose = Annotated[str, Query(pattern="^(everybody|mine)?$")]
Name = Annotated[str, Query(max_length=200)]


def router(parts: TeamParts, keeper: Keeper) -> APIRouter:
    """The room's routes. None of them is part of the API."""
    pages = Pages()
    room = APIRouter(prefix=ROOT, include_in_schema=False, route_class=pages.route_class())
    _door(room, parts, pages)
    _worth(room, parts, pages, keeper)
    return room


def _door(room: APIRouter, parts: TeamParts, pages: Pages) -> None:
    @room.get("")
    def without_slash() -> Response:
        return RedirectResponse(f"{ROOT}/", status_code=307)

    @room.get("/static/{name}")
    def file(name: str) -> Response:
        if name not in STATIC:
            raise Problem(404, "not_found", "There is nothing at this path.")
        return static(name)

    @room.get("/sign-in")
    def sign_in(next: Name = "") -> Response:
        return pages.page("sign-in", None, wanted=next, failed="")

    @room.post("/sign-in")
    async def enter(request: Request) -> Response:
        fields = await form(request)
        text, wanted = fields.get("token", "").strip(), fields.get("next", "")
        try:
            await parts.access.caller(request, text or "nothing")
        except Problem as problem:
            if problem.status_code not in (401, 429):
                raise
            sentence = "Too many attempts: wait a little." if problem.status_code == 429 else problem.detail
            return pages.page("sign-in", None, problem.status_code, wanted=wanted, failed=sentence)
        return signed_in(request, text, wanted)

    @room.post("/sign-out")
    async def leave(request: Request) -> Response:
        await form(request)
        return signed_out(request)


def _worth(room: APIRouter, parts: TeamParts, pages: Pages, keeper: Keeper) -> None:
    @room.get("/")
    def is_it_worth_it(
        looking: Looking, days: Days = 30, whose: Whose = "", language: Name = "", generator: Name = ""
    ) -> Response:
        repository = parts.database.repository
        scope = scope_of(looking, whose, parts.settings.min_group)
        found = worth.worth(
            Daily(repository.engine),
            scope,
            parts.database.register.agreed(),
            utc(parts.clock.now_s()).date(),
            days,
            [language] if language else (),
            [generator] if generator else (),
        )
        chosen = {
            "days": days,
            "whose": "everybody" if scope.everybody else "mine",
            "language": language,
            "generator": generator,
        }
        return pages.page(
            "worth",
            looking,
            found=found,
            charts=worth.pictures(found),
            scope=scope,
            all_days=DAYS,
            chosen=chosen,
            left=keeper.left,
        )
