import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.rhythm import GAPS, PAUSE_S, Rhythm


def test_nothing_is_known_before_the_second_key() -> None:
    rhythm = Rhythm()
    assert rhythm.interval_ms() is None
    rhythm.edited(1.0, typed_chars=1)
    assert rhythm.interval_ms() is None
    assert rhythm.chars_per_s() is None


def test_mean_gap_and_speed() -> None:
    rhythm = Rhythm()
    for at_s in (10.0, 10.1, 10.4):
        rhythm.edited(at_s, typed_chars=1)
    assert rhythm.interval_ms() == pytest.approx(200)
    assert rhythm.chars_per_s() == pytest.approx(5)


def test_a_pause_is_left_out() -> None:
    rhythm = Rhythm()
    for at_s in (0.0, 0.1, 0.1 + PAUSE_S, 0.3 + PAUSE_S):
        rhythm.edited(at_s, typed_chars=1)
    assert rhythm.interval_ms() == pytest.approx(150)


def test_a_paste_is_no_keystroke_but_breaks_the_gap() -> None:
    rhythm = Rhythm()
    rhythm.edited(0.0, typed_chars=1)
    rhythm.edited(1.0, typed_chars=40)
    assert rhythm.interval_ms() is None
    rhythm.edited(1.2, typed_chars=1)
    assert rhythm.interval_ms() == pytest.approx(200)


def test_a_deletion_has_rhythm_but_brings_no_text() -> None:
    rhythm = Rhythm()
    rhythm.edited(0.0, typed_chars=1)
    rhythm.edited(0.2, typed_chars=0)
    assert rhythm.interval_ms() == pytest.approx(200)
    assert rhythm.chars_per_s() == 0


def test_only_the_last_gaps_count() -> None:
    rhythm, now_s = Rhythm(), 0.0
    for gap_s in [1.0] * 30 + [0.1] * GAPS:
        now_s += gap_s
        rhythm.edited(now_s, typed_chars=1)
    assert rhythm.interval_ms() == pytest.approx(100)


def test_the_spread_is_that_of_the_gaps() -> None:
    rhythm = Rhythm()
    for at_s in (0.0, 0.1):
        rhythm.edited(at_s, typed_chars=1)
        assert rhythm.spread_ms() is None
    rhythm.edited(0.4, typed_chars=1)
    assert rhythm.spread_ms() == pytest.approx(100)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30)), max_size=60))
def test_the_interval_lies_among_the_gaps(events: list[tuple[float, int]]) -> None:
    rhythm, now_s = Rhythm(), 0.0
    for gap_s, chars in events:
        now_s += gap_s
        rhythm.edited(now_s, chars)
    interval = rhythm.interval_ms()
    assert interval is None or 0 <= interval < PAUSE_S * 1000
