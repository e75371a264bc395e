"""An engine whose samples a vLLM server draws, while another engine learns.

After each `publish` the adapter is written to a folder that the server sees, loaded there under a name that no other weights
have (`coderl-<run>@v<version>-<digest>`), and **verified before the first sample**: the server's log-probs of fixed tokens
under that name must be the engine's own but for rounding, and must have moved since the untrained model and since the version
before where the engine's did (`coderl_trainer.adapter_probe`). So a server that answers with the base model or an old adapter
is found. No gradient is taken from rows whose log-probs by the two differ by more than the same tolerance.

Samples are the server's token ids and log-probs; nothing is tokenised again. They end where those of `TorchSampler` end: the
server may stop at more places, and then goes on behind what it has drawn.

Not covered: temperatures other than 0 and 1 and top-p below 1 (a vLLM server tells log-probs before both), training all weights
(only adapters can be sent), and servers that do not see the run's folder under the same path.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coderl_generator.adapters import Adapter
from coderl_generator.errors import BackendUnavailable, GenerationTimedOut, GeneratorError, ModelNotServed
from coderl_generator.vllm_client import VllmClient
from coderl_generator.vllm_wire import Drawing, Drawn

from .adapter_probe import PROBES, Change, Told, repeat_of
from .engine import Engine, Loss, LossSettings, StepSettings
from .errors import EngineFailed, EngineRefused, ExportFailed, RunError
from .lora import export_lora
from .mismatch import corrected, mismatch
from .run_files import writing
from .types import Datum, Sample, SamplingParameters, StopReason

logger = logging.getLogger(__name__)

_STATE: Final = "served"
"""The entry of this engine among the loop's texts in a saved state."""
_ON_POLICY: Final = frozenset((Loss.IMPORTANCE_SAMPLING, Loss.PPO, Loss.GSPO, Loss.CISPO))
"""The losses whose rows are what was sampled."""
_ANY_RANK: Final = 1 << 20
"""The server says itself which ranks it takes."""
_SEEDS: Final = 1 << 31
_START = "Start it with --enable-lora --max-lora-rank {rank} and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"


@dataclass(frozen=True, slots=True)
class ServedOptions:
    """How the server is used."""

    run: str
    """The name of the run, part of every adapter's name."""
    folder: Path
    """Where adapters are put; the server sees it under the same path."""
    model: str = ""
    """The server's name of the untrained model; empty = the only one it serves."""
    tolerance_nats: float = 0.1
    """Most mean absolute difference per token between the server's log-probs and the engine's."""
    truncate_at: float = 3.0
    """Cap of the importance weights between the two (`coderl_trainer.mismatch`); 0 = no weights."""
    parallel: int = 32
    """Prompts that are asked at once."""
    lora_rank: int = 16
    """Said in messages."""
    seed: int = 0
    unload_s: float = 5.0
    """Longest wait at the end for the server to forget an adapter, in seconds."""


