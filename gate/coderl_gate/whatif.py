"""The same requests under another eagerness and another entropy limit, fast enough for a slider. Pure.

Re-decides with p1, p2 and costs *as logged*, so it asks about the dial of the gates that acted; another gate is
`coderl_gate.replay`'s question. The rule is that of `coderl_gate.policy` without trials, for all requests at once (a test holds
it against `action_probabilities`, request by request), and the report is the replay's own (`replay_report`).

Not covered: what `coderl_gate.replay` does not cover either. Where stage 2 was not asked (a draft), p1 stands for p2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coderl_store.decided import Decided
from coderl_store.records import Costs

from .costs import tau as threshold
from .costs import utility_s
from .daily import realised_of, weighable
from .dataset import Floats
from .escalation import EntropyLimit
from .policy import EAGERNESS_LOGITS
from .replay import logged_probabilities
from .replay_report import Redecided, ReplayReport, clusters_of, report_of

RESAMPLES = 300
"""Of the intervals: enough for a slider, too few for a decision (`coderl replay` draws 1,000)."""


@dataclass(frozen=True, slots=True)
class Columns:
    """n requests as logged; all are (n,)."""

    p1: Floats
    tau_before: Floats
    """Threshold on p1 at eagerness 0."""
    has: NDArray[np.bool_]
    """Whether something was generated."""
    p2: Floats
    tau: Floats
    """Threshold on p2 at eagerness 0; 1 where nothing was generated."""
    logged_generate: Floats
    logged_show: Floats
    shown: Floats
    seconds: Floats
    kept: Floats
    seen: Floats
    certain: NDArray[np.bool_]
    """Whether the log's action was the only one possible."""
    modelled: Floats
    guess: Floats
    """Seconds expected of showing, before there is a suggestion."""


@dataclass(frozen=True, slots=True)
class Dial:
    """What can be asked about."""

    columns: Columns
    kind: str
    clusters: NDArray[np.str_]
    left_out: int

    @classmethod
    def of(cls, rows: Sequence[Decided]) -> Dial | None:
        """On these requests; None where a gate decided none of them."""
        taken = [row for row in rows if weighable(row)]
        if not taken:
            return None
        values = np.array([_values(row) for row in taken], dtype=np.float64).T
        columns = Columns(*(column.astype(bool) if index in (2, 11) else column for index, column in enumerate(values)))
        kind, clusters = clusters_of(
            [row.user_key for row in taken], [row.session_id for row in taken], [row.at for row in taken]
        )
        return cls(columns, kind, clusters, len(rows) - len(taken))

    def at(self, eagerness: float, h_bits: float, *, resamples: int = RESAMPLES) -> ReplayReport:
        """What these settings would have done."""
        left_out = {"not decided by a gate, or without what it takes": self.left_out} if self.left_out else {}
        rows = redecided(self.columns, eagerness, h_bits)
        return report_of(rows, self.kind, self.clusters, left_out, resamples=resamples)


def redecided(c: Columns, eagerness: float, h_bits: float) -> Redecided:
    """Every request under these settings."""
    tau_before, tau = eager(c.tau_before, eagerness), eager(c.tau, eagerness)
    settled = (entropy_bits(c.p1) <= EntropyLimit(h_bits).bits) & ((c.p1 < 0.5) == (c.p1 < tau_before))
    skip, draft = settled & (c.p1 < tau_before), settled & (c.p1 >= tau_before)
    generate = np.where(skip, 0.0, 1.0)
    show = np.where(c.has & (draft | (~skip & (c.p2 > tau))), 1.0, 0.0)
    never = c.logged_show == 0
    asked = np.divide(show, c.logged_generate, out=np.zeros_like(show), where=c.has)
    return Redecided(
        generate=generate,
        show=show,
        logged_generate=c.logged_generate,
        logged_show=c.logged_show,
        shown=c.shown,
        seconds=c.seconds,
        kept=c.kept,
        seen=c.seen,
        unsupported=np.where(c.has, np.where(never, asked, 0.0), np.where(c.certain, generate, 0.0)),
        modelled=c.modelled,
        guess=np.where(draft, c.guess, generate * np.maximum(0.0, c.guess)),
    )


def eager(tau: Floats, eagerness: float) -> Floats:
    """`policy.eager` of many thresholds."""
    inside = (tau > 0.0) & (tau < 1.0)
    odds = np.divide(tau, 1.0 - tau, out=np.zeros_like(tau), where=inside) * np.exp(-EAGERNESS_LOGITS * eagerness)
    return np.where(inside, odds / (1.0 + odds), tau)


def entropy_bits(p: Floats) -> Floats:
    """`escalation.entropy_bits` of many probabilities."""
    inside = (p > 0.0) & (p < 1.0)
    p = np.where(inside, p, 0.5)
    return np.where(inside, np.minimum(1.0, -p * np.log2(p) - (1.0 - p) * np.log2(1.0 - p)), 0.0)


def _values(row: Decided) -> tuple[float, ...]:
    """In the order of `Columns`."""
    assert row.p1 is not None
    assert row.expected_costs is not None
    expected = Costs(**row.expected_costs)
    before, guess = threshold(expected), utility_s(row.p1, expected)
    certain = float(row.propensity == 1.0)
    if row.chars is None or row.costs is None:
        return row.p1, before, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, certain, 0.0, guess
    p2, costs = row.p1 if row.p2 is None else row.p2, Costs(**row.costs)
    generate, show = logged_probabilities(row.shown, row.propensity, row.p2, row.tau, row.epsilon_withhold)
    seconds = realised_of(row)
    return (
        row.p1, before, 1.0, p2, threshold(costs), generate, show, float(row.shown), seconds or 0.0,
        float(row.kept), float(row.seen), certain, utility_s(p2, costs), guess,
    )  # fmt: skip
