"""Samples that another program drew: how far its log-probs lie from the engine's own, and what is done about it. Pure.

The same weights in two programs are two policies, π_server and π_engine: other kernels, other rounding. Learning as if they
were one biases the gradient. With truncated importance sampling (Yao et al. 2025, "Your efficient RL framework secretly brings
you off-policy RL training"; the token level of it) each token's advantage is weighted with

    w_t = min(π_engine(t) / π_server(t), c)

and the ratio of the loss is taken against π_engine as it was when the samples were drawn. All losses here are linear in the
advantage for w ≥ 0, so a weighted advantage is a weighted loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .types import Datum


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Over all counted tokens of some rows."""

    mean: float
    """Mean |log π_engine − log π_server|, nats."""
    largest: float
    """The largest of them, nats."""
    mean_weight: float
    """Of w_t; 1 where the two agree."""
    truncated: float
    """Share of the tokens whose weight met the cap."""


def mismatch(data_D: Sequence[Datum], engine_DT: Sequence[Sequence[float]], truncate_at: float) -> Mismatch:
    """`engine_DT`: (D, counted tokens) log-probs by the engine. `truncate_at`: c; 0 = no weights. Of no tokens: 0, weight 1."""
    gaps = [one - told for row, ones in zip(data_D, engine_DT, strict=True) for one, told in zip(ones, _told(row), strict=True)]
    if not gaps:
        return Mismatch(0.0, 0.0, 1.0, 0.0)
    weights = [_weight(gap, truncate_at) for gap in gaps]
    cut = sum(truncate_at > 0 and gap >= math.log(truncate_at) for gap in gaps)
    return Mismatch(sum(map(abs, gaps)) / len(gaps), max(map(abs, gaps)), sum(weights) / len(weights), cut / len(gaps))


def corrected(row: Datum, engine_T: Sequence[float], truncate_at: float) -> Datum:
    """The row with the engine's log-probs as the behaviour policy's and w_t times the advantage. `truncate_at` 0: as it is."""
    if not truncate_at:
        return row
    own = iter(engine_T)
    behaviour, advantages = [], []
    for told, advantage, counts in zip(row.behaviour_logprobs, row.advantages, row.mask, strict=True):
        engine = min(0.0, next(own)) if counts else told
        behaviour.append(engine)
        advantages.append(advantage * _weight(engine - told, truncate_at) if counts else advantage)
    return replace(row, behaviour_logprobs=tuple(behaviour), advantages=tuple(advantages))


def _told(row: Datum) -> list[float]:
    return [told for told, counts in zip(row.behaviour_logprobs, row.mask, strict=True) if counts]


def _weight(gap: float, truncate_at: float) -> float:
    if not truncate_at:
        return 1.0
    return math.exp(min(gap, math.log(truncate_at)))
