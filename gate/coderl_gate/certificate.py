"""What a gate may promise about the suggestions it withholds, from a finite log, and what is missing where it may not.

Two promises about a threshold t ("withhold where score < t"), either with confidence 1 − δ:

    REJECTED   of what is withheld, a share of at least 1 − α would have been rejected
    CHARS      of the characters that would have been kept, a share of at most α (often called β) is lost by withholding

Both bound a ratio of sums over users, p = E[N_u] / E[D_u], where the user, not the row, is the independent draw:

    REJECTED   N = Σ w·kept and D = Σ w over the withheld rows
    CHARS      N = Σ w·kept_chars over the withheld rows, D = Σ w·kept_chars over all rows

**Bound at one threshold.** The exact binomial bound (Clopper and Pearson 1934) at an effective number of rows, as Korn and
Graubard do for clustered surveys ("Confidence Intervals for Proportions with Small Expected Number of Positive Counts
Estimated from Survey Data", Survey Methodology 1998):

    V     = U/(U−1) · Σ_u (N_u − p·D_u)² / (Σ D_u)²           linearised variance between the U users that have such rows
    n_eff = min( p(1−p)/V ,  (Σ D_u)² / ((1−ρ)·Σ d_i² + ρ·Σ D_u²) ) · (t_{n−1} / t_{m−1})²
    bound = the rate at which so few kept rows, p·n_eff of n_eff, have probability δ

d_i are the rows' own shares of D (weights or characters), so unequal weights count. ρ is the intra-class correlation, from the
same V where p(1−p) is largest: the users' differences cannot be seen among few kept rows (V is 0 where none was kept), so those
seen where there are many are assumed there too. The last factor (Student's t quantiles at 1 − δ) pays for V being estimated
from few users: n and m are the numbers of rows and of users of equal weight that these are worth, (Σ D_u)² / Σ d_i² and
(Σ D_u)² / Σ D_u² (Kish 1965; for m see Carter, Schnepel and Steigerwald, "Asymptotic Behavior of a t-Test Robust to Cluster
Heterogeneity", 2017). With one row per user it is 1, and 59 rows without a kept one are enough for α = δ = 5 %.

**Search.** Learn-then-test (Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then Test", 2021): thresholds at fixed withheld
shares (`SHARES`, in the order of the score, never of the labels) are tested from the safest on. δ is split among `STARTS`; a
passed test hands its δ to the next threshold, a failed one loses it (the fallback procedure of Wiens and Dmitrienko 2005; with
one start it is fixed-sequence testing). The probability that *any* threshold passes wrongly is at most δ.

Covered: users who differ and have unequal numbers of rows, importance weights of random trials. Not covered: what was never
shown, drift, another generator, and kinds of programmers so rare that the log holds none; the effective size is an
approximation (tested on simulated worlds), not a distribution-free bound.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from .dataset import MAX_WEIGHT, Floats, Labels
from .errors import DataError

SHARES: Final = tuple(percent / 100 for percent in range(5, 101))
"""Withheld shares whose thresholds are tested, safest first."""
STARTS: Final = (0.05, 0.10, 0.20, 0.40)
"""Withheld shares at which a share of δ enters: twice as much withheld, twice as many rows to test on."""
MOST_TIMES: Final = 1e6
"""A promise that would need more than so many times the data is out of reach."""
_CARE: Final = 1e-9
"""Relative slack for sums of weights in different order."""
_HALVINGS: Final = 40
"""Steps of the bisection for the number of decisions needed: finer than one decision in a million."""


class Promise(StrEnum):
    """What is promised."""

    REJECTED = "withheld_rejected"
    """At least 1 − α of the withheld would have been rejected."""
    CHARS = "accepted_chars_kept"
    """At most α of the accepted characters are lost."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What may be promised, or what is missing."""

    promise: Promise
    alpha: float
    """Largest share of kept among the withheld (REJECTED), or of accepted characters lost (CHARS)."""
    delta: float
    """Probability with which the data may mislead into a false promise."""
    certified: bool
    threshold: float | None
    """The promise holds for "withhold where score < threshold"; None where not certified."""
    withheld_share: float
    """Weighted share of the decisions below the threshold; 0 where not certified, since then nothing may be withheld."""
    observed: float | None
    """The share that must not exceed α, as observed; where not certified, at the threshold that came closest. None where
    nothing is below a given threshold."""
    bound: float | None
    """Its upper bound at the confidence of the test it passed or failed."""
    users: int
    decisions: int
    needs_decisions: int | None
    """How many more decisions, by more users like these, would do at the observed rates; 0 where certified, None where no
    number would."""
    needs_users: int | None
    """How many more users those decisions come from."""
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        return {**asdict(self), "promise": self.promise.value}


