"""A client of pytest-lsp, a second implementation of the protocol: it knows the methods and reports nothing by itself.

It starts with the capabilities that real editors were recorded with (`tests/e2e/sessions`), so the server sees their offers.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lsprotocol import types
from lsprotocol.converters import get_converter
from pygls.exceptions import JsonRpcException
from pytest_lsp import ClientServerConfig, LanguageClient

from .logged import ALWAYS, Outcome, last_place, outcomes, rows, scripted

SESSIONS = Path(__file__).parents[1] / "e2e" / "sessions"
RULES = [
    {"pattern": r"slow\Z", "text": "_answer", "first_delay_ms": 20_000},
    {"pattern": r"alp\Z", "text": "habet + 1"},
]
SEEN_S = 0.3
"""Less than 250 ms on screen counts as not seen."""
URI = "file:///project/source.py"
ENCODINGS = {"neovim": "utf-8", "vscode": "utf-16", "emacs": "utf-32", "helix": "utf-8"}
"""Of each editor's offers, what the server chooses."""
UNITS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


def recorded(client: str) -> types.InitializeParams:
    """What an editor said at the start of its recorded session."""
    for line in (SESSIONS / f"{client}.jsonl").read_text(encoding="utf-8").splitlines():
        message = json.loads(line).get("msg", {})
        if message.get("method") == "initialize":
            params: types.InitializeParams = get_converter().structure(message["params"], types.InitializeParams)
            return params
    raise AssertionError(f"no initialize in the session of {client}")


class Bare:
    """A pytest-lsp client with one open document, whose text it keeps as an editor would."""

    def __init__(self, client: LanguageClient, home: Path) -> None:
        self.client = client
        self.home = home
        self.encoding = ""
        self.text = ""
        self._version = 1

    async def initialize(self, params: types.InitializeParams) -> types.InitializeResult:
        params.initialization_options = {"coderl": ALWAYS}
        params.process_id = os.getpid()
        result = await self.client.initialize_session(params)
        self.encoding = str(types.PositionEncodingKind(result.capabilities.position_encoding).value)
        return result

    def open(self, text: str) -> None:
        self.text = text
        opened = types.TextDocumentItem(URI, types.LanguageKind.Python, self._version, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(opened))

    def position(self, offset: int) -> types.Position:
        """Of a place in the text, in the units agreed on."""
        before = self.text[:offset]
        name, size = UNITS[self.encoding]
        return types.Position(before.count("\n"), len(before.rsplit("\n", 1)[-1].encode(name)) // size)

    def replace(self, start: int, end: int, text: str) -> None:
        """One change; offsets in the text."""
        change = types.TextDocumentContentChangePartial(types.Range(self.position(start), self.position(end)), text)
        self.text = self.text[:start] + text + self.text[end:]
        self._version += 1
        document = types.VersionedTextDocumentIdentifier(self._version, URI)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))

    def type(self, text: str) -> None:
        self.replace(len(self.text), len(self.text), text)

    def ask(self, offset: int | None = None) -> Awaitable[Any]:
        """The answer to a request at a place, else at the end."""
        return self.client.text_document_inline_completion_async(
            types.InlineCompletionParams(
                types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
                types.TextDocumentIdentifier(URI),
                self.position(len(self.text) if offset is None else offset),
            )
        )

    async def suggestion(self, offset: int | None = None) -> types.InlineCompletionItem:
        """The one item, after as long as it takes to read it."""
        answer = await self.ask(offset)
        assert isinstance(answer, types.InlineCompletionList)
        if len(answer.items) != 1:
            why = await self.client.protocol.send_request_async("coderl/why", SimpleNamespace())
            pytest.fail(f"{answer.items} at the end of {self.text!r}: {why.text}")
        (item,) = answer.items
        await asyncio.sleep(SEEN_S)
        return item

    def insert(self, item: types.InlineCompletionItem, at: int) -> None:
        """Put an item into the text; `at` is the place it was asked for."""
        assert item.range is not None
        assert item.range.end == self.position(at)
        name, size = UNITS[self.encoding]
        line = self.text[:at].rsplit("\n", 1)[-1].encode(name)
        typed = len(line[item.range.start.character * size :].decode(name))
        self.replace(at - typed, at, str(item.insert_text))

    async def run(self, item: types.InlineCompletionItem) -> None:
        assert item.command is not None
        await self.client.workspace_execute_command_async(
            types.ExecuteCommandParams(item.command.command, item.command.arguments)
        )

    async def wait_outcomes(self, *expected: Outcome) -> None:
        async with asyncio.timeout(30):
            while True:
                answer = await self.client.protocol.send_request_async("coderl/flush", SimpleNamespace())
                assert answer.committed
                if len(outcomes(self.home)) >= len(expected):
                    break
                await asyncio.sleep(0.05)
        assert outcomes(self.home) == list(expected)


