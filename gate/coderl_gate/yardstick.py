"""The yardstick by which gates on public telemetry are compared, apart from any gate's own idea of costs.

    value of showing = kept · 0.9 · n/5 − min(decision time, 10 s)        value of silence = 0

n characters, typed at 5 per second, a tenth of what was kept is rewritten; the whole time from shown to decided counts as spent
on the suggestion. It is stricter than the product's costs (`coderl_gate.timing`), which count only the reading: nobody can say
of a log without labels how much of that time was reading, but everybody can compute this.

A gate is judged with what it knew *before* showing: its p1 and p2, and a decision time expected from the suggestion's length
and from that programmer's own earlier ones (`DecisionTime`). The decision is `policy.decide`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.stats import rankdata

from coderl_store.records import Action, Route

from .costs import costs_of, expected_costs
from .dataset import Dataset, Floats
from .decision_time import CHARS_PER_S, EDIT_SHARE, DecisionTime
from .escalation import entropy_bits
from .policy import Policy, Request, decide

OWN_WEIGHT: Final = 10.0
"""How many of a programmer's own decisions weigh as much as everybody's when their time is expected."""
STEPS: Final = 40
"""Entropy limits tried for the share of generations that can be saved."""
AUC_BUDGET: Final = 0.01
SECONDS_BUDGET: Final = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """A gate by the yardstick, on the rows whose decision time is known. Seconds are per judged suggestion."""

    rows: int
    show_all: float
    gate: float
    """Asking stage 2 always."""
    oracle: float
    shown: float
    """Share of the suggestions."""
    skipped: float
    """Largest share of requests that need no generation within the two budgets."""
    auc_cost: float
    """AUC lost by skipping them: stage 1's estimate stands for stage 2's where nothing was generated."""
    seconds_cost: float
    h_bits: float
    """The entropy limit that skips them."""


def decision_time(dataset: Dataset) -> DecisionTime | None:
    """Least squares on the rows whose decision time is known, the slope not below 0; None where fewer than two are."""
    known = np.isfinite(dataset.decided_s)
    if known.sum() < 2:
        return None
    n, t, w = dataset.chars[known], dataset.decided_s[known], dataset.weight[known]
    middle, mean = float(np.average(n, weights=w)), float(np.average(t, weights=w))
    spread = float(np.average(np.square(n - middle), weights=w))
    slope = max(0.0, float(np.average((n - middle) * (t - mean), weights=w)) / spread) if spread > 0 else 0.0
    slope = min(slope, mean / middle if middle > 0 else 0.0)  # nobody decides in less than no time
    return DecisionTime(_rounded(mean - slope * middle), _rounded(slope), _rounded(middle))


def cross_fitted(dataset: Dataset) -> Floats:
    """Expected seconds (n,): each group's line is fitted without it, then moved by the programmer's own earlier decisions."""
    expected = np.full(len(dataset), np.nan)
    for group in np.unique(dataset.groups):
        held = dataset.groups == group
        time = decision_time(dataset.take(~held)) or decision_time(dataset)
        if time is not None:
            expected[held] = time.base_s + time.s_per_char * dataset.chars[held]
    return with_own(expected, dataset)


def with_own(expected: Floats, dataset: Dataset) -> Floats:
    """Expected seconds (n,), moved by the mean surprise of each programmer's earlier decisions, shrunk by `OWN_WEIGHT`."""
    moved = expected.copy()
    sums: dict[str, tuple[float, int]] = {}
    for index, (user, seconds) in enumerate(zip(dataset.users.tolist(), dataset.decided_s.tolist(), strict=True)):
        surprise, count = sums.get(user, (0.0, 0))
        moved[index] = max(0.0, expected[index] + surprise / (count + OWN_WEIGHT))
        if np.isfinite(seconds):
            sums[user] = (surprise + seconds - float(expected[index]), count + 1)
    return moved


def measure(p1: Floats, p2: Floats, expected_s: Floats, time: DecisionTime, dataset: Dataset) -> Measured | None:
    """Judge estimates (n,) on the rows; None where no decision time is known."""
    known = np.isfinite(dataset.decided_s) & np.isfinite(expected_s)
    if not known.any():
        return None
    rows, p1, p2, expected_s = dataset.take(known), p1[known], p2[known], expected_s[known]
    value = rows.kept * (1 - EDIT_SHARE) * rows.chars / CHARS_PER_S - rows.decided_s
    late, _ = _decided(p1, p2, expected_s, time, rows, 0.0)
    gate = float(np.average(value * late, weights=rows.weight))
    best = Measured(
        rows=len(rows),
        show_all=float(np.average(value, weights=rows.weight)),
        gate=gate,
        oracle=float(np.average(np.maximum(0.0, value), weights=rows.weight)),
        shown=float(np.average(late, weights=rows.weight)),
        skipped=0.0,
        auc_cost=0.0,
        seconds_cost=0.0,
        h_bits=0.0,
    )
    area = _auc(rows.kept, p2)
    early, skips = _decided(p1, p2, expected_s, time, rows, 1.0)
    entropy = np.array([entropy_bits(p) for p in p1.tolist()])
    for h_bits in np.linspace(0.0, 1.0, STEPS + 1)[1:].tolist():
        settled = entropy <= h_bits  # what `decide` asks: only on which side a request lies depends on h
        shown, skipped = np.where(settled, early, late), np.where(settled, skips, 0.0)
        share = float(np.average(skipped, weights=rows.weight))
        auc_cost = area - _auc(rows.kept, np.where(skipped > 0, p1, p2))
        seconds_cost = gate - float(np.average(value * shown, weights=rows.weight))
        if share > best.skipped and auc_cost <= AUC_BUDGET and seconds_cost <= SECONDS_BUDGET:
            best = replace(best, skipped=share, auc_cost=auc_cost, seconds_cost=seconds_cost, h_bits=h_bits)
    return best


def _decided(
    p1: Floats, p2: Floats, expected_s: Floats, time: DecisionTime, rows: Dataset, h_bits: float
) -> tuple[Floats, Floats]:
    """Shown and skipped (n,), 0 or 1, of a gate that may skip but not draft: a draft would be another text than the logged
    one."""
    parameters, policy = time.costs(), Policy(h_bits)
    usual_s = time.base_s + time.s_per_char * rows.chars
    shown, skipped = np.zeros(len(rows)), np.zeros(len(rows))
    columns = zip(p1.tolist(), p2.tolist(), expected_s.tolist(), usual_s.tolist(), rows.chars.tolist(), strict=True)
    for index, (before, after, own_s, everybody_s, chars) in enumerate(columns):
        more_s = own_s - everybody_s
        place = replace(parameters, verify_base_s=max(0.0, parameters.verify_base_s + more_s))
        costs = replace(costs_of(chars, 1, parameters), t_verify_s=own_s)
        request = Request(p1=before, expected=expected_costs(place), p2=after, costs=costs)
        verdict = decide(request, policy)
        if verdict.route is Route.DRAFT:
            verdict = decide(request, Policy(0.0))
        shown[index], skipped[index] = verdict.action is Action.SHOW, verdict.route is Route.SKIP
    return shown, skipped


def _auc(kept: Floats, p: Floats) -> float:
    positives = int((kept > 0).sum())
    if positives in (0, len(kept)):
        return float("nan")
    above = float(rankdata(p)[kept > 0].sum()) - positives * (positives + 1) / 2
    return above / (positives * (len(kept) - positives))


def _rounded(value: float) -> float:
    """Six digits: more are noise, and would differ between machines."""
    return float(f"{value:.6g}")
