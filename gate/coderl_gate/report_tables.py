"""The tables of the calibration report as plain rows of text: certificates, escalation, features, programmers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from .artifact import StageModel
from .calibrate import Fit
from .scorer import TreeScorer
from .settling import Settled
from .tendency import NOBODY

TOP_FEATURES: Final = 10
MOST_PROGRAMMERS: Final = 30
"""Programmers in the table: those with the most decisions."""

Rows = list[list[str]]


def certificate_rows(certificates: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence per promise."""
    return [str(found["sentence"]) for found in certificates.values()]


def escalation_rows(rules: Sequence[tuple[float, Settled, Settled]]) -> Rows:
    """Budget, then for each rule: share settled (skipped + drafted), and seconds per request really lost."""

    def cells(settled: Settled) -> list[str]:
        return [f"{settled.skipped:.1%} + {settled.drafted:.1%}", f"{settled.realised_cost_s:+.3f} s"]

    return [[f"{budget:g} s", *cells(entropy), *cells(value)] for budget, entropy, value in rules]


def feature_rows(stage: StageModel) -> Rows:
    """The features that a stage rests on most: how often the trees split by them, and the line's weight of one standard
    deviation. The most used first."""
    splits = {} if stage.trees is None else _splits(stage.trees)
    weights = {} if stage.linear is None else dict(zip(stage.linear.names, stage.linear.weights, strict=True))
    order = sorted(splits or weights, key=lambda name: -(splits.get(name, 0) or abs(weights.get(name, 0.0))))
    return [
        [name, str(splits[name]) if name in splits else "–", f"{weights[name]:+.2f}" if name in weights else "–"]
        for name in order[:TOP_FEATURES]
    ]


def _splits(trees: TreeScorer) -> dict[str, int]:
    """Feature → splits, from the table that LightGBM writes at the end of its model text."""
    text = trees.text.split("\nfeature_importances:\n", 1)
    if len(text) < 2:
        return {}
    names = {f"Column_{index}": name for index, name in enumerate(trees.names)}
    pairs = (line.partition("=") for line in text[1].split("\n\n", 1)[0].splitlines())
    return {names.get(name, name): int(count) for name, _, count in pairs if count.isdigit()}


def programmer_rows(fit: Fit) -> Rows:
    """Per programmer: decisions, kept, expected to be kept, tendency (odds multiplied by), seconds to read 40 characters."""
    dataset, personal = fit.dataset, fit.personal
    names, counts = np.unique(dataset.users, return_counts=True)
    rows: Rows = []
    for index in np.argsort(-counts, kind="stable")[:MOST_PROGRAMMERS].tolist():
        user = str(names[index])
        mine = dataset.users == user
        tendency = personal.tendencies.get(user, NOBODY)
        costs = fit.artifact.costs_of_user(user)
        rows.append(
            [
                user[:12],
                str(int(counts[index])),
                f"{dataset.kept[mine].mean():.0%}",
                f"{personal.p2[mine].mean():.0%}",
                f"×{math.exp(tendency.shift):.2f}",
                f"{costs.verify_base_s + 40 * costs.verify_s_per_char:.2f} s",
            ]
        )
    return rows
