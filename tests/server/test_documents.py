import random
import re
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from lsprotocol import types
from pygls.workspace import PositionCodec, TextDocument

from coderl_server.documents import DROP_FACTOR, Change, Document, DocumentStore
from coderl_server.errors import DocumentError, SettingsError
from coderl_server.positions import Edit, Encoding, advance, to_units

ALPHABET = "ab (é漢😀\t\n"
ROUGH = ALPHABET + "\r\u2028\f"


def reference_lines(text: str) -> list[tuple[int, int]]:
    """(start, end without terminator) of each line, by the definition in the protocol."""
    spans, start = [], 0
    for border in re.finditer("\r\n|\r|\n", text):
        spans.append((start, border.start()))
        start = border.end()
    return [*spans, (start, len(text))]


def reference_offset(text: str, line: int, units: int, encoding: Encoding) -> int:
    spans = reference_lines(text)
    if line >= len(spans):
        return len(text)
    start, end = spans[line]
    while end > start and to_units(text[start:end], end - start, encoding) > units:
        end -= 1
    return end


def random_text(rng: random.Random, alphabet: str, longest: int) -> str:
    piece = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, longest)))
    return piece.replace("\n", rng.choice(["\n", "\r\n"])) if "\r" in alphabet else piece


def random_change(rng: random.Random, text: str, alphabet: str) -> Change:
    if rng.random() < 0.05:
        return Change(None, random_text(rng, alphabet, 60))
    spans = reference_lines(text)
    lines = sorted(rng.randint(0, len(spans) + 1) for _ in range(2))
    characters = [rng.randint(0, 12) for _ in range(2)]
    return Change((lines[0], characters[0], lines[1], characters[1]), random_text(rng, alphabet, 8))


def reference_apply(text: str, change: Change, encoding: Encoding) -> str:
    if change.range is None:
        return change.text
    a, b, c, d = change.range
    start, end = sorted((reference_offset(text, a, b, encoding), reference_offset(text, c, d, encoding)))
    return text[:start] + change.text + text[end:]


@given(seed=st.integers(0, 2**32), encoding=st.sampled_from(Encoding))
@settings(max_examples=150, deadline=None)
def test_random_scripts_equal_the_string_splice(seed: int, encoding: Encoding) -> None:
    note(f"seed {seed}")
    rng = random.Random(seed)
    text = random_text(rng, ROUGH, 120)
    document = Document("file:///a.py", "python", 0, text)
    for version in range(1, 9):
        batch = []
        for _ in range(rng.randint(1, 5)):
            change = random_change(rng, text, ROUGH)
            batch.append(change)
            text = reference_apply(text, change, encoding)
        document.apply(batch, version, encoding)
        assert document.text() == text
        assert document.chars == len(text)
        assert document.line_count == len(reference_lines(text))
        line, units = rng.randint(0, document.line_count), rng.randint(0, 12)
        offset = reference_offset(text, line, units, encoding)
        place = document.snapshot(line, units, encoding, 25, 17)
        assert place.offset_chars == offset
        assert place.prefix == text[max(0, offset - 25) : offset]
        assert place.suffix == text[offset : offset + 17]
        assert place.version == version
        start, end = reference_lines(text)[place.line]
        assert place.line_prefix == text[max(start, offset - 25) : offset]
        assert place.line_suffix == text[offset : min(end, offset + 17)]


def as_pygls(change: Change) -> types.TextDocumentContentChangeEvent:
    if change.range is None:
        return types.TextDocumentContentChangeWholeDocument(text=change.text)
    a, b, c, d = change.range
    where = types.Range(start=types.Position(a, b), end=types.Position(c, d))
    return types.TextDocumentContentChangePartial(range=where, text=change.text)


