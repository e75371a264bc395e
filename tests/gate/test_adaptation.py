"""Online adaptation: nothing from nothing, bounded, fading, and monotone in every outcome."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.adaptation import FADE_S, LIMIT, RECENT, SPREAD_LOGITS, Adaptation, Judged, adaptation, adapted

NOW_S = 10_000.0
probabilities = st.floats(0, 1)
outcomes = st.builds(Judged, at_s=st.floats(0, NOW_S), p=probabilities, kept=st.booleans())
histories = st.lists(outcomes, max_size=15).map(lambda made: sorted(made, key=lambda one: one.at_s))


def test_without_data_nothing_moves() -> None:
    assert adaptation([], NOW_S) == Adaptation(offset=0.0, counted=0, kept=0, expected=0.0, weight=0.0)


@given(histories)
def test_it_is_bounded(history: list[Judged]) -> None:
    assert -LIMIT <= adaptation(history, NOW_S).offset <= LIMIT


@given(histories)
def test_it_fades_to_nothing(history: list[Judged]) -> None:
    later = adaptation(history, NOW_S + 30 * FADE_S)
    assert abs(later.offset) < 1e-9
    assert later.counted == min(len(history), RECENT)


@given(histories.filter(bool), st.data())
def test_a_kept_suggestion_never_gives_less_than_a_rejected_one(history: list[Judged], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(history) - 1))
    kept, rejected = ([*history[:index], replace(history[index], kept=k), *history[index + 1 :]] for k in (True, False))
    assert adaptation(kept, NOW_S).offset >= adaptation(rejected, NOW_S).offset


@given(st.lists(outcomes, max_size=RECENT - 1), probabilities)
def test_one_more_rejection_never_raises_a_gate_that_was_right(history: list[Judged], p: float) -> None:
    """Where nothing was surprising so far, a rejection lowers and an acceptance raises."""
    as_expected = [replace(one, p=float(one.kept)) for one in history]
    assert adaptation([*as_expected, Judged(NOW_S, p, False)], NOW_S).offset <= 0.0
    assert adaptation([*as_expected, Judged(NOW_S, p, True)], NOW_S).offset >= 0.0


@given(histories, st.lists(outcomes, min_size=RECENT, max_size=RECENT))
def test_only_the_last_ten_count(old: list[Judged], last: list[Judged]) -> None:
    assert adaptation([*old, *last], NOW_S) == adaptation(last, NOW_S)


@given(outcomes.filter(lambda one: 0.05 < one.p < 0.95), st.integers(1, RECENT - 1))
def test_more_of_the_same_says_more(one: Judged, count: int) -> None:
    few, more = (adaptation([one] * n, one.at_s).offset for n in (count, count + 1))
    assert abs(few) <= abs(more)


@given(histories, st.floats(-1, 1), st.floats(-1, 1))
def test_what_is_in_force_rises_with_the_dial(history: list[Judged], a: float, b: float) -> None:
    offset = adaptation(history, NOW_S).offset
    low, high = sorted((a, b))
    assert -1.0 <= adapted(low, offset) <= adapted(high, offset) <= 1.0


def test_the_figures_of_the_formula() -> None:
    three = [Judged(NOW_S, 0.5, False)] * 3
    expected = -1.5 / (0.75 + SPREAD_LOGITS**-2) / 2.0
    assert adaptation(three, NOW_S).offset == pytest.approx(expected)
    assert adaptation(three, NOW_S + FADE_S).weight == pytest.approx(3 / 2.718281828)


def test_an_outcome_from_the_future_weighs_as_one_of_now() -> None:
    assert adaptation([Judged(NOW_S + 50, 0.5, True)], NOW_S) == adaptation([Judged(NOW_S, 0.5, True)], NOW_S)


def test_a_probability_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Judged(0.0, float("nan"), True)


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([], "as set"),
        ([Judged(NOW_S, 0.9, False)] * 4, "lower"),
        ([Judged(NOW_S, 0.1, True)] * 4, "higher"),
        ([Judged(0.0, 0.5, True)], "leaves eagerness as set"),
    ],
)
def test_it_says_itself_in_a_sentence(history: list[Judged], words: str) -> None:
    assert words in adaptation(history, NOW_S).sentence()
