"""What the judge says of a program."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from coderl_generator.jail import Guarantee


class Outcome(StrEnum):
    """How one test ended."""

    PASSED = "passed"
    FAILED = "failed"
    """The answer is not what the test wants, or is no plain data, or the program does not answer any more."""
    RAISED = "raised"
    """The program raised what the test does not want."""
    TIMED_OUT = "timed_out"


class Cause(StrEnum):
    """Why nothing is known of a program."""

    TASK = "task"
    """Its tests cannot be judged: a property of the task, the same for every program."""
    GRADER = "grader"
    """The jail or the machine did not do its work; another try may help."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test. The message never holds an expected value."""

    __test__ = False  # the name is not for pytest

    outcome: Outcome
    message: str = ""

    @property
    def passed(self) -> bool:
        """The only outcome that counts for the program."""
        return self.outcome is Outcome.PASSED


@dataclass(frozen=True, slots=True)
class Judgement:
    """One program and its tests."""

    compiled: bool
    visible: tuple[TestResult, ...]
    hidden: tuple[TestResult, ...]
    cpu_ms: float | None
    """Processor time of the program's own process, its start included; None where it could not be read any more."""
    guarantees: frozenset[Guarantee]
    """What the jail held back."""

    @property
    def passed(self) -> bool:
        """Every visible test passed, and there is one."""
        return bool(self.visible) and all(test.passed for test in self.visible)

    @property
    def passed_hidden(self) -> bool | None:
        """Every hidden test passed; None without any."""
        return all(test.passed for test in self.hidden) if self.hidden else None

    @property
    def solved(self) -> bool:
        """Every test passed, visible and hidden."""
        return self.passed and self.passed_hidden is not False


@dataclass(frozen=True, slots=True)
class Ungraded:
    """Nothing is known of the program. Never a reward, not even 0."""

    reason: str
    cause: Cause
