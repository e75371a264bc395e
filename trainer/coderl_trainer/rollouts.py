"""One step's groups: sampled, read, judged and rewarded; those that teach nothing are replaced before anything is learned. No
gradient is taken here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from coderl_generator.extract import Extracted

from .advantages import group_advantages
from .engine import Engine
from .environment import Asked, Environment
from .groups import Action, GroupVerdict, group_verdict
from .judge import Judge
from .recipe import GrpoRecipe
from .rewards import Attempt, Reward, Rewards
from .types import Datum, Sample, StopReason, Task
from .verdicts import Judgement, Ungraded

_EQUAL = 1e-9
"""Rewards that differ by less are equal: they are sums of floats. Those that only tie-breakers tell apart are no lesson either:
a normalisation by the group's deviation would make one of them."""


@dataclass(frozen=True, slots=True)
class Group:
    """G samples of one task with what they are worth. All sequences are (G,)."""

    asked: Asked
    samples: tuple[Sample, ...]
    attempts: tuple[Attempt, ...]
    rewards: tuple[Reward, ...]
    votes: tuple[float | None, ...]
    """The rewards that are compared: None where a sample was cut off or its grader failed."""
    verdict: GroupVerdict

    @property
    def task(self) -> Task:
        return self.asked.task

    @property
    def solved(self) -> list[bool]:
        """Of the samples that were graded by tests."""
        return [one.verdict.passed for one in self.attempts if isinstance(one.verdict, Judgement)]

    def advantages(self, recipe: GrpoRecipe) -> list[float]:
        """(G,)"""
        return group_advantages(self.votes, scale=recipe.scale)

    def data(self, environment: Environment, recipe: GrpoRecipe) -> list[Datum]:
        """What is learned from: the samples that vote and are better or worse than the group."""
        return [
            environment.datum(self.asked, sample, advantage)
            for sample, advantage in zip(self.samples, self.advantages(recipe), strict=True)
            if advantage
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
        return [group for group in self.groups if group.verdict.action is Action.LEARN]


@dataclass(frozen=True, slots=True)
class Scoring:
    """Judges, rewards and compares what was sampled and read, whoever sampled it."""

    judge: Judge
    rewards: Rewards
    mask_truncated: bool = True
    """Samples that were cut off at the token budget do not vote."""
    most_tries: int = 1
    """Times that one task may be sampled in a step."""

    def groups(
        self,
        asked_P: Sequence[Asked],
        samples_PG: Sequence[Sequence[Sample]],
        read_PG: Sequence[Sequence[Extracted]],
        tries_P: Sequence[int],
    ) -> list[Group]:
        """(P,) `tries_P`: how many times a task was sampled in this step, this time included."""
        verdicts = self._verdicts(asked_P, read_PG)
        groups = []
        for asked, samples, read, tries in zip(asked_P, samples_PG, read_PG, tries_P, strict=True):
            attempts = [Attempt(one.text, verdicts.get((asked.task.id, one.text)), one) for one in read]
            groups.append(self._group(asked, samples, attempts, tries))
        return groups

    def _group(self, asked: Asked, samples: Sequence[Sample], attempts: Sequence[Attempt], tries: int) -> Group:
        rewards = self.rewards.group(asked.task, attempts)
        votes = [
            None if self.mask_truncated and sample.stop_reason is StopReason.LENGTH else reward.total
            for sample, reward in zip(samples, rewards, strict=True)
        ]
        solved = [one.verdict.passed if isinstance(one.verdict, Judgement) else None for one in attempts]
        verdict = group_verdict(
            [one.text for one in attempts],
            votes,
            solved_G=solved if any(one is not None for one in solved) else None,
            tries=tries,
            most_tries=self.most_tries,
            tolerance=max(_EQUAL, self.rewards.config.tie_breakers),
        )
        return Group(asked, tuple(samples), tuple(attempts), tuple(rewards), tuple(votes), verdict)

    def _verdicts(
        self, asked_P: Sequence[Asked], read_PG: Sequence[Sequence[Extracted]]
    ) -> dict[tuple[str, str], Judgement | Ungraded]:
        """(task id, text) → verdict; equal texts of one task are judged once, tasks without tests not at all."""
        tested = [(asked.task, read) for asked, read in zip(asked_P, read_PG, strict=True) if asked.task.visible_tests]
        unlike = list({(task.id, one.text): (task, one.text) for task, read in tested for one in read}.values())
        judged = self.judge.judge_all(unlike)
        return {(task.id, text): verdict for (task, text), verdict in zip(unlike, judged, strict=True)}


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Gathers groups. `draw` names the tasks of the next groups; `now_s` reads a clock in seconds."""

    engine: Engine
    environment: Environment
    judge: Judge
    rewards: Rewards
    recipe: GrpoRecipe
    draw: Callable[[int], Sequence[Task]]
    now_s: Callable[[], float] = time.monotonic

    def gather(self) -> Gathered:
        """`recipe.groups` groups that teach, as far as they can be found in 1 + `recipe.resample` rounds. A group whose texts
        differ and whose rewards do not is sampled again; any other that teaches nothing gives its place to another task."""
        gathered = Gathered()
        tries: dict[str, int] = {}
        again: list[Task] = []
        for _ in range(1 + self.recipe.resample):
            missing = self.recipe.groups - len(gathered.taught)
            if missing <= 0:
                break
            drawn = self.draw(missing - len(again)) if missing > len(again) else ()
            asked = [self.environment.ask(task) for task in (*again, *(one for one in drawn if one.id not in tries))]
            again = []
            for group in self._rolled(asked, tries, gathered):
                gathered.groups.append(group)
                if group.verdict.action is Action.SAMPLE_AGAIN:
                    again.append(group.task)
        return gathered

    def _rolled(self, asked_P: list[Asked], tries: dict[str, int], gathered: Gathered) -> list[Group]:
        began_s = self.now_s()
        asked_P = sorted(asked_P, key=lambda asked: asked.mode)
        samples_PG: list[list[Sample]] = []
        for mode, of_mode in groupby(asked_P, key=lambda asked: asked.mode):
            parameters = self.environment.parameters(mode, temperature=self.recipe.temperature)
            parameters = replace(parameters, top_p=self.recipe.top_p)
            samples_PG += self.engine.sample([asked.tokens for asked in of_mode], self.recipe.samples, parameters)
        read_PG = [
            [self.environment.read(asked, sample) for sample in samples]
            for asked, samples in zip(asked_P, samples_PG, strict=True)
        ]
        sampled_s = self.now_s()
        for asked in asked_P:
            tries[asked.task.id] = tries.get(asked.task.id, 0) + 1
        scoring = Scoring(self.judge, self.rewards, self.recipe.mask_truncated, 1 + self.recipe.resample)
        groups = scoring.groups(asked_P, samples_PG, read_PG, [tries[asked.task.id] for asked in asked_P])
        gathered.sample_s += sampled_s - began_s
        gathered.judge_s += self.now_s() - sampled_s
        return groups
