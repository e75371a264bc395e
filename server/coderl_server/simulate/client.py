"""An editor without a screen: a real LSP client over a real pipe, whose time is the server's virtual clock.

One document at a time. The client keeps its own text and cursor; what it believes is what it told the server.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcRequestCancelled
from pygls.lsp.client import LanguageClient

from ..errors import ServerFailed
from ..protocol import converter

CLIENT_NAME = "coderl simulate"
_ANSWER_LIMIT_S = 120.0
"""Real seconds the server may take for any answer before the session is given up."""
_EXIT_LIMIT_S = 10.0
_STDERR_LINES = 12


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, the default unit of LSP columns."""
    return len(text) + sum(1 for char in text if ord(char) > 0xFFFF)


@dataclass(slots=True)
class Cursor:
    """Where the next key goes: `offset` in code points, `line` and UTF-16 `column` zero-based. CR, LF and CR LF end a line."""

    offset: int = 0
    line: int = 0
    column: int = 0
    _after_cr: bool = False

    def advance(self, text: str) -> None:
        """Move behind `text`, which starts here."""
        for char in text:
            if char == "\n" and self._after_cr:
                pass  # the second half of CR LF; the line was counted with the first
            elif char in "\r\n":
                self.line, self.column = self.line + 1, 0
            else:
                self.column += utf16_length(char)
            self._after_cr = char == "\r"
        self.offset += len(text)

    @property
    def position(self) -> types.Position:
        return types.Position(self.line, self.column)


@dataclass(frozen=True, slots=True)
class Offer:
    """An item the server answered with, as the programmer sees it."""

    item: types.InlineCompletionItem
    suggestion_id: str
    new_text: str
    """What accepting it would put behind the cursor (without what it repeats of the typed line)."""
    repeated: str
    """What `insertText` repeats of the text already typed before the cursor."""
    usable: bool
    """False where the range does not fit the line the cursor is on: such an item cannot be accepted."""


class Asked:
    """One inline-completion request under way."""

    def __init__(self, future: Future[Any], request_id: str) -> None:
        self.request_id = request_id
        self.future = future
        self._sent_s = time.perf_counter()
        self.latency_ms: float | None = None
        future.add_done_callback(self._answered)

    def _answered(self, _: Future[Any]) -> None:
        self.latency_ms = (time.perf_counter() - self._sent_s) * 1000.0

    @property
    def answered(self) -> bool:
        return self.future.done()

    def items(self) -> Sequence[types.InlineCompletionItem] | None:
        """The items of the answer; None where the server ended the request as cancelled.

        Raises ServerFailed for any other error: the server promises never to answer a completion with one.
        """
        try:
            result = self.future.result(timeout=0)
        except JsonRpcRequestCancelled:
            return None
        except JsonRpcException as error:
            raise ServerFailed(f"The server answered a completion request with an error: {error}") from error
        return getattr(result, "items", result) or []


