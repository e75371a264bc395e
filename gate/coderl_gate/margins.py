"""From a model's margin (log-odds) to a probability that means what it says.

`Calibration` is the fitted map as plain numbers, evaluated in pure Python; fitting lives elsewhere. Every kind is not falling
in the margin and stays inside [1e-6, 1 − 1e-6], so that log-odds of a probability are always finite.

    identity   σ(m)
    platt      σ(a·m + b), a ≥ 0                            Platt 1999
    beta       σ(a·ln σ(m) − b·ln(1 − σ(m)) + c), a, b ≥ 0    Kull, Silva Filho and Flach 2017
    isotonic   linear between fitted points, flat outside    Zadrozny and Elkan 2002
    venn_abers the same, points from p1 / (1 − p0 + p1)      Vovk, Petej and Fedorova 2015
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from .errors import ArtifactError

SMALLEST = 1e-6
"""No probability is closer to 0 or 1 than this."""
_PARAMETERS: Mapping[str, int] = MappingProxyType({"identity": 0, "platt": 2, "beta": 3})
_BY_POINTS = ("isotonic", "venn_abers")


def sigmoid(margin: float) -> float:
    """1 / (1 + e^−m) without overflow."""
    if margin >= 0:
        return 1.0 / (1.0 + math.exp(-margin))
    odds = math.exp(margin)
    return odds / (1.0 + odds)


def _log_sigmoid(margin: float) -> float:
    return min(margin, 0.0) - math.log1p(math.exp(-abs(margin)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """A monotone map from margin to probability. Build it by the class methods."""

    kind: str = "identity"
    parameters: tuple[float, ...] = ()
    """platt: a, b. beta: a, b, c."""
    margins: tuple[float, ...] = ()
    """isotonic, venn_abers: rising margins."""
    probabilities: tuple[float, ...] = ()
    """isotonic, venn_abers: the probability at each of `margins`, not falling, in [0, 1]."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.parameters, *self.margins, *self.probabilities))):
            raise ArtifactError(f"The {self.kind} calibration holds numbers that are not finite.")
        if self.kind in _BY_POINTS:
            self._check_points()
            return
        if self.kind not in _PARAMETERS:
            known = ", ".join((*_PARAMETERS, *_BY_POINTS))
            raise ArtifactError(f"Unknown calibration {self.kind!r}; known are {known}.")
        if len(self.parameters) != _PARAMETERS[self.kind] or self.margins or self.probabilities:
            raise ArtifactError(f"The {self.kind} calibration needs {_PARAMETERS[self.kind]} parameters and nothing else.")
        slopes = self.parameters[:-1]  # the last parameter of every kind that has any is its intercept
        if any(slope < 0 for slope in slopes):
            raise ArtifactError(f"The {self.kind} calibration would turn the order of the margins round.")

    def _check_points(self) -> None:
        if not self.margins or len(self.margins) != len(self.probabilities) or self.parameters:
            raise ArtifactError(
                f"The {self.kind} calibration needs as many margins as probabilities, at least one, and nothing else."
            )
        if not all(a < b for a, b in pairwise(self.margins)) or not all(a <= b for a, b in pairwise(self.probabilities)):
            raise ArtifactError(f"The points of the {self.kind} calibration do not rise.")
        if self.probabilities[0] < 0 or self.probabilities[-1] > 1:
            raise ArtifactError(f"The {self.kind} calibration holds numbers that are not probabilities.")

    @classmethod
    def identity(cls) -> Calibration:
        """The margin's own sigmoid."""
        return cls()

    @classmethod
    def platt(cls, a: float, b: float) -> Calibration:
        """σ(a·m + b); a ≥ 0."""
        return cls("platt", (a, b))

    @classmethod
    def beta(cls, a: float, b: float, c: float) -> Calibration:
        """σ(a·ln σ(m) − b·ln(1 − σ(m)) + c); a, b ≥ 0."""
        return cls("beta", (a, b, c))

    @classmethod
    def isotonic(cls, margins: Sequence[float], probabilities: Sequence[float]) -> Calibration:
        """Linear between (margin, probability) points; margins strictly rising, probabilities not falling."""
        return cls("isotonic", (), tuple(map(float, margins)), tuple(map(float, probabilities)))

    @classmethod
    def venn_abers(cls, margins: Sequence[float], probabilities: Sequence[float]) -> Calibration:
        """Linear between (margin, probability) points; margins strictly rising, probabilities not falling."""
        return cls("venn_abers", (), tuple(map(float, margins)), tuple(map(float, probabilities)))

    def probability(self, margin: float) -> float:
        """P in [1e-6, 1 − 1e-6]; not falling in `margin`. An infinite margin is allowed; ArtifactError for NaN."""
        if margin != margin:
            raise ArtifactError("The model gave no number for these features; fit it again with `gate-calibrate`.")
        margin = min(max(margin, -1e9), 1e9)
        if self.kind == "identity":
            p = sigmoid(margin)
        elif self.kind == "platt":
            a, b = self.parameters
            p = sigmoid(a * margin + b)
        elif self.kind == "beta":
            a, b, c = self.parameters
            p = sigmoid(a * _log_sigmoid(margin) - b * _log_sigmoid(-margin) + c)
        else:
            p = self._interpolate(margin)
        return min(max(p, SMALLEST), 1.0 - SMALLEST)

    def _interpolate(self, margin: float) -> float:
        place = bisect_right(self.margins, margin)
        if place == 0:
            return self.probabilities[0]
        if place == len(self.margins):
            return self.probabilities[-1]
        low, high = self.margins[place - 1], self.margins[place]
        p_low, p_high = self.probabilities[place - 1], self.probabilities[place]
        # the bound keeps rounding from stepping over the next point, which would break monotonicity
        return min(p_high, p_low + (p_high - p_low) * ((margin - low) / (high - low)))

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "kind": self.kind,
            "parameters": list(self.parameters),
            "margins": list(self.margins),
            "probabilities": list(self.probabilities),
        }

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """What `to_json` gave; ArtifactError where it is damaged."""
        try:
            return cls(
                str(data["kind"]),
                *(tuple(float(value) for value in data[name]) for name in ("parameters", "margins", "probabilities")),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"This is not a calibration: {error!r}.") from error


IDENTITY = Calibration()
"""The margin's own sigmoid: what an uncalibrated model says."""
