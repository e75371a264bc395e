"""Our own JSON Lines: one task a line, as `task.schema.json` (beside this file) says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coderl_trainer.errors import TaskError
from coderl_trainer.types import Task, TaskKind, Tier
from coderl_trainer.visibility import visible_and_hidden

from .lines import collected, json_lines
from .schema import faults, task_schema


def load_tasks(path: Path, *, leave_out: frozenset[str] = frozenset()) -> list[Task]:
    """The tasks of a file. Raises `TaskError` with the line's number and everything that is wrong there."""
    schema = task_schema()
    return collected((task_of(row, where, schema) for where, row in json_lines(path)), path, leave_out)


def task_of(row: dict[str, Any], where: str, schema: dict[str, Any] | None = None) -> Task:
    """The task of one object; `where` begins the message of the `TaskError` that is raised where it is not one."""
    wrong = list(faults(row, schema or task_schema()))
    if "tests" in row and ("visible_tests" in row or "hidden_tests" in row):
        wrong.append("`tests` are split here; give either them or `visible_tests` and `hidden_tests`")
    if wrong:
        raise TaskError(f"{where}: {'; '.join(wrong)}.")
    values: dict[str, Any] = dict(row)
    if "tests" in values:
        values["visible_tests"], values["hidden_tests"] = visible_and_hidden(
            row.get("group_id") or row["id"], values.pop("tests")
        )
    values["kind"] = TaskKind(row["kind"])
    if "tier" in values:
        values["tier"] = Tier(row["tier"])
    for name in ("visible_tests", "hidden_tests"):
        values[name] = tuple(values.get(name, ()))
    values["metadata"] = MappingProxyType(dict(row.get("metadata", {})))
    try:
        return Task(**values)
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from error


def write_tasks(tasks: Iterable[Task], path: Path) -> int:
    """Write tasks as JSON Lines that `load_tasks` reads as the same tasks; how many. Raises `TaskError`."""
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for task in tasks:
                file.write(json.dumps(_row(task), ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise TaskError(f"{path} cannot be written: {error}.") from error
    return count


def _row(task: Task) -> dict[str, Any]:
    """Key → value of everything that is not as it would be without it."""
    row: dict[str, Any] = {}
    for one in fields(Task):
        value = getattr(task, one.name)
        if one.name in ("id", "kind", "prompt") or (value is not None and value not in ("", ()) and value != {}):
            row[one.name] = _plain(value)
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, MappingProxyType | dict) else value
