import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.documents import Change, Document, Place
from coderl_server.positions import Encoding
from coderl_server.ranges import MAX_TOKEN_CHARS, InlineEdit, accepted_chars, inline_edit


def place_at(text: str, line: int, units: int, encoding: Encoding = Encoding.UTF16, window: int = 500) -> Place:
    return Document("u", "python", 1, text).snapshot(line, units, encoding, window, window)


def test_text_behind_the_cursor_gives_an_empty_range() -> None:
    assert inline_edit(place_at("foo(com)\n", 0, 7), "pute", Encoding.UTF16) == InlineEdit(0, 7, 7, "pute", "pute", 0)


def test_at_the_end_of_the_line_the_typed_token_is_repeated() -> None:
    assert inline_edit(place_at("x = com\n", 0, 7), "pute(1)", Encoding.UTF16) == InlineEdit(
        0, 4, 7, "compute(1)", "compute(1)", 3
    )


@pytest.mark.parametrize("prefix", ["", "x = ", "foo(", "a."])
def test_without_a_token_the_range_is_empty(prefix: str) -> None:
    edit = inline_edit(place_at(prefix, 0, len(prefix)), "y", Encoding.UTF16)
    assert (edit.start_units, edit.end_units, edit.insert_text) == (len(prefix), len(prefix), "y")


def test_an_endless_token_is_not_repeated() -> None:
    prefix = "a" * (MAX_TOKEN_CHARS + 1)
    assert inline_edit(place_at(prefix, 0, len(prefix)), "b", Encoding.UTF16).insert_text == "b"


@pytest.mark.parametrize(
    ("encoding", "start", "end"), [(Encoding.UTF8, 6, 12), (Encoding.UTF16, 4, 8), (Encoding.UTF32, 3, 7)], ids=str
)
def test_units_of_the_client(encoding: Encoding, start: int, end: int) -> None:
    edit = inline_edit(place_at("'😀'été_", 0, end, encoding), "x", encoding)
    # utf-8: quote 1 + emoji 4 + quote 1 = 6, and each é takes 2.
    assert (edit.start_units, edit.insert_text) == (start, "été_x")


def test_units_are_right_beyond_the_window() -> None:
    text = "😀" * 1000 + " abc"
    edit = inline_edit(place_at(text, 0, 2004, window=10), "d", Encoding.UTF16)
    assert (edit.start_units, edit.end_units, edit.insert_text) == (2001, 2004, "abcd")


@given(
    line=st.text("ab_ (é😀", max_size=12),
    at=st.integers(0, 12),
    text=st.text("xy\n)é", min_size=1, max_size=8),
    encoding=st.sampled_from(Encoding),
)
def test_applying_the_edit_inserts_the_text_at_the_cursor(line: str, at: int, text: str, encoding: Encoding) -> None:
    document = Document("u", "python", 1, f"top\n{line}\nend")
    place = document.snapshot(1, at, encoding, 50, 50)
    edit = inline_edit(place, text, encoding)
    where = (edit.line, edit.start_units, edit.line, edit.end_units)
    document.apply([Change(where, edit.insert_text)], 2, encoding)
    assert document.text() == f"top\n{line[: place.character]}{text}{line[place.character :]}\nend"
    assert edit.filter_text == edit.insert_text
    assert edit.insert_text[edit.repeated_chars :] == text
    if place.line_suffix:
        assert edit.start_units == edit.end_units


def test_accepted_length_counts_from_the_inserted_text_in_utf16() -> None:
    edit = inline_edit(place_at("é = com", 0, 7), "pute('😀')", Encoding.UTF16)
    assert accepted_chars(edit, 2) == 0
    assert accepted_chars(edit, 7) == 4
    assert accepted_chars(edit, 11) == 7
    assert accepted_chars(edit, 999) == len("pute('😀')")
