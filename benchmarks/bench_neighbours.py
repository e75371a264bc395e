"""What text from open neighbours is worth: lines of Python's standard library that use a name of another, open file.

Pairs (A, B) of modules of the running Python, B with `from A import name`, the name a function or class of A. The tasks are
lines of B that use such a name inside a function: at most three per pair, drawn by a fixed shuffle. Each line is completed from
two places, just before the name and just behind it and its bracket, by the embedded model, greedily, one line; a hit is the
exact rest of the line. Both files are open, as in an editor, and the text from elsewhere is what the server itself would choose
(`coderl_server.surroundings`), under several budgets; 0 is the baseline.

What it does not say: the model has seen the standard library in training, so the shares are higher than on code of one's own
and the difference is, if anything, smaller. Two places of one line are not independent; the interval is over lines.

Run: python benchmarks/bench_neighbours.py [N [BUDGET …]]; model by `coderl models install`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, complete
from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model
from coderl_generator.prompt import Place as PromptPlace
from coderl_generator.registry import backend
from coderl_server.documents import DocumentStore
from coderl_server.outline import definitions
from coderl_server.positions import Encoding
from coderl_server.settings import Settings
from coderl_server.surroundings import MOST_CHARS, Surroundings, shown_path
from coderl_server.touched import Touched
from coderl_store.home import home

SEED = 41
BUDGETS = (0, 500, 1000, 2000)
PER_PAIR = 3
WINDOW_CHARS = 6000
PREFIX_CHARS, ANCHOR_CHARS = 1500, 500
"""Half of the server's window, so that a run ends within the hour on two busy cores."""
_FROM = re.compile(r"^from (\.?[\w.]+) import \(?([\w, \n]+)\)?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Task:
    """A line of `file` that uses `name` of `neighbour`."""

    file: Path
    neighbour: Path
    name: str
    line: int
    starts: int
    """Column of the name."""


def tasks(limit: int) -> list[Task]:
    """The first `limit` of a fixed shuffle."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(root.rglob("*.py")) if not {"test", "tests", "site-packages", "idlelib"} & set(path.parts)]
    found = [task for path in files if path.stat().st_size < MOST_CHARS for task in _of_file(path, root)]
    random.Random(SEED).shuffle(found)
    return found[:limit]


def _of_file(path: Path, root: Path) -> Iterator[Task]:
    text = path.read_text(encoding="utf-8", errors="replace")
    for module, names in _FROM.findall(text):
        base = path.parent if module.startswith(".") else root
        neighbour = base / (module.lstrip(".").replace(".", "/") + ".py")
        if neighbour.is_file() and neighbour != path and neighbour.stat().st_size < MOST_CHARS:
            wanted = {name.strip() for name in names.split(",")}
            defined = {one.name for one in definitions("python", neighbour.read_text(encoding="utf-8", errors="replace"))}
            uses = list(_uses(text, wanted & defined))
            random.Random(f"{SEED}{path.name}{module}").shuffle(uses)
            for name, line, starts in uses[:PER_PAIR]:
                yield Task(path, neighbour, name, line, starts)


def _uses(text: str, names: set[str]) -> Iterator[tuple[str, int, int]]:
    for number, line in enumerate(text.split("\n")):
        for name in sorted(names):
            match = re.search(rf"(?<![\w.]){re.escape(name)}\((?=.*\w.*)", line)
            if match and line[:1].isspace() and not line.lstrip().startswith(("#", "class ", "def ", '"')):
                yield name, number, match.start()


async def _complete(model: Backend, task: Task, budget: Budget) -> tuple[list[bool], float, int]:
    """Hits before and behind the name, the time of the first completion, which reads the prompt, and characters of context."""
    documents = DocumentStore(1_000_000)
    text = task.file.read_text(encoding="utf-8", errors="replace")
    documents.open(task.neighbour.as_uri(), "python", 1, task.neighbour.read_text(encoding="utf-8", errors="replace"))
    document = documents.open(task.file.as_uri(), "python", 1, text)
    # The line is still to be written: what stands behind it stays, as when something is inserted.
    line = text.split("\n")[task.line]
    settings = Settings(context_ms=5000.0)
    around = Surroundings(documents, Touched(), time.monotonic)
    hits: list[bool] = []
    took_ms, chars = 0.0, 0
    for at in (task.starts, task.starts + len(task.name) + 1):
        place = document.snapshot(task.line, at, Encoding.UTF32, WINDOW_CHARS, 2000)
        behind = place.suffix[len(line) - at :]
        snippets = around.snippets(place, settings, "plain", budget)
        prompt_place = PromptPlace(place.prefix, behind, "python", shown_path(place.uri), snippets)
        done = await complete(model, prompt_place, budget, time.monotonic)
        hits.append(done.text.rstrip() == line[at:].rstrip())
        if not took_ms:
            took_ms, chars = done.latency_ms, sum(len(one.text) for one in snippets)
    return hits, took_ms, chars


def _gathering(documents: int = 20) -> dict[str, float]:
    """What choosing costs: CPU milliseconds with `documents` other files open, the first time, with the next key, and after a
    jump."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.glob("*.py") if 10_000 < path.stat().st_size < 60_000)[: documents + 1]
    store = DocumentStore(1_000_000)
    for path in files:
        store.open(path.as_uri(), "python", 1, path.read_text(encoding="utf-8", errors="replace"))
    document = store.all()[-1]
    around = Surroundings(store, Touched(), lambda: 0.0)
    figures: dict[str, float] = {"documents": float(len(files) - 1), "characters": float(sum(one.chars for one in store.all()))}
    settings = Settings()
    for name, line in (("first_ms", 200), ("next_key_ms", 200), ("jump_ms", 100)):
        place = document.snapshot(line, 4, Encoding.UTF32, WINDOW_CHARS, 2000)
        started_s = time.process_time()
        around.snippets(place, settings, "plain", Budget(max_context_chars=1000))
        figures[name] = (time.process_time() - started_s) * 1000
    return figures


async def _run(limit: int, budgets: tuple[int, ...]) -> dict[str, Any]:
    drawn = tasks(limit)
    model = backend("llamacpp", model_path=find_model(home()), threads=1)  # two wait for each other on busy cores
    results: dict[int, list[tuple[list[bool], float, int]]] = {chars: [] for chars in budgets}
    try:
        for number, task in enumerate(drawn):
            for chars in budgets:
                budget = Budget(
                    max_tokens=32,
                    timeout_s=300.0,
                    max_prefix_chars=PREFIX_CHARS,
                    anchor_chars=ANCHOR_CHARS,
                    max_context_chars=chars,
                )
                results[chars].append(await _complete(model, task, budget))
            hits = {chars: sum(sum(row[0]) for row in rows) for chars, rows in results.items()}
            print(f"{number + 1} of {len(drawn)} lines, hits {hits}", file=sys.stderr)
    finally:
        await model.aclose()
    return {
        "lines": len(drawn),
        "seed": SEED,
        "generator": model.generator_id,
        "choosing": _gathering(),
        "budgets": {str(chars): _figures(rows, results[budgets[0]]) for chars, rows in results.items()},
    }


def _figures(rows: list[tuple[list[bool], float, int]], baseline: list[tuple[list[bool], float, int]]) -> dict[str, Any]:
    """Shares in [0, 1]; the gain over the baseline in hits per place, with a paired bootstrap interval over lines (95 %)."""
    gains = [sum(a[0]) - sum(b[0]) for a, b in zip(rows, baseline, strict=True)]
    rng = random.Random(SEED)
    drawn = sorted(sum(rng.choices(gains, k=len(gains))) / (2 * len(gains)) for _ in range(2000)) if gains else [0.0]
    return {
        "exact_before_the_name": sum(row[0][0] for row in rows) / max(1, len(rows)),
        "exact_behind_it": sum(row[0][1] for row in rows) / max(1, len(rows)),
        "gain": sum(gains) / max(1, 2 * len(gains)),
        "gain_low": drawn[int(0.025 * len(drawn))],
        "gain_high": drawn[int(0.975 * len(drawn))],
        "won": sum(gain > 0 for gain in gains),
        "lost": sum(gain < 0 for gain in gains),
        "context_chars_mean": statistics.fmean(row[2] for row in rows) if rows else 0.0,
        "cold_latency_ms_p50": statistics.median(row[1] for row in rows) if rows else 0.0,
    }


def measured(limit: int = 30, budgets: tuple[int, ...] = BUDGETS) -> dict[str, Any]:
    """All budgets on the same lines in one run; the first budget is the baseline of the gains."""
    try:
        return asyncio.run(_run(limit, budgets))
    except ModelMissing as error:
        return {"skipped": str(error)}


def run(quick: bool = False) -> dict[str, Any]:
    """Not a part of `make bench`."""
    return {"skipped": "half an hour of cold prompts: run it by its own name, python benchmarks/bench_neighbours.py"}


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    print(json.dumps(measured(*numbers[:1], **({"budgets": tuple(numbers[1:])} if numbers[1:] else {})), indent=2))
