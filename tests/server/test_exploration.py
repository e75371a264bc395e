"""Trials of the real service: what is logged as a probability is how often it happens, also under cap and cooldown."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from coderl_server.asked import outdated
from coderl_store.records import Action, Decision, Reason, Route, Stage


def decided(bench: Any, count: int, *, apart_s: float) -> Sequence[Decision]:
    """The decisions of `count` requests at one place."""
    bench.open("sum(")
    for _ in range(count):
        bench.ask()
        bench.later(apart_s)
    return bench.rows(Decision)


def surprise(decisions: Sequence[Decision], took: tuple[Route, Action], probability: Any) -> float:
    """Standardised distance between how often an action was taken and the sum of its probabilities (a martingale)."""
    gap = variance = 0.0
    for decision in decisions:
        p = probability(decision)
        gap += ((decision.route, decision.action) == took) - p
        variance += p * (1.0 - p)
    return abs(gap) / math.sqrt(variance)


def skip_shown(decision: Decision) -> float:
    return decision.epsilon_skip * decision.epsilon_withhold


def skip_kept_back(decision: Decision) -> float:
    return decision.epsilon_skip * (1.0 - decision.epsilon_withhold)


def skip_obeyed(decision: Decision) -> float:
    return 1.0 - decision.epsilon_skip


SKIP = {
    (Route.SKIP, Action.WITHHOLD): skip_obeyed,
    (Route.FULL, Action.WITHHOLD): skip_kept_back,
    (Route.FULL, Action.SHOW): skip_shown,
}
TRYING = {"epsilon_skip": 0.5, "epsilon_withhold": 0.25, "cooldown_s": 0.0}


def test_logged_propensities_are_frequencies(workbench: Any) -> None:
    bench = workbench(p1=0.02, p2=0.01, explore_per_hour=1_000_000, **TRYING)
    decisions = decided(bench, 300, apart_s=12.0)
    assert {(one.route, one.action) for one in decisions} == set(SKIP)
    for decision in decisions:
        assert decision.propensity == SKIP[decision.route, decision.action](decision)
    for action, probability in SKIP.items():
        assert surprise(decisions, action, probability) < 4.0


def test_the_cap_switches_trials_off_and_says_so(workbench: Any) -> None:
    bench = workbench(p1=0.02, p2=0.01, explore_per_hour=5, **TRYING)
    decisions = decided(bench, 400, apart_s=60.0)  # almost seven hours
    for decision in decisions:
        assert decision.propensity == SKIP[decision.route, decision.action](decision)
    capped = [one for one in decisions if one.epsilon_skip == 0.0]
    assert len(capped) > 200
    assert all((one.route, one.propensity) == (Route.SKIP, 1.0) for one in capped)
    free = [one for one in decisions if one.epsilon_skip > 0.0]
    for action, probability in SKIP.items():
        assert surprise(free, action, probability) < 4.0
    trials = [one.at.timestamp() for one in decisions if one.route is Route.FULL]
    assert max(sum(0 <= at - start <= 3600 for at in trials) for start in trials) <= 5


def test_no_trial_within_the_cooldown(workbench: Any) -> None:
    """Asking by hand is answered in the cooldown; what is tried there is nothing, and the log says so."""
    bench = workbench(p1=0.4, p2=0.01, **{**TRYING, "cooldown_s": 100.0})
    bench.open("sum(")
    shown = bench.ask(invoked=True)
    assert shown is not None
    bench.service.reported({"id": shown.suggestion_id, "kind": "dismissed"})
    asked = bench.capture()
    assert (asked.may_explore, asked.objection) == (False, Reason.COOLDOWN)
    bench.ask(invoked=True)
    assert (bench.decision.epsilon_skip, bench.decision.epsilon_withhold, bench.decision.propensity) == (0.0, 0.0, 1.0)


def test_a_draft_and_what_was_asked_for_are_certain(workbench: Any) -> None:
    bench = workbench(p1=0.98, p2=0.01, **TRYING)
    assert all((one.route, one.propensity) == (Route.DRAFT, 1.0) for one in decided(bench, 30, apart_s=12.0))
    bench = workbench(p1=0.02, p2=0.01, **TRYING)
    bench.open("sum(")
    assert bench.ask(invoked=True) is not None
    assert bench.decision.propensity == 1.0


def test_a_trial_that_a_rule_ends_carries_the_probability_of_its_route(workbench: Any) -> None:
    bench = workbench(p1=0.02, p2=0.9, explore_per_hour=1_000_000, max_suggestion_chars=3, **TRYING)
    decisions = decided(bench, 60, apart_s=12.0)
    late = [one for one in decisions if one.reason is Reason.TOO_LARGE]
    assert late
    assert all((one.stage, one.propensity) == (Stage.RULE, 0.5) for one in late)


def test_an_answer_that_came_too_late_carries_the_probability_of_its_route(workbench: Any) -> None:
    bench = workbench(p1=0.4, p2=0.01, explore_per_hour=1_000_000, **TRYING)
    bench.open("sum(")
    answers = [asyncio.run(bench.service._intervener.answer(bench.capture())) for _ in range(60)]
    shown = [answer for answer in answers if answer.shown]
    assert shown
    assert {answer.decision.propensity for answer in shown} == {0.25}
    assert {outdated(answer).decision.propensity for answer in shown} == {1.0}
