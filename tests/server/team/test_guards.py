"""What no route ever sees, and what every answer bears."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from coderl_server.team.guards import SECURITY_HEADERS
from coderl_server.team.settings import Limits, TeamSettings

from .conftest import NDJSON, Team, lines, some_records


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:8766"}, 200),
        ({"Host": "[::1]:8766"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "["}, 421),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Content-Length": "x"}, 400),
    ],
)
async def test_only_our_names_and_no_page_of_others(running: Team, headers: dict[str, str], status: int) -> None:
    async with running.client() as client:
        answer = await client.get("/v1/me", headers=headers)
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert all(name in answer.headers for name in SECURITY_HEADERS)
    assert len(answer.headers["X-Request-ID"]) == 36
    if status != 200:
        assert answer.json()["instance"] == f"urn:uuid:{answer.headers['X-Request-ID']}"


async def test_a_page_cannot_post_even_by_following_a_link(running: Team) -> None:
    async with running.client(**{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}) as client:
        assert (await client.post("/v1/records")).status_code == 403
        assert (await client.delete("/v1/me/records")).status_code == 403
        assert (await client.options("/v1/records", headers={"Origin": "https://evil.example"})).status_code == 403


@pytest.mark.parametrize("settings", [TeamSettings(limits=Limits(body_s=0.2))])
async def test_a_slow_body_is_given_up(running: Team) -> None:
    async def slowly():
        yield b"{"
        await asyncio.sleep(30)
        yield b"}"

    async with running.client(**{"Content-Type": NDJSON}) as client:
        answer = await client.post("/v1/records", content=slowly())
    assert (answer.status_code, answer.json()["code"]) == (408, "too_slow")


@pytest.mark.parametrize("settings", [TeamSettings(limits=Limits(body_bytes=100))])
async def test_a_body_that_does_not_say_its_length_is_cut_off_too(running: Team) -> None:
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 50
            yield b"\n" * 50

    async with running.client(**{"Content-Type": NDJSON}) as client:
        answer = await client.post("/v1/records", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert sent <= 200


async def test_an_error_of_the_server_tells_nothing(running: Team, caplog: pytest.LogCaptureFixture) -> None:
    @running.application.get("/broken")
    async def broken() -> None:
        raise RuntimeError("hush: the programmer's code")

    async with running.client() as client:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "failed")
    assert "hush" not in answer.text + caplog.text
    assert "RuntimeError at" in caplog.text
    assert "test_guards.py:" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere/hush", 404),
        ("PATCH", "/v1/records", 405),
        ("GET", "/v1/audit?limit=hush", 422),
        ("GET", f"/v1/users/{'hush' * 40}/records", 422),
    ],
)
async def test_every_refusal_is_a_problem_without_what_was_sent(running: Team, method: str, path: str, status: int) -> None:
    async with running.client() as client:
        answer = await client.request(method, path, content=json.dumps({"hush": 1}))
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail", "code", "instance", "fields"}
    assert "hush" not in answer.text


async def test_no_text_of_the_programmer_reaches_the_log(running: Team, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running.client(**{"Content-Type": NDJSON}) as client:
        await client.post("/v1/records", content=lines(some_records(2, secret="hush")))
        assert running.parts.log.flush(120)
        assert "hush" in (await client.get("/v1/me/records")).text
    assert "hush" not in caplog.text
