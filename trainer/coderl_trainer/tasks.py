"""Files of tasks: which form a file has, and what there is of them.

| form | told by | licence |
| --- | --- | --- |
| ours, JSON Lines | the keys `id`, `kind` | as the file says |
| ours, TOML with marked gaps | the ending `.toml` | as the file says |
| MBPP | `text`, `code`, `test_list` | CC BY 4.0 |
| QuixBugs | `buggy`, `correct`, `cases` | MIT |
| HumanEval-infilling | `prompt`, `suffix`, `canonical_solution` | MIT |
| the gaps of `coderl eval` | `prefix`, `suffix` | none given |

JSON Lines may be gzipped. Every reader splits the tests of a task by `coderl_trainer.visibility`, takes a set of ids to leave
out, and raises `TaskError` with file and line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from .errors import TaskError
from .task_formats.gaps import load_gaps as load_gaps
from .task_formats.infilling import load_humaneval_infilling as load_humaneval_infilling
from .task_formats.lines import json_lines
from .task_formats.mbpp import load_mbpp as load_mbpp
from .task_formats.own import load_tasks as load_tasks
from .task_formats.own import write_tasks as write_tasks
from .task_formats.quixbugs import load_quixbugs as load_quixbugs
from .types import Task

_BY_KEYS = (
    (frozenset(("text", "code", "test_list")), load_mbpp),
    (frozenset(("buggy", "correct", "cases")), load_quixbugs),
    (frozenset(("prompt", "suffix", "canonical_solution")), load_humaneval_infilling),
    (frozenset(("prefix", "suffix")), load_humaneval_infilling),
    (frozenset(("id", "kind")), load_tasks),
)
_SHIPPED = "editor_places.toml"


def read_tasks(path: Path, *, leave_out: frozenset[str] = frozenset()) -> list[Task]:
    """The tasks of a file of any form of this module. Raises `TaskError`."""
    if path.suffix == ".toml":
        return load_gaps(path, leave_out=leave_out)
    for where, row in json_lines(path):
        for keys, load in _BY_KEYS:
            if keys <= row.keys():
                return load(path, leave_out=leave_out)
        raise TaskError(f"{where} is of no known form: a task of ours needs `id`, `kind` and `prompt`.")
    raise TaskError(f"{path} holds no tasks.")


def shipped_tasks() -> list[Task]:
    """The tasks that come with this package: places in an editor, three tiers, with tests."""
    with as_file(files("coderl_trainer") / "data" / _SHIPPED) as path:
        return load_gaps(path)


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """How many tasks and tests there are of one source."""

    source: str
    tasks: int
    problems: int
    visible_tests: int
    hidden_tests: int
    single_test: int
    """Tasks whose only test is visible: nothing is hidden of them."""
    untested: int
    """Tasks without tests: an answer can only be compared with the reference."""


def counts_by_source(tasks: Iterable[Task]) -> list[TaskCounts]:
    """Counts per `Task.source`, by name; tasks without a source stand under the empty name."""
    by_source: dict[str, list[Task]] = {}
    for task in tasks:
        by_source.setdefault(task.source, []).append(task)
    return [
        TaskCounts(
            source=source,
            tasks=len(found),
            problems=len({task.problem for task in found}),
            visible_tests=sum(len(task.visible_tests) for task in found),
            hidden_tests=sum(len(task.hidden_tests) for task in found),
            single_test=sum(len(task.visible_tests) == 1 and not task.hidden_tests for task in found),
            untested=sum(not task.visible_tests for task in found),
        )
        for source, found in sorted(by_source.items())
    ]
