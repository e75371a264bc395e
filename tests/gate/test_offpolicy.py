"""The estimators against worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.errors import DataError
from coderl_gate.offpolicy import (
    clipped_ips,
    cluster_bootstrap,
    doubly_robust,
    effective_sample_size,
    ips,
    snips,
    studentised_bootstrap,
)


def bandit(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray, float]:
    """Rewards and weights of a two-armed logged bandit, and the target's true value."""
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    logging, target = 0.2 + 0.6 * x, 0.9 - 0.7 * x
    arm = rng.random(n) < logging
    mean = 1.0 + np.where(arm, x, 0.3)
    rewards = mean + rng.normal(0, 0.1, n)
    weights = np.where(arm, target / logging, (1 - target) / (1 - logging))
    return rewards, weights, 1.0 + float(np.mean(target * x + (1 - target) * 0.3))


def test_ips_and_snips_are_right_on_average() -> None:
    errors = []
    for seed in range(40):
        rewards, weights, truth = bandit(seed)
        errors.append((ips(rewards, weights) - truth, snips(rewards, weights) - truth))
    bias = np.mean(errors, axis=0)
    spread = np.std(errors, axis=0)
    assert (np.abs(bias) < 4 * spread / np.sqrt(40)).all()
    assert spread[1] < spread[0]  # what normalising is for


def test_clipping_biases_towards_zero_and_saves_variance() -> None:
    rng = np.random.default_rng(1)
    rewards, weights = np.ones(1000), np.where(rng.random(1000) < 0.02, 50.0, 0.0)
    assert clipped_ips(rewards, weights, clip=10.0) < ips(rewards, weights)
    assert clipped_ips(rewards, weights, clip=100.0) == ips(rewards, weights)


def test_snips_of_a_covered_part_uses_the_parts_own_mass() -> None:
    # Showing pays 2, silence pays 0 and is not logged; the target shows 30 % of the time.
    weights = np.array([0.3, 0.3, 0.3, 0.3])
    assert snips(np.full(4, 2.0), weights, expected_weight=0.3) == pytest.approx(0.6)


def test_snips_without_any_weight() -> None:
    assert snips(np.ones(3), np.zeros(3), expected_weight=0.0) == 0.0
    assert np.isnan(snips(np.ones(3), np.zeros(3), expected_weight=0.5))


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=50), st.floats(0.1, 10))
def test_effective_sample_size_lies_between_one_and_n_and_ignores_scale(weights: list[float], scale: float) -> None:
    array = np.array(weights)
    ess = effective_sample_size(array)
    assert 1 - 1e-9 <= ess <= len(weights) + 1e-9
    assert effective_sample_size(scale * array) == pytest.approx(ess)


def test_effective_sample_size_of_equal_weights_is_n() -> None:
    assert effective_sample_size(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_sample_size(np.zeros(7)) == 0.0


def test_doubly_robust_needs_only_one_of_its_two_parts() -> None:
    """Right on average with a wrong model and exact weights, and with a right model and wrong weights; wrong with neither."""
    errors = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.random(4000)
        logging, target = 0.2 + 0.6 * x, 0.9 - 0.7 * x
        acted = rng.random(4000) < logging
        rewards = np.where(acted, 1.0 + x, 0.3) + rng.normal(0, 0.1, 4000)
        weights = np.where(acted, target / logging, (1 - target) / (1 - logging))
        truth = float(np.mean(target * (1.0 + x) + (1 - target) * 0.3))
        right = np.where(acted, 1.0 + x, 0.3), target * (1.0 + x) + (1 - target) * 0.3
        wrong = np.where(acted, 0.5, 0.9), target * 0.5 + (1 - target) * 0.9
        errors.append(
            [
                doubly_robust(rewards, weights, *wrong) - truth,
                doubly_robust(rewards, np.full(4000, 1.7), *right) - truth,
                doubly_robust(rewards, np.full(4000, 1.7), *wrong) - truth,
                doubly_robust(rewards, weights, *right) - truth,
            ]
        )
    bias, spread = np.mean(errors, axis=0), np.std(errors, axis=0)
    assert (np.abs(bias[[0, 1, 3]]) < 4 * spread[[0, 1, 3]] / np.sqrt(40)).all()
    assert abs(bias[2]) > 0.05
    assert spread[3] < 0.5 * spread[0]  # what a right model is for


def _mean(sums: np.ndarray) -> np.ndarray:
    return sums[0] / sums[1]


def test_drawing_users_covers_the_truth_where_drawing_rows_does_not() -> None:
    """Rows of one user share a mean, so drawing rows pretends to know more than it does."""
    covered = {"users": 0, "rows": 0, "percentiles": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(6), 10)
        values = rng.normal(0, 1, 6)[users] + rng.normal(0, 0.2, 60)
        columns = np.column_stack([values, np.ones(60)])
        for kind, clusters in (("users", users), ("rows", np.arange(60))):
            interval = studentised_bootstrap(_mean, columns, clusters.astype(np.str_), seed=seed, resamples=200)
            covered[kind] += interval.low <= 0 <= interval.high
        by_percentile = cluster_bootstrap(
            lambda rows, values=values: float(values[rows].mean()), users.astype(np.str_), seed=seed, resamples=200
        )
        covered["percentiles"] += by_percentile.low <= 0 <= by_percentile.high
    assert 184 <= covered["users"] <= 198
    assert covered["rows"] < 130
    assert covered["percentiles"] < 184  # why intervals are studentised


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=12), st.integers(0, 9))
def test_the_interval_is_symmetric_and_repeats(values: list[float], seed: int) -> None:
    columns = np.column_stack([np.array(values), np.ones(len(values))])
    clusters = np.arange(len(values)).astype(np.str_)
    interval = studentised_bootstrap(_mean, columns, clusters, seed=seed, resamples=50)
    assert interval.estimate == pytest.approx(np.mean(values), abs=1e-9)
    if np.isfinite(interval.low):
        assert interval.low <= interval.estimate <= interval.high
        assert interval.high - interval.estimate == pytest.approx(interval.estimate - interval.low, abs=1e-9)
    again = studentised_bootstrap(_mean, columns, clusters, seed=seed, resamples=50)
    assert np.array_equal([interval.low, interval.high], [again.low, again.high], equal_nan=True)


