"""A minimal LSP client for measuring: raw JSON-RPC over the pipes of one server process, read by one thread.

It knows no LSP library, so that what is measured is the server and the pipe.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One response and when its last byte was read (`time.perf_counter`, s)."""

    body: Mapping[str, Any]
    at_s: float


class StdioClient:
    """`python -m coderl_server lsp ARGUMENTS` in a data folder of its own; a context manager that ends it."""

    def __init__(self, home: Path, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CODERL_")}
        self.started_s = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coderl_server", "lsp", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "CODERL_HOME": str(home)},
        )
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._early: dict[int, Answer] = {}
        self._last_id = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> StdioClient:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            try:
                self.ask("shutdown", None)
                self.tell("exit", None)
                self._process.wait(20)
            except (RuntimeError, subprocess.TimeoutExpired, BrokenPipeError):
                self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def start(self, options: Mapping[str, Any] | None = None) -> float:
        """`initialize` and `initialized`; returns seconds from the start of the process to the answer."""
        parameters = {
            "processId": os.getpid(),
            "rootUri": None,
            "capabilities": {"general": {"positionEncodings": ["utf-8"]}},
            "clientInfo": {"name": "benchmark"},
            "initializationOptions": {"coderl": dict(options or {})},
        }
        answer = self.result(self.send("initialize", parameters))
        self.tell("initialized", {})
        return answer.at_s - self.started_s

    def tell(self, method: str, params: object) -> None:
        """A notification."""
        self._write({"jsonrpc": "2.0", "method": method, "params": params})

    def send(self, method: str, params: object) -> int:
        """A request; returns its id."""
        self._last_id += 1
        self._write({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        return self._last_id

    def result(self, request_id: int) -> Answer:
        """Wait for the answer to a request, whatever it is. RuntimeError where the server is gone or silent."""
        while request_id not in self._early:
            try:
                answer = self._answers.get(timeout=ANSWER_S)
            except queue.Empty:
                raise RuntimeError(f"The server gave no answer in {ANSWER_S:.0f} s.") from None
            if answer is None:
                raise RuntimeError(f"The server ended with status {self._process.wait()}.")
            self._early[answer.body["id"]] = answer
        return self._early.pop(request_id)

    def ask(self, method: str, params: object) -> tuple[Any, float]:
        """Request and wait; returns the result and milliseconds. RuntimeError for an error answer."""
        started_s = time.perf_counter()
        answer = self.result(self.send(method, params))
        if "error" in answer.body:
            raise RuntimeError(f"{method}: {answer.body['error']}")
        return answer.body["result"], (answer.at_s - started_s) * 1000

    # --- documents

    def open(self, uri: str, text: str) -> None:
        """Open a Python document."""
        self.tell("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": "python", "version": 1, "text": text}})

    def change(self, uri: str, version: int, changes: Sequence[tuple[int, int, int, int, str]]) -> None:
        """Changes as (start line, start character, end line, end character, new text)."""
        events = [
            {"range": {"start": {"line": a, "character": b}, "end": {"line": c, "character": d}}, "text": text}
            for a, b, c, d, text in changes
        ]
        self.tell("textDocument/didChange", {"textDocument": {"uri": uri, "version": version}, "contentChanges": events})

    @staticmethod
    def place(uri: str, line: int, character: int) -> dict[str, Any]:
        """Parameters of an automatic inline-completion request."""
        return {
            "textDocument": {"uri": uri},
            "position": {"line": line, "character": character},
            "context": {"triggerKind": 2},
        }

    # --- the process

    def resident_mb(self) -> float:
        """Resident memory of the server, MB (10^6 bytes)."""
        run = subprocess.run(["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=True)
        return int(run.stdout) * 1024 / 1e6

    def cpu_s(self) -> float:
        """Processor seconds (user and system) the server has used; needs /proc."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        body = json.dumps(message, separators=(",", ":")).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while header := stream.readline():
            length = int(header.split(b":")[1])
            while stream.readline().strip():
                pass
            data = stream.read(length)
            at_s = time.perf_counter()
            body = json.loads(data)
            if "method" not in body:
                self._answers.put(Answer(body, at_s))
        self._answers.put(None)
