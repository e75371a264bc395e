"""JSON Lines, gzip or not, one object a line, with errors that name the line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from coderl_trainer.errors import TaskError
from coderl_trainer.types import Task


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(Where it stands, object) of every line that is not blank. Raises `TaskError` for a file or line that cannot be read."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path} line {number}", _object(line, f"{path} line {number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {error}.") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise TaskError(f"{where} is no JSON: {error}.") from error
    if not isinstance(row, dict):
        raise TaskError(f"{where} is no JSON object.")
    return row


def field_of(row: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """The value of a key that must be there and of that type. Raises `TaskError`."""
    if name not in row:
        raise TaskError(f"{where} lacks `{name}`.")
    if not isinstance(row[name], kind):
        raise TaskError(f"{where}: `{name}` is {type(row[name]).__name__}, not {kind.__name__}.")
    return row[name]


def texts_of(row: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    """The texts of a key that holds a list of them. Raises `TaskError`."""
    values = field_of(row, name, list, where)
    if not all(isinstance(value, str) for value in values):
        raise TaskError(f"{where}: `{name}` holds something else than texts.")
    return tuple(values)


def collected(tasks: Iterable[Task], path: Path, leave_out: frozenset[str]) -> list[Task]:
    """The tasks but those left out by id. Raises `TaskError` where there are none, or two of one id."""
    kept: dict[str, Task] = {}
    found = False
    for task in tasks:
        found = True
        if task.id in kept:
            raise TaskError(f"{path} holds two tasks of the id {task.id}.")
        if task.id not in leave_out:
            kept[task.id] = task
    if not found:
        raise TaskError(f"{path} holds no tasks.")
    return list(kept.values())
