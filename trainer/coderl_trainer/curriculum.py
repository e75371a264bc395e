"""Which tasks are asked next: those whose answers are neither all right nor all wrong. Pure but for its own state.

What is known of a task is a Beta posterior of its solve rate, whose past is forgotten with each visit, because the policy
changes:

    a ← γ·(a − a₀) + a₀ + solved        b ← γ·(b − b₀) + b₀ + failed        a₀ = b₀ = 1

A group of G answers with solve rate θ teaches in proportion to the variance of its rewards, θ(1 − θ) (DAPO, Yu et al. 2025,
§3.2, drops the groups where it is 0). A task is drawn with the expectation of that under the posterior, and a floor, so that
nothing is given up for ever:

    weight = floor + 4·E[θ(1 − θ)] = floor + 4·a·b / ((a + b)(a + b + 1))

Hard groups are replayed: a task that some answers solved and most did not stays in a bounded buffer, and a share of every draw
comes from there, until it is solved as often as not.

Draws come from a seed and a counter alone; the whole state is one JSON text, and a curriculum read from it goes on as if it had
never stopped. Not covered: likeness of tasks (a problem with many gaps is drawn as many times), and answers that nobody graded,
which teach the curriculum nothing.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import TaskError


@dataclass(frozen=True, slots=True)
class CurriculumConfig:
    """Constants of a curriculum. Raises `TaskError`."""

    forget: float = 0.7
    """γ: what is left of the evidence of earlier visits, in [0, 1]."""
    floor: float = 0.05
    """Weight of a task that teaches nothing now, against 1 for one that is solved half the time; above 0."""
    replay_share: float = 0.25
    """Of every draw, from the buffer of hard tasks, in [0, 1]."""
    replay_size: int = 64
    """Most tasks in the buffer; the oldest leaves first."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("forget", "floor", "replay_share"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value <= 1):
                raise TaskError(f"{name} of a curriculum must lie between 0 and 1, not at {value!r}.")
        if not self.floor > 0:
            raise TaskError("The floor of a curriculum must be above 0: a task that was given up would never be seen again.")
        if not (isinstance(self.replay_size, int) and self.replay_size >= 0):
            raise TaskError(f"replay_size of a curriculum must be 0 or more, not {self.replay_size!r}.")


@dataclass(frozen=True, slots=True)
class SolveRate:
    """What is known of one task: a Beta(a, b) distribution of its solve rate."""

    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not (1 <= self.a < math.inf and 1 <= self.b < math.inf):
            raise TaskError(f"A solve rate cannot be known as Beta({self.a}, {self.b}): both are at least 1.")

    @property
    def mean(self) -> float:
        """Expected solve rate, in (0, 1)."""
        return self.a / (self.a + self.b)

    @property
    def teaches(self) -> float:
        """4·E[θ(1 − θ)], in (0, 1): highest where half of the answers are right."""
        total = self.a + self.b
        return 4 * self.a * self.b / (total * (total + 1))

    def seen(self, solved: int, failed: int, forget: float) -> SolveRate:
        """After a visit with so many right and wrong answers. Raises `TaskError` for counts below 0."""
        if solved < 0 or failed < 0:
            raise TaskError(f"{solved} answers solved and {failed} failed: neither can be below 0.")
        return SolveRate(forget * (self.a - 1) + 1 + solved, forget * (self.b - 1) + 1 + failed)


class Curriculum:
    """Draws task ids and learns from what became of them. Not safe for use from several threads."""

    def __init__(self, task_ids: Sequence[str], config: CurriculumConfig | None = None) -> None:
        """Raises `TaskError` for no tasks and for ids that are there twice."""
        if not task_ids or len(set(task_ids)) != len(task_ids):
            raise TaskError("A curriculum needs tasks, and each of them once.")
        self.config = config or CurriculumConfig()
        self._rates = dict.fromkeys(task_ids, SolveRate())
        self._hard: list[str] = []
        self._draws = 0

    @property
    def hard(self) -> tuple[str, ...]:
        """The buffer of hard tasks, the oldest first."""
        return tuple(self._hard)

    def rate(self, task_id: str) -> SolveRate:
        """What is known of a task. Raises `TaskError`."""
        try:
            return self._rates[task_id]
        except KeyError:
            raise TaskError(f"The curriculum knows no task {task_id!r}.") from None

    def draw(self, tasks: int) -> list[str]:
        """So many different ids, fewer where there are fewer: those from the buffer first. Raises `TaskError` below 1."""
        if tasks < 1:
            raise TaskError(f"{tasks} tasks cannot be drawn.")
        chance = random.Random(f"{self.config.seed}:{self._draws}")
        self._draws += 1
        replayed = self._weighted(self._hard, math.floor(self.config.replay_share * tasks + chance.random()), chance)
        rest = [one for one in self._rates if one not in replayed]
        return [*replayed, *self._weighted(rest, tasks - len(replayed), chance)]

    def note(self, task_id: str, solved: int, failed: int) -> None:
        """What became of a visit: answers that were right and wrong; ungraded ones count for neither. Raises `TaskError`."""
        self._rates[task_id] = self.rate(task_id).seen(solved, failed, self.config.forget)
        if not solved and not failed:
            return
        hard = 0 < solved < failed
        if task_id in self._hard and (hard or self.rate(task_id).mean >= 0.5):
            self._hard.remove(task_id)
        if hard:
            self._hard = [*self._hard, task_id][-self.config.replay_size :] if self.config.replay_size else []

    def to_json(self) -> str:
        """The whole state as one text; equal states give equal texts."""
        rates = {name: [rate.a, rate.b] for name, rate in self._rates.items()}
        state = {"config": asdict(self.config), "draws": self._draws, "hard": self._hard, "rates": rates}
        return json.dumps(state, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Curriculum:
        """The curriculum that `to_json` wrote. Raises `TaskError`."""
        try:
            state: dict[str, Any] = json.loads(text)
            config = CurriculumConfig(**{one.name: state["config"][one.name] for one in fields(CurriculumConfig)})
            curriculum = cls(list(state["rates"]), config)
            curriculum._rates = {name: SolveRate(float(a), float(b)) for name, (a, b) in state["rates"].items()}
            curriculum._hard, curriculum._draws = list(map(str, state["hard"])), int(state["draws"])
        except (ValueError, TypeError, KeyError) as error:
            raise TaskError(f"This is not the state of a curriculum: {error}.") from error
        if not set(curriculum._hard) <= set(curriculum._rates):
            raise TaskError("This is not the state of a curriculum: it replays tasks that it does not hold.")
        return curriculum

    def _weighted(self, task_ids: Sequence[str], tasks: int, chance: random.Random) -> list[str]:
        """Drawn without replacement by weight: the largest u^(1/weight) (Efraimidis and Spirakis 2006)."""
        weights = [self.config.floor + self._rates[one].teaches for one in task_ids]
        keys = {one: math.log(1.0 - chance.random()) / weight for one, weight in zip(task_ids, weights, strict=True)}
        return sorted(task_ids, key=keys.__getitem__, reverse=True)[: max(0, tasks)]
