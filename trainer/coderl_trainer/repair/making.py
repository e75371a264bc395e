"""Repair tasks made of tasks that we have: wrong versions that a data set brings (QuixBugs), and bugs put into right programs.

A task is kept where its hidden tests say what a repair is: the fixed program passes all of them and the broken one fails at
least one. Those that fail become `fail_to_pass`, the others `pass_to_pass`. Same tasks, same seed, same repairs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from coderl_trainer.judge import Judge, JudgeLimits
from coderl_trainer.types import Task, TaskKind
from coderl_trainer.verdicts import Judgement, Ungraded

from .mutation import mutants
from .tasks import RepairTask

MAKING: Final = JudgeLimits(call_cpu_s=0.5, program_cpu_s=4, program_wall_s=20.0)
"""Limits of a judge that makes repairs: a bug is often an endless loop, and nothing that is right here takes so long."""
_TRIED: Final = 12
"""Mutants of one program that are tried before it is given up."""

_TESTS: Final = '''\
"""Tests of {module}. Run them with: python -m unittest discover -s tests -t ."""

import unittest

from {module} import *  # noqa: F403
{setup}

class Test{title}(unittest.TestCase):
{tests}

if __name__ == "__main__":
    unittest.main()
'''
_STATEMENT: Final = """\
{what}

The module is {module}.py; some tests are in {tests}, and `python -m unittest discover -s tests -t .` runs them. Find the bug
and repair {module}.py. Leave the tests as they are: other tests decide whether the repair is right."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of some tasks."""

    repairs: tuple[RepairTask, ...]
    left_out: dict[str, str]
    """Task id → why it makes no repair."""


def make_repairs(
    tasks: Sequence[Task],
    judge: Judge,
    *,
    seed: int = 0,
    parallel: int = 2,
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> Made:
    """A repair of each task that makes one."""
    with ThreadPoolExecutor(parallel, thread_name_prefix="making") as pool:
        found: dict[str, RepairTask | str] = {}
        futures = [pool.submit(make_repair, task, judge, seed=seed) for task in tasks]
        for task, future in zip(tasks, futures, strict=True):
            found[task.id] = future.result()
            told(len(found), len(tasks))
    return Made(
        tuple(one for one in found.values() if isinstance(one, RepairTask)),
        {name: one for name, one in found.items() if isinstance(one, str)},
    )


def make_repair(task: Task, judge: Judge, *, seed: int = 0) -> RepairTask | str:
    """The repair, or why there is none."""
    if task.language != "python" or task.reference is None or not task.hidden_tests:
        return "it is not Python, or has no reference or no hidden tests"
    right = task.program(task.reference)
    whole = replace(task, kind=TaskKind.REPAIR, stem="", suffix=None, reference=right, path="")
    passed = judge.judge(whole, right)
    if not (isinstance(passed, Judgement) and passed.passed and passed.passed_hidden):
        return "its own reference does not pass"
    for name, wrong in _wrong_versions(task, right, seed):
        found = judge.judge(whole, wrong)
        if isinstance(found, Ungraded) or found.passed_hidden is not False:
            continue
        return _repair(whole, name, wrong, right, [test.passed for test in found.hidden])
    return "no wrong version of it fails a hidden test"


def _wrong_versions(task: Task, right: str, seed: int) -> Iterator[tuple[str, str]]:
    given = task.metadata.get("before")
    if given is not None:
        yield "", given
        return
    for mutant in mutants(right, f"{seed}\0{task.id}")[:_TRIED]:
        yield mutant.name, mutant.text


def _repair(task: Task, name: str, wrong: str, right: str, hidden: Sequence[bool]) -> RepairTask:
    module = re.sub(r"\W+", "_", task.id.rsplit("/", 1)[-1]).strip("_").lower()
    module = module if module.isidentifier() else f"task_{module}"
    path, tests = f"{module}.py", f"tests/test_{module}.py"
    what = f"`{task.entry_point}` of {path} gives wrong answers."
    if task.metadata.get("description"):
        what += f" What it should do:\n\n{task.metadata['description']}"
    pairs = list(zip(task.hidden_tests, hidden, strict=True))
    return RepairTask(
        id=f"{task.id}:{name}" if name else task.id,
        problem_statement=_STATEMENT.format(what=what, module=module, tests=tests),
        patch=patch_of(path, _ended(wrong), _ended(right)),
        files={path: _ended(wrong), tests: _visible_file(task, module), "tests/__init__.py": ""},
        module=path,
        entry_point=task.entry_point,
        setup=task.setup,
        visible_tests=task.visible_tests,
        fail_to_pass=tuple(test for test, passes in pairs if not passes),
        pass_to_pass=tuple(test for test, passes in pairs if passes),
        protected=(tests, "tests/__init__.py"),
        group_id=task.problem,
        tier=task.tier,
        source=task.source,
        licence=task.licence,
    )


def patch_of(path: str, old: str, new: str) -> str:
    """A unified diff of one file, as git reads it."""
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}")
    return f"diff --git a/{path} b/{path}\n" + "".join(lines)


def _visible_file(task: Task, module: str) -> str:
    cases = []
    for number, test in enumerate(task.visible_tests, 1):
        body = "\n".join(f"        {line}" if line else "" for line in test.strip("\n").splitlines())
        cases.append(f"    def test_{number}(self):\n{body}\n")
    title = "".join(part.capitalize() for part in module.split("_"))
    setup = f"\n{task.setup.strip()}\n" if task.setup.strip() else ""
    return _TESTS.format(module=module, setup=setup, title=title, tests="\n".join(cases))


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
