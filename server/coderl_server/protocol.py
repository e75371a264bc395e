"""The JSON-RPC and LSP layer: pygls' protocol with our own document store, transport and error manners.

What differs from pygls, and why:
- documents are kept by `coderl_server.documents` (pygls rewrites the whole text for each change of a batch);
- messages come through `framing.FrameParser`, so that a broken peer cannot end the server;
- an inline-completion request is captured (text, position, settings) the moment it is read, before any other message can
  change the document, and only then handled asynchronously;
- a request with unusable parameters is answered with InvalidParams instead of silence, and so is one that comes before
  `initialize` or after `shutdown`, with the errors that LSP 3.18 names for it;
- errors of handlers go to our log and one message for the user, not to a pop-up for each.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping
from typing import Any

from lsprotocol import types
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInternalError,
    JsonRpcInvalidRequest,
    JsonRpcServerNotInitialized,
)
from pygls.lsp.server import LanguageServer
from pygls.protocol import (
    JsonRPCNotification,
    JsonRPCRequestMessage,
    JsonRPCResponseMessage,
    LanguageServerProtocol,
    default_converter,
    lsp_method,
)

from .framing import FrameParser, Malformed

logger = logging.getLogger(__name__)

CLOCK = "coderl/clock"
"""Moves a client-driven clock (`lsp.LspServer.advance`)."""


def clients_mistake(record: logging.LogRecord) -> bool:
    """Whether pygls logs what is the client's business: a late cancel, an unknown notification, unusable parameters.

    All of it is daily life, is answered where an answer is due, and would put lines (with the parameters, which hold code) into
    the editor's log file.
    """
    error = record.exc_info[1] if record.exc_info else None
    client = isinstance(error, JsonRpcException) and not isinstance(error, JsonRpcInternalError)
    return record.levelno <= logging.WARNING or client or record.getMessage().startswith("Unable to deserialize")


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _check_envelope(message: Mapping[str, Any]) -> None:
    """Refuse what pygls would stumble over. Raises JsonRpcInvalidRequest."""
    if message.get("jsonrpc") != "2.0":
        raise JsonRpcInvalidRequest("The message is not JSON-RPC 2.0.")
    if "method" not in message:
        # Our own requests carry texts as ids; anything else would be taken for the answer to a request of the client.
        if not isinstance(message.get("id"), str):
            raise JsonRpcInvalidRequest("An answer to nothing that was asked.")
    elif not isinstance(message["method"], str):
        raise JsonRpcInvalidRequest("The method must be a text.")
    elif "id" in message and not _is_id(message["id"]):
        raise JsonRpcInvalidRequest("The id of a request must be a whole number or a text.")


def converter() -> Any:
    """pygls' converter, but messages of our own methods keep their parameters as plain dicts and lists.

    pygls makes nested namedtuples of them, which loses keys that are not Python names.
    """
    made = default_converter()  # type: ignore[no-untyped-call]  # pygls leaves its return type out
    for message in (JsonRPCRequestMessage, JsonRPCResponseMessage, JsonRPCNotification):
        names = tuple(field.name for field in message.__attrs_attrs__)
        made.register_structure_hook(message, lambda obj, cls, names=names: cls(**{name: obj.get(name) for name in names}))
    return made


class CoderlProtocol(LanguageServerProtocol):
    """`LanguageServerProtocol` that leaves text synchronisation to the handlers and captures requests when they are read."""

    capture: Callable[[types.InlineCompletionParams], Any] | None = None
    """Turns the parameters of an inline-completion request into what its handler gets; called synchronously on reading."""
    at_once: Callable[[Any], Any] | None = None
    """Answers what was captured, where that needs no waiting: then there is no task for it. None = it does."""
    started: Callable[[Any, asyncio.Future[Any]], None] | None = None
    """Told what was captured and the future that will hold its answer."""
    on_exit: Callable[[int], None] | None = None
    """Called with the exit code on `exit`: 0 after `shutdown`, else 1 (LSP 3.18, "Exit Notification")."""

    def _register_builtin_features(self) -> None:
        """All of pygls' own, but for documents, which our handlers keep, and for notebooks and progress, which we neither read
        nor report."""
        super()._register_builtin_features()  # type: ignore[no-untyped-call]  # pygls leaves its types out
        for method in tuple(self.fm.builtin_features):
            if method.startswith(("textDocument/", "notebookDocument/", "window/workDoneProgress/")):
                del self.fm.builtin_features[method]

    def handle_message(self, message: Any) -> None:
        """As pygls does, but requests and notifications are told apart by the id alone: pygls asks `isinstance` of runtime
        protocols, a tenth of what a key costs. `receive` has looked at the rest."""
        method, params = getattr(message, "method", None), getattr(message, "params", None)
        if method is None:
            super().handle_message(message)
        elif (msg_id := getattr(message, "id", None)) is None:
            contextvars.copy_context().run(self._handle_notification, method, params)
        else:
            contextvars.copy_context().run(self._handle_request, msg_id, method, params)

    def _execute_handler(self, msg_id: Any, *args: Any, **kwargs: Any) -> None:
        """As pygls does, but nothing is kept of what has ended: pygls keeps a future for each notification of its own methods
        for ever, that is, two kilobytes for each key."""
        super()._execute_handler(msg_id, *args, **kwargs)
        future = self._request_futures.get(msg_id)

        def ended(done: Any) -> None:
            if self._request_futures.get(msg_id) is done:
                del self._request_futures[msg_id]

        if future is not None:
            future.add_done_callback(ended)

    def _handle_cancel_notification(self, msg_id: Any) -> None:
        if _is_id(msg_id):
            super()._handle_cancel_notification(msg_id)

    @lsp_method(types.EXIT)
    def lsp_exit(self, *_: Any) -> Any:
        if self.on_exit is not None:
            self.on_exit(0 if self._shutdown else 1)

    def _handle_request(self, msg_id: str | int, method_name: str, params: Any) -> None:
        if method_name != types.TEXT_DOCUMENT_INLINE_COMPLETION or self.capture is None or self.started is None:
            super()._handle_request(msg_id, method_name, params)
            return
        asked = self.capture(params)
        answer = None if self.at_once is None else self.at_once(asked)
        if answer is not None:
            self._send_response(msg_id, answer)
            return
        super()._handle_request(msg_id, method_name, asked)
        future: object = self._request_futures.get(msg_id)
        if isinstance(future, asyncio.Future):
            self.started(asked, future)

    def receive(self, message: Mapping[str, Any]) -> None:
        """Handle one message of the client. Never raises for what the client sent."""
        try:
            _check_envelope(message)
            if not self._in_order(message):
                return
            self.handle_message(self.structure_message(dict(message)))
        except JsonRpcException as error:
            self._refuse(message, error)
        except Exception as error:  # the boundary: whatever a message does to a handler, the next one is served
            logger.exception("A message could not be handled.")
            self._refuse(message, JsonRpcInternalError(type(error).__name__))

    def _in_order(self, message: Mapping[str, Any]) -> bool:
        """Whether the life cycle allows the message now; False drops it. Raises the error with which a request is refused."""
        method, is_request = message.get("method"), "id" in message
        if method is None or method in (types.EXIT, CLOCK):
            return True  # the time of a client-driven clock is set before the session begins, and read to its very end
        if self._shutdown:
            if is_request:
                raise JsonRpcInvalidRequest("The server is shutting down.")
            return False
        if method == types.INITIALIZE:
            if self._workspace is not None:
                raise JsonRpcInvalidRequest("The server is initialized already.")
        elif self._workspace is None:
            if is_request:
                raise JsonRpcServerNotInitialized("The server waits for `initialize`.")
            return False
        return True

    def _refuse(self, message: Mapping[str, Any], error: JsonRpcException) -> None:
        if "method" in message and "id" in message:
            if _is_id(message["id"]):
                self._send_response(message["id"], None, error.to_response_error())
            else:  # JSON-RPC 2.0 §5: an id that is none is answered with null, which lsprotocol would leave out
                said = {"code": error.code, "message": error.message}
                self._send_data({"jsonrpc": self.VERSION, "id": None, "error": said})
        else:
            logger.warning("A notification or answer of the client was not usable and is ignored.")


class CoderlLanguageServer(LanguageServer):
    """pygls' server over our protocol; knows nothing of suggestions."""

    protocol: CoderlProtocol

    def __init__(self, version: str) -> None:
        super().__init__(
            "coderl",
            version,
            text_document_sync_kind=types.TextDocumentSyncKind.Incremental,
            protocol_cls=CoderlProtocol,
            converter_factory=converter,
        )

    def report_server_error(self, error: Exception, source: Any) -> None:
        """A handler failed: the log has it; the programmer is not interrupted for each (`lsp.py` tells once)."""
        clients_own = isinstance(error, JsonRpcException) and not isinstance(error, JsonRpcInternalError)
        logger.log(logging.INFO if clients_own else logging.ERROR, "%s: %s", type(error).__name__, error)


class Incoming:
    """What one client sends, from bytes to handled messages: `feed` is called with whatever was read, on the loop's thread."""

    def __init__(self, protocol: CoderlProtocol, on_malformed: Callable[[str], None], stop: asyncio.Event) -> None:
        self._protocol = protocol
        self._on_malformed = on_malformed
        self._stop = stop
        self._parser = FrameParser()

    def feed(self, data: bytes) -> bool:
        """Handle every message that `data` completes; False once nothing more is wanted (its end, or `stop`)."""
        for frame in self._parser.feed(data):
            if self._stop.is_set():
                return False  # `exit` was the last word
            if isinstance(frame, Malformed):
                self._on_malformed(frame.sentence)
            else:
                self._protocol.receive(frame)
        return bool(data) and not self._stop.is_set()
