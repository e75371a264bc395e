"""What a replay says, and how it is reckoned from re-decided requests. Pure; the formulas are in `coderl_gate.replay`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import offpolicy
from .dataset import Floats
from .offpolicy import CLIP, Interval
from .silence import SilenceReport

MIN_ESS: Final = 50.0
"""Least effective sample size for a verdict."""
MIN_OVERLAP: Final = 0.95
"""Least share of the target's actions that the log's policy could have taken, for a verdict."""
MIN_CLUSTERS: Final = 5
"""With fewer users, sessions are drawn instead; with fewer sessions, blocks of time."""
_BLOCKS: Final = 20
NOTHING_S: Final = 1e-9
"""Differences this small are rounding."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What the target policy would have done with the logged requests. Counts are estimates where the log used coins."""

    n: int
    shown: float
    withheld: float
    generated: float
    acceptance: float | None
    """Kept share of what the target shows; None where nothing of it was seen."""
    seconds: Interval
    """Seconds saved per request by the target (SNIPS)."""
    estimators: Mapping[str, Interval]
    """The same by `ips`, `clipped_ips`, `snips` and `dr`."""
    logged: float
    """Seconds saved per request by what was really done."""
    difference: Interval
    """Target minus logged, drawn together."""
    ess: float
    min_ess: float
    overlap: float
    clusters: str
    """What the intervals draw: `users`, `sessions` or `blocks of time`."""
    cluster_count: int
    left_out: Mapping[str, int]
    """Reason → requests that were not re-decided."""
    warnings: tuple[str, ...] = ()
    """One sentence each."""
    silence: SilenceReport | None = None
    """What was typed where the log was silent; None unless asked for."""

    @property
    def verdict(self) -> str:
        """`better` or `worse` than what was logged, `no clear difference`, or `refused:` and what is too small."""
        known = math.isfinite(self.seconds.estimate) and math.isfinite(self.difference.low)
        if self.overlap < MIN_OVERLAP:
            return "refused: overlap too small"
        if self.ess < self.min_ess or not known:
            return "refused: effective sample size too small"
        if self.difference.low > NOTHING_S:
            return "better"
        return "worse" if self.difference.high < -NOTHING_S else "no clear difference"

    @property
    def reason(self) -> str:
        """The verdict in a sentence, with the limits it rests on."""
        facts = (
            f"effective sample size {self.ess:.0f} (limit {self.min_ess:.0f}), "
            f"overlap {self.overlap:.0%} (limit {MIN_OVERLAP:.0%})"
        )
        if self.verdict.startswith("refused"):
            return (
                f"The log cannot tell: {facts}. Log with more exploration, or ask about a policy closer to the one that acted."
            )
        low, high = self.difference.low, self.difference.high
        return (
            f"Against what was logged: {self.difference.estimate:+.3f} s per request, 95 % [{low:+.3f}, {high:+.3f}]; {facts}."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            "n": self.n,
            "shown": round(self.shown),
            "withheld": self.n - round(self.shown),
            "generated": round(self.generated),
            "acceptance": self.acceptance,
            "seconds_saved": {**self.seconds.to_json(), "estimator": "snips"},
            "ess": self.ess,
            "ess_limit": self.min_ess,
            "overlap": self.overlap,
            "overlap_limit": MIN_OVERLAP,
            "verdict": self.verdict,
            "reason": self.reason,
            "logged_seconds_saved": self.logged,
            "difference": self.difference.to_json(),
            "estimators": {name: interval.to_json() for name, interval in self.estimators.items()},
            "intervals_draw": {"what": self.clusters, "count": self.cluster_count},
            "left_out": dict(self.left_out),
            "warnings": list(self.warnings),
            **({} if self.silence is None else {"silence": self.silence.to_json()}),
        }


@dataclass(frozen=True, slots=True)
class Redecided:
    """n re-decided requests; all are (n,)."""

    generate: Floats
    """P_target(generate)."""
    show: Floats
    """P_target(show), given the suggestion; 0 where there is none."""
    logged_generate: Floats
    """P_log(generate) where a suggestion was generated, else 0."""
    logged_show: Floats
    """P_log(show), given the suggestion; 0 where there is none."""
    shown: Floats
    """1 where the log showed it, else 0."""
    seconds: Floats
    """Realised, where shown."""
    kept: Floats
    seen: Floats
    unsupported: Floats
    """P_target of what the log could never have done, weighted like the row."""
    modelled: Floats
    """Seconds that the gate expects of showing the suggestion; 0 where there is none."""
    guess: Floats
    """Seconds that the gate expects of the target's action before there is a suggestion."""


