"""The calibration job: data set → fitted gate, its figures, and whether it may replace the active one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .artifact import GateArtifact, sealed
from .catalogue import CONTEXT_NAMES, SUGGESTION_NAMES
from .dataset import MAX_WEIGHT, Dataset, Floats
from .errors import PromotionRefused
from .escalation import ValueLimit
from .figures import DEFAULT_LEVELS, Levels, certificates, finite, measured_json, score, shortened, stage_figures, users
from .fitness import LOGPROB_FEATURES, WITHOUT_LOGPROBS
from .fitting import StageFit, fit_stages, fitted_part, losses
from .offpolicy import effective_sample_size
from .outlook import Outlook, outlook
from .policy import Policy
from .recalibration import Personal, personalise, walk
from .settling import BUDGET_S, BUDGETS_S, Settled, by_entropy, by_value
from .timing import CostFit, fit_costs
from .yardstick import Measured, cross_fitted, decision_time, measure

FEW_USERS: Final = 5
"""With fewer users, what holds for them need not hold for the next one."""
FEW_DECISIONS: Final = 200
"""With fewer decisions, the figures are rough."""
WORSE_NATS: Final = 0.002
"""A new artifact whose log loss is higher than the active one's by more than this is worse."""
WORSE_S: Final = 0.005
"""A new artifact that saves this many fewer seconds per suggestion than the active one is worse."""
NEW_ROWS: Final = 50
"""With at least so many rows younger than the active artifact's data, only those are compared."""
_RESAMPLES: Final = 200


@dataclass(frozen=True, slots=True)
class Fit:
    """Everything one calibration found."""

    artifact: GateArtifact
    dataset: Dataset
    """The rows that were judged: all, or a part of the programmers where there are very many."""
    rows: int
    """All rows of the data set; `fitting.fitted_part` says how many of them the models were fitted on."""
    stage1: StageFit
    stage2: StageFit
    personal: Personal
    """The estimates that everything below rests on: the models', moved by each programmer's own earlier decisions."""
    entropy: Settled
    value: Settled
    rules: tuple[tuple[float, Settled, Settled], ...]
    """Budget in seconds per request → what each rule settles: entropy, value of information."""
    costs: CostFit
    outlook: Outlook
    measured: Measured | None
    """By the yardstick; None where no decision times are known."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The new artifact against the active one on the same rows."""

    active_id: str
    rows: int
    held_out: bool
    """Neither artifact's figures come from rows it was fitted on: the new one is judged out of fold, the active one on rows it
    cannot have seen. Otherwise both are judged on rows they were fitted on, which is fair but flatters both."""
    log_loss: tuple[float, float]
    """New, active; stage 2, nats per row."""
    seconds: tuple[float, float]
    """New, active; seconds saved per judged suggestion, under the new cost parameters."""

    @property
    def verdict(self) -> str:
        """`worse` or `not worse`."""
        if self.log_loss[0] > self.log_loss[1] + WORSE_NATS or self.seconds[0] < self.seconds[1] - WORSE_S:
            return "worse"
        return "not worse"


def calibrate(
    dataset: Dataset,
    provenance: Mapping[str, Any],
    *,
    created_at: datetime | None = None,
    budget_s: float = BUDGET_S,
    step: Callable[[], None] = lambda: None,
    notes: Sequence[str] = (),
    personal: bool = True,
    levels: Levels = DEFAULT_LEVELS,
) -> Fit:
    """Fit a gate. `created_at` None means the time of the last row; `step` is called `fitting.steps(dataset)` times; `notes`
    join the warnings; `personal` says whether the artifact keeps what is known of single
    programmers; `levels` what the certificates promise."""
    costs = fit_costs(dataset)
    stage1, stage2, judged = fit_stages(dataset, step)
    learned = personalise(stage1.p, stage2.p, judged)
    p1, p2, parameters = learned.p1, learned.p2, costs.parameters
    surest, (cheapest, spread) = by_entropy(p1, p2, judged, parameters), by_value(p1, p2, judged, parameters)
    entropy, value = surest.within(budget_s), cheapest.within(budget_s)
    rules = tuple((budget, surest.within(budget), cheapest.within(budget)) for budget in BUDGETS_S)
    ahead = outlook(p1, p2, judged, Policy(entropy.limit), parameters, parameters)
    time = decision_time(dataset)
    measured = None if time is None else measure(p1, p2, cross_fitted(judged), time, judged)
    figures = shortened(
        {
            "users": users(dataset),
            "decisions": len(dataset),
            "kept": int(dataset.kept.sum()),
            **_stages(stage1, stage2, learned, judged),
            **measured_json(measured),
            **certificates(p2, judged, levels),
            **_seconds(ahead, entropy, value, budget_s, costs),
        }
    )
    last = datetime.fromtimestamp(float(dataset.at_s.max()), UTC)
    artifact = sealed(
        GateArtifact(
            stage1=stage1.model,
            stage2=stage2.model,
            h_bits=entropy.limit,
            value_limit=ValueLimit(value.limit, spread),
            costs=parameters,
            personal={user: own.values for user, own in costs.personal.items()} if personal else {},
            decision_time=time,
            tendency_prior=learned.prior,
            tendencies=learned.tendencies if personal else {},
            data_hash=dataset.data_hash,
            created_at=(created_at or last).isoformat(),
            metrics=figures,
            provenance=_origin(provenance, last, costs, dataset),
        )
    )
    said = (*notes, *warnings_of(dataset, judged, learned))
    return Fit(artifact, judged, len(dataset), stage1, stage2, learned, entropy, value, rules, costs, ahead, measured, said)


