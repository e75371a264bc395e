"""The methods of the protocol: LSP 3.18, Copilot's dialect and `coderl/*`, bound to a `LanguageService`. No decisions here.

Answer rules (docs/protocol.md): one answer per request; a withheld suggestion is an empty list, never null and never an error;
a superseded request is ended by cancelling its task, which the client sees as RequestCancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from lsprotocol import types

from coderl_store.clock import Clock, VirtualClock
from coderl_store.records import Trigger

from .asked import Asked, Shown
from .documents import Change
from .intervene import warm
from .parent import watch_parent
from .positions import Encoding
from .protocol import CLOCK, CoderlLanguageServer
from .service import LanguageService

logger = logging.getLogger(__name__)

HEARTBEAT_S = 0.5
FLUSH_S = 30.0
FLUSH_STEP_S = 0.5
GIVE_UP_S = 1.0
MOST_PROBLEMS = 5
"""Unusable settings that are told one by one."""
LAST_MS = 4_102_444_800_000
"""The year 2100: no session is simulated beyond it."""


class LspServer:
    """Owns the pygls server and registers every handler. `stop`, `loop` and `spawn` are given by `app.run`,
    `change_generator` by `app.build`."""

    def __init__(self, service: LanguageService, clock: Clock) -> None:
        self.service = service
        self.server = CoderlLanguageServer(version("coderl"))
        self.exit_code = 1
        self.stop = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop
        self.spawn: Callable[[Awaitable[None]], None] = lambda work: None
        self.change_generator: Callable[[object], Awaitable[dict[str, Any]]] = _unchanged
        self._clock = clock
        self._encoding = Encoding.UTF16
        self._copilot_dialect = False
        self._running: set[asyncio.Future[Any]] = set()
        self._background_sleepers = 0
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._register()

    # --- life cycle

    def initialize(self, params: types.InitializeParams) -> None:
        client = params.client_info
        encoding = self.server.workspace.position_encoding
        self._encoding = Encoding(str(getattr(encoding, "value", encoding)))
        options = _mapping(params.initialization_options)
        self._copilot_dialect = "editorInfo" in options
        # Settings first: at privacy level off not even the session is recorded.
        self._tell_problems(self.service.configure(options.get("coderl")))
        self.service.begin("" if client is None else client.name, "" if client is None else client.version or "")

    def initialized(self, _: types.InitializedParams) -> None:
        if self._background_sleepers:
            return  # a client that says it twice gets no second heartbeat
        self.service.ready(partial(self.later, self._tell), partial(self.later, self._tell_recorded))
        self._background_sleepers = 1
        self.spawn(self._heartbeat())
        self.spawn(self._warm_up())
        if (editor := self.server.process_id) is not None and editor > 0:
            self.spawn(watch_parent(editor, self.stop))
        self._tell_status()

    def shutdown(self, *_: Any) -> None:
        self.service.close()

    def exit(self, code: int) -> None:
        self.exit_code = code
        self.stop.set()

    def later(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call on the loop's thread, the only one that may write to the client; the log speaks from threads of its own."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
            self.loop.call_soon_threadsafe(function, *arguments)

    async def give_up(self) -> None:
        """End the requests that still run, so that each gets its answer and its row before the log closes."""
        for future in self._running:
            future.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=GIVE_UP_S)

    async def _heartbeat(self) -> None:
        while True:
            await self._clock.sleep(HEARTBEAT_S)
            try:
                self.service.tick()
            except Exception:  # the boundary: a bug of ours must not stop the watch for outcomes
                logger.exception("A heartbeat failed.")

    async def _warm_up(self) -> None:
        await self.service.warm_up(warm)
        self._tell_status()

    # --- documents

    def did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        self.service.opened(document.uri, document.language_id, document.version, document.text)

    def did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        changes = [_change(change) for change in params.content_changes]
        self.service.changed(params.text_document.uri, params.text_document.version, changes, self._encoding)

    def did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        self.service.closed(params.text_document.uri)

    def did_focus(self, params: Any) -> None:
        uri = _mapping(_mapping(params).get("textDocument")).get("uri")
        if isinstance(uri, str):
            self.service.focused(uri)

    def did_change_configuration(self, params: types.DidChangeConfigurationParams) -> None:
        self._tell_problems(self.service.configure(_mapping(params.settings).get("coderl")))
        self._tell_status()

    # --- suggestions

    def capture(self, params: types.InlineCompletionParams) -> Asked:
        trigger = (
            Trigger.INVOKED if params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked else Trigger.AUTOMATIC
        )
        uri, position = params.text_document.uri, params.position
        asked = self.service.capture(uri, position.line, position.character, self._encoding, trigger)
        if (predecessor := self._waiting.pop(uri, None)) is not None:
            predecessor.cancel()
        return asked

    def started(self, asked: Asked, future: asyncio.Future[Any]) -> None:
        self._waiting[asked.uri] = future
        self._running.add(future)

        def ended(done: asyncio.Future[Any]) -> None:
            self._running.discard(done)
            if self._waiting.get(asked.uri) is done:
                del self._waiting[asked.uri]
            if done.cancelled():
                self.service.superseded(asked)

        future.add_done_callback(ended)

    def at_once(self, asked: Asked) -> types.InlineCompletionList | None:
        shown = self.service.stays(asked)
        return None if shown is None else types.InlineCompletionList(items=[self._item(shown)])

    async def inline_completion(self, asked: Asked) -> types.InlineCompletionList:
        shown = await self.service.suggest(asked)
        return types.InlineCompletionList(items=[] if shown is None else [self._item(one) for one in (shown, *shown.others)])

    def _item(self, shown: Shown) -> types.InlineCompletionItem:
        edit = shown.edit
        return types.InlineCompletionItem(
            insert_text=edit.insert_text,
            filter_text=edit.filter_text,
            range=types.Range(types.Position(edit.line, edit.start_units), types.Position(edit.line, edit.end_units)),
            command=types.Command(title="Accept suggestion", command=self.service.command, arguments=[shown.suggestion_id]),
        )

    # --- outcomes

    def accepted(self, *arguments: Any) -> None:
        if (suggestion_id := _suggestion_id(arguments)) is not None:
            self.service.accepted(suggestion_id)

    def did_show(self, params: Any) -> None:
        if (suggestion_id := _item_id(params)) is not None:
            self.service.shown(suggestion_id)

    def did_partially_accept(self, params: Any) -> None:
        length = _mapping(params).get("acceptedLength")
        if (suggestion_id := _item_id(params)) is not None and isinstance(length, int):
            self.service.partially(suggestion_id, max(0, length))

    def outcome(self, params: Any) -> None:
        self.service.reported(_mapping(params))

    # --- coderl/*

    def why(self, params: Any) -> dict[str, Any]:
        uri = _mapping(_mapping(params).get("textDocument")).get("uri")
        return self.service.why(uri if isinstance(uri, str) else None)

    def status(self, _: Any) -> dict[str, Any]:
        return self.service.status()

    def counters(self, _: Any) -> dict[str, Any]:
        return self.service.counters()

    def snooze(self, params: Any) -> dict[str, Any]:
        minutes = _mapping(params).get("minutes", 10)
        usable = isinstance(minutes, (int, float)) and not isinstance(minutes, bool) and 0 <= minutes <= 24 * 60
        self.service.snooze(float(minutes) if usable else 10.0)
        self._tell_status()
        return self.service.status()

    async def generator(self, params: Any) -> dict[str, Any]:
        """Another model or adapter, or what runs now."""
        told = await self.change_generator(_mapping(params))
        self._tell_status()
        return told

    def decisions(self, _: Any) -> dict[str, Any]:
        return {"decisions": self.service.decisions()}

    async def flush(self, _: Any) -> dict[str, Any]:
        """Answer when the log is in the database, or after `FLUSH_S`. In short waits: a thread that waits holds up the exit."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + FLUSH_S
        while True:
            answer = await asyncio.to_thread(self.service.flush, FLUSH_STEP_S)
            if answer["committed"] or loop.time() >= give_up_s:
                return answer

    async def advance(self, params: Any) -> dict[str, Any]:
        """`coderl/clock`: move a client-driven clock; with `settle`, answer once nothing runs that does not wait for it."""
        message = _mapping(params)
        now_ms = message.get("now_ms")
        known = isinstance(now_ms, (int, float)) and not isinstance(now_ms, bool) and 0 <= now_ms <= LAST_MS
        if isinstance(self._clock, VirtualClock) and known:
            self._clock.advance_to(now_ms / 1000)  # type: ignore[operator]  # `known` says it is a number
            await asyncio.sleep(0)
            # Polled, because whoever goes to sleep on the clock announces nothing.
            while message.get("settle") and len(self._running) > self._clock.sleeping - self._background_sleepers:  # noqa: ASYNC110
                await asyncio.sleep(0.0002)
        return {"now_ms": self._clock.now_s() * 1000}

    # --- to the client

    def _tell(self, text: str) -> None:
        self.server.window_show_message(types.ShowMessageParams(types.MessageType.Warning, f"CodeRL: {text}"))

    def _tell_problems(self, problems: list[str]) -> None:
        for problem in problems[:MOST_PROBLEMS]:
            self._tell(problem)
        if len(problems) > MOST_PROBLEMS:
            self._tell(f"{len(problems) - MOST_PROBLEMS} more settings are not usable either.")

    def _tell_recorded(self, ids: list[str]) -> None:
        self.server.protocol.notify("coderl/recorded", {"ids": ids})

    def _tell_status(self) -> None:
        if self._copilot_dialect:
            status = self.service.status()
            self.server.protocol.notify(
                "didChangeStatus", {"message": status["message"], "kind": status["kind"], "busy": False}
            )

    def _register(self) -> None:
        server, protocol = self.server, self.server.protocol
        protocol.capture, protocol.at_once = self.capture, self.at_once
        protocol.started, protocol.on_exit = self.started, self.exit
        handlers: Mapping[str, Callable[..., Any]] = {
            types.INITIALIZE: self.initialize,
            types.INITIALIZED: self.initialized,
            types.SHUTDOWN: self.shutdown,
            types.TEXT_DOCUMENT_DID_OPEN: self.did_open,
            types.TEXT_DOCUMENT_DID_CHANGE: self.did_change,
            types.TEXT_DOCUMENT_DID_CLOSE: self.did_close,
            types.WORKSPACE_DID_CHANGE_CONFIGURATION: self.did_change_configuration,
            "textDocument/didFocus": self.did_focus,
            "textDocument/didShowCompletion": self.did_show,
            "textDocument/didPartiallyAcceptCompletion": self.did_partially_accept,
            "coderl/outcome": self.outcome,
            "coderl/why": self.why,
            "coderl/status": self.status,
            "coderl/counters": self.counters,
            "coderl/generator": self.generator,
            "coderl/snooze": self.snooze,
            "coderl/decisions": self.decisions,
            "coderl/flush": self.flush,
            CLOCK: self.advance,
        }
        for method, handler in handlers.items():
            server.feature(method)(_free(handler))
        # Without options pygls advertises no capability for this method.
        server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(_free(self.inline_completion))
        server.command(self.service.command)(_free(self.accepted))


