"""From logged rows to training rows: reward, baseline, advantage and weight of single suggestions, which have no group. Pure.

    A = (r − b − mean) / unit        w = min(1/propensity, c)        ESS = (Σ w)² / Σ w²  (Kish 1965)

r is the seconds saved, or 1 for kept and 0 for not (`Objective`). What is learned from it:

    reinforce  −w·sg[min(ρ, c′)]·A·log π      off-policy REINFORCE with truncated weights (Ionides 2008; Espeholt et al. 2018)
    dro        −w·(A·log π − β/2·log²ρ)       DRO, Richemond et al. 2024, "Offline Regularised Reinforcement Learning", §3
    kto        w·λ·(1 − σ(±β·Σ log ρ))        KTO, Ethayarajh et al. 2024, eq. 8: + where A > 0, or where it was kept

b is the gate's estimate, and which one matters. `Baseline.CONTEXT` knows the context only (p1): subtracting it changes no
expected gradient (Williams 1992), and DRO's value function is one of the context. `Baseline.SUGGESTION` (p2) has seen the
suggestion. It lowers the variance most, and it takes out of A everything the gate knows about the suggestion: with a gate
that is right, E[A] is 0 for every suggestion, so only where the gate errs is something learned. It is right together with
groups that are scored by the gate, whose gradient gives that part back (doubly robust; `coderl_trainer.counterfactual`).
Alone it is for what the gate does not know. docs/training.md shows both.

mean is the weighted mean of r − b: a constant is a function of the context too, and with it the advantages of these rows
average to 0 even where the gate is too hopeful or too gloomy. Losses without a ratio (dro, kto) need that: what is left of a
mean pushes every logged text up or down, the more the more tokens it has.

Propensities are those of showing, as logged; rows that were shown by exploration stand for the many that were withheld. Not
covered: contexts in which nothing could be shown, and a policy that has moved far from the one that wrote the log: `drift` says
how far, and stops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coderl_gate.dataset import MAX_WEIGHT
from coderl_gate.offpolicy import effective_sample_size

from .engine import Loss, LossSettings, Normalisation
from .errors import FeedbackError, TooFewEffective
from .logged import LoggedRow
from .types import Datum

Floats = NDArray[np.float64]
_ROUNDING: Final = 1e-9
"""Differences between rewards that are smaller than this share of the largest are rounding."""


class Method(StrEnum):
    """How single suggestions are learned from."""

    REINFORCE = "reinforce"
    DRO = "dro"
    KTO = "kto"


class Objective(StrEnum):
    """What counts as a reward."""

    SECONDS = "seconds"
    ACCEPTED = "accepted"
    """For comparison only: the shorter a suggestion, the likelier it is kept."""


class Baseline(StrEnum):
    """What is subtracted; see the module."""

    CONTEXT = "context"
    SUGGESTION = "suggestion"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Learning:
    """How rows become training rows. Raises `FeedbackError` where a limit cannot be."""

    method: Method = Method.REINFORCE
    objective: Objective = Objective.SECONDS
    baseline: Baseline = Baseline.CONTEXT
    max_weight: float = MAX_WEIGHT
    """c: the largest weight of a row."""
    least_effective: float = 50.0
    """Fewer effective rows than this are an error."""
    least_share: float = 0.1
    """So is an effective share of the rows below this."""
    unit: float | None = None
    """What advantages are divided by; None = their weighted root mean square here, so that learning rates and β mean the same
    for seconds and for acceptance."""
    centred: bool = True
    """Subtract the mean; see the module."""
    balance: bool = True
    """KTO of acceptance: good and bad rows weigh the same in sum. In seconds they do not: what a keep saves and what a
    rejection costs is what is to be weighed against each other."""

    def __post_init__(self) -> None:
        if not (self.max_weight >= 1 and self.least_effective >= 0 and 0 <= self.least_share <= 1):
            raise FeedbackError("The largest weight must be 1 or more, and the limits of effective rows at least 0.")
        if self.unit is not None and not (math.isfinite(self.unit) and self.unit > 0):
            raise FeedbackError(f"The unit of advantages must be above 0, not {self.unit}.")


@dataclass(frozen=True, slots=True)
class Effective:
    """What weights leave of n rows."""

    rows: int
    effective: float
    """ESS, in [1, n] for weights that are not all 0."""
    truncated: float
    """Share of the rows whose weight was cut."""

    @property
    def share(self) -> float:
        """ESS / n."""
        return self.effective / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Feedback:
    """Training rows of logged suggestions."""

    data: tuple[Datum, ...]
    rows: tuple[LoggedRow, ...]
    """Where each comes from, aligned."""
    without_baseline: int
    """Rows left out because the gate said nothing about them."""
    unit: float
    """What the advantages were divided by."""
    weights: Effective

    def metrics(self) -> Mapping[str, float]:
        """For a run's metrics, with `logged/` in front."""
        kept = sum(row.kept for row in self.rows) / len(self.rows)
        return MappingProxyType(
            {
                "logged/rows": float(len(self.rows)),
                "logged/without_baseline": float(self.without_baseline),
                "logged/ess": self.weights.effective,
                "logged/ess_share": self.weights.share,
                "logged/truncated_share": self.weights.truncated,
                "logged/kept_share": kept,
                "logged/unit": self.unit,
            }
        )


