"""What choosing among several candidates is worth, and what it costs: HumanEval single-line infilling, embedded model.

Tasks, judge and the tasks left out are those of bench_infilling. Per task one pool is made and kept in a file (a second run
goes on where the first stopped): the greedy line and forks off it; for the first `SIDE` tasks samples too, and the greedy line
of prompts that hold the text after the place in some form. Then ways to choose from the pool are compared. What has parameters
is fitted on the tasks of even base problems and reported on those of odd ones, so that no problem is on both sides.

Cost: decoded tokens, and milliseconds of the same requests in the same run, both over those of the greedy line alone with its
prompt in the cache. The other prompts are shown with the tokens of their greedy line only; their prompts are longer.

Run: python benchmarks/bench_candidates.py [N [POOL]]; data under $CODERL_SHARED_DATA, model by `coderl models install`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, Completion, complete
from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model
from coderl_generator.prompt import Place
from coderl_generator.registry import backend
from coderl_generator.several import agreement, following, forks
from coderl_generator.tasks import InfillTask
from coderl_store.home import home

FORKS, SAMPLES, AGREEMENT_TOKENS, SIDE = 4, 2, 3, 60
SAMPLE_TEMPERATURE = 0.6
PLAIN = Budget(max_tokens=48, timeout_s=300.0, alternatives=20, agreement_tokens=AGREEMENT_TOKENS)
Row = dict[str, Any]
Entry = dict[str, Any]


def _infilling() -> Any:
    spec = importlib.util.spec_from_file_location("bench_infilling", Path(__file__).with_name("bench_infilling.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def forms(task: InfillTask) -> dict[str, str]:
    """Texts to put before the place's, by name: ways to show a model that only reads on what comes after the place."""
    after = task.suffix.strip("\n")
    comment = "".join(f"# {line}\n" if line.strip() else "#\n" for line in after.split("\n"))
    return {
        "after_as_comment": f"# The code after the gap:\n{comment}\n",
        "after_as_code": f"{after}\n\n\n",
        "whole_with_gap": f"{task.prefix}<gap>\n{after}\n\n\n",
        "instruction": (
            f"<|im_start|>user\nComplete the missing line:\n```python\n{task.prefix}# missing line\n{after}\n```<|im_end|>\n"
            "<|im_start|>assistant\n```python\n"
        ),
    }


async def _entry(kind: str, model: Backend, task: InfillTask, done: Completion, ms: float) -> Entry:
    started_s = time.perf_counter()
    follows = following(task.place)
    agrees: Sequence[float] | None = ()
    if follows and done.text.strip() and kind in ("greedy", "fork"):
        agrees = await agreement(model, task.place, done, follows, PLAIN)
    return {
        "kind": kind,
        "text": done.text,
        "logprob": sum(done.logprobs),
        "length": len(done.logprobs),
        "agreement": None if agrees is None else [round(value, 4) for value in agrees],
        "tokens": done.tokens_used,
        "ms": round(ms, 1),
        "agreement_ms": round((time.perf_counter() - started_s) * 1000, 1),
    }


async def _ask(model: Backend, place: Place, budget: Budget, head: Any = ()) -> tuple[Completion, float]:
    started_s = time.perf_counter()
    done = await complete(model, place, budget, time.monotonic, head=head)
    return done, (time.perf_counter() - started_s) * 1000


async def _pool(model: Backend, task: InfillTask) -> list[Entry]:
    await _ask(model, task.place, replace(PLAIN, max_tokens=1))  # reads the prompt
    greedy, ms = await _ask(model, task.place, PLAIN)
    entries = [await _entry("greedy", model, task, greedy, ms)]
    for head in forks(greedy.decoded, greedy.trimmed, FORKS):
        entries.append(await _entry("fork", model, task, *(await _ask(model, task.place, PLAIN, head))))
    return entries


async def _side(model: Backend, task: InfillTask) -> list[Entry]:
    entries = []
    for seed in range(SAMPLES):
        sampled = replace(PLAIN, temperature=SAMPLE_TEMPERATURE, seed=seed, alternatives=0)
        entries.append(await _entry("sample", model, task, *(await _ask(model, task.place, sampled))))
    for name, before in forms(task).items():
        place = replace(task.place, prefix=before + task.prefix)
        entries.append(await _entry(name, model, task, *(await _ask(model, place, PLAIN))))
    return entries


