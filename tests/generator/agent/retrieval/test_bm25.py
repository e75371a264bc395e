"""Okapi BM25 over documents that come and go."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.agent.retrieval.bm25 import K1, STOP_WORDS, B, Bm25, words

WORDS = st.lists(st.sampled_from(["gate", "cost", "model", "token", "jail"]), max_size=12)
DOCUMENTS = st.dictionaries(st.integers(0, 9), WORDS, max_size=8)


def index_of(documents: dict[int, list[str]]) -> Bm25[int]:
    index: Bm25[int] = Bm25()
    for key, document in documents.items():
        index.add(key, document)
    return index


def formula(documents: dict[int, list[str]], query: list[str], key: int) -> float:
    """The sum as it is written in the literature."""
    mean = sum(map(len, documents.values())) / len(documents)
    total = 0.0
    for word in query:
        holders = sum(word in document for document in documents.values())
        count = documents[key].count(word)
        idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        total += idf * count * (K1 + 1) / (count + K1 * (1 - B + B * len(documents[key]) / mean)) if count else 0.0
    return total


@given(DOCUMENTS, WORDS)
def test_scores_are_those_of_the_formula(documents: dict[int, list[str]], query: list[str]) -> None:
    scores = index_of(documents).scores(query)
    assert set(scores) == {key for key, document in documents.items() if set(document) & set(query)}
    for key, score in scores.items():
        assert score > 0
        assert score == pytest.approx(formula(documents, query, key))


@given(DOCUMENTS, st.lists(st.tuples(st.integers(0, 9), st.none() | WORDS), max_size=20), WORDS)
def test_what_came_and_went_leaves_no_trace(
    documents: dict[int, list[str]], changes: list[tuple[int, list[str] | None]], query: list[str]
) -> None:
    index = index_of(documents)
    now = dict(documents)
    for key, document in changes:
        if document is None:
            index.remove(key)
            now.pop(key, None)
        else:
            index.add(key, document)
            now[key] = document
    assert len(index) == len(now)
    assert set(index) == set(now)
    assert index.scores(query) == index_of(dict(reversed(now.items()))).scores(query)


def test_words_of_a_question_that_say_nothing_are_not_looked_for() -> None:
    index = index_of({1: list(words("how is the")), 2: list(words("the cost"))})
    assert index.scores(words("How is the cost?")).keys() == {2}
    assert all(word == word.lower() for word in STOP_WORDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parse_HTTPHeader2", ["parse", "http", "header", "2", "parse_httpheader2"]),
        ("HTTPServer", ["http", "server", "httpserver"]),
        ("queries boxes class bus is trees", ["query", "boxe", "class", "bus", "is", "trees"]),
        ("Größe naïve_Wert", ["größe", "naïve", "wert", "naïve_wert"]),
        ("x" * 65, []),
        ("__init__", ["init"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert list(words(text)) == expected


@given(st.text())
def test_words_of_any_text_are_lower_case_and_not_empty(text: str) -> None:
    assert all(word and word == word.lower() for word in words(text))
