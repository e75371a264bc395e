"""Which times are reading alone: the mixture finds what was put in, and finds nothing where nothing was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_gate.contamination import (
    LEAST_SHAPE,
    MOST_ELSEWHERE,
    MOST_SHAPE,
    Mixture,
    Times,
    densities,
    prefers_two,
    refit,
)

CLIP_S = 10.0


def times(seconds: np.ndarray) -> Times:
    clipped = np.minimum(CLIP_S, seconds)
    return Times(clipped, np.full(len(clipped), CLIP_S), np.ones(len(clipped)))


def made_up(share: float, n: int = 4000, seed: int = 0) -> tuple[Times, np.ndarray]:
    """Reading of mean 1.5 s and shape 2, and which rows also hold something else."""
    rng = np.random.default_rng(seed)
    away = rng.random(n) < share
    return times(rng.gamma(2.0, 0.75, n) + np.where(away, rng.exponential(15.0, n), 0.0)), away


def settle(what: Times, expected_s: np.ndarray) -> tuple[Mixture, np.ndarray]:
    mixture = Mixture()
    reading = np.ones(len(expected_s))
    for _ in range(60):
        alone, elsewhere = densities(what, expected_s, mixture)
        reading = alone / (alone + elsewhere)
        mixture = refit(what, expected_s, reading)
    return mixture, reading


@pytest.mark.parametrize("share", [0.1, 0.15])
def test_what_was_put_in_is_found(share: float) -> None:
    what, away = made_up(share)
    mixture, reading = settle(what, np.full(len(away), 1.5))
    assert mixture.elsewhere == pytest.approx(share, abs=0.03)
    assert mixture.shape == pytest.approx(2.0, rel=0.15)
    assert reading[away].mean() < 0.25
    assert reading[~away].mean() > 0.97
    assert prefers_two(what, np.full(len(away), float(what.seconds.mean())), np.full(len(away), 1.5), mixture)


def test_clean_times_need_no_second_component() -> None:
    what, away = made_up(0.0)
    expected_s = np.full(len(away), float(what.seconds.mean()))
    mixture, _ = settle(what, expected_s)
    assert not prefers_two(what, expected_s, expected_s, mixture)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0.01, CLIP_S), min_size=2, max_size=30),
    st.floats(0.1, 9.0),
    st.floats(LEAST_SHAPE, 50.0),
    st.floats(0.0, MOST_ELSEWHERE),
    st.floats(0.0, 1.0),
)
def test_probabilities_are_probabilities_and_short_times_are_reading(
    seconds: list[float], expected: float, shape: float, share: float, beyond: float
) -> None:
    what = times(np.array(seconds))
    expected_s = np.full(len(seconds), expected)
    alone, elsewhere = densities(what, expected_s, Mixture(shape, share, beyond))
    reading = alone / (alone + elsewhere)
    assert np.isfinite(reading).all()
    assert ((reading >= 0) & (reading <= 1)).all()
    assert (reading[(what.seconds <= expected) & (what.seconds < CLIP_S)] == 1.0).all()
    again = refit(what, expected_s, np.clip(reading, 0.01, 1.0))
    assert LEAST_SHAPE <= again.shape <= MOST_SHAPE
    assert 0 <= again.elsewhere <= MOST_ELSEWHERE
    assert 0 <= again.beyond <= 1


@settings(max_examples=50, deadline=None)
@given(st.floats(1.0, 8.0), st.floats(1.0, 1.9))
def test_longer_times_are_less_probably_reading(shape: float, expected: float) -> None:
    seconds = np.linspace(2.0, 9.9, 40)
    alone, elsewhere = densities(times(seconds), np.full(40, expected), Mixture(shape, 0.1, 0.5))
    reading = alone / (alone + elsewhere)
    assert (np.diff(reading) <= 1e-12).all()
