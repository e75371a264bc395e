"""An engine without torch: a table of next-token scores with a LoRA on it. It is scored and saved as a real one; a step moves
the adapter by a fixed pattern, whatever was learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coderl_trainer.engine import MANIFEST, Loss, LossSettings, StepSettings
from coderl_trainer.errors import EngineRefused
from coderl_trainer.lora import read_lora
from coderl_trainer.types import Datum, Sample, SamplingParameters

from .test_export import save

SIZE, RANK, END, NEWLINE = 24, 2, 23, 10
Floats = NDArray[np.float64]


def base_table(seed: int = 0) -> Floats:
    """(V, V) score of each next token (row) after each token (column); lines are short."""
    table = np.random.default_rng(seed).normal(0.0, 1.0, (SIZE, SIZE))
    table[NEWLINE] += 2.0
    return table


def toy_weights(folder: Path | None, seed: int = 0) -> Any:
    """The model of a server (`vllm_double.Weights`)."""
    table = base_table(seed) + (0.0 if folder is None else read_lora(folder).delta("table"))
    return lambda tokens: _after(table, tokens)


def toy_text(tokens: Sequence[int]) -> str:
    return "".join("\n" if token == NEWLINE else "" if token == END else chr(97 + token) for token in tokens)


class ToyEngine:
    """See `Engine`."""

    engine_id = "toy"
    losses = frozenset((Loss.PPO, Loss.CROSS_ENTROPY))
    ends = (END,)
    tokenizer = None

    def __init__(self, seed: int = 0) -> None:
        self.table = base_table(seed)
        self.a = np.random.default_rng(1).normal(0.0, 1.0, (RANK, SIZE)).astype(np.float32)
        self.b = np.zeros((SIZE, RANK), np.float32)
        self.version = 0
        self.learned: list[list[Datum]] = []

    def encode(self, text: str) -> list[int]:
        return [ord(one) % SIZE for one in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return toy_text(tokens)

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        raise AssertionError("the server samples")

    def logprobs(self, data_D: Sequence[Datum]) -> list[list[float]]:
        table = self.table + self.b @ self.a
        return [
            [
                float(chances[target])
                for chances, target, counts in zip(_after(table, row.input_tokens), row.target_tokens, row.mask, strict=True)
                if counts
            ]
            for row in data_D
        ]

    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        self.learned.append(list(data_D))
        return {"loss": 0.0}

    def optim_step(self, settings: StepSettings) -> Mapping[str, float]:
        self.b += settings.learning_rate * np.random.default_rng(2).normal(0.0, 1.0, self.b.shape).astype(np.float32)
        return {"grad_norm": 1.0}

    def publish(self) -> int:
        self.version += 1
        return self.version

    def save_model(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / "adapter_model.safetensors", {"table.lora_A.weight": self.a, "table.lora_B.weight": self.b})
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "base_model_name_or_path": "toy"}
        (folder / "adapter_config.json").write_text(json.dumps(config))

    def save_state(self, folder: Path, loop_state: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text(json.dumps([dict(loop_state), self.b.tolist(), self.version]))

    def load_state(self, folder: Path) -> Mapping[str, str]:
        try:
            loop_state, table, self.version = json.loads((folder / MANIFEST).read_text())
        except OSError as error:
            raise EngineRefused(f"nothing in {folder}") from error
        self.b = np.asarray(table, np.float32)
        return dict(loop_state)


def _after(table: Floats, tokens: Sequence[int]) -> Floats:
    scores = table[:, list(tokens)].T
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))
