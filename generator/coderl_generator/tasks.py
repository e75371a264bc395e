"""Infilling tasks: a text with a gap, and what judges the text put into it.

Two forms, JSON Lines, gzip or not, told apart by their keys:

- ours: `id`, `prefix`, `suffix`, and `test` or `answer` or both; also `entry_point`, `language` (default `python`), `path`,
  `group` (the base problem), `tier`. `test` is Python that runs with the names of the finished text in scope and raises where
  it is wrong; with `entry_point` it defines `check`, which is called with that name. `answer` is the text that was there.
- HumanEval-infilling (Bavarian et al. 2022): `task_id`, `entry_point`, `prompt`, `suffix`, `canonical_solution`, `test`. Where
  whole lines are missing, the place is on an empty line of their own: the line break after the gap belongs to the suffix.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_generator.errors import BadTask
from coderl_generator.prompt import Place

_HUMANEVAL = ("task_id", "entry_point", "prompt", "suffix", "canonical_solution", "test")


@dataclass(frozen=True, slots=True)
class InfillTask:
    """One gap."""

    id: str
    prefix: str
    suffix: str
    answer: str | None = None
    """The text that was there, without the line break that ends it."""
    tests: str = ""
    """Empty = nothing can be run, only compared with `answer`."""
    entry_point: str = ""
    language: str = "python"
    path: str = ""
    group: str = ""
    """The base problem: rows of one group are no independent tasks, and are never split between training and test."""
    tier: str = ""
    """How hard its author says it is; empty = not said."""

    @property
    def place(self) -> Place:
        return Place(self.prefix, self.suffix, self.language, self.path)

    def program(self, text: str) -> str:
        """The whole text with `text` in the gap."""
        return self.prefix + text + self.suffix

    def is_exactly(self, text: str) -> bool:
        """`text` is what was there, blanks at its end aside."""
        return self.answer is not None and self.answer.rstrip() == text.rstrip()


def read_tasks(path: Path) -> list[InfillTask]:
    """The tasks of a file. Raises `BadTask` with the line's number where one is not usable, or the file is not."""
    tasks: list[InfillTask] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    tasks.append(_task(line, f"{path} line {number}"))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadTask(f"{path} cannot be read: {error}") from error
    if not tasks:
        raise BadTask(f"{path} holds no tasks")
    if len({task.id for task in tasks}) < len(tasks):
        raise BadTask(f"{path} holds two tasks of the same id")
    return tasks


def _task(line: str, where: str) -> InfillTask:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadTask(f"{where} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise BadTask(f"{where} is no JSON object")
    wrong = [name for name, value in row.items() if not isinstance(value, str) and value is not None]
    row = {name: value for name, value in row.items() if isinstance(value, str)}
    if all(name in row for name in _HUMANEVAL):
        return _humaneval(row)
    missing = [name for name in ("id", "prefix", "suffix") if name not in row]
    if missing:
        raise BadTask(f"{where} lacks {', '.join(missing)}" + (f" ({', '.join(wrong)}: no text)" if wrong else ""))
    if not row.get("test") and "answer" not in row:
        raise BadTask(f"{where} has neither `test` nor `answer`: nothing could judge it")
    return InfillTask(
        id=row["id"],
        prefix=row["prefix"],
        suffix=row["suffix"],
        answer=row.get("answer"),
        tests=row.get("test", ""),
        entry_point=row.get("entry_point", ""),
        language=row.get("language", "python"),
        path=row.get("path", ""),
        group=row.get("group", ""),
        tier=row.get("tier", ""),
    )


def _humaneval(row: Mapping[str, Any]) -> InfillTask:
    whole_lines = row["canonical_solution"].endswith("\n") and (not row["prompt"] or row["prompt"].endswith("\n"))
    name = str(row["task_id"])
    return InfillTask(
        id=name,
        prefix=row["prompt"],
        suffix="\n" + row["suffix"] if whole_lines else row["suffix"],
        answer=row["canonical_solution"].removesuffix("\n") if whole_lines else row["canonical_solution"],
        tests=row["test"],
        entry_point=row["entry_point"],
        group="/".join(name.split("/")[1:3]),
    )
