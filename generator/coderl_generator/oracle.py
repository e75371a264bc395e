"""A model that knows the future, made worse on purpose: it completes a document with what really comes next.

Used to test the whole loop deterministically: how good the "model" is, and how well its log-probs tell when it is wrong, are
numbers one sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

_TAIL_CHARS = (3000, 400, 120, 40)
"""Ends of the prompt that are looked up in the texts, longest first: an edited document still finds its place."""
_HORIZON_CHARS = 2000
"""How much of the future one answer holds at most."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One token to say."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Oracle:
    """The full texts of documents, and how badly they are remembered."""

    texts: tuple[str, ...]
    error_rate: float = 0.0
    """Probability, per token with a letter or digit, of saying something else."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.error_rate <= 1.0:
            raise ValueError(f"the oracle's error_rate must lie in [0, 1], not {self.error_rate}")

    def pieces(self, prompt: str, split: Callable[[str], list[str]]) -> list[Piece]:
        """What comes after `prompt`, token by token; nothing where the prompt's end is in none of the texts.

        Right tokens have log-probs in (-0.7, 0], wrong ones in (-5, -1.5]; both depend on seed, place and token alone.
        """
        found = self._find(prompt)
        if found is None:
            return []
        text, at = found
        pieces: list[Piece] = []
        for piece in split(text[at : at + _HORIZON_CHARS]):
            coin, shade = self._draws(at, piece)
            if coin < self.error_rate and any(map(str.isalnum, piece)):
                pieces.append(Piece(_wrong(piece), -1.5 - 3.5 * shade))
            else:
                pieces.append(Piece(piece, -0.7 * shade * shade))
            at += len(piece)
        return pieces

    def _find(self, prompt: str) -> tuple[str, int] | None:
        for chars in _TAIL_CHARS:
            tail = prompt[-chars:]
            for text in self.texts:
                at = text.find(tail)
                if tail and at >= 0:
                    return text, at + len(tail)
        return None

    def _draws(self, at: int, piece: str) -> tuple[float, float]:
        """Two numbers in [0, 1) that depend on seed, place and token alone."""
        digest = hashlib.blake2b(f"{self.seed}:{at}:{piece}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return int.from_bytes(digest[:8], "big") / 2**64, int.from_bytes(digest[8:], "big") / 2**64


def _wrong(piece: str) -> str:
    """Another word of the same form: every letter moves on by one, every digit too."""
    return "".join(_next(char) for char in piece)


def _next(char: str) -> str:
    if char.isascii() and char.isalnum():
        return {"z": "a", "Z": "A", "9": "0"}.get(char) or chr(ord(char) + 1)
    return char
