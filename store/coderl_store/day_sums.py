"""The vocabulary of sums per day and programmer (`coderl_store.daily`): what is counted, and in what units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Part:
    """What one row of sums is about."""

    day: str
    """ISO date, UTC, of the decisions."""
    user_key: str
    language: str
    generator_id: str
    gate_id: str


@dataclass(slots=True)
class DaySums:
    """Sums over the requests of one part. Seconds are those of the time model with the costs that were in force then."""

    requests: int = 0
    settled: int = 0
    """… by a rule or a failure, without a gate."""
    skipped: int = 0
    """… by the gate, before anything was generated."""
    generated: int = 0
    shown: int = 0
    seen: int = 0
    """Shown, and with an outcome other than `not_seen`."""
    kept: int = 0
    priced: int = 0
    """Seen, with costs: those that `seconds` is about."""
    weighed: int = 0
    """Requests that a comparison with another policy can use: decided by the gate, with all it takes."""
    by_command: int = 0
    by_notification: int = 0
    by_inferred: int = 0
    by_timeout: int = 0
    by_imported: int = 0
    seconds: float = 0.0
    """Saved by what was shown (negative: lost)."""
    earned_s: float = 0.0
    """Σ w·r, w = 1 / P(show) of what was shown, r its seconds: of the weighed ones, as all below."""
    weight: float = 0.0
    """Σ w."""
    weight_squared: float = 0.0
    """Σ w²."""
    logged_s: float = 0.0
    """Σ r of what was shown."""
    robust_s: float = 0.0
    """Σ of the doubly robust terms for showing everything."""
    unsupported: float = 0.0
    """Requests on which the log could never have shown anything."""
    withheld_s: float = 0.0
    """Seconds that showing what was withheld would have saved, by the gate's own probabilities."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason of silence → requests."""

    def add(self, other: DaySums) -> None:
        """Take another row's sums in."""
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    @property
    def withheld(self) -> int:
        """Requests on which nothing was shown."""
        return self.requests - self.shown


PART_NAMES = tuple(one.name for one in fields(Part))
NUMBERS: Mapping[str, type[int] | type[float]] = MappingProxyType(
    {one.name: type(one.default) for one in fields(DaySums) if isinstance(one.default, int | float)}
)
"""Every sum but `reasons`: name → int or float."""


def total(sums: Iterable[DaySums]) -> DaySums:
    """All of them together."""
    whole = DaySums()
    for one in sums:
        whole.add(one)
    return whole
