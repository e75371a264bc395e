"""How a run is ended by Ctrl-C, how it goes on, and which options do not go together."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from coderl_trainer.recipe import Recipe

    from .training import TrainOptions


def hear_ctrl_c_once() -> None:
    """From now on the first Ctrl-C is a KeyboardInterrupt as ever, and further ones are ignored.

    A terminal's Ctrl-C reaches the launcher and every process that it started, and the launcher then sends it to them again:
    the second would fall into what the first one ends. Nothing changes where Ctrl-C is ignored already, as in a shell's
    background jobs, nor outside of the main thread, which alone hears it.
    """

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and current_thread() is main_thread():
        signal.signal(signal.SIGINT, first)


def way_on(run: Path) -> str:
    """How an ended run goes on, as a sentence that follows others."""
    from coderl_trainer.checkpoints import last_checkpoint
    from coderl_trainer.errors import RecipeError

    try:
        step, _ = last_checkpoint(run)
    except RecipeError:
        return f" No step of {run} is safe yet: start it anew."
    return f" The run is safe up to step {step}; go on with: coderl train --resume {shlex.quote(str(run))}"


def refuse_changes(options: TrainOptions, recipe: Recipe) -> None:
    """A run goes on as it began: raises `InputError` for options that would make another run of it, naming them. `recipe` is
    the one that the run noted."""
    given = {
        "a recipe": options.recipe is not None,
        "--set": bool(options.changes),
        "--tasks": bool(options.tasks),
        "--engine": options.engine is not None,
        "--model": options.model is not None,
        "--name": options.name is not None,
        "--runs": options.runs != type(options)().runs,
        "--include-simulated": options.include_simulated,
        "--gate": options.gate is not None,
        "--database": options.database is not None and recipe.log is None,
    }
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise InputError(
            f"{options.resume} goes on with what it was begun with: leave out {', '.join(named)}, or start a run anew without "
            "--resume."
        )
    if options.sft_only and (recipe.grpo.steps or recipe.log is not None):
        raise InputError(f"{options.resume} is a run of coderl train, not of coderl sft: go on with coderl train --resume.")


def refuse_without_log(options: TrainOptions) -> None:
    """Raises `InputError` for options that say which log is learned from, where none is."""
    given = {
        "--database": options.database is not None,
        "--gate": options.gate is not None,
        "--include-simulated": options.include_simulated,
    }
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise InputError(f"{', '.join(named)}: said of the log, and this run has none. Add --from-log, or leave it out.")
