"""A vLLM server's routes on loopback over any model. What it answers is worked out; what it does wrong is asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Model = Callable[[Sequence[int]], NDArray[np.float64]]
"""(T,) tokens → (T, V) log-probs of the token after each of them."""
Weights = Callable[[Path | None], Model]
"""The model with the adapter of a folder; None = without."""


class Serves(StrEnum):
    """What a server answers with under an adapter's name."""

    RIGHT = "right"
    BASE = "base"
    FIRST = "first"
    """The first adapter that it was ever given."""


@dataclass
class VllmDouble:
    """The state of one server. Everything may be changed while it runs."""

    weights: Weights
    decode: Callable[[Sequence[int]], str]
    name: str = "served"
    serves: Serves = Serves.RIGHT
    takes_adapters: bool = True
    gives_ids: bool = True
    render: Callable[[Sequence[dict[str, Any]]], list[int]] | None = None
    """The tokens of the messages of a chat; None = there is no chat here."""
    chat_ends: tuple[int, ...] = ()
    """Tokens that end an answer of a chat."""
    calls_of: Callable[[str], list[dict[str, Any]]] = lambda _text: []
    """The tool calls in an answer of a chat."""
    failures: int = 0
    """So many of the next answers are HTTP 500."""
    dies_after: int | None = None
    """So many adapters are loaded, and whatever is asked from the next one on is HTTP 500."""
    hangs: bool = False
    noise_nats: float = 0.0
    """Of the log-probs it tells of samples: every second one is larger by it, the others smaller."""
    address: str = ""
    adapters: dict[str, Path] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    models: dict[Path | None, Model] = field(default_factory=dict)
    first: Path | None = None

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.requests if asked == path]

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.requests.append((path, body))
        if self.hangs:
            self.released.wait(60)
        if self.dies_after is not None and len(self.asked("/v1/load_lora_adapter")) > self.dies_after:
            return 500, {"error": {"message": "the engine is dead", "code": 500}}
        if self.failures:
            self.failures -= 1
            return 500, {"error": {"message": "the engine is dead", "code": 500}}
        if path == "/v1/models":
            adapters = [{"id": label, "parent": self.name} for label in self.adapters]
            return 200, {"data": [{"id": self.name, "parent": None}, *adapters]}
        if path == "/v1/completions":
            return self._completion(body)
        if path == "/v1/chat/completions" and self.render is not None:
            return self._chat(body, self.render)
        if self.takes_adapters and path == "/v1/load_lora_adapter":
            return self._load(str(body["lora_name"]), Path(body["lora_path"]))
        if self.takes_adapters and path == "/v1/unload_lora_adapter":
            if self.adapters.pop(str(body["lora_name"]), None) is None:
                return _error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
            return 200, "Success"
        return 404, {"detail": "Not Found"}

    def _load(self, name: str, path: Path) -> tuple[int, Any]:
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (path / "adapter_config.json").is_file():
            return _error(404, f"No adapter found for {path}")
        self.adapters[name] = path
        self.models[path] = self.weights(path)
        self.first = self.first or path
        return 200, "Success"

    def _model(self, name: str) -> Model:
        path = None if name == self.name or self.serves is Serves.BASE else self.adapters[name]
        if path is not None and self.serves is Serves.FIRST:
            path = self.first
        if path not in self.models:
            self.models[path] = self.weights(path)
        return self.models[path]

    def _completion(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["model"] not in (self.name, *self.adapters):
            return _error(404, f"The model `{body['model']}` does not exist.")
        if body["n"] > 1 and body["temperature"] == 0:
            return _error(400, "n must be 1 when using greedy sampling")
        model, prompt = self._model(body["model"]), list(body["prompt"])
        choices = [self._drawn(model, prompt, body, number) for number in range(body["n"])]
        if body.get("prompt_logprobs") is not None:
            told = model(prompt)
            ranked = [{str(token): {"logprob": float(told[at, token])}} for at, token in enumerate(prompt[1:])]
            choices[0]["prompt_logprobs"] = [None, *ranked]
        return 200, {"choices": choices}

    def _chat(self, body: dict[str, Any], render: Callable[[Sequence[dict[str, Any]]], list[int]]) -> tuple[int, Any]:
        """A whole answer, or a `Stream` of one chunk a token."""
        if body["model"] not in (self.name, *self.adapters):
            return _error(404, f"The model `{body['model']}` does not exist.")
        prompt = render(body["messages"])
        ways = {"temperature": 1.0, "max_tokens": 16, "stop": [], **body, "stop_token_ids": list(self.chat_ends)}
        drawn = self._drawn(self._model(body["model"]), prompt, ways, 0)
        ids, logprobs = drawn.get("token_ids", []), drawn["logprobs"]["token_logprobs"]
        asked = bool(body.get("return_token_ids")) and self.gives_ids
        told = [{"token": "?", "logprob": value, "bytes": None, "top_logprobs": []} for value in logprobs]
        calls = self.calls_of(drawn["text"])
        head = {"id": "chatcmpl-1", "model": body["model"], **({"prompt_token_ids": prompt} if asked else {})}
        if not body.get("stream"):
            message = {"role": "assistant", "content": drawn["text"], "tool_calls": calls}
            choice = {"index": 0, "message": message, "finish_reason": drawn["finish_reason"]}
            choice |= {"logprobs": {"content": told} if body.get("logprobs") else None} | ({"token_ids": ids} if asked else {})
            return 200, {**head, "object": "chat.completion", "choices": [choice]}
        chunks: list[dict[str, Any]] = [{**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
        sent = ""
        for at, one in enumerate(told):
            last, text = at == len(told) - 1, drawn["text"] if at == len(told) - 1 else self.decode(ids[: at + 1])
            whole = text.startswith(sent) and drawn["text"].startswith(text)  # no letter is cut in two
            delta = {"content": text[len(sent) :] if whole else ""} | ({"tool_calls": _parted(calls)} if last and calls else {})
            sent = text if whole else sent
            choice = {"index": 0, "delta": delta, "finish_reason": drawn["finish_reason"] if last else None}
            choice |= {"logprobs": {"content": [one]}} | ({"token_ids": [ids[at]]} if asked else {})
            chunks.append({"id": "chatcmpl-1", "choices": [choice]})
        return 200, Stream([*chunks, {"id": "chatcmpl-1", "choices": [], "usage": {"completion_tokens": len(told)}}])

    def _drawn(self, model: Model, prompt: list[int], body: dict[str, Any], number: int) -> dict[str, Any]:
        random = np.random.default_rng(body.get("seed", 0) + number)
        tokens: list[int] = []
        logprobs: list[float] = []
        finish = "length"
        while len(tokens) < body["max_tokens"]:
            chances = model([*prompt, *tokens])[-1]
            greedy = body["temperature"] == 0
            token = int(chances.argmax()) if greedy else int((chances + random.gumbel(size=len(chances))).argmax())
            tokens.append(token)
            logprobs.append(float(chances[token]) + self.noise_nats * (-1) ** len(tokens))
            text = self.decode(tokens)
            if token in body["stop_token_ids"] or any(stop in text for stop in body["stop"]):
                finish = "stop"
                break
        lists = {"tokens": ["?"] * len(tokens), "token_logprobs": logprobs}
        ids = {"token_ids": tokens} if self.gives_ids else {}
        return {"index": number, "text": self.decode(tokens), "logprobs": lists, "finish_reason": finish, **ids}


@dataclass(frozen=True)
class Stream:
    """Server-sent events."""

    chunks: list[dict[str, Any]]

    def encode(self) -> bytes:
        events = [json.dumps(chunk) for chunk in self.chunks] + ["[DONE]"]
        return "".join(f"data: {event}\n\n" for event in events).encode()


def _parted(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls as a stream has them: by number."""
    return [{"index": at, **call} for at, call in enumerate(calls)]


def _error(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message, "type": "BadRequestError", "code": status}}


@contextmanager
def vllm_double(weights: Weights, decode: Callable[[Sequence[int]], str]) -> Iterator[VllmDouble]:
    """Serve until the end of the block."""
    double = VllmDouble(weights, decode)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(*double.answer(self.path, {}))

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._say(*double.answer(self.path, json.loads(self.rfile.read(length))))

        def _say(self, status: int, answer: Any) -> None:
            body = answer.encode() if isinstance(answer, str | Stream) else json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # the client waited long enough

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        double.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield double
        finally:
            double.released.set()
            server.shutdown()
            thread.join()
