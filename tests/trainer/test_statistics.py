"""Evaluation statistics against brute force, scipy, and figures that stand in textbooks."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from coderl_trainer.errors import FigureError
from coderl_trainer.statistics import (
    cohens_d,
    cohens_d_paired,
    cohens_h,
    mcnemar,
    mean_pass_at_k,
    paired_difference,
    pass_at_k,
    share,
)

finite = st.integers(-1000, 1000).map(float)


# -- shares -------------------------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 300), data=st.data())
def test_share_is_wilsons_interval(n: int, data: st.DataObject) -> None:
    positives = data.draw(st.integers(0, n))
    found = share(positives, n)
    other = stats.binomtest(positives, n).proportion_ci(0.95, method="wilson")
    assert (found.estimate, found.low, found.high) == pytest.approx((positives / n, other.low, other.high), abs=1e-12)


def test_share_of_nothing_is_not_known() -> None:
    found = share(0, 0)
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (0.0, 1.0)
    with pytest.raises(FigureError, match="3 of 2"):
        share(3, 2)


# -- pass@k -------------------------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 9), data=st.data())
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_correct_one(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


@given(n=st.integers(1, 8), k=st.integers(1, 8), p=st.floats(0, 1))
def test_pass_at_k_has_no_bias(n: int, k: int, p: float) -> None:
    """Its mean over everything that n samples of chance p can give is the chance that one of k is correct."""
    k = min(k, n)
    chances = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]  # scipy's overflow for p near 0
    mean = sum(chance * pass_at_k(n, c, k) for c, chance in enumerate(chances))
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


def test_pass_at_k_of_many_samples_stays_exact() -> None:
    exact = 1 - Fraction(math.comb(10_000 - 3, 100), math.comb(10_000, 100))
    assert pass_at_k(10_000, 3, 100) == pytest.approx(float(exact), rel=1e-9)


def test_pass_at_1_of_tasks_is_the_mean_share() -> None:
    assert mean_pass_at_k([(4, 1), (4, 4), (2, 0)], 1) == pytest.approx((0.25 + 1 + 0) / 3)


@pytest.mark.parametrize("counts", [(0, 0, 1), (3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_pass_at_k_refuses_counts_that_cannot_be(counts: tuple[int, int, int]) -> None:
    with pytest.raises(FigureError):
        pass_at_k(*counts)


def test_pass_at_k_needs_a_task() -> None:
    with pytest.raises(FigureError):
        mean_pass_at_k([], 1)


# -- McNemar ------------------------------------------------------------------------------------------------------------------


@given(only_a=st.integers(0, 7), only_b=st.integers(0, 7))
def test_mcnemar_counts_all_ways_the_coins_could_fall(only_a: int, only_b: int) -> None:
    m = only_a + only_b
    falls = [sum(coins) for coins in itertools.product((0, 1), repeat=m)]
    as_far = sum(abs(heads - m / 2) >= abs(only_a - m / 2) for heads in falls)
    assert mcnemar(only_a, only_b) == pytest.approx(as_far / len(falls), abs=1e-12)


@given(only_a=st.integers(0, 400), only_b=st.integers(0, 400))
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int) -> None:
    other = 1.0 if only_a + only_b == 0 else stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(other, rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(FigureError):
        mcnemar(-1, 3)


# -- effect sizes -------------------------------------------------------------------------------------------------------------


def test_cohens_h_of_the_textbook() -> None:
    assert cohens_h(0.5, 0.75) == pytest.approx(math.pi / 6)  # 2·asin √¾ = 2π/3, 2·asin √½ = π/2
    assert cohens_h(0.0, 1.0) == pytest.approx(math.pi)


@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_cohens_h_changes_sign_with_the_sides_and_with_the_meaning_of_success(a: float, b: float) -> None:
    assert cohens_h(a, b) == pytest.approx(-cohens_h(b, a), abs=1e-12)
    assert cohens_h(1 - a, 1 - b) == pytest.approx(-cohens_h(a, b), abs=1e-6)


def test_cohens_h_makes_the_noise_of_all_shares_the_same() -> None:
    """√n·h between a share and its estimate has variance 1 wherever the share lies (delta method): that is what it is for."""
    rng = np.random.default_rng(5)
    for p in (0.2, 0.5, 0.8):
        distances = [cohens_h(p, hits / 400) * math.sqrt(400) for hits in rng.binomial(400, p, 4000)]
        assert np.std(distances) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shares", [(-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5)])
def test_cohens_h_takes_shares_only(shares: tuple[float, float]) -> None:
    with pytest.raises(FigureError):
        cohens_h(*shares)


@given(a=st.lists(finite, min_size=2, max_size=20), b=st.lists(finite, min_size=2, max_size=20))
def test_cohens_d_is_students_t_without_the_sample_size(a: list[float], b: list[float]) -> None:
    if len(set(a)) == 1 or len(set(b)) == 1:
        return
    t = stats.ttest_ind(b, a).statistic
    assert cohens_d(a, b) == pytest.approx(t * math.sqrt(1 / len(a) + 1 / len(b)), rel=1e-6, abs=1e-9)


@given(pairs=st.lists(st.tuples(finite, finite), min_size=2, max_size=20))
def test_cohens_d_of_pairs_is_the_paired_t_without_the_sample_size(pairs: list[tuple[float, float]]) -> None:
    a, b = [left for left, _ in pairs], [right for _, right in pairs]
    if len(set(np.subtract(b, a))) == 1:
        return
    t = stats.ttest_rel(b, a).statistic
    assert cohens_d_paired(a, b) == pytest.approx(t / math.sqrt(len(a)), rel=1e-6, abs=1e-9)


def test_cohens_d_where_nothing_varies() -> None:
    assert cohens_d([1, 1], [1, 1]) == 0.0
    assert cohens_d([1, 1], [2, 2]) == math.inf
    assert cohens_d_paired([3, 3], [2, 2]) == -math.inf
    with pytest.raises(FigureError):
        cohens_d([1], [1, 2])
    with pytest.raises(FigureError):
        cohens_d_paired([1], [2])


# -- the difference of two models ---------------------------------------------------------------------------------------------


@given(rows=st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_the_difference_is_that_of_the_means_and_turns_with_the_sides(rows: list[tuple[bool, bool, int]]) -> None:
    a, b = [float(x) for x, _, _ in rows], [float(y) for _, y, _ in rows]
    problems = [str(problem) for _, _, problem in rows]
    there, back = (paired_difference(x, y, problems, resamples=50) for x, y in ((a, b), (b, a)))
    assert there.estimate == pytest.approx(np.mean(b) - np.mean(a), abs=1e-12)
    assert (back.estimate, back.low, back.high) == pytest.approx(
        (-there.estimate, -there.high, -there.low), abs=1e-12, nan_ok=True
    )
    if math.isfinite(there.low):
        assert there.low <= there.estimate <= there.high


def test_the_interval_of_independent_tasks_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    a = (rng.random(400) < 0.3).astype(float)
    b = (rng.random(400) < 0.4).astype(float)
    found = paired_difference(a.tolist(), b.tolist(), [str(i) for i in range(400)])
    other = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.01)


def test_the_interval_holds_the_truth_although_tasks_of_a_problem_go_together() -> None:
    """Problems shift all their tasks at once; an interval that takes tasks for independent would miss far more often."""
    rng = np.random.default_rng(7)
    held = naive = 0
    worlds, problems, each = 200, 40, 8
    names = np.repeat(np.arange(problems), each).astype(str).tolist()
    for world in range(worlds):
        gain = np.repeat(rng.normal(0.1, 0.3, problems), each) + rng.normal(0, 0.2, problems * each)
        found = paired_difference([0.0] * len(gain), gain.tolist(), names, seed=world, resamples=400)
        held += found.low <= 0.1 <= found.high
        half = 1.96 * gain.std(ddof=1) / math.sqrt(len(gain))
        naive += abs(gain.mean() - 0.1) <= half
    assert held >= 0.9 * worlds
    assert naive <= 0.75 * worlds


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b, problems = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0, 1.0, 0.0], list("aabbcd")
    first, again, other = (paired_difference(a, b, problems, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.estimate == other.estimate


def test_what_cannot_be_known_is_not_made_up() -> None:
    alone = paired_difference([0.0, 1.0], [1.0, 1.0], ["one", "one"])
    assert alone.estimate == 0.5
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    same = paired_difference([0.0, 1.0, 1.0], [0.0, 1.0, 1.0], list("abc"))
    assert (same.low, same.high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("a", "b", "problems"),
    [([], [], []), ([1.0], [1.0, 0.0], ["a"]), ([1.0], [0.0], ["a", "b"]), ([math.nan], [0.0], ["a"])],
)
def test_pairs_that_are_none_are_refused(a: list[float], b: list[float], problems: list[str]) -> None:
    with pytest.raises(FigureError):
        paired_difference(a, b, problems)
