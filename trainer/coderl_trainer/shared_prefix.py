"""Attention of many samples behind few prompts: the keys and values of a prompt are kept once, not once per sample.

A decoding step of P·G samples asks each prompt's keys with the queries of its G samples together, and each sample's own keys
with its own query; one softmax goes over both. What a cache of whole rows would copy at every step (the prompt, G times, once
per query head) is never made. The idea is that of Hydragen (Juravsky et al. 2024, §3.1) and of cascade attention (FlashInfer,
Ye et al. 2025), written out as two matrix products.

transformers calls `attend` through its `AttentionInterface`, and hands the state through as the keyword `shared`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NAME = "coderl_shared_prefix"
"""Of the attention in transformers' table."""
MODEL_TYPES = ("llama", "qwen2", "qwen3", "smollm3")
"""Models whose attention is a plain softmax over all that came before, and that pass keywords on to it."""


class SharedPrefix:
    """Keys and values of one call of the sampler. Axes: P prompts, G samples of each, R rows not ended, H key-value heads, Q
    queries per key-value head, L prompt positions, T own positions, D size of a head."""

    def __init__(self, torch: Any, present_PL: Any, samples: int, most_tokens: int) -> None:
        """`present_PL`: 1 where a prompt has a token, 0 for padding. `most_tokens`: the most own positions."""
        self._torch = torch
        self._samples = samples
        self._most = most_tokens
        self._prompts: dict[int, tuple[Any, Any]] = {}
        self._own: dict[int, tuple[Any, Any]] = {}
        self._absent_P11L = ~present_PL.bool()[:, None, None, :]
        self._slots_R = torch.arange(len(present_PL) * samples, device=present_PL.device)
        self.length = 0
        """Own positions that are filled, of the step under way where there is one."""

    def keep(self, going: Sequence[int]) -> None:
        """Only the rows `going` (indices among those left) go on."""
        index = self._torch.tensor(going, device=self._slots_R.device)
        self._slots_R = self._slots_R[index]
        self._own = {layer: (keys[index], values[index]) for layer, (keys, values) in self._own.items()}

    def read(self, layer: int, keys_PHLD: Any, values_PHLD: Any) -> None:
        """The prompts' keys and values in a layer."""
        self._prompts[layer] = (keys_PHLD, values_PHLD)

    def attend(self, layer: int, queries_RHQD: Any, keys_RH1D: Any, values_RH1D: Any, scale: float) -> Any:
        """(R, H, Q, D) what one new token of each row sees: its prompt, its own tokens and itself."""
        torch = self._torch
        keys_RHTD, values_RHTD = self._add(layer, keys_RH1D, values_RH1D)
        prompt_keys, prompt_values = self._prompts[layer]
        queries = queries_RHQD * scale
        before_PHGQL = self._by_prompt(queries) @ prompt_keys.transpose(-1, -2)
        before_PHGQL = before_PHGQL.masked_fill(self._absent_P11L, -torch.inf)
        before_RHQL = self._by_row(before_PHGQL, queries.shape[2])
        own_RHQT = queries @ keys_RHTD.transpose(-1, -2)
        weights = torch.cat([before_RHQL, own_RHQT], -1).float().softmax(-1).to(queries.dtype)
        split = before_RHQL.shape[-1]
        seen_RHQD = self._by_row(self._by_prompt(weights[..., :split]) @ prompt_values, queries.shape[2])
        return seen_RHQD + weights[..., split:] @ values_RHTD

    def _add(self, layer: int, keys_RH1D: Any, values_RH1D: Any) -> tuple[Any, Any]:
        if layer not in self._own:
            rows, heads, _, size = keys_RH1D.shape
            shape = (rows, heads, self._most, size)
            self._own[layer] = (keys_RH1D.new_empty(shape), values_RH1D.new_empty(shape))
        keys, values = self._own[layer]
        keys[:, :, self.length - 1 : self.length] = keys_RH1D
        values[:, :, self.length - 1 : self.length] = values_RH1D
        return keys[:, :, : self.length], values[:, :, : self.length]

    def _by_prompt(self, values_RHQX: Any) -> Any:
        """(P, H, G·Q, X): the rows of a prompt beside each other; 0 for those that have ended."""
        rows, heads, queries, size = values_RHQX.shape
        slots = len(self._absent_P11L) * self._samples
        if rows < slots:
            values_RHQX = values_RHQX.new_zeros(slots, heads, queries, size).index_copy_(0, self._slots_R, values_RHQX)
        apart = values_RHQX.view(-1, self._samples, heads, queries, size)
        return apart.transpose(1, 2).reshape(-1, heads, self._samples * queries, size)

    def _by_row(self, values_PHGQX: Any, queries: int) -> Any:
        """(R, H, Q, X): the inverse of `_by_prompt`."""
        prompts, heads, _, size = values_PHGQX.shape
        apart = values_PHGQX.view(prompts, heads, self._samples, queries, size).transpose(1, 2)
        together = apart.reshape(prompts * self._samples, heads, queries, size)
        return together if len(self._slots_R) == len(together) else together[self._slots_R]


def register(torch: Any, transformers: Any) -> None:
    """Put the attention into transformers' table; once or many times."""

    def attention(
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        shared: SharedPrefix | None = None,
        **_: Any,
    ) -> tuple[Any, None]:
        rows, heads, length, size = query.shape
        scale = size**-0.5 if scaling is None else scaling
        if shared is not None and shared.length:
            grouped = query.reshape(rows, key.shape[1], -1, size)
            seen = shared.attend(module.layer_idx, grouped, key, value, scale)
        else:
            if shared is not None:
                shared.read(module.layer_idx, key, value)
            causal = attention_mask is None and length > 1
            seen = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, is_causal=causal, scale=scale, enable_gqa=True
            )
        return seen.reshape(rows, heads, length, size).transpose(1, 2).contiguous(), None

    transformers.AttentionInterface.register(NAME, attention)
    transformers.AttentionMaskInterface.register(NAME, transformers.masking_utils.sdpa_mask)


def shares(config: Any) -> bool:
    """Whether a model with this configuration can be sampled this way."""
    kinds = getattr(config, "layer_types", None) or ("full_attention",)
    return config.model_type in MODEL_TYPES and set(kinds) == {"full_attention"}
