"""The journal: what is written at which level, what is told and how often."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from coderl_server.journal import MOST_INCIDENTS, Journal
from coderl_store.clock import VirtualClock, utc
from coderl_store.ids import IdSource
from coderl_store.memory import MemoryLog
from coderl_store.records import Incident, Privacy, Severity, Survival


class Desk:
    """A journal with its surroundings."""

    def __init__(self, privacy: Privacy = Privacy.CODE) -> None:
        self.clock = VirtualClock()
        self.ids = IdSource(self.clock, random.Random(0))
        self.log = MemoryLog(Privacy.CODE)
        self.journal = Journal(self.log, self.clock, self.ids, "session", privacy)
        self.told: list[str] = []

    def survival(self) -> Survival:
        return Survival(self.ids.new(), utc(self.clock.now_s()), "session", "suggestion", 15.0, 1.0)


def test_ids_are_told_once_they_are_safe() -> None:
    desk = Desk()
    safe: list[str] = []
    desk.journal.on_recorded = safe.extend
    one, two = desk.survival(), desk.survival()
    desk.journal.write(one, two)
    assert safe == [one.id, two.id]
    assert desk.log.records == (one, two)


def test_at_level_off_nothing_is_written_and_nothing_is_called_safe() -> None:
    desk = Desk(Privacy.OFF)
    desk.journal.on_recorded = pytest.fail
    desk.journal.write(desk.survival())
    desk.journal.incident(Severity.ERROR, "x", "Something failed.")
    assert desk.log.records == ()


def test_the_programmer_is_told_once_per_code_but_all_is_logged() -> None:
    desk = Desk()
    desk.journal.listen(desk.told.append)
    for message in ("first", "second", "first"):
        desk.journal.incident(Severity.WARNING, "code", message)
    desk.journal.incident(Severity.WARNING, "other", "third")
    assert desk.told == ["first", "third"]
    assert [record.message for record in desk.log.records] == ["first", "second", "first", "third"]


def test_incidents_that_come_with_every_key_are_logged_once() -> None:
    desk = Desk()
    for _ in range(100):
        desk.journal.incident_once(Severity.ERROR, "code", "first")
        desk.journal.incident_once(Severity.ERROR, "code", "second")
    assert [record.message for record in desk.log.records] == ["first", "second"]
    for number in range(2 * MOST_INCIDENTS):
        desk.journal.incident_once(Severity.ERROR, "code", str(number))
    assert len(desk.log.records) == MOST_INCIDENTS


def test_what_was_said_before_anybody_listened_is_said_then() -> None:
    desk = Desk()
    desk.journal.incident(Severity.ERROR, "early", "Too early.")
    desk.journal.listen(desk.told.append)
    assert desk.told == ["Too early."]
    desk.journal.listen(desk.told.append)
    assert desk.told == ["Too early."]


def test_a_log_that_fails_is_told_once_and_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.journal.listen(desk.told.append)
    desk.journal.on_recorded = pytest.fail
    desk.log.failing = True
    for _ in range(3):
        desk.journal.write(desk.survival())
    assert len(desk.told) == 1
    assert desk.told[0].startswith("The log cannot be written: ")


@pytest.mark.parametrize(
    ("severity", "level"), [(Severity.INFO, "INFO"), (Severity.WARNING, "WARNING"), (Severity.ERROR, "ERROR")]
)
def test_an_incident_reaches_standard_error_at_its_own_level(
    caplog: pytest.LogCaptureFixture, severity: Severity, level: str
) -> None:
    desk = Desk()
    with caplog.at_level(logging.DEBUG):
        desk.journal.incident(severity, "code", "Something happened.")
    assert [record.levelname for record in caplog.records] == [level]
    incident: Any = desk.log.records[-1]
    assert isinstance(incident, Incident)
    assert incident.severity is severity


async def test_within_an_event_loop_the_answer_goes_first_and_the_rows_follow_in_order() -> None:
    desk = Desk()
    rows = [desk.survival() for _ in range(3)]
    order: list[str] = []
    desk.journal.on_recorded = order.extend

    async def answering() -> None:
        desk.journal.write(rows[0])
        desk.journal.write(rows[1], rows[2])

    task = asyncio.ensure_future(answering())
    task.add_done_callback(lambda _: order.append("answer"))
    await asyncio.sleep(0.01)
    assert order == ["answer", *(row.id for row in rows)]


async def test_what_waits_is_handed_over_before_a_flush() -> None:
    desk = Desk()
    row = desk.survival()
    desk.journal.write(row)
    assert desk.log.records == ()
    assert await asyncio.to_thread(desk.journal.flush, 1.0)
    assert desk.log.records == (row,)
