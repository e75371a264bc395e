"""The baseline of the team server's benchmarks: FastAPI under uvicorn with nothing of ours in it, in a process of its own.

python benchmarks/bare_endpoint.py PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse
from team_server import Served

TOKENS, FIRST_MS, NEXT_MS = 16, 40.0, 5.0
"""What the model of the relay's benchmark says, and how fast."""


def application() -> FastAPI:
    """Answers how many lines were sent."""
    bare_application = FastAPI()

    @bare_application.post("/lines")
    async def lines(request: Request) -> dict[str, int]:
        return {"accepted": (await request.body()).count(b"\n")}

    @bare_application.post("/v1/completions")
    async def completions(request: Request) -> StreamingResponse:
        await request.json()
        return StreamingResponse(_events(), media_type="text/event-stream")

    return bare_application


async def _events() -> AsyncIterator[str]:
    """As many events, after the same waits, of about the size that the relay sends."""
    await asyncio.sleep(FIRST_MS / 1000)
    for index in range(TOKENS):
        if index:
            await asyncio.sleep(NEXT_MS / 1000)
        choice = {"index": 0, "text": " word", "logprobs": None, "finish_reason": None}
        chunk = {"id": "0", "object": "text_completion", "created": 0, "model": "scripted", "choices": [choice]}
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


@contextlib.contextmanager
def bare() -> Iterator[Served]:
    """It runs until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, str(port)], text=True)
    try:
        _wait(port)
        yield Served(process, port)
    finally:
        process.kill()
        process.communicate()


def _wait(port: int, longest_s: float = 60.0) -> None:
    give_up_s = time.monotonic() + longest_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    uvicorn.run(application(), port=int(sys.argv[1]), http="h11", access_log=False, log_level="warning", server_header=False)
