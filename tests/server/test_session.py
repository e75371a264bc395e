"""What a session remembers: trials of the last hour, recent outcomes, rejections."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coderl_server.session import HOUR_S, RECENT, REJECTION_CHARS, REJECTIONS, Identity, Session
from coderl_server.settings import Settings


def session(**settings: float) -> Session:
    return Session(Identity("s", "u", b"salt"), Settings(**settings), started_s=0.0)


def test_trials_are_counted_over_the_last_hour() -> None:
    one = session(explore_per_hour=2)
    assert one.may_explore(0.0)
    one.explored(0.0)
    one.explored(100.0)
    assert not one.may_explore(100.0)
    assert not one.may_explore(HOUR_S)
    assert one.may_explore(HOUR_S + 0.1)
    one.explored(HOUR_S + 0.1)
    assert not one.may_explore(HOUR_S + 99.0)
    assert one.may_explore(HOUR_S + 100.1)


def test_a_cap_of_nothing_allows_nothing() -> None:
    assert not session(explore_per_hour=0).may_explore(0.0)


def test_a_dismissal_is_followed_by_quiet_without_trials() -> None:
    one = session(cooldown_s=5.0)
    one.dismissed("uri", "  x = ", "text", 10.0)
    assert one.cooldown_until_s == 15.0
    assert not one.may_explore(14.9)
    assert one.may_explore(15.0)


def test_rejections_are_known_by_document_line_and_text_whatever_the_blanks_around() -> None:
    one = session()
    one.dismissed("uri", "    x = ", "sum(a) ", 0.0)
    assert one.rejected_before("uri", "x =", " sum(a)")
    assert not one.rejected_before("other", "    x = ", "sum(a)")
    assert not one.rejected_before("uri", "    y = ", "sum(a)")
    assert not one.rejected_before("uri", "    x = ", "sum(b)")


def test_no_more_rejections_are_kept_than_the_setting_says() -> None:
    one = session(remember_rejections=2)
    for text in ("a", "b", "c"):
        one.dismissed("uri", "x", text, 0.0)
    assert [one.rejected_before("uri", "x", text) for text in ("a", "b", "c")] == [False, True, True]
    one.settings = Settings(remember_rejections=0)
    one.dismissed("uri", "x", "d", 0.0)
    assert not any(one.rejected_before("uri", "x", text) for text in ("b", "c", "d"))


def test_recent_outcomes_are_bounded_and_in_order() -> None:
    one = session()
    for number in range(RECENT + 5):
        one.seen(number >= RECENT, float(number))
    assert list(one.recent_accepts) == [False] * 5 + [True] * 5
    assert one.last_outcome_s == RECENT + 4


def test_texts_that_were_not_kept_are_remembered_for_comparison() -> None:
    one = session()
    one.seen(True, 0.0, "kept")
    one.seen(False, 0.0)  # its text is not known any more
    for number in range(REJECTIONS + 2):
        one.seen(False, 1.0, f"{number}" * 2 * REJECTION_CHARS)
    assert [text[0] for text in one.not_kept] == ["2", "3", "4", "5", "6"]
    assert {len(text) for text in one.not_kept} == {REJECTION_CHARS}
    one.dismissed("uri", "x", "text", 7.0)
    assert one.last_dismissal_s == 7.0


def test_the_salt_is_not_in_any_representation() -> None:
    assert "salt" not in repr(Identity("s", "u", b"salt")).replace("salt=", "")


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("import a\n    x = ", "sum(a)\n    y = x"),
        ("    x = sum(", "a)\n    y = x"),
        ("  x=sum(a)\n", "  y  =  x"),
        ("\tx =\tsum(a)\n\n\ty", " = x\n"),
        ("    x", " = sum(a)\r\n    y = x"),
    ],
)
def test_a_rejected_text_is_known_however_much_of_it_was_typed_and_whatever_its_blanks(prefix: str, text: str) -> None:
    one = session()
    one.dismissed("uri", "    x = ", "sum(a)\n    y = x", 0.0)
    assert one.rejected_before("uri", prefix, text)
    assert not one.rejected_before("uri", prefix, text + "1")
    assert not one.rejected_before("other", prefix, text)


@given(st.text("ab =(\n", max_size=12), st.text("ab =(\n", min_size=1, max_size=20), st.data())
def test_typing_along_a_rejected_text_never_brings_its_rest_back(line: str, text: str, data: st.DataObject) -> None:
    line = line.rpartition("\n")[2]
    assume(text.strip())
    one = session()
    one.dismissed("uri", line, text, 0.0)
    typed = data.draw(st.integers(0, len(text.rstrip()) - 1))
    assert one.rejected_before("uri", line + text[:typed], text[typed:])


def test_only_what_came_unasked_moves_the_dial() -> None:
    one = session()
    one.seen(False, 1.0, "text", None)
    assert one.adaptation(1.0).counted == 0
    one.seen(False, 2.0, "text", 0.6)
    assert one.adaptation(2.0).offset < 0