def _judged(task: InfillTask, entries: list[Entry], passes: Callable[[InfillTask, str], bool]) -> list[Entry]:
    verdicts = {text: passes(task, text) for text in {entry["text"] for entry in entries}}
    return [entry | {"solved": verdicts[entry["text"]]} for entry in entries]


def _kept(file: Path) -> dict[str, Row]:
    """The rows of a pool, by task; of two of a task the later one."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {row["id"]: row for row in map(json.loads, lines)}


async def _collect(limit: int, file: Path, threads: int | None) -> list[Row]:
    infilling, rows = _infilling(), _kept(file)
    tasks = infilling.tasks(limit)
    model = backend("llamacpp", model_path=find_model(home()), threads=threads)

    def keep(row: Row) -> None:
        rows[row["id"]] = row
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")

    try:
        for task in tasks:
            if task.id not in rows:
                trivial = infilling.passes(task, "")
                pool = [] if trivial else _judged(task, await _pool(model, task), infilling.passes)
                keep({"id": task.id, "group": task.group, "trivial": trivial, "pool": pool, "side": None})
        for task in tasks[:SIDE]:
            row = rows[task.id]
            if row["side"] is None and not row["trivial"]:
                keep(row | {"side": _judged(task, await _side(model, task), infilling.passes)})
    finally:
        await model.aclose()
    return [rows[task.id] for task in tasks if not rows[task.id]["trivial"]]


def chosen(pool: Sequence[Entry], count: int, tokens: int, weight: float, sure: float) -> tuple[Entry, list[Entry]]:
    """The best of the greedy line and `count` - 1 forks, and those that had to be made for it."""
    greedy = pool[0]
    made = [greedy, *[entry for entry in pool if entry["kind"] == "fork"][: count - 1]]
    if greedy["text"].strip() and greedy["logprob"] >= sure:
        return greedy, [greedy]
    worth = [entry for entry in made if entry["text"].strip()] or [greedy]
    agrees = tokens > 0 and all(entry["agreement"] is not None for entry in worth)

    def score(entry: Entry) -> float:
        return float(entry["logprob"] + (weight * sum(entry["agreement"][:tokens]) if agrees else 0.0))

    return max(worth, key=score), made


def figures(rows: Sequence[Row], pick: Callable[[Sequence[Entry]], tuple[Entry, list[Entry]]], tokens: int = 0) -> Row:
    """Share solved, and the cost over that of the greedy line."""
    solved = alone = 0
    cost_tokens = cost_ms = greedy_tokens = greedy_ms = 0.0
    for row in rows:
        pool = row["pool"]
        best, made = pick(pool)
        steps = max(0, tokens - 1) if len(made) > 1 else 0
        share = steps / (AGREEMENT_TOKENS - 1)  # the first token costs nothing
        solved += best["solved"]
        alone += len(made) == 1
        cost_tokens += sum(entry["tokens"] + steps for entry in made)
        cost_ms += sum(entry["ms"] + share * entry["agreement_ms"] for entry in made)
        greedy_tokens += pool[0]["tokens"]
        greedy_ms += pool[0]["ms"]
    return {
        "solved": round(solved / len(rows), 4),
        "tokens_over_greedy": round(cost_tokens / greedy_tokens, 2),
        "ms_over_greedy": round(cost_ms / greedy_ms, 2),
        "greedy_alone": round(alone / len(rows), 3),
    }


def _fitted(rows: Sequence[Row], count: int, sure: float) -> tuple[int, float]:
    """Tokens and weight of the agreement that solve most; of equals the cheapest, then the weight nearest to 1."""
    grid = itertools.product(range(AGREEMENT_TOKENS + 1), (0.25, 0.5, 1.0, 2.0))

    def worth(setting: tuple[int, float]) -> tuple[int, int, float]:
        solved = sum(chosen(row["pool"], count, *setting, sure)[0]["solved"] for row in rows)
        return solved, -setting[0], -abs(setting[1] - 1.0)

    return max(grid, key=worth)


def compared(rows: Sequence[Row]) -> Row:
    """Every way to choose. `fitted` on even base problems, shown on odd ones."""
    even = [row for row in rows if int(row["group"].rpartition("/")[2]) % 2 == 0]
    odd = [row for row in rows if row not in even]

    def greedy(pool: Sequence[Entry]) -> tuple[Entry, list[Entry]]:
        return pool[0], [pool[0]]

    def any_of(pool: Sequence[Entry]) -> tuple[Entry, list[Entry]]:
        return next((entry for entry in pool if entry["solved"]), pool[0]), list(pool)

    out: Row = {"tasks": len(rows), "tasks_odd": len(odd)}
    out["side"] = _beside([row for row in rows if row["side"]])
    out["all"] = {"greedy": figures(rows, greedy), "forks_if_the_judge_chose": figures(rows, any_of)}
    for count in (2, 3, 4, 5):
        for tokens in range(AGREEMENT_TOKENS + 1):
            name = f"{count}_candidates_{tokens}_agreement_tokens"
            out["all"][name] = figures(rows, lambda pool, c=count, t=tokens: chosen(pool, c, t, 1.0, 0.0), tokens)
    for count, sure in itertools.product((3, 5), (-1.0, -2.0, -3.0)):
        name = f"{count}_candidates_1_agreement_tokens_sure_{sure:g}"
        out["all"][name] = figures(rows, lambda pool, c=count, s=sure: chosen(pool, c, 1, 1.0, s), 1)
    out["odd"] = {"greedy": figures(odd, greedy)} if odd and even else {}
    for count, sure in itertools.product((2, 3, 4, 5), (0.0, -1.0, -2.0, -3.0)) if odd and even else ():
        tokens, weight = _fitted(even, count, sure)
        name = f"{count}_candidates_sure_{sure:g}"
        shown = figures(odd, lambda pool, c=count, t=tokens, w=weight, s=sure: chosen(pool, c, t, w, s), tokens)
        out["odd"][name] = {"fitted_tokens": tokens, "fitted_weight": weight, **shown}
    return out


def _beside(rows: Sequence[Row]) -> Row:
    """Samples, and other prompts, on the tasks that have them: shares solved."""
    if not rows:
        return {}

    def share(pick: Callable[[Row], bool]) -> float:
        return round(sum(map(pick, rows)) / len(rows), 4)

    def by_mean(row: Row) -> bool:
        made = [row["pool"][0], *(entry for entry in row["side"] if entry["kind"] == "sample")]
        worth = [entry for entry in made if entry["text"].strip()] or made[:1]
        return bool(max(worth, key=lambda entry: entry["logprob"] / max(1, entry["length"]))["solved"])

    out: Row = {"tasks": len(rows), "greedy": share(lambda row: row["pool"][0]["solved"])}
    out["samples_by_mean_logprob"] = share(by_mean)
    for name in ("after_as_comment", "after_as_code", "whole_with_gap", "instruction"):
        out[name] = share(lambda row, kind=name: next(one for one in row["side"] if one["kind"] == kind)["solved"])
    return out


def measured(limit: int = 120, *, pool: Path | None = None, threads: int | None = None) -> dict[str, Any]:
    """Make or read the pool and compare. Shares lie in [0, 1]."""
    if not _infilling().data_file().is_file():
        return {"skipped": f"{_infilling().data_file().name} is not there: set CODERL_SHARED_DATA"}
    with tempfile.TemporaryDirectory() as folder:
        file = pool or Path(folder) / "pool.jsonl"
        try:
            return compared(asyncio.run(_collect(limit, file, threads)))
        except ModelMissing as error:
            return {"skipped": str(error)}


def run(quick: bool = False) -> dict[str, Any]:
    """Not a part of `make bench`."""
    return {"skipped": "an hour of decoding: run it by its own name, python benchmarks/bench_candidates.py"}


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    where = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    print(json.dumps(measured(count, pool=where, threads=int(os.environ.get("THREADS", "0")) or None), indent=2))