@given(seed=st.integers(0, 2**32), encoding=st.sampled_from(Encoding))
@settings(max_examples=60, deadline=None)
def test_equal_to_pygls_where_pygls_is_right(seed: int, encoding: Encoding) -> None:
    """Within the document, between characters, and with \\n only: outside of that pygls differs from the protocol."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    ours = Document("file:///a.py", "python", 0, text := random_text(rng, ALPHABET, 150))
    codec = PositionCodec(types.PositionEncodingKind(encoding.value))
    theirs = TextDocument("file:///a.py", text, 0, "python", position_codec=codec)
    for version in range(1, 12):
        spans = reference_lines(text)
        points = []
        for line in sorted(rng.randint(0, len(spans) - 1) for _ in range(2)):
            content = text[spans[line][0] : spans[line][1]]
            points.append((line, to_units(content, rng.randint(0, len(content)), encoding)))
        (a, b), (c, d) = sorted(points)
        change = Change((a, b, c, d), random_text(rng, ALPHABET, 10))
        ours.apply([change], version, encoding)
        theirs.apply_change(as_pygls(change))
        text = theirs.source
        assert ours.text() == text


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_the_reported_edits_replay_the_change(seed: int) -> None:
    """What `apply` says it did is what it did: a second document fed from the edits ends up the same."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    text = random_text(rng, ALPHABET, 120)
    document, mirror = Document("u", "python", 0, text), Document("u", "python", 0, text)
    for version in range(1, 9):
        for edit in document.apply([random_change(rng, document.text(), ALPHABET)], version, Encoding.UTF16):
            assert mirror.text_between(edit.start, edit.end) == edit.old_text
            mirror.apply([Change((*edit.start, *edit.end), edit.new_text)], version, Encoding.UTF32)
            assert mirror.text_between(edit.start, edit.new_end) == edit.new_text
        assert mirror.text() == document.text()


def test_changes_of_a_batch_follow_each_other() -> None:
    document = Document("u", "python", 1, "abc\n")
    edits = document.apply(
        [Change((0, 3, 0, 3), "d"), Change((0, 4, 0, 4), "\n"), Change((1, 0, 1, 0), "e")], 2, Encoding.UTF16
    )
    assert document.text() == "abcd\ne\n"
    assert [edit.new_text for edit in edits] == ["d", "\n", "e"]
    assert document.version == 2


def test_a_full_text_change_is_reported_as_its_smallest_edit() -> None:
    document = Document("u", "python", 1, "a\nfoo()\nz\n")
    edits = document.apply([Change(None, "a\nfoo(bar)\nz\n")], 2, Encoding.UTF16)
    assert edits == [Edit(1, 4, 1, 4, new_text="bar", old_text="")]
    assert document.apply([Change(None, "a\nfoo(bar)\nz\n")], 3, Encoding.UTF16) == []


def test_ranges_past_the_end_are_clamped_and_inverted_ones_turned() -> None:
    document = Document("u", "python", 1, "one\ntwo")
    document.apply([Change((9, 9, 99, 0), "!")], 2, Encoding.UTF16)
    assert document.text() == "one\ntwo!"
    document.apply([Change((1, 3, 0, 3), " ")], 3, Encoding.UTF16)
    assert document.text() == "one !"


def test_a_carriage_return_and_a_newline_that_meet_become_one_terminator() -> None:
    document = Document("u", "python", 1, "a\rb\nc")
    document.apply([Change((1, 0, 1, 1), "")], 2, Encoding.UTF16)
    assert document.text() == "a\r\nc"
    assert document.line_count == 2
    assert document.line(0) == "a"


def test_a_position_on_the_terminator_is_the_end_of_the_line() -> None:
    document = Document("u", "python", 1, "ab\r\ncd")
    assert document.position(0, 3, Encoding.UTF16) == (0, 2)
    assert document.offset(1, 0) == 4
    assert document.line(7) == ""


def test_a_megabyte_line_survives() -> None:
    document = Document("u", "json", 1, "é😀" * 250_000)
    document.apply([Change((0, 600_000, 0, 600_003), "X")], 2, Encoding.UTF16)
    assert document.chars == 499_999
    place = document.snapshot(0, 600_001, Encoding.UTF16, 100, 100)
    assert place.character == 400_001
    assert place.prefix.endswith("X")
    assert len(place.line_prefix) == len(place.line_suffix) == 100
    assert place.suffix == ("é😀" * 250_000)[400_002:400_102]


