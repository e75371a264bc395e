"""The estimators against worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.errors import DataError
from coderl_gate.offpolicy import (
    bootstrap_sums,
    clipped_ips,
    cluster_bootstrap,
    effective_sample_size,
    ips,
    snips,
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


def test_user_bootstrap_covers_the_truth_where_a_row_bootstrap_does_not() -> None:
    """Rows of one user share a mean, so drawing rows pretends to know more than it does."""
    covered = {"users": 0, "rows": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(15), 30)
        values = rng.normal(0, 1, 15)[users] + rng.normal(0, 0.2, 450)
        for kind, clusters in (("users", users), ("rows", np.arange(450))):
            interval = bootstrap_sums(
                lambda sums: float(sums[0] / sums[1]),
                np.column_stack([values, np.ones(450)]),
                clusters.astype(np.str_),
                seed=seed,
                resamples=200,
            )
            covered[kind] += interval.low <= 0 <= interval.high
    assert covered["users"] >= 48
    assert covered["rows"] <= 30


def test_bootstraps_agree_and_repeat() -> None:
    values = np.random.default_rng(0).random(60)
    clusters = np.repeat(np.arange(6), 10).astype(np.str_)
    by_rows = cluster_bootstrap(lambda rows: float(values[rows].mean()), clusters, seed=5, resamples=50)
    by_sums = bootstrap_sums(
        lambda sums: float(sums[0] / sums[1]), np.column_stack([values, np.ones(60)]), clusters, seed=5, resamples=50
    )
    assert by_rows.low == pytest.approx(by_sums.low)
    assert by_rows.high == pytest.approx(by_sums.high)
    assert by_rows == cluster_bootstrap(lambda rows: float(values[rows].mean()), clusters, seed=5, resamples=50)


def test_one_cluster_has_no_interval() -> None:
    interval = cluster_bootstrap(lambda rows: 1.0, np.array(["a", "a"]))
    assert interval.estimate == 1.0
    assert np.isnan(interval.low)


@pytest.mark.parametrize(
    ("rewards", "weights"),
    [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([1.0], [-1.0]), ([1.0], [np.inf])],
)
def test_bad_input_is_refused(rewards: list[float], weights: list[float]) -> None:
    with pytest.raises(DataError):
        ips(np.array(rewards), np.array(weights))
