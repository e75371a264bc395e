"""Replay against a population whose truth is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from coderl_gate.costs import CostParameters
from coderl_gate.errors import DataError
from coderl_gate.policy import Policy, Rule
from coderl_gate.replay import ReplayReport, replay
from coderl_gate.synthetic import World, knowing
from coderl_gate.tendency import Tendency
from coderl_store.records import Action, OutcomeKind, Reason, Route, Stage, Trigger
from coderl_store.repository import LoggedRequest

TRUTH = CostParameters()
EXPLORING = Policy(0.5, epsilon_skip=0.3, epsilon_withhold=0.3)

TARGETS = {
    "always show": Policy(0.5, rule=Rule.ALWAYS_SHOW),
    "never show": Policy(0.5, rule=Rule.NEVER_SHOW),
    "the same, without trials": Policy(0.5),
    "eager": Policy(0.5, eagerness=0.6),
    "shy": Policy(0.5, eagerness=-0.6),
    "never skips": Policy(0.0),
}


@pytest.mark.parametrize("name", TARGETS)
def test_estimates_agree_with_the_truth(name: str) -> None:
    target, artifact = TARGETS[name], knowing()
    world = World(users=30, requests_per_user=60, seed=3)
    report = replay(world.requests(artifact, EXPLORING, TRUTH), artifact, target, truth=TRUTH)
    truth = world.value_s(artifact, target, TRUTH)
    assert report.overlap == 1.0
    for interval in report.estimators.values():
        slack = 0.6 * (interval.high - interval.low) + 1e-9
        assert interval.low - slack <= truth <= interval.high + slack
    assert report.n == 1800


@pytest.mark.slow
@pytest.mark.parametrize("name", ["always show", "eager"])
def test_intervals_cover_the_truth_as_often_as_they_say(name: str) -> None:
    """300 worlds of ten programmers, some of whom ask much more than others; the truth is that of all programmers there are."""
    target, artifact = TARGETS[name], knowing()
    truth = World(users=6000, requests_per_user=10, seed=10**6).value_s(artifact, target, TRUTH)
    covered: Counter[str] = Counter()
    for seed in range(300):
        world = World(users=10, requests_per_user=16, seed=seed, unevenness=0.5)
        report = replay(world.requests(artifact, EXPLORING, TRUTH), artifact, target, truth=TRUTH, resamples=300)
        for estimator, interval in report.estimators.items():
            covered[estimator] += interval.low <= truth <= interval.high
    assert set(covered) == {"ips", "clipped_ips", "snips", "dr"}
    assert all(0.92 <= count / 300 <= 0.98 for count in covered.values()), covered


def test_a_model_that_knows_the_world_makes_the_doubly_robust_estimate_sharper() -> None:
    """Than the self-normalised one; with a wrong model it stays right on average, for the weights are exact."""
    rare, right, wrong = Policy(0.0, epsilon_withhold=0.05), knowing(h_bits=0.0), knowing(h_bits=0.0, shift=3.0)
    target = Policy(0.0, rule=Rule.ALWAYS_SHOW)
    errors: dict[str, list[float]] = {"snips": [], "right": [], "wrong": []}
    for seed in range(40):
        world = World(users=10, requests_per_user=30, seed=seed, user_spread=0.0)
        log, truth = list(world.requests(right, rare, TRUTH)), world.value_s(right, target, TRUTH)
        knows, errs = (replay(log, artifact, target, truth=TRUTH, resamples=2) for artifact in (right, wrong))
        errors["snips"].append(knows.seconds.estimate - truth)
        errors["right"].append(knows.estimators["dr"].estimate - truth)
        errors["wrong"].append(errs.estimators["dr"].estimate - truth)
    spread = {name: (sum(error**2 for error in found) / 40) ** 0.5 for name, found in errors.items()}
    assert spread["right"] < 0.9 * spread["snips"]
    for name in ("right", "wrong"):
        assert abs(sum(errors[name]) / 40) < 3 * spread[name] / 40**0.5


def test_a_log_without_the_rule_it_went_by_is_weighted_all_the_same() -> None:
    """What stage 1 planned is not guessed from p1 and h: the propensity, p2 and the threshold tell what the coins did."""
    artifact = knowing()
    log = list(World(users=12, seed=9).requests(artifact, EXPLORING, TRUTH))
    blurred = [replace(one, decision=replace(one.decision, h_bits=None, expected_costs=None)) for one in log]
    assert replay(blurred, artifact, TARGETS["eager"]) == replay(log, artifact, TARGETS["eager"])


def test_shown_withheld_and_generated_agree_with_doing_it() -> None:
    world, artifact, target = World(users=30, requests_per_user=80, seed=5), knowing(), Policy(0.5)
    report = replay(world.requests(artifact, EXPLORING, TRUTH), artifact, target)
    done = list(world.requests(artifact, target, TRUTH))
    assert report.generated == sum(request.decision.route is not Route.SKIP for request in done)
    shown = sum(request.decision.action is Action.SHOW for request in done)
    assert report.shown == pytest.approx(shown, rel=0.1)
    kept = sum(request.outcome.kept for request in done if request.outcome is not None)
    assert report.acceptance == pytest.approx(kept / shown, abs=0.06)


@pytest.mark.parametrize("name", TARGETS)
def test_no_more_is_shown_than_generated_however_the_coins_fell(name: str) -> None:
    rare = Policy(0.5, epsilon_skip=0.05, epsilon_withhold=0.05)
    for seed in range(20):
        log = World(users=2, requests_per_user=20, seed=seed).requests(knowing(), rare, TRUTH)
        report = replay(log, knowing(), TARGETS[name], truth=TRUTH, resamples=2)
        assert 0.0 <= report.shown <= report.generated + 1e-9 <= report.n + 2e-9
        assert report.shown + report.withheld == pytest.approx(report.n)


def test_replaying_the_policy_that_acted_finds_no_difference() -> None:
    artifact = knowing()
    report = replay(World(seed=2).requests(artifact, Policy(0.5), TRUTH), artifact, Policy(0.5))
    assert report.verdict == "no clear difference"
    assert report.difference.estimate == pytest.approx(0, abs=1e-12)
    assert report.ess == pytest.approx(report.n)


def test_a_log_of_everything_shown_knows_every_policy() -> None:
    """Nothing has to be weighted: what the gate would withhold is worth 0, what it would show was shown."""
    artifact, show_all = knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)
    requests = list(World(users=20, seed=4).requests(artifact, show_all, TRUTH))
    report = replay(requests, artifact, Policy(0.5))
    assert report.overlap == 1.0
    assert report.ess == pytest.approx(report.n)
    assert report.estimators["ips"].estimate == pytest.approx(report.seconds.estimate)
    silent = replay(requests, artifact, Policy(0.5, rule=Rule.NEVER_SHOW))
    assert silent.seconds.estimate == 0.0
    assert silent.verdict == ("worse" if report.logged > 0 else "better")


def test_better_and_worse_are_told_apart() -> None:
    slow = replace(TRUTH, verify_base_s=3.0)
    artifact = knowing(costs=slow)
    log = list(World(users=30, seed=6).requests(artifact, Policy(0.5, rule=Rule.ALWAYS_SHOW), slow))
    assert replay(log, artifact, Policy(0.5)).verdict == "better"
    log = list(World(users=30, seed=6).requests(artifact, EXPLORING, slow))
    assert replay(log, artifact, Policy(0.5, rule=Rule.ALWAYS_SHOW)).verdict == "worse"


def test_without_trials_a_bolder_policy_gets_no_verdict() -> None:
    artifact = knowing()
    report = replay(World(seed=1).requests(artifact, Policy(0.9), TRUTH), artifact, Policy(0.5, rule=Rule.ALWAYS_SHOW))
    assert report.overlap < 0.95
    assert report.verdict == "refused: overlap too small"
    assert "limit 50" in report.reason


def test_few_effective_rows_get_no_verdict() -> None:
    artifact = knowing()
    rare = Policy(0.9, epsilon_skip=0.05, epsilon_withhold=0.05)
    report = replay(World(users=6, requests_per_user=20).requests(artifact, rare, TRUTH), artifact, TARGETS["always show"])
    assert report.ess < 50
    assert report.overlap >= 0.95
    assert report.verdict == "refused: effective sample size too small"


def test_never_showing_is_never_refused() -> None:
    """Silence is worth 0 whatever the log holds."""
    artifact = knowing()
    report = replay(World().requests(artifact, Policy(0.9), TRUTH), artifact, Policy(0.5, rule=Rule.NEVER_SHOW))
    assert report.seconds.estimate == 0.0
    assert report.verdict in ("better", "worse", "no clear difference")


def _by_rule(request: LoggedRequest) -> LoggedRequest:
    decision = replace(request.decision, stage=Stage.RULE, action=Action.WITHHOLD, reason=Reason.SNOOZED)
    return replace(request, decision=decision, suggestion=None, outcome=None)


LEFT_OUT: dict[str, Callable[[LoggedRequest], LoggedRequest]] = {
    "settled by a rule or a failure": _by_rule,
    "asked for by the programmer": lambda r: replace(r, context=replace(r.context, trigger=Trigger.INVOKED)),
    "of another feature version": lambda r: replace(r, context=replace(r.context, feature_version=99)),
    "with an impossible propensity": lambda r: replace(r, decision=replace(r.decision, propensity=float("nan"))),
    "without an outcome yet": lambda r: replace(r, outcome=None),
    "whose suggestion was not logged with features of this version": lambda r: replace(r, suggestion=None),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_cannot_be_judged_is_counted(reason: str) -> None:
    artifact = knowing()
    log = list(World(users=8).requests(artifact, Policy(0.5, rule=Rule.ALWAYS_SHOW), TRUTH))
    changed = [LEFT_OUT[reason](request) if index % 4 == 0 else request for index, request in enumerate(log)]
    report = replay(changed, artifact)
    assert report.left_out == {reason: 120}
    assert report.n == 360


def test_repeated_ids_count_once() -> None:
    artifact = knowing()
    log = list(World(users=8).requests(artifact, EXPLORING, TRUTH))
    report = replay([*log, *log], artifact)
    assert report.n == len(log)
    assert report.left_out == {"with an id that occurred before": len(log)}


def test_what_nobody_saw_earns_nothing() -> None:
    artifact, show_all = knowing(), TARGETS["always show"]
    log = []
    for request in World(users=8).requests(artifact, show_all, TRUTH):
        assert request.outcome is not None
        log.append(replace(request, outcome=replace(request.outcome, kind=OutcomeKind.NOT_SEEN, accepted_chars=0)))
    report = replay(log, artifact, show_all)
    assert report.seconds.estimate == 0.0
    assert report.acceptance is None


def test_an_empty_log_says_so() -> None:
    with pytest.raises(DataError, match="nothing to replay"):
        replay([], knowing())


def test_same_seed_same_report() -> None:
    artifact = knowing()
    log = list(World(users=8).requests(artifact, EXPLORING, TRUTH))
    assert replay(log, artifact, seed=7) == replay(log, artifact, seed=7)


def test_few_users_draw_sessions_or_time_and_say_so() -> None:
    artifact = knowing()
    report = replay(World(users=1, requests_per_user=200).requests(artifact, EXPLORING, TRUTH), artifact)
    assert report.clusters == "blocks of time"
    assert any("blocks of time" in warning for warning in report.warnings)


def test_an_artifact_replayed_on_its_own_data_is_warned_about() -> None:
    artifact = replace(knowing(), provenance={"data_until": "2999-01-01T00:00:00+00:00"})
    report = replay(World(users=8).requests(knowing(), EXPLORING, TRUTH), artifact)
    assert any("replay a later period" in warning for warning in report.warnings)


def test_json_keys_stay() -> None:
    artifact = knowing()
    report: ReplayReport = replay(World(users=8).requests(artifact, EXPLORING, TRUTH), artifact)
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {"n", "shown", "withheld", "generated", "seconds_saved", "ess", "verdict"} <= set(data)
    assert set(data["seconds_saved"]) == {"estimate", "low", "high", "estimator"}
    assert data["shown"] + data["withheld"] == data["n"]
    assert data["ess_limit"] == 50.0
    assert set(data["estimators"]) == {"ips", "clipped_ips", "snips", "dr"}
    assert all(set(interval) == {"estimate", "low", "high"} for interval in data["estimators"].values())
    assert "silence" not in data  # labels are weak evidence: only where asked for
    labelled = replay(World(users=8, label_error=0.0).requests(artifact, EXPLORING, TRUTH), artifact, shadow_labels=True)
    more = json.loads(json.dumps(labelled.to_json(), allow_nan=False))
    assert set(more["silence"]) >= {"typed_anyway", "chars", "lost_s", "spared_s", "net_s", "check"}
    assert {key: value for key, value in more.items() if key != "silence"} == data  # and no other figure moves


def rejected(one: LoggedRequest) -> LoggedRequest:
    """The same request, with its suggestion rejected."""
    assert one.outcome is not None
    return replace(one, outcome=replace(one.outcome, kind=OutcomeKind.DISMISSED, accepted_chars=0))


def test_a_programmer_who_rejects_everything_is_shown_less_as_the_replay_goes_on() -> None:
    log = [rejected(one) for one in World(users=6, seed=4).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW), TRUTH)]
    alike, differing = knowing(), replace(knowing(), tendency_prior=4.0)
    fixed, learning = (replay(log, artifact, Policy(0.0)) for artifact in (alike, differing))
    assert learning.shown < 0.8 * fixed.shown
    first = log[:1]
    assert replay(first, differing, Policy(0.0)).shown == replay(first, alike, Policy(0.0)).shown


def test_what_the_artifact_knows_of_a_programmer_counts_for_that_one_only() -> None:
    log = list(World(users=2, seed=4).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW), TRUTH))
    first, second = sorted({one.session.user_key for one in log})
    slow = replace(knowing(), personal={first: {"verify_base_s": 1000.0}})
    gloomy = replace(knowing(), tendencies={first: Tendency(-4.0)}, tendency_prior=1e9)
    for artifact in (slow, gloomy):
        mine, theirs = (
            replay([one for one in log if one.session.user_key == user], artifact, Policy(0.0)) for user in (first, second)
        )
        assert mine.shown < 0.2 * theirs.shown
        others = [one for one in log if one.session.user_key == second]
        assert theirs.shown == replay(others, knowing(), Policy(0.0)).shown
