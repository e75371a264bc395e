import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.positions import Edit, Encoding, advance, split_lines, to_points, to_units

ENCODINGS = st.sampled_from(Encoding)
# A lone surrogate can come out of JSON; astral characters and combining marks are what breaks naive counting.
LINES = st.text(alphabet=st.sampled_from("ab é✓漢😀𝒳\u0301\ud800\u2028"), max_size=30)


def width(character: str, encoding: Encoding) -> int:
    code = ord(character)
    if encoding is Encoding.UTF32:
        return 1
    if encoding is Encoding.UTF16:
        return 2 if code > 0xFFFF else 1
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4


@given(line=LINES, encoding=ENCODINGS, data=st.data())
def test_units_round_trip(line: str, encoding: Encoding, data: st.DataObject) -> None:
    character = data.draw(st.integers(0, len(line)))
    units = to_units(line, character, encoding)
    assert units == sum(width(c, encoding) for c in line[:character])
    assert to_points(line, units, encoding) == character


@given(line=LINES, encoding=ENCODINGS, units=st.integers(-3, 150))
def test_any_unit_snaps_left_or_to_the_end(line: str, encoding: Encoding, units: int) -> None:
    starts = [sum(width(c, encoding) for c in line[:i]) for i in range(len(line) + 1)]
    assert to_points(line, units, encoding) == max(i for i, start in enumerate(starts) if start <= max(units, 0))


@pytest.mark.parametrize(
    ("encoding", "units"), [(Encoding.UTF8, 7), (Encoding.UTF16, 5), (Encoding.UTF32, 4)], ids=["utf-8", "utf-16", "utf-32"]
)
def test_the_example_of_the_protocol_issue(encoding: Encoding, units: int) -> None:
    assert to_units('x="😀"', 4, encoding) == units
    assert to_points('x="😀"', units, encoding) == 4


def test_a_position_past_the_line_is_clamped() -> None:
    assert to_units("é", 99, Encoding.UTF8) == 2
    assert to_units("é", -1, Encoding.UTF8) == 0


@given(text=st.text(alphabet="ab\r\n\v\f\x1c\x85\u2028😀"))
def test_only_the_terminators_of_lsp_end_a_line(text: str) -> None:
    pieces = split_lines(text)
    assert "".join(pieces) == text
    for piece in pieces[:-1]:
        assert piece.endswith(("\n", "\r"))
    for piece in pieces:
        assert len([c for c in piece.replace("\r\n", "\n") if c in "\r\n"]) <= 1


def test_exotic_borders_do_not_end_a_line() -> None:
    assert split_lines("a\fb\u2028c\nd") == ["a\fb\u2028c\n", "d"]


def test_advance_over_lines() -> None:
    assert advance(3, 4, "ab") == (3, 6)
    assert advance(3, 4, "ab\r\ncd") == (4, 2)
    assert advance(3, 4, "ab\n") == (4, 0)


def test_move_around_an_edit() -> None:
    edit = Edit(1, 2, 1, 4, new_text="x\nyz", old_text="ab")
    assert edit.new_end == (2, 2)
    assert edit.move((1, 1)) == (1, 1)
    assert edit.move((1, 3)) == (2, 2)
    assert edit.move((1, 6)) == (2, 4)
    assert edit.move((5, 6)) == (6, 6)


def test_an_insertion_pushes_a_start_but_not_an_end() -> None:
    edit = Edit(0, 5, 0, 5, new_text="abc", old_text="")
    assert edit.move((0, 5)) == (0, 8)
    assert edit.move((0, 5), stay_on_insert=True) == (0, 5)


@given(
    old=st.text(alphabet="ab\r\n", max_size=12), new=st.text(alphabet="ab\r\n", max_size=12), before=st.text("ab\n", max_size=4)
)
def test_a_minimal_edit_has_the_same_effect(old: str, new: str, before: str) -> None:
    start = advance(0, 0, before)
    small = Edit(*start, *advance(*start, old), new_text=new, old_text=old).minimal()
    head = next(
        k for k in range(len(old) + 1) if advance(*start, old[:k]) == small.start and old[k:].startswith(small.old_text)
    )
    tail = old[head + len(small.old_text) :]
    assert old[:head] + small.new_text + tail == new
    assert len(small.new_text) <= len(new)


def test_replacing_the_typed_token_is_the_insertion_of_the_rest() -> None:
    assert Edit(0, 4, 0, 7, new_text="print(x)", old_text="pri").minimal() == Edit(0, 7, 0, 7, new_text="nt(x)", old_text="")
