"""A llama with random weights and a vocabulary of ASCII, as a GGUF file of some hundred kilobytes: for tests of what reads,
changes and writes models, where a real one would take minutes. Its texts mean nothing. Same seed, same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

END_ID = 128
"""Id of the token that ends a text; those before it are the characters of ASCII, by their numbers."""


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes of the model. The head's is `hidden / heads`; it must be even, and all rows multiples of 32 to be quantised."""

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    key_heads: int = 2
    inner: int = 96
    context: int = 128


def write_tiny_llama(
    path: Path, *, seed: int = 0, shape: TinyShape | None = None, type_name: str = "f32", tied: bool = True, name: str = "Tiny"
) -> Path:
    """Write the model and return its path. `type_name`: of the matrices (`f32`, `f16`, `q8_0`, `q4_1` …); norms are f32.

    Needs the package `gguf` (coderl[train]).
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    sizes, rng, kind = shape or TinyShape(), np.random.default_rng(seed), GGMLQuantizationType[type_name.upper()]
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_block_count(sizes.layers)
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.inner)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.key_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(sizes.hidden // sizes.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(END_ID + 1)
    _add_vocabulary(writer)

    def matrix(tensor: str, rows: int, columns: int) -> None:
        values = rng.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)
        writer.add_tensor(tensor, quantize(values, kind), raw_dtype=kind)

    def norm(tensor: str) -> None:
        writer.add_tensor(tensor, rng.uniform(0.8, 1.2, sizes.hidden).astype(np.float32))

    key_rows = sizes.hidden // sizes.heads * sizes.key_heads
    matrix("token_embd.weight", END_ID + 1, sizes.hidden)
    norm("output_norm.weight")
    if not tied:
        matrix("output.weight", END_ID + 1, sizes.hidden)
    for layer in range(sizes.layers):
        for part, rows, columns in (
            ("attn_q", sizes.hidden, sizes.hidden),
            ("attn_k", key_rows, sizes.hidden),
            ("attn_v", key_rows, sizes.hidden),
            ("attn_output", sizes.hidden, sizes.hidden),
            ("ffn_gate", sizes.inner, sizes.hidden),
            ("ffn_up", sizes.inner, sizes.hidden),
            ("ffn_down", sizes.hidden, sizes.inner),
        ):
            matrix(f"blk.{layer}.{part}.weight", rows, columns)
        norm(f"blk.{layer}.attn_norm.weight")
        norm(f"blk.{layer}.ffn_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: object) -> None:
    """ASCII in GPT-2's letters for bytes (Radford et al. 2019), one merge, and the end of a text."""
    from gguf import GGUFWriter, TokenType

    assert isinstance(writer, GGUFWriter)
    letters = [chr(byte) if 33 <= byte < 127 else chr(256 + (byte if byte < 33 else byte - 94)) for byte in range(END_ID)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*letters, "<|endoftext|>"])
    writer.add_token_types([TokenType.NORMAL] * END_ID + [TokenType.CONTROL])
    writer.add_token_merges(["! !"])
    writer.add_bos_token_id(END_ID)
    writer.add_eos_token_id(END_ID)
    writer.add_add_bos_token(False)
