"""Files of infilling tasks: both forms, and what is said of one that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from coderl_generator.errors import BadTask
from coderl_generator.tasks import read_tasks

HUMANEVAL = {
    "task_id": "SingleLineInfilling/HumanEval/7/L1",
    "entry_point": "add",
    "prompt": "def add(a, b):\n",
    "suffix": "\nprint(1)\n",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_missing_line_is_a_place_on_an_empty_line(tmp_path: Path) -> None:
    (task,) = read_tasks(written(tmp_path / "tasks.jsonl", HUMANEVAL))
    assert (task.prefix, task.suffix) == ("def add(a, b):\n", "\n\nprint(1)\n")
    assert task.place.line_after == ""
    assert task.group == "HumanEval/7"
    assert task.is_exactly("    return a + b")
    assert task.program("    return a + b") == "def add(a, b):\n    return a + b\n\nprint(1)\n"


def test_a_missing_span_is_left_where_it_is(tmp_path: Path) -> None:
    row = {**HUMANEVAL, "prompt": "def add(a, b):\n    re", "canonical_solution": "turn a", "suffix": " + b\n"}
    (task,) = read_tasks(written(tmp_path / "tasks.jsonl", row))
    assert task.program("turn a") == "def add(a, b):\n    return a + b\n"
    assert not task.is_exactly("turn b")


def test_our_own_form_packed(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write(json.dumps({"id": "one", "prefix": "a = ", "suffix": "\n", "test": "assert a == 1", "answer": "1"}) + "\n\n")
    (task,) = read_tasks(path)
    assert (task.id, task.language, task.tests, task.answer) == ("one", "python", "assert a == 1", "1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no tasks"),
        ("{", "line 1 is no JSON"),
        ("[1]", "line 1 is no JSON object"),
        ('{"id": "a", "prefix": 1}', r"line 1 lacks prefix, suffix \(prefix: no text\)"),
        ('{"id": "a", "prefix": "", "suffix": ""}', "neither `test` nor `answer`"),
        ('{"id": "a", "prefix": "", "suffix": "", "answer": "b"}\n' * 2, "two tasks of the same id"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(text)
    with pytest.raises(BadTask, match=said):
        read_tasks(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadTask, match="cannot be read"):
        read_tasks(tmp_path / "nothing.jsonl")
    (tmp_path / "broken.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(BadTask, match="cannot be read"):
        read_tasks(tmp_path / "broken.jsonl.gz")
