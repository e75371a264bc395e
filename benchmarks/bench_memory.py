"""Whether the server grows: resident memory over a session of hours, on a clock that the client moves.

Python's own modules are typed key by key with a programmer's pauses, a request after every key, one file after the other. The
generator is the scripted one, which knows what will be typed and is wrong now and then, so that everything the server
remembers fills up: completions, decisions, outcomes, survival. The first hour is the warm-up, in which what is bounded fills to
its bound (the last 10,000 decisions are the largest); the twenty minutes after it are judged: no more than `GROWTH_MB` on top.

The embedded model has a fixed cache; what it adds is measured by its own, shorter session of the full run and not judged.

    python benchmarks/run.py --only memory
"""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stdio_client import StdioClient

from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model
from coderl_server.simulate.programmer import Key, plan
from coderl_store.home import home as data_folder

START_MS = 1_700_000_001_000.0
MODULES = ("textwrap", "fnmatch", "csv", "shlex", "bisect", "calendar", "copy", "heapq", "glob", "string")
FILE_CHARS = 4_000
SAMPLE_S = 120.0
"""Seconds of the session between two looks at the memory."""
GROWTH_MB = 4.0
QUIET = {"rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "maxDebounceMs": 0}
"""Each request is awaited with the clock standing still, so none may wait for the next key."""


def texts() -> list[str]:
    """The beginnings of the modules, as far as they are ASCII."""
    found = []
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")[:FILE_CHARS]
        found.append("".join(char if char.isascii() else "?" for char in text))
    return found


def keys_of_files() -> Iterator[tuple[int, list[Key]]]:
    """(number, keys) of one file after the other, without end."""
    for number, text in enumerate(cycle(texts())):
        yield number, plan(text, random.Random(f"memory {number}"), chars_per_second=5.0)


def session(folder: Path, arguments: Sequence[str], options: dict[str, Any], seconds: float) -> list[tuple[float, int, float]]:
    """(seconds of the session, requests so far, resident MB), every `SAMPLE_S`."""
    samples: list[tuple[float, int, float]] = []
    now_ms, requests = START_MS, 0
    with StdioClient(folder, "--clock", "client", "--seed", "1", *arguments) as client:
        client.ask("coderl/clock", {"now_ms": now_ms})
        client.start({**QUIET, **options})
        for number, keys in keys_of_files():
            if now_ms >= START_MS + seconds * 1000:
                break
            uri, line, column = f"file:///memory/{number}.py", 0, 0
            client.open(uri, "")
            for version, key in enumerate(keys):
                if now_ms >= START_MS + seconds * 1000:
                    break
                now_ms += key.gap_s * 1000
                client.ask("coderl/clock", {"now_ms": now_ms, "settle": True})
                client.change(uri, version + 2, [(line, column, line, column, key.text)])
                line, column = (line + 1, 0) if key.text == "\n" else (line, column + 1)
                client.ask("textDocument/inlineCompletion", client.place(uri, line, column))
                requests += 1
                now_ms += 0.0 if key.pause is None else key.pause.length_s * 1000
                if (now_ms - START_MS) / 1000 >= SAMPLE_S * (len(samples) + 1):
                    client.ask("coderl/flush", {})
                    samples.append(((now_ms - START_MS) / 1000, requests, client.resident_mb()))
                    sys.stderr.write(f"{samples[-1][0]:.0f} s, {requests} requests, {samples[-1][2]:.1f} MB\n")
            client.tell("textDocument/didClose", {"textDocument": {"uri": uri}})
    return samples


def grown_mb(samples: Sequence[tuple[float, int, float]], from_s: float) -> tuple[float, float, float]:
    """The median of a fifth of the samples behind `from_s` at its beginning and at its end, and their difference, MB."""
    late = [resident_mb for at_s, _, resident_mb in samples if at_s > from_s]
    part = max(1, len(late) // 5)
    first, last = statistics.median(late[:part]), statistics.median(late[-part:])
    return first, last, last - first


def run(quick: bool = False) -> dict[str, Any]:
    """Figures. RuntimeError where a session takes more memory after its first hour than that hour left behind."""
    warm_s, judged_s = (240.0, 240.0) if quick else (3600.0, 1200.0)
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "script.json"
        script.write_text(json.dumps({"oracle": {"texts": texts(), "error_rate": 0.05, "seed": 1}}), encoding="utf-8")
        samples = session(Path(name) / "scripted", ("--backend", "scripted", "--script", str(script)), {}, warm_s + judged_s)
        first, last, growth = grown_mb(samples, warm_s)
        figures: dict[str, Any] = {
            "session_s": samples[-1][0],
            "requests": samples[-1][1],
            "after_warm_up_mb": first,
            "at_the_end_mb": last,
            "growth_mb": growth,
            "growth_limit_mb": GROWTH_MB,
        }
        if not quick and growth > GROWTH_MB:
            raise RuntimeError(
                f"The session grew by {growth:.1f} MB after its first hour; at most {GROWTH_MB:.0f} are allowed."
            )
        if not quick:
            figures["embedded"] = _embedded(Path(name))
    return figures


def _embedded(folder: Path) -> dict[str, Any]:
    try:
        model = find_model(data_folder())
    except ModelMissing as error:
        return {"skipped": str(error)}
    samples = session(folder / "embedded", ("--model", str(model)), {"maxTokens": 8, "deadlineMs": 60_000}, 720.0)
    first, last, growth = grown_mb(samples, 240.0)
    return {"requests": samples[-1][1], "after_warm_up_mb": first, "at_the_end_mb": last, "growth_mb": growth}


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
