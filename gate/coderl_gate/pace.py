"""How fast this programmer types now: the speed that was fitted, moved by the keystrokes of the running session.

Between calibrations people change: another keyboard, a tired evening, somebody else at the desk. Each keystroke weighs
2^(−age / `HALF_LIFE_S`); the fitted speed weighs as much as `PRIOR_KEYS` keystrokes:

    seconds per key = (PRIOR_KEYS / v_u + Σ weight·gap) / (PRIOR_KEYS + Σ weight),

and the speed it gives stays within a factor of `MOST` of v_u. Weights depend on the times of the keystrokes alone, so the
order in which they are told makes no difference; with no keystrokes, or long after the last, the fitted speed comes back.

Standard library only: this runs in the language server at every keystroke.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

from .costs import CostParameters

HALF_LIFE_S: Final = 600.0
"""After ten minutes a keystroke counts half (our choice: long enough for a few hundred keystrokes, short against a working
day)."""
PRIOR_KEYS: Final = 100.0
"""As many keystrokes the fitted speed counts for (our choice): gaps spread about as widely as their mean, so a hundred of
them give a mean to about 10 %; the speeds of people differ by 40 % (`coderl_gate.timing.TYPING_SPREAD`)."""
MOST: Final = 2.0
"""The speed is moved by at most this factor."""
GAP_RANGE_S: Final = (0.0, 2.0)
"""Gaps outside count as its ends: 0 s comes from keys sent together, and what is longer is a pause."""


@dataclass(frozen=True, slots=True)
class OnlinePace:
    """The keystrokes of one session, forgotten with time; every keystroke gives a new one. Times are seconds of one clock."""

    at_s: float = 0.0
    """The time to which the sums below are discounted: that of the latest keystroke."""
    keys: float = 0.0
    """Σ weight."""
    gaps_s: float = 0.0
    """Σ weight·gap."""

    def keyed(self, at_s: float, gap_s: float) -> OnlinePace:
        """After one keystroke at `at_s`, `gap_s` after the one before. What is not finite is left out."""
        if not (math.isfinite(at_s) and math.isfinite(gap_s)):
            return self
        gap_s = min(GAP_RANGE_S[1], max(GAP_RANGE_S[0], gap_s))
        if not self.keys:
            return OnlinePace(at_s, 1.0, gap_s)
        latest = max(self.at_s, at_s)
        old, new = _weight(latest - self.at_s), _weight(latest - at_s)
        return OnlinePace(latest, self.keys * old + new, self.gaps_s * old + gap_s * new)

    def chars_per_s(self, fitted: float, now_s: float) -> float:
        """The speed at `now_s` of somebody whose fitted speed is `fitted` characters per second; one keystroke is one
        character."""
        weight = _weight(max(0.0, now_s - self.at_s))
        seconds = PRIOR_KEYS / fitted + weight * self.gaps_s
        speed = (PRIOR_KEYS + weight * self.keys) / seconds
        return min(fitted * MOST, max(fitted / MOST, speed))

    def moved(self, parameters: CostParameters, now_s: float) -> CostParameters:
        """The parameters with the speed of `now_s`; unchanged where no keystroke is known."""
        if not self.keys:
            return parameters
        return replace(parameters, typing_chars_per_s=self.chars_per_s(parameters.typing_chars_per_s, now_s))

    def to_json(self, parameters: CostParameters, now_s: float) -> dict[str, Any]:
        """The state as plain data, for people who ask why; `parameters` are the fitted ones."""
        weight = _weight(max(0.0, now_s - self.at_s))
        return {
            "fitted_chars_per_s": parameters.typing_chars_per_s,
            "chars_per_s": self.moved(parameters, now_s).typing_chars_per_s,
            "keystrokes": round(weight * self.keys, 1),
            "mean_gap_ms": round(1000 * self.gaps_s / self.keys, 1) if self.keys else None,
            "prior_keystrokes": PRIOR_KEYS,
            "half_life_s": HALF_LIFE_S,
            "most_factor": MOST,
        }


def _weight(age_s: float) -> float:
    return math.exp2(-age_s / HALF_LIFE_S)
