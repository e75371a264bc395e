"""When is a full generation worth its price? Two rules behind one question: may this request be settled before generation?

`EntropyLimit`: where H(p1) ≤ h bits (architecture §4; the cascade of CDHF, Mozannar et al., AAAI 2024).

`ValueLimit`: where knowing p2 is expected to be worth at most v seconds (value of information; Howard 1966; Raiffa and
Schlaifer 1961, preposterior analysis). With the gain g = t_write − t_edit of a suggestion of mean length, the threshold τ on
its probability, and p2 spread around p1 on the log-odds scale:

    V(p1) = g · (E[max(0, p2 − τ)] − max(0, p1 − τ))        logit p2 ~ N(m, s²)

m is such that the mean of p2 is p1 (Newton's method from MacKay's approximation, "The Evidence Framework Applied to
Classification Networks", 1992, §4: m = logit p1 · √(1 + π·s²/8)); s is fitted by `gate-calibrate`. V is largest where p1 =
τ, where the decision hangs in the balance, and falls on both sides. Entropy does not know where that is: it spends most on
p1 = ½ even where τ is 0.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol, runtime_checkable

from .margins import SMALLEST, sigmoid

_POINTS: tuple[float, ...] = tuple(NormalDist().inv_cdf((index + 0.5) / 24) for index in range(24))
"""Equally likely values of a standard normal variable."""
_NEWTON_STEPS, _EXACT = 20, 1e-12
_ROUNDING = 1e-10
"""A probability gained that is smaller than this is none: it would make the order of thresholds depend on the last digits."""


@runtime_checkable
class Escalation(Protocol):
    """One rule."""

    def settles(self, p1: float, threshold: float, gain_s: float) -> bool:
        """True where stage 2 need not be asked: skip below the threshold on p1, draft above it.

        `threshold` in [0, 1] is that of a suggestion of mean length, `gain_s` what keeping one saves, in seconds.
        """
        ...


def entropy_bits(p: float) -> float:
    """Binary entropy H(p) in bits; 0 at p = 0 and p = 1."""
    if p <= 0.0 or p >= 1.0:
        return 0.0
    return min(1.0, -p * math.log2(p) - (1.0 - p) * math.log2(1.0 - p))


@dataclass(frozen=True, slots=True)
class EntropyLimit:
    """Settle where the entropy of p1 is at most `bits` and p1 lies on the same side of ½ as of the threshold."""

    bits: float
    """h in [0, 1]: 0 asks stage 2 always, 1 never on the near side of the threshold."""

    def settles(self, p1: float, threshold: float, gain_s: float) -> bool:
        """See `Escalation`. The condition on ½ keeps the decision monotone in p1 (`coderl_gate.policy`)."""
        return entropy_bits(p1) <= self.bits and (p1 < 0.5) == (p1 < threshold)


@dataclass(frozen=True, slots=True)
class ValueLimit:
    """Settle where the expected value of knowing p2 is at most `seconds`. Raises `ValueError` for numbers out of range."""

    seconds: float
    """v ≥ 0; infinite never asks stage 2."""
    spread: float
    """s ≥ 0: standard deviation of logit p2 around its mean given p1; 0 says that stage 2 knows nothing more."""

    def __post_init__(self) -> None:
        if not (self.seconds >= 0 and self.spread >= 0 and math.isfinite(self.spread)):
            raise ValueError(f"A value limit of {self.seconds} s with spread {self.spread} is out of range.")

    def settles(self, p1: float, threshold: float, gain_s: float) -> bool:
        """See `Escalation`."""
        return math.isinf(self.seconds) or value_of_information_s(p1, threshold, gain_s, self.spread) <= self.seconds


def value_of_information_s(p1: float, threshold: float, gain_s: float, spread: float) -> float:
    """V(p1) in seconds, ≥ 0; 0 where no probability makes showing worth while (nothing that stage 2 says changes the
    answer)."""
    if gain_s <= 0.0 or threshold >= 1.0 or spread == 0.0:
        return 0.0
    p = min(max(p1, SMALLEST), 1.0 - SMALLEST)
    later = sum(max(0.0, p2 - threshold) for p2 in _spread_out(p, spread)) / len(_POINTS)
    worth = later - max(0.0, p - threshold)
    return gain_s * worth if worth > _ROUNDING else 0.0


def _spread_out(p: float, spread: float) -> list[float]:
    """Equally likely values of p2 whose mean is p: MacKay's approximation, made exact by Newton's method."""
    middle = math.log(p / (1.0 - p)) * math.sqrt(1.0 + math.pi * spread * spread / 8.0)
    values = [sigmoid(middle + spread * z) for z in _POINTS]
    for _ in range(_NEWTON_STEPS):
        miss = sum(values) / len(values) - p
        slope = sum(value * (1.0 - value) for value in values) / len(values)
        if abs(miss) < _EXACT or slope < _EXACT:
            break
        middle -= max(-1.0, min(1.0, miss / slope))
        values = [sigmoid(middle + spread * z) for z in _POINTS]
    return values
