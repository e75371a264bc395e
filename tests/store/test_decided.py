"""Decisions without features and text: the same requests that `Repository.requests` joins, and ways to choose among them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.logged import records_of

from coderl_gate.synthetic import World
from coderl_store.decided import Decided, by_the_hour, read_decided
from coderl_store.overviews import failures, held, texts_of
from coderl_store.records import Incident, Origin, Severity
from coderl_store.repository import LoggedRequest, Repository

REQUESTS = list(World(users=6, requests_per_user=40).requests())


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    opened = Repository(database_url)
    opened.append(records_of(REQUESTS))
    yield opened
    opened.close()


def plain(one: LoggedRequest) -> Decided:
    costs, expected = one.decision.costs, one.decision.expected_costs
    names = ("t_wait_s", "t_verify_s", "t_write_s", "t_edit_s")
    timings = one.decision.timings
    return Decided(
        one.decision.id, one.decision.at, one.session.id, one.session.user_key, one.context.language, one.context.trigger,
        one.decision.generator_id, one.decision.gate_id, one.decision.route, one.decision.stage, one.decision.action,
        one.decision.reason, one.decision.p1, one.decision.p2, one.decision.tau_before, one.decision.tau, one.decision.h_bits,
        one.decision.eagerness, one.decision.epsilon_withhold, one.decision.propensity,
        None if expected is None else {name: getattr(expected, name) for name in names},
        None if costs is None else {name: getattr(costs, name) for name in names},
        {name: getattr(timings, name) for name in ("gate_before_ms", "generate_ms", "gate_after_ms", "total_ms")},
        one.suggestion and one.suggestion.chars, one.suggestion and one.suggestion.lines,
        one.outcome and one.outcome.kind, one.outcome and one.outcome.evidence,
        one.outcome and one.outcome.accepted_chars, one.outcome and one.outcome.visible_ms,
    )  # fmt: skip


def test_it_reads_what_the_log_joins_the_latest_first(repository: Repository) -> None:
    expected = [plain(one) for one in repository.requests()]
    assert len(expected) == 240
    assert read_decided(repository.engine) == expected[::-1]


def test_what_became_of_a_request_is_said_as_by_its_outcome(repository: Repository) -> None:
    by_id = {row.id: row for row in read_decided(repository.engine)}
    kinds = set()
    for one in REQUESTS:
        row = by_id[one.decision.id]
        assert row.seen == (one.outcome is not None and one.outcome.seen)
        assert row.kept == (one.outcome is not None and one.outcome.kept)
        kinds.add((row.shown, row.seen, row.kept))
    assert {(False, False, False), (True, True, False), (True, True, True)} <= kinds


def test_it_can_be_asked_for_a_part(repository: Repository) -> None:
    engine, rows = repository.engine, read_decided(repository.engine)
    middle = rows[100].at
    assert read_decided(engine, since=middle) == rows[:101]
    assert read_decided(engine, until=middle) == rows[101:]
    assert read_decided(engine, newest=10, skip=5) == rows[5:15]
    assert read_decided(engine, user_key="user-2") == [row for row in rows if row.user_key == "user-2"] != []
    assert read_decided(engine, action="withhold") == [row for row in rows if not row.shown] != []
    reason = next(row.reason for row in rows if not row.shown)
    assert read_decided(engine, reasons=[reason]) == [row for row in rows if row.reason == reason]
    assert read_decided(engine, languages=["cobol"]) == []
    assert read_decided(engine, languages=[rows[0].language]) == [row for row in rows if row.language == rows[0].language]
    assert read_decided(engine, judged=True) == [row for row in rows if row.shown and row.outcome is not None]
    assert read_decided(engine, decision_id=rows[7].id) == [rows[7]]
    assert read_decided(engine, decision_id=rows[7].id, user_key="somebody else") == []
    assert read_decided(engine, origins=[Origin.SIMULATED]) == []


def test_hour_by_hour_it_is_the_same(repository: Repository) -> None:
    rows = read_decided(repository.engine)
    first, last = rows[-1].at, rows[0].at
    for since, until in ((first, last + timedelta(seconds=1)), (first + timedelta(minutes=7), last - timedelta(minutes=3))):
        expected = read_decided(repository.engine, since=since, until=until)
        found = list(by_the_hour(repository.engine, since, until))
        assert len({row.at.replace(minute=0, second=0, microsecond=0) for row in found}) > 1
        assert sorted(found, key=lambda row: (row.at, row.id), reverse=True) == expected
    assert list(by_the_hour(repository.engine, last, first)) == []


def test_a_share_is_about_that_share_and_always_the_same(repository: Repository) -> None:
    third = read_decided(repository.engine, share=1 / 3)
    assert 50 < len(third) < 110  # five standard deviations of 240 draws
    assert read_decided(repository.engine, share=1 / 3) == third
    assert {row.id for row in third} <= {row.id for row in read_decided(repository.engine, share=0.6)}
    assert read_decided(repository.engine, share=0.0) == []


def test_what_is_held_about_somebody_is_counted(repository: Repository) -> None:
    mine = [one for one in REQUESTS if one.session.user_key == "user-3"]
    found = held(repository.engine, "user-3")
    assert found.rows == len(records_of(mine))
    assert found.counts["decisions"] == 40
    assert (found.first, found.last) == (mine[0].decision.at, mine[-1].decision.at)
    assert found.texts == 0
    assert held(repository.engine, "nobody").rows == 0


def test_a_text_is_none_where_it_was_not_recorded(repository: Repository) -> None:
    found = texts_of(repository.engine, REQUESTS[0].decision.id)
    assert found is not None
    assert (found.prefix, found.suffix, found.suggestion) == (None, None, None)
    assert texts_of(repository.engine, "nothing") is None


def test_failures_are_counted_by_code_the_most_frequent_first(repository: Repository) -> None:
    session = REQUESTS[0].session
    incidents = [
        Incident(f"i{index}", session.at + timedelta(hours=index), session.id, Severity.ERROR, code, "It ended.")
        for index, code in enumerate(["old", "rare", "often", "often"])
    ]
    repository.append(incidents)
    found = failures(repository.engine, session.at + timedelta(minutes=1))
    assert [(one.code, one.count, one.last) for one in found] == [("often", 2, incidents[3].at), ("rare", 1, incidents[1].at)]
    assert failures(repository.engine, session.at, "somebody else") == []
