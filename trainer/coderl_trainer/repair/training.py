"""`RepairTraining`: an agent's model learns from whole runs of the agent, batch after batch.

A step is: tasks drawn by the curriculum; G runs of the agent on each, every answer by the weights that the server has now, its
token ids and log-probs kept by the proxy; hidden tests; advantages within the group; gradient steps; the new adapter on the
server, verified, before the next run starts (`served_engine`). Runs of one step are all by one version of the weights. Groups
that teach nothing are counted and left out, not replaced: a run costs minutes.

A run that was killed goes on after its last checkpoint: weights, optimizer and curriculum are those of that step. Not covered:
going on bit for bit (what a server draws depends on what else it computes, and agents are programs with clocks).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from coderl_trainer.curriculum import Curriculum, CurriculumConfig
from coderl_trainer.engine import Engine
from coderl_trainer.errors import RecipeError, TooManyUngraded
from coderl_trainer.keeping import Keeper
from coderl_trainer.loop import compared
from coderl_trainer.peak_memory import MEMORY, peak_mb
from coderl_trainer.policy_steps import PolicySteps
from coderl_trainer.progress import Progress
from coderl_trainer.recipe import Recipe
from coderl_trainer.runs import RunFolder
from coderl_trainer.verdicts import Ungraded

from .chat_wire import Sampling
from .episodes import Episode, Workshop
from .groups import EpisodeGroup, grouped, metrics_of, rows_of
from .recipe import RepairRecipe
from .tasks import RepairTask

_MOST_UNGRADED: Final = 0.5
_SEEDS: Final = 1 << 31


class NamedEngine(Engine, Protocol):
    """An engine whose weights a server has under a name (`served_engine.ServedEngine`)."""

    @property
    def model_name(self) -> str:
        """Under which the server answers by the newest published weights."""
        ...


@dataclass(frozen=True, slots=True)
class RepairParts:
    """The tasks of a run."""

    train: tuple[RepairTask, ...]
    validation: tuple[RepairTask, ...] = ()
    held_out: tuple[RepairTask, ...] = ()


class RepairTraining:
    """One run. `run`, `workshop` and `engine` are closed by whoever made them."""

    def __init__(
        self,
        recipe: Recipe,
        parts: RepairParts,
        engine: NamedEngine,
        workshop: Workshop,
        run: RunFolder,
        *,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Raises `RecipeError` where there is nothing to learn from."""
        if not parts.train or not recipe.grpo.steps:
            raise RecipeError("There is nothing to learn from: no repair in the training part, or grpo.steps is 0.")
        self.run = run
        self._repair: RepairRecipe = recipe.repair or RepairRecipe()
        self._recipe, self._parts, self._engine = recipe, parts, engine
        self._workshop, self._say = workshop, say
        self._agent = self._repair.agent_of()
        self._tasks = {task.id: task for task in parts.train}
        self._curriculum = Curriculum(list(self._tasks), CurriculumConfig(seed=recipe.seed))
        self._policy = PolicySteps(engine, recipe.grpo)
        self._keeper = Keeper(run.path, engine, self._policy)

    @property
    def steps(self) -> int:
        """In all."""
        return self._recipe.grpo.steps

    def go_on(self, checkpoint: Path) -> None:
        """Restore what `checkpoint` holds. Raises `EngineRefused` for one that this engine did not write."""
        self._curriculum = self._keeper.go_on(checkpoint) or self._curriculum

    def train(self, progress: Progress) -> dict[str, Any]:
        """Go to the end; returns the manifest's `results`. What is best by the validation tasks lies in `best/`."""
        if not self._keeper.state.step and not self._keeper.state.before:
            self._measure_before()
        for number in range(self._keeper.state.step + 1, self.steps + 1):
            self._improve(number, progress)
        return self._finish()

    # -- steps -------------------------------------------------------------------------------------------------------------

    def _measure_before(self) -> None:
        held_out = self._try(self._parts.held_out, "held-out repairs before training")
        self._keeper.state.before = {one.task.id: one.solved for one in held_out}
        graded = [one.solved for one in held_out if one.solved is not None]
        metrics: dict[str, float] = {MEMORY: peak_mb(), "heldout/n": len(graded)}
        if graded:
            metrics["heldout/solve"] = sum(graded) / len(graded)
        if self._parts.validation:
            self._look(0, metrics)
        self.run.record(0, metrics)
        self._keeper.checkpoint(0, self._curriculum)

    def _improve(self, number: int, progress: Progress) -> None:
        grpo, began_s = self._recipe.grpo, time.monotonic()
        groups = self._groups(number)
        sampled_s = time.monotonic()
        for group in groups:
            if group.solved:
                self._curriculum.note(group.task.id, sum(group.solved), len(group.solved) - sum(group.solved))
        metrics = metrics_of(groups)
        told = [group.data(grpo, self._repair.row_tokens) for group in groups if group.taught]
        data = [row for rows, _ in told for row in rows]
        metrics["agent/too_long"] = sum(too_long for _, too_long in told)
        if data:
            metrics |= self._policy.learn(data, number)
            self._keeper.state.gradient_steps += grpo.updates
        self._keeper.state.tokens += sum(len(turn.tokens) for group in groups for one in group.episodes for turn in one.turns)
        metrics |= {
            "gradient_step": self._keeper.state.gradient_steps,
            "num_tokens": self._keeper.state.tokens,
            "time/sample_s": sampled_s - began_s,
            "time/learn_s": time.monotonic() - sampled_s,
            MEMORY: peak_mb(),
        }
        look = number % grpo.evaluate_every == 0 or number == self.steps
        if look and self._parts.validation:
            self._look(number, metrics)
        self._keeper.state.step = number
        known = {name: value for name, value in metrics.items() if value is not None}
        row = self.run.record(number, known, rows_of(groups, grpo))
        if look or number % self._recipe.checkpoint_every == 0:
            self._keeper.checkpoint(number, self._curriculum)
        progress.update(row)

    def _groups(self, number: int) -> list[EpisodeGroup]:
        """Runs of the agent on the tasks of one step, by one version of the weights."""
        grpo = self._recipe.grpo
        tasks = [self._tasks[name] for name in self._curriculum.draw(grpo.groups)]
        chance = random.Random(f"{self._recipe.seed} {number}")
        seeds = [chance.randrange(_SEEDS) for _ in range(len(tasks) * grpo.samples)]
        episodes = self._workshop.all(
            [task for task in tasks for _ in range(grpo.samples)],
            self._agent,
            self._engine.model_name,
            lambda at: Sampling(self._repair.turn_tokens, seeds[at]),
        )
        self._stop_at_noise(episodes)
        cut = [episodes[at : at + grpo.samples] for at in range(0, len(episodes), grpo.samples)]
        rewards = self._repair.rewards
        return [grouped(task, part, grpo, rewards) for task, part in zip(tasks, cut, strict=True)]

    def _stop_at_noise(self, episodes: Sequence[Episode]) -> None:
        reasons = [one.grade.reason for one in episodes if isinstance(one.grade, Ungraded)]
        if len(reasons) > _MOST_UNGRADED * len(episodes):
            raise TooManyUngraded(
                f"{len(reasons)} of {len(episodes)} runs of the agent say nothing about it; the last reason: {reasons[-1]}."
            )

    def _look(self, number: int, metrics: dict[str, Any]) -> None:
        """At the validation tasks; the best weights by them are kept."""
        tried = self._try(self._parts.validation, f"validation repairs after step {number}")
        graded = [one.solved for one in tried if one.solved is not None]
        if graded:
            metrics["validation/solve"] = sum(graded) / len(graded)
            self._keeper.keep_if_best(number, metrics["validation/solve"])

    def _try(self, tasks: tuple[RepairTask, ...], what: str) -> list[Episode]:
        if not tasks:
            return []
        self._say(f"{len(tasks)} {what} …")
        episodes = self._workshop.all(tasks, self._agent, self._engine.model_name)
        self._stop_at_noise(episodes)
        return episodes

    def _finish(self) -> dict[str, Any]:
        self._keeper.finish(self.steps, judged=bool(self._parts.validation))
        after = self._try(self._parts.held_out, "held-out repairs after training")
        return {
            "heldout": compared(self._keeper.state.before, [(one.task.id, one.task.problem, one.solved) for one in after]),
            "best": {"step": self._keeper.state.best_step, "by": "validation/solve"},
        }
