"""Which tasks are learned from and which ones judge. Pure.

Split is the *problem* (`Task.problem`), never the task: the 1,197 gaps of HumanEval share 164 problems, and MBPP holds some
tasks twice. A problem's part follows from a hash of the seed and its name, so it does not depend on the order of the tasks or
on what else is split, and a new file moves nothing. Parts:

- `train`: learned from.
- `validation`: recipes, checkpoints and stopping are chosen by it.
- `held_out`: what a run reports before and after.
- `apart`: MBPP's 500 official test tasks (ids 11–510). Nothing is chosen by them and they are run once, at the end. They are
  kept apart because their ids are official, so that others' figures are on the same tasks; because 495 different problems
  give an interval of about ± 4 points, where QuixBugs' 31 would give ± 18; and because whole functions show whether learning to
  fill gaps has harmed the rest.

Of MBPP the official validation tasks (511–600) are `validation`; its train tasks (601–974) and the ten that others show as
examples (1–10) are `train`. Where a problem has tasks in several official parts, the most reserved part keeps it and the other
tasks are left out. QuixBugs, HumanEval and our own tasks go by the hash.

Not covered: problems that are alike under different names, in two sources or in one (MBPP asks for much the same again and
again), and what the base model has seen: all public sets are in its training data, so differences count and levels do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from .errors import TaskError
from .types import Task


class Part(StrEnum):
    """What tasks are for, from the least to the most reserved."""

    TRAIN = "train"
    VALIDATION = "validation"
    HELD_OUT = "held_out"
    APART = "apart"


OFFICIAL: Mapping[str, Part] = MappingProxyType(
    {"prompt": Part.TRAIN, "train": Part.TRAIN, "validation": Part.VALIDATION, "test": Part.APART}
)
"""`Task.metadata["part"]`, as the data's authors name it → part."""

_RESERVED = tuple(Part)


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the problems that go by the hash; the rest is `held_out`. Raises `TaskError` where they are no shares."""

    train: float = 0.6
    validation: float = 0.1

    def __post_init__(self) -> None:
        if not (self.train >= 0 and self.validation >= 0 and self.train + self.validation <= 1):
            raise TaskError(f"The shares {self.train} and {self.validation} must be at least 0 and at most 1 together.")


@dataclass(frozen=True, slots=True)
class Splits:
    """The tasks of every part, each in the order given."""

    train: tuple[Task, ...]
    validation: tuple[Task, ...]
    held_out: tuple[Task, ...]
    apart: tuple[Task, ...]
    left_out: tuple[Task, ...]
    """Their problem is in a more reserved part."""

    def part(self, part: Part) -> tuple[Task, ...]:
        """The tasks of one part."""
        tasks: tuple[Task, ...] = getattr(self, part.value)
        return tasks


def part_of(problem: str, seed: int = 0, shares: Shares | None = None) -> Part:
    """The part of a problem that has no official one."""
    shares = shares or Shares()
    drawn = hashlib.sha256(f"{seed}\0{problem}".encode()).digest()
    at = int.from_bytes(drawn[:8], "big") / 2**64
    if at < shares.train:
        return Part.TRAIN
    return Part.VALIDATION if at < shares.train + shares.validation else Part.HELD_OUT


def split(tasks: Iterable[Task], seed: int = 0, shares: Shares | None = None) -> Splits:
    """The tasks by part; no problem is in two of them. Raises `TaskError` for an official part that is not known."""
    tasks = tuple(tasks)
    wanted = [_wanted(task, seed, shares) for task in tasks]
    of_problem: dict[str, Part] = {}
    for task, part in zip(tasks, wanted, strict=True):
        before = of_problem.get(task.problem, part)
        of_problem[task.problem] = max(before, part, key=_RESERVED.index)
    found: dict[Part | None, list[Task]] = {part: [] for part in (*Part, None)}
    for task, part in zip(tasks, wanted, strict=True):
        found[part if part is of_problem[task.problem] else None].append(task)
    parts = {part.value: tuple(found[part]) for part in Part}
    return Splits(**parts, left_out=tuple(found[None]))


def _wanted(task: Task, seed: int, shares: Shares | None) -> Part:
    name = task.metadata.get("part")
    if name is None:
        return part_of(task.problem, seed, shares)
    if name not in OFFICIAL:
        raise TaskError(f"Task {task.id} is in the part {name!r}; known are {', '.join(OFFICIAL)}.")
    return OFFICIAL[name]
