"""Propensities are exact: counted over every pair of coins on a grid, and met by many random coins."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.escalation import ValueLimit
from coderl_gate.policy import Policy, Request, Rule, action_probabilities, decide, planned_route, route_probability
from coderl_store.records import Action, Costs, Route

CHEAP = Costs(t_wait_s=0.0, t_verify_s=1.0, t_write_s=4.0, t_edit_s=0.0)  # τ = 0.25
SKIPPED = Request(0.02, CHEAP, p2=0.1, costs=CHEAP)
SKIPPED_GOOD = replace(SKIPPED, p2=0.9)
WITHHELD = Request(0.4, CHEAP, p2=0.1, costs=CHEAP)
SHOWN = replace(WITHHELD, p2=0.9)
DRAFTED = Request(0.98, CHEAP, p2=0.1, costs=CHEAP)
EXPLORING = Policy(0.5, epsilon_skip=0.25, epsilon_withhold=0.125)
COINS = [(n + 0.5) / 16 for n in range(16)]
"""ε is a multiple of 1/16, so the grid counts it exactly."""

F, S, D = Route.FULL, Route.SKIP, Route.DRAFT
SHOW, HOLD = Action.SHOW, Action.WITHHOLD

CASES: dict[str, tuple[Request, Policy, dict[tuple[Route, Action], float]]] = {
    "a skip": (SKIPPED, EXPLORING, {(S, HOLD): 0.75, (F, SHOW): 0.25 * 0.125, (F, HOLD): 0.25 * 0.875}),
    "a skip of something good": (SKIPPED_GOOD, EXPLORING, {(S, HOLD): 0.75, (F, SHOW): 0.25}),
    "a withheld suggestion": (WITHHELD, EXPLORING, {(F, SHOW): 0.125, (F, HOLD): 0.875}),
    "a shown suggestion": (SHOWN, EXPLORING, {(F, SHOW): 1.0}),
    "a draft": (DRAFTED, EXPLORING, {(D, SHOW): 1.0}),
    "asked for": (replace(SKIPPED, asked_for=True), EXPLORING, {(F, SHOW): 1.0}),
    "in a cooldown or at the cap": (replace(SKIPPED, may_explore=False), EXPLORING, {(S, HOLD): 1.0}),
    "the same, withheld": (replace(WITHHELD, may_explore=False), EXPLORING, {(F, HOLD): 1.0}),
    "the same, a draft": (replace(DRAFTED, may_explore=False), EXPLORING, {(D, SHOW): 1.0}),
    "the same, asked for": (replace(WITHHELD, may_explore=False, asked_for=True), EXPLORING, {(F, SHOW): 1.0}),
    "eager": (replace(WITHHELD, p2=0.2), replace(EXPLORING, eagerness=1.0), {(F, SHOW): 1.0}),
    "shy": (replace(WITHHELD, p2=0.4), replace(EXPLORING, eagerness=-1.0), {(F, SHOW): 0.125, (F, HOLD): 0.875}),
    "always trying": (SKIPPED, Policy(0.5, epsilon_skip=1.0, epsilon_withhold=1.0), {(F, SHOW): 1.0}),
    "one coin only": (SKIPPED, replace(EXPLORING, epsilon_withhold=0.0), {(S, HOLD): 0.75, (F, HOLD): 0.25}),
    "the yardstick that shows": (SKIPPED, replace(EXPLORING, rule=Rule.ALWAYS_SHOW), {(F, SHOW): 1.0}),
    "the yardstick that is silent": (SHOWN, replace(EXPLORING, rule=Rule.NEVER_SHOW), {(S, HOLD): 1.0}),
}


def drawn(request: Request, policy: Policy, before: float, after: float) -> tuple[Route, Action, float]:
    verdict = decide(replace(request, coin_before=before, coin_after=after), policy)
    assert verdict.action is not None
    return verdict.route, verdict.action, verdict.propensity


@pytest.mark.parametrize("name", CASES)
def test_every_pair_of_coins_is_counted(name: str) -> None:
    request, policy, expected = CASES[name]
    counts: Counter[tuple[Route, Action]] = Counter()
    for before, after in product(COINS, COINS):
        route, action, propensity = drawn(request, policy, before, after)
        assert propensity == expected[route, action]
        counts[route, action] += 1
    assert {key: count / 256 for key, count in counts.items()} == expected
    assert {key: p for key, p in action_probabilities(request, policy).items() if p > 0} == expected


@pytest.mark.parametrize("name", CASES)
def test_random_coins_meet_the_propensity(name: str) -> None:
    request, policy, expected = CASES[name]
    rng, tries = random.Random(name), 4000
    counts: Counter[tuple[Route, Action]] = Counter()
    for _ in range(tries):
        route, action, _ = drawn(request, policy, rng.random(), rng.random())
        counts[route, action] += 1
    assert set(counts) == set(expected)
    for key, p in expected.items():
        assert abs(counts[key] / tries - p) <= 4 * math.sqrt(p * (1 - p) / tries)


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
    st.builds(
        Policy,
        h_bits=st.floats(0, 1),
        eagerness=st.floats(-1, 1),
        epsilon_skip=st.floats(0, 1),
        epsilon_withhold=st.floats(0, 1),
        rule=st.sampled_from(Rule),
        value_limit=st.builds(ValueLimit, st.floats(0, 1), st.floats(0, 3)),
    ),
)
def test_the_route_alone_is_the_sum_over_its_actions(p1: float, p2: float, may: bool, asked: bool, policy: Policy) -> None:
    request = Request(p1, CHEAP, p2=p2, costs=CHEAP, may_explore=may, asked_for=asked)
    table = action_probabilities(request, policy)
    for route in Route:
        total = sum(p for (gone, _), p in table.items() if gone is route)
        assert route_probability(request, policy, route) == pytest.approx(total, abs=1e-12)
    if not may:
        assert route_probability(request, policy, planned_route(request, policy)) == 1.0
