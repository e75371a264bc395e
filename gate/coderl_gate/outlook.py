"""What a gate with given probabilities and costs does on judged suggestions, in seconds; and the entropy limit h fitted to it.

Everything goes through `coderl_gate.policy.decide`, so a figure here is what the server would do. A suggestion that the gate
drafts is counted as if the logged text had been shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from coderl_store.records import Action, Route

from .costs import CostParameters, costs_of, expected_costs, realised_s, utility_s
from .dataset import Dataset, Floats
from .fitting import clustered_mean
from .policy import Policy, Request, decide, entropy_bits

BUDGET_S: Final = 0.02
"""Expected seconds per request that skipping and drafting may cost: about a tenth of what the gate gains on the embedded
model."""


_STEPS_PER_BIT: Final = 1_000_000
"""h is rounded up to this grid, so that machines whose last bits differ write the same artifact."""


@dataclass(frozen=True, slots=True)
class EntropyFit:
    """The fitted entropy limit and what it does to the rows it was fitted on (shares are weighted)."""

    h_bits: float
    skipped: float
    """Share of requests for which nothing is generated."""
    drafted: float
    """Share of requests answered with a draft."""
    cost_s: float
    """Expected seconds per request lost against asking stage 2 always."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Seconds saved per judged suggestion (negative: lost), realised, weighted."""

    chars_per_s: float
    show_all: float
    gate: float
    oracle: float
    """Showing exactly what saves time: the most that any gate could."""
    shown: float
    """Share that the gate shows."""
    generated: float
    """Share for which the gate generates."""
    kept_of_shown: float
    """Kept share of what the gate shows; NaN where it shows nothing."""
    kept_chars: float
    """Share of all kept characters that are in what the gate shows; NaN where nothing was kept."""
    gain: float
    """Gate minus show_all."""
    gain_error: float
    """Standard error of `gain`, clustered by group."""


def fit_h(p1: Floats, p2: Floats, dataset: Dataset, costs: CostParameters, budget_s: float = BUDGET_S) -> EntropyFit:
    """The h with the largest share of skipped and drafted requests whose expected cost is at most `budget_s` per request.

    The cost of settling a request early is the expected utility that stage 2 would have reached, minus that of the early
    answer, both by p2. It is never negative, so the total rises with h and the largest affordable h is found in one pass
    over the sorted entropies. h is the (rounded) entropy of the last request that is settled early; 0 where none is affordable.
    """
    early, late = Policy(h_bits=1.0), Policy(h_bits=0.0)
    expected = expected_costs(costs)
    rows: list[tuple[float, float, float, Route]] = []
    for before, after, chars, lines, weight in zip(p1, p2, dataset.chars, dataset.lines, dataset.weight, strict=True):
        suggestion = costs_of(chars, lines, costs)
        first = decide(Request(p1=before, expected=expected), early)
        if first.route is Route.FULL:
            continue
        utility = utility_s(after, suggestion)
        full = decide(Request(p1=before, expected=expected, p2=after, costs=suggestion), late)
        value = utility if full.action is Action.SHOW else 0.0
        reached = utility if first.route is Route.DRAFT else 0.0
        rows.append((entropy_bits(before), weight * max(0.0, value - reached), weight, first.route))
    rows.sort(key=lambda row: row[0])
    total = float(dataset.weight.sum())
    best = EntropyFit(0.0, 0.0, 0.0, 0.0)
    cost = skipped = drafted = 0.0
    for index, (entropy, loss, weight, route) in enumerate(rows):
        cost += loss
        skipped += weight if route is Route.SKIP else 0.0
        drafted += weight if route is Route.DRAFT else 0.0
        if cost > budget_s * total:
            break
        limit = min(1.0, math.ceil(entropy * _STEPS_PER_BIT) / _STEPS_PER_BIT)
        if index + 1 == len(rows) or rows[index + 1][0] > limit:  # what h cannot tell apart is settled together
            best = EntropyFit(limit, float(skipped / total), float(drafted / total), float(cost / total))
    return best


def outlook(
    p1: Floats, p2: Floats, dataset: Dataset, decision: Policy, costs: CostParameters, truth: CostParameters
) -> Outlook:
    """What `decision` with `costs` would have done on the rows; seconds are counted with `truth`."""
    seconds = np.array(
        [
            realised_s(int(kept), int(chars), int(lines), truth)
            for kept, chars, lines in zip(dataset.kept_chars, dataset.chars, dataset.lines, strict=True)
        ]
    )
    expected = expected_costs(costs)
    shown, generated = np.zeros(len(dataset)), np.zeros(len(dataset))
    for index, (before, after, chars, lines) in enumerate(zip(p1, p2, dataset.chars, dataset.lines, strict=True)):
        request = Request(p1=before, expected=expected, p2=after, costs=costs_of(chars, lines, costs))
        verdict = decide(request, decision)
        shown[index] = verdict.action is Action.SHOW
        generated[index] = verdict.route is not Route.SKIP
    weight = dataset.weight
    kept = kept_chars = float("nan")
    if (weight * shown).sum() > 0:
        kept = float(np.average(dataset.kept, weights=weight * shown))
    if (weight * dataset.kept_chars).sum() > 0:
        kept_chars = float(np.average(shown, weights=weight * dataset.kept_chars))
    gain, gain_error = clustered_mean(seconds * shown - seconds, weight, dataset.groups)
    return Outlook(
        chars_per_s=truth.typing_chars_per_s,
        show_all=float(np.average(seconds, weights=weight)),
        gate=float(np.average(seconds * shown, weights=weight)),
        oracle=float(np.average(np.maximum(0.0, seconds), weights=weight)),
        shown=float(np.average(shown, weights=weight)),
        generated=float(np.average(generated, weights=weight)),
        kept_of_shown=kept,
        kept_chars=kept_chars,
        gain=gain,
        gain_error=gain_error,
    )