@dataclass(frozen=True, slots=True)
class _Path:
    """Sums at each of g thresholds, safest first; all arrays are (g,)."""

    threshold: Floats
    withheld: Floats
    """Weighted share below the threshold."""
    delta: Floats
    """Share of δ, in [0, 1], that enters here."""
    p: Floats
    """Σ N_u / Σ D_u; 0 where D is 0."""
    total: Floats
    """Σ D_u."""
    rows: Floats
    """Σ d_i²."""
    users: Floats
    """U: how many users have D_u > 0."""
    clusters: Floats
    """Σ D_u²."""
    spread: Floats
    """U/(U−1) · Σ_u (N_u − p·D_u)²; infinite where U < 2."""


def certify(
    promise: Promise,
    scores: Floats,
    kept: Floats,
    users: Labels,
    *,
    alpha: float,
    delta: float = 0.05,
    weight: Floats | None = None,
    kept_chars: Floats | None = None,
    threshold: float | None = None,
    unit: str = "programmers",
) -> Certificate:
    """Find the largest share that may be withheld under `promise`, or test one given threshold.

    `scores` (n,) order the decisions from the first to be withheld to the last (p2, or p2 − τ for a gate with a threshold of
    each suggestion's own), and come from models that did not see the row's user. `kept` (n,) is 0 or 1. `users` (n,) names
    who is independent of whom: users, or blocks of time where there is one user only (`Dataset.groups`); `unit` is what they
    are called in the sentence. `weight` (n,) is 1/propensity of random trials, at most `MAX_WEIGHT`; None = all 1.
    `kept_chars` (n,), characters kept of each suggestion, is needed for `CHARS`. With `threshold`, only that one is tested,
    and the whole δ spent on it.

    Raises `DataError` for arrays of different or no length, values that are not finite, labels of one class or other than 0 and
    1, weights outside (0, `MAX_WEIGHT`], α or δ outside (0, 1), and a single user.
    """
    _check_levels(alpha, delta, threshold)
    weight = np.ones(len(scores)) if weight is None else weight
    amounts = _amounts(promise, kept, kept_chars)
    _check(scores, kept, users, weight, amounts)
    names, member = np.unique(users, return_inverse=True)
    if len(names) < 2:
        raise DataError("One user's decisions promise nothing about others: give at least two users, or blocks of time.")
    path = _walk(promise, scores, weight * amounts, weight, member, threshold)
    size = _effective_size(path)
    passed, times = _search(path, size, alpha, delta), 1.0
    if passed is None or path.withheld[passed[0]] == 0:
        passed, times = _closest(path, size, alpha, delta)
        certified = False
    else:
        certified = True
    index, spent = passed
    known = bool(path.total[index] > 0)
    bound = float(_bounds(path, size, spent)[index])
    needs = _needs(times, len(scores), len(names))
    return Certificate(
        promise=promise,
        alpha=alpha,
        delta=delta,
        certified=certified,
        threshold=float(path.threshold[index]) if certified else None,
        withheld_share=float(path.withheld[index]) if certified else 0.0,
        observed=float(path.p[index]) if known else None,
        bound=bound if known else None,
        users=len(names),
        decisions=len(scores),
        needs_decisions=needs[0],
        needs_users=needs[1],
        sentence=_sentence(promise, alpha, delta, path, index, bound, f"{unit} like these {len(names)}", certified, needs),
    )


def _check_levels(alpha: float, delta: float, threshold: float | None) -> None:
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise DataError(f"{name} must lie between 0 and 1, not {value}.")
    if threshold is not None and not math.isfinite(threshold):
        raise DataError(f"The threshold to certify must be a finite number, not {threshold}.")


def _amounts(promise: Promise, kept: Floats, kept_chars: Floats | None) -> Floats:
    """What is lost with each row if it is withheld, (n,)."""
    if promise is Promise.REJECTED:
        return kept
    if kept_chars is None:
        raise DataError("A promise about accepted characters needs the characters kept of each suggestion.")
    return kept_chars


