"""What becomes of a batch: safe once answered, never doubled, the good records in spite of the bad ones."""

from __future__ import annotations

import gzip
import json
import logging
from dataclasses import replace

import pytest

from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.codec import encode
from coderl_store.home import home
from coderl_store.members import Role
from coderl_store.memory import MemoryLog
from coderl_store.records import Incident, Record, Session

from .conftest import NDJSON, Team, built, lines, some_records

pytestmark = pytest.mark.usefixtures("either_database")
BATCH = {"Content-Type": NDJSON}


def stored(team: Team) -> list[str]:
    assert team.parts.log.flush(120)
    repository = team.parts.database.repository
    return sorted(record.id for kind in (Session, Incident) for record in repository.stream(kind))


async def test_a_batch_is_stored_once_however_often_it_is_sent(running: Team) -> None:
    records = some_records(50)
    async with running.client(**BATCH) as client:
        for body, coding in (
            (lines(records), "identity"),
            (gzip.compress(lines(records)), "gzip"),
            (lines(records), "identity"),
        ):
            answer = await client.post("/v1/records", content=body, headers={"Content-Encoding": coding})
            assert (answer.status_code, answer.json()) == (200, {"accepted": 50, "rejected": []})
    assert stored(running) == sorted(record.id for record in records)


async def test_good_records_are_taken_and_bad_ones_named_without_their_content(running: Team, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    good = some_records(3)
    foreign = json.loads(encode(good[0]))
    bad = [
        b"hush = 'api key'",
        b"\xff\xfe",
        json.dumps({**foreign, "schema": 99}).encode(),
        json.dumps({**foreign, "record": "hush"}).encode(),
        json.dumps({**foreign, "fields": {**foreign["fields"], "origin": "hush"}}).encode(),
        json.dumps({**foreign, "fields": {**foreign["fields"], "id": "hush" * 20}}).encode(),
        json.dumps({**foreign, "fields": {**foreign["fields"], "at": "hush"}}).encode(),
        b"",
    ]
    body = b"\n".join([lines(good[:1]).strip(), *bad, lines(good[1:]).strip()])
    async with running.client(**BATCH) as client:
        answer = await client.post("/v1/records", content=body)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 3
    assert [one["index"] for one in answer.json()["rejected"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "hush" not in answer.text + caplog.text
    assert stored(running) == sorted(record.id for record in good)


async def test_unknown_fields_are_ignored(running: Team) -> None:
    session = some_records(1)[0]
    line = json.loads(encode(session))
    line["fields"]["invented_later"] = 1
    async with running.client(**BATCH) as client:
        answer = await client.post("/v1/records", content=json.dumps(line))
    assert answer.json() == {"accepted": 1, "rejected": []}
    assert stored(running) == [session.id]


async def test_rows_are_those_of_the_token_whatever_the_client_says(running: Team) -> None:
    token = running.mint(Role.INGEST, "ada")
    async with running.client(token.text, **BATCH) as client:
        assert (await client.post("/v1/records", content=lines(some_records(2, running.key_of("bob"))))).status_code == 200
    assert running.parts.log.flush(120)
    assert [one.user_key for one in running.parts.database.repository.stream(Session)] == [running.key_of("ada")]


async def test_nobody_adds_to_somebody_elses_session(running: Team) -> None:
    ada, bob = running.mint(Role.INGEST, "ada").text, running.mint(Role.INGEST, "bob").text
    session, *incidents = some_records(4)
    own = some_records(2)
    async with running.client(ada, **BATCH) as one, running.client(bob, **BATCH) as other:
        assert (await one.post("/v1/records", content=lines([session, incidents[0]]))).json()["accepted"] == 2

        async def refused(server: Team) -> None:
            async with server.client(bob, **BATCH) as client:
                body = lines([own[0], incidents[1], session, own[1]])
                answer = (await client.post("/v1/records", content=body)).json()
            assert answer["accepted"] == 2
            assert [(bad["index"], bad["code"]) for bad in answer["rejected"]] == [(1, "not_yours"), (2, "not_yours")]
            assert session.id not in str(answer)

        await refused(running)  # this worker took it
        assert running.parts.log.flush(120)
        another = built(home(), running.parts.settings)
        async with another.running():
            await refused(another)  # this one finds it in the database
        assert (await one.post("/v1/records", content=lines([incidents[2]]))).json()["accepted"] == 1
        assert (await other.post("/v1/records", content=lines([incidents[2]]))).json()["accepted"] == 0
    assert stored(running) == sorted(record.id for record in [session, incidents[0], incidents[2], *own])


async def test_what_the_disk_does_not_take_is_not_acknowledged() -> None:
    log = MemoryLog()
    team = built(home(), TeamSettings(), log)
    async with team.client(**BATCH) as client:
        log.failing = True
        answer = await client.post("/v1/records", content=lines(some_records(2)))
        assert (answer.status_code, answer.headers["Retry-After"], answer.json()["code"]) == (503, "2", "unavailable")
        log.failing = False
        assert (await client.post("/v1/records", content=lines(some_records(2)))).json()["accepted"] == 2
    team.parts.database.close()


SMALL = TeamSettings(limits=Limits(body_bytes=20_000, unpacked_bytes=30_000, line_bytes=1000, records=60))


@pytest.mark.parametrize("settings", [SMALL])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"x" * 20_001, {}, 413, "too_large"),
        (gzip.compress(b"x" * 30_001), {"Content-Encoding": "gzip"}, 413, "too_large"),
        (gzip.compress(b"\n" * 200) * 160, {"Content-Encoding": "gzip"}, 413, "too_large"),  # many members
        (b"\n" * 61, {}, 413, "too_large"),
        (gzip.compress(b"x" * 100)[:-4], {"Content-Encoding": "gzip"}, 400, "malformed"),
        (b"plain", {"Content-Encoding": "gzip"}, 400, "malformed"),
        (b"x", {"Content-Encoding": "br"}, 415, "coding"),
        (b"x", {"Content-Type": "text/plain"}, 415, "media_type"),
        (b"x", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "media_type"),
    ],
)
async def test_what_cannot_be_a_batch_is_refused(running: Team, body: bytes, headers, status: int, code: str) -> None:
    async with running.client(**BATCH) as client:
        answer = await client.post("/v1/records", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("settings", [SMALL])
async def test_a_record_that_is_too_large_is_rejected_alone(running: Team) -> None:
    records: list[Record] = some_records(3)
    assert isinstance(records[1], Incident)
    records[1] = replace(records[1], message="x" * 1000)
    async with running.client(**BATCH) as client:
        answer = (await client.post("/v1/records", content=lines(records))).json()
    assert answer["accepted"] == 2
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [(1, "too_large")]
