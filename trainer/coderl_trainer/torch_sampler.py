"""Drawing G completions for each of P prompts from a Hugging Face model, with the log-probs they were drawn with.

Every prompt is read once; all P·G samples are decoded together, and a sample that has ended leaves the batch. Models that can
have a prompt's keys and values kept once for its G samples are decoded so (`coderl_trainer.shared_prefix`); for others they
are copied out to the samples. Blocks; runs on whatever device the model is on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .shared_prefix import NAME, SharedPrefix
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
        """P groups of G samples. `random`: a `torch.Generator` on the CPU, which alone decides what is drawn; or one for each
        prompt, so that what is drawn for it does not hang on the other prompts."""
        torch = self._torch
        shared = self._model.config._attn_implementation == NAME
        decoding = (_Shared if shared else _Copied)(torch, self._model, self._new_cache, samples, parameters.max_tokens)
        with torch.inference_mode():
            logits = decoding.read(prompts_P)
            rows = list(range(len(prompts_P) * samples))
            tokens: list[list[int]] = [[] for _ in rows]
            logprobs: list[list[float]] = [[] for _ in rows]
            reasons = [StopReason.LENGTH] * len(rows)
            for left in range(parameters.max_tokens - 1, -1, -1):
                chosen, chances = self._choose(logits, parameters, partial(self._uniform, random, rows, samples))
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
                    decoding.keep(going)
                logits = decoding.step([tokens[row][-1] for row in rows])
        drawn = [Sample(tuple(tokens[row]), tuple(logprobs[row]), reasons[row], policy_version) for row in range(len(tokens))]
        return [drawn[start : start + samples] for start in range(0, len(drawn), samples)]

    def _choose(
        self, logits_RV: Any, parameters: SamplingParameters, uniform: Callable[[], Any]
    ) -> tuple[list[int], list[float]]:
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
            sums = chances.exp().cumsum(-1)
            drawn = uniform().to(sums.device) * sums[:, -1:]
            chosen = torch.searchsorted(sums, drawn, right=True)[:, 0].clamp(max=sums.shape[-1] - 1)
        picked = chances.gather(-1, chosen[:, None])[:, 0].clamp(max=0.0)
        return chosen.tolist(), picked.tolist()

    def _uniform(self, random: Any, rows: Sequence[int], samples: int) -> Any:
        """(R, 1) one uniform number for each row, drawn on the CPU: a seed means the same draws on every device."""
        torch = self._torch
        if not isinstance(random, list):
            return torch.rand(len(rows), 1, generator=random)
        left = Counter(row // samples for row in rows)  # rows stand in the order of their prompts
        return torch.cat([torch.rand(count, 1, generator=random[prompt]) for prompt, count in left.items()])


class _Decoding:
    """One call: what has been read so far. Prompts are padded on the left."""

    def __init__(self, torch: Any, model: Any, new_cache: Callable[[], Any], samples: int, most_tokens: int) -> None:
        self._torch = torch
        self._model = model
        self._new_cache = new_cache
        self._samples = samples
        self._most = most_tokens

    def _padded(self, prompts_P: Sequence[Sequence[int]]) -> tuple[Any, Any, Any]:
        """(P, L) tokens, presence and positions."""
        longest = max(map(len, prompts_P))
        tokens = self._tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts_P])
        present = self._tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts_P])
        return tokens, present, (present.cumsum(-1) - 1).clamp(min=0)

    def _tensor(self, values: Any) -> Any:
        return self._torch.tensor(values, device=self._model.device)


class _Copied(_Decoding):
    """Prompt and own tokens of each row in one cache of transformers."""

    def read(self, prompts_P: Sequence[Sequence[int]]) -> Any:
        """(P·G, V) logits after each prompt, repeated G times."""
        tokens, present, positions = self._padded(prompts_P)
        self._cache = self._new_cache()
        logits = self._forward(tokens, present, positions)
        self._cache.batch_repeat_interleave(self._samples)
        self._present = present.repeat_interleave(self._samples, dim=0)
        return logits.repeat_interleave(self._samples, dim=0)

    def keep(self, going: Sequence[int]) -> None:
        index = self._tensor(going)
        self._cache.batch_select_indices(index)
        self._present = self._present[index]

    def step(self, tokens_R: Sequence[int]) -> Any:
        """(R, V) logits after one more token of each row."""
        self._present = self._torch.cat([self._present, self._present.new_ones(len(tokens_R), 1)], dim=1)
        return self._forward(self._tensor(tokens_R)[:, None], self._present, self._present.sum(-1, keepdim=True) - 1)

    def _forward(self, tokens: Any, present: Any, positions: Any) -> Any:
        out = self._model(
            input_ids=tokens,
            attention_mask=present,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()


class _Shared(_Decoding):
    """The prompts' part kept once."""

    def read(self, prompts_P: Sequence[Sequence[int]]) -> Any:
        """(P·G, V) logits after each prompt, repeated G times."""
        tokens, present, positions = self._padded(prompts_P)
        length = tokens.shape[1]
        self._shared = SharedPrefix(self._torch, present, self._samples, self._most)
        seen = self._torch.ones(length, length, dtype=self._torch.bool, device=tokens.device).tril()
        padding = self._torch.eye(
            length, dtype=self._torch.bool, device=tokens.device
        )  # else it would see nothing: not a number
        allowed = (seen[None] & present.bool()[:, None, :]) | padding[None]
        logits = self._forward(tokens, positions, allowed[:, None])
        self._positions = present.sum(-1, keepdim=True).repeat_interleave(self._samples, dim=0)
        return logits.repeat_interleave(self._samples, dim=0)

    def keep(self, going: Sequence[int]) -> None:
        self._shared.keep(going)
        self._positions = self._positions[self._tensor(going)]

    def step(self, tokens_R: Sequence[int]) -> Any:
        """(R, V) logits after one more token of each row."""
        self._shared.length += 1
        logits = self._forward(self._tensor(tokens_R)[:, None], self._positions, None)
        self._positions = self._positions + 1
        return logits

    def _forward(self, tokens: Any, positions: Any, allowed: Any) -> Any:
        out = self._model(
            input_ids=tokens,
            attention_mask=allowed,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            shared=self._shared,
        )
        return out.logits[:, -1].float()
