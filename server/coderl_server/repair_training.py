"""`coderl train --env repair`: an agent's runs on a vLLM server, learned from in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .engines import engine_of, judge_of, sampling_of
from .errors import InputError
from .repair_tasks import agent_packages, repairs_of, split_repairs, task_files

if TYPE_CHECKING:
    from coderl_trainer.processes import Processes
    from coderl_trainer.recipe import Recipe
    from coderl_trainer.repair.training import RepairParts, RepairTraining
    from coderl_trainer.runs import RunFolder

    from .training import TrainOptions


@contextmanager
def opened_on_repairs(
    recipe: Recipe, open_run: Callable[[], RunFolder], processes: Processes, unjailed_because: str, say: Callable[[str], None]
) -> Iterator[RepairTraining]:
    """What trains by `recipe.repair`. Raises the trainer's errors where tasks, jail, engine or server are not as needed."""
    from coderl_generator.errors import GeneratorError
    from coderl_trainer.errors import EngineRefused
    from coderl_trainer.repair.agent_jail import AgentJail, AgentLimits
    from coderl_trainer.repair.episodes import Workshop
    from coderl_trainer.repair.grading import RepairGrader
    from coderl_trainer.repair.proxy import Proxy
    from coderl_trainer.repair.training import RepairTraining
    from coderl_trainer.served_engine import ServedEngine

    asked, given = recipe.rollouts, recipe.repair
    assert given is not None
    if processes.count > 1:
        raise EngineRefused("Learning from repairs runs in one process: start it without a launcher.")
    parts = _parts(recipe, unjailed_because, say)
    limits = AgentLimits(wall_s=given.wall_s)
    jail = AgentJail(limits, [Path(one) for one in given.reads], task_files(recipe.tasks), agent_packages())
    with ExitStack() as stack:
        judge = stack.enter_context(judge_of(recipe, unjailed_because))
        try:
            proxy = Proxy(asked.server, api_key_env=asked.api_key_env, timeout_s=asked.timeout_s, connections=asked.parallel)
        except GeneratorError as error:
            raise EngineRefused(f"rollouts.server cannot be used: {error}.") from error
        stack.enter_context(proxy)
        workshop = stack.enter_context(Workshop(RepairGrader(judge), jail, proxy, given.rewards, given.parallel))
        engine = stack.enter_context(closing(engine_of(recipe, processes)))
        run = stack.enter_context(open_run())
        served = stack.enter_context(sampling_of(recipe, engine, run.path))
        assert isinstance(served, ServedEngine)  # a recipe with `repair` names a server
        yield RepairTraining(recipe, parts, served, workshop, run, say=say)


def for_repairs(recipe: Recipe, options: TrainOptions) -> Recipe:
    """The recipe for `--env`, with agent and scaffold as the command line names them. Raises `InputError`."""
    from dataclasses import replace

    from coderl_trainer.recipe import with_changes
    from coderl_trainer.repair.recipe import RepairRecipe

    if options.env != "repair":
        raise InputError(f"--env must be repair, not {options.env!r}.")
    given = recipe.repair or RepairRecipe()
    if options.agent:
        given = replace(given, agent=options.agent)
    server = [change for change in options.changes if change.startswith("rollouts.")]
    recipe = replace(with_changes(recipe, server), repair=given)
    return with_changes(recipe, [f"repair.scaffold={options.scaffold}"] if options.scaffold else [])


def _parts(recipe: Recipe, unjailed_because: str, say: Callable[[str], None]) -> RepairParts:
    import random
    from dataclasses import replace

    made = repairs_of(recipe.tasks, seed=recipe.seed, unjailed_because=unjailed_because)
    if made.left_out:
        say(f"{len(made.left_out)} tasks make no repair and are left out.")
    parts = split_repairs(made.repairs, recipe.split)
    chance = random.Random(recipe.seed)
    for name, limit in (("validation", recipe.validation_limit), ("held_out", recipe.held_out_limit)):
        repairs = getattr(parts, name)
        if limit is not None and limit < len(repairs):
            parts = replace(parts, **{name: tuple(chance.sample(repairs, limit))})
    say(f"{len(parts.train)} repairs to learn from, {len(parts.validation)} for validation, {len(parts.held_out)} held out.")
    return parts