@pytest.fixture
async def bare(tmp_path: Path, own_home: Path, capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Bare]:
    client = await ClientServerConfig(scripted(tmp_path, RULES), server_env=dict(os.environ)).start()
    assert isinstance(client, LanguageClient)
    yield Bare(client, own_home)
    await client.shutdown_session()
    await client.stop()
    assert client.error is None
    assert client.messages == []
    assert capfd.readouterr().err == ""


@pytest.fixture
async def ready(bare: Bare) -> Bare:
    await bare.initialize(recorded("helix"))
    bare.open("import sys\n")
    return bare


@pytest.mark.parametrize("editor", ENCODINGS)
async def test_the_server_takes_what_each_editor_offers(bare: Bare, editor: str) -> None:
    params = recorded(editor)
    result = await bare.initialize(params)
    assert bare.encoding == ENCODINGS[editor]
    assert result.capabilities.inline_completion_provider is not None
    bare.open("名 = ['🙂👩‍👧', alp, 'é']")
    at = bare.text.index("alp") + 3
    item = await bare.suggestion(at)
    bare.insert(item, at)
    await bare.run(item)
    assert bare.text == "名 = ['🙂👩‍👧', alphabet + 1, 'é']"
    await bare.wait_outcomes(("accepted", "command", "", 9))
    line, character, before, behind = last_place(bare.home)
    assert (line, character) == (0, at)
    assert before + behind == "名 = ['🙂👩‍👧', alp, 'é']"
    assert params.client_info is not None
    assert rows(bare.home, "SELECT client_name FROM sessions") == [(params.client_info.name,)]


async def whole(bare: Bare, item: types.InlineCompletionItem) -> None:
    bare.insert(item, len(bare.text))


async def keys(bare: Bare, item: types.InlineCompletionItem) -> None:
    for key in "habet + 1":
        bare.type(key)


async def word(bare: Bare, item: types.InlineCompletionItem) -> None:
    bare.type("habet")
    bare.type("Z")


async def other(bare: Bare, item: types.InlineCompletionItem) -> None:
    bare.type("Z")


async def back(bare: Bare, item: types.InlineCompletionItem) -> None:
    bare.replace(len(bare.text) - 1, len(bare.text), "")


async def elsewhere(bare: Bare, item: types.InlineCompletionItem) -> None:
    await bare.ask(0)


async def close(bare: Bare, item: types.InlineCompletionItem) -> None:
    bare.client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(URI)))


INFERRED: dict[Callable[[Bare, types.InlineCompletionItem], Awaitable[None]], Outcome] = {
    whole: ("accepted", "inferred", "", 9),
    keys: ("typed_through", "inferred", "", 0),
    word: ("partially_accepted", "inferred", "disagreed", 5),
    other: ("disagreed", "inferred", "", 0),
    back: ("deleted", "inferred", "", 0),
    elsewhere: ("moved_on", "inferred", "requested_elsewhere", 0),
    close: ("moved_on", "inferred", "closed", 0),
}


async def test_what_no_client_says_is_inferred(ready: Bare) -> None:
    expected: list[Outcome] = []
    for act, outcome in INFERRED.items():
        ready.type(f"\n{act.__name__} = alp")  # a name of its own, or it would repeat the line above
        await act(ready, await ready.suggestion())
        expected.append(outcome)
        await ready.wait_outcomes(*expected)


async def test_a_cancelled_and_an_overtaken_request(ready: Bare) -> None:
    ready.type("x = slow")
    asked = asyncio.ensure_future(ready.ask())
    await asyncio.sleep(0)  # it is on its way
    ready.type("\ny = alp")
    item = await ready.suggestion()
    with pytest.raises(JsonRpcException) as refusal:
        await asked
    assert refusal.value.code == types.LSPErrorCodes.RequestCancelled
    ready.insert(item, len(ready.text))
    await ready.run(item)
    await ready.wait_outcomes(("accepted", "command", "", 9))


async def test_a_place_where_there_is_nothing_to_say(ready: Bare) -> None:
    answer = await ready.ask()
    assert isinstance(answer, types.InlineCompletionList)
    assert list(answer.items) == []
    await ready.wait_outcomes()
