"""The public yardstick: the formula as published, and nothing used before it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coderl_gate.dataset import CLIP_S, Dataset, Selection, build
from coderl_gate.decision_time import DecisionTime
from coderl_gate.errors import ArtifactError
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing
from coderl_gate.yardstick import AUC_BUDGET, SECONDS_BUDGET, cross_fitted, decision_time, measure, with_own
from coderl_store.records import Origin

TIME = DecisionTime(base_s=2.0, s_per_char=0.02, expected_chars=40.0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    world = World(users=6, requests_per_user=60, seed=2, origin=Origin.SIMULATED)
    made = build(world.requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)), Selection(frozenset({Origin.SIMULATED})))
    rng = np.random.default_rng(0)
    own = {user: rng.normal(0, 0.5) for user in np.unique(made.users).tolist()}
    seconds = 2.0 + 0.02 * made.chars + np.array([own[user] for user in made.users.tolist()]) + rng.normal(0, 0.3, len(made))
    return replace(made, decided_s=np.clip(seconds, 0.05, CLIP_S))


def test_the_value_of_showing_is_the_published_formula(dataset: Dataset) -> None:
    p = np.full(len(dataset), 0.5)
    found = measure(p, p, np.full(len(dataset), 1.0), TIME, dataset)
    assert found is not None
    value = dataset.kept * 0.9 * dataset.chars / 5 - dataset.decided_s
    assert found.show_all == pytest.approx(value.mean())
    assert found.oracle == pytest.approx(np.maximum(0, value).mean())
    shown = 0.5 * 0.9 * dataset.chars / 5 > 1.0
    assert found.gate == pytest.approx((value * shown).mean())
    assert found.shown == pytest.approx(shown.mean())


def test_a_gate_that_knows_comes_near_the_oracle_and_one_that_does_not_cannot(dataset: Dataset) -> None:
    expected = cross_fitted(dataset)
    knows = np.where(dataset.kept > 0, 0.98, 0.02)
    found = measure(knows, knows, expected, TIME, dataset)
    blind = measure(1 - knows, 1 - knows, expected, TIME, dataset)
    assert found is not None
    assert blind is not None
    assert blind.gate <= 0 < found.gate <= found.oracle
    assert found.gate > 0.95 * found.oracle


def test_generations_are_saved_within_both_budgets(dataset: Dataset) -> None:
    rng = np.random.default_rng(1)
    odds = np.where(dataset.kept > 0, 0.8, -0.8) + rng.normal(0, 1, len(dataset))
    p1, p2 = (1 / (1 + np.exp(-scale * odds)) for scale in (1.0, 1.5))
    found = measure(p1, p2, cross_fitted(dataset), TIME, dataset)
    assert found is not None
    assert found.skipped > 0
    assert found.auc_cost <= AUC_BUDGET
    assert found.seconds_cost <= SECONDS_BUDGET


def test_expected_times_use_nothing_of_the_held_out_programmer_but_their_past(dataset: Dataset) -> None:
    mine = np.flatnonzero(dataset.users == dataset.users[0])
    later = dataset.decided_s.copy()
    later[mine[20:]] = CLIP_S
    before, after = cross_fitted(dataset), cross_fitted(replace(dataset, decided_s=later))
    np.testing.assert_array_equal(before[mine[:21]], after[mine[:21]])
    assert (after[mine[21:]] > before[mine[21:]]).all()


def test_own_decisions_move_the_expectation_towards_the_programmer(dataset: Dataset) -> None:
    slow = replace(dataset, decided_s=np.full(len(dataset), 9.0))
    moved = with_own(np.full(len(dataset), 3.0), slow)
    mine = moved[dataset.users == dataset.users[0]]
    assert mine[0] == 3.0
    assert (np.diff(mine) > 0).all()
    assert mine[-1] < 9.0


def test_the_line_is_found_and_never_below_zero(dataset: Dataset) -> None:
    found = decision_time(dataset)
    assert found is not None
    assert found.s_per_char == pytest.approx(0.02, abs=0.01)
    falling = decision_time(replace(dataset, decided_s=np.clip(9 - 0.1 * dataset.chars, 0.1, 10)))
    assert falling is not None
    assert falling.s_per_char == 0.0


def test_without_decision_times_nothing_is_measured(dataset: Dataset) -> None:
    unknown = replace(dataset, decided_s=np.full(len(dataset), np.nan))
    assert decision_time(unknown) is None
    assert measure(dataset.kept, dataset.kept, unknown.decided_s, TIME, unknown) is None


def test_damage_is_refused() -> None:
    for damaged in (None, {}, {"base_s": -1.0, "s_per_char": 0.0, "expected_chars": 4.0}, {"base_s": "x"}):
        with pytest.raises(ArtifactError):
            DecisionTime.from_json(damaged)
