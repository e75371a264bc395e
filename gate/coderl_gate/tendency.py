"""One programmer's own tendency: how much more, or less, often they keep suggestions than the model says of people in general.

A shift of the log-odds of being kept, learned from that programmer's own judged suggestions and shrunk to 0 while there are
few: the posterior mode of a random intercept b ~ N(0, 1/λ) in logit P(kept) = logit p + b, updated by one Newton step per
suggestion (sequential Laplace approximation; West, Harrison and Migon, "Dynamic Generalized Linear Models and Bayesian
Forecasting", JASA 1985):

    p_b = σ(logit p + b)        I ← min(I + p_b·(1 − p_b), cap)        b ← b + (kept − p_b) / (λ + I)

λ, the prior information, is fitted by `gate-calibrate` (`coderl_gate.recalibration`); infinite means that nobody differs. The
cap makes it forget: once it is reached, each suggestion moves b by a fixed share, so that about the last `MEMORY` suggestions
count.

Learned from stage 2 only, where the suggestion itself is accounted for: what was shown was chosen by p2, so outcomes of shown
suggestions say nothing straight about p1. The same shift is applied to both stages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .errors import ArtifactError
from .margins import SMALLEST, sigmoid

MEMORY = 200
"""About how many of the last judged suggestions count."""
_CAP = MEMORY * 0.2
"""Most information that is remembered; one suggestion carries p(1−p), about 0.2."""
_LARGEST = 4.0
"""No shift is larger, in log-odds: beyond it the model, not the programmer, is wrong."""


@dataclass(frozen=True, slots=True)
class Tendency:
    """What is known of one programmer. The default is nothing."""

    shift: float = 0.0
    """Log-odds added to the model's; positive = keeps more than the model says."""
    information: float = 0.0
    """Σ p(1−p) over the judged suggestions it rests on, at most the cap."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.shift) and abs(self.shift) <= _LARGEST and 0.0 <= self.information <= _CAP + 1e-9):
            raise ArtifactError(f"A tendency of {self.shift} with information {self.information} is out of range.")

    def applied(self, p: float) -> float:
        """The model's probability `p`, moved to this programmer; stays inside [1e-6, 1 − 1e-6]."""
        if self.shift == 0.0:
            return p
        p = min(max(p, SMALLEST), 1.0 - SMALLEST)
        return min(max(sigmoid(math.log(p / (1.0 - p)) + self.shift), SMALLEST), 1.0 - SMALLEST)

    def learned(self, own: float, kept: bool, prior: float) -> Tendency:
        """The tendency after one more judged suggestion.

        `own` is the probability it was decided with (what `applied` gave), `prior` is λ > 0; infinite leaves everything as it
        is.
        """
        if math.isinf(prior):
            return self
        information = min(self.information + own * (1.0 - own), _CAP)
        shift = self.shift + (float(kept) - own) / (prior + information)
        return Tendency(min(max(shift, -_LARGEST), _LARGEST), information)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {"shift": self.shift, "information": self.information}

    @classmethod
    def from_json(cls, data: Any) -> Tendency:
        """What `to_json` gave; ArtifactError where it is damaged."""
        try:
            return cls(float(data["shift"]), float(data["information"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"This is not a tendency: {error!r}.") from error


NOBODY = Tendency()
"""Nothing is known."""
