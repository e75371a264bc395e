"""The language server as an editor feels it: real processes, real pipes, each figure beside its baseline of the same run.

What the groups are:

- `initialize`: a fresh process until the answer to `initialize` (promised: under 1 s), and where that time goes;
- `skip`: an answer that needs no generation, on 2,000 lines (promised: median at most 3 ms), beside a bare JSON-RPC round trip;
- `full`: an answer of the embedded model beside the same prompts in the bare backend, both with a warm cache;
- `batch`: 200 changes on 10,000 lines, then a request;
- `memory`: resident after 50 requests (promised: at most 450 MB with the embedded model, 160 MB without);
- `storm`: 1,000 keystrokes with a request after each, none waiting for the one before (nearly all are superseded); then 1,000
  more, each answered before the next. The processor time includes writing the log.

Wall times are only as good as the machine is idle: `load_1m` says how busy it was. They are reported against their promise in
`promises`, not asserted; memory does not depend on the load and is.

    python benchmarks/run.py --only server
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stdio_client import StdioClient

from coderl_gate.artifact import GateArtifact, StageModel, save
from coderl_gate.costs import CostParameters
from coderl_gate.scorer import LinearScorer
from coderl_generator.complete import Budget, complete
from coderl_generator.errors import ModelMissing
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.models import find_model
from coderl_generator.prompt import Place
from coderl_store.home import home as data_folder

URI = "file:///bench/module.py"
SKIP_LINES, BATCH_LINES, BATCH_CHANGES = 2_000, 10_000, 200
IMPORTS = "import coderl_server.cli, coderl_server.app, coderl_server.transport"
INITIALIZE_S, SKIP_MS, MODEL_MB, BARE_MB = 1.0, 3.0, 450.0, 160.0
QUIET = {"epsilonSkip": 0, "epsilonWithhold": 0}
"""No random trials: a skip is a skip."""


def source(lines: int) -> str:
    """Python of so many lines, a function every eight."""
    block = (
        "def handle_{0}(request, limit={0}):\n"
        '    """Handle one request."""\n'
        "    values = []\n"
        "    for item in request.items:\n"
        "        if item.size > limit:\n"
        "            values.append(item.name)\n"
        "    return values\n"
        "\n"
    )
    return "".join(block.format(i) for i in range(-(-lines // 8)))


def percentiles(times_ms: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile (nearest rank)."""
    ordered = sorted(times_ms)
    return {"p50_ms": statistics.median(ordered), "p99_ms": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]}


def silent_gate(folder: Path) -> Path:
    """A gate whose first stage is certain that nothing will be kept: every request takes the skip route."""

    def always(intercept: float) -> StageModel:
        return StageModel(LinearScorer((), (), (), (), (), intercept))

    artifact = GateArtifact(
        stage1=always(-12.0),
        stage2=always(-12.0),
        h_bits=1.0,
        costs=CostParameters(),
        data_hash="made by the benchmark",
        created_at="2026-11-20T00:00:00+00:00",
    )
    save(artifact, folder)
    return folder


