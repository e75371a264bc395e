"""Checks files of tasks and says what was found: the core of `coderl tasks check`. What runs the answers is handed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .tasks import TaskCounts, counts_by_source, read_tasks, shipped_tasks
from .types import Task
from .validate import Grader, Validation, validate

SHIPPED = "shipped"
"""Stands where the name of a file would: the tasks that come with the package."""


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of tasks."""

    name: str
    counts: tuple[TaskCounts, ...]
    found: Validation


@dataclass(frozen=True, slots=True)
class Checked:
    """All files, in the order named."""

    files: tuple[CheckedFile, ...]

    @property
    def good(self) -> bool:
        """No task is bad, and every answer could be graded."""
        return not any(one.found.bad or one.found.ungraded for one in self.files)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "good": self.good,
            "files": [
                {"file": one.name, "sources": [asdict(counts) for counts in one.counts], **one.found.to_json()}
                for one in self.files
            ],
        }

    def render(self, console: Any) -> None:
        """One table of counts, then the bad tasks with their reasons."""
        from rich.table import Table

        table = Table()
        table.add_column("source")
        for heading in ("tasks", "problems", "visible", "hidden", "one test", "untested", "bad", "ungraded"):
            table.add_column(heading, justify="right")
        for one in self.files:
            for number, counts in enumerate(one.counts):
                last = (str(len(one.found.bad)), str(len(one.found.ungraded))) if number == 0 else ("", "")
                cells = (counts.tasks, counts.problems, counts.visible_tests, counts.hidden_tests, counts.single_test)
                table.add_row(counts.source or one.name, *map(str, (*cells, counts.untested)), *last)
        console.print(table)
        for line in self._lines():
            console.print(line, highlight=False, markup=False)

    def _lines(self) -> Iterable[str]:
        for one in self.files:
            yield from (f"• {bad.task_id}: {bad.fault.sentence} ({bad.detail})." for bad in one.found.bad)
            yield from (f"• {name} could not be graded: {reason}." for name, reason in one.found.ungraded.items())
            if one.found.unproved:
                yield f"• {len(one.found.unproved)} tasks of {one.name} have no reference: they may have no solution."
        if self.good:
            yield "• No bad task: references pass, empty and constant answers do not."


def check_files(files: Sequence[str], grade: Grader, *, leave_out: frozenset[str] = frozenset()) -> Checked:
    """Read and validate files of tasks; `SHIPPED` names those of the package. Raises `TaskError` for a file that is none."""
    return Checked(tuple(_checked(name, grade, leave_out) for name in files))


def _checked(name: str, grade: Grader, leave_out: frozenset[str]) -> CheckedFile:
    tasks: list[Task]
    if name == SHIPPED:
        tasks = [task for task in shipped_tasks() if task.id not in leave_out]
    else:
        tasks = read_tasks(Path(name), leave_out=leave_out)
    return CheckedFile(name, tuple(counts_by_source(tasks)), validate(tasks, grade))
