"""The losses, as functions of log-probabilities. Pure tensor functions; torch is imported by whoever hands the tensors in.

Shapes: rows × tokens, written `_DT`; `mask_DT` is 1 where a token counts. With ρ_t = exp(log π_θ(t) − log π_b(t)), A_t the
advantage and clip(x) = min(max(x, 1 − ε_low), 1 + ε_high), the loss of a token is

    cross entropy         −log π_θ
    importance sampling   −sg[min(ρ, c)]·A·log π_θ             truncated weights: Espeholt et al. 2018, §4.1
    ppo                   −min(ρ·A, clip(ρ)·A)             Schulman et al. 2017, eq. 7; two bounds: DAPO, 2025, §3.1
    gspo                  the same with ρ = exp(mean of the row's log-ratios)          GSPO, Zheng et al. 2025, eq. 7
    cispo                 −sg[min(ρ, 1 + ε_high)]·A·log π_θ    MiniMax-M1, 2025, §3.1, eq. 4
    dro                   −(A·log π_θ − β/2·(log π_θ − log π_b)²)                      DRO, Richemond et al. 2024, §3
    kto                   a row's 1 − σ(±(β·Σ log-ratio − z)), + where A > 0           KTO, Ethayarajh et al. 2024, eq. 8

sg stops the gradient. z of KTO is its reference point: 0 here, the choice of KTO without an estimate of the divergence
(`apo_zero_unpaired` in TRL); so the behaviour policy must be the one that training began with.

    k3 = exp(log π_ref − log π_θ) − (log π_ref − log π_θ) − 1  ≥ 0            Schulman, "Approximating KL divergence", 2020
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .engine import Loss, LossSettings, Normalisation
from .errors import EngineRefused

Tensor = Any
"""`torch.Tensor`; torch is an extra."""


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """What each token adds."""

    loss_DT: Tensor
    """Before mask and weight."""
    clipped_DT: Tensor
    """1 where a clip bound the gradient, else 0."""
    logratio_DT: Tensor
    """log π_θ − log π_b, without gradient."""


def token_losses(
    logprobs_DT: Tensor, behaviour_DT: Tensor, advantages_DT: Tensor, mask_DT: Tensor, settings: LossSettings
) -> TokenLosses:
    """The loss of each token. `logprobs_DT` carries the gradient. Raises `EngineRefused` for a loss that is none of these."""
    difference = (logprobs_DT - behaviour_DT) * mask_DT
    if settings.loss in (Loss.PPO, Loss.GSPO):
        losses, clipped = _clipped(_level(difference, mask_DT, settings.loss), advantages_DT, settings)
    else:
        ratio = difference.detach().exp()
        never = difference.detach() * 0.0
        if settings.loss is Loss.CROSS_ENTROPY:
            losses, clipped = -logprobs_DT, never
        elif settings.loss in (Loss.CISPO, Loss.IMPORTANCE_SAMPLING):
            bound = 1.0 + settings.epsilon_high if settings.loss is Loss.CISPO else settings.truncate_at
            losses = -ratio.clamp(max=bound) * advantages_DT * logprobs_DT
            clipped = (ratio > bound).to(ratio.dtype)
        elif settings.loss is Loss.DRO:
            losses, clipped = -(advantages_DT * logprobs_DT - settings.beta / 2.0 * difference**2), never
        elif settings.loss is Loss.KTO:
            losses, clipped = _kto(difference, advantages_DT, mask_DT, settings.beta), never
        else:
            raise EngineRefused(f"The loss {settings.loss} is not known here.")
    return TokenLosses(losses, clipped * mask_DT, difference.detach())


def reduced(loss_DT: Tensor, mask_DT: Tensor, weights_D: Tensor, settings: LossSettings, *, rows: int, tokens: float) -> Tensor:
    """One number for these rows, normalised over a call that has `rows` rows and `tokens` counted tokens in all.

    Calling it on parts of a call and adding up gives what one call on the whole gives. The loss of KTO is one of rows: it is
    divided by them, whatever the settings say.
    """
    sums_D = (loss_DT * mask_DT).sum(-1) * weights_D
    if settings.loss is Loss.KTO:
        return sums_D.sum() / max(rows, 1)
    if settings.normalisation is Normalisation.SEQUENCES:
        return (sums_D / mask_DT.sum(-1).clamp(min=1.0)).sum() / max(rows, 1)
    if settings.normalisation is Normalisation.CONSTANT:
        return sums_D.sum() / (max(rows, 1) * settings.constant_tokens)
    return sums_D.sum() / max(tokens, 1.0)


def k3(logprobs_DT: Tensor, reference_DT: Tensor) -> Tensor:
    """The divergence of each token from a reference, by its unbiased estimator that is never below 0."""
    difference = reference_DT - logprobs_DT
    return difference.exp() - difference - 1.0


def _level(difference_DT: Tensor, mask_DT: Tensor, loss: Loss) -> Tensor:
    if loss is Loss.PPO:
        return difference_DT
    row_D1 = (difference_DT * mask_DT).sum(-1, keepdim=True) / mask_DT.sum(-1, keepdim=True).clamp(min=1.0)
    return row_D1.expand_as(difference_DT)


def _clipped(difference_DT: Tensor, advantages_DT: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
    ratio = difference_DT.exp()
    free = ratio * advantages_DT
    bound = ratio.clamp(1.0 - settings.epsilon_low, 1.0 + settings.epsilon_high) * advantages_DT
    return -free.minimum(bound), (bound < free).to(ratio.dtype)


def _kto(difference_DT: Tensor, advantages_DT: Tensor, mask_DT: Tensor, beta: float) -> Tensor:
    """The row's loss, shared out evenly over its tokens."""
    row_D1 = beta * (difference_DT * mask_DT).sum(-1, keepdim=True)
    sign = advantages_DT.sign()
    tokens_D1 = mask_DT.sum(-1, keepdim=True).clamp(min=1.0)
    return (1.0 - (sign * row_D1).sigmoid()) * sign.abs() / tokens_D1
