"""Which engine a recipe is trained with. The libraries of an engine are imported when one is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .model_choice import model_file

if TYPE_CHECKING:
    from coderl_trainer.engine import Engine
    from coderl_trainer.recipe import Recipe


def engine_of(recipe: Recipe) -> Engine:
    """The engine that `recipe.engine` names. Raises `EngineRefused` where it cannot be had, `InputError` for its model."""
    from coderl_trainer.engine import EngineName

    if recipe.engine is EngineName.TINKER:
        return _tinker(recipe)
    return _local(recipe)


def _local(recipe: Recipe) -> Engine:
    from coderl_trainer.local_engine import LocalEngine, LocalOptions

    return LocalEngine(
        LocalOptions(
            Path(recipe.model) if Path(recipe.model).is_dir() else Path(model_file(recipe.model)),
            lora_rank=recipe.lora_rank,
            lora_alpha=recipe.lora_alpha,
            device=recipe.device,
            threads=recipe.threads,
            seed=recipe.seed,
            max_positions=recipe.max_positions,
        )
    )


def _tinker(recipe: Recipe) -> Engine:
    from coderl_trainer.errors import EngineRefused
    from coderl_trainer.recipe import Recipe
    from coderl_trainer.tinker_engine import TinkerEngine, TinkerOptions

    if recipe.model == Recipe().model:
        raise EngineRefused("The engine `tinker` trains a base model of the service: name one with --model.")
    return TinkerEngine(TinkerOptions(recipe.model, lora_rank=recipe.lora_rank, seed=recipe.seed))
