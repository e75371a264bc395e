"""A step's groups as the figures and samples of a run folder. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .advantages import Degenerate
from .recipe import GrpoRecipe
from .rollouts import Gathered, Group
from .runs import SampleRow
from .types import StopReason
from .verdicts import Judgement


def of_rollouts(gathered: Gathered) -> dict[str, float | None]:
    """The figures of one step under the names of `metric_names`; None where nothing was measured."""
    groups = gathered.groups
    samples = [sample for group in groups for sample in group.samples]
    totals = [reward.total for group in groups for reward in group.rewards if reward.total is not None]
    judged = [one.verdict for group in groups for one in group.attempts if one.verdict is not None]
    graded = [one for one in judged if isinstance(one, Judgement)]
    hidden = [one for one in graded if one.passed_hidden is not None]
    lengths = [len(sample.tokens) for sample in samples]
    told: dict[str, float | None] = {
        "reward": _mean(totals),
        "reward_std": _mean([statistics.pstdev(votes) for group in groups if len(votes := _votes(group)) > 1]),
        "frac_reward_zero_std": _mean([float(len(set(_votes(group))) < 2) for group in groups]),
        "completions/mean_length": _mean(lengths),
        "completions/min_length": min(lengths, default=None),
        "completions/max_length": max(lengths, default=None),
        "completions/clipped_ratio": _mean([float(one.stop_reason is StopReason.LENGTH) for one in samples]),
        "groups": len(groups),
        "solve/visible": _mean([float(one.passed) for one in graded]),
        "solve/hidden": _mean([float(one.passed and bool(one.passed_hidden)) for one in hidden]),
        "ungraded": _mean([float(not isinstance(one, Judgement)) for one in judged]),
        "time/sample_s": gathered.sample_s,
        "time/judge_s": gathered.judge_s,
    }
    for reason in Degenerate:
        told[f"skipped/{reason}"] = _mean([float(group.verdict.degenerate is reason) for group in groups])
    for name in sorted({name for group in groups for reward in group.rewards for name in reward.parts}):
        told[f"rewards/{name}/mean"] = _mean(
            [part for group in groups for reward in group.rewards if (part := reward.parts.get(name)) is not None]
        )
    return told


def rows_of(gathered: Gathered, recipe: GrpoRecipe) -> list[SampleRow]:
    """Every sample of the step, those that were not learned from with the reason."""
    return [
        SampleRow(
            task_id=group.task.id,
            prompt=group.asked.prompt.text,
            text=attempt.text,
            rewards=reward.parts,
            reward=reward.total,
            advantage=advantage if group.verdict.degenerate is None and vote is not None else None,
            group=index,
            skipped=_why(group, vote, reward.total),
        )
        for index, group in enumerate(gathered.groups)
        for attempt, reward, vote, advantage in zip(
            group.attempts, group.rewards, group.votes, group.advantages(recipe), strict=True
        )
    ]


def _why(group: Group, vote: float | None, total: float | None) -> str:
    if total is None:
        return "ungraded"
    if vote is None:
        return "truncated"
    return group.verdict.skipped


def _votes(group: Group) -> list[float]:
    return [vote for vote in group.votes if vote is not None]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
