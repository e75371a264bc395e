"""The plan's programmer in a bare LSP client: it asks, draws, and runs the command of what is accepted. It reports nothing.

A real `coderl lsp` over stdio, whose time the client moves (`--clock client`), so that pauses are exact and cost nothing.
Clients differ in how they say a change and count columns; a session has one encoding, a document one spelling of changes.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.stdio_client import StdioClient

from coderl_server.positions import Encoding, to_points, to_units

from .plan import SETTINGS, Act, Client, Interaction, Onwards, Step, script
from .score import Report, read, score

STEP_MS = 10
ANSWER_MS = 5_000
"""A suggestion that has not come by then does not come."""
GLIMPSE_MS = 90
BEGIN_MS = 1_780_000_000_000
"""When the first session begins: any time will do."""
DAY_MS = 86_400_000


class Spelling(StrEnum):
    """How a client says that text has changed."""

    EDIT = "edit"
    """What was put in, at its place."""
    LINES = "lines"
    """The lines that differ, as a whole."""
    DOCUMENT = "document"
    """All of it."""


class Session(StdioClient):
    """A server whose time is ours."""

    now_ms: float = BEGIN_MS

    def __exit__(self, *_: object) -> None:
        super().__exit__(*_)
        self._reader.join(20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def begin(self, encoding: Encoding, day: int = 0) -> None:
        """Set the clock and initialize. Ids follow from the time: each session of a log has a day of its own."""
        self.now_ms += day * DAY_MS
        self.pass_ms(0)
        parameters = {
            "processId": None,
            "rootUri": None,
            "capabilities": {"general": {"positionEncodings": [encoding.value]}},
            "clientInfo": {"name": "a bare client"},
            "initializationOptions": {"coderl": dict(SETTINGS)},
        }
        answer = self.result(self.send("initialize", parameters)).body["result"]
        assert answer["capabilities"]["positionEncoding"] == encoding.value
        self.tell("initialized", {})

    def pass_ms(self, milliseconds: float) -> None:
        """Time passes; whatever is due by then is done when this returns."""
        end_ms = self.now_ms + milliseconds
        while True:
            self.now_ms = min(end_ms, self.now_ms + 200)
            self.ask("coderl/clock", {"now_ms": self.now_ms, "settle": True})
            if self.now_ms >= end_ms:
                return

    def answered(self, request: int) -> bool:
        """Whether the answer came before that of the last question."""
        return request in self._early


@dataclass
class Document:
    """The client's text and cursor. Offsets count code points; line ends are those of the document."""

    session: Session
    uri: str
    text: str
    encoding: Encoding
    spelling: Spelling
    cursor: int = 0
    version: int = 1

    def open(self) -> None:
        self.session.open(self.uri, self.text)

    def place(self, offset: int) -> dict[str, int]:
        """LSP's position of an offset."""
        line = self.text.count("\n", 0, offset)
        begin = self.text.rfind("\n", 0, offset) + 1
        return {"line": line, "character": to_units(self.text[begin:], offset - begin, self.encoding)}

    def offset(self, place: dict[str, int]) -> int:
        begin = 0
        for _ in range(place["line"]):
            begin = self.text.index("\n", begin) + 1
        return begin + to_points(self.text[begin:], place["character"], self.encoding)

    def replace(self, start: int, end: int, new: str) -> None:
        """Change the text, and say so; the cursor goes behind what is new."""
        before, after = self.text, self.text[:start] + new + self.text[end:]
        self.version += 1
        if self.spelling is Spelling.DOCUMENT:
            changes: list[dict[str, Any]] = [{"text": after}]
        else:
            if self.spelling is Spelling.LINES:
                begin = before.rfind("\n", 0, start) + 1
                stop = before.find("\n", end)
                stop = len(before) if stop < 0 else stop - (before[:stop][-1:] == "\r")
                written = after[begin : stop + len(after) - len(before)]
            else:
                begin, stop, written = start, end, new
            changes = [{"range": {"start": self.place(begin), "end": self.place(stop)}, "text": written}]
        self.text = after
        self.cursor = start + len(after) - len(before) + end - start
        identifier = {"uri": self.uri, "version": self.version}
        self.session.tell("textDocument/didChange", {"textDocument": identifier, "contentChanges": changes})


@dataclass
class Shown:
    """What is drawn behind the cursor."""

    item: dict[str, Any]
    start: int
    """Offset where the item's range begins; it ends at the cursor, whatever was typed since."""


