"""The engine `local`: a Hugging Face model in this process, with LoRA or all of its weights, on a CPU or a GPU.

torch, transformers and peft are imported when an engine is made, never before. Two copies of the weights are kept: those that
are trained, and the published ones that are sampled from, with the adapter merged in. So a step that is under way never changes
what is sampled, and sampling costs no adapter.

Of several processes (`coderl_trainer.processes`) each has an engine, and the verbs are one work of all: prompts and packs are
shared out, samples gathered, gradients added up. The sampled copy is whole on each, also where the trained weights are sharded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .engine import Loss, LossSettings, StepSettings
from .errors import EngineFailed, EngineRefused
from .local_model import LocalOptions as LocalOptions
from .local_model import device_of, end_ids, libraries, load_model, merged, with_adapter, written_into
from .local_state import read_state, restored_optimizer, whole_optimizer, write_state
from .losses import k3, reduced, token_losses
from .packing import Pack, packed
from .processes import MAKE, Alone, Processes, dealt, share, together
from .sharding import as_lies, let_go, scorer, shard, whole, whole_state
from .shared_prefix import NAME, register, shares
from .spelling import Spelling
from .torch_sampler import TorchSampler
from .types import Datum, Sample, SamplingParameters

_SUMS = ("loss", "clipped", "logratio", "surprise", "kl", "entropy")


class LocalEngine(Spelling):
    """See `Engine`. Bit for bit repeatable on a CPU with the same number of threads; on a GPU as far as torch is."""

    def __init__(self, options: LocalOptions, processes: Processes | None = None) -> None:
        """Loads the model. Raises `EngineRefused` where it cannot be loaded or a library is missing; with several processes
        `EngineFailed` where another could not."""
        self._processes = processes or Alone()
        self.options = options
        with self._processes.ordered(MAKE, (options,), {}):
            self._make()

    def _make(self) -> None:
        options = self.options
        self._processes.agreed(self._load, "loading the model")
        self._require_agreement(self._model.named_parameters())
        if self._processes.sharding is not None:
            shard(self._scorer, self._processes, self._device.type)
        self._trained = {name: one for name, one in self._model.named_parameters() if one.requires_grad}
        self._reference = None if options.lora_rank else {name: one.detach().clone() for name, one in self._trained.items()}
        self._optimizer: Any = None
        self._pending = False
        """A gradient waits for the step."""
        self._version = 0
        self.ends = end_ids(self._sampled.generation_config, self.tokenizer)
        """Token ids that end a sequence, the tokenizer's own first."""
        cache = self._transformers.DynamicCache
        self._sampler = TorchSampler(self._torch, self._sampled, cache, frozenset(self.ends), self.ended)
        self._copy_to_sampler()

    def _load(self) -> None:
        """Both copies of the weights."""
        self._torch, self._transformers = libraries()
        torch, options = self._torch, self.options
        self._device = device_of(torch, options.device, self._processes)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self._random = torch.Generator().manual_seed(options.seed)
        self.tokenizer, base = load_model(self._transformers, options, getattr(torch, options.dtype))
        if options.sampler_dtype == options.dtype:
            sampled = deepcopy(base)  # unpacking a GGUF file and its tokenizer takes longer than all else
        else:
            _, sampled = load_model(self._transformers, options, getattr(torch, options.sampler_dtype))
        self._model = base.to(self._device)
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
        self._scorer = scorer(torch, self._model)
        self._sampled = sampled.to(self._device).eval().requires_grad_(False)
        if options.share_prompts and shares(self._sampled.config):
            register(torch, self._transformers)
            self._sampled.set_attn_implementation(NAME)

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

    @together
    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """See `Engine.sample`. Raises `EngineRefused` for an empty prompt or no prompt."""
        if not prompts_P or not all(prompts_P) or samples < 1:
            raise EngineRefused("There is nothing to sample from: no prompt, an empty one, or no sample is asked for.")
        random = self._random
        if parameters.seed is not None:
            random = self._torch.Generator().manual_seed(parameters.seed)
        if not self._processes.launched:
            return self._sampler.draw(prompts_P, samples, parameters, random, self._version)
        seeds = self._torch.randint(2**62, (len(prompts_P),), generator=random).tolist()
        mine = share(list(zip(prompts_P, seeds, strict=True)), self._processes)

        def draw() -> list[list[Sample]]:
            if not mine:
                return []
            prompts, seeds = zip(*mine, strict=True)
            randoms = [self._torch.Generator().manual_seed(seed) for seed in seeds]
            return self._sampler.draw(prompts, samples, parameters, randoms, self._version)

        drawn = self._processes.gathered(draw, "sampling")
        return [drawn[at % len(drawn)][at // len(drawn)] for at in range(len(prompts_P))]

    @together
    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        """See `Engine.forward_backward`."""
        tokens = sum(sum(datum.mask) for datum in data_D)
        packs = packed(data_D, self.options.max_positions)

        def learn() -> dict[str, float]:
            sums: dict[str, float] = dict.fromkeys(_SUMS, 0.0)
            for pack, counts in dealt(packs, self._processes):
                told = sums if counts else dict.fromkeys(_SUMS, 0.0)
                self._learn(pack, [data_D[row] for row in pack.rows], settings, len(data_D), tokens, told, counts)
            return sums

        each = self._processes.gathered(learn, "learning")
        self._pending = self._pending or bool(packs)
        return _metrics({name: sum(one[name] for one in each) for name in _SUMS}, tokens, settings)

    @together
    def logprobs(self, data_D: Sequence[Datum]) -> list[list[float]]:
        """(D, counted tokens) log-probs of the trained weights; for evaluation, and to score text from elsewhere."""
        packs = packed(data_D, self.options.max_positions)

        def score() -> list[tuple[int, int, float]]:
            found: list[tuple[int, int, float]] = []
            for pack, counts in dealt(packs, self._processes):
                values = self._quiet_logprobs(pack).tolist()
                if counts:
                    found += [(pack.rows[at], place, one) for (at, place), one in zip(pack.places_N, values, strict=True)]
            return found

        told: list[list[float]] = [[0.0] * int(sum(datum.mask)) for datum in data_D]
        for row, place, value in (one for found in self._processes.gathered(score, "scoring") for one in found):
            told[row][place] = value
        return told

    @together
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
        if self._pending and self._processes.sharding is None and self._processes.count > 1:
            for one in trained:
                one.grad = torch.zeros_like(one) if one.grad is None else one.grad
            self._processes.add_up([one.grad for one in trained])
        self._pending = False
        limit = math.inf if settings.max_grad_norm is None else settings.max_grad_norm
        norm = float(whole(torch.nn.utils.clip_grad_norm_(trained, limit)))
        finite = math.isfinite(norm)
        if finite:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": norm, "learning_rate": settings.learning_rate, "skipped": float(not finite)}

    @together
    def publish(self) -> int:
        """See `Engine.publish`."""
        self._copy_to_sampler()
        self._version += 1
        return self._version

    @together
    def save_state(self, folder: Path, loop_state: Mapping[str, str]) -> None:
        """See `Engine.save_state`. What is saved are the trained weights, whole; loading publishes them. With several processes
        the first writes. Raises `EngineFailed` where their weights are no longer the same, `RunError` where a disk refuses."""
        torch = self._torch
        self._require_agreement(self._trained.items())
        state = {
            "weights": {name: self._kept(one.detach()) for name, one in self._trained.items()},
            "optimizer": whole_optimizer(torch, self._optimizer, self._kept),
            "random": self._random.get_state(),
            "torch_random": torch.get_rng_state(),
            "version": self._version,
        }
        if self._processes.rank:
            return
        manifest = {"engine_id": self.engine_id, "options": _plain(self.options), "loop_state": dict(loop_state)}
        with written_into(folder):
            write_state(torch, folder, state, manifest)

    @together
    def load_state(self, folder: Path) -> Mapping[str, str]:
        """See `Engine.load_state`. A folder that is refused changes nothing; gathered gradients are thrown away. Every process
        reads the folder; one process can go on with what several wrote, and the other way round."""
        torch, trained = self._torch, self._trained
        shapes = {name: one.shape for name, one in trained.items()}
        read = partial(read_state, torch, folder, self.engine_id, shapes)
        state, loop_state = self._processes.agreed(read, "reading a saved state")
        with torch.no_grad():
            for name, one in trained.items():
                one.copy_(as_lies(state["weights"][name], one))
                one.grad = None
        self._pending = False
        self._optimizer = restored_optimizer(torch, list(trained.values()), state["optimizer"])
        self._random.set_state(state["random"])
        torch.set_rng_state(state["torch_random"])
        self._version = int(state["version"])
        self._copy_to_sampler()
        return loop_state

    @together
    def save_model(self, folder: Path) -> None:
        """What others can load: the adapter in PEFT's form, or the whole model in Hugging Face's where all was trained. Raises
        `RunError` where the disk refuses."""
        saved = self._model if self._peft is None else self._peft
        given: dict[str, Any] = {}
        if self._processes.sharding is not None:
            given = {"state_dict": whole_state(saved, self._kept, "" if self._peft is None else "lora_")}
        if self._processes.rank:
            return
        with written_into(folder):
            if self._peft is not None:
                self._peft.save_pretrained(str(folder), save_embedding_layers=False, **given)
            else:
                self._model.save_pretrained(str(folder), **given)
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
        counts: bool,
    ) -> None:
        torch, device = self._torch, self._device
        reference_N = self._reference_logprobs(pack) if settings.kl else None
        logits_NV = self._logits(pack)
        logprobs_N = _picked(torch, logits_NV, pack)
        longest = max(at for _, at in pack.places_N) + 1
        index = tuple(torch.tensor(one, device=device) for one in zip(*pack.places_N, strict=True))

        def rowwise(values_N: Any) -> Any:
            return torch.zeros(len(data), longest, device=device, dtype=torch.float32).index_put(index, values_N.float())

        counted = [[at for at, learned in enumerate(one.mask) if learned] for one in data]

        def given(name: str) -> Any:
            values = [getattr(one, name)[at] for one, ats in zip(data, counted, strict=True) for at in ats]
            return rowwise(torch.tensor(values, device=device, dtype=torch.float32))

        mask_DT = rowwise(torch.ones(len(pack.places_N), device=device))
        logprobs_DT = rowwise(logprobs_N)
        told = token_losses(logprobs_DT, given("behaviour_logprobs"), given("advantages"), mask_DT, settings)
        loss_DT = told.loss_DT
        if reference_N is not None:
            divergence_DT = k3(logprobs_DT, rowwise(reference_N))
            loss_DT = loss_DT + settings.kl * divergence_DT
            sums["kl"] += float((divergence_DT.detach() * mask_DT).sum())
        if settings.entropy:
            chances_NV = torch.log_softmax(logits_NV, -1)
            entropy_DT = rowwise(-(chances_NV.exp() * chances_NV).sum(-1))
            loss_DT = loss_DT - settings.entropy * entropy_DT
            sums["entropy"] += float((entropy_DT.detach() * mask_DT).sum())
        weights_D = torch.tensor([one.weight for one in data], device=device, dtype=torch.float32)
        loss = reduced(loss_DT, mask_DT, weights_D, settings, rows=rows, tokens=tokens)
        # Sharded gradients become the mean of those of all processes, of which we want the sum.
        factor = self._processes.count if self._processes.sharding else 1
        (loss * (factor if counts else 0) if self._processes.sharding else loss).backward()
        sums["loss"] += float(loss.detach())
        sums["clipped"] += float(told.clipped_DT.sum())
        sums["logratio"] += float((told.logratio_DT * mask_DT).sum())
        sums["surprise"] -= float(logprobs_DT.detach().sum())

    def _logits(self, pack: Pack) -> Any:
        """(N, V) logits of the positions that predict a counted target."""
        torch, device = self._torch, self._device
        return self._scorer(
            torch.tensor([pack.tokens_L], device=device),
            torch.tensor([pack.positions_L], device=device),
            torch.from_numpy(pack.allowed()).to(device)[None, None],
            torch.tensor(pack.sources_N, device=device),
        )

    def _quiet_logprobs(self, pack: Pack) -> Any:
        """(N,) log-probs of the targets, without a gradient."""
        with self._torch.no_grad():
            logprobs_N = _picked(self._torch, self._logits(pack), pack)
            if self._processes.sharding is not None:
                let_go(self._scorer)
        return logprobs_N

    def _reference_logprobs(self, pack: Pack) -> Any:
        if self._peft is not None:
            with self._peft.disable_adapter():
                return self._quiet_logprobs(pack)
        assert self._reference is not None
        trained = {name: one.detach().clone() for name, one in self._trained.items()}
        try:
            self._put(self._reference)
            return self._quiet_logprobs(pack)
        finally:
            self._put(trained)

    def _put(self, weights: Mapping[str, Any]) -> None:
        with self._torch.no_grad():
            for name, one in self._trained.items():
                one.copy_(weights[name])

    def _kept(self, tensor: Any) -> Any:
        """The whole tensor in memory, on the process that writes; the others help to gather it."""
        gathered = whole(tensor)
        return None if self._processes.rank else gathered.cpu()

    def _require_agreement(self, weights: Iterable[tuple[str, Any]]) -> None:
        """All processes hold the same; pieces of sharded weights are not compared."""
        if self._processes.count == 1:
            return
        sums = repr([float(one.detach().double().sum()) for _, one in weights if not hasattr(one, "full_tensor")])
        for rank, others in enumerate(self._processes.gathered(lambda: sums, "comparing weights")):
            if others != sums:
                raise EngineFailed(f"Process {self._processes.rank} and process {rank} no longer hold the same weights.")

    def _copy_to_sampler(self) -> None:
        """Published = trained weights, with the adapter's product added where there is one."""
        with self._torch.no_grad():
            published = dict(self._sampled.named_parameters())
            for name, weight in merged(self._model, self._peft is not None):
                published[name].copy_(whole(weight))


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
