"""Two models on the same tasks: what each solves, the difference b − a with an interval, and where it lies. Pure.

Covered: solved or not, pair by pair, over all tasks and by tier and by the length of the answer that was there; where tasks
have several samples, pass@k too (solved or not is then that of the first sample). The interval draws base problems
(`statistics.paired_difference`); McNemar's p treats tasks as independent and is too small where problems have several. Not
covered: telling which of many parts differs: with a dozen parts, one in two comparisons of equal models shows an interval that
leaves out 0 somewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from coderl_gate.offpolicy import Interval

from .errors import FigureError
from .statistics import cohens_h, mcnemar, mean_pass_at_k, paired_difference, pass_at_k, share
from .task_parts import by_length, by_tier


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
    counts_a: tuple[int, int] | None = None
    """(Graded samples, correct ones) of a; None = its one answer is all there is."""
    counts_b: tuple[int, int] | None = None

    @property
    def cluster(self) -> str:
        """What is drawn together with it."""
        return self.problem or self.task_id


@dataclass(frozen=True, slots=True)
class PassAtK:
    """pass@k of both, over the tasks that both have enough graded samples of."""

    n: int
    a: float
    b: float
    difference: Interval
    """b − a, paired; draws base problems."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {"n": self.n, "a": self.a, "b": self.b, "difference": self.difference.to_json()}


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
    pass_at_k: Mapping[int, PassAtK] = field(default_factory=lambda: MappingProxyType({}))
    """Empty where tasks have one answer each."""

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
            "pass_at_k": {str(k): found.to_json() for k, found in self.pass_at_k.items()},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs, and the parts by tier (easy first) and by the length of the answer (short first)."""

    overall: Compared
    by_tier: Mapping[str, Compared]
    by_length: Mapping[str, Compared]


def compare(pairs: Sequence[Pair], *, seed: int = 0, ks: Sequence[int] = ()) -> Comparison:
    """Compare two models, with pass@k for each k of `ks`. Same seed, same figures. Raises `FigureError` where there are no
    pairs."""

    def parts(found: Mapping[str, Sequence[Pair]]) -> Mapping[str, Compared]:
        return MappingProxyType({name: compare_all(part, seed=seed, ks=ks) for name, part in found.items()})

    return Comparison(
        overall=compare_all(pairs, seed=seed, ks=ks),
        by_tier=parts(by_tier(pairs, lambda pair: pair.tier)),
        by_length=parts(by_length(pairs, lambda pair: pair.answer_chars)),
    )


def compare_all(pairs: Sequence[Pair], *, seed: int = 0, ks: Sequence[int] = ()) -> Compared:
    """Figures of these pairs together. Raises `FigureError` where there are none, or one task stands twice."""
    if not pairs:
        raise FigureError("No task was judged for both models: there is nothing to compare.")
    if len({pair.task_id for pair in pairs}) < len(pairs):
        raise FigureError("A task stands twice among the pairs.")
    problems = [pair.cluster for pair in pairs]
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
        pass_at_k=MappingProxyType({k: found for k in ks if (found := _pass_at_k(pairs, k, seed)) is not None}),
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


def _pass_at_k(pairs: Sequence[Pair], k: int, seed: int) -> PassAtK | None:
    counted = [
        (pair.cluster, pair.counts_a, pair.counts_b)
        for pair in pairs
        if pair.counts_a is not None and pair.counts_b is not None and min(pair.counts_a[0], pair.counts_b[0]) >= k
    ]
    if not counted:
        return None
    a, b = [one for _, one, _ in counted], [one for _, _, one in counted]
    return PassAtK(
        n=len(counted),
        a=mean_pass_at_k(a, k),
        b=mean_pass_at_k(b, k),
        difference=paired_difference(
            [pass_at_k(*one, k) for one in a],
            [pass_at_k(*one, k) for one in b],
            [cluster for cluster, _, _ in counted],
            seed=seed,
        ),
    )
