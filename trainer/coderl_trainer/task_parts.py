"""The parts in which figures over tasks are told: by tier and by the length of the answer that was there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from .types import Tier

LENGTHS: Final = (20, 40, 80, 160, 320)
"""Upper bounds of the length buckets, characters; what is longer is a bucket of its own. A line of code is mostly below 80."""

T = TypeVar("T")


def length_bucket(chars: int) -> str:
    """The name of the bucket that a length belongs to."""
    return _name(sum(chars > bound for bound in LENGTHS))


def by_length(items: Iterable[T], chars_of: Callable[[T], int | None]) -> dict[str, list[T]]:
    """The items of each bucket that has any, short first; those of no known length (None) are in none."""
    found: dict[str, list[T]] = {_name(index): [] for index in range(len(LENGTHS) + 1)}
    for item in items:
        chars = chars_of(item)
        if chars is not None:
            found[length_bucket(chars)].append(item)
    return {name: part for name, part in found.items() if part}


def by_tier(items: Iterable[T], tier_of: Callable[[T], str]) -> dict[str, list[T]]:
    """The items of each tier, easy first, tiers of others' naming last; those without one (empty) are in none."""
    found: dict[str, list[T]] = {}
    for item in items:
        if tier := tier_of(item):
            found.setdefault(tier, []).append(item)
    known = [tier.value for tier in Tier if tier.value in found]
    return {name: found[name] for name in (*known, *sorted(found.keys() - set(known)))}


def _name(index: int) -> str:
    if index == len(LENGTHS):
        return f"over {LENGTHS[-1]} chars"
    return f"{1 + LENGTHS[index - 1] if index else 0}–{LENGTHS[index]} chars"
