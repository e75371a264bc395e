"""Constants of the reward of a repair; `rewards` says what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from coderl_trainer.errors import RewardError


@dataclass(frozen=True, slots=True)
class RepairRewards:
    """How repairs are rewarded. Raises `RewardError`."""

    similarity: float = 0.05
    """w; at most 0.4, so that it stays below what any test is worth to a group's order."""
    cap: float = 0.8
    fractional: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.similarity <= 0.4 and 0 < self.cap <= 1):
            raise RewardError("similarity must lie in [0, 0.4] and cap in (0, 1].")

    def nearness(self, likeness: float) -> float:
        """The likeness as a share of `cap`, in [0, 1]: min(a, cap)/cap."""
        return min(likeness, self.cap) / self.cap

    def tie_breaker(self, tests: int) -> float:
        """Most that the likeness adds for a task of so many failing tests: at most half of what one test is worth."""
        return min(self.similarity, 0.5 / max(tests, 1)) if self.fractional else self.similarity
