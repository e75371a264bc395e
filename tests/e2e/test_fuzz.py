"""2,000 messages no client should send. After every fifty the next good request is served, in the same process.

Run again with the printed seed: `CODERL_FUZZ_SEED=123 pytest tests/e2e/test_fuzz.py`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from coderl_server.app import LspOptions, build
from coderl_server.framing import LIMIT_BYTES
from coderl_server.settings import Settings, wire_name

SEED = int(os.environ.get("CODERL_FUZZ_SEED", "20261120"))
MESSAGES, BATCH = 2000, 50
MOST_GROWTH_KB = 120_000
"""More resident memory than this after the first batch is a leak. (One document of 4 MB may be kept a few times over.)"""
SCRIPT = {"default": {"text": "values)\n"}}
GOOD = {
    "enabled": True,
    "rule": "always_show",
    "languages": {"python": True},
    "disableGlobs": [],
    "secretGlobs": [],
    "privacy": "metrics",
    **{
        wire_name(name): getattr(Settings(), name)
        for name in ("manual_only", "min_idle_ms", "max_suggestion_chars", "max_document_chars", "deadline_ms", "max_tokens")
    },
}
DOCUMENT = {"uri": "file:///fuzz/a.py"}
PLACE = {"line": 0, "character": 4}
ITEM = {"insertText": "x", "command": {"title": "t", "command": "c", "arguments": ["id"]}}
REQUESTS: dict[str, Any] = {
    "initialize": {
        "processId": None,
        "capabilities": {"general": {"positionEncodings": ["utf-8"]}},
        "initializationOptions": {},
    },
    "textDocument/inlineCompletion": {"textDocument": DOCUMENT, "position": PLACE, "context": {"triggerKind": 1}},
    "workspace/executeCommand": {"command": "coderl.accepted", "arguments": ["id"]},
    "coderl/why": {"textDocument": DOCUMENT},
    "coderl/status": {},
    "coderl/snooze": {"minutes": 1},
    "coderl/decisions": {},
    "coderl/counters": {},
    "coderl/generator": {},
    "coderl/flush": {},
    "coderl/clock": {"now_ms": 5, "settle": True},
}
NOTIFICATIONS: dict[str, Any] = {
    "initialized": {},
    "$/cancelRequest": {"id": 3},
    "$/setTrace": {"value": "off"},
    "$/progress": {"token": 1, "value": {}},
    "textDocument/didOpen": {"textDocument": {**DOCUMENT, "languageId": "python", "version": 1, "text": "a = 1\nsum("}},
    "textDocument/didChange": {
        "textDocument": {**DOCUMENT, "version": 2},
        "contentChanges": [{"range": {"start": PLACE, "end": PLACE}, "text": "b"}, {"text": "sum("}],
    },
    "textDocument/didClose": {"textDocument": DOCUMENT},
    "textDocument/didFocus": {"textDocument": DOCUMENT},
    "textDocument/didShowCompletion": {"item": ITEM},
    "textDocument/didPartiallyAcceptCompletion": {"item": ITEM, "acceptedLength": 2},
    "coderl/outcome": {"id": "x", "kind": "accepted", "acceptedChars": 3, "visibleMs": 5},
    "workspace/didChangeConfiguration": {"settings": {"coderl": {"enabled": True, "languages": {"go": False}, "eagerness": 0}}},
    "workspace/didChangeWorkspaceFolders": {"event": {"added": [{"uri": "file:///a", "name": "a"}], "removed": []}},
    "window/workDoneProgress/cancel": {"token": "x"},
    "notebookDocument/didOpen": {
        "notebookDocument": {"uri": "file:///n", "notebookType": "t", "version": 1, "cells": []},
        "cellTextDocuments": [],
    },
    "notebookDocument/didChange": {"notebookDocument": {"uri": "file:///n", "version": 1}, "change": {}},
    "notebookDocument/didClose": {"notebookDocument": {"uri": "file:///n"}, "cellTextDocuments": []},
}
DEEP: Any = "end"
for _ in range(150):
    DEEP = [DEEP] if len(json.dumps(DEEP)) % 2 else {"k": DEEP}
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31 - 1, 2**31, -(2**31) - 1, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"),
    "", "x", "x" * 10_000, "\ud800", "\x00", "file:///fuzz/a.py", "😀" * 50, [], {}, [[]], [None], {"": {}}, {"line": 0}, DEEP,
)  # fmt: skip


class Fuzzer:
    """Makes bytes. Requests that must be answered are in `due`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.ids = count(100_000)
        self.due: list[int] = []

    def one(self) -> bytes:
        kind = self.rng.choices(
            (self.mutated, self.plain, self.envelope, self.unknown, self.answer, self.repeated, self.bytes_of_no_sense),
            weights=(45, 12, 10, 6, 6, 4, 17),
        )[0]
        return kind()

    def _odd(self) -> Any:
        return copy.deepcopy(self.rng.choice(ODD))  # a copy, because it may be mutated further

    def _frame(self, message: Any, length: int | None = None) -> bytes:
        body = json.dumps(message).encode()
        return b"Content-Length: %d\r\n\r\n%s" % (len(body) if length is None else length, body)

    def _message(self, params_of: Callable[[Any], Any]) -> dict[str, Any]:
        methods = REQUESTS if self.rng.random() < 0.5 else NOTIFICATIONS
        method = self.rng.choice(sorted(methods))
        message = {"jsonrpc": "2.0", "method": method, "params": params_of(copy.deepcopy(methods[method]))}
        if methods is REQUESTS:
            message["id"] = next(self.ids)
            self.due.append(message["id"])
        return message

    def mutated(self) -> bytes:
        return self._frame(self._message(lambda params: self._mutate({"params": params})["params"]))

    def _mutate(self, root: dict[str, Any]) -> dict[str, Any]:
        """Change one to three places anywhere in the tree: another value, gone, or there twice."""
        for _ in range(self.rng.randint(1, 3)):
            places = list(_places(root))
            holder, key = self.rng.choice(places)
            how = self.rng.random()
            if how < 0.7 or holder is root:
                holder[key] = self._odd()
            elif isinstance(holder, dict):
                del holder[key]
            else:
                holder.extend(holder[:] * self.rng.randint(1, 50))
        return root

    def plain(self) -> bytes:
        """A message as it should be, only not now: nothing was opened, or it was closed, or asked before."""
        return self._frame(self._message(lambda params: params))

    def envelope(self) -> bytes:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": "coderl/status", "params": {}, "id": self._odd()}
        for key in self.rng.sample(sorted(message), self.rng.randint(1, 2)):
            if self.rng.random() < 0.5:
                del message[key]
            else:
                message[key] = self._odd()
        return self._frame(message)

    def unknown(self) -> bytes:
        message = {
            "jsonrpc": "2.0",
            "method": self.rng.choice(("", "x", "$/x", "textDocument/hover", "a" * 5000)),
            "params": {},
        }
        if self.rng.random() < 0.5:
            message["id"] = next(self.ids)
            if message["method"] != "textDocument/hover":  # whose parameters are wrong too: refused as well
                self.due.append(message["id"])
        return self._frame(message)

    def answer(self) -> bytes:
        """An answer to nothing, or to a request of the client itself."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self.rng.choice((*ODD, self.due[-1] if self.due else 1))}
        message[self.rng.choice(("result", "error"))] = self.rng.choice((*ODD, {"code": 1, "message": "m"}))
        return self._frame(message)

    def repeated(self) -> bytes:
        """Several requests under one id, in one packet."""
        key = next(self.ids)
        params = REQUESTS["textDocument/inlineCompletion"]
        message = {"jsonrpc": "2.0", "id": key, "method": "textDocument/inlineCompletion", "params": params}
        return self._frame(message) * self.rng.randint(2, 5)

    def bytes_of_no_sense(self) -> bytes:
        good = self._frame({"jsonrpc": "2.0", "method": "coderl/outcome", "params": {"id": "y" * self.rng.randint(0, 200)}})
        body = good.split(b"\r\n\r\n", 1)[1]
        deep = b"[" * self.rng.choice((100, 100_000))
        return self.rng.choice(
            (
                good[: self.rng.randint(1, len(good) - 1)],
                b"Content-Length: %d\r\n\r\n" % (len(body) + self.rng.randint(1, 10**6)) + body,
                b"Content-Length: %d\r\n\r\n" % self.rng.randint(0, len(body) - 1) + body,
                b"Content-Length: %d\r\n\r\n" % self.rng.choice((LIMIT_BYTES + 1, 2**63, 10**19)),
                b"Content-Length: -5\r\n\r\n" + body,
                b"Content-Length: five\r\n\r\n" + body,
                b"Content-Type: text/plain\r\n\r\n" + body,
                b"Content-Length: %d\r\nContent-Type: x; charset=latin-1\r\n\r\n" % len(body) + body,
                b"\r\n\r\n\r\n",
                self.rng.randbytes(self.rng.randint(1, 3000)),
                b"Content-Length: 4\r\n\r\n\xff\xfe\xfd\xfc",
                b"Content-Length: %d\r\n\r\n" % len(deep) + deep,
                b"Content-Length: 2\r\n\r\n[]",
                b"Content-Length: 0\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            )
        )


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def resident_kb(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def probe(server: Any, number: int) -> None:
    """A good client's next minute: it is served as if nothing had happened."""
    server.settings(**GOOD)
    server.request("coderl/snooze", {"minutes": 0})
    uri = server.open(f"file:///good/{number}.py", "x = 1\ntotal = su")
    server.change(uri, 1, 10, 10, "m(")
    (item,) = server.complete(uri, 1, 12)
    assert item["insertText"] == "values)"
    assert server.reason(uri) == "always_shown"
    server.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def test_every_method_the_server_registers_is_in_the_fuzz() -> None:
    protocol = build(LspOptions(backend="scripted")).lsp.server.protocol
    registered = {*protocol.fm.features, *protocol.fm.builtin_features}
    assert registered - {"exit", "shutdown"} <= {*REQUESTS, *NOTIFICATIONS}


