"""Files as chunks of lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.agent.retrieval.chunks import LEAST_LINES, MOST_LINE_CHARS, MOST_LINES, digest_of, lines_of, split

LINE = st.one_of(
    st.sampled_from([b"", b"def a():", b"    return 1", b"\tx = 1\r", b"}", b"# caf\xe9", b"\x00\xff", b"\x0c", "　".encode()]),
    st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")),
)
FILES = st.builds(lambda lines, end: b"\n".join(lines) + end, st.lists(LINE, max_size=150), st.sampled_from([b"", b"\n"]))


@given(FILES)
def test_each_line_is_in_one_chunk_and_digests_are_of_the_lines(data: bytes) -> None:
    chunks = split(data)
    lines = lines_of(data)
    assert [line for chunk in chunks for line in range(chunk.start, chunk.end + 1)] == list(range(1, len(lines) + 1))
    for chunk in chunks:
        assert chunk.end - chunk.start < MOST_LINES
        assert chunk.digest == digest_of(lines[chunk.start - 1 : chunk.end])
        assert len(chunk.text.split("\n")) == chunk.end - chunk.start + 1, "a line of the text is a line of the file"
    assert all(chunk.end - chunk.start + 1 >= LEAST_LINES for chunk in chunks[:-1])


@given(st.lists(LINE.map(lambda line: line.replace(b"\r", b"")), max_size=60))
def test_text_that_is_utf8_and_short_is_shown_as_it_is(lines: list[bytes]) -> None:
    lines = [line for line in lines if line.decode("utf-8", "replace").encode() == line]
    assert "\n".join(chunk.text for chunk in split(b"\n".join(lines))).encode() == b"\n".join(lines_of(b"\n".join(lines)))


def test_the_last_line_needs_no_line_feed() -> None:
    assert lines_of(b"a\nb") == lines_of(b"a\nb\n") == [b"a", b"b"]
    assert lines_of(b"") == []
    assert lines_of(b"\n") == [b""]


def test_a_cut_is_made_before_something_new() -> None:
    functions = [f"def f{number}():\n" + "    x = 1\n" * 13 + "\n\n" for number in range(9)]
    for chunk in split("".join(functions).encode()):
        assert chunk.text.startswith("def f")


def test_a_closing_bracket_stays_with_what_it_closes() -> None:
    data = "\n".join(["table = ["] + ["    1,"] * 30 + ["]", "", "other = 2"] + ["x = 1"] * 30).encode()
    first = split(data)[0]
    assert first.end >= 33
    assert "]" in first.text.split("\n")


def test_a_huge_line_is_cut_where_it_is_shown_and_whole_where_it_is_digested() -> None:
    (chunk,) = split(b"y" * 1_000_000 + b"\nend")
    assert chunk.text == "y" * MOST_LINE_CHARS + "…\nend"
    (other,) = split(b"y" * 999_999 + b"z\nend")
    assert other.text == chunk.text
    assert other.digest != chunk.digest
