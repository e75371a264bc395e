"""The embedded backend: llama.cpp in this process, through `xllamacpp`."""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coderl_generator.backend import FinishReason, GenerationRequest, Patience, Token, end_mark
from coderl_generator.errors import BackendRefused, BackendUnavailable, GenerationTimedOut, GeneratorError, PromptTooLong
from coderl_generator.models import find_model, generator_id_of
from coderl_generator.stop_texts import StopTexts

_BATCH_TOKENS = 64
"""Prompt tokens evaluated at once. A cancelled request ends after at most one batch, and batches above this size are
not faster with the embedded model on two cores (1.65 s for 727 tokens with 64, 1.57 s with 512)."""

_WAITING = MappingProxyType({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"})
"""How OpenMP's threads wait for each other."""

_SOCKET_PATH_BYTES = 100
"""Longest path of a Unix socket that is safe everywhere (`sun_path` has 104 to 108 bytes)."""


class LlamaCppBackend:
    """A GGUF model decoded in a thread of this process.

    One thread owns the model; requests are decoded one at a time, in order of arrival. It is loaded by `warm_up()` or by the
    first stream. The KV cache of the last prompt is kept, so a prompt that shares its beginning with the one before
    costs only the rest.

    Isolation: `xllamacpp` always opens an HTTP listener. Here it is a Unix socket in a private folder, behind a random key,
    and its file is removed as soon as the model is loaded, so nothing can connect to it: no TCP port is open. Not covered: a
    process that may read this process's memory, and a model file that attacks llama.cpp's parser (use models you trust).
    """

    def __init__(
        self, model_path: Path | str, n_ctx: int = 2048, threads: int | None = None, *, repeatable: bool = False
    ) -> None:
        """`n_ctx`: context in tokens. `threads`: decoding threads; by default all cores, but at most 4.

        `repeatable`: the same sequence of requests gives the same tokens and log-probs to the last digit, for some 10 ms a
        request. Without it, how far a stopped decoding ran on decides which keys and values are reused and which are computed
        anew in another batch shape, and that shows in the third digit of a log-prob.
        """
        self._path = Path(model_path)
        self._n_ctx = n_ctx
        self._repeatable = repeatable
        self._threads = threads if threads is not None else max(1, min(4, os.cpu_count() or 1))
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._open: set[_Job] = set()
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._closed = False
        self._decoded_tokens = 0

    forces_beginning = True
    """By a grammar; a token that does not fit is drawn again, so the log-prob of a forced token is the model's own."""

    @property
    def generator_id(self) -> str:
        return generator_id_of(self._path)

    @property
    def decoded_tokens(self) -> int:
        """Tokens the model has decoded so far, over all streams, wanted or not."""
        return self._decoded_tokens

    async def warm_up(self) -> None:
        """Load the model now. Raises `ModelMissing`, `ModelDamaged` or `BackendUnavailable`; a later call tries again."""
        job = self._submit(None)
        try:
            await job.next()
        finally:
            self._drop(job)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`. Raises also `PromptTooLong` when the prompt has more tokens than the context."""
        loop = asyncio.get_running_loop()
        patience = Patience(request, loop.time())
        stops = StopTexts(request.stop)
        job = self._submit(request)
        try:
            while True:
                try:
                    async with asyncio.timeout(patience.wait_s(loop.time())):
                        token = await job.next()
                except TimeoutError:
                    if patience.over(loop.time()):
                        token = end_mark(FinishReason.DEADLINE)
                    else:
                        raise GenerationTimedOut(f"the embedded model gave no token in {request.timeout_s:g} s") from None
                ready = stops.flush() if token.finish else stops.push(token)
                for one in ready:
                    yield one
                if stops.hit:
                    token = end_mark(FinishReason.STOP)
                elif not token.finish and patience.over(loop.time()):
                    for one in stops.flush():
                        yield one
                    token = end_mark(FinishReason.DEADLINE)
                if token.finish:
                    job.cancelled.set()
                    yield token
                    return
        finally:
            self._drop(job)

    async def aclose(self) -> None:
        """Stop what runs, fail what waits, free the model. Idempotent."""
        self._begin_close()
        if self._thread is not None:
            await asyncio.shield(asyncio.wrap_future(self._ended))
            atexit.unregister(self._close_at_exit)

    def _begin_close(self) -> None:
        self._closed = True
        for job in list(self._open):
            job.fail(BackendUnavailable("the embedded model was shut down"))
        self._jobs.put(None)

    def _close_at_exit(self) -> None:
        self._begin_close()
        if self._thread is not None:
            self._thread.join()

    def _submit(self, request: GenerationRequest | None) -> _Job:
        if self._closed:
            raise BackendUnavailable("the embedded model was shut down")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="llamacpp", daemon=True)
            self._thread.start()
            # A model still alive while the interpreter goes down crashes the process in native code.
            atexit.register(self._close_at_exit)
        job = _Job(request, asyncio.get_running_loop())
        self._open.add(job)
        self._jobs.put(job)
        return job

    def _drop(self, job: _Job) -> None:
        job.cancelled.set()
        self._open.discard(job)

    # -- everything below runs in the model's own thread ------------------------------------------------------------------

    def _work(self) -> None:
        server: Any = None
        try:
            while (job := self._jobs.get()) is not None:
                if job.cancelled.is_set():
                    continue
                try:
                    server = server or load_server(self._path, self._n_ctx, self._threads)
                    if job.request is None:
                        job.emit(end_mark(FinishReason.END))
                    else:
                        self._decode(server, job, job.request)
                except GeneratorError as error:
                    job.fail(error)
                except Exception as error:
                    # Whatever the native library throws belongs to this request's caller, and must not end the thread.
                    job.fail(BackendUnavailable(f"llama.cpp failed: {error}"))
        finally:
            del server
            self._ended.set_result(None)

    def _decode(self, server: Any, job: _Job, request: GenerationRequest) -> None:
        finish: FinishReason | None = None

        def on_chunk(chunk: dict[str, Any]) -> bool:
            nonlocal finish
            if "error" in chunk:
                raise_for(chunk["error"])
            choice = chunk["choices"][0]
            for token in tokens_of(choice):
                self._decoded_tokens += 1
                job.emit(token)
            if choice["finish_reason"] is not None:
                finish = FinishReason.LENGTH if choice["finish_reason"] == "length" else FinishReason.END
            return job.cancelled.is_set()

        failure: list[GeneratorError] = []

        def guarded(chunk: dict[str, Any]) -> bool:
            # An exception must not travel through the C++ frames between the callback and the call.
            try:
                return on_chunk(chunk)
            except GeneratorError as error:
                failure.append(error)
            except (KeyError, IndexError, TypeError) as error:
                failure.append(BackendUnavailable(f"llama.cpp answered in an unknown form ({error!r})"))
            return True

        if not request.prompt:
            # llama.cpp answers an empty prompt with an empty generation and the reason "length"; say what it is.
            job.emit(end_mark(FinishReason.END))
            return
        server.handle_completions(body_of(request), guarded)
        if self._repeatable and not failure:
            # The same prompt with nothing to decode cuts the cache back to the prompt alone.
            server.handle_completions({**body_of(request), "n_predict": 0}, lambda chunk: False)
        if failure:
            raise failure[0]
        if finish is None and not job.cancelled.is_set():
            raise BackendUnavailable("llama.cpp ended the stream without a reason")
        job.emit(end_mark(finish or FinishReason.STOP))


class _Job:
    """One request on its way: written by the model's thread, read by the event loop that asked."""

    def __init__(self, request: GenerationRequest | None, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.cancelled = threading.Event()
        self._loop = loop
        self._items: asyncio.Queue[Token | GeneratorError] = asyncio.Queue()

    async def next(self) -> Token:
        item = await self._items.get()
        if isinstance(item, GeneratorError):
            raise item
        return item

    def emit(self, item: Token | GeneratorError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:
            # The loop was closed under a running request: nobody reads, so stop decoding.
            self.cancelled.set()

    def fail(self, error: GeneratorError) -> None:
        self.emit(error)
        self.cancelled.set()


def load_server(path: Path, n_ctx: int, threads: int) -> Any:
    """Load a GGUF file and return the `xllamacpp.Server` that owns it; blocks for the time of loading (about 0.3 s).

    Raises `ModelMissing`, `ModelDamaged` and `BackendUnavailable`.
    """
    find_model(path.parent, str(path))
    xllamacpp = _library()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = n_ctx
    params.n_parallel = 1
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0  # default 8192: a second copy of old prompts beside the KV cache
    params.n_ctx_checkpoints = 0
    params.warmup = False
    params.verbosity = -1  # its log goes to stderr, where editors show it to the user
    params.endpoint_slots = params.ui = False
    params.n_threads_http = 1
    params.api_keys = [os.urandom(32).hex()]
    folder = _socket_folder()
    try:
        params.hostnames = [str(folder / "llama.sock")]
        server = xllamacpp.Server(params)
        if not server.listening_address.startswith("unix:"):
            raise BackendUnavailable(f"llama.cpp listens on {server.listening_address} instead of a private socket")
        return server
    except RuntimeError as error:
        raise BackendUnavailable(f"llama.cpp cannot load {path.name}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _library() -> Any:
    """Import `xllamacpp` with OpenMP threads that spin for some ten microseconds while they wait for each other, then sleep.

    OpenMP reads the policy once, when its library is loaded. Threads that only spin are many times slower beside a compiler or
    a test run, threads that only sleep are three times slower on an idle machine: docs/generation.md has the figures. GNU's
    library goes by the count, others by the policy. What the user has set stands.
    """
    ours = {} if any(name in os.environ for name in _WAITING) else dict(_WAITING)
    os.environ.update(ours)
    try:
        import xllamacpp
    except ImportError as error:
        raise BackendUnavailable(f"xllamacpp cannot be imported ({error}); reinstall coderl") from error
    finally:
        for name in ours:
            del os.environ[name]
    return xllamacpp


def _socket_folder() -> Path:
    for parent in (tempfile.gettempdir(), "/tmp"):
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="coderl-", dir=parent))
            if len(os.fsencode(folder)) + len("/llama.sock") <= _SOCKET_PATH_BYTES:
                return folder
            folder.rmdir()
    raise BackendUnavailable("no temporary folder with a short path can be written for llama.cpp's private socket")


def body_of(request: GenerationRequest) -> dict[str, Any]:
    """The request in llama.cpp's own words. Its default samplers (top-k 40, min-p 0.05) are switched off."""
    body: dict[str, Any] = {
        "prompt": request.prompt,
        "n_predict": request.max_tokens,
        "stream": True,
        "n_probs": 1,
        "cache_prompt": True,
        "return_progress": True,  # a chunk per prompt batch: the only chance to cancel while the prompt is evaluated
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 1 if request.temperature <= 0 else 0,
        "min_p": 0.0,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.begins_with:
        body["grammar"] = f"root ::= {_literal(request.begins_with)} [^\\x00]*"
    return body


def _literal(text: str) -> str:
    """A text as a literal of llama.cpp's grammar language (GBNF)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\x{ord(char):02X}" if ord(char) < 32 else char for char in escaped) + '"'


def tokens_of(choice: dict[str, Any]) -> list[Token]:
    """The tokens of one chunk. A character that spans tokens comes as one entry with the last token's id and log-prob."""
    logprobs = choice.get("logprobs")
    if not logprobs:
        return []
    entries = logprobs["content"]
    if len(entries) == 1:
        return [Token(choice["text"], entries[0]["id"], min(0.0, entries[0]["logprob"]))]
    return [Token(entry["token"], entry["id"], min(0.0, entry["logprob"])) for entry in entries]


def raise_for(error: dict[str, Any]) -> None:
    """Raise llama.cpp's error object as ours; never repeats the prompt (llama.cpp's messages do not hold it)."""
    message = str(error.get("message", "unknown error"))
    if error.get("type") == "exceed_context_size_error":
        raise PromptTooLong(
            f"the prompt has {error.get('n_prompt_tokens')} tokens, the context {error.get('n_ctx')}; send a shorter prompt"
        )
    if 400 <= int(error.get("code", 500)) < 500:
        raise BackendRefused(f"llama.cpp refused the request: {message}")
    raise BackendUnavailable(f"llama.cpp failed: {message}")
