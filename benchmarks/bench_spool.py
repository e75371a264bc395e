"""How many records per second become safe: group commit against one fsync per record, in one run on one disk.

The baseline writes the same bytes to the same kind of file with an `fsync` for each record, without any thread: what a log
without group commit would do. Rounds alternate, so that a busy machine slows both. Needs about five seconds; the temporary
folder should lie on a real disk (on tmpfs `fsync` costs nothing, and the figures say nothing).
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

from coderl_store.clock import SystemClock, utc
from coderl_store.codec import encode
from coderl_store.ids import IdSource
from coderl_store.records import Action, Costs, Decision, Reason, Route, Stage
from coderl_store.segment import Segment, frame
from coderl_store.spool import Spool

ROUNDS = 3
ROUND_S = 0.6
IN_FLIGHT = 256
"""Records that wait for their acknowledgement at once: a team server under load."""


def _decision(ids: IdSource, clock: SystemClock) -> Decision:
    costs = Costs(0.0, 1.2, 6.5, 0.65)
    model = (0.4, 0.97, 0.5, 0.8, 0.6, costs, costs)
    return Decision(
        *(ids.new(), utc(clock.now_s()), "session", "context", Route.FULL, Stage.AFTER, Action.SHOW, Reason.WORTH_SHOWING),
        *model,
        *(0.01, 0.01, 0.5, 0.5, 1.0, "gate", "generator"),
    )


def _grouped(folder: Path, clock: SystemClock, ids: IdSource) -> float:
    """Records per second with `IN_FLIGHT` of them waiting at any time."""
    spool = Spool(folder, clock)
    spool.start()
    waiting: deque[Future[None]] = deque()
    acknowledged = 0
    start_s = time.perf_counter()
    while time.perf_counter() - start_s < ROUND_S:
        waiting.append(spool.submit([_decision(ids, clock)]))
        if len(waiting) >= IN_FLIGHT:
            waiting.popleft().result()
            acknowledged += 1
    while waiting:
        waiting.popleft().result()
        acknowledged += 1
    rate = acknowledged / (time.perf_counter() - start_s)
    spool.close(5)
    return rate


def _one_by_one(folder: Path, clock: SystemClock, ids: IdSource) -> float:
    """Records per second with an fsync for each."""
    segment = Segment.create(folder / f"{ids.new()}.jsonl")
    acknowledged = 0
    start_s = time.perf_counter()
    while time.perf_counter() - start_s < ROUND_S:
        record = _decision(ids, clock)
        data = frame(encode(record))
        segment.write(data)
        segment.publish([(data, record)])
        acknowledged += 1
    rate = acknowledged / (time.perf_counter() - start_s)
    segment.remove()
    return rate


def _append_ms(folder: Path, clock: SystemClock, ids: IdSource) -> list[float]:
    """Milliseconds of one blocking `append`, one after another, as one editor makes them."""
    spool = Spool(folder, clock)
    spool.start()
    times_ms = []
    for _ in range(200):
        record = _decision(ids, clock)
        start_s = time.perf_counter()
        spool.append([record])
        times_ms.append((time.perf_counter() - start_s) * 1000)
    spool.close(5)
    return times_ms


def run(*, quick: bool = False) -> dict[str, float | int]:
    """Measure. Rates are medians of the rounds, in records per second; `ratio` is the median of the rounds' ratios."""
    clock = SystemClock()
    ids = IdSource(clock)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rounds = [
            (_grouped(folder / "grouped", clock, ids), _one_by_one(folder, clock, ids)) for _ in range(1 if quick else ROUNDS)
        ]
        times_ms = sorted(_append_ms(folder / "single", clock, ids))
    return {
        "grouped_records_per_s": round(statistics.median(grouped for grouped, _ in rounds)),
        "one_fsync_each_records_per_s": round(statistics.median(single for _, single in rounds)),
        "ratio": round(statistics.median(grouped / single for grouped, single in rounds), 1),
        "append_p50_ms": round(times_ms[len(times_ms) // 2], 3),
        "append_p99_ms": round(times_ms[len(times_ms) * 99 // 100], 3),
        "record_bytes": len(frame(encode(_decision(ids, clock)))),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
