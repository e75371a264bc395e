"""Both rules of escalation, and what the value of information must be."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.escalation import EntropyLimit, Escalation, ValueLimit, entropy_bits, value_of_information_s
from coderl_gate.policy import Policy, Request, Rule, action_probabilities, decide, planned_route
from coderl_store.records import Costs, Route

THRESHOLDS = st.floats(0.02, 0.98)
SPREADS = st.floats(0.0, 3.0)


@given(st.floats(0, 1), THRESHOLDS, st.floats(0, 20), SPREADS)
def test_knowing_is_never_worth_less_than_nothing(p: float, threshold: float, gain_s: float, spread: float) -> None:
    value = value_of_information_s(p, threshold, gain_s, spread)
    assert 0 <= value <= gain_s
    assert value == pytest.approx(gain_s * value_of_information_s(p, threshold, 1.0, spread))


@given(THRESHOLDS, st.floats(0.1, 2.0))
def test_it_is_largest_where_the_decision_hangs_in_the_balance(threshold: float, spread: float) -> None:
    grid = np.linspace(0.005, 0.995, 199).tolist()
    values = [value_of_information_s(p, threshold, 1.0, spread) for p in grid]
    best = grid[int(np.argmax(values))]
    assert abs(best - threshold) < 0.03
    rising = [value for p, value in zip(grid, values, strict=True) if p <= threshold]
    falling = [value for p, value in zip(grid, values, strict=True) if p >= threshold]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(rising))
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(falling))


@given(st.floats(0.02, 0.98), st.floats(0.0, 2.5))
def test_the_mean_of_the_second_estimate_is_the_first(p: float, spread: float) -> None:
    """With a threshold of nearly 0 the value is E[p2] − p1 where that is positive: nothing."""
    assert value_of_information_s(p, 1e-9, 1.0, spread) < 1e-8


def test_stage_2_that_knows_nothing_more_is_never_asked() -> None:
    assert value_of_information_s(0.4, 0.4, 10.0, 0.0) == 0.0
    assert ValueLimit(0.0, 0.0).settles(0.4, 0.4, 10.0)


@pytest.mark.parametrize("rule", [EntropyLimit(0.6), ValueLimit(0.1, 0.8)])
def test_both_answer_the_same_question(rule: Escalation) -> None:
    assert isinstance(rule, Escalation)
    assert rule.settles(0.01, 0.3, 5.0)
    assert not rule.settles(0.3, 0.3, 5.0) or isinstance(rule, EntropyLimit)


def test_numbers_out_of_range_are_refused() -> None:
    for seconds, spread in ((-1.0, 0.5), (math.nan, 0.5), (0.1, -1.0), (0.1, math.inf)):
        with pytest.raises(ValueError, match="out of range"):
            ValueLimit(seconds, spread)


@given(st.floats(0, 1), THRESHOLDS, st.floats(0.0, 0.5), SPREADS)
def test_a_settled_request_lies_on_its_side_of_the_threshold(p: float, tau: float, seconds: float, spread: float) -> None:
    expected = Costs(t_wait_s=0.0, t_verify_s=10 * tau, t_write_s=10.0, t_edit_s=0.0)
    route = planned_route(
        Request(p1=p, expected=expected), Policy(0.5, rule=Rule.VALUE, value_limit=ValueLimit(seconds, spread))
    )
    if route is Route.SKIP:
        assert p < tau + 1e-9
    if route is Route.DRAFT:
        assert p >= tau - 1e-9


@given(THRESHOLDS, st.floats(0.0, 0.3), st.floats(0.1, 2.0))
def test_a_likelier_place_is_never_treated_worse(tau: float, seconds: float, spread: float) -> None:
    """skip < full < draft in the order of p1."""
    expected = Costs(t_wait_s=0.0, t_verify_s=10 * tau, t_write_s=10.0, t_edit_s=0.0)
    policy = Policy(0.5, rule=Rule.VALUE, value_limit=ValueLimit(seconds + 0.05, spread))
    order = {Route.SKIP: 0, Route.FULL: 1, Route.DRAFT: 2}
    grid = np.linspace(0.005, 0.995, 100).tolist()
    ranks = [order[planned_route(Request(p1=p, expected=expected), policy)] for p in grid]
    assert ranks == sorted(ranks)


def test_the_decision_still_ends_where_stage_2_says() -> None:
    expected = Costs(t_wait_s=0.0, t_verify_s=1.0, t_write_s=4.0, t_edit_s=0.0)
    policy = Policy(0.0, rule=Rule.VALUE, value_limit=ValueLimit(0.0, 1.0))
    asked = Request(p1=0.25, expected=expected)
    assert decide(asked, policy).action is None
    assert entropy_bits(0.25) > 0.8


def test_the_value_limit_counts_only_where_its_rule_is_asked_for() -> None:
    expected = Costs(t_wait_s=0.0, t_verify_s=1.0, t_write_s=4.0, t_edit_s=0.0)
    asked, everything = Request(p1=0.4, expected=expected), ValueLimit(math.inf, 1.0)
    assert planned_route(asked, Policy(0.0, value_limit=everything)) is Route.FULL
    assert planned_route(asked, Policy(0.0, rule=Rule.VALUE, value_limit=everything)) is Route.DRAFT


def test_the_rule_needs_its_limit() -> None:
    with pytest.raises(ValueError, match="no value limit"):
        Policy(0.5, rule=Rule.VALUE)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_propensities_stay_exact_under_the_rule(p1: float, p2: float, skip: float, withhold: float) -> None:
    costs = Costs(t_wait_s=0.0, t_verify_s=1.5, t_write_s=4.0, t_edit_s=0.0)
    policy = Policy(0.5, epsilon_skip=skip, epsilon_withhold=withhold, rule=Rule.VALUE, value_limit=ValueLimit(0.05, 0.8))
    request = Request(p1=p1, expected=costs, p2=p2, costs=costs)
    table = action_probabilities(request, policy)
    assert sum(table.values()) == pytest.approx(1.0)
    for before in (0.0, 0.999999):
        for after in (0.0, 0.999999):
            verdict = decide(replace(request, coin_before=before, coin_after=after), policy)
            assert verdict.action is not None
            assert verdict.propensity == pytest.approx(table[verdict.route, verdict.action])
