"""A llama of two layers with random weights and a real tokenizer, made on the spot: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coderl_trainer.types import Datum, Sample

END = "<|end|>"
TEXT = (
    "def add(a, b):\n    return a + b\n",
    "class Shape:\n    def area(self):\n        return self.width * self.height\n",
    "for name in names:\n    print(name, len(name))\n\n\nif total > 0:\n    total -= 1\nelse:\n    raise ValueError(total)\n",
)


def need_torch() -> Any:
    """torch, or a skip that says why."""
    pytest.importorskip("transformers", reason="the extra `train` is not installed")
    return pytest.importorskip("torch", reason="the extra `train` is not installed")


def make_tiny_llama(folder: Path, *, seed: int = 0, control: tuple[str, ...] = ()) -> Path:
    """Writes the model to `folder`, with these control tokens besides the end's; weights large enough that its next tokens
    differ in probability."""
    torch = need_torch()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[END, *control],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END).save_pretrained(str(folder))
    end = tokenizer.token_to_id(END)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def datum(
    prompt: tuple[int, ...],
    tokens: tuple[int, ...],
    *,
    advantage: float = 1.0,
    behaviour: tuple[float, ...] | None = None,
    mask: tuple[float, ...] | None = None,
    weight: float = 1.0,
) -> Datum:
    """One row: `tokens` after `prompt`; `mask` and `behaviour` are those of `tokens`."""
    before = len(prompt) - 1
    counts = (1.0,) * len(tokens) if mask is None else mask
    chances = (-1.0,) * len(tokens) if behaviour is None else behaviour
    everything = prompt + tokens
    return Datum(
        input_tokens=everything[:-1],
        target_tokens=everything[1:],
        behaviour_logprobs=(0.0,) * before + tuple(one * two for one, two in zip(chances, counts, strict=True)),
        advantages=(0.0,) * before + tuple(advantage * one for one in counts),
        mask=(0.0,) * before + counts,
        weight=weight,
    )


def of_sample(prompt: tuple[int, ...], sample: Sample, advantage: float) -> Datum:
    """The row that a sample makes."""
    return datum(prompt, sample.tokens, advantage=advantage, behaviour=sample.logprobs)
