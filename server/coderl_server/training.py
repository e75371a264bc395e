"""`coderl train` and `coderl sft`: a recipe in, a run folder out. Joins what `coderl_trainer` keeps apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engines import GRPO_ONLY, engine_of, judge_of, local_options, sampling_of
from .errors import InputError, Interrupted
from .resuming import hear_ctrl_c_once, refuse_changes, refuse_without_log, way_on
from .task_choice import split_of

if TYPE_CHECKING:
    from coderl_trainer.judge import Judge
    from coderl_trainer.logged_training import LoggedTraining
    from coderl_trainer.loop import Parts, Training
    from coderl_trainer.processes import Processes
    from coderl_trainer.recipe import LogSource, Recipe
    from coderl_trainer.repair.training import RepairTraining
    from coderl_trainer.runs import RunFolder
    from coderl_trainer.trl_training import TrlTraining
    from coderl_trainer.types import Task

    _AnyTraining = Training | LoggedTraining | TrlTraining | RepairTraining


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
    env: str = ""
    """`repair`: learn from an agent's runs; empty = as the recipe says."""
    agent: str | None = None
    """The agent's command instead of that of the recipe."""
    scaffold: str | None = None
    passing: bool = False
    """The log is thrown away afterwards, so nobody is told how an ended run goes on."""


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
                f"{_range(gained, '+.2f')}. An estimate from the log, no measurement.",
                highlight=False,
                soft_wrap=True,
            )
        elif held["n"]:
            gained = held["difference"]
            console.print(
                f"Held out ({held['n']} tasks, greedy): {held['before']:.1%} before, {held['after']:.1%} after, "
                f"difference {100 * gained['estimate']:+.1f} points {_range(gained, '+.1f', 100)}.",
                highlight=False,
                soft_wrap=True,
            )
        if self.best:
            console.print(f"The best weights by the validation tasks are those of step {self.best['step']}.", highlight=False)


def _range(interval: Mapping[str, float | None], form: str, times: float = 1.0) -> str:
    low, high = interval["low"], interval["high"]
    return "[not known]" if low is None or high is None else f"[{times * low:{form}}, {times * high:{form}}]"


def train(options: TrainOptions) -> Trained | None:
    """Run it. None on a process that only does its share of what the first one of several asks for.

    Raises `InputError` for what the user can mend, `Interrupted` where Ctrl-C ends a run, and the trainer's errors where an
    engine or the judge fails.
    """
    from coderl_trainer.errors import EngineFailed, EngineRefused, JailMissing, RunError, TrainerError
    from coderl_trainer.processes import Launched, follow, launched

    run: Path | None = None
    begun, follower = False, ""
    try:
        with launched() as processes:
            if processes.launched:
                hear_ctrl_c_once()
            if isinstance(processes, Launched) and processes.rank:
                from coderl_trainer.local_engine import LocalEngine

                follower = f"process {processes.rank} of {processes.count}"
                follow(processes, LocalEngine)
                return None
            plan = _planned(options)
            run = options.resume
            with _opening(plan)(options, plan, processes) as training:
                run, begun = None if options.passing else training.run.path, True
                return _to_the_end(training, plan.step)
    except KeyboardInterrupt as error:
        if follower:
            raise Interrupted(f"{follower} was interrupted.") from error
        if run is None:
            raise
        raise Interrupted(f"interrupted.{way_on(run)}") from error
    except TrainerError as error:
        goes_on = isinstance(error, EngineRefused | EngineFailed) or (begun and isinstance(error, RunError))
        on = way_on(run) if run is not None and goes_on else ""
        if isinstance(error, ValueError | EngineRefused | JailMissing):
            raise InputError(f"{error}{on}") from error
        if isinstance(error, EngineFailed):
            raise EngineFailed(f"{error}{on}") from error
        raise


def _opening(plan: _Plan) -> Callable[..., AbstractContextManager[_AnyTraining]]:
    """What opens such a run."""
    from coderl_trainer.engine import EngineName

    if plan.recipe.repair is not None:
        return _opened_on_repairs
    if plan.recipe.log is not None:
        return _opened_on_log
    return _opened_by_trl if plan.recipe.engine is EngineName.TRL else _opened


