"""`coderl train` with samples of a real vLLM server: one step on the embedded model, its adapter loaded and verified; and one
step of `--env repair` through the proxy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.trainer.repair.broken_repositories import area_task

from coderl_trainer.repair.tasks import write_repairs

from .conftest import VllmServer, need

TASKS = [
    {
        "id": f"kept/{number}",
        "kind": "infill",
        "prompt": f"def scaled_{number}(values):\n    total =",
        "suffix": "\n    return total\n",
        "reference": f" sum(values) * {number}",
    }
    for number in range(8)
]
"""Without tests: they are rewarded by their likeness to the reference, and no program is run."""
SETTINGS = (
    "lora_rank=8", "threads=1", "sft.epochs=1", "sft.batch_tokens=200", "sft.learning_rate=3e-4", "sft.warmup_steps=0",
    "grpo.steps=1", "grpo.groups=2", "grpo.samples=4", "grpo.max_tokens=12", "grpo.mask_truncated=false", "grpo.resample=1",
    "rewards.weights.binary=0", "rewards.weights.agreement=1", "split.train=0.9", "split.validation=0",
    "rollouts.timeout_s=900",
)  # fmt: skip


def test_a_training_step_learns_from_samples_of_the_server(vllm_server: VllmServer, hf_model: Path, tmp_path: Path) -> None:
    need("peft")
    (tmp_path / "kept.jsonl").write_text("".join(json.dumps(one) + "\n" for one in TASKS), encoding="utf-8")
    changes = [f"--set={one}" for one in (*SETTINGS, f"rollouts.server={vllm_server.url}", "rollouts.model=served")]
    before, there = vllm_server.figure("generation_tokens_total"), vllm_server.models()
    done = subprocess.run(
        [
            sys.executable, "-m", "coderl_server", "train", "--model", str(hf_model), "--tasks", str(tmp_path / "kept.jsonl"),
            "--name", "served", "--runs", str(tmp_path / "runs"), *changes, "--json",
            "--unjailed-because", "these tasks have no tests: nothing is run",
        ],
        capture_output=True, text=True, timeout=1100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["run_dir"])
    (row,) = [row for row in lines(folder / "metrics.jsonl") if "rollouts/logprob_gap_mean" in row]
    print({name: value for name, value in row.items() if name.startswith("rollouts/")})
    assert 0 < row["rollouts/logprob_gap_mean"] < 0.1
    assert 0 < row["rollouts/probe_gap"] < 0.1
    assert row["rollouts/told_apart"] == 1.0  # after the warm-up: version 1 is not the untrained model
    samples = lines(folder / "samples.jsonl")
    drawn = vllm_server.figure("generation_tokens_total") - before
    assert len(samples) >= 8
    assert drawn >= row["completions/mean_length"] * len(samples)
    assert vllm_server.models() == there


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


AGENT = Path(__file__).parents[1] / "trainer" / "repair" / "tiny_agent.py"
REPAIR_SETTINGS = (
    "lora_rank=8", "threads=1", "grpo.steps=1", "grpo.groups=1", "grpo.samples=4", "grpo.mask_truncated=false",
    "repair.turn_tokens=12", "repair.wall_s=900", "repair.parallel=4", "split.train=1", "split.validation=0",
    "rollouts.timeout_s=900", "judge_parallel=1",
)  # fmt: skip


def test_an_agent_is_trained_through_the_proxy(vllm_server: VllmServer, hf_model: Path, tmp_path: Path) -> None:
    """One step of `--env repair`: whole runs of a tiny agent, token ids and log-probs of real chat completions, one gradient
    step, the adapter on the server. What the model says decides what is repaired, so a group may teach nothing; then the
    proxy alone is looked at."""
    need("peft")
    tasks = tmp_path / "repairs.jsonl"
    write_repairs([area_task("own/one"), area_task("own/two")], tasks)
    changes = (
        *REPAIR_SETTINGS,
        f"rollouts.server={vllm_server.url}",
        "rollouts.model=served",
        f'repair.reads=["{AGENT.parent}"]',
    )
    before, there = vllm_server.figure("generation_tokens_total"), vllm_server.models()
    done = subprocess.run(
        [
            sys.executable, "-m", "coderl_server", "train", "--env", "repair", "--model", str(hf_model), "--tasks", str(tasks),
            "--agent", f"{{python}} {AGENT} {{task}} {{base_url}} {{model}} stream", "--name", "repairs",
            "--runs", str(tmp_path / "runs"), *(f"--set={one}" for one in changes), "--json",
        ],
        capture_output=True, text=True, timeout=1100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["run_dir"])
    (row,) = [row for row in lines(folder / "metrics.jsonl") if row["step"] == 1]
    print({name: value for name, value in row.items() if name.startswith(("rollouts/", "agent/", "skipped/"))})
    assert (row["ungraded"], row["agent/turns"]) == (0.0, 2.0)
    drawn = vllm_server.figure("generation_tokens_total") - before
    assert drawn >= 4 * row["completions/mean_length"] > 0
    assert len(lines(folder / "samples.jsonl")) == 4
    if row["skipped/all_fail"] == row["skipped/all_pass"] == row["skipped/tie"] == 0:
        assert 0 < row["rollouts/logprob_gap_mean"] < 0.1
        assert row["grad_norm"] > 0
    assert vllm_server.models() == there
