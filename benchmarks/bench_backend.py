"""What the embedded backend costs: tokens per second, time to the first token, memory, how fast a cancel frees it.

The baseline in the same run is a cold prompt (nothing shared with the one before) against the same prompt with a few more
characters, which is what typing sends. Text: the source of Python's own `os` module. Latencies are medians.

Run: python benchmarks/bench_backend.py; the model by `coderl models install`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from coderl_generator.backend import GenerationRequest
from coderl_generator.errors import ModelMissing
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.models import find_model
from coderl_store.home import home

PROMPT_CHARS = 2500
DECODE_TOKENS = 64
MEMORY_BUDGET_MB = 450.0
"""The promise for the whole language server; the backend alone must stay below it."""


def resident_mb() -> float | None:
    """Resident memory of this process; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _first_token_ms(backend: LlamaCppBackend, prompt: str) -> float:
    start_s = time.perf_counter()
    async with aclosing(backend.stream(GenerationRequest(prompt, max_tokens=1, timeout_s=120.0))) as tokens:
        await anext(tokens)
        elapsed_ms = (time.perf_counter() - start_s) * 1000.0
        async for _ in tokens:
            pass
    return elapsed_ms


async def _decode_tokens_per_s(backend: LlamaCppBackend, prompt: str) -> float:
    async with aclosing(backend.stream(GenerationRequest(prompt, max_tokens=DECODE_TOKENS, timeout_s=120.0))) as tokens:
        await anext(tokens)
        start_s, count = time.perf_counter(), 0
        async for token in tokens:
            count += not token.is_end_mark
    return count / (time.perf_counter() - start_s)


async def _cancel_ms(backend: LlamaCppBackend, prompt: str, *, after_first: bool) -> float:
    """From closing a stream until a tiny request is served; without `after_first` the prompt was still being read."""
    stream = backend.stream(GenerationRequest(prompt, max_tokens=400, timeout_s=120.0))
    if after_first:
        await anext(stream)
        start_s = time.perf_counter()
        await stream.aclose()
    else:
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.1)
        start_s = time.perf_counter()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await _first_token_ms(backend, "x")
    return (time.perf_counter() - start_s) * 1000.0


def _text() -> str:
    return Path(os.__file__).read_text(encoding="utf-8")


async def _measure(repeats: int) -> dict[str, Any]:
    text = _text()
    windows = [text[at : at + PROMPT_CHARS] for at in range(0, repeats * PROMPT_CHARS, PROMPT_CHARS)]
    before_mb = resident_mb()
    backend = LlamaCppBackend(find_model(home()))
    start_s = time.perf_counter()
    await backend.warm_up()
    load_ms = (time.perf_counter() - start_s) * 1000.0
    try:
        cold, shared, speed = [], [], []
        for window in windows:
            cold.append(await _first_token_ms(backend, window))
            shared += [await _first_token_ms(backend, window + more) for more in ("\nx", "\nx =", "\nx = y")]
            speed.append(await _decode_tokens_per_s(backend, window))
        decoding = [await _cancel_ms(backend, "import os\n", after_first=True) for _ in windows]
        reading = [await _cancel_ms(backend, window[::-1], after_first=False) for window in windows]
        tiny = [await _first_token_ms(backend, "x") for _ in windows]
        after_mb = resident_mb()
    finally:
        await backend.aclose()
    return {
        "load_ms": load_ms,
        "decode_tokens_per_s": statistics.median(speed),
        "first_token_cold_ms": statistics.median(cold),
        "first_token_shared_prefix_ms": statistics.median(shared),
        "cold_to_shared_ratio": statistics.median(cold) / statistics.median(shared),
        "cancel_while_decoding_ms": statistics.median(decoding),
        "cancel_while_reading_prompt_ms": statistics.median(reading),
        "tiny_request_ms": statistics.median(tiny),
        "resident_before_mb": before_mb,
        "resident_after_mb": after_mb,
        "prompt_chars": PROMPT_CHARS,
        "cpus": os.cpu_count(),
        "load_average_1_min": os.getloadavg()[0],
    }


def run(*, quick: bool = False) -> dict[str, Any]:
    """Raises where the backend alone takes more memory than the whole language server may."""
    try:
        figures = asyncio.run(_measure(2 if quick else 5))
    except ModelMissing as error:
        return {"skipped": str(error)}
    resident = figures["resident_after_mb"]
    if resident is not None and resident > MEMORY_BUDGET_MB:
        raise RuntimeError(f"the backend takes {resident:.0f} MB, the budget of the whole server is {MEMORY_BUDGET_MB:.0f} MB")
    return figures


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
