"""Off-policy estimates: what another policy would have earned, from the log of the one that acted.

With rewards r_i, and importance weights w_i = π_target(a_i | x_i) / π_log(a_i | x_i):

    IPS      V̂ = (1/n) Σ w_i r_i                    Horvitz and Thompson 1952; unbiased where π_log > 0 wherever π_target > 0
    clipped  V̂ = (1/n) Σ min(w_i, c) r_i            Ionides 2008; less variance, biased towards 0
    SNIPS    V̂ = m · Σ w_i r_i / Σ w_i              Swaminathan and Joachims, "The Self-Normalized Estimator for
                                                    Counterfactual Learning" (NeurIPS 2015); m = E[w], 1 over all actions
    DR       V̂ = (1/n) Σ [v̂_i + w_i (r_i − q̂_i)]   doubly robust: Dudík, Langford and Li, "Doubly Robust Policy Evaluation and
                                                    Learning" (ICML 2011); q̂ = modelled reward of the action taken, v̂ its mean
                                                    under the target. Unbiased where either the weights or the model is right
    ESS      (Σ w_i)² / Σ w_i²                      Kish 1965; as many independent rows as the weighted ones are worth

Intervals draw *clusters* (users): one programmer's rows are not independent. With few clusters the percentiles of a bootstrap
are too short (of 400 worlds with 6 to 14 users they held the truth in 86 to 92 %), and so were BCa's. `studentised_bootstrap`
divides each draw's distance by its own jackknife standard error and is symmetric (Hall, "On Symmetric Bootstrap Confidence
Intervals", JRSS B 50, 1988; cluster version: Cameron, Gelbach and Miller, "Bootstrap-Based Improvements for Inference with
Clustered Errors", 2008): 93 to 98 % in the same worlds.

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
_CELLS: Final = 200_000
"""Draws × clusters that are held in memory at once."""
_ROUNDING: Final = 1e-12
"""Relative differences this small are rounding."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a two-sided interval."""

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain data; what is not known is None."""
        named = (("estimate", self.estimate), ("low", self.low), ("high", self.high))
        return {name: value if np.isfinite(value) else None for name, value in named}


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


def doubly_robust(rewards: Floats, weights: Floats, modelled: Floats, expected: Floats) -> float:
    """Doubly robust estimate; all (n,): rewards, weights, q̂ of the action taken, and v̂ = Σ_a π_target(a)·q̂(a).

    Raises `DataError` for bad input.
    """
    _check(rewards, weights)
    _check(modelled, weights)
    _check(expected, weights)
    return float(np.mean(expected + weights * (rewards - modelled)))


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


def studentised_bootstrap(
    statistic: Callable[[Floats], Floats],
    columns: Floats,
    clusters: NDArray[np.str_],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """Symmetric interval θ̂ ± q·se of a statistic that is a function of column sums, when whole clusters are drawn.

    `columns` (n, k) are summed per cluster; `statistic` takes sums (k, …) and returns their values (…), NaN where it is not
    known. se is the delete-one-cluster jackknife's, q the `level` quantile of |θ* − θ̂| / se* over the draws.

    The interval is NaN, which is not the same as certain, with fewer than 2 clusters and where one cluster carries it all: the
    statistic is not known without it, here or in more than 1 − `level` of the draws. Draws on which the statistic itself is not
    known are left out. Same seed, same interval. Memory is bounded, time grows as n + resamples · clusters.
    """
    names, member = np.unique(clusters, return_inverse=True)
    sums = np.array([np.bincount(member, column, minlength=len(names)) for column in columns.T])
    estimate, error = _jackknife(statistic, sums[:, None, :])
    unknown = Interval(float(estimate[0]), float("nan"), float("nan"))
    if len(names) < 2 or not np.isfinite(error[0]):
        return unknown
    rng = np.random.default_rng(seed)
    distances: list[Floats] = []
    at_once = max(1, _CELLS // len(names))
    for start in range(0, resamples, at_once):
        drawn = rng.integers(len(names), size=(min(at_once, resamples - start), len(names)))
        values, errors = _jackknife(statistic, sums[:, drawn])
        away = np.abs(values - estimate[0])
        spread = np.isfinite(errors) & (errors > 0)
        far = np.divide(away, errors, out=np.where(np.isnan(away), np.nan, np.inf), where=spread)
        distances.append(np.where(away <= _ROUNDING * (1.0 + abs(estimate[0])), 0.0, far))
    known = np.concatenate(distances)
    known = known[~np.isnan(known)]
    if not len(known):
        return unknown
    reach = float(np.quantile(known, level, method="higher")) * float(error[0]) if error[0] > 0 else 0.0
    if not np.isfinite(reach):
        return unknown
    return Interval(float(estimate[0]), float(estimate[0]) - reach, float(estimate[0]) + reach)


def _jackknife(statistic: Callable[[Floats], Floats], sums: Floats) -> tuple[Floats, Floats]:
    """The statistic (b,) and its delete-one standard error (b,) of `sums` (k, b, clusters)."""
    total = sums.sum(axis=2)
    count = sums.shape[2]
    with np.errstate(invalid="ignore", divide="ignore"):
        without = statistic(total[:, :, None] - sums)
        spread = np.square(without - without.mean(axis=1, keepdims=True)).sum(axis=1)
        return statistic(total), np.sqrt((count - 1) / count * spread)


def _check(rewards: Floats, weights: Floats) -> None:
    if rewards.shape != weights.shape or rewards.ndim != 1 or not len(rewards):
        raise DataError(f"Rewards {rewards.shape} and weights {weights.shape} must be two equally long, non-empty vectors.")
    if not (np.isfinite(rewards).all() and np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("Rewards and weights must be finite, and weights must not be negative.")
