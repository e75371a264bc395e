"""The vocabulary of training: what is sampled, what is learned from, what is asked for.

Axis suffixes in names (after tinker-cookbook's CONTRIBUTING.md): `_P` problems, `_G` samples of one group, `_T` tokens, `_D`
data. Axes written together are flattened: `rewards_PG` is one list over problems × samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from coderl_generator.backend import line_is_complete

from .errors import DatumError, TaskError


class StopReason(StrEnum):
    """Why a sample ended."""

    STOP = "stop"
    """The model's end of sequence, or a stop text."""
    LENGTH = "length"
    """The token budget was used up; the text is cut off, not finished."""


class TaskKind(StrEnum):
    """What a task asks for; the judge of each kind differs."""

    FUNCTION = "function"
    """Write a function from its description."""
    INFILL = "infill"
    """Write what stands between a prefix and a suffix."""
    REPAIR = "repair"
    """Change a wrong function so that its tests pass."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How to sample. `temperature` 0 is greedy; training needs above 0, else a group holds the same text G times."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    one_line: bool = False
    """End at the end of the first line that is not blank; its line break is the last token."""
    seed: int | None = None

    @property
    def ends_by_text(self) -> bool:
        """Whether what was written so far can end a sample."""
        return self.one_line or bool(self.stop)

    def complete(self, text: str) -> bool:
        """Whether a sample whose text is this has ended; a token that ends a sequence is not looked for."""
        return (self.one_line and line_is_complete(text)) or any(stop in text for stop in self.stop)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion, token by token, as the sampler drew it.

    Raises `DatumError` where `tokens` and `logprobs` differ in length or a log-prob is above 0 or not a number.
    """

    tokens: tuple[int, ...]
    """(T,) the engine's token ids, prompt excluded; never re-tokenised from text."""
    logprobs: tuple[float, ...]
    """(T,) natural-log probability of each token under the sampling distribution (the behaviour policy), ≤ 0."""
    stop_reason: StopReason
    policy_version: int
    """The weights that sampled it: the value `Engine.publish` returned, 0 for the untrained model."""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.logprobs):
            raise DatumError(f"A sample has {len(self.tokens)} tokens but {len(self.logprobs)} log-probs.")
        _require_logprobs(self.logprobs)


@dataclass(frozen=True, slots=True)
class Datum:
    """One row of a training batch: next-token prediction of `target_tokens` from `input_tokens`, position by position.

    All five sequences have the same length T. Position t predicts `target_tokens[t]` after `input_tokens[: t + 1]`, so for a
    prompt p and a sample s the input is (p + s)[:-1] and the target (p + s)[1:]. Raises `DatumError` on construction.
    """

    input_tokens: tuple[int, ...]
    """(T,)"""
    target_tokens: tuple[int, ...]
    """(T,)"""
    behaviour_logprobs: tuple[float, ...]
    """(T,) log π_behaviour(target), natural log; 0 where `mask` is 0."""
    advantages: tuple[float, ...]
    """(T,) advantage of each target token; the same over one sample for outcome rewards."""
    mask: tuple[float, ...]
    """(T,) 1 where the token is the policy's own and counts in the loss, 0 for prompt and tool output."""
    weight: float = 1.0
    """Weight of the row, ≥ 0: for logged suggestions the truncated inverse of the propensity with which they were shown."""

    def __post_init__(self) -> None:
        length = len(self.input_tokens)
        for name in ("target_tokens", "behaviour_logprobs", "advantages", "mask"):
            if len(getattr(self, name)) != length:
                raise DatumError(f"A datum of {length} input tokens has {len(getattr(self, name))} {name}.")
        _require_logprobs(self.behaviour_logprobs)
        if any(value not in (0.0, 1.0) for value in self.mask):
            raise DatumError("The mask of a datum holds only 0 and 1.")
        if not all(map(math.isfinite, self.advantages)):
            raise DatumError("An advantage of a datum is not finite.")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise DatumError(f"The weight of a datum must be 0 or more, not {self.weight}.")


class Tier(StrEnum):
    """How hard a task is, as its author sees it; the curriculum goes by the measured solve rate."""

    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Task:
    """One problem with what judges an answer to it.

    Split train and test by `group_id`, never by task: the infilling rows of HumanEval share 164 problems between 1,033 tasks.
    Raises `TaskError` where there is nothing that could judge an answer.
    """

    id: str
    kind: TaskKind
    prompt: str
    """What the policy sees; for `INFILL` the text before the gap."""
    visible_tests: tuple[str, ...] = ()
    """Python statements, each of them one test; the reward is made of these. A test that defines `check` is called with the
    entry point. The policy sees none of them but the one that a prompt shows as its example (MBPP)."""
    hidden_tests: tuple[str, ...] = ()
    """The same, for measuring only: where the visible ones pass and these fail, the reward was hacked."""
    setup: str = ""
    """Python that the tests need (imports, helpers, classes that inputs are made of)."""
    suffix: str | None = None
    """`INFILL`: the text after the gap."""
    stem: str | None = None
    """What stands before the completion in the program; None = the prompt."""
    entry_point: str = ""
    """The name the tests call. `candidate` means the same in a test."""
    reference: str | None = None
    """A completion that is right."""
    language: str = "python"
    path: str = ""
    group_id: str = ""
    """The base problem; empty = the task is its own."""
    tier: Tier | None = None
    source: str = ""
    """Data set and version."""
    licence: str = ""
    """SPDX name of the data set's licence."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __post_init__(self) -> None:
        if not self.visible_tests and self.reference is None:
            raise TaskError(f"Task {self.id} has neither a visible test nor a reference: nothing could judge an answer.")

    @property
    def problem(self) -> str:
        """The base problem; tasks of one problem are no independent tasks."""
        return self.group_id or self.id

    def program(self, completion: str) -> str:
        """The whole text with `completion` in its place."""
        return (self.prompt if self.stem is None else self.stem) + completion + (self.suffix or "")


def _require_logprobs(values: tuple[float, ...]) -> None:
    if any(math.isnan(value) or value > 0 for value in values):
        raise DatumError("A log-prob must be a number of at most 0.")
