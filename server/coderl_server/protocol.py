"""The JSON-RPC and LSP layer: pygls' protocol with our own document store, transport and error manners.

What differs from pygls, and why:
- documents are kept by `coderl_server.documents` (pygls rewrites the whole text for each change of a batch);
- messages come through `framing.FrameParser`, so that a broken peer cannot end the server;
- an inline-completion request is captured (text, position, settings) the moment it is read, before any other message can
  change the document, and only then handled asynchronously;
- a request with unusable parameters is answered with InvalidParams instead of silence;
- errors of handlers go to our log and one message for the user, not to a pop-up for each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol
from pygls.protocol.language_server import lsp_method

from .framing import FrameParser, Malformed

logger = logging.getLogger(__name__)


class CoderlProtocol(LanguageServerProtocol):
    """`LanguageServerProtocol` that leaves text synchronisation to the handlers and captures requests when they are read."""

    capture: Callable[[types.InlineCompletionParams], Any] | None = None
    """Turns the parameters of an inline-completion request into what its handler gets; called synchronously on reading."""

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> Any:
        yield self.fm.features[types.TEXT_DOCUMENT_DID_OPEN], (params,), None

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> Any:
        yield self.fm.features[types.TEXT_DOCUMENT_DID_CHANGE], (params,), None

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> Any:
        yield self.fm.features[types.TEXT_DOCUMENT_DID_CLOSE], (params,), None

    def _handle_request(self, msg_id: str | int, method_name: str, params: Any) -> None:
        if method_name == types.TEXT_DOCUMENT_INLINE_COMPLETION and self.capture is not None:
            params = self.capture(params)
        super()._handle_request(msg_id, method_name, params)

    def receive(self, message: Mapping[str, Any]) -> None:
        """Handle one message of the client. Never raises for what the client sent."""
        try:
            structured = self.structure_message(dict(message))
            if isinstance(structured, dict):
                raise JsonRpcInvalidParams()
        except JsonRpcException as error:
            if "method" in message and isinstance(message.get("id"), (str, int)):
                self._send_response(message["id"], None, error.to_response_error())
            else:
                logger.warning("A notification or answer of the client was not usable and is ignored.")
            return
        self.handle_message(structured)


class CoderlLanguageServer(LanguageServer):
    """pygls' server over our protocol; knows nothing of suggestions."""

    protocol: CoderlProtocol

    def __init__(self, version: str) -> None:
        super().__init__(
            "coderl", version, protocol_cls=CoderlProtocol, text_document_sync_kind=types.TextDocumentSyncKind.Incremental
        )

    def report_server_error(self, error: Exception, source: Any) -> None:
        """A handler failed: the log has it; the programmer is not interrupted for each (`lsp.py` tells once)."""
        logger.error("%s: %s", type(error).__name__, error)


async def serve_stream(
    protocol: CoderlProtocol, read: Callable[[], Any], on_malformed: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Feed what `read()` (an awaitable of bytes; empty = end of file) gives into the protocol until the end or `stop`."""
    parser = FrameParser()
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            reading = asyncio.ensure_future(read())
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                return
            data = reading.result()
            if not data:
                return
            for frame in parser.feed(data):
                if isinstance(frame, Malformed):
                    on_malformed(frame.sentence)
                else:
                    protocol.receive(frame)
    finally:
        stopped.cancel()
