"""What the relay adds: 200 simulated editors at human pace through `coderl serve` and, beside it, a bare FastAPI endpoint.

Each editor asks for a completion, streams it to its end, and pauses as a programmer does (exponential, 3 s in the mean). The
model is the scripted backend: 16 tokens, the first after 40 ms, then one every 5 ms. The bare endpoint sleeps the same times
and sends events of the same size, without tokens, turns, limits or figures of its own. Half of an editor's requests go to
either, in turn, so that a busy machine slows both alike; `overhead` is the difference of the percentiles.

Wall times are only as good as the machine is idle (`load_1m`): the promise, at most 25 ms at the 99th percentile, is reported.

    python benchmarks/run.py --only relay
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bare_endpoint import FIRST_MS, NEXT_MS, TOKENS, bare
from team_server import serving, temporary_folder

from coderl_server.team.tokens import Tokens
from coderl_store.members import Role

EDITORS = 200
PAUSE_S = 3.0
PROMISED_P99_MS = 25.0
PROMPT = "def handle(request):\n    values = []\n" * 20


def run(quick: bool = False) -> dict[str, Any]:
    """Percentiles in milliseconds, from the request to the first event and to the end. RuntimeError where an answer fails."""
    help_text = subprocess.run(
        [sys.executable, "-m", "coderl_server", "serve", "--help"], capture_output=True, text=True, check=True
    )
    if "--backend" not in help_text.stdout:
        return {"skipped": "this coderl serve relays no completions"}
    editors, seconds = (40, 6.0) if quick else (EDITORS, 60.0)
    with temporary_folder() as name:
        folder = Path(name)
        os.environ["CODERL_HOME"] = name
        with Tokens.opened(None) as tokens:
            texts = [tokens.create(Role.INGEST, f"editor-{index}").text for index in range(editors)]
        script = folder / "script.json"
        answer = {"text": " word" * TOKENS, "first_delay_ms": FIRST_MS, "delay_ms": NEXT_MS}
        script.write_text(json.dumps({"default": answer}), encoding="utf-8")
        options = ("--backend", "scripted", "--script", str(script), "--at-once", str(editors))
        load = os.getloadavg()[0]
        with serving(folder, None, *options) as served, bare() as baseline:
            cpu_s = served.cpu_s()
            times = asyncio.run(_all_editors(served.port, baseline.port, texts, seconds))
            cpu_ms = 1000 * (served.cpu_s() - cpu_s) / max(1, len(times["relay"]))
    result: dict[str, Any] = {
        "load_1m": load,
        "editors": editors,
        "requests": len(times["relay"]),
        "cpu_ms_per_request": cpu_ms,
    }
    for kind, pairs in times.items():
        result[kind] = {"first": _percentiles([first for first, _ in pairs]), "whole": _percentiles([end for _, end in pairs])}
    result["overhead"] = {
        part: {name: result["relay"][part][name] - result["bare"][part][name] for name in ("p50_ms", "p99_ms")}
        for part in ("first", "whole")
    }
    result["promised_p99_ms"] = PROMISED_P99_MS
    result["promise_holds"] = result["overhead"]["whole"]["p99_ms"] <= PROMISED_P99_MS
    return result


async def _all_editors(
    relay_port: int, bare_port: int, texts: list[str], seconds: float
) -> dict[str, list[tuple[float, float]]]:
    times: dict[str, list[tuple[float, float]]] = {"relay": [], "bare": []}
    ports = {"relay": relay_port, "bare": bare_port}

    async def editor(index: int, token: str) -> None:
        rng = random.Random(index)
        turn = index
        while True:
            await asyncio.sleep(rng.expovariate(1 / PAUSE_S))
            if time.monotonic() > until_s:
                return
            kind = ("relay", "bare")[turn % 2]
            turn += 1
            async with asyncio.timeout(60):
                times[kind].append(await _completion(ports[kind], token))

    until_s = time.monotonic() + seconds
    await asyncio.gather(*(editor(index, token) for index, token in enumerate(texts)))
    return times


async def _completion(port: int, token: str) -> tuple[float, float]:
    """Milliseconds to the first event and to the end, on a connection of its own.

    Written by hand: an HTTP library takes more of a core for 200 streams than the servers that are measured, and its own
    queue would be in the figures.
    """
    body = json.dumps({"prompt": PROMPT, "max_tokens": 64, "stream": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    began_s = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        first, last = await reader.readline(), b""
        first_ms = 1000 * (time.perf_counter() - began_s)
        while piece := await reader.read(65_536):
            last = (last + piece)[-40:]
        ended_ms = 1000 * (time.perf_counter() - began_s)
    finally:
        writer.close()
    if not (answered.startswith(b"HTTP/1.1 200 ") and first and last.endswith(b"[DONE]\n\n\r\n0\r\n\r\n")):
        raise RuntimeError(f"An answer failed: {answered[:60]!r} … {last!r}")
    return first_ms, ended_ms


def _percentiles(times_ms: list[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    return {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]}


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
