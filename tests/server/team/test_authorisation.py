"""Who may do what: every route, every role, own and other rows. A new route without a line here fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from coderl_server.team.access import FRESH_S, STALE_S
from coderl_server.team.rights import Right, group_shown
from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.clock import utc
from coderl_store.job_queue import JobQueue
from coderl_store.jobs import Job, JobKind, JobState
from coderl_store.members import Role
from coderl_store.records import Session

from .conftest import NDJSON, Team, lines, some_records

pytestmark = pytest.mark.usefixtures("either_database")
INGEST, READ, ADMIN = Role.INGEST, Role.READ, Role.ADMIN
EVERYBODY = {INGEST, READ, ADMIN}

MATRIX: dict[tuple[str, str], set[Role] | None] = {
    ("POST", "/v1/records"): {INGEST},
    ("POST", "/v1/completions"): {INGEST},
    ("GET", "/v1/models"): EVERYBODY,
    ("POST", "/v1/decisions"): {INGEST},
    ("GET", "/v1/gate"): EVERYBODY,
    ("GET", "/v1/generator"): EVERYBODY,
    ("GET", "/v1/me"): EVERYBODY,
    ("PUT", "/v1/me/agreement"): EVERYBODY,
    ("DELETE", "/v1/me/agreement"): EVERYBODY,
    ("GET", "/v1/me/records"): EVERYBODY,
    ("DELETE", "/v1/me/records"): EVERYBODY,
    ("GET", "/v1/users/{user_key}/records"): {ADMIN},
    ("DELETE", "/v1/users/{user_key}/records"): {ADMIN},
    ("GET", "/v1/audit"): {ADMIN},
    ("POST", "/v1/jobs"): {ADMIN},
    ("GET", "/v1/jobs"): {ADMIN},
    ("GET", "/v1/jobs/{job_id}"): {ADMIN},
    ("DELETE", "/v1/jobs/{job_id}"): {ADMIN},
    ("GET", "/metrics"): {READ, ADMIN},
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}
"""Method and path → who may; None = anybody, without a token."""
BODIES: dict[str, dict[str, Any]] = {
    "/v1/records": {"content": lines(some_records(1)), "headers": {"Content-Type": NDJSON}},
    "/v1/completions": {"json": {"prompt": "x = "}},
    "/v1/decisions": {"json": {"language": "python", "path": "a.py", "prefix": "x = "}},
    "/v1/jobs": {"json": {"kind": "replay"}},
}


def test_the_matrix_has_every_route(team: Team) -> None:
    routes = {(method.upper(), path) for path, one in team.application.openapi()["paths"].items() for method in one}
    assert routes == set(MATRIX)


async def test_every_route_for_every_role(running: Team) -> None:
    tokens = {role: running.mint(role, f"user-{role.value}").text for role in Role}
    job = Job("a-job", utc(running.clock.now_s()), JobKind.REPLAY, JobState.CANCELLED, "local", "{}")
    JobQueue(running.parts.database.repository.engine).add(job)
    async with running.client() as client:
        for (method, path), permitted in MATRIX.items():
            url = path.replace("{user_key}", running.key_of("other")).replace("{job_id}", job.id)
            body = BODIES.get(path, {}) if method == "POST" else {}
            for text, expected in (
                (None, permitted is None),
                ("coderl_0000000000000000_" + "x" * 43, permitted is None),
                *((text, permitted is None or role in permitted) for role, text in tokens.items()),
            ):
                client.headers.pop("Authorization", None)
                if text is not None:
                    client.headers["Authorization"] = f"Bearer {text}"
                answer = await client.request(method, url, **body)
                refused = 403 if text in tokens.values() else 401
                assert answer.status_code in ((200, 202, 204) if expected else (refused,)), (method, path, text, answer.text)


async def test_own_and_other_rows(running: Team) -> None:
    texts = {name: running.mint(INGEST, name).text for name in ("ada", "bob")}
    for text in texts.values():
        async with running.client(text, **{"Content-Type": NDJSON}) as client:
            await client.post("/v1/records", content=lines(some_records(3)))
    assert running.parts.log.flush(120)
    async with running.client(texts["ada"]) as ada, running.client(texts["bob"]) as bob:
        exported = (await ada.get("/v1/me/records")).text.splitlines()
        assert len(exported) == 3
        assert running.key_of("ada") in exported[0]
        assert running.key_of("bob") not in "".join(exported)
        assert (await ada.delete("/v1/me/records")).json() == {"rows": 3}
        assert (await ada.get("/v1/me/records")).text == ""
        assert len((await bob.get("/v1/me/records")).text.splitlines()) == 3
    running.clock.advance_to(running.clock.now_s() + 1)  # rows of one moment have no order
    async with running.client(running.mint(ADMIN, "root").text) as admin:
        other = f"/v1/users/{running.key_of('bob')}/records"
        running.clock.advance_to(running.clock.now_s() + 1)
        assert len((await admin.get(other)).text.splitlines()) == 3
        running.clock.advance_to(running.clock.now_s() + 1)
        assert (await admin.delete(other)).json() == {"rows": 3}
        rows = (await admin.get("/v1/audit", params={"limit": 3})).json()
    assert [(row["action"], row["rows"]) for row in rows] == [
        ("records.erased", 3),
        ("records.exported", None),
        ("token.created", None),
    ]
    assert rows[0]["subject"] == running.key_of("bob")


async def test_an_erasure_reaches_what_another_worker_still_held(team: Team) -> None:
    async with team.running():
        token = team.mint(INGEST, "ada")
        async with team.client(token.text) as client:
            assert (await client.delete("/v1/me/records")).json() == {"rows": 0}
            team.parts.database.repository.append(some_records(2, team.key_of("ada")))  # it comes too late
    assert list(team.parts.database.repository.stream(Session)) == []


async def test_without_tokens_a_loopback_server_is_open_until_the_first(running: Team) -> None:
    async with running.client() as client:
        assert (await client.get("/v1/me")).json()["rights"] == sorted(right.value for right in Right)
        assert (await client.get("/v1/me", headers={"X-Forwarded-For": "192.0.2.1"})).status_code == 401
        minted = running.mint(READ, "ada")
        running.clock.advance_to(running.clock.now_s() + FRESH_S + 1)
        assert (await client.get("/v1/me")).status_code == 401
        running.tokens.revoke(minted.token.id)
        running.clock.advance_to(running.clock.now_s() + FRESH_S + 1)
        assert (await client.get("/v1/me")).status_code == 401


@pytest.mark.parametrize("settings", [TeamSettings(host="0.0.0.0", names=("localhost",))])
async def test_on_the_network_a_server_is_never_open(running: Team) -> None:
    async with running.client() as client:
        assert (await client.get("/v1/me")).status_code == 401


async def test_a_token_ends_when_it_expires_or_is_revoked(running: Team) -> None:
    brief = running.tokens.create(INGEST, "ada", timedelta(seconds=60)).text
    revoked = running.mint(INGEST, "ada")
    async with running.client(brief) as one, running.client(revoked.text) as other:
        assert [(await client.get("/v1/me")).status_code for client in (one, other)] == [200, 200]
        running.tokens.revoke(revoked.token.id)
        running.clock.advance_to(running.clock.now_s() + FRESH_S + 1)
        assert [(await client.get("/v1/me")).status_code for client in (one, other)] == [200, 401]
        running.clock.advance_to(running.clock.now_s() + 60)
        assert [(await client.get("/v1/me")).status_code for client in (one, other)] == [401, 401]


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "Bearer x", "Bearer coderl_0000000000000000_" + "x" * 43, "bearer\tx", "Bearer é"]
)
async def test_what_is_no_token_is_refused_without_being_quoted(running: Team, header: str) -> None:
    running.mint(INGEST, "ada")
    async with running.client() as client:
        answer = await client.get("/v1/me", headers=[(b"Authorization", header.encode())])
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "YTpi" not in answer.text
    assert "xxx" not in answer.text


async def test_a_token_with_the_right_id_and_a_wrong_secret_is_refused(running: Team) -> None:
    text = running.mint(INGEST, "ada").text
    async with running.client(text) as good, running.client(text[:-1] + ("A" if text[-1] != "A" else "B")) as bad:
        for _ in range(2):
            assert [(await client.get("/v1/me")).status_code for client in (good, bad)] == [200, 401]


async def test_while_the_database_is_away_known_tokens_still_record(running: Team) -> None:
    text, unknown = running.mint(INGEST, "ada").text, running.mint(INGEST, "bob").text
    async with running.client(text, **{"Content-Type": NDJSON}) as client, running.client(unknown) as other:
        assert (await client.get("/v1/me")).status_code == 200
        engine = running.parts.database.repository.engine
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE tokens RENAME TO hidden")
        running.clock.advance_to(running.clock.now_s() + FRESH_S + 1)
        assert (await client.post("/v1/records", content=lines(some_records(2)))).json()["accepted"] == 2
        assert ((await other.get("/v1/generator")).status_code, (await client.get("/v1/me")).status_code) == (503, 200)
        running.clock.advance_to(running.clock.now_s() + STALE_S + 1)
        answer = await client.post("/v1/records", content=lines(some_records(2)))
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "tokens" not in answer.text.replace("Tokens cannot", "")


async def test_while_the_database_is_away_an_open_server_stays_open_for_a_while(running: Team) -> None:
    async with running.client(**{"Content-Type": NDJSON}) as client:
        assert (await client.get("/v1/me")).status_code == 200
        engine = running.parts.database.repository.engine
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE tokens RENAME TO hidden")
        for later_s, status in ((FRESH_S + 1, 200), (STALE_S, 503)):
            running.clock.advance_to(running.clock.now_s() + later_s)
            assert (await client.post("/v1/records", content=lines(some_records(2)))).status_code == status
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO tokens")
        assert (await client.get("/v1/me")).status_code == 200


@pytest.mark.parametrize("settings", [TeamSettings(limits=Limits(requests_per_s=2, burst=3, refused_per_s=1))])
async def test_who_asks_too_often_waits(running: Team) -> None:
    ada, bob = running.mint(INGEST, "ada").text, running.mint(INGEST, "bob").text
    async with running.client(ada) as one, running.client(bob) as other, running.client("nonsense") as guesser:
        assert [(await one.get("/v1/me")).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert (await other.get("/v1/me")).status_code == 200
        answer = await one.get("/v1/me")
        assert (answer.headers["Retry-After"], answer.json()["code"]) == ("1", "too_often")
        running.clock.advance_to(running.clock.now_s() + 1.0)
        assert [(await one.get("/v1/me")).status_code for _ in range(3)] == [200, 200, 429]
        assert [(await guesser.get("/v1/me")).status_code for _ in range(5)] == [401, 401, 401, 401, 429]
        running.clock.advance_to(running.clock.now_s() + 1.0)
        assert (await one.get("/v1/me")).status_code == 200  # from the same address: what is known is not held up


async def test_many_callers_at_once_are_told_apart(running: Team) -> None:
    texts = {f"user{index}": running.mint(INGEST, f"user{index}").text for index in range(8)}

    async def asked(client: httpx.AsyncClient, text: str) -> str:
        answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {text}"})
        return str(answer.json()["name"])

    async with running.client() as client:
        for _ in range(3):
            assert await asyncio.gather(*(asked(client, text) for text in texts.values())) == list(texts)


def test_a_group_is_shown_where_it_is_large_enough_or_all_agreed() -> None:
    assert not group_shown([], [], 1)
    assert not group_shown(["a", "b", "b", "b", "b"], [], 3)
    assert group_shown(["a", "b", "c"], [], 3)
    assert group_shown(["a", "b"], ["a", "b", "z"], 3)
    assert not group_shown(["a", "b"], ["a"], 3)
