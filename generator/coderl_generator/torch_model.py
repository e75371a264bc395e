"""A Hugging Face causal language model, decoded token by token with a KV cache. Everything here blocks: run it in a thread.

torch, transformers and peft are imported when a model is loaded, never before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_generator.adapters import Adapter
from coderl_generator.backend import FinishReason, GenerationRequest, Token, end_mark
from coderl_generator.detokenizer import Detokenizer
from coderl_generator.errors import BackendUnavailable, ModelDamaged, ModelMissing, PromptTooLong

BATCH_TOKENS = 64
"""Prompt tokens evaluated at once; a cancelled request ends after at most one batch."""


@dataclass(frozen=True, slots=True)
class TorchOptions:
    """How a model is loaded."""

    path: Path
    """A folder in Hugging Face's form, or a GGUF file."""
    n_ctx: int
    """Context in tokens, prompt and answer together."""
    dtype: str
    """`auto` = as saved, else a name of torch: `float32`, `bfloat16`."""
    device: str
    threads: int | None
    """Threads of torch, for the whole process; None = torch's own choice."""


class TorchModel:
    """A model with its tokenizer, its adapters and the keys and values of the last prompt.

    Not covered: models whose state cannot be cut back (Mamba and its kin), and encoder-decoders.
    """

    def __init__(self, options: TorchOptions) -> None:
        """Load it. Raises `ModelMissing`, `ModelDamaged`, and `BackendUnavailable` where the libraries are missing."""
        self._torch, transformers = _libraries()
        if options.threads is not None:
            self._torch.set_num_threads(options.threads)
        transformers.utils.logging.disable_progress_bar()
        folder, more = place_of(options.path)
        # Adapters need weights that are not packed.
        unpacked = {"quantization_config": transformers.GgufConfig(dequantize=True)} if more else {}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **more)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype=options.dtype, **more, **unpacked
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelDamaged(f"{options.path} cannot be loaded by transformers: {_first_line(error)}") from error
        self._model = model.to(options.device).eval()
        self._new_cache: Callable[[], Any] = transformers.DynamicCache
        self._n_ctx = options.n_ctx
        self._ends = _end_ids(self._model.generation_config, self._tokenizer)
        self._peft: Any = None  # around the model, as long as an adapter is loaded; its layers sit in the model itself
        self._adapter_keys: dict[str, str] = {}
        self._adapters_loaded = 0
        self._cache: Any = None
        self._cached_ids: list[int] = []
        self._cached_label: str | None = None

    def load_adapter(self, adapter: Adapter) -> None:
        """Raises `ModelDamaged` where it does not fit the model: then it is as if it had not been tried."""
        if adapter.label in self._adapter_keys:
            return
        try:
            import peft
        except ImportError as error:
            raise BackendUnavailable(f"peft cannot be imported ({error}); install coderl[train]") from error
        self._adapters_loaded += 1
        key = f"adapter{self._adapters_loaded}"  # torch allows no dots in it
        try:
            config = peft.PeftConfig.from_pretrained(adapter.path)
            config.inference_mode = True
            if self._peft is None:
                self._peft = peft.PeftModel(self._model, config, adapter_name=key)
            missing = [one for one in self._peft.load_adapter(adapter.path, adapter_name=key).missing_keys if key in one]
            if missing:
                raise ValueError(f"it has no weights for {missing[0]}")
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
            self._discard(key)
            raise ModelDamaged(f"the adapter {adapter.label} cannot be loaded: {_first_line(error)}") from error
        self._model.eval()
        self._adapter_keys[adapter.label] = key

    def drop_adapter(self, adapter: Adapter) -> None:
        """Free its weights; nothing where it is not loaded."""
        key = self._adapter_keys.pop(adapter.label, None)
        if key is not None:
            self._discard(key)

    def _discard(self, key: str) -> None:
        if self._peft is None:
            return
        if not self._adapter_keys:
            self._model = self._peft.unload()
            self._peft = None
        elif key in self._peft.peft_config:
            self._peft.delete_adapter(key)

    def decode(
        self,
        request: GenerationRequest,
        adapter: Adapter | None,
        emit: Callable[[Token], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Emit the tokens of one request and its end mark; less where it is cancelled. An empty prompt is an empty
        generation. Raises `PromptTooLong`."""
        ids = list(self._tokenizer(request.prompt)["input_ids"]) if request.prompt else []
        if not ids:
            emit(end_mark(FinishReason.END))
            return
        if len(ids) >= self._n_ctx:
            raise PromptTooLong(f"the prompt has {len(ids)} tokens, the context {self._n_ctx}; send a shorter prompt")
        pieces = Detokenizer(self._text_of, ids)
        choose = Chooser(self._torch, request)
        with self._torch.inference_mode():
            logits = self._read(ids, adapter, cancelled)
            for left in range(min(request.max_tokens, self._n_ctx - len(ids)), 0, -1):
                if cancelled():
                    return
                token_id, logprob = choose(logits)
                if token_id in self._ends:
                    emit(end_mark(FinishReason.END))
                    return
                emit(Token(pieces.push(token_id), token_id, logprob))
                if left > 1 and not cancelled():
                    logits = self._forward([token_id])
        emit(end_mark(FinishReason.LENGTH))

    def _read(self, ids: list[int], adapter: Adapter | None, cancelled: Callable[[], bool]) -> Any:
        """Evaluate the prompt, as far as the cache does not hold it; the logits after its last token."""
        self._activate(adapter)
        # The last token is always evaluated: its logits are what is wanted.
        pairs = enumerate(zip(ids[:-1], self._cached_ids, strict=False))
        kept = next((at for at, (new, old) in pairs if new != old), min(len(ids) - 1, len(self._cached_ids)))
        if kept:
            if kept < len(self._cached_ids):
                self._cache.crop(kept - len(self._cached_ids))  # below 0: so many are removed
            self._cached_ids = self._cached_ids[:kept]
        else:
            self._forget()
        logits = None
        for at in range(kept, len(ids), BATCH_TOKENS):
            if cancelled():
                break
            logits = self._forward(ids[at : at + BATCH_TOKENS])
        return logits

    def _forward(self, ids: list[int]) -> Any:
        if self._cache is None:
            self._cache = self._new_cache()
        inputs = self._torch.tensor([ids], device=self._model.device)
        try:
            out = self._model(input_ids=inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        except BaseException:
            self._forget()  # some layers may have taken the tokens, others not
            raise
        self._cached_ids.extend(ids)
        return out.logits[0, -1].float()

    def _activate(self, adapter: Adapter | None) -> None:
        """Keys and values of one set of weights are worth nothing to another."""
        label = None if adapter is None else adapter.label
        if label != self._cached_label:
            self._forget()
            self._cached_label = label
        if adapter is not None:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(self._adapter_keys[adapter.label])
        elif self._peft is not None:
            self._peft.base_model.disable_adapter_layers()

    def _forget(self) -> None:
        self._cache = None
        self._cached_ids = []

    def _text_of(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class Chooser:
    """Picks the next token and tells its log-prob at temperature 1, before top-p."""

    def __init__(self, torch: Any, request: GenerationRequest) -> None:
        self._torch = torch
        self._temperature = request.temperature
        self._top_p = request.top_p
        self._random: Any = torch.Generator()
        if request.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(request.seed)

    def __call__(self, logits: Any) -> tuple[int, float]:
        """`logits`: [vocabulary], float. The token's id and natural-log probability."""
        logits = logits.cpu()
        token_id = int(logits.argmax()) if self._temperature <= 0 else self._sample(logits / self._temperature)
        logprob = float(logits[token_id] - logits.logsumexp(dim=-1))
        return token_id, min(0.0, logprob)

    def _sample(self, logits: Any) -> int:
        probs = logits.softmax(dim=-1)
        if self._top_p < 1.0:
            ordered, order = probs.sort(descending=True)
            outside = ordered.cumsum(dim=-1) - ordered >= self._top_p  # the first token always stays
            probs = probs.index_fill(0, order[outside], 0.0)
        return int(self._torch.multinomial(probs, 1, generator=self._random))


def place_of(path: Path) -> tuple[str, dict[str, str]]:
    """A model's folder and the options that make transformers read it. Raises `ModelMissing`."""
    if path.suffix == ".gguf" and path.is_file():
        return str(path.parent), {"gguf_file": path.name}
    if not (path / "config.json").is_file():
        raise ModelMissing(f"there is no model at {path}: give a GGUF file, or a folder with config.json and its weights")
    return str(path), {}


def _libraries() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise BackendUnavailable(f"torch and transformers cannot be imported ({error}); install coderl[train]") from error
    return torch, transformers


def _end_ids(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    ends = getattr(generation_config, "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(int(one) for one in [*listed, tokenizer.eos_token_id] if one is not None)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