def _check(scores: Floats, kept: Floats, users: Labels, weight: Floats, amounts: Floats) -> None:
    arrays = {"scores": scores, "labels": kept, "users": users, "weights": weight, "kept characters": amounts}
    if len({array.shape for array in arrays.values()}) > 1 or scores.ndim != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise DataError(f"The columns to certify on must be vectors of one length, not {shapes}.")
    if not len(scores):
        raise DataError("There are no decisions to certify on.")
    for name, array in arrays.items():
        if name != "users" and not np.isfinite(array).all():
            raise DataError(f"The {name} to certify on must be finite numbers; leave out rows where one is missing.")
    if not np.isin(kept, (0.0, 1.0)).all():
        raise DataError("The labels to certify on must be 0 (not kept) or 1 (kept).")
    if len(np.unique(kept)) < 2:
        word = "kept" if kept[0] else "rejected"
        raise DataError(f"All {len(kept)} suggestions were {word}: a certificate needs some of both kinds.")
    if not ((weight > 0) & (weight <= MAX_WEIGHT)).all():
        raise DataError(f"Weights must lie above 0 and at most at {MAX_WEIGHT:g}.")
    if (amounts < 0).any() or (amounts[kept == 0] > 0).any() or not amounts.any():
        raise DataError("Kept characters must be 0 or more, 0 where nothing was kept, and not 0 everywhere.")


def _walk(
    promise: Promise, scores: Floats, lost: Floats, weight: Floats, member: NDArray[np.intp], threshold: float | None
) -> _Path:
    """Sums below each threshold: one pass over the rows in the order of their scores. `member` (n,) numbers the users."""
    order = np.argsort(scores, kind="stable")
    ordered, mass = scores[order], np.cumsum(weight[order])
    if threshold is None:
        ends, delta = _ends(ordered, mass)
        thresholds = np.append(ordered, np.nextafter(ordered[-1], np.inf))[ends]
    else:
        ends, delta = np.searchsorted(ordered, np.array([threshold]), "left"), np.ones(1)
        thresholds = np.array([threshold])
    users = int(member.max()) + 1
    member, lost, base = member[order], lost[order], (lost if promise is Promise.CHARS else weight)[order]
    numerator, denominator, rows, start = np.zeros(users), np.zeros(users), 0.0, 0
    if promise is Promise.CHARS:
        denominator += np.bincount(member, base, users)
        rows = float(np.square(base).sum())
    sums = np.empty((len(ends), 7))
    for index, end in enumerate(ends):
        part = slice(start, end)
        numerator += np.bincount(member[part], lost[part], users)
        if promise is Promise.REJECTED:
            denominator += np.bincount(member[part], base[part], users)
            rows += float(np.square(base[part]).sum())
        total, count = denominator.sum(), np.count_nonzero(denominator)
        p = min(1.0, numerator.sum() / total) if total else 0.0
        spread = count / (count - 1) * np.square(numerator - p * denominator).sum() if count > 1 else np.inf
        below = mass[end - 1] / mass[-1] if end else 0.0
        sums[index] = below, p, total, rows, count, np.square(denominator).sum(), spread
        start = end
    return _Path(thresholds, sums[:, 0], delta, *sums[:, 1:].T)


def _ends(ordered: Floats, mass: Floats) -> tuple[NDArray[np.intp], Floats]:
    """How many rows (g,) lie below each threshold, at least `SHARES` of the weight, and the share of δ that enters there."""
    first = np.searchsorted(mass, np.array(SHARES) * mass[-1] * (1 - _CARE))
    ends, where = np.unique(np.searchsorted(ordered, ordered[first], "right"), return_inverse=True)
    delta = np.zeros(len(ends))
    np.add.at(delta, where[[SHARES.index(share) for share in STARTS]], 1 / len(STARTS))
    return ends, delta


def _effective_size(path: _Path) -> Floats:
    """n_eff (g,) before the factor that depends on δ; 0 where fewer than two users have rows."""
    variance = path.p * (1 - path.p)
    seen = np.where(path.users > 1, variance, -1.0)
    at = int(np.argmax(seen))
    rho, size = 1.0, np.zeros(len(path.p))
    if seen[at] > 0 and path.clusters[at] > path.rows[at] * (1 + _CARE):
        rho = (path.spread[at] / variance[at] - path.rows[at]) / (path.clusters[at] - path.rows[at])
        rho = float(np.clip(rho, 0.0, 1.0))
    usable = path.users > 1
    square = np.square(path.total[usable])
    assumed = square / ((1 - rho) * path.rows[usable] + rho * path.clusters[usable])
    between = np.full_like(assumed, np.inf)
    noisy = (path.spread[usable] > 0) & (variance[usable] > 0)
    between[noisy] = (variance[usable] * square)[noisy] / path.spread[usable][noisy]
    size[usable] = np.minimum(assumed, between)
    return size


