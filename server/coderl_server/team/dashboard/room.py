"""The routes of the dashboard: a page per question."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from coderl_store.clock import utc
from coderl_store.daily import Daily
from coderl_store.overviews import held

from ..parts import TeamParts
from ..people import erase_all, exported
from ..problems import Problem
from ..rights import Right
from . import health, honest, models, silent, training, worth
from .dial import FIRST_DAYS, Dials, picture
from .keeper import Keeper
from .pages import STATIC, Pages, static
from .periods import EVERY_S, period
from .visit import ROOT, Looking, Scope, form, require, scope_of, signed_in, signed_out

DAYS = tuple(EVERY_S)
ERASE = "erase my data"
"""What must be typed to erase."""
Days = Annotated[int, Query(ge=1, le=365)]
Whose = Annotated[str, Query(pattern="^(everybody|mine)?$")]
Name = Annotated[str, Query(max_length=200)]
Eagerness = Annotated[float | None, Query(ge=-1, le=1)]
Entropy = Annotated[float | None, Query(ge=0, le=1)]


def router(parts: TeamParts, keeper: Keeper) -> APIRouter:
    """The room's routes. None of them is part of the API."""
    pages = Pages()
    room = APIRouter(prefix=ROOT, include_in_schema=False, route_class=pages.route_class())
    _door(room, parts, pages)
    _worth(room, parts, pages, keeper)
    _honest(room, parts, pages)
    _silent(room, parts, pages)
    _what_if(room, parts, pages, keeper.dials)
    _models(room, parts, pages)
    _training(room, parts, pages)
    _health(room, parts, pages)
    _my_data(room, parts, pages, keeper.dials)
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
    def sign_in(wanted: Annotated[str, Query(max_length=2000, alias="next")] = "") -> Response:
        return pages.page("sign-in", None, wanted=wanted, failed="")

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
        scope = scope_of(looking, whose, parts.settings.min_group)
        daily, today = Daily(parts.database.repository.engine), utc(parts.clock.now_s()).date()
        chosen_part = ([language] if language else (), [generator] if generator else ())
        summed = period(daily, scope, today, days, *chosen_part)
        found = worth.worth(summed, scope, parts.database.register.agreed())
        chosen = {"days": days, "whose": scope.name, "language": language, "generator": generator}
        values = {"found": found, "charts": worth.pictures(found), "scope": scope, "chosen": chosen, "left": keeper.left}
        return pages.page("worth", looking, all_days=DAYS, **values)


def _honest(room: APIRouter, parts: TeamParts, pages: Pages) -> None:
    @room.get("/honest")
    def is_it_honest(looking: Looking, whose: Whose = "") -> Response:
        scope = scope_of(looking, whose, parts.settings.min_group)
        return pages.page("honest", looking, found=honest.load(parts, scope), scope=scope)


def _silent(room: APIRouter, parts: TeamParts, pages: Pages) -> None:
    @room.get("/silent")
    def why_was_it_silent(
        looking: Looking,
        days: Days = 7,
        action: Annotated[str, Query(pattern="^(show|withhold)?$")] = "withhold",
        reason: Name = "",
        language: Name = "",
        page: Annotated[int, Query(ge=0, le=1000)] = 0,
    ) -> Response:
        asked = silent.Asked(days, action, reason, language, page)
        found = silent.search(parts, looking, asked)
        return pages.page("silent", looking, found=found, asked=asked, all_days=DAYS, sentence=silent.sentence_of)

    @room.get("/silent/{decision_id}")
    def one_decision(looking: Looking, decision_id: str) -> Response:
        row, texts = silent.one(parts, looking, decision_id)
        values = {"row": row, "texts": texts, "sentence": silent.sentence_of(row.reason), "privacy": parts.privacy.value}
        return pages.page("decision", looking, **values)