async def _unchanged(_: object) -> dict[str, Any]:
    return {"generator": "", "changed": False, "message": "This server cannot change its generator."}


def _free(method: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function around a bound method: pygls marks its handlers with attributes, which bound methods do not take."""
    if asyncio.iscoroutinefunction(method):

        async def handler_async(*arguments: Any) -> Any:
            return await method(*arguments)

        return handler_async

    def handler(*arguments: Any) -> Any:
        return method(*arguments)

    return handler


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _change(change: types.TextDocumentContentChangeEvent) -> Change:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return Change(None, change.text)
    start, end = change.range.start, change.range.end
    return Change((start.line, start.character, end.line, end.character), change.text)


def _suggestion_id(arguments: tuple[Any, ...]) -> str | None:
    """Our id out of a command's arguments: the id itself, as we send it, or an object that holds it."""
    if not arguments:
        return None
    first = arguments[0]
    if isinstance(first, Mapping):
        first = first.get("id")
    return first if isinstance(first, str) else None


def _item_id(params: Any) -> str | None:
    """Our id out of `{item: {command: {arguments: [id]}}}`, the shape of Copilot's notifications."""
    arguments = _mapping(_mapping(_mapping(params).get("item")).get("command")).get("arguments")
    return _suggestion_id(tuple(arguments)) if isinstance(arguments, list) else None
