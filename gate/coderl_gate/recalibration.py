"""Fitting how much programmers differ, and judging a gate that learns each one's tendency as it goes.

Everything here is *prequential* (Dawid, "The Prequential Approach", 1984): a suggestion is judged by what was known of its
programmer before it, then it is learned from. So a held-out programmer is judged by models that never saw them and by their own
earlier decisions, as the server would do it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .dataset import Dataset, Floats
from .metrics import log_loss
from .tendency import NOBODY, Tendency

PRIORS: Final = (math.inf, 64.0, 32.0, 16.0, 8.0, 4.0)
"""Candidates for λ, the information in the prior; 8 means that programmers differ by a standard deviation of 0.35 log-odds."""
MIN_GAIN_NATS: Final = 0.002
"""By how much a looser prior must lower the log loss."""


@dataclass(frozen=True, slots=True)
class Personal:
    """What learning each programmer's tendency gives."""

    prior: float
    """λ; infinite where programmers do not differ measurably."""
    p1: Floats
    """Stage 1's estimates with what was known of the programmer at that moment, (n,)."""
    p2: Floats
    tendencies: Mapping[str, Tendency]
    """User key → what is known at the end."""
    losses: Mapping[float, float]
    """λ → log loss of p2, in nats."""


def personalise(p1: Floats, p2: Floats, dataset: Dataset) -> Personal:
    """Choose λ by prequential log loss; `p1` and `p2` (n,) are the models' own, out of fold. Rows are in order of time within
    each user (`Dataset`)."""
    trials = {prior: walk(p1, p2, dataset, prior) for prior in PRIORS}
    weight = dataset.weight.tolist()
    found = {prior: log_loss(dataset.kept.tolist(), trial[1].tolist(), weight) for prior, trial in trials.items()}
    best = PRIORS[0]
    for prior in PRIORS:
        if found[prior] < found[best] - MIN_GAIN_NATS:
            best = prior
    own1, own2, known = trials[best]
    return Personal(best, own1, own2, known, found)


def walk(p1: Floats, p2: Floats, dataset: Dataset, prior: float) -> tuple[Floats, Floats, Mapping[str, Tendency]]:
    """p1 and p2 (n,) as a server with prior λ would have given them, and every user's tendency at the end."""
    own1, own2 = p1.copy(), p2.copy()
    known: dict[str, Tendency] = {}
    if math.isinf(prior):
        return own1, own2, known
    for index, (user, kept) in enumerate(zip(dataset.users.tolist(), dataset.kept.tolist(), strict=True)):
        tendency = known.get(user, NOBODY)
        own1[index], own2[index] = tendency.applied(float(p1[index])), tendency.applied(float(p2[index]))
        known[user] = tendency.learned(float(own2[index]), kept > 0, prior)
    return own1, own2, known
