"""Fitting what is settled before generation: both rules of `coderl_gate.escalation`, to a stated budget, and side by side.

The cost of settling a request early is the expected utility that stage 2 would have reached, minus that of the early answer,
both by p2. It is never negative, so the total rises with the limit, and the largest affordable limit is found in one pass over
the requests in order of the rule's score. What a rule settles first is what it thinks least worth asking about: the better rule
settles more within the same budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from coderl_store.records import Action, Route

from .costs import CostParameters, costs_of, expected_costs, realised_s, utility_s
from .costs import tau as threshold
from .dataset import Dataset, Floats
from .escalation import ValueLimit, entropy_bits, value_of_information_s
from .policy import Policy, Request, Rule, decide

BUDGET_S: Final = 0.02
"""Expected seconds per request that skipping and drafting may cost: about a tenth of what the gate gains on the embedded
model."""
BUDGETS_S: Final = (0.005, 0.01, 0.02, 0.05)
"""At which the report compares the two rules."""
_STEPS: Final = 1_000_000
"""Limits are rounded up to this grid, so that machines whose last bits differ write the same artifact."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a fitted limit does to the rows it was fitted on (shares are weighted)."""

    limit: float
    """Bits, or seconds."""
    skipped: float
    """Share of requests for which nothing is generated."""
    drafted: float
    """Share of requests answered with a draft."""
    cost_s: float
    """Expected seconds per request lost against asking stage 2 always."""
    realised_cost_s: float
    """The same by what the programmers really kept; may be negative."""

    @property
    def saved(self) -> float:
        """Share of generations saved in full; a draft pays for a short one."""
        return self.skipped + self.drafted


@dataclass(frozen=True, slots=True)
class _Row:
    """One request that the rule could settle."""

    score: float
    cost_s: float
    realised_cost_s: float
    weight: float
    route: Route


def fit_entropy_limit(p1: Floats, p2: Floats, dataset: Dataset, costs: CostParameters, budget_s: float = BUDGET_S) -> Settled:
    """The h with the largest share of settled requests whose cost is at most `budget_s` per request; limit 0 where none is."""
    rows = [row for row in _rows(p1, p2, dataset, costs, None) if row is not None]
    return _largest(rows, float(dataset.weight.sum()), budget_s, 1.0)


def fit_value_limit(
    p1: Floats, p2: Floats, dataset: Dataset, costs: CostParameters, budget_s: float = BUDGET_S
) -> tuple[ValueLimit, Settled]:
    """The v with the largest affordable share, and the spread s it rests on."""
    spread = spread_of(p1, p2, dataset.weight)
    rows = [row for row in _rows(p1, p2, dataset, costs, spread) if row is not None]
    settled = _largest(rows, float(dataset.weight.sum()), budget_s, math.inf)
    return ValueLimit(settled.limit, spread), settled


def spread_of(p1: Floats, p2: Floats, weight: Floats) -> float:
    """s: standard deviation of logit p2 around its mean given p1 (`coderl_gate.escalation`), by fixed point; six digits."""
    before, after = np.log(p1 / (1 - p1)), np.log(p2 / (1 - p2))
    spread = 0.0
    for _ in range(20):
        middle = before * math.sqrt(1.0 + math.pi * spread * spread / 8.0)
        spread = float(np.sqrt(np.average(np.square(after - middle), weights=weight)))
    return float(f"{spread:.6g}")


def _rows(p1: Floats, p2: Floats, dataset: Dataset, costs: CostParameters, spread: float | None) -> Sequence[_Row | None]:
    """Every request with its score: the entropy of p1, or with a `spread` the value of information. None: never settled."""
    early, late = Policy(1.0), Policy(0.0)
    if spread is not None:
        early = Policy(1.0, rule=Rule.VALUE, value_limit=ValueLimit(math.inf, spread))
    expected = expected_costs(costs)
    limit, gain_s = threshold(expected), expected.t_write_s - expected.t_edit_s
    rows: list[_Row | None] = []
    columns = (p1, p2, dataset.chars, dataset.lines, dataset.kept_chars, dataset.weight)
    for before, after, chars, lines, kept_chars, weight in zip(*(column.tolist() for column in columns), strict=True):
        first = decide(Request(p1=before, expected=expected), early)
        if first.route is Route.FULL:
            rows.append(None)
            continue
        suggestion = costs_of(chars, lines, costs)
        full = decide(Request(p1=before, expected=expected, p2=after, costs=suggestion), late)
        utility, reward = utility_s(after, suggestion), realised_s(int(kept_chars), int(chars), int(lines), costs)
        shown_late, shown_early = full.action is Action.SHOW, first.route is Route.DRAFT
        score = entropy_bits(before) if spread is None else value_of_information_s(before, limit, gain_s, spread)
        loss, realised = (worth * shown_late - worth * shown_early for worth in (utility, reward))
        rows.append(_Row(score, weight * max(0.0, loss), weight * realised, weight, first.route))
    return rows


def _largest(rows: Sequence[_Row], total: float, budget_s: float, highest: float) -> Settled:
    ordered = sorted(rows, key=lambda row: row.score)
    best = Settled(0.0, 0.0, 0.0, 0.0, 0.0)
    cost = realised = skipped = drafted = 0.0
    for index, row in enumerate(ordered):
        cost += row.cost_s
        realised += row.realised_cost_s
        skipped += row.weight if row.route is Route.SKIP else 0.0
        drafted += row.weight if row.route is Route.DRAFT else 0.0
        if cost > budget_s * total:
            break
        limit = min(highest, math.ceil(row.score * _STEPS) / _STEPS)
        if (
            index + 1 == len(ordered) or ordered[index + 1].score > limit
        ):  # what the limit cannot tell apart is settled together
            best = Settled(limit, skipped / total, drafted / total, cost / total, realised / total)
    return best
