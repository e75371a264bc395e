"""Each loss against its formula, written out here row by row with plain floats; the gradient by autograd of that formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from coderl_trainer.engine import Loss, LossSettings, Normalisation
from coderl_trainer.errors import EngineRefused
from coderl_trainer.losses import k3, reduced, token_losses

from .tiny_llama import need_torch

torch = need_torch()
MASK = ((1, 1, 1, 0), (1, 1, 0, 0), (1, 0, 1, 1), (0, 0, 0, 0))
ADVANTAGES = (1.5, -0.5, -1.2, 2.0)
WEIGHTS = (1.0, 0.5, 2.0, 1.0)


def case(scale: float = 0.4) -> tuple[Any, Any, Any, Any, Any]:
    random = torch.Generator().manual_seed(3)
    behaviour = -torch.rand(4, 4, generator=random, dtype=torch.float64) * 3 - 0.5
    logprobs = (behaviour + scale * torch.randn(4, 4, generator=random, dtype=torch.float64)).clamp(max=0)
    mask = torch.tensor(MASK, dtype=torch.float64)
    advantages = torch.tensor(ADVANTAGES, dtype=torch.float64)[:, None] * mask
    return logprobs.requires_grad_(), behaviour, advantages, mask, torch.tensor(WEIGHTS, dtype=torch.float64)


def value_and_gradient(settings: LossSettings) -> tuple[float, Any]:
    logprobs, behaviour, advantages, mask, weights = case()
    told = token_losses(logprobs, behaviour, advantages, mask, settings)
    loss = reduced(told.loss_DT, mask, weights, settings, rows=4, tokens=float(mask.sum()))
    loss.backward()
    return float(loss.detach()), logprobs.grad


def importance_sampling(logprob: Any, behaviour: Any, advantage: Any, settings: LossSettings) -> Any:
    ratio = min(math.exp(float(logprob.detach() - behaviour)), settings.truncate_at)
    return -ratio * advantage * logprob


def dro(logprob: Any, behaviour: Any, advantage: Any, settings: LossSettings) -> Any:
    return -(advantage * logprob - settings.beta / 2 * (logprob - behaviour) ** 2)


def cross_entropy(logprob: Any, behaviour: Any, advantage: Any, settings: LossSettings) -> Any:
    return -logprob


def cispo(logprob: Any, behaviour: Any, advantage: Any, settings: LossSettings) -> Any:
    ratio = min(math.exp(float(logprob.detach() - behaviour)), 1 + settings.epsilon_high)
    return -ratio * advantage * logprob


def ppo(logprob: Any, behaviour: Any, advantage: Any, settings: LossSettings) -> Any:
    ratio = (logprob - behaviour).exp()
    if advantage > 0:
        return -advantage * ratio if ratio <= 1 + settings.epsilon_high else -advantage * (1 + settings.epsilon_high)
    return -advantage * ratio if ratio >= 1 - settings.epsilon_low else -advantage * (1 - settings.epsilon_low)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (Loss.IMPORTANCE_SAMPLING, importance_sampling),
        (Loss.DRO, dro),
        (Loss.CROSS_ENTROPY, cross_entropy),
        (Loss.CISPO, cispo),
        (Loss.PPO, ppo),
    ],
)
@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_a_token_loss_is_its_formula(loss: Loss, formula: Callable[..., Any], normalisation: Normalisation) -> None:
    settings = LossSettings(loss, normalisation, constant_tokens=4, epsilon_high=0.28, truncate_at=1.1, beta=0.3)
    logprobs, behaviour, advantages, mask, weights = case()
    total = torch.zeros((), dtype=torch.float64)
    tokens = float(mask.sum())
    for row in range(4):
        here = float(mask[row].sum())
        divisor = {
            Normalisation.TOKENS: tokens,
            Normalisation.SEQUENCES: 4 * max(here, 1.0),
            Normalisation.CONSTANT: 4 * 4.0,
        }[normalisation]
        for at in range(4):
            if mask[row, at]:
                one = formula(logprobs[row, at], behaviour[row, at], advantages[row, at], settings)
                total = total + weights[row] * one / divisor
    total.backward()
    value, gradient = value_and_gradient(settings)
    assert value == pytest.approx(float(total.detach()), abs=1e-12)
    torch.testing.assert_close(gradient, logprobs.grad, rtol=0, atol=1e-12)


def test_kto_is_its_formula_for_each_row() -> None:
    settings = LossSettings(Loss.KTO, beta=0.3)
    logprobs, behaviour, _, mask, weights = case()
    total = torch.zeros((), dtype=torch.float64)
    for row in range(3):
        reward = settings.beta * ((logprobs - behaviour)[row] * mask[row]).sum()
        good = ADVANTAGES[row] > 0
        total = total + weights[row] * (1 - (reward if good else -reward).sigmoid()) / 4
    total.backward()
    value, gradient = value_and_gradient(settings)
    assert value == pytest.approx(float(total.detach()), abs=1e-12)
    torch.testing.assert_close(gradient, logprobs.grad, rtol=0, atol=1e-12)


def test_gspo_has_one_ratio_for_a_row() -> None:
    settings = LossSettings(Loss.GSPO, Normalisation.SEQUENCES, epsilon_low=0.1, epsilon_high=0.15)
    logprobs, behaviour, _, mask, weights = case()
    total = torch.zeros((), dtype=torch.float64)
    for row in range(3):
        counted = mask[row].bool()
        mean = (logprobs[row] - behaviour[row])[counted].mean()
        total = total + weights[row] * ppo(mean, torch.zeros(()), ADVANTAGES[row], settings) / 4
    total.backward()
    value, gradient = value_and_gradient(settings)
    assert value == pytest.approx(float(total.detach()), abs=1e-12)
    torch.testing.assert_close(gradient, logprobs.grad, rtol=0, atol=1e-12)


def test_each_side_has_its_own_clip() -> None:
    behaviour = torch.zeros(1, 4)
    logprobs = torch.tensor([[0.25, 0.25, -0.25, -0.25]]).log1p()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    mask = torch.ones(1, 4)

    def clipped(low: float, high: float) -> list[float]:
        settings = LossSettings(Loss.PPO, epsilon_low=low, epsilon_high=high)
        found: list[float] = token_losses(logprobs, behaviour, advantages, mask, settings).clipped_DT[0].tolist()
        return found

    assert clipped(0.2, 0.2) == [1, 0, 0, 1]
    assert clipped(0.2, 0.28) == [0, 0, 0, 1]
    assert clipped(0.28, 0.2) == [1, 0, 0, 0]


def test_a_clipped_token_has_no_gradient_but_in_cispo() -> None:
    for loss, moves in ((Loss.PPO, False), (Loss.CISPO, True)):
        logprob = torch.tensor([[-0.1]], requires_grad=True)
        one = torch.ones(1, 1)
        told = token_losses(logprob, torch.tensor([[-1.0]]), one, one, LossSettings(loss))
        told.loss_DT.sum().backward()
        assert told.clipped_DT.item() == 1
        assert bool(logprob.grad.abs().sum() > 0) is moves


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_parts_add_up_to_the_whole(loss: Loss, normalisation: Normalisation) -> None:
    settings = LossSettings(loss, normalisation, constant_tokens=4)
    whole, gradient = value_and_gradient(settings)
    logprobs, behaviour, advantages, mask, weights = case()
    total = 0.0
    for part in (slice(0, 1), slice(1, 4)):
        told = token_losses(logprobs[part], behaviour[part], advantages[part], mask[part], settings)
        loss_of_part = reduced(told.loss_DT, mask[part], weights[part], settings, rows=4, tokens=float(mask.sum()))
        loss_of_part.backward()
        total += float(loss_of_part.detach())
    assert total == pytest.approx(whole, abs=1e-12)
    torch.testing.assert_close(logprobs.grad, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", list(Loss))
def test_what_the_mask_hides_changes_nothing(loss: Loss) -> None:
    settings = LossSettings(loss)
    found = []
    for hidden in (-0.1, -9.0):
        logprobs, behaviour, advantages, mask, weights = case()
        shown = torch.where(mask.bool(), logprobs, torch.full_like(logprobs, hidden)).detach().requires_grad_()
        told = token_losses(shown, behaviour, advantages, mask, settings)
        value = reduced(told.loss_DT, mask, weights, settings, rows=4, tokens=float(mask.sum()))
        value.backward()
        assert not bool((shown.grad * (1 - mask)).any())
        found.append((float(value.detach()), shown.grad))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_k3_is_never_negative_and_right_on_average() -> None:
    random = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 50, generator=random, dtype=torch.float64).log_softmax(-1)
    each = k3(policy, reference)
    assert bool((each >= 0).all())
    exact = (policy.exp() * (policy - reference)).sum()
    assert float((policy.exp() * each).sum()) == pytest.approx(float(exact))
    assert not bool(k3(policy, policy).any())


def test_an_unknown_loss_is_refused() -> None:
    one = torch.zeros(1, 1)
    with pytest.raises(EngineRefused, match="hinge"):
        token_losses(one, one, one, one, LossSettings("hinge"))  # type: ignore[arg-type]
