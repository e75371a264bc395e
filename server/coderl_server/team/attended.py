"""Work for a client that may leave, on a server that may be told to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any

from starlette.types import Receive


class Ending(Enum):
    """How it ended."""

    DONE = auto()
    GONE = auto()
    """The client left: nobody waits for the rest."""
    LEAVING = auto()
    """The server leaves, and the work had no more time."""


async def attended(
    work: Coroutine[Any, Any, None], receive: Receive, leaving: Coroutine[Any, Any, None] | None = None
) -> Ending:
    """Do the work until it is done, the client has left, or `leaving` returns. Work that was cut off was cancelled and has
    ended when this returns. Raises what the work raises.

    `receive` is that of a request whose body was read: what comes next is that the client left.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    others = [gone] if leaving is None else [gone, asyncio.ensure_future(leaving)]
    try:
        await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return Ending.DONE
        for ended in others:
            if ended.done():
                ended.result()  # raises where it was the watching that failed
        return Ending.GONE if gone.done() else Ending.LEAVING
    finally:
        for one in (task, *others):
            one.cancel()
        await asyncio.gather(task, *others, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
