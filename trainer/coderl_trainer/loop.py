"""`Training`: supervised warm-up, then GRPO, into a run folder; it goes on after the last checkpoint of a run that was killed.

Everything random follows from the recipe's seed and the number of the step, but for the engine's own generator, which its
state holds. So a run that was killed and goes on gives the same weights as one that was not, bit for bit on a CPU with the
same number of threads; the rows of metrics are the same but for times.

Steps are numbered through: first those of the warm-up, then those of GRPO. Step 0 is what was measured before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coderl_generator.extract import Mode
from coderl_generator.fim_templates import PREFIX_ONLY, fim_template

from .curriculum import Curriculum, CurriculumConfig
from .engine import Engine, Loss, LossSettings, StepSettings
from .environment import Environment, mode_of
from .errors import RecipeError
from .judge import Judge
from .keeping import Keeper
from .peak_memory import MEMORY, peak_mb
from .policy_steps import PolicySteps
from .progress import Progress
from .recipe import Recipe
from .rewards import Rewards
from .rollouts import Rollouts
from .run_metrics import of_rollouts, rows_of
from .runs import RunFolder
from .schedules import learning_rate
from .sft import batches, datum, line_gaps, texts
from .statistics import paired_difference
from .trying import Trial, greedily
from .types import Datum, Task


@dataclass(frozen=True, slots=True)
class Parts:
    """The tasks of a run."""

    train: tuple[Task, ...]
    validation: tuple[Task, ...]
    held_out: tuple[Task, ...]


class Training:
    """One run. `run` is open; what is made here is closed by whoever made it."""

    def __init__(
        self,
        recipe: Recipe,
        parts: Parts,
        engine: Engine,
        judge: Judge,
        run: RunFolder,
        *,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Raises `RecipeError` where there is nothing to learn from."""
        self.run = run
        self._recipe, self._parts, self._engine, self._judge, self._say = recipe, parts, engine, judge, say
        self._environment = Environment(engine.encode, engine.decode, engine.ends, recipe.budget)
        self._environment_before = replace(self._environment, budget=recipe.budget_before)
        _require_tokens(recipe.template, engine)
        self._rewards = Rewards(recipe.rewards)
        self._rows = self._warm_up_rows() if recipe.sft.epochs else []
        self._sft_steps = sum(1 for _ in self._batches())
        self._rewarded = {task.id: task for task in parts.train if teaches(task, recipe, self._environment)}
        if recipe.grpo.steps:
            one = "one line that" if recipe.grpo.one_line else "an answer that"
            say(f"{len(self._rewarded)} of {len(parts.train)} training tasks have tests and {one} fits the budget.")
        if (recipe.grpo.steps and not self._rewarded) or not (self._rows or recipe.grpo.steps):
            raise RecipeError(
                "There is nothing to learn from: no task of the training part, or neither sft nor grpo is asked for."
            )
        self._curriculum = Curriculum(list(self._rewarded), CurriculumConfig(seed=recipe.seed)) if self._rewarded else None
        self._policy = PolicySteps(engine, recipe.grpo)
        self._keeper = Keeper(run.path, engine, self._policy)

    @property
    def steps(self) -> int:
        """In all."""
        return self._sft_steps + self._recipe.grpo.steps

    @property
    def step(self) -> int:
        """The last complete one."""
        return self._keeper.state.step

    def go_on(self, checkpoint: Path) -> None:
        """Restore what `checkpoint` holds. Raises `EngineRefused` for one that this engine did not write."""
        self._curriculum = self._keeper.go_on(checkpoint) or self._curriculum

    def train(self, progress: Progress) -> dict[str, Any]:
        """Go to the end; returns the manifest's `results`. What is best by the validation tasks lies in `best/`."""
        if not self._keeper.state.step and not self._keeper.state.before:
            self._measure_before()
        for number, batch in enumerate(self._batches(), 1):
            if number > self._keeper.state.step:
                self._warm_up(number, batch, progress)
        rollouts = Rollouts(self._engine, self._environment, self._judge, self._rewards, self._recipe.grpo, self._draw)
        for number in range(self._sft_steps + 1, self.steps + 1):
            if number > self._keeper.state.step:
                self._improve(number, rollouts, progress)
        return self._finish()

    # -- steps -------------------------------------------------------------------------------------------------------------

    def _measure_before(self) -> None:
        environment = self._environment_before
        trial = self._try(self._parts.held_out, "held-out tasks before training", environment)
        self._keeper.state.before = {one.task.id: one.solved for one in trial.tried}
        metrics: dict[str, float | None] = {"heldout/solve": trial.solve_rate, "heldout/n": len(trial.graded)}
        if self._parts.validation:
            rate = self._try(self._parts.validation, "validation tasks before training", environment).solve_rate
            metrics["validation/solve"] = rate
            if environment == self._environment:  # else the result would not know the template that is written into its file
                self._keeper.keep_if_best(0, rate)
        self.run.record(0, {**metrics, MEMORY: peak_mb()})
        self._keeper.checkpoint(0, self._curriculum)

    def _warm_up(self, number: int, batch: list[Datum], progress: Progress) -> None:
        sft = self._recipe.sft
        began_s = time.monotonic()
        rate = learning_rate(sft.learning_rate, number, self._sft_steps, sft.warmup_steps, sft.schedule)
        learned = self._engine.forward_backward(batch, LossSettings(Loss.CROSS_ENTROPY))
        stepped = self._engine.optim_step(StepSettings(rate))
        if number == self._sft_steps:
            self._engine.publish()  # nothing is sampled before
        self._keeper.state.gradient_steps += 1
        self._keeper.state.tokens += sum(len(row.input_tokens) for row in batch)
        metrics: dict[str, float | None] = {
            "loss": learned["loss"],
            "grad_norm": stepped["grad_norm"],
            "learning_rate": rate,
            "gradient_step": self._keeper.state.gradient_steps,
            "num_tokens": self._keeper.state.tokens,
            "time/learn_s": time.monotonic() - began_s,
        }
        self._end_of_step(number, metrics, [], progress, look=number == self._sft_steps)

    def _improve(self, number: int, rollouts: Rollouts, progress: Progress) -> None:
        grpo, first = self._recipe.grpo, self._sft_steps
        gathered = rollouts.gather()
        for group in gathered.groups:
            solved = group.solved
            if self._curriculum is not None and solved:
                self._curriculum.note(group.task.id, sum(solved), len(solved) - sum(solved))
        began_s = time.monotonic()
        data = [row for group in gathered.taught for row in group.data(self._environment, grpo)]
        metrics = of_rollouts(gathered)
        if data:
            metrics |= self._policy.learn(data, number - first)
            self._keeper.state.gradient_steps += grpo.updates
        self._keeper.state.tokens += gathered.tokens
        metrics |= {
            "gradient_step": self._keeper.state.gradient_steps,
            "num_tokens": self._keeper.state.tokens,
            "time/learn_s": time.monotonic() - began_s,
        }
        look = (number - first) % grpo.evaluate_every == 0 or number == self.steps
        self._end_of_step(number, metrics, rows_of(gathered, grpo), progress, look=look)

    def _end_of_step(
        self, number: int, metrics: dict[str, float | None], samples: list[Any], progress: Progress, *, look: bool
    ) -> None:
        if look and self._parts.validation:
            metrics["validation/solve"] = self._try(self._parts.validation, f"validation tasks after step {number}").solve_rate
            self._keeper.keep_if_best(number, metrics["validation/solve"])
        metrics[MEMORY] = peak_mb()
        self._keeper.state.step = number
        row = self.run.record(number, {name: value for name, value in metrics.items() if value is not None}, samples)
        if look or number % self._recipe.checkpoint_every == 0:
            self._keeper.checkpoint(number, self._curriculum)
        progress.update(row)

    def _finish(self) -> dict[str, Any]:
        self._keeper.finish(self.steps, judged=bool(self._parts.validation))
        trial = self._try(self._parts.held_out, "held-out tasks after training")
        return {
            "heldout": held_out(self.run, self._keeper.state.before, trial),
            "best": {"step": self._keeper.state.best_step, "by": "validation/solve"},
        }

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _warm_up_rows(self) -> list[Datum]:
        if self._recipe.template != "plain":
            gaps = line_gaps(self._parts.train, self._recipe.sft.gaps, self._recipe.seed)
            return [self._environment.sft_datum(task) for task in gaps]
        return [datum(self._engine.encode, given, learned) for given, learned in texts(self._parts.train)]

    def _draw(self, tasks: int) -> list[Task]:
        assert self._curriculum is not None
        return [self._rewarded[name] for name in self._curriculum.draw(tasks)]

    def _batches(self) -> Any:
        sft = self._recipe.sft
        return batches(self._rows, sft.batch_tokens, sft.epochs, self._recipe.seed)

    def _try(self, tasks: tuple[Task, ...], what: str, environment: Environment | None = None) -> Trial:
        self._say(f"{len(tasks)} {what} …")
        asking = environment or self._environment
        trial = greedily(self._engine, asking, self._judge, tasks, self._recipe.grpo.max_tokens)
        if trial.solve_rate is not None:
            self._say(f"{trial.solve_rate:.1%} of {len(trial.graded)} {what} solved.")
        return trial


