"""Where each weight of a llama lies in a GGUF file and in Hugging Face's form, and how its rows are ordered there.

llama.cpp rotates neighbouring rows of a head together (2j and 2j + 1), Hugging Face's llama rows that are half a head apart (j
and j + d/2, `rotate_half`). So the rows of the query and key projections stand in another order there, head by head: row
i·d + k of the GGUF is row i·d + (k mod 2)·d/2 + k div 2 of Hugging Face (d: size of a head). All other rows stay as they are.
tests/trainer/test_export_parity.py proves it with logits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from .safetensors_file import Floats

_OUTER = MappingProxyType(
    {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
)
_INNER = MappingProxyType(
    {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
LINEAR = tuple(ours for ours in _INNER if not ours.endswith("norm"))


@dataclass(frozen=True, slots=True)
class Heads:
    """How many there are of each; all the same in every layer."""

    query: int
    key: int

    def of(self, gguf_name: str) -> int:
        """Heads of a weight whose rows are reordered; 0 for any other."""
        match = _BLOCK.fullmatch(gguf_name)
        return {"attn_q": self.query, "attn_k": self.key}.get("" if match is None else match[2], 0)


def hf_name(gguf_name: str) -> str | None:
    """The name of a GGUF tensor in the Hugging Face model; None where that has no such tensor (`rope_freqs.weight`)."""
    if gguf_name in _OUTER:
        return _OUTER[gguf_name]
    match = _BLOCK.fullmatch(gguf_name)
    if match is None or match[2] not in _INNER:
        return None
    return f"model.layers.{match[1]}.{_INNER[match[2]]}.weight"


def as_gguf(weight: Floats, heads: int) -> Floats:
    """A weight (out, in) of the Hugging Face model with its rows as a GGUF has them; `heads` 0 = as they are."""
    if not heads:
        return weight
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
