"""Episodes of one task, compared: whose runs were better, and the rows that are learned from. Pure.

The advantage belongs to the whole trajectory: every token that the policy wrote in it gets the same one; what tools and the
agent wrote is masked. A run that became several conversations (`trajectories.merged`) weighs as one where rows weigh the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coderl_trainer.advantages import Degenerate, group_advantages
from coderl_trainer.engine import Normalisation
from coderl_trainer.groups import Action, GroupVerdict, group_verdict
from coderl_trainer.recipe import GrpoRecipe
from coderl_trainer.runs import SampleRow
from coderl_trainer.types import Datum

from .episodes import Episode
from .settings import RepairRewards
from .tasks import RepairTask
from .trajectories import merged

_MOST_CHARS = 20_000
"""Of a diff in the run's files."""


@dataclass(frozen=True, slots=True)
class EpisodeGroup:
    """G episodes of one task."""

    task: RepairTask
    episodes: tuple[Episode, ...]
    votes: tuple[float | None, ...]
    """(G,) rewards that are compared: None where the harness failed, or an answer was cut off and such do not vote."""
    verdict: GroupVerdict

    @property
    def taught(self) -> bool:
        """Whether it is learned from."""
        return self.verdict.action is Action.LEARN

    @property
    def solved(self) -> list[bool]:
        """Of the episodes that were graded."""
        return [one.solved for one in self.episodes if one.solved is not None]

    def advantages(self, grpo: GrpoRecipe) -> list[float]:
        """(G,)"""
        return group_advantages(self.votes, scale=grpo.scale)

    def data(self, grpo: GrpoRecipe, row_tokens: int) -> tuple[list[Datum], int]:
        """The rows, and how many conversations were too long to be one."""
        rows: list[Datum] = []
        too_long = 0
        for episode, advantage in zip(self.episodes, self.advantages(grpo), strict=True):
            if not advantage:
                continue
            sequences = merged(episode.turns)
            kept = [one for one in sequences if len(one.tokens) <= row_tokens]
            too_long += len(sequences) - len(kept)
            weight = 1.0 / len(kept) if kept and grpo.normalisation is Normalisation.SEQUENCES else 1.0
            rows += [one.datum(advantage, weight) for one in kept]
        return rows, too_long


def grouped(task: RepairTask, episodes: Sequence[Episode], grpo: GrpoRecipe, rewards: RepairRewards) -> EpisodeGroup:
    """The group of a task. Rewards that only the tie-breaker tells apart are no lesson."""
    votes = [None if grpo.mask_truncated and one.cut_off else one.reward for one in episodes]
    solved = [one.solved for one in episodes]
    verdict = group_verdict(
        [one.diff for one in episodes],
        votes,
        solved_G=solved if any(one is not None for one in solved) else None,
        tolerance=rewards.tie_breaker(len(task.fail_to_pass or task.fail_ids)) + 1e-9,
    )
    return EpisodeGroup(task, tuple(episodes), tuple(votes), verdict)


def metrics_of(groups: Sequence[EpisodeGroup]) -> dict[str, float | None]:
    """The figures of one step under the names of `metric_names`; None where nothing was measured."""
    episodes = [one for group in groups for one in group.episodes]
    graded = [one for one in episodes if one.solved is not None]
    votes = [[vote for vote in group.votes if vote is not None] for group in groups]
    lengths = [one.activity.tokens for one in episodes]
    told: dict[str, float | None] = {
        "reward": _mean([one.reward for one in graded if one.reward is not None]),
        "reward_std": _mean([statistics.pstdev(one) for one in votes if len(one) > 1]),
        "frac_reward_zero_std": _mean([float(len(set(one)) < 2) for one in votes]),
        "completions/mean_length": _mean(lengths),
        "completions/min_length": min(lengths, default=None),
        "completions/max_length": max(lengths, default=None),
        "completions/clipped_ratio": _mean([float(one.cut_off) for one in episodes]),
        "groups": len(groups),
        "solve/hidden": _mean([float(bool(one.solved)) for one in graded]),
        "ungraded": _mean([float(one.solved is None) for one in episodes]),
        "agent/conversations": _mean([len(merged(one.turns)) for one in graded]),
        "agent/forfeited": _mean([float(any(kind.forfeits for kind in one.findings)) for one in graded]),
    }
    measured: dict[str, Callable[[Episode], float | None]] = {
        "solve/visible": _visible,
        "agent/partial": lambda one: one.partial,
        "agent/turns": lambda one: one.activity.turns,
        "agent/files_read": lambda one: one.activity.files_read,
        "agent/commands_run": lambda one: one.activity.commands_run,
        "agent/wall_s": lambda one: None if one.ended is None else one.ended.wall_s,
    }
    for name, value_of in measured.items():
        told[name] = _mean([value for one in graded if (value := value_of(one)) is not None])
    for reason in Degenerate:
        told[f"skipped/{reason}"] = _mean([float(group.verdict.degenerate is reason) for group in groups])
    for name in ("solved", "partial", "similarity"):
        told[f"rewards/{name}/mean"] = _mean([value for one in graded if (value := one.parts.get(name)) is not None])
    return told


def rows_of(groups: Sequence[EpisodeGroup], grpo: GrpoRecipe) -> list[SampleRow]:
    """Every episode of the step: what it was asked, the diff it left."""
    return [
        SampleRow(
            task_id=group.task.id,
            prompt=group.task.problem_statement,
            text=episode.diff[:_MOST_CHARS],
            rewards=episode.parts,
            reward=episode.reward,
            advantage=advantage if group.taught and vote is not None else None,
            group=index,
            skipped="ungraded" if episode.reward is None else "truncated" if vote is None else group.verdict.skipped,
        )
        for index, group in enumerate(groups)
        for episode, vote, advantage in zip(group.episodes, group.votes, group.advantages(grpo), strict=True)
    ]


def _visible(episode: Episode) -> float | None:
    passed = getattr(episode.grade, "passed_visible", None)
    return None if passed is None else float(passed)


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
