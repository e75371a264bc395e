"""Which engine a recipe is trained with. The libraries of an engine are imported when one is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .model_choice import model_file

if TYPE_CHECKING:
    from coderl_trainer.engine import Engine
    from coderl_trainer.local_model import LocalOptions
    from coderl_trainer.processes import Processes
    from coderl_trainer.recipe import Recipe


def engine_of(recipe: Recipe, processes: Processes) -> Engine:
    """The engine that `recipe.engine` names, by this process and those it leads.

    Raises `EngineRefused` where it cannot be had, `InputError` for its model.
    """
    from coderl_trainer.engine import EngineName
    from coderl_trainer.errors import EngineRefused

    if recipe.engine is EngineName.LOCAL:
        from coderl_trainer.local_engine import LocalEngine

        return LocalEngine(local_options(recipe), processes)
    if processes.count > 1:
        raise EngineRefused(f"The engine {recipe.engine} runs in one process: start it without a launcher.")
    if recipe.engine is EngineName.TRL:
        raise EngineRefused("The engine trl can do the GRPO part of `coderl train` on tasks; take `local` for the rest.")
    raise EngineRefused(f"The engine {recipe.engine} is not there yet; take `local`.")


def local_options(recipe: Recipe) -> LocalOptions:
    """How a model in this process is held. Raises `InputError` for a model that is not there."""
    from coderl_trainer.local_model import LocalOptions

    return LocalOptions(
        Path(recipe.model) if Path(recipe.model).is_dir() else Path(model_file(recipe.model)),
        lora_rank=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        device=recipe.device,
        threads=recipe.threads,
        seed=recipe.seed,
        max_positions=recipe.max_positions,
    )
