"""Constants of the loss that follow what training measures: the upper clip, and the coefficient of the entropy. Pure.

Both are controllers with one number as their state. They are moved once per optimizer step, by that step's own measurement, and
go on after a restart from the number that `state` gave.

The upper clip matters because it alone decides how far an unlikely token may rise (DAPO, Yu et al. 2025, §3.1): too low and the
entropy collapses, too high and a step goes too far. The entropy coefficient is raised while the entropy lies below its target,
as in Skywork-OR1 (He et al. 2025, §4) and in TRL's adaptive entropy; ours moves in proportion to the error and not by a
constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from .errors import FigureError


class ClipTarget(StrEnum):
    """What `AdaptiveClip` holds steady."""

    CLIP_SHARE = "clip_share"
    """The share of tokens whose gradient is clipped; a wider clip means fewer."""
    ENTROPY = "entropy"
    """The mean entropy per token in nats; a wider clip means more."""


@dataclass(frozen=True, slots=True)
class AdaptiveClip:
    """ε_high that follows a target: log ε ← log ε + rate·e, bounded, with e the relative error, cut to ±1.

    e is (measured − target)/target for the clip share and (target − measured)/target for the entropy. So one step changes ε by
    at most a factor of exp(rate). Raises `FigureError` for bounds or a target that make no sense.
    """

    epsilon: float
    """The present ε_high."""
    target: float
    by: ClipTarget = ClipTarget.CLIP_SHARE
    lowest: float = 0.1
    highest: float = 1.0
    rate: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.epsilon <= self.highest < math.inf:
            raise FigureError(f"The clip {self.epsilon} must lie within 0 < {self.lowest} … {self.highest}.")
        if not (0 < self.target < math.inf and 0 < self.rate < math.inf):
            raise FigureError(f"Target and rate of the clip must be above 0, not {self.target} and {self.rate}.")

    def after(self, measured: float) -> AdaptiveClip:
        """The clip of the next step. A measurement that is not a number changes nothing."""
        if math.isnan(measured):
            return self
        error = (measured - self.target) / self.target
        if self.by is ClipTarget.ENTROPY:
            error = -error
        moved = self.epsilon * math.exp(self.rate * _cut(error))
        return replace(self, epsilon=min(max(moved, self.lowest), self.highest))

    @property
    def state(self) -> str:
        """What `resumed` needs, exactly."""
        return self.epsilon.hex()

    def resumed(self, state: str) -> AdaptiveClip:
        """This controller with the clip that was saved. Raises `FigureError` for a text that is no state of it."""
        return replace(self, epsilon=_number(state))


@dataclass(frozen=True, slots=True)
class EntropySchedule:
    """The entropy coefficient: a straight line from `start` to `end` over `steps` steps, constant after; and, where `target` is
    set, raised and lowered around it.

    With a target, the coefficient is line(step)·gain. gain ≥ 0 moves by `rate`·(target − measured)/target a step (the error cut
    to ±1) and stays within 0 … `most_gain`. Raises `FigureError` for numbers that make no sense.
    """

    start: float
    end: float | None = None
    """None = as `start`."""
    steps: int = 0
    target: float | None = None
    """Nats per token; None = only the line."""
    rate: float = 0.1
    most_gain: float = 10.0
    gain: float = 1.0
    step: int = 0
    """Optimizer steps done."""

    def __post_init__(self) -> None:
        numbers = (self.start, self.start if self.end is None else self.end, self.rate, self.gain)
        if not all(math.isfinite(number) and number >= 0 for number in numbers) or self.steps < 0 or self.step < 0:
            raise FigureError("Coefficients, rate, gain and steps of the entropy schedule must be 0 or more.")
        if self.target is not None and not 0 < self.target < math.inf:
            raise FigureError(f"The target of the entropy must be above 0, not {self.target}.")
        if not self.gain <= self.most_gain < math.inf:
            raise FigureError(f"The gain {self.gain} of the entropy is above its bound {self.most_gain}.")

    @property
    def coefficient(self) -> float:
        """Of the present step."""
        end = self.start if self.end is None else self.end
        share = min(1.0, self.step / self.steps) if self.steps else 1.0
        return (self.start + (end - self.start) * share) * self.gain

    def after(self, measured: float) -> EntropySchedule:
        """The schedule one step on, having measured this entropy in nats per token."""
        gain = self.gain
        if self.target is not None and not math.isnan(measured):
            gain = min(max(gain + self.rate * _cut((self.target - measured) / self.target), 0.0), self.most_gain)
        return replace(self, step=self.step + 1, gain=gain)

    @property
    def state(self) -> str:
        """What `resumed` needs, exactly."""
        return f"{self.step} {self.gain.hex()}"

    def resumed(self, state: str) -> EntropySchedule:
        """This schedule where it was saved. Raises `FigureError` for a text that is no state of it."""
        step, _, gain = state.partition(" ")
        if not step.isdecimal():
            raise FigureError(f"{state!r} is no state of an entropy schedule.")
        return replace(self, step=int(step), gain=_number(gain))


def _cut(error: float) -> float:
    return min(max(error, -1.0), 1.0)


def _number(text: str) -> float:
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError) as error:
        raise FigureError(f"{text!r} is no number that a controller saved.") from error
