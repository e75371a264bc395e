"""What a session remembers: trials of the last hour, recent outcomes, rejections."""

from __future__ import annotations

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
