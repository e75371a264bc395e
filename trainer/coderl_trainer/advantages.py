"""Group-relative advantages, and which groups teach nothing. Pure.

For a group of G samples of one prompt with rewards r (GRPO, Shao et al. 2024, §4.1.2):

    A_i = (r_i − mean r) / std r            scale "std", population standard deviation
    A_i = r_i − mean r                      scale "none" (Dr. GRPO, Liu et al. 2025, §3: the std favours easy and hard prompts)

Rows without a reward (`None`: the grader broke, the sample was cut off and is masked) do not vote: they are left out of mean
and std and get advantage 0. A group whose valid rewards are all equal has no gradient and is *degenerate*. Equality is tested
on the rewards themselves, not on a leave-one-out deviation: for the one success of [1, 0, 0, 0] that is 0, and the only row
worth learning from would be dropped (NeMo-RL, issue 3469).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

from .errors import GroupError


class Scale(StrEnum):
    """What an advantage is divided by."""

    STD = "std"
    NONE = "none"


class Degenerate(StrEnum):
    """Why a group teaches nothing; counted apart, because the cures differ."""

    ALL_PASS = "all_pass"
    """Every valid reward is the best possible: the task is too easy now."""
    ALL_FAIL = "all_fail"
    """Every valid reward is the worst possible: the task is too hard yet."""
    TIE = "tie"
    """All equal in between: the reward cannot tell these samples apart."""
    TOO_FEW = "too_few"
    """Fewer than two valid rewards: nothing to compare."""


def degenerate(
    rewards_G: Sequence[float | None], *, worst: float = 0.0, best: float = 1.0, tolerance: float = 0.0
) -> Degenerate | None:
    """Why the group has no gradient, or None where it has one.

    `tolerance` is for rewards that are sums of floats: a spread (max − min) of at most that much is equal. Raises `GroupError`.
    """
    valid = _valid(rewards_G)
    if len(valid) < 2:
        return Degenerate.TOO_FEW
    low, high = min(valid), max(valid)
    if high - low > tolerance:
        return None
    if low >= best - tolerance:
        return Degenerate.ALL_PASS
    if high <= worst + tolerance:
        return Degenerate.ALL_FAIL
    return Degenerate.TIE


def group_advantages(rewards_G: Sequence[float | None], *, scale: Scale = Scale.STD) -> list[float]:
    """(G,) advantages of one group; they sum to 0. Rows without a reward get 0, a group of equal rewards gets only zeros.

    With `Scale.STD` they do not change when every reward is multiplied by the same positive number. Raises `GroupError` for an
    empty group and for rewards that are not finite.
    """
    valid = _valid(rewards_G)
    if len(valid) < 2 or max(valid) == min(valid):
        return [0.0] * len(rewards_G)
    # Work on [0, 1]: keeps precision for rewards that are large, tiny or far from 0, and cancels out of A with a std.
    low, spread = min(valid), max(valid) - min(valid)
    if not math.isfinite(spread):
        raise GroupError("The rewards of a group are too far apart to be compared.")
    unit = [(reward - low) / spread for reward in valid]
    mean = math.fsum(unit) / len(unit)
    divisor = math.sqrt(math.fsum((value - mean) ** 2 for value in unit) / len(unit)) if scale is Scale.STD else 1.0 / spread
    return [0.0 if reward is None else ((reward - low) / spread - mean) / divisor for reward in rewards_G]


def _valid(rewards_G: Sequence[float | None]) -> list[float]:
    if not rewards_G:
        raise GroupError("A group needs at least one row.")
    valid = [reward for reward in rewards_G if reward is not None]
    if not all(map(math.isfinite, valid)):
        raise GroupError("A reward is not finite; a broken grader is None (no vote), not a number.")
    return valid
