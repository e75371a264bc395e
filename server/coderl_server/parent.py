"""The editor's process: when it is gone, the server goes too."""

from __future__ import annotations

import asyncio
import logging
import os

logger = logging.getLogger(__name__)

PARENT_WATCH_S = 2.0
"""How often the editor's process is looked for; pygls stores its id but never looks."""


async def watch_parent(process_id: int, stop: asyncio.Event) -> None:
    """End the server when the editor's process is gone (LSP 3.18, `processId`)."""
    while not stop.is_set():
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            logger.warning("The editor (process %d) is gone; the server ends.", process_id)
            stop.set()
        except PermissionError:
            return  # it runs as someone else: its end shows as end of input
        await asyncio.sleep(PARENT_WATCH_S)