def truncated_weights(propensities: Sequence[float], limit: float = MAX_WEIGHT) -> tuple[Floats, Effective]:
    """(n,) weights min(1/propensity, limit) with what they leave. Raises `FeedbackError` for a propensity outside (0, 1]."""
    given = np.asarray(propensities, dtype=np.float64)
    if not ((given > 0) & (given <= 1)).all():
        raise FeedbackError("A propensity lies above 0 and at most at 1.")
    with np.errstate(over="ignore"):
        whole = 1.0 / given
    weights: Floats = np.minimum(whole, limit)
    cut = float((whole > limit).mean()) if len(given) else 0.0
    return weights, Effective(len(given), effective_sample_size(weights), cut)


def feedback(rows: Sequence[LoggedRow], learning: Learning | None = None) -> Feedback:
    """The training rows of logged ones. Split before (`logged.split_rows`); the unit is that of the rows given.

    Raises `FeedbackError` where no row is left, and `TooFewEffective` where the weights leave too few of them.
    """
    learning = learning or Learning()
    used = [row for row in rows if _baseline(row, learning) is not None]
    if not used:
        raise FeedbackError(
            f"None of {len(rows)} logged suggestions can be learned from: the gate gave no estimate for them. "
            "Name a gate as critic, or learn without a baseline."
        )
    weights, effective = truncated_weights([row.propensity for row in used], learning.max_weight)
    _require(effective, learning)
    values = np.array([reward(row, learning.objective) - (_baseline(row, learning) or 0.0) for row in used])
    values, unit = _in_units(values, weights, learning)
    if learning.method is Method.KTO:
        values, weights = _good_and_bad(used, values, weights, learning)
    data = tuple(
        datum_of(row, advantage, weight) for row, advantage, weight in zip(used, values.tolist(), weights.tolist(), strict=True)
    )
    return Feedback(data, tuple(used), len(rows) - len(used), unit, effective)


def reward(row: LoggedRow, objective: Objective) -> float:
    """Seconds, or 1 and 0."""
    return row.seconds if objective is Objective.SECONDS else float(row.kept)


def datum_of(row: LoggedRow, advantage: float = 0.0, weight: float = 1.0) -> Datum:
    """One row for an engine: its own tokens count, prompt and given ones do not."""
    prompt, tokens = row.tokens.prompt, row.tokens.tokens
    whole = prompt + tokens
    before, own = len(prompt) - 1 + row.tokens.given, len(tokens) - row.tokens.given
    return Datum(
        input_tokens=whole[:-1],
        target_tokens=whole[1:],
        behaviour_logprobs=(0.0,) * before + row.tokens.logprobs[row.tokens.given :],
        advantages=(0.0,) * before + (advantage,) * own,
        mask=(0.0,) * before + (1.0,) * own,
        weight=weight,
    )


def loss_settings(method: Method, *, beta: float = 0.05, truncate_at: float = 3.0, kl: float = 0.0) -> LossSettings:
    """What an engine needs for the method. Every token weighs the same: divided by their own length, wrong answers would pay
    less the longer they are."""
    loss = {Method.REINFORCE: Loss.IMPORTANCE_SAMPLING, Method.DRO: Loss.DRO, Method.KTO: Loss.KTO}[method]
    return LossSettings(loss, Normalisation.TOKENS, beta=beta, truncate_at=truncate_at, kl=kl)


