"""Fitting both rules of escalation: budgets are kept, limits mean what they say, the better informed rule settles more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.costs import CostParameters, expected_costs
from coderl_gate.dataset import Dataset, Selection, build
from coderl_gate.escalation import ValueLimit
from coderl_gate.figures import score
from coderl_gate.policy import Policy, Request, Rule, planned_route
from coderl_gate.settling import by_entropy, by_value, spread_of
from coderl_gate.synthetic import World, knowing
from coderl_store.records import Origin, Route

COSTS = CostParameters(verify_base_s=1.5)


def logged(users: int, per_user: int) -> Dataset:
    world = World(users=users, requests_per_user=per_user, seed=4, origin=Origin.SIMULATED)
    requests = world.requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW), COSTS)
    return build(requests, Selection(frozenset({Origin.SIMULATED})))


SMALL = logged(2, 30)


@pytest.fixture(scope="module")
def world() -> tuple[Dataset, np.ndarray, np.ndarray]:
    dataset = logged(8, 80)
    return dataset, *score(knowing(), dataset)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_no_rule_overspends(seed: int, budget_s: float) -> None:
    rng = np.random.default_rng(seed)
    p1, p2 = rng.uniform(0.01, 0.99, len(SMALL)), rng.uniform(0.01, 0.99, len(SMALL))
    for candidates in (by_entropy(p1, p2, SMALL, COSTS), by_value(p1, p2, SMALL, COSTS)[0]):
        settled = candidates.within(budget_s)
        assert 0 <= settled.cost_s <= budget_s + 1e-12
        assert 0 <= settled.saved <= 1


def test_the_value_limit_means_what_it_says(world: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    dataset, p1, p2 = world
    candidates, spread = by_value(p1, p2, dataset, COSTS)
    settled = candidates.within(0.02)
    limit = ValueLimit(settled.limit, spread)
    policy, expected = Policy(0.0, rule=Rule.VALUE, value_limit=limit), expected_costs(COSTS)
    routes = [planned_route(Request(p1=float(p), expected=expected), policy) for p in p1]
    assert np.mean([route is Route.SKIP for route in routes]) == pytest.approx(settled.skipped)
    assert np.mean([route is Route.DRAFT for route in routes]) == pytest.approx(settled.drafted)


def test_more_budget_settles_more(world: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    dataset, p1, p2 = world
    for candidates in (by_entropy(p1, p2, dataset, COSTS), by_value(p1, p2, dataset, COSTS)[0]):
        shares = [candidates.within(budget).saved for budget in (0.0, 0.005, 0.02, 0.1, 10.0)]
        assert shares == sorted(shares)
        assert shares[-1] > 0


def test_the_value_of_information_settles_more_for_the_same_budget(world: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    """Entropy cannot tell where the decision hangs; the value of information can."""
    dataset, p1, p2 = world
    entropy = by_entropy(p1, p2, dataset, COSTS).within(0.02)
    value = by_value(p1, p2, dataset, COSTS)[0].within(0.02)
    assert value.saved > entropy.saved


def test_the_spread_is_found() -> None:
    rng = np.random.default_rng(0)
    middle = rng.normal(0, 1, 50_000)
    p1 = 1 / (1 + np.exp(-middle / np.sqrt(1 + np.pi * 0.64 / 8)))
    p2 = 1 / (1 + np.exp(-(middle + rng.normal(0, 0.8, len(middle)))))
    assert spread_of(p1, p2, np.ones(len(p1))) == pytest.approx(0.8, abs=0.02)
