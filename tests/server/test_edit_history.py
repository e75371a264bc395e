"""What was edited lately, as numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_server.documents import Document, Place
from coderl_server.edit_history import UNDO_WINDOW_S, WINDOW_S, EditHistory
from coderl_server.positions import Edit, Encoding

A, B = "file:///a", "file:///b"


def insertion(text: str, line: int = 0, at: int = 0) -> Edit:
    return Edit(line, at, line, at, new_text=text, old_text="")


def deletion(text: str, line: int = 0, at: int = 0) -> Edit:
    return Edit(line, at, line, at + len(text), new_text="", old_text=text)


def test_characters_of_the_last_seconds_are_counted() -> None:
    history = EditHistory()
    history.edited(0.0, A, [insertion("abc")])
    history.edited(5.0, A, [deletion("c", at=2), Edit(0, 0, 0, 1, new_text="xy", old_text="a")])
    seen = history.activity(6.0, A, 0, 12.5)
    assert (seen.spread_ms, seen.added_chars, seen.deleted_chars, seen.deletions) == (12.5, 5, 2, 1)
    later = history.activity(5.0 + WINDOW_S + 0.1, A, 0, None)
    assert (later.spread_ms, later.added_chars, later.deleted_chars, later.deletions) == (None, 0, 0, 0)


def test_the_distance_is_to_the_end_of_the_last_edit_in_the_same_document() -> None:
    history = EditHistory()
    assert history.activity(0.0, A, 3, None).lines_away is None
    history.edited(0.0, A, [insertion("a\nb\n", line=4)])
    assert history.activity(0.0, A, 3, None).lines_away == 3
    assert history.activity(0.0, B, 3, None).lines_away is None


def test_taking_back_what_was_just_done_is_seen() -> None:
    history = EditHistory()
    history.edited(0.0, A, [insertion("foo")])
    history.edited(1.0, B, [deletion("foo")])
    assert history.activity(1.0, A, 0, None).undone == 0  # another document
    history.edited(2.0, A, [deletion("foo")])
    assert history.activity(2.0, A, 0, None).undone == 1
    history.edited(3.0, A, [insertion("foo")])  # redo
    assert history.activity(3.0, A, 0, None).undone == 2
    assert history.activity(3.0 + UNDO_WINDOW_S, A, 0, None).undone == 1


def test_only_the_last_edits_can_be_taken_back() -> None:
    history = EditHistory()
    history.edited(0.0, A, [insertion("foo")])
    for number in range(5):
        history.edited(1.0, A, [insertion("x", line=number + 1)])
    history.edited(2.0, A, [deletion("foo")])
    assert history.activity(2.0, A, 0, None).undone == 0


edits = st.builds(
    lambda line, new, old: Edit(line, 0, line, len(old), new_text=new, old_text=old),
    st.integers(0, 9), st.text("ab\n", max_size=5), st.text("ab", max_size=5),
)  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 9), st.sampled_from([A, B]), st.lists(edits, max_size=3)), max_size=30))
def test_counts_are_those_of_the_edits(events: list[tuple[float, str, list[Edit]]]) -> None:
    history, now_s, done = EditHistory(), 0.0, []
    for gap_s, uri, changed in events:
        now_s += gap_s
        history.edited(now_s, uri, changed)
        done += [(now_s, edit) for edit in changed]
    seen = history.activity(now_s, A, 0, None)
    recent = [edit for at_s, edit in done if now_s - at_s <= WINDOW_S]
    assert seen.added_chars == sum(len(edit.new_text) for edit in recent)
    assert seen.deleted_chars == sum(len(edit.old_text) for edit in recent)
    assert 0 <= seen.deletions <= len(recent)
    assert 0 <= seen.undone <= len(done)


def place(text: str, line: int, character: int) -> Place:
    return Document(A, "python", 1, text).snapshot(line, character, Encoding.UTF32, 1000, 1000)


def test_deletions_that_touch_are_one_and_blanks_do_not_end_it() -> None:
    history = EditHistory()
    history.edited(0.0, A, [deletion("c", at=6)])
    history.edited(1.0, A, [deletion("b", at=5)])
    history.edited(2.0, A, [deletion("d", at=5)])
    assert history.deleted_at(2.0, place("x = (", 0, 5)) == "bcd"
    history.edited(3.0, A, [insertion("  ", at=2)])
    assert history.deleted_at(3.0, place("x   = (", 0, 7)) == "bcd"
    assert history.deleted_at(3.0, place("x   = (", 0, 2)) == ""  # text between
    assert history.deleted_at(3.0, place("\nx   = (", 1, 7)) == ""  # another line
    assert history.deleted_at(2.1 + UNDO_WINDOW_S, place("x   = (", 0, 7)) == ""
    history.edited(4.0, B, [insertion("elsewhere")])
    assert history.deleted_at(4.0, place("x   = (", 0, 7)) == "bcd"
    history.edited(5.0, A, [insertion("y", at=7)])
    assert history.deleted_at(5.0, place("x   = (y", 0, 7)) == ""


def test_a_deleted_line_is_known_where_a_new_one_begins() -> None:
    history = EditHistory()
    history.edited(0.0, A, [Edit(1, 0, 2, 0, new_text="", old_text="    return x\n")])
    history.edited(1.0, A, [insertion("    \n", line=1)])
    assert history.deleted_at(1.0, place("def f():\n    \n    y\n", 2, 0)) == "    return x\n"
    replaced = EditHistory()
    replaced.edited(0.0, A, [Edit(1, 0, 1, 12, new_text="    ", old_text="    return x")])
    assert replaced.deleted_at(0.0, place("def f():\n    ", 1, 4)) == "return x"