def _what_if(room: APIRouter, parts: TeamParts, pages: Pages, dials: Dials) -> None:
    def answered(looking: Looking, days: int, whose: str, eagerness: float | None, h: float | None) -> dict[str, object]:
        scope = scope_of(looking, whose, parts.settings.min_group)
        basis = dials.basis(scope, days)
        too_few = dials.too_few(scope, basis)
        eagerness = basis.eagerness if eagerness is None else eagerness
        h = basis.h_bits if h is None else h
        report = None if too_few or basis.dial is None else basis.dial.at(eagerness, h)
        return {
            "scope": scope, "basis": basis, "too_few": too_few, "report": report, "eagerness": eagerness, "h": h,
            "picture": None if report is None else picture(report), "days": days,
        }  # fmt: skip

    @room.get("/what-if")
    def what_if(
        looking: Looking, days: Days = FIRST_DAYS, whose: Whose = "", eagerness: Eagerness = None, h: Entropy = None
    ) -> Response:
        return pages.page("what-if", looking, all_days=DAYS, **answered(looking, days, whose, eagerness, h))

    @room.get("/what-if/figures")
    def figures(
        looking: Looking, days: Days = FIRST_DAYS, whose: Whose = "", eagerness: Eagerness = None, h: Entropy = None
    ) -> Response:
        return pages.page("_figures", looking, **answered(looking, days, whose, eagerness, h))


def _models(room: APIRouter, parts: TeamParts, pages: Pages) -> None:
    @room.get("/models")
    def all_models(looking: Looking) -> Response:
        scope = scope_of(looking, "", parts.settings.min_group)
        return pages.page("models", looking, found=models.models(parts, scope), scope=scope, days=models.DAYS)

    @room.post("/models")
    def change(looking: Looking, fields: Annotated[dict[str, str], Depends(form)]) -> Response:
        require(looking, Right.MANAGE)
        what, action = fields.get("what", ""), fields.get("action", "")
        if what not in ("gate", "generator") or action not in ("promote", "back"):
            raise Problem(422, "invalid", "A form of these pages says something else.")
        models.change(parts, looking.caller, what, action, fields.get("id", ""))
        return RedirectResponse(f"{ROOT}/models", status_code=303)


def _training(room: APIRouter, parts: TeamParts, pages: Pages) -> None:
    @room.get("/training")
    def all_runs(looking: Looking) -> Response:
        require(looking, Right.AGGREGATES)
        found, why = training.runs(parts.settings.runs)
        return pages.page("training", looking, runs=found, why=why)

    @room.get("/training/{name}")
    def one_run(looking: Looking, name: str) -> Response:
        require(looking, Right.AGGREGATES)
        found = training.run(parts.settings.runs, name, with_samples=looking.may(Right.MANAGE))
        return pages.page("run", looking, found=found)


def _health(room: APIRouter, parts: TeamParts, pages: Pages) -> None:
    @room.get("/health")
    def how_is_it(looking: Looking, days: Days = 7) -> Response:
        require(looking, Right.METRICS)
        found = health.health(parts, Scope(None, parts.settings.min_group), days)
        return pages.page(
            "health", looking, found=found, chosen={"days": days, "whose": ""}, all_days=DAYS, shares=health.QUANTILES
        )


def _my_data(room: APIRouter, parts: TeamParts, pages: Pages, dials: Dials) -> None:
    @room.get("/my-data")
    def my_data(looking: Looking, erased: int | None = None) -> Response:
        key = looking.caller.user_key
        values = {
            "held": held(parts.database.repository.engine, key), "agreed": key in parts.database.register.agreed(),
            "privacy": parts.privacy.value, "min_group": parts.settings.min_group, "erased": erased, "words": ERASE,
        }  # fmt: skip
        return pages.page("my-data", looking, **values)

    @room.get("/my-data/records.jsonl")
    def export(looking: Looking) -> Response:
        return exported(parts, looking.caller.user_key)

    @room.post("/my-data/agreement")
    def agreement(looking: Looking, fields: Annotated[dict[str, str], Depends(form)]) -> Response:
        register, key = parts.database.register, looking.caller.user_key
        if fields.get("agree") == "yes":
            register.agree(key, utc(parts.clock.now_s()))
        else:
            register.disagree(key)
        return RedirectResponse(f"{ROOT}/my-data", status_code=303)

    @room.post("/my-data/erase")
    async def erase(looking: Looking, fields: Annotated[dict[str, str], Depends(form)]) -> Response:
        if fields.get("words", "").strip().lower() != ERASE:
            raise Problem(422, "not_sure", f"Nothing was erased: type “{ERASE}” to confirm.")
        done = await erase_all(parts, looking.caller, looking.caller.user_key)
        dials.forget()
        return RedirectResponse(f"{ROOT}/my-data?erased={done.rows}", status_code=303)
