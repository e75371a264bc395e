"""A server that speaks OpenAI's chat completions, as vLLM does, and says what a test wants; over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, list[dict[str, Any]] | dict[str, Any]]
"""Status, and chunks to stream (a list) or one object."""


@dataclass
class ChatServer:
    """What it was asked, and where it is."""

    base_url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def chunks(text: str = "", calls: list[tuple[str, dict[str, Any]]] | None = None, finish: str = "stop") -> list[dict[str, Any]]:
    """A reply as vLLM streams it: text in pieces, arguments of calls in pieces, the usage last."""
    made = [_chunk({"content": text[at : at + 3]}) for at in range(0, len(text), 3)]
    for index, (name, arguments) in enumerate(calls or ()):
        written = json.dumps(arguments)
        head = {"index": index, "id": f"c{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        made.append(_chunk({"tool_calls": [head]}))
        for at in range(0, len(written), 5):
            made.append(_chunk({"tool_calls": [{"index": index, "function": {"arguments": written[at : at + 5]}}]}))
    made.append(_chunk({}, "tool_calls" if calls else finish))
    return [*made, {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}]


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


@contextmanager
def serving(answer: Callable[[dict[str, Any], int], Answer]) -> Iterator[ChatServer]:
    """`answer` gets the body of a request and its number, from 0."""
    told = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.asked.append(body)
            told.headers.append(dict(self.headers))
            status, said = answer(body, len(told.asked) - 1)
            self.send_response(status)
            streamed = isinstance(said, list)
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.end_headers()
            if not streamed:
                self.wfile.write(json.dumps(said).encode())
                return
            for one in said:
                self.wfile.write(b"data: " + json.dumps(one).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    told.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
