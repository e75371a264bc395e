"""Rendering and boundary handling: prefix + result is what the model meant, letter by letter, or nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.errors import GeneratorError
from coderl_generator.fim_templates import CONTROL_TEXTS, FIM_TEMPLATES, continues
from coderl_generator.prompt import Place, Rematch, render

blanks = st.text(alphabet=" \t\n", max_size=8)
words = st.text(alphabet="abc(): \n\t=", max_size=20).map(lambda text: "x" + text)


def rematched(
    trimmed: str, generated: str, cuts: list[int] | None = None, *, kept: str = "", keep: bool = True
) -> tuple[str, bool]:
    rematch = Rematch(trimmed, kept=kept, keep_blank_lines=keep)
    edges = [0, *sorted(min(cut, len(generated)) for cut in cuts or []), len(generated)]
    text = "".join(rematch.push(generated[a:b]) for a, b in pairwise(edges))
    return text, rematch.mismatch


@given(blanks, blanks, words, st.lists(st.integers(0, 30), max_size=5))
def test_text_that_begins_with_what_was_trimmed_loses_exactly_that(trimmed: str, more: str, rest: str, cuts: list[int]) -> None:
    text, mismatch = rematched(trimmed, trimmed + more + rest, cuts)
    assert not mismatch
    assert text == more + rest


@given(blanks, blanks, words, st.lists(st.integers(0, 30), max_size=5), st.booleans())
def test_how_the_stream_is_cut_makes_no_difference(trimmed: str, own: str, rest: str, cuts: list[int], keep: bool) -> None:
    assert rematched(trimmed, own + rest, cuts, keep=keep) == rematched(trimmed, own + rest, keep=keep)


@given(blanks, blanks, words, st.booleans())
def test_what_is_shown_always_continues_the_line_as_the_model_wrote_it(trimmed: str, own: str, rest: str, keep: bool) -> None:
    """Whatever the rule, the first line with text is the model's own line, indentation included."""
    text, mismatch = rematched(trimmed, own + rest, keep=keep)
    if mismatch:
        assert text == ""
        return
    meant = (own + rest).split(rest)[0].rsplit("\n", 1)[-1]
    shown = (trimmed + text)[: len(trimmed + text) - len(rest)].rsplit("\n", 1)[-1]
    assert text.endswith(rest)
    assert shown == meant


@given(blanks, blanks, blanks, words, st.lists(st.integers(0, 30), max_size=5), st.booleans())
def test_what_the_prompt_keeps_counts_as_if_the_model_had_written_it(
    kept: str, trimmed: str, own: str, rest: str, cuts: list[int], keep: bool
) -> None:
    assert rematched(trimmed, own + rest, cuts, kept=kept, keep=keep) == rematched(kept + trimmed, kept + own + rest, keep=keep)


@pytest.mark.parametrize(
    ("trimmed", "generated", "result", "mismatch"),
    [
        ("\n    ", "\n        return x", "    return x", False),
        ("\n    ", "\n    return x", "return x", False),
        ("\n    ", "\n\n    return x", "return x", False),
        ("\n\n    ", "\n    return x", "return x", False),
        ("  \n    ", "\n    return x", "return x", False),
        ("\n", "\n\n\ndef f():", "\n\ndef f():", False),
        ("\n        ", "\n    return x", "", True),
        ("\n\t", "\n    return x", "", True),
        ("\n    ", " return x", "", True),
        (" ", " 5", "5", False),
        (" ", "  5", " 5", False),
        (" ", "5", "", True),
        (" ", "\n5", "", True),
        ("", "5", "5", False),
        ("\n    ", "\n ", "", False),
    ],
)
def test_the_rules_of_the_boundary(trimmed: str, generated: str, result: str, mismatch: bool) -> None:
    assert rematched(trimmed, generated) == (result, mismatch)


