from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from coderl_trainer.checking import SHIPPED, Checked, check_files
from coderl_trainer.errors import TaskError
from coderl_trainer.tasks import shipped_tasks, write_tasks
from coderl_trainer.types import Task, TaskKind
from coderl_trainer.validate import Graded, NotGraded

from .plain_grader import plain_grader

GOOD = Task(
    id="good",
    kind=TaskKind.INFILL,
    prompt="def one():\n    return ",
    suffix="\n",
    visible_tests=("assert one() == 1",),
    reference="1",
    source="ours",
)


def shown(checked: Checked) -> str:
    out = io.StringIO()
    checked.render(Console(file=out, width=160))
    return out.getvalue()


def test_a_file_with_faults_is_said_to_have_them(tmp_path: Path) -> None:
    tasks = [GOOD, replace(GOOD, id="wrong", reference="[2]"), replace(GOOD, id="open", reference=None)]
    write_tasks(tasks, tmp_path / "tasks.jsonl")
    checked = check_files([str(tmp_path / "tasks.jsonl")], plain_grader)
    assert not checked.good
    (file,) = checked.to_json()["files"]
    assert file["sources"] == [
        {"source": "ours", "tasks": 3, "problems": 3, "visible_tests": 3, "hidden_tests": 0, "single_test": 3, "untested": 0}
    ]
    assert [one["id"] for one in file["bad"]] == ["wrong"]
    assert file["without_reference"] == ["open"]
    text = shown(checked)
    assert "• wrong: its own reference fails (AssertionError in assert one() == 1)." in text, "brackets are no markup"
    assert "1 tasks of" in text
    assert "No bad task" not in text


def test_tasks_can_be_left_out_and_a_good_file_is_said_to_be_good(tmp_path: Path) -> None:
    write_tasks([GOOD, replace(GOOD, id="wrong", reference="2")], tmp_path / "tasks.jsonl")
    checked = check_files([str(tmp_path / "tasks.jsonl")], plain_grader, leave_out=frozenset(("wrong",)))
    assert checked.good
    assert checked.to_json()["good"] is True
    assert "No bad task" in shown(checked)


def test_the_shipped_tasks_have_a_name_of_their_own() -> None:
    asked: list[str] = []

    def refuses(answers: Sequence[tuple[Task, str]]) -> list[Graded | NotGraded]:
        asked.extend(task.id for task, _ in answers)
        return [NotGraded("no jail") for _ in answers]

    checked = check_files([SHIPPED], refuses)
    assert set(asked) == {task.id for task in shipped_tasks()}
    assert not checked.good, "what could not be graded is not good"
    assert "could not be graded: no jail." in shown(checked)


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read"):
        check_files([str(tmp_path / "none.jsonl")], plain_grader)
