"""Does the gate still fit? A sliding window of judged suggestions per generator and gate, and an alarm that knows noise. Pure.

Two figures per (generator version, gate version), over the last `WINDOW` judged suggestions of the last `WINDOW_DAYS` days:

    ECE          Σ n_b/n · |kept share − mean p| over bins of equal mass (`metrics.ece`)
    acceptance   kept share, against what the gate expected and against the time before the window

The ECE of a *perfect* gate is not 0: with 100 suggestions it is about 0.1. So it is compared with what perfect calibration
gives on the same probabilities: outcomes are drawn from p, where each programmer has a personal intercept N(0, σ²) in log-odds,
because programmers differ and a gate for all cannot know by how much (σ is that of `adaptation`, from CUPS). The Monte Carlo
p-value is (1 + exceedances) / (1 + draws), drawn until `ENOUGH_EXCEEDANCES` exceedances or `DRAWS` draws (Besag and Clifford,
"Sequential Monte Carlo p-values", Biometrika 1991).

An alarm needs both: significant (`SIGNIFICANCE`, shared between all windows that are looked at) and large (`LARGE` above the
expectation). Acceptance alarms by a two-proportion test at the same level and `LARGE_ACCEPTANCE`.

Not covered: what was withheld (nobody judged it), what the programmer asked for by hand, and drift inside the spread between
programmers, which is adaptation's and calibration's to follow.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from coderl_store.records import Action, Decision, Outcome, Reason, Route, Stage

from .adaptation import SPREAD_LOGITS
from .margins import sigmoid
from .metrics import ReliabilityBin, reliability_curve

WINDOW = 500
"""Judged suggestions a window holds; the ECE of a perfect gate is then about 0.05."""
WINDOW_DAYS = 14
"""Days a window reaches back from its last judgement."""
MIN_JUDGED = 50
"""With fewer, no alarm: nothing could be significant and meant."""
SIGNIFICANCE = 0.01
LARGE = 0.05
"""Least ECE above the expectation that is worth an alarm."""
LARGE_ACCEPTANCE = 0.10
"""Least change of the kept share that is worth an alarm."""
DRAWS, LEAST_DRAWS, ENOUGH_EXCEEDANCES = 999, 100, 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """One suggestion that was shown unasked, seen and judged."""

    at: datetime
    user_key: str
    generator_id: str
    gate_id: str
    p: float
    """P(kept) it was shown with, [0, 1]."""
    kept: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """What one window says."""

    generator_id: str
    gate_id: str
    n: int
    users: int
    since: datetime
    until: datetime
    acceptance: float
    """Kept share in the window."""
    expected_acceptance: float
    """Mean p in the window."""
    earlier_acceptance: float | None
    """Kept share before the window, of `earlier_n` suggestions; None where there are none."""
    earlier_n: int
    ece: float
    ece_if_perfect: float
    """Mean ECE of a perfectly calibrated gate on the same probabilities."""
    p_value: float
    """Chance of an ECE as large under perfect calibration."""
    calibration_alarm: bool
    acceptance_alarm: bool

    @property
    def alarm(self) -> bool:
        return self.calibration_alarm or self.acceptance_alarm

    def sentence(self) -> str:
        """One sentence a person can read."""
        where = f"generator {self.generator_id or 'unknown'}, gate {self.gate_id[:12] or 'unknown'}"
        kept = f"{self.acceptance:.0%} of the last {self.n} suggestions were kept, {self.expected_acceptance:.0%} were expected"
        if self.calibration_alarm:
            return (
                f"The gate no longer fits ({where}): {kept}; its calibration error is {self.ece:.2f}, where noise alone "
                f"explains {self.ece_if_perfect:.2f} (p = {self.p_value:.3f})."
            )
        if self.acceptance_alarm and self.earlier_acceptance is not None:
            return f"Acceptance has changed ({where}): {kept}, {self.earlier_acceptance:.0%} were kept before."
        return f"The gate fits ({where}): {kept}; calibration error {self.ece:.2f}, noise alone {self.ece_if_perfect:.2f}."


def judgement(decision: Decision, outcome: Outcome | None, user_key: str) -> Judgement | None:
    """What a logged request says about the gate; None where it says nothing (withheld, asked for, not seen, no estimate)."""
    if outcome is None or not outcome.seen or decision.action is not Action.SHOW:
        return None
    p = shown_with(decision.stage, decision.route, decision.reason, decision.p1, decision.p2)
    if p is None:
        return None
    return Judgement(decision.at, user_key, decision.generator_id, decision.gate_id, p, outcome.kept)


def shown_with(stage: str, route: str, reason: str, p1: float | None, p2: float | None) -> float | None:
    """The estimate that something was shown with; None where no estimate had it shown (a rule, the programmer's wish)."""
    if stage == Stage.RULE or reason == Reason.ASKED_FOR:
        return None
    p = p1 if route == Route.DRAFT else p2
    return p if p is not None and 0.0 <= p <= 1.0 else None


class DriftMonitor:
    """Takes judgements one by one, and keeps a window per (generator, gate): memory does not grow with the log."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._windows: dict[tuple[str, str], deque[Judgement]] = {}
        self._earlier: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, one: Judgement) -> None:
        """Take a judgement into account; in order of time."""
        key = (one.generator_id, one.gate_id)
        window = self._windows.setdefault(key, deque())
        window.append(one)
        while len(window) > WINDOW or one.at - window[0].at > timedelta(days=WINDOW_DAYS):
            n, kept = self._earlier.get(key, (0, 0))
            self._earlier[key] = n + 1, kept + window.popleft().kept

    def drifts(self) -> tuple[Drift, ...]:
        """Every window as it stands, the most recently used last. Same judgements and seed, same answer."""
        level = SIGNIFICANCE / max(1, len(self._windows))
        found = [
            _drift(list(window), self._earlier.get(key, (0, 0)), level, random.Random(f"{self._seed} {key}"))
            for key, window in self._windows.items()
        ]
        return tuple(sorted(found, key=lambda drift: (drift.until, drift.generator_id, drift.gate_id)))


def drifts(judgements: Iterable[Judgement], seed: int = 0) -> tuple[Drift, ...]:
    """The windows at the end of a log."""
    monitor = DriftMonitor(seed)
    for one in judgements:
        monitor.add(one)
    return monitor.drifts()


def gauges(found: Sequence[Drift]) -> dict[str, list[dict[str, Any]]]:
    """Gauge name → its values with labels, plain data for a metrics endpoint."""
    made: dict[str, list[dict[str, Any]]] = {}
    for drift in found:
        labels = {"generator": drift.generator_id, "gate": drift.gate_id}
        for name, value in (
            ("coderl_gate_window_decisions", drift.n),
            ("coderl_gate_acceptance_ratio", drift.acceptance),
            ("coderl_gate_acceptance_expected_ratio", drift.expected_acceptance),
            ("coderl_gate_ece_ratio", drift.ece),
            ("coderl_gate_ece_if_perfect_ratio", drift.ece_if_perfect),
            ("coderl_gate_drift_p_value", drift.p_value),
            ("coderl_gate_drift_alarm", int(drift.alarm)),
        ):
            made.setdefault(name, []).append({"labels": labels, "value": value})
    return made


def _drift(rows: list[Judgement], earlier: tuple[int, int], level: float, rng: random.Random) -> Drift:
    rows.sort(key=lambda row: row.p)
    curve = reliability_curve([float(row.kept) for row in rows], [row.p for row in rows])
    n, kept = len(rows), sum(row.kept for row in rows)
    ece = math.fsum(part.n * abs(part.observed - part.predicted) for part in curve) / n
    p_value, expected_ece = _null(rows, curve, ece, rng)
    enough = n >= MIN_JUDGED
    before_n, before_kept = earlier
    times = [row.at for row in rows]
    return Drift(
        generator_id=rows[0].generator_id,
        gate_id=rows[0].gate_id,
        n=n,
        users=len({row.user_key for row in rows}),
        since=min(times),
        until=max(times),
        acceptance=kept / n,
        expected_acceptance=math.fsum(row.p for row in rows) / n,
        earlier_acceptance=before_kept / before_n if before_n else None,
        earlier_n=before_n,
        ece=ece,
        ece_if_perfect=expected_ece,
        p_value=p_value,
        calibration_alarm=enough and p_value <= level and ece - expected_ece >= LARGE,
        acceptance_alarm=enough and before_n >= MIN_JUDGED and _changed(n, kept, before_n, before_kept, level),
    )


def _null(rows: Sequence[Judgement], curve: Sequence[ReliabilityBin], ece: float, rng: random.Random) -> tuple[float, float]:
    """Monte Carlo p-value of `ece` and mean ECE under perfect calibration up to personal intercepts; `rows` sorted by p."""
    users = sorted({row.user_key for row in rows})
    place = {user: index for index, user in enumerate(users)}
    ps = [(place[row.user_key], min(1 - 1e-9, max(1e-9, row.p))) for row in rows]
    logits = [(user, math.log(p / (1 - p))) for user, p in ps]
    total, exceeded, draws = 0.0, 0, 0
    while draws < DRAWS and (draws < LEAST_DRAWS or exceeded < ENOUGH_EXCEEDANCES):
        shifts = [rng.gauss(0.0, SPREAD_LOGITS) for _ in users]
        drawn = [rng.random() < sigmoid(logit + shifts[user]) for user, logit in logits]
        start, sum_of = 0, 0.0
        for part in curve:
            sum_of += abs(sum(drawn[start : start + part.n]) - part.n * part.predicted)
            start += part.n
        one = sum_of / len(rows)
        total += one
        exceeded += one >= ece - 1e-12
        draws += 1
    return (1 + exceeded) / (1 + draws), total / draws


def _changed(n: int, kept: int, before_n: int, before_kept: int, level: float) -> bool:
    """Whether two kept shares differ: by `LARGE_ACCEPTANCE`, and significantly (two-proportion z-test, two-sided)."""
    difference = kept / n - before_kept / before_n
    pooled = (kept + before_kept) / (n + before_n)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / before_n))
    return abs(difference) >= LARGE_ACCEPTANCE and error > 0 and math.erfc(abs(difference) / error / math.sqrt(2)) <= level
