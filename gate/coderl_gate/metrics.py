"""How good probabilities are: log loss, Brier score, calibration error, AUC, reliability curve. Pure Python.

Labels are 0/1 (or False/True), probabilities lie in [0, 1], one of each per row; `weights`, where given, are ≥ 0 with a
positive sum. All raise DataError for rows that cannot be judged. None of them knows about users: an interval over users
needs a bootstrap that draws users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import DataError

Z_95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows of similar predicted probability."""

    n: int
    low: float
    """Smallest and largest predicted probability of the bin."""
    high: float
    predicted: float
    """Mean predicted probability."""
    observed: float
    """Share of positive labels."""
    observed_low: float
    """Wilson 95 % interval of `observed`; it treats rows as independent."""
    observed_high: float


def log_loss(labels: Sequence[float], probabilities: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Mean −ln P(label), in nats; infinite where a certain prediction was wrong."""

    def loss(label: float, p: float) -> float:
        chance = p if label else 1.0 - p
        return -math.log(chance) if chance > 0 else math.inf

    return _mean([loss(y, p) for y, p in _rows(labels, probabilities)], weights)


def brier(labels: Sequence[float], probabilities: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Mean squared error of the probability (Brier 1950, the binary form), in [0, 1]."""
    return _mean([(p - y) ** 2 for y, p in _rows(labels, probabilities)], weights)


def auc(labels: Sequence[float], scores: Sequence[float]) -> float | None:
    """P(score of a positive > score of a negative), ties counting half (Mann-Whitney); None where one class is absent.

    `scores` need not be probabilities.
    """
    _check(labels, scores)
    if any(score != score for score in scores):
        raise DataError("A score is not a number.")
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, start = 0.0, 0
    while start < len(order):
        end = start + 1
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        # ranks start+1 … end share their mean
        ranks += sum(1 for index in order[start:end] if labels[index]) * (start + end + 1) / 2
        start = end
    positives = sum(1 for label in labels if label)
    negatives = len(order) - positives
    if not positives or not negatives:
        return None
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def reliability_curve(labels: Sequence[float], probabilities: Sequence[float], bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Rows in order of probability, cut into at most `bins` bins of equal mass; equal probabilities are never separated."""
    if bins < 1:
        raise DataError(f"A reliability curve needs at least one bin, not {bins}.")
    rows = sorted(_rows(labels, probabilities), key=lambda row: row[1])
    curve: list[ReliabilityBin] = []
    start = 0
    while start < len(rows):
        left = bins - len(curve)
        end = min(len(rows), start + max(1, math.ceil((len(rows) - start) / left)))
        while end < len(rows) and rows[end][1] == rows[end - 1][1]:
            end += 1
        part = rows[start:end]
        n, positives = len(part), sum(1 for label, _ in part if label)
        low, high = wilson(positives, n)
        predicted = math.fsum(p for _, p in part) / n
        curve.append(ReliabilityBin(n, part[0][1], part[-1][1], predicted, positives / n, low, high))
        start = end
    return tuple(curve)


def ece(labels: Sequence[float], probabilities: Sequence[float], bins: int = 10) -> float:
    """Expected calibration error over the equal-mass bins of `reliability_curve`: Σ n_b/n · |observed − predicted|.

    Naeini, Cooper and Hauskrecht 2015, with equal-mass instead of equal-width bins (Nguyen and O'Connor 2015), because gates
    crowd their probabilities into a narrow range. Biased upward for small samples.
    """
    curve = reliability_curve(labels, probabilities, bins)
    return math.fsum(part.n * abs(part.observed - part.predicted) for part in curve) / sum(part.n for part in curve)


def wilson(positives: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927); (0, 1) for n = 0."""
    if not 0 <= positives <= n:
        raise DataError(f"{positives} of {n} is not a share.")
    if n == 0:
        return 0.0, 1.0
    share, square = positives / n, z * z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if positives == 0 else max(0.0, middle - half)
    return low, 1.0 if positives == n else min(1.0, middle + half)


def _check(labels: Sequence[float], values: Sequence[float]) -> None:
    if len(labels) != len(values):
        raise DataError(f"{len(labels)} labels and {len(values)} predictions do not belong together.")
    if len(labels) == 0:
        raise DataError("There are no rows to judge.")
    if any(label not in (0, 1) for label in labels):
        raise DataError("Labels must be 0 or 1.")


def _rows(labels: Sequence[float], probabilities: Sequence[float]) -> list[tuple[float, float]]:
    _check(labels, probabilities)
    rows = [(float(label), float(p)) for label, p in zip(labels, probabilities, strict=True)]
    if not all(0.0 <= p <= 1.0 for _, p in rows):
        raise DataError("Probabilities must lie in [0, 1].")
    return rows


def _mean(values: Sequence[float], weights: Sequence[float] | None) -> float:
    if weights is None:
        return math.fsum(values) / len(values)
    if len(weights) != len(values):
        raise DataError(f"{len(weights)} weights and {len(values)} rows do not belong together.")
    total = math.fsum(weights)
    if not (total > 0 and all(weight >= 0 for weight in weights)):
        raise DataError("Weights must be 0 or more, with a sum above 0.")
    return math.fsum(weight * value for weight, value in zip(weights, values, strict=True) if weight) / total
