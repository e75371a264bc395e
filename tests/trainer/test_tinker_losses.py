"""What is asked of the Tinker service has the gradient of our own losses, by the losses that the service documents."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_trainer.engine import Loss, LossSettings, Normalisation
from coderl_trainer.losses import reduced, token_losses
from coderl_trainer.tinker_losses import NATIVE, service_loss, step_metrics
from coderl_trainer.types import Datum

from .tiny_llama import need_torch

torch = need_torch()
pytest.importorskip("peft", reason="the extra `train` is not installed")

from .tinker_model import loss_of  # noqa: E402

logprobs = st.floats(-6.0, -0.01)


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[Datum], list[list[float]]]:
    """(data of one to four rows, log-probs of their targets by the trained weights)."""
    data, now = [], []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 6))
        mask = [float(draw(st.booleans())) for _ in range(length)]
        advantage = draw(st.integers(-6, 6)) / 2
        data.append(
            Datum(
                tuple(range(length)),
                tuple(range(length)),
                tuple(draw(logprobs) * one for one in mask),
                tuple(advantage * one for one in mask),
                tuple(mask),
                draw(st.integers(0, 10)) / 2,
            )
        )
        now.append([draw(logprobs) for _ in range(length)])
    return data, now


def padded(rows_D: list[Any]) -> Any:
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(one, dtype=torch.float32) for one in rows_D], batch_first=True)


@pytest.mark.parametrize("loss", sorted(NATIVE))
@pytest.mark.parametrize("normalisation", list(Normalisation))
@settings(max_examples=40, deadline=None)
@given(drawn=rows())
def test_loss_and_gradient_are_ours(
    loss: Loss, normalisation: Normalisation, drawn: tuple[list[Datum], list[list[float]]]
) -> None:
    data, now = drawn
    wanted = LossSettings(loss, normalisation, constant_tokens=5, epsilon_high=0.28, truncate_at=2.0)
    mask = padded([row.mask for row in data])
    ours = padded(now).requires_grad_()
    told = token_losses(
        ours, padded([row.behaviour_logprobs for row in data]), padded([row.advantages for row in data]), mask, wanted
    )
    weights = torch.tensor([row.weight for row in data])
    total = reduced(told.loss_DT, mask, weights, wanted, rows=len(data), tokens=float(mask.sum()))
    (gradient,) = torch.autograd.grad(total, ours)

    asked = service_loss(data, wanted)
    theirs = [torch.tensor(one, requires_grad=True) for one in now]
    inputs = [{name: torch.tensor(one) for name, one in row.items()} for row in asked.inputs_D]
    service = torch.stack([loss_of(asked.name, one, row, asked.config) for one, row in zip(theirs, inputs, strict=True)]).sum()
    gradients = torch.autograd.grad(service, theirs)
    assert float(service.detach()) == pytest.approx(float(total.detach()), rel=1e-4, abs=1e-5)
    torch.testing.assert_close(padded(list(gradients)), gradient, rtol=1e-4, atol=1e-5)

    metrics, tokens = step_metrics(data, now, wanted), max(float(mask.sum()), 1.0)
    assert metrics["clip_share"] == pytest.approx(float(told.clipped_DT.sum()) / tokens)
    assert metrics["mean_logratio"] == pytest.approx(float((told.logratio_DT * mask).sum()) / tokens, abs=1e-4)
    assert metrics["tokens"] == mask.sum()


def test_clipped_tokens_are_counted_where_the_bound_is_passed() -> None:
    row = Datum((1, 2), (2, 3), (-2.0, -2.0), (1.0, 1.0), (1.0, 1.0))
    now = [[-2.0 + math.log(1.5), -2.0]]
    assert step_metrics([row], now, LossSettings(Loss.PPO))["clip_share"] == 0.5
    assert step_metrics([row], now, LossSettings(Loss.CISPO))["clip_share"] == 0.5
    assert step_metrics([row], now, LossSettings(Loss.IMPORTANCE_SAMPLING, truncate_at=2.0))["clip_share"] == 0
    assert step_metrics([row], now, LossSettings(Loss.CROSS_ENTROPY))["clip_share"] == 0
