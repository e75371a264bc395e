"""vLLM in this process: its asynchronous engine (`AsyncLLM`), which decodes many requests at once in a child process."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import itertools
import threading
from collections.abc import AsyncGenerator, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import aclosing
from pathlib import Path
from typing import Any

from coderl_generator.adapters import Adapter, AdapterSwitch, adapted_id
from coderl_generator.backend import FinishReason, GenerationRequest, Token, end_mark
from coderl_generator.errors import BackendUnavailable, GeneratorError, ModelDamaged, ModelMissing, PromptTooLong
from coderl_generator.model_thread import Job
from coderl_generator.models import generator_id_of
from coderl_generator.streams import Streams

_NAME = "vLLM"
_REPLACEMENT = "�"


class VllmBackend:
    """A Hugging Face model served by vLLM's engine, with LoRA adapters that can be changed while it serves.

    The engine is started by `warm_up()` or by the first stream, which takes a minute or more on a CPU; while it starts, a
    request may time out and the start goes on. It lives in an event loop of its own thread, so that neither its start nor its
    bookkeeping holds up the caller's loop. Where its process dies, open streams end with `BackendUnavailable` and the next
    request starts another one. A cancelled request is aborted: the engine ends it before its next step.

    vLLM writes its log to standard output, and reads `VLLM_…` variables (on a CPU `VLLM_CPU_KVCACHE_SPACE`, in GiB). `suffix`
    and `begins_with` of a request are not used. Not covered: closing while the engine starts waits for the start.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        adapter: Adapter | Path | str | None = None,
        n_ctx: int = 2048,
        dtype: str = "auto",
        max_lora_rank: int = 16,
        engine: Mapping[str, Any] | None = None,
        generator_id: str | None = None,
    ) -> None:
        """`model`: a folder in Hugging Face's form. `adapter`: one to begin with, or its folder. `n_ctx`: context in tokens.
        `max_lora_rank`: 0 = no adapters, which is a little faster. `engine`: further arguments of vLLM's `AsyncEngineArgs`.

        Raises `ModelMissing` and `ModelDamaged`, and `BackendUnavailable` where vllm is not installed.
        """
        if importlib.util.find_spec("vllm") is None:
            raise BackendUnavailable("the backend `vllm` needs vllm; install coderl[vllm]")
        path = Path(model).expanduser()
        if not (path / "config.json").is_file():
            raise ModelMissing(f"there is no model at {path}: vLLM needs a folder with config.json and its weights")
        first = adapter if adapter is None or isinstance(adapter, Adapter) else Adapter.at(adapter)
        lora = {"enable_lora": True, "max_lora_rank": max_lora_rank, "max_loras": 2} if max_lora_rank else {}
        self._arguments = {"model": str(path), "max_model_len": n_ctx, "dtype": dtype, **lora, **(engine or {})}
        self._model_id = generator_id or generator_id_of(Path(f"{path.name}.gguf"))
        self._takes_adapters = bool(max_lora_rank)
        self._adapters = AdapterSwitch(self._load, self._unload, first)
        self._streams = Streams(_NAME)
        self._engine = _Engine(self._arguments)
        self._numbers: dict[str, int] = {}
        self._counter = itertools.count(1)
        self._decoded_tokens = 0
        self._closed = False

    @property
    def generator_id(self) -> str:
        return adapted_id(self._model_id, self._adapters.current)

    @property
    def adapter(self) -> Adapter | None:
        """See `TakesAdapters.adapter`."""
        return self._adapters.current

    @property
    def decoded_tokens(self) -> int:
        """Tokens that came from the engine so far, over all streams."""
        return self._decoded_tokens

    async def warm_up(self) -> None:
        """Start the engine now. Raises `ModelDamaged` or `BackendUnavailable`; a later call tries again."""
        await self._ask(self._engine.started())

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`. An empty prompt is an empty generation."""
        adapter = self._adapters.current
        with self._adapters.using(adapter):
            async with aclosing(self._streams.keep(request, self._tokens(request, adapter))) as tokens:
                async for token in tokens:
                    yield token

    async def use_adapter(self, adapter: Adapter | None) -> None:
        """See `TakesAdapters.use_adapter`."""
        await self._adapters.use(adapter)

    async def aclose(self) -> None:
        """Abort what runs and stop the engine. Idempotent."""
        self._closed = True
        self._streams.close()
        await self._adapters.aclose()
        await self._engine.aclose()

    async def _tokens(self, request: GenerationRequest, adapter: Adapter | None) -> AsyncGenerator[Token, None]:
        self._check_open()
        job = Job()
        running = self._engine.submit(self._decode(job, request, adapter))
        try:
            async for token in job.tokens():
                yield token
        finally:
            running.cancel()

    async def _load(self, adapter: Adapter) -> None:
        if not self._takes_adapters:
            raise ModelDamaged("vLLM was started without adapters: max_lora_rank is 0")
        await self._ask(self._add(adapter))

    async def _unload(self, adapter: Adapter) -> None:
        number = self._numbers.pop(adapter.label, None)
        if number is not None:
            await self._ask(self._remove(number))

    async def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            self._check_open()
        except BackendUnavailable:
            work.close()
            raise
        await asyncio.wrap_future(self._engine.submit(work))

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable(f"{_NAME} was shut down")

    # -- everything below runs in the engine's own loop -------------------------------------------------------------------

    async def _add(self, adapter: Adapter) -> None:
        engine = await self._engine.started()
        number = self._numbers.setdefault(adapter.label, next(self._counter))
        try:
            await engine.add_lora(_lora_request(adapter, number))
        except Exception as error:
            # vLLM raises what its worker raised, of any class.
            self._numbers.pop(adapter.label, None)
            raise ModelDamaged(f"the adapter {adapter.label} cannot be loaded by vLLM: {_first_line(error)}") from error

    async def _remove(self, number: int) -> None:
        engine = await self._engine.started()
        await engine.remove_lora(number)

    async def _decode(self, job: Job, request: GenerationRequest, adapter: Adapter | None) -> None:
        try:
            engine = await self._engine.started()
            async with aclosing(self._generate(engine, request, adapter)) as tokens:
                async for token in tokens:
                    self._decoded_tokens += not token.is_end_mark
                    job.emit(token)
        except GeneratorError as error:
            job.fail(error)
        except Exception as error:
            # Whatever the engine throws belongs to this request's caller.
            job.fail(BackendUnavailable(f"{_NAME} failed: {type(error).__name__}: {_first_line(error)}"))

    async def _generate(self, engine: Any, request: GenerationRequest, adapter: Adapter | None) -> AsyncGenerator[Token, None]:
        from vllm.inputs import tokens_input

        tokenizer = engine.get_tokenizer()
        ids = tokenizer.encode(request.prompt) if request.prompt else []
        room = self._arguments["max_model_len"] - len(ids)
        if not ids:
            yield end_mark(FinishReason.END)
            return
        if room <= 0:
            limit = self._arguments["max_model_len"]
            raise PromptTooLong(f"the prompt has {len(ids)} tokens, the context {limit}; send a shorter prompt")
        lora = None
        if adapter is not None:
            lora = _lora_request(adapter, self._numbers.setdefault(adapter.label, next(self._counter)))
        outputs = engine.generate(
            tokens_input(ids), _sampling(request, room), f"coderl-{next(self._counter)}", lora_request=lora
        )
        async with aclosing(outputs):
            async for output in outputs:
                tokens, finish = tokens_of(output.outputs[0], tokenizer.eos_token_id)
                for token in tokens:
                    yield token
                if finish is not None:
                    yield end_mark(finish)
                    return


class _Engine:
    """vLLM's engine and the thread with the event loop it lives in. The thread starts with the first piece of work."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting: asyncio.Task[Any] | None = None
        self._lock = threading.Lock()

    def submit(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Run work in the engine's loop; cancelling the future cancels it there."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
                self._thread.start()
                atexit.register(self._close)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def started(self) -> Any:
        """The engine, started if need be; in its own loop. Cancelling one waiter does not cancel the start."""
        if self._starting is None or self._is_over(self._starting):
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def aclose(self) -> None:
        """Stop it; from any loop. Idempotent."""
        if self._thread is not None:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._loop is None or self._thread is None or self._loop.is_closed():
                return
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            atexit.unregister(self._close)

    def _is_over(self, task: asyncio.Task[Any]) -> bool:
        if not task.done():
            return False
        if task.cancelled() or task.exception() is not None:
            return True
        engine = task.result()
        if engine.errored:
            engine.shutdown()
            return True
        return False

    async def _start(self) -> Any:
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise BackendUnavailable(f"vllm cannot be imported ({error}); install coderl[vllm]") from error
        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**self._arguments))
        except Exception as error:
            # The cause is in the log of the engine's process; what arrives here has many classes.
            raise BackendUnavailable(f"{_NAME} did not start: {type(error).__name__}: {_first_line(error)}") from error

    async def _stop(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task(), self._starting}
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        elif self._starting is not None and not self._starting.cancelled() and self._starting.exception() is None:
            self._starting.result().shutdown()
        self._starting = None  # vLLM shuts down once more when it is collected, which must not be at the interpreter's end
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def tokens_of(output: Any, end_id: int | None) -> tuple[list[Token], FinishReason | None]:
    """The tokens of one step (vLLM's `CompletionOutput`, deltas) and why the request ended, if it did.

    Where several tokens come at once and their pieces do not make the text (parts of a character), the text comes with the
    last of them. The token that ends a sequence is none of the text's.
    """
    ids = list(output.token_ids)
    logprobs = [step[token_id] for token_id, step in zip(ids, output.logprobs or (), strict=True)]
    if output.finish_reason == "stop" and ids and ids[-1] == end_id:
        ids, logprobs = ids[:-1], logprobs[:-1]
    pieces = [str(one.decoded_token or "") for one in logprobs]
    if "".join(pieces) != output.text or _REPLACEMENT in output.text:
        pieces = [""] * (len(ids) - 1) + [output.text] if ids else []
    tokens = [
        Token(piece, token_id, min(0.0, float(one.logprob))) for piece, token_id, one in zip(pieces, ids, logprobs, strict=True)
    ]
    if output.finish_reason is None:
        return tokens, None
    if output.finish_reason in ("stop", "length"):
        return tokens, FinishReason.LENGTH if output.finish_reason == "length" else FinishReason.END
    raise BackendUnavailable(f"{_NAME} gave the request up ({output.finish_reason})")


def _sampling(request: GenerationRequest, room: int) -> Any:
    """Log-probs of the chosen token alone; vLLM's are those at temperature 1 unless it is started with another mode."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=max(1, min(request.max_tokens, room)),
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        logprobs=0,
        skip_special_tokens=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _lora_request(adapter: Adapter, number: int) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.label, number, adapter.path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
