"""Whether a server follows: formulas, and that rounding is not taken for a stale adapter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.adapter_probe import PROBES, Told, following, is_stale, mean_gap

TOKENS = 160


def told(engine: np.ndarray, server: np.ndarray) -> Told:
    return Told(tuple(server.tolist()), tuple(engine.tolist()))


@given(st.integers(0, 10_000), st.floats(1e-4, 0.1), st.floats(0.0, 30.0))
def test_a_server_is_stale_exactly_where_it_did_not_move_and_that_can_be_seen(seed: int, noise: float, steps: float) -> None:
    """`steps`: how far the engine moved, in rounding errors."""
    random = np.random.default_rng(seed)

    def rounded(values: np.ndarray) -> np.ndarray:
        return values + random.normal(0.0, noise, TOKENS)

    start = -random.exponential(2.0, TOKENS)
    moved = start + random.normal(0.0, 1.0, TOKENS) * noise * steps
    untrained = told(start, rounded(start))
    right = following(told(moved, rounded(moved)), untrained, untrained)
    stale = following(told(moved, rounded(start)), untrained, untrained)
    assert not is_stale(right)
    if stale is not None:
        assert is_stale(stale)
    if steps > 2.0:
        assert right is not None


def test_the_slope_is_that_of_a_regression_through_the_origin() -> None:
    before = told(np.zeros(4), np.zeros(4))
    now = told(np.array([1.0, 2.0, 0.0, -1.0]), np.array([0.5, 1.0, 3.0, -0.5]))
    assert following(now, before, before) == pytest.approx(0.5)
    assert not is_stale(0.5)
    assert is_stale(0.49)
    assert is_stale(math.nan)


def test_nothing_is_said_of_weights_that_did_not_move() -> None:
    one = told(np.full(4, -1.0), np.full(4, -1.0))
    assert following(one, one, one) is None
    assert not is_stale(None)


def test_the_gap_is_a_mean_of_absolute_differences() -> None:
    assert mean_gap((-1.0, -2.0), (-1.5, -1.75)) == pytest.approx(0.375)
    assert mean_gap((), ()) == 0.0


def test_the_probes_are_programs() -> None:
    for text in PROBES:
        compile(text, "probe", "exec")
