"""What one decision of the gate costs: features and trees in pure Python, against LightGBM's own prediction of one row.

Real contexts: places in modules of Python's standard library, with windows of 4,000 characters before the cursor and 2,000
after it. The trees are fitted here to those contexts with labels drawn by chance from a rule, so that they are full-grown: 100
trees of 15 leaves per stage. Baseline in the same run: `lightgbm.Booster.predict` of one ready row. It computes no features, so
the gate's figures are shown with and without them; what it costs to import stands beside it.

Run: python benchmarks/bench_gate.py
"""

from __future__ import annotations

import argparse
import inspect
import json
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import lightgbm
import numpy as np

from coderl_gate.artifact import GateArtifact, StageModel
from coderl_gate.catalogue import CONTEXT_NAMES, P1, SUGGESTION_NAMES
from coderl_gate.costs import CostParameters
from coderl_gate.features import LogprobSummary, context_features, suggestion_features
from coderl_gate.gate import Gate
from coderl_gate.quantiles import OnlineQuantiles, QuantileTable
from coderl_gate.scorer import TreeScorer
from coderl_store.records import Context, Trigger

PROMISE_MS = 0.3
TREES, LEAVES = 100, 15
STAGE2_NAMES = (*CONTEXT_NAMES, *SUGGESTION_NAMES, P1.name)