@pytest.mark.parametrize("seed", [SEED, *(pytest.param(SEED + more, marks=pytest.mark.slow) for more in (1, 2))])
def test_the_next_good_request_is_served_after_any_two_thousand_bad_messages(
    start: Callable[..., Any], refused: type[Exception], seed: int
) -> None:
    print(f"CODERL_FUZZ_SEED={seed}")
    fuzzer = Fuzzer(seed)
    server = start(SCRIPT, ("--seed", "1"))
    server.raw(b"".join(fuzzer.one() for _ in range(BATCH)))
    if server.process.poll() is not None:
        pytest.fail(f"ended before initialize: {server.stderr}")
    with contextlib.suppress(refused):  # one of the bad messages may have been an initialize that happened to be good
        server.initialize(GOOD)
    server.notify("initialized", {})
    probe(server, 0)
    before_kb = resident_kb(server.process.pid)
    for number in range(1, MESSAGES // BATCH):
        for message in [fuzzer.one() for _ in range(BATCH)]:
            server.raw(message)
        probe(server, number)
        assert server.process.poll() is None, f"seed {seed}, batch {number}: {server.stderr[-3000:]}"
    grown_kb = resident_kb(server.process.pid) - before_kb
    assert grown_kb < MOST_GROWTH_KB, f"seed {seed}: {grown_kb} kB"
    assert server.impure == [], f"seed {seed}"
    give_up_s = time.monotonic() + 30
    wrong: dict[int, int] | None = None
    while wrong != {} and time.monotonic() < give_up_s:  # `coderl/flush` answers when the database has it all
        time.sleep(0.05)
        answers = Counter(m["id"] for m in tuple(server.unexpected) if "method" not in m and isinstance(m.get("id"), int))
        wrong = {key: answers[key] for key in fuzzer.due if answers[key] != 1}
    assert wrong == {}, f"seed {seed}: requests that were not answered exactly once"
    assert all("method" not in message for message in server.unexpected)
    server.request("shutdown")
    server.notify("exit")
    assert server.wait() == 0
    assert "Traceback" not in server.stderr, f"seed {seed}: {server.stderr[-6000:]}"


def test_messages_over_the_limit_are_skipped_and_not_kept(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize(GOOD)
    probe(server, 0)
    before_kb = resident_kb(server.process.pid)
    length = LIMIT_BYTES + 1
    server.raw(b"Content-Length: %d\r\n\r\n" % length)
    for _ in range(length // (1 << 20)):
        server.raw(b"x" * (1 << 20))
    server.raw(b"x" * (length % (1 << 20)))
    probe(server, 1)
    assert resident_kb(server.process.pid) - before_kb < MOST_GROWTH_KB
    assert len(server.told("over the limit")) == 1
    assert server.stop() == 0


def test_a_large_document_within_the_limit_is_served(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize({**GOOD, "maxDocumentChars": 10_000_000})
    uri = server.open("file:///large.py", "x = 1\n" * 500_000 + "sum(")
    assert len(server.complete(uri, 500_000, 4)) == 1
    assert server.stop() == 0
