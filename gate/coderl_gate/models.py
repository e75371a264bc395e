"""Acceptance models behind the scikit-learn estimator contract: P(kept | features).

Constructor parameters stay untouched, `fit` learns, learned state ends with an underscore, `predict_proba` has shape (n, 2),
missing values (NaN) are allowed. `export` gives the scorer that the language server evaluates without scikit-learn and
LightGBM.

Both are strongly regularised: logs are small (the CUPS telemetry has 723 decisions) and one wrong certainty costs more than a
little sharpness.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .dataset import Floats
from .scorer import BlendScorer, LinearScorer, TreeScorer

MANY_ROWS: Final = 50_000
"""From so many rows on all cores are used. Below, one: it is quick enough, and the sums come out the same everywhere."""


class _Acceptance(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn publishes no types
    """What both models share: validation, classes, the shape of the answer."""

    classes_: NDArray[Any]
    n_features_in_: int

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from features (n, d), NaN = missing, and two classes (n,). Raises `ValueError` for anything else."""
        x, labels = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(labels)
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        if len(self.classes_) != 2:
            raise ValueError(
                f"Only binary classification is supported: two classes are needed, the data has {len(self.classes_)} class(es)."
            )
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        self._learn(x, encoded.astype(np.float64), weight)
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities of both classes, (n, 2); the second column is P(kept)."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        p = self._probability(x)
        return np.column_stack([1.0 - p, p])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likelier class, (n,)."""
        kept = self.predict_proba(X)[:, 1] > 0.5
        likelier: NDArray[Any] = self.classes_[kept.astype(int)]
        return likelier

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.classifier_tags.multi_class = False
        return tags

    @abstractmethod
    def _learn(self, x: Floats, y: Floats, weight: Floats) -> None: ...

    @abstractmethod
    def _probability(self, x: Floats) -> Floats: ...


class LogisticAcceptance(_Acceptance):
    """Logistic regression with an L2 penalty on standardised features; a missing value is read as the column's median.

    A column that is constant, or missing everywhere, gets weight 0: the data says nothing about it. Standardised inputs are
    held within ±`reach` (winsorised), so that far outside the data the line is flat.
    """

    def __init__(self, C: float = 0.03, tol: float = 1e-10, max_iter: int = 200, reach: float = 3.0) -> None:
        self.reach = reach
        self.C = C
        """Inverse strength of the penalty (scikit-learn's C)."""
        self.tol = tol
        """Largest gradient component at the end: far below what is exported, so that machines agree on the file."""
        self.max_iter = max_iter

    def _learn(self, x: Floats, y: Floats, weight: Floats) -> None:
        known = np.isfinite(x)
        columns = [x[known[:, j], j] for j in range(x.shape[1])]
        self.fills_ = np.array([float(np.median(column)) if len(column) else 0.0 for column in columns])
        filled = np.where(known, x, self.fills_)
        self.means_ = np.average(filled, axis=0, weights=weight)
        spread = np.sqrt(np.average(np.square(filled - self.means_), axis=0, weights=weight))
        useful = spread > 1e-9 * (1.0 + np.abs(self.means_))
        self.scales_ = np.where(useful, spread, 1.0)
        model = LogisticRegression(C=self.C, solver="newton-cholesky", tol=self.tol, max_iter=self.max_iter)
        z = np.clip((filled - self.means_) / self.scales_, -self.reach, self.reach)
        model.fit(np.where(useful, z, 0.0), y, sample_weight=weight)
        self.weights_ = np.where(useful, model.coef_[0], 0.0)
        self.intercept_ = float(model.intercept_[0])
        self.n_iter_ = int(model.n_iter_[0])

    def margin(self, X: ArrayLike) -> Floats:
        """Log-odds of being kept, (n,)."""
        check_is_fitted(self)
        x = np.asarray(X, dtype=np.float64)
        filled = np.where(np.isfinite(x), x, self.fills_)
        z = np.clip((filled - self.means_) / self.scales_, -self.reach, self.reach)
        margins: Floats = z @ self.weights_ + self.intercept_
        return margins

    def _probability(self, x: Floats) -> Floats:
        return sigmoid(self.margin(x))

    def export(self, names: Sequence[str]) -> LinearScorer:
        """The scorer of the fitted model; `names` are its columns in order. Columns with weight 0 are left out.

        Numbers are rounded to seven digits, which moves no margin by more than about 1e-6 and keeps the file the same on
        machines whose linear algebra differs in the last bits.
        """
        check_is_fitted(self)
        used = np.flatnonzero(self.weights_)

        def column(values: Floats) -> tuple[float, ...]:
            return tuple(rounded(float(value)) for value in values[used])

        return LinearScorer(
            names=tuple(names[int(j)] for j in used),
            weights=column(self.weights_),
            means=column(self.means_),
            scales=column(self.scales_),
            fills=column(self.fills_),
            intercept=rounded(self.intercept_),
            reach=self.reach,
        )


class TreesAcceptance(_Acceptance):
    """LightGBM gradient-boosted trees, shallow, with random thresholds (Geurts, Ernst and Wehenkel, "Extremely randomized
    trees", 2006), each on a part of rows and columns; monotone where a feature's meaning says so.

    On logs of some hundred rows the randomness matters more than any other setting: it lowers the variance that greedy splits
    have (figures in docs/log.md, 2026-11-25).
    """

    def __init__(
        self,
        n_trees: int = 300,
        leaves: int = 7,
        learning_rate: float = 0.025,
        min_rows: int = 20,
        l2: float = 1.0,
        columns: float = 0.3,
        rows: float = 0.7,
        monotone: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.n_trees = n_trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.min_rows = min_rows
        """Least rows in a leaf."""
        self.l2 = l2
        self.columns = columns
        """Share of the columns that each tree may use."""
        self.rows = rows
        """Share of the rows that each tree is fitted on."""
        self.monotone = monotone
        """−1, 0 or 1 per column; None = free."""
        self.seed = seed

    def _learn(self, x: Floats, y: Floats, weight: Floats) -> None:
        import lightgbm

        parameters: dict[str, Any] = {
            "objective": "binary",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows,
            "lambda_l2": self.l2,
            "extra_trees": True,
            "feature_fraction": self.columns,
            "bagging_fraction": self.rows,
            "bagging_freq": 1,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": _threads(x),
            "verbose": -1,
        }
        if self.monotone is not None and any(self.monotone):
            if len(self.monotone) != x.shape[1]:
                raise ValueError(f"monotone has {len(self.monotone)} entries for {x.shape[1]} features.")
            parameters["monotone_constraints"] = list(self.monotone)
        data = lightgbm.Dataset(x, y, weight=weight, free_raw_data=True)
        self.booster_ = lightgbm.train(parameters, data, num_boost_round=self.n_trees)

    def margin(self, X: ArrayLike) -> Floats:
        """Log-odds of being kept, (n,)."""
        check_is_fitted(self)
        x = np.asarray(X, dtype=np.float64)
        return np.asarray(self.booster_.predict(x, raw_score=True, num_threads=_threads(x)), dtype=np.float64)

    def _probability(self, x: Floats) -> Floats:
        return sigmoid(self.margin(x))

    def export(self, names: Sequence[str]) -> TreeScorer:
        """The scorer of the fitted model; `names` are its columns in order."""
        check_is_fitted(self)
        return TreeScorer.parse(self.booster_.model_to_string(), tuple(names))


class BlendAcceptance(_Acceptance):
    """The mean of a logistic regression's and the trees' log-odds: the line goes on where trees are flat, the trees bend
    where the line cannot, and their errors partly cancel."""

    def __init__(self, logistic: LogisticAcceptance | None = None, trees: TreesAcceptance | None = None) -> None:
        self.logistic = logistic
        """None = the default one; a given one is cloned, never fitted."""
        self.trees = trees

    def _learn(self, x: Floats, y: Floats, weight: Floats) -> None:
        self.logistic_ = clone(self.logistic or LogisticAcceptance()).fit(x, y, weight)
        self.trees_ = clone(self.trees or TreesAcceptance()).fit(x, y, weight)

    def margin(self, X: ArrayLike) -> Floats:
        """Log-odds of being kept, (n,)."""
        check_is_fitted(self)
        margins: Floats = 0.5 * (self.logistic_.margin(X) + self.trees_.margin(X))
        return margins

    def _probability(self, x: Floats) -> Floats:
        return sigmoid(self.margin(x))

    def export(self, names: Sequence[str]) -> BlendScorer:
        """The scorer of the fitted model; `names` are its columns in order."""
        check_is_fitted(self)
        return BlendScorer(self.logistic_.export(names), self.trees_.export(names))


def _threads(x: Floats) -> int:
    """LightGBM's `num_threads` for so many rows; 0 = all cores."""
    return 1 if len(x) < MANY_ROWS else 0


def sigmoid(margin: Floats) -> Floats:
    """1 / (1 + e^−m), elementwise, without overflow."""
    positive = np.exp(-np.abs(margin))
    answer: Floats = np.where(margin >= 0, 1.0 / (1.0 + positive), positive / (1.0 + positive))
    return answer


def rounded(value: float, digits: int = 7) -> float:
    """`value` to so many significant digits."""
    return float(f"{value:.{digits}g}")
