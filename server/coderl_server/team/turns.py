"""Who may generate when: so many streams at once, a bounded line of those that wait, and a share of both per caller.

A stream that is given up leaves the line, or its place at the model, at once. Not covered: fairness between callers beyond
their share of the line; the line is served in the order of arrival.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from coderl_generator.backend import Backend, GenerationRequest, Token, branches, forces_beginning
from coderl_generator.errors import BackendUnavailable

from .metrics import Metrics
from .settings import Limits


class Busy(BackendUnavailable):
    """The line is full, or it took too long."""

    def __init__(self, sentence: str, wait_s: int) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s
        """What to wait before asking again."""


class TooManyAtOnce(Busy):
    """The caller's share is used up by requests of its own."""


class Turns:
    """The line before one backend. Used on the event loop of one worker."""

    def __init__(self, backend: Backend, at_once: int, limits: Limits, metrics: Metrics) -> None:
        self._backend = backend
        self._limits = limits
        self._metrics = metrics
        self._free = asyncio.Semaphore(at_once)
        self._held: Counter[str] = Counter()
        self._waiting = 0
        self._running = 0

    def of(self, caller_id: str) -> Backend:
        """The backend as one caller has it: each stream waits for its turn, and raises `Busy` where there will be none."""
        return _InTurn(self, caller_id, self._backend)

    @asynccontextmanager
    async def turn(self, caller_id: str) -> AsyncIterator[None]:
        """A place at the model. Raises `Busy` and `TooManyAtOnce`."""
        limits = self._limits
        if self._held[caller_id] >= limits.generations_per_caller:
            raise TooManyAtOnce(f"One caller has at most {limits.generations_per_caller} generations at once.", 1)
        if self._free.locked() and self._waiting >= limits.generations_waiting:
            raise Busy("Too many requests wait for the model.", max(1, round(limits.generation_wait_s)))
        self._held[caller_id] += 1
        try:
            await self._take()
            try:
                self._moved(running=1)
                yield
            finally:
                self._free.release()
                self._moved(running=-1)
        finally:
            self._held[caller_id] -= 1
            if not self._held[caller_id]:
                del self._held[caller_id]

    async def _take(self) -> None:
        wait_s = self._limits.generation_wait_s
        self._moved(waiting=1)
        try:
            async with asyncio.timeout(wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise Busy(f"The model was not free within {wait_s:g} s.", max(1, round(wait_s))) from None
        finally:
            self._moved(waiting=-1)

    def _moved(self, running: int = 0, waiting: int = 0) -> None:
        self._running += running
        self._waiting += waiting
        self._metrics.set("coderl_generations_running", self._running)
        self._metrics.set("coderl_generations_waiting", self._waiting)


class _InTurn:
    """See `Turns.of`."""

    def __init__(self, turns: Turns, caller_id: str, backend: Backend) -> None:
        self._turns = turns
        self._caller_id = caller_id
        self._backend = backend

    @property
    def generator_id(self) -> str:
        return self._backend.generator_id

    @property
    def forces_beginning(self) -> bool:
        """That of the backend."""
        return forces_beginning(self._backend)

    @property
    def branches(self) -> bool:
        """That of the backend."""
        return branches(self._backend)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`. Documents of different callers are different ones, whatever their names."""
        own = replace(request, document=f"{self._caller_id}:{request.document}")
        async with self._turns.turn(self._caller_id), aclosing(self._backend.stream(own)) as tokens:
            async for token in tokens:
                yield token

    async def aclose(self) -> None:
        """Nothing: the backend is everybody's."""
