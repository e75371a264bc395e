"""How long the programmer waits: `coderl bench latency` beside its promises.

Real files are typed in real time into a real server and, in turn, into the same server without reuse and anchoring. Judged
here, because both sides of the ratio feel the machine alike: the speed-up over that server, and the overhead over the bare
backend. Against their promise in `promises`, and not judged, stand the times that are only as good as the machine is idle
(`load_1m` says how busy it was) and the share of wasted tokens, which grows where slow decoding is overtaken by the next key.

    python benchmarks/run.py --only latency
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model
from coderl_store.home import home as data_folder

TYPED_THROUGH_P99_MS, OVERHEAD, SPEEDUP, STOPPED_IN_TIME, WASTED = 3.0, 1.15, 2.0, 0.99, 0.20
FEWEST_PAIRS = 20
"""Of the overhead, and answers of the other server: fewer are too few to judge a ratio."""


def run(quick: bool = False) -> dict[str, Any]:
    """Figures; skipped without a model. RuntimeError where a ratio misses its promise; 20 s of typing judge no speed-up."""
    try:
        find_model(data_folder())
    except ModelMissing as error:
        return {"skipped": str(error)}
    load = os.getloadavg()[0]
    seconds, pairs = ("20", "3") if quick else ("420", "40")
    command = [sys.executable, "-m", "coderl_server", "bench", "latency", "--json"]
    command += ["--max-seconds", seconds, "--overhead-pairs", pairs]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(found.stdout)
    figures.pop("messages")
    figures |= {"load_1m": load, "load_1m_end": os.getloadavg()[0]}
    figures["promises"] = {
        "typed_through_p99_at_most_3_ms": at_most(figures["typed_through_p99_ms"], TYPED_THROUGH_P99_MS),
        "overhead_at_most_1.15": at_most(figures["overhead_ratio"], OVERHEAD),
        "twice_as_fast_as_plain": at_least(figures["speedup_over_plain"], SPEEDUP),
        "stopped_within_30_ms": at_least(figures["cancelled_in_30ms_rate"], STOPPED_IN_TIME),
        "wasted_at_most_a_fifth": at_most(figures["wasted_token_share"], WASTED),
    }
    if figures["n"]["overhead_pairs"] >= FEWEST_PAIRS and figures["promises"]["overhead_at_most_1.15"] is False:
        raise RuntimeError(f"A request takes {figures['overhead_ratio']:.2f} times the bare backend; {OVERHEAD} are promised.")
    answered = figures["n"]["plain_requests"] - figures["n"]["plain_superseded"]
    if not quick and answered >= FEWEST_PAIRS and figures["promises"]["twice_as_fast_as_plain"] is False:
        raise RuntimeError(f"Reuse and anchoring make answers {figures['speedup_over_plain']:.2f} times as fast, not twice.")
    return figures


def at_most(value: float | None, limit: float) -> bool | None:
    """None where there is no figure."""
    return None if value is None else value <= limit


def at_least(value: float | None, limit: float) -> bool | None:
    """None where there is no figure."""
    return None if value is None else value >= limit


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
