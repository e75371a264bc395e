"""Repair tasks: a repository at a base commit, what is wrong with it in words, and hidden tests of a right repair.

Files are JSON Lines in the form of `repair.schema.json` (beside this file), which takes the rows of SWE-Gym and SWE-bench as
far as their keys go: `instance_id`, `repo` (a clone on this machine: nothing is downloaded), `base_commit`, `patch`,
`test_patch`, `FAIL_TO_PASS`, `PASS_TO_PASS`. Tests are of two forms, one for a task:

- *statements* (`fail_to_pass`, `pass_to_pass`), judged as every other answer is (`coderl_trainer.judge`): the repaired module
  answers calls in a jail, comparisons are made in another one. An exit status, a patched test runner or a forged result count
  for nothing there.
- *ids* of a test suite (`FAIL_TO_PASS`, `PASS_TO_PASS` with `test_patch`): the suite runs in a jail beside the code it tests,
  so code that is written to deceive a test runner can. See `suite`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from coderl_trainer.errors import TaskError
from coderl_trainer.task_formats.lines import json_lines
from coderl_trainer.task_formats.schema import faults
from coderl_trainer.types import Tier

from .trees import Entry, Tree, checked_path

_SPELLINGS: Final[Mapping[str, str]] = MappingProxyType(
    {"instance_id": "id", "FAIL_TO_PASS": "fail_ids", "PASS_TO_PASS": "pass_ids"}
)
_LISTS: Final = ("visible_tests", "fail_to_pass", "pass_to_pass", "fail_ids", "pass_ids", "protected")


@dataclass(frozen=True, slots=True)
class RepairTask:
    """One broken repository. Raises `TaskError` where it cannot be repaired or nothing could judge a repair."""

    id: str
    problem_statement: str
    """What the agent is told."""
    patch: str
    """A right fix: a unified diff from the base. Never in the agent's reach."""
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """The repository at the base commit, path → text; empty = it is in `repo`."""
    repo: str = ""
    """Absolute path of a git repository that holds `base_commit`."""
    base_commit: str = ""
    module: str = ""
    """Path of the module that statements call."""
    entry_point: str = ""
    setup: str = ""
    visible_tests: tuple[str, ...] = ()
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    test_patch: str = ""
    fail_ids: tuple[str, ...] = ()
    pass_ids: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    group_id: str = ""
    tier: Tier | None = None
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        wrong = _contradiction(self)
        if wrong:
            raise TaskError(f"Repair task {self.id}: {wrong}.")
        try:
            for path in (*self.files, *self.protected, *([self.module] if self.module else ())):
                checked_path(path)
        except ValueError as error:
            raise TaskError(f"Repair task {self.id}: {error}.") from error

    @property
    def problem(self) -> str:
        """The base problem; tasks of one problem are no independent tasks."""
        return self.group_id or self.id

    @property
    def by_suite(self) -> bool:
        """Whether ids of a test suite judge it, not statements."""
        return bool(self.fail_ids)

    @property
    def tree(self) -> Tree:
        """Its inline files."""
        return {name: Entry(text.encode()) for name, text in self.files.items()}


def _contradiction(task: RepairTask) -> str:
    if bool(task.files) == bool(task.repo):
        return "give either `files` or `repo`"
    if task.repo and not task.base_commit:
        return "`repo` needs `base_commit`"
    if bool(task.fail_to_pass) == bool(task.fail_ids):
        return "give either `fail_to_pass` (statements) or `FAIL_TO_PASS` (ids of tests)"
    if task.fail_to_pass and not task.module:
        return "`fail_to_pass` needs `module`, the path of what the tests call"
    if task.module and PurePosixPath(task.module).suffix != ".py":
        return f"the module {task.module} is no Python file"
    if task.files and task.module and task.module not in task.files:
        return f"there is no file {task.module} in `files`"
    return ""


def repair_schema() -> dict[str, Any]:
    """The schema of one line."""
    text = files(__package__).joinpath("repair.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def load_repairs(path: Path) -> list[RepairTask]:
    """The tasks of a file. Raises `TaskError` with the line's number and everything that is wrong there."""
    schema = repair_schema()
    found: dict[str, RepairTask] = {}
    for where, row in json_lines(path):
        task = repair_of(row, where, path.parent, schema)
        if task.id in found:
            raise TaskError(f"{where}: there are two tasks of the id {task.id}.")
        found[task.id] = task
    if not found:
        raise TaskError(f"{path} holds no tasks.")
    return list(found.values())


def repair_of(row: Mapping[str, Any], where: str, folder: Path, schema: dict[str, Any] | None = None) -> RepairTask:
    """The task of one object; `repo` is relative to `folder`. `where` begins the message of a `TaskError`."""
    given = {name: _listed(value) if name in ("FAIL_TO_PASS", "PASS_TO_PASS") else value for name, value in row.items()}
    wrong = list(faults(given, schema or repair_schema()))
    if wrong:
        raise TaskError(f"{where}: {'; '.join(wrong)}.")
    values: dict[str, Any] = {_SPELLINGS.get(name, name): value for name, value in given.items()}
    for name in _LISTS:
        values[name] = tuple(values.get(name, ()))
    if "tier" in values:
        values["tier"] = Tier(values["tier"])
    if "repo" in values:
        values["repo"] = str((folder / values["repo"]).absolute())
    try:
        return RepairTask(**values)
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from error


def write_repairs(tasks: Iterable[RepairTask], path: Path) -> int:
    """Write tasks as JSON Lines that `load_repairs` reads as the same; how many. Raises `TaskError`."""
    spelled = {name: key for key, name in _SPELLINGS.items() if name != "id"}
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for task in tasks:
                row = {spelled.get(name, name): _plain(getattr(task, name)) for name in task.__dataclass_fields__}
                file.write(json.dumps({name: value for name, value in row.items() if value}, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise TaskError(f"{path} cannot be written: {error}.") from error
    return count


def is_repairs(path: Path) -> bool:
    """Whether the first line of a file is a repair task. Raises `TaskError` for one that cannot be read."""
    for _, row in json_lines(path):
        return "patch" in row and "problem_statement" in row
    return False


def _listed(value: Any) -> Any:
    """SWE-bench keeps lists of ids as JSON in a text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Tier):
        return value.value
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
