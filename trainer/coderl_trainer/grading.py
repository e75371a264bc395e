"""The judge as the grader of the task validator (`coderl_trainer.validate.Grader`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .judge import Judge, Judgement, Ungraded
from .types import Task
from .validate import Graded, NotGraded


class JudgeGrader:
    """Grades by a judge, as many answers at a time as it takes; `told` hears how many are done, of how many."""

    def __init__(self, judge: Judge, told: Callable[[int, int], None] = lambda _done, _of: None) -> None:
        self._judge = judge
        self._told = told

    def __call__(self, answers: Sequence[tuple[Task, str]]) -> list[Graded | NotGraded]:
        """See `Grader`. Raises `TooManyUngraded` where the judge itself fails too often."""
        return [_graded(one) for one in self._judge.judge_all(answers, self._told)]


def _graded(one: Judgement | Ungraded) -> Graded | NotGraded:
    if isinstance(one, Ungraded):
        return NotGraded(one.reason)
    # A task without visible tests is judged by its hidden ones, as one without hidden ones is by the visible.
    visible = all(test.passed for test in one.visible)
    failed = next((test for test in (*one.visible, *one.hidden) if not test.passed), None)
    return Graded(visible, one.passed_hidden is not False, "" if failed is None else f"{failed.outcome}: {failed.message}")
