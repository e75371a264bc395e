from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[2] / "benchmarks" / "run.py"


def bench(folder: Path, *options: str) -> tuple[int, dict[str, dict[str, object]], str]:
    command = [sys.executable, str(RUNNER), "--folder", str(folder), "--out", str(folder / "out" / "bench.json"), *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, check=False)
    file = folder / "out" / "bench.json"
    results = json.loads(file.read_text())["results"] if file.is_file() else []
    return run.returncode, {result["name"]: result for result in results}, run.stdout + run.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bench_good.py").write_text(
        "def run(quick):\n    print('noise')\n    return {'median_ms': 1.5, 'inner': {'quick': quick}}\n"
    )
    return tmp_path


def test_figures_come_back(folder: Path) -> None:
    status, results, text = bench(folder, "--quick")
    assert status == 0
    assert results["good"]["state"] == "done"
    assert results["good"]["figures"] == {"median_ms": 1.5, "inner": {"quick": True}}
    assert "inner.quick" in text


def test_json_is_only_json(folder: Path) -> None:
    command = [sys.executable, str(RUNNER), "--folder", str(folder), "--out", str(folder / "bench.json"), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(run.stdout)["results"][0]["figures"]["inner"] == {"quick": False}


@pytest.mark.parametrize(
    ("body", "options", "state", "reason"),
    [
        ("def run(quick):\n    raise AssertionError('43 ms, promised 20')\n", (), "failed", "43 ms, promised 20"),
        ("import os\ndef run(quick):\n    os._exit(3)\n", (), "failed", "exit status 3"),
        ("def run(quick):\n    while True: pass\n", ("--limit-s", "1"), "failed", "longer than 1 s"),
        ("def run(quick):\n    return {}\n", (), "failed", "must return"),
        ("def run(quick):\n    return {'skipped': 'no model'}\n", (), "skipped", "no model"),
    ],
)
def test_what_does_not_finish_is_said(folder: Path, body: str, options: tuple[str, ...], state: str, reason: str) -> None:
    (folder / "bench_other.py").write_text(body)
    status, results, _ = bench(folder, *options)
    assert results["other"]["state"] == state
    assert reason in str(results["other"]["reason"])
    assert results["good"]["state"] == "done"
    assert status == (1 if state == "failed" else 0)


def test_only_runs_what_is_named(folder: Path) -> None:
    (folder / "bench_other.py").write_text("def run(quick):\n    raise AssertionError\n")
    status, results, _ = bench(folder, "--only", "good")
    assert (status, list(results)) == (0, ["good"])
    status, _, text = bench(folder, "--only", "god")
    assert status == 2
    assert "good" in text
