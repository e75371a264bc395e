"""What each family's prompt looks like, to the letter: golden files, one per family and form.

`WRITE_GOLDEN=1 pytest tests/generator/test_fim_templates.py` writes them anew; then read them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.fim_templates import FIM_TEMPLATES, PREFIX_ONLY, TEMPLATES, leak_texts
from coderl_generator.prompt import Place, render
from coderl_generator.snippets import DEFAULT_CHARS, Snippet, budget_chars

GOLDEN = Path(__file__).parent / "golden"
SNIPPETS = (
    Snippet("shop/prices.py", "def price_of(item: str) -> int:\n    return PRICES[item]\n"),
    Snippet("shop/basket.py", "class Basket:\n    def total(self) -> int: ..."),
)
PLACE = Place("def bill(basket):\n    total = ", "\n    return total\n", "python", "shop/bill.py")


def with_snippets(place: Place = PLACE) -> Place:
    return Place(place.prefix, place.suffix, place.language, place.path, SNIPPETS)


@pytest.mark.parametrize("form", ["alone", "files"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_prompt_is_the_golden_one(template: str, form: str) -> None:
    prompt = render(PLACE if form == "alone" else with_snippets(), template)
    shown = "\n".join([prompt.text, "-- suffix field", repr(prompt.suffix), "-- held back", repr(prompt.trimmed), ""])
    golden = GOLDEN / f"{template}-{form}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("template", TEMPLATES)
def test_snippets_come_before_the_window_and_leave_it_as_it_is(template: str) -> None:
    alone, more = render(PLACE, template), render(with_snippets(), template)
    assert (more.suffix, more.trimmed) == (alone.suffix, alone.trimmed)
    window = "def bill(basket):\n    total ="
    assert more.text.count(window) == alone.text.count(window) == 1
    assert more.text.index("price_of") < more.text.index("class Basket") < more.text.index(window)


pieces = st.sampled_from(
    [
        "<|fim_",
        "prefix|>",
        "<fim_middle>",
        "[SUFFIX]",
        "<|file_sep|>",
        "<file_sep>",
        "<|",
        "sep|>",
        "<PRE>",
        "a",
        "\n",
        " ",
        "-->",
    ]
)
texts = st.lists(pieces, max_size=12).map("".join)


@given(
    st.sampled_from(TEMPLATES),
    st.lists(st.builds(Snippet, texts, texts), max_size=4),
    st.integers(0, 400),
    st.sampled_from(["python", "html", "css", "go", ""]),
)
def test_the_budget_holds_everything_that_is_added(template: str, snippets: list[Snippet], budget: int, language: str) -> None:
    place = Place("x = 1\ny =", "\n", language, "a.py", tuple(snippets))
    bare = Place("x = 1\ny =", "\n", language, "a.py")
    text = render(place, template, max_context_chars=budget).text
    assert len(text) - len(render(bare, template).text) <= budget


@given(st.sampled_from(sorted(FIM_TEMPLATES)), st.lists(st.builds(Snippet, texts, texts), min_size=1, max_size=3), texts)
def test_control_tokens_in_snippets_and_paths_never_reach_the_model(template: str, snippets: list[Snippet], path: str) -> None:
    """The template's own tokens, once each; its file tokens once per file; nobody else's."""
    family = FIM_TEMPLATES[template]
    rendered = render(Place("x", "y", "python", path, tuple(snippets)), template).text
    for control in family.fim_texts:
        assert rendered.count(control) == 1
    for control in family.files.tokens if family.files else ():
        assert rendered.count(control) <= len(snippets) + 1
    for other in ("<|fim_prefix|>", "<fim_middle>", "<PRE>"):
        assert other in family.control_texts or other not in rendered


@given(st.lists(st.builds(Snippet, texts, texts), min_size=1, max_size=3), st.sampled_from(["python", "html", "css"]))
def test_as_comments_snippets_stay_comments(snippets: list[Snippet], language: str) -> None:
    text = render(Place("X", "", language, "a.py", tuple(snippets)), "plain").text
    head = text[: text.rindex("X")]
    begin, end = {"python": ("#", ""), "html": ("<!--", "-->"), "css": ("/*", "*/")}[language]
    for line in head.splitlines():
        assert line.startswith(begin)
        assert line.endswith(end)
        assert not end or line.count(end) == 1


@pytest.mark.parametrize("template", sorted(FIM_TEMPLATES))
def test_a_template_stops_at_its_own_tokens_too(template: str) -> None:
    assert set(FIM_TEMPLATES[template].fim_texts) <= set(leak_texts(template))
    assert not {"</s>", "<eos>"} & set(leak_texts(template))


def test_without_a_budget_or_text_nothing_is_written() -> None:
    for template in TEMPLATES:
        assert render(with_snippets(), template, max_context_chars=0) == render(PLACE, template)
        blank = Place(PLACE.prefix, PLACE.suffix, "python", PLACE.path, (Snippet("a.py", " \n"),))
        assert render(blank, template) == render(PLACE, template)
    assert PREFIX_ONLY == ("plain", "suffix")


def test_too_small_a_budget_keeps_what_is_nearest_to_the_window() -> None:
    text = render(with_snippets(), "plain", max_context_chars=100).text
    assert "class Basket" in text
    assert "price_of" not in text


def test_by_default_only_families_with_a_form_for_files_get_a_context() -> None:
    for template in TEMPLATES:
        has_form = template in FIM_TEMPLATES and FIM_TEMPLATES[template].files is not None
        assert budget_chars(-1, template) == (DEFAULT_CHARS if has_form else 0)
        assert [budget_chars(chars, template) for chars in (0, 700)] == [0, 700]
    assert budget_chars(-1, "plain") == budget_chars(-1, "codellama") == 0
