"""Figures of an evaluation, and how sure they are. Pure numpy and scipy.

Covered: shares with intervals, pass@k, and paired comparisons of two models on the same tasks. A comparison is paired because
both models meet the same tasks: what makes a task hard cancels out. Tasks of one base problem are not independent, so the
interval of a difference draws whole problems. Not covered: the choice of the tasks themselves (an interval says nothing about
other kinds of tasks), and looking at many comparisons and telling the best.

`statistics.share` is Wilson's interval by `coderl_gate.metrics`, the bootstrap is `coderl_gate.offpolicy`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coderl_gate.metrics import wilson
from coderl_gate.offpolicy import Interval, cluster_bootstrap

from .errors import FigureError

RESAMPLES: Final = 2000
"""Bootstrap draws."""

Floats = NDArray[np.float64]


def share(positives: int, n: int) -> Interval:
    """k of n with Wilson's 95 % score interval (Wilson 1927, "Probable Inference", JASA 22, p. 209):

        (k + z²/2 ± z √(k(n − k)/n + z²/4)) / (n + z²)

    It treats the n as independent. NaN in [0, 1] for n = 0. Raises `FigureError` where k is not among 0 … n.
    """
    if not 0 <= positives <= n:
        raise FigureError(f"{positives} of {n} is not a share.")
    low, high = wilson(positives, n)
    return Interval(positives / n if n else math.nan, low, high)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that at least one of k samples is correct, estimated without bias from `correct` of `samples` (n ≥ k):

        pass@k = 1 − C(n − c, k) / C(n, k)        Chen et al. 2021, "Evaluating Large Language Models …", eq. 1

    computed as 1 − Π (1 − k/i) over i = n − c + 1 … n, so that nothing overflows. 1 − (1 − c/n)^k would be biased: it is too
    low. Raises `FigureError` for counts that cannot be.
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise FigureError(f"pass@{k} cannot be estimated from {correct} correct of {samples} samples.")
    if samples - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(samples - correct + 1, samples + 1))


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int) -> float:
    """Mean of `pass_at_k` over tasks, each (samples, correct). Raises `FigureError` for no task, and for a task it cannot be
    estimated of."""
    if not counts:
        raise FigureError("pass@k needs at least one task.")
    return math.fsum(pass_at_k(samples, correct, k) for samples, correct in counts) / len(counts)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    problems: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """Mean of b − a over tasks, all (n,), with the percentile interval of a bootstrap that draws whole base problems.

    Every task counts the same, so a problem with many tasks weighs more; drawing problems is what makes the interval honest
    about that. With fewer than about 20 problems it is somewhat too short (`coderl_gate.offpolicy` says by how much). Its
    studentised form is not used, because it is not known where only a few tasks differ, and those are the usual case here.
    NaN, which is not the same as certain, with fewer than two problems. Where no task differs the width is 0: the draws cannot
    see a difference that no task showed. Same seed, same interval.

    Source: Efron and Tibshirani 1993, §13.3 (percentiles); Cameron, Gelbach and Miller 2008, §3.1 (pairs of clusters). Raises
    `FigureError` for lengths that differ, values that are not finite, and no task at all.
    """
    differences = _paired(a, b)
    if len(problems) != len(differences):
        raise FigureError(f"{len(differences)} pairs and {len(problems)} problems do not belong together.")

    def mean(rows: NDArray[np.intp]) -> float:
        return float(differences[rows].mean())

    return cluster_bootstrap(mean, np.asarray(problems, dtype=str), seed=seed, resamples=resamples, level=level)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test, of the pairs that only a solved and that only b solved.

    Under "both are as good" each pair that differs is a fair coin: with m = only_a + only_b and X ~ Binomial(m, ½)

        p = min(1, 2 · P(X ≤ min(only_a, only_b)))        McNemar 1947; exact by the binomial (sign) test

    1 where no pair differs. It treats pairs as independent: with several tasks of one problem p is too small. Raises
    `FigureError` for negative counts.
    """
    if only_a < 0 or only_b < 0:
        raise FigureError(f"{only_a} and {only_b} are not counts of pairs.")
    from scipy.stats import binom

    return min(1.0, 2.0 * float(binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def cohens_h(share_a: float, share_b: float) -> float:
    """Distance of two shares, on the scale on which their noise does not depend on where they lie:

        h = 2 asin √p_b − 2 asin √p_a        Cohen 1988, "Statistical Power Analysis", §6.2; 0.2 small, 0.5 medium, 0.8 large

    In [−π, π], positive where b is higher. Raises `FigureError` outside [0, 1].
    """
    if not (0.0 <= share_a <= 1.0 and 0.0 <= share_b <= 1.0):
        raise FigureError(f"{share_a} and {share_b} are not both shares.")
    return 2.0 * math.asin(math.sqrt(share_b)) - 2.0 * math.asin(math.sqrt(share_a))


def cohens_d(a: Sequence[float], b: Sequence[float]) -> float:
    """Distance of two means in standard deviations, of samples that need not be paired:

        d = (mean b − mean a) / s,   s² = ((n_a − 1) s_a² + (n_b − 1) s_b²) / (n_a + n_b − 2)        Cohen 1988, §2.5.1

    with variances of divisor n − 1. 0 for equal means; infinite where the means differ and nothing varies. Raises `FigureError`
    for fewer than two values on a side and for values that are not finite.
    """
    left, right = _finite(a), _finite(b)
    if len(left) < 2 or len(right) < 2:
        raise FigureError("Cohen's d needs at least two values on each side.")
    squares = (len(left) - 1) * left.var(ddof=1) + (len(right) - 1) * right.var(ddof=1)
    return _standardised(float(right.mean() - left.mean()), math.sqrt(squares / (len(left) + len(right) - 2)))


def cohens_d_paired(a: Sequence[float], b: Sequence[float]) -> float:
    """Mean of b − a in standard deviations *of the differences* (Cohen 1988, §2.3.5: d_z); not to be compared with `cohens_d`.

    Raises `FigureError` as `cohens_d` does, and for lengths that differ.
    """
    differences = _paired(a, b)
    if len(differences) < 2:
        raise FigureError("Cohen's d needs at least two pairs.")
    return _standardised(float(differences.mean()), float(differences.std(ddof=1)))


def _standardised(distance: float, deviation: float) -> float:
    if distance == 0.0:
        return 0.0
    return distance / deviation if deviation > 0 else math.copysign(math.inf, distance)


def _paired(a: Sequence[float], b: Sequence[float]) -> Floats:
    left, right = _finite(a), _finite(b)
    if len(left) != len(right):
        raise FigureError(f"{len(left)} and {len(right)} values are no pairs.")
    if not len(left):
        raise FigureError("There are no pairs to compare.")
    return right - left


def _finite(values: Sequence[float]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise FigureError("The values to compare must be one row of finite numbers.")
    return array
