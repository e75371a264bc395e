"""A Hugging Face model as the engine `local` holds it: loading, the adapter, and what the two come to. It all blocks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from coderl_generator.torch_model import place_of

from .errors import EngineRefused, RunError, TrainerError
from .processes import Processes

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a llama that get an adapter: all of them (Biderman et al. 2024, "LoRA learns less and forgets less")."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How the model is held."""

    model: Path
    """A folder in Hugging Face's form, or a GGUF file."""
    lora_rank: int = 16
    """0 = all weights are trained."""
    lora_alpha: float = 32.0
    device: str = "cpu"
    dtype: str = "float32"
    """Of the trained weights. Below float32, the log-probs of sampling and training differ visibly."""
    sampler_dtype: str = "float32"
    threads: int | None = None
    seed: int = 0
    max_positions: int = 640
    """Most positions that go through the model at once. Attention pays for the square of it, so a CPU wants it no longer than
    one group; a GPU wants more."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: slower, less memory."""
    share_prompts: bool = True
    """Keep a prompt's keys and values once for its samples, where the model allows it (`coderl_trainer.shared_prefix`)."""


def libraries() -> tuple[Any, Any]:
    """(torch, transformers). Raises `EngineRefused` where they are missing."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise EngineRefused(f"The engine `local` needs torch and transformers ({error}); install coderl[train].") from error
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def device_of(torch: Any, name: str, processes: Processes) -> Any:
    """The device of this process. Raises `EngineRefused` where it would have to share a GPU, or there is none."""
    if processes.count == 1 or name == "cpu":
        return torch.device(name)
    if name != "cuda":
        raise EngineRefused(f"Several processes cannot share the device {name}: say device=cuda, and each takes its own.")
    if processes.local_rank >= torch.cuda.device_count():
        raise EngineRefused(
            f"This machine has {torch.cuda.device_count()} GPUs, and process {processes.local_rank} none of its own: "
            "launch as many processes as there are GPUs, or say device=cpu."
        )
    torch.cuda.set_device(processes.local_rank)
    return torch.device("cuda", processes.local_rank)


def load_model(transformers: Any, options: LocalOptions, dtype: Any) -> tuple[Any, Any]:
    """(tokenizer, model), the weights unpacked. Raises `EngineRefused` where there is none that could be loaded."""
    try:
        folder, more = place_of(options.model)
        unpacked = {"quantization_config": transformers.GgufConfig(dequantize=True)} if more else {}
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **more)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=dtype, attn_implementation="sdpa", **more, **unpacked
        )
    except Exception as error:  # `tokenizers` and `safetensors` say that a file is damaged by errors of no kind
        raise EngineRefused(f"{options.model} cannot be loaded: {error}") from error
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return tokenizer, model


def adapter_config(options: LocalOptions) -> Any:
    """The LoRA of these options in PEFT's words. Raises `EngineRefused` without peft."""
    try:
        import peft
    except ImportError as error:
        raise EngineRefused(f"LoRA needs peft ({error}); install coderl[train].") from error
    return peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules=list(TARGETS),
        task_type="CAUSAL_LM",
        lora_dropout=0.0,
    )


def with_adapter(model: Any, options: LocalOptions) -> Any:
    """The model with LoRA layers in it, as peft wraps it. Raises `EngineRefused` without peft."""
    config = adapter_config(options)
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers 5.23 by a name that it calls deprecated
        return peft.get_peft_model(model, config)


@contextmanager
def written_into(folder: Path) -> Iterator[None]:
    """A failed write of torch or safetensors (a full disk, a folder without rights), each an error of its own kind, leaves as
    `RunError`."""
    failed = import_module("safetensors").SafetensorError
    try:
        yield
    except (OSError, RuntimeError, failed) as error:
        if isinstance(error, TrainerError):
            raise
        why = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"{folder} cannot be written: {why}.") from error


def merged(model: Any, adapted: bool) -> Iterator[tuple[str, Any]]:
    """(name, weight) of every weight that is trained, under the name it has in a model without adapter."""
    if not adapted:
        yield from ((name, one) for name, one in model.named_parameters())
        return
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            yield f"{name}.weight", module.base_layer.weight + module.get_delta_weight("default")


def end_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Token ids that end a sequence, the tokenizer\'s own first."""
    ends = getattr(generation_config, "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    return tuple(dict.fromkeys(int(one) for one in [tokenizer.eos_token_id, *listed] if one is not None))
