"""What is put off is done, and a server that is told to leave knows it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from coderl_server.team.afterwards import Afterwards, Drain


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """A handler of SIGTERM as uvicorn has one."""
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    yield signals
    signal.signal(signal.SIGTERM, before)


async def test_a_signal_is_heard_beside_its_handler_and_all_is_as_it_was_afterwards(heard: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    drain = Drain()
    with drain.listening():
        assert not drain.begun
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(drain.wait(), 60)
    assert drain.begun
    assert heard == [signal.SIGTERM]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_a_signal_that_nobody_handles_is_left_alone() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with Drain().listening():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_what_waits_is_done_at_the_end_and_a_failure_stops_nothing() -> None:
    afterwards = Afterwards()
    done: list[str] = []
    afterwards.later(3600, lambda: done.append("late"))
    afterwards.later(3600, lambda: [][1])
    loop, soon = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        done.append("soon")
        loop.call_soon_threadsafe(soon.set)

    afterwards.later(0.0, work)
    await asyncio.wait_for(soon.wait(), 120)
    afterwards.later(3600, lambda: done.append("later"))
    await afterwards.finish()
    assert done == ["soon", "late", "later"]
