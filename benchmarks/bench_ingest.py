"""How many records a team's server takes per second, durably: one worker, batches of 100, on SQLite and on PostgreSQL.

Four editors send one batch after the other, each on a connection that stays open; a batch counts once it is answered, which
means fsynced. The clock then runs on until all of it is in the database: that is the rate which lasts. The baseline, in the
same run, is a bare FastAPI endpoint under the same uvicorn that reads the same bodies and answers the number of their lines:
no token, no decoding, no disk. Rounds alternate, so that a busy machine slows both.

Wall times are only as good as the machine is idle (`load_1m`). The promise, 3,000 records/s committed on either database, is
reported, not asserted; `cpu_us_per_record` hardly depends on the load.

    python benchmarks/run.py --only ingest
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bare_endpoint import bare
from editor_records import bodies
from team_server import NDJSON, Served, either, postgres, serving, temporary_folder

BATCH = 100
EDITORS = 4
PROMISED_PER_S = 3_000.0


def run(quick: bool = False) -> dict[str, Any]:
    """Rates are medians of the rounds, in records per second. RuntimeError where a batch is refused or a record is missing."""
    rounds, batches = (1, 40) if quick else (3, 150)
    result: dict[str, Any] = {"load_1m": os.getloadavg()[0], "batch_records": BATCH, "editors": EDITORS}
    made = [bodies(batches, BATCH, seed) for seed in range(rounds)]
    result["record_bytes"] = len(made[0][0]) / BATCH
    for kind in ("sqlite", "postgresql"):
        reason = postgres.missing() if kind == "postgresql" else None
        result[kind] = {"skipped": reason} if reason else _measured(kind, made)
    result["load_1m_end"] = os.getloadavg()[0]
    return result


def _measured(kind: str, made: Sequence[Sequence[bytes]]) -> dict[str, Any]:
    acknowledged, committed, bare_rates, cpu_us = [], [], [], []
    with temporary_folder() as name, either(kind, Path(name)) as url, serving(Path(name), url) as served, bare() as baseline:
        warm = bodies(EDITORS, BATCH, seed=-1)  # what a server does once: the database library is loaded with the first commit
        _sent(served, "/v1/records", warm)
        total = len(warm) * BATCH
        served.wait_for("coderl_committed_total", total)
        for batches in made:
            count = len(batches) * BATCH
            bare_rates.append(count / _sent(baseline, "/lines", batches))
            cpu_s, began_s = served.cpu_s(), time.perf_counter()
            acknowledged.append(count / _sent(served, "/v1/records", batches))
            total += count
            served.wait_for("coderl_committed_total", total)
            committed.append(count / (time.perf_counter() - began_s))
            cpu_us.append((served.cpu_s() - cpu_s) / count * 1e6)
    lasting = statistics.median(committed)
    return {
        "acknowledged_per_s": statistics.median(acknowledged),
        "committed_per_s": lasting,
        "bare_endpoint_per_s": statistics.median(bare_rates),
        "cpu_us_per_record": statistics.median(cpu_us),
        "promised_per_s": PROMISED_PER_S,
        "promise_holds": lasting >= PROMISED_PER_S,
    }


def _sent(served: Served, path: str, batches: Sequence[bytes]) -> float:
    """Seconds until the last of the batches was answered. RuntimeError where one was not taken whole."""
    failures: list[str] = []

    def editor(own: Sequence[bytes]) -> Callable[[], None]:
        def send() -> None:
            connection = served.connection()
            for body in own:
                connection.request("POST", path, body, {"Content-Type": NDJSON})
                answer = connection.getresponse()
                text = answer.read()
                while answer.status == 429:  # faster than one token may: what it is told to wait is waited
                    time.sleep(0.02)
                    connection.request("POST", path, body, {"Content-Type": NDJSON})
                    answer = connection.getresponse()
                    text = answer.read()
                if answer.status != 200 or json.loads(text)["accepted"] != BATCH:
                    failures.append(f"{answer.status} {text[:200]!r}")
            connection.close()

        return send

    threads = [threading.Thread(target=editor(batches[index::EDITORS])) for index in range(EDITORS)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began_s
    if failures:
        raise RuntimeError(f"A batch was not taken: {failures[0]}")
    return seconds


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
