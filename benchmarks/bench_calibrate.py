"""What a calibration costs as the log grows: `gate-calibrate` as a user runs it, on made-up logs of up to a million decisions.

Every case is a process of its own on a fresh SQLite file (benchmarks/synthetic_log.py, whose time is not counted). Wall time
includes everything: start, reading, cross-validation, fitting, report. The processor time beside it says what the job needs
where other programs disturb. `seconds_per_100k` that falls or stays the same from case to case means a cost that is at most
linear.

Run: python benchmarks/bench_calibrate.py [--quick] [--rows 1000000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (10_000,)
PROMISED_ROWS, PROMISED_S, PROMISED_GB = 1_000_000, 120.0, 3.0
_CALIBRATE = "from coderl_gate.cli import main; main()"


def run(quick: bool = False) -> dict[str, Any]:
    """Seconds and memory per size; raises where a calibration fails or needs more memory than promised."""
    return measure(QUICK_SIZES if quick else SIZES)


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """The figures of `run` for logs of these many decisions."""
    figures: dict[str, Any] = {"cores": os.cpu_count()}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log.db"
            start_s = time.perf_counter()
            generator().generate(log, size)
            generated_s = time.perf_counter() - start_s
            figures[f"{size}_decisions"] = {**calibrated(log), "log_gb": log.stat().st_size / 1e9, "generated_s": generated_s}
    largest = figures[f"{max(sizes)}_decisions"]
    if largest["peak_gb"] > PROMISED_GB:
        raise RuntimeError(f"Calibrating needs {largest['peak_gb']:.1f} GB; {PROMISED_GB:g} GB are promised.")
    if PROMISED_ROWS in sizes:
        figures["promise_kept"] = largest["wall_s"] <= PROMISED_S
    return figures


def calibrated(log: Path) -> dict[str, Any]:
    """Run `gate-calibrate` on a log; raises `RuntimeError` with its message where it fails."""
    home = log.parent / "home"
    command = [sys.executable, "-c", _CALIBRATE, "--database", f"sqlite:///{log}", "--out", str(home / "report"), "--json"]
    start_s = time.perf_counter()
    with (log.parent / "out").open("wb") as out, (log.parent / "err").open("wb") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, "CODERL_HOME": str(home)})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - start_s
    if child.returncode != 0:
        raise RuntimeError((log.parent / "err").read_text().strip())
    found = json.loads((log.parent / "out").read_text())
    return {
        "decisions_used": found["decisions"],
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9,
        "seconds_per_100k": wall_s / found["decisions"] * 100_000,
        "cpu_s_per_100k": (usage.ru_utime + usage.ru_stime) / found["decisions"] * 100_000,
        "stage2_auc": found["stage2"]["auc"],
    }


def generator() -> Any:
    """The module that makes the logs; benchmarks are files, not a package."""
    spec = spec_from_file_location("synthetic_log", HERE / "synthetic_log.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what a calibration costs as the log grows.")
    parser.add_argument("--quick", action="store_true", help="10,000 decisions only")
    parser.add_argument("--rows", type=int, action="append", help="this many decisions (may be repeated)")
    options = parser.parse_args()
    print(json.dumps(measure(options.rows) if options.rows else run(options.quick), indent=2))
