"""The JSON-RPC layer: one answer per request, whatever the envelope; nothing of the client's on standard error."""

from __future__ import annotations

import gc
import json
import logging
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

from coderl_server.protocol import CoderlLanguageServer, clients_mistake

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


class Wire:
    """A writer that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def write(self, body: bytes) -> None:
        self.said.append(json.loads(body))

    def close(self) -> None:
        pass


def connected() -> tuple[CoderlLanguageServer, Wire]:
    server, wire = CoderlLanguageServer("1"), Wire()
    server.protocol.set_writer(wire, include_headers=False)
    return server, wire


def initialized() -> tuple[CoderlLanguageServer, Wire]:
    server, wire = connected()
    server.protocol.receive(
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"processId": None, "capabilities": {}}}
    )
    assert wire.said.pop()["id"] == 0
    return server, wire


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"]), json_values))
def test_no_envelope_raises_and_none_is_answered_twice(message: dict[str, Any]) -> None:
    for server, wire in (connected(), initialized()):
        server.protocol.receive(message)
        assert len(wire.said) <= 1
        if "method" in message and "id" in message:
            (answer,) = wire.said
            assert "error" in answer
        elif "method" not in message:
            assert wire.said == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"id": 1, "method": "coderl/x"}, types.ErrorCodes.InvalidRequest),
        ({"jsonrpc": "1.0", "id": 1, "method": "coderl/x"}, types.ErrorCodes.InvalidRequest),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, types.ErrorCodes.InvalidRequest),
        ({"jsonrpc": "2.0", "id": 1, "method": "coderl/x"}, types.ErrorCodes.MethodNotFound),
        ({"jsonrpc": "2.0", "id": 1, "method": "textDocument/inlineCompletion"}, types.ErrorCodes.InvalidParams),
        ({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}, types.ErrorCodes.InvalidRequest),
    ],
)
def test_a_bad_request_is_refused_with_its_code(message: dict[str, Any], code: int) -> None:
    server, wire = initialized()
    server.protocol.receive(message)
    (answer,) = wire.said
    assert (answer["id"], answer["error"]["code"]) == (1, code)


@pytest.mark.parametrize("key", [None, True, 1.5, [], {}, [1]])
def test_an_id_that_is_none_is_answered_with_null(key: Any) -> None:
    server, wire = initialized()
    server.protocol.receive({"jsonrpc": "2.0", "id": key, "method": "coderl/x"})
    (answer,) = wire.said
    assert answer["id"] is None
    assert answer["error"]["code"] == types.ErrorCodes.InvalidRequest


def test_our_own_methods_get_their_parameters_as_they_were_sent() -> None:
    server, _ = initialized()
    seen: list[Any] = []
    server.feature("coderl/test")(lambda params: seen.append(params))
    for params in ({"not a name": {"class": 1}}, [1, {"a": 2}], None, "text"):
        server.protocol.receive({"jsonrpc": "2.0", "method": "coderl/test", "params": params})
    assert seen == [{"not a name": {"class": 1}}, [1, {"a": 2}], None, "text"]


def test_a_handler_that_breaks_is_an_error_and_the_next_request_is_served() -> None:
    server, wire = initialized()

    @server.feature("coderl/broken")
    def broken(params: Any) -> None:
        raise KeyError("bug")

    server.feature("coderl/fine")(lambda params: "fine")
    server.protocol.receive({"jsonrpc": "2.0", "id": 1, "method": "coderl/broken"})
    server.protocol.receive({"jsonrpc": "2.0", "id": 2, "method": "coderl/fine"})
    assert wire.said[0]["error"]["code"] == types.ErrorCodes.InternalError
    assert wire.said[1]["result"] == "fine"


def test_exit_is_told_with_the_code_of_the_protocol() -> None:
    for shutdown, code in ((False, 1), (True, 0)):
        server, _ = initialized()
        codes: list[int] = []
        server.protocol.on_exit = codes.append
        if shutdown:
            server.protocol.receive({"jsonrpc": "2.0", "id": 1, "method": "shutdown"})
        server.protocol.receive({"jsonrpc": "2.0", "method": "exit"})
        assert codes == [code]


def test_what_is_the_clients_business_is_not_logged_but_our_bugs_are() -> None:
    def record(level: int, message: str, error: Exception | None = None) -> logging.LogRecord:
        info = None if error is None else (type(error), error, None)
        return logging.LogRecord("pygls", level, "file", 1, message, (), info)

    assert clients_mistake(record(logging.WARNING, "Cancel notification for unknown message id"))
    assert clients_mistake(record(logging.ERROR, "Unable to deserialize message\n…"))
    assert clients_mistake(record(logging.ERROR, "Exception occurred", JsonRpcInvalidParams()))
    assert not clients_mistake(record(logging.ERROR, "Exception occurred", KeyError("bug")))
    assert not clients_mistake(record(logging.ERROR, "Error sending data"))


def test_nothing_is_kept_of_notifications_that_have_been_handled() -> None:
    """pygls alone keeps a future of each notification for ever."""
    server, _ = initialized()
    document = {"textDocument": {"uri": "file:///a.py", "version": 2}, "contentChanges": [{"text": "x"}]}
    alive = []
    for _ in range(2):
        for _ in range(25):
            server.protocol.receive({"jsonrpc": "2.0", "method": "textDocument/didChange", "params": document})
        gc.collect()
        alive.append(sum(type(thing) is Future for thing in gc.get_objects()))
    assert alive[0] == alive[1]