def test_a_snapshot_is_frozen_and_does_not_follow_the_document() -> None:
    document = Document("u", "python", 1, "x = 1\ny")
    place = document.snapshot(0, 5, Encoding.UTF16, 100, 100)
    document.apply([Change(None, "")], 2, Encoding.UTF16)
    assert (place.prefix, place.suffix, place.version) == ("x = 1", "\ny", 1)
    with pytest.raises(FrozenInstanceError):
        place.line = 3  # type: ignore[misc]  # that it fails is the point


def test_zero_windows_are_empty() -> None:
    place = Document("u", "python", 1, "ab\ncd").snapshot(1, 1, Encoding.UTF16, 0, 0)
    assert (place.prefix, place.suffix, place.line_prefix, place.line_suffix) == ("", "", "", "")
    assert (place.offset_chars, place.document_chars, place.document_lines) == (4, 5, 2)


@given(lines=st.lists(st.text("abc", max_size=5), min_size=1, max_size=40), order=st.randoms(use_true_random=False))
def test_offsets_do_not_depend_on_what_was_asked_before(lines: list[str], order: random.Random) -> None:
    document = Document("u", "python", 1, "\n".join(lines))
    for _ in range(20):
        line = order.randrange(len(lines))
        if order.random() < 0.3:
            at = order.randrange(len(lines))
            document.apply([Change((at, 0, at, 0), "zz")], 2, Encoding.UTF16)
            lines[at] = "zz" + lines[at]
        assert document.offset(line, 0) == sum(len(text) + 1 for text in lines[:line])


class TestStore:
    def test_life_of_a_document(self) -> None:
        store = DocumentStore(max_chars=1000)
        assert store.change("u", [Change(None, "x")], 2, Encoding.UTF16) is None
        assert store.get("u") is None
        store.open("u", "python", 1, "a")
        assert store.change("u", [Change((0, 1, 0, 1), "b")], 2, Encoding.UTF16) == [Edit(0, 1, 0, 1, "b", "")]
        document = store.get("u")
        assert document is not None
        assert document.text() == "ab"
        assert len(store) == 1
        assert store.text_between("u", (0, 1), (0, 9)) == "b"
        assert store.text_between("v", (0, 1), (0, 9)) is None
        assert store.close("u")
        assert not store.close("u")
        assert store.get("u") is None

    def test_a_large_document_is_followed_and_comes_back(self) -> None:
        document = DocumentStore(max_chars=10).open("u", "python", 1, "x" * 11)
        assert document.too_large
        assert not document.dropped
        document.apply([Change((0, 0, 0, 5), "")], 2, Encoding.UTF16)
        assert not document.too_large
        assert document.text() == "x" * 6

    def test_a_huge_document_is_dropped_until_it_is_sent_again(self) -> None:
        document = DocumentStore(max_chars=10).open("u", "python", 1, "x" * (10 * DROP_FACTOR + 1))
        assert document.dropped
        assert document.too_large
        assert document.apply([Change((0, 0, 0, 5), "")], 2, Encoding.UTF16) == []
        assert document.text() == ""
        with pytest.raises(DocumentError, match="limit"):
            document.snapshot(0, 0, Encoding.UTF16, 5, 5)
        assert document.apply([Change(None, "small")], 3, Encoding.UTF16) == []
        assert document.snapshot(0, 5, Encoding.UTF16, 50, 5).prefix == "small"

    def test_a_senseless_limit_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="at least 1"):
            DocumentStore(max_chars=0)


def test_advance_agrees_with_the_document() -> None:
    document = Document("u", "python", 1, "ab\ncd\n")
    assert document.position(*advance(0, 1, "b\ncd\n"), Encoding.UTF32) == (2, 0)
