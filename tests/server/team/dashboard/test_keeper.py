"""The sums that pages read: made, made again where something came, shared by workers, and quiet while the database is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.logged import records_of

from coderl_gate.synthetic import World
from coderl_server.team.dashboard import periods
from coderl_server.team.dashboard.keeper import HONEST, LOOK_S, Keeper
from coderl_server.team.dashboard.visit import Scope
from coderl_server.team.database import Database
from coderl_store.clock import utc
from coderl_store.daily import Daily
from coderl_store.repository import Repository

from ..conftest import Team

REQUESTS = list(World(users=6, requests_per_user=30).requests())


@pytest.fixture
def repository(team: Team, either_database: str) -> Iterator[Repository]:
    """The log of a server that does not run."""
    opened = Repository(either_database)
    team.clock.advance_to(REQUESTS[-1].decision.at.timestamp() + 60)
    yield opened
    opened.close()


@pytest.fixture
def keeper(team: Team, repository: Repository, either_database: str) -> Iterator[Keeper]:
    database = Database(either_database)
    yield Keeper(replace(team.parts, database=database))
    database.close()


def test_an_empty_log_is_left_alone(keeper: Keeper, repository: Repository) -> None:
    assert keeper.refresh() == 0
    assert Daily(repository.engine).figure(HONEST) is None


def test_days_are_summed_once_and_again_after_new_records(keeper: Keeper, repository: Repository) -> None:
    repository.append(records_of(REQUESTS[:100]))
    assert keeper.refresh() == 1
    assert keeper.refresh() == 0
    daily = Daily(repository.engine)
    assert daily.sums(("day",)).popitem()[1].requests == 100
    repository.append(records_of(REQUESTS))
    assert keeper.refresh(everything=False) == 1
    assert sum(one.requests for one in daily.sums(("user_key",)).values()) == 180


def test_a_period_made_beforehand_says_what_is_added_up_now(team: Team, keeper: Keeper, repository: Repository) -> None:
    repository.append(records_of(REQUESTS))
    keeper.refresh()
    daily, now = Daily(repository.engine), utc(team.clock.now_s())
    kept = periods.period(daily, Scope(None, 5), now.date(), 30)
    live = periods.live(daily, None, now.date(), 30)
    assert (kept.made_at, live.made_at) == (now, None)
    assert (kept.days, kept.sums, kept.total.requests) == (live.days, live.sums, 180)
    assert {name: {key: set(users) for key, users in part.items()} for name, part in kept.members.items()} == live.members
    tomorrow = periods.period(daily, Scope(None, 5), now.date() + timedelta(days=1), 30)
    assert tomorrow.made_at is None
    assert periods.period(daily, Scope("user-1", 1), now.date(), 30).total.requests == 30
    repository.erase("user-1")
    assert periods.period(daily, Scope(None, 5), now.date(), 30).users == {f"user-{index}" for index in (0, 2, 3, 4, 5)}


def test_what_another_worker_has_just_summed_is_left_to_it(team: Team, keeper: Keeper, repository: Repository) -> None:
    repository.append(records_of(REQUESTS))
    keeper._look()
    assert not repository.append(records_of(REQUESTS))
    other = Keeper(keeper._parts)
    other._looks = 1
    assert other._done_by_another()
    team.clock.advance_to(team.clock.now_s() + LOOK_S)
    assert not other._done_by_another()


def test_without_its_database_it_says_so_once(team: Team, repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(replace(team.parts, database=Database("sqlite:////nowhere/at/all.db")))
    with caplog.at_level(logging.WARNING):
        keeper._look()
        keeper._look()
    assert keeper.failed
    assert [record.message[:38] for record in caplog.records] == ["The pages' sums are not up to date: Th"]


def test_it_stops_between_days(keeper: Keeper, repository: Repository) -> None:
    repository.append(records_of(REQUESTS))
    keeper.close()
    assert keeper.refresh() == 0
    assert Daily(repository.engine).figure(HONEST) is None
