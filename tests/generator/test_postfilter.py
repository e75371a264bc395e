"""The filters at the end of a suggestion: golden cases per filter, the chain, and what becomes of the tokens."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import FinishReason, Token, end_mark
from coderl_generator.extract import Extracted, Extractor, Mode
from coderl_generator.indentation import moved
from coderl_generator.postfilter import FILTERS, Drop, filtered, standing
from coderl_generator.prompt import Place, render
from coderl_generator.scripted import split, token_id
from coderl_generator.stop_rules import Reason

GOLDEN = Path(__file__).with_name("golden")
CASES = [
    (step.name, case) for step in FILTERS for case in tomllib.loads((GOLDEN / f"{step.name}.toml").read_text("utf-8"))["case"]
]


def place_of(case: dict[str, Any]) -> Place:
    before, after = case["place"].split("▮")
    return Place(before, after, case["language"])


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {case['name']}" for name, case in CASES])
def test_golden(name: str, case: dict[str, Any]) -> None:
    step = next(step for step in FILTERS if step.name == name)
    expected: str | Drop = Drop(Reason(case["dropped"])) if "dropped" in case else case.get("left", case["text"])
    assert step.apply(case["text"], place_of(case)) == expected
    if "reason" in case:
        assert step.reason == case["reason"]


def test_every_filter_has_cases_that_it_must_not_touch_in_several_languages() -> None:
    for step in FILTERS:
        cases = [case for name, case in CASES if name == step.name]
        untouched = [case for case in cases if "dropped" not in case and "left" not in case]
        assert len(cases) >= 8, step.name
        assert len(untouched) >= 3, step.name
        assert len({case["language"] for case in cases}) >= 3, step.name


def test_the_last_filter_that_shortened_the_text_gives_the_reason() -> None:
    place = Place("f(", ")\n", "python")
    assert filtered("total)", place) == filtered("total)", place, FILTERS[:2])
    assert (filtered("total)", place).text, filtered("total)", place).reason) == ("total", Reason.DUPLICATE)
    assert filtered("x)", place).reason is Reason.TOO_SHORT
    assert filtered("total", place).reason is None
    assert filtered("", place).reason is None


# -- tokens -------------------------------------------------------------------------------------------------------------------


def extract(place: Place, text: str, mode: Mode = Mode.BLOCK, *, filters: bool = True) -> Extracted:
    extractor = Extractor(place, render(place, "suffix"), mode, filters=filters)
    for number, piece in enumerate(split(text)):
        if extractor.push(Token(piece, token_id(piece), -0.1 * (number + 1))):
            return extractor.result()
    extractor.push(end_mark(FinishReason.END))
    return extractor.result()


def test_a_repaired_text_keeps_the_tokens_that_the_model_wrote_and_says_so() -> None:
    place = Place("class A:\n    def f(self, a):\n        ", "\n", "python")
    written = "for b in a:\n    return b\n"
    got = extract(place, written)
    assert (got.text, got.rewritten, got.reason) == ("for b in a:\n            return b", True, Reason.END)
    assert "".join(token.text for token in got.tokens) == written.rstrip()
    assert got.token_ends[-1] == len(got.text)
    by_end = {token.text: end for token, end in zip(got.tokens, got.token_ends, strict=True)}
    assert got.text[: by_end["return"]] == "for b in a:\n            return"
    assert extract(place, written, filters=False).text == "for b in a:\n    return b"


def test_a_token_of_which_nothing_is_left_is_left_out() -> None:
    place = Place("def area(w, h):\n    ", "\n", "python")
    got = extract(place, "    return w", Mode.SINGLE_LINE)
    assert (got.text, got.rewritten) == ("return w", True)
    assert "".join(token.text for token in got.tokens).lstrip() == "return w"
    assert got.token_ends == tuple(sorted(got.token_ends))
    assert extract(place, "return w", Mode.SINGLE_LINE).rewritten is False


code = st.lists(
    st.sampled_from(
        [
            "x",
            " ",
            "\n",
            "    ",
            "\t",
            "(",
            ")",
            "{",
            "}",
            ":",
            "if a:",
            "else",
            "return",
            '"',
            '"""',
            "\n\n",
            "日",
            "x = 1\n",
            "`",
        ]
    ),
    max_size=20,
).map("".join)
languages = st.sampled_from(["python", "javascript", "go", "java", "ruby", "makefile"])


@given(code, code, code, languages)
def test_the_chain_only_cuts_and_indents(prefix: str, suffix: str, text: str, language: str) -> None:
    got = filtered(text, Place(prefix, suffix, language))
    bare = ["".join(line.split()) for line in got.text.split("\n")]
    written = ["".join(line.split()) for line in text.split("\n")]
    assert bare[:-1] == written[: len(bare) - 1]
    assert written[len(bare) - 1].startswith(bare[-1])
    ends = [got.end_of(at) for at in range(len(text) + 1)]
    assert ends == sorted(ends)
    assert ends[-1] == len(got.text)


@given(code, code, code, languages)
def test_what_was_filtered_once_needs_no_other_repair(prefix: str, suffix: str, text: str, language: str) -> None:
    place = Place(prefix, suffix, language)
    assert all(
        step.name != "indentation" or step.apply(text, place) == step.apply(str(step.apply(text, place)), place)
        for step in FILTERS
    )


@given(code, st.integers(0, 8))
def test_places_keep_their_signs_when_blanks_change(text: str, more: int) -> None:
    after = "\n".join(" " * more + line.lstrip(" \t") for line in text.split("\n"))
    for at, char in enumerate(text):
        if char not in " \t\n":
            assert after[moved(at, text, after)] == char


@given(code, code, code, st.sampled_from(list(Mode)), languages)
def test_tokens_stay_aligned_through_the_chain(prefix: str, suffix: str, text: str, mode: Mode, language: str) -> None:
    got = extract(Place(prefix, suffix, language), text, mode)
    assert len(got.tokens) == len(got.token_ends)
    assert list(got.token_ends) == sorted(got.token_ends)
    assert (got.token_ends[-1] if got.tokens else 0) == len(got.text)
    spelt = "".join("".join(token.text for token in got.tokens).split())
    assert "".join(got.text.split()) in spelt


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("return price * count", True),
        ("return price ", True),
        ("return price * cou", False),  # begun, as far as anybody knows
        ("return total(price", False),
        ("return total(price)", True),
        ('return "pri', False),
        ('return "price"', True),
        ("return price)", True),  # what it closes was open before
    ],
)
def test_what_a_deadline_cut_is_shown_only_where_it_stands_alone(text: str, stands: bool) -> None:
    place = Place("def bill(price, count):\n    ", "\n\ndef total(price): ...\n", "python")
    assert standing(text, place) == (text.rstrip() if stands else "")


def test_a_quote_that_was_open_before_may_be_closed() -> None:
    place = Place('x = "the ', "", "python")
    assert standing('price"', place) == 'price"'
    assert standing("price", place) == ""
