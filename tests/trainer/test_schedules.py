"""Learning rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.recipe import Schedule
from coderl_trainer.schedules import learning_rate


@given(st.integers(1, 200), st.integers(0, 50), st.sampled_from(Schedule))
def test_a_rate_rises_to_its_peak_and_never_above(steps: int, warmup: int, schedule: Schedule) -> None:
    rates = [learning_rate(1.0, step, steps, warmup, schedule) for step in range(1, steps + 1)]
    assert all(0.0 < rate <= 1.0 for rate in rates)
    top = min(warmup, steps) - 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    after = rates[max(0, top) :]
    assert after == sorted(after, reverse=True)


def test_a_linear_schedule_ends_at_a_twentieth() -> None:
    assert learning_rate(2.0, 100, 100, 10, Schedule.LINEAR) == pytest.approx(0.1)
    assert learning_rate(2.0, 11, 100, 10, Schedule.LINEAR) == 2.0
    assert learning_rate(2.0, 100, 100, 10, Schedule.CONSTANT) == 2.0
