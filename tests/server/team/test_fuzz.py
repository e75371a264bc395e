"""Whatever is sent, the answer is one of ours: never a failure of the server, never what was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.home import home
from coderl_store.memory import MemoryLog

from .conftest import NDJSON, Team, built, lines, some_records

GOOD = lines(some_records(3))
paths = st.one_of(
    st.sampled_from(["/v1/records", "/v1/completions", "/v1/decisions", "/v1/models"]),
    st.sampled_from(["/v1/me", "/v1/me/records", "/v1/gate", "/v1/generator", "/v1/audit?limit=2", "/metrics"]),
    st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=20).map("/v1/users/{}/records".format),
    st.text(max_size=20).map("/v1/audit?limit={}".format),
    st.text(st.characters(exclude_characters="?#", exclude_categories=("Cs",)), max_size=20).map("/{}".format),
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
header_values = st.one_of(
    st.sampled_from(["gzip", "identity", "application/json", NDJSON, f"{NDJSON}; charset=utf-8", "*", "", "0", "null"]),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30),
)
headers = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "Authorization", "If-None-Match", "Origin", "Accept"]), header_values
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.just(GOOD),
    st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=5)).map(
        lambda change: GOOD[: change[0]] + change[1] + GOOD[change[0] + len(change[1]) :]
    ),
)
ASKED: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x = "},
    "/v1/decisions": {"language": "python", "path": "a.py", "prefix": "x = ", "suffix": ""},
}
"""Routes that take JSON, each with what is enough for an answer."""
SCHEMAS = {"/v1/completions": "CompletionRequest", "/v1/decisions": "DecisionRequest"}
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(["\ud800", "a\0b"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all examples, as a server has one."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def team() -> Iterator[Team]:
    limits = Limits(requests_per_s=1e6, burst=10**6, refused_per_s=1e6)
    made = built(home(), TeamSettings(limits=limits), MemoryLog())
    yield made
    made.parts.database.close()


@pytest.mark.usefixtures("either_database")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(methods, paths, headers, bodies)
def test_every_answer_is_ours(
    team: Team, loop: asyncio.Runner, method: str, path: str, header: dict[str, str], body: bytes
) -> None:
    async def answered() -> httpx.Response:
        async with team.client() as client:
            pairs = [(name.encode(), value.encode("latin-1")) for name, value in header.items()]
            return await client.request(method, quote(path, safe="/?=&"), headers=pairs, content=body)

    answer = loop.run(answered())
    assert answer.status_code < 500, answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(bodies)
def test_every_batch_is_answered_line_by_line(team: Team, loop: asyncio.Runner, body: bytes) -> None:
    async def answered() -> httpx.Response:
        async with team.client() as client:
            return await client.post("/v1/records", headers={"Content-Type": NDJSON}, content=body)

    answer = loop.run(answered())
    assert answer.status_code == 200
    found = answer.json()
    assert found["accepted"] + len(found["rejected"]) == len(body.split(b"\n")) - (body.endswith(b"\n") or not body)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.sampled_from(sorted(ASKED)), st.data())
def test_every_question_is_answered_or_refused(team: Team, loop: asyncio.Runner, path: str, data: st.DataObject) -> None:
    fields = sorted(team.application.openapi()["components"]["schemas"][SCHEMAS[path]]["properties"])
    changes = data.draw(st.dictionaries(st.sampled_from(fields), junk, max_size=3))

    async def answered() -> httpx.Response:
        async with team.client(**{"Content-Type": "application/json"}) as client:
            return await client.post(path, content=json.dumps({**ASKED[path], **changes}))

    answer = loop.run(answered())
    assert answer.status_code in (200, 404, 422), answer.text
    if answer.status_code != 200:
        assert answer.headers["Content-Type"] == "application/problem+json"
