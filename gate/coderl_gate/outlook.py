"""What a gate with given probabilities and costs does on judged suggestions, in seconds.

Everything goes through `coderl_gate.policy.decide`, so a figure here is what the server would do. A suggestion that the gate
drafts is counted as if the logged text had been shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coderl_store.records import Action, Route

from .costs import CostParameters, costs_of, expected_costs, realised_s
from .dataset import Dataset, Floats
from .fitting import clustered_mean
from .policy import Policy, Request, decide


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
