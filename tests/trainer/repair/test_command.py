"""`coderl train --env repair` to its end with a real engine, and a server double with the same weights that chats."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from coderl_trainer.judge import Judge
from coderl_trainer.repair.tasks import write_repairs

from ..test_served_training import weights_of
from ..tiny_llama import make_tiny_llama, need_torch
from ..training_runs import CODERL, told_by
from ..vllm_double import VllmDouble, vllm_double
from .broken_repositories import AGENT, area_task

torch = need_torch()
COMMAND = f"{{python}} {AGENT} {{task}} {{base_url}} {{model}} stream"
SETTINGS = (
    "lora_rank=4", "threads=1", "grpo.steps=2", "grpo.groups=2", "grpo.samples=4", "grpo.evaluate_every=1",
    "grpo.mask_truncated=false", "grpo.learning_rate=1e-3", "repair.turn_tokens=6", "repair.wall_s=120", "split.train=0.7",
    "split.validation=0", "checkpoint_every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("repair") / "model")


@pytest.fixture
def server(model: Path) -> Iterator[VllmDouble]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    written: dict[str, list[int]] = {}

    def text(tokens: Sequence[int]) -> str:
        told = str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        written[told] = list(tokens)
        return told

    def render(messages: Sequence[dict[str, Any]]) -> list[int]:
        """Answers as they were drawn, as a chat template of special tokens would have them."""
        tokens: list[int] = []
        for message in messages:
            said = message["content"]
            tokens += written[said] if message["role"] == "assistant" else tokenizer.encode(f"{said}\n")
        return tokens

    with vllm_double(weights_of(model), text) as double:
        double.render, double.chat_ends = render, (tokenizer.eos_token_id,)
        yield double


@pytest.mark.slow
def test_a_run_is_trained_by_whole_episodes(judge: Judge, model: Path, server: VllmDouble, tmp_path: Path) -> None:
    tasks = tmp_path / "repairs.jsonl"
    write_repairs([area_task(f"own/{number}") for number in range(8)], tasks)
    changes = [f"--set={one}" for one in (*SETTINGS, f"rollouts.server={server.address}", f'repair.reads=["{AGENT.parent}"]')]
    told = told_by(
        [
            *(*CODERL, "train", "--env", "repair", "--model", str(model), "--tasks", str(tasks), "--agent", COMMAND),
            *("--name", "repairs", "--runs", str(tmp_path / "runs"), "--json", *changes),
        ]
    )
    folder = Path(told["run_dir"])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    learned = [row for row in rows if "rollouts/logprob_gap_mean" in row]
    assert learned, rows
    for row in learned:
        assert row["rollouts/logprob_gap_max"] < 1e-3
        assert row.get("rollouts/told_apart", 1.0) >= 0.5  # not known before the first adapter
        assert row["grad_norm"] > 0
    assert told["steps"] == 2
    assert told["heldout"]["n"] >= 1
    assert (folder / "best" / "adapter_model.safetensors").is_file()
    assert not server.adapters
