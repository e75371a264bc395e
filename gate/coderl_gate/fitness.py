"""Does an artifact fit the running generator, and what decides where it does not. Pure.

Log-probs mean something only against the running generator's own distribution (`quantiles`). Where that is not known, log-prob
features are missing. A second stage that was fitted with them is then worse than none: leave-one-programmer-out on CUPS, with
the log-probs blanked, that of feature version 1 had AUC 0.672, log loss 0.611 and ECE 0.087, and expected 25 % kept where 33 %
were; stage 1 alone had 0.675, 0.596 and 0.049. So the prior for p2 is p1 (`kept_after`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .artifact import GateArtifact
from .catalogue import P1
from .quantiles import LOGPROB_NAMES

LOGPROB_FEATURES = tuple(f"logprob_{name}" for name in LOGPROB_NAMES)
GENERATORS = "generators"
"""Key of an artifact's provenance: ids of the generators whose suggestions it was fitted on."""
WITHOUT_LOGPROBS = "fitted_without_logprobs"
"""Key of an artifact's provenance: true where most of its rows had no log-probs, so that it can do without them."""


class Fit(StrEnum):
    """How an artifact stands to a generator."""

    OWN = "own"
    """It was fitted on this generator's suggestions."""
    COMPARABLE = "comparable"
    """Fitted on others, but this generator's log-probs have reference quantiles, and features are quantiles."""
    LEARNING = "learning"
    """It names no generators, as the shipped one, and there are no reference quantiles: p2 = p1 until enough are learned."""
    FOREIGN = "foreign"
    """It was fitted on other generators only, and nothing makes their log-probs comparable: the prior decides instead."""


def fit_of(artifact: GateArtifact, generator_id: str, comparable: bool) -> Fit:
    """How the artifact stands to a generator; `comparable`: there are reference quantiles for it."""
    named = artifact.provenance.get(GENERATORS)
    if isinstance(named, list | tuple) and generator_id in named:
        return Fit.OWN
    if comparable:
        return Fit.COMPARABLE
    return Fit.FOREIGN if named else Fit.LEARNING


def kept_after(artifact: GateArtifact, features: Mapping[str, float | None], p1: float) -> float:
    """p2 = P(kept | context, suggestion); p1 where the second stage was fitted with log-probs and none is known.

    `features` are those of context and suggestion. Raises ArtifactError where a feature's name is absent.
    """
    needs = set(LOGPROB_FEATURES).intersection(artifact.stage2.names)
    if needs and not artifact.provenance.get(WITHOUT_LOGPROBS) and all(_missing(features.get(name, 0.0)) for name in needs):
        return p1
    return artifact.stage2.probability({**features, P1.name: p1})


def _missing(value: float | None) -> bool:
    return value is None or value != value