def _bounds(path: _Path, size: Floats, delta: float, times: Floats | float = 1.0) -> Floats:
    """Upper bounds (g,) of p at confidence 1 − delta, had there been `times` as many users of the same kind."""
    bounds = np.ones(len(path.p))
    usable = (size > 0) & (path.p < 1)
    p, factor = path.p[usable], np.broadcast_to(times, bounds.shape)[usable]
    square = factor * np.square(path.total[usable])
    of_rows, of_users = (
        stdtrit(np.maximum(square / weights[usable] - 1, 1.0), 1 - delta) for weights in (path.rows, path.clusters)
    )
    n = factor * size[usable] * np.square(np.minimum(1.0, of_rows / of_users))
    bounds[usable] = betaincinv(p * n + 1, (1 - p) * n, 1 - delta)
    return bounds


def _search(path: _Path, size: Floats, alpha: float, delta: float) -> tuple[int, float] | None:
    """The last threshold that passes, and the δ at which it was tested; None where none does."""
    answer, carried = None, 0.0
    passes: dict[float, NDArray[np.bool_]] = {}
    for index, enters in enumerate(path.delta):
        share = round(carried + float(enters), 9)
        if share == 0.0:
            continue
        if share not in passes:
            passes[share] = _bounds(path, size, delta * share) <= alpha
        carried = share if passes[share][index] else 0.0
        if carried:
            answer = index, delta * share
    return answer


def _closest(path: _Path, size: Floats, alpha: float, delta: float) -> tuple[tuple[int, float], float]:
    """Where nothing passes: the start that fewest more users of the same kind would make pass, the δ of its test, and how many
    times as many users that takes; infinite where no number does, then for the start with the lowest bound."""
    chosen = np.flatnonzero(path.delta)
    starts = _Path(*(getattr(path, item.name)[chosen] for item in fields(_Path)))
    spent, size = delta * float(starts.delta.min()), size[chosen]
    low, high = np.ones(len(chosen)), np.full(len(chosen), MOST_TIMES)
    reachable = (starts.withheld > 0) & (_bounds(starts, size, spent, high) <= alpha)
    for _ in range(_HALVINGS if reachable.any() else 0):
        middle = np.sqrt(low * high)
        enough = _bounds(starts, size, spent, middle) <= alpha
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    times = np.where(reachable, high, np.inf)
    at = int(np.argmin(times if reachable.any() else _bounds(starts, size, spent)))
    return (int(chosen[at]), spent), float(times[at])


def _needs(times: float, decisions: int, users: int) -> tuple[int | None, int | None]:
    """How many more decisions, and users, make `times` as many; None for infinitely many."""
    if not math.isfinite(times):
        return None, None
    return math.ceil((times - 1) * decisions), math.ceil((times - 1) * users)


def _sentence(
    promise: Promise, alpha: float, delta: float, path: _Path, index: int, bound: float, whom: str, certified: bool,
    needs: tuple[int | None, int | None],
) -> str:  # fmt: skip
    share, rate, below = _percent(path.withheld[index]), _percent(path.p[index]), f"{path.threshold[index]:.3g}"
    if path.withheld[index] == 0:
        return f"Nothing scores below {below}, so there is nothing to certify: choose a higher threshold."
    if promise is Promise.REJECTED:
        words, seen = f"at least {_percent(1 - alpha)} of what is withheld would have been rejected", f"{rate} were kept"
    else:
        words, seen = f"at most {_percent(alpha)} of the accepted characters are lost", f"{rate} of them are lost"
    if certified:
        return (
            f"With {_percent(1 - delta)} confidence, for {whom}, {words} when the {share} that score below {below} are "
            f"withheld (observed: {seen}; bound {_percent(bound)})."
        )
    more, others = needs
    if more is None:
        return (
            f"Not certified that {words}: more decisions like these would not help, because wherever a test starts the "
            f"observed share is at least {_percent(alpha)}, or one user's only; allow more, or calibrate a sharper gate."
        )
    return (
        f"Not certified that {words}: with the {share} of lowest score withheld {seen}, which bounds that share at "
        f"{_percent(bound)}; at this rate about {more:,} more decision{'s' * (more != 1)} would do ({whom}: {others:,} more)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
