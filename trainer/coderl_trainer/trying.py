"""How many tasks the weights that an engine samples from solve, decoded greedily. What a run reports before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coderl_generator.extract import Mode

from .environment import Environment
from .judge import Judge
from .types import Sample, SamplingParameters, Task
from .verdicts import Judgement


class Sampler(Protocol):
    """What answers are drawn from: an `Engine`, or a model that somebody else trains."""

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """See `Engine.sample`."""
        ...


_BATCH = 16
"""Prompts that are decoded together."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One task and the answer to it."""

    task: Task
    text: str
    solved: bool | None
    """Every test passed, visible and hidden; None = not graded."""
    exact: bool
    """It is the reference, blanks at its end aside."""


@dataclass(frozen=True, slots=True)
class Trial:
    """All of them, in the order of the tasks."""

    tried: tuple[Tried, ...]

    @property
    def graded(self) -> list[Tried]:
        return [one for one in self.tried if one.solved is not None]

    @property
    def verdicts(self) -> list[tuple[str, str, bool | None]]:
        """(task id, base problem, solved) of each."""
        return [(one.task.id, one.task.problem, one.solved) for one in self.tried]

    @property
    def solve_rate(self) -> float | None:
        """Of the graded ones; None without any."""
        graded = self.graded
        return sum(bool(one.solved) for one in graded) / len(graded) if graded else None

    @property
    def exact_rate(self) -> float | None:
        """Share of exact answers; None without a task."""
        return sum(one.exact for one in self.tried) / len(self.tried) if self.tried else None


def greedily(
    engine: Sampler,
    environment: Environment,
    judge: Judge,
    tasks: Sequence[Task],
    max_tokens: int,
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> Trial:
    """Try every task once, the most likely token each time. Prompts of like length go together."""
    asked = [environment.ask(task) for task in tasks]
    order = sorted(range(len(tasks)), key=lambda index: (asked[index].mode, len(asked[index].tokens)))
    texts = [""] * len(tasks)
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        one_line = all(asked[index].mode is Mode.SINGLE_LINE for index in batch)
        parameters = SamplingParameters(max_tokens, temperature=0.0, one_line=one_line)
        for index, group in zip(batch, engine.sample([asked[index].tokens for index in batch], 1, parameters), strict=True):
            texts[index] = environment.read(asked[index], group[0]).text
        told(min(start + _BATCH, len(order)), len(order))
    judged = judge.judge_all(list(zip(tasks, texts, strict=True)))
    return Trial(
        tuple(
            Tried(
                task,
                text,
                one.solved if isinstance(one, Judgement) else None,
                task.reference is not None and task.reference.rstrip() == text.rstrip(),
            )
            for task, text, one in zip(tasks, texts, judged, strict=True)
        )
    )
