from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coderl_trainer.advantages import Degenerate, Scale, degenerate, group_advantages
from coderl_trainer.errors import GroupError

REWARD = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 6))
GROUP = st.lists(st.none() | REWARD, min_size=1, max_size=32)


@given(GROUP, st.sampled_from(Scale))
def test_advantages_sum_to_zero(rewards: list[float | None], scale: Scale) -> None:
    advantages = group_advantages(rewards, scale=scale)
    assert len(advantages) == len(rewards)
    assert math.fsum(advantages) == pytest.approx(0, abs=1e-9 * max(1, *map(abs, advantages)) * len(rewards))


@given(GROUP, st.floats(1e-3, 1e3))
def test_scaling_every_reward_changes_nothing(rewards: list[float | None], factor: float) -> None:
    scaled = [None if reward is None else reward * factor for reward in rewards]
    assert group_advantages(scaled) == pytest.approx(group_advantages(rewards), abs=1e-6)


@given(GROUP, st.floats(-100, 100))
def test_moving_every_reward_changes_nothing(rewards: list[float | None], offset: float) -> None:
    valid = [reward for reward in rewards if reward is not None]
    assume(len(set(valid)) != 1)  # adding may split what was equal, or join what hardly differed
    assume(not valid or max(valid) - min(valid) > 1e-3)
    moved = [None if reward is None else reward + offset for reward in rewards]
    assert group_advantages(moved) == pytest.approx(group_advantages(rewards), abs=1e-6)


@given(GROUP, st.integers(0, 32), st.sampled_from(Scale))
def test_rows_without_a_reward_do_not_vote(rewards: list[float | None], at: int, scale: Scale) -> None:
    at = min(at, len(rewards))
    padded = group_advantages([*rewards[:at], None, *rewards[at:]], scale=scale)
    assert padded[at] == 0
    assert padded[:at] + padded[at + 1 :] == group_advantages(rewards, scale=scale)


@given(GROUP)
def test_degenerate_groups_are_exactly_those_without_a_gradient(rewards: list[float | None]) -> None:
    assert (degenerate(rewards) is not None) == (not any(group_advantages(rewards)))


@given(st.lists(REWARD, min_size=2, max_size=16))
def test_the_order_of_rewards_is_kept(rewards: list[float]) -> None:
    advantages = group_advantages(rewards)
    ranked = sorted(range(len(rewards)), key=rewards.__getitem__)
    assert [advantages[index] for index in ranked] == sorted(advantages)


def test_against_the_textbook_formula() -> None:
    rewards = [1.0, 0.0, 0.5, 0.25]
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    assert group_advantages(rewards) == pytest.approx([(reward - mean) / deviation for reward in rewards])
    assert group_advantages(rewards, scale=Scale.NONE) == pytest.approx([reward - mean for reward in rewards])


def test_one_success_among_failures_is_a_lesson() -> None:
    assert degenerate([1.0, 0.0, 0.0, 0.0]) is None
    assert group_advantages([1.0, 0.0, 0.0, 0.0])[0] == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize(
    ("rewards", "why"),
    [
        ([1.0, 1.0, 1.0], Degenerate.ALL_PASS),
        ([0.0, 0.0], Degenerate.ALL_FAIL),
        ([0.5, 0.5, None], Degenerate.TIE),
        ([1.0, None, None], Degenerate.TOO_FEW),
        ([None, None], Degenerate.TOO_FEW),
        ([1.0, None, 0.0], None),
    ],
)
def test_degenerate_groups_are_told_apart(rewards: list[float | None], why: Degenerate | None) -> None:
    assert degenerate(rewards) is why


def test_tolerance_is_for_float_noise() -> None:
    noisy = [0.1 + 0.2, 0.3]
    assert degenerate(noisy) is None
    assert degenerate(noisy, tolerance=1e-9) is Degenerate.TIE


@pytest.mark.parametrize("rewards", [[], [math.nan, 1.0], [math.inf, 0.0]])
def test_what_cannot_be_compared_is_refused(rewards: list[float | None]) -> None:
    with pytest.raises(GroupError):
        group_advantages(rewards)
    with pytest.raises(GroupError):
        degenerate(rewards)
