"""Acceptance and length together: what a reward that loves short suggestions does, and the guard that stops it.

If each further token stays right with probability q, a suggestion of n tokens is kept with q^n: acceptance is highest for the
shortest, whatever they are worth. So acceptance is reported beside the characters that stayed, per suggestion shown and per
*opportunity* (a request of the editor, whether or not something was shown), by length. Pure.

The guard compares two such tables, of the same contexts before and after training. Covered: a mean length that falls by more
than a set share while acceptance rises. Not covered: suggestions that become short for a good reason (then seconds saved rise:
say so with a larger `most_drop`), the same fall in small steps over many runs (compare with the first model, not the last), and
chance: with few rows either can come about by itself, so fewer than `least_shown` are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from .errors import FigureError, LengthCollapse

EDGES: Final = (10, 20, 40, 80, 160)
"""Characters at which a bucket of lengths ends and the next begins."""
MOST_DROP: Final = 0.2
LEAST_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Shown:
    """One suggestion that was shown, and what stayed of it. Raises `FigureError` where it cannot be."""

    chars: int
    kept: float
    """1 = kept, 0 = not; in between where it is a probability."""
    retained_chars: float
    """Still there at the last measurement, 0 … chars."""
    weight: float = 1.0
    """Truncated inverse propensity."""

    def __post_init__(self) -> None:
        possible = self.chars > 0 and 0 <= self.retained_chars <= self.chars and 0 <= self.kept <= 1
        if not (possible and self.weight >= 0 and math.isfinite(self.weight)):
            raise FigureError(f"{self.retained_chars} of {self.chars} characters with weight {self.weight} cannot be.")


@dataclass(frozen=True, slots=True)
class Bucket:
    """The suggestions of one range of lengths."""

    low: int
    high: int | None
    """Characters, low ≤ n < high; None = no end."""
    shown: int
    acceptance: float
    """Weighted share that was kept; NaN where none was shown."""
    retained_per_shown: float
    """Characters; NaN where none was shown."""
    retained_per_opportunity: float
    """Characters; the buckets' add up to the whole's."""
    mean_chars: float
    """Weighted mean length; NaN where none was shown."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in named.items()}


@dataclass(frozen=True, slots=True)
class Lengths:
    """Acceptance and retained characters, in all and by length."""

    whole: Bucket
    buckets: tuple[Bucket, ...]
    opportunities: float

    def metrics(self) -> Mapping[str, float]:
        """For a run's metrics; those that are known."""
        named = {
            "lengths/acceptance": self.whole.acceptance,
            "lengths/mean_chars": self.whole.mean_chars,
            "lengths/retained_per_shown": self.whole.retained_per_shown,
            "lengths/retained_per_opportunity": self.whole.retained_per_opportunity,
        }
        for bucket in self.buckets:
            name = f"{bucket.low}-{'' if bucket.high is None else bucket.high}"
            named[f"lengths/acceptance/{name}"] = bucket.acceptance
            named[f"lengths/retained_per_shown/{name}"] = bucket.retained_per_shown
        return MappingProxyType({name: value for name, value in named.items() if not math.isnan(value)})

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "opportunities": self.opportunities,
            "whole": self.whole.to_json(),
            "buckets": [bucket.to_json() for bucket in self.buckets],
        }


def by_length(shown: Sequence[Shown], opportunities: float, edges: Sequence[int] = EDGES) -> Lengths:
    """The table. `opportunities`: requests, those that stayed silent among them, weighted as the rows are; at least the
    rows' sum of weights. Raises `FigureError` where it is less, or the edges do not rise."""
    if any(low >= high for low, high in zip((0, *edges), edges, strict=False)):
        raise FigureError(f"The edges of lengths must be above 0 and rise, not {tuple(edges)}.")
    total = math.fsum(row.weight for row in shown)
    if opportunities < total * (1 - 1e-9) or not opportunities > 0:
        raise FigureError(f"{opportunities:g} opportunities are too few for suggestions of weight {total:g}.")
    bounds = list(zip((0, *edges), (*edges, None), strict=True))
    buckets = tuple(
        _bucket([row for row in shown if low <= row.chars and (high is None or row.chars < high)], low, high, opportunities)
        for low, high in bounds
    )
    return Lengths(_bucket(shown, 0, None, opportunities), buckets, opportunities)


def require_length(
    before: Lengths, after: Lengths, *, most_drop: float = MOST_DROP, least_shown: int = LEAST_SHOWN
) -> Mapping[str, float]:
    """Compare two tables of the same contexts. Returns `mean_chars_change` and `acceptance_change` (shares of the old mean
    length, and points as a share).

    Raises `LengthCollapse` where the mean length fell by more than `most_drop` (a share in (0, 1)) while acceptance rose,
    `FigureError` where either side shows fewer than `least_shown` suggestions.
    """
    if not 0 < most_drop < 1:
        raise FigureError(f"A drop in length is a share between 0 and 1, not {most_drop}.")
    short = min(before.whole.shown, after.whole.shown)
    if short < max(1, least_shown):
        raise FigureError(f"{short} suggestions are too few to compare lengths by: at least {max(1, least_shown)} are needed.")
    change = after.whole.mean_chars / before.whole.mean_chars - 1.0
    gain = after.whole.acceptance - before.whole.acceptance
    if change < -most_drop and gain > 0:
        raise LengthCollapse(
            f"Suggestions became {-change:.0%} shorter ({before.whole.mean_chars:.1f} → {after.whole.mean_chars:.1f} "
            f"characters; at most {most_drop:.0%} is allowed) while acceptance rose from {before.whole.acceptance:.1%} to "
            f"{after.whole.acceptance:.1%}; characters retained per opportunity went from "
            f"{before.whole.retained_per_opportunity:.2f} to {after.whole.retained_per_opportunity:.2f}. "
            "Reward seconds saved instead of acceptance."
        )
    return MappingProxyType({"mean_chars_change": change, "acceptance_change": gain})


def _bucket(rows: Sequence[Shown], low: int, high: int | None, opportunities: float) -> Bucket:
    weight = math.fsum(row.weight for row in rows)
    retained = math.fsum(row.weight * row.retained_chars for row in rows)

    def mean(total: float) -> float:
        return total / weight if weight > 0 else math.nan

    return Bucket(
        low=low,
        high=high,
        shown=len(rows),
        acceptance=mean(math.fsum(row.weight * row.kept for row in rows)),
        retained_per_shown=mean(retained),
        retained_per_opportunity=retained / opportunities,
        mean_chars=mean(math.fsum(row.weight * row.chars for row in rows)),
    )
