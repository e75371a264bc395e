"""Reading lines per programmer from times that also contain other activities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_gate.contamination import MOST_ELSEWHERE
from coderl_gate.reading import ReadingFit, Rows, fit_reading

CLIP_S = 10.0


def made_up(
    share: float, *, users: int = 12, per_user: int = 300, spread: float = 0.2, seed: int = 0
) -> tuple[Rows, np.ndarray]:
    """Users who read at (0.5 + 0.02·n) times their own factor, in `share` of cases doing other things too; and the factors."""
    rng = np.random.default_rng(seed)
    factor = np.exp(rng.normal(0.0, spread, users))
    member = np.repeat(np.arange(users), per_user)
    n = len(member)
    chars = np.round(5 + rng.exponential(35, n))
    seconds = rng.gamma(2.0, (0.5 + 0.02 * chars) * factor[member] / 2.0)
    seconds += np.where(rng.random(n) < share, rng.exponential(20.0, n), 0.0)
    kept = (rng.random(n) < 0.4).astype(float)
    return Rows(chars, np.minimum(CLIP_S, seconds), kept, np.ones(n), member, users), factor


def mean_s(fit: ReadingFit, chars: float = 40.0) -> float:
    return float(fit.population[0] + fit.population[1] * chars)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2])
def test_the_lines_come_back_through_other_activities(share: float) -> None:
    rows, factor = made_up(share)
    fit = fit_reading(rows)
    truth = 1.3 * factor
    own = fit.own[:, 0] + fit.own[:, 1] * 40.0
    assert mean_s(fit) == pytest.approx(truth.mean(), rel=0.08)
    assert np.abs(own / truth - 1).mean() < 0.1
    assert np.corrcoef(own, truth)[0, 1] > 0.85
    clipped = float(np.average(rows.seconds))
    if share:
        assert abs(mean_s(fit, rows.chars.mean()) - 1.3 * factor.mean()) < 0.3 * abs(clipped - 1.3 * factor.mean())
        assert fit.elsewhere == pytest.approx(share, abs=0.04)


def test_without_other_activities_none_are_found() -> None:
    rows, _ = made_up(0.0)
    fit = fit_reading(rows)
    assert (fit.elsewhere, fit.reading.min()) == (0.0, 1.0)
    assert mean_s(fit, float(rows.chars.mean())) == pytest.approx(float(rows.seconds.mean()), rel=0.06)


def test_a_slow_reader_is_judged_by_their_own_line() -> None:
    rows, _ = made_up(0.1, spread=0.0, users=10)
    slow = rows.member == 0
    seconds = np.where(slow & (rows.seconds < 5), 2.0 * rows.seconds, rows.seconds)
    fit = fit_reading(Rows(rows.chars, seconds, rows.kept, rows.weight, rows.member, rows.users))
    own = fit.own[:, 0] + fit.own[:, 1] * 40.0
    assert own[0] == pytest.approx(2.6, rel=0.15)
    assert own[1:] == pytest.approx(np.full(9, 1.3), rel=0.15)


def test_what_is_thrown_out_does_not_change_the_balance_of_kept_and_rejected() -> None:
    """Kept suggestions are read twice as long, and only rejections contain something else."""
    rng = np.random.default_rng(4)
    n = 6000
    kept = (rng.random(n) < 0.4).astype(float)
    seconds = rng.gamma(2.0, np.where(kept == 1, 1.0, 0.5))
    seconds += np.where((kept == 0) & (rng.random(n) < 0.3), rng.exponential(20.0, n), 0.0)
    member = rng.integers(0, 10, n)
    fit = fit_reading(Rows(np.full(n, 30.0), np.minimum(CLIP_S, seconds), kept, np.ones(n), member, 10))
    assert mean_s(fit, 30.0) == pytest.approx(0.4 * 2.0 + 0.6 * 1.0, rel=0.08)


def test_users_without_rows_are_the_population_exactly() -> None:
    rows, _ = made_up(0.1, users=5)
    fit = fit_reading(Rows(rows.chars, rows.seconds, rows.kept, rows.weight, rows.member, 7))
    assert (fit.own[5:] == fit.population).all()


def test_times_that_are_all_zero_cost_nothing() -> None:
    n = 40
    fit = fit_reading(Rows(np.arange(n) + 1.0, np.zeros(n), np.zeros(n), np.ones(n), np.zeros(n, dtype=np.intp), 1))
    assert (fit.population == 0).all()
    assert fit.elsewhere == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(1, 6))
def test_whatever_the_times_are_the_lines_are_finite_and_not_negative(seed: int, zeros: float, users: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    seconds = np.where(rng.random(n) < zeros, 0.0, rng.exponential(rng.choice([0.001, 1.0, 100.0]), n))
    rows = Rows(
        chars=rng.integers(1, 500, n).astype(float),
        seconds=np.minimum(CLIP_S, seconds),
        kept=(rng.random(n) < rng.random()).astype(float),
        weight=rng.uniform(1, 20, n),
        member=rng.integers(0, users, n),
        users=users,
    )
    fit = fit_reading(rows)
    for values in (fit.population, fit.own):
        assert np.isfinite(values).all()
        assert (values >= 0).all()
    assert ((fit.reading >= 0) & (fit.reading <= 1)).all()
    assert 0 <= fit.elsewhere <= MOST_ELSEWHERE
