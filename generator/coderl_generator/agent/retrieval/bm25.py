"""Okapi BM25 over documents that come and go. Pure.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the inverse document frequency of
Lucene, which is never negative. Words are those of programs: `parse_HTTPHeader` is also `parse`, `http` and `header`. English
plurals are cut by Harman's S-stemmer (1991). Not covered: names run together in lower case (`detokenizer`) and languages
without blanks are looked for as a whole.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from typing import Final, Generic, TypeVar

K1: Final = 1.2
B: Final = 0.75
_MOST_WORD_CHARS: Final = 64
_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+|\d+")  # letters beyond ASCII count as small ones

STOP_WORDS: Final = frozenset(
    _WORD.findall(
        "a an and are as at be but by can do does for from has have how if in into is it its no not of on or so such that "
        "the their then there these they this to was what when where which who whose why will with"
    )
)
"""What carries a question in English and says nothing of its subject: Lucene's list, and the words that ask."""

Key = TypeVar("Key", bound=Hashable)


def words(text: str) -> Iterator[str]:
    """The words of a text, in lower case; those made of several parts as a whole and in parts."""
    for word in _WORD.findall(text):
        if len(word) > _MOST_WORD_CHARS:
            continue  # a key, a hash, data
        parts = _PART.findall(word)
        yield from (_singular(part.lower()) for part in parts)
        if len(parts) > 1:
            yield word.lower()


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and word.endswith(("aes", "ees", "oes")):
        return word
    return word[:-1]


class Bm25(Generic[Key]):
    """An inverted index. What it says depends on the documents it holds, not on the order in which they came."""

    def __init__(self) -> None:
        self._documents: dict[Key, Counter[str]] = {}
        self._postings: dict[str, set[Key]] = defaultdict(set)
        self._words = 0

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._documents)

    def add(self, key: Key, document: Iterable[str]) -> None:
        """Add the words of a document, in place of the one that had this key."""
        self.remove(key)
        counts = Counter(document)
        self._documents[key] = counts
        self._words += counts.total()
        for word in counts:
            self._postings[word].add(key)

    def remove(self, key: Key) -> None:
        """Forget a document; nothing where there is none of this key."""
        counts = self._documents.pop(key, None)
        if counts is None:
            return
        self._words -= counts.total()
        for word in counts:
            self._postings[word].discard(key)
            if not self._postings[word]:
                del self._postings[word]

    def scores(self, query: Iterable[str]) -> dict[Key, float]:
        """What the documents that share a word with the query score, each above 0."""
        scores: dict[Key, float] = defaultdict(float)
        mean = self._words / len(self._documents) if self._documents else 1.0
        for word, asked in sorted(Counter(word for word in query if word not in STOP_WORDS).items()):
            holders = self._postings.get(word, set())
            idf = math.log1p((len(self._documents) - len(holders) + 0.5) / (len(holders) + 0.5))
            for key in holders:
                counts = self._documents[key]
                norm = K1 * (1 - B + B * counts.total() / mean)
                scores[key] += asked * idf * counts[word] * (K1 + 1) / (counts[word] + norm)
        return dict(scores)
