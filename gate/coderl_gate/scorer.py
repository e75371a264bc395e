"""Models evaluated in pure Python: a line of weights, or LightGBM's own trees. The language server imports neither library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .errors import ArtifactError
from .margins import Calibration

__all__ = ["BlendScorer", "Calibration", "LinearScorer", "Scorer", "TreeScorer"]


@runtime_checkable
class Scorer(Protocol):
    """A fitted model."""

    @property
    def names(self) -> tuple[str, ...]:
        """The features it reads, in its own order."""
        ...

    def score(self, features: Mapping[str, float | None]) -> float:
        """Raw margin (log-odds before calibration). Raises ArtifactError where a feature's name is absent."""
        ...


def _absent(error: KeyError) -> ArtifactError:
    return ArtifactError(
        f"The gate needs the feature {error.args[0]!r}, which was not computed; fit it again with `gate-calibrate`."
    )


@dataclass(frozen=True, slots=True)
class LinearScorer:
    """Logistic regression: margin = intercept + Σ weight·z with z = (x − mean)/scale held within ±`reach`, a missing x read as
    `fill`.

    `missing_weights`, where given, adds its weight for every feature that is missing.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    fills: tuple[float, ...]
    intercept: float
    missing_weights: tuple[float, ...] = ()
    reach: float | None = None
    """How many scales from the mean the line goes on; None = for ever."""

    def __post_init__(self) -> None:
        columns = (self.weights, self.means, self.scales, self.fills, self.missing_weights or self.weights)
        if any(len(column) != len(self.names) for column in columns):
            raise ArtifactError("The linear model does not hold one number per feature.")
        if not all(math.isfinite(value) for column in columns for value in column) or not math.isfinite(self.intercept):
            raise ArtifactError("The linear model holds numbers that are not finite.")
        if self.reach is not None and not (math.isfinite(self.reach) and self.reach > 0):
            raise ArtifactError(f"The linear model's reach must be above 0, not {self.reach}.")
        if any(scale <= 0 for scale in self.scales):
            raise ArtifactError("The linear model holds a scale that is not above 0.")
        if len(set(self.names)) != len(self.names):
            raise ArtifactError("The linear model names a feature twice.")

    def score(self, features: Mapping[str, float | None]) -> float:
        """Margin; None and NaN are missing."""
        margin = self.intercept
        missing_weights = self.missing_weights or (0.0,) * len(self.names)
        reach = math.inf if self.reach is None else self.reach
        try:
            for name, weight, mean, scale, fill, missing_weight in zip(
                self.names, self.weights, self.means, self.scales, self.fills, missing_weights, strict=True
            ):
                value = features[name]
                if value is None or value != value:
                    value = fill
                    margin += missing_weight
                margin += weight * min(max((value - mean) / scale, -reach), reach)
        except KeyError as error:
            raise _absent(error) from error
        return margin

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        columns = ("names", "weights", "means", "scales", "fills", "missing_weights")
        return {**{name: list(getattr(self, name)) for name in columns}, "intercept": self.intercept, "reach": self.reach}

    @classmethod
    def from_json(cls, data: Any) -> LinearScorer:
        """What `to_json` gave; ArtifactError where it is damaged."""
        try:
            columns = [
                tuple(float(value) for value in data[name])
                for name in ("weights", "means", "scales", "fills", "missing_weights")
            ]
            names = tuple(str(name) for name in data["names"])
            weights, means, scales, fills, missing_weights = columns
            reach = None if data["reach"] is None else float(data["reach"])
            return cls(names, weights, means, scales, fills, float(data["intercept"]), missing_weights, reach)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"This is not a linear model: {error!r}.") from error


_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2
_ZERO = 1e-35
"""LightGBM's kZeroThreshold: values at most this far from 0 count as missing where zero is missing."""
_OBJECTIVES = ("binary sigmoid:1", "cross_entropy")
"""Objectives whose raw score is a log-odds."""

Node = tuple[int, float, Any, Any]
"""(slot, threshold, left, right); a child is a node, or a leaf's value."""


