"""Training runs through the real command, for tests: to their end, or ended from outside after a step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from coderl_store.repository import Repository
from coderl_trainer.checkpoints import last_checkpoint
from coderl_trainer.errors import RecipeError
from coderl_trainer.length_world import PROMPTS, LengthWorld
from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.types import SamplingParameters

VOLATILE = ("time_s", "time/sample_s", "time/judge_s", "time/learn_s", "memory/peak_mb")
CODERL = (sys.executable, "-m", "coderl_server")


def environment() -> dict[str, str]:
    """One thread: the same sums in the same order."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def told_by(arguments: list[str]) -> dict[str, Any]:
    """The JSON that a command ends with."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=280, env=environment())
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def metrics(run: Path) -> list[dict[str, Any]]:
    """Rows of metrics without what differs between two runs of one recipe."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in VOLATILE} for line in lines]


def ended_after(arguments: list[str], runs: Path, name: str, step: int, signal_number: int) -> tuple[Path, int, str]:
    """Start a run called `name` in `runs` and end it when a checkpoint of `step` or later is there: (folder, exit status,
    standard error)."""
    child = subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
    )
    try:
        folder = _with_checkpoint(child, runs, name, step)
        child.send_signal(signal_number)
        _, said = child.communicate(timeout=120)
        return folder, child.returncode, said
    finally:
        child.kill()
        child.communicate(timeout=30)


def hears_ctrl_c() -> None:
    """A shell's background jobs ignore it, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _with_checkpoint(child: subprocess.Popen[str], runs: Path, name: str, step: int) -> Path:
    give_up = time.monotonic() + 200
    while time.monotonic() < give_up:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        for folder in runs.glob(f"*-{name}"):
            try:
                if last_checkpoint(folder)[0] >= step:
                    return folder
            except (RecipeError, FileNotFoundError):
                continue  # not yet, or removed while it was looked for
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint of step {step} within 200 s")


def append_length_log(database: str, model: Path, *, seed: int, samples: int = 200) -> None:
    """Suggestions of the length model with their outcomes, as simulated sessions, into a log."""
    engine = LocalEngine(LocalOptions(model, lora_rank=0, threads=1))
    groups = engine.sample([engine.encode(prompt) for prompt in PROMPTS], samples, SamplingParameters(32, seed=seed))
    repository = Repository(database)
    try:
        repository.append(LengthWorld(seed=seed).records(PROMPTS, groups, engine.decode))
    finally:
        repository.close()
