"""The figures of a gate as plain data, under the keys that `gate-calibrate --json` and `coderl replay --from-cups --json`
promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from . import metrics
from .artifact import GateArtifact
from .catalogue import CONTEXT_NAMES, P1, SUGGESTION_NAMES
from .certificate import Promise, certify
from .dataset import Dataset, Floats
from .decision_time import CHARS_PER_S
from .fitting import clustered_mean, losses
from .offpolicy import Interval, cluster_bootstrap
from .recalibration import walk
from .yardstick import Measured, measure, with_own

_RESAMPLES: Final = 200


def users(dataset: Dataset) -> int:
    """How many programmers there are."""
    return len(np.unique(dataset.users))


def stage_figures(anybody: Floats, own: Floats, dataset: Dataset) -> dict[str, Any]:
    """Figures of one stage on programmers it had not seen, with `own` (n,) moved by their own earlier decisions; `population`
    says what the model gives without (`anybody`, (n,)). Intervals are 95 % and treat groups, not rows, as independent."""
    kept, p, weight = dataset.kept.tolist(), own.tolist(), dataset.weight.tolist()
    area = _auc_interval(own, dataset)
    _, loss_error = clustered_mean(losses(dataset.kept, own), dataset.weight, dataset.groups)
    return {
        "auc": area.estimate,
        "auc_low": area.low,
        "auc_high": area.high,
        "brier": metrics.brier(kept, p, weight),
        "log_loss": metrics.log_loss(kept, p, weight),
        "log_loss_error": loss_error,
        "ece": metrics.ece(kept, p),
        "ece_by_chance": ece_by_chance(own),
        "population": {
            "auc": metrics.auc(kept, anybody.tolist()),
            "brier": metrics.brier(kept, anybody.tolist(), weight),
            "log_loss": metrics.log_loss(kept, anybody.tolist(), weight),
            "ece": metrics.ece(kept, anybody.tolist()),
        },
    }


def ece_by_chance(p: Floats, draws: int = 100) -> float:
    """The ECE to expect of *perfectly calibrated* probabilities (n,) on so many rows: what is above it, not what is above 0,
    speaks of miscalibration. Mean over seeded draws of labels."""
    rng = np.random.default_rng(0)
    labels = rng.random((draws, len(p))) < p
    order = np.argsort(p, kind="stable")
    bins = np.array_split(order, 10)
    gaps = [len(part) * np.abs(labels[:, part].mean(axis=1) - p[part].mean()) for part in bins if len(part)]
    return float(np.mean(np.sum(gaps, axis=0)) / len(p))


def _auc_interval(p: Floats, dataset: Dataset) -> Interval:
    def area(rows: NDArray[np.intp]) -> float:
        """`metrics.auc` in numpy, for many resamples."""
        kept = dataset.kept[rows] == 1
        positives, negatives = int(kept.sum()), int((~kept).sum())
        if not positives or not negatives:
            return math.nan
        above = float(rankdata(p[rows])[kept].sum()) - positives * (positives + 1) / 2
        return above / (positives * negatives)

    return cluster_bootstrap(area, dataset.groups, resamples=_RESAMPLES)


def measured_json(measured: Measured | None) -> dict[str, Any]:
    """The yardstick's figures under the keys that `gate-calibrate --json` promises; None where they are not known."""
    known = {} if measured is None else asdict(measured)
    skipped = {"share": "skipped", "auc_cost": "auc_cost", "seconds_cost": "seconds_cost", "h_bits": "h_bits"}
    return {
        "net_seconds_per_suggestion": {
            "chars_per_s": CHARS_PER_S,
            **{name: known.get(name) for name in ("show_all", "gate", "oracle", "shown", "rows")},
        },
        "generations_skipped": {key: known.get(name) for key, name in skipped.items()},
    }


def score(artifact: GateArtifact, dataset: Dataset) -> tuple[Floats, Floats]:
    """p1 and p2 (n,) of an artifact on the rows for people in general, by the code that the server runs."""
    p1, p2 = np.empty(len(dataset)), np.empty(len(dataset))
    for index, (before, after) in enumerate(zip(dataset.before.tolist(), dataset.after.tolist(), strict=True)):
        features: dict[str, float | None] = dict(zip(CONTEXT_NAMES, before, strict=True))
        p1[index] = artifact.stage1.probability(features)
        features |= dict(zip(SUGGESTION_NAMES, after, strict=True))
        p2[index] = artifact.stage2.probability({**features, P1.name: p1[index]})
    return p1, p2


@dataclass(frozen=True, slots=True)
class Levels:
    """What the certificates promise, and how surely."""

    alpha: float = 0.05
    """At least 1 − α of the withheld would have been rejected."""
    beta: float = 0.1
    """At most β of the accepted characters are lost."""
    delta: float = 0.05
    """Chance that a promise does not hold, at most."""


DEFAULT_LEVELS: Final = Levels()


def certificates(p2: Floats, dataset: Dataset, levels: Levels) -> dict[str, Any]:
    """Both certificates for withholding what has the lowest p2 (n,), as plain data; `certificate` is the first promise."""
    found = {
        promise.value: certify(
            promise,
            p2,
            dataset.kept,
            dataset.groups,
            alpha=level,
            delta=levels.delta,
            weight=dataset.weight,
            kept_chars=dataset.kept_chars,
            unit="blocks of time" if dataset.solo else "programmers",
        ).to_json()
        for promise, level in ((Promise.REJECTED, levels.alpha), (Promise.CHARS, levels.beta))
    }
    return {"certificate": found[Promise.REJECTED.value], "certificates": found}


def judge(artifact: GateArtifact, dataset: Dataset, levels: Levels = DEFAULT_LEVELS) -> dict[str, Any]:
    """The figures of an artifact on other programmers, nothing fitted: each is judged with what their own earlier decisions
    said.

    `in_sample` is true where the artifact was fitted on these very rows: then the figures flatter it.
    """
    any1, any2 = score(artifact, dataset)
    own1, own2, _ = walk(any1, any2, dataset, artifact.tendency_prior)
    time = artifact.decision_time
    measured = None
    if time is not None:
        measured = measure(own1, own2, with_own(time.base_s + time.s_per_char * dataset.chars, dataset), time, dataset)
    found: dict[str, Any] = shortened(
        {
            "users": users(dataset),
            "decisions": len(dataset),
            "kept": int(dataset.kept.sum()),
            "in_sample": artifact.data_hash == dataset.data_hash,
            "stage1": stage_figures(any1, own1, dataset),
            "stage2": stage_figures(any2, own2, dataset),
            **measured_json(measured),
            **certificates(own2, dataset, levels),
            "model": model_json(artifact),
            "artifact_id": artifact.id,
            "provenance": dict(artifact.provenance),
        }
    )
    return found


def model_json(artifact: GateArtifact) -> dict[str, Any]:
    """Which models an artifact holds."""
    stages = {"stage1": artifact.stage1, "stage2": artifact.stage2}
    return {
        **{name: stage.kind for name, stage in stages.items()},
        "calibration": {name: stage.calibration.kind for name, stage in stages.items()},
    }


def shortened(value: Any) -> Any:
    """Numbers to six digits: more are noise, and would differ between machines. What is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def finite(value: float) -> float | None:
    """None for what JSON cannot say."""
    return value if math.isfinite(value) else None
