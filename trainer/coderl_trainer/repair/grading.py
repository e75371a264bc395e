"""What a repository is worth by its hidden tests. Everything that decides runs in the jail or here, nothing in the copy.

Statements are judged by `coderl_trainer.judge`: the program of the repository (`bundle`) answers calls in a jail of its own,
and the tests, which that jail never sees, compare elsewhere. Ids of a suite run by `suite`.
"""

from __future__ import annotations

from dataclasses import dataclass

from coderl_trainer.judge import Judge
from coderl_trainer.types import Task, TaskKind
from coderl_trainer.verdicts import Cause, Judgement, Ungraded

from .bundle import program_of
from .suite import run_suite
from .tasks import RepairTask
from .trees import Tree


@dataclass(frozen=True, slots=True)
class Grade:
    """How the tests of one repository ended. Shares lie in [0, 1]."""

    fail_to_pass: tuple[bool, ...]
    pass_to_pass: tuple[bool, ...]
    visible: tuple[bool, ...] = ()

    @property
    def solved(self) -> bool:
        """Every hidden test passes."""
        return all(self.fail_to_pass) and all(self.pass_to_pass)

    @property
    def score(self) -> float:
        """Share of the tests that failed at the base and pass now; 0 where a test that passed there fails now. So a repository
        that nobody touched has 0."""
        return sum(self.fail_to_pass) / len(self.fail_to_pass) if all(self.pass_to_pass) else 0.0

    @property
    def passed_visible(self) -> bool | None:
        """None = there are none."""
        return all(self.visible) if self.visible else None


class RepairGrader:
    """Grades trees; safe to use from several threads. `fixed` trees are what tests may need beside the repair."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def grade(self, task: RepairTask, tree: Tree, base: Tree, fixed: Tree) -> Grade | Ungraded:
        """The tests on `tree`. `Ungraded` where the harness failed: nothing is known of the repair then."""
        if task.by_suite:
            return self._by_suite(task, tree, base)
        program, reference = program_of(tree, task.module, task.protected), program_of(fixed, task.module, task.protected)
        if reference is None:
            return Ungraded("the repository is too large for a program of its own", Cause.TASK)
        if program is None:
            return _nothing_passes(task)
        given = self.judge.judge(judged_task(task, reference), program)
        return given if isinstance(given, Ungraded) else _grade(task, given)

    def _by_suite(self, task: RepairTask, tree: Tree, base: Tree) -> Grade | Ungraded:
        passed = run_suite(self.judge.jail, task, tree, base)
        if isinstance(passed, Ungraded):
            return passed
        fail, others = ([name in passed for name in names] for names in (task.fail_ids, task.pass_ids))
        return Grade(tuple(fail), tuple(others))


def judged_task(task: RepairTask, reference: str) -> Task:
    """The task as the judge takes it: a whole program is the answer."""
    return Task(
        id=task.id,
        kind=TaskKind.REPAIR,
        prompt=task.problem_statement,
        stem="",
        visible_tests=task.visible_tests,
        hidden_tests=(*task.fail_to_pass, *task.pass_to_pass),
        setup=task.setup,
        entry_point=task.entry_point,
        reference=reference,
    )


def _grade(task: RepairTask, given: Judgement) -> Grade:
    hidden = [test.passed for test in given.hidden]
    count = len(task.fail_to_pass)
    return Grade(tuple(hidden[:count]), tuple(hidden[count:]), tuple(test.passed for test in given.visible))


def _nothing_passes(task: RepairTask) -> Grade:
    return Grade(*((False,) * len(tests) for tests in (task.fail_to_pass, task.pass_to_pass, task.visible_tests)))
