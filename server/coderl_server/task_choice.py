"""Which tasks a command means: files, and the part of them that a recipe or a run keeps for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from .errors import InputError

if TYPE_CHECKING:
    from coderl_trainer.recipe import Recipe, SplitRecipe
    from coderl_trainer.splits import Splits
    from coderl_trainer.types import Task

ALL: Final = "all"
PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {"train": "train", "validation": "validation", "held-out": "held_out", "kept-apart": "apart"}
)
"""A part as `--part` names it → its name in `coderl_trainer.splits.Part`."""
_EMPTY: Final = "the part {part} of these tasks is empty{why}. Name other --tasks, or another --part."
_LEARNED: Final = "{run} learned from tasks of the part {part}: how many of them are solved says nothing about other tasks."


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """Tasks by the names of their files, and a part of them."""

    names: tuple[str, ...] = ()
    """Files, or `shipped`; empty = those of the run or the recipe."""
    part: str | None = None
    """A key of `PARTS`, or `all`. None = `held-out` where a run or a recipe is named, else `all`."""
    run: Path | None = None
    """A run's folder: tasks and split are those of its configuration."""
    recipe: Path | None = None
    """A recipe's file or name; the same."""
    split_seed: int | None = None
    """None = as the run or the recipe says, else the recipes' default; so for the shares."""
    split_train: float | None = None
    split_validation: float | None = None

    @property
    def given(self) -> bool:
        """Whether any tasks are meant."""
        return bool(self.names) or self.run is not None or self.recipe is not None

    @property
    def chosen_part(self) -> str:
        """The part that is meant."""
        return self.part or (ALL if self.run is None and self.recipe is None else "held-out")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes figures over these tasks doubtful."""
        if self.run is None or self.chosen_part not in ("train", ALL):
            return ()
        return (_LEARNED.format(run=self.run, part=self.chosen_part),)

    def tasks(self) -> list[Task]:
        """The tasks, in the order of their files. Raises `InputError` where there are none or something cannot be read."""
        from coderl_trainer.errors import TrainerError

        if self.chosen_part not in (*PARTS, ALL):
            raise InputError(f"--part must be one of {', '.join((*PARTS, ALL))}, not {self.part!r}.")
        shares = {"seed": self.split_seed, "train": self.split_train, "validation": self.split_validation}
        named = [f"--split-{name}" for name, value in shares.items() if value is not None]
        if self.chosen_part == ALL and named:
            raise InputError(f"{', '.join(named)}: all tasks are meant, so nothing is shared out. Say which part with --part.")
        try:
            recipe = self._recipe()
        except TrainerError as error:
            raise InputError(f"{'--recipe' if self.run is None else '--run'} cannot be used: {error}") from error
        try:
            if self.chosen_part == ALL:
                return read_all(self.names or recipe.tasks)
            found = split_of(self.names or recipe.tasks, self._split(recipe.split))
        except TrainerError as error:
            raise InputError(f"--tasks cannot be used: {error}") from error
        tasks: tuple[Task, ...] = getattr(found, PARTS[self.chosen_part])
        if not tasks:
            why = ": only MBPP has tasks that are kept apart" if self.chosen_part == "kept-apart" else ""
            raise InputError(f"--tasks cannot be used: {_EMPTY.format(part=self.chosen_part, why=why)}")
        return list(tasks)

    def _recipe(self) -> Recipe:
        from coderl_trainer.recipe import Recipe, read_recipe, recipe_of
        from coderl_trainer.run_files import CONFIG, read_json

        if self.run is not None and self.recipe is not None:
            raise InputError("--run and --recipe both say which tasks are meant: give one of them.")
        if self.run is not None:
            path = self.run / CONFIG
            try:
                return recipe_of(read_json(path))
            except ValueError as error:  # `RunError`, `RecipeError`
                raise InputError(f"--run {self.run} is no run of `coderl train`: {path} cannot be used ({error}).") from error
        return Recipe() if self.recipe is None else read_recipe(self.recipe)

    def _split(self, split: SplitRecipe) -> SplitRecipe:
        return replace(
            split,
            seed=split.seed if self.split_seed is None else self.split_seed,
            train=split.train if self.split_train is None else self.split_train,
            validation=split.validation if self.split_validation is None else self.split_validation,
        )


def read_all(names: Sequence[str]) -> list[Task]:
    """The tasks of all files, or `shipped`. Raises `TaskError`, for two tasks of one id too."""
    from coderl_trainer.errors import TaskError
    from coderl_trainer.tasks import SHIPPED, read_tasks, shipped_tasks

    tasks: dict[str, Task] = {}
    for name in names:
        for task in shipped_tasks() if name == SHIPPED else read_tasks(Path(name)):
            if task.id in tasks:
                raise TaskError(f"{name} holds a task of the id {task.id}, and so does another of the files.")
            tasks[task.id] = task
    return list(tasks.values())


def split_of(names: Sequence[str], recipe: SplitRecipe) -> Splits:
    """The tasks by part, without those that leave nothing to go on from. Raises `TaskError`."""
    from coderl_trainer.splits import Shares, split

    tasks = [task for task in read_all(names) if task.prompt.strip()]
    return split(tasks, recipe.seed, Shares(recipe.train, recipe.validation))
