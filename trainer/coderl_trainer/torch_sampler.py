"""Drawing G completions for each of P prompts from a Hugging Face model, with the log-probs they were drawn with.

Every prompt is read once and its keys and values are shared out to its G samples; all P·G samples are decoded together, and a
sample that has ended leaves the batch. Blocks; runs on whatever device the model is on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .types import Sample, SamplingParameters, StopReason

Ended = Callable[[Sequence[int], SamplingParameters], bool]
"""Whether a sample's tokens so far end it."""


class TorchSampler:
    """Draws from one model. `ends`: token ids that end a sequence; they are part of the sample. `ended`: reads stop texts."""

    def __init__(self, torch: Any, model: Any, new_cache: Callable[[], Any], ends: frozenset[int], ended: Ended) -> None:
        self._torch = torch
        self._model = model
        self._new_cache = new_cache
        self._ends = ends
        self._ended = ended

    def draw(
        self,
        prompts_P: Sequence[Sequence[int]],
        samples: int,
        parameters: SamplingParameters,
        random: Any,
        policy_version: int,
    ) -> list[list[Sample]]:
        """P groups of G samples. `random`: a `torch.Generator` on the CPU; it alone decides what is drawn."""
        torch = self._torch
        with torch.inference_mode():
            logits, cache, mask = self._read(prompts_P, samples)
            rows = list(range(len(prompts_P) * samples))
            tokens: list[list[int]] = [[] for _ in rows]
            logprobs: list[list[float]] = [[] for _ in rows]
            reasons = [StopReason.LENGTH] * len(rows)
            for left in range(parameters.max_tokens - 1, -1, -1):
                chosen, chances = self._choose(logits, parameters, random)
                going = []
                for at, row in enumerate(rows):
                    tokens[row].append(chosen[at])
                    logprobs[row].append(chances[at])
                    if chosen[at] in self._ends or self._ended(tokens[row], parameters):
                        reasons[row] = StopReason.STOP
                    else:
                        going.append(at)
                if not going or not left:
                    break
                if len(going) < len(rows):
                    rows = [rows[at] for at in going]
                    index = torch.tensor(going, device=mask.device)
                    cache.batch_select_indices(index)
                    mask = mask[index]
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
                logits = self._step([[tokens[row][-1]] for row in rows], mask, cache)
        drawn = [Sample(tuple(tokens[row]), tuple(logprobs[row]), reasons[row], policy_version) for row in range(len(tokens))]
        return [drawn[start : start + samples] for start in range(0, len(drawn), samples)]

    def _read(self, prompts_P: Sequence[Sequence[int]], samples: int) -> tuple[Any, Any, Any]:
        """Logits after each prompt, cache and attention mask, all repeated G times. Prompts are padded on the left."""
        torch, device = self._torch, self._model.device
        longest = max(map(len, prompts_P))
        padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts_P]
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts_P], device=device)
        cache = self._new_cache()
        logits = self._step(padded, mask, cache)
        cache.batch_repeat_interleave(samples)
        return logits.repeat_interleave(samples, dim=0), cache, mask.repeat_interleave(samples, dim=0)

    def _step(self, tokens: Sequence[Sequence[int]], mask: Any, cache: Any) -> Any:
        inputs = self._torch.tensor(tokens, device=mask.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
        out = self._model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    def _choose(self, logits_RV: Any, parameters: SamplingParameters, random: Any) -> tuple[list[int], list[float]]:
        """One token for each row, and its log-prob in the distribution it was drawn from (temperature and top-p applied); a
        greedy token's is the one at temperature 1."""
        torch = self._torch
        if parameters.temperature <= 0:
            chances = torch.log_softmax(logits_RV, -1)
            chosen = chances.argmax(-1)
        else:
            chances = torch.log_softmax(logits_RV / parameters.temperature, -1)
            if parameters.top_p < 1.0:
                ordered, order = chances.exp().sort(dim=-1, descending=True)
                outside = torch.zeros_like(order, dtype=torch.bool)
                outside.scatter_(-1, order, ordered.cumsum(-1) - ordered >= parameters.top_p)
                chances = torch.log_softmax(chances.masked_fill(outside, -torch.inf), -1)
            # One uniform number per row, drawn on the CPU: a seed means the same draws on every device.
            sums = chances.exp().cumsum(-1)
            drawn = torch.rand(len(logits_RV), 1, generator=random).to(sums.device) * sums[:, -1:]
            chosen = torch.searchsorted(sums, drawn, right=True)[:, 0].clamp(max=sums.shape[-1] - 1)
        picked = chances.gather(-1, chosen[:, None])[:, 0].clamp(max=0.0)
        return chosen.tolist(), picked.tolist()
