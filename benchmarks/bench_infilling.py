"""What boundary handling and needed names are worth: HumanEval single-line infilling with the embedded model, with and without.

Data: the single-line benchmark of Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle"
(openai/human-eval-infilling, MIT): 1,033 programs with one line missing. Tasks that an empty line solves are left out and
counted. A fixed shuffle picks the first N, for the variant with needed names the first M. Only the text before the place is
shown to the model (template `plain`), decoded greedily, one line. Solved means: the program with the line in it passes the
task's own tests.

The variant with needed names finds its prompt in the cache, as while typing; promised: a third solved, 250 ms in the median.

A further part measures a place at a word: on the same tasks, the place is put before, inside and after one word of the missing
line, with and without healing of begun words, and the share of exactly completed lines is compared.

The programs are judged by `coderl_trainer.judge`, which says what it covers and what it does not. A judge that fails raises.

Run: python benchmarks/bench_infilling.py [N [M]] (all, M = 1033, takes half an hour on two cores); data under
$CODERL_SHARED_DATA, model by `coderl models install`.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import random
import re
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, Completion, complete
from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model
from coderl_generator.prompt import Place
from coderl_generator.registry import backend
from coderl_generator.tasks import InfillTask, read_tasks
from coderl_store.home import home
from coderl_trainer.judge import Judge, JudgeLimits, Ungraded, open_judge
from coderl_trainer.types import Task, TaskKind

SEED = 20221
WORD_TASKS = 100
LIMITS = JudgeLimits(call_cpu_s=5.0, call_wall_s=15.0, program_cpu_s=6, program_wall_s=30.0)


def data_file() -> Path:
    """The benchmark's file, in the folder `CODERL_SHARED_DATA` names (default: `shared/data` beside the repository)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("CODERL_SHARED_DATA") or beside)
    return root / "tasks" / "humaneval-infilling" / "data" / "HumanEval-SingleLineInfilling.jsonl.gz"


def tasks(limit: int) -> list[InfillTask]:
    """The first `limit` tasks of the fixed shuffle."""
    rows = read_tasks(data_file())
    random.Random(SEED).shuffle(rows)
    return rows[:limit]


@functools.cache
def judge() -> Judge:
    """The judge of this process."""
    opened = open_judge(limits=LIMITS)
    atexit.register(opened.close)
    return opened


def passes(task: InfillTask, middle: str) -> bool:
    """Whether the program with `middle` in the gap passes the task's tests."""
    judged = judge().judge(
        Task(
            id=task.id,
            kind=TaskKind.INFILL,
            prompt=task.prefix,
            suffix=task.suffix,
            visible_tests=(task.tests,),
            entry_point=task.entry_point,
            reference=task.answer,
        ),
        middle,
    )
    if isinstance(judged, Ungraded):
        raise RuntimeError(f"{task.id} cannot be judged: {judged.reason}")
    return judged.passed


async def _complete_all(
    model: Backend, rows: list[InfillTask], *, trim: bool = True, need_name: bool = False, warm: bool = False
) -> list[Completion]:
    budget = Budget(max_tokens=64, timeout_s=120.0, trim=trim, need_name=need_name)
    done = []
    for row in rows:
        if warm:
            await complete(model, row.place, replace(budget, max_tokens=1), time.monotonic)
        done.append(await complete(model, row.place, budget, time.monotonic))
    return done


async def _around_a_word(model: Backend, rows: list[InfillTask], heal: bool) -> dict[str, Any]:
    """Share of lines completed exactly from before, inside and after a word of the missing line."""
    hits = {"before": 0, "inside": 0, "after": 0}
    asked = 0
    for row in rows:
        line = (row.answer or "").rstrip()
        words = [match for match in re.finditer(r"[A-Za-z_]{4,}", line) if match.end() < len(line)]
        if not words:
            continue
        asked += 1
        word = words[len(words) // 2]
        for name, at in (("before", word.start()), ("inside", word.start() + len(word.group()) // 2), ("after", word.end())):
            place = Place(row.prefix + line[:at], row.suffix, row.language)
            done = await complete(model, place, Budget(max_tokens=64, timeout_s=120.0, heal_word=heal), time.monotonic)
            hits[name] += done.text == line[at:]
    return {"lines": asked} | {f"exact_from_{name}": count / asked for name, count in hits.items() if asked}


def _figures(rows: list[InfillTask], completions: list[Completion]) -> dict[str, Any]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        solved = list(pool.map(lambda pair: passes(pair[0], pair[1].text), zip(rows, completions, strict=True)))
    exact = [row.is_exactly(done.text) for row, done in zip(rows, completions, strict=True)]
    return {
        "solved": sum(solved) / len(rows),
        "exact_match": sum(exact) / len(rows),
        "empty": sum(not done.text for done in completions) / len(rows),
        "mismatch": sum(done.reason == "mismatch" for done in completions) / len(rows),
        "latency_ms_p50": statistics.median(done.latency_ms for done in completions),
    }


async def _run(limit: int, named: int) -> dict[str, Any]:
    drawn = tasks(named)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        trivial = list(pool.map(lambda row: passes(row, ""), drawn))
    whole = [row for row, empty_solves in zip(drawn, trivial, strict=True) if not empty_solves]
    rows = whole[: limit - sum(trivial[:limit])]
    model = backend("llamacpp", model_path=find_model(home()))
    try:
        with_names = await _complete_all(model, whole, need_name=True, warm=True)
        with_boundary = await _complete_all(model, rows)
        without = await _complete_all(model, rows, trim=False)
        healed = await _around_a_word(model, rows[:WORD_TASKS], heal=True)
        unhealed = await _around_a_word(model, rows[:WORD_TASKS], heal=False)
    finally:
        await model.aclose()
    return {
        "tasks": len(whole),
        "left_out_as_trivial": len(drawn) - len(whole),
        "tasks_of_all_variants": len(rows),
        "seed": SEED,
        "generator": model.generator_id,
        "with_needed_names": _figures(whole, with_names),
        "with_needed_names_on_the_tasks_of_all": _figures(rows, with_names[: len(rows)]),
        "with_boundary_handling": _figures(rows, with_boundary),
        "without_boundary_handling": _figures(rows, without),
        "around_a_word_with_healing": healed,
        "around_a_word_without_healing": unhealed,
    }


def run(limit: int = 100, named: int = 300, *, quick: bool = False) -> dict[str, Any]:
    """All variants on the same first tasks in one run, that with needed names on more besides.

    Shares lie in [0, 1], latencies are milliseconds."""
    if not data_file().is_file():
        return {"skipped": f"{data_file().name} is not there: set CODERL_SHARED_DATA"}
    try:
        return asyncio.run(_run(*((6, 6) if quick else (limit, max(limit, named)))))
    except ModelMissing as error:
        return {"skipped": str(error)}


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:])), indent=2))
