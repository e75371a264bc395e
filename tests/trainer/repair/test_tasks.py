"""The format: what is written is read, SWE-Gym's rows are taken, and everything wrong is said with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coderl_trainer.errors import TaskError
from coderl_trainer.repair.tasks import is_repairs, load_repairs, repair_of, write_repairs

from .broken_repositories import area_task

SWE = {
    "instance_id": "owner__name-17",
    "repo": "clones/name",
    "base_commit": "0123abc",
    "problem_statement": "It fails.",
    "patch": "diff --git a/x b/x\n",
    "test_patch": "diff --git a/t b/t\n",
    "FAIL_TO_PASS": '["tests/test_x.py::test_a"]',
    "PASS_TO_PASS": ["tests.test_x.Test.test_b"],
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "repairs.jsonl"
    tasks = [area_task("a"), area_task("b")]
    assert write_repairs(tasks, path) == 2
    assert load_repairs(path) == tasks
    assert is_repairs(path)


def test_rows_of_swe_gym_are_taken(tmp_path: Path) -> None:
    task = repair_of(SWE, "line 1", tmp_path)
    assert (task.id, task.repo) == ("owner__name-17", str(tmp_path / "clones/name"))
    assert (task.fail_ids, task.pass_ids) == (("tests/test_x.py::test_a",), ("tests.test_x.Test.test_b",))
    assert task.by_suite


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch": None}, "`patch` is no string"),
        ({"problem_statement": ""}, "`problem_statement` is empty"),
        ({"colour": "red"}, "`colour` is no key"),
        ({"id": "", "module": ""}, "`id` is empty; `module` is empty"),
        ({"repo": "x"}, "give either `files` or `repo`"),
        ({"module": "area.txt"}, "area.txt is no Python file"),
        ({"module": "other.py"}, "there is no file other.py"),
        ({"fail_to_pass": []}, "give either `fail_to_pass`"),
        ({"protected": ["../x"]}, "no path of a file in a repository"),
        ({"files": {".git/hooks/x": "", "area.py": ""}}, "no path of a file in a repository"),
        ({"tier": "impossible"}, "not one of easy, medium, hard"),
    ],
)
def test_a_wrong_row_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "repairs.jsonl"
    write_repairs([area_task()], path)
    row = {**json.loads(path.read_text()), **change}
    path.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(TaskError, match=f"(?s)line 2.*{said}"):
        load_repairs(path)


def test_a_repository_needs_its_commit(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="needs `base_commit`"):
        repair_of({name: value for name, value in SWE.items() if name != "base_commit"}, "here", tmp_path)


def test_two_tasks_of_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "repairs.jsonl"
    write_repairs([area_task(), area_task()], path)
    with pytest.raises(TaskError, match="two tasks of the id own/area"):
        load_repairs(path)
