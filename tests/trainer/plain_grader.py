"""Grades answers by plain `exec` in a child process: for tasks and answers that we trust. No jail; the product has one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from coderl_trainer.types import Task
from coderl_trainer.validate import Graded, NotGraded

ANSWER_S = 0.3
"""CPU seconds of one answer; an endless loop is the only thing that comes near it. By the clock a minute."""


def plain_grader(
    answers: Sequence[tuple[Task, str]], cpu_s: float = ANSWER_S, timeout_s: float = 280
) -> list[Graded | NotGraded]:
    """`coderl_trainer.validate.Grader`: one child process, in it one fork per answer with a time limit."""
    jobs = [
        {
            "program": task.program(text),
            "setup": task.setup,
            "entry_point": task.entry_point,
            "tests": [task.visible_tests, task.hidden_tests],
        }
        for task, text in answers
    ]
    run = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).with_name("plain_grader_child.py"))],
        input=json.dumps({"jobs": jobs, "cpu_s": cpu_s}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    return [Graded(not visible, not hidden, visible or hidden) for visible, hidden in results]
