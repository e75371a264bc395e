"""Metrics against scikit-learn, by hand, and what must not change them."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from coderl_gate.errors import DataError
from coderl_gate.metrics import auc, brier, ece, log_loss, reliability_curve, wilson

cases = st.lists(
    st.tuples(st.booleans(), st.one_of(st.floats(0.001, 0.999), st.sampled_from([0.25, 0.5, 0.75]))), min_size=2, max_size=40
)


def split(rows: list[tuple[bool, float]]) -> tuple[list[bool], list[float]]:
    return [label for label, _ in rows], [p for _, p in rows]


@given(cases)
def test_equal_to_scikit_learn(rows: list[tuple[bool, float]]) -> None:
    labels, p = split(rows)
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p, labels=[False, True]))
    assert brier(labels, p) == pytest.approx(brier_score_loss(labels, p))
    if len(set(labels)) == 2:
        assert auc(labels, p) == pytest.approx(roc_auc_score(labels, p))
    else:
        assert auc(labels, p) is None


@given(cases, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows: list[tuple[bool, float]], rng: random.Random) -> None:
    labels, p = split(rows)
    mixed = rows[:]
    rng.shuffle(mixed)
    for metric in (log_loss, brier, auc, ece):
        assert metric(*split(mixed)) == pytest.approx(metric(labels, p))


@given(cases)
def test_auc_sees_ranks_only_and_turns_with_the_labels(rows: list[tuple[bool, float]]) -> None:
    labels, p = split(rows)
    value = auc(labels, p)
    if value is not None:
        ranks = {score: float(place) for place, score in enumerate(sorted(set(p)))}
        assert auc(labels, [ranks[x] for x in p]) == pytest.approx(value)
        assert auc([not label for label in labels], p) == pytest.approx(1 - value)
        assert auc(labels, [-x for x in p]) == pytest.approx(1 - value)


@given(cases)
def test_a_weight_of_two_is_a_row_twice(rows: list[tuple[bool, float]]) -> None:
    labels, p = split(rows)
    weights = [2.0, *[1.0] * (len(rows) - 1)]
    for metric in (log_loss, brier):
        assert metric(labels, p, weights) == pytest.approx(metric([*labels, labels[0]], [*p, p[0]]))


@given(cases, st.integers(1, 12))
def test_the_reliability_curve_counts_every_row_once_in_order(rows: list[tuple[bool, float]], bins: int) -> None:
    labels, p = split(rows)
    curve = reliability_curve(labels, p, bins)
    assert len(curve) <= bins
    assert sum(part.n for part in curve) == len(rows)
    assert sum(part.n * part.observed for part in curve) == pytest.approx(sum(labels))
    assert sum(part.n * part.predicted for part in curve) == pytest.approx(sum(p))
    for part in curve:
        assert part.low <= part.predicted + 1e-12
        assert part.predicted <= part.high + 1e-12
        assert part.observed_low <= part.observed <= part.observed_high
    for one, other in pairwise(curve):
        assert one.high < other.low  # equal probabilities are never separated
    assert 0.0 <= ece(labels, p, bins) <= 1.0


def test_bins_hold_equal_mass_where_nothing_ties() -> None:
    p = [place / 100 for place in range(100)]
    assert [part.n for part in reliability_curve([0] * 100, p, 8)] == [13, 13, 13, 13, 12, 12, 12, 12]


def test_by_hand() -> None:
    labels, p = [1, 0, 1, 0], [0.8, 0.4, 0.4, 0.1]
    assert log_loss(labels, p) == pytest.approx(-(math.log(0.8) + math.log(0.6) + math.log(0.4) + math.log(0.9)) / 4)
    assert brier(labels, p) == pytest.approx((0.04 + 0.16 + 0.36 + 0.01) / 4)
    assert auc(labels, p) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    # two bins: {0.1, 0.4, 0.4} of which 1 positive, and {0.8} of which 1
    assert ece(labels, p, 2) == pytest.approx(3 / 4 * (1 / 3 - 0.3) + 1 / 4 * 0.2)
    assert log_loss([1, 0], [0.0, 0.5]) == math.inf
    assert log_loss([1, 0], [1.0, 0.0]) == 0.0


def test_ece_is_small_for_calibrated_and_large_for_overconfident_probabilities() -> None:
    rng = random.Random(4)
    p = [rng.random() for _ in range(4000)]
    labels = [rng.random() < x for x in p]
    assert ece(labels, p) < 0.03
    assert ece(labels, [0.0 if x < 0.5 else 1.0 for x in p]) > 0.2


def test_wilson_by_hand() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "p"), [([], []), ([1], [0.5, 0.5]), ([2], [0.5]), ([1], [1.5]), ([1], [math.nan]), ([None], [0.5])]
)
def test_rows_that_cannot_be_judged_are_refused(labels: list[int], p: list[float]) -> None:
    for metric in (log_loss, brier, ece):
        with pytest.raises(DataError):
            metric(labels, p)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(DataError, match="not a number"):
        auc([1, 0], [math.nan, 0.0])
    with pytest.raises(DataError, match="Weights"):
        brier([1, 0], [0.5, 0.5], [0.0, 0.0])
    with pytest.raises(DataError, match="do not belong"):
        brier([1, 0], [0.5, 0.5], [1.0])
    with pytest.raises(DataError, match="one bin"):
        reliability_curve([1], [0.5], 0)
    with pytest.raises(DataError, match="not a share"):
        wilson(3, 2)
