"""Whether the gate's probabilities are true: both stages against what programmers did, and drift. Pure.

Only what was shown and seen can be judged. Stage 2 picked it, so among it stage 1 looks too careful: where both say 0.3, those
that stage 2 raised are there and those that it lowered are not. With trials (`explored`) the picture is less one-sided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coderl_store.decided import Decided
from coderl_store.records import Reason, Stage

from .drift import Drift, Judgement, drifts, shown_with
from .metrics import ReliabilityBin, auc, brier, ece, log_loss, reliability_curve


@dataclass(frozen=True, slots=True)
class StageTruth:
    """One stage on n judged suggestions."""

    name: str
    n: int
    kept: float
    """Share kept."""
    predicted: float
    """Mean probability."""
    log_loss: float
    brier: float
    ece: float
    auc: float | None
    curve: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class Honesty:
    """Both stages, and every window of drift."""

    stages: tuple[StageTruth, ...]
    drifts: tuple[Drift, ...]
    users: tuple[str, ...]
    """User keys of whose rows it was made."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, without user keys."""
        windows = [
            {**asdict(one), "since": one.since.isoformat(), "until": one.until.isoformat(), "sentence": one.sentence()}
            for one in self.drifts
        ]
        return {"stages": [asdict(one) for one in self.stages], "drifts": windows}


def honesty(rows: Sequence[Decided]) -> Honesty:
    """Of some requests, in any order; those that say nothing about the gate are passed over."""
    judged = [row for row in rows if row.seen and row.stage != Stage.RULE and row.reason != Reason.ASKED_FOR]
    stages = [
        _truth(name, [(p, row.kept) for row in judged if (p := getattr(row, field)) is not None and 0.0 <= p <= 1.0])
        for name, field in (("Before generation (p1)", "p1"), ("After generation (p2)", "p2"))
    ]
    judgements = [one for row in sorted(judged, key=lambda row: (row.at, row.id)) if (one := judgement_of(row)) is not None]
    return Honesty(
        stages=tuple(stage for stage in stages if stage is not None),
        drifts=drifts(judgements),
        users=tuple(sorted({row.user_key for row in judged})),
    )


def judgement_of(row: Decided) -> Judgement | None:
    """What a request says about the gate (`drift.judgement`); None where it says nothing."""
    p = shown_with(row.stage, row.route, row.reason, row.p1, row.p2) if row.seen else None
    return None if p is None else Judgement(row.at, row.user_key, row.generator_id, row.gate_id, p, row.kept)


def _truth(name: str, pairs: Sequence[tuple[float, bool]]) -> StageTruth | None:
    if not pairs:
        return None
    probabilities, labels = [p for p, _ in pairs], [float(kept) for _, kept in pairs]
    return StageTruth(
        name=name,
        n=len(pairs),
        kept=sum(labels) / len(labels),
        predicted=sum(probabilities) / len(probabilities),
        log_loss=log_loss(labels, probabilities),
        brier=brier(labels, probabilities),
        ece=ece(labels, probabilities),
        auc=auc(labels, probabilities),
        curve=reliability_curve(labels, probabilities),
    )
