"""Off-policy estimates: what another policy would have earned, from the log of the one that acted.

With rewards r_i, and importance weights w_i = π_target(a_i | x_i) / π_log(a_i | x_i):

    IPS      V̂ = (1/n) Σ w_i r_i                    Horvitz and Thompson 1952; unbiased where π_log > 0 wherever π_target > 0
    clipped  V̂ = (1/n) Σ min(w_i, c) r_i            Ionides 2008; less variance, biased towards 0
    SNIPS    V̂ = m · Σ w_i r_i / Σ w_i              Swaminathan and Joachims, "The Self-Normalized Estimator for
                                                    Counterfactual Learning" (NeurIPS 2015); m = E[w], 1 over all actions
    ESS      (Σ w_i)² / Σ w_i²                      Kish 1965; as many independent rows as the weighted ones are worth

Intervals are percentiles of a bootstrap over *clusters* (users): one programmer's rows are not independent.

Covered: weights that are exact because the log holds exact propensities. Not covered: actions the log could never have
taken (no estimator can know their reward; `coderl_gate.replay` measures and refuses), rewards that depend on earlier actions
(a suggestion shown changes what is typed next), and drift of the programmers themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

CLIP: Final = 20.0
"""Largest weight of the clipped estimator."""
RESAMPLES: Final = 1000
"""Bootstrap resamples."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a two-sided percentile interval."""

    estimate: float
    low: float
    high: float


def ips(rewards: Floats, weights: Floats) -> float:
    """Inverse propensity score estimate; both (n,). Raises `DataError` for bad input."""
    _check(rewards, weights)
    return float(np.mean(weights * rewards))


def clipped_ips(rewards: Floats, weights: Floats, clip: float = CLIP) -> float:
    """IPS with weights of at most `clip`. Raises `DataError` for bad input."""
    _check(rewards, weights)
    return float(np.mean(np.minimum(weights, clip) * rewards))


def snips(rewards: Floats, weights: Floats, expected_weight: float = 1.0) -> float:
    """Self-normalised estimate; both (n,).

    `expected_weight` is E[w]: 1 where the rows cover all actions; the target's own probability of the covered actions where
    they cover only those that can earn anything. All weights 0 earn 0 where `expected_weight` is 0, and NaN (not known)
    otherwise. Raises `DataError` for bad input.
    """
    _check(rewards, weights)
    total = float(weights.sum())
    if total == 0.0:
        return 0.0 if expected_weight == 0.0 else float("nan")
    return expected_weight * float((weights * rewards).sum()) / total


def effective_sample_size(weights: Floats) -> float:
    """Kish's effective sample size of weights (n,), in [0, n]; 0 where all weights are 0."""
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def cluster_bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: NDArray[np.str_],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of `statistic` (a function of row indices) when whole clusters are drawn with replacement.

    `clusters` (n,) names the cluster of each row. With one cluster nothing can be resampled: the interval is NaN, which is not
    the same as certain. Resamples on which the statistic is not known (NaN) are left out. Same seed, same interval.
    """
    names, member = np.unique(clusters, return_inverse=True)
    estimate = statistic(np.arange(len(clusters)))
    if len(names) < 2:
        return Interval(estimate, float("nan"), float("nan"))
    rows = [np.flatnonzero(member == index) for index in range(len(names))]
    rng = np.random.default_rng(seed)
    draws = np.array(
        [statistic(np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))])) for _ in range(resamples)]
    )
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Interval(estimate, float("nan"), float("nan"))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Interval(estimate, float(low), float(high))


def bootstrap_sums(
    statistic: Callable[[Floats], float],
    columns: Floats,
    clusters: NDArray[np.str_],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """As `cluster_bootstrap`, for a statistic that is a function of the column sums (k,) of `columns` (n, k): one pass over the
    rows, whatever their number."""
    names, member = np.unique(clusters, return_inverse=True)
    sums = np.column_stack([np.bincount(member, column, minlength=len(names)) for column in columns.T])
    return cluster_bootstrap(lambda rows: statistic(sums[rows].sum(axis=0)), names, seed=seed, resamples=resamples, level=level)


def _check(rewards: Floats, weights: Floats) -> None:
    if rewards.shape != weights.shape or rewards.ndim != 1 or not len(rewards):
        raise DataError(f"Rewards {rewards.shape} and weights {weights.shape} must be two equally long, non-empty vectors.")
    if not (np.isfinite(rewards).all() and np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("Rewards and weights must be finite, and weights must not be negative.")