@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_the_interval_follows_unit_and_zero(scale: float, shift: float) -> None:
    values, clusters = np.random.default_rng(3).normal(0, 1, 24), np.repeat(np.arange(8), 3).astype(np.str_)
    plain = studentised_bootstrap(_mean, np.column_stack([values, np.ones(24)]), clusters, resamples=50)
    moved = studentised_bootstrap(_mean, np.column_stack([scale * values + shift, np.ones(24)]), clusters, resamples=50)
    assert moved.low == pytest.approx(scale * plain.low + shift, abs=1e-6 * (scale + abs(shift)))
    assert moved.high == pytest.approx(scale * plain.high + shift, abs=1e-6 * (scale + abs(shift)))


def test_many_clusters_agree_with_the_textbook() -> None:
    """3,000 clusters are drawn in several parts (memory is bounded), and the interval is the normal one."""
    values = np.random.default_rng(0).normal(2.0, 1.0, 3000)
    columns = np.column_stack([values, np.ones(3000)])
    interval = studentised_bootstrap(_mean, columns, np.arange(3000).astype(np.str_), resamples=400)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std(ddof=1) / np.sqrt(3000), rel=0.15)


def test_what_rests_on_one_cluster_is_not_certain() -> None:
    clusters = np.arange(8).astype(np.str_)
    one = np.column_stack([np.eye(8)[0], np.eye(8)[0]])  # a ratio that only the first cluster can tell
    interval = studentised_bootstrap(lambda sums: np.divide(sums[0], sums[1]), one, clusters)
    assert interval.estimate == 1.0
    assert np.isnan([interval.low, interval.high]).all()


def test_what_never_varies_is_certain() -> None:
    columns = np.column_stack([np.full(6, 0.1), np.ones(6)])
    interval = studentised_bootstrap(_mean, columns, np.arange(6).astype(np.str_))
    assert interval.low == pytest.approx(0.1, abs=1e-12)
    assert interval.high == pytest.approx(0.1, abs=1e-12)


def test_one_cluster_has_no_interval() -> None:
    interval = cluster_bootstrap(lambda rows: 1.0, np.array(["a", "a"]))
    assert interval.estimate == 1.0
    assert np.isnan(interval.low)
    interval = studentised_bootstrap(_mean, np.ones((2, 2)), np.array(["a", "a"]))
    assert interval.to_json() == {"estimate": 1.0, "low": None, "high": None}


@pytest.mark.parametrize(
    ("rewards", "weights"),
    [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([1.0], [-1.0]), ([1.0], [np.inf])],
)
def test_bad_input_is_refused(rewards: list[float], weights: list[float]) -> None:
    with pytest.raises(DataError):
        ips(np.array(rewards), np.array(weights))
