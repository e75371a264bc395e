"""An OpenAI-compatible endpoint between an agent and a model server, which keeps token ids and log-probs of every answer.

    POST /runs/<key>/v1/chat/completions     stream and not, tools
    GET  /runs/<key>/v1/models

One trajectory for each key, and a key for each run of an agent: `open` makes it, `close` gives what was kept and ends it. It
listens on a Unix socket; an agent in a jail meets it on its own loopback (`inside_agent`). An answer 4xx of the server goes to
the agent as it is; where the server cannot be reached, fails or tells no tokens, the agent gets 502 and the run is *broken*:
whoever reads it must not take it for the agent's failure.

Secrets: the server's key is read from an environment variable and sent to the server alone; agents do not see it. Not covered:
agents that speak other APIs, and several servers.
"""

from __future__ import annotations

import json
import os
import secrets
import socketserver
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import httpx

from coderl_generator.errors import BackendRefused, BackendUnavailable, GeneratorError
from coderl_generator.openai_wire import event_data, message_of

from .chat_wire import Capture, Sampling, Turn, asked, error_body, shown

_MOST_BODY_BYTES: Final = 16 << 20
_CONNECT_TIMEOUT_S: Final = 10.0
_DONE: Final = "[DONE]"


@dataclass(slots=True)
class Recorded:
    """What was kept of one run."""

    turns: list[Turn] = field(default_factory=list)
    """Complete answers, in the order in which they were asked."""
    requests: int = 0
    broken: str = ""
    """Why the run says nothing about its agent; empty = it does."""


@dataclass(slots=True)
class _Run:
    model: str
    sampling: Sampling | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    recorded: Recorded = field(default_factory=Recorded)
    turns: dict[int, Turn] = field(default_factory=dict)