def places(n: int, rng: random.Random) -> list[tuple[Context, str, LogprobSummary]]:
    """`n` places in real modules, each with the text that follows it as the suggestion, and made-up log-probs."""
    sources = [inspect.getsource(module) for module in (argparse, inspect, random, statistics, warnings)]
    made = []
    for number in range(n):
        source = rng.choice(sources)
        offset = rng.randrange(len(source) // 2, len(source) - 200)
        before, after = source[:offset], source[offset:]
        context = Context(
            id=str(number), at=datetime.now(UTC), session_id="s", language="python", document_key="d",
            line=before.count("\n"), character=offset - before.rfind("\n") - 1, trigger=Trigger.AUTOMATIC,
            document_chars=len(source), document_lines=source.count("\n") + 1, offset_chars=offset,
            prefix=before[-4_000:], suffix=after[:2_000], session_s=600.0, typing_interval_ms=rng.uniform(80, 400),
            since_edit_ms=rng.uniform(0, 900), since_decision_ms=rng.uniform(0, 60_000),
            recent_accepts=tuple(rng.random() < 0.3 for _ in range(10)),
        )  # fmt: skip
        summary = LogprobSummary.of([-rng.expovariate(1.5) for _ in range(rng.randint(2, 24))])
        assert summary is not None
        made.append((context, after[: rng.randint(5, 80)], summary))
    return made


def fitted(names: Sequence[str], rows: Sequence[dict[str, float | None]], rng: random.Random) -> lightgbm.Booster:
    """Full-grown trees for these rows."""
    x = matrix(names, rows)
    known = np.nan_to_num(x)
    weights = np.array([rng.gauss(0, 1) for _ in names])
    signal = (known - known.mean(axis=0)) / (known.std(axis=0) + 1e-9) @ weights
    label = (signal + np.array([rng.gauss(0, signal.std()) for _ in rows]) > 0).astype(int)
    data = lightgbm.Dataset(x, label, feature_name=list(names))
    settings = {"objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1, "seed": 1}
    return lightgbm.train(settings, data, TREES)


def matrix(names: Sequence[str], rows: Sequence[dict[str, float | None]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows of features as LightGBM reads them."""
    return np.array([[np.nan if (value := row[name]) is None else value for name in names] for row in rows])


def median_ms(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Median and 99th percentile of `work(0)` … `work(count − 1)`, each timed alone."""
    times_ms = []
    for index in range(count):
        start_ns = time.perf_counter_ns()
        work(index)
        times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    times_ms.sort()
    return {"median_ms": statistics.median(times_ms), "p99_ms": times_ms[int(0.99 * (count - 1))]}


def import_s(module: str) -> float:
    """Seconds that importing `module` takes in a fresh interpreter; the second of two tries, so that files are cached."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    tries = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    return float(tries[-1].stdout)


def run(quick: bool = False) -> dict[str, Any]:
    """Milliseconds per decision; raises where the promise of 0.3 ms for scoring one context does not hold."""
    rng = random.Random(20_261_120)
    samples = places(600 if quick else 2_000, rng)
    columns = {name: [getattr(s, name) for _, _, s in samples] for name in ("mean", "lowest", "first", "total")}
    table = QuantileTable.of("bench", columns)
    rows1 = [context_features(context) for context, _, _ in samples]
    rows2 = [
        {**row, **suggestion_features(context, text, summary, table), P1.name: rng.random()}
        for row, (context, text, summary) in zip(rows1, samples, strict=True)
    ]
    boosters = fitted(CONTEXT_NAMES, rows1, rng), fitted(STAGE2_NAMES, rows2, rng)
    stage1, stage2 = (
        StageModel(TreeScorer.parse(booster.model_to_string(), tuple(names)))
        for booster, names in zip(boosters, (CONTEXT_NAMES, STAGE2_NAMES), strict=True)
    )
    artifact = GateArtifact(stage1, stage2, 0.5, CostParameters(), "bench", "2026-11-20T00:00:00Z")
    gate = Gate(artifact, "bench", OnlineQuantiles("bench", random.Random(1), table))
    count = len(samples)
    matrices = matrix(CONTEXT_NAMES, rows1), matrix(STAGE2_NAMES, rows2)
    lines = [[values[index : index + 1] for index in range(count)] for values in matrices]

    def after(index: int) -> object:
        context, text, summary = samples[index]
        return gate.after(context, rows1[index], text, summary)

    figures: dict[str, Any] = {
        "before_generation": median_ms(lambda i: gate.before(samples[i][0]), count),
        "after_generation": median_ms(after, count),
        "context_features": median_ms(lambda i: context_features(samples[i][0]), count),
        "suggestion_features": median_ms(lambda i: suggestion_features(*samples[i], table), count),
        "stage1_trees": median_ms(lambda i: stage1.scorer.score(rows1[i]), count),
        "stage2_trees": median_ms(lambda i: stage2.scorer.score(rows2[i]), count),
        "lightgbm_stage1_row": median_ms(lambda i: boosters[0].predict(lines[0][i], raw_score=True, num_threads=1), count),
        "lightgbm_stage1_row_default_threads": median_ms(lambda i: boosters[0].predict(lines[0][i], raw_score=True), count),
        "lightgbm_stage2_row": median_ms(lambda i: boosters[1].predict(lines[1][i], raw_score=True, num_threads=1), count),
    }
    before_ms = figures["before_generation"]["median_ms"]
    figures["lightgbm_row_over_before_generation"] = figures["lightgbm_stage1_row"]["median_ms"] / before_ms
    figures["lightgbm_row_over_stage1_trees"] = (
        figures["lightgbm_stage1_row"]["median_ms"] / figures["stage1_trees"]["median_ms"]
    )
    figures["import_coderl_gate_s"], figures["import_lightgbm_s"] = import_s("coderl_gate"), import_s("lightgbm")
    figures["leaves_per_stage"] = [_leaves(booster) for booster in boosters]
    figures["largest_difference_logits"] = max(
        abs(stage2.scorer.score(row) - float(value))
        for row, value in zip(rows2[:200], boosters[1].predict(matrices[1][:200], raw_score=True), strict=True)
    )
    if before_ms > PROMISE_MS:
        raise RuntimeError(f"Scoring one context takes {before_ms:.3f} ms; {PROMISE_MS} ms are promised.")
    return figures


def _leaves(booster: lightgbm.Booster) -> int:
    return sum(tree["num_leaves"] for tree in booster.dump_model()["tree_info"])


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
