"""`coderl train` and `coderl sft`: a recipe in, a run folder out. Joins what `coderl_trainer` keeps apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engines import engine_of, local_options, sampling_of
from .errors import InputError
from .task_choice import split_of

if TYPE_CHECKING:
    from coderl_trainer.judge import Judge
    from coderl_trainer.logged_training import LoggedTraining
    from coderl_trainer.loop import Parts, Training
    from coderl_trainer.processes import Processes
    from coderl_trainer.recipe import Recipe
    from coderl_trainer.trl_training import TrlTraining
    from coderl_trainer.types import Task


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What to train, and where its run lies."""

    recipe: Path | None = None
    changes: tuple[str, ...] = ()
    """`key=value` over the recipe, `grpo.steps=5`."""
    tasks: tuple[str, ...] = ()
    """Files instead of those of the recipe."""
    engine: str | None = None
    """Instead of that of the recipe; the names are those of `coderl_trainer.engine.EngineName`."""
    model: str | None = None
    name: str | None = None
    runs: Path = Path("runs")
    resume: Path | None = None
    sft_only: bool = False
    unjailed_because: str = ""
    from_log: bool = False
    database: str | None = None
    include_simulated: bool = False
    gate: Path | None = None
    """The critic; None = the estimates with which it was decided."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What `coderl train` ends with."""

    run_dir: str
    steps: int
    best: Mapping[str, Any] | None
    heldout: Mapping[str, Any]
    report: str

    def to_json(self) -> dict[str, Any]:
        """The stable keys."""
        return asdict(self)

    def render(self, console: Any) -> None:
        """A few sentences."""
        held = self.heldout
        console.print(f"{self.steps} steps. The run lies in {self.run_dir}, its page is {self.report}", soft_wrap=True)
        if held["n"] and "unit" in held:
            gained = held["difference"]
            console.print(
                f"Held out ({held['n']} suggestions, {held['effective']:.0f} effective): {held['before']:+.2f} s saved per "
                f"suggestion before, {held['after']:+.2f} after, difference {gained['estimate']:+.2f} "
                f"[{gained['low']:+.2f}, {gained['high']:+.2f}]. An estimate from the log, no measurement.",
                highlight=False,
                soft_wrap=True,
            )
        elif held["n"]:
            gained = held["difference"]
            console.print(
                f"Held out ({held['n']} tasks, greedy): {held['before']:.1%} before, {held['after']:.1%} after, "
                f"difference {100 * gained['estimate']:+.1f} points [{100 * gained['low']:+.1f}, {100 * gained['high']:+.1f}].",
                highlight=False,
                soft_wrap=True,
            )
        if self.best:
            console.print(f"The best weights by the validation tasks are those of step {self.best['step']}.", highlight=False)


def train(options: TrainOptions) -> Trained | None:
    """Run it. None on a process that only does its share of what the first one of several asks for.

    Raises `InputError` for what the user can mend, and the trainer's errors where an engine or the judge fails.
    """
    from coderl_trainer.engine import EngineName
    from coderl_trainer.errors import EngineRefused, JailMissing, TrainerError
    from coderl_trainer.processes import Launched, follow, launched

    try:
        with launched() as processes:
            if isinstance(processes, Launched) and processes.rank:
                from coderl_trainer.local_engine import LocalEngine

                follow(processes, LocalEngine)
                return None
            if options.from_log:
                return _from_log(options, processes)
            if not (options.resume or options.sft_only) and (recipe := resolved(options)).engine is EngineName.TRL:
                return _by_trl(options, recipe, processes)
            with _opened(options, processes) as training:
                return _to_the_end(training, training.step)
    except TrainerError as error:
        if isinstance(error, ValueError | EngineRefused | JailMissing):
            raise InputError(f"{error}") from error
        raise


def resolved(options: TrainOptions) -> Recipe:
    """The recipe with everything said on the command line. Raises `RecipeError`."""
    from coderl_trainer.errors import RecipeError
    from coderl_trainer.recipe import Recipe, read_recipe, with_changes
    from coderl_trainer.tasks import SHIPPED

    recipe = read_recipe(options.recipe) if options.recipe is not None else Recipe()
    recipe = with_changes(recipe, options.changes)
    if options.tasks:
        recipe = replace(recipe, tasks=tuple(name if name == SHIPPED else str(Path(name).resolve()) for name in options.tasks))
    if options.engine is not None:
        recipe = with_changes(recipe, [f"engine={options.engine}"])
    if options.model is not None:
        recipe = replace(recipe, model=options.model)
    if options.name is not None:
        recipe = replace(recipe, name=options.name)
    if options.sft_only:
        if not recipe.sft.epochs:
            raise RecipeError("sft.epochs is 0: there is no supervised part in this recipe.")
        recipe = replace(recipe, grpo=replace(recipe.grpo, steps=0))
    return recipe


