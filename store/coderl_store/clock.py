"""Time as an object, so that a session can be played again exactly.

`SystemClock` is the real one. `VirtualClock` stands still until it is told the time: the simulator and the protocol replay
drive it, tests use it, and nothing in the house calls `time.time()` for behaviour.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds since the Unix epoch, and waiting."""

    def now_s(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once `now_s()` has advanced by `seconds`."""
        ...


def utc(seconds: float) -> datetime:
    """The aware UTC datetime of a `Clock` reading."""
    return datetime.fromtimestamp(seconds, UTC)


class SystemClock:
    """The machine's clock; monotonic within a process (a wall clock that jumps back does not move it)."""

    def __init__(self) -> None:
        self._start_s = time.time()
        self._start_monotonic_s = time.monotonic()

    def now_s(self) -> float:
        return self._start_s + (time.monotonic() - self._start_monotonic_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that only `advance_to` moves. Sleepers wake in the order of their deadlines, ties in the order of arrival."""

    def __init__(self, start_s: float = 1_700_000_000.0) -> None:
        self._now_s = start_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @property
    def sleeping(self) -> int:
        """How many tasks wait on this clock now."""
        return sum(1 for _, _, wake in self._sleepers if not wake.done())

    def now_s(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._sleepers, (self._now_s + seconds, self._arrivals, wake))
        await wake

    def advance_to(self, now_s: float) -> None:
        """Set the time (never backwards: an earlier time is ignored) and wake the sleepers that are due."""
        self._now_s = max(self._now_s, now_s)
        while self._sleepers and self._sleepers[0][0] <= self._now_s:
            _, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
