"""The routes of the pages: who sees what, what a form may do, and what every answer carries. On both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from tests.logged import records_of

from coderl_gate import gate as gates
from coderl_gate.artifact import default_artifact, save, sealed
from coderl_gate.synthetic import World, knowing
from coderl_server.team.access import FRESH_S
from coderl_server.team.dashboard.keeper import Keeper
from coderl_server.team.dashboard.pages import MENU, PAGE_HEADERS, STATIC
from coderl_server.team.dashboard.visit import COOKIE
from coderl_store.clock import VirtualClock
from coderl_store.members import Role
from coderl_store.repository import LoggedRequest

from ..conftest import Team

pytestmark = pytest.mark.usefixtures("either_database")
PLACES = [place for place, _ in MENU]
OURS = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
FORBIDDEN = {"training": {Role.INGEST}, "health": {Role.INGEST}}
"""Pages that a role may not see at all."""


def with_users(team: Team, requests: list[LoggedRequest], names: list[str]) -> list[LoggedRequest]:
    """The made-up programmers become these ones, and their log is of yesterday."""
    keys = {f"user-{index}": team.key_of(name) for index, name in enumerate(names)}
    return [replace(one, session=replace(one.session, user_key=keys[one.session.user_key])) for one in requests]


@pytest.fixture
async def filled(running: Team) -> Team:
    """A server whose log holds six programmers, ada and bob among them, summed."""
    names = ["ada", "bob", "c", "d", "e", "f"]
    requests = with_users(running, list(World(users=6, requests_per_user=30).requests()), names)
    clock = VirtualClock()
    running.clock.advance_to(clock.now_s() + 20.0 * 200)
    await asyncio.to_thread(running.parts.database.repository.append, records_of(requests))
    keeper = Keeper(running.parts)
    await asyncio.to_thread(keeper.refresh)
    return running


def visitor(team: Team, text: str | None = None) -> httpx.AsyncClient:
    client = team.client()
    if text is not None:
        client.cookies.set(COOKIE, text)
    return client


async def test_every_page_for_every_role(filled: Team) -> None:
    for role in Role:
        text = filled.mint(role, "ada").text
        async with visitor(filled, text) as client:
            for place in PLACES:
                answer = await client.get(f"/dashboard/{place}")
                assert answer.status_code == (403 if role in FORBIDDEN.get(place, ()) else 200), (role, place)
                assert answer.headers["content-type"] == "text/html; charset=utf-8"
                for name, value in PAGE_HEADERS.items():
                    assert answer.headers[name] == value
                assert "Traceback" not in answer.text


async def test_without_a_token_everybody_is_sent_to_the_way_in(filled: Team) -> None:
    filled.mint(Role.READ, "lead")
    filled.clock.advance_to(filled.clock.now_s() + FRESH_S + 1)
    async with visitor(filled) as client:
        for place in [*PLACES, "silent/some", "training/run", "my-data/records.jsonl", "what-if/figures"]:
            answer = await client.get(f"/dashboard/{place}")
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/dashboard/sign-in?next=%2Fdashboard%2F")
        for path in ("models", "my-data/agreement", "my-data/erase"):
            answer = await client.post(f"/dashboard/{path}", headers=OURS)
            assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/sign-in")


async def test_an_open_server_shows_everything_and_the_api_never_sees_the_cookie(filled: Team) -> None:
    async with visitor(filled) as client:
        for place in PLACES:
            assert (await client.get(f"/dashboard/{place}")).status_code == 200
    text = filled.mint(Role.ADMIN, "ada").text
    filled.clock.advance_to(filled.clock.now_s() + FRESH_S + 1)
    async with visitor(filled, text) as client:
        assert (await client.get("/v1/audit")).status_code == 401  # the path of the cookie, and the header alone counts


async def test_signing_in_and_out(filled: Team) -> None:
    text = filled.mint(Role.READ, "lead").text
    async with visitor(filled) as client:
        body = {"content": urlencode({"token": f" {text} ", "next": "/dashboard/honest?whose=mine"})}
        answer = await client.post("/dashboard/sign-in", headers=OURS, **body)
        assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/honest?whose=mine")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}={text}; ")
        for attribute in ("HttpOnly", "Path=/dashboard", "SameSite=strict"):
            assert attribute in cookie
        assert "Secure" not in cookie  # http, on loopback
        gone = await client.post("/dashboard/sign-out", headers=OURS)
        assert gone.headers["location"] == "/dashboard/sign-in"
        assert 'coderl_token=""' in gone.headers["set-cookie"]


@pytest.mark.parametrize("wanted", ["", "//evil.example/", "https://evil.example/dashboard/", "/dashboard/\\evil", "/v1/audit"])
async def test_after_signing_in_nobody_is_led_away(filled: Team, wanted: str) -> None:
    text = filled.mint(Role.READ, "lead").text
    async with visitor(filled) as client:
        body = urlencode({"token": text, "next": wanted})
        answer = await client.post("/dashboard/sign-in", headers=OURS, content=body)
        assert answer.headers["location"] == "/dashboard/"


async def test_a_wrong_token_is_refused_without_being_quoted(filled: Team) -> None:
    filled.mint(Role.READ, "lead")
    async with visitor(filled) as client:
        for text in ("secret-nonsense", "coderl_0123456789abcdef_" + "x" * 43, ""):
            answer = await client.post("/dashboard/sign-in", headers=OURS, content=urlencode({"token": text}))
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
            assert "secret-nonsense" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}],
)
async def test_no_other_site_can_post_a_form(filled: Team, headers: dict[str, str]) -> None:
    text = filled.mint(Role.ADMIN, "ada").text
    async with visitor(filled, text) as client:
        for path in ("sign-in", "sign-out", "models", "my-data/agreement", "my-data/erase"):
            body = urlencode({"words": "erase my data", "agree": "yes", "token": text})
            answer = await client.post(f"/dashboard/{path}", headers=headers, content=body)
            assert answer.status_code == 403, path
    assert filled.parts.database.register.agreed() == frozenset()


async def test_small_groups_are_not_shown_to_a_lead(filled: Team) -> None:
    filled.clock.advance_to(filled.clock.now_s() + 1)
    text = filled.mint(Role.READ, "lead").text
    async with visitor(filled, text) as client:
        page = (await client.get("/dashboard/?days=90")).text
        assert "of 180 requests" in page
        assert "not shown" not in page
    async with visitor(filled, text) as client:
        for name in ("ada", "bob"):
            await asyncio.to_thread(filled.parts.database.repository.erase, filled.key_of(name))
        await asyncio.to_thread(Keeper(filled.parts).refresh)
        for place in ("?days=90", "what-if"):
            page = (await client.get(f"/dashboard/{place}")).text
            assert "groups of at least 5 programmers, and these are 4" in page
            assert "of 120 requests" not in page


async def test_everybody_sees_their_own_decisions_only(filled: Team) -> None:
    rows = list(filled.parts.database.repository.requests())
    mine, other = (
        next(one.decision.id for one in rows if one.session.user_key == filled.key_of(name)) for name in ("ada", "bob")
    )
    for role in Role:
        async with visitor(filled, filled.mint(role, "ada").text) as client:
            assert (await client.get(f"/dashboard/silent/{mine}")).status_code == 200
            assert (await client.get(f"/dashboard/silent/{other}")).status_code == 404
            page = (await client.get("/dashboard/silent?days=90&action=")).text
            assert f"/dashboard/silent/{other}" not in page
            assert "about me" in page


async def test_an_editor_cannot_ask_for_everybody(filled: Team) -> None:
    async with visitor(filled, filled.mint(Role.INGEST, "ada").text) as client:
        page = (await client.get("/dashboard/?days=90&whose=everybody")).text
        assert "of 30 requests" in page
        assert "of 180 requests" not in page


async def test_agreeing_exporting_and_erasing_are_ones_own(filled: Team) -> None:
    async with visitor(filled, filled.mint(Role.INGEST, "ada").text) as client:
        await client.post("/dashboard/my-data/agreement", headers=OURS, content="agree=yes")
        assert filled.parts.database.register.agreed() == {filled.key_of("ada")}
        await client.post("/dashboard/my-data/agreement", headers=OURS, content="agree=no")
        assert filled.parts.database.register.agreed() == frozenset()
        exported = (await client.get("/dashboard/my-data/records.jsonl")).text.splitlines()
        assert (await client.get("/dashboard/my-data")).text.count(f"{len(exported)} rows") == 1
        refused = await client.post("/dashboard/my-data/erase", headers=OURS, content="words=please")
        assert refused.status_code == 422
        done = await client.post("/dashboard/my-data/erase", headers=OURS, content=urlencode({"words": "Erase my data"}))
        assert done.headers["location"] == f"/dashboard/my-data?erased={len(exported)}"
    actions = [(one.action, one.subject, one.rows) for one in filled.parts.database.register.audits()]
    assert ("records.erased", filled.key_of("ada"), len(exported)) in actions


async def test_only_who_manages_promotes_and_rolls_back_and_it_is_audited(filled: Team, tmp_path: Path) -> None:
    made = save(sealed(knowing()), tmp_path / "gate")
    gates.promote(filled.parts.home, tmp_path / "gate")
    back = urlencode({"what": "gate", "action": "back", "id": made.id})
    again = urlencode({"what": "gate", "action": "promote", "id": made.id})
    for role in (Role.INGEST, Role.READ):
        async with visitor(filled, filled.mint(role, "ada").text) as client:
            assert (await client.post("/dashboard/models", headers=OURS, content=back)).status_code == 403
            assert "Roll back" not in (await client.get("/dashboard/models")).text
    async with visitor(filled, filled.mint(Role.ADMIN, "boss").text) as client:
        assert "Roll back the gate" in (await client.get("/dashboard/models")).text
        assert (await client.post("/dashboard/models", headers=OURS, content=back)).status_code == 303
        assert gates.active_artifact(filled.parts.home).id == default_artifact().id
        assert (await client.post("/dashboard/models", headers=OURS, content=back)).status_code == 409
        assert (await client.post("/dashboard/models", headers=OURS, content=again)).status_code == 303
        assert gates.active_artifact(filled.parts.home).id == made.id
        nobody = urlencode({"what": "generator", "action": "promote", "id": "x"})
        for body, status in (("what=gate&action=promote&id=../../x", 404), ("what=x&action=promote", 422), (nobody, 409)):
            assert (await client.post("/dashboard/models", headers=OURS, content=body)).status_code == status
    actions = [one.action for one in filled.parts.database.register.audits()]
    assert actions.count("gate.rolled_back") == actions.count("gate.promoted") == 1


async def test_the_dial_answers_for_what_is_asked(filled: Team) -> None:
    async with visitor(filled) as client:
        shown = []
        for eagerness in (-1, 0, 1):
            page = (await client.get(f"/dashboard/what-if/figures?days=90&eagerness={eagerness}&h=0.5")).text
            assert "<html" not in page
            shown.append(int(page.split("<dd>")[1].split(" %")[0]))
        assert shown == sorted(shown)
        assert shown[0] < shown[2]
        for bad in ("eagerness=2", "h=nan", "days=0", "whose=theirs"):
            assert (await client.get(f"/dashboard/what-if/figures?{bad}")).status_code == 422


async def test_a_page_says_what_it_is_about_where_nothing_is(running: Team) -> None:
    async with visitor(running) as client:
        assert "Nothing was decided" in (await client.get("/dashboard/")).text
        assert "no figures yet" in (await client.get("/dashboard/honest")).text
        assert "Nothing was found" in (await client.get("/dashboard/silent")).text
        assert "decided no request" in (await client.get("/dashboard/what-if")).text
        assert "There is no folder" in (await client.get("/dashboard/training")).text
        assert (await client.get("/dashboard/training/x")).status_code == 404


async def test_files_may_be_kept_and_others_are_not_there(running: Team) -> None:
    async with visitor(running) as client:
        for name, kind in STATIC.items():
            answer = await client.get(f"/dashboard/static/{name}")
            assert answer.headers["content-type"].startswith(kind)
            assert "immutable" in answer.headers["cache-control"]
        assert (await client.get("/dashboard/static/..%2froom.py")).status_code == 404
        assert (await client.get("/dashboard/static/room.py")).status_code == 404
        assert (await client.get("/dashboard")).headers["location"] == "/dashboard/"
