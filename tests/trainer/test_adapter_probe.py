"""Whether a server follows: formulas, and that rounding is not taken for a stale adapter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.adapter_probe import PROBES, Change, Told, repeat_of

TOKENS = 160


def told(engine: np.ndarray, server: np.ndarray) -> Told:
    return Told(tuple(server.tolist()), tuple(engine.tolist()))


@given(st.integers(0, 10_000), st.floats(1e-4, 0.1), st.floats(0.0, 30.0))
def test_an_exact_server_is_stale_exactly_where_it_did_not_move(seed: int, noise: float, steps: float) -> None:
    """`steps`: how far the engine moved, in rounding errors of the server, whose answers come again the same."""
    random = np.random.default_rng(seed)
    start = -random.exponential(2.0, TOKENS)
    moved = start + random.normal(0.0, 1.0, TOKENS) * noise * steps
    served = [values + random.normal(0.0, noise, TOKENS) for values in (start, moved)]
    untrained = told(start, served[0])
    assert not Change.of(told(moved, served[1]), untrained).is_stale(0.0, untrained.rounding)
    stale = Change.of(told(moved, served[0]), untrained)
    assert stale.is_stale(0.0, untrained.rounding) is (stale.engine >= 1e-3)


@given(st.integers(0, 10_000), st.floats(1e-3, 0.1))
def test_a_server_that_answers_differently_each_time_is_found_by_the_slope(seed: int, noise: float) -> None:
    random = np.random.default_rng(seed)

    def rounded(values: np.ndarray) -> np.ndarray:
        return values + random.normal(0.0, noise, TOKENS)

    start = -random.exponential(2.0, TOKENS)
    moved = start + random.normal(0.0, 1.0, TOKENS) * noise * 4
    untrained, repeat = told(start, rounded(start)), repeat_of(rounded(start).tolist(), rounded(start).tolist())
    assert Change.of(told(moved, rounded(start)), untrained).is_stale(repeat, untrained.rounding)
    assert not Change.of(told(moved, rounded(moved)), untrained).is_stale(repeat, untrained.rounding)


def test_a_server_that_shows_a_part_is_coarse_and_not_stale() -> None:
    random = np.random.default_rng(0)
    start, moved = np.full(TOKENS, -1.0), np.full(TOKENS, -1.0) + random.normal(0.0, 0.02, TOKENS)
    rounding = [random.normal(0.0, 0.05, TOKENS) for _ in range(2)]
    untrained = told(start, start + rounding[0])
    change = Change.of(told(moved, start + rounding[0] + 0.1 * (moved - start)), untrained)
    assert change.slope == pytest.approx(0.1)
    assert change.is_rounded_away
    assert not change.is_stale(0.0, untrained.rounding)


def test_the_slope_is_that_of_a_regression_through_the_origin() -> None:
    before = told(np.zeros(4), np.zeros(4))
    change = Change.of(told(np.array([1.0, 2.0, 0.0, -1.0]), np.array([0.5, 1.0, 3.0, -0.5])), before)
    assert change.slope == pytest.approx(0.5)
    assert change.error == pytest.approx(1.5 / math.sqrt(6.0))
    assert (change.engine, change.server) == pytest.approx((math.sqrt(6.0 / 4), math.sqrt((9.0 + 1.5) / 4)))


def test_nothing_is_said_of_weights_that_did_not_move() -> None:
    one = told(np.full(4, -1.0), np.full(4, -1.0))
    change = Change.of(one, one)
    assert not change.is_stale(0.0, 0.0)
    assert not change.is_rounded_away
    assert not change.has_moved(0.0)


def test_the_gap_is_a_mean_of_absolute_differences() -> None:
    assert told(np.array([-1.0, -2.0]), np.array([-1.5, -1.75])).gap == pytest.approx(0.375)
    assert Told((), ()).gap == 0.0


def test_the_probes_are_programs() -> None:
    for text in PROBES:
        compile(text, "probe", "exec")