def _stages(stage1: StageFit, stage2: StageFit, learned: Personal, judged: Dataset) -> dict[str, Any]:
    return {
        "stage1": {**stage_figures(stage1.p, learned.p1, judged), **trials_json(stage1)},
        "stage2": {**stage_figures(stage2.p, learned.p2, judged), **trials_json(stage2)},
    }


def _seconds(ahead: Outlook, entropy: Settled, value: Settled, budget_s: float, costs: CostFit) -> dict[str, Any]:
    return {
        "product_seconds_per_suggestion": asdict(ahead),
        "entropy": {**asdict(entropy), "budget_s": budget_s},
        "value": {**asdict(value), "budget_s": budget_s},
        "cost_intervals": dict(costs.intervals),
        "reading_elsewhere": costs.elsewhere,
    }


def _origin(provenance: Mapping[str, Any], last: datetime, costs: CostFit, dataset: Dataset) -> dict[str, Any]:
    return {
        **provenance,
        **({WITHOUT_LOGPROBS: True} if _without_logprobs(dataset) else {}),
        "data_until": last.isoformat(),
        "not_estimated": list(costs.not_estimated),
        "limits": limits(dataset),
    }


def _without_logprobs(dataset: Dataset) -> bool:
    """Whether most rows have no log-probs."""
    columns = [SUGGESTION_NAMES.index(name) for name in LOGPROB_FEATURES]
    return bool(np.isnan(dataset.after[:, columns]).all(axis=1).mean() > 0.5)


def trials_json(stage: StageFit) -> dict[str, Any]:
    """What was tried for one stage, with what it gave."""
    return {
        "candidates": {name: asdict(trial) for name, trial in stage.trials.items()},
        "calibrations": dict(stage.calibrations),
    }


def limits(dataset: Dataset) -> list[str]:
    """What an artifact fitted on this data is not good for, one sentence each."""
    said = [
        "Fitted on suggestions that were shown: what an earlier gate withheld is known only as far as random trials reached."
    ]
    absent = np.concatenate([np.isnan(part).all(axis=0) for part in (dataset.before, dataset.after)])
    blank = [name for name, out in zip(CONTEXT_NAMES + SUGGESTION_NAMES, absent, strict=True) if out]
    if blank:
        said.append(f"Nothing was learned about {len(blank)} features that this data does not have: {', '.join(blank)}.")
    if dataset.solo:
        said.append("One programmer only: blocks of time were held out, so nothing says how the gate does for anybody else.")
    return said


def warnings_of(dataset: Dataset, judged: Dataset, personal: Personal) -> tuple[str, ...]:
    """What the reader of the figures has to know, one sentence each."""
    said = [f"Left out: {count} {reason}." for reason, count in sorted(dataset.skipped.items())]
    if dataset.solo:
        said.append(
            "There is one user only: blocks of time are held out instead of users, so the figures hold for this user alone."
        )
    elif users(dataset) < FEW_USERS:
        said.append(f"There are only {users(dataset)} users: how the gate does for the next one is uncertain.")
    if len(dataset) < FEW_DECISIONS:
        said.append(f"There are only {len(dataset)} decisions: the figures are rough.")
    if dataset.weight.max() > 1:
        worth = effective_sample_size(dataset.weight)
        clipped = int((dataset.weight >= MAX_WEIGHT).sum())
        said.append(
            f"Weighted for random trials the rows are worth {worth:.0f} equal ones; "
            f"{clipped} weights were clipped at {MAX_WEIGHT:g}."
        )
    if len(judged) < len(dataset):
        said.append(
            f"The models were fitted on {len(fitted_part(dataset))} of {len(dataset)} decisions and judged on {len(judged)}, "
            f"those of {users(judged)} users drawn at random."
        )
    base = float(np.average(judged.kept, weights=judged.weight))
    prior = metrics.log_loss(judged.kept.tolist(), [base] * len(judged), judged.weight.tolist())
    for name, p in (("before", personal.p1), ("after", personal.p2)):
        if metrics.log_loss(judged.kept.tolist(), p.tolist(), judged.weight.tolist()) >= prior:
            said.append(f"The model {name} generation predicts held-out users no better than the base rate of {base:.0%} does.")
    return tuple(said)


