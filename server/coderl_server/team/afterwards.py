"""Work of a worker that is done later, and its end: what is waiting, and who is told that the server is about to leave."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


class Afterwards:
    """Small pieces of work with a delay. What still waits when the server ends is done then."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.TimerHandle, Callable[[], object]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def later(self, delay_s: float, work: Callable[[], object]) -> None:
        """Do the work, which may block, in a thread after the delay. Called on the event loop."""

        def begin() -> None:
            del self._waiting[handle]
            task = asyncio.ensure_future(self._do(work))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        handle = asyncio.get_running_loop().call_later(delay_s, begin)
        self._waiting[handle] = work

    async def finish(self) -> None:
        """Do what waits, now, and wait for what runs."""
        waiting = list(self._waiting.items())
        self._waiting.clear()
        for handle, work in waiting:
            handle.cancel()
            await self._do(work)
        await asyncio.gather(*self._running)

    async def _do(self, work: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(work)
        except Exception as error:  # there is nobody left to tell but the log
            logger.error("Work that was put off failed (%s).", type(error).__name__)


class Drain:
    """Whether the server was told to leave. Long streams look at `begun`, or wait for it, and hand their client a clear end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def begun(self) -> bool:
        """True once SIGTERM or SIGINT came."""
        return self._begun.is_set()

    async def wait(self) -> None:
        """Return once the server was told to leave."""
        await self._begun.wait()

    def begin(self) -> None:
        """Called on the event loop."""
        self._begun.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear of SIGTERM and SIGINT beside whoever handles them already: uvicorn, which only then stops to accept and waits.

        A signal that nobody handles is left alone, and afterwards all is as it was. In other threads than the main one, which
        gets no signals, nothing is heard.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, self._chained(loop, handler))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _chained(
        self, loop: asyncio.AbstractEventLoop, handler: Callable[[int, FrameType | None], object]
    ) -> Callable[[int, FrameType | None], None]:
        def heard(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.begin)
            handler(number, frame)

        return heard
