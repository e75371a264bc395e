"""Drift: silent about a gate that fits, loud about one that does not, streaming and repeatable."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_gate.adaptation import SPREAD_LOGITS
from coderl_gate.drift import MIN_JUDGED, WINDOW, WINDOW_DAYS, DriftMonitor, Judgement, drifts, gauges, judgement
from coderl_gate.margins import sigmoid
from coderl_gate.metrics import ece
from coderl_gate.synthetic import World
from coderl_store.records import Action, Outcome, OutcomeKind, Reason

START = datetime(2026, 11, 20, tzinfo=UTC)


def log(
    n: int,
    rng: random.Random,
    *,
    users: int = 5,
    truth: Callable[[float, int], float] = lambda p, user: p,
    generator: str = "g",
    first: int = 0,
) -> list[Judgement]:
    made = []
    for number in range(first, first + n):
        p, user = rng.uniform(0.2, 0.8), number % users
        kept = rng.random() < truth(p, user)
        made.append(Judgement(START + timedelta(minutes=number), f"u{user}", generator, "gate", p, kept))
    return made


def test_a_gate_that_fits_is_hardly_ever_accused() -> None:
    """100 worlds with programmers that differ as in CUPS: at most 3 alarms (one is expected)."""
    alarms = 0
    for seed in range(100):
        rng = random.Random(seed)
        own = [rng.gauss(0, SPREAD_LOGITS) for _ in range(3)]
        (found,) = drifts(log(150, rng, users=3, truth=lambda p, user, own=own: sigmoid(math.log(p / (1 - p)) + own[user])))
        alarms += found.alarm
    assert alarms <= 3


def test_a_generator_that_got_worse_is_noticed() -> None:
    for seed in range(10):
        (found,) = drifts(log(200, random.Random(seed), truth=lambda p, user: 0.25 * p))
        assert found.calibration_alarm
        assert found.p_value < 0.01
        assert found.ece - found.ece_if_perfect > 0.2
        assert "no longer fits" in found.sentence()


def test_a_small_error_is_no_alarm_however_significant() -> None:
    (found,) = drifts(log(WINDOW, random.Random(1), users=WINDOW, truth=lambda p, user: max(0.0, p - 0.03)))
    assert not found.alarm
    assert "fits" in found.sentence()


def test_few_judgements_are_no_alarm() -> None:
    (found,) = drifts(log(MIN_JUDGED - 1, random.Random(1), truth=lambda p, user: 0.0))
    assert not found.alarm
    (found,) = drifts(log(MIN_JUDGED, random.Random(1), truth=lambda p, user: 0.0))
    assert found.alarm


def test_a_change_of_acceptance_is_noticed_even_where_the_gate_went_along() -> None:
    rng = random.Random(3)
    before = [replace(one, p=0.6, kept=rng.random() < 0.6) for one in log(WINDOW, rng)]
    after = [replace(one, p=0.3, kept=rng.random() < 0.3) for one in log(WINDOW, rng, first=WINDOW)]
    (found,) = drifts(before + after)
    assert (found.acceptance_alarm, found.calibration_alarm) == (True, False)
    assert found.earlier_n == WINDOW
    assert "Acceptance has changed" in found.sentence()


def test_each_generator_has_a_window_of_its_own() -> None:
    rng = random.Random(0)
    good, bad = log(200, rng), log(200, rng, generator="h", truth=lambda p, user: 0.1 * p)
    mixed = [one for pair in zip(good, bad, strict=True) for one in pair]
    assert {found.generator_id: found.alarm for found in drifts(mixed)} == {"g": False, "h": True}


@given(st.integers(1, WINDOW + 50), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_the_window_is_the_last_decisions_and_the_ece_is_the_usual_one(n: int, seed: int) -> None:
    rows = log(n, random.Random(seed))
    (found,) = drifts(rows)
    last = rows[-WINDOW:]
    assert (found.n, found.earlier_n) == (len(last), n - len(last))
    assert found.ece == pytest.approx(ece([one.kept for one in last], [one.p for one in last]))
    assert found.acceptance == pytest.approx(sum(one.kept for one in last) / len(last))
    assert 0 < found.p_value <= 1
    assert drifts(rows) == (found,)


def test_what_is_older_than_the_window_leaves_it() -> None:
    monitor = DriftMonitor()
    old, new = log(2, random.Random(0))
    monitor.add(old)
    monitor.add(replace(new, at=old.at + timedelta(days=WINDOW_DAYS, seconds=1)))
    (found,) = monitor.drifts()
    assert (found.n, found.earlier_n) == (1, 1)


def test_nothing_judged_is_nothing_said() -> None:
    assert drifts([]) == ()
    assert gauges(()) == {}


def test_the_gauges_are_plain_and_labelled() -> None:
    found = drifts([*log(60, random.Random(0)), *log(60, random.Random(1), generator="h")])
    made = gauges(found)
    assert {entry["labels"]["generator"] for entry in made["coderl_gate_ece_ratio"]} == {"g", "h"}
    assert [entry["value"] for entry in made["coderl_gate_window_decisions"]] == [60, 60]


def test_only_what_was_shown_unasked_seen_and_judged_says_something() -> None:
    request = next(one for one in World(users=1).requests() if one.outcome is not None)
    decision, outcome = request.decision, request.outcome
    assert outcome is not None
    found = judgement(decision, outcome, "u")
    assert found is not None
    assert found.p in (decision.p1, decision.p2)
    assert found.kept == outcome.kept
    silent: list[tuple[object, Outcome | None]] = [
        (decision, None),
        (decision, replace(outcome, kind=OutcomeKind.NOT_SEEN)),
        (replace(decision, action=Action.WITHHOLD), outcome),
        (replace(decision, reason=Reason.ASKED_FOR), outcome),
        (replace(decision, p1=None, p2=None), outcome),
    ]
    assert all(judgement(one, end, "u") is None for one, end in silent)  # type: ignore[arg-type]  # a list of variants