def compare(fit: Fit, active: GateArtifact) -> Comparison:
    """Judge both artifacts on the same rows, the active one by the code that the server runs.

    Rows that the active artifact may have been fitted on (same source, not younger than its data) are left out where at least
    `NEW_ROWS` others remain; where not, both artifacts are judged in sample on all rows.
    """
    rows = ~_seen_by(active, fit)
    held_out = bool(rows.sum() >= min(NEW_ROWS, len(fit.dataset)))
    if held_out:
        ours = fit.personal.p1, fit.personal.p2
    else:
        rows = np.ones(len(fit.dataset), dtype=bool)
        ours = _scored(fit.artifact, fit.dataset)
    part, truth = fit.dataset.take(rows), fit.artifact.costs
    pairs = []
    for artifact, (p1, p2) in ((fit.artifact, ours), (active, _scored(active, fit.dataset))):
        loss = float(np.average(losses(part.kept, p2[rows]), weights=part.weight))
        saved = outlook(p1[rows], p2[rows], part, Policy(artifact.h_bits), artifact.costs, truth).gate
        pairs.append((loss, saved))
    (new_loss, new_s), (old_loss, old_s) = pairs
    return Comparison(active.id, int(rows.sum()), held_out, (new_loss, old_loss), (new_s, old_s))


def _seen_by(active: GateArtifact, fit: Fit) -> NDArray[np.bool_]:
    """Rows (n,) that the active artifact may have been fitted on."""
    theirs, ours, until = active.provenance, fit.artifact.provenance, active.provenance.get("data_until")
    same = all(theirs.get(key) == ours.get(key) for key in ("source", "log"))
    if not same or not isinstance(until, str):
        return np.full(len(fit.dataset), same)
    seen: NDArray[np.bool_] = fit.dataset.at_s <= datetime.fromisoformat(until).timestamp()
    return seen


def _scored(artifact: GateArtifact, dataset: Dataset) -> tuple[Floats, Floats]:
    """p1 and p2 (n,), each programmer's tendency learned on the way (from nothing: what the artifact knows of them may come
    from these very rows)."""
    own1, own2, _ = walk(*score(artifact, dataset), dataset, artifact.tendency_prior)
    return own1, own2


def require_not_worse(comparison: Comparison) -> None:
    """Raises `PromotionRefused`, with the figures, where the new artifact is worse."""
    if comparison.verdict == "worse":
        (new_loss, old_loss), (new_s, old_s) = comparison.log_loss, comparison.seconds
        which = "held-out" if comparison.held_out else "fitted"
        raise PromotionRefused(
            f"Not promoted: on {comparison.rows} {which} suggestions the new gate has log loss {new_loss:.4f} and saves "
            f"{new_s:+.3f} s each, the active one {old_loss:.4f} and {old_s:+.3f} s; keep the active one, or gather more data."
        )


def summary(fit: Fit) -> dict[str, Any]:
    """The figures under the keys that `gate-calibrate --json` promises."""
    figures: dict[str, Any] = shortened(dict(fit.artifact.metrics))
    return {
        **figures,
        "model": {
            "stage1": fit.stage1.kind,
            "stage2": fit.stage2.kind,
            "calibration": {"stage1": fit.stage1.calibration, "stage2": fit.stage2.calibration},
        },
        "h_bits": fit.artifact.h_bits,
        "tendency": {"prior": finite(fit.personal.prior), "users": len(fit.personal.tendencies)},
        "escalation": [
            {"budget_s": budget, "entropy": asdict(entropy), "value": asdict(value)} for budget, entropy, value in fit.rules
        ],
        "costs": asdict(fit.artifact.costs),
        "programmers_with_own_costs": len(fit.costs.personal),
        "artifact_id": fit.artifact.id,
        "data_hash": fit.artifact.data_hash,
        "skipped": dict(fit.dataset.skipped),
        "not_estimated": list(fit.costs.not_estimated),
        "warnings": list(fit.warnings),
        "provenance": dict(fit.artifact.provenance),
    }
