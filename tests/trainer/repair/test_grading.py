"""Repositories as programs, and their tests: by the judge, and by ids of a suite."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coderl_trainer.judge import Judge
from coderl_trainer.repair.bundle import MOST_CHARS, module_name, program_of
from coderl_trainer.repair.grading import Grade, RepairGrader
from coderl_trainer.repair.making import patch_of
from coderl_trainer.repair.tasks import RepairTask
from coderl_trainer.repair.trees import Entry, Tree
from coderl_trainer.verdicts import Cause, Ungraded

from .broken_repositories import RIGHT, TESTS, WRONG, area_task

HARD = "import unittest\nfrom area import area\n\n\nclass TestHard(unittest.TestCase):\n"
METHODS = (
    "    def test_new(self):\n        self.assertEqual(area(4, 5), 20)\n"
    "    def test_old(self):\n        self.assertEqual(area(2, 2), 4)\n"
)


def tree(**files: str) -> Tree:
    """`a__b` is the path a/b.py."""
    return {name.replace("__", "/") + ".py": Entry(text.encode()) for name, text in files.items()}


def grade(judge: Judge, task: RepairTask, left: Tree) -> Grade | Ungraded:
    base = task.tree
    return RepairGrader(judge).grade(task, left, base, {**base, "area.py": Entry(RIGHT.encode())})


def test_names_of_modules() -> None:
    assert [module_name(path) for path in ("a.py", "a/b.py", "a/__init__.py", "__init__.py")] == ["a", "a.b", "a", "__init__"]


def test_a_program_has_its_modules_and_not_the_protected_ones() -> None:
    text = program_of(tree(area="from tools.more import both\n", tools__more="both = 2\n", tests__test_area=TESTS), "area.py")
    names: dict[str, object] = {}
    exec(text or "", names)
    assert names["both"] == 2
    assert "TestArea" not in (
        program_of(tree(area="", tests__test_area=TESTS), "area.py", ["tests/test_area.py"]) or "TestArea"
    )
    assert program_of(tree(area="#" * (MOST_CHARS + 1)), "area.py") is None


def test_a_repair_may_be_spread_over_files(judge: Judge) -> None:
    task = area_task()
    left = {**task.tree, **tree(area="from shapes.flat import area\n", shapes__flat=RIGHT)}
    found = grade(judge, task, left)
    assert isinstance(found, Grade)
    assert (found.solved, found.score, found.passed_visible) == (True, 1.0, True)


@pytest.mark.parametrize(
    ("source", "score", "visible"),
    [
        (WRONG, 0.0, False),
        ("def area(width, height):\n    return 20\n", 0.0, False),  # one of two, but what worked is broken
        ("def area(width, height):\n    return 6 if width == 2 else 0\n", 0.0, True),  # knows the visible test
        ("def area(width, height):\n    return width * height if width != 7 else 0\n", 0.5, True),
        ("def area(width, height:\n", 0.0, False),
        ("import sys\nsys.exit(0)\n", 0.0, False),
        ("import os\nos._exit(0)\n", 0.0, False),
    ],
)
def test_what_a_repair_is_worth(source: str, score: float, visible: bool, judge: Judge) -> None:
    task = area_task()
    found = grade(judge, task, {**task.tree, "area.py": Entry(source.encode())})
    assert isinstance(found, Grade)
    assert (found.score, found.passed_visible, found.solved) == (score, visible, False)


def test_a_module_that_is_gone_passes_nothing(judge: Judge) -> None:
    found = grade(judge, area_task(), {})
    assert isinstance(found, Grade)
    assert not any((*found.fail_to_pass, *found.pass_to_pass, *found.visible))


def test_tests_that_are_no_python_are_the_tasks_fault(judge: Judge) -> None:
    task = replace(area_task(), fail_to_pass=("assert area(",))
    found = grade(judge, task, task.tree)
    assert isinstance(found, Ungraded)
    assert found.cause is Cause.TASK


def suite_task() -> RepairTask:
    added = patch_of("tests/test_hard.py", "", HARD + METHODS).replace(
        "--- a/tests/test_hard.py", "new file mode 100644\n--- /dev/null"
    )
    return replace(
        area_task(),
        fail_to_pass=(),
        pass_to_pass=(),
        test_patch=added,
        fail_ids=("tests.test_hard.TestHard.test_new",),
        pass_ids=("tests.test_hard.TestHard.test_old",),
    )


@pytest.mark.parametrize(
    ("changes", "solved"),
    [
        ({}, False),
        ({"area.py": RIGHT}, True),
        ({"area.py": WRONG, "tests/test_hard.py": "import unittest\nclass TestHard(unittest.TestCase):\n"}, False),
        ({"area.py": "import os\nos._exit(0)\n"}, False),
        ({"area.py": "print('coderl-result {}')\nraise SystemExit(0)\n"}, False),
        ({"area.py": RIGHT, "conftest.py": "1 / 0\n", "sitecustomize.py": "1 / 0\n"}, True),
    ],
)
def test_ids_of_a_suite(changes: dict[str, str], solved: bool, judge: Judge) -> None:
    task = suite_task()
    found = grade(judge, task, {**task.tree, **{name: Entry(text.encode()) for name, text in changes.items()}})
    assert isinstance(found, Grade)
    assert found.solved is solved


def test_a_test_patch_that_does_not_apply_is_the_tasks_fault(judge: Judge) -> None:
    task = replace(suite_task(), test_patch=patch_of("nowhere.py", "a\n", "b\n"))
    found = grade(judge, task, task.tree)
    assert isinstance(found, Ungraded)
    assert found.cause is Cause.TASK