class ServedEngine:
    """See `Engine`; everything but sampling and publishing is the other engine's. `close` takes the adapters off the server."""

    def __init__(self, inner: Engine, client: VllmClient, options: ServedOptions) -> None:
        """`inner` is not trained yet. Raises `EngineFailed` where the server cannot be reached and `EngineRefused` where it
        serves another model."""
        self._inner, self._client, self._options = inner, client, options
        self._probes = [tokens for text in PROBES if len(tokens := inner.encode(text)) > 1]
        self._version = 0
        self._draws = 0
        self._moved = False
        self._engine_logprobs: dict[tuple[tuple[int, ...], tuple[int, ...]], list[float]] = {}
        self._served: list[Adapter] = []
        self._name = "coderl-" + re.sub(r"[^A-Za-z0-9._-]+", "-", options.run)[:80]
        with _told("asked which models it serves"):
            self._forget_what_was_left()
            self._base = options.model or self._only_model()
            self._untrained = self._look(self._base)
            self._repeat = repeat_of(self._untrained.server_N, self._scores(self._base))
        self._before = self._now = self._untrained
        self._require_agreement(self._untrained, f"its model {self._base}")
        self._probed: dict[str, float] = {"rollouts/probe_gap": self._untrained.gap}

    @property
    def engine_id(self) -> str:
        """See `Engine.engine_id`."""
        return f"{self._inner.engine_id}:vllm"

    @property
    def losses(self) -> frozenset[Loss]:
        return self._inner.losses

    @property
    def tokenizer(self) -> Any:
        return self._inner.tokenizer

    @property
    def ends(self) -> tuple[int, ...]:
        return self._inner.ends

    @property
    def model_name(self) -> str:
        """The name under which the server has what is sampled from now."""
        return self._served[-1].label if self._served else self._base

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._inner.decode(tokens)

    def logprobs(self, data_D: Sequence[Datum]) -> list[list[float]]:
        return self._inner.logprobs(data_D)

    def save_model(self, folder: Path) -> None:
        self._inner.save_model(folder)

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """See `Engine.sample`. An adapter that the server has forgotten is loaded and verified once more. Raises also
        `EngineFailed`."""
        if not prompts_P or not all(prompts_P) or samples < 1:
            raise EngineRefused("There is nothing to sample from: no prompt, an empty one, or no sample is asked for.")
        if parameters.temperature not in (0.0, 1.0) or parameters.top_p != 1.0:
            raise EngineRefused(
                "A vLLM server tells log-probs before temperature and top-p: with rollouts.server, grpo.temperature is 1 and "
                "grpo.top_p is 1."
            )
        seed = parameters.seed
        if seed is None:
            self._draws += 1
            seed = random.Random(f"{self._options.seed} {self._draws}").randrange(_SEEDS)
        with _told("drawing samples"):
            try:
                return self._sample(prompts_P, samples, parameters, seed)
            except ModelNotServed:
                if not self._served:
                    raise
                logger.warning("the model server has forgotten %s (was it started anew?); it is loaded again", self.model_name)
                self._serve(self._served.pop(), self._before)
                return self._sample(prompts_P, samples, parameters, seed)

    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        """See `Engine.forward_backward`. Of rows that were sampled, the metrics also hold `rollouts/…`: how far the server's
        log-probs lie from the engine's. Raises `EngineRefused` where that is too far."""
        if settings.loss not in _ON_POLICY or not data_D:
            return self._inner.forward_backward(data_D, settings)
        engine_DT = self._logprobs_when_sampled(data_D)
        found = mismatch(data_D, engine_DT, self._options.truncate_at)
        if not found.mean <= self._options.tolerance_nats:
            raise EngineRefused(
                f"The server's log-probs of its own samples differ from the engine's by {found.mean:.3g} nats per token "
                f"(rollouts.tolerance_nats is {self._options.tolerance_nats:g}): it does not sample from {self.model_name} any "
                "more, or computes too coarsely. Start it anew, unquantised."
            )
        rows = [corrected(row, own, self._options.truncate_at) for row, own in zip(data_D, engine_DT, strict=True)]
        return {
            **self._inner.forward_backward(rows, settings),
            **self._probed,
            "rollouts/logprob_gap_mean": found.mean,
            "rollouts/logprob_gap_max": found.largest,
            "rollouts/weight_mean": found.mean_weight,
            "rollouts/weight_truncated": found.truncated,
        }

    def optim_step(self, settings: StepSettings) -> Mapping[str, float]:
        """See `Engine.optim_step`."""
        self._moved = True
        return self._inner.optim_step(settings)

    def publish(self) -> int:
        """See `Engine.publish`. Returns when the server samples from the weights, verified. Raises also `EngineFailed`."""
        version = self._inner.publish()
        self._serve_weights(version)
        return version

    def save_state(self, folder: Path, loop_state: Mapping[str, str]) -> None:
        """See `Engine.save_state`."""
        own = json.dumps({"version": self._version, "draws": self._draws})
        self._inner.save_state(folder, {**loop_state, _STATE: own})

    def load_state(self, folder: Path) -> Mapping[str, str]:
        """See `Engine.load_state`. The server gets the weights that were saved."""
        texts = dict(self._inner.load_state(folder))
        try:
            own = json.loads(texts.pop(_STATE))
            version, self._draws = int(own["version"]), int(own["draws"])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineRefused(f"The state in {folder} was not written by a run whose samples a server draws.") from error
        self._serve_weights(version)
        return texts

    def close(self) -> None:
        """Take the adapters off the server, where that can be done soon: after one that it does not forget within `unload_s`
        seconds the others are left too. The client stays open."""
        answers = True
        while self._served:
            adapter = self._served.pop()
            if answers:
                answers = self._retire(adapter, within_s=self._options.unload_s)
            else:
                logger.warning("the adapter %s stays on the model server too", adapter.label)
                shutil.rmtree(adapter.path, ignore_errors=True)

    # -- the server's weights ----------------------------------------------------------------------------------------------

    def _serve_weights(self, version: int) -> None:
        """Make the engine's present weights those that the server samples from."""
        self._version, self._moved = version, False
        self._engine_logprobs.clear()
        with _told("loading an adapter"):
            self._serve(self._written(version), self._now)

    def _serve(self, adapter: Adapter, before: Told) -> None:
        """Load, verify, and take the version before the last off. Raises `EngineRefused` where it is not what is served."""
        self._client.load(adapter)
        self._served = [one for one in self._served if one.label != adapter.label] + [adapter]
        told = self._look(adapter.label)
        self._require_agreement(told, adapter.label)
        changes = {"the untrained model": Change.of(told, self._untrained), "the version before": Change.of(told, before)}
        for name, change in changes.items():
            if change.is_stale(self._repeat, self._untrained.rounding):
                raise EngineRefused(
                    f"The server took the adapter {adapter.label} and still answers as {name} does: here the log-probs of "
                    f"{len(told.engine_N)} fixed tokens moved by {change.engine:.2g} nats, there by {change.server:.2g} "
                    f"({change.slope:.0%} of the way). {self._start}, and see that nothing else answers at its address."
                )
        since = changes["the untrained model"]
        if since.is_rounded_away:
            logger.warning(
                "the model server shows %.0f %% of what %s changes: its numbers are too coarse for so small an adapter "
                "(--dtype float32 is exact)",
                100 * since.slope,
                adapter.label,
            )
        self._before, self._now = before, told
        self._probed = {
            "rollouts/probe_gap": told.gap,
            "rollouts/told_apart": sum(one.has_moved(self._repeat) for one in changes.values()) / len(changes),
        } | ({"rollouts/shown": since.slope} if since.engine else {})
        while len(self._served) > 2:
            self._retire(self._served.pop(0))

    def _written(self, version: int) -> Adapter:
        """The engine's adapter, in a folder of its own whose name says its content. `RunError` where the disk refuses."""
        place = self._options.folder
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".adapter-", dir=place) as scratch:
                raw = Path(scratch) / "raw"
                self._inner.save_model(raw)
                label = f"v{version}-{Adapter.at(raw).version}"
                folder = (place / label).absolute()
                if not folder.exists():
                    _exported(raw, folder)
        return Adapter.at(folder, self._name, label)

    def _retire(self, adapter: Adapter, within_s: float | None = None) -> bool:
        """Whether the server has forgotten it."""
        forgotten = self._forget(adapter.label, within_s)
        shutil.rmtree(adapter.path, ignore_errors=True)
        return forgotten

    def _forget(self, label: str, within_s: float | None = None) -> bool:
        try:
            self._client.unload(label, within_s=within_s)
        except GeneratorError as error:
            logger.warning("the adapter %s stays on the model server: %s", label, error)
            return False
        return True

    def _forget_what_was_left(self) -> None:
        """Take off what this run had served when it was killed; adapters of other runs have other names."""
        for label in self._client.adapters():
            if label.startswith(f"{self._name}@"):
                self._forget(label)
        shutil.rmtree(self._options.folder, ignore_errors=True)

    def _look(self, name: str) -> Told:
        engine = self._inner.logprobs([_scored(tokens) for tokens in self._probes])
        return Told(self._scores(name), tuple(one for ones in engine for one in ones))

    def _scores(self, name: str) -> tuple[float, ...]:
        """(N,) log-probs of the probes' tokens by the server."""
        return tuple(one for tokens in self._probes for one in self._client.score(name, tokens))

    def _require_agreement(self, told: Told, what: str) -> None:
        if not told.gap <= self._options.tolerance_nats:
            raise EngineRefused(
                f"The server's log-probs of {len(told.engine_N)} fixed tokens under {what} differ from the engine's by "
                f"{told.gap:.3g} nats per token (rollouts.tolerance_nats is {self._options.tolerance_nats:g}): it serves other "
                "weights. Serve the model that is trained, unquantised (python -m coderl_generator.hf_copy makes a folder of a "
                f"GGUF). {self._start}."
            )

    def _only_model(self) -> str:
        models = self._client.base_models()
        if len(models) != 1:
            raise EngineRefused(f"The server serves {', '.join(models) or 'no model'}: say which one as rollouts.model.")
        return models[0]

    @property
    def _start(self) -> str:
        return _START.format(rank=self._options.lora_rank)

    # -- samples -----------------------------------------------------------------------------------------------------------

    def _sample(
        self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters, seed: int
    ) -> list[list[Sample]]:
        model, version = self.model_name, self._version

        def group(at: int) -> list[Sample]:
            prompt, first = tuple(prompts_P[at]), (seed + at * samples) % _SEEDS
            different = samples if parameters.temperature else 1  # greedy ones are alike, and vLLM draws no more than one
            drawn = self._client.draw(model, prompt, different, self._drawing(parameters, parameters.max_tokens, first))
            done = [self._finished(model, prompt, one, parameters, first + number, version) for number, one in enumerate(drawn)]
            return done if parameters.temperature else done * samples

        with ThreadPoolExecutor(self._options.parallel, thread_name_prefix="rollout") as pool:
            return list(pool.map(group, range(len(prompts_P))))

    def _drawing(self, parameters: SamplingParameters, max_tokens: int, seed: int) -> Drawing:
        stop = (*parameters.stop, "\n") if parameters.one_line else parameters.stop
        return Drawing(max_tokens, parameters.temperature, parameters.top_p, stop, tuple(self._inner.ends), seed)

    def _finished(
        self, model: str, prompt: tuple[int, ...], drawn: Drawn, parameters: SamplingParameters, seed: int, version: int
    ) -> Sample:
        """The sample up to where it ends by the rules of the engine, whatever the server ended it for."""
        tokens: list[int] = []
        logprobs: list[float] = []
        while True:
            for token, logprob in zip(drawn.tokens, drawn.logprobs, strict=True):
                tokens.append(token)
                logprobs.append(logprob)
                if token in self._inner.ends or (parameters.ends_by_text and parameters.complete(self._inner.decode(tokens))):
                    return Sample(tuple(tokens), tuple(logprobs), StopReason.STOP, version)
                if len(tokens) == parameters.max_tokens:
                    return Sample(tuple(tokens), tuple(logprobs), StopReason.LENGTH, version)
            if not drawn.tokens:
                raise BackendUnavailable("the model server ended a sample before its first token, for a reason of its own")
            more = self._drawing(parameters, parameters.max_tokens - len(tokens), _later(seed, len(tokens)))
            drawn = self._client.draw(model, (*prompt, *tokens), 1, more)[0]

    def _logprobs_when_sampled(self, data_D: Sequence[Datum]) -> list[list[float]]:
        """(D, counted tokens) by the weights that the server samples from: asked before they move, kept until they do."""
        keys = [(row.input_tokens, row.target_tokens) for row in data_D]
        new = [at for at, key in enumerate(keys) if key not in self._engine_logprobs]
        if new and self._moved:
            raise EngineRefused("Rows of samples must be learned from once before the first step after they were drawn.")
        for at, own in zip(new, self._inner.logprobs([data_D[at] for at in new]) if new else (), strict=True):
            self._engine_logprobs[keys[at]] = own
        return [self._engine_logprobs[key] for key in keys]


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """A server's errors as an engine's."""
    try:
        yield
    except (BackendUnavailable, GenerationTimedOut) as error:
        raise EngineFailed(f"Rollouts stopped while {what}: {error}.") from error
    except GeneratorError as error:
        raise EngineRefused(f"Rollouts stopped while {what}: {error}.") from error


def _exported(raw: Path, folder: Path) -> None:
    try:
        export_lora(raw, folder, max_rank=_ANY_RANK)
    except ExportFailed as error:
        raise RunError(str(error)) from error


def _scored(tokens: Sequence[int]) -> Datum:
    length = len(tokens) - 1
    nothing = (0.0,) * length
    return Datum(tuple(tokens[:-1]), tuple(tokens[1:]), nothing, nothing, (1.0,) * length)


def _later(seed: int, drawn: int) -> int:
    """Another seed for what follows `drawn` tokens: with the same one they would be drawn with the same chances again."""
    return random.Random(f"{seed} {drawn}").randrange(_SEEDS)
