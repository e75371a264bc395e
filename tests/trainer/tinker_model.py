"""What a Tinker service holds: a tiny llama with adapters, trained and sampled by torch. Written after what the SDK documents,
with nothing of ours in it, so that it can tell where our engine misreads the service."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class State:
    """A saved adapter with its optimizer."""

    weights: dict[str, Any]
    optimizer: dict[str, Any] | None
    rank: int


class Adapter:
    """One training run: a model with an adapter, its gathered gradient and AdamW."""

    def __init__(self, folder: Path, rank: int, seed: int) -> None:
        torch.manual_seed(seed)
        base = transformers.AutoModelForCausalLM.from_pretrained(folder)
        self.rank = rank
        self.model = peft.get_peft_model(base, peft.LoraConfig(r=rank, lora_alpha=32, target_modules=list(TARGETS)))
        self.trained = [one for one in self.model.parameters() if one.requires_grad]
        self.optimizer: Any = None

    def state(self) -> State:
        optimizer = None if self.optimizer is None else copy.deepcopy(self.optimizer.state_dict())
        return State(self.weights(), optimizer, self.rank)

    def weights(self) -> dict[str, Any]:
        return {name: one.detach().clone() for name, one in self.model.named_parameters() if one.requires_grad}

    def load(self, state: State) -> None:
        with torch.no_grad():
            for name, one in self.model.named_parameters():
                if one.requires_grad:
                    one.copy_(state.weights[name])
        if state.optimizer is not None:
            self.optimizer = torch.optim.AdamW(self.trained)
            self.optimizer.load_state_dict(copy.deepcopy(state.optimizer))

    def learn(
        self, rows: Sequence[tuple[list[int], Mapping[str, Any]]], loss: str, config: Mapping[str, float], backward: bool
    ) -> tuple[float, list[Any]]:
        """(sum of the losses, log-probs of each row's targets)."""
        total, told = torch.zeros(()), []
        with torch.set_grad_enabled(backward):
            for tokens, inputs in rows:
                logits = self.model(input_ids=torch.tensor([tokens])).logits[0].float()
                targets = torch.as_tensor(inputs["target_tokens"])
                logprobs = torch.log_softmax(logits, -1).gather(-1, targets[:, None])[:, 0]
                total = total + loss_of(loss, logprobs, {name: torch.as_tensor(one) for name, one in inputs.items()}, config)
                told.append(logprobs.detach())
            if backward:
                total.backward()
        return float(total.detach()), told

    def step(self, params: Mapping[str, float]) -> float:
        """The norm of the gradient before it was cut."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.trained)
        for group in self.optimizer.param_groups:
            group.update(
                lr=params["learning_rate"],
                betas=(params["beta1"], params["beta2"]),
                eps=params["eps"],
                weight_decay=params["weight_decay"],
            )
        norm = torch.nn.utils.clip_grad_norm_(self.trained, params["grad_clip_norm"] or torch.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)


def loss_of(name: str, logprobs: Any, inputs: Mapping[str, Any], config: Mapping[str, float]) -> Any:
    """The documented losses of the service, summed over the tokens of a row."""
    if name == "cross_entropy":
        return -(logprobs * inputs["weights"]).sum()
    ratio, advantages = (logprobs - inputs["logprobs"]).exp(), inputs["advantages"]
    if name == "importance_sampling":
        return -(ratio * advantages).sum()
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    if name == "ppo":
        return -torch.minimum(ratio * advantages, clipped * advantages).sum()
    if name == "cispo":
        return -(clipped.detach() * logprobs * advantages).sum()
    raise ValueError(f"{name} is not a loss of this service")


class Sampler:
    """Fixed weights to draw from; None = those of the base model."""

    def __init__(self, folder: Path, state: State | None) -> None:
        if state is None:
            self._model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        else:
            adapter = Adapter(folder, state.rank, 0)
            adapter.load(state)
            self._model = adapter.model
        self._end = self._model.config.eos_token_id

    def draw(self, prompt: list[int], params: Mapping[str, Any], random: Any) -> tuple[list[int], list[float], bool]:
        """(tokens, log-probs, whether it ended by itself)."""
        tokens: list[int] = []
        logprobs: list[float] = []
        with torch.inference_mode():
            for _ in range(params["max_tokens"]):
                logits = self._model(input_ids=torch.tensor([prompt + tokens])).logits[0, -1].float()
                chances = torch.log_softmax(logits, -1)
                greedy = not params["temperature"]
                one = int(chances.argmax()) if greedy else int(torch.multinomial(chances.exp(), 1, generator=random))
                tokens.append(one)
                logprobs.append(float(chances[one]))
                if one == self._end:
                    return tokens, logprobs, True
        return tokens, logprobs, False

    def prompt_logprobs(self, prompt: list[int]) -> list[float]:
        """Of every token; nothing is known of the first."""
        with torch.inference_mode():
            chances = torch.log_softmax(self._model(input_ids=torch.tensor([prompt])).logits[0].float(), -1)
        return [float("nan"), *(float(chances[at - 1, prompt[at]]) for at in range(1, len(prompt)))]
