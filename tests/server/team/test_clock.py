"""Clocks that jump, the server's and the editors': nothing is refused for it, nothing lost, and the order stays one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from coderl_server.team.access import FRESH_S
from coderl_store.members import Role
from coderl_store.records import Incident, Session

from .conftest import NDJSON, Team, lines, some_records

pytestmark = pytest.mark.usefixtures("either_database")
BATCH = {"Content-Type": NDJSON}


async def test_an_editor_whose_clock_is_anywhere_is_heard_and_read_back_in_order(running: Team) -> None:
    session, first, *rest = some_records(5)
    moments = [datetime(1, 1, 2, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)]
    jumping = [replace(record, at=at) for record, at in zip(rest, reversed(moments), strict=True)]
    async with running.client(**BATCH) as client:
        answer = await client.post("/v1/records", content=lines([session, first, *jumping]))
        assert answer.json() == {"accepted": 5, "rejected": []}
        assert running.parts.log.flush(120)
        assert len((await client.get("/v1/me/records")).text.splitlines()) == 5
    read = [record.at for record in running.parts.database.repository.stream(Incident)]
    assert read == sorted([first.at, *moments])


async def test_a_server_whose_clock_jumps_goes_on(running: Team) -> None:
    lasting = running.mint(Role.INGEST, "ada").text
    brief = running.tokens.create(Role.INGEST, "bob", timedelta(days=1)).text
    async with running.client(lasting, **BATCH) as ada, running.client(brief, **BATCH) as bob:
        for jump_s in (0.0, FRESH_S + 1, 400 * 86_400.0, -1e9):  # it never goes back: what says so is ignored
            running.clock.advance_to(running.clock.now_s() + jump_s)
            assert (await ada.post("/v1/records", content=lines(some_records(3)))).json()["accepted"] == 3
        assert (await bob.get("/v1/me")).status_code == 401
    assert running.parts.log.flush(120)
    assert len(list(running.parts.database.repository.stream(Session))) == 4
