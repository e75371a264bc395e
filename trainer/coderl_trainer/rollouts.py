"""One step's groups: sampled, read, judged and rewarded; those that teach nothing are replaced by others before anything is
learned. No gradient is taken here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .advantages import Degenerate, degenerate, group_advantages
from .engine import Engine
from .environment import Asked, Environment
from .judge import Judge
from .recipe import GrpoRecipe
from .rewards import Attempt, Reward, Rewards
from .types import Datum, Sample, SamplingParameters, StopReason, Task
from .verdicts import Judgement, Ungraded


@dataclass(frozen=True, slots=True)
class Group:
    """G samples of one task with what they are worth. All sequences are (G,)."""

    task: Task
    asked: Asked
    samples: tuple[Sample, ...]
    texts: tuple[str, ...]
    judged: tuple[Judgement | Ungraded, ...]
    rewards: tuple[Reward, ...]
    votes: tuple[float | None, ...]
    """The rewards that are compared: None where a sample was cut off or its grader failed."""
    skipped: Degenerate | None

    @property
    def collapsed(self) -> bool:
        """All texts are the same: sampling again at this temperature is no use, another task is."""
        return len(set(self.texts)) == 1

    def advantages(self, recipe: GrpoRecipe) -> list[float]:
        """(G,)"""
        return group_advantages(self.votes, scale=recipe.scale)

    def data(self, environment: Environment, recipe: GrpoRecipe) -> list[Datum]:
        """What is learned from: the samples that vote and are better or worse than the group."""
        return [
            environment.datum(self.asked, sample, advantage)
            for sample, vote, advantage in zip(self.samples, self.votes, self.advantages(recipe), strict=True)
            if vote is not None and advantage
        ]


@dataclass(slots=True)
class Gathered:
    """The groups of one step and the time they took."""

    groups: list[Group] = field(default_factory=list)
    sample_s: float = 0.0
    judge_s: float = 0.0

    @property
    def tokens(self) -> int:
        """Of all prompts, each once, and samples."""
        return sum(len(group.asked.tokens) + sum(len(one.tokens) for one in group.samples) for group in self.groups)

    @property
    def taught(self) -> list[Group]:
        """Those that are learned from."""
        return [group for group in self.groups if group.skipped is None]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Gathers groups. `draw(n, step, attempt)` names the tasks of the next groups; `now_s` reads a clock in seconds."""

    engine: Engine
    environment: Environment
    judge: Judge
    rewards: Rewards
    recipe: GrpoRecipe
    draw: Callable[[int, int, int], Sequence[Task]]
    now_s: Callable[[], float] = time.monotonic

    def gather(self, step: int) -> Gathered:
        """`recipe.groups` groups that teach, as far as they can be found in 1 + `recipe.resample` tries."""
        gathered = Gathered()
        for attempt in range(1 + self.recipe.resample):
            wanted = self.recipe.groups - len(gathered.taught)
            tasks = self.draw(wanted, step, attempt) if wanted else ()
            if not tasks:
                break
            self._try(tasks, gathered)
        return gathered

    def _try(self, tasks: Sequence[Task], gathered: Gathered) -> None:
        recipe = self.recipe
        began_s = self.now_s()
        asked_P = [self.environment.ask(task) for task in tasks]
        one_line = all(asked.one_line for asked in asked_P)
        parameters = SamplingParameters(recipe.max_tokens, recipe.temperature, recipe.top_p, one_line=one_line)
        samples_PG = self.engine.sample([asked.tokens for asked in asked_P], recipe.samples, parameters)
        read_PG = [
            [self.environment.read(asked, sample) for sample in samples]
            for asked, samples in zip(asked_P, samples_PG, strict=True)
        ]
        sampled_s = self.now_s()
        pairs = [(task, one.text) for task, read in zip(tasks, read_PG, strict=True) for one in read]
        unlike = list({(task.id, text): (task, text) for task, text in pairs}.values())
        verdicts = {(task.id, text): judged for (task, text), judged in zip(unlike, self.judge.judge_all(unlike), strict=True)}
        for task, asked, samples, read in zip(tasks, asked_P, samples_PG, read_PG, strict=True):
            judged = [verdicts[task.id, one.text] for one in read]
            attempts = [Attempt(one.text, verdict, one) for one, verdict in zip(read, judged, strict=True)]
            rewards = self.rewards.group(task, attempts)
            votes = [
                None if recipe.mask_truncated and sample.stop_reason is StopReason.LENGTH else reward.total
                for sample, reward in zip(samples, rewards, strict=True)
            ]
            group = Group(
                task, asked, tuple(samples), tuple(one.text for one in read), tuple(judged), tuple(rewards), tuple(votes),
                degenerate(votes, tolerance=1e-9),
            )  # fmt: skip
            gathered.groups.append(group)
        gathered.sample_s += sampled_s - began_s
        gathered.judge_s += self.now_s() - sampled_s
