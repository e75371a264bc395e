import random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from coderl_server.documents import Change, Document
from coderl_server.positions import Encoding, advance
from coderl_server.survival import AFTER_S, MAX_CHARS, SurvivalTracker, edit_distance, share_kept


def reference_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


@given(st.text("ab\n😀", max_size=20), st.text("ab\n😀", max_size=20))
def test_distance_equals_the_textbook_table(a: str, b: str) -> None:
    assert edit_distance(a, b) == reference_distance(a, b)
    assert edit_distance(a, b) == edit_distance(b, a)


@given(st.text(max_size=30), st.text(max_size=30))
def test_share_is_a_share(a: str, b: str) -> None:
    assert 0 <= share_kept(a, b) <= 1
    assert share_kept(a, a) == 1
    assert (share_kept(a, b) == 1) == (a == b)


def test_only_the_beginning_of_a_long_text_is_compared() -> None:
    assert share_kept("a" * MAX_CHARS + "b", "a" * MAX_CHARS + "c") == 1


class Desk:
    def __init__(self, text: str, start: tuple[int, int], accepted: str) -> None:
        self.document = Document("u", "python", 1, text)
        self.tracker = SurvivalTracker()
        end = advance(*start, accepted)
        assert self.document.text_between(start, end) == accepted
        self.tracker.accepted("s1", "u", start, end, accepted, 0.0)

    def change(self, *changes: Change) -> "Desk":
        self.tracker.changed("u", self.document.apply(changes, 2, Encoding.UTF32))
        return self

    def share(self) -> float:
        return self.due(AFTER_S[0])[0][2]

    def due(self, at_s: float) -> list[tuple[str, float, float]]:
        return self.tracker.due(at_s, lambda _uri, start, end: self.document.text_between(start, end))


def test_untouched_text_survives_every_time() -> None:
    desk = Desk("x = compute(1)\n", (0, 4), "compute(1)")
    assert [measured for at_s in AFTER_S for measured in desk.due(at_s)] == [("s1", after_s, 1.0) for after_s in AFTER_S]
    assert len(desk.tracker) == 0
    assert desk.tracker.next_due_s() is None


def test_each_time_is_measured_once() -> None:
    desk = Desk("abc", (0, 0), "abc")
    assert desk.due(14.9) == []
    assert desk.tracker.next_due_s() == 15.0
    assert len(desk.due(15.0)) == 1
    assert desk.due(16.0) == []


def test_what_comes_too_late_is_not_measured() -> None:
    desk = Desk("abc", (0, 0), "abc")
    assert [after_s for _, after_s, _ in desk.due(170.0)] == [120.0]


def test_typing_in_front_and_behind_costs_nothing() -> None:
    desk = Desk("x = abcd\n", (0, 4), "abcd")
    desk.change(Change((0, 8, 0, 8), ".y"), Change((0, 4, 0, 4), "z."), Change((0, 0, 0, 0), "import q\n"))
    assert desk.share() == 1.0


def test_typing_inside_costs_its_share() -> None:
    assert Desk("abcd", (0, 0), "abcd").change(Change((0, 2, 0, 2), "XXXX")).share() == pytest.approx(0.5)


def test_deleted_text_is_gone() -> None:
    assert Desk("x = abcd\n", (0, 4), "abcd").change(Change((0, 0, 0, 8), "")).share() == 0.0


def test_a_deletion_over_the_border_takes_its_part() -> None:
    assert Desk("x = abcd\n", (0, 4), "abcd").change(Change((0, 2, 0, 6), "")).share() == pytest.approx(0.5)


def test_a_full_text_change_elsewhere_keeps_it() -> None:
    assert Desk("x\nabcd\ny\n", (1, 0), "abcd").change(Change(None, "x1\n\nabcd\ny2\n")).share() == 1.0


def test_of_several_equal_texts_the_nearest_is_taken_to_be_it() -> None:
    desk = Desk("a\nab\nb\nab\nc\n", (3, 0), "ab").change(Change(None, "a2\nab\nb2\nab\nc2\n"))
    desk.change(Change((1, 0, 1, 2), ""))
    assert desk.share() == 1.0
    desk.change(Change((3, 0, 3, 2), ""))
    assert desk.due(30.0) == [("s1", 30.0, 0.0)]


def test_reformatting_costs_little() -> None:
    assert Desk("x=f(a,b)\n", (0, 0), "x=f(a,b)").change(Change(None, "x = f(a, b)\n")).share() == pytest.approx(8 / 11)


def test_other_documents_and_closed_ones() -> None:
    desk = Desk("abc", (0, 0), "abc")
    desk.tracker.changed("other", Document("other", "", 1, "zz").apply([Change(None, "")], 2, Encoding.UTF16))
    assert desk.tracker.due(15.0, lambda _uri, _start, _end: None) == []
    desk.tracker.closed("u")
    assert len(desk.tracker) == 0


def test_empty_text_is_not_tracked() -> None:
    tracker = SurvivalTracker()
    tracker.accepted("s1", "u", (0, 0), (0, 0), "", 0.0)
    assert len(tracker) == 0


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_edits_outside_never_touch_it(seed: int) -> None:
    """Edits strictly before and strictly behind the range, in any order and any form, leave a share of 1."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    accepted = rng.choice(["<one>", "<two\nlines>", "<a\nb\nc>"])
    head, tail = "h\nhh", "t\ntt\n"
    desk = Desk(head + accepted + tail, (1, 2), accepted)
    for _ in range(8):
        text = "".join(rng.choice("xy\n") for _ in range(rng.randint(0, 3)))
        if rng.random() < 0.5:
            head = head[: rng.randint(0, len(head))] + text
        else:
            tail = text + tail[rng.randint(0, len(tail)) :]
        if rng.random() < 0.3:
            desk.change(Change(None, head + accepted + tail))
        else:
            old = desk.document.text()
            at = old.index("<")
            end = old.index(">") + 1
            desk.change(
                Change((*advance(0, 0, old[:end]), *advance(0, 0, old)), tail), Change((0, 0, *advance(0, 0, old[:at])), head)
            )
    assert desk.document.text() == head + accepted + tail
    assert desk.share() == 1.0
