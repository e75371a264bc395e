"""From decisions to the sums that a team's pages show, and from sums to a comparison with showing everything. Pure.

Seconds are those of the time model with the costs that were in force for the programmer then (`Decision.costs`):

    r = kept share · (t_write − t_edit) − (t_wait + t_verify)        of what was shown and seen

Against showing everything (`coderl_gate.replay` has the formulas; here P_target(show) = 1 everywhere):

    V̂ = Σ w·r / Σ w,  w = 1 / P_log(show)     on what was shown; self-normalised
    doubly robust                              with the gate's own p1 and p2 as the model of the outcome
    by the model                               Σ utility at p2 (at p1 where nothing was generated) of what was withheld

The first two need trials: a log in which what is withheld was never shown cannot tell (`Against.verdict` refuses). The last one
needs none, and is as true as the gate's probabilities are.

Left out of the comparison: what a rule or a failure settled, what was asked for, rows without outcome or costs, and rows whose
costs or probabilities the log does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from coderl_store.day_sums import DaySums, Part
from coderl_store.decided import Decided
from coderl_store.records import Costs, Evidence, Route, Stage, Trigger

from .costs import utility_s
from .offpolicy import RESAMPLES, Floats, Interval, studentised_bootstrap
from .replay import logged_probabilities
from .replay_report import MIN_CLUSTERS, MIN_ESS, MIN_OVERLAP, NOTHING_S, snips_of_sums

_COUNTED: Mapping[str, str] = MappingProxyType({kind.value: f"by_{kind.value}" for kind in Evidence})


def sums_of(rows: Iterable[Decided]) -> dict[Part, DaySums]:
    """The sums of some requests, by day, programmer, language, generator and gate."""
    found: dict[Part, DaySums] = {}
    for row in rows:
        part = Part(row.at.date().isoformat(), row.user_key, row.language, row.generator_id, row.gate_id)
        _add(found.setdefault(part, DaySums()), row)
    return found


def realised_of(row: Decided) -> float | None:
    """Seconds saved by what was shown (negative: lost); None where it was not seen or the log has no costs."""
    if not row.seen or row.costs is None or not row.chars:
        return None
    return utility_s(min(1.0, row.kept_chars / row.chars), Costs(**row.costs))


def weighable(row: Decided) -> bool:
    """Whether a comparison with another policy can use the request."""
    generated = row.chars is not None
    return (
        row.stage != Stage.RULE
        and row.trigger != Trigger.INVOKED
        and math.isfinite(row.propensity)
        and 0 < row.propensity <= 1
        and row.p1 is not None
        and row.expected_costs is not None
        and (generated or row.route == Route.SKIP)
        and (not generated or row.costs is not None)
        and (not row.shown or (row.outcome is not None and bool(row.chars)))
    )


def _add(sums: DaySums, row: Decided) -> None:
    sums.requests += 1
    sums.settled += row.stage == Stage.RULE
    sums.skipped += row.route == Route.SKIP and row.stage != Stage.RULE
    sums.generated += row.chars is not None
    sums.shown += row.shown
    sums.seen += row.seen
    sums.kept += row.seen and row.kept
    name = None if row.evidence is None else _COUNTED.get(row.evidence)
    if row.seen and name is not None:
        setattr(sums, name, getattr(sums, name) + 1)
    if not row.shown:
        sums.reasons[row.reason] = sums.reasons.get(row.reason, 0) + 1
    seconds = realised_of(row)
    if seconds is not None:
        sums.priced += 1
        sums.seconds += seconds
    if weighable(row):
        _weigh(sums, row, seconds or 0.0)


def _weigh(sums: DaySums, row: Decided, seconds: float) -> None:
    """`seconds` are 0 for what was shown and not seen."""
    assert row.p1 is not None
    assert row.expected_costs is not None
    guess = utility_s(row.p1, Costs(**row.expected_costs))
    sums.weighed += 1
    sums.robust_s += guess
    if row.chars is None or row.costs is None:
        sums.unsupported += row.propensity == 1.0
        sums.withheld_s += guess
        return
    generate, show = logged_probabilities(row.shown, row.propensity, row.p2, row.tau, row.epsilon_withhold)
    modelled = utility_s(row.p1 if row.p2 is None else row.p2, Costs(**row.costs))
    sums.robust_s += (modelled - guess) / generate
    if show == 0:
        sums.unsupported += 1 / generate
    if not row.shown:
        sums.withheld_s += modelled
        return
    weight = 1 / show
    sums.earned_s += weight * seconds
    sums.weight += weight
    sums.weight_squared += weight * weight
    sums.logged_s += seconds
    sums.robust_s += weight * (seconds - modelled)


@dataclass(frozen=True, slots=True)
class Against:
    """What was done, against showing everything. Seconds per request."""

    n: int
    logged: float
    show_all: Interval
    """Self-normalised."""
    robust: Interval
    difference: Interval
    """What was done minus showing everything."""
    modelled: float
    """The same difference by the gate's own probabilities alone."""
    ess: float
    overlap: float
    clusters: str
    """What the intervals draw."""

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `no clear difference` than showing everything, or `refused`: the log cannot tell."""
        known = math.isfinite(self.difference.estimate) and math.isfinite(self.difference.low)
        if self.overlap < MIN_OVERLAP or self.ess < MIN_ESS or not known:
            return "refused"
        if self.difference.low > NOTHING_S:
            return "better"
        return "worse" if self.difference.high < -NOTHING_S else "no clear difference"


def against_showing_all(
    by_user: Mapping[str, DaySums], by_day: Mapping[str, DaySums], *, seed: int = 0, resamples: int = RESAMPLES
) -> Against | None:
    """The comparison; None where no request can be used. The same requests, once by programmer and once by day: intervals draw
    programmers, and days where there are fewer than `MIN_CLUSTERS` of them."""
    users = {name: one for name, one in by_user.items() if one.weighed}
    if not users:
        return None
    kind, groups = (
        ("programmers", users) if len(users) >= MIN_CLUSTERS else ("days", {k: v for k, v in by_day.items() if v.weighed})
    )
    columns = np.array([_columns(one) for one in groups.values()])
    names = np.array(list(groups), dtype=np.str_)

    def interval(which: int) -> Interval:
        def statistic(sums: Floats) -> Floats:
            show_all, robust = snips_of_sums(sums), sums[6] / sums[0]
            values: tuple[Floats, ...] = (show_all, robust, sums[5] / sums[0] - show_all)
            return values[which]

        return studentised_bootstrap(statistic, columns, names, seed=seed, resamples=resamples)

    n, _, _, weight, _, logged, _ = columns.sum(axis=0)
    squares = sum(one.weight_squared for one in users.values())
    return Against(
        n=int(n),
        logged=float(logged / n),
        show_all=interval(0),
        robust=interval(1),
        difference=interval(2),
        modelled=-sum(one.withheld_s for one in users.values()) / int(n),
        ess=float(weight**2 / squares) if squares else 0.0,
        overlap=max(0.0, 1.0 - sum(one.unsupported for one in users.values()) / int(n)),
        clusters=kind,
    )


def _columns(sums: DaySums) -> tuple[float, ...]:
    """As `snips_of_sums` has them; showing everything shows every request, so Σ P(show) is their number."""
    n = float(sums.weighed)
    return n, sums.earned_s, sums.earned_s, sums.weight, n, sums.logged_s, sums.robust_s
