"""Fitting a gate: both stages with user-grouped cross-validation, calibrated, and the entropy limit h.

Every figure comes from out-of-fold probabilities: each programmer is judged by models and calibrations that never saw them.
With at most `LEAVE_ONE_OUT_GROUPS` groups and `NESTED_ROWS` rows each group is held out alone, otherwise in `FOLDS` folds of
whole groups. Beyond `JUDGED_ROWS` rows, a part of the programmers is judged and the models for the runtime are fitted on
everybody, beyond `FITTED_ROWS` on a part of everybody's rows: the error of the figures is far below that of their meaning by
then, and the job stays linear in the rows.

Stage 2 sees stage 1's estimate. While it is fitted, that of its training rows comes from models that saw neither the row's
programmer nor the one held out (nested, `INNER_FOLDS`); with many groups from the outer folds, where one programmer's influence
is gone in the crowd.

Choice of model, per stage: the simplest whose mean log loss exceeds the best one's by no more than one standard error of the
difference, paired and clustered by group (the one-standard-error rule of Breiman et al., "Classification and Regression Trees"
1984, §3.4.3, with the paired error, because the same users are hard for every model).

Slightly optimistic, and said so: the calibration of a held-out user is fitted on scores of models that saw that user, and h and
the choice of the model are made on the same out-of-fold scores that are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from .artifact import StageModel
from .calibration import apply, choose
from .catalogue import CONTEXT_FEATURES, P1, SUGGESTION_FEATURES, Feature
from .dataset import Dataset, Floats, Labels
from .margins import Calibration
from .models import BlendAcceptance, LogisticAcceptance, TreesAcceptance

LEAVE_ONE_OUT_GROUPS: Final = 20
FOLDS: Final = 5
INNER_FOLDS: Final = 5
NESTED_ROWS: Final = 5_000
"""With more rows, folds of several groups are held out and nothing is nested: one group weighs little then."""
JUDGED_ROWS: Final = 20_000
FITTED_ROWS: Final = 100_000
"""Of more rows the models for the runtime are fitted on so many, evenly spaced in every programmer's time: hundreds of
leaves and a hundred weights gain nothing from more (`--engine dask` fits the trees on all)."""

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


def judged_part(dataset: Dataset, seed: int = 0) -> Dataset:
    """The rows that are judged: all, or those of programmers drawn until there are `JUDGED_ROWS`."""
    if len(dataset) <= JUDGED_ROWS:
        return dataset
    names, sizes = np.unique(dataset.groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    enough = int(np.searchsorted(np.cumsum(sizes[order]), JUDGED_ROWS)) + 1
    return dataset.take(np.isin(dataset.groups, names[order[: max(2, enough)]]))


def fitted_part(dataset: Dataset) -> Dataset:
    """The rows that the models for the runtime are fitted on: all, or `FITTED_ROWS` of them, evenly spaced (rows lie by
    user and time)."""
    if len(dataset) <= FITTED_ROWS:
        return dataset
    chosen = np.zeros(len(dataset), dtype=bool)
    chosen[np.linspace(0, len(dataset) - 1, FITTED_ROWS).astype(np.intp)] = True
    return dataset.take(chosen)


def folds_of(groups: Labels) -> Labels:
    """The fold of each row (n,): its group, or one of `FOLDS` folds of whole groups where there are many groups or rows."""
    count = len(np.unique(groups))
    if count <= FOLDS or (count <= LEAVE_ONE_OUT_GROUPS and len(groups) <= NESTED_ROWS):
        return groups
    return _grouped(groups, FOLDS)


def _grouped(groups: Labels, count: int) -> Labels:
    folds = np.empty(len(groups), dtype=object)
    for index, (_, held) in enumerate(GroupKFold(count).split(groups, groups=groups)):
        folds[held] = f"fold-{index}"
    return folds.astype(np.str_)


def out_of_fold(
    build: Callable[[], Estimator],
    x: Floats,
    dataset: Dataset,
    folds: Labels,
    step: Callable[[], None] = lambda: None,
    column: Mapping[str, Floats] | None = None,
) -> Floats:
    """Margins (n,) of each fold by a model fitted on the others; the base rate's where the others hold one class only.

    `column`, where given, holds per fold one more feature (n,), computed without that fold's labels.
    """
    margins = np.empty(len(dataset))
    for fold in np.unique(folds):
        held = folds == fold
        rows = x if column is None else np.column_stack([x, column[str(fold)]])
        margins[held] = _predict(build, rows, dataset, ~held, held)
        step()
    return margins


def _predict(
    build: Callable[[], Estimator], x: Floats, dataset: Dataset, learn: NDArray[np.bool_], judge: NDArray[np.bool_]
) -> Floats:
    """Margins of the rows `judge` by a model fitted on the rows `learn`."""
    kept, weight = dataset.kept[learn], dataset.weight[learn]
    if len(np.unique(kept)) == 2:
        return build().fit(x[learn], kept, weight).margin(x[judge])
    positive = float((kept * weight).sum())
    return np.full(int(judge.sum()), np.log((positive + 0.5) / (float(weight.sum()) - positive + 0.5)))


def fit_stage(
    x: Floats,
    features: Sequence[Feature],
    dataset: Dataset,
    step: Callable[[], None] = lambda: None,
    column: Mapping[str, Floats] | None = None,
) -> StageFit:
    """Choose and calibrate one stage on the rows `x` (n, columns before `column`), and fit it on them.

    `features` names the columns, `column` (see `out_of_fold`) being the last. `step` is called once per fitted fold.
    """
    folds = folds_of(dataset.groups)
    margins = {name: out_of_fold(partial(MODELS[name], features), x, dataset, folds, step, column) for name in _FITTED}
    # what fitting the blend would give, without fitting twice
    margins["blend"] = 0.5 * (margins["logistic"] + margins["trees"])
    trials = compare(
        {name: losses(dataset.kept, apply(Calibration.identity(), margin)) for name, margin in margins.items()}, dataset
    )
    kind = next(name for name, trial in trials.items() if trial.excess <= trial.excess_error)
    calibration, p, calibrations = choose(margins[kind], dataset.kept, dataset.weight, folds)
    rows = x if column is None else np.column_stack([x, _own(column, folds)])
    return StageFit(kind, _final(kind, rows, features, dataset, calibration), p, trials, calibrations)


def fit_stages(dataset: Dataset, step: Callable[[], None] = lambda: None) -> tuple[StageFit, StageFit, Dataset]:
    """Stage 1 on the context alone, stage 2 on context, suggestion and stage 1's estimate; and the rows that their `p` and all
    figures are about (`judged_part`)."""
    judged = judged_part(dataset)
    stage1 = fit_stage(judged.before, CONTEXT_FEATURES, judged, step)
    known = _estimates(stage1, judged, step)
    features = (*CONTEXT_FEATURES, *SUGGESTION_FEATURES, P1)
    stage2 = fit_stage(np.hstack([judged.before, judged.after]), features, judged, step, known)
    if len(judged) < len(dataset):
        rows = fitted_part(dataset)
        model1 = _final(stage1.kind, rows.before, CONTEXT_FEATURES, rows, stage1.model.calibration)
        fitted = MODELS[stage1.kind](CONTEXT_FEATURES).fit(judged.before, judged.kept, judged.weight)
        p1 = apply(stage1.model.calibration, fitted.margin(rows.before))
        model2 = _final(stage2.kind, np.column_stack([rows.before, rows.after, p1]), features, rows, stage2.model.calibration)
        stage1, stage2 = replace(stage1, model=model1), replace(stage2, model=model2)
    return stage1, stage2, judged


def _estimates(stage1: StageFit, dataset: Dataset, step: Callable[[], None]) -> Mapping[str, Floats]:
    """Per fold of the outer cross-validation: p1 of all rows (n,), computed without the labels of that fold."""
    folds = folds_of(dataset.groups)
    names = np.unique(folds)
    if not _nested(dataset):
        return {str(fold): stage1.p for fold in names}
    build = partial(MODELS[stage1.kind], CONTEXT_FEATURES)
    known = {}
    for fold in names:
        p1, others = stage1.p.copy(), folds != fold
        inner = _grouped(dataset.groups[others], INNER_FOLDS)
        margins = out_of_fold(build, dataset.before[others], dataset.take(others), inner, step)
        p1[others] = apply(stage1.model.calibration, margins)
        known[str(fold)] = p1
    return known


def _nested(dataset: Dataset) -> bool:
    """Whether there are few enough groups to hold out two at a time, and enough to do so."""
    groups = len(np.unique(dataset.groups))
    return INNER_FOLDS < groups <= LEAVE_ONE_OUT_GROUPS and len(dataset) <= NESTED_ROWS


def _own(column: Mapping[str, Floats], folds: Labels) -> Floats:
    """Each row's value (n,) from the column of its own fold."""
    own = np.empty(len(folds))
    for fold, values in column.items():
        own[folds == fold] = values[folds == fold]
    return own


def _final(kind: str, x: Floats, features: Sequence[Feature], dataset: Dataset, calibration: Calibration) -> StageModel:
    """The model for the runtime, fitted on all rows given."""
    model = MODELS[kind](features).fit(x, dataset.kept, dataset.weight)
    return StageModel(model.export([feature.name for feature in features]), calibration)


def steps(dataset: Dataset) -> int:
    """How often `fit_stages` will call `step`."""
    judged = judged_part(dataset)
    folds = len(np.unique(folds_of(judged.groups)))
    return 2 * len(_FITTED) * folds + (folds * INNER_FOLDS if _nested(judged) else 0)


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
