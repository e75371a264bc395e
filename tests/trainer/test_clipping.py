from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.clipping import AdaptiveClip, ClipTarget, EntropySchedule
from coderl_trainer.errors import FigureError

MEASURED = st.floats(0, 10) | st.just(math.nan) | st.just(math.inf)


@given(st.lists(MEASURED, max_size=60), st.sampled_from(ClipTarget))
def test_the_clip_stays_in_its_bounds_and_never_jumps(measured: list[float], by: ClipTarget) -> None:
    clip = AdaptiveClip(0.28, target=0.02, by=by, lowest=0.2, highest=0.5)
    for value in measured:
        moved = clip.after(value)
        assert 0.2 <= moved.epsilon <= 0.5
        assert abs(math.log(moved.epsilon / clip.epsilon)) <= clip.rate + 1e-12
        clip = moved


def test_more_clipped_than_asked_widens_the_clip() -> None:
    clip = AdaptiveClip(0.28, target=0.02)
    assert clip.after(0.03).epsilon > 0.28 > clip.after(0.01).epsilon
    assert clip.after(0.02).epsilon == clip.after(math.nan).epsilon == 0.28


def test_less_entropy_than_asked_widens_the_clip() -> None:
    clip = AdaptiveClip(0.28, target=1.0, by=ClipTarget.ENTROPY)
    assert clip.after(0.5).epsilon > 0.28 > clip.after(1.5).epsilon


@pytest.mark.parametrize("start", [0.1, 1.0])
def test_the_clip_finds_its_target(start: float) -> None:
    """A policy whose log-ratios are exponential with mean 0.1: ε clips exp(−10·log(1 + ε)) of them; 2 % at ε = 0.479."""
    clip = AdaptiveClip(start, target=0.02)
    for _ in range(400):
        clip = clip.after(math.exp(-10 * math.log1p(clip.epsilon)))
    assert clip.epsilon == pytest.approx(0.02**-0.1 - 1, rel=1e-3)


@given(st.lists(st.floats(0, 1), max_size=10), st.lists(st.floats(0, 1), max_size=10))
def test_both_go_on_exactly_where_they_were(before: list[float], after: list[float]) -> None:
    clip, schedule = AdaptiveClip(0.28, target=0.1), EntropySchedule(0.01, end=0.0, steps=12, target=0.5)
    first_clip, first_schedule = clip, schedule
    for value in before:
        clip, schedule = clip.after(value), schedule.after(value)
    again_clip, again_schedule = first_clip.resumed(clip.state), first_schedule.resumed(schedule.state)
    for value in after:
        clip, schedule = clip.after(value), schedule.after(value)
        again_clip, again_schedule = again_clip.after(value), again_schedule.after(value)
    assert (again_clip, again_schedule) == (clip, schedule)


def test_the_entropy_coefficient_falls_along_its_line() -> None:
    schedule = EntropySchedule(0.01, end=0.002, steps=4)
    found = []
    for _ in range(6):
        found.append(schedule.coefficient)
        schedule = schedule.after(1.0)
    assert found == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002, 0.002])


def test_without_an_end_the_coefficient_is_constant() -> None:
    schedule = EntropySchedule(0.01)
    assert schedule.coefficient == schedule.after(0.0).after(9.0).coefficient == 0.01


@given(st.lists(MEASURED, max_size=60))
def test_the_gain_stays_in_its_bounds(measured: list[float]) -> None:
    schedule = EntropySchedule(0.01, target=0.5, most_gain=2.0)
    for value in measured:
        schedule = schedule.after(value)
        assert 0 <= schedule.coefficient <= 0.02


def test_the_coefficient_rises_while_there_is_too_little_entropy() -> None:
    schedule = EntropySchedule(0.01, target=0.5)
    assert schedule.after(0.2).coefficient > 0.01 > schedule.after(0.9).coefficient
    assert schedule.after(0.5).coefficient == schedule.after(math.nan).coefficient == 0.01


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdaptiveClip(0.0, target=0.1, lowest=0.0),
        lambda: AdaptiveClip(2.0, target=0.1),
        lambda: AdaptiveClip(0.2, target=0.0),
        lambda: AdaptiveClip(0.2, target=0.1).resumed("much"),
        lambda: AdaptiveClip(0.2, target=0.1).resumed("inf"),
        lambda: AdaptiveClip(0.2, target=0.1).resumed("nan"),
        lambda: EntropySchedule(-0.1),
        lambda: EntropySchedule(math.nan),
        lambda: EntropySchedule(0.1, target=0.0),
        lambda: EntropySchedule(0.1).resumed("three 0x1p0"),
        lambda: EntropySchedule(0.1).resumed("3"),
        lambda: EntropySchedule(0.1).resumed("3 0x1p9"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(FigureError):
        make()