class TreeScorer:
    """Gradient-boosted trees from LightGBM's model text, evaluated without LightGBM.

    Covers what binary classifiers with numerical features need: numerical splits, the three kinds of missing values and
    default directions. Refuses (ArtifactError) categorical splits, linear leaves, several classes, averaged forests, and
    objectives whose raw score is not a log-odds. The sum runs in LightGBM's own order, so results agree to the last bit.

    How: a comparison `x ≤ threshold` sends −∞ left and NaN right, whatever the threshold (it may be +∞: "everything that is
    not missing"), so a missing value that goes left by default is read as −∞, one that goes right as NaN, one that counts as
    zero as 0. Each (feature, treatment) pair in use is one slot, worked out once per row, and a node is one comparison
    (rules: LightGBM `include/LightGBM/tree.h`, NumericalDecision).
    """

    def __init__(
        self, names: tuple[str, ...], slots: tuple[tuple[int, int, bool], ...], roots: tuple[Any, ...], text: str
    ) -> None:
        self.names = names
        self.text = text
        """The model text, as it was parsed."""
        self._slots = slots
        self._roots = roots

    @classmethod
    def parse(cls, text: str, names: tuple[str, ...]) -> TreeScorer:
        """Read LightGBM's model text (`Booster.model_to_string()`); `names` are its columns in order."""
        head, *blocks = text.split("\nTree=")
        header = _pairs(head)
        if head.split("\n", 1)[0].strip() != "tree" or "\nend of trees" not in text:
            raise ArtifactError("This is not a whole LightGBM model text.")
        if header.get("num_class") != "1" or header.get("num_tree_per_iteration") != "1":
            raise ArtifactError("The LightGBM model has several outputs; one is needed.")
        if header.get("objective", "") not in _OBJECTIVES or "average_output" in head.split("\n"):
            raise ArtifactError("The LightGBM model's raw score is not a log-odds; fit it with the objective `binary`.")
        columns = tuple(header.get("feature_names", "").split(" "))
        if columns not in (names, tuple(f"Column_{index}" for index in range(len(names)))):
            raise ArtifactError("The LightGBM model was fitted on other features than the artifact names.")
        sizes = header.get("tree_sizes", "").split()
        if len(blocks) != len(sizes):
            raise ArtifactError(f"The LightGBM model holds {len(blocks)} trees where its header says {len(sizes)}.")
        slots: dict[tuple[int, int, bool], int] = {}
        roots = []
        try:
            for block in blocks:
                roots.append(_tree(_pairs(block.split("\nend of trees", 1)[0]), len(names), slots))
        except (KeyError, ValueError, IndexError, RecursionError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"Tree {len(roots)} of the LightGBM model is damaged: {error!r}.") from error
        return cls(names, tuple(slots), tuple(roots), text)

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return len(self._roots)

    def score(self, features: Mapping[str, float | None]) -> float:
        """Sum of the leaves; None and NaN are missing."""
        names = self.names
        row: list[float] = []
        try:
            for column, missing, default_left in self._slots:
                value = features[names[column]]
                absent = value is None or value != value
                if missing == _MISSING_ZERO:
                    absent = absent or -_ZERO <= value <= _ZERO  # type: ignore[operator]  # not None: `absent` is tested first
                elif absent and missing == _MISSING_NONE:
                    row.append(0.0)
                    continue
                row.append((-math.inf if default_left else math.nan) if absent else value)  # type: ignore[arg-type]  # likewise
        except KeyError as error:
            raise _absent(error) from error
        total = 0.0
        for node in self._roots:
            while node.__class__ is tuple:
                slot, threshold, left, right = node
                node = left if row[slot] <= threshold else right
            total += node
        return total


@dataclass(frozen=True, slots=True)
class BlendScorer:
    """The mean of a linear model's and the trees' margins, that is, the geometric mean of their odds (a logarithmic opinion
    pool, Genest and Zidek 1986). The trees' columns must include the linear model's."""

    linear: LinearScorer
    trees: TreeScorer

    def __post_init__(self) -> None:
        if not set(self.linear.names) <= set(self.trees.names):
            raise ArtifactError("The two models of the blend were fitted on different features.")

    @property
    def names(self) -> tuple[str, ...]:
        """The features it reads: the trees' columns."""
        return self.trees.names

    def score(self, features: Mapping[str, float | None]) -> float:
        """Margin; None and NaN are missing."""
        return 0.5 * (self.linear.score(features) + self.trees.score(features))


def _pairs(block: str) -> dict[str, str]:
    """The key=value lines of one block."""
    return {key: value for line in block.split("\n") for key, sign, value in (line.partition("="),) if sign}


def _numbers(pairs: Mapping[str, str], key: str, count: int) -> list[float]:
    values = [float(value) for value in pairs[key].split()]
    if len(values) != count or any(map(math.isnan, values)):
        raise ArtifactError(f"The LightGBM model is damaged: `{key}` does not hold {count} numbers.")
    return values


def _integers(pairs: Mapping[str, str], key: str, count: int) -> list[int]:
    values = [int(value) for value in pairs[key].split()]
    if len(values) != count:
        raise ArtifactError(f"The LightGBM model is damaged: `{key}` does not hold {count} numbers.")
    return values


def _tree(pairs: Mapping[str, str], width: int, slots: dict[tuple[int, int, bool], int]) -> Any:
    """One tree as nested nodes; adds the slots it needs."""
    if int(pairs.get("num_cat", "0")) or int(pairs.get("is_linear", "0")):
        raise ArtifactError("The LightGBM model has categorical splits or linear leaves, which are not supported.")
    leaves = int(pairs["num_leaves"])
    leaf_values = _numbers(pairs, "leaf_value", leaves)
    if leaves == 1:
        return leaf_values[0]
    count = leaves - 1
    thresholds = _numbers(pairs, "threshold", count)
    columns, kinds, lefts, rights = (
        _integers(pairs, key, count) for key in ("split_feature", "decision_type", "left_child", "right_child")
    )
    visited: set[int] = set()

    def child(index: int) -> Any:
        if index < 0:
            return leaf_values[~index]
        if index in visited:
            raise ArtifactError("The LightGBM model is damaged: a node has two parents.")
        visited.add(index)
        kind, column = kinds[index], columns[index]
        missing, default_left = kind >> 2 & 3, bool(kind & _DEFAULT_LEFT)
        if kind & _CATEGORICAL or missing > _MISSING_NAN or not 0 <= column < width:
            raise ArtifactError(f"The LightGBM model has a split of a kind that is not supported (decision_type {kind}).")
        slot = (column, missing, default_left and missing != _MISSING_NONE)
        place = slots.setdefault(slot, len(slots))
        return (place, thresholds[index], child(lefts[index]), child(rights[index]))

    return child(0)
