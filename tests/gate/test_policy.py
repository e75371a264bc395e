"""`decide` and the table of its probabilities: monotone, exact, and the same thing said twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from coderl_gate.costs import tau
from coderl_gate.escalation import ValueLimit
from coderl_gate.policy import (
    Policy,
    Request,
    Rule,
    Verdict,
    action_probabilities,
    decide,
    eager,
    entropy_bits,
    planned_route,
)
from coderl_store.records import Action, Costs, Reason, Route, Stage

probabilities = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
seconds = st.one_of(st.floats(0, 20), st.sampled_from([0.0, 1.0]))
costs = st.builds(Costs, t_wait_s=seconds, t_verify_s=seconds, t_write_s=seconds, t_edit_s=seconds)
policies = st.builds(
    Policy,
    h_bits=probabilities,
    eagerness=st.floats(-1, 1),
    epsilon_skip=probabilities,
    epsilon_withhold=probabilities,
    rule=st.sampled_from(Rule),
    value_limit=st.builds(ValueLimit, st.floats(0, 2), st.floats(0, 2)),
)
deterministic = st.builds(Policy, h_bits=probabilities, eagerness=st.floats(-1, 1))
coins = st.floats(0, 1, exclude_max=True)
requests = st.builds(
    Request,
    p1=probabilities,
    expected=costs,
    coin_before=coins,
    coin_after=coins,
    p2=probabilities,
    costs=costs,
    may_explore=st.booleans(),
    asked_for=st.booleans(),
)
CHEAP = Costs(t_wait_s=0.0, t_verify_s=1.0, t_write_s=4.0, t_edit_s=0.0)  # τ = 0.25
DEAR = Costs(t_wait_s=0.0, t_verify_s=3.0, t_write_s=4.0, t_edit_s=0.0)  # τ = 0.75


def shown(verdict: Verdict) -> int:
    """Withhold < show."""
    assert verdict.action is not None
    return int(verdict.action is Action.SHOW)


def request(p1: float, p2: float | None = None, expected: Costs = CHEAP, costs: Costs | None = None, **rest: object) -> Request:
    return Request(p1, expected, p2=p2, costs=CHEAP if p2 is not None and costs is None else costs, **rest)  # type: ignore[arg-type]  # test shorthand


# -- monotone ---------------------------------------------------------------------------------------------------------------


def near_flat(p: float, h_bits: float) -> bool:
    """H(p) and h agree to rounding: which side such a p falls on is not defined beyond the last bits."""
    return abs(entropy_bits(p) - h_bits) < 1e-12


@given(requests, policies, probabilities, probabilities)
@example(Request(0.6, DEAR, 0.0, 0.0, 0.1, DEAR), Policy(1.0), 0.5, 0.6)
def test_a_higher_p1_never_withholds_what_a_lower_one_showed(req: Request, policy: Policy, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assume(not near_flat(low, policy.h_bits) and not near_flat(high, policy.h_bits))
    if req.coin_before < policy.epsilon_skip:  # a trial of stage 1 may show what an undecided stage 1 shows too
        policy = replace(policy, epsilon_skip=0.0)
    assert shown(decide(replace(req, p1=low), policy)) <= shown(decide(replace(req, p1=high), policy))


@given(requests, policies, probabilities, probabilities)
def test_a_higher_p1_orders_no_less(req: Request, policy: Policy, a: float, b: float) -> None:
    order = [Route.SKIP, Route.FULL, Route.DRAFT]
    low, high = sorted((a, b))
    assume(not near_flat(low, policy.h_bits) and not near_flat(high, policy.h_bits))
    assume(not req.asked_for)
    routes = [order.index(planned_route(replace(req, p1=p), policy)) for p in (low, high)]
    assert routes[0] <= routes[1]


@given(requests, policies, probabilities, probabilities)
def test_a_higher_p2_never_withholds_what_a_lower_one_showed(req: Request, policy: Policy, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert shown(decide(replace(req, p2=low), policy)) <= shown(decide(replace(req, p2=high), policy))


@given(requests, policies, st.sampled_from(["t_wait_s", "t_verify_s", "t_edit_s", "t_write_s"]), seconds, st.booleans())
def test_what_costs_more_is_shown_no_more(req: Request, policy: Policy, name: str, more: float, before: bool) -> None:
    field = "expected" if before else "costs"
    if before and req.coin_before < policy.epsilon_skip:
        policy = replace(policy, epsilon_skip=0.0)
    base: Costs = getattr(req, field)
    changed = replace(base, **{name: getattr(base, name) + more})
    one, other = decide(req, policy), decide(replace(req, **{field: changed}), policy)
    if name == "t_write_s":  # writing time is what is saved
        one, other = other, one
    assert shown(one) >= shown(other)


@given(requests, policies, st.floats(-1, 1), st.floats(-1, 1))
def test_more_eager_shows_no_less(req: Request, policy: Policy, a: float, b: float) -> None:
    if req.coin_before < policy.epsilon_skip:
        policy = replace(policy, epsilon_skip=0.0)
    low, high = sorted((a, b))
    calm, keen = (decide(req, replace(policy, eagerness=value)) for value in (low, high))
    assert shown(calm) <= shown(keen)


@given(probabilities, st.floats(-1, 1), st.floats(-1, 1))
def test_eagerness_lowers_the_threshold_and_keeps_its_ends(threshold: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0.0 <= eager(threshold, high) <= eager(threshold, low) + 1e-15 <= 1.0 + 1e-15  # a tiny step may round up
    assert eager(0.0, a) == 0.0
    assert eager(1.0, a) == 1.0
    assert eager(threshold, 0.0) == threshold


def test_eagerness_figures_of_the_docstring() -> None:
    assert eager(0.5, 1.0) == pytest.approx(0.119, abs=5e-4)
    assert eager(0.8, 1.0) == pytest.approx(0.351, abs=5e-4)


@given(probabilities)
def test_entropy_is_that_of_a_coin(p: float) -> None:
    assert 0.0 <= entropy_bits(p) <= 1.0
    assert entropy_bits(p) == pytest.approx(entropy_bits(1.0 - p), abs=1e-12)


def test_entropy_by_hand() -> None:
    assert entropy_bits(0.5) == 1.0
    assert entropy_bits(0.0) == entropy_bits(1.0) == 0.0
    assert entropy_bits(0.25) == pytest.approx(2 - 0.75 * 1.584962500721156)


# -- propensities -----------------------------------------------------------------------------------------------------------


@given(requests, policies)
def test_probabilities_are_a_distribution(req: Request, policy: Policy) -> None:
    table = action_probabilities(req, policy)
    assert all(0.0 <= p <= 1.0 for p in table.values())
    assert sum(table.values()) == pytest.approx(1.0, abs=1e-12)


@given(requests, policies)
def test_the_verdict_carries_its_entry_of_the_table(req: Request, policy: Policy) -> None:
    verdict = decide(req, policy)
    assert verdict.action is not None
    assert verdict.propensity == action_probabilities(req, policy)[verdict.route, verdict.action]
    assert verdict.propensity > 0.0


sixteenths = st.integers(0, 16).map(lambda n: n / 16)


@settings(max_examples=60)
@given(requests, policies, sixteenths, sixteenths)
def test_probabilities_are_the_frequencies_over_both_coins(req: Request, policy: Policy, skip: float, withhold: float) -> None:
    policy = replace(policy, epsilon_skip=skip, epsilon_withhold=withhold)
    grid = [(n + 0.5) / 16 for n in range(16)]  # ε is a multiple of 1/16, so the grid counts it exactly
    counts: dict[tuple[Route, Action], int] = {}
    for before, after in product(grid, grid):
        verdict = decide(replace(req, coin_before=before, coin_after=after), policy)
        assert verdict.action is not None
        counts[verdict.route, verdict.action] = counts.get((verdict.route, verdict.action), 0) + 1
    table = action_probabilities(req, policy)
    for key in table.keys() | counts.keys():
        assert counts.get(key, 0) / 256 == pytest.approx(table.get(key, 0.0), abs=1e-12)


@given(requests, deterministic)
def test_without_epsilon_the_coins_change_nothing(req: Request, policy: Policy) -> None:
    verdict = decide(req, policy)
    assert verdict == decide(replace(req, coin_before=0.0, coin_after=0.0), policy)
    assert verdict.propensity == 1.0
    assert verdict.reason is not Reason.EXPLORED
    assert not verdict.explored


@given(requests, policies)
def test_where_it_may_not_explore_epsilon_changes_nothing(req: Request, policy: Policy) -> None:
    req = replace(req, may_explore=False)
    assert decide(req, policy) == decide(req, replace(policy, epsilon_skip=0.0, epsilon_withhold=0.0))


@given(requests, policies)
def test_asking_twice_with_the_same_coins_agrees_with_itself(req: Request, policy: Policy) -> None:
    first = decide(replace(req, p2=None, costs=None), policy)
    second = decide(req, policy)
    assert first.route is second.route
    if first.action is not None:
        assert (first.action, first.reason, first.propensity) == (second.action, second.reason, second.propensity)
    else:
        assert first.route is Route.FULL
        assert first.stage is Stage.BEFORE
        assert first.propensity >= second.propensity


@given(requests, policies)
def test_explored_means_that_the_plan_was_not_followed(req: Request, policy: Policy) -> None:
    verdict = decide(req, policy)
    plain = decide(req, replace(policy, epsilon_skip=0.0, epsilon_withhold=0.0))
    assert verdict.explored == ((verdict.route, verdict.action) != (plain.route, plain.action))
    if verdict.action is Action.SHOW and verdict.explored:
        assert verdict.reason is Reason.EXPLORED


def test_epsilon_one_always_explores_and_says_so() -> None:
    policy = Policy(0.9, epsilon_skip=1.0, epsilon_withhold=1.0)
    verdict = decide(request(0.01, p2=0.01), policy)
    assert (verdict.route, verdict.action, verdict.propensity) == (Route.FULL, Action.SHOW, 1.0)
    assert verdict.reason is Reason.EXPLORED
    late = decide(request(0.4, p2=0.01), policy)
    assert (late.action, late.reason, late.explored) == (Action.SHOW, Reason.EXPLORED, True)


# -- rules and routes -------------------------------------------------------------------------------------------------------


@given(requests, probabilities)
def test_always_show_shows_and_never_show_generates_nothing(req: Request, h_bits: float) -> None:
    always = decide(req, Policy(h_bits, rule=Rule.ALWAYS_SHOW))
    assert (always.route, always.action, always.propensity) == (Route.FULL, Action.SHOW, 1.0)
    never = decide(replace(req, asked_for=False), Policy(h_bits, rule=Rule.NEVER_SHOW))
    assert (never.route, never.action, never.propensity) == (Route.SKIP, Action.WITHHOLD, 1.0)


@given(requests, policies)
def test_who_asks_is_answered(req: Request, policy: Policy) -> None:
    verdict = decide(replace(req, asked_for=True), policy)
    assert (verdict.route, verdict.action, verdict.reason) == (Route.FULL, Action.SHOW, Reason.ASKED_FOR)
    assert verdict.propensity == 1.0


@pytest.mark.parametrize(
    ("p1", "expected", "route"),
    [
        (0.02, CHEAP, Route.SKIP),
        (0.98, CHEAP, Route.DRAFT),
        (0.40, CHEAP, Route.FULL),  # uncertain
        (0.30, DEAR, Route.FULL),  # below τ̂ but uncertain
        (0.98, Costs(0, 5, 4, 0), Route.FULL),  # sure, but below τ̂ = 1: not skipped above ½
        (0.02, Costs(0, 0, 4, 0), Route.FULL),  # sure, but τ̂ = 0: not drafted below ½
    ],
)
def test_routes_of_stage_1(p1: float, expected: Costs, route: Route) -> None:
    assert decide(request(p1, expected=expected), Policy(h_bits=0.5)).route is route


def test_an_entropy_of_exactly_h_counts_as_sure() -> None:
    assert decide(request(0.5), Policy(h_bits=1.0)).route is Route.DRAFT
    assert decide(request(0.1), Policy(h_bits=entropy_bits(0.1))).route is Route.SKIP


@pytest.mark.parametrize(("p2", "action"), [(0.24, Action.WITHHOLD), (0.25, Action.WITHHOLD), (0.26, Action.SHOW)])
def test_stage_2_shows_strictly_above_the_threshold(p2: float, action: Action) -> None:
    verdict = decide(request(0.5, p2), Policy(h_bits=0.5))
    assert tau(CHEAP) == 0.25
    assert (verdict.stage, verdict.action, verdict.tau) == (Stage.AFTER, action, 0.25)


def test_what_saves_nothing_is_never_shown() -> None:
    assert decide(request(0.5, 1.0, costs=Costs(0.0, 0.1, 1.0, 1.0)), Policy(0.5)).action is Action.WITHHOLD


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.1])
@pytest.mark.parametrize("name", ["p1", "p2", "coin_before", "coin_after"])
def test_what_is_no_probability_is_refused(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(request(0.5, 0.5), **{name: bad})


@pytest.mark.parametrize(
    "change", [{"h_bits": 1.1}, {"eagerness": -2}, {"epsilon_skip": float("nan")}, {"epsilon_withhold": -1}]
)
def test_a_policy_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(Policy(0.5), **change)


def test_stage_2_without_a_suggestion_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="p2 and the costs"):
        action_probabilities(request(0.4), Policy(0.5))


@given(st.lists(requests, min_size=1, max_size=8), deterministic, st.floats(0, 2), st.floats(0, 2), st.booleans())
def test_the_share_shown_never_falls_along_the_dial(
    asked: list[Request], policy: Policy, seconds_limit: float, spread: float, by_value: bool
) -> None:
    """Of any set of requests, over the whole grid, under both rules of what is settled before generation."""
    if by_value:
        policy = replace(policy, rule=Rule.VALUE, value_limit=ValueLimit(seconds_limit, spread))
    grid = [step / 10 for step in range(-10, 11)]
    shares = [sum(shown(decide(one, replace(policy, eagerness=eagerness))) for one in asked) for eagerness in grid]
    assert shares == sorted(shares)