def drift(
    data: Sequence[Datum], logprobs: Sequence[Sequence[float]], *, truncate_at: float = 3.0, least_share: float = 0.1
) -> Effective:
    """What is left of the rows for the policy as it is now: weights w·min(Π ρ, c) over a row's own tokens.

    `logprobs`: (rows, own tokens) of the trained weights (`Engine.logprobs`). Raises `TooFewEffective` where the
    effective share is below `least_share`: the log says too little about the policy by now, and a new one is needed.
    """
    if len(data) != len(logprobs) or not data:
        raise FeedbackError(f"There are {len(data)} training rows but log-probs of {len(logprobs)}.")
    whole = ratios(data, logprobs)
    weights = np.minimum(whole, truncate_at) * np.array([row.weight for row in data])
    left = Effective(len(data), effective_sample_size(weights), float((whole > truncate_at).mean()))
    if left.share < least_share:
        raise TooFewEffective(
            f"The policy has moved away from the one that wrote the log: {left.effective:.1f} of {left.rows} rows are left "
            f"({left.share:.0%}, at least {least_share:.0%} are needed). Collect a new log with it, or take fewer steps."
        )
    return left


def ratios(data: Sequence[Datum], logprobs: Sequence[Sequence[float]]) -> Floats:
    """(rows,) π_θ/π_b of a row's own tokens together, not truncated. `logprobs`: as for `drift`."""
    found = []
    for row, ours in zip(data, logprobs, strict=True):
        theirs = [value for value, counts in zip(row.behaviour_logprobs, row.mask, strict=True) if counts]
        found.append(math.exp(min(50.0, math.fsum(ours) - math.fsum(theirs))))
    return np.array(found)


def _baseline(row: LoggedRow, learning: Learning) -> float | None:
    labels = learning.method is Method.KTO and learning.objective is Objective.ACCEPTED
    if labels or learning.baseline is Baseline.NONE:
        return 0.0
    seconds = learning.objective is Objective.SECONDS
    if learning.baseline is Baseline.CONTEXT:
        return row.expected_s if seconds else row.p1
    return row.modelled_s if seconds else row.p2


def _in_units(values: Floats, weights: Floats, learning: Learning) -> tuple[Floats, float]:
    """(n,) r − b centred and divided, and what by. Values that are all alike are nothing to learn from: zeros, not rounding."""
    scale = float(np.abs(values).max())
    if learning.centred:
        values = values - float(np.average(values, weights=weights))
        values = np.where(np.abs(values) <= _ROUNDING * scale, 0.0, values)
    unit = learning.unit or math.sqrt(float(np.average(np.square(values), weights=weights))) or 1.0
    return values / unit, unit


def _require(effective: Effective, learning: Learning) -> None:
    if effective.effective < learning.least_effective or effective.share < learning.least_share:
        raise TooFewEffective(
            f"The weights of {effective.rows} logged suggestions leave {effective.effective:.1f} effective ones "
            f"({effective.share:.0%}); at least {learning.least_effective:g} and {learning.least_share:.0%} are needed. "
            "Log more, explore more evenly, or lower the largest weight."
        )


def _good_and_bad(rows: Sequence[LoggedRow], advantages: Floats, weights: Floats, learning: Learning) -> tuple[Floats, Floats]:
    """(n,) signs and weights. In seconds the advantage decides, and a row weighs by its size. Of acceptance both kinds weigh
    the same in sum where that is asked for (Ethayarajh et al. 2024, §4.2, with the ratio at 1)."""
    if learning.objective is Objective.SECONDS:
        return np.sign(advantages), weights * np.abs(advantages)
    signs = np.array([1.0 if row.kept else -1.0 for row in rows])
    if learning.balance:
        total = float(weights.sum())
        for sign in (1.0, -1.0):
            mine = float(weights[signs == sign].sum())
            if 0 < mine < total:
                weights = np.where(signs == sign, weights * total / (2.0 * mine), weights)
    return signs, weights