def _require_tokens(template: str, engine: Engine) -> None:
    """Raises `RecipeError` where the model writes a template's control tokens as ordinary text."""
    before = len(engine.encode(""))
    needed = () if template in PREFIX_ONLY else fim_template(template).needed
    spelled = [text for text in needed if len(engine.encode(text)) != before + 1]
    if spelled:
        raise RecipeError(
            f"The model has no {', '.join(spelled)} in its vocabulary, which the template {template} is written with: "
            "set template to another one."
        )


def teaches(task: Task, recipe: Recipe, environment: Environment) -> bool:
    """Whether answers can be rewarded, by tests, or by the text that was kept where a part of the reward compares with that;
    and the right answer, where one is known, can be sampled whole and would be shown as it is, and is one line where the recipe
    wants that."""
    weights = recipe.rewards.weights
    if not task.visible_tests and not any(weights.get(name) for name in ("agreement", "seconds_saved")):
        return False
    if recipe.grpo.one_line and mode_of(task) is not Mode.SINGLE_LINE:
        return False
    return task.reference is None or (environment.fits(task) and environment.readable(task))


def held_out(run: RunFolder, before: Mapping[str, bool | None], trial: Trial) -> dict[str, Any]:
    """Write down what became of each held-out task; returns what `compared` says. Raises `RunError`."""
    run.hold_out(
        [
            {
                "task_id": one.task.id,
                "problem": one.task.problem,
                "solved_before": before.get(one.task.id),
                "solved": one.solved,
                "exact": one.exact,
                "text": one.text,
            }
            for one in trial.tried
        ]
    )
    return compared(before, trial.verdicts)


def compared(before: Mapping[str, bool | None], after: Iterable[tuple[str, str, bool | None]]) -> dict[str, Any]:
    """Held-out tasks before (task id → solved; None = not known) and after (task id, base problem, solved), with the paired
    interval over base problems; what `heldout` of a run's results holds."""
    pairs = [
        (bool(before[task_id]), solved, problem)
        for task_id, problem, solved in after
        if before.get(task_id) is not None and solved is not None
    ]
    if not pairs:
        return {"n": 0, "before": None, "after": None, "difference": None}
    a, b, problems = zip(*pairs, strict=True)
    difference = paired_difference([float(one) for one in a], [float(one) for one in b], problems)
    return {
        "n": len(pairs),
        "before": sum(a) / len(pairs),
        "after": sum(b) / len(pairs),
        "difference": difference.to_json(),  # of one base problem the interval is not known
    }
