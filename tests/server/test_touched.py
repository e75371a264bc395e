"""Places that were edited keep their lines while the text around them changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_server.documents import Change, Document
from coderl_server.positions import Encoding
from coderl_server.touched import MOST, TOGETHER_LINES, Spot, Touched


def insert(touched: Touched, document: Document, line: int, text: str) -> None:
    edits = document.apply([Change((line, 0, line, 0), text)], None, Encoding.UTF16)
    touched.edited(document.uri, edits)


def test_a_place_moves_with_its_text_and_near_ones_are_one() -> None:
    touched, document = Touched(), Document("a", "python", 1, "x\n" * 100)
    insert(touched, document, 50, "marked")
    insert(touched, document, 0, "\n" * 7)
    assert touched.spots == (Spot("a", 57), Spot("a", 7))
    insert(touched, document, 60, "y")
    assert touched.spots == (Spot("a", 7), Spot("a", 60))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300), st.sampled_from(["x", "\n", "\n\n\n"])), max_size=40))
def test_few_places_apart_from_each_other(edits: list[tuple[str, int, str]]) -> None:
    touched = Touched()
    documents = {uri: Document(uri, "python", 1, "line\n" * 300) for uri in "ab"}
    for uri, line, text in edits:
        insert(touched, documents[uri], line, text)
    assert len(touched.spots) <= MOST
    assert not edits or touched.spots[-1].uri == edits[-1][0]
    for spot in touched.spots:
        assert 0 <= spot.line < documents[spot.uri].line_count + 3
    last = touched.spots[-1] if touched.spots else None
    assert all(spot.uri != last.uri or abs(spot.line - last.line) > TOGETHER_LINES for spot in touched.spots[:-1] if last)
