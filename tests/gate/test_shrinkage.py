"""Shrinkage: nothing known gives the population, everything known gives the user's own, and the truth comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_gate.shrinkage import PRIOR_USERS, Floats, Shrunk, Sums, not_negative, shrink, sums

PRIOR = np.array([[0.25]])
LINE_PRIOR = np.array([[0.04, 0.0002], [0.0002, 0.00001]])


def levels(values: list[list[float]], prior: Floats = PRIOR) -> Shrunk:
    """Fit a mean per user; `values` holds each user's rows."""
    member = np.repeat(np.arange(len(values)), [len(rows) for rows in values])
    y = np.concatenate([np.array(rows, dtype=float) for rows in values])
    return shrink(sums(np.ones((len(y), 1)), y, np.ones(len(y)), member, len(values)), prior)


rows = st.lists(st.floats(-5, 5), min_size=0, max_size=8)
people = st.lists(rows, min_size=1, max_size=6).filter(lambda users: any(users))


@settings(max_examples=60, deadline=None)
@given(people)
def test_without_rows_a_user_is_the_population_exactly(users: list[list[float]]) -> None:
    fit = levels([*users, []])
    assert fit.own[-1, 0] == fit.population[0]
    assert fit.own_cov[-1, 0, 0] == pytest.approx(fit.between[0, 0])


@settings(max_examples=60, deadline=None)
@given(people)
def test_a_user_lies_between_the_population_and_their_own_mean(users: list[list[float]]) -> None:
    fit = levels(users)
    for own, known in zip(fit.own[:, 0], users, strict=True):
        if known:
            low, high = sorted([fit.population[0], float(np.mean(known))])
            assert low - 1e-6 <= own <= high + 1e-6


@settings(max_examples=40, deadline=None)
@given(people)
def test_every_added_row_pulls_towards_the_own_mean(users: list[list[float]]) -> None:
    """At the same noise and spread, more rows at the same place mean less shrinkage."""
    fit = levels(users)
    reach = [fit.noise / (fit.noise + n * fit.between[0, 0]) for n in (1, 2, 5, 50)]
    assert reach == sorted(reach, reverse=True)
    for own, known in zip(fit.own[:, 0], users, strict=True):
        if known:
            left = fit.noise / (fit.noise + len(known) * fit.between[0, 0])
            apart = float(np.mean(known)) - fit.population[0]
            assert own - fit.population[0] == pytest.approx((1 - left) * apart, abs=1e-6)


def test_with_endless_rows_a_user_is_their_own_mean() -> None:
    rng = np.random.default_rng(0)
    fit = levels([list(rng.normal(level, 1.0, 40_000)) for level in (0.0, 0.3, 3.0)])
    assert fit.own[:, 0] == pytest.approx([0.0, 0.3, 3.0], abs=0.02)


def test_the_order_of_users_and_rows_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    users = [list(rng.normal(rng.normal(), 1.0, int(rng.integers(1, 30)))) for _ in range(9)]
    forth, back = levels(users), levels([list(reversed(known)) for known in reversed(users)])
    assert back.population == pytest.approx(forth.population)
    assert back.own[::-1] == pytest.approx(forth.own)


def test_weights_that_all_double_change_nothing_and_a_row_of_twenty_is_one_observation() -> None:
    x, y = np.ones((6, 1)), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    member = np.array([0, 0, 0, 1, 1, 1])
    one, two = (sums(x, y, weight, member, 2) for weight in (np.ones(6), np.full(6, 2.0)))
    assert one.count == pytest.approx(two.count)
    heavy = sums(x, y, np.array([20.0, 1.0, 1.0, 1.0, 1.0, 1.0]), member, 2)
    assert heavy.count.sum() == pytest.approx(25**2 / 405)


def test_the_truth_comes_back() -> None:
    """Population, spread and noise of a made-up mixed model of lines."""
    rng = np.random.default_rng(2)
    users, n = 400, 60
    own = rng.multivariate_normal([1.0, 0.02], LINE_PRIOR, users)
    member = np.repeat(np.arange(users), n)
    chars = rng.exponential(40, users * n)
    x = np.stack([np.ones_like(chars), chars], axis=1)
    y = (x * own[member]).sum(axis=1) + rng.normal(0, 0.5, users * n)
    fit = shrink(sums(x, y, np.ones(users * n), member, users), 0.1 * LINE_PRIOR)
    assert fit.population == pytest.approx([1.0, 0.02], abs=0.03)
    assert np.diag(fit.between) == pytest.approx(np.diag(LINE_PRIOR), rel=0.2)
    assert fit.noise == pytest.approx(0.25, rel=0.05)
    error = np.square(fit.own - own).mean(axis=0)
    assert (error < 0.5 * np.square(own.mean(axis=0) - own).mean(axis=0)).all()  # knowing the user halves the error at least


def test_intervals_of_the_population_and_of_users_hold_what_they_promise() -> None:
    """95 % intervals of 300 made-up populations of 12 users."""
    from scipy.stats import t as student

    rng = np.random.default_rng(3)
    inside, inside_own = [], []
    for _ in range(300):
        own = rng.normal(2.0, 0.5, 12)
        fit = levels([list(rng.normal(level, 1.0, 15)) for level in own])
        reach = student.ppf(0.975, 11) * np.sqrt(fit.population_cov[0, 0])
        inside.append(abs(fit.population[0] - 2.0) <= reach)
        inside_own.append(np.abs(fit.own[:, 0] - own) <= 1.96 * np.sqrt(fit.own_cov[:, 0, 0]))
    assert 0.92 <= np.mean(inside) <= 0.99
    assert 0.92 <= np.mean(inside_own) <= 0.98


def test_one_user_leaves_the_spread_mostly_to_the_prior() -> None:
    fit = levels([[1.0, 1.1, 0.9, 1.0]])
    assert fit.between[0, 0] == pytest.approx(PRIOR[0, 0] * PRIOR_USERS / (PRIOR_USERS + 1), rel=0.4)


def test_rows_that_are_all_the_same_break_nothing() -> None:
    fit = shrink(Sums(np.ones((2, 1, 1)), np.ones((2, 1)), np.ones(2), np.ones(2)), PRIOR)
    assert fit.own[:, 0] == pytest.approx([1.0, 1.0])


@settings(max_examples=100, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 3), st.floats(0.1, 3), st.floats(-0.95, 0.95))
def test_not_negative_is_the_most_probable_pair_of_the_quadrant(a: float, b: float, sa: float, sb: float, r: float) -> None:
    mean, cov = np.array([[a, b]]), np.array([[[sa * sa, r * sa * sb], [r * sa * sb, sb * sb]]])
    found = not_negative(mean, cov)[0]
    assert (found >= 0).all()
    if a >= 0 and b >= 0:
        assert (found == mean[0]).all()
    grid = np.stack(np.meshgrid(np.linspace(0, 9, 91), np.linspace(0, 9, 91)), axis=-1).reshape(-1, 2)
    precision = np.linalg.inv(cov[0])

    def distance(pairs: Floats) -> Floats:
        return np.asarray(np.einsum("ni,ij,nj->n", pairs - mean, precision, pairs - mean))

    assert distance(found[None])[0] <= distance(grid).min() + 1e-6