@dataclass
class Programmer:
    """Goes through interactions with one server."""

    session: Session
    encoding: Encoding
    choice: random.Random
    folder: Path
    documents: dict[int, str] = field(default_factory=dict)
    shown: Shown | None = None
    asked: int | None = None
    cancels: bool = False
    one: Any = None

    def do(self, one: Interaction) -> None:
        uri = (self.folder / one.name).as_uri()
        self.documents[one.number] = uri
        self.one, self.shown, self.asked = one, None, None
        self.cancels = self.choice.random() < 0.5
        text = (one.given + one.after).replace("\n", one.newline)
        spelling = self.choice.choice(tuple(Spelling))
        self.document = Document(self.session, uri, text, self.encoding, spelling, len(self._lines(one.given)))
        self.document.open()
        self._ask()
        self.session.pass_ms(self.choice.choice((0, 50, 500)))
        self._write(one.key)
        self._wait_for(one.text)
        for step in one.steps:
            self.session.pass_ms(GLIMPSE_MS if one.glimpse else step.pause_ms)
            self._act(step)
            if step.rest:
                self._wait_for(step.rest)
        self.shown = None
        self.session.pass_ms(self.choice.choice((100, 700, 2500)))
        self._onwards(one)

    def _lines(self, text: str) -> str:
        return text.replace("\n", self.one.newline)

    # --- suggestions

    def _ask(self) -> None:
        if self.asked is not None and self.cancels:
            self.session.tell("$/cancelRequest", {"id": self.asked})
        place = self.document.place(self.document.cursor)
        params = {**self.session.place(self.document.uri, **place)}
        self.asked = self.session.send("textDocument/inlineCompletion", params)

    def _look(self) -> None:
        """Take in the answer, where there is one: of what is said to a client that has typed on, nothing is drawn."""
        if self.asked is None or not self.session.answered(self.asked):
            return
        answer = self.session.result(self.asked).body
        self.asked = None
        if "error" in answer:
            return
        items = answer["result"]["items"]
        self.shown = Shown(items[0], self.document.offset(items[0]["range"]["start"])) if items else None

    def ghost(self) -> str:
        """What is drawn, with \\n as line end."""
        if self.shown is None:
            return ""
        typed = self.document.text[self.shown.start : self.document.cursor]
        text = self.shown.item["insertText"]
        return text[len(typed) :].replace("\r\n", "\n") if text.startswith(typed) else ""

    def _wait_for(self, ghost: str) -> None:
        end_ms = self.session.now_ms + ANSWER_MS
        while True:
            self._look()
            if self.ghost() == ghost and self.asked is None:
                return
            assert self.session.now_ms < end_ms, f"{self.one}: {self.ghost()!r} is drawn, not {ghost!r}"
            self.session.pass_ms(STEP_MS)

    # --- acts

    def _write(self, text: str) -> None:
        """One key, or what comes in one piece."""
        at = self.document.cursor
        self.document.replace(at, at, self._lines(text))
        self._ask()

    def _type(self, text: str, pace_ms: int) -> None:
        """Key by key; the indentation comes with the line end."""
        at = 0
        while at < len(text):
            size = 1
            while text[at] == "\n" and text[at + size : at + size + 1] == " ":
                size += 1
            if at:
                self.session.pass_ms(pace_ms)
                self._look()
            self._write(text[at : at + size])
            at += size

    def _act(self, step: Step) -> None:
        self._look()
        document, cursor = self.document, self.document.cursor
        match step.act:
            case Act.ACCEPT:
                self._accept()
            case Act.WORD | Act.LINE:
                self._write(step.text)
            case Act.TYPE:
                self._type(step.text, self.one.pace_ms)
            case Act.ENTER:
                line = document.text[document.text.rfind("\n", 0, cursor) + 1 : cursor]
                self._type("\n" + line[: len(line) - len(line.lstrip())] + step.text, self.one.pace_ms)
            case Act.UP:
                document.cursor = document.text.rfind("\n", 0, document.text.rfind("\n", 0, cursor)) + 1
                self._ask()
            case Act.BACKSPACE:
                document.replace(cursor - 1, cursor, "")
                self._ask()
            case Act.UNDO:
                document.replace(cursor - len(self._lines(self.one.text)), cursor, "")
            case Act.ESCAPE:
                pass  # nothing is sent

    def _accept(self) -> None:
        assert self.shown is not None
        item, start = self.shown.item, self.shown.start
        command = {"command": item["command"]["command"], "arguments": item["command"]["arguments"]}
        self.document.replace(start, self.document.cursor, item["insertText"])
        self.session.ask("workspace/executeCommand", command)
        self._ask()

    def _onwards(self, one: Interaction) -> None:
        document = self.document
        match one.onwards:
            case Onwards.TYPE_ON:
                self._type("  # so", one.pace_ms)
            case Onwards.BELOW:
                document.cursor = document.text.find("\n", document.cursor) - (one.newline == "\r\n")
                self._type("\ny = 1", one.pace_ms)
            case Onwards.TOP:
                document.cursor = document.text.find("\n") - (one.newline == "\r\n")
                self._type("  # so", one.pace_ms)


def run(client: Client, interactions: tuple[Interaction, ...], folder: Path, home: Path, seed: int = 1) -> Report:
    """Everything, in one session for each way of counting columns."""
    path = folder / "script.json"
    path.write_text(json.dumps(script(interactions)), encoding="utf-8")
    documents: dict[int, str] = {}
    for number, encoding in enumerate(Encoding):
        with Session(home, "--backend", "scripted", "--script", str(path), "--seed", str(seed), "--clock", "client") as session:
            session.begin(encoding, number)
            programmer = Programmer(session, encoding, random.Random(f"{seed} {encoding}"), folder, documents)
            for one in interactions[number :: len(Encoding)]:
                programmer.do(one)
            session.ask("coderl/flush", {})
    return score(client, interactions, read(home, documents))
