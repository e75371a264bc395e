"""`make outcome-accuracy`: every client that is installed goes through its plan; what was logged is held against the truth.

Run it as `python -m tests.editors.accuracy.run [--count N] [--seed N] [--only NAME ...] [--out FILE] [--docs FILE]`. Exits 1
where a client is below what is asked of it, 2 where one failed. A client that is not installed is left out, with its reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .score import head, row_of, written

HERE = "tests.editors.accuracy"
COMMANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "neovim-plugin": (f"{HERE}.single", "neovim-plugin"),
        "neovim": (f"{HERE}.single", "neovim"),
        "vscode": (f"{HERE}.vscode",),
        "vscode-proposed": (f"{HERE}.vscode", "--proposed"),
        "bare": (f"{HERE}.single", "bare"),
        "bare-parts": (f"{HERE}.single", "bare-parts"),
    }
)
NOT_HERE = 3
AT_ONCE = 2
LIMIT_S = 3600.0
"""One client may take so long."""


def one(name: str, seed: int, count: int, folder: Path) -> tuple[Mapping[str, Any] | None, str]:
    """A client's report, or None and why there is none."""
    told, began_s = folder / f"{name}.json", time.monotonic()
    command = [sys.executable, "-m", *COMMANDS[name], "--seed", str(seed), "--count", str(count), "--json", str(told)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"{name} took more than {LIMIT_S:.0f} s."
    if told.is_file():
        print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
        return json.loads(told.read_text(encoding="utf-8")), ""
    reason = run.stderr.strip() or f"exit code {run.returncode}"
    return None, f"{name} is left out: {reason}" if run.returncode == NOT_HERE else f"{name} failed: {reason}"


def here() -> list[str]:
    """The clients whose programmers are there."""
    places = {name: Path(__file__).with_name(f"{command[0].rpartition('.')[2]}.py") for name, command in COMMANDS.items()}
    return [name for name, place in places.items() if place.is_file()]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.editors.accuracy.run", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="interactions of each client")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=here(), default=here(), metavar="NAME", help=f"of {', '.join(here())}")
    parser.add_argument("--out", type=Path, default=Path("out/outcome-accuracy.json"))
    parser.add_argument("--docs", type=Path, help="a page whose table is to be brought up to date")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(lambda name: one(name, asked.seed, asked.count, Path(folder)), asked.only))
    reports = [report for report, _ in ended if report is not None]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"seed": asked.seed, "clients": reports}
    asked.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join([head(), *map(row_of, reports)]))
    bad = [report for report in reports if report["accuracy"] < report["least"]]
    for report in bad:
        print(f"{report['client']}: below {100 * report['least']:.0f} %; the wrong ones are in {asked.out}.", file=sys.stderr)
    reasons = [reason for _, reason in ended if reason]
    print(*reasons, sep="\n", file=sys.stderr)
    if asked.docs:
        page = asked.docs.read_text(encoding="utf-8")
        asked.docs.write_text(written(page, map(row_of, reports)), encoding="utf-8")
    return 2 if any("failed" in reason or "took more" in reason for reason in reasons) else 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
