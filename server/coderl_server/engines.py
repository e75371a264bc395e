"""Which engine a recipe is trained with, and its judge. The libraries of an engine are imported when one is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .model_choice import model_file

if TYPE_CHECKING:
    from coderl_trainer.engine import Engine
    from coderl_trainer.judge import Judge
    from coderl_trainer.local_model import LocalOptions
    from coderl_trainer.processes import Processes
    from coderl_trainer.recipe import Recipe


GRPO_ONLY: Final = "The engine trl can do the GRPO part of `coderl train` on tasks; take `local` for the rest."


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
    if recipe.engine is EngineName.TINKER:
        return _tinker(recipe)
    raise EngineRefused(GRPO_ONLY)


def judge_of(recipe: Recipe, unjailed_because: str) -> Judge:
    """The judge of what is sampled. Raises `JailMissing` where there is no jail and no reason for none."""
    from coderl_trainer.judge import JudgeLimits, open_judge

    limits = JudgeLimits.of(recipe.judge_cpu_s)
    return open_judge(limits=limits, parallel=recipe.judge_parallel, unjailed_because=unjailed_because)


@contextmanager
def sampling_of(recipe: Recipe, engine: Engine, run: Path) -> Iterator[Engine]:
    """`engine`, or where the recipe names a server for samples, one that learns with `engine` and samples there; its adapters
    lie in the folder of the run. Raises `EngineRefused` and `EngineFailed` where the server is not as it must be."""
    asked = recipe.rollouts
    if not asked.server:
        yield engine
        return
    from coderl_generator.errors import GeneratorError
    from coderl_generator.vllm_client import VllmClient
    from coderl_trainer.errors import EngineRefused
    from coderl_trainer.run_files import ADAPTERS
    from coderl_trainer.served_engine import ServedEngine, ServedOptions

    try:
        client = VllmClient(asked.server, timeout_s=asked.timeout_s, api_key_env=asked.api_key_env, connections=asked.parallel)
    except GeneratorError as error:
        raise EngineRefused(f"rollouts.server cannot be used: {error}.") from error
    options = ServedOptions(
        run.name,
        run / ADAPTERS,
        asked.model,
        tolerance_nats=asked.tolerance_nats,
        truncate_at=asked.truncate_at,
        parallel=asked.parallel,
        lora_rank=recipe.lora_rank,
        seed=recipe.seed,
    )
    with closing(client), closing(ServedEngine(engine, client, options)) as served:
        yield served


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


def _tinker(recipe: Recipe) -> Engine:
    from coderl_trainer.errors import EngineRefused
    from coderl_trainer.recipe import Recipe
    from coderl_trainer.tinker_engine import TinkerEngine, TinkerOptions

    if recipe.model == Recipe().model:
        raise EngineRefused("The engine `tinker` trains a base model of the service: name one with --model.")
    return TinkerEngine(TinkerOptions(recipe.model, lora_rank=recipe.lora_rank, seed=recipe.seed))
