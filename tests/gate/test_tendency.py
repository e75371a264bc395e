"""One programmer's tendency: shrunk, bounded, forgetful, and right in the long run."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.errors import ArtifactError
from coderl_gate.tendency import NOBODY, Tendency

PROBABILITIES = st.floats(0.001, 0.999)
HISTORIES = st.lists(st.tuples(PROBABILITIES, st.booleans()), max_size=60)


def after(history: list[tuple[float, bool]], prior: float) -> Tendency:
    known = NOBODY
    for p, kept in history:
        known = known.learned(known.applied(p), kept, prior)
    return known


@given(HISTORIES, st.floats(0.5, 100), PROBABILITIES)
def test_it_stays_a_probability_and_in_bounds(history: list[tuple[float, bool]], prior: float, p: float) -> None:
    known = after(history, prior)
    assert abs(known.shift) <= 4.0
    assert 0 < known.applied(p) < 1


@given(HISTORIES, PROBABILITIES)
def test_with_an_infinite_prior_nobody_differs(history: list[tuple[float, bool]], p: float) -> None:
    known = after(history, math.inf)
    assert known == NOBODY
    assert known.applied(p) == p


@given(HISTORIES, st.floats(0.5, 100), PROBABILITIES)
def test_a_keep_raises_it_and_a_rejection_lowers_it(history: list[tuple[float, bool]], prior: float, p: float) -> None:
    known = after(history, prior)
    own = known.applied(p)
    assert known.learned(own, True, prior).shift >= known.shift
    assert known.learned(own, False, prior).shift <= known.shift


@given(HISTORIES, PROBABILITIES)
def test_a_tighter_prior_moves_less_on_the_first_suggestion(history: list[tuple[float, bool]], p: float) -> None:
    loose, tight = (NOBODY.learned(p, True, prior).shift for prior in (2.0, 20.0))
    assert 0 < tight < loose


@given(st.floats(0.01, 0.98), st.floats(-3, 3))
def test_it_is_monotone_in_the_models_estimate(p: float, shift: float) -> None:
    known = Tendency(shift, 1.0)
    assert known.applied(p) < known.applied(p + 0.01)


@pytest.mark.parametrize("truth", [-1.0, 0.0, 0.8])
def test_it_finds_a_programmer_who_differs(truth: float) -> None:
    rng = random.Random(7)
    differs = Tendency(truth, 0.0)
    known, seen = NOBODY, []
    for _ in range(3000):
        p = rng.uniform(0.1, 0.7)
        known = known.learned(known.applied(p), rng.random() < differs.applied(p), 8.0)
        seen.append(known.shift)
    assert sum(seen[1000:]) / 2000 == pytest.approx(truth, abs=0.15)


def test_it_forgets_who_a_programmer_was() -> None:
    rng, known = random.Random(3), NOBODY
    for chance in (0.9, 0.1):
        for _ in range(1500):
            known = known.learned(known.applied(0.5), rng.random() < chance, 8.0)
    assert known.applied(0.5) < 0.25


def test_it_survives_json_and_damage_is_refused() -> None:
    known = after([(0.3, True), (0.6, False)], 8.0)
    assert Tendency.from_json(known.to_json()) == known
    for damaged in (
        {},
        {"shift": "x", "information": 0},
        {"shift": 9.0, "information": 1.0},
        None,
        {"shift": math.nan, "information": 0},
    ):
        with pytest.raises(ArtifactError):
            Tendency.from_json(damaged)
