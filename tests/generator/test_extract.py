"""Extraction and stop rules, token by token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import FinishReason, Token, end_mark
from coderl_generator.extract import Extracted, Extractor, Mode
from coderl_generator.postfilter import line_end, unbalanced_closer
from coderl_generator.prompt import Place, render
from coderl_generator.scripted import split, token_id
from coderl_generator.stop_rules import Block, Reason


def extract(
    place: Place, generated: str, mode: Mode = Mode.SINGLE_LINE, finish: FinishReason = FinishReason.LENGTH, **options: int
) -> Extracted:
    extractor = Extractor(place, render(place), mode, **options)
    for n, piece in enumerate(split(generated)):
        if extractor.push(Token(piece, token_id(piece), -0.1 * (n + 1))):
            return extractor.result()
    extractor.push(end_mark(finish))
    return extractor.result()


def python(prefix: str, suffix: str = "") -> Place:
    return Place(prefix, suffix, "python")


def test_a_single_line_ends_at_the_line_break() -> None:
    got = extract(python("def f(x):\n    "), "\n    return x + 1\n\ndef g():")
    assert (got.text, got.reason, got.finish) == ("return x + 1", Reason.LINE, FinishReason.STOP)
    assert got.end_tokens == 1  # the line break


@pytest.mark.parametrize(
    ("generated", "finish", "end_tokens"),
    [
        ("x + 1", FinishReason.END, 0),  # the model's end of sequence is no token of the text's stream
        ("x + 1  ", FinishReason.LENGTH, 0),  # trailing blanks are cut off, and show nothing
        ("\n", FinishReason.LENGTH, 0),  # nothing is shown that could end
    ],
)
def test_only_what_shows_the_end_of_a_text_is_an_end_token(generated: str, finish: FinishReason, end_tokens: int) -> None:
    assert extract(python("y = "), generated, finish=finish).end_tokens == end_tokens


def test_only_the_tokens_of_the_text_are_kept_and_stay_aligned() -> None:
    got = extract(python("x ="), " 1 + 2\ny")
    assert "".join(token.text for token in got.tokens) == got.text == " 1 + 2"
    assert got.token_ids == tuple(token_id(piece) for piece in (" 1", " ", "+", " 2"))
    assert got.logprobs == pytest.approx((-0.1, -0.2, -0.3, -0.4))
    assert got.tokens_used == 5


def test_parts_of_a_character_stay_with_it() -> None:
    place = python("x = '")
    extractor = Extractor(place, render(place))
    for token in (Token("", 1, -1.0), Token("日", 2, -2.0), Token("", 3, -3.0), Token("\n", 4, -4.0)):
        extractor.push(token)
    got = extractor.result()
    assert (got.text, got.token_ids) == ("日", (1, 2))


def test_tokens_that_only_repeat_the_boundary_are_not_kept() -> None:
    got = extract(python("def f():\n    "), "\n    return 1")
    assert got.text == "return 1"
    assert "".join(token.text for token in got.tokens) == "return 1"


def test_text_that_does_not_continue_the_boundary_is_empty_at_once() -> None:
    got = extract(python("def f():\n        "), "\n    return 1")
    assert (got.text, got.tokens, got.reason) == ("", (), Reason.MISMATCH)


def test_blank_lines_before_a_single_line_are_not_its_end() -> None:
    assert extract(python("import os\n"), "\n\n\ndef f():\n").text == "def f():"
    place = python("import os\n")
    untrimmed = Extractor(place, render(place, trim=False))
    assert [untrimmed.push(Token(piece, 0, -1.0)) for piece in ("\n", "\n", "go()", "\n")] == [False, False, False, True]
    assert untrimmed.result().text == "go()"


@pytest.mark.parametrize(
    ("prefix", "generated", "text"),
    [
        (
            "def f(x):",
            "\n    if x:\n        return 1\n    return 2\n\n\ndef g():\n    pass\n",
            "\n    if x:\n        return 1\n    return 2",
        ),
        ("def f(x):\n    ", "\n    a = 1\n    return a\n\nprint(f(1))\n", "a = 1\n    return a"),
        ("    for a in b:", "\n        use(a)\n    done()\n", "\n        use(a)"),
        ("    x = 1\n    ", "\n    y = 2\nz = 3\n", "y = 2"),
        ("if a:", "\n    b()\nelse:\n    c()\nd()\n", "\n    b()\nelse:\n    c()"),
        ("x = call(", "\n    1,\n    2,\n)\ny = 3\n", "\n    1,\n    2,\n)"),
        ("a = 1\n", "\nb = 2\n\nc = 3\n", "b = 2\n\nc = 3"),
        ("n = 2\n", "\nfor i in range(n // 2):\n    go(i)\nstop()\n", "for i in range(n // 2):\n    go(i)"),
    ],
)
def test_python_blocks_end_by_indentation(prefix: str, generated: str, text: str) -> None:
    assert extract(python(prefix), generated, Mode.BLOCK, FinishReason.END).text == text


@pytest.mark.parametrize(
    ("prefix", "generated", "text"),
    [
        ("function f(x) {", "\n    return x;\n}\n\nfunction g() {\n", "\n    return x;\n}"),
        ("  if (a) {", "\n    b();\n  } else {\n    c();\n  }\n  d();\n", "\n    b();\n  } else {\n    c();\n  }"),
        ("function f() {\n    ", "\n    a();\n    b();\n}\nmore();\n", "a();\n    b();"),
    ],
)
def test_brace_blocks_hold_their_closing_line(prefix: str, generated: str, text: str) -> None:
    place = Place(prefix, "", "javascript")
    assert extract(place, generated, Mode.BLOCK, FinishReason.END).text == text


def test_a_whole_body_goes_on_behind_a_paragraph() -> None:
    place = python("def f(values):\n")
    body = "    for value in values:\n        use(value)\n\n    return values"
    generated = "\n" + body + "\n\n\ndef g():\n    pass\n"
    assert extract(place, generated, Mode.BODY, FinishReason.END).text == body
    assert extract(place, generated, Mode.BLOCK, FinishReason.END).text == "    for value in values:\n        use(value)"
    half = extract(place, "\n" + body + "\n    more = call(", Mode.BODY)
    assert (half.text, half.reason) == (body, Reason.LENGTH)


def test_a_closing_brace_that_is_already_there_is_not_written_again() -> None:
    place = Place("function f(x) {", "\n}\n", "javascript")
    got = extract(place, "\n    return x;\n}\n", Mode.BLOCK)
    assert (got.text, got.reason) == ("\n    return x;", Reason.DUPLICATE)


def test_a_block_never_ends_in_half_a_line() -> None:
    got = extract(python("def f(x):"), "\n    a = 1\n    b = call(", Mode.BLOCK)
    assert (got.text, got.reason, got.finish) == ("\n    a = 1", Reason.LENGTH, FinishReason.LENGTH)
    long = extract(python("def f(x):"), "\n    a = 1\n    b = 2\n    c = 3\n", Mode.BLOCK, max_chars=20)
    assert (long.text, long.reason) == ("\n    a = 1", Reason.MAX_CHARS)


def test_a_fence_or_a_leaked_control_token_ends_the_text() -> None:
    fenced = extract(python("x = 1\n"), "\ny = 2\n```\nThis function", Mode.BLOCK)
    assert (fenced.text, fenced.reason) == ("y = 2", Reason.FENCE)
    assert extract(python("x = 1\n"), "\n```python\n").text == ""
    leaked = extract(python("x ="), " 10<|fim_middle|>2")
    assert (leaked.text, leaked.reason) == (" 10", Reason.MARKER)
    markdown = Place("# Title\n", "", "markdown")
    assert extract(markdown, "\n```python\n").text == "```python"


def test_a_repeated_line_is_kept_once() -> None:
    got = extract(python("import a\n"), "\nimport os\nimport os\nimport os\nimport os\n", Mode.BLOCK)
    assert (got.text, got.reason) == ("import os", Reason.REPETITION)
    pair = extract(python("a()\n"), "\nb()\nc()\nb()\nc()\nb()\nc()\n", Mode.BLOCK)
    assert pair.text == "b()\nc()"
    brackets = Place("x = [[[\n", "", "plaintext")
    assert extract(brackets, "\n10\n]\n]\n]\n]\n", Mode.BLOCK, FinishReason.END).reason is Reason.END


def test_what_already_follows_is_not_written_again() -> None:
    got = extract(python("for f in os.listdir(", "):\n    print(f)\n"), "path):\n")
    assert (got.text, got.reason) == ("path", Reason.DUPLICATE)
    following = extract(python("a = 1\n", "\nb = 2\n"), "\nb = 2\n")
    assert (following.text, following.reason) == ("", Reason.DUPLICATE)
    block = extract(python("def f():\n    ", "\n    return total\n"), "\n    total = 1\n    return total\n", Mode.BLOCK)
    assert (block.text, block.reason) == ("total = 1", Reason.DUPLICATE)


@pytest.mark.parametrize(
    ("text", "after", "result"),
    [
        ("foo(x)", ")", "foo(x)"),
        ("foo(x))", ")", "foo(x)"),
        ("x]", ")", "x]"),
        ('hello"', '"', "hello"),
        ("hello", "", "hello"),
        ("a, b: int):", "):", "a, b: int"),
    ],
)
def test_the_end_of_the_line_is_trimmed_only_where_it_is_doubled(text: str, after: str, result: str) -> None:
    assert line_end(text, Place("", after)) == result


def test_blanks_at_the_end_are_dropped_unless_text_follows() -> None:
    assert extract(python("x ="), " 10  ", finish=FinishReason.END).text == " 10"
    assert extract(python("f(", "b)\n"), "first, ", finish=FinishReason.END).text == "first, "


@given(st.text(alphabet="([{)]} x\n", max_size=30))
def test_everything_before_the_unbalanced_closer_is_balanced_or_open(text: str) -> None:
    at = unbalanced_closer(text)
    if at is None:
        assert sum(map(text.count, ")]}")) <= sum(map(text.count, "([{"))
    else:
        assert unbalanced_closer(text[:at]) is None
        assert text[at] in ")]}"


code = st.lists(
    st.sampled_from(["x", " ", "\n", "    ", "(", ")", "{", "}", ":", "if a", "else", "return", "```", '"', "\n\n", "日"]),
    max_size=25,
).map("".join)


@given(code, code, code, st.sampled_from(list(Mode)), st.sampled_from(["python", "javascript"]))
def test_the_result_is_always_a_piece_of_what_the_model_wrote(
    prefix: str, suffix: str, generated: str, mode: Mode, language: str
) -> None:
    place = Place("y" + prefix, suffix, language)
    got = extract(place, generated, mode, FinishReason.END)
    assert got.text in generated
    assert mode is not Mode.SINGLE_LINE or "\n" not in got.text
    assert len(got.token_ids) == len(got.logprobs) == len(got.tokens) <= got.tokens_used
    assert got.text in "".join(token.text for token in got.tokens)


@given(code, code, st.sampled_from(["python", "javascript"]))
def test_a_block_that_ended_stays_ended_at_the_same_place(line_before: str, generated: str, language: str) -> None:
    rule = Block(line_before.split("\n")[-1], language)
    cuts = [rule.cut(generated[:end]) for end in range(len(generated) + 1)]
    first = next((n for n, cut in enumerate(cuts) if cut is not None), len(cuts))
    assert len(set(cuts[first:])) <= 1
