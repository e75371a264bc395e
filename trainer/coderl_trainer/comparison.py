"""Two models on the same tasks: what each solves, the difference b − a with an interval, and where it lies. Pure.

Covered: solved or not, pair by pair, over all tasks and by tier and by the length of the answer that was there. The interval
draws base problems (`statistics.paired_difference`); McNemar's p treats tasks as independent and is too small where problems
have several. Not covered: telling which of many parts differs: with a dozen parts, one in two comparisons of equal models shows
an interval that leaves out 0 somewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from coderl_gate.offpolicy import Interval

from .errors import FigureError
from .statistics import cohens_h, mcnemar, paired_difference, share

LENGTHS: Final = (20, 40, 80)
"""Upper bounds of the length buckets, characters of the answer; what is longer is a bucket of its own."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One task that both models were judged on."""

    task_id: str
    a: bool
    """Solved by a."""
    b: bool
    problem: str = ""
    """The base problem; empty = the task is its own."""
    tier: str = ""
    """Empty = not known."""
    answer_chars: int | None = None
    """Length of the text that was there; None = not known."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Figures of one set of pairs."""

    n: int
    problems: int
    a: Interval
    """Share solved, Wilson's interval."""
    b: Interval
    difference: Interval
    """b − a; positive where b solves more."""
    only_a: int
    """Tasks that a solves and b does not."""
    only_b: int
    mcnemar_p: float
    cohens_h: float

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "difference": self.difference.to_json(),
            "mcnemar_p": self.mcnemar_p,
            "cohens_h": self.cohens_h,
            "n": self.n,
            "problems": self.problems,
            "only_a": self.only_a,
            "only_b": self.only_b,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs, and the parts by tier (easy first) and by the length of the answer (short first)."""

    overall: Compared
    by_tier: Mapping[str, Compared]
    by_length: Mapping[str, Compared]


def compare(pairs: Sequence[Pair], *, seed: int = 0) -> Comparison:
    """Compare two models. Same seed, same figures. Raises `FigureError` where there are no pairs."""
    tiers: dict[str, list[Pair]] = {name: [] for name in _tier_order(pairs)}
    lengths: dict[str, list[Pair]] = {name: [] for name in map(_bucket_name, range(len(LENGTHS) + 1))}
    for pair in pairs:
        if pair.tier:
            tiers[pair.tier].append(pair)
        if pair.answer_chars is not None:
            lengths[_bucket_name(sum(pair.answer_chars > bound for bound in LENGTHS))].append(pair)
    return Comparison(
        overall=compare_all(pairs, seed=seed),
        by_tier=_parts(tiers, seed),
        by_length=_parts(lengths, seed),
    )


def compare_all(pairs: Sequence[Pair], *, seed: int = 0) -> Compared:
    """Figures of these pairs together. Raises `FigureError` where there are none, or one task stands twice."""
    if not pairs:
        raise FigureError("No task was judged for both models: there is nothing to compare.")
    if len({pair.task_id for pair in pairs}) < len(pairs):
        raise FigureError("A task stands twice among the pairs.")
    problems = [pair.problem or pair.task_id for pair in pairs]
    solved_a, solved_b = sum(pair.a for pair in pairs), sum(pair.b for pair in pairs)
    only_a = sum(pair.a and not pair.b for pair in pairs)
    only_b = sum(pair.b and not pair.a for pair in pairs)
    a, b = share(solved_a, len(pairs)), share(solved_b, len(pairs))
    return Compared(
        n=len(pairs),
        problems=len(set(problems)),
        a=a,
        b=b,
        difference=paired_difference([float(pair.a) for pair in pairs], [float(pair.b) for pair in pairs], problems, seed=seed),
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=mcnemar(only_a, only_b),
        cohens_h=cohens_h(a.estimate, b.estimate),
    )


def verdict(compared: Compared) -> str:
    """What the interval says, in a sentence."""
    low, high = compared.difference.low, compared.difference.high
    if math.isnan(low):
        return "All tasks are of one base problem, so nobody can say how sure the difference is."
    if low > 0 or high < 0:
        return f"{'B' if low > 0 else 'A'} solves more, and the interval leaves out 0."
    if low == high == 0:
        return "Both solve exactly the same tasks."
    return "The interval holds 0: these tasks do not tell which one is better."


def _parts(parts: Mapping[str, Sequence[Pair]], seed: int) -> Mapping[str, Compared]:
    return MappingProxyType({name: compare_all(part, seed=seed) for name, part in parts.items() if part})


def _tier_order(pairs: Sequence[Pair]) -> list[str]:
    known = ("easy", "medium", "hard")
    found = {pair.tier for pair in pairs if pair.tier}
    return [*(name for name in known if name in found), *sorted(found - set(known))]


def _bucket_name(index: int) -> str:
    if index == len(LENGTHS):
        return f"over {LENGTHS[-1]} chars"
    return f"{1 + LENGTHS[index - 1] if index else 0}–{LENGTHS[index]} chars"