def clusters_of(users: Sequence[str], sessions: Sequence[str], decided_at: Sequence[datetime]) -> tuple[str, NDArray[np.str_]]:
    """What the intervals draw: users, else sessions, else blocks of time; (n,) names."""
    for kind, names in (("users", users), ("sessions", sessions)):
        if len(set(names)) >= MIN_CLUSTERS:
            return kind, np.array(names, dtype=np.str_)
    n = len(decided_at)
    order = np.argsort([at.timestamp() for at in decided_at], kind="stable")
    blocks = np.empty(n, dtype=np.int64)
    blocks[order] = np.arange(n) * min(_BLOCKS, n) // n
    return "blocks of time", blocks.astype(np.str_)


def report_of(
    rows: Redecided,
    kind: str,
    clusters: NDArray[np.str_],
    left_out: Mapping[str, int],
    *,
    seed: int = 0,
    resamples: int = offpolicy.RESAMPLES,
    min_ess: float = MIN_ESS,
) -> ReplayReport:
    """The report on the rows. `clusters` (n,) are what the intervals draw, `kind` says what they are (`clusters_of`)."""
    n = len(rows.shown)
    generate, show, shown, seconds, modelled = rows.generate, rows.show, rows.shown, rows.seconds, rows.modelled
    logged_generate, logged_show, guess = rows.logged_generate, rows.logged_show, rows.guess
    generated = logged_generate > 0
    weight = np.divide(show, logged_show, out=np.zeros(n), where=(shown > 0) & (logged_show > 0))
    shows = np.divide(show, logged_generate, out=np.zeros(n), where=generated)
    asked = np.divide(generate, logged_generate, out=np.zeros(n), where=generated)
    # Normalised by its own weights: what is shown is a part of what is generated, however the coins fell.
    shown_share = float(shows.sum() / asked.sum()) if asked.any() else 0.0
    silent = np.divide(generate - show, logged_generate, out=np.zeros(n), where=generated)
    # Doubly robust twice: a guess, corrected where something was generated, corrected again where it was shown.
    corrected = np.divide(show * modelled - guess, logged_generate, out=np.zeros(n), where=generated)
    robust = guess + corrected + weight * (seconds - modelled)
    clipped = np.minimum(weight, CLIP) * seconds
    columns = np.column_stack([np.ones(n), weight * seconds, clipped, weight, shows, shown * seconds, robust])

    def interval(statistic: Callable[[Floats], Floats]) -> Interval:
        return offpolicy.studentised_bootstrap(statistic, columns, clusters, seed=seed, resamples=resamples)

    judged = float((weight * rows.seen).sum())
    estimators = {
        "ips": interval(lambda sums: sums[1] / sums[0]),
        "clipped_ips": interval(lambda sums: sums[2] / sums[0]),
        "snips": interval(snips_of_sums),
        "dr": interval(lambda sums: sums[6] / sums[0]),
    }
    return ReplayReport(
        n=n,
        shown=float(generate.sum()) * shown_share,
        withheld=n - float(generate.sum()) * shown_share,
        generated=float(generate.sum()),
        acceptance=float((weight * rows.kept).sum()) / judged if judged > 0 else None,
        seconds=estimators["snips"],
        estimators=MappingProxyType(estimators),
        logged=float((shown * seconds).mean()),
        difference=interval(lambda sums: snips_of_sums(sums) - sums[5] / sums[0]),
        ess=offpolicy.effective_sample_size((1.0 - generate) + silent + weight),
        min_ess=min_ess,
        overlap=max(0.0, 1.0 - float(rows.unsupported.sum()) / n),
        clusters=kind,
        cluster_count=len(np.unique(clusters)),
        left_out=MappingProxyType(dict(left_out)),
    )


def snips_of_sums(sums: Floats) -> Floats:
    """Self-normalised seconds per request (`offpolicy.snips`), of sums (7, …).

    They are those of: requests, w·r, clipped w·r, w, P(show), logged r, doubly robust.
    """
    count, earned, _, mass, shows, _, _ = sums
    nothing = np.where(shows == 0, 0.0, np.nan)
    value: Floats = np.divide(shows * earned, count * mass, out=nothing, where=mass > 0)
    return value
