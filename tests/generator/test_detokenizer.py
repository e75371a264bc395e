"""Ids to text, one at a time, over a vocabulary of bytes: the hardest case for characters that span tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.detokenizer import Detokenizer


def decode(ids: list[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


TEXT = st.text(st.characters(exclude_characters="�", exclude_categories=("Cs",)))


@given(prompt=TEXT, text=TEXT)
def test_the_pieces_make_the_text_and_each_character_comes_with_its_last_id(prompt: str, text: str) -> None:
    pieces = Detokenizer(decode, list(prompt.encode()))
    came = [pieces.push(byte) for byte in text.encode()]
    assert "".join(came) == text
    assert [piece for piece in came if piece] == list(text)
    assert not any("�" in piece for piece in came)


def test_bytes_that_never_become_a_character_come_with_the_token_that_follows() -> None:
    pieces = Detokenizer(decode)
    assert [pieces.push(byte) for byte in b"a\xe6b"] == ["a", "", "�b"]


def test_a_vocabulary_that_writes_a_words_blank_only_inside_a_text_keeps_it() -> None:
    words = ["import", "os", "sys"]

    def spaced(ids: list[int]) -> str:
        return " ".join(words[one] for one in ids)

    pieces = Detokenizer(spaced, [0])
    assert [pieces.push(1), pieces.push(2)] == [" os", " sys"]


def test_a_token_without_text_of_its_own_is_no_incomplete_character() -> None:
    pieces = Detokenizer(lambda ids: "".join("" if one == 9 else chr(97 + one) for one in ids))
    assert [pieces.push(one) for one in (0, 9, 1)] == ["a", "", "b"]
