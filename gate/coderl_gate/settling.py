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


@dataclass(frozen=True, slots=True)
class Candidates:
    """The requests that a rule could settle, in the order in which it would; worked out once for all budgets."""

    rows: Sequence[_Row]
    total: float
    """Weight of all requests, settled or not."""
    highest: float
    """No limit is above."""

    def within(self, budget_s: float) -> Settled:
        """The limit with the largest share of settled requests that costs at most `budget_s` per request; 0 where none does."""
        best = Settled(0.0, 0.0, 0.0, 0.0, 0.0)
        cost = realised = skipped = drafted = 0.0
        for index, row in enumerate(self.rows):
            cost += row.cost_s
            realised += row.realised_cost_s
            skipped += row.weight if row.route is Route.SKIP else 0.0
            drafted += row.weight if row.route is Route.DRAFT else 0.0
            if cost > budget_s * self.total:
                break
            limit = min(self.highest, math.ceil(row.score * _STEPS) / _STEPS)
            # what the limit cannot tell apart is settled together
            if index + 1 == len(self.rows) or self.rows[index + 1].score > limit:
                shares = (value / self.total for value in (skipped, drafted, cost, realised))
                best = Settled(limit, *shares)
        return best


def by_entropy(p1: Floats, p2: Floats, dataset: Dataset, costs: CostParameters) -> Candidates:
    """The requests in the order of the entropy of p1, surest first."""
    return Candidates(_rows(p1, p2, dataset, costs, None), float(dataset.weight.sum()), 1.0)


def by_value(p1: Floats, p2: Floats, dataset: Dataset, costs: CostParameters) -> tuple[Candidates, float]:
    """The requests in the order of the value of information, least first; and the spread s it rests on."""
    spread = spread_of(p1, p2, dataset.weight)
    return Candidates(_rows(p1, p2, dataset, costs, spread), float(dataset.weight.sum()), math.inf), spread


def spread_of(p1: Floats, p2: Floats, weight: Floats) -> float:
    """s: standard deviation of logit p2 around its mean given p1 (`coderl_gate.escalation`), by fixed point; six digits."""
    before, after = np.log(p1 / (1 - p1)), np.log(p2 / (1 - p2))
    spread = 0.0
    for _ in range(20):
        middle = before * math.sqrt(1.0 + math.pi * spread * spread / 8.0)
        spread = float(np.sqrt(np.average(np.square(after - middle), weights=weight)))
    return float(f"{spread:.6g}")


def _rows(p1: Floats, p2: Floats, dataset: Dataset, costs: CostParameters, spread: float | None) -> list[_Row]:
    """The requests that may be settled, by score: the entropy of p1, or with a `spread` the value of information."""
    early, late = Policy(1.0), Policy(0.0)
    if spread is not None:
        early = Policy(1.0, rule=Rule.VALUE, value_limit=ValueLimit(math.inf, spread))
    expected = expected_costs(costs)
    limit, gain_s = threshold(expected), expected.t_write_s - expected.t_edit_s
    rows: list[_Row] = []
    columns = (p1, p2, dataset.chars, dataset.lines, dataset.kept_chars, dataset.weight)
    for before, after, chars, lines, kept_chars, weight in zip(*(column.tolist() for column in columns), strict=True):
        first = decide(Request(p1=before, expected=expected), early)
        if first.route is Route.FULL:
            continue
        suggestion = costs_of(chars, lines, costs)
        full = decide(Request(p1=before, expected=expected, p2=after, costs=suggestion), late)
        utility, reward = utility_s(after, suggestion), realised_s(int(kept_chars), int(chars), int(lines), costs)
        shown_late, shown_early = full.action is Action.SHOW, first.route is Route.DRAFT
        score = entropy_bits(before) if spread is None else value_of_information_s(before, limit, gain_s, spread)
        loss, realised = (worth * shown_late - worth * shown_early for worth in (utility, reward))
        rows.append(_Row(score, weight * max(0.0, loss), weight * realised, weight, first.route))
    rows.sort(key=lambda row: row.score)
    return rows
