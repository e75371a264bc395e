"""What it is worth not to decode twice: answers while a suggestion is typed through, with reuse and without.

In each of some places the server is asked for a suggestion, which is then typed, key by key, with a request after each. The
same keys go to a second server whose setting `reuse` is off (the baseline, in the same run). Promised: typed-through answers
within 3 ms at the 99th percentile. Wall times are reported beside it, not asserted (bench_server.py says why); asserted is what
does not depend on the load: every answer goes on with what is left of the suggestion.

    python benchmarks/run.py --only reuse
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stdio_client import StdioClient

from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model
from coderl_store.home import home as data_folder

URI = "file:///bench/module.py"
KEYS = 12
"""At most so many keys of a suggestion are typed."""
TARGET_P99_MS = 3.0
HEADS = (
    "def read_lines(path):\n    with ",
    "def mean(values):\n    return ",
    "import os\n\nfor name in os.listdir(folder):\n    if ",
    "class Point:\n    def __init__(self, x, y):\n        ",
    "numbers = [1, 2, 3]\nfor number in ",
    "def is_even(number):\n    return ",
    "def area(width, height):\n    return ",
    "try:\n    value = int(text)\nexcept ",
    "def greet(name):\n    print(",
    "words = text.split(",
)


@dataclass
class Typed:
    """One place: its text, the keys typed behind it, and the milliseconds of each answer (the first is that of the place)."""

    head: str
    keys: str
    times_ms: list[float] = field(default_factory=list)


def _typing(folder: Path, model: Path, options: Mapping[str, Any], script: Sequence[tuple[str, str | None]]) -> list[Typed]:
    """Type the keys behind each head, or those of the suggestion where they are None; each place is a document of its own."""
    places = []
    with StdioClient(folder, "--model", str(model)) as client:
        client.start({"rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "mode": "line", **options})
        for number, (head, keys) in enumerate(script):
            uri, line, column = f"{URI}{number}.py", head.count("\n"), len(head) - head.rfind("\n") - 1
            client.open(uri, head)
            answer, first_ms = client.ask("textDocument/inlineCompletion", client.place(uri, line, column))
            text = _left(answer, column)
            typed = Typed(head, keys if keys is not None else text[: min(KEYS, len(text) - 1)].split("\n")[0], [first_ms])
            for at, key in enumerate(typed.keys):
                client.change(uri, at + 2, [(line, column + at, line, column + at, key)])
                answer, time_ms = client.ask("textDocument/inlineCompletion", client.place(uri, line, column + at + 1))
                typed.times_ms.append(time_ms)
                left = _left(answer, column + at + 1)
                if keys is None and text[at + 1 :].strip() and left != text[at + 1 :]:
                    raise RuntimeError(f"After {head + typed.keys[: at + 1]!r} came {left!r}, not {text[at + 1 :]!r}.")
            places.append(typed)
    return places


def _left(answer: Mapping[str, Any], column: int) -> str:
    """What the suggestion adds behind the cursor; its range may begin before it. Empty where there is none."""
    if not answer["items"]:
        return ""
    item = answer["items"][0]
    text: str = item["insertText"]
    return text[column - item["range"]["start"]["character"] :]


def run(quick: bool = False) -> dict[str, Any]:
    """Figures; skipped without a model. RuntimeError where an answer does not go on with what is typed."""
    try:
        model = find_model(data_folder())
    except ModelMissing as error:
        return {"skipped": str(error)}
    heads = HEADS[:4] if quick else HEADS
    with tempfile.TemporaryDirectory() as name:
        reused = _typing(Path(name) / "with", model, {}, [(head, None) for head in heads])
        plain = _typing(Path(name) / "without", model, {"reuse": False}, [(typed.head, typed.keys) for typed in reused])
    through = sorted(time_ms for typed in reused for time_ms in typed.times_ms[1:])
    decoded = [time_ms for typed in plain for time_ms in typed.times_ms[1:]]
    return {
        "load_1m": os.getloadavg()[0],
        "places": len(heads),
        "keys": len(through),
        "typed_through_p50_ms": statistics.median(through),
        "typed_through_p99_ms": through[min(len(through) - 1, int(0.99 * len(through)))],
        "target_p99_ms": TARGET_P99_MS,
        "without_reuse_p50_ms": statistics.median(decoded),
        "speedup_p50": statistics.median(decoded) / statistics.median(through),
    }


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
