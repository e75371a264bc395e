"""Whether tasks can be trusted: right answers must pass, and answers without thought must not.

A task is *bad* where its reference fails, or where an empty or constant answer passes: all tests (the task says nothing of a
model: leave it out everywhere), or the visible ones only (that answer gets the whole reward and a policy would learn it: leave
the task out of training; hidden tests still measure on it). Whatever runs the answers is a `Grader`; this module runs nothing.

Covered: references against all tests, visible and hidden; the empty answer; the constants of `CONSTANTS`, written where the
reference begins; tasks without tests are named. Not covered: a test that is wrong where the reference is wrong too, tests that
let other wrong answers pass, and tasks whose answer the grader cannot judge (they are counted as ungraded, with its reason).
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from .types import Task, TaskKind


@dataclass(frozen=True, slots=True)
class Graded:
    """What the tests say of one answer."""

    visible: bool
    """Every visible test passed."""
    hidden: bool
    """Every hidden test passed; True where there is none."""
    detail: str = ""
    """What failed first, in a few words."""

    @property
    def passed(self) -> bool:
        return self.visible and self.hidden


@dataclass(frozen=True, slots=True)
class NotGraded:
    """The grader could not tell; nothing is known of the answer."""

    reason: str


class Grader(Protocol):
    """Runs answers. One call takes many, so that it may run several at once."""

    def __call__(self, answers: Sequence[tuple[Task, str]]) -> Sequence[Graded | NotGraded]:
        """The result of every (task, completion), in order. Raises only where nothing at all can be graded."""
        ...


class Fault(StrEnum):
    """Why a task is bad, the worst first."""

    REFERENCE_FAILS = "reference_fails"
    EMPTY_PASSES = "empty_passes"
    CONSTANT_PASSES = "constant_passes"
    EMPTY_REWARDED = "empty_rewarded"
    """It passes the visible tests, and the hidden ones stop it."""
    CONSTANT_REWARDED = "constant_rewarded"
    """The same of a constant."""

    @property
    def sentence(self) -> str:
        """What is wrong, for a person."""
        return _SENTENCES[self]


_SENTENCES: Mapping[Fault, str] = MappingProxyType(
    {
        Fault.REFERENCE_FAILS: "its own reference fails",
        Fault.EMPTY_PASSES: "an answer without text passes",
        Fault.CONSTANT_PASSES: "a constant passes",
        Fault.EMPTY_REWARDED: "an answer without text passes the visible tests",
        Fault.CONSTANT_REWARDED: "a constant passes the visible tests",
    }
)

_WORST = tuple(Fault)
_REWARDED: Mapping[Fault, Fault] = MappingProxyType(
    {Fault.EMPTY_PASSES: Fault.EMPTY_REWARDED, Fault.CONSTANT_PASSES: Fault.CONSTANT_REWARDED}
)


@dataclass(frozen=True, slots=True)
class BadTask:
    """One task, one fault."""

    task_id: str
    fault: Fault
    detail: str
    """The constant, or what the reference failed at."""


CONSTANTS: Mapping[TaskKind, tuple[str, ...]] = MappingProxyType(
    {
        TaskKind.INFILL: ("pass", "None", "0", "return None"),
        TaskKind.FUNCTION: ("pass", "return 0", "return True", "return False", "return []", 'return ""'),
        TaskKind.REPAIR: ("pass", "return 0", "return True", "return False", "return []", 'return ""'),
    }
)
"""Answers without thought, by what is asked for."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found. `to_json` is what `coderl tasks check --json` prints."""

    tasks: int
    checked: int
    """Tasks with tests and a reference that was graded."""
    bad: tuple[BadTask, ...]
    """In the order of the tasks; one row per task, its worst fault."""
    ungraded: Mapping[str, str]
    """Task id → why an answer of it could not be graded."""
    untested: tuple[str, ...]
    """Ids of tasks without tests: an answer can only be compared with the reference."""
    unproved: tuple[str, ...]
    """Ids of tasks with tests but without a reference: whether the tests can be met is not known."""

    def ids(self, fault: Fault) -> frozenset[str]:
        """The tasks with that fault, for a reader's `leave_out`."""
        return frozenset(one.task_id for one in self.bad if one.fault is fault)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "tasks": self.tasks,
            "checked": self.checked,
            "bad": [{"id": one.task_id, "fault": one.fault.value, "detail": one.detail} for one in self.bad],
            "by_fault": dict(sorted(Counter(one.fault.value for one in self.bad).items())),
            "ungraded": dict(self.ungraded),
            "untested": list(self.untested),
            "without_reference": list(self.unproved),
        }


def validate(tasks: Sequence[Task], grade: Grader) -> Validation:
    """Grade the reference, the empty answer and the constants of every task that has tests.

    A constant that says the same as the reference (`return 0` where `return False` is right) is no fault.
    """
    tested = [task for task in tasks if task.visible_tests]
    tries = [(task, fault, text) for task in tested for fault, text in _answers(task)]
    results = grade([(task, text) for task, _, text in tries])
    bad: dict[str, BadTask] = {}
    ungraded: dict[str, str] = {}
    checked: set[str] = set()
    for (task, fault, text), result in zip(tries, results, strict=True):
        if isinstance(result, NotGraded):
            ungraded.setdefault(task.id, result.reason)
            continue
        if fault is Fault.REFERENCE_FAILS:
            checked.add(task.id)
        if found := _fault(task, fault, text, result):
            bad[task.id] = min(bad.get(task.id, found), found, key=lambda one: _WORST.index(one.fault))
    return Validation(
        tasks=len(tasks),
        checked=len(checked),
        bad=tuple(bad.values()),
        ungraded=MappingProxyType(ungraded),
        untested=tuple(task.id for task in tasks if not task.visible_tests),
        unproved=tuple(task.id for task in tested if task.reference is None),
    )


def _fault(task: Task, fault: Fault, text: str, result: Graded) -> BadTask | None:
    """What the result of an answer shows; None where it is as it should be."""
    if fault is Fault.REFERENCE_FAILS:
        return None if result.passed else BadTask(task.id, fault, result.detail)
    shown = text.strip() or "an empty answer"
    if result.passed:
        return BadTask(task.id, fault, shown)
    return BadTask(task.id, _REWARDED[fault], shown) if result.visible else None


def _answers(task: Task) -> list[tuple[Fault, str]]:
    """What is tried, with the fault that it would show."""
    reference = task.reference or ""
    indent = reference[: len(reference) - len(reference.lstrip(" \t"))]
    answers = [] if task.reference is None else [(Fault.REFERENCE_FAILS, reference)]
    answers += [(Fault.EMPTY_PASSES, "")] if reference.strip() or task.reference is None else []
    constants = (constant for constant in CONSTANTS[task.kind] if not _says_the_same(constant, reference))
    return answers + [(Fault.CONSTANT_PASSES, indent + constant) for constant in constants]


def _says_the_same(constant: str, reference: str) -> bool:
    """Whether the two are the same expression or return equal values."""
    if constant == reference.strip():
        return True
    values = [_returned(text) for text in (constant, reference.strip())]
    return None not in values and values[0] == values[1]


def _returned(text: str) -> tuple[Any] | None:
    """The literal that a text gives back or is; None where it is anything else."""
    try:
        return (ast.literal_eval(text.removeprefix("return").strip()),)
    except (ValueError, SyntaxError):
        return None
