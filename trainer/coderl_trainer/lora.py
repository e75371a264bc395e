"""LoRA adapters in PEFT's form: what is plain enough to be merged into weights or to be served by vLLM, and what is not.

W' = W + s·B·A with A (r, in), B (out, r) and s = alpha / r (Hu et al. 2021, §4.1), or alpha / √r with rank stabilisation
(Kalajdzievski 2023).

Plain: adapters of linear layers with one rank and one alpha. Refused, each with its reason: DoRA, biases, whole modules saved
beside, ranks or alphas by module, inits that change the base model's own weights (PiSSA, OLoRA, CorDA, LoftQ), and embeddings.
Not seen: whether the adapter was trained on the base it is merged into; only the shapes are.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ExportFailed, ExportRefused
from .safetensors_file import Floats, StoredTensor, tensors_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VLLM_RANK = 16
"""vLLM's `--max-lora-rank` unless it is told otherwise (`vllm.config.lora`)."""

_HARMLESS_INITS = ("gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that only choose where training begins."""
_UNSUPPORTED = (
    ("use_dora", "DoRA"),
    ("lora_bias", "biases of the adapter"),
    ("fan_in_fan_out", "transposed weights"),
    ("modules_to_save", "whole modules saved beside the adapter"),
    ("rank_pattern", "a rank of its own for some modules"),
    ("alpha_pattern", "an alpha of its own for some modules"),
    ("layer_replication", "repeated layers"),
    ("target_parameters", "parameters that are no linear layers"),
    ("trainable_token_indices", "trained token embeddings"),
    ("alora_invocation_tokens", "invocation tokens (aLoRA)"),
    ("use_bdlora", "block-diagonal LoRA"),
    ("use_qalora", "QALoRA"),
    ("megatron_config", "Megatron layers"),
)
_NAME = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")


@dataclass(frozen=True, slots=True)
class PlainLora:
    """One adapter: module name (as in the Hugging Face model, `model.layers.0.self_attn.q_proj`) → A and B."""

    folder: Path
    rank: int
    scale: float
    base_name: str
    """What PEFT says it was trained on; may be empty."""
    modules: Mapping[str, tuple[StoredTensor, StoredTensor]]

    def delta(self, module: str) -> Floats:
        """s·B·A of a module, (out, in)."""
        a, b = self.modules[module]
        return np.float32(self.scale) * (b.values() @ a.values())

    def shape(self, module: str) -> tuple[int, int]:
        """(out, in) of the weight that a module changes."""
        a, b = self.modules[module]
        return b.shape[0], a.shape[1]


def read_lora(folder: Path) -> PlainLora:
    """The adapter in a folder.

    Raises `ExportRefused` where it is not plain or not whole, `ExportFailed` where it cannot be read.
    """
    config = _config(folder / CONFIG)
    rank, scale = _checked(config, folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ExportRefused(f"The adapter in {folder} has no {WEIGHTS}: save it with safe_serialization=True.")
    halves: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors_of(weights).items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ExportRefused(f"The adapter in {folder} holds {name}, which is no half of a linear layer's LoRA.")
        halves.setdefault(match[1], {})[match[2]] = tensor
    modules = {}
    for module, both in halves.items():
        a, b = both.get("A"), both.get("B")
        if a is None or b is None:
            raise ExportRefused(f"The adapter in {folder} has only one half for {module}.")
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise ExportRefused(
                f"The adapter in {folder} says rank {rank}, but {module} has A {list(a.shape)} and B {list(b.shape)}."
            )
        modules[module] = (a, b)
    return PlainLora(folder, rank, scale, str(config.get("base_model_name_or_path") or ""), modules)


def export_lora(folder: Path, to: Path, *, max_rank: int = VLLM_RANK) -> PlainLora:
    """Copy a checked adapter into the new folder `to`, in the form that vLLM's `load_lora_adapter` takes.

    The copy says that it is for inference and names no path of the machine that trained it. The folder appears whole or not at
    all. Raises `ExportRefused` (not plain, a rank above `max_rank`, `to` exists) and `ExportFailed` (it cannot be written).
    """
    lora = read_lora(folder)
    if lora.rank > max_rank:
        raise ExportRefused(
            f"The adapter in {folder} has rank {lora.rank}, and the server takes {max_rank} at most: "
            f"start it with --max-lora-rank {lora.rank} or more and say --max-rank {lora.rank}, or train with a smaller rank."
        )
    if to.exists():
        raise ExportRefused(f"{to} exists already: name a new folder.")
    config = {**_config(folder / CONFIG), "inference_mode": True, "base_model_name_or_path": Path(lora.base_name).name}
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as scratch:
            made = Path(scratch) / "adapter"
            made.mkdir()
            (made / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            shutil.copyfile(folder / WEIGHTS, made / WEIGHTS)
            made.rename(to)
    except OSError as error:
        raise ExportFailed(f"{to} cannot be written: {error.strerror or error}.") from error
    return lora


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportFailed(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ExportRefused(f"{file} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ExportRefused(f"{file} holds no settings of an adapter.")
    return config


def _checked(config: Mapping[str, Any], folder: Path) -> tuple[int, float]:
    """(Rank, scale) of plain settings."""
    if config.get("peft_type") != "LORA":
        raise ExportRefused(f"The adapter in {folder} is of the kind {config.get('peft_type')}; only LORA can be exported.")
    for key, what in _UNSUPPORTED:
        if config.get(key):
            raise ExportRefused(f"The adapter in {folder} uses {what} ({key}), which cannot be exported: train a plain LoRA.")
    if config.get("bias", "none") != "none":
        raise ExportRefused(f"The adapter in {folder} trains biases (bias: {config['bias']}); only bias none can be exported.")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _HARMLESS_INITS:
        raise ExportRefused(f"The adapter in {folder} began with {init}, which changes the base model's own weights.")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise ExportRefused(f"The adapter in {folder} does not say its rank and alpha (r, lora_alpha).")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
