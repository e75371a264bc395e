"""Token ids to text, one id at a time. Pure: the vocabulary comes as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_CONTEXT_TOKENS = 6
"""Ids of the prompt that are decoded along with the first new one: some vocabularies write a word's blank only inside a text.
The number is that of vLLM and of text-generation-inference."""
_INCOMPLETE = "�"


class Detokenizer:
    """Gives the text that each further id adds.

    A character that spans ids comes with the last of them, the ids before it add nothing. Not covered: a model that writes
    U+FFFD itself gets it one token late; bytes that never become a character come as U+FFFD with the token that follows.
    """

    def __init__(self, decode: Callable[[list[int]], str], before: Sequence[int] = ()) -> None:
        """`decode`: ids to text, special tokens as their names. `before`: the ids of the prompt."""
        self._decode = decode
        self._ids = list(before[-_CONTEXT_TOKENS:])
        self._prefix_at = 0
        self._read_at = len(self._ids)

    def push(self, token_id: int) -> str:
        """The text that this id completes; empty where a character is still incomplete."""
        self._ids.append(token_id)
        known = self._decode(self._ids[self._prefix_at : self._read_at])
        whole = self._decode(self._ids[self._prefix_at :])
        if whole.endswith(_INCOMPLETE) or len(whole) <= len(known):
            return ""
        self._prefix_at, self._read_at = self._read_at, len(self._ids)
        return whole[len(known) :]
