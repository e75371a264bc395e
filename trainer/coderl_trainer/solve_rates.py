"""What a model solves: pass@k and exact answers over tasks, and by kind, tier and length. Pure.

pass@k of a task is estimated without bias from its graded samples (`statistics.pass_at_k`), then the mean is taken over tasks.
Its interval draws base problems, so tasks of one problem may go together; the noise of the samples of a task is part of it,
because a problem that is drawn brings the samples it has. With one greedy answer per task pass@1 is a share of tasks and has
Wilson's interval, which takes tasks for independent. Tasks with fewer graded samples than k are not among those of pass@k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from coderl_gate.offpolicy import Interval, cluster_bootstrap

from .errors import FigureError
from .statistics import pass_at_k, share
from .task_parts import by_length, by_tier

KS: Final = (1, 5, 10)
"""The k of pass@k that are told unless others are asked for, as far as there are samples."""


@dataclass(frozen=True, slots=True)
class Tries:
    """One task and what became of its samples."""

    task_id: str
    samples: int
    """Graded ones."""
    correct: int
    """Of these; every test passed."""
    exact: int = 0
    """Of `asked`; the text that was there, blanks at its end aside."""
    asked: int | None = None
    """Samples, those not graded too; None = `samples`."""
    problem: str = ""
    """The base problem; empty = the task is its own."""
    kind: str = ""
    tier: str = ""
    """Empty = not known."""
    answer_chars: int | None = None
    """Length of the text that was there; None = not known."""

    @property
    def cluster(self) -> str:
        """What is drawn together with it."""
        return self.problem or self.task_id


@dataclass(frozen=True, slots=True)
class SolveRates:
    """Figures of one set of tasks."""

    n: int
    """Tasks with a graded sample."""
    pass_at_k: Mapping[int, Interval]
    """Only the k that some task has enough graded samples for."""
    exact: float | None
    """Share of the samples; mean over tasks; None without any."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            "n": self.n,
            "pass_at_k": {str(k): found.to_json() for k, found in self.pass_at_k.items()},
            "exact_match": self.exact,
        }


@dataclass(frozen=True, slots=True)
class Solved:
    """All tasks, and the parts by kind, by tier (easy first) and by the length of the answer (short first)."""

    overall: SolveRates
    by_kind: Mapping[str, SolveRates]
    by_tier: Mapping[str, SolveRates]
    by_length: Mapping[str, SolveRates]


def default_ks(tries: Sequence[Tries]) -> tuple[int, ...]:
    """Those of `KS` for which every task that has a graded sample has enough of them; at least 1."""
    least = min((one.samples for one in tries if one.samples), default=1)
    return tuple(k for k in KS if k <= least)


def solve_rates(tries: Sequence[Tries], ks: Sequence[int] | None = None, *, seed: int = 0) -> Solved:
    """Figures over all tasks and each part. `ks` None = `default_ks`. Same seed, same figures.

    Raises `FigureError` where one task stands twice, and for counts that cannot be.
    """
    if len({one.task_id for one in tries}) < len(tries):
        raise FigureError("A task stands twice among those that were tried.")
    chosen = default_ks(tries) if ks is None else tuple(ks)
    kinds: dict[str, list[Tries]] = {}
    for one in tries:
        if one.kind:
            kinds.setdefault(one.kind, []).append(one)

    def parts(found: Mapping[str, Sequence[Tries]]) -> Mapping[str, SolveRates]:
        return MappingProxyType({name: rates_of(part, chosen, seed=seed) for name, part in found.items()})

    return Solved(
        rates_of(tries, chosen, seed=seed),
        parts(dict(sorted(kinds.items()))),
        parts(by_tier(tries, lambda one: one.tier)),
        parts(by_length(tries, lambda one: one.answer_chars)),
    )


def rates_of(tries: Sequence[Tries], ks: Sequence[int], *, seed: int = 0) -> SolveRates:
    """Figures of these tasks together."""
    rates = {k: _pass_at_k([one for one in tries if one.samples >= k], k, seed) for k in ks}
    shares = [one.exact / asked for one in tries if (asked := one.samples if one.asked is None else one.asked)]
    return SolveRates(
        sum(one.samples > 0 for one in tries),
        MappingProxyType({k: found for k, found in rates.items() if found is not None}),
        math.fsum(shares) / len(shares) if shares else None,
    )


def _pass_at_k(tries: Sequence[Tries], k: int, seed: int) -> Interval | None:
    if not tries:
        return None
    if k == 1 and all(one.samples == 1 for one in tries):
        return share(sum(one.correct for one in tries), len(tries))
    values = np.array([pass_at_k(one.samples, one.correct, k) for one in tries])
    return cluster_bootstrap(
        lambda rows: float(values[rows].mean()), np.array([one.cluster for one in tries], dtype=str), seed=seed
    )
