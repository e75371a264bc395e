"""Following one programmer between calibrations: the last few outcomes move eagerness, and the effect fades. Pure.

A calibrated gate expects rejections; what says something is their *surplus*. With y = 1 (kept) or 0 of the last `RECENT`
judged suggestions, p what the gate said of each, and a weight w that fades with age t,

    w = exp(−t / FADE_S)
    Δ = Σ w·(y − p) / (Σ w·p·(1 − p) + 1/σ²)        log-odds by which the gate is off for this programmer, now
    offset = Δ / EAGERNESS_LOGITS, within ±LIMIT     what is added to the dial

Δ is one Newton step for a personal intercept with prior N(0, σ²): no data gives 0, few data are shrunk, and it fades to 0 by
itself. In the place of any outcome, kept never gives less than rejected. A rejection of what the gate thought unlikely, a
random trial say, counts little.

It is the fast and forgetful sibling of `tendency`, which learns for good what a programmer is like: p already holds the
tendency, so only what surprises even that moves the dial.

Sources: the last 10 decisions, a decay of exp(−t / 10 min) and a clamp are Copilot's (microsoft/vscode-copilot-chat,
userInteractionMonitor: a delay ×1.5 per rejection, ×0.8 per acceptance, kept in 50 … 3,000 ms). Centring on p is ours:
Copilot's factors drift upwards for everybody who keeps less than two of three suggestions. σ is the maximum-likelihood spread
of personal intercepts around the gate's out-of-fold log-odds over the 14 programmers of CUPS.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .policy import EAGERNESS_LOGITS

RECENT = 10
"""How many judged suggestions count."""
FADE_S = 600.0
"""After so many seconds an outcome weighs 1/e."""
SPREAD_LOGITS = 0.45
"""σ, the standard deviation between programmers in log-odds (CUPS; the likelihood is flat between 0.35 and 0.6)."""
LIMIT = 0.5
"""Largest move of the dial, half of its reach on one side."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One suggestion that a programmer saw and kept or not."""

    at_s: float
    """When its outcome came, on the clock of `adaptation`."""
    p: float
    """P(kept) that it was shown with, [0, 1]."""
    kept: bool

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p must lie in [0, 1], not {self.p}.")


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The state at one moment; what `coderl/why` and `coderl why` show."""

    offset: float
    """Added to the dial, in [−LIMIT, LIMIT]."""
    counted: int
    """Outcomes that entered, at most `RECENT`."""
    kept: int
    """Those of them that were kept."""
    expected: float
    """How many of them the gate expected to be kept: Σ p."""
    weight: float
    """Σ w: what they still weigh."""

    def sentence(self) -> str:
        """One sentence a person can read."""
        if not self.counted:
            return "No suggestion was judged yet, so eagerness is as set."
        what = f"Of the last {self.counted} judged suggestions {self.kept} were kept and {self.expected:.1f} were expected"
        if abs(self.offset) < 0.005:
            return f"{what}, which leaves eagerness as set."
        return f"{what}, so eagerness is {abs(self.offset):.2f} {'higher' if self.offset > 0 else 'lower'} for the moment."


def adaptation(outcomes: Iterable[Judged], now_s: float) -> Adaptation:
    """The state at `now_s` after `outcomes`, oldest first. One from the future weighs as one of now (clocks step back)."""
    recent = list(outcomes)[-RECENT:]
    weights = [math.exp(-max(0.0, now_s - one.at_s) / FADE_S) for one in recent]
    surplus = math.fsum(w * (one.kept - one.p) for w, one in zip(weights, recent, strict=True))
    information = math.fsum(w * one.p * (1.0 - one.p) for w, one in zip(weights, recent, strict=True))
    offset = surplus / (information + SPREAD_LOGITS**-2) / EAGERNESS_LOGITS
    return Adaptation(
        offset=max(-LIMIT, min(LIMIT, offset)),
        counted=len(recent),
        kept=sum(one.kept for one in recent),
        expected=math.fsum(one.p for one in recent),
        weight=math.fsum(weights),
    )


def adapted(dial: float, offset: float) -> float:
    """Eagerness in force: the dial moved by the offset, kept in [−1, 1]; not falling in either."""
    return max(-1.0, min(1.0, dial + offset))
