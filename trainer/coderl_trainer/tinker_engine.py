"""The engine `tinker`: weights that a hosted service holds, moved through its SDK (extra `tinker`).

Key and address are the SDK's own affair: TINKER_API_KEY (or what `tinker auth login` stored) and TINKER_BASE_URL. What is sent
are token ids, log-probs and advantages. Losses that the service has are computed there in one pass; for the others, and for the
divergence from the untrained model, log-probs are fetched first, `coderl_trainer.losses` differentiates them here (torch), and
the gradient goes back as the weights of a cross entropy: two passes, the same gradient.

The service trains adapters (LoRA) of its own base models and chooses their alpha itself. Sampling is as fresh as the last
`publish`; a state and a model that are saved stay with the service until somebody deletes them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .engine import MANIFEST, Loss, LossSettings, StepSettings
from .errors import EngineFailed, EngineRefused
from .local_model import end_ids
from .losses import k3, reduced, token_losses
from .run_files import write_whole, writing
from .spelling import Spelling
from .tinker_losses import NATIVE, counted, service_loss, step_metrics
from .tinker_service import Patience, address, sdk
from .types import Datum, Sample, SamplingParameters, StopReason

_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class TinkerOptions:
    """What is trained."""

    base_model: str
    """Its name at the service, such as `meta-llama/Llama-3.2-1B`."""
    lora_rank: int = 16
    seed: int = 0
    wait_s: float = 1800.0
    """Longest wait for one answer."""


class TinkerEngine(Spelling):
    """See `Engine`. Repeatable as far as the service keeps to the seeds it is given."""

    def __init__(self, options: TinkerOptions) -> None:
        """Asks the service for a new adapter. Raises `EngineRefused` without SDK, key or model, and `EngineFailed`."""
        if options.lora_rank < 1:
            raise EngineRefused("The engine `tinker` trains adapters only: lora_rank must be 1 or more.")
        self.options = options
        self._tinker = sdk()
        self._patience = Patience(self._tinker, options.wait_s)
        self._random = random.Random(options.seed)
        self._service = self._tinker.ServiceClient()
        try:
            self._training, self.tokenizer, self._untrained = self._opened()
        except (EngineFailed, EngineRefused):
            self._service.close("errored")  # not waited for: whoever does not answer would not answer to this either
            raise
        self.ends: tuple[int, ...] = end_ids(None, self.tokenizer)
        """Token ids that end a sequence."""
        self._sampler = self._untrained
        self._version = 0
        self._saved = 0
        self._gathered = False

    @property
    def engine_id(self) -> str:
        """See `Engine.engine_id`."""
        return f"tinker:{self.options.base_model}:lora-r{self.options.lora_rank}"

    @property
    def losses(self) -> frozenset[Loss]:
        """All of them where torch is installed, else those that the service computes."""
        return frozenset(Loss) if find_spec("torch") else NATIVE

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """See `Engine.sample`. Raises `EngineRefused` for nothing to sample from, and for a temperature other than 0 and 1 or a
        top-p below 1: the service does not say what its log-probs mean there."""
        if not prompts_P or not all(prompts_P) or samples < 1:
            raise EngineRefused("There is nothing to sample from: no prompt, an empty one, or no sample is asked for.")
        if parameters.temperature not in (0.0, 1.0) or parameters.top_p != 1.0:
            raise EngineRefused(
                "The engine `tinker` samples at temperature 1 or 0 and with top_p 1: what the log-probs of the service "
                "mean elsewhere is not documented, and the ratios of training need them."
            )
        drawn = self._random if parameters.seed is None else random.Random(parameters.seed)
        asked = [
            self._sampler.sample(
                prompt=self._tinker.ModelInput.from_ints(list(prompt)),
                num_samples=samples,
                sampling_params=self._tinker.SamplingParams(
                    max_tokens=parameters.max_tokens, temperature=parameters.temperature, seed=drawn.randrange(_SEEDS)
                ),
            )
            for prompt in prompts_P
        ]
        what = f"{samples} samples of each of {len(prompts_P)} prompts"
        return [[self._read(one, parameters) for one in self._patience.wait(future, what).sequences] for future in asked]

    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        """See `Engine.forward_backward`. Raises `EngineRefused` for a coefficient of the entropy: the service tells the
        log-probs of single tokens only."""
        if settings.loss not in self.losses or (settings.kl and not find_spec("torch")):
            raise EngineRefused(f"The loss {settings.loss} (kl = {settings.kl:g}) is not one of the service: install torch.")
        if settings.entropy:
            raise EngineRefused("The engine `tinker` cannot reward entropy; set grpo.entropy to 0.")
        if not data_D:
            return {"loss": 0.0, **step_metrics((), (), settings), **({"kl": 0.0} if settings.kl else {})}
        self._gathered = True
        if settings.loss in NATIVE and not settings.kl:
            asked = service_loss(data_D, settings)
            rows = [self._row(row, inputs) for row, inputs in zip(data_D, asked.inputs_D, strict=True)]
            future = self._training.forward_backward(rows, asked.name, asked.config)
            told = self._patience.wait(future, f"the gradient of {len(rows)} rows")
            return {"loss": _loss(told), **step_metrics(data_D, _logprobs(told), settings)}
        return self._two_passes(data_D, settings)

    def logprobs(self, data_D: Sequence[Datum]) -> list[list[float]]:
        """See `Engine.logprobs`."""
        if not data_D:
            return []
        rows = [self._row(row, {"weights": list(row.mask)}) for row in data_D]
        told = self._patience.wait(self._training.forward(rows, "cross_entropy"), f"the log-probs of {len(rows)} rows")
        return [counted(values, row) for values, row in zip(_logprobs(told), data_D, strict=True)]

    def optim_step(self, settings: StepSettings) -> Mapping[str, float]:
        """See `Engine.optim_step`. `grad_norm` is not a number where the service does not tell it."""
        if not self._gathered:
            return {"grad_norm": 0.0, "learning_rate": settings.learning_rate, "skipped": 0.0}
        step = self._tinker.AdamParams(
            learning_rate=settings.learning_rate,
            beta1=settings.beta1,
            beta2=settings.beta2,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            grad_clip_norm=settings.max_grad_norm or 0.0,
        )
        told = self._patience.wait(self._training.optim_step(step), "a step of the optimizer")
        self._gathered = False
        norms = [value for name, value in (told.metrics or {}).items() if "grad" in name]
        return {"grad_norm": norms[0] if norms else math.nan, "learning_rate": settings.learning_rate, "skipped": 0.0}

    def publish(self) -> int:
        """See `Engine.publish`."""
        self._sampler = self._published(self._training)
        self._version += 1
        return self._version

    def save_state(self, folder: Path, loop_state: Mapping[str, str]) -> None:
        """See `Engine.save_state`. The weights and the optimizer's state stay with the service, the folder holds their name."""
        self._saved += 1
        name = f"state-{self._saved:06d}"
        path = self._patience.wait(self._training.save_state(name), "a saved state").path
        version, numbers, gauss = self._random.getstate()
        state = {
            "engine_id": self.engine_id,
            "path": path,
            "random": [version, list(numbers), gauss],
            "version": self._version,
            "loop_state": dict(loop_state),
        }
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / MANIFEST, json.dumps(state, sort_keys=True))

    def load_state(self, folder: Path) -> Mapping[str, str]:
        """See `Engine.load_state`. A folder that is refused changes nothing; gathered gradients are thrown away."""
        state = self._read_state(folder)
        training = self._patience.within(
            lambda: self._service.create_training_client_from_state_with_optimizer(state["path"]).result(),
            f"the saved state {state['path']}",
        )
        sampler = self._published(training)
        version, numbers, gauss = state["random"]
        self._random.setstate((version, tuple(numbers), gauss))
        self._training, self._sampler, self._version = training, sampler, int(state["version"])
        self._saved, self._gathered = 0, False
        return dict(state["loop_state"])

    def save_model(self, folder: Path) -> None:
        """See `Engine.save_model`: the files that the service exports, in the form it calls external (Hugging Face's).
        Raises also `RunError` where the disk refuses."""
        import httpx

        self._saved += 1
        name = f"model-{self._saved:06d}"
        path = self._patience.wait(self._training.save_weights_external(name), "an export of the weights").path
        # The SDK keeps such clients by the address it is told: without one, that of the first engine of the process.
        rest = self._patience.within(lambda: self._tinker.RestClient(base_url=address()), "a client for downloads")
        urls = self._patience.wait(rest.get_external_weights_urls(path), "the addresses of the exported weights").urls
        for name, url in urls.items():
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise EngineRefused(f"The service names a file outside the folder of the model: {name}")
            try:
                with (
                    writing(target),
                    httpx.stream("GET", url, timeout=self.options.wait_s, follow_redirects=True) as answer,
                ):
                    answer.raise_for_status()
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        for piece in answer.iter_bytes():
                            file.write(piece)
            except httpx.HTTPError as error:
                raise EngineFailed(f"{name} of the exported weights could not be fetched: {type(error).__name__}") from error

    def close(self) -> None:
        """Tell the service that the session is over; nothing works afterwards."""
        with suppress(EngineFailed):  # it ends by itself when nobody is heard of any more
            self._patience.wait(self._service.close("success"), "the end of the session")

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _opened(self) -> tuple[Any, Any, Any]:
        """(a new adapter, its tokenizer, a sampler of the untrained model)."""
        options, wait = self.options, self._patience
        training = wait.within(
            lambda: self._service.create_lora_training_client(
                options.base_model, rank=options.lora_rank, seed=options.seed
            ).result(),
            f"an adapter of {options.base_model}",
        )
        tokenizer = wait.within(training.get_tokenizer, f"the tokenizer of {options.base_model}")
        untrained = self._service.create_sampling_client(base_model=options.base_model)
        return training, tokenizer, wait.wait(untrained, f"a sampler of {options.base_model}")

    def _published(self, training: Any) -> Any:
        return self._patience.wait(training.save_weights_and_get_sampling_client(), "a sampler of the new weights")

    def _read_state(self, folder: Path) -> dict[str, Any]:
        try:
            state = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            random.Random().setstate((state["random"][0], tuple(state["random"][1]), state["random"][2]))
            written_by, _, _, _ = state["engine_id"], state["path"] + "", int(state["version"]), dict(state["loop_state"])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise EngineRefused(f"{folder} holds no state of an engine that could be read: {error}") from error
        if written_by != self.engine_id:
            raise EngineRefused(f"{folder} was written by {written_by}, this engine is {self.engine_id}.")
        return dict(state)

    def _row(self, row: Datum, inputs: Mapping[str, list[float]]) -> Any:
        prompt = self._tinker.ModelInput.from_ints(list(row.input_tokens))
        return self._tinker.Datum(model_input=prompt, loss_fn_inputs={"target_tokens": list(row.target_tokens), **inputs})

    def _read(self, sequence: Any, parameters: SamplingParameters) -> Sample:
        """A sample, cut off behind the token with which its text ends: the service knows no such ends."""
        if sequence.logprobs is None:
            raise EngineRefused("The service told no log-probs of its samples; nothing can be learned from them.")
        tokens, logprobs = tuple(sequence.tokens), tuple(min(float(one), 0.0) for one in sequence.logprobs)
        for count in range(1, len(tokens) + 1):
            if self.ended(tokens[:count], parameters):
                return Sample(tokens[:count], logprobs[:count], StopReason.STOP, self._version)
        try:
            reason = StopReason(sequence.stop_reason)
        except ValueError as error:
            raise EngineRefused(f"The service ended a sample for a reason that is not known: {sequence.stop_reason}") from error
        return Sample(tokens, logprobs, reason, self._version)

    def _two_passes(self, data_D: Sequence[Datum], settings: LossSettings) -> dict[str, float]:
        import torch

        longest = max(len(row.mask) for row in data_D)
        sums: dict[str, float] = {}

        def padded(rows_D: Sequence[Any]) -> Any:
            rows = [torch.as_tensor(one, dtype=torch.float32) for one in rows_D]
            return torch.stack([torch.nn.functional.pad(one, (0, longest - len(one))) for one in rows])

        mask, weights = padded([row.mask for row in data_D]), torch.tensor([row.weight for row in data_D])
        behaviour, advantages = padded([row.behaviour_logprobs for row in data_D]), padded([row.advantages for row in data_D])
        reference = padded(self._reference(data_D)) if settings.kl else None

        def loss_of(_rows: Any, logprobs_D: Any) -> tuple[Any, dict[str, float]]:
            logprobs = padded(logprobs_D)
            told = token_losses(logprobs, behaviour, advantages, mask, settings)
            loss = told.loss_DT
            if reference is not None:
                divergence = k3(logprobs, reference)
                loss = loss + settings.kl * divergence
                sums["kl"] = float((divergence.detach() * mask).sum())
            sums["clipped"] = float(told.clipped_DT.sum())
            return reduced(loss, mask, weights, settings, rows=len(data_D), tokens=float(mask.sum())), {}

        rows = [self._row(row, {}) for row in data_D]
        future = self._training.forward_backward_custom(rows, loss_of)
        told = self._patience.wait(future, f"log-probs and gradient of {len(rows)} rows")
        metrics = step_metrics(data_D, _logprobs(told), settings)
        most = max(metrics["tokens"], 1.0)
        metrics |= {"loss": _loss(told), "clip_share": sums["clipped"] / most}
        return {**metrics, "kl": sums["kl"] / most} if settings.kl else metrics

    def _reference(self, data_D: Sequence[Datum]) -> list[list[float]]:
        """(D, T) log-probs by the untrained model."""
        asked = [
            self._untrained.compute_logprobs(self._tinker.ModelInput.from_ints([*row.input_tokens, row.target_tokens[-1]]))
            for row in data_D
        ]
        what = f"the log-probs of {len(data_D)} rows by the untrained model"
        return [[float(one) for one in self._patience.wait(future, what)[1:]] for future in asked]


def _loss(told: Any) -> float:
    return float(told.metrics.get("loss:sum", math.nan))


def _logprobs(told: Any) -> list[list[float]]:
    """(D, T)"""
    try:
        return [[min(float(one), 0.0) for one in row["logprobs"].data] for row in told.loss_fn_outputs]
    except KeyError as error:
        raise EngineRefused("The service tells no log-probs of what it trains on; this loop needs them.") from error