@contextmanager
def _opened(options: TrainOptions, processes: Processes) -> Iterator[Training]:
    from coderl_trainer.judge import open_judge
    from coderl_trainer.loop import Training, last_checkpoint
    from coderl_trainer.recipe import recipe_of
    from coderl_trainer.runs import RunFolder

    if options.resume is not None:
        step, checkpoint = last_checkpoint(options.resume)
        recipe = recipe_of(json.loads((options.resume / "config.json").read_text(encoding="utf-8")))
    else:
        recipe = resolved(options)
    parts = parts_of(recipe)
    with open_judge(parallel=recipe.judge_parallel, unjailed_because=options.unjailed_because) as judge:
        engine = engine_of(recipe, processes)
        parts = _usable(parts, judge)
        run = RunFolder.reopen(options.resume, step) if options.resume else RunFolder.create(options.runs, recipe.name, recipe)
        with run, sampling_of(recipe, engine, run.path) as sampling:
            training = Training(recipe, parts, sampling, judge, run, say=_say)
            if options.resume is not None:
                training.go_on(checkpoint)
                _say(f"{options.resume} goes on after step {step}.")
            yield training


def _by_trl(options: TrainOptions, recipe: Recipe, processes: Processes) -> Trained:
    from coderl_trainer.errors import EngineRefused
    from coderl_trainer.judge import open_judge
    from coderl_trainer.runs import RunFolder
    from coderl_trainer.trl_adapter import refuse
    from coderl_trainer.trl_training import TrlTraining

    if processes.count > 1:
        raise EngineRefused("The engine trl runs in one process here: start it without a launcher.")
    refuse(recipe)
    parts = parts_of(recipe)
    held = local_options(recipe)
    with open_judge(parallel=recipe.judge_parallel, unjailed_because=options.unjailed_because) as judge:
        parts = _usable(parts, judge)
        with RunFolder.create(options.runs, recipe.name, recipe) as run:
            return _to_the_end(TrlTraining(recipe, parts, held, judge, run, say=_say))


def _to_the_end(training: Training | LoggedTraining | TrlTraining, done: int = 0) -> Trained:
    from coderl_trainer.progress import Progress
    from coderl_trainer.report import write

    path = training.run.path
    with Progress(training.steps, done=done) as progress:
        results = training.train(progress)
    best = results.get("best")
    training.run.finish(best=best, results={"heldout": results["heldout"]})
    return Trained(str(path), training.steps, best, results["heldout"], str(write(path).report))


def _from_log(options: TrainOptions, processes: Processes) -> Trained:
    from coderl_gate.artifact import load
    from coderl_store.home import StoreSettings
    from coderl_store.repository import Repository
    from coderl_trainer.logged_training import LoggedTraining
    from coderl_trainer.runs import RunFolder

    from .replaying import origins_of

    if options.resume is not None:
        raise InputError("A run from the log cannot be gone on with: it is short, start it anew.")
    recipe = resolved(options)
    origins = frozenset(origins_of((), options.include_simulated))
    store = StoreSettings.from_environment(options.database)
    critic = None if options.gate is None else load(options.gate)
    repository = Repository(store.database_url, create=options.database is None)
    try:
        engine = engine_of(recipe, processes)
        with RunFolder.create(options.runs, recipe.name, recipe) as run:
            requests = repository.requests(origins=origins)
            training = LoggedTraining(recipe, engine, run, requests, origins=origins, critic=critic)
            left_out = {reason.value: count for reason, count in training.logged.left_out.items()}
            _say(f"{len(training.logged.rows)} logged suggestions; left out: {left_out or 'none'}.")
            return _to_the_end(training)
    finally:
        repository.close()


def parts_of(recipe: Recipe) -> Parts:
    """The tasks of a recipe by part; the limits drawn evenly, by the seed. Raises `TaskError`."""
    from coderl_trainer.loop import Parts

    made = split_of(recipe.tasks, recipe.split)
    validation = _drawn(_with_tests(made.validation), recipe.validation_limit, recipe.seed)
    held_out = _drawn(_with_tests(made.held_out), recipe.held_out_limit, recipe.seed)
    return Parts(made.train, validation, held_out)


def _with_tests(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """Only gaps are measured: whole functions are another question."""
    from coderl_trainer.types import TaskKind

    return tuple(task for task in tasks if task.visible_tests and task.kind is TaskKind.INFILL)


def _drawn(tasks: tuple[Task, ...], limit: int | None, seed: int) -> tuple[Task, ...]:
    import random

    if limit is None or limit >= len(tasks):
        return tasks
    return tuple(random.Random(seed).sample(tasks, limit))


def _usable(parts: Parts, judge: Judge) -> Parts:
    """Without the tasks that an empty answer passes: silence would be rewarded in one part and be skill in the others."""
    from coderl_trainer.loop import Parts
    from coderl_trainer.verdicts import Judgement

    def without(tasks: tuple[Task, ...], what: str) -> tuple[Task, ...]:
        tested = [task for task in tasks if task.visible_tests]
        empty = dict(zip((task.id for task in tested), judge.judge_all([(task, "") for task in tested]), strict=True))
        passed = {name for name, one in empty.items() if isinstance(one, Judgement) and one.passed}
        if passed:
            _say(f"{len(passed)} {what} tasks are left out: an empty answer passes them.")
        return tuple(task for task in tasks if task.id not in passed)

    return Parts(without(parts.train, "training"), without(parts.validation, "validation"), without(parts.held_out, "held-out"))


def _say(text: str) -> None:
    import sys

    sys.stderr.write(f"{text}\n")