def resolved(options: TrainOptions) -> Recipe:
    """The recipe with everything said on the command line. Raises `RecipeError`."""
    from coderl_trainer.errors import RecipeError
    from coderl_trainer.recipe import Recipe, read_recipe, with_changes
    from coderl_trainer.tasks import SHIPPED

    recipe = read_recipe(options.recipe) if options.recipe is not None else Recipe()
    if options.env:
        from .repair_training import for_repairs

        recipe = for_repairs(recipe, options)
    engine = () if options.engine is None else (f"engine={options.engine}",)
    recipe = with_changes(recipe, (*options.changes, *engine))
    if options.tasks:
        recipe = replace(recipe, tasks=tuple(name if name == SHIPPED else str(Path(name).resolve()) for name in options.tasks))
    if options.model is not None:
        recipe = replace(recipe, model=options.model)
    if options.name is not None:
        recipe = replace(recipe, name=options.name)
    if options.sft_only:
        if not recipe.sft.epochs:
            raise RecipeError("sft.epochs is 0: there is no supervised part in this recipe.")
        recipe = replace(recipe, grpo=replace(recipe.grpo, steps=0))
    if options.from_log or recipe.log is not None:
        if options.sft_only:
            raise RecipeError("coderl sft learns from tasks: for a recipe with a log take coderl train.")
        recipe = replace(recipe, log=log_source(options, recipe.log))
    else:
        refuse_without_log(options)
    return recipe


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is run, from the beginning or after a checkpoint."""

    recipe: Recipe
    step: int = 0
    checkpoint: Path | None = None

    def folder(self, options: TrainOptions) -> RunFolder:
        from coderl_trainer.runs import RunFolder

        if options.resume is not None:
            return RunFolder.reopen(options.resume, self.step)
        return RunFolder.create(options.runs, self.recipe.name, self.recipe)

    def go_on(self, training: Training | LoggedTraining | RepairTraining) -> None:
        if self.checkpoint is not None:
            training.go_on(self.checkpoint)
            _say(f"{training.run.path} goes on after step {self.step}.")


def _planned(options: TrainOptions) -> _Plan:
    from coderl_trainer.checkpoints import last_checkpoint
    from coderl_trainer.engine import EngineName
    from coderl_trainer.recipe import recipe_of
    from coderl_trainer.run_files import CONFIG, read_json

    if options.resume is None:
        return _Plan(resolved(options))
    recipe = recipe_of(read_json(options.resume / CONFIG))
    refuse_changes(options, recipe)
    if options.from_log and recipe.log is None:
        raise InputError(f"{options.resume} learns from tasks, not from the log: go on with it without --from-log.")
    if recipe.engine is EngineName.TRL:
        raise InputError(f"{options.resume} was trained by TRL, which writes no checkpoints here: start it anew.")
    return _Plan(recipe, *last_checkpoint(options.resume))


@contextmanager
def _opened(options: TrainOptions, plan: _Plan, processes: Processes) -> Iterator[Training]:
    from coderl_trainer.loop import Training

    recipe = plan.recipe
    parts = parts_of(recipe)
    with judge_of(recipe, options.unjailed_because) as judge, closing(engine_of(recipe, processes)) as engine:
        parts = usable(parts, judge)
        with plan.folder(options) as run, sampling_of(recipe, engine, run.path) as sampling:
            training = Training(recipe, parts, sampling, judge, run, say=_say)
            plan.go_on(training)
            yield training


@contextmanager
def _opened_by_trl(options: TrainOptions, plan: _Plan, processes: Processes) -> Iterator[TrlTraining]:
    from coderl_trainer.errors import EngineRefused
    from coderl_trainer.trl_adapter import refuse
    from coderl_trainer.trl_training import TrlTraining

    recipe = plan.recipe
    if processes.count > 1:
        raise EngineRefused("The engine trl runs in one process here: start it without a launcher.")
    if options.sft_only:
        raise EngineRefused(GRPO_ONLY)
    refuse(recipe)
    parts = parts_of(recipe)
    held = local_options(recipe)
    with judge_of(recipe, options.unjailed_because) as judge:
        parts = usable(parts, judge)
        with plan.folder(options) as run:
            yield TrlTraining(recipe, parts, held, judge, run, say=_say)


@contextmanager
def _opened_on_repairs(options: TrainOptions, plan: _Plan, processes: Processes) -> Iterator[RepairTraining]:
    from .repair_training import opened_on_repairs

    if options.sft_only:
        raise InputError("coderl sft learns from references: repairs are learned from by coderl train.")
    with opened_on_repairs(plan.recipe, lambda: plan.folder(options), processes, options.unjailed_because, _say) as training:
        plan.go_on(training)
        yield training


def _to_the_end(training: _AnyTraining, done: int = 0) -> Trained:
    from coderl_trainer.peak_memory import MEMORY, peak_mb
    from coderl_trainer.progress import Progress
    from coderl_trainer.report import write

    path = training.run.path
    with Progress(training.steps, done=done) as progress:
        results = training.train(progress)
    best = results.get("best")
    training.run.finish(best=best, results={"heldout": results["heldout"], MEMORY: peak_mb()})
    return Trained(str(path), training.steps, best, results["heldout"], str(write(path).report))


@contextmanager
def _opened_on_log(options: TrainOptions, plan: _Plan, processes: Processes) -> Iterator[LoggedTraining]:
    from coderl_gate.artifact import load
    from coderl_store.records import Origin
    from coderl_store.repository import Repository
    from coderl_trainer.logged_memory import Noted
    from coderl_trainer.logged_training import LoggedTraining, read_log

    recipe, source = plan.recipe, plan.recipe.log
    assert source is not None
    origins = frozenset(map(Origin, source.origins))
    critic = None if source.gate is None else load(Path(source.gate))
    with (
        closing(Repository(database_of(source, options.database), create=False)) as repository,
        closing(engine_of(recipe, processes)) as engine,
    ):
        noted = None if options.resume is None else Noted.read(options.resume)
        logged = read_log(recipe, engine, repository.requests(origins=origins), origins=origins, critic=critic, noted=noted)
        left_out = {reason.value: count for reason, count in logged.left_out.items()}
        _say(f"{len(logged.rows)} logged suggestions; left out: {left_out or 'none'}.")
        with plan.folder(options) as run:
            training = LoggedTraining(recipe, engine, run, logged)
            plan.go_on(training)
            yield training


def log_source(options: TrainOptions, given: LogSource | None) -> LogSource:
    """What a run notes of the log it learns from: the command line over the recipe. Never a password."""
    from coderl_store.home import StoreSettings
    from coderl_trainer.recipe import LogSource

    from .replaying import origins_of

    given = given or LogSource()
    url = StoreSettings.from_environment(options.database or given.database or None).database_url
    origins = origins_of(given.origins, options.include_simulated)
    gate = given.gate if options.gate is None else str(options.gate.resolve())
    return LogSource(_without_password(url), tuple(one.value for one in origins), gate)


def _without_password(url: str) -> str:
    """The URL as a run keeps it; `***` stands where a password was, also one among its parameters."""
    from sqlalchemy import make_url

    made = make_url(url)
    secret = [name for name in ("password", "sslpassword") if name in made.query]
    if secret:
        made = made.difference_update_query(secret).set(password="***")
    return made.render_as_string(hide_password=True)


def database_of(source: LogSource, named: str | None) -> str:
    """The URL of a run's log: the one named now, else that of the environment where it is the same but for the password, else
    the noted one. Raises `InputError` where the noted one lacks its password."""
    from sqlalchemy import make_url

    from coderl_store.home import StoreSettings

    if named is not None:
        return StoreSettings.from_environment(named).database_url
    here = StoreSettings.from_environment().database_url
    if _without_password(here) == source.database:
        return here
    if make_url(source.database).password is not None:
        raise InputError(f"The log {source.database} needs its password, which no run keeps: name the log with --database.")
    return source.database


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


def usable(parts: Parts, judge: Judge) -> Parts:
    """Without the tasks that an empty answer passes, which rewards silence, or in the parts that are measured solves."""
    from coderl_trainer.loop import Parts
    from coderl_trainer.verdicts import Judgement

    def without(tasks: tuple[Task, ...], what: str, passes: Callable[[Judgement], bool]) -> tuple[Task, ...]:
        tested = [task for task in tasks if task.visible_tests]
        empty = dict(zip((task.id for task in tested), judge.judge_all([(task, "") for task in tested]), strict=True))
        passed = {name for name, one in empty.items() if isinstance(one, Judgement) and passes(one)}
        if passed:
            _say(f"{len(passed)} {what} tasks are left out: an empty answer passes them.")
        return tuple(task for task in tasks if task.id not in passed)

    measured = {"validation": parts.validation, "held-out": parts.held_out}
    kept = (without(tasks, what, lambda one: one.solved) for what, tasks in measured.items())
    return Parts(without(parts.train, "training", lambda one: one.passed), *kept)


def _say(text: str) -> None:
    import sys

    sys.stderr.write(f"{text}\n")
