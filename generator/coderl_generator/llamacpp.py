"""The embedded backend: llama.cpp in this process, through `xllamacpp`."""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coderl_generator.backend import FinishReason, GenerationRequest, Patience, Token, end_mark, line_is_complete
from coderl_generator.counters import Counters
from coderl_generator.errors import BackendUnavailable, GenerationTimedOut, GeneratorError
from coderl_generator.llamacpp_wire import body_of, raise_for, tokens_of
from coderl_generator.models import find_model, generator_id_of
from coderl_generator.stop_texts import StopTexts

_BATCH_TOKENS = 4
"""Prompt tokens evaluated at once by processors. A cancelled request ends after at most one batch: with the embedded model on
two cores 22 ms, where 8 tokens take 37 and 64 take 230; a cold prompt takes 1.2 and 1.5 times as long as with those."""
_DEVICE_BATCH_TOKENS = 512
"""The same where llama.cpp was built for a graphics card, and one is there: it evaluates few tokens as slowly as many."""

_SLOTS = 3
"""Documents whose prompts stay evaluated, each in a context of its own (30 MB with the embedded model)."""

_SHIFT_TOKENS = 32
"""Shortest stretch of a prompt that is taken over from another position, where a window has moved on (llama-server calls this
`cache-reuse`; llama.vim recommends 256, but windows here move in steps of about 250 tokens)."""