def test_blank_lines_before_a_single_line_are_dropped() -> None:
    assert rematched("\n", "\n\n\n    x", keep=False) == ("    x", False)
    assert rematched("\n  ", "\n\n    x", keep=False) == ("  x", False)
    assert rematched(" ", " x", keep=False) == ("x", False)


@given(st.text(alphabet="ab \n\t", max_size=60))
def test_the_prompt_and_what_was_trimmed_make_the_prefix(prefix: str) -> None:
    prompt = render(Place(prefix))
    assert prompt.text + prompt.trimmed == prefix
    if not prefix.strip():
        return
    assert prompt.text == prompt.text.rstrip() + prompt.kept
    assert len(prompt.trimmed) <= 1 or (prompt.trimmed.endswith("\n") and not prompt.kept)
    assert bool(prompt.trimmed) == prefix[-1].isspace()


words_begun = st.from_regex(r"[A-Za-z_]{1,8}", fullmatch=True)


@given(st.text(alphabet="ab( .\n\t", max_size=40), words_begun)
def test_a_begun_word_is_trimmed_with_the_blank_before_it(before: str, word: str) -> None:
    prompt = render(Place(before + word), heal_word=True)
    assert prompt.text + prompt.trimmed == before + word
    if prompt.forced:
        assert prompt.trimmed.lstrip().isidentifier()
        assert prompt.text == prompt.text.rstrip() + prompt.kept
        assert rematched(prompt.trimmed, prompt.trimmed + "x\n", kept=prompt.kept) == ("x\n", False)


def test_a_place_after_a_bracket_or_a_blank_is_not_healed() -> None:
    for prefix in ("f(", "x = ", "x = 1\n", "word", "日本語", "x = " + "a" * 41):
        assert not render(Place(prefix), heal_word=True).forced
    healed = render(Place("x = ret"), heal_word=True)
    assert (healed.text, healed.trimmed, healed.forced) == ("x =", " ret", True)


@pytest.mark.parametrize(
    ("prefix", "suffix", "healed"),
    [
        ("total = 1\nprint(1, total", ")\n", False),
        ("print(1, total", ")\ntotal = 1\n", False),
        ("print(1, total", ")\n", True),
        ("total = totals = 1\nprint(1, total", ")\n", True),
        ("subtotal = 1\nprint(1, total", ")\n", True),
        ("a.total = 1\nprint(1, total", ")\n", False),
        ("x_total = 1\nprint(x_total", ")\n", False),
        ("x_total = 1\nprint(x_to", ")\n", True),
    ],
)
def test_a_word_that_stands_around_the_place_and_goes_on_nowhere_is_whole(prefix: str, suffix: str, healed: bool) -> None:
    assert render(Place(prefix, suffix), heal_word=True).forced is healed


@given(words_begun, st.text(alphabet="ab \n", max_size=12), st.lists(st.integers(0, 30), max_size=5))
def test_a_begun_word_is_matched_to_the_letter(word: str, generated: str, cuts: list[int]) -> None:
    trimmed = " " + word
    text, mismatch = rematched(trimmed, generated, cuts)
    if generated.startswith(trimmed):
        assert (text, mismatch) == (generated[len(trimmed) :], False)
    else:
        assert text == ""
        assert mismatch == (not trimmed.startswith(generated))


def test_windows_line_breaks_are_sent_as_line_feeds() -> None:
    prompt = render(Place("def f():\r\n    "))
    assert (prompt.text, prompt.kept, prompt.trimmed) == ("def f():\n   ", "\n   ", " ")
    at_the_margin = render(Place("def f():\r\n"))
    assert (at_the_margin.text, at_the_margin.kept, at_the_margin.trimmed) == ("def f():", "", "\n")


def test_handling_can_be_switched_off() -> None:
    assert render(Place("x = 1\n"), trim=False) == render(Place("x = 1\n"), trim=False).__class__("x = 1\n", None, "")


lines = st.lists(st.text(alphabet="abcdef ", min_size=0, max_size=30), min_size=1, max_size=80).map("\n".join)


