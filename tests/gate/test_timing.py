"""Cost parameters from logs whose true parameters are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.costs import CostParameters
from coderl_gate.dataset import Dataset, Selection, build
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing
from coderl_gate.timing import TYPING_RANGE, fit_costs
from coderl_store.records import Origin

TRUTH = CostParameters(verify_base_s=0.8, verify_s_per_char=0.03, edit_share=0.2)


def logged(users: int = 4, per_user: int = 60) -> Dataset:
    world = World(users=users, requests_per_user=per_user, origin=Origin.SIMULATED)
    requests = world.requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW), TRUTH)
    return build(requests, Selection(frozenset({Origin.SIMULATED})))


def test_parameters_come_back() -> None:
    fit = fit_costs(logged())
    assert fit.parameters.verify_base_s == pytest.approx(0.8, rel=1e-4)
    assert fit.parameters.verify_s_per_char == pytest.approx(0.03, rel=1e-4)
    assert fit.parameters.edit_share == pytest.approx(0.2, rel=1e-4)
    assert fit.parameters.typing_chars_per_s == pytest.approx(5.0)  # the log's keystrokes are 200 ms apart
    assert fit.parameters.expected_chars == pytest.approx(logged().chars.mean(), rel=1e-4)
    assert fit.not_estimated == ("Thinking time per line keeps its prior: no log shows it.",)


def test_what_cannot_be_estimated_keeps_its_prior_and_is_said() -> None:
    dataset = logged()
    blind = replace(
        dataset,
        reading_s=np.full(len(dataset), np.nan),
        edited=np.full(len(dataset), np.nan),
        typing_chars_per_s=np.full(len(dataset), np.nan),
    )
    prior = CostParameters(verify_base_s=0.123, typing_chars_per_s=7.0, edit_share=0.3)
    fit = fit_costs(blind, prior)
    assert (fit.parameters.verify_base_s, fit.parameters.typing_chars_per_s, fit.parameters.edit_share) == (0.123, 7.0, 0.3)
    assert len(fit.not_estimated) == 4


def test_typing_speed_is_the_geometric_mean_of_the_users_and_impossible_speeds_are_cut() -> None:
    dataset = logged(users=3)
    speeds = np.select([dataset.users == "user-0", dataset.users == "user-1"], [3.0, 5.0], 40.0)
    fit = fit_costs(replace(dataset, typing_chars_per_s=speeds))
    assert fit.parameters.typing_chars_per_s == pytest.approx((3.0 * 5.0 * TYPING_RANGE[1]) ** (1 / 3), rel=1e-3)
    own = [fit.personal[f"user-{user}"].values["typing_chars_per_s"] for user in range(3)]
    assert own == pytest.approx([3.0, 5.0, TYPING_RANGE[1]], rel=1e-3)


def test_falling_times_give_a_flat_line() -> None:
    dataset = logged()
    fit = fit_costs(replace(dataset, reading_s=np.maximum(0.1, 5 - 0.05 * dataset.chars)))
    assert fit.parameters.verify_s_per_char == 0.0
    assert fit.parameters.verify_base_s > 0


@given(st.integers(0, 10_000))
def test_parameters_are_always_usable(seed: int) -> None:
    """`CostParameters` refuses negative numbers; whatever the times are, the fit must not produce them."""
    rng = np.random.default_rng(seed)
    n = 40
    dataset = replace(
        DATASET, chars=rng.integers(1, 200, n).astype(float), reading_s=rng.exponential(2, n), weight=rng.uniform(1, 20, n)
    )
    fit_costs(dataset)


DATASET = logged(users=1, per_user=40)
