"""How often the 95 % intervals of a replay hold the truth, and how often the usual shorter ones would have.

Worlds of `coderl_gate.synthetic`: few programmers, uneven in how much they ask; the truth is the value over all programmers
there are. Baseline in the same run: for the seconds that were really saved, percentiles of a bootstrap over programmers beside
the studentised interval that the replay uses.

Run: python benchmarks/bench_offpolicy.py
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import numpy as np

from coderl_gate.costs import CostParameters, realised_s
from coderl_gate.dataset import kept_chars_of
from coderl_gate.offpolicy import cluster_bootstrap, studentised_bootstrap
from coderl_gate.policy import Policy
from coderl_gate.replay import replay
from coderl_gate.synthetic import World, knowing
from coderl_store.repository import LoggedRequest

USERS = (6, 10, 20)
EXPLORING = Policy(0.5, epsilon_skip=0.3, epsilon_withhold=0.3)
TARGET = Policy(0.5, eagerness=0.6)
COSTS = CostParameters()
RESAMPLES = 300
LEAST = 0.92


def run(quick: bool = False) -> dict[str, Any]:
    """Share of worlds whose interval holds the truth, per number of programmers."""
    worlds = 40 if quick else 400
    artifact = knowing()
    everybody = World(users=1500 if quick else 6000, requests_per_user=10, seed=10**6)
    asked, done = (everybody.value_s(artifact, policy, COSTS) for policy in (TARGET, EXPLORING))
    figures: dict[str, Any] = {"worlds": worlds}
    for users in USERS:
        held: Counter[str] = Counter()
        for seed in range(worlds):
            log = list(World(users, 16, seed, unevenness=0.5).requests(artifact, EXPLORING, COSTS))
            report = replay(log, artifact, TARGET, truth=COSTS, resamples=RESAMPLES)
            for name, interval in report.estimators.items():
                held[name] += interval.low <= asked <= interval.high
            for name, holds in _done(log, done, seed).items():
                held[name] += holds
        figures[f"{users}_users"] = {f"{name}_share": count / worlds for name, count in held.items()}
        short = [name for name in report.estimators if held[name] < LEAST * worlds]
        if short and not quick:
            raise RuntimeError(f"With {users} users the intervals of {', '.join(short)} hold the truth too rarely: {held}.")
    return figures


def _done(log: list[LoggedRequest], truth: float, seed: int) -> dict[str, bool]:
    """Whether both kinds of interval around what was really saved hold the truth."""
    users = np.array([request.session.user_key for request in log])
    seconds = np.array([_seconds(request) for request in log])
    percentiles = cluster_bootstrap(lambda rows: float(seconds[rows].mean()), users, seed=seed, resamples=RESAMPLES)
    columns = np.column_stack([seconds, np.ones(len(log))])
    studentised = studentised_bootstrap(lambda sums: sums[0] / sums[1], columns, users, seed=seed, resamples=RESAMPLES)
    return {
        "done_percentiles": percentiles.low <= truth <= percentiles.high,
        "done_studentised": studentised.low <= truth <= studentised.high,
    }


def _seconds(request: LoggedRequest) -> float:
    if request.suggestion is None or request.outcome is None:
        return 0.0
    return realised_s(kept_chars_of(request), request.suggestion.chars, request.suggestion.lines, COSTS)


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
