"""Fitting the map from a model's margin (log-odds) to a probability that means what it says.

Margins come from models that never saw the programmer in question (grouped out-of-fold). The map is chosen among identity,
Platt (Platt 1999), beta (Kull, Silva Filho and Flach 2017), isotonic (Zadrozny and Elkan 2002) and Venn–Abers (Vovk, Petej and
Fedorova, "Large-scale probabilistic predictors with and without guarantees of validity", 2015) by log loss, cross-fitted over
the same groups; a later one must beat the earlier ones by `MIN_GAIN_NATS`, because a map with more freedom has more ways to be
wrong on small logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from .dataset import Floats, Labels
from .margins import SMALLEST, Calibration
from .metrics import log_loss
from .models import rounded, sigmoid

MIN_GAIN_NATS: Final = 0.001
"""By how much a freer calibration must lower the log loss."""
_ISOTONIC_WEIGHT: Final = 5.0
"""Pseudo-rows at the base rate in each isotonic block, so that no block claims certainty."""

_GRID: Final = 40
"""Margins at which the Venn–Abers map is worked out."""
_VENN_ABERS_ROWS: Final = 5_000
"""Of more rows, so many evenly spaced ones in order of margin calibrate the Venn–Abers map."""

Fitter = Callable[[Floats, Floats, Floats], Calibration]


def identity(margins: Floats, kept: Floats, weight: Floats) -> Calibration:
    """Trust the model."""
    return Calibration.identity()


def platt(margins: Floats, kept: Floats, weight: Floats) -> Calibration:
    """σ(a·m + b) by (almost unpenalised) logistic regression; margins that rank the wrong way round give the base rate."""
    model = LogisticRegression(C=1e6, max_iter=1000).fit(margins[:, None], kept, sample_weight=weight)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        rate = float(np.clip(np.average(kept, weights=weight), SMALLEST, 1 - SMALLEST))
        return Calibration.platt(0.0, rounded(float(np.log(rate / (1 - rate)))))
    return Calibration.platt(rounded(slope), rounded(intercept))


def isotonic(margins: Floats, kept: Floats, weight: Floats) -> Calibration:
    """Pool adjacent violators, then each block is shrunk to the base rate by `_ISOTONIC_WEIGHT` rows."""
    rate = float(np.average(kept, weights=weight))
    fitted = IsotonicRegression(out_of_bounds="clip").fit(margins, kept, sample_weight=weight).predict(margins)
    points: list[tuple[float, float]] = []
    for level in np.unique(fitted):
        block = fitted == level
        mass = float(weight[block].sum())
        value = (mass * float(level) + _ISOTONIC_WEIGHT * rate) / (mass + _ISOTONIC_WEIGHT)
        points.append((rounded(float(np.average(margins[block], weights=weight[block]))), rounded(value)))
    # shrinking by block can put a small block out of order with a large one: the running maximum keeps the map monotone
    xs, ys = [points[0][0]], [points[0][1]]
    for x, y in points[1:]:
        if x > xs[-1]:
            xs.append(x)
            ys.append(max(y, ys[-1]))
    return Calibration.isotonic(xs, ys)


def beta(margins: Floats, kept: Floats, weight: Floats) -> Calibration:
    """σ(a·ln p − b·ln(1 − p) + c) with p = σ(margin), by logistic regression; a coefficient that comes out negative is left out
    and the rest fitted again (the authors' own rule)."""
    p = np.clip(sigmoid(margins), SMALLEST, 1 - SMALLEST)
    columns = np.column_stack([np.log(p), -np.log1p(-p)])
    free = [0, 1]
    while free:
        model = LogisticRegression(C=1e6, max_iter=1000).fit(columns[:, free], kept, sample_weight=weight)
        slopes = dict(zip(free, model.coef_[0].tolist(), strict=True))
        if min(slopes.values()) >= 0:
            a, b = (rounded(slopes.get(index, 0.0)) for index in (0, 1))
            return Calibration.beta(a, b, rounded(float(model.intercept_[0])))
        free.remove(min(slopes, key=lambda index: slopes[index]))
    return platt(margins, kept, weight)  # margins that rank the wrong way round


def venn_abers(margins: Floats, kept: Floats, weight: Floats) -> Calibration:
    """The inductive Venn–Abers predictor merged for log loss, p1 / (1 − p0 + p1): at each of `_GRID` margins, two isotonic
    fits, one with the point added as rejected (p0) and one as kept (p1). Linear between the points."""
    order = np.argsort(margins, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, _VENN_ABERS_ROWS).astype(int))] if len(order) else order
    x, y, w = margins[rows], kept[rows], weight[rows]
    grid = np.unique(np.quantile(x, np.linspace(0, 1, _GRID)))
    typical = float(np.mean(w))
    values = []
    for point in grid:
        low, high = (
            float(
                IsotonicRegression(out_of_bounds="clip")
                .fit(np.append(x, point), np.append(y, label), sample_weight=np.append(w, typical))
                .predict([point])[0]
            )
            for label in (0.0, 1.0)
        )
        values.append(rounded(high / (1.0 - low + high)))
    xs = [rounded(float(point)) for point in grid]
    kept_points = [index for index in range(len(xs)) if index == 0 or xs[index] > xs[index - 1]]
    rising = np.maximum.accumulate(np.array(values))  # rounding may put neighbours out of order in the last digit
    return Calibration.venn_abers([xs[i] for i in kept_points], [float(rising[i]) for i in kept_points])


FITTERS: Final[Mapping[str, Fitter]] = MappingProxyType(
    {"identity": identity, "platt": platt, "beta": beta, "isotonic": isotonic, "venn_abers": venn_abers}
)
"""Simplest first."""


def apply(calibration: Calibration, margins: Floats) -> Floats:
    """Probabilities of margins, (n,)."""
    return np.array([calibration.probability(float(margin)) for margin in margins], dtype=np.float64)


def cross_fitted(fitter: Fitter, margins: Floats, kept: Floats, weight: Floats, groups: Labels) -> Floats:
    """Probabilities (n,) where each group's come from a map fitted without it."""
    p = np.empty_like(margins)
    for group in np.unique(groups):
        held = groups == group
        if len(np.unique(kept[~held])) < 2:
            p[held] = apply(Calibration.identity(), margins[held])
        else:
            p[held] = apply(fitter(margins[~held], kept[~held], weight[~held]), margins[held])
    return p


def choose(margins: Floats, kept: Floats, weight: Floats, groups: Labels) -> tuple[Calibration, Floats, Mapping[str, float]]:
    """The chosen calibration fitted on all rows, its cross-fitted probabilities (n,), and every candidate's log loss in
    nats."""
    probabilities = {name: cross_fitted(fitter, margins, kept, weight, groups) for name, fitter in FITTERS.items()}
    losses = {name: log_loss(kept.tolist(), p.tolist(), weight.tolist()) for name, p in probabilities.items()}
    best = "identity"
    for name in FITTERS:
        if losses[name] < losses[best] - MIN_GAIN_NATS:
            best = name
    return FITTERS[best](margins, kept, weight), probabilities[best], MappingProxyType(losses)
