"""Rows of the supervised warm-up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.errors import TaskError
from coderl_trainer.sft import batches, datum, line_gaps, texts
from coderl_trainer.types import Datum, Task, TaskKind


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def pairs(text: str) -> list[int]:
    """A tokenizer that joins a line break with what follows it, as byte-pair tokenizers join blanks."""
    out, index = [], 0
    while index < len(text):
        width = 2 if text[index] == "\n" and index + 1 < len(text) else 1
        out.append(sum(ord(letter) << (21 * at) for at, letter in enumerate(text[index : index + width])))
        index += width
    return out


def gap(name: str, before: str, after: str, answer: str = "x") -> Task:
    return Task(name, TaskKind.INFILL, before, ("assert True",), suffix=after, reference=answer, group_id="p")


def test_gaps_of_one_problem_are_one_row_from_the_earliest_on() -> None:
    tasks = [gap("late", "a\nb\n", "\nd", "c"), gap("early", "a\n", "\nc\nd", "b")]
    assert texts(tasks) == [("a\n", "b\nc\nd")]


def test_whole_functions_stay_and_tasks_without_a_reference_go() -> None:
    tasks = [
        Task("f", TaskKind.FUNCTION, "def f():\n", reference="    return 1"),
        Task("g", TaskKind.FUNCTION, "def g():\n", ("assert g() == 1",)),
    ]
    assert texts(tasks) == [("def f():\n", "    return 1")]


@given(st.integers(0, 4), st.integers(0, 3))
def test_lines_are_cut_out_of_whole_functions(lines: int, seed: int) -> None:
    body = "    a = 1\n\n    b = 2\n    return a\n"
    function = Task("f", TaskKind.FUNCTION, "def f():\n", ("assert f()",), reference=body)
    untold = Task("g", TaskKind.FUNCTION, "def g():\n", ("assert g()",))
    given_gap = gap("gap", "a\n", "\nc", "b")
    cut = line_gaps([function, untold, given_gap], lines, seed)
    assert cut == line_gaps([function, untold, given_gap], lines, seed)
    assert cut[-1] is given_gap
    if not lines:
        assert cut[:-1] == [function]
        return
    assert len(cut) == min(lines, 3) + 1
    for one in cut[:-1]:
        assert one.prompt + (one.reference or "") + (one.suffix or "") == function.prompt + body
        assert (one.reference or "").strip()
        assert (one.reference or "").count("\n") == 1
        assert (one.kind, one.problem, one.visible_tests) == (TaskKind.INFILL, "f", ())
    assert len({one.id for one in cut}) == len(cut)


@pytest.mark.parametrize("encode", [letters, pairs])
def test_a_row_learns_the_text_and_the_blanks_before_it(encode: object) -> None:
    row = datum(encode, "def f():\n    ", "return 1")  # type: ignore[arg-type]
    learned = [token for token, counts in zip(row.target_tokens, row.mask, strict=True) if counts]
    assert learned == list(encode("\n    return 1\n"))  # type: ignore[operator]
    assert row.input_tokens[1:] == row.target_tokens[:-1]


def test_a_row_without_a_prompt_is_refused() -> None:
    with pytest.raises(TaskError):
        datum(letters, "   ", "x")
    with pytest.raises(TaskError):
        datum(letters, "long enough", "x", max_tokens=5)


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 60), st.integers(1, 3), st.integers(0, 5))
def test_every_row_comes_once_per_epoch_in_an_order_of_the_seed(
    lengths: list[int], batch_tokens: int, epochs: int, seed: int
) -> None:
    rows = [
        Datum((n,) * length, (n,) * length, (0.0,) * length, (0.0,) * length, (1.0,) * length)
        for n, length in enumerate(lengths)
    ]
    made = list(batches(rows, batch_tokens, epochs, seed))
    flat = [row.input_tokens for batch in made for row in batch]
    for epoch in range(epochs):
        part = flat[epoch * len(rows) : (epoch + 1) * len(rows)]
        assert sorted(part) == sorted(row.input_tokens for row in rows)
    assert all(len(batch) == 1 or sum(len(row.input_tokens) for row in batch) <= batch_tokens for batch in made)
    assert flat == [row.input_tokens for batch in batches(rows, batch_tokens, epochs, seed) for row in batch]
