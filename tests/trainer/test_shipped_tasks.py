"""The tasks that come with the package: right answers pass, answers without thought fail, and a judge can call them."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from coderl_trainer.tasks import counts_by_source, shipped_tasks
from coderl_trainer.types import Task, TaskKind, Tier
from coderl_trainer.validate import validate

from .plain_grader import plain_grader

TASKS = shipped_tasks()


def test_there_are_enough_of_every_tier() -> None:
    tiers = Counter(task.tier for task in TASKS)
    assert set(tiers) == set(Tier)
    assert len(TASKS) >= 72
    assert min(tiers.values()) >= 20
    (counts,) = counts_by_source(TASKS)
    assert (counts.single_test, counts.untested) == (0, 0)
    assert all(task.kind is TaskKind.INFILL and task.licence == "Apache-2.0" for task in TASKS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_a_judge_can_call_the_answer(task: Task) -> None:
    """Every test is an assert whose calls of the entry point take literals, so that they can be made in another process."""
    assert len(task.visible_tests) >= 2
    assert len(task.hidden_tests) >= 2
    for test in (*task.visible_tests, *task.hidden_tests):
        (statement,) = ast.parse(test).body
        assert isinstance(statement, ast.Assert)
        calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
        assert calls
        for call in calls:
            assert ast.unparse(call.func) == task.entry_point
            for argument in call.args:
                eval(compile(ast.Expression(argument), "argument", "eval"), {"__builtins__": {}})
    assert len(max(task.program(task.reference or "").splitlines(), key=len)) <= 128


@pytest.mark.slow
def test_references_pass_and_answers_without_thought_fail() -> None:
    found = validate(TASKS, plain_grader)
    assert found.bad == ()
    assert found.checked == len(TASKS)
    assert dict(found.ungraded) == {}
