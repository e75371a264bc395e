"""What silence cost, by counterfactual labels: withheld suggestions that the programmer then typed anyway.

A second, weaker look at what was withheld, which needs no random trials. Each withheld suggestion whose label is known
(`coderl_gate.counterfactual`) is treated as if it had been shown and the agreeing part kept:

    lost     Σ realised seconds of those that were typed anyway, whole or in part (reading them is charged)
    spared   Σ seconds of reading those that were not
    net      (lost − spared) / labelled; above 0, more should have been shown

Characters that came in one piece, through a later suggestion or a paste, were not typed and are not counted.

How far labels can be trusted is measured where both are known: on suggestions that were shown, seen and not inserted. Nothing
of them went into the document by itself, so a real outcome and a label stand side by side. Only what the gate showed can be
checked so; that it holds for what was withheld is an assumption.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coderl_store.records import Action, OutcomeKind
from coderl_store.repository import LoggedRequest
from coderl_store.shadow import ShadowVerdict

from .costs import CostParameters, realised_s
from .dataset import Floats
from .offpolicy import RESAMPLES, Interval, studentised_bootstrap

_TYPED_ANYWAY = (ShadowVerdict.WOULD_KEEP, ShadowVerdict.WOULD_KEEP_PART)


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """Labels against real outcomes, on suggestions that were shown, seen, not inserted, and whose label is known."""

    typed_through: int
    """Kept by typing them to the end."""
    typed_through_agreed: int
    """… of which the label says so."""
    rejected: int
    rejected_agreed: int
    """… of which the label says so; the others were turned down on screen and typed all the same."""

    @property
    def agreement(self) -> float | None:
        """Share of rows on which label and outcome agree; None without rows."""
        count = self.typed_through + self.rejected
        return (self.typed_through_agreed + self.rejected_agreed) / count if count else None

    def to_json(self) -> dict[str, Any]:
        return {
            "typed_through": self.typed_through,
            "typed_through_agreed": self.typed_through_agreed,
            "rejected": self.rejected,
            "rejected_agreed": self.rejected_agreed,
            "agreement": self.agreement,
        }


@dataclass(frozen=True, slots=True)
class SilenceReport:
    """What the withheld suggestions with a label say. Evidence by labels only, never mixed with outcomes."""

    withheld: int
    """Generated and withheld by a model."""
    verdicts: dict[str, int]
    """Label → count; `none` where the log has no label."""
    typed_anyway: Interval
    """Share of the known labels that say kept, whole or in part."""
    chars: int
    """Characters of withheld suggestions that were then typed key by key."""
    lost_s: float
    spared_s: float
    net_s: Interval
    """Seconds per known label that showing instead of silence would have saved."""
    check: LabelCheck

    @property
    def sentence(self) -> str:
        """What a person needs to know of it."""
        known = self.withheld - self.verdicts.get("none", 0) - self.verdicts.get(ShadowVerdict.UNKNOWN.value, 0)
        if not known:
            return f"{self.withheld} suggestions were withheld; what was typed instead says nothing about any of them."
        agreement = self.check.agreement
        trust = (
            "how far such labels can be trusted is not known here"
            if agreement is None
            else f"on shown suggestions such labels agree with the outcome in {agreement:.0%}"
        )
        return (
            f"By what was typed next, {self.typed_anyway.estimate:.0%} of {known} withheld suggestions would have been kept at "
            f"least in part: silence lost {self.lost_s:.1f} s and spared {self.spared_s:.1f} s (weak evidence: {trust})."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            "evidence": "counterfactual labels",
            "withheld": self.withheld,
            "verdicts": dict(self.verdicts),
            "typed_anyway": self.typed_anyway.to_json(),
            "chars": self.chars,
            "lost_s": self.lost_s,
            "spared_s": self.spared_s,
            "net_s": self.net_s.to_json(),
            "check": self.check.to_json(),
        }


def silence(
    requests: Sequence[LoggedRequest],
    clusters: NDArray[np.str_],
    truth: CostParameters,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> SilenceReport:
    """What silence cost in `requests`, in seconds of `truth`; `clusters` (n,) names what the intervals draw.

    Without a known label the share, the seconds and their intervals are NaN (not known).
    """
    verdicts: Counter[str] = Counter()
    kept, seconds, names, chars = [], [], [], 0
    for request, cluster in zip(requests, clusters, strict=True):
        suggestion, shadow = request.suggestion, request.shadow
        if request.decision.action is Action.SHOW or suggestion is None:
            continue
        verdicts["none" if shadow is None else shadow.verdict.value] += 1
        if shadow is None or shadow.verdict is ShadowVerdict.UNKNOWN:
            continue
        anyway = shadow.verdict in _TYPED_ANYWAY
        typed = max(0, shadow.agreed_chars - shadow.taken_chars) if anyway else 0
        waited_s = 0.0 if request.decision.costs is None else request.decision.costs.t_wait_s
        kept.append(anyway)
        seconds.append(realised_s(typed, suggestion.chars, suggestion.lines, truth, waited_s))
        names.append(cluster)
        chars += typed
    columns = np.column_stack([np.ones(len(kept)), np.array(kept, dtype=np.float64), np.array(seconds, dtype=np.float64)])
    drawn = np.array(names, dtype=np.str_)
    return SilenceReport(
        withheld=verdicts.total(),
        verdicts=dict(sorted(verdicts.items())),
        typed_anyway=_mean(columns, 1, drawn, seed, resamples),
        chars=chars,
        lost_s=float(columns[columns[:, 1] == 1.0, 2].sum()),
        spared_s=-float(columns[columns[:, 1] == 0.0, 2].sum()),
        net_s=_mean(columns, 2, drawn, seed, resamples),
        check=check(requests),
    )


def check(requests: Sequence[LoggedRequest]) -> LabelCheck:
    """Labels against outcomes where both are known."""
    counts: Counter[tuple[bool, bool]] = Counter()
    for request in requests:
        outcome, shadow = request.outcome, request.shadow
        if request.decision.action is not Action.SHOW or outcome is None or shadow is None:
            continue
        inserted = outcome.accepted_chars > 0 or outcome.kind is OutcomeKind.ACCEPTED
        if inserted or not outcome.seen or shadow.verdict is ShadowVerdict.UNKNOWN:
            continue
        counts[outcome.kept, shadow.verdict in _TYPED_ANYWAY] += 1
    return LabelCheck(
        typed_through=counts[True, True] + counts[True, False],
        typed_through_agreed=counts[True, True],
        rejected=counts[False, True] + counts[False, False],
        rejected_agreed=counts[False, False],
    )


def _mean(columns: Floats, column: int, clusters: NDArray[np.str_], seed: int, resamples: int) -> Interval:
    """Mean of a column per row, drawing clusters; NaN without rows."""
    if not len(columns):
        return Interval(math.nan, math.nan, math.nan)
    return studentised_bootstrap(lambda sums: sums[column] / sums[0], columns, clusters, seed=seed, resamples=resamples)
