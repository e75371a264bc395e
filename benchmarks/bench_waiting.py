"""How OpenMP's threads should wait for each other: tokens per second by policy, on an idle machine and beside a busy process.

The baselines are both of OpenMP's own policies and its default, in the same run. OpenMP reads the policy once, so each figure
is the median of a process of its own. "Busy" is one other process that never rests.

Run: python benchmarks/bench_waiting.py; the model by `coderl models install`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from coderl_generator.backend import GenerationRequest
from coderl_generator.errors import ModelMissing
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.models import find_model
from coderl_store.home import home

POLICIES: Final[dict[str, dict[str, str]]] = {
    "ours": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "active": {"OMP_WAIT_POLICY": "active"},
    "default": {"GOMP_SPINCOUNT": "300000"},
}
"""GNU's default is written out: a policy that is set is what keeps the backend from setting its own."""
PROMPT: Final = Path(os.__file__).read_text(encoding="utf-8")[:800]
TOKENS: Final = 64


async def _decode_tokens_per_s(repeats: int) -> float:
    backend, speeds = LlamaCppBackend(find_model(home())), []
    try:
        for repeat in range(repeats + 1):
            request = GenerationRequest(f"{PROMPT}{repeat}", max_tokens=TOKENS, timeout_s=120.0)
            count, clock = 0, asyncio.get_running_loop()
            start_s = clock.time()
            async for token in backend.stream(request):
                start_s = start_s if count else clock.time()  # from the first token on
                count += not token.is_end_mark
            speeds.append((count - 1) / (clock.time() - start_s))
    finally:
        await backend.aclose()
    return statistics.median(speeds[1:])  # the first is slower: memory is touched for the first time


@contextmanager
def _busy() -> Iterator[None]:
    """Another process at full speed, which ends with this block, or after five minutes."""
    code = "import time\nend = time.time() + 300\nwhile time.time() < end: sum(range(10000))"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield
        finally:
            process.kill()


def _speeds(repeats: int) -> dict[str, float]:
    """Tokens per second of every policy."""
    kept = {name: value for name, value in os.environ.items() if name not in {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}}
    return {
        name: float(subprocess.check_output([sys.executable, __file__, str(repeats)], env=kept | policy, timeout=300))
        for name, policy in POLICIES.items()
    }


def run(*, quick: bool = False) -> dict[str, Any]:
    """Figures; skipped without a model."""
    try:
        find_model(home())
    except ModelMissing as error:
        return {"skipped": str(error)}
    repeats = 1 if quick else 5
    idle = _speeds(repeats)
    with _busy():
        busy = _speeds(repeats)
    return {
        "cpus": os.cpu_count(),
        "tokens_per_s_idle": idle,
        "tokens_per_s_beside_one_busy": busy,
        "ours_over_passive_idle": idle["ours"] / idle["passive"],
        "ours_over_default_beside_one_busy": busy["ours"] / busy["default"],
    }


if __name__ == "__main__":
    print(asyncio.run(_decode_tokens_per_s(int(sys.argv[1]))) if len(sys.argv) > 1 else json.dumps(run(), indent=2))
