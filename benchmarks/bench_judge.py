"""What judging costs: programs per second in the jail, next to an unjailed `python -I`, and all references of MBPP.

The baseline runs the same program with its test in `python -I`, as many at a time, and looks at the exit status only: what a
grader without a jail would do, and what any program can fool. Rounds alternate, so that a busy machine slows both.

Promised: at most 1.6 times the baseline for a test that says which literal a call returns, as most do (other tests are compared
in a second jail; what they cost is told); on two idle cores at least 100 programs a second, and the references of MBPP in at
most 15 seconds. The absolute ones are held only where the machine was idle at the start (`idle_at_start`).

Data under $CODERL_SHARED_DATA; where it is absent the part on MBPP is left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coderl_trainer.errors import JailMissing
from coderl_trainer.judge import Judge, JudgeLimits, Judgement, open_judge
from coderl_trainer.tasks import read_tasks
from coderl_trainer.types import Task, TaskKind

PROGRAM, TEST = "def add(a, b):\n    return a + b\n", "assert add(2, 3) == 5"
COMPARED = Task("compared", TaskKind.FUNCTION, "p", (TEST,), stem="", setup="pass", entry_point="add", reference=PROGRAM)
"""The same, compared by the process of the tests: what a test with a setup, a tolerance or a loop costs."""
TRIVIAL = Task("trivial", TaskKind.FUNCTION, "p", (TEST,), stem="", entry_point="add", reference=PROGRAM)
LIMITS = JudgeLimits(call_cpu_s=6.0, call_wall_s=60.0, program_cpu_s=20, program_wall_s=120.0)
"""Room for a busy machine: one reference of MBPP needs two seconds."""
MOST_OVERHEAD, LEAST_PER_S, MOST_MBPP_S = 1.6, 100.0, 15.0


def mbpp_file() -> Path:
    """The data set, in the folder `CODERL_SHARED_DATA` names (default: `shared/data` beside the repository)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("CODERL_SHARED_DATA") or beside) / "tasks" / "mbpp" / "mbpp.jsonl"


def _unjailed(count: int, parallel: int) -> float:
    """Seconds for `count` programs."""
    command = [sys.executable, "-I", "-c", PROGRAM + TEST]
    start_s = time.perf_counter()
    with ThreadPoolExecutor(parallel) as pool:
        codes = list(pool.map(lambda _: subprocess.run(command, check=False).returncode, range(count)))
    assert not any(codes)
    return time.perf_counter() - start_s


def _jailed(judge: Judge, count: int, task: Task = TRIVIAL) -> float:
    start_s = time.perf_counter()
    answers = judge.judge_all([(task, PROGRAM)] * count)
    took_s = time.perf_counter() - start_s
    assert all(isinstance(answer, Judgement) and answer.passed for answer in answers), answers
    return took_s


def _references(judge: Judge, limit: int | None) -> dict[str, Any]:
    if not mbpp_file().is_file():
        return {"left_out": f"{mbpp_file().name} is not there: set CODERL_SHARED_DATA"}
    tasks = read_tasks(mbpp_file())[:limit]
    start_s = time.perf_counter()
    answers = judge.judge_all([(task, task.reference or "") for task in tasks])
    took_s = time.perf_counter() - start_s
    judged = [answer for answer in answers if isinstance(answer, Judgement)]
    bad = {
        task.id: "fails" if isinstance(answer, Judgement) else answer.reason
        for task, answer in zip(tasks, answers, strict=True)
        if not (isinstance(answer, Judgement) and answer.solved)
    }
    return {
        "references": len(tasks),
        "seconds": took_s,
        "per_s": len(tasks) / took_s,
        "passed": len(tasks) - len(bad),
        "not_passed": bad,
        "program_cpu_ms_p50": statistics.median(answer.cpu_ms or 0.0 for answer in judged),
    }


def run(*, quick: bool = False) -> dict[str, Any]:
    """Rates are programs per second; `overhead` is jailed over unjailed time of the same work."""
    parallel = os.cpu_count() or 1
    rounds, count = (2, 20) if quick else (5, 100)
    idle = os.getloadavg()[0] < 0.5 * parallel
    try:
        judge = open_judge(limits=LIMITS, parallel=parallel)
    except JailMissing as error:
        return {"skipped": str(error)}
    with judge:
        _jailed(judge, parallel)
        _jailed(judge, parallel, COMPARED)
        jailed, unjailed, compared = [], [], []
        for _ in range(rounds):
            unjailed.append(_unjailed(count, parallel))
            jailed.append(_jailed(judge, count))
            compared.append(_jailed(judge, count, COMPARED))
        figures: dict[str, Any] = {
            "parallel": parallel,
            "idle_at_start": idle,
            "jailed_per_s": count / statistics.median(jailed),
            "unjailed_per_s": count / statistics.median(unjailed),
            "overhead": sum(jailed) / sum(unjailed),
            "overhead_compared_in_a_jail": sum(compared) / sum(unjailed),
            "mbpp": _references(judge, 40 if quick else None),
        }
    if figures["overhead"] > MOST_OVERHEAD:
        raise RuntimeError(f"judging costs {figures['overhead']:.2f} times an unjailed python -I, promised are {MOST_OVERHEAD}")
    rate, seconds = figures["jailed_per_s"], figures["mbpp"].get("seconds", 0.0)
    if idle and not quick and rate < LEAST_PER_S:
        raise RuntimeError(f"{rate:.0f} programs a second on an idle machine, promised are {LEAST_PER_S:.0f}")
    if idle and not quick and seconds > MOST_MBPP_S:
        raise RuntimeError(f"MBPP took {seconds:.1f} s on an idle machine, promised are {MOST_MBPP_S:.0f}")
    return figures


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
