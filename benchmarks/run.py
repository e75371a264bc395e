"""What `make bench` runs: every `bench_*.py` beside this file, each in a process of its own with a time limit.

A benchmark is a module with `run(quick: bool) -> dict`: it measures, next to a baseline in the same run, and returns figures
with the unit in each name; nested dicts are groups. A promise that does not hold (too slow, too large) raises.
`{"skipped": "why"}` says that it cannot run here. The table goes to standard output, everything to `out/bench.json`.

Exit status: 0 all ran or were skipped, 1 one failed, 2 the command line names no such benchmark.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIMIT_S, QUICK_LIMIT_S = 1_800.0, 240.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one benchmark."""

    name: str
    state: str
    """`done`, `skipped` or `failed`."""
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the command line names; all without a name."""
    options = _parser().parse_args(arguments)
    if options.child is not None:
        return _child(options.child, options.quick, options.out)
    files = {path.stem.removeprefix("bench_"): path for path in sorted(options.folder.glob("bench_*.py"))}
    unknown = [name for name in options.only if name not in files]
    if unknown:
        sys.stderr.write(f"There is no benchmark {', '.join(unknown)}; there are: {', '.join(files) or 'none'}.\n")
        return 2
    chosen = {name: path for name, path in files.items() if not options.only or name in options.only}
    limit_s = options.limit_s or (QUICK_LIMIT_S if options.quick else LIMIT_S)
    results = []
    for name, path in chosen.items():
        sys.stderr.write(f"{name} …\n")
        result = _measure(name, path, options.quick, limit_s)
        results.append(result)
        if not options.json:
            sys.stdout.write(_table(result))
            sys.stdout.flush()
    report = {"machine": _machine(), "quick": options.quick, "results": [asdict(result) for result in results]}
    text = json.dumps(report, indent=2, ensure_ascii=False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n", encoding="utf-8")
    if options.json:
        sys.stdout.write(text + "\n")
    return 1 if any(result.state == "failed" for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description="Measure what the README quotes.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: finds what is broken, not what is 5 %% slower")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="run this one (may be repeated)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of tables")
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench.json"), help="where the report goes (default: out/bench.json)"
    )
    parser.add_argument(
        "--limit-s", type=float, help=f"seconds for one benchmark (default: {LIMIT_S:.0f}, quick {QUICK_LIMIT_S:.0f})"
    )
    parser.add_argument("--folder", type=Path, default=HERE, help="where the benchmarks are (default: beside this file)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser


def _measure(name: str, path: Path, quick: bool, limit_s: float) -> Result:
    start_s = time.perf_counter()

    def result(state: str, reason: str = "", figures: Mapping[str, Any] | None = None) -> Result:
        return Result(name, state, round(time.perf_counter() - start_s, 1), figures or {}, reason)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--child", str(path.resolve()), "--out", str(out)]
        try:
            # What a benchmark prints is progress, not part of the report.
            run = subprocess.run([*command, *(["--quick"] if quick else [])], timeout=limit_s, stdout=sys.stderr, check=False)
        except subprocess.TimeoutExpired:
            return result("failed", f"took longer than {limit_s:.0f} s")
        except OSError as error:
            return result("failed", f"could not be started: {error}")
        if not out.is_file():
            return result("failed", f"died with exit status {run.returncode} before it could report")
        answer = json.loads(out.read_text(encoding="utf-8"))
    if "error" in answer:
        return result("failed", answer["error"])
    if "skipped" in answer["figures"]:
        return result("skipped", str(answer["figures"]["skipped"]))
    return result("done", figures=answer["figures"])


def _child(path: Path, quick: bool, out: Path) -> int:
    """Run one benchmark in this process and leave its figures, or its error, in `out`."""
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        figures = module.run(quick=quick)
        if not isinstance(figures, dict) or not figures:
            raise TypeError(f"run() of {path.name} must return a dict of figures")
        answer: dict[str, Any] = {"figures": figures}
        text = json.dumps(answer)
    except Exception as error:  # the boundary of a benchmark: whatever it raises is its failure
        traceback.print_exc()
        text = json.dumps({"error": f"{type(error).__name__}: {error}"})
    out.write_text(text, encoding="utf-8")
    return 0


def _table(result: Result) -> str:
    lines = [f"\n{result.name}  ({result.state}, {result.seconds} s)"]
    if result.reason:
        lines.append(f"  {result.reason}")
    rows = list(_flat(result.figures))
    width = max((len(key) for key, _ in rows), default=0)
    lines += [f"  {key:<{width}}  {value}" for key, value in rows]
    return "\n".join(lines) + "\n"


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)


def _machine() -> dict[str, Any]:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    sys.exit(main())