class Proxy:
    """Answers agents until it is closed; safe to use from several threads.

    `exact`: an answer without token ids breaks its run; for measuring alone they are not needed.
    """

    def __init__(
        self, server: str, *, exact: bool = True, api_key_env: str = "", timeout_s: float = 300.0, connections: int = 32
    ) -> None:
        """`server`: base URL, with or without `/v1`. Raises `BackendRefused` for one that is none, or a key that is not set."""
        if not server.startswith(("http://", "https://")):
            raise BackendRefused(f"the server's address must begin with http:// or https://, not {server[:60]!r}")
        key = os.environ.get(api_key_env, "") if api_key_env else ""
        if api_key_env and not key:
            raise BackendRefused(f"the environment variable {api_key_env} should hold the API key, but is not set")
        self._exact = exact
        self._client = httpx.Client(
            base_url=server.rstrip("/").removesuffix("/v1"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
        self._runs: dict[str, _Run] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="coderl-proxy-")
        self.socket = Path(self._folder.name) / "socket"
        """Where it listens; its folder holds nothing else."""
        self._server = _Listener(str(self.socket), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def open(self, model: str, sampling: Sampling | None = None) -> str:
        """The key of a new run. `model`: the server's name of what answers it; `sampling`: None = as the agent asks."""
        key = secrets.token_hex(16)
        self._runs[key] = _Run(model, sampling)
        return key

    def close_run(self, key: str) -> Recorded:
        """What was kept of a run; its key is not known any more."""
        run = self._runs.pop(key)
        with run.lock:
            run.recorded.turns = [run.turns[number] for number in sorted(run.turns)]
            return run.recorded

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()
        self._folder.cleanup()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- for the handler ---------------------------------------------------------------------------------------------------

    def run(self, path: str) -> tuple[_Run | None, str]:
        """The run of a request's path, and the rest of it."""
        parts = path.partition("?")[0].strip("/").split("/", 2)
        if len(parts) < 3 or parts[0] != "runs":
            return None, ""
        return self._runs.get(parts[1]), f"/{parts[2]}"

    def answer(self, run: _Run, body: Mapping[str, Any], reply: _Reply) -> None:
        """Ask the server, keep what it says, and pass it on."""
        with run.lock:
            turn, run.recorded.requests = run.recorded.requests, run.recorded.requests + 1
        try:
            sent = asked(body, run.model, run.sampling, turn)
        except BackendRefused as error:
            reply.error(400, str(error))
            return
        capture = Capture()
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=sent) as response:
                if response.status_code != 200:
                    self._refused(run, response, reply)
                    return
                if sent.get("stream"):
                    self._pass_on(response, body, capture, reply)
                else:
                    self._pass_whole(response, body, capture, reply)
            self._keep(run, turn, capture)
        except httpx.HTTPError as error:
            self._break(run, f"the model server cannot be reached or broke off ({type(error).__name__})", reply)
        except GeneratorError as error:
            self._break(run, str(error), reply)

    def _keep(self, run: _Run, turn: int, capture: Capture) -> None:
        kept = capture.turn(exact=self._exact)
        with run.lock:
            run.turns[turn] = kept

    def _refused(self, run: _Run, response: httpx.Response, reply: _Reply) -> None:
        response.read()
        status = response.status_code
        if status >= 500 or status in (401, 403, 404, 429):
            with suppress(ValueError):
                said = message_of(response.json())
                self._break(run, f"the model server answered {status}: {said}", reply)
                return
            self._break(run, f"the model server answered {status}", reply)
            return
        reply.whole(status, response.content)

    def _break(self, run: _Run, reason: str, reply: _Reply) -> None:
        with run.lock:
            run.recorded.broken = run.recorded.broken or reason
        reply.error(502, reason)

    def _pass_whole(self, response: httpx.Response, body: Mapping[str, Any], capture: Capture, reply: _Reply) -> None:
        answer = _json(response.read())
        capture.add(answer)
        if self._exact:
            capture.turn()  # before the agent sees it: a run that cannot be learned from is not gone on with
        reply.whole(200, json.dumps(shown(body, answer)).encode())

    def _pass_on(self, response: httpx.Response, body: Mapping[str, Any], capture: Capture, reply: _Reply) -> None:
        for line in response.iter_lines():
            data = event_data(line.encode())
            if data is None:
                continue
            if data == _DONE:
                if self._exact:
                    capture.turn()
                reply.part(b"data: [DONE]\n\n")
                return
            chunk = _json(data.encode())
            capture.add(chunk)
            reply.part(b"data: " + json.dumps(shown(body, chunk)).encode() + b"\n\n")
        raise BackendUnavailable("the model server ended a stream before its end")


class _Reply:
    """What an agent gets. An agent that is gone is no error of anybody else."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self._begun = False

    def whole(self, status: int, content: bytes) -> None:
        if self._begun:
            return
        self._begun = True
        with suppress(OSError):
            self._head(status, "application/json", len(content))
            self._handler.wfile.write(content)

    def part(self, content: bytes) -> None:
        with suppress(OSError):
            if not self._begun:
                self._begun = True
                self._head(200, "text/event-stream", None)
            self._handler.wfile.write(content)
            self._handler.wfile.flush()

    def error(self, status: int, message: str) -> None:
        """After the first part of a stream: as its last event."""
        content = error_body(message)
        if self._begun:
            self.part(b"data: " + content + b"\n\n")
        else:
            self.whole(status, content)

    def _head(self, status: int, kind: str, length: int | None) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", kind)
        if length is None:
            self._handler.send_header("Connection", "close")
            self._handler.close_connection = True
        else:
            self._handler.send_header("Content-Length", str(length))
        self._handler.end_headers()


class _Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that went away says nothing about the proxy; what else fails has answered 502 already."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        run, path = self.server.proxy.run(self.path)
        if run is None or path != "/v1/models":
            _Reply(self).error(404, "there is no such address here")
            return
        _Reply(self).whole(200, json.dumps({"object": "list", "data": [{"id": run.model, "object": "model"}]}).encode())

    def do_POST(self) -> None:
        reply = _Reply(self)
        run, path = self.server.proxy.run(self.path)
        if run is None or path != "/v1/chat/completions":
            self.close_connection = True
            reply.error(404, "there is no such address here; the run may be over")
            return
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= _MOST_BODY_BYTES:
                raise ValueError
            body = json.loads(self.rfile.read(length))
            if not isinstance(body, dict):
                raise ValueError
        except ValueError:
            self.close_connection = True
            reply.error(400, "the request is no JSON object with a Content-Length")
            return
        self.server.proxy.answer(run, body, reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


def _json(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise BackendUnavailable("the model server sent something that is no JSON") from error
    if not isinstance(answer, dict):
        raise BackendUnavailable("the model server sent something that is no chat completion")
    if "error" in answer and "choices" not in answer:
        raise BackendUnavailable(f"the model server said: {message_of(answer)}")
    return answer


@contextmanager
def recorded(proxy: Proxy, model: str, sampling: Sampling | None) -> Iterator[tuple[str, list[Recorded]]]:
    """The key of a run, and a list that holds what was kept once the block is over."""
    key = proxy.open(model, sampling)
    kept: list[Recorded] = []
    try:
        yield key, kept
    finally:
        kept.append(proxy.close_run(key))