def _free(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A plain function around a handler: pygls marks handlers with attributes, which bound methods do not take."""

    def handle(params: Any) -> Any:
        return handler(params)

    return handle


class Editor(LanguageClient):
    """The client. `start` before anything else; `quit` at the end, also after a failure."""

    def __init__(self, version: str) -> None:
        super().__init__(CLIENT_NAME, version, converter_factory=converter)
        self.now_ms = 0.0
        self.recorded_ids: list[str] = []
        """Ids the server acknowledged by `coderl/recorded`, in order."""
        self.messages: list[str] = []
        """What the server showed the user, each text once."""
        self.cursor = Cursor()
        self.text = ""
        self._uri = ""
        self._version = 0
        self._requests = 0
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._stderr_reader: asyncio.Task[None] | None = None
        self._converter = converter()
        self._register()

    def _register(self) -> None:
        handlers: Mapping[str, Callable[[Any], Any]] = {
            "coderl/recorded": lambda params: self.recorded_ids.extend(params["ids"]),
            types.WINDOW_SHOW_MESSAGE: self._hear,
            types.WINDOW_LOG_MESSAGE: lambda params: self._stderr.append(params.message),
            # Copilot's status notification: there is nothing to draw it on.
            "didChangeStatus": lambda params: None,
            types.WORKSPACE_CONFIGURATION: lambda params: [None for _ in params.items],
        }
        for method, handler in handlers.items():
            self.feature(method)(_free(handler))

    def _hear(self, params: types.ShowMessageParams) -> None:
        if params.message not in self.messages:
            self.messages.append(params.message)

    async def start(self, command: Sequence[str], environment: Mapping[str, str], settings: Mapping[str, object]) -> None:
        """Start the server process and initialise it. Raises ServerFailed where it cannot be started or dies."""
        try:
            # A group of its own: Ctrl-C in the terminal is for us, and we end the server.
            await self.start_io(command[0], *command[1:], env=dict(environment), start_new_session=True)
        except OSError as error:
            raise ServerFailed(f"The server could not be started ({command[0]}): {error.strerror or error}.") from error
        self._stderr_reader = asyncio.create_task(self._read_stderr())
        await self.clock(self.now_ms)
        result = await self.ask(
            types.INITIALIZE,
            types.InitializeParams(
                process_id=os.getpid(),
                client_info=types.ClientInfo(CLIENT_NAME, self.version),
                capabilities=types.ClientCapabilities(
                    general=types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf16]),
                    text_document=types.TextDocumentClientCapabilities(
                        inline_completion=types.InlineCompletionClientCapabilities(dynamic_registration=False)
                    ),
                ),
                initialization_options={"coderl": dict(settings)},
            ),
        )
        if result.capabilities.inline_completion_provider in (None, False):
            raise ServerFailed("The server offers no inline completions.")
        self._tell(types.INITIALIZED, types.InitializedParams())

    async def _read_stderr(self) -> None:
        stream = self._server.stderr if self._server is not None else None
        while stream is not None and (line := await stream.readline()):
            self._stderr.append(line.decode("utf-8", "replace").rstrip())

    # --- talking -----------------------------------------------------------------------------------------------------

    async def ask(self, method: str, params: Any) -> Any:
        """Send a request and wait for its answer. Raises ServerFailed for an error, a dead server or a very late answer."""
        if self.stopped:
            raise self._death()
        try:
            # Shielded, because pygls reports an answer to a cancelled future as an error of its own.
            answer = asyncio.wrap_future(self.protocol.send_request(method, params))
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            # Not `wait_for`: before Python 3.12 it swallows a cancellation (a Ctrl-C) that comes together with the answer.
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                return await asyncio.shield(answer)
        except JsonRpcException as error:
            raise ServerFailed(f"The server answered {method} with an error: {error}") from error
        except TimeoutError as error:
            raise ServerFailed(f"The server did not answer {method} within {_ANSWER_LIMIT_S:.0f} s.") from error
        except (RuntimeError, ConnectionError) as error:
            raise self._death() from error

    def _tell(self, method: str, params: Any) -> None:
        if self.stopped:
            raise self._death()
        self.protocol.notify(method, params)

    def _death(self) -> ServerFailed:
        code = self._server.returncode if self._server is not None else None
        last = "\n".join(line for line in self._stderr if line)
        return ServerFailed(
            f"The server ended in mid-session (exit status {code})." + (f" It last said:\n{last}" if last else "")
        )

    async def clock(self, now_ms: float) -> None:
        """Move the server's clock; returns once the server has done everything that is due by then."""
        self.now_ms = now_ms
        await self.ask("coderl/clock", {"now_ms": now_ms, "settle": True})

    async def wait(self, seconds: float) -> None:
        """Let virtual time pass."""
        await self.clock(self.now_ms + max(0.0, seconds) * 1000.0)

    # --- the document ------------------------------------------------------------------------------------------------

    async def open(self, uri: str, language: str, before: str, after: str) -> None:
        """Open a document with the cursor between `before` and `after`."""
        self.text, self.cursor, self._uri, self._version = before + after, Cursor(), uri, 1
        self.cursor.advance(before)
        item = types.TextDocumentItem(uri, language, self._version, self.text)
        self._tell(types.TEXT_DOCUMENT_DID_OPEN, types.DidOpenTextDocumentParams(item))
        await self.clock(self.now_ms)

    def insert(self, text: str, repeated: str = "") -> None:
        """Insert at the cursor. `repeated` is text before the cursor that the edit replaces by itself (an accepted item's
        way)."""
        self._version += 1
        start = types.Position(self.cursor.line, self.cursor.column - utf16_length(repeated))
        change = types.TextDocumentContentChangePartial(types.Range(start, self.cursor.position), repeated + text)
        document = types.VersionedTextDocumentIdentifier(version=self._version, uri=self._uri)
        self._tell(types.TEXT_DOCUMENT_DID_CHANGE, types.DidChangeTextDocumentParams(document, [change]))
        self.text = self.text[: self.cursor.offset] + text + self.text[self.cursor.offset :]
        self.cursor.advance(text)

    def close_document(self) -> None:
        """Tell the server that the document is closed."""
        identifier = types.TextDocumentIdentifier(self._uri)
        self._tell(types.TEXT_DOCUMENT_DID_CLOSE, types.DidCloseTextDocumentParams(identifier))

    # --- suggestions -------------------------------------------------------------------------------------------------

    def request(self) -> Asked:
        """Ask for an inline completion at the cursor (automatic trigger); does not wait."""
        if self.stopped:
            raise self._death()
        self._requests += 1
        request_id = f"completion-{self._requests}"
        params = types.InlineCompletionParams(
            types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
            types.TextDocumentIdentifier(self._uri),
            self.cursor.position,
        )
        future = self.protocol.send_request(types.TEXT_DOCUMENT_INLINE_COMPLETION, params, msg_id=request_id)
        return Asked(future, request_id)

    def cancel(self, asked: Asked) -> None:
        """Tell the server that nobody waits for the answer any more."""
        self._tell(types.CANCEL_REQUEST, types.CancelParams(asked.request_id))

    def offer(self, item: types.InlineCompletionItem) -> Offer:
        """Read an item as the programmer would see it. Raises ServerFailed where it carries no command with its id."""
        text = item.insert_text if isinstance(item.insert_text, str) else item.insert_text.value
        arguments = item.command.arguments if item.command is not None else None
        if not arguments or not isinstance(arguments[0], str):
            raise ServerFailed("The server offered an item without a command that names its id.")
        repeated, usable = self._repeated(item.range, text)
        return Offer(item, arguments[0], text[len(repeated) :], repeated, usable)

    def _repeated(self, replaced: types.Range | None, insert_text: str) -> tuple[str, bool]:
        """What the item's range repeats of the line before the cursor, and whether range and text fit the cursor."""
        if replaced is None:
            return "", True
        here = self.cursor.position
        if replaced.end != here or replaced.start.line != here.line or replaced.start.character > here.character:
            return "", False
        repeated, units = "", here.character - replaced.start.character
        for char in reversed(self.text[: self.cursor.offset]):
            if utf16_length(repeated) >= units:
                break
            repeated = char + repeated
        return (repeated, True) if insert_text.startswith(repeated) else ("", False)

    def shown(self, offer: Offer) -> None:
        """Tell the server that the item is on the screen."""
        self._tell("textDocument/didShowCompletion", {"item": self._wire(offer)})

    async def accept(self, offer: Offer) -> None:
        """Take the whole item: the edit, then its command."""
        self.insert(offer.new_text, offer.repeated)
        command = offer.item.command
        assert command is not None  # `offer` refuses items without one
        await self.ask(
            types.WORKSPACE_EXECUTE_COMMAND, types.ExecuteCommandParams(command.command, list(command.arguments or []))
        )

    def accept_part(self, offer: Offer, chars: int) -> None:
        """Take the first `chars` code points of the new text."""
        part = offer.new_text[:chars]
        self.insert(part, offer.repeated)
        accepted = {"item": self._wire(offer), "acceptedLength": utf16_length(offer.repeated + part)}
        self._tell("textDocument/didPartiallyAcceptCompletion", accepted)

    def dismiss(self, offer: Offer, visible_ms: float) -> None:
        """Press Esc."""
        self._tell("coderl/outcome", {"id": offer.suggestion_id, "kind": "dismissed", "visibleMs": visible_ms})

    def _wire(self, offer: Offer) -> Any:
        return self._converter.unstructure(offer.item, types.InlineCompletionItem)

    async def quit(self) -> None:
        """End the server politely, or by force where it does not end. Never raises for a server that is already dead."""
        try:
            if not self.stopped and self._server is not None:
                await self.ask(types.SHUTDOWN, None)
                self._tell(types.EXIT, None)
        except ServerFailed as error:
            self._stderr.append(str(error))
        if self._server is None:
            return
        try:
            await asyncio.wait_for(self._server.wait(), _EXIT_LIMIT_S)
        except TimeoutError:
            self._server.kill()
        await self.stop()  # type: ignore[no-untyped-call]  # pygls leaves it untyped
        if self._stderr_reader is not None:
            await self._stderr_reader
