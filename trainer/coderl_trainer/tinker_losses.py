"""Our losses as the Tinker service computes them, and what its answers say of a step. Pure; numbers and lists only.

The service adds up the losses of all tokens and divides by nothing. Its losses, with the names of its arguments:

    cross_entropy    −Σ weights·log π
    ppo              −Σ min(ρ·A, clip(ρ, clip_low_threshold, clip_high_threshold)·A)
    cispo            −Σ sg[clip(ρ, clip_low_threshold, clip_high_threshold)]·A·log π

Each is linear in weights or A, so whatever divides or weighs a row in `losses.reduced` is multiplied into them. Off-policy
REINFORCE with ratios cut at c is `cispo` between 0 and c: the service's own `importance_sampling` does not cut them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .engine import Loss, LossSettings, Normalisation
from .types import Datum

NATIVE = frozenset((Loss.CROSS_ENTROPY, Loss.IMPORTANCE_SAMPLING, Loss.PPO, Loss.CISPO))
"""Those that the service computes in one pass. The others take two: log-probs first, then the gradient of ours with them."""

_LOW, _HIGH = "clip_low_threshold", "clip_high_threshold"


@dataclass(frozen=True, slots=True)
class ServiceLoss:
    """What is asked of the service: the loss by its name there, its constants, and the inputs of each row."""

    name: str
    config: Mapping[str, float]
    inputs_D: tuple[Mapping[str, list[float]], ...]


def service_loss(data_D: Sequence[Datum], settings: LossSettings) -> ServiceLoss:
    """One of the losses in `NATIVE`."""
    scales = row_scales(data_D, settings)
    if settings.loss is Loss.CROSS_ENTROPY:
        inputs = tuple({"weights": [scale * counts for counts in row.mask]} for row, scale in zip(data_D, scales, strict=True))
        return ServiceLoss("cross_entropy", {}, inputs)
    inputs = tuple(
        {
            "logprobs": list(row.behaviour_logprobs),
            "advantages": [scale * one * counts for one, counts in zip(row.advantages, row.mask, strict=True)],
        }
        for row, scale in zip(data_D, scales, strict=True)
    )
    low, high = _bounds(settings)
    return ServiceLoss("ppo" if settings.loss is Loss.PPO else "cispo", {_LOW: low, _HIGH: high}, inputs)


def row_scales(data_D: Sequence[Datum], settings: LossSettings) -> list[float]:
    """(D,) what each token loss of a row is multiplied with, as in `losses.reduced`."""
    rows, tokens = max(len(data_D), 1), max(sum(sum(row.mask) for row in data_D), 1.0)
    if settings.normalisation is Normalisation.TOKENS:
        return [row.weight / tokens for row in data_D]
    if settings.normalisation is Normalisation.CONSTANT:
        return [row.weight / (rows * settings.constant_tokens) for row in data_D]
    return [row.weight / (rows * max(sum(row.mask), 1.0)) for row in data_D]


def counted(values_T: Sequence[float], row: Datum) -> list[float]:
    """Those of the tokens that count."""
    return [value for value, counts in zip(values_T, row.mask, strict=True) if counts]


def step_metrics(data_D: Sequence[Datum], logprobs_D: Sequence[Sequence[float]], settings: LossSettings) -> dict[str, float]:
    """`tokens`, `mean_logratio`, `clip_share` and `entropy` of a step on `data_D`; `logprobs_D` are those of the weights before
    it, for every target. The share is that of a loss in `NATIVE`."""
    tokens = logratio = clipped = surprise = 0.0
    for row, values in zip(data_D, logprobs_D, strict=True):
        for value, before, advantage in zip(
            counted(values, row), counted(row.behaviour_logprobs, row), counted(row.advantages, row), strict=True
        ):
            tokens += 1.0
            logratio += value - before
            surprise -= value
            clipped += _is_clipped(value - before, advantage, settings)
    most = max(tokens, 1.0)
    return {"tokens": tokens, "mean_logratio": logratio / most, "clip_share": clipped / most, "entropy": surprise / most}


def _bounds(settings: LossSettings) -> tuple[float, float]:
    if settings.loss is Loss.PPO:
        return 1.0 - settings.epsilon_low, 1.0 + settings.epsilon_high
    return 0.0, 1.0 + settings.epsilon_high if settings.loss is Loss.CISPO else settings.truncate_at


def _is_clipped(difference: float, advantage: float, settings: LossSettings) -> bool:
    """Whether a clip bound the gradient, as in `losses.token_losses`."""
    if settings.loss is Loss.CROSS_ENTROPY:
        return False
    low, high = _bounds(settings)
    ratio = math.exp(min(difference, 700.0))  # the largest that a float holds is exp(709)
    if settings.loss is Loss.PPO:
        return min(max(ratio, low), high) * advantage < ratio * advantage
    return ratio > high
