"""The pace of the running session: bounded, forgetting, and indifferent to the order in which keystrokes are told."""

from __future__ import annotations

import json
import math
import random
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.costs import CostParameters, costs_of, tau
from coderl_gate.pace import HALF_LIFE_S, MOST, PRIOR_KEYS, OnlinePace

keys = st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 3)), max_size=60)
speeds = st.floats(0.5, 15)


def told(keystrokes: list[tuple[float, float]]) -> OnlinePace:
    return reduce(lambda pace, key: pace.keyed(*key), keystrokes, OnlinePace())


def steady(gap_s: float, count: int, start_s: float = 0.0) -> list[tuple[float, float]]:
    return [(start_s + place * gap_s, gap_s) for place in range(count)]


@given(speeds, st.floats(0, 1e6))
def test_no_keystrokes_change_nothing(fitted: float, now_s: float) -> None:
    parameters = CostParameters(typing_chars_per_s=fitted)
    assert OnlinePace().moved(parameters, now_s) is parameters


@given(keys, speeds, st.floats(5000, 1e5))
def test_the_speed_stays_within_its_bounds(keystrokes: list[tuple[float, float]], fitted: float, now_s: float) -> None:
    speed = told(keystrokes).moved(CostParameters(typing_chars_per_s=fitted), now_s).typing_chars_per_s
    assert fitted / MOST <= speed <= fitted * MOST


@given(keys, speeds, st.randoms(use_true_random=False))
def test_the_order_of_telling_makes_no_difference(
    keystrokes: list[tuple[float, float]], fitted: float, rng: random.Random
) -> None:
    shuffled = list(keystrokes)
    rng.shuffle(shuffled)
    one, other = told(keystrokes), told(shuffled)
    assert other.chars_per_s(fitted, 6000.0) == pytest.approx(one.chars_per_s(fitted, 6000.0))


@given(
    st.lists(st.floats(0.02, 1.5), min_size=1, max_size=60), st.floats(1.0, 4.0), speeds, st.integers(1, 300), st.integers(1, 9)
)
def test_faster_gaps_never_lower_the_speed_or_tau(gaps: list[float], factor: float, fitted: float, n: int, lines: int) -> None:
    at_s = [float(place) for place in range(len(gaps))]
    slow = told(list(zip(at_s, gaps, strict=True)))
    fast = told([(at, gap / factor) for at, gap in zip(at_s, gaps, strict=True)])
    own = CostParameters(typing_chars_per_s=fitted)
    slower, faster = (pace.moved(own, at_s[-1]) for pace in (slow, fast))
    assert faster.typing_chars_per_s >= slower.typing_chars_per_s * (1 - 1e-12)
    assert tau(costs_of(n, lines, faster)) >= tau(costs_of(n, lines, slower)) - 1e-12


def test_as_many_keystrokes_as_the_fitted_speed_counts_for_meet_it_half_way() -> None:
    pace = told([(0.0, 0.1)] * int(PRIOR_KEYS))
    assert 1 / pace.chars_per_s(5.0, 0.0) == pytest.approx((1 / 5 + 0.1) / 2)


def test_a_changed_pace_is_followed_and_forgotten() -> None:
    pace = told(steady(0.15, 2000))
    end_s = 2000 * 0.15
    assert pace.chars_per_s(5.0, end_s) == pytest.approx(1 / 0.15, rel=0.05)
    later = [pace.chars_per_s(5.0, end_s + k * HALF_LIFE_S) for k in range(12)]
    assert later == sorted(later, reverse=True)
    assert later[-1] == pytest.approx(5.0, rel=0.01)


def test_one_slow_keystroke_hardly_moves_it_and_pauses_count_as_their_bound() -> None:
    assert OnlinePace().keyed(0.0, 600.0) == OnlinePace().keyed(0.0, 2.0)
    assert OnlinePace().keyed(0.0, 2.0).chars_per_s(5.0, 0.0) == pytest.approx(5.0, rel=0.1)
    assert OnlinePace().keyed(0.0, -1.0) == OnlinePace().keyed(0.0, 0.0)


@pytest.mark.parametrize("key", [(math.nan, 0.1), (0.0, math.nan), (math.inf, 0.1), (0.0, -math.inf)])
def test_what_is_no_number_is_left_out(key: tuple[float, float]) -> None:
    pace = OnlinePace().keyed(1.0, 0.2)
    assert pace.keyed(*key) == pace


def test_the_state_can_be_shown() -> None:
    fitted = CostParameters(typing_chars_per_s=4.0)
    said = told(steady(0.125, 400)).to_json(fitted, 50.0)
    assert json.loads(json.dumps(said)) == said
    assert said["fitted_chars_per_s"] == 4.0
    assert 4.0 < said["chars_per_s"] < 8.0
    assert said["mean_gap_ms"] == pytest.approx(125.0)
    assert 380 < said["keystrokes"] <= 400
    nothing = OnlinePace().to_json(fitted, 50.0)
    assert (nothing["mean_gap_ms"], nothing["chars_per_s"], nothing["keystrokes"]) == (None, 4.0, 0.0)
