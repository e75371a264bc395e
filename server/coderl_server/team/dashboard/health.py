"""*Health*: how fast the editors' answers are, what waits and what fails, and how well outcomes are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from coderl_store.clock import utc
from coderl_store.daily import Daily
from coderl_store.day_sums import DaySums
from coderl_store.decided import Decided, read_decided
from coderl_store.overviews import Failures, failures
from coderl_store.records import Evidence
from coderl_store.sink import LogHealth

from ..metrics import Histogram, Key
from ..parts import TeamParts
from .periods import period
from .visit import Scope

LATEST = 1000
"""Requests whose latencies count."""
QUANTILES = (0.5, 0.9, 0.99)
STAGES = (
    ("gate_before_ms", "gate, before generation"),
    ("generate_ms", "generation"),
    ("gate_after_ms", "gate, after generation"),
    ("total_ms", "all of it"),
)
_MOST_ROUTES = 12


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of one stage, or of one route."""

    name: str
    n: int
    quantiles: Sequence[float]
    """Milliseconds."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the page shows."""

    latencies: Sequence[Latency]
    routes: Sequence[Latency]
    """Of this server; each is the upper bound of a bucket."""
    log: LogHealth
    pending: int
    """Records in the spools of all workers."""
    workers: int
    failed: int
    """Answers with a status of 500 and above since the start."""
    answers: int
    failures: Sequence[Failures]
    evidence: Sequence[tuple[str, int]]
    seen: int


def health(parts: TeamParts, scope: Scope, days: int) -> Health:
    """Raises `DatabaseError`."""
    engine, now = parts.database.repository.engine, utc(parts.clock.now_s())
    since = now - timedelta(days=days)
    rows = read_decided(engine, since=since, user_key=scope.user_key, newest=LATEST)
    sums = period(Daily(engine), scope, now.date(), days).total
    values, histograms = parts.metrics.gathered()
    return Health(
        latencies=latencies(rows),
        routes=routes(histograms),
        log=parts.log.health(),
        pending=int(_summed(values, "coderl_spool_pending")),
        workers=max(1, int(_summed(values, "coderl_workers"))),
        failed=int(_summed(values, "coderl_requests_total", "5")),
        answers=int(_summed(values, "coderl_requests_total")),
        failures=failures(engine, since, scope.user_key),
        evidence=evidence(sums),
        seen=sums.seen,
    )


def latencies(rows: Sequence[Decided]) -> list[Latency]:
    """Of the stages, where they ran. Pure."""
    found = []
    for field, words in STAGES:
        values = [value for row in rows if (value := row.timings.get(field)) is not None]
        if values:
            found.append(Latency(words, len(values), [float(one) for one in np.quantile(values, QUANTILES)]))
    return found


def routes(histograms: Mapping[Key, Histogram]) -> list[Latency]:
    """Of the server's own answers, the most frequent routes. Pure."""
    found = [
        Latency(dict(labels)["route"], one.count, [1000 * one.quantile_s(share) for share in QUANTILES])
        for (name, labels), one in histograms.items()
        if name == "coderl_request_seconds" and one.count
    ]
    return sorted(found, key=lambda one: (-one.n, one.name))[:_MOST_ROUTES]


def evidence(sums: DaySums) -> list[tuple[str, int]]:
    """How outcomes are known: kind → seen suggestions, in the order of their strength. Pure."""
    return [(kind.value, getattr(sums, f"by_{kind.value}")) for kind in Evidence if getattr(sums, f"by_{kind.value}")]


def _summed(values: Mapping[Key, float], name: str, status: str = "") -> float:
    return sum(
        value for (one, labels), value in values.items() if one == name and dict(labels).get("status", "").startswith(status)
    )
