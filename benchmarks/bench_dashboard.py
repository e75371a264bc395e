"""How long the team server's pages take on a million decisions: first and later answers of a real server, beside `/healthz`.

The promise: every page is answered within a second (the fastest of five, on a machine that others use too). The log is that of
`team_log.py`: 200 programmers, half a year. Making it and its sums takes most of the time; both are reported.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.dashboard_server import PAGES, serve
from benchmarks.team_log import generate

DECISIONS, QUICK_DECISIONS = 1_000_000, 10_000
ROUNDS = 5
PROMISE_MS = 1000.0
SUMS_LIMIT_S = 1500.0
SLIDER = "what-if/figures?eagerness=0.3&h=0.5"


def run(quick: bool) -> dict[str, Any]:
    """Milliseconds per page, and the seconds that making log and sums took."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        begun_s = time.perf_counter()
        generate(home / "coderl.db", QUICK_DECISIONS if quick else DECISIONS)
        made_s = time.perf_counter() - begun_s
        served = serve(home)
        try:
            sums_s = served.wait_for_sums(SUMS_LIMIT_S)
            pages = {page or "worth": _timed(f"{served.url}/dashboard/{page}") for page in (*PAGES, SLIDER)}
            baseline = _timed(f"{served.url}/healthz")
        finally:
            served.stop()
    slow = [page for page, times in pages.items() if times["fastest_ms"] > PROMISE_MS]
    if slow:
        raise AssertionError(f"Slower than {PROMISE_MS:g} ms: {', '.join(slow)}; {pages}")
    return {
        "decisions": QUICK_DECISIONS if quick else DECISIONS,
        "log_made_s": made_s,
        "sums_made_s": sums_s,
        "healthz": baseline,
        "pages": pages,
    }


def _timed(url: str) -> dict[str, float]:
    times = []
    with httpx.Client(timeout=60) as client:
        for _ in range(ROUNDS):
            begun_s = time.perf_counter()
            client.get(url).raise_for_status()
            times.append(1000 * (time.perf_counter() - begun_s))
    return {"first_ms": times[0], "fastest_ms": min(times), "median_ms": statistics.median(times)}
