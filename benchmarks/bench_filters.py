"""What the filters at the end of a suggestion and the end by syntax are worth, and that they do no harm.

Three parts, with the embedded model, decoded greedily from the text before the place alone:

- `lines`: HumanEval single-line infilling, the tasks of `bench_infilling.py`;
- `spans`: HumanEval random-span infilling (Bavarian et al. 2022), the spans within one line: mostly the place has text behind
  it on its line, where closing brackets and the like stand already;
- `bodies`: the beginnings of bodies in the same programs, as blocks of at most 64 tokens, with and without the rule that ends
  them by syntax.

The baseline is the same generation without filters (the filters are pure, so the same tokens serve both), or the same request
without the rule. Promised: no line that is solved without the filters is lost with them. Of the spans some are a single sign
or two, which a suggestion may not be; what is lost there is counted.

Run: python benchmarks/run.py --only filters, or python benchmarks/bench_filters.py [N]; data and model as for
`bench_infilling.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_infilling import SEED, data_file, passes, tasks

from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, complete
from coderl_generator.errors import ModelMissing
from coderl_generator.extract import Mode
from coderl_generator.models import find_model
from coderl_generator.postfilter import filtered
from coderl_generator.prompt import Place
from coderl_generator.registry import backend
from coderl_server.documents import Document
from coderl_server.positions import Encoding
from coderl_server.syntax_end import end_rules
from coderl_store.home import home

BODIES = 24
"""How many bodies are begun."""


def spans(limit: int) -> list[dict[str, str]]:
    """The first `limit` random spans within one line, of a fixed shuffle."""
    file = data_file().with_name("HumanEval-RandomSpanInfillingLight.jsonl.gz")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows: list[dict[str, str]] = [json.loads(line) for line in lines]
    random.Random(SEED).shuffle(rows)
    return [row for row in rows if "\n" not in row["canonical_solution"]][:limit]


async def _infilled(model: Backend, rows: Sequence[dict[str, str]], glue: str) -> dict[str, Any]:
    """`glue`: what lies between the text and the task's suffix, beyond what is shown."""
    pairs, reasons = [], Counter[str]()
    for row in rows:
        place = Place(row["prompt"], glue + row["suffix"], "python")
        raw = await complete(model, place, Budget(max_tokens=64, timeout_s=120.0, filters=False), time.monotonic)
        left = filtered(raw.text, place)
        text = left.text if place.line_after.strip() else left.text.rstrip()
        if left.text != raw.text:
            reasons["repaired" if left.reason is None else left.reason.value] += 1
        pairs.append((row, raw.text, text))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        solved = list(pool.map(lambda pair: (passes(pair[0], pair[1] + glue), passes(pair[0], pair[2] + glue)), pairs))
    return {
        "tasks": len(rows),
        "solved_without_filters": sum(before for before, _ in solved) / len(rows),
        "solved_with_filters": sum(after for _, after in solved) / len(rows),
        "lost": sum(before and not after for before, after in solved),
        "changed": dict(reasons),
    }


async def _bodies(model: Backend, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    tokens = {"without": 0, "with": 0}
    reasons: Counter[str] = Counter()
    same = asked = 0
    for row in rows:
        lines = (row["prompt"] + row["canonical_solution"] + "\n" + row["suffix"]).split("\n")
        heads = [number for number, line in enumerate(lines[:-1]) if line.rstrip().endswith(":") and line.strip()[0].isalpha()]
        if not heads:
            continue
        head = heads[-1]
        indent = " " * (len(lines[head]) - len(lines[head].lstrip()) + 4)
        document = Document("file:///task.py", "python", 1, "\n".join([*lines[: head + 1], indent]))
        place = document.snapshot(head + 1, len(indent), Encoding.UTF32, 6000, 2000)
        budget = Budget(max_tokens=64, timeout_s=120.0, mode=Mode.BLOCK)
        texts = {}
        for name, rules in (("without", ()), ("with", end_rules(place, Mode.BLOCK))):
            got = await complete(model, Place(place.prefix, "", "python"), budget, time.monotonic, rules=rules)
            tokens[name] += got.tokens_used
            texts[name] = got.text
        reasons[got.reason.value] += 1
        asked += 1
        same += texts["with"] == texts["without"]
    return {
        "bodies": asked,
        "tokens_without_rule": tokens["without"],
        "tokens_with_rule": tokens["with"],
        "same_text": same / asked,
        "ended_by": dict(reasons),
    }


async def _run(limit: int) -> dict[str, Any]:
    drawn = tasks(limit)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        trivial = list(pool.map(lambda row: passes(row, ""), drawn))
    rows = [row for row, empty_solves in zip(drawn, trivial, strict=True) if not empty_solves]
    model = backend("llamacpp", model_path=find_model(home()))
    try:
        lines = await _infilled(model, rows, "\n")
        if lines["lost"]:
            raise AssertionError(f"{lines['lost']} lines that were solved without the filters are not solved with them.")
        return {
            "generator": model.generator_id,
            "lines": lines,
            "spans": await _infilled(model, spans(limit), ""),
            "bodies": await _bodies(model, rows[: min(BODIES, limit)]),
        }
    finally:
        await model.aclose()


def measured(limit: int = 60) -> dict[str, Any]:
    """All three parts. Shares lie in [0, 1]. Raises `AssertionError` where a filter lost a solved task."""
    if not data_file().is_file():
        return {"skipped": f"{data_file().name} is not there: set CODERL_SHARED_DATA"}
    try:
        return asyncio.run(_run(limit))
    except ModelMissing as error:
        return {"skipped": str(error)}


def run(quick: bool = False) -> dict[str, Any]:
    """Not a part of `make bench`."""
    return {"skipped": "half an hour of decoding: run it by its own name, python benchmarks/bench_filters.py"}


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]) if len(sys.argv) > 1 else 60), indent=2))
