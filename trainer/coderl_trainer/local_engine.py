"""The engine `local`: a Hugging Face model in this process, with LoRA or all of its weights, on a CPU or a GPU.

torch, transformers and peft are imported when an engine is made, never before. Two copies of the weights are kept: those that
are trained, and the published ones that are sampled from, with the adapter merged in. So a step that is under way never changes
what is sampled, and sampling costs no adapter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from coderl_generator.backend import line_is_complete

from .engine import Loss, LossSettings, StepSettings
from .errors import EngineRefused
from .local_model import LocalOptions as LocalOptions
from .local_model import end_ids, libraries, load_model, merged, with_adapter, written_into
from .losses import k3, reduced, token_losses
from .packing import Pack, packed
from .run_files import write_whole
from .shared_prefix import NAME, register, shares
from .torch_sampler import TorchSampler
from .types import Datum, Sample, SamplingParameters

_STATE = "state.pt"
MANIFEST = "engine.json"
"""Of a saved state; written last."""


class LocalEngine:
    """See `Engine`. Bit for bit repeatable on a CPU with the same number of threads; on a GPU as far as torch is."""

    def __init__(self, options: LocalOptions) -> None:
        """Loads the model. Raises `EngineRefused` where it cannot be loaded or a library is missing."""
        self._torch, self._transformers = libraries()
        self.options = options
        torch = self._torch
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self._random = torch.Generator().manual_seed(options.seed)
        self.tokenizer, base = load_model(self._transformers, options, getattr(torch, options.dtype))
        if options.sampler_dtype == options.dtype:
            sampled = deepcopy(base)  # unpacking a GGUF file and its tokenizer takes longer than all else
        else:
            _, sampled = load_model(self._transformers, options, getattr(torch, options.sampler_dtype))
        self._model = base.to(options.device)
        if options.lora_rank:
            self._peft = with_adapter(self._model, options)
        else:
            self._peft = None
        self._model.train(options.checkpointing)  # no dropout anywhere: sampling and training see the same function
        if options.checkpointing:
            # transformers renames it in 5.x and drops the old name in 6.
            name = "activation_checkpointing_enable"
            enable = getattr(self._model, name, None) or self._model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        self._trained = {name: one for name, one in self._model.named_parameters() if one.requires_grad}
        self._reference = None if options.lora_rank else {name: one.detach().clone() for name, one in self._trained.items()}
        self._sampled = sampled.to(options.device).eval().requires_grad_(False)
        if options.share_prompts and shares(self._sampled.config):
            register(torch, self._transformers)
            self._sampled.set_attn_implementation(NAME)
        self._optimizer: Any = None
        self._version = 0
        self.ends = end_ids(self._sampled.generation_config, self.tokenizer)
        """Token ids that end a sequence, the tokenizer's own first."""
        self._sampler = TorchSampler(torch, self._sampled, self._transformers.DynamicCache, frozenset(self.ends), self._ended)
        self._copy_to_sampler()

    @property
    def engine_id(self) -> str:
        """See `Engine.engine_id`."""
        shape = f"lora-r{self.options.lora_rank}" if self.options.lora_rank else "full"
        return f"local:{self.options.model.stem}:{shape}:{self.options.dtype}"

    @property
    def losses(self) -> frozenset[Loss]:
        """All of them."""
        return frozenset(Loss)

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(one.numel() for one in self._trained.values())

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, control tokens spelled out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """See `Engine.sample`. Raises `EngineRefused` for an empty prompt or no prompt."""
        if not prompts_P or not all(prompts_P) or samples < 1:
            raise EngineRefused("There is nothing to sample from: no prompt, an empty one, or no sample is asked for.")
        random = self._random
        if parameters.seed is not None:
            random = self._torch.Generator().manual_seed(parameters.seed)
        return self._sampler.draw(prompts_P, samples, parameters, random, self._version)

    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        """See `Engine.forward_backward`."""
        tokens = sum(sum(datum.mask) for datum in data_D)
        sums: dict[str, float] = dict.fromkeys(("loss", "clipped", "logratio", "surprise", "kl", "entropy"), 0.0)
        for pack in packed(data_D, self.options.max_positions):
            self._learn(pack, [data_D[row] for row in pack.rows], settings, len(data_D), tokens, sums)
        return _metrics(sums, tokens, settings)

    def logprobs(self, data_D: Sequence[Datum]) -> list[list[float]]:
        """(D, counted tokens) log-probs of the trained weights; for evaluation, and to score text from elsewhere."""
        told: list[list[float]] = [[0.0] * int(sum(datum.mask)) for datum in data_D]
        with self._torch.inference_mode():
            for pack in packed(data_D, self.options.max_positions):
                values = _picked(self._torch, self._logits(pack), pack).tolist()
                for (branch, at), value in zip(pack.places_N, values, strict=True):
                    told[pack.rows[branch]][at] = value
        return told

    def optim_step(self, settings: StepSettings) -> Mapping[str, float]:
        """See `Engine.optim_step`. A gradient that is not finite is cleared and not applied; `skipped` is 1 then."""
        torch, trained = self._torch, list(self._trained.values())
        if self._optimizer is None:
            self._optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate)
        for group in self._optimizer.param_groups:
            group.update(
                lr=settings.learning_rate,
                betas=(settings.beta1, settings.beta2),
                eps=settings.epsilon,
                weight_decay=settings.weight_decay,
            )
        limit = math.inf if settings.max_grad_norm is None else settings.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(trained, limit))
        finite = math.isfinite(norm)
        if finite:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": norm, "learning_rate": settings.learning_rate, "skipped": float(not finite)}

    def publish(self) -> int:
        """See `Engine.publish`."""
        self._copy_to_sampler()
        self._version += 1
        return self._version

    def save_state(self, folder: Path, loop_state: Mapping[str, str]) -> None:
        """See `Engine.save_state`. What is saved are the trained weights; loading publishes them. Raises `RunError` where the
        disk refuses."""
        torch = self._torch
        state = {
            "weights": {name: one.detach().cpu() for name, one in self._trained.items()},
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
            "random": self._random.get_state(),
            "torch_random": torch.get_rng_state(),
            "version": self._version,
        }
        with written_into(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST).unlink(missing_ok=True)  # never one state's manifest beside another's weights
            torch.save(state, folder / _STATE)
        told = {"engine_id": self.engine_id, "options": _plain(self.options), "loop_state": dict(loop_state)}
        write_whole(folder / MANIFEST, json.dumps(told, indent=1, sort_keys=True))

    def load_state(self, folder: Path) -> Mapping[str, str]:
        """See `Engine.load_state`. A folder that is refused changes nothing; gathered gradients are thrown away."""
        torch = self._torch
        state, loop_state = self._read_state(folder)
        with torch.no_grad():
            for name, one in self._trained.items():
                one.copy_(state["weights"][name])
                one.grad = None
        self._optimizer = None
        if state["optimizer"] is not None:
            self._optimizer = torch.optim.AdamW(list(self._trained.values()))
            self._optimizer.load_state_dict(state["optimizer"])
        self._random.set_state(state["random"])
        torch.set_rng_state(state["torch_random"])
        self._version = int(state["version"])
        self._copy_to_sampler()
        return loop_state

    def _read_state(self, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
        """(state, the loop's part), checked against this engine. Raises `EngineRefused`."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            written_by, loop_state = manifest["engine_id"], dict(manifest["loop_state"])
            state = self._torch.load(folder / _STATE, map_location="cpu", weights_only=True)
            shapes = {name: one.shape for name, one in state["weights"].items()}
            complete = state.keys() >= {"optimizer", "random", "torch_random", "version"}
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, UnpicklingError) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EngineRefused(f"{folder} holds no state of an engine that could be read: {why}") from error
        if written_by != self.engine_id:
            raise EngineRefused(f"{folder} was written by {written_by}, this engine is {self.engine_id}.")
        if not complete or shapes != {name: one.shape for name, one in self._trained.items()}:
            raise EngineRefused(f"The weights in {folder} are not those of this engine's model.")
        return state, loop_state

    def save_model(self, folder: Path) -> None:
        """What others can load: the adapter in PEFT's form, or the whole model in Hugging Face's where all was trained. Raises
        `RunError` where the disk refuses."""
        with written_into(folder):
            if self._peft is not None:
                self._peft.save_pretrained(str(folder), save_embedding_layers=False)
            else:
                self._model.save_pretrained(str(folder))
                self.tokenizer.save_pretrained(str(folder))

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _learn(
        self,
        pack: Pack,
        data: Sequence[Datum],
        settings: LossSettings,
        rows: int,
        tokens: float,
        sums: dict[str, float],
    ) -> None:
        torch, device = self._torch, self.options.device
        logits_NV = self._logits(pack)
        logprobs_N = _picked(torch, logits_NV, pack)
        longest = max(at for _, at in pack.places_N) + 1
        index = tuple(torch.tensor(one, device=device) for one in zip(*pack.places_N, strict=True))

        def rowwise(values_N: Any) -> Any:
            return torch.zeros(len(data), longest, device=device, dtype=torch.float32).index_put(index, values_N.float())

        counted = [[at for at, counts in enumerate(one.mask) if counts] for one in data]

        def given(name: str) -> Any:
            values = [getattr(one, name)[at] for one, ats in zip(data, counted, strict=True) for at in ats]
            return rowwise(torch.tensor(values, device=device, dtype=torch.float32))

        mask_DT = rowwise(torch.ones(len(pack.places_N), device=device))
        logprobs_DT = rowwise(logprobs_N)
        told = token_losses(logprobs_DT, given("behaviour_logprobs"), given("advantages"), mask_DT, settings)
        loss_DT = told.loss_DT
        if settings.kl:
            divergence_DT = k3(logprobs_DT, rowwise(self._reference_logprobs(pack)))
            loss_DT = loss_DT + settings.kl * divergence_DT
            sums["kl"] += float((divergence_DT.detach() * mask_DT).sum())
        if settings.entropy:
            chances_NV = torch.log_softmax(logits_NV, -1)
            entropy_DT = rowwise(-(chances_NV.exp() * chances_NV).sum(-1))
            loss_DT = loss_DT - settings.entropy * entropy_DT
            sums["entropy"] += float((entropy_DT.detach() * mask_DT).sum())
        weights_D = torch.tensor([one.weight for one in data], device=device, dtype=torch.float32)
        loss = reduced(loss_DT, mask_DT, weights_D, settings, rows=rows, tokens=tokens)
        loss.backward()
        sums["loss"] += float(loss.detach())
        sums["clipped"] += float(told.clipped_DT.sum())
        sums["logratio"] += float((told.logratio_DT * mask_DT).sum())
        sums["surprise"] -= float(logprobs_DT.detach().sum())

    def _logits(self, pack: Pack) -> Any:
        """(N, V) logits of the positions that predict a counted target."""
        torch, device = self._torch, self.options.device
        allowed = torch.from_numpy(pack.allowed()).to(device)[None, None]
        hidden = self._model.model(
            input_ids=torch.tensor([pack.tokens_L], device=device),
            position_ids=torch.tensor([pack.positions_L], device=device),
            attention_mask=allowed,
            use_cache=False,
        ).last_hidden_state[0]
        return self._model.lm_head(hidden[torch.tensor(pack.sources_N, device=device)]).float()

    def _reference_logprobs(self, pack: Pack) -> Any:
        torch = self._torch
        with torch.no_grad():
            if self._peft is not None:
                with self._peft.disable_adapter():
                    return _picked(torch, self._logits(pack), pack)
            assert self._reference is not None
            trained = {name: one.detach().clone() for name, one in self._trained.items()}
            try:
                self._put(self._reference)
                return _picked(torch, self._logits(pack), pack)
            finally:
                self._put(trained)

    def _put(self, weights: Mapping[str, Any]) -> None:
        for name, one in self._trained.items():
            one.data.copy_(weights[name])

    def _copy_to_sampler(self) -> None:
        """Published = trained weights, with the adapter's product added where there is one."""
        with self._torch.no_grad():
            published = dict(self._sampled.named_parameters())
            for name, weight in merged(self._model, self._peft is not None):
                published[name].copy_(weight)

    def _ended(self, tokens: Sequence[int], parameters: SamplingParameters) -> bool:
        if not (parameters.one_line or parameters.stop):
            return False
        text = self.decode(tokens)
        return (parameters.one_line and line_is_complete(text)) or any(stop in text for stop in parameters.stop)


def _picked(torch: Any, logits_NV: Any, pack: Pack) -> Any:
    """(N,) log-probs of the targets."""
    targets = torch.tensor(pack.targets_N, device=logits_NV.device)
    return torch.log_softmax(logits_NV, -1).gather(-1, targets[:, None])[:, 0]


def _metrics(sums: Mapping[str, float], tokens: float, settings: LossSettings) -> dict[str, float]:
    counted = max(tokens, 1.0)
    told = {
        "loss": sums["loss"],
        "tokens": tokens,
        "mean_logratio": sums["logratio"] / counted,
        "clip_share": sums["clipped"] / counted,
        "entropy": (sums["entropy"] if settings.entropy else sums["surprise"]) / counted,
    }
    return {**told, "kl": sums["kl"] / counted} if settings.kl else told


def _plain(options: LocalOptions) -> dict[str, Any]:
    return {**asdict(options), "model": options.model.name}
