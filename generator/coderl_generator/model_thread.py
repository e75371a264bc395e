"""A thread that owns a model, and the way from the event loop into it and back."""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future

from coderl_generator.backend import FinishReason, Token, end_mark
from coderl_generator.errors import BackendUnavailable, GeneratorError


class Job:
    """One piece of work on its way: written by the model's thread, read by the event loop that asked for it."""

    def __init__(self) -> None:
        """To be made in the event loop that reads it."""
        self.cancelled = threading.Event()
        """Set when nobody wants the rest; the model's thread looks at it after every token."""
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Token | GeneratorError] = asyncio.Queue()

    async def tokens(self) -> AsyncGenerator[Token, None]:
        """All of it, the end mark last. Raises what the work failed with."""
        while True:
            token = await self.next()
            yield token
            if token.finish:
                return

    async def next(self) -> Token:
        """The next token. Raises what the work failed with."""
        item = await self._items.get()
        if isinstance(item, GeneratorError):
            raise item
        return item

    def emit(self, item: Token | GeneratorError) -> None:
        """Hand a token or a failure on; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:
            # The loop was closed under a running request: nobody reads, so stop decoding.
            self.cancelled.set()

    def fail(self, error: GeneratorError) -> None:
        """End it with an error; from any thread."""
        self.emit(error)
        self.cancelled.set()

    def done(self) -> None:
        """End work that writes no tokens; from any thread."""
        self.emit(end_mark(FinishReason.END))


Work = Callable[[Job], None]
"""Run in the model's thread; writes tokens by `Job.emit`, and an end mark."""


class ModelThread:
    """One thread that owns a model and does one job at a time, in order of arrival. It starts with the first job."""

    def __init__(self, name: str, release: Callable[[], None]) -> None:
        """`name` stands in messages; `release` frees the model, and is called in the thread when it ends."""
        self._name = name
        self._release = release
        self._jobs: queue.SimpleQueue[tuple[Job, Work] | None] = queue.SimpleQueue()
        self._open: set[Job] = set()
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._closed = False

    async def do(self, work: Work) -> None:
        """Run work that writes no tokens, and wait for it. Raises what it raises."""
        job = self.submit(work)
        try:
            await job.next()
        finally:
            self.drop(job)

    def later(self, work: Work) -> None:
        """Queue work that nobody waits for: it has to say itself where it fails."""
        self._open.discard(self.submit(work))

    def submit(self, work: Work) -> Job:
        """Queue a job. Raises `BackendUnavailable` after `aclose`."""
        if self._closed:
            raise BackendUnavailable(f"{self._name} was shut down")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
            # A model still at work while the interpreter goes down crashes the process in native code.
            atexit.register(self._close_at_exit)
        job = Job()
        self._open.add(job)
        self._jobs.put((job, work))
        return job

    def drop(self, job: Job) -> None:
        """Nobody wants the rest of a job."""
        job.cancelled.set()
        self._open.discard(job)

    async def tokens(self, work: Work) -> AsyncGenerator[Token, None]:
        """The tokens that work writes, its end mark the last of them; closing stops it."""
        job = self.submit(work)
        try:
            async for token in job.tokens():
                yield token
        finally:
            self.drop(job)

    async def aclose(self) -> None:
        """Stop what runs, fail what waits, free the model. Idempotent."""
        self._begin_close()
        if self._thread is not None:
            await asyncio.shield(asyncio.wrap_future(self._ended))
            atexit.unregister(self._close_at_exit)

    def _begin_close(self) -> None:
        self._closed = True
        for job in list(self._open):
            job.fail(BackendUnavailable(f"{self._name} was shut down"))
        self._jobs.put(None)

    def _close_at_exit(self) -> None:
        self._begin_close()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while (next_one := self._jobs.get()) is not None:
                job, work = next_one
                if job.cancelled.is_set():
                    continue
                try:
                    work(job)
                except GeneratorError as error:
                    job.fail(error)
                except Exception as error:
                    # Whatever a library throws belongs to this job's caller, and must not end the thread.
                    job.fail(BackendUnavailable(f"{self._name} failed: {type(error).__name__}: {_first_line(error)}"))
        finally:
            self._release()
            self._ended.set_result(None)


def _first_line(error: Exception) -> str:
    """Libraries print whole pages; the first line says what is wrong. Prompts are never part of it here: they are tokenised
    before anything that may fail."""
    return (str(error).strip().splitlines() or [""])[0][:200]