def run(quick: bool = False) -> dict[str, Any]:
    """Measure everything. RuntimeError where a server fails, a route is not the expected one, or memory is over its promise."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = ("--gate", str(silent_gate(folder / "gate")), "--backend", "scripted")
        result: dict[str, Any] = {"load_1m": os.getloadavg()[0]}
        result["initialize"] = initialize(folder, 3 if quick else 5)
        result["skip"] = skip(folder, bare, 100 if quick else 300)
        result["batch"] = batch(folder, bare, 5 if quick else 15)
        result["storm"] = storm(folder, bare, 200 if quick else 1000)
        result["memory"] = {"without_model_mb": memory(folder, bare, 50), "without_model_target_mb": BARE_MB}
        try:
            model = find_model(data_folder())
        except ModelMissing as error:
            result["full"] = {"skipped": str(error)}
        else:
            result["full"] = full(folder, model, 5 if quick else 40)
            result["memory"] |= {
                "model_mb": memory(folder, ("--model", str(model)), 12 if quick else 50),
                "model_target_mb": MODEL_MB,
            }
        result["load_1m_end"] = os.getloadavg()[0]
    result["promises"] = {
        "initialize_under_1_s": result["initialize"]["first_answer_s"] < INITIALIZE_S,
        "skip_median_at_most_3_ms": result["skip"]["certain_gate"]["p50_ms"] <= SKIP_MS,
    }
    for key, limit_mb in (("without_model_mb", BARE_MB), ("model_mb", MODEL_MB)):
        if result["memory"].get(key, 0.0) > limit_mb:
            raise RuntimeError(f"{key} is {result['memory'][key]:.0f}; at most {limit_mb:.0f} MB are promised.")
    return result


def initialize(folder: Path, processes: int) -> dict[str, float]:
    """Fresh processes; the data folder is new for the first and known to the others."""
    times_s, cpu_s = [], []
    for _ in range(processes):
        with StdioClient(folder / "initialize") as client:
            times_s.append(client.start())
            cpu_s.append(client.cpu_s())
    python, imports = _python(("-c", "pass"), processes), _python(("-c", IMPORTS), processes)
    return {
        "first_answer_s": statistics.median(times_s),
        "first_answer_worst_s": max(times_s),
        "target_s": INITIALIZE_S,
        "first_answer_cpu_s": statistics.median(cpu_s),
        "python_alone_s": python[0],
        "python_alone_cpu_s": python[1],
        "python_and_imports_s": imports[0],
        "python_and_imports_cpu_s": imports[1],
        "python_and_lsprotocol_cpu_s": _python(("-c", "import lsprotocol.types"), processes)[1],
    }


def _python(arguments: Sequence[str], processes: int) -> tuple[float, float]:
    """Median wall and processor seconds of a Python process."""
    wall_s, cpu_s = [], []
    for _ in range(processes):
        before, started_s = os.times(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True)
        after = os.times()
        wall_s.append(time.perf_counter() - started_s)
        cpu_s.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(wall_s), statistics.median(cpu_s)


def skip(folder: Path, bare: Sequence[str], requests: int) -> dict[str, Any]:
    """The skip route of a gate that is always certain; and the shipped gate as it is, wherever it skips."""
    result: dict[str, Any] = {"lines": SKIP_LINES, "requests": requests, "target_p50_ms": SKIP_MS}
    with StdioClient(folder / "skip", *bare) as client:
        _ready(client)
        asked = _spread(client, requests)
        result["round_trip"] = percentiles([client.ask("coderl/status", {})[1] for _ in range(requests)])
        routes = {decision["route"] for decision in _decisions(client, requests)}
        if routes != {"skip"}:
            raise RuntimeError(f"The routes were {routes}, not skip alone.")
        result["certain_gate"] = percentiles(asked)
    with StdioClient(folder / "skip", "--backend", "scripted") as client:
        _ready(client)
        asked = _spread(client, requests)
        skipped = [
            time_ms
            for time_ms, decision in zip(asked, _decisions(client, requests), strict=True)
            if decision["route"] == "skip"
        ]
        result["shipped_gate_share_skipped"] = len(skipped) / requests
        result["shipped_gate"] = percentiles(skipped) if skipped else {"skipped": "the shipped gate skipped nothing here"}
        result["shipped_gate_all_routes"] = percentiles(asked)
    result["ratio_to_round_trip"] = result["certain_gate"]["p50_ms"] / result["round_trip"]["p50_ms"]
    return result


def _ready(client: StdioClient) -> None:
    """Start, open the document, and wait until the log has its database: that work of the first second is not measured."""
    client.start(QUIET)
    client.open(URI, source(SKIP_LINES))
    client.ask("textDocument/inlineCompletion", client.place(URI, 0, 0))
    client.ask("coderl/flush", {})


def _spread(client: StdioClient, requests: int) -> list[float]:
    """Ask at so many places all over the document; milliseconds each. The first ten are not counted."""
    lines = source(SKIP_LINES).split("\n")
    times_ms = []
    for index in range(-10, requests):
        line = index * 611 % SKIP_LINES
        times_ms.append(client.ask("textDocument/inlineCompletion", client.place(URI, line, len(lines[line])))[1])
    return times_ms[10:]


def _decisions(client: StdioClient, last: int) -> list[dict[str, Any]]:
    decisions, _ = client.ask("coderl/decisions", {})
    return [json.loads(line)["fields"] for line in decisions["decisions"]][-last:]


def batch(folder: Path, bare: Sequence[str], repeats: int) -> dict[str, float]:
    """A rename all over a large document, then a request: from the first byte sent to the answer."""
    step = BATCH_LINES // BATCH_CHANGES
    times_ms = []
    with StdioClient(folder / "batch", *bare) as client:
        client.start(QUIET)
        client.open(URI, source(BATCH_LINES))
        client.ask("textDocument/inlineCompletion", client.place(URI, 4, 8))
        for version in range(repeats):
            changes = [(line, 0, line, 1, "de"[version % 2]) for line in reversed(range(0, BATCH_LINES, step))]
            started_s = time.perf_counter()
            client.change(URI, version + 2, changes)
            client.ask("textDocument/inlineCompletion", client.place(URI, 4, 8))
            times_ms.append((time.perf_counter() - started_s) * 1000)
    return {"lines": BATCH_LINES, "changes": BATCH_CHANGES, "then_answer_ms": statistics.median(times_ms)}


def storm(folder: Path, bare: Sequence[str], keys: int) -> dict[str, float]:
    """Keys and requests back to back, faster than anyone types; the processor time is what each really costs."""
    with StdioClient(folder / "storm", *bare) as client:
        _ready(client)
        cpu_s, started_s = client.cpu_s(), time.perf_counter()
        pending = []
        for index in range(keys):
            client.change(URI, index + 2, [(1000, index, 1000, index, "x")])
            pending.append(client.send("textDocument/inlineCompletion", client.place(URI, 1000, index + 1)))
        cancelled = sum("error" in client.result(request).body for request in pending)
        wall_s = time.perf_counter() - started_s
        client.ask("coderl/flush", {})
        storm_cpu_s = client.cpu_s() - cpu_s
        for index in range(keys):
            client.change(URI, keys + index + 2, [(500, index, 500, index, "x")])
            client.ask("textDocument/inlineCompletion", client.place(URI, 500, index + 1))
        flushed, _ = client.ask("coderl/flush", {})
        if not flushed["committed"]:
            raise RuntimeError("The log did not get to the end of the storm.")
        return {
            "keys": keys,
            "cpu_s_per_1000_keys": storm_cpu_s * 1000 / keys,
            "wall_s_per_1000_keys": wall_s * 1000 / keys,
            "superseded": cancelled,
            "answered_cpu_s_per_1000_keys": (client.cpu_s() - cpu_s - storm_cpu_s) * 1000 / keys,
        }


def memory(folder: Path, arguments: Sequence[str], requests: int) -> float:
    """Resident memory after so many requests all over a document, MB."""
    with StdioClient(folder / "memory", *arguments) as client:
        client.start({"rule": "always_show", "maxTokens": 16})
        client.open(URI, source(SKIP_LINES))
        _spread(client, requests - 10)
        client.ask("coderl/flush", {})
        resident_mb: float = client.resident_mb()
        return resident_mb


def full(folder: Path, model: Path, repeats: int) -> dict[str, float]:
    """One key after the other at one place, in the server and in the bare backend in turn."""
    served_ms, bare_ms, rerouted = asyncio.run(_in_turn(folder, model, repeats))
    served, alone = statistics.median(served_ms), statistics.median(bare_ms)
    return {
        "requests": len(served_ms),
        "server_p50_ms": served,
        "bare_backend_p50_ms": alone,
        "ratio": served / alone,
        "not_generated": rerouted,
    }


async def _in_turn(folder: Path, model: Path, repeats: int) -> tuple[list[float], list[float], int]:
    """Milliseconds of each answer, of each bare `complete` on the same prompt, and how many answers were not generated.

    Each prompt goes on where the last one ended, so both find it in their cache but for the last key.
    """
    text = source(64) + "def total_of(values, limit):\n    "
    typed = "result = sum(value.size for value in values)"[:repeats]
    line, column = text.count("\n"), 4
    backend, budget = LlamaCppBackend(model), Budget(max_tokens=16)
    served_ms, bare_ms = [], []
    try:
        await backend.warm_up()
        with StdioClient(folder / "full", "--model", str(model)) as client:
            client.start({"rule": "always_show", "maxTokens": 16, "mode": "line", "reuse": False, "maxDebounceMs": 0})
            client.open(URI, text)
            for index, key in enumerate(["", *typed]):
                client.change(URI, index + 2, [(line, column, line, column, key)])
                text, column = text + key, column + len(key)
                served_ms.append(client.ask("textDocument/inlineCompletion", client.place(URI, line, column))[1])
                place = Place(text, "", "python", "module.py")
                bare_ms.append((await complete(backend, place, budget, time.perf_counter)).latency_ms)
            decisions, _ = client.ask("coderl/decisions", {})
            routes = [json.loads(one)["fields"]["route"] for one in decisions["decisions"]]
    finally:
        await backend.aclose()
    # The first pair reads the whole prompt; every later one finds it in the cache.
    return served_ms[1:], bare_ms[1:], sum(route != "full" for route in routes)


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