_WAITING = MappingProxyType({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"})
"""How OpenMP's threads wait for each other."""

_PREFILL_S = 60.0
"""Longest wait for a prompt to be evaluated when nobody waits for an answer."""

_SOCKET_PATH_BYTES = 100
"""Longest path of a Unix socket that is safe everywhere (`sun_path` has 104 to 108 bytes)."""


class LlamaCppBackend:
    """A GGUF model decoded in a thread of this process.

    One thread owns the model; requests are decoded one at a time, in order of arrival. It is loaded by `warm_up()` or by the
    first stream. Each of the last documents has a slot with the keys and values of its last prompt, so a prompt that shares its
    beginning with the one before costs only the rest, and so does one whose window has moved on: what it still holds is shifted
    to its new place, not computed again (with what was dropped still in it; not where `repeatable`).

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
        self._slots = _Slots(_SLOTS)
        self.counters = Counters()

    forces_beginning = True
    """By a grammar; a token that does not fit is drawn again, so the log-prob of a forced token is the model's own."""

    branches = True

    @property
    def generator_id(self) -> str:
        return generator_id_of(self._path)

    @property
    def decoded_tokens(self) -> int:
        """Tokens the model has decoded so far, over all streams, wanted or not."""
        return self.counters.decoded_tokens

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
                    job.stop()
                    yield token
                    return
        except asyncio.CancelledError:
            job.stop(given_up=True)
            raise
        finally:
            self._drop(job)

    async def prefill(self, request: GenerationRequest) -> None:
        """Evaluate a prompt, so that one which begins like it costs less. Cancelling keeps what was evaluated until then.

        Raises what `stream` raises.
        """
        async with aclosing(self.stream(replace(request, max_tokens=0, timeout_s=_PREFILL_S))) as tokens:
            async for _ in tokens:
                pass  # llama.cpp may answer with one token all the same

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
        job.stop()
        self._open.discard(job)

    # -- everything below runs in the model's own thread ------------------------------------------------------------------

    def _work(self) -> None:
        server: Any = None
        try:
            while (job := self._jobs.get()) is not None:
                if job.cancelled.is_set():
                    self.counters.never_began += job.given_up
                    continue
                try:
                    server = server or load_server(self._path, self._n_ctx, self._threads, shifts=not self._repeatable)
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
            if server is not None:
                _settle(server)
            del server
            self._ended.set_result(None)

    def _decode(self, server: Any, job: _Job, request: GenerationRequest) -> None:
        finish: FinishReason | None = None
        counters = self.counters
        read: int | None = None
        last_s: float | None = None
        written = ""
        decoded_before = counters.decoded_tokens

        def on_chunk(chunk: dict[str, Any]) -> bool:
            nonlocal finish, read, last_s, written
            if "error" in chunk:
                raise_for(chunk["error"])
            if "prompt_progress" in chunk:
                read = counters.progressed(chunk["prompt_progress"], read)
            choice = chunk["choices"][0]
            for token in tokens_of(choice):
                counters.decoded_tokens += 1
                job.emit(token)
                last_s = counters.timed(last_s, time.perf_counter())
                written += token.text
            if choice["finish_reason"] is not None:
                finish = FinishReason.LENGTH if choice["finish_reason"] == "length" else FinishReason.END
            if finish is None and request.one_line and line_is_complete(written):
                finish = FinishReason.STOP
            return finish is FinishReason.STOP or job.cancelled.is_set()

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
        body = {**body_of(request), "id_slot": self._slots.of(request.document)}
        server.handle_completions(body, guarded)
        if job.stopped_s is not None and (finish is None or job.given_up):  # which may end with the token under way
            after_ms = (time.perf_counter() - job.stopped_s) * 1000.0
            counters.stopped(after_ms, counters.decoded_tokens - decoded_before, given_up=job.given_up)
        if self._repeatable and not failure:
            # The same prompt with nothing to decode cuts the cache back to the prompt alone.
            server.handle_completions({**body, "n_predict": 0}, lambda chunk: False)
        if failure:
            raise failure[0]
        if finish is None and not job.cancelled.is_set():
            raise BackendUnavailable("llama.cpp ended the stream without a reason")
        job.emit(end_mark(finish or FinishReason.STOP))


class _Slots:
    """Which document is in which slot; the one used least recently makes room."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))
        self._taken: OrderedDict[str, int] = OrderedDict()

    def of(self, document: str) -> int:
        slot = self._taken.pop(document, None)
        if slot is None:
            slot = self._free.pop(0) if self._free else self._taken.popitem(last=False)[1]
        self._taken[document] = slot
        return slot


class _Job:
    """One request on its way: written by the model's thread, read by the event loop that asked."""

    def __init__(self, request: GenerationRequest | None, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.cancelled = threading.Event()
        self.stopped_s: float | None = None
        """When the model was told to stop (`time.perf_counter`)."""
        self.given_up = False
        """It was told so by a cancellation, and not because its reader had enough."""
        self._loop = loop
        self._items: asyncio.Queue[Token | GeneratorError] = asyncio.Queue()

    async def next(self) -> Token:
        item = await self._items.get()
        if isinstance(item, GeneratorError):
            raise item
        return item

    def stop(self, *, given_up: bool = False) -> None:
        """Nobody reads any more. Only the first call counts."""
        if self.stopped_s is None:
            self.given_up, self.stopped_s = given_up, time.perf_counter()
            self.cancelled.set()

    def emit(self, item: Token | GeneratorError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:
            # The loop was closed under a running request: nobody reads, so stop decoding.
            self.cancelled.set()

    def fail(self, error: GeneratorError) -> None:
        self.emit(error)
        self.stop()


def load_server(
    path: Path, n_ctx: int, threads: int, slots: int = _SLOTS, *, shifts: bool = True, batch_tokens: int | None = None
) -> Any:
    """Load a GGUF file and return the `xllamacpp.Server` that owns it; blocks for the time of loading (about 0.3 s).

    `n_ctx`: tokens of each slot. `shifts`: see `LlamaCppBackend`. `batch_tokens`: of a prompt at once; default: an editor's.

    Raises `ModelMissing`, `ModelDamaged` and `BackendUnavailable`.
    """
    find_model(path.parent, str(path))
    xllamacpp = _library()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = n_ctx * slots
    params.n_parallel = slots
    params.kv_unified = False
    params.n_cache_reuse = _SHIFT_TOKENS if shifts else 0
    params.n_batch = params.n_ubatch = batch_tokens or _batch_tokens(xllamacpp)
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


def _settle(server: Any) -> None:
    """Wait until the server's loop runs. One that is freed between its loading and the start of its loop misses the word to
    stop and is waited for without an end (xllamacpp 2026.10); whatever goes through the loop shows that it has started."""
    with suppress(Exception):  # what it answers does not matter, nor that it failed before
        server.handle_completions({"prompt": "x", "n_predict": 0, "cache_prompt": True}, lambda chunk: False)


def _batch_tokens(xllamacpp: Any) -> int:
    processor = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    only = all(device["type"] == processor for device in xllamacpp.get_device_info())
    return _BATCH_TOKENS if only else _DEVICE_BATCH_TOKENS


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
