"""Repairs made of tasks: the hidden tests fail before and pass after, which the grader of episodes finds too."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from coderl_trainer.judge import Judge, open_judge
from coderl_trainer.repair.copies import prepare
from coderl_trainer.repair.grading import Grade, RepairGrader
from coderl_trainer.repair.making import MAKING, make_repair, make_repairs
from coderl_trainer.repair.tasks import RepairTask, load_repairs, write_repairs
from coderl_trainer.tasks import load_quixbugs, shipped_tasks

QUIXBUGS = Path(os.environ.get("CODERL_SHARED_DATA", "")) / "tasks" / "quixbugs" / "quixbugs.jsonl"
SOME = ("gcd", "flatten", "bitcount", "sqrt")


def graded(task: RepairTask, judge: Judge, folder: Path) -> tuple[Grade, Grade]:
    """Before and after the right fix."""
    prepared = prepare(task, folder)
    grades = [
        RepairGrader(judge).grade(task, tree, prepared.base_tree, prepared.fixed_tree)
        for tree in (prepared.base_tree, prepared.fixed_tree)
    ]
    before, after = grades
    assert isinstance(before, Grade)
    assert isinstance(after, Grade)
    return before, after


def check(task: RepairTask, judge: Judge, folder: Path) -> None:
    before, after = graded(task, judge, folder)
    assert (before.solved, before.score, set(before.fail_to_pass)) == (False, 0.0, {False})
    assert all(before.pass_to_pass)
    assert (after.solved, after.score, after.passed_visible) == (True, 1.0, True)
    hidden = {*task.fail_to_pass, *task.pass_to_pass}
    assert hidden.isdisjoint(task.visible_tests)
    shown = "\n".join(task.files.values()) + task.problem_statement
    assert not [test for test in hidden if test in shown]


@pytest.mark.slow
@pytest.mark.skipif(not QUIXBUGS.is_file(), reason="CODERL_SHARED_DATA names no folder with tasks/quixbugs")
def test_programs_of_quixbugs_become_repositories(judge: Judge, tmp_path: Path) -> None:
    tasks = [task for task in load_quixbugs(QUIXBUGS) if task.id.rpartition("/")[2] in SOME]
    with open_judge(limits=MAKING) as making:
        made = make_repairs(tasks, making)
    assert [one.id.rpartition("/")[2] for one in made.repairs] == [task.id.rpartition("/")[2] for task in tasks]
    for number, task in enumerate(made.repairs):
        check(task, judge, tmp_path / f"{number}.git")
        assert "Input:" in task.problem_statement or "Examples" in task.problem_statement


@pytest.mark.slow
def test_bugs_are_put_into_shipped_programs(judge: Judge, tmp_path: Path) -> None:
    tasks = shipped_tasks()[:6]
    made = make_repairs(tasks, judge)
    assert len(made.repairs) >= 4
    assert set(made.left_out).isdisjoint(one.group_id for one in made.repairs)
    for number, task in enumerate(made.repairs):
        check(task, judge, tmp_path / f"{number}.git")
    assert make_repairs(tasks, judge).repairs == made.repairs
    write_repairs(made.repairs, tmp_path / "repairs.jsonl")
    assert tuple(load_repairs(tmp_path / "repairs.jsonl")) == made.repairs


def test_a_task_without_hidden_tests_makes_none(judge: Judge) -> None:
    task = shipped_tasks()[0]
    assert make_repair(replace(task, hidden_tests=()), judge) == "it is not Python, or has no reference or no hidden tests"
    assert make_repair(replace(task, reference="1 / 0"), judge) == "its own reference does not pass"
