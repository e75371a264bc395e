"""Which artifact fits which generator, and what decides while a generator's log-probs have no scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from coderl_gate.artifact import StageModel
from coderl_gate.catalogue import CONTEXT_NAMES, SUGGESTION_NAMES
from coderl_gate.fitness import GENERATORS, LOGPROB_FEATURES, WITHOUT_LOGPROBS, Fit, fit_of, kept_after
from coderl_gate.replay import replay
from coderl_gate.scorer import LinearScorer
from coderl_gate.synthetic import AFTER, BEFORE, World, knowing
from coderl_store.records import Origin

FEATURES: Mapping[str, float | None] = MappingProxyType(
    {**dict.fromkeys((*CONTEXT_NAMES, *SUGGESTION_NAMES)), "line_trimmed_chars": 0.0}
)


def artifact(**provenance: Any) -> Any:
    return replace(knowing(), provenance=provenance)


@pytest.mark.parametrize(
    ("provenance", "comparable", "fit"),
    [
        ({GENERATORS: ["a", "b"]}, False, Fit.OWN),
        ({GENERATORS: ["a", "b"]}, True, Fit.OWN),
        ({GENERATORS: ["b"]}, True, Fit.COMPARABLE),
        ({GENERATORS: ["b"]}, False, Fit.FOREIGN),
        ({GENERATORS: []}, False, Fit.LEARNING),
        ({}, True, Fit.COMPARABLE),
        ({}, False, Fit.LEARNING),
    ],
)
def test_how_an_artifact_stands_to_a_generator(provenance: dict[str, Any], comparable: bool, fit: Fit) -> None:
    assert fit_of(artifact(**provenance), "a", comparable) is fit


def test_without_a_scale_for_log_probs_the_place_decides_alone() -> None:
    assert kept_after(artifact(), FEATURES, 0.123) == 0.123
    unknown = {**FEATURES, **dict.fromkeys(LOGPROB_FEATURES, float("nan"))}
    assert kept_after(artifact(), unknown, 0.123) == 0.123


def test_one_known_log_prob_is_enough_for_the_second_stage() -> None:
    high, low = (kept_after(artifact(), {**FEATURES, "logprob_mean": quantile}, 0.123) for quantile in (0.9, 0.1))
    assert high > low
    assert 0.123 not in (high, low)


def test_an_artifact_that_was_fitted_without_log_probs_does_without() -> None:
    assert kept_after(artifact(**{WITHOUT_LOGPROBS: True}), FEATURES, 0.123) != 0.123


def test_in_imported_rows_a_missing_log_prob_is_a_fact_of_the_data() -> None:
    """The same log, once ours and once imported: only ours falls back on the place. The model takes a missing one as low."""
    names, weights = (BEFORE, AFTER), (0.9, 2.8)
    wary = replace(
        knowing(h_bits=0.0), stage2=StageModel(LinearScorer(names, weights, (0.0, 0.5), (1.0, 1.0), (0.0, 0.0), -0.8))
    )

    def shown(origin: Origin) -> float:
        requests = [
            replace(
                request,
                session=replace(request.session, origin=origin),
                suggestion=request.suggestion
                and replace(request.suggestion, features={**request.suggestion.features, "logprob_mean": None}),
            )
            for request in World(users=5).requests()
        ]
        return replay(requests, wary, resamples=20).shown

    assert shown(Origin.EDITOR) > shown(Origin.IMPORTED)
