"""Does an artifact fit the running generator, and what decides where it does not. Pure.

Log-probs mean something only against the running generator's own distribution (`quantiles`). Where that is not known, log-prob
features are missing for want of a scale, which says nothing about the suggestion. To the shipped second stage it would say much
(in CUPS the 52 of 723 suggestions without a log-prob were kept in 8 % of cases). Leave-one-programmer-out on CUPS with all
log-probs blanked, stage 2 has AUC 0.713, log loss 0.632 and ECE 0.14, and expects 19 % kept where 33 % were; stage 1 alone has
0.695, 0.585 and 0.031. So while a server runs, the prior for p2 is p1 (`kept_after`); in imported data a missing log-prob is a
fact of the data and goes into stage 2 as in the fit.
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
