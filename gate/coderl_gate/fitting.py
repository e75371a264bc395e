"""Fitting a gate: both stages with user-grouped cross-validation, calibrated, and the entropy limit h.

Every figure comes from out-of-fold probabilities: each programmer is judged by models and calibrations that never saw them.
With at most `LEAVE_ONE_OUT_GROUPS` groups each group is held out alone, otherwise in `FOLDS` folds of whole groups.

Choice of model, per stage: the simplest whose mean log loss exceeds the best one's by no more than one standard error of the
difference, paired and clustered by group (the one-standard-error rule of Breiman et al., "Classification and Regression Trees"
1984, §3.4.3, with the paired error, because the same users are hard for every model).

Slightly optimistic, and said so: the calibration of a held-out user is fitted on scores of models that saw that user, and h and
the choice of the model are made on the same out-of-fold scores that are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
from sklearn.model_selection import GroupKFold

from .artifact import StageModel
from .calibration import apply, choose
from .catalogue import CONTEXT_FEATURES, SUGGESTION_FEATURES, Feature
from .dataset import Dataset, Floats, Labels
from .margins import Calibration
from .models import BlendAcceptance, LogisticAcceptance, TreesAcceptance

LEAVE_ONE_OUT_GROUPS: Final = 20
FOLDS: Final = 10

Estimator = LogisticAcceptance | TreesAcceptance | BlendAcceptance


def _logistic(features: Sequence[Feature]) -> Estimator:
    return LogisticAcceptance()


def _trees(features: Sequence[Feature]) -> TreesAcceptance:
    return TreesAcceptance(monotone=tuple(feature.monotone for feature in features))


def _blend(features: Sequence[Feature]) -> Estimator:
    return BlendAcceptance(trees=_trees(features))


MODELS: Final[Mapping[str, Callable[[Sequence[Feature]], Estimator]]] = MappingProxyType(
    {"logistic": _logistic, "trees": _trees, "blend": _blend}
)
"""Name → how to build it for given columns; simplest first."""
_FITTED: Final = ("logistic", "trees")


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate in cross-validation."""

    log_loss: float
    """Weighted mean over held-out rows, in nats."""
    excess: float
    """Log loss above the best candidate's."""
    excess_error: float
    """Standard error of `excess`, clustered by group."""


@dataclass(frozen=True, slots=True)
class StageFit:
    """One fitted stage."""

    kind: str
    """Name of the chosen model."""
    model: StageModel
    """Fitted on all rows, for the runtime."""
    p: Floats
    """Cross-fitted probabilities of being kept, (n,)."""
    trials: Mapping[str, Trial]
    calibrations: Mapping[str, float]
    """Every calibration's cross-fitted log loss, in nats."""

    @property
    def calibration(self) -> str:
        """Name of the chosen calibration."""
        return self.model.calibration.kind


def folds_of(groups: Labels) -> Labels:
    """The fold of each row (n,): its group, or one of `FOLDS` folds of whole groups where there are many."""
    if len(np.unique(groups)) <= LEAVE_ONE_OUT_GROUPS:
        return groups
    folds = np.empty(len(groups), dtype=object)
    for index, (_, held) in enumerate(GroupKFold(FOLDS).split(groups, groups=groups)):
        folds[held] = f"fold-{index}"
    return folds.astype(np.str_)


def out_of_fold(
    build: Callable[[], Estimator], x: Floats, dataset: Dataset, folds: Labels, step: Callable[[], None] = lambda: None
) -> Floats:
    """Margins (n,) of each fold by a model fitted on the others; the base rate's where the others hold one class only."""
    margins = np.empty(len(dataset))
    for fold in np.unique(folds):
        held = folds == fold
        kept, weight = dataset.kept[~held], dataset.weight[~held]
        if len(np.unique(kept)) < 2:
            positive = float((kept * weight).sum())
            margins[held] = np.log((positive + 0.5) / (float(weight.sum()) - positive + 0.5))
        else:
            margins[held] = build().fit(x[~held], kept, weight).margin(x[held])
        step()
    return margins


def fit_stage(x: Floats, features: Sequence[Feature], dataset: Dataset, step: Callable[[], None] = lambda: None) -> StageFit:
    """Choose, calibrate and fit one stage. `x` is (n, len(features)); `step` is called once per fitted fold."""
    folds = folds_of(dataset.groups)
    margins = {name: out_of_fold(partial(MODELS[name], features), x, dataset, folds, step) for name in _FITTED}
    margins["blend"] = 0.5 * (
        margins["logistic"] + margins["trees"]
    )  # what fitting the blend would give, without fitting twice
    trials = compare(
        {name: losses(dataset.kept, apply(Calibration.identity(), margin)) for name, margin in margins.items()}, dataset
    )
    kind = next(name for name, trial in trials.items() if trial.excess <= trial.excess_error)
    calibration, p, calibrations = choose(margins[kind], dataset.kept, dataset.weight, folds)
    model = MODELS[kind](features).fit(x, dataset.kept, dataset.weight)
    scorer = model.export([feature.name for feature in features])
    return StageFit(kind, StageModel(scorer, calibration), p, trials, calibrations)


def fit_stages(dataset: Dataset, step: Callable[[], None] = lambda: None) -> tuple[StageFit, StageFit]:
    """Stage 1 on the context alone, stage 2 on context and suggestion."""
    both = np.hstack([dataset.before, dataset.after])
    return (
        fit_stage(dataset.before, CONTEXT_FEATURES, dataset, step),
        fit_stage(both, CONTEXT_FEATURES + SUGGESTION_FEATURES, dataset, step),
    )


def steps(dataset: Dataset) -> int:
    """How often `fit_stages` will call `step`."""
    return 2 * len(_FITTED) * len(np.unique(folds_of(dataset.groups)))


def losses(kept: Floats, p: Floats) -> Floats:
    """−ln P(label) of each row (n,), in nats."""
    answer: Floats = -np.log(np.where(kept > 0, p, 1.0 - p))
    return answer


def compare(row_losses: Mapping[str, Floats], dataset: Dataset) -> Mapping[str, Trial]:
    """Each candidate's log loss, and its excess over the best with a standard error clustered by group."""
    weight = dataset.weight
    means = {name: float(np.average(loss, weights=weight)) for name, loss in row_losses.items()}
    best = min(means, key=lambda name: means[name])
    trials = {}
    for name, loss in row_losses.items():
        excess, error = clustered_mean(loss - row_losses[best], weight, dataset.groups)
        trials[name] = Trial(means[name], excess, error)
    return MappingProxyType(trials)


def clustered_mean(values: Floats, weight: Floats, groups: Labels) -> tuple[float, float]:
    """Weighted mean of values (n,), and its standard error when groups, not rows, are independent (linearised ratio
    estimator)."""
    names, member = np.unique(groups, return_inverse=True)
    mass = np.bincount(member, weight)
    mean = float(np.average(values, weights=weight))
    if len(names) < 2:
        return mean, float("inf")
    residual = np.bincount(member, weight * values) - mean * mass
    scale = len(names) / (len(names) - 1)
    return mean, float(np.sqrt(scale * np.square(residual).sum()) / mass.sum())
