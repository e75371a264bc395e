"""`coderl why` and the looks at the log for drift: on a real database, without a server."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from coderl_gate.drift import judgement
from coderl_gate.synthetic import World, knowing
from coderl_server.doctor import State, examine
from coderl_server.drifting import alarms, drifts_of
from coderl_server.errors import InputError
from coderl_server.explaining import explain
from coderl_store.clock import VirtualClock
from coderl_store.home import default_database_url
from coderl_store.records import Origin
from coderl_store.repository import LoggedRequest, Repository


def written(home: Path, requests: list[LoggedRequest]) -> str:
    """A database with the requests, in the data folder; its URL."""
    home.mkdir(parents=True, exist_ok=True)
    url = default_database_url(home)
    repository = Repository(url)
    for one in requests:
        records = [one.session, one.context, one.decision, one.suggestion, one.outcome, *one.survival]
        repository.append(record for record in records if record is not None)
    repository.close()
    return url


def after(requests: list[LoggedRequest]) -> datetime:
    return requests[-1].decision.at + timedelta(seconds=30)


def clock_at(moment: datetime) -> VirtualClock:
    clock = VirtualClock()
    clock.advance_to(moment.timestamp())
    return clock


def test_the_last_decisions_with_what_became_of_them(own_home: Path) -> None:
    requests = list(World(users=1, requests_per_user=30).requests())
    url = written(own_home, requests)
    found = explain(5, database=url, clock=clock_at(after(requests)))
    assert [one.decision.id for one in found.requests] == [one.decision.id for one in requests[-5:]]
    told = json.loads(json.dumps(found.to_json()))
    last = told["decisions"][-1]
    assert last["id"] == requests[-1].decision.id
    assert last["p1"] == requests[-1].decision.p1
    assert {"sentence", "text", "outcome", "tau", "p2", "costs", "expected_costs", "reason", "eagerness", "adaptation"} <= set(
        last
    )


def test_adaptation_is_that_of_the_last_session(own_home: Path) -> None:
    requests = list(World(users=3, requests_per_user=20).requests())
    url = written(own_home, requests)
    found = explain(1, database=url, clock=clock_at(after(requests)))
    mine = [one for one in requests if one.session.id == requests[-1].session.id]
    judged = [one for one in mine if judgement(one.decision, one.outcome, "u") is not None]
    assert found.adaptation.counted == min(10, len(judged)) > 0
    assert found.adaptation.kept == sum(one.outcome is not None and one.outcome.kept for one in judged[-10:])
    assert found.adaptation.weight < found.adaptation.counted


def test_an_empty_log_is_said_and_simulated_sessions_only_on_request(own_home: Path) -> None:
    requests = list(World(users=1, requests_per_user=5, origin=Origin.SIMULATED).requests())
    url = written(own_home, requests)
    with pytest.raises(InputError, match=r"no decision yet.*--include-simulated"):
        explain(1, database=url)
    assert len(explain(3, database=url, include_simulated=True).requests) == 3


def test_it_renders_for_people(own_home: Path, tmp_path: Path) -> None:
    requests = list(World(users=1, requests_per_user=30).requests())
    url = written(own_home, requests)
    with (tmp_path / "nowhere").open("w") as file:
        console = Console(width=200, record=True, file=file)
        explain(4, database=url, clock=clock_at(after(requests))).render(console)
        text = console.export_text()
    assert "The last 4 decisions" in text
    assert requests[-1].decision.reason.value in text
    assert "Adaptation" in text


def test_a_gate_that_errs_alarms_and_one_that_is_right_does_not(own_home: Path) -> None:
    right = list(World(users=8, requests_per_user=40).requests())
    wrong = list(World(users=8, requests_per_user=40, seed=7).requests(artifact=knowing(shift=2.5)))
    for requests, expected in ((right, False), (wrong, True)):
        url = written(own_home / str(expected), requests)
        repository = Repository(url)
        found = drifts_of(repository, after(requests))
        assert drifts_of(repository, after(requests), stopped=lambda: True) == ()
        assert drifts_of(repository, after(requests) + timedelta(days=365)) == ()
        repository.close()
        assert any(drift.alarm for drift in found) is expected
        assert bool(alarms(url, after(requests), lambda: False)) is expected


def test_the_doctor_says_the_alarm_with_its_cure(own_home: Path) -> None:
    requests = list(World(users=8, requests_per_user=40, seed=7).requests(artifact=knowing(shift=2.5)))
    late = datetime.now(UTC) - requests[-1].decision.at - timedelta(hours=1)
    written(own_home, [moved(one, late) for one in requests])
    (line,) = [finding for finding in examine().findings if finding.name == "Drift"]
    assert line.state is State.MISSING
    assert "ALARM" in line.text
    assert "gate-calibrate" in line.cure


def moved(one: LoggedRequest, by: timedelta) -> LoggedRequest:
    """The request as if it had happened later."""
    outcome = None if one.outcome is None else replace(one.outcome, at=one.outcome.at + by)
    return replace(
        one,
        session=replace(one.session, at=one.session.at + by),
        context=replace(one.context, at=one.context.at + by),
        decision=replace(one.decision, at=one.decision.at + by),
        outcome=outcome,
    )
