"""Rewards: the parts of `coderl_trainer.reward_parts` put together by weights, so that what was executed comes first.

Parts have levels: what happened (tests, or the text finally kept), then compile and form, then trace (time, style, likeness,
the gate's opinion). With the weights w of a level, the value of an answer is

    total = T + c·C + x·X        T, C, X = Σ w·part over the parts of each level

Let g be the smallest step that counts in a level: the least weight times step of its parts (`_STEPS`; of `fractional` a test).
Where lower levels follow, T and C are cut down to multiples of their g. c and x are 1, unless the lower level could make up for
such a step; then c = g_T / (2·Σ w_C), x = c·g_C / (2·Σ w_X). So an answer that is better by one step of a level is better in
total, whatever the lower levels say; those only break ties.

Covered: the order of levels for every choice of weights; programs the grader failed on (`Ungraded`) have no total and no parts;
hidden tests change nothing. A lower part that does not know one graded answer of a group counts for none of it, so that nobody
wins by being unknown. Not covered: within a level the weights decide, and a normalisation by the group's deviation makes a
tie-breaker as large as anything else where nothing but it differs (`RewardConfig.tie_breakers` is the cure).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import partial as bound
from types import MappingProxyType
from typing import Any, Final, Protocol

from coderl_gate.costs import CostParameters
from coderl_generator.extract import Extracted

from . import reward_parts as parts
from .errors import RewardError
from .reward_parts import Verdict
from .types import Task
from .verdicts import Ungraded


class Level(IntEnum):
    """What counts first."""

    OUTCOME = 0
    COMPILE = 1
    TRACE = 2


LEVELS: Final[Mapping[str, Level]] = MappingProxyType(
    {
        "binary": Level.OUTCOME,
        "fractional": Level.OUTCOME,
        "partial": Level.OUTCOME,
        "agreement": Level.OUTCOME,
        "seconds_saved": Level.OUTCOME,
        "compiles": Level.COMPILE,
        "format": Level.COMPILE,
        "efficiency": Level.TRACE,
        "quality": Level.TRACE,
        "similarity": Level.TRACE,
        "critic": Level.TRACE,
    }
)
"""Part → its level."""
_STEPS: Final[Mapping[str, float]] = MappingProxyType(
    {"binary": 1.0, "partial": 1 / parts.GRID, "agreement": 1 / 32, "seconds_saved": 0.1, "compiles": 1.0, "format": 1.0}
)
"""Part → the smallest difference in it that counts; of `fractional` it is one test of the task."""


class Linter(Protocol):
    """Looks at programs without running them (`coderl_trainer.ruff_linter`)."""

    def findings(self, programs: Sequence[str]) -> Sequence[Mapping[str, int]]:
        """Rule → how often, for each program; `reward_parts.SYNTAX` for one that is no program."""
        ...


class Critic(Protocol):
    """Has an opinion on an answer (`coderl_trainer.gate_critic`)."""

    def score(self, task: Task, text: str, extracted: Extracted | None) -> float | None:
        """In [0, 1]; None = no opinion."""
        ...


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """Which parts count how much, and their constants. Raises `RewardError`."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType({"binary": 1.0, "compiles": 0.05, "format": 0.025}), hash=False
    )
    """Part → weight, ≥ 0; a part of weight 0 is worked out and logged, and does not count."""
    full_chars: float = 80.0
    """`seconds_saved`: more characters than these save no more time."""
    waited_s: float = 0.0
    """`seconds_saved`: seconds stood still for a suggestion."""
    slack: float = 1.5
    """`efficiency`: so many times the reference's time is as good as it."""
    noise_ms: float = 5.0
    each_finding: float = 0.25
    """`quality`: what a new finding costs."""
    similarity_cap: float = 0.8

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(LEVELS))
        if unknown:
            raise RewardError(f"There is no part {', '.join(map(repr, unknown))} of a reward; known are {', '.join(LEVELS)}.")
        for name, weight in self.weights.items():
            _require(f"The weight of {name}", weight, low=0.0)
        if not any(self.weights.values()):
            raise RewardError("Every weight is 0: there would be no reward.")
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))
        _require("full_chars", self.full_chars, low=1.0)
        _require("waited_s", self.waited_s, low=0.0)
        _require("slack", self.slack, low=1.0)
        _require("noise_ms", self.noise_ms, low=0.0)
        _require("each_finding", self.each_finding, low=0.0, high=1.0)
        _require("similarity_cap", self.similarity_cap, low=0.01, high=1.0)

    @property
    def tie_breakers(self) -> float:
        """Most that the levels below the first one can make between two answers; 0 where there are none.

        As `tolerance` of `coderl_trainer.groups.group_verdict` it keeps a run to groups whose outcomes differ: without it, a
        group in which nobody is right but some answers compile is as large a lesson as one with a right answer in it.
        """
        weighed = {name: weight for name, weight in self.weights.items() if weight}
        first = min(LEVELS[name] for name in weighed)
        lower = math.fsum(weight for name, weight in weighed.items() if LEVELS[name] is not first)
        return lower * (1 + 1e-9) + 1e-9 if lower else 0.0  # a hair more, for sums of floats

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> RewardConfig:
        """From plain data, for example a table of a run's TOML; keys are the fields. Raises `RewardError`."""
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise RewardError(f"{', '.join(unknown)} is no setting of a reward; known are {', '.join(known)}.")
        if not isinstance(data.get("weights", {}), Mapping):
            raise RewardError("The weights of a reward must be a table of part and number.")
        return cls(**data)

    def to_mapping(self) -> dict[str, Any]:
        """What `from_mapping` reads as the same."""
        return {**{one.name: getattr(self, one.name) for one in fields(self)}, "weights": dict(self.weights)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer to a task, as far as it is known."""

    text: str
    """As the extractor left it."""
    verdict: Verdict = None
    """None = nobody judged it."""
    extracted: Extracted | None = None


@dataclass(frozen=True, slots=True)
class Reward:
    """What an answer is worth."""

    total: float | None
    """None = it does not vote: its grader failed, or no part of the first level that counts had anything to say."""
    parts: Mapping[str, float | None] = field(hash=False)
    """Every configured part on its own, unweighted; None = it had nothing to say."""


class Rewards:
    """Rewards by one configuration; the same answers always get the same."""

    def __init__(
        self,
        config: RewardConfig | None = None,
        *,
        costs: CostParameters | None = None,
        linter: Linter | None = None,
        critic: Critic | None = None,
        reference_cpu_ms: Mapping[str, float] | None = None,
    ) -> None:
        """`costs`: of the programmer `seconds_saved` is for. `reference_cpu_ms`: task id → processor time of the reference.

        Raises `RewardError` where `quality` or `critic` is configured without the object that it asks.
        """
        self.config = config or RewardConfig()
        for name, given in (("quality", linter), ("critic", critic), ("efficiency", reference_cpu_ms)):
            if name in self.config.weights and given is None:
                needed = {"quality": "a linter", "critic": "a critic"}.get(name, "the times of the references")
                raise RewardError(f"The part {name} of the reward needs {needed}.")
        self._costs = costs or CostParameters()
        self._linter = linter
        self._critic = critic
        self._reference_cpu_ms = reference_cpu_ms or {}
        self._found_before: dict[str, Mapping[str, int]] = {}

    def one(self, task: Task, attempt: Attempt) -> Reward:
        """The reward of an answer that is compared with no other; of `partial`, a test's weight is then by itself alone."""
        return self.group(task, [attempt])[0]

    def group(self, task: Task, attempts: Sequence[Attempt]) -> list[Reward]:
        """The rewards of the answers to one task, in their order. May raise what linter and critic raise."""
        worked_out = self._all_parts(task, attempts)
        known = [values for values, one in zip(worked_out, attempts, strict=True) if not isinstance(one.verdict, Ungraded)]
        weights = {name: weight for name, weight in self.config.weights.items() if weight}
        first = min(LEVELS[name] for name in weights)
        counting = {
            name: weight
            for name, weight in weights.items()
            if (any if LEVELS[name] is first else all)(values[name] is not None for values in known)
        }
        told: list[Reward] = []
        for values, one in zip(worked_out, attempts, strict=True):
            graded = not isinstance(one.verdict, Ungraded)
            speaks = graded and any(values[name] is not None for name in counting if LEVELS[name] is first)
            told.append(Reward(_total(values, counting, task) if speaks else None, MappingProxyType(values)))
        return told

    def _all_parts(self, task: Task, attempts: Sequence[Attempt]) -> list[dict[str, float | None]]:
        """(G,) part → value."""
        passes, answers = parts.passes_per_test([one.verdict for one in attempts])
        weights = parts.weights_of_tests(passes, answers)
        found = self._findings(task, attempts) if "quality" in self.config.weights else [None] * len(attempts)
        told: list[dict[str, float | None]] = []
        for one, findings in zip(attempts, found, strict=True):
            ways = self._ways(task, one, weights, findings)
            silent = isinstance(one.verdict, Ungraded)
            told.append({name: None if silent else ways[name](task, one.text, one.verdict) for name in self.config.weights})
        return told

    def _ways(
        self, task: Task, one: Attempt, weights: Sequence[float], findings: Mapping[str, int] | None
    ) -> dict[str, Callable[[Task, str, Verdict], float | None]]:
        """Part → how it is worked out for one answer."""
        config, before = self.config, self._found_before.get(task.id)
        saved = bound(parts.seconds_saved, costs=self._costs, full_chars=config.full_chars, waited_s=config.waited_s)
        reference_ms = self._reference_cpu_ms.get(task.id)
        return {
            "binary": parts.binary,
            "fractional": parts.fractional,
            "partial": bound(parts.partial, weights=weights),
            "agreement": parts.agreement,
            "seconds_saved": saved,
            "compiles": parts.compiles,
            "format": bound(parts.well_formed, extracted=one.extracted),
            "efficiency": bound(parts.efficiency, reference_cpu_ms=reference_ms, slack=config.slack, noise_ms=config.noise_ms),
            "quality": bound(parts.quality, findings=findings, before=before, each=config.each_finding),
            "similarity": bound(parts.similarity, cap=config.similarity_cap),
            "critic": bound(self._opinion, extracted=one.extracted),
        }

    def _findings(self, task: Task, attempts: Sequence[Attempt]) -> list[Mapping[str, int] | None]:
        if self._linter is None or task.language != "python":
            return [None] * len(attempts)
        programs = [task.program(one.text) for one in attempts]
        if task.id not in self._found_before:
            programs.append(task.program(task.reference or ""))
        different = list(dict.fromkeys(programs))
        found = dict(zip(different, self._linter.findings(different), strict=True))
        if len(programs) > len(attempts):
            self._found_before[task.id] = found[programs[-1]]
        return [found[program] for program in programs[: len(attempts)]]

    def _opinion(self, task: Task, text: str, verdict: Verdict, *, extracted: Extracted | None) -> float | None:
        opinion = None if self._critic is None else self._critic.score(task, text, extracted)
        return None if opinion is None else min(1.0, max(0.0, opinion))


def _total(values: Mapping[str, float | None], weights: Mapping[str, float], task: Task) -> float:
    """T + c·C + x·X of the module, over the parts that count."""
    levels = [level for level in Level if any(LEVELS[name] is level for name in weights)]
    total, room = 0.0, math.inf
    for level in levels:
        own = {name: weight for name, weight in weights.items() if LEVELS[name] is level}
        value = math.fsum(weight * (values[name] or 0.0) for name, weight in own.items())
        scale = min(1.0, room / (2 * sum(own.values())))
        if level is not levels[-1]:
            step = min(weight * _step(name, task) for name, weight in own.items())
            value = math.floor(value / step + 1e-9) * step
            room = scale * step
        total += scale * value
    return total


def _step(name: str, task: Task) -> float:
    return 1.0 / max(1, len(task.visible_tests)) if name == "fractional" else _STEPS[name]


def _require(what: str, value: Any, *, low: float, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RewardError(f"{what} must be a number, not {value!r}.")
    if not low <= value <= high:
        raise RewardError(f"{what} must be at least {low:g}{f' and at most {high:g}' if high < math.inf else ''}, not {value}.")
