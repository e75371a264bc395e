"""Another model, or another adapter, without a restart.

Requests that run finish on the weights they began with; every request that begins after the switch is decoded with the new
ones. `generator_id` is that of the next request, so whoever reads it and begins a stream without waiting in between has
the right one: `coderl_generator.complete.complete` does, and its `Completion.generator_id` is what a log row wants.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from coderl_generator.adapters import Adapter, InUse, TakesAdapters
from coderl_generator.backend import Backend, GenerationRequest, Token, branches, forces_beginning
from coderl_generator.counters import Counters
from coderl_generator.errors import BackendRefused, BackendUnavailable, GeneratorError

logger = logging.getLogger(__name__)


class _Served:
    """A backend and who uses it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.in_use = InUse()


class HotSwap:
    """A backend whose model or adapter can be changed while it serves. It keeps the whole contract of `Backend`.

    A swap holds both models in memory until the last stream of the old one has ended.
    """

    def __init__(self, backend: Backend) -> None:
        self._current = _Served(backend)
        self._changing = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], _Served] = {}
        self._closed = False

    @property
    def generator_id(self) -> str:
        """Of the request that begins next."""
        return self._current.backend.generator_id

    @property
    def forces_beginning(self) -> bool:
        """That of the backend that serves."""
        return forces_beginning(self._current.backend)

    @property
    def branches(self) -> bool:
        """That of the backend that serves."""
        return branches(self._current.backend)

    @property
    def counters(self) -> Counters | None:
        """Those of the backend that serves; None where it keeps none."""
        kept = getattr(self._current.backend, "counters", None)
        return kept if isinstance(kept, Counters) else None

    @property
    def prefill(self) -> Callable[[GenerationRequest], Coroutine[Any, Any, None]] | None:
        """That of the backend that serves; None where it has none."""
        return getattr(self._current.backend, "prefill", None)

    @property
    def backend(self) -> Backend:
        """The one that serves now."""
        return self._current.backend

    async def warm_up(self) -> None:
        """That of the backend that serves, where it has one."""
        await _warm(self._current.backend)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`."""
        if self._closed:
            raise BackendUnavailable("the generator was shut down")
        served = self._current
        with served.in_use:
            async with aclosing(served.backend.stream(request)) as tokens:
                async for token in tokens:
                    yield token

    async def swap(self, backend: Backend) -> None:
        """Load another backend and let it serve from then on; the old one is closed after its last stream.

        Returns when the new one serves. Raises what its loading raises: it is closed then, and the old one goes on. Changes are
        made one at a time.
        """
        async with self._changing:
            try:
                await _warm(backend)
                if self._closed:
                    raise BackendUnavailable("the generator was shut down")
            except BaseException:
                await backend.aclose()
                raise
            old, self._current = self._current, _Served(backend)
            task = asyncio.create_task(self._retire(old))
            self._retiring[task] = old
            task.add_done_callback(lambda done: self._retiring.pop(done, None))

    async def use_adapter(self, adapter: Adapter | None) -> None:
        """As `TakesAdapters.use_adapter`; `BackendRefused` where the backend that serves takes none."""
        async with self._changing:
            backend = self._current.backend
            if not isinstance(backend, TakesAdapters):
                raise BackendRefused(f"{backend.generator_id} takes no adapters: swap the whole model")
            await backend.use_adapter(adapter)

    async def aclose(self) -> None:
        """Close all that serves or is retiring. Idempotent."""
        self._closed = True
        for served in [self._current, *self._retiring.values()]:
            await served.backend.aclose()
        for task in list(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def _retire(self, old: _Served) -> None:
        await old.in_use.wait_until_idle()
        try:
            await old.backend.aclose()
        except (GeneratorError, OSError) as error:
            logger.warning("the old model %s did not close: %s", old.backend.generator_id, error)


async def _warm(backend: Backend) -> None:
    warm_up = getattr(backend, "warm_up", None)
    if warm_up is not None:
        await warm_up()
