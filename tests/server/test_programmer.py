"""The simulated programmer: keys, pauses, regions and judgements, and the percentiles of the report."""

from __future__ import annotations

import random
import re

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.simulate.client import Cursor, utf16_length
from coderl_server.simulate.programmer import (
    Habit,
    Key,
    PauseHabits,
    Place,
    Take,
    choose_region,
    judge,
    keys_of,
    place_after,
    plan,
)
from coderl_server.simulate.report import percentile

CODE = "def add(left, right):\n    total = left + right\n    return total\n" * 20
TEXTS = st.text(alphabet=st.sampled_from("ab_ (.=\n\r\t𝕏é"), max_size=80)


def planned(seed: int, **options: object) -> list[Key]:
    return plan(CODE, random.Random(seed), chars_per_second=5.0, **options)  # type: ignore[arg-type]  # test shorthand


@given(TEXTS)
def test_keys_make_the_text_and_keep_line_breaks_whole(text: str) -> None:
    keys = keys_of(text)
    assert "".join(keys) == text
    assert sum(key == "\r\n" for key in keys) == text.count("\r\n")


@pytest.mark.parametrize(
    ("typed", "upcoming", "place"),
    [
        ("\n", "x", Place.LINE_END),
        ("\r\n", "x", Place.LINE_END),
        ("(", "x", Place.OPENING),
        (":", "\n", Place.OPENING),
        ("d", " ", Place.WORD_END),
        ("d", "e", None),
        (" ", "x", None),
        ("\n", "", None),
    ],
)
def test_places_where_people_pause(typed: str, upcoming: str, place: Place | None) -> None:
    assert place_after(typed, upcoming) is place


def test_the_same_seed_types_the_same_way_and_another_does_not() -> None:
    assert planned(1) == planned(1)
    assert planned(1) != planned(2)


def test_keys_come_at_the_given_speed() -> None:
    gaps = [key.gap_s for key in planned(3)]
    assert numpy.mean(gaps) == pytest.approx(1 / 5.0, rel=0.05)
    assert numpy.std(gaps) / numpy.mean(gaps) == pytest.approx(0.47, rel=0.15)


def test_pauses_follow_the_habits() -> None:
    always = PauseHabits(line_end=Habit(1.0, 2.0, spread=0.0), opening=Habit(0.0, 1.0), word_end=Habit(0.0, 1.0))
    pauses = [(key.text, key.pause.length_s) for key in planned(1, habits=always) if key.pause is not None]
    assert pauses == [("\n", 2.0)] * (CODE.count("\n") - 1)  # behind the last one nothing comes


def test_a_sample_of_requests_leaves_keys_and_pauses_as_they_are() -> None:
    every, some = planned(1), planned(1, max_requests=5)
    assert sum(key.pause is not None and key.pause.asks for key in some) == 5
    assert [(k.text, k.gap_s, k.pause and k.pause.length_s) for k in some] == [
        (k.text, k.gap_s, k.pause and k.pause.length_s) for k in every
    ]
    assert not any(key.pause is not None and key.pause.asks for key in planned(1, max_requests=0))


@given(TEXTS, st.integers(1, 90), st.integers(0, 5))
def test_regions_are_whole_lines_within_the_limit(text: str, max_chars: int, seed: int) -> None:
    start, end = choose_region(text, max_chars, random.Random(seed))
    assert 0 <= start <= end <= len(text)
    assert end - start <= max_chars
    assert start == 0 or text[start - 1] in "\r\n"
    whole_lines = end == len(text) or text[end] in "\r\n"
    assert text[end - 1 : end + 1] != "\r\n" or end == 0
    cut = re.sub(r"\A(\r\n|\r|\n)", "", text[start:end])
    assert whole_lines or not re.search(r"[\r\n]", cut)


def test_a_short_file_is_typed_whole() -> None:
    assert choose_region(CODE, None, random.Random(0)) == (0, len(CODE))
    assert choose_region("ab\n", 3, random.Random(0)) == (0, 3)


@pytest.mark.parametrize(
    ("offered", "upcoming", "take", "taken"),
    [
        ("return total", "return total\n", Take.WHOLE, "return total"),
        ("return total\n    x", "return total\n    y", Take.PART, "return total\n"),
        ("return total\nx", "return total", Take.PART, "return total"),
        ("return value", "return total", Take.PART, "return"),
        ("ret x", "return total", Take.NOTHING, ""),
        ("a b", "a c", Take.NOTHING, ""),  # one character is not worth a key
        ("", "return", Take.NOTHING, ""),
        ("total\r\nx", "total\r\ny", Take.PART, "total\r\n"),
        ("total\r", "total\r\n", Take.PART, "total"),
    ],
)
def test_judgements(offered: str, upcoming: str, take: Take, taken: str) -> None:
    judgement = judge(offered, upcoming)
    assert (judgement.take, offered[: judgement.chars]) == (take, taken)


@given(TEXTS, TEXTS)
def test_only_what_really_comes_next_is_taken(offered: str, upcoming: str) -> None:
    judgement = judge(offered, upcoming)
    assert upcoming.startswith(offered[: judgement.chars])
    assert (judgement.take is Take.NOTHING) == (judgement.chars == 0)
    assert (judgement.take is Take.WHOLE) == (0 < judgement.chars == len(offered))


@given(TEXTS, st.integers(0, 80))
def test_the_cursor_knows_lines_and_utf16_columns(text: str, cut: int) -> None:
    if text[cut - 1 : cut + 1] == "\r\n":
        cut += 1
    cursor = Cursor()
    cursor.advance(text[:cut])
    cursor.advance(text[cut:])
    lines = re.split(r"\r\n|\n|\r", text)
    assert (cursor.offset, cursor.line, cursor.column) == (len(text), len(lines) - 1, len(lines[-1].encode("utf-16-le")) // 2)


def test_utf16_counts_surrogate_pairs_twice() -> None:
    assert utf16_length("a𝕏é") == 4


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentiles_are_those_of_numpy(values: list[float], share: float) -> None:
    assert percentile(values, share) == pytest.approx(float(numpy.quantile(values, share)), rel=1e-9, abs=1e-9)


def test_no_values_have_no_percentile() -> None:
    assert percentile([], 0.5) is None
