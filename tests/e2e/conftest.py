"""A language server in a process of its own, and a client that trusts nothing it says.

The client reads frames by the letter: whatever on the server's standard output is not exactly `Content-Length: N`, a blank line
and N bytes of JSON is kept in `impure` and fails the test that stops the server.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from coderl_gate.artifact import GateArtifact, StageModel, save
from coderl_gate.costs import CostParameters
from coderl_gate.scorer import LinearScorer

PATIENCE_S = 30.0
"""Longest wait for one answer: this machine may be busy."""
HEADER = re.compile(rb"Content-Length: (\d+)\r\n\r\n\Z")


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.code = error.get("code")


class Pending:
    """The answer to one request, when it comes."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.message: dict[str, Any] = {}

    def result(self, timeout_s: float = PATIENCE_S) -> Any:
        assert self.done.wait(timeout_s), "the server did not answer"
        if "error" in self.message:
            raise Refused(self.message["error"])
        return self.message["result"]


class Client:
    """The client's end of one connection; safe to use from one thread besides its own reader."""

    def __init__(self, to_server: BinaryIO, from_server: BinaryIO) -> None:
        self._out, self._in = to_server, from_server
        self._next_id = 0
        self._pending: dict[Any, Pending] = {}
        self._lock = threading.Condition()
        self._versions: dict[str, int] = {}
        self.notifications: list[dict[str, Any]] = []
        self.impure: list[bytes] = []
        self.unexpected: list[dict[str, Any]] = []
        """Second answers, answers to nothing, requests of the server."""
        self.capabilities: dict[str, Any] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # --- the wire

    def raw(self, data: bytes) -> None:
        self._out.write(data)
        self._out.flush()

    def send(self, *messages: dict[str, Any]) -> None:
        """All messages in one write, so that the server reads them at once."""
        bodies = [json.dumps({"jsonrpc": "2.0", **message}).encode() for message in messages]
        self.raw(b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies))

    def ask(self, method: str, params: Any = None) -> tuple[dict[str, Any], Pending]:
        """A request message that is not sent yet, and its answer to come."""
        self._next_id += 1
        pending = self._pending[self._next_id] = Pending()
        return {"id": self._next_id, "method": method, "params": params}, pending

    def start(self, method: str, params: Any = None) -> Pending:
        message, pending = self.ask(method, params)
        self.send(message)
        return pending

    def request(self, method: str, params: Any = None, timeout_s: float = PATIENCE_S) -> Any:
        return self.start(method, params).result(timeout_s)

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"method": method, "params": params})

    def wait_for(self, found: Callable[[dict[str, Any]], bool], timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The first notification that fits, past ones included."""
        give_up_s = time.monotonic() + timeout_s
        with self._lock:
            while True:
                for message in self.notifications:
                    if found(message):
                        return message
                left_s = give_up_s - time.monotonic()
                assert left_s > 0, f"no such notification among {self.notifications}"
                self._lock.wait(left_s)

    def told(self, word: str = "") -> list[str]:
        """What the user was shown so far."""
        with self._lock:
            shown = [m["params"]["message"] for m in self.notifications if m["method"] == "window/showMessage"]
        return [text for text in shown if word in text]

    def recorded(self) -> list[str]:
        with self._lock:
            return [key for m in self.notifications if m["method"] == "coderl/recorded" for key in m["params"]["ids"]]

    def _read(self) -> None:
        while True:
            header = self._in.readline()
            if not header:
                break
            header += self._in.readline()
            match = HEADER.match(header)
            body = self._in.read(int(match[1])) if match else b""
            try:
                if match is None:
                    raise ValueError
                self._take(json.loads(body))
            except ValueError:
                self.impure.append(header + body)
        with self._lock:
            self._lock.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._lock:
            if "method" in message and "id" not in message:
                self.notifications.append(message)
            else:
                key = message.get("id")
                pending = self._pending.get(key) if isinstance(key, int) else None
                if "method" in message or pending is None or pending.done.is_set():
                    self.unexpected.append(message)
                else:
                    pending.message = message
                    pending.done.set()
            self._lock.notify_all()

    # --- the language

    def initialize(
        self,
        settings: dict[str, Any] | None = None,
        encodings: tuple[str, ...] = ("utf-8",),
        options: dict[str, Any] | None = None,
        **params: Any,
    ) -> dict[str, Any]:
        wanted = {"reportRecorded": True, **(settings or {})}
        answer: dict[str, Any] = self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": None,
                "capabilities": {"general": {"positionEncodings": list(encodings)}},
                "initializationOptions": {"coderl": wanted, **(options or {})},
                **params,
            },
        )
        self.capabilities = answer["capabilities"]
        self.notify("initialized", {})
        return answer

    @property
    def command(self) -> str:
        return str(self.capabilities["executeCommandProvider"]["commands"][0])

    def open(self, uri: str, text: str, language: str = "python") -> str:
        self._versions[uri] = 1
        self.notify("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": language, "version": 1, "text": text}})
        return uri

    def change(self, uri: str, line: int, start: int, end: int, text: str) -> None:
        at = {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}}
        self.notify("textDocument/didChange", self.change_params(uri, {"range": at, "text": text}))

    def change_params(self, uri: str, *changes: dict[str, Any]) -> dict[str, Any]:
        self._versions[uri] = self._versions.get(uri, 0) + 1
        return {"textDocument": {"uri": uri, "version": self._versions[uri]}, "contentChanges": list(changes)}

    def completion(self, uri: str, line: int, character: int, invoked: bool = False) -> dict[str, Any]:
        return {
            "textDocument": {"uri": uri},
            "position": {"line": line, "character": character},
            "context": {"triggerKind": 1 if invoked else 2},
        }

    def complete(self, uri: str, line: int, character: int, invoked: bool = False) -> list[dict[str, Any]]:
        answer = self.request("textDocument/inlineCompletion", self.completion(uri, line, character, invoked))
        assert isinstance(answer, dict), "withheld is an empty list, never null"
        items: list[dict[str, Any]] = answer["items"]
        return items

    def settings(self, **settings: Any) -> None:
        self.notify("workspace/didChangeConfiguration", {"settings": {"coderl": settings}})

    def why(self, uri: str) -> dict[str, Any]:
        """The last decision on the document."""
        answer = self.request("coderl/why", {"textDocument": {"uri": uri}})
        decision: dict[str, Any] = answer["decision"]["fields"]
        return decision

    def reason(self, uri: str) -> str:
        return str(self.why(uri)["reason"])

    def flush(self) -> None:
        assert self.request("coderl/flush") == {"committed": True, "pending": 0}

    def close(self) -> None:
        self._out.close()
        self._reader.join(PATIENCE_S)
        self._in.close()


class Server(Client):
    """A client together with the stdio process it talks to."""

    def __init__(self, home: Path, arguments: list[str], environment: dict[str, str] | None = None, stdin: Any = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CODERL_")}
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coderl_server", "lsp", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean, "CODERL_HOME": str(home), **(environment or {})},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._errors: list[bytes] = []
        self._drain = threading.Thread(target=self._read_errors, args=(self.process.stderr,), daemon=True)
        self._drain.start()
        super().__init__(self.process.stdin, self.process.stdout)

    def _read_errors(self, stream: BinaryIO) -> None:
        for line in stream:
            self._errors.append(line)
        stream.close()

    @property
    def stderr(self) -> str:
        return b"".join(self._errors).decode(errors="replace")

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """The exit code, once the process has ended by itself."""
        code = self.process.wait(timeout_s)
        self._drain.join(PATIENCE_S)
        try:
            self.close()
        except OSError:  # what we still wanted to say has no reader any more
            self._in.close()
        return code

    def stop(self) -> int:
        """Leave in good manners; everything the server ever said must have been a message we had a right to expect."""
        assert self.request("shutdown") is None
        self.notify("exit")
        code = self.wait()
        assert self.impure == []
        assert self.unexpected == []
        return code

    def kill(self) -> None:
        """Make sure nothing is left behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def tcp_client(host: str, port: int) -> tuple[Client, socket.socket]:
    connection = socket.create_connection((host, port), PATIENCE_S)
    connection.settimeout(None)
    return Client(connection.makefile("wb"), connection.makefile("rb")), connection


Start = Callable[..., Server]


@pytest.fixture(scope="session")
def gate_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose judgement is easy to foresee: p1 = 0.4 everywhere (so stage 2 decides), p2 about 0.45."""
    folder = tmp_path_factory.mktemp("gate") / "even"
    one = LinearScorer(names=(), weights=(), means=(), scales=(), fills=(), intercept=-0.4)
    two = LinearScorer(names=("p1",), weights=(1.0,), means=(0.4,), scales=(1.0,), fills=(0.4,), intercept=-0.2)
    stages = StageModel(one), StageModel(two)
    artifact = GateArtifact(*stages, h_bits=0.5, costs=CostParameters(), data_hash="test", created_at="2026-11-20T00:00:00Z")
    save(artifact, folder)
    return folder


def running(factory: pytest.TempPathFactory, gate: Path) -> Iterator[Start]:
    """Makes servers (`start(script=…, arguments=…, home=…)`) and ends those that are left."""
    servers: list[Server] = []

    def start(
        script: dict[str, Any] | None = None,
        arguments: tuple[str, ...] = (),
        home: Path | None = None,
        environment: dict[str, str] | None = None,
        gate_folder: Path | None = gate,
    ) -> Server:
        folder = factory.mktemp("server")
        options = [] if gate_folder is None else ["--gate", str(gate_folder)]
        if script is not None:
            file = folder / "script.json"
            file.write_text(json.dumps(script), encoding="utf-8")
            options += ["--backend", "scripted", "--script", str(file)]
        server = Server(home or folder / "home", [*options, *arguments], environment)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory, gate_folder: Path) -> Iterator[Start]:
    yield from running(tmp_path_factory, gate_folder)


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory, gate_folder: Path) -> Iterator[Start]:
    yield from running(tmp_path_factory, gate_folder)


@pytest.fixture(scope="session")
def connect() -> Callable[[str, int], tuple[Client, socket.socket]]:
    return tcp_client


@pytest.fixture(scope="session")
def refused() -> type[Refused]:
    return Refused
