"""Hugging Face transformers in this process, with PEFT adapters that can be changed while it serves."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path

from coderl_generator.adapters import Adapter, adapted_id
from coderl_generator.backend import GenerationRequest, Token
from coderl_generator.errors import BackendUnavailable, GeneratorError
from coderl_generator.model_thread import Job, ModelThread
from coderl_generator.models import generator_id_of
from coderl_generator.streams import Streams
from coderl_generator.torch_model import TorchModel, TorchOptions, place_of

logger = logging.getLogger(__name__)

_NAME = "the transformers model"


class TransformersBackend:
    """A Hugging Face model decoded in a thread of this process.

    One thread owns the model; requests are decoded one at a time, in order of arrival. It is loaded by `warm_up()` or by the
    first stream. A cancelled request ends within one token, or within 64 prompt tokens while its prompt is read. The KV cache
    of the last prompt is kept, so a prompt that shares its beginning with the one before costs only the rest.

    Nothing is fetched from a hub: model and adapter are files of this machine. `GenerationRequest.suffix` and `begins_with`
    are not used.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        adapter: Adapter | Path | str | None = None,
        n_ctx: int = 2048,
        threads: int | None = None,
        dtype: str = "auto",
        device: str = "cpu",
        generator_id: str | None = None,
    ) -> None:
        """`model`: a folder in Hugging Face's form, or a GGUF file (it is unpacked to full precision). `adapter`: one to begin
        with, or its folder. `n_ctx`: context in tokens. `dtype`: `auto` = as saved. The rest as `TorchOptions`.

        Raises `ModelMissing` and `ModelDamaged`, and `BackendUnavailable` where torch or transformers are not installed.
        """
        for library in ("torch", "transformers"):
            if importlib.util.find_spec(library) is None:
                raise BackendUnavailable(f"the backend `transformers` needs {library}; install coderl[train]")
        path = Path(model).expanduser()
        place_of(path)
        self._options = TorchOptions(path, n_ctx, dtype, device, threads)
        self._adapter = adapter if adapter is None or isinstance(adapter, Adapter) else Adapter.at(adapter)
        self._model_id = generator_id or generator_id_of(path if path.suffix == ".gguf" else Path(f"{path.name}.gguf"))
        self._loaded: TorchModel | None = None
        self._thread = ModelThread(_NAME, self._free)
        self._streams = Streams(_NAME)
        self._decoded_tokens = 0

    @property
    def generator_id(self) -> str:
        return adapted_id(self._model_id, self._adapter)

    @property
    def adapter(self) -> Adapter | None:
        """See `TakesAdapters.adapter`."""
        return self._adapter

    @property
    def decoded_tokens(self) -> int:
        """Tokens the model has decoded so far, over all streams, wanted or not."""
        return self._decoded_tokens

    async def warm_up(self) -> None:
        """Load the model and its adapter now. Raises `ModelDamaged` or `BackendUnavailable`; a later call tries again."""
        await self._thread.do(partial(self._load, self._adapter))

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`."""
        decoded = self._thread.tokens(partial(self._decode, request, self._adapter))
        async with aclosing(self._streams.keep(request, decoded)) as tokens:
            async for token in tokens:
                yield token

    async def use_adapter(self, adapter: Adapter | None) -> None:
        """See `TakesAdapters.use_adapter`. Loading waits for the requests that were there before."""
        if adapter is not None:
            await self._thread.do(partial(self._load, adapter))
        before, self._adapter = self._adapter, adapter
        if before is not None and before != adapter:
            # Jobs run in order, so those that still decode with it come first.
            self._thread.later(partial(self._drop, before))

    async def aclose(self) -> None:
        """Stop what runs, fail what waits, free the model. Idempotent."""
        await self._thread.aclose()

    # -- everything below runs in the model's own thread ------------------------------------------------------------------

    def _model(self, adapter: Adapter | None) -> TorchModel:
        if self._loaded is None:
            self._loaded = TorchModel(self._options)
        if adapter is not None:
            self._loaded.load_adapter(adapter)
        return self._loaded

    def _load(self, adapter: Adapter | None, job: Job) -> None:
        self._model(adapter)
        job.done()

    def _decode(self, request: GenerationRequest, adapter: Adapter | None, job: Job) -> None:
        def emit(token: Token) -> None:
            self._decoded_tokens += not token.is_end_mark
            job.emit(token)

        self._model(adapter).decode(request, adapter, emit, job.cancelled.is_set)

    def _drop(self, adapter: Adapter, _: Job) -> None:
        if adapter == self._adapter or self._loaded is None:
            return  # it was taken back meanwhile
        try:
            self._loaded.drop_adapter(adapter)
        except (GeneratorError, ValueError, KeyError, RuntimeError) as error:
            logger.warning("the adapter %s stays in memory: %s", adapter.label, error)

    def _free(self) -> None:
        self._loaded = None
