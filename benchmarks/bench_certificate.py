"""Does the certificate keep its promise on programmers it has not seen? Random splits of the CUPS programmers.

Scores are the p2 of `gate-calibrate`: out of fold (each programmer's by models that never saw them), moved by the tendency that
each programmer's own earlier decisions show. In each split some programmers are certified on; the others then use the
threshold, and the promise is *broken* where the share kept among what is withheld from them (or the share of their accepted
characters that is lost), pooled over their decisions, exceeds α. A split in which nothing is certified, or nothing of the
others is withheld, cannot break it: `certified` and `withheld` say how often that is so.

Judged are the halves (7 programmers certify, 7 judge), as in the measurement that this repeats. Told beside them are splits
in which 11 certify and 3 judge. They answer another question: the certificate is about programmers like these on average, and
of three people the realised rate scatters widely around that average, whatever is certified.

Baselines in the same splits: the threshold with the largest withheld share whose observed rate is at most α (`naive`: a grid
search on validation data, as in the published gates), and the one whose Clopper-Pearson bound at 95 % over rows, as if they
were independent and as if one threshold had been tried, is at most α (`clopper_pearson`).

The folder of the telemetry is `cups` in the folder that CODERL_SHARED_DATA names (else ../shared/data).

Run: python benchmarks/bench_certificate.py
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from coderl_gate import cups, dataset
from coderl_gate.certificate import Promise, certify
from coderl_gate.dataset import Dataset, Floats
from coderl_gate.errors import DataError
from coderl_gate.fitting import fit_stages
from coderl_gate.recalibration import personalise
from coderl_store.records import Origin

ALPHAS = (0.05, 0.10, 0.15, 0.20)
DELTA = 0.05
MOST_BROKEN = 0.05
SPLITS, QUICK_SPLITS = 400, 40
JUDGED, TOLD = 7, 11
"""How many programmers certify, of 14."""
ROWS = 1_000_000

Rows = NDArray[np.bool_]
Chooser = Callable[[Promise, Floats, Dataset, Rows, float], float]
"""Promise, scores, data, the rows to certify on, α → the threshold; −inf withholds nothing."""


def amounts(promise: Promise, data: Dataset) -> tuple[Floats, Floats]:
    """Numerator of a withheld row, and denominator of a row, both (n,)."""
    return (data.kept, np.ones(len(data))) if promise is Promise.REJECTED else (data.kept_chars, data.kept_chars)


def rate_below(promise: Promise, data: Dataset, rows: Rows, below: Rows) -> float:
    """The share that the promise limits, among `rows`; 0 where there is nothing to lose."""
    lost, base = amounts(promise, data)
    whole = base[rows & below].sum() if promise is Promise.REJECTED else base[rows].sum()
    return float(lost[rows & below].sum() / whole) if whole else 0.0


def by_certificate(promise: Promise, scores: Floats, data: Dataset, rows: Rows, alpha: float) -> float:
    """What this project does."""
    certificate = certify(
        promise, scores[rows], data.kept[rows], data.users[rows], alpha=alpha, delta=DELTA, kept_chars=data.kept_chars[rows]
    )
    return -np.inf if certificate.threshold is None else certificate.threshold


def path_rates(promise: Promise, scores: Floats, data: Dataset, rows: Rows) -> tuple[Floats, Floats, Floats]:
    """Thresholds after each row in the order of the scores, the observed rate below, and how many rows it rests on."""
    order = np.flatnonzero(rows)[np.argsort(scores[rows], kind="stable")]
    lost, base = amounts(promise, data)
    withheld = np.arange(1.0, len(order) + 1)
    if promise is Promise.REJECTED:
        whole, count = withheld, withheld
    else:
        whole, count = np.full(len(order), base[order].sum()), np.full(len(order), float(data.kept[order].sum()))
    return np.nextafter(scores[order], np.inf), np.cumsum(lost[order]) / whole, count


def by_rate(promise: Promise, scores: Floats, data: Dataset, rows: Rows, alpha: float) -> float:
    """The grid search on validation data."""
    thresholds, rates, _ = path_rates(promise, scores, data, rows)
    good = np.flatnonzero(rates <= alpha)
    return float(thresholds[good[-1]]) if len(good) else -np.inf


def by_clopper_pearson(promise: Promise, scores: Floats, data: Dataset, rows: Rows, alpha: float) -> float:
    """An exact bound for independent rows and one threshold, over all thresholds."""
    thresholds, rates, count = path_rates(promise, scores, data, rows)
    bounds = np.ones(len(rates))
    some = rates < 1
    bounds[some] = betaincinv((rates * count)[some] + 1, ((1 - rates) * count)[some], 1 - DELTA)
    good = np.flatnonzero(bounds <= alpha)
    return float(thresholds[good[-1]]) if len(good) else -np.inf


CHOOSERS: Mapping[str, Chooser] = {
    "certificate": by_certificate,
    "clopper_pearson": by_clopper_pearson,
    "naive": by_rate,
}


def repeated(scores: Floats, data: Dataset, certifying: int, splits: int) -> dict[str, Any]:
    """Promise → α → method → the shares of splits broken and certified, and the mean share withheld from the others."""
    users, rng = np.unique(data.users), np.random.default_rng(20_261_120)
    chosen = [np.isin(data.users, rng.permutation(users)[:certifying]) for _ in range(splits)]
    answer: dict[str, Any] = {}
    for promise in Promise:
        for alpha in ALPHAS:
            group = answer.setdefault(promise.value, {}).setdefault(f"alpha_{alpha:.2f}", {})
            for name, chooser in CHOOSERS.items():
                broken, certified, withheld = [], [], []
                for rows in chosen:
                    below = scores < chooser(promise, scores, data, rows, alpha)
                    broken.append(rate_below(promise, data, ~rows, below) > alpha)
                    certified.append(bool(below[rows].any()))
                    withheld.append(float(below[~rows].mean()))
                group[name] = {
                    "broken": float(np.mean(broken)),
                    "certified": float(np.mean(certified)),
                    "withheld": float(np.mean(withheld)),
                }
    return answer


def large() -> float:
    """Seconds of one core that a certificate of a million decisions by 2,000 users takes."""
    rng = np.random.default_rng(1)
    scores = rng.random(ROWS)
    kept = (rng.random(ROWS) < scores).astype(np.float64)
    users = np.char.add("user-", rng.integers(0, 2_000, ROWS).astype(np.str_))
    start_s = time.process_time()
    certify(Promise.REJECTED, scores, kept, users, alpha=0.10)
    return time.process_time() - start_s


def telemetry() -> Dataset:
    """The CUPS decisions. Raises `DataError` where the folder is not there."""
    folder = Path(os.environ.get("CODERL_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data") / "cups"
    log = cups.read(folder)
    return dataset.build(log.requests, dataset.Selection(frozenset({Origin.IMPORTED})))


def run(quick: bool = False) -> dict[str, Any]:
    """Shares of splits in which each method broke its promise; raises where the certificate did in over 5 % of 400 halves."""
    try:
        data = telemetry()
    except DataError as error:
        return {"skipped": str(error)}
    stage1, stage2, data = fit_stages(data)
    scores = personalise(stage1.p, stage2.p, data).p2
    splits = QUICK_SPLITS if quick else SPLITS
    figures: dict[str, Any] = {"million_decisions_cpu_s": large(), "splits": {}}
    for certifying in (JUDGED, TOLD):
        figures["splits"][f"{certifying}_of_{len(np.unique(data.users))}_users"] = repeated(scores, data, certifying, splits)
    figures["all_users"] = {
        f"{promise.value}_alpha_{alpha:.2f}": certify(
            promise, scores, data.kept, data.users, alpha=alpha, delta=DELTA, kept_chars=data.kept_chars
        ).sentence
        for promise in Promise
        for alpha in ALPHAS
    }
    worst = max(
        methods["certificate"]["broken"]
        for alphas in figures["splits"][f"{JUDGED}_of_{len(np.unique(data.users))}_users"].values()
        for methods in alphas.values()
    )
    if worst > MOST_BROKEN and not quick:  # of 40 splits three may be broken by chance
        raise RuntimeError(f"The certificate was broken in {worst:.1%} of {splits} splits; {MOST_BROKEN:.0%} are promised.")
    return figures


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
