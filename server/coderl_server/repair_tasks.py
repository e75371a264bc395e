"""Which repairs a command means: files of repairs, or of other tasks that repairs are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .task_choice import read_all

if TYPE_CHECKING:
    from coderl_trainer.judge import Judge
    from coderl_trainer.recipe import SplitRecipe
    from coderl_trainer.repair.making import Made
    from coderl_trainer.repair.tasks import RepairTask
    from coderl_trainer.repair.training import RepairParts


def repairs_of(names: Sequence[str], *, seed: int = 0, unjailed_because: str = "") -> Made:
    """The repairs of all files, and of `shipped`; those that are no repairs yet are made, which runs their tests.

    Raises `TaskError`, for two repairs of one id too, and `JailMissing`.
    """
    from coderl_trainer.errors import TaskError
    from coderl_trainer.judge import open_judge
    from coderl_trainer.repair.making import MAKING, Made
    from coderl_trainer.repair.tasks import is_repairs, load_repairs
    from coderl_trainer.tasks import SHIPPED

    ready = [name for name in names if name != SHIPPED and Path(name).suffix != ".toml" and is_repairs(Path(name))]
    found = [repair for name in ready for repair in load_repairs(Path(name))]
    left_out: dict[str, str] = {}
    if others := [name for name in names if name not in ready]:
        with open_judge(limits=MAKING, unjailed_because=unjailed_because, ungraded_limit=1.0) as judge:
            made = _made(others, judge, seed)
        found, left_out = [*found, *made.repairs], made.left_out
    if len({repair.id for repair in found}) < len(found):
        raise TaskError("Two repairs have one id: name each file once.")
    if not found:
        raise TaskError(f"No repair can be made of {', '.join(names)}: they need references and hidden tests that fail.")
    return Made(tuple(found), left_out)


def _made(names: Sequence[str], judge: Judge, seed: int) -> Made:
    from rich.console import Console
    from rich.progress import Progress

    from coderl_trainer.repair.making import make_repairs

    tasks = read_all(names)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("making repairs", total=len(tasks))
        return make_repairs(tasks, judge, seed=seed, told=lambda done, of: progress.update(bar, completed=done, total=of))


def split_repairs(repairs: Sequence[RepairTask], recipe: SplitRecipe) -> RepairParts:
    """The repairs by part; no base problem is in two of them."""
    from coderl_trainer.repair.training import RepairParts
    from coderl_trainer.splits import Part, Shares, part_of

    shares = Shares(recipe.train, recipe.validation)
    parts = {part: tuple(one for one in repairs if part_of(one.problem, recipe.seed, shares) is part) for part in Part}
    return RepairParts(parts[Part.TRAIN], parts[Part.VALIDATION], parts[Part.HELD_OUT])


def agent_packages() -> list[Path]:
    """Where `simplecoder`, which is a command of this package, is imported from."""
    import coderl_server

    return [Path(coderl_server.__path__[0]).parent]


def task_files(names: Sequence[str]) -> list[Path]:
    """What agents must not read."""
    from coderl_trainer.tasks import SHIPPED

    return [Path(name) for name in names if name != SHIPPED]
