from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from coderl_trainer.types import Task, TaskKind
from coderl_trainer.validate import CONSTANTS, Fault, Graded, NotGraded, validate

from .plain_grader import plain_grader

GOOD = Task(
    "good",
    TaskKind.INFILL,
    "def double(x):\n    return ",
    suffix="\n",
    visible_tests=("assert double(2) == 4",),
    hidden_tests=("assert candidate(5) == 10",),
    entry_point="double",
    reference="2 * x",
)


def faults_of(task: Task) -> list[tuple[Fault, str]]:
    return [(one.fault, one.detail) for one in validate([task], plain_grader).bad]


def test_a_good_task_has_no_fault() -> None:
    found = validate([GOOD], plain_grader)
    assert (found.tasks, found.checked, found.bad, dict(found.ungraded)) == (1, 1, (), {})


def test_a_reference_has_to_pass_the_hidden_tests_too() -> None:
    wrong = replace(GOOD, hidden_tests=("assert double(5) == 11",))
    assert faults_of(wrong) == [(Fault.REFERENCE_FAILS, "AssertionError in assert double(5) == 11")]


def test_a_reference_that_does_not_end_fails() -> None:
    endless = replace(GOOD, prompt="def double(x):\n    ", reference="while True:\n        x += 1")
    assert faults_of(endless) == [(Fault.REFERENCE_FAILS, "out of time")]


def test_a_task_that_nothing_solves_is_bad() -> None:
    idle = replace(GOOD, prompt="def double(x):\n    y = 2 * x\n", reference="    y = y\n", suffix="    return y\n")
    assert faults_of(replace(idle, hidden_tests=("assert double(1) == 3",)))[0][0] is Fault.REFERENCE_FAILS
    assert faults_of(idle) == [(Fault.EMPTY_PASSES, "an empty answer")]


def test_an_answer_that_only_the_hidden_tests_stop_is_told_apart() -> None:
    """The whole reward is what the visible tests give."""
    halved = replace(GOOD, prompt="def double(x):\n", reference="    x = 2 * x\n", suffix="    return x\n")
    assert faults_of(replace(halved, visible_tests=("assert double(0) == 0",))) == [(Fault.EMPTY_REWARDED, "an empty answer")]


def test_a_task_that_a_constant_solves_is_bad() -> None:
    always = Task(
        "always", TaskKind.FUNCTION, "def is_even(x):\n", visible_tests=("assert is_even(2) is True",),
        hidden_tests=("assert is_even(3) is False",), entry_point="is_even", reference="    return x % 2 == 0\n",
    )  # fmt: skip
    assert faults_of(always) == [(Fault.CONSTANT_REWARDED, "return True")]
    assert faults_of(replace(always, hidden_tests=())) == [(Fault.CONSTANT_PASSES, "return True")]
    both = replace(always, visible_tests=("assert is_even(3) == 0",), hidden_tests=("assert is_even(5) is False",))
    assert faults_of(both) == [(Fault.CONSTANT_PASSES, "return False")], (
        "the worst counts: `return 0` is stopped by the hidden test"
    )


def test_a_constant_that_is_the_right_answer_is_no_fault() -> None:
    nothing = replace(
        GOOD, prompt="def double(x):\n    if not x:\n        ", reference="return None", suffix="\n    return 2 * x\n"
    )
    nothing = replace(nothing, visible_tests=("assert double(0) is None", "assert double(1) == 2"), hidden_tests=())
    # An empty branch is a syntax error and `pass` goes on to 0.
    assert faults_of(nothing) == []
    assert faults_of(replace(nothing, reference="return False", visible_tests=("assert double(0) == 0",)))[0][1] == "pass"


class Recording:
    """A grader that knows the answers to give."""

    def __init__(self, *results: Graded | NotGraded) -> None:
        self.results = results
        self.asked: list[tuple[str, str]] = []

    def __call__(self, answers: Sequence[tuple[Task, str]]) -> list[Graded | NotGraded]:
        self.asked += [(task.id, text) for task, text in answers]
        return [self.results[index % len(self.results)] for index in range(len(answers))]


def test_what_cannot_be_graded_is_no_fault_and_is_named() -> None:
    found = validate([GOOD], Recording(NotGraded("takes objects")))
    assert (found.checked, found.bad, dict(found.ungraded)) == (0, (), {"good": "takes objects"})


def test_what_has_no_tests_or_no_reference_is_listed() -> None:
    untested = replace(GOOD, id="untested", visible_tests=(), hidden_tests=())
    unproved = replace(GOOD, id="unproved", reference=None)
    grader = Recording(Graded(visible=False, hidden=False))
    found = validate([untested, unproved], grader)
    assert (found.untested, found.unproved, found.checked, found.bad) == (("untested",), ("unproved",), 0, ())
    assert {name for name, _ in grader.asked} == {"unproved"}


@pytest.mark.parametrize("kind", list(TaskKind))
def test_constants_stand_where_the_reference_begins(kind: TaskKind) -> None:
    grader = Recording(Graded(visible=False, hidden=False))
    validate([replace(GOOD, kind=kind, reference="\t  x = 1\n")], grader)
    assert [text for _, text in grader.asked] == ["\t  x = 1\n", "", *(f"\t  {constant}" for constant in CONSTANTS[kind])]


def test_the_report_is_plain_data() -> None:
    found = validate([GOOD, replace(GOOD, id="bad", reference="3 * x")], plain_grader)
    assert found.to_json() == {
        "tasks": 2,
        "checked": 2,
        "bad": [{"id": "bad", "fault": "reference_fails", "detail": "AssertionError in assert double(2) == 4"}],
        "by_fault": {"reference_fails": 1},
        "ungraded": {},
        "untested": [],
        "without_reference": [],
    }
    assert found.ids(Fault.REFERENCE_FAILS) == {"bad"}
    assert found.ids(Fault.EMPTY_PASSES) == frozenset()
