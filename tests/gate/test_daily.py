"""Sums of days against the replay, which reckons the same from the whole requests, and against a known truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.logged import records_of

from coderl_gate.costs import CostParameters
from coderl_gate.daily import against_showing_all, realised_of, sums_of, weighable
from coderl_gate.dataset import kept_chars_of
from coderl_gate.drift import judgement
from coderl_gate.honesty import honesty, judgement_of
from coderl_gate.policy import Policy, Rule
from coderl_gate.replay import replay
from coderl_gate.synthetic import World, knowing
from coderl_store.day_sums import DaySums, total
from coderl_store.decided import Decided, read_decided
from coderl_store.repository import LoggedRequest, Repository

EXPLORING = Policy(0.5, epsilon_skip=0.3, epsilon_withhold=0.3)
WORLD = World(users=20, requests_per_user=50, seed=4)
SHOW_ALL = Policy(0.5, rule=Rule.ALWAYS_SHOW)


def decided(requests: Sequence[LoggedRequest], path: Path) -> list[Decided]:
    """The requests as they come out of a database."""
    repository = Repository(f"sqlite:///{path}")
    try:
        repository.append(records_of(requests))
        return read_decided(repository.engine)
    finally:
        repository.close()


@pytest.fixture(scope="module")
def log() -> list[LoggedRequest]:
    return list(WORLD.requests(knowing(), EXPLORING))


@pytest.fixture(scope="module")
def rows(log: list[LoggedRequest], tmp_path_factory: pytest.TempPathFactory) -> list[Decided]:
    return decided(log, tmp_path_factory.mktemp("daily") / "coderl.db")


def grouped(rows: Sequence[Decided], name: str) -> dict[str, DaySums]:
    found: dict[str, DaySums] = {}
    for part, sums in sums_of(rows).items():
        found.setdefault(getattr(part, name), DaySums()).add(sums)
    return found


def test_every_request_is_counted_once(log: list[LoggedRequest], rows: list[Decided]) -> None:
    sums = total(sums_of(rows).values())
    assert (sums.requests, sums.weighed, sums.settled) == (1000, 1000, 0)
    assert sums.shown + sum(sums.reasons.values()) == 1000 == sums.shown + sums.withheld
    assert sums.kept == sum(one.outcome.kept for one in log if one.outcome is not None)
    assert sums.seen == sums.priced == sum(one.outcome is not None and one.outcome.seen for one in log)
    assert sums.by_command + sums.by_notification + sums.by_inferred + sums.by_timeout + sums.by_imported == sums.seen


def test_kept_characters_are_those_of_calibration(log: list[LoggedRequest], rows: list[Decided]) -> None:
    expected = {one.decision.id: kept_chars_of(one) for one in log}
    assert {row.id: row.kept_chars for row in rows} == expected


def test_the_comparison_is_that_of_the_replay(log: list[LoggedRequest], rows: list[Decided]) -> None:
    report = replay(log, knowing(), SHOW_ALL, truth=CostParameters())
    found = against_showing_all(grouped(rows, "user_key"), grouped(rows, "day"))
    assert found is not None
    assert found.n == report.n
    assert found.logged == pytest.approx(report.logged)
    assert found.robust.estimate == pytest.approx(report.estimators["dr"].estimate)
    assert found.overlap == pytest.approx(report.overlap) == 1.0
    assert found.show_all.estimate == pytest.approx(report.seconds.estimate, abs=0.02)  # the replay estimates how much is shown
    assert found.clusters == "programmers"


def test_the_interval_holds_the_truth(rows: list[Decided]) -> None:
    found = against_showing_all(grouped(rows, "user_key"), grouped(rows, "day"))
    assert found is not None
    truth = WORLD.value_s(knowing(), SHOW_ALL, CostParameters())
    for interval in (found.show_all, found.robust):
        slack = 0.6 * (interval.high - interval.low)
        assert interval.low - slack <= truth <= interval.high + slack
    assert found.modelled == pytest.approx(found.logged - truth, abs=0.2)  # the gate knows the truth, so its word is good


def test_a_log_without_trials_cannot_tell(tmp_path: Path) -> None:
    silent = decided(list(WORLD.requests(knowing(), Policy(0.5))), tmp_path / "coderl.db")
    found = against_showing_all(grouped(silent, "user_key"), grouped(silent, "day"))
    assert found is not None
    assert found.overlap < 0.95
    assert found.verdict == "refused"


def test_with_few_programmers_days_are_drawn(rows: list[Decided]) -> None:
    few = [row for row in rows if row.user_key in ("user-0", "user-1")]
    found = against_showing_all(grouped(few, "user_key"), grouped(few, "day"))
    assert found is not None
    assert found.clusters == "days"
    assert against_showing_all({}, {}) is None
    assert against_showing_all({"u": DaySums(requests=3)}, {}) is None


def test_what_cannot_be_compared_is_left_out(rows: list[Decided]) -> None:
    shown = next(row for row in rows if row.shown and row.seen)
    for change in (
        {"stage": "rule"}, {"trigger": "invoked"}, {"propensity": math.nan}, {"propensity": 0.0}, {"p1": None},
        {"expected_costs": None}, {"costs": None}, {"outcome": None}, {"chars": 0},
    ):  # fmt: skip
        assert not weighable(replace(shown, **change)), change
    assert weighable(shown)
    assert realised_of(replace(shown, outcome="not_seen")) is None
    assert realised_of(replace(shown, costs=None)) is None


def test_honesty_judges_what_drift_judges(log: list[LoggedRequest], rows: list[Decided]) -> None:
    expected = [judgement(one.decision, one.outcome, one.session.user_key) for one in log]
    by_id = {row.id: judgement_of(row) for row in rows}
    assert [by_id[one.decision.id] for one in log] == expected
    assert any(one is not None for one in expected)
    assert any(one is None for one in expected)


def test_honesty_tells_a_true_gate_from_a_hopeful_one(rows: list[Decided], tmp_path: Path) -> None:
    wrong = decided(list(WORLD.requests(knowing(shift=2.0), EXPLORING)), tmp_path / "coderl.db")
    true, hopeful = honesty(rows), honesty(wrong)
    assert [stage.name for stage in true.stages] == ["Before generation (p1)", "After generation (p2)"]
    assert true.stages[1].ece < 0.08 < 0.2 < hopeful.stages[1].ece
    assert not any(one.alarm for one in true.drifts)
    assert any(one.calibration_alarm for one in hopeful.drifts)
    assert true.users == tuple(sorted({row.user_key for row in rows if row.seen}))
    plain = true.to_json()
    assert plain["stages"][0]["curve"][0] == asdict(true.stages[0].curve[0])
    assert not any(user in repr(plain) for user in true.users)
    assert honesty([]).stages == ()