@given(lines, st.integers(20, 200), st.data())
def test_the_window_is_bounded_and_begins_with_a_line_break(document: str, most: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, most - 1))
    text = render(Place(document), max_prefix_chars=most, anchor_chars=step, trim=False).text
    assert document.endswith(text)
    assert len(text) <= most
    start = len(document) - len(text)
    assert start == 0 or text[0] == "\n" or "\n" not in text[:-1]


def test_typing_keeps_the_beginning_of_the_window_until_a_step_is_over() -> None:
    document = "".join(f"line_{n:04d} = {n}\n" for n in range(600))
    starts = [
        len(document[:at]) - len(render(Place(document[:at]), max_prefix_chars=3000, anchor_chars=1000, trim=False).text)
        for at in range(5000, 8000)
    ]
    assert len(set(starts)) == 4
    assert starts == sorted(starts)


def test_one_enormous_line_is_cut_inside() -> None:
    text = render(Place("x" * 10_000), max_prefix_chars=500, anchor_chars=100).text
    assert 400 <= len(text) <= 500


@pytest.mark.parametrize("name", sorted(FIM_TEMPLATES))
def test_a_fim_template_holds_both_sides_once_and_in_its_order(name: str) -> None:
    template = FIM_TEMPLATES[name]
    prompt = render(Place("def f(", "):\n    pass\n"), name)
    assert prompt.suffix is None
    assert prompt.trimmed == ""
    first, second = ("):\n    pass\n", "def f(") if template.suffix_first else ("def f(", "):\n    pass\n")
    assert prompt.text == f"{template.before}{first}{template.between}{second}{template.after}"


@pytest.mark.parametrize("name", [name for name in sorted(FIM_TEMPLATES) if continues(name)])
@pytest.mark.parametrize("prefix", ["def f(x):\n", "def f(x):\n    ", "def f(x):\n    retu", "def f(x):\n    y =", "\n  "])
def test_a_template_that_continues_ends_as_plain_ends(name: str, prefix: str) -> None:
    place = Place(prefix, "\n    total = y * scale\n    return total\n", "python")
    plain = render(place, heal_word=True, need_name=True)
    prompt = render(place, name, heal_word=True, need_name=True)
    template = FIM_TEMPLATES[name]
    assert prompt.text == template.assemble(plain.text, place.suffix)
    assert prompt.text.endswith(plain.text)
    assert (prompt.trimmed, prompt.forced, prompt.wanted) == (plain.trimmed, plain.forced, plain.wanted)
    assert prompt.kept == plain.kept
    assert render(place, name, trim=False).text.endswith(template.between + prefix)


@given(st.sampled_from(sorted(FIM_TEMPLATES)), st.data())
def test_control_tokens_in_the_users_text_are_not_sent(name: str, data: st.DataObject) -> None:
    template = FIM_TEMPLATES[name]
    parts = st.sampled_from([*template.control_texts, *(text[:3] for text in template.control_texts), "a", "\n"])
    user = "".join(data.draw(st.lists(parts, max_size=8)))
    clean = template.neutralise(user)
    assert not any(control in clean for control in template.control_texts)


def test_the_suffix_template_sends_the_suffix_as_a_field() -> None:
    prompt = render(Place("a\n", "b" * 50), "suffix", max_suffix_chars=10)
    assert (prompt.text, prompt.suffix) == ("a\n", "b" * 10)


def test_an_unknown_template_is_named_with_the_known_ones() -> None:
    with pytest.raises(GeneratorError, match="starcoder2"):
        render(Place("x"), "gpt-9")
    with pytest.raises(ValueError, match="anchor_chars"):
        render(Place("x"), max_prefix_chars=10, anchor_chars=10)
    assert len(CONTROL_TEXTS) == len(set(CONTROL_TEXTS))


def test_the_line_around_a_place() -> None:
    place = Place("a\n  foo(", ", b)\r\nc\n")
    assert (place.line_before, place.line_after) == ("  foo(", ", b)")
